//! TLS towards the endpoints of TCP services, as DestinationRules ask for it: the application speaks
//! plaintext, nginx sees TLS.

use std::{fs, path::Path, time::Instant};

use egressd_tests::{
    AccessLine, Authority, Behaviour, Daemon, Issued, Nginx, Node, Running, Servers, WORLD_V4,
    await_listener,
};

use crate::{
    clients::dial,
    services::{rule, tcp},
};

const VIP: &str = "192.0.2.10";
const PORT: u16 = 80;
const CLUSTER: &str = "outbound|80||one.example";
/// What nginx says: the name it was asked by, the version, and who the client is.
const TELL: &str = "return 200 '[$ssl_server_name] $ssl_protocol [$ssl_client_s_dn]';";

fn service() -> String {
    tcp("one", &[VIP], PORT, &[&format!("{}:8443", WORLD_V4[0])])
}

fn nginx(node: &Node, leaf: &Issued, directives: &str) -> Nginx {
    let server = format!("{} {directives} {TELL}", leaf.for_nginx());
    Nginx::tls(&node.world, WORLD_V4[0], 8443, &server)
}

fn start(node: &Node, policy: &str) -> Daemon {
    node.daemon().resource(service()).resource(rule("one", policy)).start()
}

#[track_caller]
fn get(node: &Node) -> String {
    node.curl("http://192.0.2.10/").run().text()
}

fn file(path: impl AsRef<Path>) -> String {
    path.as_ref().display().to_string()
}

#[test]
fn simple() {
    let (node, ca) = (Node::new(), Authority::new());
    let _nginx = nginx(&node, &ca.issue("db", "DNS:db.example"), "");
    let roots = file(ca.roots());
    let daemon = start(&node, &format!("tls: {{mode: SIMPLE, caCertificates: {roots}}}"));
    // Nobody has named the server: no SNI, and the authority alone vouches for it.
    assert_eq!(get(&node), "[] TLSv1.3 []");
    let record = daemon.wait_record();
    assert_eq!(record.decision(), ("-", CLUSTER, "192.0.2.10:80"), "{}", record.line);
    assert!(record.upstream_local.starts_with("10.77.0.1:"), "{}", record.line);
    assert!(record.bytes_received > 0 && record.bytes_sent > 0);
    daemon.stop();
}

#[test]
fn the_servers_name_is_asked_for_and_demanded() {
    let (node, ca) = (Node::new(), Authority::new());
    let _nginx = nginx(&node, &ca.issue("db", "DNS:db.example"), "");
    let roots = file(ca.roots());
    let policy = |more: &str| format!("tls: {{mode: SIMPLE, caCertificates: {roots}, {more}}}");
    let daemon = start(&node, &policy("sni: db.example, subjectAltNames: [db.example]"));
    assert_eq!(get(&node), "[db.example] TLSv1.3 []");
    daemon.stop();
    let daemon = start(&node, &policy("sni: db.example, subjectAltNames: [other.example]"));
    let record = refused(&node, &daemon);
    let reason = "TLS_error:_certificate_for_another_name:_wanted_other.example";
    assert_eq!(record.failure, reason, "{}", record.line);
}

#[test]
fn the_service_entrys_names_are_demanded_where_the_rule_has_none() {
    let (node, ca) = (Node::new(), Authority::new());
    let spiffe = "spiffe://cluster.local/ns/db/sa/db";
    let _nginx = nginx(&node, &ca.issue("db", &format!("URI:{spiffe}")), "");
    let roots = file(ca.roots());
    let policy = rule("one", &format!("tls: {{mode: SIMPLE, caCertificates: {roots}}}"));
    let named = |name: &str| format!("{}  subjectAltNames: [\"{name}\"]\n", service());
    let daemon = node.daemon().resource(named(spiffe)).resource(&policy).start();
    assert_eq!(get(&node), "[] TLSv1.3 []");
    daemon.stop();
    let other = "spiffe://cluster.local/ns/db/sa/other";
    let daemon = node.daemon().resource(named(other)).resource(policy).start();
    let record = refused(&node, &daemon);
    assert!(record.failure.contains("certificate_for_another_name"), "{}", record.line);
}

#[test]
fn mutual() {
    let (node, ca) = (Node::new(), Authority::new());
    let roots = file(ca.roots());
    let demands = format!("ssl_client_certificate {roots}; ssl_verify_client on;");
    let _nginx = nginx(&node, &ca.issue("db", "DNS:db.example"), &demands);
    let client = ca.issue("client", "DNS:client.example");
    let (certificate, key) = (file(&client.certificate), file(&client.key));
    let policy = format!(
        "tls: {{mode: MUTUAL, caCertificates: {roots}, \
         clientCertificate: {certificate}, privateKey: {key}}}"
    );
    let daemon = start(&node, &policy);
    assert_eq!(get(&node), "[] TLSv1.3 [CN=client]");
    daemon.stop();
}

#[test]
fn the_systems_roots_are_the_default() {
    let (node, ca) = (Node::new(), Authority::new());
    let _nginx = nginx(&node, &ca.issue("db", "DNS:db.example"), "");
    let policy = rule("one", "tls: {mode: SIMPLE}");
    let builder = node.daemon().resource(service()).resource(&policy);
    let daemon = builder.roots(ca.roots()).start();
    assert_eq!(get(&node), "[] TLSv1.3 []");
    daemon.stop();
    let stranger = Authority::new();
    let builder = node.daemon().resource(service()).resource(policy);
    let daemon = builder.roots(stranger.roots()).start();
    let record = refused(&node, &daemon);
    assert_eq!(record.failure, "TLS_error:_certificate_of_unknown_issuer", "{}", record.line);
}

#[test]
fn verification_can_be_switched_off() {
    let (node, ca) = (Node::new(), Authority::new());
    let _nginx = nginx(&node, &ca.issue_until("old", "DNS:db.example", 2021), "");
    let daemon = start(&node, "tls: {mode: SIMPLE, insecureSkipVerify: true}");
    assert_eq!(get(&node), "[] TLSv1.3 []");
    daemon.stop();
}

/// The connection is ended at once, and the record says that no endpoint would do.
#[track_caller]
fn refused(node: &Node, daemon: &Daemon) -> AccessLine {
    let began = Instant::now();
    dial(node, VIP, PORT, &[]).run();
    assert!(began.elapsed().as_secs() < 5, "it took {:?}", began.elapsed());
    let record = daemon.wait_record();
    assert_eq!(record.decision(), ("UF,URX", CLUSTER, "192.0.2.10:80"), "{}", record.line);
    assert_eq!((record.bytes_received, record.bytes_sent), (0, 0), "{}", record.line);
    record
}

#[test]
fn a_bad_certificate_is_refused_with_its_reason() {
    let (node, ca, stranger) = (Node::new(), Authority::new(), Authority::new());
    let roots = file(ca.roots());
    let revoked = ca.issue("revoked", "DNS:db.example");
    let list = file(ca.revoke(&[&revoked]));
    let cases = [
        (ca.issue_until("old", "DNS:db.example", 2021), "certificate_expired"),
        (stranger.issue("db", "DNS:db.example"), "certificate_of_unknown_issuer"),
        (ca.issue("x", "DNS:x.example"), "certificate_for_another_name:_wanted_db.example"),
        (revoked, "certificate_revoked"),
    ];
    for (leaf, reason) in cases {
        let _nginx = nginx(&node, &leaf, "");
        let policy = format!(
            "tls: {{mode: SIMPLE, caCertificates: {roots}, caCrl: {list}, \
             subjectAltNames: [db.example]}}"
        );
        let daemon = start(&node, &policy);
        let record = refused(&node, &daemon);
        assert_eq!(record.failure, format!("TLS_error:_{reason}"), "{}", record.line);
        daemon.stop();
    }
}

#[test]
fn an_endpoint_that_does_not_speak_tls_is_refused_with_its_reason() {
    let (node, ca) = (Node::new(), Authority::new());
    let roots = file(ca.roots());
    let cases = [
        (Behaviour::named("220 hello"), "peer_does_not_speak_TLS"),
        (Behaviour::Close, "closed_by_peer_without_notice"),
        (Behaviour::Reset, "reset_by_peer"),
        (Behaviour::Stall, "handshake_timeout"),
    ];
    for (behaviour, reason) in cases {
        let _server = Servers::one(&node.world, &format!("{}:8443", WORLD_V4[0]), behaviour);
        let policy = format!(
            "connectionPool: {{tcp: {{connectTimeout: 1s}}}}, \
             tls: {{mode: SIMPLE, caCertificates: {roots}}}"
        );
        let daemon = start(&node, &policy);
        let record = refused(&node, &daemon);
        // What the application has sent may make the kernel reset instead of close.
        let reasons = [format!("TLS_error:_{reason}"), "TLS_error:_reset_by_peer".to_owned()];
        assert!(reasons.contains(&record.failure), "{}", record.line);
        daemon.stop();
    }
}

#[test]
fn a_missing_file_fails_its_cluster_alone_until_it_appears() {
    let (node, ca) = (Node::new(), Authority::new());
    let _nginx = nginx(&node, &ca.issue("db", "DNS:db.example"), "");
    let _other =
        Servers::one(&node.world, &format!("{}:9000", WORLD_V4[1]), Behaviour::named("plain"));
    let late = ca.file("late.pem");
    let policy = format!("tls: {{mode: SIMPLE, caCertificates: {}}}", file(&late));
    let other = tcp("two", &["192.0.2.20"], 9000, &[&format!("{}:9000", WORLD_V4[1])]);
    let builder = node.daemon().resource(service()).resource(rule("one", &policy));
    let daemon = builder.resource(other).start();
    let record = refused(&node, &daemon);
    let reason = format!("TLS_error:_file_missing:_ca_{}", file(&late));
    assert_eq!(record.failure, reason, "{}", record.line);
    dial(&node, "192.0.2.20", 9000, &[]).run().text();
    assert_eq!(daemon.wait_records(2)[1].flags, "-");
    fs::copy(ca.roots(), &late).unwrap();
    let answer = egressd_tests::until("the file to be seen", || {
        let done = node.curl("http://192.0.2.10/").run();
        (done.code() == 0).then_some(done.stdout)
    });
    assert_eq!(answer, "[] TLSv1.3 []");
    daemon.stop();
}

#[test]
fn a_renewed_certificate_is_used_without_a_reload() {
    let (node, ca) = (Node::new(), Authority::new());
    let roots = file(ca.roots());
    let demands = format!("ssl_client_certificate {roots}; ssl_verify_client on;");
    let _nginx = nginx(&node, &ca.issue("db", "DNS:db.example"), &demands);
    let (certificate, key) = (ca.file("shown.pem"), ca.file("shown.key"));
    ca.issue("first", "DNS:first.example").put(&certificate, &key);
    let policy = format!(
        "tls: {{mode: MUTUAL, caCertificates: {roots}, \
         clientCertificate: {}, privateKey: {}}}",
        file(&certificate),
        file(&key)
    );
    let daemon = start(&node, &policy);
    assert_eq!(get(&node), "[] TLSv1.3 [CN=first]");
    ca.issue("second", "DNS:second.example").put(&certificate, &key);
    egressd_tests::until("the new certificate to be shown", || {
        get(&node).contains("CN=second").then_some(())
    });
    assert_eq!(daemon.number("/generation"), 1);
    daemon.stop();
}

/// A server may object to a client once the handshake is over, as TLS 1.3 has it.
#[test]
fn a_client_that_is_refused_after_the_handshake_leaves_the_reason() {
    let (node, ca) = (Node::new(), Authority::new());
    let leaf = ca.issue("db", "DNS:db.example");
    let words = ["openssl", "s_server", "-quiet", "-Verify", "1", "-verify_return_error"];
    let server = node.server(words).arg("-accept").arg(format!("{}:8443", WORLD_V4[0]));
    let server = server.arg("-CAfile").arg(ca.roots()).arg("-cert").arg(&leaf.certificate);
    let _server = server.arg("-key").arg(&leaf.key).start();
    await_listener(&node.world, WORLD_V4[0], 8443);
    let policy = format!("tls: {{mode: SIMPLE, caCertificates: {}}}", file(ca.roots()));
    let daemon = start(&node, &policy);
    dial(&node, VIP, PORT, &[]).run();
    let record = daemon.wait_record();
    assert_eq!(record.flags, "UC", "{}", record.line);
    let reason = "TLS_error:_refused_by_peer:_certificate_required";
    assert_eq!(record.failure, reason, "{}", record.line);
}

#[test]
fn mesh_tls_without_an_identity_fails_closed() {
    let node = Node::new();
    let server =
        Servers::one(&node.world, &format!("{}:8443", WORLD_V4[0]), Behaviour::named("plain"));
    let daemon = start(&node, "tls: {mode: ISTIO_MUTUAL}");
    let record = refused(&node, &daemon);
    assert_eq!(record.failure, "TLS_error:_no_mesh_identity", "{}", record.line);
    assert_eq!(server.accepted(), 0, "nothing may be sent in plaintext");
}

#[test]
fn mesh_endpoints_without_an_identity_are_spoken_to_in_plaintext_with_one_warning() {
    let node = Node::new();
    let _server =
        Servers::one(&node.world, &format!("{}:8443", WORLD_V4[0]), Behaviour::named("plain"));
    let service = service().replace("  resolution:", "  location: MESH_INTERNAL\n  resolution:");
    let service = service.replace("ports: {tcp: 8443}", "ports: {tcp: 8443}, serviceAccount: db");
    let daemon = node.daemon().resource(service).start();
    for _ in 0..3 {
        dial(&node, VIP, PORT, &[]).run().text();
    }
    assert!(daemon.wait_records(3).iter().all(|record| record.flags == "-"));
    let warnings = daemon.log().matches("mesh endpoints are spoken to in plaintext").count();
    assert_eq!(warnings, 1, "{}", daemon.log());
}

/// A sidecar of a mesh: settles on its protocol, and tells the name asked for and who the client is.
const PEER: &str = r#"
import socket, ssl, sys, threading
context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
context.load_cert_chain(sys.argv[1], sys.argv[2])
context.load_verify_locations(sys.argv[3])
context.verify_mode = ssl.CERT_REQUIRED
context.set_alpn_protocols(["istio"])
names = {}
context.sni_callback = lambda sock, name, _: names.update({sock: name})
listener = socket.create_server(("10.77.0.2", 8443))
print("listening", flush=True)
def serve(plain):
    try:
        with context.wrap_socket(plain, server_side=True) as sock:
            while b"\r\n\r\n" not in sock.recv(4096):
                pass
            client = dict(pair[0] for pair in sock.getpeercert()["subject"])["commonName"]
            body = f"[{names[sock]}] {sock.version()} [{client}] {sock.selected_alpn_protocol()}"
            head = f"HTTP/1.1 200 OK\r\nContent-Length: {len(body)}\r\nConnection: close\r\n\r\n"
            sock.sendall((head + body).encode())
            sock.unwrap()
    except (OSError, ssl.SSLError):
        pass
while True:
    threading.Thread(target=serve, args=(listener.accept()[0],), daemon=True).start()
"#;

/// The daemon's own identity in a mesh, and a sidecar of that mesh with this SPIFFE identity.
fn mesh(node: &Node, ca: &Authority, peer: &str) -> (String, Running) {
    let ours = ca.issue("node", "URI:spiffe://td.example/ns/default/sa/node");
    let identity = format!(
        "identity: {{certificate: {}, key: {}, ca: {}, trustDomain: td.example}}",
        file(&ours.certificate),
        file(&ours.key),
        file(ca.roots())
    );
    let theirs = ca.issue("peer", &format!("URI:{peer}"));
    let server = node.server(["/usr/bin/python3", "-c", PEER]).arg(&theirs.certificate);
    let mut server = server.arg(&theirs.key).arg(ca.roots()).start();
    server.wait_stdout("that it listens", |line| line.trim() == "listening");
    (identity, server)
}

/// The service, inside the mesh, with an endpoint that has a service account.
fn inside(account: &str) -> String {
    let inside = service().replace("  resolution:", "  location: MESH_INTERNAL\n  resolution:");
    inside.replace("{tcp: 8443}", &format!("{{tcp: 8443}}, serviceAccount: {account}"))
}

#[test]
fn mesh_tls_shows_the_nodes_identity() {
    let (node, ca) = (Node::new(), Authority::new());
    let (identity, _peer) = mesh(&node, &ca, "spiffe://td.example/ns/default/sa/db");
    let policy = rule("one", "tls: {mode: ISTIO_MUTUAL}");
    let daemon = node.daemon().config(&identity).resource(service()).resource(&policy).start();
    assert_eq!(get(&node), "[outbound_.80_._.one.example] TLSv1.3 [node] istio");
    daemon.stop();
    // The seeds' remote-cluster-service has an HTTP port.
    let http =
        service().replace("protocol: TCP", "protocol: HTTP").replace("192.0.2.10", "192.0.2.11");
    let daemon = node.daemon().config(&identity).resource(http).resource(policy).start();
    let text =
        node.curl("http://192.0.2.11/").arg("--header").arg("Host: one.example").run().text();
    assert_eq!(text, "[outbound_.80_._.one.example] TLSv1.3 [node] istio");
    daemon.stop();
}

#[test]
fn endpoints_inside_the_mesh_must_be_who_they_should() {
    let (node, ca) = (Node::new(), Authority::new());
    let (identity, _peer) = mesh(&node, &ca, "spiffe://td.example/ns/default/sa/db");
    let http = |yaml: String| yaml.replace("protocol: TCP", "protocol: HTTP");
    let ask = |code: &str| {
        let spawn = node.curl("http://192.0.2.10/").arg("--header").arg("Host: one.example");
        spawn.arg("--output").arg("/dev/null").arg("--write-out").arg(code).run().stdout
    };
    for (yaml, code) in [(inside("db"), "200"), (http(inside("db")), "200")] {
        let daemon = node.daemon().config(&identity).resource(yaml).start();
        assert_eq!(ask("%{http_code}"), code, "{}", daemon.log());
        daemon.stop();
    }
    for (yaml, code) in [(inside("other"), "000"), (http(inside("other")), "503")] {
        let daemon = node.daemon().config(&identity).resource(yaml).start();
        assert_eq!(ask("%{http_code}"), code);
        let record = daemon.wait_record();
        let wanted = "wanted_spiffe://td.example/ns/default/sa/other";
        assert!(record.failure.ends_with(wanted), "{}", record.line);
        daemon.stop();
    }
}
