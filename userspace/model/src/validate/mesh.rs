//! MeshConfig: the fields that are read.

use std::time::Duration;

use crate::decode::{At, Cx};
use crate::resource::MeshConfig;
use crate::validate::export_to::{self, Allowed};
use crate::validate::{
    client_tls, domain, duration, http_action, limits, locality, traffic_policy,
};

/// Longest connect timeout.
const LONGEST_CONNECT: Duration = Duration::from_secs(3600);

/// Checks the mesh's settings.
pub(crate) fn mesh_config(mesh: &MeshConfig, at: &At<'_>, cx: &mut Cx) {
    let connect = at.field("connectTimeout");
    duration::written(mesh.connect_timeout.as_ref(), &connect, cx);
    if let Some(timeout) =
        mesh.connect_timeout.as_deref().filter(|timeout| **timeout > LONGEST_CONNECT)
    {
        cx.error(&connect, "out-of-range", format!("{timeout:?} is too long: at most 1h"));
    }
    duration::written_or_zero(
        mesh.protocol_detection_timeout.as_ref(),
        &at.field("protocolDetectionTimeout"),
        cx,
    );
    duration::written(mesh.dns_refresh_rate.as_ref(), &at.field("dnsRefreshRate"), cx);
    locality::locality(
        mesh.locality_lb_setting.as_deref(),
        true,
        &at.field("localityLbSetting"),
        cx,
    );
    locality::zone_aware(
        mesh.zone_aware_lb_setting.as_deref(),
        true,
        &at.field("zoneAwareLbSetting"),
        cx,
    );
    if mesh.locality_lb_setting.is_some() && mesh.zone_aware_lb_setting.is_some() {
        let message = "only one of `localityLbSetting` and `zoneAwareLbSetting` may be set";
        cx.error(&at.field("zoneAwareLbSetting"), "conflicting-fields", message);
    }
    http_action::retries(
        mesh.default_http_retry_policy.as_ref(),
        &at.field("defaultHttpRetryPolicy"),
        cx,
    );
    if let Some(policy) = &mesh.default_traffic_policy {
        let at = at.field("defaultTrafficPolicy");
        traffic_policy::connection_pool(
            policy.connection_pool.as_ref(),
            &at.field("connectionPool"),
            cx,
        );
        traffic_policy::outlier_detection(
            policy.outlier_detection.as_ref(),
            &at.field("outlierDetection"),
            cx,
        );
    }
    let policy = at.field("outboundTrafficPolicy");
    client_tls::client_tls(mesh.outbound_traffic_policy.tls.as_ref(), &policy.field("tls"), cx);
    if let Some(keepalive) = &mesh.tcp_keepalive {
        let at = at.field("tcpKeepalive");
        duration::written(keepalive.time.as_ref(), &at.field("time"), cx);
        duration::written(keepalive.interval.as_ref(), &at.field("interval"), cx);
    }
    names(mesh, at, cx);
}

fn names(mesh: &MeshConfig, at: &At<'_>, cx: &mut Cx) {
    if mesh.proxy_http_port.is_written() && mesh.proxy_http_port.value != 0 {
        limits::port(&mesh.proxy_http_port, &at.field("proxyHttpPort"), cx);
    }
    if !mesh.root_namespace.is_empty() && !domain::is_dns_label(&mesh.root_namespace) {
        let message = format!("{:?} is not a namespace", mesh.root_namespace.value);
        cx.error(&at.field("rootNamespace"), "invalid-namespace", message);
    }
    let trust = mesh.trust_domain.strip_suffix('.').unwrap_or(&mesh.trust_domain);
    if !mesh.trust_domain.is_empty() && !trust.split('.').all(domain::is_dns_label) {
        let message = format!("{:?} is not a trust domain", mesh.trust_domain.value);
        cx.error(&at.field("trustDomain"), "invalid-name", message);
    }
    let own = mesh.root_namespace();
    for (field, list, allowed) in [
        ("defaultServiceExportTo", &mesh.default_service_export_to, Allowed::OrNobody),
        (
            "defaultVirtualServiceExportTo",
            &mesh.default_virtual_service_export_to,
            Allowed::Namespaces,
        ),
        (
            "defaultDestinationRuleExportTo",
            &mesh.default_destination_rule_export_to,
            Allowed::Namespaces,
        ),
    ] {
        export_to::export_to(list, own, allowed, &at.field(field), cx);
    }
}
