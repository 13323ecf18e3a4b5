//! From where a connection is to go to a connection that stands: endpoints are tried, each once,
//! until one answers or as many have failed as may. One that does not answer at once holds up nobody
//! who has an address of the other family.

mod candidates;
mod dial;
pub(crate) mod header;
mod race;
mod tunnel;

use std::{
    future::{Future, poll_fn},
    io,
    net::IpAddr,
    sync::Arc,
    task::Poll,
    time::Duration,
};

use egressd_tables::IpFamilies;

use self::{
    candidates::{Candidate, Candidates},
    dial::Dial,
    race::Race,
};
use crate::{
    addrs::{ClientAddr, UpstreamAddr},
    cluster::{Cluster, ClusterLease, HostLease, Observation},
    plan::{Checked, Forward, Target},
    record::{FlowRecord, Outcome},
    relay::Side,
    resolve::{Addresses, Asker, Resolver},
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
    cluster: ClusterLease,
    host: Option<HostLease>,
}

impl Leases {
    /// Tells the cluster what became of a connection that stood.
    pub(crate) fn observe(&self, addr: &UpstreamAddr, seen: Observation) {
        if let Some(host) = &self.host {
            self.cluster.cluster().observe(addr, host.state(), seen);
        }
    }
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
    let asker = Asker::of(&record.original, client);
    let dial = Dial { tools, spec: &cluster.spec, client, dialled };
    let hosts;
    let candidates = match &forward.target {
        Target::Endpoints => {
            hosts = cluster.hosts(tools.resolver).await.map_err(|error| {
                tracing::debug!(%error, cluster = %cluster.spec.name, "no endpoint resolves");
                Outcome::Unresolved
            })?;
            Candidates::chosen(cluster.choose(&hosts, client.0.ip()), &cluster.spec)
        }
        Target::Address(addr) => Candidates::Only(Some(addr.clone())),
        Target::Checked(checked) => {
            let Checked { addr, name } = &**checked;
            let addresses = addresses(tools.resolver, name, IpFamilies::Dual, Some(asker)).await;
            if !addresses.is_ok_and(|addresses| addresses.contains(&addr.ip().to_canonical())) {
                return Err(Outcome::Refused("foreign_destination"));
            }
            Candidates::Only(Some(UpstreamAddr::Ip(*addr)))
        }
        Target::Name { name, port, families, asked } => {
            let addresses =
                addresses(tools.resolver, name, *families, asked.then_some(asker)).await?;
            let admits = |ip: &&IpAddr| tools.resolver.admits(**ip);
            let admitted: Vec<IpAddr> = addresses.iter().filter(admits).copied().collect();
            if admitted.is_empty() && !addresses.is_empty() {
                return Err(Outcome::Refused(LOCAL_ADDRESS));
            }
            Candidates::of_name(&admitted, *port)
        }
    };
    let (upstream, host) = first_to_answer(dial, cluster, candidates, record).await?;
    Ok(Connected { upstream, leases: Leases { cluster: lease, host } })
}

/// The addresses of a name; with `asked`, that application brings it, and it may be any.
async fn addresses(
    resolver: &dyn Resolver,
    name: &str,
    families: IpFamilies,
    asked: Option<Asker>,
) -> Result<Addresses, Outcome> {
    if let Ok(ip) = name.parse() {
        return Ok(Arc::from([ip]));
    }
    let addresses = match (resolver.cached(name, families), asked) {
        (Some(addresses), _) => Ok(addresses),
        (None, Some(asker)) => resolver.resolve_asked(name, families, asker).await,
        (None, None) => resolver.resolve(name, families).await,
    };
    addresses.map_err(|error| {
        tracing::debug!(%error, "the name asked for does not resolve");
        if error.overload { Outcome::DnsOverflow } else { Outcome::DnsFailure }
    })
}

/// Tries candidates until one answers: the next one when one has failed, and beside one that has not
/// answered in [`HEAD_START`].
async fn first_to_answer(
    dial: Dial<'_>,
    cluster: &Cluster,
    mut candidates: Candidates<'_>,
    record: &mut FlowRecord,
) -> Result<(Upstream, Option<HostLease>), Outcome> {
    let mut race = Race::new();
    let mut failure = Outcome::NoHealthyUpstream;
    let mut left = dial.tools.max_attempts;
    loop {
        let next = match &record.upstream {
            _ if left == 0 => None,
            Some(running) if !race.is_empty() => candidates.beside(running),
            Some(_) | None => candidates.next(),
        };
        let head_start = next.is_some().then_some(HEAD_START);
        if let Some(candidate) = next {
            left -= 1;
            record.upstream = Some(candidate.addr.clone());
            race.add(async move {
                let dialled = dial.to(&candidate.addr, &candidate.mesh).await;
                (candidate, dialled)
            });
        } else if race.is_empty() {
            return Err(failure);
        }
        let Some((Candidate { addr, endpoint, .. }, dialled)) = race.next(head_start).await else {
            continue;
        };
        if let Some((state, _lease)) = &endpoint {
            let seen = match &dialled {
                Ok(_) => Observation::Connected,
                Err(_) => Observation::NotConnected,
            };
            cluster.observe(&addr, state, seen);
        }
        match dialled {
            Ok(upstream) => {
                record.upstream = Some(addr);
                return Ok((upstream, endpoint.map(|(_, lease)| lease)));
            }
            Err(reason) => failure = Outcome::ConnectFailed(reason),
        }
    }
}

/// Why a name that leads to this node, its link or its cloud alone is not gone to.
pub(crate) const LOCAL_ADDRESS: &str = "local_address_refused";

/// How long a candidate may take to answer before another one is tried beside it (RFC 8305 §5).
pub(crate) const HEAD_START: Duration = Duration::from_millis(250);

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
