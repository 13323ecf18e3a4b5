//! `apiVersion`, `kind` and `metadata`: which document is ours, and whose.

use std::sync::Arc;

use crate::decode::{At, Cx, Decode, nearest, object, written};
use crate::document::unindented;
use crate::resource::{Meta, OnProxyDown, PathMode};
use crate::value::{Labels, Timestamp};
use crate::yaml::{Node, Value};

/// A kind that is read.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Kind {
    ServiceEntry,
    WorkloadEntry,
    VirtualService,
    DestinationRule,
    Gateway,
    Sidecar,
    Telemetry,
    Pod,
}

/// What stands around a `spec`.
pub(super) struct Envelope {
    pub(super) api_version: String,
    pub(super) kind_text: String,
    /// Nothing for a document that is not to be read further.
    pub(super) kind: Option<Kind>,
    pub(super) meta: Meta,
}

/// Kinds of networking.istio.io that concern outgoing traffic.
const NETWORKING: [(&str, Kind); 6] = [
    ("ServiceEntry", Kind::ServiceEntry),
    ("WorkloadEntry", Kind::WorkloadEntry),
    ("VirtualService", Kind::VirtualService),
    ("DestinationRule", Kind::DestinationRule),
    ("Gateway", Kind::Gateway),
    ("Sidecar", Kind::Sidecar),
];
/// Kinds of networking.istio.io that do not act here.
const INERT: [&str; 3] = ["EnvoyFilter", "ProxyConfig", "WorkloadGroup"];
/// Top-level fields of a Kubernetes resource.
pub(super) const TOP_LEVEL: [&str; 5] = ["apiVersion", "kind", "metadata", "spec", "status"];

impl Envelope {
    pub(super) fn read(at: &At<'_>, cx: &mut Cx) -> Self {
        let text =
            |name| written(&at.field(name)).map(|text| text.value.to_owned()).unwrap_or_default();
        let (api_version, kind_text) = (text("apiVersion"), text("kind"));
        let mut this = Self { api_version, kind_text, kind: None, meta: Meta::default() };
        let Some(node) = at.node() else { return this };
        if !matches!(node.value, Value::Map(_)) {
            cx.wrong_type(at, "a resource (a map with apiVersion, kind, metadata and spec)", node);
            return this;
        }
        this.meta = peek_meta(at, cx.path());
        if unindented::report(at, cx) {
            return this;
        }
        this.kind = this.classify(at, node, cx);
        match this.kind {
            None => {}
            Some(Kind::Pod) => {
                // Kubernetes has checked it; what does not parse counts as not written.
                let metadata = Metadata::decode(&at.field("metadata"), &mut Cx::new(cx.path()));
                this.meta.labels = metadata.labels;
                this.meta.creation = metadata.creation;
            }
            Some(_) => {
                check_top_level(at, node, cx);
                check_metadata(at, &mut this.meta, cx);
            }
        }
        this
    }

    fn classify(&self, at: &At<'_>, node: &Node<'_>, cx: &mut Cx) -> Option<Kind> {
        if self.api_version.is_empty() && self.kind_text.is_empty() && is_foreign(node) {
            foreign(at, "neither apiVersion nor kind", cx);
            return None;
        }
        if self.api_version.is_empty() || self.kind_text.is_empty() {
            for (name, value) in [("apiVersion", &self.api_version), ("kind", &self.kind_text)] {
                if value.is_empty() {
                    let report =
                        cx.error(&at.field(name), "missing-field", format!("`{name}` is required"));
                    if name == "apiVersion" {
                        report.help("for example `apiVersion: networking.istio.io/v1`");
                    } else {
                        report.help("for example `kind: ServiceEntry`");
                    }
                }
            }
            return None;
        }
        let (group, version) = self.api_version.rsplit_once('/').unwrap_or(("", &self.api_version));
        match (group, version, &*self.kind_text) {
            ("networking.istio.io", _, _) => self.networking(at, version, cx),
            ("telemetry.istio.io", "v1" | "v1alpha1", "Telemetry") => Some(Kind::Telemetry),
            ("", "v1", "Pod") => Some(Kind::Pod),
            _ => {
                let what = format!("{} of {}", self.kind_text, self.api_version);
                foreign(at, &what, cx);
                None
            }
        }
    }

    fn networking(&self, at: &At<'_>, version: &str, cx: &mut Cx) -> Option<Kind> {
        if !["v1alpha3", "v1beta1", "v1"].contains(&version) {
            let message = format!("unknown version {version:?} of networking.istio.io");
            cx.error(&at.field("apiVersion"), "unknown-version", message)
                .help("one of v1, v1beta1, v1alpha3");
            return None;
        }
        if INERT.contains(&&*self.kind_text) {
            let message =
                format!("{} does not act on outgoing traffic here and is ignored", self.kind_text);
            cx.warning(&at.field("kind"), "unsupported-kind", message);
            return None;
        }
        let known = NETWORKING.iter().find(|(name, _)| *name == self.kind_text);
        if known.is_none() {
            let names = || NETWORKING.iter().map(|(name, _)| *name);
            let help = match nearest(&self.kind_text, names()) {
                Some(meant) => format!("did you mean `{meant}`?"),
                None => format!("one of {}", names().collect::<Vec<_>>().join(", ")),
            };
            let message = format!("networking.istio.io has no kind {:?}", self.kind_text);
            cx.error(&at.field("kind"), "unknown-kind", message).help(help);
        }
        known.map(|(_, kind)| *kind)
    }
}

fn foreign(at: &At<'_>, what: &str, cx: &mut Cx) {
    let message = format!("not a resource that egressd knows ({what}); ignored");
    cx.warning(at, "foreign-document", message);
}

/// A map that has nothing of a Kubernetes resource, such as a file of Prometheus rules. Fragments of our own kinds
/// are not foreign: they were meant for us.
fn is_foreign(node: &Node<'_>) -> bool {
    const OURS: [&str; 16] = [
        "metadata",
        "spec",
        "status",
        "items",
        "hosts",
        "host",
        "addresses",
        "ports",
        "endpoints",
        "gateways",
        "http",
        "tls",
        "tcp",
        "trafficPolicy",
        "servers",
        "egress",
    ];
    !node.entries().iter().any(|entry| OURS.contains(&&*entry.key))
}

fn check_top_level(at: &At<'_>, node: &Node<'_>, cx: &mut Cx) {
    for entry in node.entries().iter().filter(|entry| !TOP_LEVEL.contains(&&*entry.key)) {
        cx.unknown_field(&at.entry(entry), &entry.key, &TOP_LEVEL);
    }
}

/// Name and namespace, for messages about documents that are otherwise not read.
fn peek_meta(at: &At<'_>, path: &Arc<str>) -> Meta {
    let metadata = at.field("metadata");
    let field = |name| written(&metadata.field(name)).filter(|text| !text.value.is_empty());
    let name = field("name");
    Meta {
        name: Arc::from(name.as_ref().map_or("", |name| name.value)),
        namespace: Arc::from(field("namespace").map_or("default", |namespace| namespace.value)),
        path: Arc::clone(path),
        span: name.map_or(at.span(), |name| name.span),
        ..Meta::default()
    }
}

object! {
    /// Kubernetes' metadata. What is not read is still known by name.
    struct Metadata {
        /// The name.
        name: String = "name",
        /// The namespace.
        namespace: String = "namespace",
        /// Labels.
        labels: Labels = "labels",
        /// Annotations.
        annotations: Labels = "annotations",
        /// Creation time.
        creation: Option<Timestamp> = "creationTimestamp",
    } ignores [
        "generateName", "selfLink", "uid", "resourceVersion", "generation", "deletionTimestamp",
        "deletionGracePeriodSeconds", "ownerReferences", "finalizers", "managedFields", "clusterName"
    ]
}

impl Decode for Timestamp {
    fn decode(at: &At<'_>, cx: &mut Cx) -> Self {
        let text = String::decode(at, cx);
        Self::parse(&text).unwrap_or_else(|error| {
            cx.fail(at, "invalid-timestamp", error.to_string())
                .help("for example 2024-05-01T12:00:00Z");
            Self::default()
        })
    }
}

fn check_metadata(at: &At<'_>, meta: &mut Meta, cx: &mut Cx) {
    let at = at.field("metadata");
    if at.node().is_none_or(Node::is_null) {
        cx.fail_missing(&at, "`metadata` is required");
        return;
    }
    let metadata = Metadata::decode(&at, cx);
    if metadata.name.is_empty() {
        cx.error(&at.field("name"), "missing-field", "`name` is required");
    } else if !is_subdomain(&metadata.name) {
        let message = format!("{:?} is not a resource name", metadata.name);
        cx.error(&at.field("name"), "invalid-name", message).help(
            "lower-case letters, digits, `-` and `.`, beginning and ending with a letter or digit",
        );
    }
    if !metadata.namespace.is_empty() && !crate::validate::is_dns_label(&metadata.namespace) {
        let message = format!("{:?} is not a namespace", metadata.namespace);
        cx.error(&at.field("namespace"), "invalid-name", message)
            .help("at most 63 lower-case letters, digits and `-`");
    }
    annotations(&metadata.annotations, &at.field("annotations"), cx);
    if metadata.annotations.contains_key(PathMode::ANNOTATION) {
        meta.path_span = at.field("annotations").key(PathMode::ANNOTATION).span();
    }
    meta.labels = metadata.labels;
    meta.annotations = metadata.annotations;
    meta.creation = metadata.creation;
}

/// Annotations that the webhook refuses, and egressd's own.
fn annotations(annotations: &Labels, at: &At<'_>, cx: &mut Cx) {
    const DRY_RUN: &str = "istio.io/dry-run";
    const ALWAYS_REJECT: &str = "internal.istio.io/webhook-always-reject";
    for name in [DRY_RUN, ALWAYS_REJECT].into_iter().filter(|name| annotations.contains_key(*name))
    {
        cx.error(
            &at.key(name),
            "refused-annotation",
            format!("Istio refuses `{name}` on this kind"),
        )
        .help("remove the annotation");
    }
    if let Some(value) = annotations.get(OnProxyDown::ANNOTATION)
        && OnProxyDown::parse(value).is_none()
    {
        let message = format!("unknown value {value:?}; the setting of the node holds");
        cx.warning(&at.key(OnProxyDown::ANNOTATION), "unknown-value", message)
            .help("`passthrough` or `reject`");
    }
    if let Some(value) = annotations.get(PathMode::ANNOTATION)
        && PathMode::parse(value).is_none()
    {
        let message = format!("unknown value {value:?}; the setting of the node holds");
        cx.warning(&at.key(PathMode::ANNOTATION), "unknown-value", message)
            .help("`auto`, `proxy` or `direct`");
    }
}

fn is_subdomain(name: &str) -> bool {
    name.len() <= 253
        && name.split('.').all(|label| {
            let inner = |b: u8| b.is_ascii_lowercase() || b.is_ascii_digit() || b == b'-';
            !label.is_empty()
                && label.bytes().all(inner)
                && !label.starts_with('-')
                && !label.ends_with('-')
        })
}
