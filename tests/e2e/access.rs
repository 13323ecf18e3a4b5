//! The access log as MeshConfig has it, where `accessLog` is silent.

use std::fs;

use egressd_tests::{Behaviour, Daemon, Node, Servers, WORLD_V4, until};

use crate::{clients::dial, services};

const VIP: &str = "192.0.2.10";
const PORT: u16 = 27018;

/// The first line of the log of a connection under this MeshConfig.
fn logged(mesh: &str) -> (Daemon, String) {
    let node = Node::new();
    let endpoint = format!("{}:9000", WORLD_V4[0]);
    let _server = Servers::one(&node.world, &endpoint, Behaviour::named("server"));
    let yaml = services::tcp("one", &[VIP], PORT, &[&endpoint]);
    let daemon = node.daemon().config(&format!("meshConfig: {{{mesh}}}")).resource(yaml).start();
    dial(&node, VIP, PORT, &[]).run();
    let log = daemon.folder().join("access.log");
    let line = until("a line", || {
        let text = fs::read_to_string(&log).unwrap_or_default();
        text.split_once('\n').map(|(line, _)| line.to_owned())
    });
    (daemon, line)
}

#[test]
fn the_meshs_format_is_used() {
    let format = "accessLogFormat: \"%UPSTREAM_CLUSTER% %DOWNSTREAM_LOCAL_ADDRESS% \
                  %RESPONSE_FLAGS% 100%% %NONSENSE%\"";
    let (daemon, line) = logged(format);
    assert_eq!(line, "outbound|27018||one.example 192.0.2.10:27018 - 100% -");
    let log = daemon.log();
    assert!(log.contains("NONSENSE"), "{log}");
}

#[test]
fn the_meshs_encoding_is_used() {
    let (_daemon, line) = logged("accessLogEncoding: JSON");
    let fields: serde_json::Value = serde_json::from_str(&line).unwrap();
    assert_eq!(fields["upstream_cluster"], "outbound|27018||one.example");
}
