//! Traffic policy: pools, outlier detection, tunnel, budget.

use crate::Spanned;
use crate::decode::{At, Cx};
use crate::resource::{
    ConnectionPool, H2UpgradePolicy, HealthCheck, OutlierDetection, PortTrafficPolicy, RetryBudget,
    TrafficPolicy, Tunnel,
};
use crate::validate::{client_tls, domain, duration, limits, load_balancer};

/// Checks the policy of a rule or of a subset.
pub(super) fn traffic_policy(policy: Option<&Spanned<TrafficPolicy>>, at: &At<'_>, cx: &mut Cx) {
    let Some(policy) = policy else { return };
    if policy.value == TrafficPolicy::default() {
        cx.lacking(at, "empty-policy", "the policy is empty").help("leave it out");
        return;
    }
    if policy.tunnel.is_some() && policy.proxy_protocol.is_some() {
        let message = "only one of `tunnel` and `proxyProtocol` may be set";
        cx.error(&at.field("proxyProtocol"), "conflicting-fields", message);
    }
    outlier_detection(policy.outlier_detection.as_ref(), &at.field("outlierDetection"), cx);
    connection_pool(policy.connection_pool.as_ref(), &at.field("connectionPool"), cx);
    let outlier = policy.outlier_detection.is_some();
    load_balancer::load_balancer(
        policy.load_balancer.as_ref(),
        outlier,
        &at.field("loadBalancer"),
        cx,
    );
    client_tls::client_tls(policy.tls.as_ref(), &at.field("tls"), cx);
    limits::count(policy.port_level_settings.len(), 4096, &at.field("portLevelSettings"), cx);
    for (index, port) in policy.port_level_settings.iter().enumerate() {
        port_policy(port, &at.field("portLevelSettings").index(index), cx);
    }
    tunnel(policy.tunnel.as_ref(), &at.field("tunnel"), cx);
    retry_budget(policy.retry_budget.as_ref(), &at.field("retryBudget"), cx);
    health_check(policy.health_check.as_ref(), &at.field("healthCheck"), cx);
}

fn port_policy(policy: &PortTrafficPolicy, at: &At<'_>, cx: &mut Cx) {
    match &policy.port {
        None => {
            cx.lacking(&at.field("port"), "missing-field", "`port` is required")
                .help("write `port: {number: …}`");
        }
        Some(port) if port.number.is_written() => {
            limits::port(&port.number, &at.field("port").field("number"), cx)
        }
        Some(_) => {}
    }
    let empty = policy.load_balancer.is_none()
        && policy.connection_pool.is_none()
        && policy.outlier_detection.is_none()
        && policy.tls.is_none()
        && policy.health_check.is_none();
    if empty {
        cx.lacking(at, "empty-policy", "the policy of the port is empty").help("leave it out");
    }
    outlier_detection(policy.outlier_detection.as_ref(), &at.field("outlierDetection"), cx);
    connection_pool(policy.connection_pool.as_ref(), &at.field("connectionPool"), cx);
    let outlier = policy.outlier_detection.is_some();
    load_balancer::load_balancer(
        policy.load_balancer.as_ref(),
        outlier,
        &at.field("loadBalancer"),
        cx,
    );
    client_tls::client_tls(policy.tls.as_ref(), &at.field("tls"), cx);
    health_check(policy.health_check.as_ref(), &at.field("healthCheck"), cx);
}

/// Checks outlier detection, of a policy or of the mesh.
pub(super) fn outlier_detection(
    outlier: Option<&Spanned<OutlierDetection>>,
    at: &At<'_>,
    cx: &mut Cx,
) {
    let Some(outlier) = outlier else { return };
    duration::written(outlier.interval.as_ref(), &at.field("interval"), cx);
    duration::written(outlier.base_ejection_time.as_ref(), &at.field("baseEjectionTime"), cx);
    limits::percent(&outlier.max_ejection_percent, &at.field("maxEjectionPercent"), cx);
    limits::percent(&outlier.min_health_percent, &at.field("minHealthPercent"), cx);
    if outlier.consecutive_errors.as_ref().is_some_and(|errors| errors.value != 0) {
        cx.warning(
            &at.field("consecutiveErrors"),
            "deprecated",
            "`consecutiveErrors` is deprecated",
        )
        .help("use `consecutive5xxErrors` or `consecutiveGatewayErrors`");
    }
    let local = outlier
        .consecutive_local_origin_failures
        .as_ref()
        .is_some_and(|failures| failures.value > 0);
    if local && !outlier.split_external_local_origin_errors.value {
        let message = "local failures are counted only with `splitExternalLocalOriginErrors: true`";
        cx.error(&at.field("consecutiveLocalOriginFailures"), "conflicting-fields", message);
    }
}

/// Checks a pool, of a policy, of a Sidecar or of the mesh.
pub(super) fn connection_pool(pool: Option<&Spanned<ConnectionPool>>, at: &At<'_>, cx: &mut Cx) {
    let Some(pool) = pool else { return };
    if pool.tcp.is_none() && pool.http.is_none() {
        cx.lacking(at, "empty-policy", "one of `tcp` and `http` is required");
    }
    if let Some(tcp) = &pool.tcp {
        let at = at.field("tcp");
        duration::written(tcp.connect_timeout.as_ref(), &at.field("connectTimeout"), cx);
        duration::written(
            tcp.max_connection_duration.as_ref(),
            &at.field("maxConnectionDuration"),
            cx,
        );
        duration::written_or_zero(tcp.idle_timeout.as_ref(), &at.field("idleTimeout"), cx);
        if let Some(keepalive) = &tcp.tcp_keepalive {
            let at = at.field("tcpKeepalive");
            duration::written(keepalive.time.as_ref(), &at.field("time"), cx);
            duration::written(keepalive.interval.as_ref(), &at.field("interval"), cx);
        }
    }
    if let Some(http) = &pool.http {
        let at = at.field("http");
        duration::written(http.idle_timeout.as_ref(), &at.field("idleTimeout"), cx);
        if http.h2_upgrade_policy.value == H2UpgradePolicy::Upgrade
            && http.use_client_protocol.value
        {
            let message =
                "`useClientProtocol` and `h2UpgradePolicy: UPGRADE` contradict each other";
            cx.error(&at.field("useClientProtocol"), "conflicting-fields", message);
        }
        if let Some(keepalive) = &http.http2_keep_alive {
            let at = at.field("http2KeepAlive");
            for (field, value) in
                [("interval", &keepalive.interval), ("timeout", &keepalive.timeout)]
            {
                if value.is_none() {
                    cx.lacking(&at.field(field), "missing-field", format!("`{field}` is required"));
                }
                duration::written(value.as_ref(), &at.field(field), cx);
            }
        }
    }
}

fn tunnel(tunnel: Option<&Spanned<Tunnel>>, at: &At<'_>, cx: &mut Cx) {
    let Some(tunnel) = tunnel else { return };
    let host = tunnel.target_host.as_str();
    if tunnel.target_host.is_written() && domain::name(host).is_err() && !domain::is_ip(host) {
        let message = format!("{host:?} is neither a host name nor an IP address");
        cx.error(&at.field("targetHost"), "invalid-host", message);
    }
    limits::optional_port(&tunnel.target_port, &at.field("targetPort"), cx);
}

fn retry_budget(budget: Option<&Spanned<RetryBudget>>, at: &At<'_>, cx: &mut Cx) {
    let percent = budget.and_then(|budget| budget.percent.as_deref().copied());
    if let Some(percent) = percent.filter(|percent| !(0.0..=100.0).contains(percent)) {
        cx.error(
            &at.field("percent"),
            "out-of-range",
            format!("{percent} is not a percentage (0 to 100)"),
        );
    }
}

fn health_check(check: Option<&Spanned<HealthCheck>>, at: &At<'_>, cx: &mut Cx) {
    let Some(check) = check else { return };
    duration::written(check.interval.as_ref(), &at.field("interval"), cx);
    duration::written(check.timeout.as_ref(), &at.field("timeout"), cx);
    for (field, threshold) in [
        ("unhealthyThreshold", &check.unhealthy_threshold),
        ("healthyThreshold", &check.healthy_threshold),
    ] {
        if threshold.as_ref().is_some_and(|threshold| threshold.value == 0) {
            cx.error(&at.field(field), "out-of-range", "at least 1 is needed");
        }
    }
    if !check.path.is_empty() && !check.path.starts_with('/') {
        let message = format!("{:?} is not a path", check.path.value);
        cx.error(&at.field("path"), "invalid-path", message).help("begin it with `/`");
    }
}
