//! Fails on a dependency between workspace crates that the design does not draw.

use std::collections::BTreeMap;

use anyhow::{Context as _, Result, bail};
use serde_json::Value;

use crate::cmd;

/// Who may name whom, dev- and build-dependencies included.
///
/// `agent` adapts everything, so it may name each layer. `datapath` names `ebpf` only to build it.
/// Fuzz targets and benchmarks call the layer they are about.
/// `xtask` is no layer: it runs things, and shares the tests' namespaces and servers for the demo.
const EDGES: [(&str, &[&str]); 12] = [
    ("egressd-abi", &[]),
    ("egressd-ebpf", &["egressd-abi"]),
    ("egressd-model", &[]),
    ("egressd-tables", &["egressd-abi", "egressd-model"]),
    ("egressd-datapath", &["egressd-abi", "egressd-ebpf", "egressd-tables"]),
    ("egressd-proxy", &["egressd-tables"]),
    ("egressd-dns", &["egressd-tables"]),
    (
        "egressd",
        &["egressd-datapath", "egressd-dns", "egressd-model", "egressd-proxy", "egressd-tables"],
    ),
    ("egressd-tests", &["egressd"]),
    ("egressd-fuzz", &["egressd-dns", "egressd-model", "egressd-proxy", "egressd-tables"]),
    ("egressd-bench-tables", &["egressd-model", "egressd-tables"]),
    ("xtask", &["egressd-tests"]),
];

/// Crates that only one crate may use, as `style.md` and the design put it.
const SOLE_USERS: [(&str, &str); 1] = [("aya", "egressd-datapath")];

pub(crate) fn check() -> Result<()> {
    let arguments = ["metadata", "--no-deps", "--format-version", "1"];
    let metadata: Value = serde_json::from_str(&cmd::stdout(cmd::cargo().args(arguments))?)
        .context("cargo metadata printed no JSON")?;
    let found = dependencies(&metadata);
    let wrong = violations(&found);
    if !wrong.is_empty() {
        bail!("crate edges that the design does not draw:\n  {}", wrong.join("\n  "));
    }
    Ok(())
}

/// Each workspace crate with everything it names.
fn dependencies(metadata: &Value) -> BTreeMap<&str, Vec<&str>> {
    let mut found = BTreeMap::new();
    for package in metadata["packages"].as_array().into_iter().flatten() {
        let Some(name) = package["name"].as_str() else { continue };
        let named = package["dependencies"].as_array().into_iter().flatten();
        found.insert(name, named.filter_map(|dependency| dependency["name"].as_str()).collect());
    }
    found
}

fn violations(found: &BTreeMap<&str, Vec<&str>>) -> Vec<String> {
    let mut wrong = Vec::new();
    for (name, named) in found {
        let Some((_, allowed)) = EDGES.iter().find(|(from, _)| from == name) else {
            wrong.push(format!("{name} is not in the drawing (xtask/src/lint/edges.rs)"));
            continue;
        };
        for other in named {
            let inside = EDGES.iter().any(|(crate_name, _)| crate_name == other);
            if inside && !allowed.contains(other) {
                wrong.push(format!("{name} -> {other}"));
            }
            for (guarded, user) in SOLE_USERS {
                if *other == guarded && *name != user {
                    wrong.push(format!("{name} -> {guarded}, which only {user} may use"));
                }
            }
        }
    }
    wrong
}

#[cfg(test)]
mod tests {
    use super::*;

    fn check(crate_name: &str, named: &[&str]) -> Vec<String> {
        violations(&BTreeMap::from([(crate_name, named.to_vec())]))
    }

    #[test]
    fn drawn_edges_pass() {
        assert!(check("egressd-tables", &["egressd-model", "egressd-abi", "thiserror"]).is_empty());
    }

    #[test]
    fn an_edge_between_siblings_fails() {
        assert_eq!(check("egressd-proxy", &["egressd-dns"]), ["egressd-proxy -> egressd-dns"]);
    }

    #[test]
    fn aya_outside_the_datapath_fails() {
        let wrong = check("egressd", &["aya"]);
        assert_eq!(wrong, ["egressd -> aya, which only egressd-datapath may use"]);
    }

    #[test]
    fn a_crate_that_is_not_drawn_fails() {
        assert_eq!(check("egressd-extra", &[]).len(), 1);
    }
}
