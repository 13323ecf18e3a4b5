//! The file over restarts and damage. What is in it is decided in `memory`, and tested there.

use std::fs;

use egressd_tables::{DEFAULT_V4, DEFAULT_V6};

use super::{
    file::{NAME, Resting, Row},
    *,
};

fn open(directory: &Path) -> (VipState, Option<SetAside>) {
    VipState::open(directory, DEFAULT_V4, DEFAULT_V6).unwrap()
}

fn row(host: &str) -> Row {
    Row {
        namespace: "default".into(),
        entry: "se".into(),
        host: host.into(),
        v4: Some([240, 240, 0, 1].into()),
        v6: Some("2001:2::1".parse().unwrap()),
    }
}

#[test]
fn kept_over_a_restart() {
    let directory = tempfile::tempdir().unwrap();
    let nested = directory.path().join("lib/egressd");
    let (mut state, aside) = open(&nested);
    assert_eq!(aside, None);
    assert!(state.allocate(&[], SystemTime::now()).saved.is_ok());
    assert!(!nested.join(NAME).exists(), "nothing to write");
    state.state.given = [row("a.example")].into();
    state.state.resting = [Resting { was: row("b.example"), until: 7 }].into();
    state.state.next = 42;
    state.save().unwrap();
    let kept = state.state.clone();
    drop(state);
    assert_eq!(open(&nested).0.state, kept);
    assert_eq!(fs::read_dir(&nested).unwrap().count(), 2, "no draft is left beside the lock");
    let text = fs::read_to_string(nested.join(NAME)).unwrap();
    assert!(text.starts_with("{\n  \"version\": 1,\n  \"next\": 42,\n  \"given\": [\n"), "{text}");
    // A draft left by a crash does no harm.
    fs::write(nested.join("vips.json.new"), "half a fi").unwrap();
    assert_eq!(open(&nested).0.state.next, 42);
}

#[test]
fn what_cannot_be_used_is_set_aside() {
    let directory = tempfile::tempdir().unwrap();
    let path = directory.path().join(NAME);
    let damaged = [
        ("", "EOF while parsing"),
        ("not json", "expected ident"),
        ("{\"version\": 2, \"anything\": []}", "its version is 2, not 1"),
        ("{\"services\": {}}", "missing field `version`"),
        ("{\"version\": 1, \"next\": 1, \"given\": [{}], \"resting\": []}", "missing field"),
        ("{\"version\": 1, \"next\": -1, \"given\": [], \"resting\": []}", "invalid value"),
    ];
    for (number, (text, reason)) in (1..).zip(damaged) {
        fs::write(&path, text).unwrap();
        let (state, aside) = open(directory.path());
        assert_eq!(state.state, StateFile::default());
        let aside = aside.unwrap();
        assert!(aside.reason.contains(reason), "{}", aside.reason);
        assert_eq!(aside.kept_as, directory.path().join(format!("{NAME}.corrupt-{number}")));
        assert_eq!(fs::read_to_string(&aside.kept_as).unwrap(), text);
        assert!(aside.to_string().contains("cannot be used and is kept as"));
        drop(state);
        assert_eq!(open(directory.path()).1, None);
    }
}

#[test]
fn a_directory_is_one_daemons() {
    let directory = tempfile::tempdir().unwrap();
    let (state, _) = open(directory.path());
    let error = VipState::open(directory.path(), DEFAULT_V4, DEFAULT_V6).unwrap_err().to_string();
    assert!(error.starts_with("another egressd keeps its virtual addresses in /"), "{error}");
    // Who only looks is welcome.
    assert!(VipSnapshot::read(directory.path(), DEFAULT_V4, DEFAULT_V6).is_ok());
    drop(state);
    open(directory.path());
}

#[test]
fn a_write_that_fails_is_tried_again() {
    let directory = tempfile::tempdir().unwrap();
    let state_directory = directory.path().join("state");
    let (mut state, _) = open(&state_directory);
    state.state.given = [row("a.example")].into();
    // In the way of the directory.
    fs::remove_dir_all(&state_directory).unwrap();
    let error = state.save().unwrap_err();
    assert!(error.to_string().starts_with("writing "), "{error}");
    fs::create_dir(&state_directory).unwrap();
    state.save().unwrap();
    drop(state);
    assert_eq!(open(&state_directory).0.state.given, [row("a.example")].into());
}

#[test]
fn what_is_no_state_at_all() {
    let directory = tempfile::tempdir().unwrap();
    fs::create_dir(directory.path().join(NAME)).unwrap();
    let open = |v4| VipState::open(directory.path(), v4, DEFAULT_V6);
    let error = open(DEFAULT_V4).unwrap_err();
    assert!(error.to_string().starts_with("reading "), "{error}");
    for range in ["", "2001:2::/48", "240.240.0.0/33"] {
        let error = open(range).unwrap_err().to_string();
        assert!(error.ends_with("an IPv4 and an IPv6 block are needed"), "{error}");
    }
}

#[test]
fn looking_changes_nothing() {
    let directory = tempfile::tempdir().unwrap();
    let nested = directory.path().join("state");
    let read = || VipSnapshot::read(&nested, DEFAULT_V4, DEFAULT_V6);
    assert_eq!(read().unwrap().state, StateFile::default());
    assert!(!nested.exists());
    let (mut state, _) = open(&nested);
    state.state.given = [row("a.example")].into();
    state.save().unwrap();
    assert_eq!(read().unwrap().state, state.state);
    fs::write(nested.join(NAME), "half a fi").unwrap();
    let error = read().unwrap_err().to_string();
    assert!(error.contains("vips.json cannot be used: expected"), "{error}");
    assert_eq!(fs::read_to_string(nested.join(NAME)).unwrap(), "half a fi");
    assert_eq!(fs::read_dir(&nested).unwrap().count(), 2);
}
