//! `check` on bad input: what people read, what programs read, and the exit status.

use std::fs;

use expect_test::{Expect, expect};
use serde_json::Value;

use crate::folder::{conformance, say};
use crate::support::{Run, egressd, egressd_in};

/// Runs `check` on one file, `x.yaml`.
fn check(text: &str, more: &[&str]) -> Run {
    let folder = tempfile::tempdir().unwrap();
    fs::write(folder.path().join("x.yaml"), text).unwrap();
    egressd_in(folder.path(), &[&["check", "x.yaml"], more].concat())
}

#[track_caller]
fn says(text: &str, status: i32, expected: &Expect) {
    let run = check(text, &[]);
    expected.assert_eq(&run.stdout);
    assert_eq!(run.status, status);
    assert_eq!(run.stderr, "");
}

/// `LINE:COLUMN FIELD: MESSAGE` of every finding.
fn places(run: &Run) -> Vec<String> {
    let mut all = Vec::new();
    for line in run.stdout.lines() {
        let document: Value = serde_json::from_str(line).unwrap();
        for one in document["diagnostics"].as_array().unwrap() {
            let word = |key: &str| one[key].as_str().unwrap();
            let (field, message) = (word("field"), word("message"));
            all.push(format!("{}:{} {field}: {message}", one["line"], one["column"]));
        }
    }
    all
}

const ENTRY: &str = "\
apiVersion: networking.istio.io/v1
kind: ServiceEntry
metadata:
  name: api
spec:
  hosts: [api.example.com]
  ports:
  - number: 443
    name: https
    protocol: HTTPS
  resolution: DNS
";

#[test]
fn nothing_to_say() {
    says(
        ENTRY,
        0,
        &expect![[r#"
        1 document: 1 accepted, 0 accepted with warnings, 0 rejected; 0 findings
    "#]],
    );
}

#[test]
fn a_place_is_shown() {
    says(
        &ENTRY.replace("protocol: HTTPS", "protcol: HTTPS"),
        1,
        &expect![[r#"
        reject ServiceEntry default/api (x.yaml:1)

        unknown-field

          × spec.ports[0].protcol: unknown field `protcol`
            ╭─[x.yaml:10:5]
          9 │     name: https
         10 │     protcol: HTTPS
            ·     ───────
         11 │   resolution: DNS
            ╰────
          help: did you mean `protocol`?

        1 document: 0 accepted, 0 accepted with warnings, 1 rejected; 1 finding
    "#]],
    );
}

#[test]
fn everything_at_once() {
    let text = ENTRY
        .replace("number: 443", "number: many")
        .replace("resolution: DNS", "resolution: DMS\n  colour: red");
    let run = check(
        &format!("{text}---\n{}", ENTRY.replace("kind: S", "kind: Z")),
        &["--output", "json"],
    );
    assert_eq!(run.status, 1);
    expect![[r#"
        [
            "8:13 spec.ports[0].number: expected a whole number, found the string \"many\"",
            "11:15 spec.resolution: unknown value \"DMS\"; did you mean `DNS`?",
            "12:3 spec.colour: unknown field `colour`; known fields: hosts, addresses, ports, location, resolution, endpoints, workloadSelector, exportTo, subjectAltNames",
            "15:7 kind: networking.istio.io has no kind \"ZerviceEntry\"; did you mean `ServiceEntry`?",
        ]
    "#]].assert_debug_eq(&places(&run));
}

#[test]
fn broken_yaml() {
    let run =
        check("apiVersion: [networking.istio.io/v1\nkind: ServiceEntry\n", &["--output", "json"]);
    assert_eq!(run.status, 1);
    expect![[r#"
        [
            "2:5 : not YAML: illegal placement of ':' indicator",
        ]
    "#]]
    .assert_debug_eq(&places(&run));
}

#[test]
fn foreign_documents_are_warned_about() {
    let run = check(
        "apiVersion: apps/v1\nkind: Deployment\nmetadata: {name: x}\n",
        &["--output", "json"],
    );
    assert_eq!(run.status, 0);
    expect![[r#"
        {"path":"x.yaml","line":1,"kind":"Deployment","namespace":"default","name":"x","verdict":"warn","diagnostics":[{"severity":"warning","code":"foreign-document","field":"","message":"not a resource that egressd knows (Deployment of apps/v1); ignored","line":1,"column":1}]}
    "#]].assert_eq(&run.stdout);
}

#[test]
fn the_same_resource_twice() {
    let run = check(&format!("{ENTRY}---\n{ENTRY}"), &["--output", "json"]);
    assert_eq!(run.status, 1);
    expect![[r#"
        {"path":"x.yaml","line":1,"kind":"ServiceEntry","namespace":"default","name":"api","verdict":"accept","diagnostics":[]}
        {"path":"x.yaml","line":13,"kind":"ServiceEntry","namespace":"default","name":"api","verdict":"accept","diagnostics":[{"severity":"error","code":"duplicate-resource","field":"metadata.name","message":"ServiceEntry default/api is already defined in x.yaml:4; give one of them another name or namespace","line":16,"column":9}]}
    "#]].assert_eq(&run.stdout);
}

#[test]
fn what_is_missing_may_be_what_is_rejected() {
    let rule = "\
apiVersion: networking.istio.io/v1
kind: VirtualService
metadata: {name: api}
spec:
  hosts: [api.example.com]
  http:
  - route:
    - destination: {host: elsewhere.example.com}
";
    let whole = check(&format!("{ENTRY}---\n{rule}"), &["--output", "json"]);
    assert!(whole.stdout.contains("unknown-host"), "{}", whole.stdout);
    let broken = ENTRY.replace("number: 443", "number: 0");
    let part = check(&format!("{broken}---\n{rule}"), &["--output", "json"]);
    assert_eq!(part.status, 1);
    assert!(!part.stdout.contains("unknown-host"), "{}", part.stdout);
}

#[test]
fn wrong_usage() {
    assert_eq!(egressd(&["check"]).status, 2);
    let absent = egressd(&["check", "/nowhere/at/all"]);
    assert_eq!((absent.status, &*absent.stdout), (2, ""));
    assert_eq!(
        absent.stderr,
        "egressd: reading /nowhere/at/all: No such file or directory (os error 2)\n"
    );
}

#[test]
fn odd_files() {
    let folder = tempfile::tempdir().unwrap();
    let write = |name: &str, bytes: &[u8]| fs::write(folder.path().join(name), bytes).unwrap();
    write("bytes.yaml", b"apiVersion: x\n# \xff\xfe\n");
    write("empty.yaml", b"");
    write("comment.yaml", b"# nothing\n---\n");
    write("marked.yaml", "\u{feff}kind: x\n".as_bytes());
    write("windows.yaml", ENTRY.replace('\n', "\r\n").replace("HTTPS", "HTTPZ").as_bytes());
    write("notes.txt", b"not looked at");
    let run = egressd_in(folder.path(), &["check", "."]);
    assert_eq!(run.status, 1);
    expect![[r#"
        reject (./bytes.yaml:2)

        not-utf8

          × invalid utf-8 sequence of 1 bytes from index 16
           ╭─[./bytes.yaml:2:3]
         1 │ apiVersion: x
         2 │ # ��
           ·   ▲
           ╰────
          help: save the file as UTF-8

        reject x (./marked.yaml:1)

        missing-field

          × apiVersion: `apiVersion` is required
           ╭─[./marked.yaml:1:2]
         1 │ ﻿kind: x
           · ────
           ╰────
          help: for example `apiVersion: networking.istio.io/v1`

        reject ServiceEntry default/api (./windows.yaml:1)

        unknown-protocol

          × spec.ports[0].protocol: unknown protocol "HTTPZ"
            ╭─[./windows.yaml:10:15]
          9 │     name: https
         10 │     protocol: HTTPZ
            ·               ─────
         11 │   resolution: DNS
            ╰────
          help: did you mean `HTTP`?

        3 documents: 0 accepted, 0 accepted with warnings, 3 rejected; 3 findings
    "#]]
    .assert_eq(&run.stdout);
}

#[test]
fn a_configuration_is_looked_at_as_its_node_sees_it() {
    let folder = tempfile::tempdir().unwrap();
    let write = |name: &str, text: &str| fs::write(folder.path().join(name), text).unwrap();
    fs::create_dir(folder.path().join("resources")).unwrap();
    write("resources/a.yaml", &ENTRY.replace("HTTPS", "TCP"));
    let run = || egressd_in(folder.path(), &["check", "--output", "json", "."]);
    write("egressd.yaml", "");
    assert!(!run().stdout.contains("tcp-takes-port"));
    write("egressd.yaml", "dns: {capture: none}\n");
    assert!(run().stdout.contains("tcp-takes-port"));
    write("egressd.yaml", "node:\n  namspace: x\n");
    assert_eq!(run().status, 1);
    expect![[r#"
        {"path":"./egressd.yaml","line":2,"kind":"","namespace":"","name":"","verdict":"reject","diagnostics":[{"severity":"error","code":"invalid-config","field":"node","message":"unknown field `namspace`, expected one of `namespace`, `labels`, `locality`","line":2,"column":3}]}
    "#]].assert_eq(&run().stdout);
    write("egressd.yaml", "meshConfig:\n  outboundTrafficPolicy: {mode: BLOCK}\n");
    assert_eq!(run().status, 1);
    expect![[r#"
        {"path":"./egressd.yaml","line":2,"kind":"","namespace":"","name":"","verdict":"reject","diagnostics":[{"severity":"error","code":"unknown-value","field":"meshConfig.outboundTrafficPolicy.mode","message":"unknown value \"BLOCK\"; one of REGISTRY_ONLY, ALLOW_ANY, ALLOW_ANY_DYNAMIC_DNS","line":2,"column":33}]}
        {"path":"./resources/a.yaml","line":1,"kind":"ServiceEntry","namespace":"default","name":"api","verdict":"accept","diagnostics":[]}
    "#]].assert_eq(&run().stdout);
}

#[test]
fn the_mesh_decides_how_much_a_wildcard_matters() {
    let folder = tempfile::tempdir().unwrap();
    let write = |name: &str, text: &str| fs::write(folder.path().join(name), text).unwrap();
    let wide = ENTRY.replace("[api.example.com]", "[\"*.example.com\"]").replace("DNS", "NONE");
    write("x.yaml", &wide);
    write("mesh.yaml", "outboundTrafficPolicy: {mode: REGISTRY_ONLY}\n");
    let finding = |more: &[&str]| {
        let run =
            egressd_in(folder.path(), &[&["check", "--output", "json", "x.yaml"], more].concat());
        let document: Value = serde_json::from_str(&run.stdout).unwrap();
        let one = &document["diagnostics"][0];
        format!("{} {}", one["severity"], one["code"])
    };
    assert_eq!(finding(&[]), "\"info\" \"wildcard-any-address\"");
    assert_eq!(finding(&["--mesh", "mesh.yaml"]), "\"warning\" \"wildcard-any-address\"");
}

#[test]
fn conformance_verdicts() {
    let Some(folder) = conformance() else { return };
    let folder = folder.join("validation");
    let cases = fs::read_to_string(folder.join("cases.tsv")).unwrap();
    let run = egressd_in(&folder, &["check", "--output", "json", "."]);
    let mut verdicts = std::collections::BTreeMap::new();
    for line in run.stdout.lines() {
        let document: Value = serde_json::from_str(line).unwrap();
        let path = document["path"].as_str().unwrap().trim_start_matches("./").to_owned();
        verdicts.insert(path, document["verdict"].as_str().unwrap().to_owned());
    }
    let mut rows = cases.lines();
    let column = rows.next().unwrap().split('\t').position(|name| name == "expected_overall");
    let mut wrong = Vec::new();
    let mut compared = 0;
    for row in rows {
        let cells: Vec<_> = row.split('\t').collect();
        let (path, expected) = (cells[0], cells[column.unwrap()]);
        let verdict = verdicts.get(path).map_or("nothing", String::as_str);
        compared += 1;
        if verdict != expected {
            wrong.push(format!("{path}: {verdict} instead of {expected}"));
        }
    }
    let agree = compared - wrong.len();
    say(&format_args!("egressd check: {agree} of {compared} verdicts agree"));
    assert!(wrong.is_empty(), "{}", wrong.join("\n"));
}
