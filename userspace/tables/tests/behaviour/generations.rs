//! What a generation shares with the one before.

use std::sync::Arc;

use egressd_model::{Model, ParsedFile, parse_mesh_config};
use egressd_tables::{Compiler, Node, Options, Tables, VipAllocation};

use crate::world::{World, call, get, raw};

fn http(host: &str, endpoint: &str) -> String {
    format!(
        "hosts: [{host}], ports: [{{number: 80, name: http, protocol: HTTP}}], resolution: STATIC, \
         endpoints: [{{address: {endpoint}}}]"
    )
}

fn compile(compiler: &mut Compiler, files: &[ParsedFile]) -> Tables {
    let model = Model::assemble(files).unwrap();
    let (mesh, _) = parse_mesh_config("mesh.yaml", "", &[]).unwrap();
    let vips = VipAllocation::default();
    compiler.compile(&model, &mesh, &Node::default(), &Options::default(), &vips)
}

fn endpoint(tables: &Tables, cluster: &str) -> String {
    let group = tables.cluster(cluster).unwrap().endpoints.first().unwrap();
    group.endpoints.first().unwrap().address.to_string()
}

#[test]
fn a_changed_endpoint_changes_one_cluster() {
    let a = |ip| World::default().entry("a", &http("a.example", ip)).file();
    let rest = World::default()
        .entry("b", &http("b.example", "192.0.2.9"))
        .entry(
            "c",
            "hosts: [c.example], ports: [{number: 25, name: tcp, protocol: TCP}], \
             resolution: NONE, addresses: [10.0.0.1]",
        )
        .service("v", "hosts: [v.example], http: [{route: [{destination: {host: a.example}}]}]")
        .file();
    let mut compiler = Compiler::default();
    let mut files = [a("192.0.2.1"), rest];
    let before = compile(&mut compiler, &files);
    files[0] = a("192.0.2.2");
    let after = compile(&mut compiler, &files);
    let (old, new) = ("outbound|80||a.example", "outbound|80||b.example");
    assert_eq!(endpoint(&before, old), "192.0.2.1");
    assert_eq!(endpoint(&after, old), "192.0.2.2");
    assert!(Arc::ptr_eq(before.cluster(new).unwrap(), after.cluster(new).unwrap()));
    // Nothing for the kernel to do, and nothing to compare either.
    assert!(std::ptr::eq(before.kernel_rows(), after.kernel_rows()));
    assert!(std::ptr::eq(before.names(), after.names()));
    // Every way there leads to the new one: the service's own and the rule's.
    for host in ["a.example", "v.example"] {
        let answer = after.answer(&get("203.0.113.1:80", host, "/"));
        assert_eq!(answer.result(), old);
        let route = answer.request.unwrap().route.unwrap();
        let egressd_tables::RouteAction::Forward(forward) = &route.action else { panic!() };
        let cluster = forward.destinations.all().first().unwrap().cluster.cluster().unwrap();
        assert!(Arc::ptr_eq(cluster, after.cluster(old).unwrap()), "{host}");
    }
    assert_eq!(call(&after, raw("10.0.0.1:25")), "outbound|25||c.example @ 10.0.0.1_25 []");
}

#[test]
fn a_changed_rule_changes_its_routes() {
    let rule = |timeout: &str| {
        let spec = format!(
            "hosts: [a.example], http: [{{timeout: {timeout}, route: [{{destination: {{host: \
             a.example}}}}]}}]"
        );
        World::default().service("v", &spec).file()
    };
    let entry = World::default().entry("a", &http("a.example", "192.0.2.1")).file();
    let mut compiler = Compiler::default();
    let mut files = [rule("1s"), entry];
    let mut timeouts = Vec::new();
    for timeout in ["1s", "2s", "2s", "3s"] {
        files[0] = rule(timeout);
        let tables = compile(&mut compiler, &files);
        let answer = tables.answer(&get("203.0.113.1:80", "a.example", "/"));
        let route = answer.request.unwrap().route.unwrap();
        let egressd_tables::RouteAction::Forward(forward) = &route.action else { panic!() };
        timeouts.push(forward.timeout.unwrap().as_secs());
    }
    assert_eq!(timeouts, [1, 2, 2, 3]);
}

#[test]
fn addresses_of_a_service_share_what_they_lead_to() {
    let file = |endpoint: &str| {
        let spec = format!(
            "hosts: [c.example], ports: [{{number: 25, name: tcp, protocol: TCP}}], resolution: STATIC, \
             addresses: [10.0.0.1, '2001:db8::1'], endpoints: [{{address: {endpoint}}}]"
        );
        World::default().entry("c", &spec).file()
    };
    let mut compiler = Compiler::default();
    let mut known: Option<Tables> = None;
    // Compiled as a whole, then revised.
    for endpoint in ["192.0.2.1", "192.0.2.2"] {
        let tables = compile(&mut compiler, &[file(endpoint)]);
        let at = |to: &str| tables.listener(to.parse().unwrap());
        let (v4, v6) = (at("10.0.0.1:25"), at("[2001:db8::1]:25"));
        assert!(std::ptr::eq(&*v4, &*v6), "one object for both");
        assert_eq!((&*v4.name(), &*v6.name()), ("10.0.0.1_25", "2001:db8::1_25"));
        assert!(!v4.is(&v6) && v4.is(&at("10.0.0.1:25")));
        let to = raw("[2001:db8::1]:25");
        assert_eq!(call(&tables, to), "outbound|25||c.example @ 2001:db8::1_25 []");
        assert_eq!(self::endpoint(&tables, "outbound|25||c.example"), endpoint);
        let before = known.replace(tables);
        assert!(before.is_none_or(|before| before != *known.as_ref().unwrap()));
    }
}
