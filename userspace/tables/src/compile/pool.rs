//! `connectionPool` (semantics.md §4).

use std::num::NonZeroU32;
use std::time::Duration;

use egressd_model::Spanned;
use egressd_model::resource::{
    ConnectionPool as Settings, H2UpgradePolicy, HttpConnectionPool, MeshConfig,
    RetryBudget as BudgetSettings, TcpConnectionPool, TcpKeepalive as KeepaliveSettings,
};
use egressd_model::value::{Protocol, ProtocolFamily};

use crate::cluster::{ConnectionPool, RetryBudget, TcpKeepalive, UpstreamHttp};

/// Share of the requests under way that may be retries, in percent.
const DEFAULT_BUDGET: f64 = 20.0;
/// Retries that a budget always allows.
const DEFAULT_CONCURRENCY: u32 = 3;

/// Limits and timeouts.
pub(crate) fn build(
    settings: Option<&Settings>,
    budget: Option<&BudgetSettings>,
    mesh: &MeshConfig,
) -> ConnectionPool {
    let settings = settings.or_else(|| mesh_pool(mesh));
    let (tcp, http) = (tcp(settings), http(settings));
    let default = ConnectionPool::default();
    let number = |value: Option<&Spanned<NonZeroU32>>| value.map(|value| value.value.get());
    let idle = tcp.and_then(|tcp| tcp.idle_timeout.as_deref().copied());
    let keepalive = tcp.and_then(|tcp| tcp.tcp_keepalive.as_ref()).or(mesh.tcp_keepalive.as_ref());
    let http_idle = http.and_then(|http| http.idle_timeout.as_deref().copied()).or(idle);
    let of_http = |pick: fn(&HttpConnectionPool) -> &Option<Spanned<NonZeroU32>>| {
        number(http.and_then(|http| pick(http).as_ref()))
    };
    ConnectionPool {
        max_connections: number(tcp.and_then(|tcp| tcp.max_connections.as_ref()))
            .unwrap_or(default.max_connections),
        max_pending_requests: of_http(|http| &http.http1_max_pending_requests)
            .unwrap_or(default.max_pending_requests),
        max_requests: of_http(|http| &http.http2_max_requests).unwrap_or(default.max_requests),
        max_retries: of_http(|http| &http.max_retries).unwrap_or(default.max_retries),
        retry_budget: budget.map(retry_budget),
        max_requests_per_connection: of_http(|http| &http.max_requests_per_connection),
        max_concurrent_streams: of_http(|http| &http.max_concurrent_streams)
            .unwrap_or(default.max_concurrent_streams),
        http_idle_timeout: http_idle.map_or(default.http_idle_timeout, or_never),
        tcp_idle_timeout: idle.map_or(default.tcp_idle_timeout, or_never),
        max_connection_duration: tcp
            .and_then(|tcp| tcp.max_connection_duration.as_deref().copied()),
        tcp_keepalive: keepalive.map(|keepalive| tcp_keepalive(keepalive)),
        http2_keepalive: http.and_then(|http| http.http2_keep_alive.as_ref()).and_then(|ping| {
            Some((ping.interval.as_deref().copied()?, ping.timeout.as_deref().copied()?))
        }),
    }
}

/// Limit for one attempt to connect.
pub(crate) fn connect_timeout(settings: Option<&Settings>, mesh: &MeshConfig) -> Duration {
    tcp(settings.or_else(|| mesh_pool(mesh)))
        .and_then(|tcp| tcp.connect_timeout.as_deref().copied())
        .unwrap_or_else(|| mesh.connect_timeout())
}

/// The HTTP version spoken to endpoints.
pub(crate) fn upstream_http(
    protocol: Protocol,
    settings: Option<&Settings>,
    mesh: &MeshConfig,
) -> UpstreamHttp {
    let http = http(settings.or_else(|| mesh_pool(mesh)));
    if http.is_some_and(|http| http.use_client_protocol.value) {
        return UpstreamHttp::AsDownstream;
    }
    let upgrade = match http.map(|http| http.h2_upgrade_policy.value).unwrap_or_default() {
        H2UpgradePolicy::Upgrade => true,
        H2UpgradePolicy::DoNotUpgrade => false,
        // Sniffed ports are left alone: what is behind them is not known.
        H2UpgradePolicy::Default => {
            protocol.is_http() && mesh.h2_upgrade_policy.value == H2UpgradePolicy::Upgrade
        }
    };
    if upgrade || protocol.is_http2() {
        UpstreamHttp::Http2
    } else if protocol.family() == ProtocolFamily::Unset {
        UpstreamHttp::AsDownstream
    } else {
        UpstreamHttp::Http1
    }
}

fn tcp(settings: Option<&Settings>) -> Option<&TcpConnectionPool> {
    settings?.tcp.as_deref()
}

fn http(settings: Option<&Settings>) -> Option<&HttpConnectionPool> {
    settings?.http.as_deref()
}

/// The mesh's block for rules that have none.
fn mesh_pool(mesh: &MeshConfig) -> Option<&Settings> {
    mesh.default_traffic_policy.as_ref()?.connection_pool.as_deref()
}

/// An idle timeout of 0 means that there is none.
fn or_never(timeout: Duration) -> Option<Duration> {
    Some(timeout).filter(|timeout| !timeout.is_zero())
}

fn retry_budget(budget: &BudgetSettings) -> RetryBudget {
    let concurrency = budget.min_retry_concurrency.as_deref().copied().unwrap_or_default();
    RetryBudget {
        percent: budget.percent.as_ref().map_or(DEFAULT_BUDGET, |percent| percent.value),
        min_concurrency: if concurrency == 0 { DEFAULT_CONCURRENCY } else { concurrency },
    }
}

fn tcp_keepalive(settings: &KeepaliveSettings) -> TcpKeepalive {
    TcpKeepalive {
        probes: settings.probes.as_ref().map(|probes| probes.value.get()),
        time: settings.time.as_deref().copied(),
        interval: settings.interval.as_deref().copied(),
    }
}
