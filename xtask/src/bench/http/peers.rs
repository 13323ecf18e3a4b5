//! The proxies, each as its manual says: one thread, no access log, connections to the backend kept.

mod configs;

use std::{fmt::Write as _, fs, path::Path};

use anyhow::{Context as _, Result};
use egressd_tests::{Netns, Running, Spawn, until};
use tempfile::TempDir;

use super::Case;
use crate::bench::{
    peer,
    place::{BACKEND, LOAD_CPU, PROXY_CPU, Place},
};

/// Ports of the backend: HTTP/1.1, and HTTP/2 with prior knowledge. Proxies listen on the same.
const PORTS: [u16; 2] = [8080, 8081];
/// What egressd's clients dial; no machine has this address.
const VIP: &str = "240.240.0.1";
/// VirtualServices beside the one that is used, and rules of each.
const SERVICES: usize = 1000;
const RULES: usize = 20;

/// Who is measured.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Kind {
    /// No proxy.
    Direct,
    /// egressd as it comes, without an access log, as the others are.
    Egressd,
    /// egressd with its access log.
    Logging,
    /// egressd with a thousand VirtualServices of twenty rules.
    Rules,
    /// HAProxy.
    Haproxy,
    /// nginx.
    Nginx,
    /// Envoy.
    Envoy,
}

/// A proxy, and where its clients go.
pub(super) type Peer = peer::Peer<Kind>;

/// Starts the backend and all proxies. Envoy is left out where it is not installed; `ENVOY` names it.
pub(super) fn start(egressd: &Path) -> Result<(Place, Vec<Peer>)> {
    let envoy = peer::envoy();
    let folder = TempDir::with_prefix("egressd-bench-").context("a temporary folder")?;
    let backend = folder.path().join("backend.conf");
    fs::write(&backend, configs::backend(folder.path()))?;
    let place = Place::serving(|world| {
        let nginx = Spawn::new(["taskset", "--cpu-list", LOAD_CPU, "/usr/sbin/nginx", "-e"]);
        let running = nginx.arg("stderr").arg("-c").arg(&backend).netns(world).start();
        await_ports(world, "the backend");
        running
    });
    let mut kinds = vec![Kind::Direct, Kind::Egressd, Kind::Logging, Kind::Rules];
    kinds.extend([Kind::Haproxy, Kind::Nginx]);
    kinds.extend(envoy.iter().map(|_| Kind::Envoy));
    let mut peers = Vec::new();
    for (number, kind) in kinds.into_iter().enumerate() {
        let captured = matches!(kind, Kind::Egressd | Kind::Logging | Kind::Rules);
        let mut peer = Peer::new(kind, place.link(number + 1), captured)?;
        peer.process = peer.start(egressd, envoy.as_deref())?;
        peers.push(peer);
    }
    // nginx has read its file and keeps what it writes open.
    drop(folder);
    Ok((place, peers))
}

fn await_ports(netns: &Netns, who: &str) {
    for port in PORTS {
        until(&format!("{who} to listen on {port}"), || peer::listens(netns, port).then_some(()));
    }
}

impl Peer {
    /// What a client of this proxy asks for.
    pub(super) fn url(&self, case: Case) -> String {
        let ip = match self.kind {
            Kind::Direct => BACKEND,
            Kind::Egressd | Kind::Logging | Kind::Rules => VIP,
            Kind::Haproxy | Kind::Nginx | Kind::Envoy => "127.0.0.1",
        };
        let [one, two] = PORTS;
        match case {
            Case::One | Case::Many => format!("http://{ip}:{one}/"),
            Case::Http2 => format!("http://{ip}:{two}/"),
            Case::Grpc => format!("http://{ip}:{two}/test.Echo/unary"),
        }
    }

    fn start(&self, egressd: &Path, envoy: Option<&str>) -> Result<Option<Running>> {
        Ok(match self.kind {
            Kind::Direct => None,
            Kind::Egressd => Some(self.egressd(egressd, "", &[("http", service())])?),
            Kind::Logging => {
                let log = self.folder.path().join("access.log");
                Some(self.egressd(egressd, &log.to_string_lossy(), &[("http", service())])?)
            }
            Kind::Rules => Some(self.egressd(egressd, "", &[("http", service() + &rules())])?),
            Kind::Haproxy => {
                let config = self.write("haproxy.cfg", configs::HAPROXY)?;
                Some(self.run(&["haproxy", "-db", "-f", &config]))
            }
            Kind::Nginx => {
                let config = self.write("nginx.conf", &configs::nginx(self.folder.path()))?;
                Some(self.run(&["/usr/sbin/nginx", "-e", "stderr", "-c", &config]))
            }
            Kind::Envoy => {
                let config = self.write("envoy.yaml", &configs::envoy())?;
                let program = envoy.context("no Envoy")?;
                let words = ["--concurrency", "1", "--disable-hot-restart", "-l", "warning"];
                Some(self.run(&[&[program, "-c", &config][..], &words].concat()))
            }
        })
    }

    /// Starts a proxy on its processor, and waits until it listens.
    fn run(&self, words: &[&str]) -> Running {
        let words = ["taskset", "--cpu-list", PROXY_CPU].iter().chain(words);
        let process = Spawn::new(words).netns(&self.netns).start();
        await_ports(&self.netns, self.kind.name());
        process
    }
}

/// The service that is asked for.
fn service() -> String {
    let [one, two] = PORTS;
    format!(
        "apiVersion: networking.istio.io/v1\n\
         kind: ServiceEntry\n\
         metadata: {{name: app}}\n\
         spec:\n\
         \x20 hosts: [app.example.test]\n\
         \x20 addresses: [{VIP}]\n\
         \x20 ports:\n\
         \x20 - {{number: {one}, name: http, protocol: HTTP}}\n\
         \x20 - {{number: {two}, name: http2, protocol: HTTP2}}\n\
         \x20 resolution: STATIC\n\
         \x20 endpoints: [{{address: {BACKEND}}}]\n"
    )
}

/// Many rules: of the service that is asked for, of which the last one fits, and of others.
fn rules() -> String {
    let [one, _] = PORTS;
    let mut text = String::new();
    for number in 0..=SERVICES {
        let host = if number == 0 { "app".to_owned() } else { format!("app{number}") };
        if number > 0 {
            // Writing to a String cannot fail.
            write!(
                text,
                "---\napiVersion: networking.istio.io/v1\nkind: ServiceEntry\n\
                 metadata: {{name: {host}}}\nspec: {{hosts: [{host}.example.test], resolution: STATIC, \
                 ports: [{{number: {one}, name: http, protocol: HTTP}}], \
                 endpoints: [{{address: {BACKEND}}}]}}\n"
            )
            .ok();
        }
        write!(
            text,
            "---\napiVersion: networking.istio.io/v1\nkind: VirtualService\n\
             metadata: {{name: {host}}}\nspec:\n  hosts: [{host}.example.test]\n  http:\n"
        )
        .ok();
        for rule in 1..=RULES {
            let fits = if rule == RULES { "/".to_owned() } else { format!("/rule/{rule}") };
            writeln!(
                text,
                "  - {{match: [{{uri: {{prefix: {fits}}}}}], \
                 route: [{{destination: {{host: {host}.example.test}}}}]}}"
            )
            .ok();
        }
    }
    text
}

impl Kind {
    /// The head of its column.
    pub(super) fn name(self) -> &'static str {
        match self {
            Self::Direct => "direct",
            Self::Egressd => "egressd",
            Self::Logging => "with log",
            Self::Rules => "20,000 rules",
            Self::Haproxy => "HAProxy",
            Self::Nginx => "nginx",
            Self::Envoy => "Envoy",
        }
    }

    /// Whether egressd is measured against it.
    pub(super) fn is_other(self) -> bool {
        matches!(self, Self::Haproxy | Self::Nginx | Self::Envoy)
    }
}
