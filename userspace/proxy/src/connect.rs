//! From where a connection is to go to a connection that stands: endpoints are tried, each once,
//! until one answers or as many have failed as may.

use std::{
    future::{Future, poll_fn},
    task::Poll,
};

use crate::{
    addrs::{ClientAddr, UpstreamAddr},
    cluster::{ClusterLease, HostLease},
    plan::{Forward, Target},
    record::{FlowRecord, Outcome, TransportFailure},
    resolve::Resolver,
    socket::{ConnectError, ConnectOptions, SocketFactory, Stream},
};

/// A connection to an endpoint, counted while this lives.
#[derive(Debug)]
pub(crate) struct Connected {
    /// Our end.
    pub(crate) stream: Stream,
    /// Its place in the cluster and at the endpoint.
    pub(crate) leases: Leases,
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
    app: &mut Stream,
    record: &mut FlowRecord,
) -> Result<Connected, Outcome> {
    // Boxed: it is over soon, and the flow would carry the room for it to its end.
    let mut connecting = Box::pin(attempt(tools, forward, client, record));
    poll_fn(|cx| {
        if let Poll::Ready(done) = connecting.as_mut().poll(cx) {
            return Poll::Ready(done);
        }
        app.poll_reset(cx).map(|_error| Err(Outcome::AppGone))
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
    let options = ConnectOptions {
        timeout: cluster.spec.connect_timeout,
        keepalive: cluster.spec.keepalive,
        source: client.explicit_source(),
    };
    let (stream, host) = match &forward.target {
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
                match tools.factory.connect(&host.addr, &options).await {
                    Ok(stream) => break (stream, Some(lease)),
                    Err(error) => failure = failed(&error),
                }
            }
        }
        Target::Address(addr) => {
            record.upstream = Some(addr.clone());
            let stream = tools.factory.connect(addr, &options).await;
            (stream.map_err(|error| failed(&error))?, None)
        }
        Target::Name { name, port, families } => {
            let known = tools.resolver.cached(name, *families);
            let addresses = match known {
                Some(addresses) => Ok(addresses),
                None => tools.resolver.resolve(name, *families).await,
            };
            let addresses = addresses.map_err(|error| {
                tracing::debug!(%error, "the name asked for does not resolve");
                Outcome::DnsFailure
            })?;
            let mut stream = Err(Outcome::DnsFailure);
            for ip in addresses.iter().take(tools.max_attempts as usize) {
                let addr = UpstreamAddr::Ip((*ip, *port).into());
                record.upstream = Some(addr.clone());
                stream = tools.factory.connect(&addr, &options).await.map_err(|e| failed(&e));
                if stream.is_ok() {
                    break;
                }
            }
            (stream?, None)
        }
    };
    Ok(Connected { stream, leases: Leases { _cluster: lease, _host: host } })
}

fn failed(error: &ConnectError) -> Outcome {
    tracing::debug!(%error, source = ?std::error::Error::source(error), "no connection");
    Outcome::ConnectFailed(TransportFailure::from(error))
}
