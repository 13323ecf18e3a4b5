//! HAProxy: it reads the original destination itself, and lets the kernel move the bytes.

use anyhow::Result;
use egressd_tests::Running;

use super::{Peer, SNI, VIP};
use crate::bench::{
    place::{BACKEND, PORTS},
    usage,
};

const LISTEN: [u16; 2] = [15001, 15443];

pub(super) fn start(peer: &Peer) -> Result<Running> {
    let [plain, sni] = LISTEN;
    let [backend, by_sni] = PORTS;
    let connections = usage::open_files()?.saturating_sub(200) / 2;
    let config = format!(
        "global\n\
         \x20 nbthread 1\n\
         \x20 maxconn {connections}\n\
         \x20 maxpipes 64\n\
         defaults\n\
         \x20 mode tcp\n\
         \x20 timeout connect 10s\n\
         \x20 timeout client 1h\n\
         \x20 timeout server 1h\n\
         \x20 option splice-request\n\
         \x20 option splice-response\n\
         frontend plain\n\
         \x20 bind :{plain}\n\
         \x20 use_backend app if {{ dst {vip} }} {{ dst_port {port} }}\n\
         frontend sni\n\
         \x20 bind :{sni}\n\
         \x20 tcp-request inspect-delay 5s\n\
         \x20 tcp-request content accept if {{ req.ssl_hello_type 1 }}\n\
         \x20 tcp-request content reject\n\
         \x20 use_backend by_sni if {{ req.ssl_sni -i {SNI} }}\n\
         backend app\n\
         \x20 server s {BACKEND}:{backend}\n\
         backend by_sni\n\
         \x20 server s {BACKEND}:{by_sni}\n",
        vip = VIP.0,
        port = VIP.1,
    );
    let config = peer.write("haproxy.cfg", &config)?;
    let program = super::program("haproxy")?;
    peer.start_behind_rules(&[&program, "-db", "-f", &config], LISTEN)
}
