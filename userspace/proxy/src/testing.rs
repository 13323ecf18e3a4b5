//! What the tests of several modules share: connections over loopback, clusters and routers made by
//! hand, records kept for looking at, and waiting for conditions.

use std::{
    io,
    net::{IpAddr, SocketAddr},
    os::fd::BorrowedFd,
    sync::{
        Arc, Mutex,
        atomic::{AtomicBool, Ordering},
    },
    time::Duration,
};

use egressd_tables::{IpFamilies, UpstreamTls};
use tokio::{
    io::AsyncReadExt,
    net::{TcpListener, TcpStream},
    time::{Instant, sleep, timeout},
};

use crate::{
    addrs::{OriginalDst, UpstreamAddr},
    cluster::{
        Cluster, ClusterSpec,
        spec::{Balance, EndpointSpec, HostSource, Lookup, Mesh},
    },
    original::Original,
    plan::{Forward, Plan, Router, Target},
    record::{FlowRecord, Outcome, Records},
    resolve::{Addresses, ResolveError, Resolver, Resolving},
    sniff::{Sniffed, Wanted},
    socket::Stream,
};

/// A connection over loopback: our end, and the peer's.
pub(crate) async fn pair() -> (Stream, TcpStream) {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let peer = dial(listener.local_addr().unwrap()).await;
    let (ours, _) = listener.accept().await.unwrap();
    let ours = ours.into_std().unwrap();
    (Stream::accepted(ours.into()), peer)
}

/// Connects as an application would.
pub(crate) async fn dial(addr: SocketAddr) -> TcpStream {
    try_dial(addr).await.unwrap()
}

/// Connects, perhaps to find that the connection has been reset already.
#[expect(clippy::disallowed_methods, reason = "the test plays the application")]
pub(crate) async fn try_dial(addr: SocketAddr) -> io::Result<TcpStream> {
    let stream = TcpStream::connect(addr).await?;
    stream.set_nodelay(true)?;
    Ok(stream)
}

/// Closes with a reset instead of an end.
pub(crate) fn reset(stream: TcpStream) {
    stream.set_zero_linger().unwrap();
    drop(stream);
}

/// Everything the peer sends until it ends.
pub(crate) async fn read_all(stream: &mut TcpStream) -> io::Result<Vec<u8>> {
    let mut all = Vec::new();
    timeout(PATIENCE, stream.read_to_end(&mut all)).await.expect("the stream ends")?;
    Ok(all)
}

/// Waits until `condition` holds.
pub(crate) async fn until(what: &str, mut condition: impl FnMut() -> bool) {
    let start = Instant::now();
    while !condition() {
        assert!(start.elapsed() < PATIENCE, "waited in vain until {what}");
        sleep(Duration::from_millis(1)).await;
    }
}

/// An address where nothing listens: connecting is refused.
pub(crate) async fn refusing() -> SocketAddr {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    listener.local_addr().unwrap()
}

/// A listener that does not answer: its queue is full, so the kernel drops what arrives. The streams
/// keep it full.
pub(crate) async fn silent() -> (std::net::TcpListener, SocketAddr, Vec<socket2::Socket>) {
    use socket2::{Domain, Socket, Type};
    let listener = Socket::new(Domain::IPV4, Type::STREAM, None).unwrap();
    listener.bind(&SocketAddr::from(([127, 0, 0, 1], 0)).into()).unwrap();
    listener.listen(0).unwrap();
    let addr = listener.local_addr().unwrap().as_socket().unwrap();
    let fill = || {
        let socket = Socket::new(Domain::IPV4, Type::STREAM, None).unwrap();
        socket.set_nonblocking(true).unwrap();
        socket.connect(&addr.into()).ok();
        socket
    };
    let streams = (0..4).map(|_| fill()).collect();
    (listener.into(), addr, streams)
}

/// A cluster with these endpoints, in turn.
pub(crate) fn cluster(endpoints: &[UpstreamAddr]) -> ClusterSpec {
    let fixed = |addr: &UpstreamAddr| endpoint(HostSource::Fixed(addr.clone()));
    cluster_of(endpoints.iter().map(fixed).collect())
}

/// A cluster with an endpoint at every address of a name.
pub(crate) fn named_cluster(name: &str, port: u16) -> ClusterSpec {
    cluster_of(vec![endpoint(HostSource::Name(name.into(), port))])
}

fn endpoint(source: HostSource) -> EndpointSpec {
    EndpointSpec { source, priority: 0, weight: 1, mesh: Mesh::default() }
}

fn cluster_of(endpoints: Vec<EndpointSpec>) -> ClusterSpec {
    ClusterSpec {
        name: "outbound|80||test.example".into(),
        endpoints,
        lookup: Lookup::Every(IpFamilies::V4),
        balance: Balance::RoundRobin,
        warmup: None,
        connect_timeout: PATIENCE,
        max_connections: u32::MAX,
        keepalive: None,
        max_duration: None,
        idle_timeout: None,
        tls: UpstreamTls::Plaintext,
        proxy_protocol: None,
        tunnel: None,
        outlier: None,
        panic_threshold: 0.0,
    }
}

/// Sends every connection to one cluster.
pub(crate) struct OneCluster {
    cluster: Arc<Cluster>,
    wanted: Option<Wanted>,
    target: Target,
}

impl OneCluster {
    /// To the cluster's endpoints, without a look at the bytes.
    pub(crate) fn new(spec: ClusterSpec) -> Self {
        Self { cluster: Arc::new(Cluster::new(spec)), wanted: None, target: Target::Endpoints }
    }

    /// After a look at the bytes.
    pub(crate) fn sniffing(self, wanted: Wanted) -> Self {
        Self { wanted: Some(wanted), ..self }
    }

    /// To another place than the cluster's endpoints.
    pub(crate) fn towards(self, target: Target) -> Self {
        Self { target, ..self }
    }
}

impl Router for OneCluster {
    fn wanted(&self, _: OriginalDst) -> Option<Wanted> {
        self.wanted
    }

    fn plan(&self, _: OriginalDst, sniffed: &Sniffed) -> Plan {
        let spec = &self.cluster.spec;
        let verdict = match sniffed {
            Sniffed::Raw => Err(Outcome::NoRoute),
            Sniffed::Nothing | Sniffed::Tls(_) | Sniffed::Http(_) => Ok(Forward {
                cluster: Arc::clone(&self.cluster),
                target: self.target.clone(),
                idle_timeout: spec.idle_timeout,
                max_duration: spec.max_duration,
            }),
        };
        Plan { cluster: Some(Arc::clone(&spec.name)), host: None, verdict }
    }
}

/// Says that every connection was for one destination.
pub(crate) fn dialled(
    destination: &str,
) -> impl Fn(BorrowedFd<'_>) -> io::Result<Option<Original>> + Send + Sync + use<> {
    let original = Original::new(OriginalDst(destination.parse().unwrap()));
    move |_| Ok(Some(original))
}

/// Keeps records.
#[derive(Debug, Default)]
pub(crate) struct Kept(Mutex<Vec<FlowRecord>>);

impl Kept {
    pub(crate) fn count(&self) -> usize {
        self.0.lock().unwrap().len()
    }

    /// The only record, once it is there.
    pub(crate) async fn only(&self) -> FlowRecord {
        until("there is a record", || self.count() > 0).await;
        let records = self.0.lock().unwrap();
        assert_eq!(records.len(), 1, "{records:?}");
        records[0].clone()
    }

    pub(crate) fn all(&self) -> Vec<FlowRecord> {
        self.0.lock().unwrap().clone()
    }
}

impl Records for Kept {
    fn record(&self, record: &FlowRecord) {
        self.0.lock().unwrap().push(record.clone());
    }
}

/// Knows some names.
#[derive(Debug, Default)]
pub(crate) struct Names {
    known: Mutex<Vec<(String, Arc<[IpAddr]>)>>,
    /// Those that are known at once.
    cached: AtomicBool,
    hanging: Mutex<Vec<String>>,
    /// Those that were asked for without waiting.
    wanted: Mutex<Vec<String>>,
}

impl Names {
    pub(crate) fn set(&self, name: &str, addresses: &[&str]) {
        let addresses = addresses.iter().map(|ip| ip.parse().unwrap()).collect();
        let mut names = self.known.lock().unwrap();
        names.retain(|(known, _)| known != name);
        names.push((name.to_owned(), addresses));
        self.hanging.lock().unwrap().retain(|hanging| hanging != name);
    }

    /// Nobody ever answers for this one.
    pub(crate) fn hang(&self, name: &str) {
        self.hanging.lock().unwrap().push(name.to_owned());
    }

    /// Which names were asked for without waiting, since this was last asked.
    pub(crate) fn wanted(&self) -> Vec<String> {
        std::mem::take(&mut *self.wanted.lock().unwrap())
    }

    /// What is known is known without waiting.
    pub(crate) fn cache(&self) {
        self.cached.store(true, Ordering::Relaxed);
    }

    fn find(&self, name: &str) -> Option<Addresses> {
        let names = self.known.lock().unwrap();
        names.iter().find(|(known, _)| known == name).map(|(_, addresses)| Arc::clone(addresses))
    }
}

impl Resolver for Names {
    fn cached(&self, name: &str, _: IpFamilies) -> Option<Addresses> {
        self.find(name).filter(|_| self.cached.load(Ordering::Relaxed))
    }

    fn resolve<'a>(&'a self, name: &'a str, _: IpFamilies) -> Resolving<'a> {
        if self.hanging.lock().unwrap().iter().any(|hanging| hanging == name) {
            return Box::pin(std::future::pending());
        }
        let overload = name.starts_with("overload");
        let unknown = ResolveError { name: name.into(), reason: "no such name".into(), overload };
        let known = self.find(name);
        Box::pin(async move { known.ok_or(unknown) })
    }

    fn want(&self, name: &str, _: IpFamilies) {
        self.wanted.lock().unwrap().push(name.to_owned());
    }

    /// Tests have their servers on loopback.
    fn admits(&self, ip: IpAddr) -> bool {
        ip.is_loopback() || !crate::resolve::is_local(ip)
    }
}

/// Longer than anything takes on a busy machine; reached only by a failing test.
pub(crate) const PATIENCE: Duration = Duration::from_secs(60);
