//! A request of our own to an endpoint, on a connection of its own.

use std::{
    future::poll_fn,
    pin::{Pin, pin},
    sync::Arc,
    task::Poll,
};

use egressd_tables::{Cluster, UpstreamHttp, UpstreamTls};
use http::{HeaderMap, HeaderName, HeaderValue, Method, Response, header, uri::PathAndQuery};
use hyper::{body::Incoming, client::conn};
use hyper_util::rt::TokioExecutor;

use super::{
    connector::Sockets,
    io::HttpIo,
    outgoing::{Outgoing, Spoken},
    request_body::RequestBody,
    upstream::{Connector, Target},
};
use crate::{addrs::UpstreamAddr, cluster::Mesh};

/// What is asked, and of whom.
#[derive(Clone, Copy)]
pub(crate) struct Ask<'a> {
    /// How its endpoints are spoken to.
    pub(crate) cluster: &'a Arc<Cluster>,
    /// The endpoint.
    pub(crate) addr: &'a UpstreamAddr,
    /// What the endpoint is in a mesh.
    pub(crate) mesh: &'a Mesh,
    /// The Host of the request.
    pub(crate) host: &'a str,
    /// Its path.
    pub(crate) path: &'a str,
    /// Further headers.
    pub(crate) headers: &'a [(Arc<str>, Arc<str>)],
}

/// Asks with a GET, and says the status of the answer.
///
/// # Errors
/// There was no answer; says why.
pub(crate) async fn ask(sockets: &Sockets, asked: Ask<'_>) -> Result<u16, String> {
    let Ask { cluster, addr, mesh, host, .. } = asked;
    let http2 = cluster.http == UpstreamHttp::Http2;
    let target = Target { cluster, addr, mesh, origin: None, host, http2 };
    let connected = sockets.connect(target).await;
    let connected = connected.map_err(|error| error.failure.to_string())?;
    let outgoing = outgoing(&asked)?;
    let spoken = if http2 {
        Spoken::Http2 { secure: matches!(cluster.tls, UpstreamTls::Originate(_)) }
    } else {
        Spoken::Http1
    };
    let answer = exchange(connected.io, &outgoing, spoken).await;
    answer.map(|response| response.status().as_u16()).map_err(|error| error.to_string())
}

fn outgoing(asked: &Ask<'_>) -> Result<Outgoing, String> {
    let mut headers = HeaderMap::new();
    headers.insert(header::USER_AGENT, HeaderValue::from_static("egressd-health-check"));
    for (name, value) in asked.headers {
        let (Ok(name), Ok(value)) =
            (HeaderName::from_bytes(name.as_bytes()), HeaderValue::from_str(value))
        else {
            return Err(format!("`{name}` is no header"));
        };
        headers.insert(name, value);
    }
    let authority = match headers.remove(header::HOST) {
        Some(host) => host,
        None => HeaderValue::from_str(asked.host).map_err(|error| error.to_string())?,
    };
    Ok(Outgoing {
        method: Method::GET,
        path: PathAndQuery::try_from(asked.path).map_err(|error| error.to_string())?,
        authority,
        headers,
        binds: false,
        body: None,
        websocket: false,
        count_tries: false,
    })
}

async fn exchange(
    io: HttpIo,
    outgoing: &Outgoing,
    spoken: Spoken,
) -> hyper::Result<Response<Incoming>> {
    let request = outgoing.build_with(spoken, 1, RequestBody::Empty);
    match spoken {
        Spoken::Http1 => {
            let (mut sender, connection) = conn::http1::handshake(io).await?;
            drive(connection, sender.send_request(request)).await
        }
        Spoken::Http2 { .. } => {
            let shaken = conn::http2::handshake(TokioExecutor::new(), io).await;
            let (mut sender, connection) = shaken?;
            drive(connection, sender.send_request(request)).await
        }
    }
}

/// Drives a connection until there is an answer.
async fn drive<T>(
    connection: impl Future<Output = hyper::Result<()>>,
    answer: impl Future<Output = T>,
) -> T {
    let (mut connection, mut answer) = (pin!(connection), pin!(answer));
    let mut ended = false;
    poll_fn(|cx| {
        if !ended {
            // How it ended shows in the answer.
            ended = Pin::new(&mut connection).poll(cx).is_ready();
        }
        match answer.as_mut().poll(cx) {
            Poll::Ready(answer) => Poll::Ready(answer),
            Poll::Pending => Poll::Pending,
        }
    })
    .await
}
