//! Compiling one generation after another.

use std::fmt;
use std::sync::Arc;

use egressd_model::Model;
use egressd_model::resource::MeshConfig;

use crate::compile;
use crate::compile::Memo;
use crate::options::{Node, Options};
use crate::tables::Tables;
use crate::vip::VipAllocation;

/// Compiles like [`Tables::compile`], and takes over what has not changed since the time before:
/// services, clusters, virtual hosts and regular expressions. The result is the same; clusters that
/// stay the same are the same objects.
///
/// Keeps the last model alive.
#[derive(Default)]
pub struct Compiler {
    last: Option<Last>,
}

struct Last {
    model: Model,
    mesh: MeshConfig,
    node: Node,
    options: Options,
    memo: Memo,
}

impl Compiler {
    /// Compiles the next generation.
    pub fn compile(
        &mut self,
        model: &Model,
        mesh: &MeshConfig,
        node: &Node,
        options: &Options,
        vips: &VipAllocation,
    ) -> Tables {
        // The last model lives until the end: the memo knows resources by their place.
        let mut last = self
            .last
            .take()
            .filter(|last| last.mesh == *mesh && last.node == *node && last.options == *options);
        let mut memo = match &mut last {
            Some(last) => Memo {
                same_workloads: same(last.model.workload_entries(), model.workload_entries())
                    && same(last.model.pods(), model.pods()),
                ..std::mem::take(&mut last.memo)
            },
            None => Memo::default(),
        };
        let tables = compile::compile(model, mesh, node, options, vips, &memo);
        memo.forget_unused();
        self.last = Some(Last {
            model: model.clone(),
            mesh: mesh.clone(),
            node: node.clone(),
            options: options.clone(),
            memo,
        });
        tables
    }
}

/// Whether two lists hold the same objects.
fn same<T>(a: &[Arc<T>], b: &[Arc<T>]) -> bool {
    a.len() == b.len() && a.iter().zip(b).all(|(a, b)| Arc::ptr_eq(a, b))
}

impl fmt::Debug for Compiler {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Compiler").field("warm", &self.last.is_some()).finish()
    }
}
