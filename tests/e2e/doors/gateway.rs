//! Servers of Gateways, by what they do with TLS (semantics.md §6).

use std::{fs, path::Path};

use egressd_tests::{Authority, Issued, Nginx};

use super::world::{GATEWAY, Hops, OUTSIDE, TELLING, entry, gateway, last, rule};

const HOST: &str = "a.example";

/// Puts a certificate where `credentialName: NAME` finds it.
fn put(folder: &Path, name: &str, issued: &Issued, roots: &Path) {
    let folder = folder.join("credentials").join(name);
    fs::create_dir_all(&folder).unwrap();
    fs::copy(&issued.certificate, folder.join("tls.crt")).unwrap();
    fs::copy(&issued.key, folder.join("tls.key")).unwrap();
    fs::copy(roots, folder.join("ca.crt")).unwrap();
}

fn resolve(host: &str, port: u16) -> String {
    format!("{host}:{port}:{GATEWAY}")
}

#[test]
fn tls_is_passed_on_by_its_name() {
    let hops = Hops::new(&[HOST]);
    let authority = Authority::new();
    let issued = authority.issue("server", "DNS:a.example");
    let directives = format!("{} {TELLING}", issued.for_nginx());
    let _server = Nginx::tls(&hops.outside, OUTSIDE, 443, &directives);
    let daemon = hops
        .gateway()
        .resource(entry("a", HOST, "{number: 443, name: tls, protocol: TLS}"))
        .resource(gateway(
            "{port: {number: 443, name: tls, protocol: TLS}, hosts: [a.example], \
              tls: {mode: PASSTHROUGH}}",
        ))
        .resource(rule(
            "a",
            HOST,
            "tls: [{match: [{sniHosts: [a.example]}], \
                    route: [{destination: {host: a.example, port: {number: 443}}}]}]",
        ))
        .start();
    let roots = authority.roots();
    let roots = roots.to_str().unwrap();
    let (a, b) = (resolve(HOST, 443), resolve("b.example", 443));
    let text = hops.curl(&["--cacert", roots, "--resolve", &a, "https://a.example/x"]).text();
    assert_eq!(text, "outside a.example /x\n200");
    let record = last(&daemon, 1);
    assert_eq!(record.upstream_cluster, "outbound|443||a.example");
    assert_eq!(record.downstream_local, format!("{GATEWAY}:443"));
    // A name that no server has.
    let refused = hops.curl(&["--cacert", roots, "--resolve", &b, "https://b.example/"]);
    assert_ne!(refused.code(), 0, "{}", refused.stderr);
    let record = last(&daemon, 2);
    assert_eq!((record.flags.as_str(), record.upstream_cluster.as_str()), ("NR", "-"));
    daemon.stop();
}

#[test]
fn tls_ends_at_the_gateway_with_a_credential() {
    let hops = Hops::new(&[HOST]);
    let _server = hops.server(80);
    let authority = Authority::new();
    let builder = hops.gateway();
    let issued = authority.issue("gateway", "DNS:a.example");
    put(builder.folder(), "edge-tls", &issued, &authority.roots());
    let daemon = builder
        .resource(entry("a", HOST, "{number: 80, name: http, protocol: HTTP}"))
        .resource(gateway(
            "{port: {number: 443, name: https, protocol: HTTPS}, hosts: [a.example], \
              tls: {mode: SIMPLE, credentialName: edge-tls}}, \
             {port: {number: 8443, name: closed, protocol: HTTPS}, hosts: [a.example], \
              tls: {mode: SIMPLE, credentialName: absent}}",
        ))
        .resource(rule("a", HOST, "http: [{route: [{destination: {host: a.example}}]}]"))
        .start();
    let roots = authority.roots();
    let roots = roots.to_str().unwrap();
    let resolved = resolve(HOST, 443);
    for version in ["--http1.1", "--http2"] {
        let arguments = [version, "--cacert", roots, "--resolve", &resolved, "https://a.example/x"];
        assert_eq!(hops.curl(&arguments).text(), "outside a.example /x\n200", "{version}");
    }
    let records = daemon.wait_records(2);
    assert_eq!(records[0].request, "GET /x HTTP/1.1");
    assert_eq!(records[1].request, "GET /x HTTP/2");
    assert_eq!(records[1].upstream_cluster, "outbound|80||a.example");
    // Another server's missing files close that one alone.
    let resolved = resolve(HOST, 8443);
    let refused =
        hops.curl(&["--cacert", roots, "--resolve", &resolved, "https://a.example:8443/"]);
    assert_ne!(refused.code(), 0, "{}", refused.stderr);
    assert_eq!(last(&daemon, 3).flags, "DPE");
    daemon.stop();
}

#[test]
fn clients_without_a_good_certificate_stay_out() {
    let hops = Hops::new(&[HOST]);
    let _server = hops.server(80);
    let (authority, other) = (Authority::new(), Authority::new());
    let builder = hops.gateway();
    let issued = authority.issue("gateway", "DNS:a.example");
    put(builder.folder(), "edge-tls", &issued, &authority.roots());
    let daemon = builder
        .resource(entry("a", HOST, "{number: 80, name: http, protocol: HTTP}"))
        .resource(gateway(
            "{port: {number: 443, name: https, protocol: HTTPS}, hosts: [a.example], \
              tls: {mode: MUTUAL, credentialName: edge-tls, subjectAltNames: [good.example]}}",
        ))
        .resource(rule("a", HOST, "http: [{route: [{destination: {host: a.example}}]}]"))
        .start();
    let roots = authority.roots();
    let roots = roots.to_str().unwrap();
    let resolved = resolve(HOST, 443);
    let with = |client: Option<&Issued>| {
        let mut arguments = vec!["--cacert", roots, "--resolve", &resolved, "https://a.example/"];
        if let Some(client) = client {
            arguments.extend(["--cert", client.certificate.to_str().unwrap()]);
            arguments.extend(["--key", client.key.to_str().unwrap()]);
        }
        hops.curl(&arguments)
    };
    let good = authority.issue("good", "DNS:good.example");
    let misnamed = authority.issue("misnamed", "DNS:bad.example");
    let foreign = other.issue("foreign", "DNS:good.example");
    assert_eq!(with(Some(&good)).text(), "outside a.example /\n200");
    for (why, client) in
        [("none", None), ("misnamed", Some(&misnamed)), ("foreign", Some(&foreign))]
    {
        let refused = with(client);
        assert_ne!(refused.code(), 0, "{why}: {}", refused.stdout);
    }
    for record in &daemon.wait_records(4)[1..] {
        assert_eq!(record.flags, "DPE", "{record:?}");
    }
    daemon.stop();
}

#[test]
fn bytes_leave_their_tls_and_enter_another_one() {
    let hops = Hops::new(&[HOST]);
    let authority = Authority::new();
    let server = authority.issue("server", "DNS:a.example");
    let _plain = Nginx::start(&hops.outside, OUTSIDE, 9000, TELLING);
    let directives = format!("{} {TELLING}", server.for_nginx());
    let _sealed = Nginx::tls(&hops.outside, OUTSIDE, 9443, &directives);
    let builder = hops.gateway();
    put(builder.folder(), "edge-tls", &server, &authority.roots());
    let ports =
        "{number: 9000, name: tcp, protocol: TCP}, {number: 9443, name: tcps, protocol: TCP}";
    let tls = "tls: {mode: SIMPLE, credentialName: edge-tls}";
    let server = |port: u16| {
        format!(
            "{{port: {{number: {port}, name: tls-{port}, protocol: TLS}}, \
               hosts: [a.example], {tls}}}"
        )
    };
    let route = |port: u16, to: u16| {
        format!(
            "{{match: [{{port: {port}}}], \
               route: [{{destination: {{host: a.example, port: {{number: {to}}}}}}}]}}"
        )
    };
    let daemon = builder
        .resource(entry("a", HOST, ports))
        .resource(format!(
            "apiVersion: networking.istio.io/v1\n\
             kind: DestinationRule\n\
             metadata: {{name: a, namespace: istio-system}}\n\
             spec:\n  host: a.example\n  trafficPolicy:\n    portLevelSettings:\n\
             \x20   - port: {{number: 9443}}\n\
             \x20     tls: {{mode: SIMPLE, sni: a.example, caCertificates: {}}}\n",
            authority.roots().display()
        ))
        .resource(gateway(&format!("{}, {}", server(1443), server(2443))))
        .resource(rule("a", HOST, &format!("tcp: [{}, {}]", route(1443, 9000), route(2443, 9443))))
        .start();
    let roots = authority.roots();
    let roots = roots.to_str().unwrap();
    for (count, port) in [(1, 1443), (2, 2443)] {
        let url = format!("https://a.example:{port}/x");
        let resolved = resolve(HOST, port);
        let text = hops.curl(&["--cacert", roots, "--resolve", &resolved, &url]).text();
        assert_eq!(text, format!("outside a.example:{port} /x\n200"));
        let record = last(&daemon, count);
        assert_eq!((record.code.as_str(), record.flags.as_str()), ("0", "-"), "{record:?}");
    }
    daemon.stop();
}

#[test]
fn tls_of_the_mesh_is_passed_on_by_the_names_its_proxies_give() {
    let hops = Hops::new(&[HOST]);
    let authority = Authority::new();
    let issued = authority.issue("server", "DNS:a.example");
    let directives = format!("{} {TELLING}", issued.for_nginx());
    let _server = Nginx::tls(&hops.outside, OUTSIDE, 443, &directives);
    let daemon = hops
        .gateway()
        .resource(entry("a", HOST, "{number: 443, name: https, protocol: HTTPS}"))
        .resource(gateway(
            "{port: {number: 15443, name: tls, protocol: TLS}, hosts: ['*.example'], \
              tls: {mode: AUTO_PASSTHROUGH}}",
        ))
        .start();
    let ask = |name: &str| {
        let url = format!("https://{name}:15443/x");
        hops.curl(&["--insecure", "--resolve", &resolve(name, 15443), &url])
    };
    let said = ask("outbound_.443_._.a.example").text();
    assert_eq!(said, "outside outbound_.443_._.a.example:15443 /x\n200");
    assert_eq!(last(&daemon, 1).upstream_cluster, "outbound_.443_._.a.example");
    // A host by its own name is nobody's of the mesh.
    assert_ne!(ask("a.example").code(), 0);
    assert_eq!(last(&daemon, 2).flags, "NR");
    daemon.stop();
}
