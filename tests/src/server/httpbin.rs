//! httpbin, as its author serves it.

use std::path::Path;

use super::outside::{await_listener, await_socket};
use crate::{
    netns::Netns,
    process::{Running, Spawn},
};

/// httpbin under gunicorn.
#[derive(Debug)]
pub struct Httpbin {
    process: Running,
}

impl Httpbin {
    /// Serves at `address:port`.
    #[track_caller]
    pub fn start(netns: &Netns, address: &str, port: u16) -> Self {
        let process = gunicorn(&format!("{address}:{port}")).netns(netns).start();
        await_listener(netns, address, port);
        Self { process }
    }

    /// Serves at a Unix socket.
    #[track_caller]
    pub fn unix(path: &Path) -> Self {
        let process = gunicorn(&format!("unix:{}", path.display())).start();
        await_socket(path);
        Self { process }
    }

    /// How many requests it has answered whose line in the log holds `text`.
    pub fn answered(&self, text: &str) -> usize {
        self.process.output().lines().filter(|line| line.contains(text)).count()
    }

    /// What it has logged so far.
    pub fn log(&self) -> String {
        self.process.output()
    }
}

fn gunicorn<'a>(bind: &str) -> Spawn<'a> {
    assert!(Path::new(GUNICORN).is_file(), "{GUNICORN}: not there; run `cargo xtask setup`");
    let words = [GUNICORN, "--bind", bind, "--threads", "16", "--keep-alive", "30"];
    Spawn::new(words).arg("--access-logfile").arg("-").arg("httpbin:app")
}

const GUNICORN: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/../target/tools/python/bin/gunicorn");
