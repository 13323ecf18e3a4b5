//! Names: which queries are captured, who answers them, and how the proxy resolves.

use std::{
    io,
    net::{IpAddr, SocketAddr},
    os::fd::OwnedFd,
    sync::{Arc, Mutex, MutexGuard, PoisonError},
    time::Duration,
};

use egressd_datapath::{
    DnsServers, DnsSettings, DnsSockets, Heartbeat, Protocol, SocketOwner, SocketOwners,
};
use egressd_dns::{
    Asker, Askers, Changes, Foreign, Listeners, ListenersId, Metrics, Names, NotKnown, Origin,
    Paths, Resolver, ResolverSettings, Server, Services, SocketKind, SystemDns, Upstream,
    Upstreams, Wiring, plain_socket,
};
use egressd_proxy::{Addresses, NameEvent, NameListener, Resolving, SocketFactory};
use egressd_tables::{IpFamilies, Tables};
use tokio::runtime::Handle;

use super::{Failure, own_addresses::OwnAddresses, watchdog::Pulse};
use crate::config::{Answers, Config, DnsCapture};

/// Where queries go, as the configuration and the system say.
#[derive(Debug, Clone)]
pub(super) struct Plan {
    /// Whose queries are captured; `None` leaves DNS alone.
    pub(super) capture: Option<DnsServers>,
    /// Whether `capture` is what resolv.conf says.
    follows: bool,
    system: SystemDns,
    upstreams: Vec<Upstream>,
    resolver: ResolverSettings,
    services: Services,
    allow_local_addresses: bool,
}

impl Plan {
    /// Reads resolv.conf and puts it together with `dns:` of the configuration; also gives what will
    /// notice when resolv.conf changes. `failure_refresh` is what MeshConfig says about names that
    /// cannot be resolved.
    pub(super) fn read(
        config: &Config,
        capture: &DnsCapture,
        failure_refresh: Duration,
    ) -> Result<(Self, Changes), Failure> {
        let (system, changes) = Changes::start(Paths::default())
            .map_err(Failure::machine("finding the system's DNS servers"))?;
        let follows = *capture == DnsCapture::ResolvConf;
        let capture = match capture {
            DnsCapture::Off => None,
            DnsCapture::All => Some(DnsServers::All),
            DnsCapture::Listed(servers) => Some(DnsServers::Listed(servers.clone())),
            DnsCapture::ResolvConf => Some(DnsServers::Listed(Self::everybody(&system))),
        };
        let upstreams = config.dns.upstreams.clone();
        let resolver = config.dns.cache.put_into(ResolverSettings {
            timeout: system.timeout,
            attempts: system.attempts,
            failure_refresh,
            ..ResolverSettings::default()
        });
        let services = match config.answers {
            Answers::Egressd => Services::Hidden,
            Answers::Istio => Services::Forwarded,
        };
        let allow_local_addresses = config.dns.allow_local_addresses;
        let plan =
            Self { capture, follows, system, upstreams, resolver, services, allow_local_addresses };
        Ok((plan, changes))
    }

    /// The servers programs ask, and those a local stub asks for them: a program that speaks to the
    /// stub without DNS is met there.
    fn everybody(system: &SystemDns) -> Vec<IpAddr> {
        let all = system.servers.iter().chain(&system.upstreams);
        let mut all: Vec<IpAddr> = all.map(SocketAddr::ip).collect();
        all.sort_unstable();
        all.dedup();
        all
    }

    /// How the kernel side is to capture, with the DNS server at `port`.
    pub(super) fn settings(&self, port: u16) -> Option<DnsSettings> {
        self.capture.clone().map(|servers| DnsSettings { port, servers })
    }

    /// The servers whose queries the kernel is told to capture.
    pub(super) fn listed(&self) -> &[IpAddr] {
        match &self.capture {
            Some(DnsServers::Listed(servers)) => servers,
            Some(DnsServers::All) | None => &[],
        }
    }

    /// The same with the system's DNS as it is now.
    fn follow(&mut self, system: SystemDns) {
        if self.follows {
            self.capture = Some(DnsServers::Listed(Self::everybody(&system)));
        }
        self.system = system;
    }

    fn search(&self) -> &str {
        self.system.search.first().map_or("", String::as_str)
    }

    fn upstreams(&self) -> Upstreams {
        if self.upstreams.is_empty() {
            return self.system.to_upstreams();
        }
        Upstreams::new(self.upstreams.clone(), Foreign::AskUpstreams, Vec::new())
    }
}

/// Everything about names that runs.
pub(super) struct Dns {
    server: Option<Server>,
    resolver: Resolver,
    metrics: Arc<Metrics>,
    plan: Mutex<Plan>,
    pulse: Pulse,
}

impl Dns {
    /// Starts the resolver and, where queries are captured, the server.
    pub(super) fn start(
        plan: &Plan,
        factory: &Arc<SocketFactory>,
        heartbeat: Option<Heartbeat>,
    ) -> Result<Self, Failure> {
        let metrics = Arc::<Metrics>::default();
        let marked = Arc::clone(factory);
        let sockets = Arc::new(move |kind: SocketKind, server: SocketAddr| {
            upstream_socket(&marked, kind, server)
        });
        let resolver = Resolver::new(
            plan.resolver.clone(),
            &plan.upstreams(),
            sockets.clone(),
            None,
            Arc::clone(&metrics),
            Handle::current(),
        );
        let pulse = Pulse::default();
        let beating = pulse.clone();
        let server = match (&plan.capture, heartbeat) {
            (Some(_), Some(heartbeat)) => {
                let wiring = Wiring {
                    threads: threads(),
                    sockets,
                    asked: Arc::new(NotKnown),
                    heartbeat: Arc::new(move || {
                        beating.beat();
                        beat(&heartbeat);
                    }),
                    services: plan.services,
                    metrics: Arc::clone(&metrics),
                    tls: None,
                };
                let server =
                    Server::start(wiring).map_err(Failure::machine("starting the DNS server"))?;
                server.set_upstreams(plan.upstreams());
                server.set_search(plan.search());
                Some(server)
            }
            (Some(_) | None, _) => None,
        };
        Ok(Self { server, resolver, metrics, plan: Mutex::new(plan.clone()), pulse })
    }

    /// Takes the system's DNS as it is now: who is asked, at once; whose queries are captured is
    /// given back, for the kernel side.
    pub(super) fn follow(&self, system: SystemDns) -> Vec<IpAddr> {
        let mut plan = self.plan();
        plan.follow(system);
        if let Some(server) = &self.server {
            server.set_upstreams(plan.upstreams());
            server.set_search(plan.search());
        }
        self.resolver.set_upstreams(&plan.upstreams());
        plan.listed().to_vec()
    }

    fn plan(&self) -> MutexGuard<'_, Plan> {
        self.plan.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Serves the sockets of one network namespace; nothing where DNS is left alone.
    pub(super) fn listen(&self, sockets: DnsSockets) -> io::Result<Option<ListenersId>> {
        let DnsSockets { udp, tcp, owners } = sockets;
        let askers = owners.map(|owners| Arc::new(Owners(owners)) as Arc<dyn Askers>);
        let listeners = Listeners { udp, tcp, askers };
        self.server.as_ref().map(|server| server.listen(listeners)).transpose()
    }

    /// Gives the sockets of a network namespace up.
    pub(super) fn close(&self, listeners: ListenersId) {
        if let Some(server) = &self.server {
            server.close(listeners);
        }
    }

    /// Answers with the names of a generation.
    pub(super) fn publish(&self, tables: &Arc<Tables>) {
        if let Some(server) = &self.server {
            let names: Arc<dyn Names> = Arc::clone(tables) as _;
            server.publish(&names);
        }
    }

    /// Queries are captured from now on: a stub on this node may lead back here.
    pub(super) fn captured(&self) {
        if let Some(server) = &self.server {
            server.probe();
        }
    }

    /// Grows while all threads of the server work; nothing without one.
    pub(super) fn pulse(&self) -> Option<Pulse> {
        self.is_serving().then(|| self.pulse.clone())
    }

    /// Whether queries are captured.
    pub(super) fn is_serving(&self) -> bool {
        self.server.is_some()
    }

    /// The resolver, for the proxy.
    pub(super) fn resolver(&self) -> ForProxy {
        let anywhere = self.plan().allow_local_addresses;
        ForProxy { resolver: self.resolver.clone(), anywhere, own: OwnAddresses::default() }
    }

    /// What `egressd status` shows.
    pub(super) fn status(&self) -> serde_json::Value {
        let (metrics, plan) = (&self.metrics, self.plan());
        let captured: Vec<_> = plan.listed().iter().map(IpAddr::to_string).collect();
        let upstreams: Vec<_> = plan.upstreams().servers().map(ToString::to_string).collect();
        serde_json::json!({
            "serving": self.is_serving(),
            "captured": match &plan.capture {
                Some(DnsServers::All) => "all".into(),
                Some(DnsServers::Listed(_)) | None => serde_json::json!(captured),
            },
            "upstreams": upstreams,
            "requests": metrics.requests.get(),
            "upstream_requests": metrics.upstream_requests.get(),
            "upstream_failures": metrics.upstream_failures.get(),
            "upstream_refused": metrics.upstream_refused.get(),
            "upstream_displaced": metrics.upstream_displaced.get(),
            "upstream_loops": metrics.upstream_loops.get(),
            "connections_closed": metrics.connections_closed.get(),
            "malformed": metrics.malformed.get(),
            "resolutions": metrics.resolutions.get(),
            "resolution_failures": metrics.resolution_failures.get(),
            "resolutions_refused": metrics.resolutions_refused.get(),
            "failing_names": metrics.failing_names.get(),
            "stale_answers": metrics.stale_answers.get(),
        })
    }
}

/// Threads that answer datagrams: a second one, where there is a processor for it, so that no query
/// waits behind all the others.
pub(super) fn threads() -> usize {
    std::thread::available_parallelism().map_or(1, |processors| processors.get().min(2))
}

/// Whose queries they are, from the kernel side.
#[derive(Debug)]
struct Owners(SocketOwners);

impl Askers for Owners {
    fn asker(&self, kind: SocketKind, client: SocketAddr, local: SocketAddr) -> Option<Asker> {
        let protocol = match kind {
            SocketKind::Udp => Protocol::Udp,
            SocketKind::Tcp => Protocol::Tcp,
        };
        let SocketOwner { uid, cgroup } = self.0.of(protocol, client, local)?;
        Some(Asker::Process { uid, cgroup })
    }
}

fn beat(heartbeat: &Heartbeat) {
    if let Err(error) = heartbeat.beat() {
        tracing::error!(%error, "DNS is about to be left alone");
    }
}

/// A socket towards an upstream DNS server: marked, so that the kernel leaves it alone.
fn upstream_socket(
    factory: &SocketFactory,
    kind: SocketKind,
    server: SocketAddr,
) -> io::Result<OwnedFd> {
    let socket = plain_socket(kind, server)?;
    factory.mark(&socket)?;
    Ok(socket)
}

/// The resolver as the proxy asks for it.
pub(super) struct ForProxy {
    resolver: Resolver,
    /// Names that requests bring may lead to local addresses.
    anywhere: bool,
    own: OwnAddresses,
}

impl egressd_proxy::Resolver for ForProxy {
    fn cached(&self, name: &str, families: IpFamilies) -> Option<Addresses> {
        self.resolver.cached(name, families)
    }

    fn peek(&self, name: &str, families: IpFamilies) -> Option<Addresses> {
        self.resolver.peek(name, families)
    }

    fn follow(&self, told: NameListener) {
        self.resolver.follow(move |name, event| {
            let event = match event {
                egressd_dns::NameEvent::Changed => NameEvent::Changed,
                egressd_dns::NameEvent::Idle => NameEvent::Idle,
            };
            told(name, event);
        });
    }

    fn resolve<'a>(&'a self, name: &'a str, families: IpFamilies) -> Resolving<'a> {
        let looking = self.resolver.lookup(name, families, Origin::Cluster);
        Box::pin(async move { looking.await.map_err(|error| unresolved(name, &error)) })
    }

    fn want(&self, name: &str, families: IpFamilies) {
        self.resolver.want(name, families);
    }

    fn resolve_asked<'a>(
        &'a self,
        name: &'a str,
        families: IpFamilies,
        asker: egressd_proxy::Asker,
    ) -> Resolving<'a> {
        let asker = match asker {
            egressd_proxy::Asker::Process { uid, cgroup } => Asker::Process { uid, cgroup },
            egressd_proxy::Asker::Address(ip) => Asker::Address(ip),
        };
        let looking = self.resolver.lookup_for(asker, name, families);
        Box::pin(async move { looking.await.map_err(|error| unresolved(name, &error)) })
    }

    fn admits(&self, ip: IpAddr) -> bool {
        self.anywhere || !(egressd_proxy::is_local(ip) || self.own.contains(ip))
    }
}

fn unresolved(name: &str, error: &egressd_dns::ResolveError) -> egressd_proxy::ResolveError {
    egressd_proxy::ResolveError {
        name: name.into(),
        overload: error.is_overload(),
        reason: error.to_string().into(),
    }
}
