//! The next generation from the last one, where little has changed.
//!
//! Some changes leave every host, port, address and rule where it is: endpoints, names expected of
//! servers, what http rules do. Then only clusters and routes are made anew, and put into the tables
//! of the generation before; everything else is shared with it. Whatever else changes is compiled as
//! a whole. The result is the same either way.

mod changes;
mod listeners;
mod refs;
mod routes;
mod upstream;

use std::sync::Arc;

use egressd_model::Model;
use egressd_model::resource::MeshConfig;

use crate::compile::clusters::Made;
use crate::compile::context::Context;
use crate::compile::destination_rules;
use crate::compile::memo::Memo;
use crate::compile::revise::changes::Changes;
use crate::compile::services::{Directory, Services};
use crate::compile::short_names::ShortNames;
use crate::fast::FastMap;
use crate::options::{Node, Options};
use crate::route::RouteTable;
use crate::service::ServiceId;
use crate::tables::Tables;

/// What a revision needs beside the tables of the generation before.
#[derive(Clone, Debug)]
pub(crate) struct Kept {
    directory: Directory,
    made: Made,
    names: ShortNames,
    /// The shared route tables, by port.
    pub(super) tables: FastMap<u16, Arc<RouteTable>>,
    /// Services whose endpoints are selected by labels.
    selecting: Vec<ServiceId>,
    /// Whether some rule acts on opaque bytes or TLS, so that a cluster may be named anywhere.
    pub(super) opaque_rules: bool,
    /// Whether the tables are of a kind that can be revised: one egress listener for everything, no
    /// delegation, no gateway.
    pub(super) revisable: bool,
}

impl Kept {
    pub(super) fn new(services: &Services<'_>, made: &Made, names: &ShortNames) -> Self {
        let ids = (0..).map(ServiceId).zip(&services.parts);
        let selects = |parts: &&Vec<super::services::Part<'_>>| {
            parts.iter().any(|(_, entry)| entry.workload_selector.is_some())
        };
        Self {
            directory: services.directory.clone(),
            made: made.clone(),
            names: names.clone(),
            tables: FastMap::default(),
            selecting: ids.filter(|(_, parts)| selects(parts)).map(|(id, _)| id).collect(),
            opaque_rules: false,
            revisable: false,
        }
    }
}

/// The generation before.
pub(crate) struct Before<'a> {
    pub(crate) model: &'a Model,
    pub(crate) tables: &'a Tables,
    pub(crate) kept: &'a Kept,
}

/// Revises; nothing if the change is more than that. The node, its options, the mesh and the virtual
/// addresses are those of the generation before.
pub(crate) fn revise(
    before: &Before<'_>,
    model: &Model,
    mesh: &MeshConfig,
    node: &Node,
    options: &Options,
    memo: &Memo,
) -> Option<(Tables, Kept)> {
    let changes = Changes::find(before, model)?;
    let mut kept = before.kept.clone();
    let mut tables = before.tables.clone();
    let rules = destination_rules::collect(model, mesh, node, &kept.names);
    let upstream = upstream::Upstream { before, model, mesh, node, options, rules: &rules, memo };
    let refs = upstream.revise(&changes, &mut kept, &mut tables)?;
    if refs.change_paths() {
        return None;
    }
    let names = kept.names.clone();
    let (directory, made) = (kept.directory.clone(), kept.made.clone());
    let context = Context {
        mesh,
        node,
        options,
        names: &names,
        services: &directory,
        clusters: &tables.clusters,
        made: &made,
        rules: &rules,
        memo,
    };
    let touched = routes::revise(&context, &changes, &refs, &mut kept)?;
    memo.forget_routes_of(&changes.gone_rules());
    listeners::revise(before, options, &refs, &touched, &kept, &mut tables);
    Some((tables, kept))
}
