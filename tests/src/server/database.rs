//! Databases that people run, each in a folder of its own.

use std::{fs, path::Path};

use tempfile::TempDir;

use super::outside::await_listener;
use crate::{
    netns::Netns,
    process::{Running, Spawn},
};

/// A running database; it ends, and its files go, when this is dropped.
#[derive(Debug)]
pub struct Database {
    process: Running,
    _folder: TempDir,
}

impl Database {
    /// PostgreSQL at `address:port`, open to user `postgres` without a password.
    #[track_caller]
    pub fn postgres(netns: &Netns, address: &str, port: u16) -> Self {
        let folder = folder_of("postgres");
        let programs = newest("/usr/lib/postgresql");
        let data = folder.path().join("data");
        let make = as_user("postgres").arg(programs.join("initdb")).arg("--auth=trust");
        make.arg("--no-sync").arg("--pgdata").arg(&data).run().expect_code(0);
        let open = "host all all 0.0.0.0/0 trust\nhost all all ::/0 trust\n";
        fs::write(data.join("pg_hba.conf"), open).expect("a file");
        let run = as_user("postgres").arg(programs.join("postgres")).arg("-D").arg(&data);
        let run = run.arg("-p").arg(port.to_string()).arg("-c");
        let run = run.arg(format!("listen_addresses={address}")).arg("-c").arg("fsync=off");
        let run = run.arg("-c").arg(format!("unix_socket_directories={}", folder.path().display()));
        Self::started(run, folder, netns, address, port)
    }

    /// MariaDB at `address:port`, with user `app`, password `secret`.
    #[track_caller]
    pub fn mariadb(netns: &Netns, address: &str, port: u16) -> Self {
        let folder = folder_of("mysql");
        let data = folder.path().join("data");
        let make = Spawn::new(["mariadb-install-db", "--no-defaults", "--user=mysql"]);
        let make = make.arg("--auth-root-authentication-method=normal").arg("--skip-test-db");
        // Two installations at once name their temporary tables alike.
        let make = make.arg(format!("--tmpdir={}", folder.path().display()));
        make.arg(format!("--datadir={}", data.display())).run().expect_code(0);
        let first = folder.path().join("first.sql");
        let grant = "CREATE USER app@'%' IDENTIFIED BY 'secret';\nGRANT ALL ON *.* TO app@'%';\n";
        fs::write(&first, grant).expect("a file");
        let run = Spawn::new(["mariadbd", "--no-defaults", "--user=mysql", "--skip-name-resolve"]);
        let run = run.arg(format!("--datadir={}", data.display()));
        let run = run.arg(format!("--tmpdir={}", folder.path().display()));
        let run = run.arg(format!("--socket={}", folder.path().join("socket").display()));
        let run = run.arg(format!("--pid-file={}", folder.path().join("pid").display()));
        let run = run.arg(format!("--init-file={}", first.display()));
        let run = run.arg(format!("--bind-address={address}")).arg(format!("--port={port}"));
        Self::started(run, folder, netns, address, port)
    }

    /// Redis at `address:port`; `more` are further options, such as those of TLS.
    #[track_caller]
    pub fn redis(netns: &Netns, address: &str, port: u16, more: &[String]) -> Self {
        let folder = TempDir::with_prefix("egressd-redis-").expect("a temporary folder");
        let run = Spawn::new(["redis-server", "--save", "", "--protected-mode", "no"]);
        let run = run.arg("--bind").arg(address).arg("--dir").arg(folder.path());
        let run = match more {
            [] => run.arg("--port").arg(port.to_string()),
            more => more.iter().fold(run, |run, option| run.arg(option)),
        };
        Self::started(run, folder, netns, address, port)
    }

    fn started(run: Spawn<'_>, folder: TempDir, netns: &Netns, address: &str, port: u16) -> Self {
        let process = run.netns(netns).start();
        await_listener(netns, address, port);
        Self { process, _folder: folder }
    }

    /// What it has printed so far.
    pub fn log(&self) -> String {
        self.process.output()
    }
}

/// A folder that a user of the system may write to.
fn folder_of(user: &str) -> TempDir {
    let folder = TempDir::with_prefix("egressd-db-").expect("a temporary folder");
    Spawn::new(["chown", user]).arg(folder.path()).run().expect_code(0);
    folder
}

/// Databases refuse to run as root.
fn as_user<'a>(user: &str) -> Spawn<'a> {
    Spawn::new(["setpriv", "--reuid", user, "--regid", user, "--clear-groups"])
}

/// The programs of the newest version installed.
fn newest(root: &str) -> std::path::PathBuf {
    let versions = fs::read_dir(root).unwrap_or_else(|error| panic!("{root}: {error}"));
    let mut versions: Vec<_> = versions.flatten().map(|entry| entry.path()).collect();
    versions.sort_by_key(|path| number(path));
    versions.pop().unwrap_or_else(|| panic!("{root} is empty")).join("bin")
}

fn number(path: &Path) -> u32 {
    let name = path.file_name().and_then(|name| name.to_str());
    name.and_then(|name| name.parse().ok()).unwrap_or(0)
}
