//! The proxies, each as its manual says: one thread, no access log, no limits on the way.

mod egressd;
mod envoy;
mod haproxy;
mod nginx;

use std::{path::Path, process::Stdio};

use anyhow::{Context as _, Result, bail};
use egressd_tests::{Running, Spawn, until};

use super::Case;
use crate::{
    bench::{
        peer,
        place::{BACKEND, PORTS, PROXY_CPU, Place},
        usage,
    },
    cmd,
};

/// What the clients dial, except without a proxy; no machine has these addresses.
const VIP: (&str, u16) = ("240.240.0.1", 9000);
const SNI_VIP: (&str, u16) = ("240.240.0.2", 443);
/// The name that clients ask for.
pub(super) const SNI: &str = "app.example.test";
/// The user that the other proxies run as, by which their own connections are known.
const USER: &str = "1337";

/// Who is measured.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Kind {
    /// No proxy.
    Direct,
    /// egressd as it comes, without an access log, as the others are.
    Egressd,
    /// egressd with its access log.
    Logging,
    /// HAProxy with splice(2).
    Haproxy,
    /// nginx's stream module.
    Nginx,
    /// Envoy.
    Envoy,
}

/// All that there are.
pub(super) struct Peers<'a> {
    pub(super) all: Vec<Peer>,
    programs: Programs<'a>,
}

/// A proxy, and where its clients go.
pub(super) type Peer = peer::Peer<Kind>;

/// Where the programs are.
struct Programs<'a> {
    egressd: &'a Path,
    envoy: Option<String>,
}

impl<'a> Peers<'a> {
    /// Starts them. Envoy is left out where it is not installed; `ENVOY` names it.
    pub(super) fn start(place: &Place, egressd: &'a Path) -> Result<Self> {
        let envoy = peer::envoy();
        let mut kinds =
            vec![Kind::Direct, Kind::Egressd, Kind::Logging, Kind::Haproxy, Kind::Nginx];
        kinds.extend(envoy.iter().map(|_| Kind::Envoy));
        let mut peers = Self { all: Vec::new(), programs: Programs { egressd, envoy } };
        for (number, kind) in kinds.into_iter().enumerate() {
            let captured = matches!(kind, Kind::Egressd | Kind::Logging);
            peers.all.push(Peer::new(kind, place.link(number + 1), captured)?);
            peers.restart(number)?;
        }
        Ok(peers)
    }

    /// Ends the proxy, if it runs, and starts it anew.
    pub(super) fn restart(&mut self, at: usize) -> Result<()> {
        let Some(peer) = self.all.get_mut(at) else { bail!("there is no proxy number {at}") };
        if let Some(process) = peer.process.take() {
            // Its workers, too: a master that is killed does not end them.
            for pid in usage::family(process.pid()) {
                cmd::output(std::process::Command::new("kill").arg(pid.to_string())).ok();
            }
            process.wait();
        }
        peer.process = match peer.kind {
            Kind::Direct => None,
            Kind::Egressd => Some(egressd::start(peer, self.programs.egressd, "")?),
            Kind::Logging => {
                let log = peer.folder.path().join("access.log");
                Some(egressd::start(peer, self.programs.egressd, &log.to_string_lossy())?)
            }
            Kind::Haproxy => Some(haproxy::start(peer)?),
            Kind::Nginx => Some(nginx::start(peer)?),
            Kind::Envoy => {
                let program = self.programs.envoy.as_deref().context("no Envoy")?;
                Some(envoy::start(peer, program)?)
            }
        };
        Ok(())
    }
}

impl Peer {
    /// What a client of this proxy dials.
    pub(super) fn address(&self, case: Case) -> String {
        let (ip, port) = match (self.kind, case) {
            (Kind::Direct, Case::Sni) => (BACKEND, PORTS[1]),
            (Kind::Direct, _) => (BACKEND, PORTS[0]),
            (_, Case::Sni) => SNI_VIP,
            (_, _) => VIP,
        };
        format!("{ip}:{port}")
    }

    /// Starts a proxy that is given its connections by the packet filter, and waits until it
    /// listens on these ports: for what is dialled by address, and by SNI.
    fn start_behind_rules(&self, words: &[&str], [plain, sni]: [u16; 2]) -> Result<Running> {
        let rules = self.write("rules.nft", &rules(plain, sni))?;
        self.netns.run(|| {
            cmd::exec(cmd::command("nft").args(["--file", &rules]).stdout(Stdio::null()))
        })?;
        // Connections that have ended are forgotten before the table is full of them.
        self.netns.sysctl("netfilter/nf_conntrack_tcp_timeout_time_wait", "5");
        let user = ["--reuid", USER, "--regid", USER, "--clear-groups"];
        let before = ["taskset", "--cpu-list", PROXY_CPU, "setpriv"];
        let words = before.iter().chain(&user).chain(words);
        let folder = self.folder.path();
        cmd::exec(cmd::command("chown").arg("-R").arg(USER).arg(folder))?;
        let mut process = Spawn::new(words).netns(&self.netns).start();
        for port in [plain, sni] {
            until(&format!("{words:?} to listen on {port}", words = self.kind), || {
                assert!(process.is_running(), "{:?} ended: {}", self.kind, process.output());
                self.listens(port).then_some(())
            });
        }
        Ok(process)
    }
}

/// Where a program is.
fn program(name: &str) -> Result<String> {
    let path = cmd::find(name).with_context(|| format!("there is no `{name}`"))?;
    Ok(path.to_string_lossy().into_owned())
}

/// Everything that others dial goes to the proxy, as Istio's rules have it.
fn rules(plain: u16, sni: u16) -> String {
    let (_, sni_port) = SNI_VIP;
    format!(
        "table ip bench\n\
         delete table ip bench\n\
         table ip bench {{\n\
         \x20 chain output {{\n\
         \x20   type nat hook output priority -100;\n\
         \x20   meta skuid {USER} return\n\
         \x20   ip daddr 127.0.0.0/8 return\n\
         \x20   tcp dport {sni_port} redirect to :{sni}\n\
         \x20   meta l4proto tcp redirect to :{plain}\n\
         \x20 }}\n\
         }}\n"
    )
}

impl Kind {
    /// The head of its column.
    pub(super) fn name(self) -> &'static str {
        match self {
            Self::Direct => "direct",
            Self::Egressd => "egressd",
            Self::Logging => "with log",
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
