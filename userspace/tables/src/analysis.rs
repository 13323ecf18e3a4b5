//! Findings across resources: what Istio accepts document by document, and what will still not do what its
//! author meant.
//!
//! Findings are warnings and infos. They never change what is said about a single resource, and nothing is left
//! out of the tables because of them. The one exception is a direct path that is asked for and cannot be: an error. The module reads resources and tables; whether a file exists it asks its
//! caller.

mod delegates;
mod destinations;
mod effects;
mod entries;
mod families;
mod files;
mod findings;
mod gateways;
mod overlaps;
mod owners;
mod paths;
mod policies;
mod ports;
mod selectors;
mod shadows;
mod upstream_tls;
mod wildcards;
mod world;

#[cfg(test)]
mod tests;

pub use paths::impossible_paths;

use std::path::Path;

use egressd_model::resource::MeshConfig;
use egressd_model::{Diagnostic, Model};

use crate::analysis::findings::Findings;
use crate::analysis::world::World;
use crate::{Node, Tables, VipAllocation, VipExhausted};

/// What is looked at.
#[derive(Clone, Copy)]
pub struct Subject<'a> {
    /// The valid resources.
    pub model: &'a Model,
    /// The mesh they live in.
    pub mesh: &'a MeshConfig,
    /// The node that the tables are for.
    pub node: &'a Node,
    /// What became of the resources.
    pub tables: &'a Tables,
    /// The allocated addresses, if names are answered with them; they keep services apart that would otherwise
    /// share a port.
    pub vips: Option<&'a VipAllocation>,
    /// Hosts that got no address.
    pub exhausted: &'a [VipExhausted],
    /// Whether the model holds every document that was read. Where one was rejected, findings about something
    /// that is missing are held back: it may stand in that document.
    pub complete: bool,
    /// Whether a file exists.
    pub file_exists: &'a dyn Fn(&Path) -> bool,
}

impl std::fmt::Debug for Subject<'_> {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Subject")
            .field("node", self.node)
            .field("complete", &self.complete)
            .finish_non_exhaustive()
    }
}

/// Everything that is found, by file and place.
pub fn analyse(subject: &Subject<'_>) -> Vec<Diagnostic> {
    let world = World::new(subject);
    let mut findings = Findings::new(subject.complete);
    entries::check(&world, &mut findings);
    wildcards::check(&world, &mut findings);
    selectors::check(&world, &mut findings);
    owners::check(&world, &mut findings);
    overlaps::check(&world, &mut findings);
    ports::check(&world, &mut findings);
    gateways::check(&world, &mut findings);
    destinations::check(&world, &mut findings);
    families::check(&world, &mut findings);
    shadows::check(&world, &mut findings);
    delegates::check(&world, &mut findings);
    policies::check(&world, &mut findings);
    upstream_tls::check(&world, &mut findings);
    effects::check(&world, &mut findings);
    files::check(&world, &mut findings);
    paths::check(subject.model, subject.tables, &mut findings);
    findings.finish()
}
