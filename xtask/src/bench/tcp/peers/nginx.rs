//! nginx's stream module. It cannot tell the original destination: each port that is turned to it
//! has a listener of its own.

use anyhow::Result;
use egressd_tests::Running;

use super::{Peer, SNI};
use crate::bench::{
    place::{BACKEND, PORTS},
    usage,
};

const LISTEN: [u16; 2] = [15001, 15443];
const MODULE: &str = "/usr/lib/nginx/modules/ngx_stream_module.so";

pub(super) fn start(peer: &Peer) -> Result<Running> {
    let [plain, sni] = LISTEN;
    let [backend, by_sni] = PORTS;
    let connections = usage::open_files()?;
    let folder = peer.folder.path().display();
    let config = format!(
        "load_module {MODULE};\n\
         daemon off;\n\
         pid {folder}/pid;\n\
         error_log stderr warn;\n\
         worker_processes 1;\n\
         events {{ worker_connections {connections}; }}\n\
         stream {{\n\
         \x20 access_log off;\n\
         \x20 tcp_nodelay on;\n\
         \x20 proxy_timeout 1h;\n\
         \x20 map $ssl_preread_server_name $sni {{ {SNI} {BACKEND}:{by_sni}; }}\n\
         \x20 server {{ listen {plain} backlog=65535; proxy_pass {BACKEND}:{backend}; }}\n\
         \x20 server {{ listen {sni} backlog=65535; ssl_preread on; proxy_pass $sni; }}\n\
         }}\n"
    );
    let config = peer.write("nginx.conf", &config)?;
    let program = super::program("nginx")?;
    peer.start_behind_rules(&[&program, "-e", "stderr", "-c", &config], LISTEN)
}
