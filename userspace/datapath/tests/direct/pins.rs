//! What stays in the kernel when the daemon goes.

use std::{
    fs,
    io::{Read as _, Write as _},
    path::Path,
};

use egressd_datapath::{DirectEnd, DirectView, Error, cleanup};
use nix::{
    mount::{MsFlags, mount},
    sched::{CloneFlags, unshare},
};

use crate::lab::{Lab, server, view};

/// A bpffs of this thread's own.
fn bpffs() -> tempfile::TempDir {
    let none: Option<&str> = None;
    unshare(CloneFlags::CLONE_NEWNS).unwrap();
    mount(none, "/", none, MsFlags::MS_REC | MsFlags::MS_PRIVATE, none).unwrap();
    let folder = tempfile::tempdir().unwrap();
    mount(Some("bpf"), folder.path(), Some("bpf"), MsFlags::empty(), none).unwrap();
    folder
}

fn count(folder: &Path) -> usize {
    fs::read_dir(folder).map_or(0, |entries| {
        let all = entries.map(|entry| entry.unwrap().path());
        all.map(|path| if path.is_dir() { count(&path) } else { 1 }).sum()
    })
}

/// Dials again and again, and says how often it reached whom.
const STORM: &str = "import threading, collections
seen = collections.Counter(); over = []
def work():
    while not over:
        try:
            s = tcp(('240.0.0.1', 80)); seen[s.recv(99).decode()] += 1; s.close()
        except OSError as e: seen[e.errno] += 1
t = threading.Thread(target=work); t.start()
print('ready', flush=True); sys.stdin.readline(); over.append(1); t.join()
print(sorted(seen) , seen.total() > 10)";

#[test]
fn a_daemon_takes_over_what_another_one_has_left() {
    let mount = bpffs();
    let pins = mount.path().join("egressd");
    let mut lab = Lab::with_pins(Some(pins.clone()));
    server("127.0.1.1:81");
    lab.route("240.0.0.1:80", &[("one", 1)]);
    lab.route("240.0.0.2:80", &[("unknown", 1)]);
    lab.set("one", &view(&[("127.0.1.1:81", 1)]));
    assert!(matches!(cleanup(&pins), Err(Error::PinsInUse { .. })));
    // Nothing changes for a connection that lasts, and none is missed.
    let mut held = lab.start(
        "s = tcp(('240.0.0.1', 80)); s.recv(99); print('ready', flush=True); sys.stdin.readline()
s.sendall(b'abc'); print(s.getpeername()[0]); s.close()",
    );
    let mut storm = lab.start(STORM);
    let mut ready = [0; 6];
    held.stdout.as_mut().unwrap().read_exact(&mut ready).unwrap();
    storm.stdout.as_mut().unwrap().read_exact(&mut ready).unwrap();
    for _ in 0..3 {
        lab.end_daemon(true);
        assert_eq!(lab.python("dial(('240.0.0.1', 80))"), "127.0.1.1:81 240.0.0.1 80\n");
        // Where the proxy would be needed, capture.onProxyDown holds.
        assert_eq!(lab.python("dial(('240.0.0.2', 80))"), "111\n");
        lab.start_daemon();
        // What is in force is not taken for what was left.
        lab.clusters().sweep().unwrap();
        lab.clusters().sweep().unwrap();
        assert_eq!(lab.python("dial(('240.0.0.1', 80))"), "127.0.1.1:81 240.0.0.1 80\n");
        assert_eq!(lab.python("dial(('240.0.0.2', 80))"), "proxy 240.0.0.2 80\n");
    }
    storm.stdin.as_mut().unwrap().write_all(b"\n").unwrap();
    let said = String::from_utf8(storm.wait_with_output().unwrap().stdout).unwrap();
    assert_eq!(said, "['127.0.1.1:81'] True\n");
    lab.wait_active("one", 1);
    // What ended while nobody was there has its record.
    lab.end_daemon(true);
    assert_eq!(lab.python("dial(('240.0.0.1', 80))"), "127.0.1.1:81 240.0.0.1 80\n");
    held.stdin.as_mut().unwrap().write_all(b"\n").unwrap();
    let said = String::from_utf8(held.wait_with_output().unwrap().stdout).unwrap();
    assert_eq!(said, "240.0.0.1\n");
    lab.start_daemon();
    let last = loop {
        let record = lab.record();
        assert_eq!(&*record.cluster, "one");
        if record.sent > 0 {
            break record;
        }
    };
    assert_eq!((last.end, last.sent), (DirectEnd::Closed, 3));
    lab.wait_active("one", 0);
    // The view that was left holds until it is said otherwise.
    lab.set("one", &DirectView::default());
    assert_eq!(lab.python("dial(('240.0.0.1', 80))"), "proxy 240.0.0.1 80\n");
    lab.end_daemon(false);
    assert!(!pins.exists());
    assert_eq!(lab.python("dial(('240.0.0.1', 80))"), "101\n");
}

#[test]
fn what_is_left_can_be_removed() {
    let mount = bpffs();
    let pins = mount.path().join("egressd");
    let mut lab = Lab::with_pins(Some(pins.clone()));
    server("127.0.1.1:81");
    lab.route("240.0.0.1:80", &[("one", 1)]);
    lab.set("one", &view(&[("127.0.1.1:81", 1)]));
    lab.end_daemon(true);
    // A daemon that cannot start leaves it as it is.
    let taken = std::net::TcpListener::bind("127.64.0.1:15001").unwrap();
    assert!(lab.try_start_daemon().is_err());
    drop(taken);
    assert_eq!(lab.python("dial(('240.0.0.1', 80))"), "127.0.1.1:81 240.0.0.1 80\n");
    // As if it were of another layout: the next daemon begins afresh and removes it.
    let folder = fs::read_dir(&pins).unwrap().next().unwrap().unwrap().path();
    let left = count(&folder);
    assert!(left > 12, "{left}");
    let name = folder.file_name().unwrap().to_str().unwrap();
    let other = pins.join(format!("00000000{}", &name[8..]));
    fs::rename(&folder, &other).unwrap();
    lab.start_daemon();
    assert!(!other.exists());
    assert_eq!(lab.python("dial(('240.0.0.1', 80))"), "proxy 240.0.0.1 80\n");
    lab.end_daemon(true);
    assert_eq!(cleanup(&pins).unwrap(), left);
    assert!(!pins.exists());
    assert_eq!(cleanup(&pins).unwrap(), 0);
    assert_eq!(lab.python("dial(('240.0.0.1', 80))"), "101\n");
    // Without a bpffs there is a warning, and no pins.
    drop(lab);
    let elsewhere = tempfile::tempdir().unwrap();
    let mut lab = Lab::with_pins(Some(elsewhere.path().join("egressd")));
    lab.end_daemon(false);
    assert_eq!(count(elsewhere.path()), 0);
}
