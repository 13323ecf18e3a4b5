//! Servers that a node opens as an egress gateway: Gateways whose selector its labels match
//! (semantics.md §6).

use std::sync::Arc;

use egressd_model::resource::{Key, ServerTlsSettings};
use egressd_model::value::{NamespacedHost, Protocol};

use crate::listener::Listener;

/// One port that is opened.
#[derive(Clone, Debug, PartialEq)]
pub struct GatewayServer {
    /// The Gateway.
    pub gateway: Key,
    /// The name of the server's port.
    pub port_name: Arc<str>,
    /// The address it is bound to; empty for all.
    pub bind: Arc<str>,
    /// The port.
    pub port: u16,
    /// What is spoken on it.
    pub protocol: Protocol,
    /// The hosts it serves.
    pub hosts: Vec<NamespacedHost>,
    /// TLS towards clients.
    pub tls: Option<ServerTlsSettings>,
    /// What becomes of its connections; one listener for all servers of a bind and port.
    pub listener: Listener,
}
