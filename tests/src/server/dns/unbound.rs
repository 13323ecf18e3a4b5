//! unbound: a resolver with data of its own, which `unbound-control` changes.

use std::fs;

use tempfile::TempDir;

use super::{super::outside::await_listener, count};
use crate::{
    netns::Netns,
    process::{Running, Spawn},
};

/// `unbound`, which knows the zone `test.` and asks nobody.
#[derive(Debug)]
pub struct Unbound<'a> {
    netns: &'a Netns,
    process: Running,
    folder: TempDir,
}

impl<'a> Unbound<'a> {
    /// Listens on port 53 of `address`, with records such as `a.test. 1 A 192.0.2.1`.
    #[track_caller]
    pub fn start(netns: &'a Netns, address: &str, records: &[&str]) -> Self {
        let folder = TempDir::with_prefix("egressd-unbound-").expect("a temporary folder");
        let path = folder.path();
        let records: Vec<_> =
            records.iter().map(|record| format!("  local-data: \"{record}\"\n")).collect();
        let config = format!(
            "server:\n\
             \x20 interface: {address}\n\
             \x20 access-control: 0.0.0.0/0 allow\n\
             \x20 access-control: ::/0 allow\n\
             \x20 do-daemonize: no\n\
             \x20 username: \"\"\n\
             \x20 chroot: \"\"\n\
             \x20 directory: \"{}\"\n\
             \x20 pidfile: \"\"\n\
             \x20 use-syslog: no\n\
             \x20 log-queries: yes\n\
             \x20 module-config: \"iterator\"\n\
             \x20 local-zone: \"test.\" static\n\
             {}\
             remote-control:\n\
             \x20 control-enable: yes\n\
             \x20 control-use-cert: no\n\
             \x20 control-interface: {}\n",
            path.display(),
            records.concat(),
            path.join("control.sock").display(),
        );
        fs::write(path.join("unbound.conf"), config).expect("a new file");
        let spawn = Spawn::new(["/usr/sbin/unbound", "-d", "-c"]).arg(path.join("unbound.conf"));
        let process = spawn.netns(netns).start();
        await_listener(netns, address, 53);
        Self { netns, process, folder }
    }

    /// Adds a record, such as `a.test. 1 A 192.0.2.1`, to those that its name has.
    #[track_caller]
    pub fn add(&self, record: &str) {
        self.control("local_data", record);
    }

    /// Removes all records of a name.
    #[track_caller]
    pub fn remove(&self, name: &str) {
        self.control("local_data_remove", name);
    }

    /// How often a name was asked for, with records of this type.
    pub fn queries(&self, name: &str, record_type: &str) -> usize {
        count(&self.process.output(), name, &format!(" {record_type} IN"))
    }

    /// What it has logged so far.
    pub fn log(&self) -> String {
        self.process.output()
    }

    #[track_caller]
    fn control(&self, command: &str, argument: &str) {
        let config = self.folder.path().join("unbound.conf");
        let spawn = Spawn::new(["/usr/sbin/unbound-control", "-c"]).arg(config).arg(command);
        let words = argument.split_whitespace();
        words.fold(spawn, |spawn, word| spawn.arg(word)).netns(self.netns).run().expect_code(0);
    }
}
