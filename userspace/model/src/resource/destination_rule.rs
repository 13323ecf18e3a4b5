//! DestinationRule (semantics.md §4): whom it concerns, and its subsets.

use crate::Spanned;
use crate::decode::object;
use crate::resource::traffic_policy::TrafficPolicy;
use crate::value::{ExportTo, HostPattern, Labels};

object! {
    /// What happens to traffic for a host once it is routed.
    pub struct DestinationRule {
        /// The service, or a wildcard over services.
        host: Spanned<HostPattern> = "host" required,
        /// Policy for all subsets and ports.
        traffic_policy: Option<Spanned<TrafficPolicy>> = "trafficPolicy",
        /// Named sets of endpoints.
        subsets: Vec<Spanned<Subset>> = "subsets",
        /// Whose traffic it concerns.
        export_to: ExportTo = "exportTo",
        /// `workloadSelector.matchLabels`: the proxies it concerns; present forces the own namespace.
        workload_selector: Option<Spanned<MatchLabels>> = "workloadSelector",
    }
}

object! {
    /// `matchLabels` of a selector.
    pub struct MatchLabels {
        /// Labels a workload must have.
        match_labels: Labels = "matchLabels",
    }
}

object! {
    /// A named set of a host's endpoints.
    pub struct Subset {
        /// A DNS label, unique in the rule.
        name: Spanned<String> = "name" required,
        /// Labels an endpoint must have.
        labels: Labels = "labels",
        /// Policy that overrides the rule's, component by component.
        traffic_policy: Option<Spanned<TrafficPolicy>> = "trafficPolicy",
    }
}
