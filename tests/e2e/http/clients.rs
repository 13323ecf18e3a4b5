//! Clients that people write programs with, through capture: Python, Node, Java, gRPC, WebSocket.

use egressd_tests::{Httpbin, Node, PYTHON, Running, Spawn, WORLD_V4};

use super::world::World;

const PYTHON_CLIENT: &str = include_str!("../clients/http.py");
const NODE_CLIENT: &str = include_str!("../clients/http.js");
const JAVA_CLIENT: &str = include_str!("../clients/Http.java");
const GRPC: &str = include_str!("../clients/grpc_echo.py");
const GRPC_WEB: &str = include_str!("../clients/grpc_web_echo.py");
pub(super) const WEBSOCKET: &str = include_str!("../clients/websocket_echo.py");

/// A service at a world's address.
fn service(host: &str, protocol: &str, target: u16) -> String {
    format!(
        "apiVersion: networking.istio.io/v1\n\
         kind: ServiceEntry\n\
         metadata: {{name: {host}}}\n\
         spec:\n\
         \x20 hosts: [{host}]\n\
         \x20 ports: [{{number: 80, name: port, protocol: {protocol}, targetPort: {target}}}]\n\
         \x20 resolution: STATIC\n\
         \x20 endpoints: [{{address: {}}}]\n",
        WORLD_V4[0]
    )
}

pub(super) fn with_pypi<'a>(node: &'a Node, script: &str, words: &[&str]) -> Spawn<'a> {
    let spawn = node.app([PYTHON, "-c", script]);
    words.iter().fold(spawn, |spawn, word| spawn.arg(word))
}

/// Runs a client against httpbin; each does the same things and prints the same lines.
fn does_it_all(run: impl FnOnce(&Node) -> String) {
    let world = World::new(&[]);
    let _httpbin = Httpbin::start(&world.node.world, WORLD_V4[0], 8000);
    let daemon = world.daemon().resource(service("httpbin.org", "HTTP", 8000)).start();
    let printed = run(&world.node);
    let expected = "get 200 value\npost 200 100000\nstatus 418\nredirect 200 /get\n\
                    stream 200 20\nparallel 20\n";
    assert_eq!(printed.trim(), expected.trim());
    // get, post, status, three of redirects, stream, twenty at once.
    let records = daemon.wait_records(1 + 1 + 1 + 3 + 1 + 20);
    let ours = |record: &&egressd_tests::AccessLine| {
        record.upstream_cluster == "outbound|80||httpbin.org" && record.flags == "-"
    };
    assert_eq!(records.iter().filter(ours).count(), records.len(), "{records:#?}");
    daemon.stop();
}

#[test]
fn python_requests() {
    does_it_all(|node| with_pypi(node, PYTHON_CLIENT, &["requests"]).run().text());
}

#[test]
fn python_httpx() {
    does_it_all(|node| with_pypi(node, PYTHON_CLIENT, &["httpx"]).run().text());
}

#[test]
fn node_fetch() {
    does_it_all(|node| node.app(["node", "-e", NODE_CLIENT]).run().text());
}

#[test]
fn java_http_client() {
    let folder = tempfile::TempDir::with_prefix("egressd-java-").unwrap();
    let source = folder.path().join("Http.java");
    std::fs::write(&source, JAVA_CLIENT).unwrap();
    // By default Java asks every server on port 80 to switch to HTTP/2.
    does_it_all(|node| node.app(["java"]).arg(&source).run().text());
}

pub(super) fn server(world: &World, script: &str, port: u16) -> Running {
    let spawn = world.node.server([PYTHON, "-c", script, "serve"]);
    let mut server = spawn.arg(format!("{}:{port}", WORLD_V4[0])).start();
    server.wait_stdout("that it serves", |line| line.contains("ready"));
    server
}

#[test]
fn grpc_in_every_direction() {
    let world = World::new(&[]);
    let _server = server(&world, GRPC, 50051);
    let daemon = world.daemon().resource(service("grpc.example", "GRPC", 50051)).start();
    let printed = with_pypi(&world.node, GRPC, &["call", "grpc.example:80"]).run().text();
    let expected = "unary hello\nserver-stream 0 1 2 3 4\nclient-stream 10\n\
                    both a:0 b:1 c:2\nerror FAILED_PRECONDITION told so\ntrailer spent\n\
                    deadline DEADLINE_EXCEEDED";
    assert_eq!(printed, expected);
    let records = daemon.wait_records(7);
    for record in &records {
        assert_eq!(record.upstream_cluster, "outbound|80||grpc.example");
        assert_eq!(record.code, "200", "{record:?}");
        assert!(record.request.ends_with(" HTTP/2"), "{record:?}");
    }
    daemon.stop();
}

/// What a browser sends goes to the server as it is, on HTTP/2, and so does the answer with its trailers
/// in the body.
#[test]
fn grpc_web_from_http1() {
    let world = World::new(&[]);
    let _server = server(&world, GRPC_WEB, 50052);
    let daemon = world.daemon().resource(service("web.example", "GRPC-WEB", 50052)).start();
    let folder = tempfile::TempDir::with_prefix("egressd-grpc-web-").unwrap();
    let (sent, got) = (folder.path().join("sent"), folder.path().join("got"));
    let message = b"\0\0\0\0\x05hello";
    std::fs::write(&sent, message).unwrap();
    let data = format!("@{}", sent.display());
    for version in ["--http1.1", "--http2-prior-knowledge"] {
        let arguments = [
            version,
            "--header",
            "content-type: application/grpc-web+proto",
            "--header",
            "x-grpc-web: 1",
            "--data-binary",
            &data,
            "--output",
            got.to_str().unwrap(),
            "--write-out",
            "%{http_code} %{content_type}",
        ];
        let spawn = world.node.curl("http://web.example/test.Echo/unary");
        let said = arguments.iter().fold(spawn, |spawn, word| spawn.arg(word)).run().text();
        assert_eq!(said, "200 application/grpc-web+proto", "{version}");
        let trailers = b"\x80\0\0\0\x0fgrpc-status:0\r\n";
        assert_eq!(std::fs::read(&got).unwrap(), [&message[..], trailers].concat(), "{version}");
    }
    for record in &daemon.wait_records(2) {
        assert_eq!(record.upstream_cluster, "outbound|80||web.example");
        assert_eq!((record.code.as_str(), record.flags.as_str()), ("200", "-"));
    }
    daemon.stop();
}

#[test]
fn websocket_and_its_bytes() {
    let world = World::new(&[]);
    let _server = server(&world, WEBSOCKET, 8765);
    let daemon = world.daemon().resource(service("ws.example", "HTTP", 8765)).start();
    let printed = with_pypi(&world.node, WEBSOCKET, &["call", "ws://ws.example/chat"]).run();
    assert_eq!(printed.text(), "HELLO\n200000\npong\nclosed 1000");
    let record = daemon.wait_record();
    assert_eq!((record.code.as_str(), record.flags.as_str()), ("101", "-"));
    assert!(record.bytes_sent > 200_000, "{record:?}");
    daemon.stop();
}
