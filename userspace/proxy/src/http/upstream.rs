//! What the HTTP path asks of the rest of the proxy: a place to send a request to, and a connection
//! to it.

use std::{fmt, future::Future, pin::Pin, sync::Arc};

use egressd_tables as tables;
use egressd_tables::Cluster;

use super::io::HttpIo;
use crate::{
    addrs::{ClientAddr, LocalAddr, OriginalDst, UpstreamAddr},
    cluster::{HostLease, Mesh, Observation},
    record::TransportFailure,
    resolve::Asker,
};

/// A value that may need to be waited for.
pub(crate) type Waiting<'a, T> = Pin<Box<dyn Future<Output = T> + Send + 'a>>;

/// Chooses where a request goes.
pub(crate) trait Picker: Send + Sync {
    /// Chooses an endpoint of a cluster.
    fn pick<'a>(&'a self, cluster: &'a Arc<Cluster>, wish: Wish<'a>) -> Picking<'a>;

    /// Learns what became of a request that was sent to an endpoint, for outlier detection.
    fn observe(&self, cluster: &Arc<Cluster>, picked: &Picked, seen: Observation) {
        let _ = (cluster, picked, seen);
    }
}

/// A choice: most of the time it can be made at once.
pub(crate) enum Picking<'a> {
    /// Here it is.
    Now(Result<Picked, NoEndpoint>),
    /// A name has to be resolved first.
    Later(Waiting<'a, Result<Picked, NoEndpoint>>),
}

/// What a choice depends on beside the cluster.
#[derive(Clone, Copy)]
pub(crate) struct Wish<'a> {
    /// Host or :authority of the request, as it is sent on.
    pub(crate) authority: &'a str,
    /// Where the connection of the request came from, and where it was to go.
    pub(crate) origin: &'a Origin,
    /// For consistent hashing; nothing if the request has no key.
    pub(crate) hash: Option<u64>,
    /// Endpoints tried before, to be avoided while there are others.
    pub(crate) tried: &'a [UpstreamAddr],
    /// How often another endpoint is looked for, for the sake of `tried`.
    pub(crate) reselections: u32,
}

/// Where a connection came from, and where it was to go.
#[derive(Clone, Debug)]
pub(crate) struct Origin {
    /// The application's end.
    pub(crate) client: ClientAddr,
    /// What the application dialled.
    pub(crate) destination: OriginalDst,
    /// What that means, if the destination is gone to as it was dialled.
    pub(crate) original: tables::Original,
    /// The application dialled us, as its HTTP proxy: there is no original destination, and what is
    /// to go there goes to the authority of the request.
    pub(crate) explicit: bool,
    /// Whose names requests of it bring.
    pub(crate) asker: Asker,
}

/// An endpoint.
pub(crate) struct Picked {
    /// Where it is.
    pub(crate) addr: UpstreamAddr,
    /// What it is in a mesh.
    pub(crate) mesh: Mesh,
    /// Its load counts this request as long as this lives.
    pub(crate) lease: Option<HostLease>,
}

/// Why there is no endpoint.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum NoEndpoint {
    /// The cluster has none, or none that is healthy.
    NoneHealthy,
    /// The name that the request asks for does not resolve.
    Unresolved,
    /// As many names of requests are being resolved, or known, as may be.
    DnsOverflow,
    /// The name leads to this node, its link or its cloud alone, which no request may ask for.
    Local,
    /// `strict`: the destination is none of the authority's.
    Foreign,
}

/// Opens connections to endpoints.
pub(crate) trait Connector: Send + Sync {
    /// Connects, and speaks TLS and the PROXY protocol as far as the cluster asks.
    fn connect<'a>(&'a self, target: Target<'a>) -> Waiting<'a, Result<Connected, NotConnected>>;
}

/// Where a connection goes.
#[derive(Clone, Copy)]
pub(crate) struct Target<'a> {
    /// Whose settings it has.
    pub(crate) cluster: &'a Arc<Cluster>,
    /// The endpoint.
    pub(crate) addr: &'a UpstreamAddr,
    /// What the endpoint is in a mesh.
    pub(crate) mesh: &'a Mesh,
    /// Whose connection it is, where the endpoint is told by the PROXY protocol.
    pub(crate) origin: Option<&'a Origin>,
    /// The host that the request asks for, without its port: the server name where the cluster takes
    /// it from the request.
    pub(crate) host: &'a str,
    /// HTTP/2 will be spoken.
    pub(crate) http2: bool,
}

/// A connection.
pub(crate) struct Connected {
    /// To read and write.
    pub(crate) io: HttpIo,
    /// Our end.
    pub(crate) local: Option<LocalAddr>,
}

/// There is no connection.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct NotConnected {
    /// Why.
    pub(crate) failure: TransportFailure,
}

impl fmt::Debug for Picked {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Picked").field("addr", &self.addr).finish_non_exhaustive()
    }
}

/// A host without its port and without the brackets of an IPv6 address.
pub(crate) fn bare_host(authority: &str) -> &str {
    let host = tables::strip_port(authority);
    host.strip_prefix('[').and_then(|host| host.strip_suffix(']')).unwrap_or(host)
}
