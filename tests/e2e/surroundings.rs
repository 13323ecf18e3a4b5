//! What the other tests stand on: servers are reached where they are, and nothing else is.

use std::fs;

use egressd_tests::{
    Behaviour, HttpServer, Nginx, Node, Servers, TlsServer, WORLD_V4, WORLD_V6, attached_programs,
    cgroup2_root,
};

use crate::clients;

#[test]
fn an_address_of_no_server_is_unreachable() {
    let node = Node::new();
    let done = node.curl("http://192.0.2.1:27018/").run();
    assert_ne!(done.code(), 0, "a connection that is not captured got through");
    let done = node.curl("http://[2001:db8::1]:27018/").run();
    assert_ne!(done.code(), 0, "a connection that is not captured got through");
}

#[test]
fn servers_inside_this_process_are_reached() {
    let node = Node::new();
    let v4 = format!("{}:9000", WORLD_V4[0]);
    let v6 = format!("[{}]:9000", WORLD_V6[0]);
    let list = [(v4, Behaviour::named("four")), (v6, Behaviour::named("six"))];
    let servers = Servers::tcp(&node.world, list);
    for (address, name) in [(WORLD_V4[0], "four"), (WORLD_V6[0], "six")] {
        let script = "exec 3<>/dev/tcp/$0/9000; head -n 1 <&3";
        assert_eq!(node.app(["bash", "-c", script, address]).run().text(), name);
    }
    assert_eq!(servers.accepted(), 2);
}

#[test]
fn servers_that_people_run_are_reached() {
    let node = Node::new();
    let folder = tempfile::tempdir().unwrap();
    fs::write(folder.path().join("file"), "from python\n").unwrap();
    let _python = HttpServer::start(&node.world, WORLD_V4[0], 8000, folder.path());
    let url = format!("http://{}:8000/file", WORLD_V4[0]);
    assert_eq!(node.curl(&url).run().text(), "from python");

    let _nginx = Nginx::start(&node.world, WORLD_V6[0], 80, "return 200 'from nginx\n';");
    let url = format!("http://[{}]/", WORLD_V6[0]);
    assert_eq!(node.curl(&url).run().text(), "from nginx");

    let tls = TlsServer::start(&node.world, WORLD_V4[1], 443, "tls.example");
    let curl = node.curl("https://tls.example/").arg("--cacert").arg(tls.certificate());
    let curl = curl.arg("--resolve").arg(format!("tls.example:443:{}", WORLD_V4[1]));
    assert!(curl.run().text().contains("TLS"), "the page names the protocol");
}

#[test]
fn a_cgroup_starts_with_its_process_and_ends_with_its_guard() {
    let node = Node::new();
    let path = node.apps.path().to_owned();
    let name = path.strip_prefix(cgroup2_root()).unwrap().display().to_string();
    let text = node.app(["cat", "/proc/self/cgroup"]).run().text();
    assert!(text.lines().any(|line| line == format!("0::/{name}")), "{text}");
    assert!(attached_programs(&node.cgroup).is_empty());
    let _sleeper = node.app(["sleep", "600"]).start();
    drop(node);
    assert!(!path.exists());
}

/// What the unusual clients print is theirs, not capture's.
#[test]
fn unusual_clients_work_without_capture() {
    let node = Node::new();
    for netns in [&node.netns, &node.world] {
        netns.sysctl("ipv4/tcp_fastopen", "1543");
    }
    let list = [WORLD_V4[0].to_owned(), format!("[{}]", WORLD_V6[0])];
    let list = list.map(|address| (format!("{address}:9000"), Behaviour::named("there")));
    let _servers = Servers::tcp(&node.world, list);
    let options: [&[&str]; 7] = [
        &[],
        &["--non-blocking"],
        &["--bind", "0.0.0.0,4711"],
        &["--device", "up0"],
        &["--fast-open", "sendto"],
        &["--fast-open", "connect"],
        &["--mptcp"],
    ];
    for options in options {
        let printed = clients::dial(&node, WORLD_V4[0], 9000, options).run().text();
        assert_eq!(clients::said(&printed, "first"), "there", "{options:?}: {printed}");
        assert_eq!(clients::said(&printed, "echo"), "ping", "{options:?}: {printed}");
    }
    for (address, options) in [(WORLD_V6[0], "--v6-only"), ("::ffff:10.77.0.2", "--non-blocking")] {
        let printed = clients::dial(&node, address, 9000, &[options]).run().text();
        assert_eq!(clients::said(&printed, "first"), "there", "{address}: {printed}");
    }
    let printed = clients::io_uring(&node, WORLD_V4[0], 9000).run().text();
    assert_eq!(clients::said(&printed, "first"), "there", "{printed}");
    assert_eq!(clients::said(&printed, "peer"), format!("{} 9000", WORLD_V4[0]));
}

#[test]
fn many_connections_work_without_capture() {
    let node = Node::new();
    let at = format!("{}:9000", WORLD_V4[0]);
    let _servers = Servers::one(&node.world, &at, Behaviour::named("there"));
    let printed = clients::hold(&node, 500, &[&at.replace(':', ",")]).run().text();
    assert_eq!(clients::said(&printed, "held"), "500", "{printed}");
    let printed = clients::storm(&node, 4, 50, &[(at, "there".to_owned())]).run().text();
    assert_eq!(printed, "wrong 0 failed 0 of 200");
}
