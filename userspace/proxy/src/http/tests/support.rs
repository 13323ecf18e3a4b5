//! What the tests share: routes made by hand, servers that answer as told, clients, and the connection
//! under test between them.

use std::{
    collections::HashMap,
    convert::Infallible,
    net::SocketAddr,
    pin::Pin,
    sync::{
        Arc, Mutex,
        atomic::{AtomicU32, AtomicUsize, Ordering},
    },
    time::Duration,
};

use bytes::Bytes;
use egressd_tables::{
    Cluster, ClusterKind, ClusterRef, ConnectionPool, Destination, Destinations, Discovery,
    Forward, HeaderOps, HttpDecision, LbPolicy, LoadBalancer, Original as Place, RequestHead,
    RetryPolicy, Route, RouteAction, RouteMatch, UpstreamHttp, UpstreamTls,
};
use http::{HeaderMap, Request, Response, StatusCode, Uri};
use http_body_util::{BodyExt, Full, combinators::BoxBody};
use hyper::{body::Incoming, client::conn::http1, service::service_fn};
use hyper_util::rt::{TokioExecutor, TokioIo};
use tokio::{
    io::{AsyncReadExt, AsyncWriteExt},
    net::{TcpListener, TcpStream},
    sync::Notify,
    time::timeout,
};

use crate::{
    addrs::{ClientAddr, OriginalDst, UpstreamAddr},
    cluster::{Mesh, Observation},
    http::{
        circuit::Circuits,
        connector::Sockets,
        downstream::{Downstream, HttpWorker, Routes, Standing},
        io::HttpIo,
        serve::{Speaks, serve},
        settings::HttpSettings,
        unread::Unread,
        upstream::{NoEndpoint, Origin, Picked, Picker, Picking, Wish},
    },
    original::Original,
    record::FlowRecord,
    relay::PipePool,
    socket::{LoopGuard, SocketFactory, Stream},
    testing::{Kept, PATIENCE, dial, until},
    tls::{Originator, Sources},
};

/// The connection under test, with what is on either side of it.
pub(super) struct Bed {
    pub(super) front: SocketAddr,
    pub(super) records: Arc<Kept>,
    pub(super) picker: Arc<Places>,
    pub(super) circuits: Arc<Circuits>,
    pub(super) worker: Arc<HttpWorker>,
    pub(super) drain: Arc<Notify>,
}

/// Makes a [`Bed`].
pub(super) struct Builder {
    routes: Vec<(String, Arc<Route>)>,
    places: HashMap<String, Vec<SocketAddr>>,
    settings: HttpSettings,
    speaks: Speaks,
    standing: Standing,
    circuits: Circuits,
}

/// Routes by host, the first that matches.
struct ByHost(Arc<Vec<(String, Arc<Route>)>>, Standing);

impl Routes for ByHost {
    fn route(&self, head: &RequestHead<'_>) -> HttpDecision {
        let host = egressd_tables::strip_port(head.authority);
        let found = self
            .0
            .iter()
            .find(|(known, route)| (known == host || known == "*") && route.matcher.matches(head));
        HttpDecision {
            virtual_host: None,
            route: found.map(|(_, route)| Arc::clone(route)),
            foreign_host: host == "foreign.example",
        }
    }

    fn standing(&self) -> Standing {
        self.1
    }
}

/// Endpoints by cluster, in turn.
#[derive(Default)]
pub(super) struct Places {
    places: HashMap<String, Vec<SocketAddr>>,
    turn: AtomicUsize,
    pub(super) hashes: Mutex<Vec<Option<u64>>>,
    pub(super) observed: Mutex<Vec<Observation>>,
}

impl Picker for Places {
    fn pick<'a>(&'a self, cluster: &'a Arc<Cluster>, wish: Wish<'a>) -> Picking<'a> {
        self.hashes.lock().unwrap().push(wish.hash);
        let places = self.places.get(&*cluster.name).map(Vec::as_slice).unwrap_or_default();
        if places.is_empty() {
            return Picking::Now(Err(NoEndpoint::NoneHealthy));
        }
        let next = || places[self.turn.fetch_add(1, Ordering::Relaxed) % places.len()];
        let mut addr = UpstreamAddr::from(next());
        for _ in 0..wish.reselections {
            if !wish.tried.contains(&addr) {
                break;
            }
            addr = next().into();
        }
        Picking::Later(Box::pin(
            async move { Ok(Picked { addr, mesh: Mesh::default(), lease: None }) },
        ))
    }

    fn observe(&self, _: &Arc<Cluster>, _: &Picked, seen: Observation) {
        self.observed.lock().unwrap().push(seen);
    }
}

pub(super) fn bed() -> Builder {
    Builder {
        routes: Vec::new(),
        places: HashMap::new(),
        settings: HttpSettings::default(),
        speaks: Speaks::Http1,
        standing: Standing::Good,
        circuits: Circuits::default(),
    }
}

impl Builder {
    /// A host's route, and the endpoints of a cluster of the same name.
    pub(super) fn host(mut self, host: &str, route: Route, endpoints: &[SocketAddr]) -> Self {
        self.routes.push((host.to_owned(), Arc::new(route)));
        self.places.insert(host.to_owned(), endpoints.to_vec());
        self
    }

    /// Further endpoints, without a route.
    pub(super) fn cluster(mut self, name: &str, endpoints: &[SocketAddr]) -> Self {
        self.places.insert(name.to_owned(), endpoints.to_vec());
        self
    }

    pub(super) fn settings(mut self, settings: HttpSettings) -> Self {
        self.settings = settings;
        self
    }

    pub(super) fn http2(mut self) -> Self {
        self.speaks = Speaks::Http2;
        self
    }

    /// At most so many connections to all clusters.
    pub(super) fn connections(mut self, most: usize) -> Self {
        self.circuits = Circuits::limited(most);
        self
    }

    /// At most so many bytes are held for those who do not read.
    pub(super) fn unread(mut self, most: u64) -> Self {
        self.circuits.unread = Arc::new(Unread::of(most));
        self
    }

    /// What has become of connections when their requests come.
    pub(super) fn standing(mut self, standing: Standing) -> Self {
        self.standing = standing;
        self
    }

    pub(super) async fn start(self) -> Bed {
        let (records, circuits) = (Arc::<Kept>::default(), Arc::new(self.circuits));
        let picker = Arc::new(Places { places: self.places, ..Places::default() });
        let factory = Arc::new(SocketFactory::new(None, LoopGuard::default()));
        let originator = Arc::new(Originator::new(Sources::default()));
        let worker = Arc::new(HttpWorker::new(
            self.settings,
            Arc::clone(&picker) as Arc<dyn Picker>,
            Arc::new(Sockets { factory, originator }),
            Arc::clone(&circuits),
            Arc::new(PipePool::new(0)),
            Arc::clone(&records) as Arc<_>,
            Arc::default(),
        ));
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let front = listener.local_addr().unwrap();
        let (routes, speaks, standing) = (Arc::new(self.routes), self.speaks, self.standing);
        let drain = Arc::<Notify>::default();
        let (shared, draining) = (Arc::clone(&worker), Arc::clone(&drain));
        tokio::spawn(async move {
            while let Ok((socket, client)) = listener.accept().await {
                socket.set_nodelay(true).unwrap();
                let stream = Stream::accepted(socket.into_std().unwrap().into());
                let destination = OriginalDst("240.240.0.1:80".parse().unwrap());
                let origin = Origin {
                    client: ClientAddr(client),
                    destination,
                    original: Place::Dialled,
                    explicit: false,
                    asker: crate::resolve::Asker::Address(client.ip()),
                };
                let downstream = Arc::new(Downstream::new(
                    Arc::clone(&shared),
                    Box::new(ByHost(Arc::clone(&routes), standing)),
                    origin,
                    Original::new(destination),
                ));
                let draining = Arc::clone(&draining);
                let drain = async move { draining.notified().await };
                tokio::spawn(serve(downstream, HttpIo::Plain(stream), speaks, drain));
            }
        });
        Bed { front, records, picker, circuits, worker, drain }
    }
}

impl Bed {
    /// Sends bytes on a connection of their own and gives back everything that comes.
    pub(super) async fn raw(&self, bytes: &[u8]) -> String {
        let mut stream = dial(self.front).await;
        stream.write_all(bytes).await.unwrap();
        let mut all = Vec::new();
        // A reset ends the answer as well.
        timeout(PATIENCE, stream.read_to_end(&mut all)).await.expect("an end").ok();
        String::from_utf8_lossy(&all).into_owned()
    }

    /// GET on a connection of its own.
    pub(super) async fn get(&self, host: &str, path: &str) -> Answer {
        self.send(request("GET", host, path)).await
    }

    /// A request on a connection of its own.
    pub(super) async fn send(&self, request: Request<Full<Bytes>>) -> Answer {
        self.client().await.send(request).await
    }

    /// A connection.
    pub(super) async fn client(&self) -> Client {
        let io = TokioIo::new(dial(self.front).await);
        let (sender, connection) = http1::handshake(io).await.unwrap();
        tokio::spawn(connection.with_upgrades());
        Client { sender }
    }

    /// The only record, once it is there.
    pub(super) async fn record(&self) -> FlowRecord {
        self.records.only().await
    }

    /// All records, once there are so many.
    pub(super) async fn all(&self, count: usize) -> Vec<FlowRecord> {
        until("there are the records", || self.records.count() >= count).await;
        let all = self.records.all();
        assert_eq!(all.len(), count, "{all:?}");
        all
    }

    /// Code, flags and details of the only record.
    pub(super) async fn said(&self) -> String {
        said(&self.record().await)
    }
}

/// Code, flags and details of a record.
pub(super) fn said(record: &FlowRecord) -> String {
    let http = record.http.as_ref().unwrap();
    format!("{} {} {}", http.status, record.flags(), http.details)
}

/// A client's connection.
pub(super) struct Client {
    sender: http1::SendRequest<Full<Bytes>>,
}

impl Client {
    pub(super) async fn send(&mut self, request: Request<Full<Bytes>>) -> Answer {
        self.sender.ready().await.unwrap();
        Answer::read(self.sender.send_request(request).await.unwrap()).await
    }

    pub(super) async fn get(&mut self, host: &str, path: &str) -> Answer {
        self.send(request("GET", host, path)).await
    }
}

/// What came back.
#[derive(Debug)]
pub(super) struct Answer {
    pub(super) status: u16,
    pub(super) headers: HeaderMap,
    pub(super) body: String,
}

impl Answer {
    pub(super) async fn read(response: Response<Incoming>) -> Self {
        let (parts, body) = response.into_parts();
        let all = timeout(PATIENCE, body.collect()).await.expect("a body's end").unwrap();
        let body = String::from_utf8_lossy(&all.to_bytes()).into_owned();
        Self { status: parts.status.as_u16(), headers: parts.headers, body }
    }

    pub(super) fn header(&self, name: &str) -> &str {
        self.headers.get(name).map_or("", |value| value.to_str().unwrap())
    }
}

pub(super) fn request(method: &str, host: &str, path: &str) -> Request<Full<Bytes>> {
    with_body(method, host, path, "")
}

pub(super) fn with_body(
    method: &str,
    host: &str,
    path: &str,
    body: impl Into<Bytes>,
) -> Request<Full<Bytes>> {
    let uri: Uri = path.parse().unwrap();
    let request = Request::builder().method(method).uri(uri).header("host", host);
    request.body(Full::new(body.into())).unwrap()
}

/// A body that a server gives.
pub(super) type ServerBody = BoxBody<Bytes, std::io::Error>;
type Handling = Pin<Box<dyn Future<Output = Response<ServerBody>> + Send>>;
type Handler = Arc<dyn Fn(Request<Incoming>, u32) -> Handling + Send + Sync>;

/// A server that answers as told.
pub(super) struct Upstream {
    pub(super) addr: SocketAddr,
    pub(super) connections: Arc<AtomicU32>,
    pub(super) requests: Arc<AtomicU32>,
}

impl Upstream {
    /// One that speaks HTTP/1; the handler also gets the number of the request, from 1.
    pub(super) async fn http1<F, R>(handler: F) -> Self
    where
        F: Fn(Request<Incoming>, u32) -> R + Send + Sync + 'static,
        R: Future<Output = Response<ServerBody>> + Send + 'static,
    {
        Self::start(Speaks::Http1, Arc::new(move |request, n| Box::pin(handler(request, n)))).await
    }

    /// One that speaks HTTP/2.
    pub(super) async fn http2<F, R>(handler: F) -> Self
    where
        F: Fn(Request<Incoming>, u32) -> R + Send + Sync + 'static,
        R: Future<Output = Response<ServerBody>> + Send + 'static,
    {
        Self::start(Speaks::Http2, Arc::new(move |request, n| Box::pin(handler(request, n)))).await
    }

    /// One that answers with what it sees: [`seen`].
    pub(super) async fn echo() -> Self {
        Self::http1(|request, _| seen(request)).await
    }

    /// One that answers with these statuses, the last one for ever.
    pub(super) async fn statuses(statuses: &'static [u16]) -> Self {
        Self::http1(move |_, number| async move {
            let at = (number as usize - 1).min(statuses.len() - 1);
            status(statuses[at])
        })
        .await
    }

    async fn start(speaks: Speaks, handler: Handler) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let addr = listener.local_addr().unwrap();
        let (connections, requests) = (Arc::<AtomicU32>::default(), Arc::<AtomicU32>::default());
        let (connected, asked) = (Arc::clone(&connections), Arc::clone(&requests));
        tokio::spawn(async move {
            while let Ok((socket, _)) = listener.accept().await {
                connected.fetch_add(1, Ordering::SeqCst);
                let (handler, asked) = (Arc::clone(&handler), Arc::clone(&asked));
                tokio::spawn(serve_as(socket, speaks, handler, asked));
            }
        });
        Self { addr, connections, requests }
    }

    pub(super) fn connections(&self) -> u32 {
        self.connections.load(Ordering::SeqCst)
    }

    pub(super) fn requests(&self) -> u32 {
        self.requests.load(Ordering::SeqCst)
    }
}

async fn serve_as(socket: TcpStream, speaks: Speaks, handler: Handler, asked: Arc<AtomicU32>) {
    socket.set_nodelay(true).unwrap();
    let service = service_fn(move |request| {
        let number = asked.fetch_add(1, Ordering::SeqCst) + 1;
        let answer = handler(request, number);
        async move { Ok::<_, Infallible>(answer.await) }
    });
    let io = TokioIo::new(socket);
    // How a connection ends is what some tests are about; the clients see it.
    match speaks {
        Speaks::Http1 => {
            let builder = hyper::server::conn::http1::Builder::new();
            builder.serve_connection(io, service).with_upgrades().await.ok();
        }
        Speaks::Http2 => {
            let builder = hyper::server::conn::http2::Builder::new(TokioExecutor::new());
            builder.serve_connection(io, service).await.ok();
        }
    }
}

/// An answer that says what was asked: the request line, the headers in the order of their names, and
/// the body.
pub(super) async fn seen(request: Request<Incoming>) -> Response<ServerBody> {
    let (parts, body) = request.into_parts();
    let mut lines = vec![format!("{} {} {:?}", parts.method, parts.uri, parts.version)];
    let mut headers: Vec<_> = parts
        .headers
        .iter()
        .map(|(name, value)| format!("{name}: {}", String::from_utf8_lossy(value.as_bytes())))
        .collect();
    headers.sort();
    lines.extend(headers);
    let all = body.collect().await.unwrap();
    let trailers = all.trailers().cloned().unwrap_or_default();
    lines.push(format!("[{}]", String::from_utf8_lossy(&all.to_bytes())));
    lines
        .extend(trailers.iter().map(|(name, value)| format!("{name}={}", value.to_str().unwrap())));
    text(lines.join("\n"))
}

/// 200 with a body.
pub(super) fn text(body: impl Into<Bytes>) -> Response<ServerBody> {
    Response::new(Full::new(body.into()).map_err(|never| match never {}).boxed())
}

/// A status with its number as the body.
pub(super) fn status(status: u16) -> Response<ServerBody> {
    let mut response = text(status.to_string());
    *response.status_mut() = StatusCode::from_u16(status).unwrap();
    response
}

/// A cluster.
pub(super) fn cluster(name: &str) -> Cluster {
    Cluster {
        name: name.into(),
        kind: ClusterKind::Passthrough,
        discovery: Discovery::Static,
        endpoints: Vec::new(),
        load_balancer: LoadBalancer {
            policy: LbPolicy::RoundRobin,
            locality_weighted: false,
            warmup: None,
            panic_threshold: 0.0,
            hash: None,
        },
        connect_timeout: Duration::from_secs(10),
        pool: ConnectionPool::default(),
        outlier: None,
        health_check: None,
        tls: UpstreamTls::Plaintext,
        http: UpstreamHttp::Http1,
        tunnel: None,
        proxy_protocol: None,
        verify_destination: None,
        rules: Vec::new(),
    }
}

/// A destination.
pub(super) fn destination(cluster: Cluster) -> Destination {
    Destination {
        cluster: ClusterRef::Known(Arc::new(cluster)),
        weight: 1,
        request_headers: HeaderOps::default(),
        response_headers: HeaderOps::default(),
        authority: None,
    }
}

/// Forwarding to a cluster, as a service without a VirtualService.
pub(super) fn to(cluster: Cluster) -> Forward {
    Forward {
        destinations: Destinations::Single(destination(cluster)),
        timeout: None,
        retry: Some(RetryPolicy::default()),
        rewrite: None,
        authority: None,
        mirrors: Vec::new(),
        hash: Vec::new(),
    }
}

/// A route for every request.
pub(super) fn route(action: RouteAction) -> Route {
    Route {
        name: "default".into(),
        matcher: RouteMatch::default(),
        action,
        request_headers: HeaderOps::default(),
        response_headers: HeaderOps::default(),
        fault: None,
        cors: None,
        virtual_service: None,
        stat_prefix: "".into(),
    }
}

/// A route that forwards.
pub(super) fn forwarding(forward: Forward) -> Route {
    route(RouteAction::Forward(Box::new(forward)))
}

/// A route to the cluster of this name.
pub(super) fn plain(name: &str) -> Route {
    forwarding(to(cluster(name)))
}

/// Headers to set.
pub(super) fn set(changes: &[(&str, &str)], remove: &[&str]) -> HeaderOps {
    let change = |(name, value): &(&str, &str)| egressd_tables::HeaderChange {
        name: (*name).into(),
        value: (*value).into(),
        append: false,
    };
    HeaderOps {
        changes: changes.iter().map(change).collect(),
        remove: remove.iter().map(|name| (*name).into()).collect(),
    }
}
