//! Envoy with listeners as Istio's sidecar has them: one takes everything and hands it to the one
//! for the original destination.

use anyhow::Result;
use egressd_tests::Running;

use super::{Peer, SNI, SNI_VIP, VIP};
use crate::bench::place::{BACKEND, PORTS};

const LISTEN: [u16; 2] = [15001, 15001];

pub(super) fn start(peer: &Peer, program: &str) -> Result<Running> {
    let config = peer.write("envoy.yaml", &config())?;
    let words = ["--concurrency", "1", "--disable-hot-restart", "-l", "warning"];
    let words = [&[program, "-c", &config][..], &words].concat();
    peer.start_behind_rules(&words, LISTEN)
}

fn config() -> String {
    let [entry, _] = LISTEN;
    let tcp = |name: &str| {
        format!(
            "{{name: envoy.filters.network.tcp_proxy, typed_config: {{\"@type\": \
             {TYPES}.filters.network.tcp_proxy.v3.TcpProxy, stat_prefix: {name}, cluster: {name}}}}}"
        )
    };
    let filter = |name: &str, kind: &str| {
        format!(
            "{{name: envoy.filters.listener.{name}, typed_config: {{\"@type\": \
             {TYPES}.filters.listener.{name}.v3.{kind}}}}}"
        )
    };
    let listener = |name: &str, (ip, port): (&str, u16), more: &str| {
        format!(
            "  - name: {name}\n\
             \x20   address: {{socket_address: {{address: {ip}, port_value: {port}}}}}\n{more}"
        )
    };
    let cluster = |name: &str, port: u16| {
        format!(
            "  - name: {name}\n\
             \x20   type: STATIC\n\
             \x20   connect_timeout: 10s\n\
             \x20   circuit_breakers: {{thresholds: [{{max_connections: 1000000, \
             max_pending_requests: 1000000, max_requests: 1000000}}]}}\n\
             \x20   load_assignment: {{cluster_name: {name}, endpoints: [{{lb_endpoints: \
             [{{endpoint: {{address: {{socket_address: {{address: {BACKEND}, port_value: \
             {port}}}}}}}}}]}}]}}\n"
        )
    };
    let entry = listener(
        "entry",
        ("0.0.0.0", entry),
        &format!(
            "    use_original_dst: true\n\
             \x20   listener_filters: [{}]\n\
             \x20   filter_chains: [{{filters: [{}]}}]\n",
            filter("original_dst", "OriginalDst"),
            tcp("plain"),
        ),
    );
    let plain = listener(
        "plain",
        VIP,
        &format!("    bind_to_port: false\n    filter_chains: [{{filters: [{}]}}]\n", tcp("plain")),
    );
    let sni = listener(
        "sni",
        SNI_VIP,
        &format!(
            "    bind_to_port: false\n\
             \x20   listener_filters: [{}]\n\
             \x20   filter_chains: [{{filter_chain_match: {{server_names: [{SNI}]}}, filters: [{}]}}]\n",
            filter("tls_inspector", "TlsInspector"),
            tcp("by_sni"),
        ),
    );
    let clusters = [cluster("plain", PORTS[0]), cluster("by_sni", PORTS[1])].concat();
    format!("static_resources:\n  listeners:\n{entry}{plain}{sni}  clusters:\n{clusters}")
}

const TYPES: &str = "type.googleapis.com/envoy.extensions";
