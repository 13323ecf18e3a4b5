//! The daemon: put together, run, reloaded, drained, taken apart.

use std::{
    net::SocketAddr,
    path::Path,
    sync::Arc,
    time::{Duration, Instant},
};

use egressd_datapath::{Datapath, DnsSockets, Listeners, MARK, Notice};
use egressd_dns::Changes;
use egressd_proxy::{
    AccessLog, Encoding, LoopGuard, Mark, Parts, Records, Server, Snapshot, SocketFactory, Template,
};
use tokio::{
    signal::unix::{Signal, SignalKind, signal},
    sync::mpsc::{UnboundedReceiver, UnboundedSender, unbounded_channel},
};

use super::{
    Failure,
    adapt::{self, Handoffs, Switch},
    diff::Diff,
    direct::{DirectPath, Hearing},
    dns::{self, Dns, Plan},
    doors::TRY_AGAIN,
    in_force::InForce,
    known_hosts,
    namespaces::{Namespaces, SWEEP},
    notify::Notify,
    report, settings,
    state::{Measuring, State},
    watchdog::{Pulse, Reading, Watchdog},
};
use crate::{
    admin::{self, AdminSocket},
    config::{AccessLogSettings, Config, DnsCapture, LogEncoding, Namespaces::Own},
    memory,
    metrics::Metrics,
    store::{Generation, Store},
    watch::{Changed, Watch},
};

/// Runs from the first generation to the end.
pub(super) async fn run(
    config: &Config,
    access_log: &AccessLogSettings,
    store: Store,
    files: Option<Watch>,
    generation: Generation,
    findings: report::Told,
) -> Result<(), Failure> {
    // From here on a signal asks; before, it ends the process, which has done nothing yet.
    let signals = Signals::new()?;
    let capture = match (&config.dns.capture, store.captures_dns()) {
        (_, false) => DnsCapture::Off,
        (Some(capture), true) => capture.clone(),
        (None, true) => DnsCapture::ResolvConf,
    };
    let (plan, changes) = Plan::read(config, &capture, store.dns_refresh_rate())?;
    let mut datapath = Datapath::load(settings(config, &plan))?;
    let listeners = Listeners::bind(config.capture.port)?;
    datapath.configure(&listeners)?;
    datapath.learn_addresses()?;
    let socket = config.admin_socket.display();
    let admin = AdminSocket::bind(&config.admin_socket)
        .await
        .map_err(Failure::machine(format!("listening at {socket} (see adminSocket)")))?;
    let metrics =
        match config.metrics_address {
            Some(address) => Some(tokio::net::TcpListener::bind(address).await.map_err(
                Failure::machine(format!("listening at {address} (see metricsAddress)")),
            )?),
            None => None,
        };
    let log = open_log(access_log)?;
    let records = Arc::new(Switch::new(log, Metrics::new(store.node())));
    let snapshot = Arc::new(Snapshot::new(Arc::clone(&generation.tables)));
    let guard = LoopGuard::new(adapt::vip_ranges());
    let factory = Arc::new(SocketFactory::new(Some(Mark(MARK)), guard));
    let dns = Dns::start(&plan, &factory, datapath.heartbeat())?;
    if dns.is_serving() {
        let sockets = DnsSockets::bind(config.capture.dns_port(), dns::threads())?;
        datapath.tag_dns(&sockets)?;
        datapath.set_dns_servers(plan.listed())?;
        dns.listen(sockets).map_err(Failure::machine("serving the DNS sockets"))?;
    }
    let direct =
        DirectPath::start(datapath.direct(), &snapshot, Arc::new(dns.resolver()), &factory)?;
    let hearing = direct.hearing();
    let parts = Parts {
        snapshot: Arc::clone(&snapshot),
        factory,
        resolver: Arc::new(dns.resolver()),
        originals: Arc::new(Handoffs(datapath.originals())),
        records: Arc::clone(&records) as _,
        sources: config.tls.clone(),
    };
    let path_normalization = generation.tables.path_normalization();
    let http = egressd_proxy::HttpSettings { path_normalization, ..config.http };
    let limits = egressd_proxy::Config { http, ..egressd_proxy::Config::default() };
    let server = Server::new(limits, parts).map_err(Failure::machine("starting the proxy"))?;
    for socket in listeners.into_sockets() {
        server.serve(socket).map_err(Failure::machine("serving a listener"))?;
    }
    let state = Arc::new(State::new(
        datapath,
        server,
        dns,
        records,
        snapshot,
        config.capture.clone(),
        direct,
    ));
    let (notices, told) = unbounded_channel();
    let (records, in_force) = (Arc::clone(&state.records), Arc::clone(&state.in_force));
    let hear = move |notice| tell(notice, records.as_ref(), &in_force, &hearing, &notices);
    let watch = state.datapath().watch(hear)?;
    state.publish(&generation)?;
    // Whoever needs it has it, for as long as it is in force.
    drop(generation);
    state.datapath().attach()?;
    state.dns.captured();
    for cgroup in state.datapath().cgroups() {
        tracing::info!(cgroup = %cgroup.display(), "capturing");
    }
    let main = Pulse::default();
    let watchdog = Watchdog::start(main.clone(), parts_of(&state), Notify::from_env())?;
    let manager = Notify::from_env();
    tracing::info!("ready");
    manager.say("READY=1");
    memory::give_back();
    memory::forget_the_start();
    let answering = Arc::clone(&state);
    let serving = async move { admin.serve(move |command| answer(&answering, command)).await };
    let serving = tokio::spawn(serving);
    let answering = Arc::clone(&state);
    let metrics = metrics.map(|listener| {
        tokio::spawn(admin::serve_tcp(listener, move |command| match command {
            "metrics" => answering.metrics(),
            _ => serde_json::json!({"error": "there is /metrics"}).to_string(),
        }))
    });
    let mut work =
        Work { state: Arc::clone(&state), store, files, changes, told, signals, findings };
    work.until_told_to_stop(&main).await;
    watchdog.drain();
    manager.say("STOPPING=1");
    tracing::info!(flows = state.server.stats().active, "draining");
    let kept = config.keep && state.datapath().keep();
    if config.keep && !kept {
        tracing::warn!("--keep has no effect: nothing is pinned (see capture.pinDirectory)");
    }
    if !kept {
        state.datapath().stop_capture();
    }
    work.drain(config.drain_timeout).await;
    serving.abort();
    if let Some(metrics) = metrics {
        metrics.abort();
        drop(metrics.await);
    }
    // Its listener and its path go before we say that we have stopped.
    drop(serving.await);
    drop((watch, watchdog, work, state));
    tracing::info!("stopped");
    Ok(())
}

/// What is watched beside the main loop.
fn parts_of(state: &Arc<State>) -> Vec<(String, Reading)> {
    let tasks = Pulse::default();
    let beating = tasks.clone();
    // Ends with the event loop.
    tokio::spawn(async move {
        let mut interval = tokio::time::interval(LOOK);
        loop {
            interval.tick().await;
            beating.beat();
        }
    });
    let mut parts: Vec<(String, Reading)> =
        vec![("administration and names of clusters".to_owned(), Box::new(move || tasks.count()))];
    if let Some(pulse) = state.dns.pulse() {
        parts.push(("DNS server".to_owned(), Box::new(move || pulse.count())));
    }
    for (number, pulse) in state.server.pulses().into_iter().enumerate() {
        parts.push((format!("proxy worker {number}"), pulse));
    }
    parts
}

/// What the daemon is told from outside.
struct Signals {
    terminate: Signal,
    interrupt: Signal,
    hangup: Signal,
}

impl Signals {
    fn new() -> Result<Self, Failure> {
        let listen = |kind| signal(kind).map_err(Failure::machine("waiting for signals"));
        Ok(Self {
            terminate: listen(SignalKind::terminate())?,
            interrupt: listen(SignalKind::interrupt())?,
            hangup: listen(SignalKind::hangup())?,
        })
    }

    async fn next(&mut self) -> Happening {
        tokio::select! {
            _ = self.terminate.recv() => Happening::Stop,
            _ = self.interrupt.recv() => Happening::Stop,
            _ = self.hangup.recv() => Happening::Hangup,
        }
    }

    /// Waits until the daemon is told to stop.
    async fn stop(&mut self) {
        tokio::select! {
            _ = self.terminate.recv() => {}
            _ = self.interrupt.recv() => {}
        }
    }
}

/// What happens while the daemon runs.
struct Work {
    state: Arc<State>,
    store: Store,
    files: Option<Watch>,
    changes: Changes,
    told: UnboundedReceiver<Notice>,
    signals: Signals,
    findings: report::Told,
}

/// One thing that happens.
enum Happening {
    Stop,
    Hangup,
    Changed(Changed),
    Told(Notice),
    Look,
    Sweep,
    Doors,
}

impl Work {
    async fn until_told_to_stop(&mut self, pulse: &Pulse) {
        let namespaces = Arc::new(Namespaces::default());
        let mut sweep = tokio::time::interval(SWEEP);
        let mut look = tokio::time::interval(LOOK);
        let mut doors = tokio::time::interval(TRY_AGAIN);
        doors.set_missed_tick_behavior(tokio::time::MissedTickBehavior::Skip);
        loop {
            let happening = tokio::select! {
                told = self.signals.next() => told,
                changed = changed(&mut self.files) => Happening::Changed(changed),
                Some(notice) = self.told.recv() => Happening::Told(notice),
                _ = look.tick() => Happening::Look,
                _ = sweep.tick() => Happening::Sweep,
                _ = doors.tick() => Happening::Doors,
            };
            pulse.beat();
            match happening {
                Happening::Stop => return,
                Happening::Hangup => self.hang_up(),
                Happening::Changed(Changed::Roots) => {
                    // Before everything is read, so that no edit falls between.
                    self.files = watch(&self.store.watched());
                    self.reload(&Changed::Anything);
                }
                Happening::Changed(changed) => self.reload(&changed),
                Happening::Told(notice) => self.hear(&namespaces, notice),
                Happening::Look => self.look_at_resolv_conf(),
                Happening::Doors => self.state.try_doors_again(),
                Happening::Sweep => {
                    let (namespaces, state) = (Arc::clone(&namespaces), Arc::clone(&self.state));
                    tokio::task::spawn_blocking(move || {
                        namespaces.sweep(&state);
                        sweep_handoffs(&state);
                    });
                }
            }
        }
    }

    /// SIGHUP: logs are opened anew and everything is read again.
    fn hang_up(&mut self) {
        self.state.records.reopen();
        self.files = watch(&self.store.watched());
        self.reload(&Changed::Anything);
    }

    /// Lets flows end, for as long as the configuration says or until told a second time.
    async fn drain(&mut self, limit: Duration) {
        let end = self.state.server.shutdown(limit);
        tokio::pin!(end);
        let drained = loop {
            tokio::select! {
                drained = &mut end => break drained,
                () = self.signals.stop() => self.state.server.end_now(),
            }
        };
        tracing::info!(finished = drained.finished, reset = drained.reset, "drained");
    }

    /// Puts a new generation in force, or says why there is none.
    fn reload(&mut self, changed: &Changed) {
        let start = Instant::now();
        let generation = match self.store.reload(changed) {
            Ok(generation) => generation,
            Err(error) => {
                self.findings.rejected(&error);
                return;
            }
        };
        let compiled_ms = start.elapsed().as_millis();
        self.findings.generation(&generation);
        match self.state.publish(&generation) {
            Ok((number, Diff { added, changed, removed, rows })) => tracing::info!(
                generation = number, %added, %changed, %removed, kernel_rows = rows, compiled_ms,
                in_force_ms = start.elapsed().as_millis(), "reloaded"
            ),
            Err(error) => tracing::error!(%error, "the kernel keeps the generation before"),
        }
        drop(generation);
        memory::give_back();
    }

    /// Follows what the system says about DNS: first who is asked, then whose queries are captured.
    fn look_at_resolv_conf(&mut self) {
        let Some(system) = self.changes.look() else { return };
        let show = |servers: &[SocketAddr]| {
            servers.iter().map(SocketAddr::to_string).collect::<Vec<_>>().join(",")
        };
        tracing::info!(
            servers = show(&system.servers),
            upstreams = show(&system.upstreams),
            source = %system.source.display(),
            "the system's DNS servers have changed"
        );
        let captured = self.state.dns.follow(system);
        if let Err(error) = self.state.datapath().set_dns_servers(&captured) {
            tracing::error!(%error, "capturing queries to the system's DNS servers");
        }
    }

    fn hear(&self, namespaces: &Arc<Namespaces>, notice: Notice) {
        match notice {
            Notice::NewNetns { .. } if self.state.capture().namespaces == Own => {}
            Notice::NewNetns { socket } => namespaces.enter_soon(&self.state, socket),
            Notice::Addresses => {
                if let Err(error) = self.state.datapath().learn_addresses() {
                    tracing::warn!(%error, "learning our addresses");
                }
            }
            Notice::Denied { .. } | Notice::Direct(_) => {}
        }
    }
}

/// How often resolv.conf is looked at: a change counts the second time it is seen.
const LOOK: Duration = Duration::from_millis(500);

/// Takes away what failed handshakes have left in the kernel.
fn sweep_handoffs(state: &State) {
    let swept = state.datapath().sweep_handoffs();
    if swept > 0 {
        tracing::debug!(swept, "hand-offs that nobody took");
    }
}

/// Watches resources; without that, SIGHUP still works.
pub(super) fn watch(paths: &[std::path::PathBuf]) -> Option<Watch> {
    Watch::start(paths)
        .inspect_err(|error| tracing::warn!(%error, "resources are not watched; use SIGHUP"))
        .ok()
}

async fn changed(files: &mut Option<Watch>) -> Changed {
    match files {
        Some(files) => files.changed().await,
        None => std::future::pending().await,
    }
}

/// Hears the kernel side, on the thread that reads its events: denied connections become records at
/// once, the rest waits its turn.
fn tell(
    notice: Notice,
    records: &dyn Records,
    in_force: &InForce,
    hearing: &Hearing,
    others: &UnboundedSender<Notice>,
) {
    match notice {
        Notice::Denied { at, socket, why, errno } => {
            let host = in_force.host(socket.generation, socket.service);
            tracing::debug!(
                destination = %socket.destination,
                host = host.as_deref().unwrap_or("-"),
                ?why,
                errno,
                pid = socket.pid,
                "connect() denied"
            );
            records.record(&adapt::denied(at, socket));
        }
        Notice::NewNetns { .. } | Notice::Addresses => {
            // Nobody listens any more when the daemon ends.
            others.send(notice).ok();
        }
        Notice::Direct(record) => records.record(&hearing.hear(&record)),
    }
}

fn open_log(config: &AccessLogSettings) -> Result<Option<AccessLog>, Failure> {
    if config.path.is_empty() {
        return Ok(None);
    }
    let encoding = match (config.encoding, &config.format) {
        (LogEncoding::Text, None) => Encoding::Text,
        (LogEncoding::Text, Some(format)) => {
            let template = Template::new(format);
            for command in template.unknown() {
                tracing::warn!(command, "accessLogFormat has a command that is not known: `-`");
            }
            Encoding::Custom(template)
        }
        (LogEncoding::Json, None) => Encoding::Json,
        (LogEncoding::Json, Some(_)) => {
            tracing::warn!("accessLogFormat is for TEXT: JSON has Istio's default keys");
            Encoding::Json
        }
    };
    AccessLog::open(Path::new(&config.path), encoding)
        .map(Some)
        .map_err(Failure::machine("opening the access log (see accessLog.path)"))
}

fn answer(state: &State, command: &str) -> String {
    match command {
        "status" => state.status().to_string(),
        "metrics" => state.metrics(),
        "direct" => state.direct_counts().to_string(),
        "programs" => state.programs(),
        "programs on" => state.measure(Measuring::On),
        "programs off" => state.measure(Measuring::Off),
        "vips" => known_hosts::json(state)
            .unwrap_or_else(|error| serde_json::json!({"error": error.to_string()}))
            .to_string(),
        _ => serde_json::json!({"error": format!("no command `{command}`")}).to_string(),
    }
}
