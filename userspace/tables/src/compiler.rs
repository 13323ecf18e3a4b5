//! Compiling one generation after another.

use std::fmt;

use egressd_model::Model;
use egressd_model::resource::MeshConfig;

use crate::compile;
use crate::compile::{Before, Kept, Memo, same};
use crate::options::{Node, Options};
use crate::tables::Tables;
use crate::vip::VipAllocation;

/// Compiles like [`Tables::compile`], and takes over what has not changed since the time before. The
/// result is the same; what stays the same is shared, so that a small change costs little and a
/// cluster that stays the same is the same object.
///
/// Keeps the last model and tables alive.
#[derive(Default)]
pub struct Compiler {
    last: Option<Last>,
}

struct Last {
    model: Model,
    mesh: MeshConfig,
    node: Node,
    options: Options,
    vips: VipAllocation,
    tables: Tables,
    kept: Kept,
    memo: Memo,
    /// Since everything was compiled as a whole.
    revisions: u32,
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
        if let Some(mut last) = last.take_if(|last| last.revise(model, vips)) {
            last.model = model.clone();
            return self.last.insert(last).tables.clone();
        }
        let mut memo = match &mut last {
            Some(last) => Memo {
                same_workloads: same(last.model.workload_entries(), model.workload_entries())
                    && same(last.model.pods(), model.pods()),
                ..std::mem::take(&mut last.memo)
            },
            None => Memo::default(),
        };
        let (tables, kept) = compile::compile(model, mesh, node, options, vips, &memo);
        memo.forget_unused();
        let next = Last {
            model: model.clone(),
            mesh: mesh.clone(),
            node: node.clone(),
            options: options.clone(),
            vips: vips.clone(),
            tables,
            kept,
            memo,
            revisions: 0,
        };
        self.last.insert(next).tables.clone()
    }
}

impl Last {
    /// Makes the tables those of another model, if the change is small enough.
    fn revise(&mut self, model: &Model, vips: &VipAllocation) -> bool {
        if self.revisions == REVISIONS || self.vips != *vips {
            return false;
        }
        let before = Before { model: &self.model, tables: &self.tables, kept: &self.kept };
        let (mesh, node, options) = (&self.mesh, &self.node, &self.options);
        match compile::revise(&before, model, mesh, node, options, &self.memo) {
            Some((tables, kept)) => {
                self.revisions += 1;
                (self.tables, self.kept) = (tables, kept);
                true
            }
            None => false,
        }
    }
}

/// Revisions in a row: the memo only forgets what is gone when everything is compiled as a whole.
const REVISIONS: u32 = 1000;

impl fmt::Debug for Compiler {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let revisions = self.last.as_ref().map(|last| last.revisions);
        f.debug_struct("Compiler").field("revisions", &revisions).finish()
    }
}
