//! TLS that egressd originates, to real nginx: names, certificates of our own, HTTP/2 by ALPN.

use egressd_tests::{Authority, Nginx, WORLD_V4};

use super::{
    clients,
    world::{World, last},
};

const HOST: &str = "secure.example";

/// A service on port 80 whose endpoint speaks TLS on 8443, and a DestinationRule with this `tls`.
fn resources(protocol: &str, tls: &str) -> String {
    format!(
        "apiVersion: networking.istio.io/v1\n\
         kind: ServiceEntry\n\
         metadata: {{name: secure}}\n\
         spec:\n\
         \x20 hosts: [{HOST}]\n\
         \x20 ports: [{{number: 80, name: port, protocol: {protocol}, targetPort: 8443}}]\n\
         \x20 resolution: STATIC\n\
         \x20 endpoints: [{{address: {}}}]\n\
         ---\n\
         apiVersion: networking.istio.io/v1\n\
         kind: DestinationRule\n\
         metadata: {{name: secure}}\n\
         spec: {{host: {HOST}, trafficPolicy: {{tls: {tls}}}}}\n",
        WORLD_V4[0]
    )
}

fn server(world: &World, authority: &Authority, names: &str, more: &str) -> Nginx {
    let shown = authority.issue("server", names).for_nginx();
    let told = "location / { return 200 \"$server_protocol [$ssl_server_name] $http_host \
                $ssl_client_verify $ssl_alpn_protocol\\n\"; }";
    Nginx::tls(&world.node.world, WORLD_V4[0], 8443, &format!("{shown} {more} {told}"))
}

#[test]
fn the_version_is_the_ports_and_agreed_by_alpn() {
    for (protocol, version, alpn) in
        [("HTTP", "HTTP/1.1", "http/1.1"), ("HTTP2", "HTTP/2.0", "h2"), ("GRPC", "HTTP/2.0", "h2")]
    {
        let (world, authority) = (World::new(&[]), Authority::new());
        let _server = server(&world, &authority, &format!("DNS:{HOST}"), "");
        let daemon = world.daemon().roots(authority.roots());
        let daemon = daemon.resource(resources(protocol, "{mode: SIMPLE}")).start();
        let answer = world.get("http://secure.example/", &[]);
        let told = format!("{version} [{HOST}] {HOST} NONE {alpn}");
        assert_eq!(answer.told(), (200, told.as_str()), "{protocol}");
        daemon.stop();
    }
}

#[test]
fn a_certificate_for_another_name_is_refused() {
    let (world, authority) = (World::new(&[]), Authority::new());
    let _server = server(&world, &authority, "DNS:other.example", "");
    let daemon = world.daemon().roots(authority.roots());
    let daemon = daemon.resource(resources("HTTP", "{mode: SIMPLE}")).start();
    let answer = world.get("http://secure.example/", &[]);
    assert_eq!(answer.status, 503, "{answer:?}");
    assert!(answer.body.contains("TLS"), "{answer:?}");
    let record = last(&daemon, 1);
    assert_eq!((record.code.as_str(), record.flags.as_str()), ("503", "UF,URX"));
    daemon.put(0, &resources("HTTP", "{mode: SIMPLE, subjectAltNames: [other.example]}"));
    super::world::wait_generation(&daemon, 2);
    assert_eq!(world.get("http://secure.example/", &[]).status, 200);
    daemon.put(0, &resources("HTTP", "{mode: SIMPLE, sni: other.example}"));
    super::world::wait_generation(&daemon, 3);
    let named = world.get("http://secure.example/", &[]);
    assert!(named.body.contains("[other.example] secure.example"), "{named:?}");
    daemon.stop();
}

#[test]
fn an_authority_that_nobody_trusts_is_refused() {
    let (world, authority, other) = (World::new(&[]), Authority::new(), Authority::new());
    let _server = server(&world, &authority, &format!("DNS:{HOST}"), "");
    let daemon = world.daemon().roots(other.roots());
    let daemon = daemon.resource(resources("HTTP", "{mode: SIMPLE}")).start();
    let answer = world.get("http://secure.example/", &[]);
    assert_eq!(answer.status, 503, "{answer:?}");
    let file = authority.roots();
    let tls = format!("{{mode: SIMPLE, caCertificates: {}}}", file.display());
    daemon.put(0, &resources("HTTP", &tls));
    super::world::wait_generation(&daemon, 2);
    assert_eq!(world.get("http://secure.example/", &[]).status, 200);
    daemon.stop();
}

#[test]
fn a_certificate_of_our_own_is_shown() {
    let (world, authority) = (World::new(&[]), Authority::new());
    let asking =
        format!("ssl_verify_client on; ssl_client_certificate {};", authority.roots().display());
    let _server = server(&world, &authority, &format!("DNS:{HOST}"), &asking);
    let daemon = world.daemon().roots(authority.roots());
    let daemon = daemon.resource(resources("HTTP", "{mode: SIMPLE}")).start();
    // nginx says so itself, over TLS.
    assert_eq!(world.get("http://secure.example/", &[]).status, 400);
    let ours = authority.issue("client", "DNS:client.example");
    let tls = format!(
        "{{mode: MUTUAL, clientCertificate: {}, privateKey: {}, caCertificates: {}}}",
        ours.certificate.display(),
        ours.key.display(),
        authority.roots().display()
    );
    daemon.put(0, &resources("HTTP2", &tls));
    super::world::wait_generation(&daemon, 2);
    let answer = world.get("http://secure.example/", &[]);
    assert_eq!(answer.told(), (200, "HTTP/2.0 [secure.example] secure.example SUCCESS h2"));
    daemon.stop();
}

#[test]
fn a_method_that_nobody_knows_goes_inside_tls_as_well() {
    let (world, authority) = (World::new(&[]), Authority::new());
    let _server = server(&world, &authority, &format!("DNS:{HOST}"), "");
    let daemon = world.daemon().roots(authority.roots());
    let daemon = daemon.resource(resources("HTTP", "{mode: SIMPLE}")).start();
    let answer = world.get("http://secure.example/", &["--request", "MKCALENDAR"]);
    let told = format!("HTTP/1.1 [{HOST}] {HOST} NONE http/1.1");
    assert_eq!(answer.told(), (200, told.as_str()));
    daemon.stop();
}

#[test]
fn websocket_inside_tls() {
    let (world, authority) = (World::new(&[]), Authority::new());
    let _plain = clients::server(&world, clients::WEBSOCKET, 8765);
    let shown = authority.issue("server", &format!("DNS:{HOST}")).for_nginx();
    let passing = format!(
        "{shown} location / {{ proxy_pass http://{}:8765; proxy_http_version 1.1; \
         proxy_set_header Upgrade $http_upgrade; proxy_set_header Connection upgrade; }}",
        WORLD_V4[0]
    );
    let _server = Nginx::tls(&world.node.world, WORLD_V4[0], 8443, &passing);
    let daemon = world.daemon().roots(authority.roots());
    let daemon = daemon.resource(resources("HTTP", "{mode: SIMPLE}")).start();
    let call = ["call", "ws://secure.example/chat"];
    let printed = clients::with_pypi(&world.node, clients::WEBSOCKET, &call).run();
    assert_eq!(printed.text(), "HELLO\n200000\npong\nclosed 1000");
    let record = daemon.wait_record();
    assert_eq!((record.code.as_str(), record.flags.as_str()), ("101", "-"));
    daemon.stop();
}
