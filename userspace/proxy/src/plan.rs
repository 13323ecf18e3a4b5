//! From a decision of the tables to what is done about it: a plain value, and the last place where
//! policy is looked at.

mod doors;

use std::{net::SocketAddr, sync::Arc, time::Duration};

use egressd_tables as tables;
use egressd_tables::{
    Action, BLACK_HOLE, ClusterRef, Decision, Discovery, Flow, IpFamilies, Listener, RouteTable,
    Tables,
};

pub(crate) use self::doors::{Arrangement, wanted_at_door};
use crate::{
    addrs::{OriginalDst, UpstreamAddr},
    cluster::{Cluster, Registry},
    door::Door,
    random,
    record::Outcome,
    sniff::{Sniffed, Wanted},
};

/// Decides connections. The tables do, for one generation; tests have their own.
pub(crate) trait Router: Send + Sync {
    /// What must be known of a connection before it is decided; `None` if nothing.
    fn wanted(&self, destination: OriginalDst) -> Option<Wanted>;

    /// Decides a connection.
    fn plan(&self, destination: OriginalDst, sniffed: &Sniffed) -> Plan;

    /// What decides the requests of a connection that begins with one; `None` if it is not for its
    /// requests to be decided, but for itself. Default: it never is.
    fn requests(&self, destination: OriginalDst) -> Option<Requests> {
        let _ = destination;
        None
    }

    /// The listener behind a door; `None` if there is none, or none any more. Default: never.
    fn listener(&self, door: &Door) -> Option<Listener> {
        let _ = door;
        None
    }

    /// What is done with a connection that came in by a listener of our own. Default: nothing.
    fn arrange(
        &self,
        listener: &Listener,
        destination: OriginalDst,
        sniffed: &Sniffed,
    ) -> Arrangement {
        let _ = (listener, destination, sniffed);
        Arrangement::nowhere()
    }
}

/// What decides the requests of a connection.
#[derive(Clone, Debug)]
pub(crate) struct Requests {
    /// Decides them.
    pub(crate) table: Arc<RouteTable>,
    /// Where "the original destination" is.
    pub(crate) original: tables::Original,
    /// The application has dialled us, as its HTTP proxy.
    pub(crate) explicit: bool,
}

/// What is done with a connection, and the words for it.
#[derive(Debug)]
pub(crate) struct Plan {
    /// The cluster, also one that does not exist.
    pub(crate) cluster: Option<Arc<str>>,
    /// The host that stands behind an address which leads nowhere by itself.
    pub(crate) host: Option<Arc<str>>,
    /// Where it goes, or why it goes nowhere.
    pub(crate) verdict: Result<Forward, Outcome>,
}

/// Where a connection goes.
#[derive(Debug)]
pub(crate) struct Forward {
    /// Whose limits it counts against.
    pub(crate) cluster: Arc<Cluster>,
    /// Which endpoint.
    pub(crate) target: Target,
    /// Idle time after which it is closed; `None` for never.
    pub(crate) idle_timeout: Option<Duration>,
    /// After which it is closed whatever happens on it; `None` for never.
    pub(crate) max_duration: Option<Duration>,
}

/// Which endpoint a connection goes to.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Target {
    /// One of the cluster's.
    Endpoints,
    /// This one.
    Address(UpstreamAddr),
    /// The address that was dialled, if it is one of a name's. Boxed: few are checked.
    Checked(Box<Checked>),
    /// An address of this name.
    Name {
        /// The name.
        name: Arc<str>,
        /// The port at its address.
        port: u16,
        /// Which addresses are looked for.
        families: IpFamilies,
        /// The application asks for it: it may be any name.
        asked: bool,
    },
}

impl Target {
    /// The name, if it is one, is the client's.
    fn asked_for(&mut self) {
        if let Self::Name { asked, .. } = self {
            *asked = true;
        }
    }
}

/// An address that must be one of a name's (`strict`).
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Checked {
    /// The address that was dialled, with the port to go to.
    pub(crate) addr: SocketAddr,
    /// The name.
    pub(crate) name: Arc<str>,
}

/// One generation's tables, with the clusters that outlive it.
pub(crate) struct Generation {
    /// The tables.
    pub(crate) tables: Arc<Tables>,
    /// Clusters in use.
    pub(crate) clusters: Arc<Registry>,
}

impl Router for Generation {
    fn wanted(&self, destination: OriginalDst) -> Option<Wanted> {
        let sniff = self.tables.listener(destination.0).sniff;
        (!sniff.is_nothing()).then_some(Wanted {
            tls: sniff.tls,
            http: sniff.http,
            timeout: sniff.timeout.unwrap_or(FOR_EVER),
        })
    }

    fn plan(&self, destination: OriginalDst, sniffed: &Sniffed) -> Plan {
        let flow = Flow { destination: destination.0, sniffed: as_tables_see(sniffed) };
        let decision = self.tables.decide(&flow);
        match &decision.action {
            Action::Refuse(refusal) => {
                Plan::refused(BLACK_HOLE.into(), Outcome::Refused(refusal_word(*refusal)))
            }
            Action::Tcp(route) => self.tcp(destination, sniffed, &decision, route),
            // Where a request was seen, [`Router::requests`] comes first.
            Action::Http(_) => Plan::nowhere(Outcome::NoRoute),
        }
    }

    fn requests(&self, destination: OriginalDst) -> Option<Requests> {
        let flow = Flow { destination: destination.0, sniffed: tables::Sniffed::Http };
        let Decision { action, original, .. } = self.tables.decide(&flow);
        match action {
            Action::Http(table) => Some(Requests { table, original, explicit: false }),
            Action::Tcp(_) | Action::Refuse(_) => None,
        }
    }

    fn listener(&self, door: &Door) -> Option<Listener> {
        self.behind(door)
    }

    fn arrange(
        &self,
        listener: &Listener,
        destination: OriginalDst,
        sniffed: &Sniffed,
    ) -> Arrangement {
        self.at_door(listener, destination, sniffed)
    }
}

impl Generation {
    fn tcp(
        &self,
        destination: OriginalDst,
        sniffed: &Sniffed,
        decision: &Decision,
        route: &tables::TcpRoute,
    ) -> Plan {
        let Some(chosen) = route.pick(random::next()) else {
            return Plan::nowhere(Outcome::NoRoute);
        };
        let name = match sniffed {
            Sniffed::Tls(hello) => hello.server_name.as_deref(),
            Sniffed::Nothing | Sniffed::Raw | Sniffed::Http(_) => None,
        };
        let mut plan = self.towards(destination, decision, chosen, name);
        if let Ok(forward) = &mut plan.verdict {
            forward.idle_timeout = route.idle_timeout;
            forward.max_duration = sooner(forward.max_duration, route.max_duration);
        }
        plan
    }

    /// The way to a cluster. `asked` is the name that the application asks for, if it does; it matters
    /// to clusters that resolve it, or compare it with what was dialled.
    fn towards(
        &self,
        destination: OriginalDst,
        decision: &Decision,
        chosen: &ClusterRef,
        asked: Option<&str>,
    ) -> Plan {
        let cluster = match chosen {
            ClusterRef::Known(cluster) => cluster,
            ClusterRef::Missing(name) => {
                return Plan::refused(Arc::clone(name), Outcome::NoCluster);
            }
        };
        if cluster.is_black_hole() {
            return Plan::refused(Arc::clone(&cluster.name), Outcome::NoHealthyUpstream);
        }
        let mut host = None;
        let target = match cluster.discovery {
            Discovery::Static | Discovery::StrictDns(_) | Discovery::LogicalDns(_) => {
                Ok(Target::Endpoints)
            }
            Discovery::OriginalDst { port } => {
                if let tables::Original::Resolve(name) = &decision.original {
                    host = Some(Arc::clone(name));
                }
                let target = original(destination, &decision.original, port);
                target.map(|target| verified(target, cluster, asked))
            }
            Discovery::DynamicForwardProxy { port, families } => asked
                .map_or(Err(Outcome::NoRoute), |name| {
                    Ok(Target::Name { name: name.into(), port, families, asked: true })
                }),
        };
        let verdict = target.map(|target| {
            let cluster = self.clusters.get(cluster);
            let (idle_timeout, max_duration) =
                (cluster.spec.idle_timeout, cluster.spec.max_duration);
            Forward { cluster, target, idle_timeout, max_duration }
        });
        Plan { cluster: Some(Arc::clone(&cluster.name)), host, verdict }
    }
}

impl Plan {
    fn refused(cluster: Arc<str>, outcome: Outcome) -> Self {
        Self { cluster: Some(cluster), host: None, verdict: Err(outcome) }
    }

    fn nowhere(outcome: Outcome) -> Self {
        Self { cluster: None, host: None, verdict: Err(outcome) }
    }
}

/// `strict`: an address outside the service's own must be one of those of the name asked for, or of
/// the service where nothing was.
fn verified(target: Target, cluster: &tables::Cluster, asked: Option<&str>) -> Target {
    let (Target::Address(UpstreamAddr::Ip(addr)), Some(blocks)) =
        (&target, &cluster.verify_destination)
    else {
        return target;
    };
    if blocks.iter().any(|block| block.contains(addr.ip())) {
        return target;
    }
    let own = cluster.service().map(|service| &*service.host);
    match asked.or(own) {
        Some(name) => Target::Checked(Box::new(Checked { addr: *addr, name: name.into() })),
        None => target,
    }
}

/// Where "the original destination" is. An allocated VIP is no place to go to.
fn original(
    destination: OriginalDst,
    original: &tables::Original,
    port: Option<u16>,
) -> Result<Target, Outcome> {
    match original {
        tables::Original::Dialled => Ok(Target::Address(destination.with_port(port))),
        tables::Original::Resolve(host) => Ok(Target::Name {
            name: Arc::clone(host),
            port: port.unwrap_or(destination.0.port()),
            families: IpFamilies::Dual,
            asked: false,
        }),
        tables::Original::Nowhere => Err(Outcome::NoHealthyUpstream),
    }
}

fn as_tables_see(sniffed: &Sniffed) -> tables::Sniffed<'_> {
    match sniffed {
        Sniffed::Nothing => tables::Sniffed::Nothing,
        Sniffed::Raw => tables::Sniffed::Raw,
        Sniffed::Tls(hello) => tables::Sniffed::Tls { sni: hello.server_name.as_deref() },
        Sniffed::Http(_) => tables::Sniffed::Http,
    }
}

fn refusal_word(refusal: tables::Refusal) -> &'static str {
    match refusal {
        tables::Refusal::ForeignName => "foreign_server_name",
        tables::Refusal::NotTls => "not_tls",
        tables::Refusal::NotHttp => "not_http",
    }
}

fn sooner(one: Option<Duration>, other: Option<Duration>) -> Option<Duration> {
    match (one, other) {
        (Some(one), Some(other)) => Some(one.min(other)),
        (one, other) => one.or(other),
    }
}

/// Without a detection timeout a silent application is waited for as long as it could be idle
/// afterwards (semantics.md §0: for ever, in Istio).
const FOR_EVER: Duration = tables::TCP_IDLE;
