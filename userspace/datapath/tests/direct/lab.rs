//! A network namespace, a cgroup whose processes are captured, and servers.

use std::{
    collections::BTreeMap,
    fs,
    io::{Read as _, Write as _},
    net::{Shutdown, SocketAddr, TcpListener, TcpStream, UdpSocket},
    path::PathBuf,
    process::{Child, Command, Stdio},
    sync::{
        Arc, Mutex, MutexGuard, PoisonError,
        mpsc::{Receiver, channel},
    },
    time::{Duration, Instant},
};

use egressd_abi::{Row, RowKey};
use egressd_datapath::{
    Datapath, DirectClusters, DirectEndpoint, DirectLevel, DirectRecord, DirectRoute, DirectTarget,
    DirectView, Error, KernelTable, Listeners, Notice, Settings, Watch, cgroup2_root,
};
use nix::sched::{CloneFlags, unshare};
use socket2::SockRef;

/// The process enters a cgroup of its own while a datapath is there: one at a time.
static ONE: Mutex<()> = Mutex::new(());

/// How long anything may take.
pub(crate) const LIMIT: Duration = Duration::from_secs(10);

pub(crate) struct Lab {
    daemon: Option<Daemon>,
    pub(crate) table: KernelTable,
    generation: u32,
    pins: Option<PathBuf>,
    pub(crate) cgroup: Cgroup,
    _one: MutexGuard<'static, ()>,
}

/// What goes with the daemon.
struct Daemon {
    _watch: Watch,
    datapath: Datapath,
    clusters: DirectClusters,
    records: Receiver<DirectRecord>,
    proxy: Vec<TcpListener>,
}

/// A cgroup of this test's own, removed at its end.
pub(crate) struct Cgroup(pub(crate) PathBuf);

impl Drop for Cgroup {
    fn drop(&mut self) {
        let start = Instant::now();
        while fs::remove_dir(&self.0).is_err() {
            assert!(start.elapsed() < LIMIT, "processes are left in {}", self.0.display());
            std::thread::sleep(Duration::from_millis(10));
        }
    }
}

impl Lab {
    pub(crate) fn new() -> Self {
        Self::with_pins(None)
    }

    pub(crate) fn with_pins(pins: Option<PathBuf>) -> Self {
        let one = ONE.lock().unwrap_or_else(PoisonError::into_inner);
        unshare(CloneFlags::CLONE_NEWNET).unwrap();
        run("ip link set lo up");
        let name = format!("egressd-direct-test-{}", std::process::id());
        let cgroup = Cgroup(cgroup2_root().unwrap().join(name));
        fs::create_dir(&cgroup.0).unwrap();
        let table = KernelTable::default();
        let mut lab = Self { daemon: None, table, generation: 0, pins, cgroup, _one: one };
        lab.start_daemon();
        lab
    }

    /// Starts a daemon with the table that there is, as the agent does.
    pub(crate) fn start_daemon(&mut self) {
        self.try_start_daemon().unwrap();
    }

    pub(crate) fn try_start_daemon(&mut self) -> Result<(), Error> {
        let settings = Settings {
            cgroups: vec![self.cgroup.0.clone()],
            port: 15001,
            reject_on_proxy_down: true,
            dns: None,
            pins: self.pins.clone(),
        };
        let mut datapath = Datapath::load(settings).unwrap();
        let listeners = Listeners::bind(15001)?;
        datapath.configure(&listeners).unwrap();
        let listeners = listeners.into_sockets();
        let proxy = listeners.iter().map(|listener| listener.try_clone().unwrap()).collect();
        for listener in listeners {
            serve(listener, "proxy".to_owned());
        }
        let (sender, records) = channel();
        let watch = datapath.watch(move |notice| {
            if let Notice::Direct(record) = notice {
                // A test that is over hears nothing.
                drop(sender.send(*record));
            }
        });
        let watch = watch.unwrap().unwrap();
        self.generation += 1;
        datapath.prepare(self.generation, &self.table).unwrap();
        datapath.flip().unwrap();
        datapath.attach().unwrap();
        let clusters = datapath.direct();
        self.daemon = Some(Daemon { _watch: watch, datapath, clusters, records, proxy });
        Ok(())
    }

    /// Ends the daemon; what is pinned stays, or goes.
    pub(crate) fn end_daemon(&mut self, keep: bool) {
        let mut daemon = self.daemon.take().unwrap();
        assert!(!keep || daemon.datapath.keep());
        for listener in &daemon.proxy {
            SockRef::from(listener).shutdown(Shutdown::Both).unwrap();
        }
    }

    pub(crate) fn datapath(&self) -> &Datapath {
        &self.daemon.as_ref().unwrap().datapath
    }

    pub(crate) fn clusters(&self) -> &DirectClusters {
        &self.daemon.as_ref().unwrap().clusters
    }

    pub(crate) fn records(&self) -> &Receiver<DirectRecord> {
        &self.daemon.as_ref().unwrap().records
    }

    /// Adds a row that sends its connections to clusters by weight.
    pub(crate) fn route(&mut self, vip: &str, clusters: &[(&str, u32)]) {
        let index = u32::try_from(self.table.directs.len()).unwrap();
        let clusters = clusters.iter().map(|(name, weight)| ((*name).into(), *weight)).collect();
        self.table.directs.push(DirectRoute { clusters });
        self.table.exact.insert(key(vip), Row::new_direct(7, index));
        self.flip();
    }

    /// The same for datagrams.
    pub(crate) fn route_udp(&mut self, vip: &str, cluster: &str) {
        let index = u32::try_from(self.table.directs.len()).unwrap();
        let clusters = vec![(cluster.into(), 1)];
        self.table.directs.push(DirectRoute { clusters });
        self.table.exact.insert(key(vip).udp(), Row::new_direct(7, index).allocated());
        self.flip();
    }

    /// Puts the table in force.
    pub(crate) fn flip(&mut self) {
        self.generation += 1;
        let datapath = &mut self.daemon.as_mut().unwrap().datapath;
        datapath.prepare(self.generation, &self.table).unwrap();
        datapath.flip().unwrap();
    }

    pub(crate) fn set(&self, cluster: &str, view: &DirectView) {
        self.clusters().set_cluster(cluster, view).unwrap();
    }

    /// Runs a Python script inside the cgroup, and gives what it printed.
    pub(crate) fn python(&self, script: &str) -> String {
        let child = self.start(script);
        let output = child.wait_with_output().unwrap();
        String::from_utf8_lossy(&output.stdout).into_owned()
            + &String::from_utf8_lossy(&output.stderr)
    }

    /// Starts a Python script inside the cgroup.
    pub(crate) fn start(&self, script: &str) -> Child {
        let inside = format!(
            "echo $$ > {}/cgroup.procs; exec /usr/bin/python3 -c \"$SCRIPT\"",
            self.cgroup.0.display()
        );
        let script =
            format!("from socket import *\nimport time, struct, os, sys\n{HELPERS}{script}");
        Command::new("bash")
            .args(["-c", &inside])
            .env("SCRIPT", script)
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .stderr(Stdio::piped())
            .spawn()
            .unwrap()
    }

    pub(crate) fn record(&self) -> DirectRecord {
        self.records().recv_timeout(LIMIT).expect("a record")
    }

    /// The connections that a cluster counts.
    pub(crate) fn active(&self, cluster: &str) -> u64 {
        let counts = self.clusters().counts();
        let of = counts.into_iter().find(|counts| &*counts.cluster == cluster);
        of.map_or(0, |counts| {
            let sum: u64 = counts.endpoints.iter().map(|(_, active, _)| active).sum();
            assert!(sum <= counts.active, "{counts:?}");
            counts.active
        })
    }

    /// Waits until a cluster counts so many connections.
    pub(crate) fn wait_active(&self, cluster: &str, wanted: u64) {
        wait(|| self.active(cluster) == wanted, || format!("{:?}", self.clusters().counts()));
    }

    pub(crate) fn counter(&self, name: &str) -> u64 {
        let counters: BTreeMap<_, _> = self.datapath().counters().unwrap().into_iter().collect();
        counters[name]
    }
}

/// What clients share: `dial` says whom it reached, and what getpeername() says.
const HELPERS: &str = "
def tcp(to, family=None, timeout=5):
    family = family or (AF_INET6 if ':' in to[0] else AF_INET)
    s = socket(family, SOCK_STREAM); s.settimeout(timeout); s.connect(to); return s
def dial(to, family=None):
    try:
        s = tcp(to, family)
        said = s.recv(100).decode()
        print(said, s.getpeername()[0], s.getpeername()[1]); s.close()
    except OSError as e:
        print(e.errno)
";

pub(crate) fn wait(mut done: impl FnMut() -> bool, said: impl Fn() -> String) {
    let start = Instant::now();
    while !done() {
        assert!(start.elapsed() < LIMIT, "{}", said());
        std::thread::sleep(Duration::from_millis(5));
    }
}

pub(crate) fn run(command: &str) {
    assert!(Command::new("bash").args(["-c", command]).status().unwrap().success(), "{command}");
}

pub(crate) fn key(address: &str) -> RowKey {
    RowKey::from(address.parse::<SocketAddr>().unwrap())
}

/// A view of one level.
pub(crate) fn view(endpoints: &[(&str, u64)]) -> DirectView {
    views(&[(100, endpoints)])
}

/// A view of several levels: the end of the load of each, and its endpoints with their weights.
pub(crate) fn views(levels: &[(u32, &[(&str, u64)])]) -> DirectView {
    let level = |(load_end, endpoints): &(u32, &[(&str, u64)])| DirectLevel {
        load_end: *load_end,
        endpoints: endpoints
            .iter()
            .map(|(address, weight)| {
                let address: SocketAddr = address.parse().unwrap();
                let hash = egressd_abi::mix(egressd_abi::hash_ip(address.ip()) + 1);
                DirectEndpoint { address, weight: *weight, hash }
            })
            .collect(),
    };
    let target = DirectTarget::Endpoints(levels.iter().map(level).collect());
    DirectView { target, ..DirectView::default() }
}

/// A server that says its name to everybody and waits until he has gone.
pub(crate) fn server(address: &str) {
    serve(TcpListener::bind(address).unwrap(), address.to_owned());
}

/// Answers every datagram with its name.
pub(crate) fn datagrams(address: &str) {
    let socket = UdpSocket::bind(address).unwrap();
    let name = address.to_owned();
    std::thread::spawn(move || {
        let mut buffer = [0; 100];
        while let Ok((_, from)) = socket.recv_from(&mut buffer) {
            // The client may have gone.
            drop(socket.send_to(name.as_bytes(), from));
        }
    });
}

fn serve(listener: TcpListener, name: String) {
    listener.set_nonblocking(false).unwrap();
    let name: Arc<str> = name.into();
    std::thread::spawn(move || {
        for accepted in listener.incoming() {
            let Ok(accepted) = accepted else { return };
            let name = Arc::clone(&name);
            std::thread::spawn(move || talk(accepted, &name));
        }
    });
}

fn talk(mut accepted: TcpStream, name: &str) {
    // Clients may go at any time.
    if accepted.write_all(name.as_bytes()).is_ok() {
        let mut rest = Vec::new();
        drop(accepted.read_to_end(&mut rest));
    }
}
