//! Short host names in VirtualServices and DestinationRules (semantics.md §3).

use std::collections::HashSet;
use std::net::IpAddr;
use std::sync::Arc;

use egressd_model::Model;
use egressd_model::value::HostPattern;

use crate::options::Answers;

/// What short names stand for.
#[derive(Clone, Debug)]
pub(crate) struct ShortNames {
    answers: Answers,
    /// Hosts of ServiceEntries without a dot: these are meant literally.
    literal: Arc<HashSet<Arc<str>>>,
}

impl ShortNames {
    pub(crate) fn new(model: &Model, answers: Answers) -> Self {
        let hosts = model.service_entries().iter().flat_map(|entry| entry.hosts.iter());
        let literal = hosts.filter(|host| is_short(host.as_str())).map(|host| host.to_arc());
        Self { answers, literal: Arc::new(literal.collect()) }
    }

    /// The host that a resource of this namespace means.
    pub(crate) fn resolve(&self, host: &HostPattern, namespace: &str) -> HostPattern {
        let text = host.as_str();
        if !is_short(text) {
            return host.clone();
        }
        match self.answers {
            // Istio's own tests run without a cluster domain, and so do its recorded answers.
            Answers::Istio => HostPattern::new(&format!("{text}.{namespace}")),
            Answers::Ours if self.literal.contains(text) => host.clone(),
            Answers::Ours => HostPattern::new(&format!("{text}.{namespace}.svc.cluster.local")),
        }
    }

    /// The same as text.
    pub(crate) fn resolve_text(&self, host: &HostPattern, namespace: &str) -> Arc<str> {
        self.resolve(host, namespace).to_arc()
    }
}

/// Neither a dot nor `*` alone nor an address.
fn is_short(host: &str) -> bool {
    !host.is_empty() && host != "*" && !host.contains('.') && host.parse::<IpAddr>().is_err()
}
