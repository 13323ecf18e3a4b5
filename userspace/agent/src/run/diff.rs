//! What a reload changes, for the log.

use std::{fmt, sync::Arc};

use egressd_tables::Tables;

/// Names shown of each kind; more are counted.
const SHOWN: usize = 10;

/// The difference between two generations.
#[derive(Debug, Default, PartialEq, Eq)]
pub(super) struct Diff {
    /// Clusters that are new.
    pub(super) added: Names,
    /// Clusters that are not what they were.
    pub(super) changed: Names,
    /// Clusters that are gone.
    pub(super) removed: Names,
    /// Kernel rows that are written or taken away.
    pub(super) rows: usize,
}

/// Names of clusters: the first few, and how many more.
#[derive(Debug, Default, PartialEq, Eq)]
pub(super) struct Names(Vec<Arc<str>>);

impl Diff {
    /// What turns `old` into `new`.
    pub(super) fn between(old: &Tables, new: &Tables) -> Self {
        let mut diff = Self::default();
        for cluster in new.clusters() {
            match old.cluster(&cluster.name) {
                None => diff.added.0.push(Arc::clone(&cluster.name)),
                // Most are the same object.
                Some(held) if Arc::ptr_eq(held, cluster) || held == cluster => {}
                Some(_other) => diff.changed.0.push(Arc::clone(&cluster.name)),
            }
        }
        let gone = old.clusters().filter(|cluster| new.cluster(&cluster.name).is_none());
        diff.removed.0.extend(gone.map(|cluster| Arc::clone(&cluster.name)));
        let rows = old.kernel_rows().diff(new.kernel_rows());
        diff.rows = rows.exact.len() + rows.prefixes.len() + rows.ports.len();
        diff
    }
}

impl fmt::Display for Names {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for (index, name) in self.0.iter().take(SHOWN).enumerate() {
            let comma = if index == 0 { "" } else { "," };
            write!(f, "{comma}{name}")?;
        }
        match self.0.len().saturating_sub(SHOWN) {
            0 => Ok(()),
            more => write!(f, ",and {more} more"),
        }
    }
}

#[cfg(test)]
mod tests {
    use egressd_model::{Model, resource::MeshConfig};
    use egressd_tables::{Node, Options, VipAllocation};

    use super::*;

    fn tables(services: &[(&str, &str)]) -> Tables {
        let text: Vec<_> = services
            .iter()
            .map(|(name, endpoint)| {
                format!(
                    "apiVersion: networking.istio.io/v1\nkind: ServiceEntry\n\
                     metadata: {{name: {name}}}\nspec:\n  hosts: [{name}.test]\n  \
                     addresses: [192.0.2.{}]\n  ports: [{{number: 1, name: tcp, protocol: TCP}}]\n  \
                     resolution: STATIC\n  endpoints: [{{address: {endpoint}}}]\n",
                    name.len()
                )
            })
            .collect();
        let file = egressd_model::parse("t.yaml", &text.join("---\n"));
        let model = Model::assemble([&file]).unwrap();
        let (mesh, vips) = (MeshConfig::default(), VipAllocation::default());
        Tables::compile(&model, &mesh, &Node::default(), &Options::default(), &vips)
    }

    #[test]
    fn names_and_rows() {
        let old = tables(&[("a", "10.0.0.1"), ("bb", "10.0.0.2"), ("ccc", "10.0.0.3")]);
        let new = tables(&[("a", "10.0.0.1"), ("bb", "10.0.0.9"), ("dddd", "10.0.0.3")]);
        let diff = Diff::between(&old, &new);
        assert_eq!(diff.added.to_string(), "outbound|1||dddd.test");
        assert_eq!(diff.changed.to_string(), "outbound|1||bb.test");
        assert_eq!(diff.removed.to_string(), "outbound|1||ccc.test");
        assert!(diff.rows >= 2, "{diff:?}");
        assert_eq!(Diff::between(&old, &old), Diff::default());
    }
}
