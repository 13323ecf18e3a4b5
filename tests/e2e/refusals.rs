//! Input that is wrong, and places where the daemon cannot work: what it says, and its exit code.

use std::{fs, path::Path};

use egressd_tests::{Finished, Node, Spawn, egressd};

use crate::services;

/// Runs `egressd check` on files with these names and contents.
fn check(files: &[(&str, &str)]) -> (tempfile::TempDir, Finished) {
    let folder = tempfile::tempdir().expect("a temporary folder");
    for (name, text) in files {
        fs::write(folder.path().join(name), text).expect("a new file");
    }
    let done = Spawn::new([egressd()]).arg("check").arg(folder.path()).env("NO_COLOR", "1").run();
    (folder, done)
}

fn printed(done: &Finished) -> String {
    format!("{}{}", done.stdout, done.stderr)
}

/// Where the text `needle` begins, as diagnostics name it.
fn place_of(folder: &Path, name: &str, text: &str, needle: &str) -> String {
    let at = text.find(needle).expect("the text holds it");
    let line = text[..at].matches('\n').count() + 1;
    let column = at - text[..at].rfind('\n').map_or(0, |end| end + 1) + 1;
    format!("{}:{line}:{column}", folder.join(name).display())
}

#[test]
fn good_resources_are_accepted() {
    let service = services::tcp("one", &["192.0.2.10"], 27018, &["10.0.0.1:9000"]);
    let (_folder, done) = check(&[("good.yaml", &service)]);
    done.expect_code(0);
}

#[test]
fn every_mistake_is_named_at_once_with_its_place() {
    let good = services::tcp("one", &["192.0.2.10"], 27018, &["10.0.0.1:9000"]);
    let unknown = good.replace("resolution:", "resolutoin:");
    let wrong_type = good.replace("number: 27018", "number: many");
    let (folder, done) = check(&[("unknown.yaml", &unknown), ("type.yaml", &wrong_type)]);
    let text = printed(&done);
    done.expect_code(1);
    let places = [
        place_of(folder.path(), "unknown.yaml", &unknown, "resolutoin"),
        place_of(folder.path(), "type.yaml", &wrong_type, "many"),
    ];
    for place in places {
        assert!(text.contains(&place), "no {place} in:\n{text}");
    }
    assert!(text.contains("resolution"), "the right name is said:\n{text}");
}

#[test]
fn broken_yaml_is_one_mistake() {
    let (folder, done) = check(&[("broken.yaml", "apiVersion: v1\nkind: [unclosed\n")]);
    let text = printed(&done);
    done.expect_code(1);
    let file = folder.path().join("broken.yaml");
    assert!(text.contains(&format!("{}:", file.display())), "{text}");
}

#[test]
fn an_unknown_kind_of_networking_is_rejected_and_a_foreign_document_is_not() {
    let unknown = "apiVersion: networking.istio.io/v1\nkind: ServiceEnrty\nmetadata: {name: a}\n";
    let (_folder, done) = check(&[("kind.yaml", unknown)]);
    assert!(printed(&done).contains("ServiceEnrty"), "{}", printed(&done));
    done.expect_code(1);
    let foreign = "apiVersion: apps/v1\nkind: Deployment\nmetadata: {name: a}\nspec: {}\n";
    let (_folder, done) = check(&[("foreign.yaml", foreign)]);
    assert!(printed(&done).contains("Deployment"), "{}", printed(&done));
    done.expect_code(0);
}

#[test]
fn nothing_is_loaded_from_a_folder_with_a_mistake() {
    let node = Node::new();
    let good = services::tcp("one", &["192.0.2.10"], 27018, &["10.0.0.1:9000"]);
    let bad = good.replace("27018", "270180");
    let done = node.daemon().resource(good).resource(bad).start_to_fail().expect_code(1);
    assert!(printed(&done).contains("resources/1.yaml:"), "{}", printed(&done));
    assert!(egressd_tests::attached_programs(&node.cgroup).is_empty());
}

#[test]
fn wrong_usage_is_exit_code_2() {
    Spawn::new([egressd()]).arg("run").arg("--no-such-flag").run().expect_code(2);
    Spawn::new([egressd()]).arg("no-such-command").run().expect_code(2);
}

#[test]
fn a_port_that_is_taken_is_exit_code_3() {
    let node = Node::new();
    let taken = "127.64.0.1:15001".to_owned();
    let squatter = egressd_tests::Behaviour::Echo;
    let _squatter = egressd_tests::Servers::tcp(&node.netns, [(taken, squatter)]);
    let done = node.daemon().start_to_fail().expect_code(3);
    assert!(printed(&done).contains("15001"), "{}", printed(&done));
}

/// A folder of configuration with no file but an empty one.
fn empty_configuration() -> tempfile::TempDir {
    let folder = tempfile::tempdir().expect("a temporary folder");
    fs::write(folder.path().join("egressd.yaml"), "").expect("a new file");
    folder
}

#[test]
fn a_missing_capability_is_exit_code_3() {
    let node = Node::new();
    let folder = empty_configuration();
    let drop = ["setpriv", "--bounding-set=-bpf,-sys_admin", "--inh-caps=-all"];
    let spawn = Spawn::new(drop).arg(egressd()).arg("run").arg("--config").arg(folder.path());
    let spawn = spawn.arg("--cgroup").arg(node.cgroup.path());
    let spawn = spawn.arg("--state").arg(folder.path().join("state"));
    let spawn = spawn.arg("--admin").arg(folder.path().join("admin.sock"));
    let done = spawn.netns(&node.netns).run().expect_code(3);
    assert!(printed(&done).contains("CAP_BPF"), "{}", printed(&done));
}

#[test]
fn a_folder_that_is_no_cgroup_is_exit_code_3() {
    let node = Node::new();
    let folder = empty_configuration();
    let spawn = Spawn::new([egressd()]).arg("run").arg("--config").arg(folder.path());
    let spawn = spawn.arg("--cgroup").arg(folder.path());
    let spawn = spawn.arg("--state").arg(folder.path().join("state"));
    let spawn = spawn.arg("--admin").arg(folder.path().join("admin.sock"));
    let done = spawn.netns(&node.netns).cgroup(&node.agent).run().expect_code(3);
    let name = folder.path().display().to_string();
    assert!(printed(&done).contains(&name), "{}", printed(&done));
}

#[test]
fn a_foreign_program_that_shares_with_nobody_is_exit_code_3() {
    let node = Node::new();
    egressd_tests::attach_exclusive(&node.cgroup);
    assert_eq!(egressd_tests::attached_programs(&node.cgroup), ["connect4"]);
    let done = node.daemon().start_to_fail().expect_code(3);
    let name = node.cgroup.path().display().to_string();
    assert!(printed(&done).contains(&name), "{}", printed(&done));
    assert_eq!(egressd_tests::attached_programs(&node.cgroup), ["connect4"]);
}
