//! Where it happens: the namespace of the backend, and one for each proxy.

use std::path::Path;

use egressd_tests::{Netns, Running, Spawn};

/// The processor of the load and the backend.
pub(super) const LOAD_CPU: &str = "0";
/// The proxy's.
pub(super) const PROXY_CPU: &str = "1";
/// Where the backend listens.
pub(super) const BACKEND: &str = "10.78.0.1";
/// Its ports: what is dialled by address, and by SNI.
pub(super) const PORTS: [u16; 2] = [9000, 9443];

/// The backend in its namespace.
pub(super) struct Place {
    world: Netns,
    _backend: Running,
}

impl Place {
    /// Starts the backend.
    pub(super) fn new(load: &Path) -> Self {
        let world = world();
        let mut backend = Spawn::new(["taskset", "--cpu-list", LOAD_CPU]).arg(load).arg("backend");
        for port in PORTS {
            backend = backend.arg(format!("{BACKEND}:{port}"));
        }
        let mut backend = backend.netns(&world).start();
        backend.wait_stdout("that it listens", |line| line.trim() == "listening");
        Self { world, _backend: backend }
    }

    /// Runs a backend of another kind.
    pub(super) fn serving(start: impl FnOnce(&Netns) -> Running) -> Self {
        let world = world();
        let backend = start(&world);
        Self { world, _backend: backend }
    }

    /// A namespace from which the backend is reached, the `number`th.
    pub(super) fn link(&self, number: usize) -> Netns {
        let netns = Netns::new();
        tune(&netns);
        let (here, there) = (format!("10.78.{number}.2/24"), format!("10.78.{number}.1/24"));
        netns.link("up0", &[&here], &self.world, &format!("down{number}"), &[&there]);
        netns.ip(&format!("route add default via 10.78.{number}.1"));
        netns
    }
}

/// The backend's namespace.
fn world() -> Netns {
    let world = Netns::new();
    tune(&world);
    world.ip(&format!("address add {BACKEND}/32 dev lo"));
    world
}

/// Room for many connections one after the other.
fn tune(netns: &Netns) {
    for (key, value) in [
        ("ipv4/ip_local_port_range", "10000 65535"),
        ("ipv4/tcp_max_tw_buckets", "4096"),
        ("ipv4/tcp_tw_reuse", "1"),
        ("ipv4/tcp_max_syn_backlog", "65535"),
        ("core/somaxconn", "65535"),
        // Not the host's choice, which may pace; allowed everywhere, and without loss like cubic.
        ("ipv4/tcp_congestion_control", "reno"),
    ] {
        netns.sysctl(key, value);
    }
}
