//! Sidecar (semantics.md §1.5, §5).

use std::collections::HashSet;

use crate::Spanned;
use crate::decode::{At, Cx};
use crate::resource::{
    CaptureMode, EgressListener, IngressListener, Meta, OutboundTrafficPolicy,
    OutboundTrafficPolicyMode, ServerTlsMode, ServerTlsSettings, Sidecar, SidecarPort,
};
use crate::validate::domain::{self, is_dns_label};
use crate::validate::gateway::full_name;
use crate::validate::workload_entry::unix_error;
use crate::validate::{labels, limits, route, server_tls, traffic_policy};
use crate::value::{NamespacedHost, UnixSocket};

/// Checks one Sidecar.
pub(crate) fn sidecar(sidecar: &Sidecar, meta: &Meta, at: &At<'_>, cx: &mut Cx) {
    labels::workload_selector(
        sidecar.workload_selector.as_ref(),
        &at.field("workloadSelector"),
        cx,
    );
    let empty = sidecar.egress.is_empty()
        && sidecar.ingress.is_empty()
        && sidecar.outbound_traffic_policy.is_none()
        && sidecar.inbound_connection_pool.is_none();
    if empty {
        let message = "one of `egress`, `ingress`, `outboundTrafficPolicy` and `inboundConnectionPool` is required";
        cx.lacking(at, "missing-field", message);
    }
    let mut ports = HashSet::new();
    for (index, listener) in sidecar.ingress.iter().enumerate() {
        let at = at.field("ingress");
        let at = at.index(index);
        ingress(listener, &at, cx);
        if let Some(port) = &listener.port
            && !ports.insert(port.number.value)
        {
            let message = format!("another listener has port {}", port.number.value);
            cx.error(&at.field("port").field("number"), "duplicate-value", message);
        }
    }
    let pool = sidecar.inbound_connection_pool.as_ref();
    traffic_policy::connection_pool(pool, &at.field("inboundConnectionPool"), cx);
    egress(&sidecar.egress, meta, &at.field("egress"), cx);
    let policy = sidecar.outbound_traffic_policy.as_ref();
    outbound(policy, &at.field("outboundTrafficPolicy"), cx);
}

fn ingress(listener: &IngressListener, at: &At<'_>, cx: &mut Cx) {
    if let Some(port) = &listener.port {
        port_name(port, &at.field("port"), cx);
        limits::port(&port.number, &at.field("port").field("number"), cx);
        let http = listener.connection_pool.as_ref().is_some_and(|pool| pool.http.is_some());
        if http && !port.protocol.is_http() {
            let message = format!(
                "http settings do nothing on port {}, whose protocol is not HTTP",
                port.number
            );
            cx.warning(&at.field("connectionPool").field("http"), "no-effect", message);
        }
        if listener.tls.is_some() && !port.protocol.is_tls() {
            let message = "`tls` needs a port with protocol HTTPS or TLS";
            cx.error(&at.field("tls"), "conflicting-fields", message);
        }
    }
    ip_bind(&listener.bind, at, cx);
    if !listener.default_endpoint.is_empty() {
        default_endpoint(&listener.default_endpoint, &at.field("defaultEndpoint"), cx);
    }
    if let Some(tls) = &listener.tls {
        ingress_tls(tls, &at.field("tls"), cx);
    }
    traffic_policy::connection_pool(
        listener.connection_pool.as_ref(),
        &at.field("connectionPool"),
        cx,
    );
}

fn ingress_tls(tls: &ServerTlsSettings, at: &At<'_>, cx: &mut Cx) {
    let unsupported = [
        ("subjectAltNames", !tls.subject_alt_names.is_empty()),
        ("httpsRedirect", tls.https_redirect.value),
        ("credentialName", !tls.credential_name.is_empty()),
        ("credentialNames", !tls.credential_names.is_empty()),
        ("tlsCertificates", !tls.tls_certificates.is_empty()),
    ];
    for (field, set) in unsupported {
        if set {
            cx.error(
                &at.field(field),
                "unsupported-field",
                format!("a Sidecar does not support `{field}`"),
            );
        }
    }
    if matches!(tls.mode.value, ServerTlsMode::IstioMutual | ServerTlsMode::AutoPassthrough) {
        cx.error(
            &at.field("mode"),
            "unsupported-field",
            format!("a Sidecar does not support mode {}", tls.mode),
        );
    }
    server_tls::server_tls(tls, at, cx);
}

/// `127.0.0.1:PORT`, `0.0.0.0:PORT`, `[::1]:PORT`, `[::]:PORT`, `:PORT` or a Unix socket.
fn default_endpoint(endpoint: &str, at: &At<'_>, cx: &mut Cx) {
    const HELP: &str =
        "one of 127.0.0.1:PORT, 0.0.0.0:PORT, [::1]:PORT, [::]:PORT and unix:///PATH";
    if let Some(socket) = endpoint.strip_prefix("unix://") {
        if let Some(reason) = unix_error(&UnixSocket::parse(socket)) {
            cx.error(at, "invalid-address", format!("{endpoint}: {reason}"));
        }
        return;
    }
    let valid = endpoint.rsplit_once(':').is_some_and(|(host, port)| {
        ["", "127.0.0.1", "0.0.0.0", "[::1]", "[::]"].contains(&host)
            && port.parse::<u16>().is_ok_and(|port| port != 0)
    });
    if !valid {
        cx.error(at, "invalid-address", format!("{endpoint:?} is not a place on this machine"))
            .help(HELP);
    }
}

fn port_name(port: &SidecarPort, at: &At<'_>, cx: &mut Cx) {
    if !port.name.is_empty() && !is_dns_label(&port.name) {
        cx.error(
            &at.field("name"),
            "invalid-name",
            format!("{:?} is not a port name", port.name.value),
        );
    }
    if port.target_port.value > 0 {
        cx.error(&at.field("targetPort"), "no-effect", "`targetPort` does nothing in a Sidecar");
    }
}

fn ip_bind(bind: &Spanned<String>, at: &At<'_>, cx: &mut Cx) {
    if !bind.is_empty() && !domain::is_ip(bind) {
        cx.error(
            &at.field("bind"),
            "invalid-address",
            format!("{:?} is not an IP address", bind.value),
        );
    }
}

fn egress(listeners: &[Spanned<EgressListener>], meta: &Meta, at: &At<'_>, cx: &mut Cx) {
    let (mut ports, mut sockets) = (HashSet::new(), HashSet::new());
    for (index, listener) in listeners.iter().enumerate() {
        let at = at.index(index);
        match &listener.port {
            None if index + 1 < listeners.len() => {
                let message =
                    "a listener without a port takes all other traffic and must be the last";
                cx.error(&at, "not-last", message);
            }
            None => {}
            Some(port) => {
                egress_port(listener, port, &at, cx);
                let unique = match port.number.value {
                    0 => sockets.insert(listener.bind.value.as_str()),
                    number => ports.insert(number),
                };
                if !unique {
                    let message = "another listener has the same port or socket";
                    cx.error(&at.field("port"), "duplicate-value", message);
                }
            }
        }
        hosts(&listener.hosts, meta, &at.field("hosts"), cx);
    }
}

fn egress_port(listener: &EgressListener, port: &SidecarPort, at: &At<'_>, cx: &mut Cx) {
    port_name(port, &at.field("port"), cx);
    if port.number.value != 0 {
        ip_bind(&listener.bind, at, cx);
        return;
    }
    match listener.bind.strip_prefix("unix://") {
        None => {
            let message = "a port without a number needs a Unix socket in `bind`";
            cx.error(&at.field("port").field("number"), "out-of-range", message);
        }
        Some(socket) => {
            if let Some(reason) = unix_error(&UnixSocket::parse(socket)) {
                cx.error(
                    &at.field("bind"),
                    "invalid-address",
                    format!("{}: {reason}", listener.bind.value),
                );
            }
        }
    }
    if listener.capture_mode.value == CaptureMode::Iptables {
        let message = "traffic to a Unix socket cannot be captured";
        cx.error(&at.field("captureMode"), "conflicting-fields", message)
            .help("use DEFAULT or NONE");
    }
}

fn hosts(hosts: &[Spanned<NamespacedHost>], meta: &Meta, at: &At<'_>, cx: &mut Cx) {
    if hosts.is_empty() {
        cx.lacking(at, "missing-field", "at least one host is required");
    }
    let mut seen: HashSet<(&str, &str)> = HashSet::new();
    let mut whole: HashSet<&str> = HashSet::new();
    for (index, host) in hosts.iter().enumerate() {
        let at = at.index(index);
        let Some(namespace) = host.namespace.as_deref() else {
            cx.error(&at, "invalid-host", format!("{:?} has no namespace", host.to_string()))
                .help("write `NAMESPACE/HOST`, `./HOST` or `*/HOST`");
            continue;
        };
        // `~NAMESPACE/…` excludes; `~/…` is the namespace of nobody, which imports nothing and excludes a host.
        let named =
            namespace.strip_prefix('~').filter(|rest| !rest.is_empty()).unwrap_or(namespace);
        if !["*", ".", "~"].contains(&named) && !is_dns_label(named) {
            cx.error(&at, "invalid-namespace", format!("{namespace:?} is not a namespace"))
                .help("the name of a namespace, `.` for the own one or `*` for all");
        }
        full_name(host.host.as_str(), &at, cx);
        let namespace = if namespace == "." { &*meta.namespace } else { namespace };
        let name = host.host.as_str();
        let any_before = seen.iter().any(|(known, _)| *known == namespace);
        let again = if name == "*" {
            any_before
        } else {
            whole.contains(namespace) || seen.contains(&(namespace, name))
        };
        if again {
            cx.warning(
                &at,
                "duplicate-value",
                format!("`{}` overlaps with another host of the list", host.value),
            );
        }
        seen.insert((namespace, name));
        if name == "*" {
            whole.insert(namespace);
        }
    }
    let others = seen.iter().any(|(namespace, _)| *namespace != "*" && !namespace.starts_with('~'));
    if seen.contains(&("*", "*")) && others {
        cx.warning(at, "no-effect", "`*/*` takes everything, other hosts beside it do nothing")
            .help("to leave something out, write `~NAMESPACE/*` or `~/HOST`");
    }
}

fn outbound(policy: Option<&Spanned<OutboundTrafficPolicy>>, at: &At<'_>, cx: &mut Cx) {
    let Some(policy) = policy else { return };
    let Some(proxy) = &policy.egress_proxy else { return };
    let at = at.field("egressProxy");
    if policy.mode.value != OutboundTrafficPolicyMode::AllowAny {
        cx.error(&at, "conflicting-fields", "`egressProxy` needs `mode: ALLOW_ANY`");
        return;
    }
    if proxy.host.is_written()
        && domain::name(proxy.host.as_str()).is_err()
        && domain::wildcard_name(proxy.host.as_str()).is_ok()
    {
        let message = format!("{:?} is not a full host name", proxy.host.as_str());
        cx.error(&at.field("host"), "invalid-host", message);
    }
    if proxy.port.is_none() {
        cx.lacking(&at.field("port"), "missing-field", "`port` is required");
    }
    route::destination(proxy, &at, cx);
}
