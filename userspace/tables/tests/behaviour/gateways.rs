//! Servers of gateways that no rule is written for.

use egressd_model::value::Labels;
use egressd_tables::{ChainAction, Node, UpstreamTls};

use crate::world::World;

#[test]
fn auto_passthrough_goes_by_the_names_of_the_mesh() {
    let labels = Labels::from([("istio".to_owned(), "gateway".to_owned())]);
    let entry = |host: &str, resolution: &str| {
        format!(
            "hosts: [{host}], location: MESH_INTERNAL, resolution: {resolution}, \
             ports: [{{number: 80, name: http, protocol: HTTP}}, {{number: 90, name: tcp, protocol: TCP}}]"
        )
    };
    let port = "{number: 15443, name: tls, protocol: TLS}";
    let tables = World::default()
        .node(Node { labels, ..Node::default() })
        .entry("here/a", &format!("{}, endpoints: [{{address: 10.0.0.1, labels: {{v: one}}}}]", entry("a.mesh", "STATIC")))
        .entry("here/b", &entry("b.mesh", "NONE"))
        .entry("there/c", &entry("c.mesh", "DNS"))
        .entry("here/d", &entry("d.elsewhere", "DNS"))
        .rule("here/a", "host: a.mesh, trafficPolicy: {tls: {mode: ISTIO_MUTUAL}}, subsets: [{name: one, labels: {v: one}}]")
        .with("Gateway", "here/g", &format!(
            "{{selector: {{istio: gateway}}, servers: [{{port: {port}, hosts: ['./*.mesh'], tls: {{mode: AUTO_PASSTHROUGH}}}}]}}"
        ))
        .tables();
    let [server] = tables.gateway_servers() else { panic!("one server") };
    let chains: Vec<_> = server
        .listener
        .chains
        .iter()
        .map(|chain| {
            let ChainAction::Tcp(route) = &chain.action else { panic!("bytes are carried") };
            let (cluster, _) = &route.clusters[0];
            // The client's TLS is the endpoint's: none of ours is put around it.
            assert_eq!(cluster.cluster().unwrap().tls, UpstreamTls::Plaintext);
            assert!(tables.cluster(cluster.name()).is_some());
            assert_eq!(chain.server_names[0].as_str(), &**cluster.name());
            cluster.name().to_string()
        })
        .collect();
    assert_eq!(
        chains,
        [
            "outbound_.80_._.a.mesh",
            "outbound_.80_.one_.a.mesh",
            "outbound_.90_._.a.mesh",
            "outbound_.90_.one_.a.mesh",
        ]
    );
    assert!(server.listener.default_chain.catch_all);
}
