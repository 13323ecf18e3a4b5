//! Telemetry: the part that switches the access log. Of metrics and tracing it is known that they are
//! there.

use crate::Spanned;
use crate::decode::{names, object};
use crate::resource::destination_rule::MatchLabels;

object! {
    /// Settings for a mesh (root namespace), a namespace or the workloads selected.
    pub struct Telemetry {
        /// The workloads it concerns; absent: all of the namespace.
        selector: Option<Spanned<MatchLabels>> = "selector",
        /// Deprecated form of `targetRefs`; gateways only.
        target_ref: Option<Spanned<TargetReference>> = "targetRef",
        /// Gateways it concerns; never this node.
        target_refs: Vec<Spanned<TargetReference>> = "targetRefs",
        /// When and where access is logged.
        access_logging: Vec<Spanned<AccessLogging>> = "accessLogging",
        /// Changes to metrics; not read.
        metrics: Option<Spanned<Unread>> = "metrics",
        /// Tracing; not read.
        tracing: Option<Spanned<Unread>> = "tracing",
    }
}

object! {
    /// A resource that settings attach to.
    pub struct TargetReference {
        /// API group.
        group: Spanned<String> = "group",
        /// Kind.
        kind: Spanned<String> = "kind",
        /// Name.
        name: Spanned<String> = "name",
        /// Namespace.
        namespace: Spanned<String> = "namespace",
    }
}

object! {
    /// When and where access is logged.
    pub struct AccessLogging {
        /// Direction it holds for; absent: both.
        matches: Option<Spanned<AccessLoggingMatch>> = "match",
        /// Where the log goes; empty: the mesh's default.
        providers: Vec<Spanned<AccessLoggingProvider>> = "providers",
        /// Whether the log is off.
        disabled: Option<Spanned<bool>> = "disabled",
        /// Which records are written.
        filter: Option<Spanned<AccessLoggingFilter>> = "filter",
    }
}

object! {
    /// A direction of traffic.
    pub struct AccessLoggingMatch {
        /// Which one.
        mode: Spanned<WorkloadMode> = "mode",
    }
}

names! {
    /// A direction of traffic.
    pub enum WorkloadMode {
        /// Both.
        #[default]
        ClientAndServer = "CLIENT_AND_SERVER",
        /// Outbound.
        Client = "CLIENT",
        /// Inbound.
        Server = "SERVER",
    }
}

object! {
    /// A destination of the log.
    pub struct AccessLoggingProvider {
        /// `envoy` is the access log of the proxy itself.
        name: Spanned<String> = "name" required,
    }
}

object! {
    /// Which records are written.
    pub struct AccessLoggingFilter {
        /// A CEL expression.
        expression: Spanned<String> = "expression",
    }
}

/// A value of which it is known that it is there, and nothing else.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Unread;
