//! The daemon's own file: what every command says of one that is missing or wrong.

use std::fs;

use crate::support::egressd_in;

/// The commands that read a configuration.
const COMMANDS: [&[&str]; 3] = [&["run"], &["explain", "tcp://192.0.2.1:80"], &["config", "vips"]];

#[test]
fn a_missing_file_is_wrong_usage() {
    let folder = tempfile::tempdir().unwrap();
    for command in COMMANDS {
        let run = egressd_in(folder.path(), &[command, &["--config", "absent.yaml"]].concat());
        assert_eq!(run.status, 2, "{command:?}: {}", run.stderr);
        assert!(run.stderr.contains("reading absent.yaml"), "{command:?}: {}", run.stderr);
    }
    fs::write(folder.path().join("egressd.yaml"), "resources: [absent]\n").unwrap();
    for command in COMMANDS {
        let run = egressd_in(folder.path(), &[command, &["--config", "egressd.yaml"]].concat());
        assert_eq!(run.status, 2, "{command:?}: {}", run.stderr);
        assert!(run.stderr.contains("absent"), "{command:?}: {}", run.stderr);
    }
}

#[test]
fn a_wrong_value_is_shown_where_it_stands() {
    let folder = tempfile::tempdir().unwrap();
    let text = "capture:\n  port: 65530\n";
    fs::write(folder.path().join("egressd.yaml"), text).unwrap();
    for command in COMMANDS {
        let run = egressd_in(folder.path(), &[command, &["--config", "egressd.yaml"]].concat());
        assert_eq!(run.status, 1, "{command:?}: {}", run.stderr);
        let line = |part: &str| run.stderr.lines().any(|line| line.contains(part));
        assert!(line("capture.port: 65530 is not between 1 and 65468"), "{}", run.stderr);
        assert!(line("egressd.yaml:2:9"), "{}", run.stderr);
        assert!(line("2 │   port: 65530"), "{}", run.stderr);
        assert!(line("───"), "{}", run.stderr);
    }
    let checked = egressd_in(folder.path(), &["check", "egressd.yaml"]);
    assert_eq!(checked.status, 1);
    assert!(checked.stdout.contains("egressd.yaml:2:9"), "{}", checked.stdout);
}

#[test]
fn a_wrong_mesh_config_is_shown_where_it_stands() {
    let folder = tempfile::tempdir().unwrap();
    let text = "meshConfig:\n  outboundTrafficPolicy: {mode: BLOCK}\n";
    fs::write(folder.path().join("egressd.yaml"), text).unwrap();
    for command in COMMANDS {
        let run = egressd_in(folder.path(), &[command, &["--config", "egressd.yaml"]].concat());
        assert_eq!(run.status, 1, "{command:?}: {}", run.stderr);
        assert!(run.stderr.contains("egressd.yaml:2:33"), "{command:?}: {}", run.stderr);
    }
}
