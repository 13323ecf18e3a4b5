//! From where a connection is to go to a connection that stands: endpoints are tried, each once,
//! until one answers or as many have failed as may.

mod dial;
pub(crate) mod header;
mod tunnel;

use std::{
    future::{Future, poll_fn},
    io,
    task::Poll,
};

use egressd_tables::IpFamilies;

use self::dial::Dial;
use crate::{
    addrs::{ClientAddr, UpstreamAddr},
    cluster::{ClusterLease, HostLease, Mesh, Observation},
    plan::{Forward, Target},
    record::{FlowRecord, Outcome},
    relay::Side,
    resolve::{Addresses, Resolver},
    socket::{SocketFactory, Stream},
    tls::{Originator, TlsStream},
};

/// A connection to an endpoint, counted while this lives.
#[derive(Debug)]
pub(crate) struct Connected {
    /// Our end.
    pub(crate) upstream: Upstream,
    /// Its place in the cluster and at the endpoint.
    pub(crate) leases: Leases,
}

/// Our end of a connection to an endpoint.
#[derive(Debug)]
pub(crate) enum Upstream {
    /// Bytes go as they are.
    Plain(Stream),
    /// Bytes go through TLS.
    Tls(TlsStream),
}

/// What a connection counts against.
#[derive(Debug)]
pub(crate) struct Leases {
    _cluster: ClusterLease,
    _host: Option<HostLease>,
}

/// What connecting needs.
#[derive(Clone, Copy)]
pub(crate) struct Tools<'a> {
    /// Makes the sockets.
    pub(crate) factory: &'a SocketFactory,
    /// Speaks TLS.
    pub(crate) originator: &'a Originator,
    /// Resolves names.
    pub(crate) resolver: &'a dyn Resolver,
    /// Endpoints tried before giving up; at least 1.
    pub(crate) max_attempts: u32,
}

/// Connects, unless `app` breaks off first. The endpoint tried last is noted in `record`.
///
/// # Errors
/// There is no connection; the outcome says why.
pub(crate) async fn connect(
    tools: Tools<'_>,
    forward: &Forward,
    client: ClientAddr,
    app: &mut impl Side,
    record: &mut FlowRecord,
) -> Result<Connected, Outcome> {
    // Boxed: it is over soon, and the flow would carry the room for it to its end.
    let mut connecting = Box::pin(attempt(tools, forward, client, record));
    poll_fn(|cx| {
        if let Poll::Ready(done) = connecting.as_mut().poll(cx) {
            return Poll::Ready(done);
        }
        app.poll_broken(cx).map(|_error| Err(Outcome::AppGone))
    })
    .await
}

async fn attempt(
    tools: Tools<'_>,
    forward: &Forward,
    client: ClientAddr,
    record: &mut FlowRecord,
) -> Result<Connected, Outcome> {
    let cluster = &forward.cluster;
    let lease = cluster.lease().ok_or(Outcome::Overflow)?;
    let dialled = record.destination();
    let dial = Dial { tools, spec: &cluster.spec, client, dialled };
    let (upstream, host) = match &forward.target {
        Target::Endpoints => {
            let hosts = cluster.hosts(tools.resolver).await.map_err(|error| {
                tracing::debug!(%error, cluster = %cluster.spec.name, "no endpoint resolves");
                Outcome::Unresolved
            })?;
            let mut choice = cluster.choose(&hosts, client.0.ip());
            let mut failure = Outcome::NoHealthyUpstream;
            let mut attempts = 0;
            loop {
                if attempts == tools.max_attempts {
                    return Err(failure);
                }
                attempts += 1;
                let Some(host) = choice.next() else { return Err(failure) };
                let lease = host.state.lease();
                record.upstream = Some(host.addr.clone());
                let dialled = dial.to(&host.addr, &host.mesh).await;
                let seen = match &dialled {
                    Ok(_) => Observation::Connected,
                    Err(_) => Observation::NotConnected,
                };
                cluster.observe(&host.addr, &host.state, seen);
                match dialled {
                    Ok(upstream) => break (upstream, Some(lease)),
                    Err(reason) => failure = Outcome::ConnectFailed(reason),
                }
            }
        }
        Target::Address(addr) => {
            record.upstream = Some(addr.clone());
            let upstream = dial.to(addr, &Mesh::default()).await;
            (upstream.map_err(Outcome::ConnectFailed)?, None)
        }
        Target::Of { addr, name } => {
            let addresses = addresses(tools.resolver, name, IpFamilies::Dual).await;
            if !addresses.is_ok_and(|addresses| addresses.contains(&addr.ip().to_canonical())) {
                return Err(Outcome::Refused("foreign_destination"));
            }
            let addr = UpstreamAddr::Ip(*addr);
            record.upstream = Some(addr.clone());
            let upstream = dial.to(&addr, &Mesh::default()).await;
            (upstream.map_err(Outcome::ConnectFailed)?, None)
        }
        Target::Name { name, port, families } => {
            let addresses = addresses(tools.resolver, name, *families).await?;
            let mut upstream = Err(Outcome::DnsFailure);
            for ip in addresses.iter().take(tools.max_attempts as usize) {
                let addr = UpstreamAddr::Ip((*ip, *port).into());
                record.upstream = Some(addr.clone());
                let dialled = dial.to(&addr, &Mesh::default()).await;
                upstream = dialled.map_err(Outcome::ConnectFailed);
                if upstream.is_ok() {
                    break;
                }
            }
            (upstream?, None)
        }
    };
    Ok(Connected { upstream, leases: Leases { _cluster: lease, _host: host } })
}

/// The addresses of a name that the application asks for.
async fn addresses(
    resolver: &dyn Resolver,
    name: &str,
    families: IpFamilies,
) -> Result<Addresses, Outcome> {
    let addresses = match resolver.cached(name, families) {
        Some(addresses) => Ok(addresses),
        None => resolver.resolve(name, families).await,
    };
    addresses.map_err(|error| {
        tracing::debug!(%error, "the name asked for does not resolve");
        Outcome::DnsFailure
    })
}

impl Upstream {
    /// Sends all of `bytes`.
    async fn send(&mut self, bytes: &[u8]) -> io::Result<()> {
        let mut rest = bytes;
        while !rest.is_empty() {
            let sent = poll_fn(|cx| match self {
                Self::Plain(stream) => stream.poll_send(cx, rest),
                Self::Tls(stream) => stream.poll_send(cx, rest),
            });
            let sent = sent.await?;
            rest = rest.get(sent..).unwrap_or_default();
        }
        match self {
            Self::Plain(_) => Ok(()),
            Self::Tls(stream) => poll_fn(|cx| stream.poll_flush(cx)).await,
        }
    }
}
