//! From an application through its node and a gateway to the outside: the seeds' two hops (seeds.md
//! 6–8).

use egressd_tests::{Authority, Issued, Spawn, egressd};

use super::world::{GATEWAY, Hops, OUTSIDE, last};

const LITERAL: &str = include_str!("../../data/seeds/008-gateway-routing/resources.yaml");
const CORRECTED: &str =
    include_str!("../../data/seeds/008-gateway-routing-corrected/resources.yaml");
const HOST: &str = "example.com";

#[test]
fn the_text_as_published_ends_at_the_gateway() {
    let hops = Hops::new(&[HOST]);
    let gateway = hops.gateway().resource(LITERAL).start();
    let url = format!("http://{GATEWAY}/");
    let answer = hops.curl(&["--header", "Host: example.com", &url]).text();
    assert_eq!(answer, "404");
    let record = last(&gateway, 1);
    assert_eq!((record.code.as_str(), record.flags.as_str()), ("404", "NR"));
    assert_eq!(record.downstream_local, format!("{GATEWAY}:80"));
    // On the mesh's side the gateway is a service that nobody describes. The rule acts where the host
    // is seen, which is its own namespace.
    let mesh = hops.mesh().config("node: {namespace: egress}").resource(LITERAL).start();
    let text = hops.node.curl("http://example.com/").arg("--include").run().text();
    assert!(text.starts_with("HTTP/1.1 503 "), "{text}");
    let record = last(&mesh, 1);
    assert_eq!(record.flags, "NC");
    let file = mesh.folder().join("resources/0.yaml");
    let checked = Spawn::new([egressd()]).arg("check").arg(file).run().expect_code(0).stdout;
    for why in ["unknown-gateway", "unknown-host", "not-exported"] {
        assert!(checked.contains(why), "{why} in {checked}");
    }
    mesh.stop();
    gateway.stop();
}

#[test]
fn the_corrected_text_goes_over_two_hops() {
    let hops = Hops::new(&[HOST]);
    let _server = hops.server(80);
    let text = CORRECTED.replace("10.30.0.1", GATEWAY);
    let gateway = hops.gateway().resource(text.as_str()).start();
    let mesh = hops.mesh().resource(text.as_str()).start();
    let answer = hops.node.curl("http://example.com/x").run().text();
    assert_eq!(answer, "outside example.com /x");
    let record = last(&mesh, 1);
    let service = "outbound|80||istio-egressgateway.istio-system.svc.cluster.local";
    assert_eq!(record.upstream_cluster, service);
    assert_eq!(record.upstream_host, format!("{GATEWAY}:80"));
    let record = last(&gateway, 1);
    assert_eq!(record.upstream_cluster, "outbound|80||example.com");
    assert_eq!(record.upstream_host, format!("{OUTSIDE}:80"));
    mesh.stop();
    gateway.stop();
}

/// The same with mutual TLS between the hops: the gateway's port is 8443, and both sides want to see
/// each other's identity.
const MUTUAL: &str = "\
apiVersion: networking.istio.io/v1
kind: ServiceEntry
metadata: {name: example, namespace: istio-system}
spec:
  hosts: [example.com]
  ports: [{number: 80, name: http, protocol: HTTP}]
  resolution: DNS
---
apiVersion: networking.istio.io/v1
kind: ServiceEntry
metadata: {name: gateway, namespace: istio-system}
spec:
  hosts: [gateway.mesh]
  location: MESH_INTERNAL
  ports: [{number: 80, name: http, protocol: HTTP, targetPort: 8443}]
  resolution: STATIC
  endpoints: [{address: 10.77.0.2}]
---
apiVersion: networking.istio.io/v1
kind: DestinationRule
metadata: {name: gateway, namespace: istio-system}
spec:
  host: gateway.mesh
  trafficPolicy:
    tls:
      mode: ISTIO_MUTUAL
      sni: example.com
      subjectAltNames: [\"spiffe://cluster.local/ns/istio-system/sa/gateway\"]
---
apiVersion: networking.istio.io/v1
kind: Gateway
metadata: {name: edge, namespace: istio-system}
spec:
  selector: {istio: egressgateway}
  servers:
  - port: {number: 8443, name: https, protocol: HTTPS}
    hosts: [example.com]
    tls:
      mode: ISTIO_MUTUAL
      subjectAltNames: [\"spiffe://cluster.local/ns/default/sa/node\"]
---
apiVersion: networking.istio.io/v1
kind: VirtualService
metadata: {name: two-hops, namespace: istio-system}
spec:
  hosts: [example.com]
  gateways: [mesh, edge]
  http:
  - match: [{gateways: [mesh]}]
    route: [{destination: {host: gateway.mesh, port: {number: 80}}}]
  - match: [{gateways: [edge]}]
    route: [{destination: {host: example.com, port: {number: 80}}}]
";

fn identity(authority: &Authority, issued: &Issued) -> String {
    format!(
        "identity: {{certificate: {}, key: {}, ca: {}}}",
        issued.certificate.display(),
        issued.key.display(),
        authority.roots().display()
    )
}

#[test]
fn identities_are_shown_between_the_hops() {
    let hops = Hops::new(&[HOST]);
    let _server = hops.server(80);
    let authority = Authority::new();
    let of = |name: &str, account: &str| {
        let issued = authority.issue(name, &format!("URI:spiffe://cluster.local/ns/{account}"));
        identity(&authority, &issued)
    };
    let gateway =
        hops.gateway().config(&of("gateway", "istio-system/sa/gateway")).resource(MUTUAL).start();
    let mesh = hops.mesh().config(&of("node", "default/sa/node")).resource(MUTUAL).start();
    assert_eq!(hops.node.curl("http://example.com/x").run().text(), "outside example.com /x");
    assert_eq!(last(&mesh, 1).upstream_cluster, "outbound|80||gateway.mesh");
    let record = last(&gateway, 1);
    assert_eq!(record.upstream_cluster, "outbound|80||example.com");
    assert!(record.line.contains(" example.com "), "the name in the ClientHello: {}", record.line);
    // What is no TLS does not get in.
    let url = format!("http://{GATEWAY}:8443/");
    let plain = hops.curl(&["--header", "Host: example.com", &url]);
    assert_ne!(plain.code(), 0, "{}", plain.stdout);
    assert_eq!(last(&gateway, 2).flags, "NR");
    mesh.stop();
    // Another account of the same mesh does not, either, and nothing goes out in plaintext.
    let mesh = hops.mesh().config(&of("other", "default/sa/other")).resource(MUTUAL).start();
    let text = hops.node.curl("http://example.com/").arg("--include").run().text();
    assert!(text.starts_with("HTTP/1.1 503 "), "{text}");
    mesh.stop();
    // Nor does a node without an identity, for which that is a reason of its own.
    let mesh = hops.mesh().resource(MUTUAL).start();
    let text = hops.node.curl("http://example.com/").arg("--include").run().text();
    assert!(text.starts_with("HTTP/1.1 503 "), "{text}");
    let record = last(&mesh, 1);
    assert_eq!(record.flags, "UF,URX");
    assert!(record.line.contains("identity"), "{}", record.line);
    mesh.stop();
    gateway.stop();
}
