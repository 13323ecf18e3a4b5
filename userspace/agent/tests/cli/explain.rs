//! `explain`: reasons for people, and Istio's own answers call by call.

use std::{fs, path::Path};

use expect_test::{Expect, expect};
use serde_json::Value;

use crate::folder::{conformance, say};
use crate::support::{egressd, egressd_in, folders, root};

/// Explains in the folder of one of the seeds' cases, with virtual addresses given anew.
#[track_caller]
fn explains(case: &str, targets: &[&str], expected: &Expect) {
    let folder = root().join("tests/data/seeds").join(case);
    let options = ["explain", "--config", ".", "--state", "/nonexistent", "--ip-families", "v4"];
    let run = egressd_in(&folder, &[&options, targets].concat());
    assert_eq!((run.status, &*run.stderr), (0, ""));
    expected.assert_eq(&run.stdout);
}

#[test]
fn a_request_to_a_service() {
    explains(
        "038-httpbin-ext-timeout",
        &["http://httpbin.org/delay/5"],
        &expect![[r#"
            http://httpbin.org/delay/5
              destination   240.240.0.1:80
                       why  egressd answers httpbin.org with this address (virtual address of httpbin.org)
              kernel        handed to the proxy
                       why  there is a row for the address and port
                       not  the direct path: its requests are routed one by one
              listener      0.0.0.0_80
                       why  no listener has the address, and this one has the port
              first bytes   an HTTP request
                       why  the listener looks for TLS and HTTP, and waits 3600s for it at most
              filter chain  httpbin.org:80
                       why  the first bytes are an HTTP request
              virtual host  httpbin.org:80
                       why  the request names httpbin.org
              route         (no name)
                       why  VirtualService default/httpbin-ext: it matches every request
              cluster       outbound|80||httpbin.org
                       why  the rule says so
              endpoints     httpbin.org:80
                       why  every address of every name; chosen by LEAST_REQUEST
              TLS           bytes as they are
                       why  no DestinationRule asks for TLS
              timeouts      connect 10s, request 3s, idle connection 3600s
              retries       2 after the first try, each within 3s on connect-failure,refused-stream,unavailable,cancelled,retriable-status-codes
              result        outbound|80||httpbin.org
        "#]],
    );
}

#[test]
fn a_host_that_almost_matches() {
    explains(
        "036-baidu-ext",
        &["http://www.baidu.com/aaa"],
        &expect![[r#"
            http://www.baidu.com/aaa
              destination   www.baidu.com:80
                       why  www.baidu.com is resolved upstream; 203.0.113.1 stands for its address (see --address)
              kernel        handed to the proxy
                       why  there is a row for the port
                       not  the direct path: its requests are routed one by one
              listener      0.0.0.0_80
                       why  no listener has the address, and this one has the port
              first bytes   an HTTP request
                       why  the listener looks for TLS and HTTP, and waits 3600s for it at most
              filter chain  baidu.com:80
                       why  the first bytes are an HTTP request
              virtual host  allow_any
                       why  no other virtual host of table 80 answers to www.baidu.com
                       not  baidu.com: baidu.com does not stand for the names under it; *.baidu.com would
              route         allow_any
                       why  it matches every request
              cluster       PassthroughCluster
                       why  the rule says so
              endpoints     www.baidu.com:80
                       why  the original destination
              TLS           bytes as they are
                       why  no DestinationRule asks for TLS
              timeouts      connect 10s, request none, idle connection 300s
              retries       none
                       why  the rule has no retries
              result        PassthroughCluster
              hint          the nearest host is baidu.com, which does not cover www.baidu.com
        "#]],
    );
}

#[test]
fn the_applications_own_tls() {
    explains(
        "001-external-svc-https",
        &["https://api.dropboxapi.com/2/files"],
        &expect![[r#"
            https://api.dropboxapi.com/2/files
              destination   240.240.0.1:443
                       why  egressd answers api.dropboxapi.com with this address (virtual address of api.dropboxapi.com)
              kernel        handed to the proxy
                       why  there is a row for the address and port
                       not  the direct path: `path: auto` is the proxy's
              listener      240.240.0.1_443
                       why  it has the address and port dialled
                       not  0.0.0.0_443: a listener with the address comes before one with the port alone
              first bytes   not looked at
                       why  its rules ask for nothing that the client says: the server may speak first
              filter chain  api.dropboxapi.com:443
                       why  no other chain is left
              cluster       outbound|443||api.dropboxapi.com
                       why  the service itself
              endpoints     api.dropboxapi.com:443
                       why  every address of every name; chosen by LEAST_REQUEST
              TLS           bytes as they are
                       why  no DestinationRule asks for TLS
              timeouts      connect 10s, idle 3600s, whole connection none
              result        outbound|443||api.dropboxapi.com
              hint          the application's own TLS passes through: paths and headers are not seen, and no http rule acts
        "#]],
    );
}

#[test]
fn bytes_inside_and_outside_a_block() {
    explains(
        "002-external-svc-mongocluster",
        &["mongodb://192.192.192.7:27018", "mongodb://192.192.193.7:27018"],
        &expect![[r#"
            mongodb://192.192.192.7:27018
              destination   192.192.192.7:27018
                       why  inside 192.192.192.0/24 of mymongodb.somedomain
              kernel        handed to the proxy
                       why  there is a row for a block that holds the address
                       not  the direct path: `path: auto` is the proxy's
              listener      0.0.0.0_27018
                       why  no listener has the address, and this one has the port
              first bytes   not looked at
                       why  its rules ask for nothing that the client says: the server may speak first
              filter chain  mymongodb.somedomain:27018
                       why  the destination lies in 192.192.192.0/24
              cluster       outbound|27018||mymongodb.somedomain
                       why  the service itself
              endpoints     2.2.2.2:27018, 3.3.3.3:27018
                       why  listed; chosen by LEAST_REQUEST
              TLS           ISTIO_MUTUAL, server name outbound_.27018_._.mymongodb.somedomain to endpoints that speak it
                       why  the service is part of the mesh
              timeouts      connect 10s, idle 3600s, whole connection none
              result        outbound|27018||mymongodb.somedomain

            mongodb://192.192.193.7:27018
              destination   192.192.193.7:27018
                       why  no resource names the address
              kernel        left alone
                       why  there is no row for it, and the policy lets unknown destinations pass
              listener      0.0.0.0_27018
                       why  no listener has the address, and this one has the port
              first bytes   not looked at
                       why  its rules ask for nothing that the client says: the server may speak first
              filter chain  PassthroughCluster
                       why  no other chain is left
                       not  mymongodb.somedomain:27018: it is for destinations in 192.192.192.0/24
              cluster       PassthroughCluster
                       why  the outbound traffic policy
              endpoints     192.192.193.7:27018
                       why  the original destination
              TLS           bytes as they are
                       why  no DestinationRule asks for TLS
              timeouts      connect 10s, idle 3600s, whole connection none
              result        PassthroughCluster
              hint          the proxy does not see this connection, and writes no record of it
        "#]],
    );
}

#[test]
fn a_subset_without_endpoints() {
    explains(
        "033-hello2",
        &["http://xxx.jd.com"],
        &expect![[r#"
            http://xxx.jd.com
              destination   240.240.0.1:80
                       why  egressd answers xxx.jd.com with this address (virtual address of xxx.jd.com)
              kernel        handed to the proxy
                       why  there is a row for the address and port
                       not  the direct path: its requests are routed one by one
              listener      0.0.0.0_80
                       why  no listener has the address, and this one has the port
              first bytes   an HTTP request
                       why  the listener looks for TLS and HTTP, and waits 3600s for it at most
              filter chain  xxx.jd.com:80
                       why  the first bytes are an HTTP request
              virtual host  xxx.jd.com:80
                       why  the request names xxx.jd.com
              route         http-hello-route
                       why  VirtualService istio-demo/hello2-vs: it matches every request
              cluster       outbound|80|docker|xxx.jd.com
                       why  the rule says so, 100 of 100; DestinationRule istio-demo/hello2-dr
              endpoints     none
                       why  no endpoint is known: flag UH
              TLS           ISTIO_MUTUAL, server name outbound_.80_.docker_.xxx.jd.com to endpoints that speak it
                       why  the service is part of the mesh
              timeouts      connect 10s, request none, idle connection 3600s
              retries       2 after the first try, each without a limit on connect-failure,refused-stream,unavailable,cancelled,retriable-status-codes
              result        weighted:outbound|80|docker|xxx.jd.com=100
        "#]],
    );
}

#[test]
fn a_host_that_this_node_does_not_see() {
    explains(
        "006-external-svc-httpbin",
        &["http://example.com"],
        &expect![[r#"
            http://example.com
              destination   example.com:80
                       why  example.com is resolved upstream; 203.0.113.1 stands for its address (see --address)
              kernel        left alone
                       why  there is no row for it, and the policy lets unknown destinations pass
              listener      virtualOutbound
                       why  no listener has the address or the port
              first bytes   not looked at
                       why  its rules ask for nothing that the client says: the server may speak first
              filter chain  PassthroughCluster
                       why  no other chain is left
              cluster       PassthroughCluster
                       why  the outbound traffic policy
              endpoints     example.com:80
                       why  the original destination
              TLS           bytes as they are
                       why  no DestinationRule asks for TLS
              timeouts      connect 10s, idle 3600s, whole connection none
              result        PassthroughCluster
              hint          the proxy does not see this connection, and writes no record of it
              hint          example.com is declared by ServiceEntry egress/external-svc-httpbin, which is not exported to namespace default, the namespace of this node
        "#]],
    );
}

#[test]
fn as_json() {
    explains(
        "036-baidu-ext",
        &["--output", "json", "http://baidu.com", "http://www.baidu.com"],
        &expect![[r#"
            {"target":"http://baidu.com","result":"outbound|80||baidu.com","listener":"0.0.0.0_80","route":"default","path":"proxy","notDirect":"http","steps":[{"stage":"destination","chosen":"240.240.0.1:80","because":"egressd answers baidu.com with this address (virtual address of baidu.com)"},{"stage":"kernel","chosen":"handed to the proxy","because":"there is a row for the address and port","not":{"what":"the direct path","why":"its requests are routed one by one"}},{"stage":"listener","chosen":"0.0.0.0_80","because":"no listener has the address, and this one has the port"},{"stage":"first bytes","chosen":"an HTTP request","because":"the listener looks for TLS and HTTP, and waits 3600s for it at most"},{"stage":"filter chain","chosen":"baidu.com:80","because":"the first bytes are an HTTP request"},{"stage":"virtual host","chosen":"baidu.com:80","because":"the request names baidu.com"},{"stage":"route","chosen":"default","because":"it matches every request"},{"stage":"cluster","chosen":"outbound|80||baidu.com","because":"the rule says so"},{"stage":"endpoints","chosen":"baidu.com:80","because":"every address of every name; chosen by LEAST_REQUEST"},{"stage":"TLS","chosen":"bytes as they are","because":"no DestinationRule asks for TLS"},{"stage":"timeouts","chosen":"connect 10s, request none, idle connection 3600s","because":""},{"stage":"retries","chosen":"2 after the first try, each without a limit","because":"on connect-failure,refused-stream,unavailable,cancelled,retriable-status-codes"}],"hints":[]}
            {"target":"http://www.baidu.com","result":"PassthroughCluster","listener":"0.0.0.0_80","route":"allow_any","path":"proxy","notDirect":"http","steps":[{"stage":"destination","chosen":"www.baidu.com:80","because":"www.baidu.com is resolved upstream; 203.0.113.1 stands for its address (see --address)"},{"stage":"kernel","chosen":"handed to the proxy","because":"there is a row for the port","not":{"what":"the direct path","why":"its requests are routed one by one"}},{"stage":"listener","chosen":"0.0.0.0_80","because":"no listener has the address, and this one has the port"},{"stage":"first bytes","chosen":"an HTTP request","because":"the listener looks for TLS and HTTP, and waits 3600s for it at most"},{"stage":"filter chain","chosen":"baidu.com:80","because":"the first bytes are an HTTP request"},{"stage":"virtual host","chosen":"allow_any","because":"no other virtual host of table 80 answers to www.baidu.com","not":{"what":"baidu.com","why":"baidu.com does not stand for the names under it; *.baidu.com would"}},{"stage":"route","chosen":"allow_any","because":"it matches every request"},{"stage":"cluster","chosen":"PassthroughCluster","because":"the rule says so"},{"stage":"endpoints","chosen":"www.baidu.com:80","because":"the original destination"},{"stage":"TLS","chosen":"bytes as they are","because":"no DestinationRule asks for TLS"},{"stage":"timeouts","chosen":"connect 10s, request none, idle connection 300s","because":""},{"stage":"retries","chosen":"none","because":"the rule has no retries"}],"hints":["the nearest host is baidu.com, which does not cover www.baidu.com"]}
        "#]],
    );
}

#[test]
fn wrong_usage() {
    let folder = root().join("tests/data/seeds/036-baidu-ext");
    let said = |args: &[&str]| {
        let run = egressd_in(&folder, &[&["explain", "--config", "."], args].concat());
        (run.status, run.stderr.lines().next().unwrap_or_default().to_owned())
    };
    assert_eq!(
        said(&["baidu.com"]),
        (2, "egressd: target \"baidu.com\": begin with http://, https://, tls:// or tcp://".into())
    );
    assert_eq!(said(&[]).0, 2);
    assert_eq!(said(&["--calls", "/nonexistent"]).0, 2);
    let absent = egressd(&["explain", "--config", "/nonexistent", "http://a.example"]);
    assert_eq!(absent.status, 2);
    let rejected = root().join("tests/data/seeds/017-external-database");
    let run = egressd_in(&rejected, &["explain", "--config", ".", "http://a.example"]);
    assert_eq!(run.status, 1);
    assert!(run.stderr.contains("./resources.yaml:35:5"), "{}", run.stderr);
}

#[test]
fn bad_calls_have_a_line() {
    let folder = tempfile::tempdir().unwrap();
    fs::create_dir(folder.path().join("empty")).unwrap();
    let complaint = |calls: &str| {
        fs::write(folder.path().join("calls.jsonl"), calls).unwrap();
        let run =
            egressd_in(folder.path(), &["explain", "--config", "empty", "--calls", "calls.jsonl"]);
        assert_eq!(run.status, 2, "{}", run.stdout);
        run.stderr
    };
    let stderr = complaint("{\"port\": 80}\n\n{\"port\": \"x\"}\n");
    assert!(stderr.starts_with("egressd: calls.jsonl:3: "), "{stderr}");
    // A field that is misspelt would be a question that nobody asked.
    let stderr =
        complaint("{\"name\": [\"any\"], \"port\": 80}\n{\"port\": 80, \"hots\": \"a\"}\n");
    assert!(stderr.starts_with("egressd: calls.jsonl:2: unknown field `hots`"), "{stderr}");
}

#[test]
fn conformance_calls() {
    let Some(folder) = conformance() else { return };
    let (mut compared, mut free, mut wrong) = (0, 0, Vec::new());
    for group in folders(&folder.join("routing")) {
        for case in folders(&group) {
            let (calls, rows) = rows(&case);
            let printed = answers(&case, &calls);
            assert_eq!(printed.len(), rows.len(), "{}", case.display());
            for (found, row) in printed.iter().zip(&rows) {
                let same = ["result", "listener", "route"]
                    .iter()
                    .zip(&row.expected)
                    .all(|(key, expected)| found[key] == expected.as_str());
                if !row.deterministic {
                    free += 1;
                } else if same {
                    compared += 1;
                } else {
                    wrong.push(format!("{}: {}: {found}", case.display(), row.expected.join(" ")));
                }
            }
        }
    }
    let all = compared + wrong.len();
    say(&format_args!(
        "egressd explain: {compared} of {all} calls agree, {free} are random in Istio"
    ));
    assert!(wrong.is_empty(), "{}", wrong.join("\n"));
    assert!(compared > 0, "no calls in {}", folder.display());
}

struct Row {
    expected: Vec<String>,
    deterministic: bool,
}

/// The calls, a line each, and what Istio answers.
fn rows(case: &Path) -> (String, Vec<Row>) {
    let text = fs::read_to_string(case.join("calls.tsv")).unwrap();
    let (mut calls, mut rows) = (String::new(), Vec::new());
    for line in text.lines().skip(1) {
        let cells: Vec<_> = line.split('\t').collect();
        calls.push_str(cells[0]);
        calls.push('\n');
        rows.push(Row {
            expected: cells[1..4].iter().map(|&cell| cell.to_owned()).collect(),
            deterministic: cells[4] == "True",
        });
    }
    (calls, rows)
}

fn answers(case: &Path, calls: &str) -> Vec<Value> {
    let file = tempfile::NamedTempFile::new().unwrap();
    fs::write(file.path(), calls).unwrap();
    let mut args = vec!["explain".to_owned()];
    let mut option = |name: &str, value: &str| args.extend([name.to_owned(), value.to_owned()]);
    option("--config", "config.yaml");
    option("--calls", file.path().to_str().unwrap());
    if case.join("mesh.yaml").exists() {
        option("--mesh", "mesh.yaml");
    }
    let options = fs::read_to_string(case.join("options.json")).unwrap_or_else(|_| "{}".into());
    let options: Value = serde_json::from_str(&options).unwrap();
    if let Some(port) = options["http_proxy_port"].as_str() {
        option("--http-proxy-port", port);
    }
    let switches = [("allocate", "--allocate-vips"), ("dns_capture", "--dns-capture")];
    let on = switches.iter().filter(|(key, _)| options[*key] == true);
    args.extend(on.map(|(_, flag)| (*flag).to_owned()));
    let args: Vec<_> = args.iter().map(String::as_str).collect();
    let run = egressd_in(case, &args);
    assert_eq!((run.status, &*run.stderr), (0, ""), "{}", case.display());
    run.stdout.lines().map(|line| serde_json::from_str(line).unwrap()).collect()
}
