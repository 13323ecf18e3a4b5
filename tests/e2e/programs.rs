//! The programs that everybody has, through a service: bytes, record, and what they were told.

use std::fs;

use egressd_tests::{HttpServer, Nginx, Node, TlsServer, WORLD_V4, WORLD_V6};

use crate::services;

const VIP: &str = "192.0.2.80";

#[test]
fn curl() {
    let node = Node::new();
    let _nginx = Nginx::start(&node.world, WORLD_V4[0], 8080, "return 200 'from nginx\n';");
    let endpoint = format!("{}:8080", WORLD_V4[0]);
    let service = services::tcp("web", &[VIP, "2001:db8::80"], 80, &[&endpoint]);
    let daemon = node.daemon().resource(service).start();
    let asked = "%{remote_ip} %{remote_port}";
    let text = node.curl("http://192.0.2.80/").arg("--write-out").arg(asked).run().text();
    // The address curl reports comes from getpeername().
    assert_eq!(text, "from nginx\n192.0.2.80 80");
    let url = "http://[2001:db8::80]/";
    let text = node.curl(url).arg("--write-out").arg(asked).run().text();
    assert_eq!(text, "from nginx\n2001:db8::80 80");
    let records = daemon.wait_records(2);
    assert_eq!(records[0].decision(), ("-", "outbound|80||web.example", "192.0.2.80:80"));
    assert_eq!(records[1].decision(), ("-", "outbound|80||web.example", "[2001:db8::80]:80"));
}

#[test]
fn curl_of_a_large_file() {
    const SIZE: usize = 32 << 20;
    let node = Node::new();
    let folder = tempfile::tempdir().unwrap();
    let bytes: Vec<u8> = (0..SIZE).map(|at| (at / 251 + at % 251) as u8).collect();
    fs::write(folder.path().join("large"), &bytes).unwrap();
    let _python = HttpServer::start(&node.world, WORLD_V6[0], 8080, folder.path());
    let endpoint = format!("[{}]:8080", WORLD_V6[0]);
    let daemon = node.daemon().resource(services::tcp("web", &[VIP], 80, &[&endpoint])).start();
    let got = folder.path().join("got");
    node.curl("http://192.0.2.80/large").arg("--output").arg(&got).run().text();
    assert!(fs::read(&got).unwrap() == bytes, "the file has changed on the way");
    assert!(daemon.wait_record().bytes_sent > SIZE as u64);
}

#[test]
fn openssl_s_client() {
    let node = Node::new();
    let tls = TlsServer::start(&node.world, WORLD_V4[0], 8443, "tls.example");
    let endpoint = format!("{}:8443", WORLD_V4[0]);
    let daemon = node.daemon().resource(services::tcp("tls", &[VIP], 443, &[&endpoint])).start();
    let words = ["openssl", "s_client", "-connect", "192.0.2.80:443", "-verify_return_error"];
    let client = node.app(words).arg("-servername").arg("tls.example");
    let client = client.arg("-CAfile").arg(tls.certificate());
    let done = client.input("GET / HTTP/1.0\r\n\r\n").run();
    assert!(done.stdout.contains("Verify return code: 0 (ok)"), "{}{}", done.stdout, done.stderr);
    assert_eq!(daemon.wait_record().upstream_cluster, "outbound|443||tls.example");
}

#[test]
fn bash() {
    let node = Node::new();
    let _nginx = Nginx::start(&node.world, WORLD_V4[0], 8080, "return 200 'from nginx\n';");
    let endpoint = format!("{}:8080", WORLD_V4[0]);
    let daemon = node.daemon().resource(services::tcp("web", &[VIP], 80, &[&endpoint])).start();
    let script = "exec 3<>/dev/tcp/$0/80; printf 'GET / HTTP/1.0\\r\\n\\r\\n' >&3; tail -n 1 <&3";
    assert_eq!(node.app(["bash", "-c", script, VIP]).run().text(), "from nginx");
    assert_eq!(daemon.wait_record().downstream_local, "192.0.2.80:80");
}
