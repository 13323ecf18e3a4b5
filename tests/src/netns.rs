//! A network namespace that lives as long as its guard.

use std::{fs, fs::File, os::fd::AsRawFd as _, path::PathBuf, process::Command, thread};

use nix::sched::{CloneFlags, setns, unshare};

/// A network namespace with loopback up and nothing else.
///
/// It has no name under `/run/netns`: an open file holds it, so the kernel removes it even if the
/// test is killed.
#[derive(Debug)]
pub struct Netns {
    file: File,
}

impl Netns {
    /// Makes one; needs root.
    #[expect(clippy::new_without_default, reason = "making a namespace is no default")]
    pub fn new() -> Self {
        // A namespace belongs to a thread; this one ends at once and the file keeps the namespace.
        let made = thread::spawn(|| {
            unshare(CloneFlags::CLONE_NEWNET).expect("a new network namespace: needs root");
            File::open("/proc/thread-self/ns/net").expect("/proc is mounted")
        });
        let netns = Self { file: made.join().expect("a new network namespace") };
        netns.ip("link set lo up");
        netns
    }

    /// Runs `work` on a thread inside the namespace; processes started by it are inside too.
    pub fn run<T: Send>(&self, work: impl FnOnce() -> T + Send) -> T {
        thread::scope(|scope| {
            let inside = scope.spawn(|| {
                setns(&self.file, CloneFlags::CLONE_NEWNET).expect("entering a namespace");
                work()
            });
            inside.join().unwrap_or_else(|panic| std::panic::resume_unwind(panic))
        })
    }

    /// A path to the namespace for other programs, good while this process lives.
    pub fn path(&self) -> PathBuf {
        format!("/proc/{}/fd/{}", std::process::id(), self.file.as_raw_fd()).into()
    }

    /// Runs `ip` with these words inside.
    #[track_caller]
    pub fn ip(&self, words: &str) {
        let output = self.run(|| Command::new("ip").args(words.split_whitespace()).output());
        let output = output.expect("`ip` of iproute2");
        let error = String::from_utf8_lossy(&output.stderr);
        assert!(output.status.success(), "`ip {words}` failed: {error}");
    }

    /// Sets a value below `/proc/sys/net` for this namespace, such as `ipv4/ip_local_port_range`.
    #[track_caller]
    pub fn sysctl(&self, key: &str, value: &str) {
        let path = PathBuf::from("/proc/sys/net").join(key);
        let written = self.run(|| fs::write(&path, value));
        written.unwrap_or_else(|error| panic!("{}: {error}", path.display()));
    }

    /// Connects this namespace and another with a pair of virtual links, both up, each with the
    /// addresses given; no route beyond their networks is added.
    pub fn link(&self, name: &str, addresses: &[&str], other: &Self, peer: &str, theirs: &[&str]) {
        let path = other.path();
        self.ip(&format!("link add {name} type veth peer name {peer} netns {}", path.display()));
        for (netns, name, addresses) in [(self, name, addresses), (other, peer, theirs)] {
            for address in addresses {
                // An address must be usable at once: no duplicate detection.
                let nodad = if address.contains(':') { "nodad" } else { "" };
                netns.ip(&format!("address add {address} dev {name} {nodad}"));
            }
            netns.ip(&format!("link set {name} up"));
        }
    }
}
