//! From resources to tables, in one pass over each kind.

mod policy;

use std::collections::{BTreeMap, HashMap};

use egressd_model::Model;
use egressd_model::resource::MeshConfig;

use crate::names::NameTable;
use crate::options::{Node, Options};
use crate::rows::KernelRows;
use crate::tables::Tables;
use crate::vip::VipAllocation;

/// Compiles. See [`Tables::compile`].
pub(crate) fn compile(
    _model: &Model,
    mesh: &MeshConfig,
    _node: &Node,
    options: &Options,
    _vips: &VipAllocation,
) -> Tables {
    let policy = policy::Policy::of_mesh(mesh);
    let clusters: BTreeMap<_, _> =
        policy::clusters(mesh).into_iter().map(|cluster| (cluster.name.clone(), cluster)).collect();
    Tables {
        services: Vec::new(),
        addresses: HashMap::new(),
        wildcards: HashMap::new(),
        virtual_outbound: policy.virtual_outbound(&clusters),
        clusters,
        vips: HashMap::new(),
        vip_ranges: Vec::new(),
        names: NameTable::default(),
        rows: KernelRows::default(),
        gateways: Vec::new(),
        strict: options.strict,
    }
}
