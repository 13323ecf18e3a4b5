//! dnsmasq: a forwarder with a file of hosts, read again on SIGHUP; also the stub on the node.

use std::{fs, path::PathBuf};

use nix::sys::signal::Signal;
use tempfile::TempDir;

use super::{super::outside::await_listener, count};
use crate::{
    netns::Netns,
    process::{Running, Spawn},
    wait::until,
};

/// `dnsmasq`, which answers from a file of hosts with a TTL of one second, and asks a server about
/// the rest.
#[derive(Debug)]
pub struct Dnsmasq {
    process: Running,
    hosts: PathBuf,
    /// Holds its files.
    _folder: TempDir,
}

impl Dnsmasq {
    /// Listens on port 53 of `address`; `hosts` are lines such as `192.0.2.1 a.test`. `options` are
    /// added to its command line, such as `--server=10.77.0.2`.
    #[track_caller]
    pub fn start(netns: &Netns, address: &str, hosts: &str, options: &[&str]) -> Self {
        Self::launch(Spawn::new(["/usr/sbin/dnsmasq"]).netns(netns), netns, address, hosts, options)
    }

    /// As [`Dnsmasq::start`], as this program: in a namespace and a cgroup of the test's choosing.
    #[track_caller]
    pub fn launch(
        program: Spawn<'_>,
        netns: &Netns,
        address: &str,
        hosts: &str,
        options: &[&str],
    ) -> Self {
        let folder = TempDir::with_prefix("egressd-dnsmasq-").expect("a temporary folder");
        let path = folder.path().join("hosts");
        fs::write(&path, hosts).expect("a new file");
        let fixed = ["--keep-in-foreground", "--conf-file=/dev/null", "--no-resolv", "--no-hosts"];
        let more = ["--bind-interfaces", "--log-queries", "--log-facility=-", "--local-ttl=1"];
        let as_us = ["--user=root", "--group=root", "--pid-file="];
        let spawn = [&fixed[..], &more, &as_us, options].concat().into_iter();
        let spawn = spawn.fold(program, |spawn, option| spawn.arg(option));
        let spawn = spawn.arg(format!("--listen-address={address}"));
        let process = spawn.arg(format!("--addn-hosts={}", path.display())).start();
        await_listener(netns, address, 53);
        Self { process, hosts: path, _folder: folder }
    }

    /// Puts other lines in the place of its hosts; they are in force when this returns.
    #[track_caller]
    pub fn set(&self, hosts: &str) {
        let reads = || self.process.output().matches("read /").count();
        let before = reads();
        fs::write(&self.hosts, hosts).expect("its file");
        self.process.signal(Signal::SIGHUP);
        until("dnsmasq to read its hosts again", || (reads() > before).then_some(()));
    }

    /// How often a name was asked for, with records of this type.
    pub fn queries(&self, name: &str, record_type: &str) -> usize {
        count(&self.process.output(), name, &format!("query[{record_type}]"))
    }

    /// What it has logged so far.
    pub fn log(&self) -> String {
        self.process.output()
    }
}
