//! Telemetry: whether access is logged.
//!
//! The most specific resource that speaks of access logs decides: one that selects this node by its
//! labels, else one of the node's namespace, else one of the root namespace; among equals the oldest
//! (Istio's order). Where none does, the daemon's own `accessLog` holds.

use egressd_model::{
    Model,
    resource::{AccessLogging, MeshConfig, Telemetry, WorkloadMode},
    value::{Labels, selects},
};

/// Whether resources switch the access log on or off; `None` where they do not speak of it.
pub(crate) fn access_log(
    model: &Model,
    mesh: &MeshConfig,
    namespace: &str,
    labels: &Labels,
) -> Option<bool> {
    let root = mesh.root_namespace();
    let speaking = model
        .telemetries()
        .iter()
        .filter(|telemetry| telemetry.spec.target_refs.is_empty())
        .filter_map(|telemetry| Some((telemetry, switch(&telemetry.spec)?)));
    speaking
        .filter_map(|(telemetry, on)| {
            let here = *telemetry.meta.namespace == *namespace;
            let rank = match &telemetry.spec.selector {
                Some(selector) if here && selects(&selector.match_labels, labels) => 0,
                None if here => 1,
                None if *telemetry.meta.namespace == *root => 2,
                Some(_) | None => return None,
            };
            Some((rank, on))
        })
        // min_by_key keeps the first of equals, and resources come oldest first.
        .min_by_key(|(rank, _)| *rank)
        .map(|(_, on)| on)
}

/// What a resource says of connections that leave; `None` if nothing.
fn switch(telemetry: &Telemetry) -> Option<bool> {
    let leaving = |entry: &&AccessLogging| {
        entry.matches.as_ref().is_none_or(|matches| {
            matches!(matches.mode.value, WorkloadMode::Client | WorkloadMode::ClientAndServer)
        })
    };
    let mut entries = telemetry.access_logging.iter().map(|entry| &entry.value);
    let entry = entries.rfind(leaving)?;
    Some(!entry.disabled.as_ref().is_some_and(|disabled| disabled.value))
}

#[cfg(test)]
mod tests {
    use super::*;

    /// `NAMESPACE/SELECTOR/BODY`, oldest first by name.
    fn decide(telemetries: &[(&str, &str, &str)]) -> Option<bool> {
        let text: Vec<String> = telemetries
            .iter()
            .enumerate()
            .map(|(index, (namespace, selector, body))| {
                format!(
                    "apiVersion: telemetry.istio.io/v1\nkind: Telemetry\n\
                     metadata: {{name: t{index}, namespace: {namespace}}}\n\
                     spec: {{{selector}accessLogging: [{body}]}}\n"
                )
            })
            .collect();
        let file = egressd_model::parse("t.yaml", &text.join("---\n"));
        let model = Model::assemble([&file]).unwrap();
        let labels = Labels::from([("app".to_owned(), "x".to_owned())]);
        access_log(&model, &MeshConfig::default(), "here", &labels)
    }

    const ON: &str = "{providers: [{name: envoy}]}";
    const OFF: &str = "{disabled: true}";

    #[test]
    fn the_most_specific_decides() {
        assert_eq!(decide(&[]), None);
        assert_eq!(decide(&[("istio-system", "", ON)]), Some(true));
        assert_eq!(decide(&[("elsewhere", "", OFF)]), None);
        assert_eq!(decide(&[("istio-system", "", ON), ("here", "", OFF)]), Some(false));
        let mine = "selector: {matchLabels: {app: x}}, ";
        assert_eq!(decide(&[("here", "", OFF), ("here", mine, ON)]), Some(true));
        let another = "selector: {matchLabels: {app: other}}, ";
        assert_eq!(decide(&[("here", another, OFF)]), None);
        assert_eq!(decide(&[("here", "", "{match: {mode: SERVER}, disabled: true}")]), None);
    }
}
