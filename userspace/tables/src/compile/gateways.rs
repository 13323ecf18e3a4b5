//! Servers of Gateways that select the node (semantics.md §6).

use egressd_model::Model;

use crate::compile::context::Context;
use crate::compile::policy::Policy;
use crate::gateway::GatewayServer;

/// Builds the servers.
pub(crate) fn build(
    _model: &Model,
    _context: &Context<'_, '_>,
    _policy: &Policy,
) -> Vec<GatewayServer> {
    Vec::new()
}
