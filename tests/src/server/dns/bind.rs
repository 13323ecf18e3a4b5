//! bind9: the authority for a zone, which `nsupdate` changes.

use std::fs;

use tempfile::TempDir;

use super::{super::outside::await_listener, count};
use crate::{
    netns::Netns,
    process::{Running, Spawn},
};

/// `named`, the primary of the zone `test.` and of nothing else: names outside are REFUSED.
#[derive(Debug)]
pub struct Bind<'a> {
    netns: &'a Netns,
    address: String,
    process: Running,
    /// Holds its configuration and its zone.
    _folder: TempDir,
}

impl<'a> Bind<'a> {
    /// Listens on port 53 of `address`; `records` are lines of a zone file, relative to `test.`.
    ///
    /// That there is no such record is good for one second.
    #[track_caller]
    pub fn start(netns: &'a Netns, address: &str, records: &str) -> Self {
        let folder = TempDir::with_prefix("egressd-bind-").expect("a temporary folder");
        let path = folder.path();
        let (v4, v6) = match address.contains(':') {
            true => ("none", address),
            false => (address, "none"),
        };
        let config = format!(
            "options {{\n\
               directory \"{}\"; pid-file none; session-keyfile none; lock-file none;\n\
               listen-on {{ {v4}; }}; listen-on-v6 {{ {v6}; }};\n\
               recursion no; allow-query {{ any; }}; dnssec-validation no; querylog yes;\n\
             }};\n\
             controls {{ }};\n\
             zone \"test\" {{ type primary; file \"zone\"; allow-update {{ any; }}; }};\n",
            path.display()
        );
        let zone = format!(
            "$ORIGIN test.\n\
             $TTL 1\n\
             @ IN SOA ns admin 1 3600 600 86400 1\n\
             @ IN NS ns\n\
             ns IN A 192.0.2.53\n\
             {records}\n"
        );
        fs::write(path.join("named.conf"), config).expect("a new file");
        fs::write(path.join("zone"), zone).expect("a new file");
        let process = launch(netns, path.join("named.conf").to_str().expect("plain text"));
        await_listener(netns, address, 53);
        Self { netns, address: address.to_owned(), process, _folder: folder }
    }

    /// Changes records by lines such as `delete a.test A` and `add a.test 1 A 192.0.2.1`; they are in
    /// force when this returns.
    #[track_caller]
    pub fn update(&self, lines: &[&str]) {
        let updates: Vec<_> = lines.iter().map(|line| format!("update {line}\n")).collect();
        let input = format!("server {}\nzone test\n{}send\n", self.address, updates.concat());
        Spawn::new(["nsupdate"]).netns(self.netns).input(input).run().expect_code(0);
    }

    /// How often a name was asked for, with records of this type.
    pub fn queries(&self, name: &str, record_type: &str) -> usize {
        count(&self.process.output(), name, &format!(" IN {record_type} "))
    }

    /// What it has logged so far.
    pub fn log(&self) -> String {
        self.process.output()
    }
}

fn launch(netns: &Netns, config: &str) -> Running {
    // In the foreground, with its log on standard error.
    Spawn::new(["/usr/sbin/named", "-g", "-n", "1", "-c", config]).netns(netns).start()
}
