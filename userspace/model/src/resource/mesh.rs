//! MeshConfig: the fields that touch outgoing traffic. The others are known by name and not read.

use std::time::Duration;

use crate::Spanned;
use crate::decode::{names, object};
use crate::resource::load_balancer::{LocalityLoadBalancer, ZoneAwareLoadBalancer};
use crate::resource::traffic_policy::{
    ClientTlsSettings, ConnectionPool, H2UpgradePolicy, OutlierDetection, TcpKeepalive,
};
use crate::resource::virtual_service_http::HttpRetry;
use crate::value::{ExportTarget, ExportTo, Labels};

object! {
    /// Mesh-wide settings. Absent fields mean what the accessor of the same name says.
    pub struct MeshConfig {
        /// What happens to unknown destinations.
        outbound_traffic_policy: MeshOutboundTrafficPolicy = "outboundTrafficPolicy",
        /// Limit on connecting; default 10 s.
        connect_timeout: Option<Spanned<Duration>> = "connectTimeout",
        /// Keepalive of upstream connections; absent: off.
        tcp_keepalive: Option<Spanned<TcpKeepalive>> = "tcpKeepalive",
        /// Where access is logged; empty: nowhere.
        access_log_file: Spanned<String> = "accessLogFile",
        /// Format string or JSON template; empty: Istio's default.
        access_log_format: Spanned<String> = "accessLogFormat",
        /// Text or JSON.
        access_log_encoding: Spanned<AccessLogEncoding> = "accessLogEncoding",
        /// Wait for first bytes when sniffing; zero or absent: for ever.
        protocol_detection_timeout: Option<Spanned<Duration>> = "protocolDetectionTimeout",
        /// For ServiceEntries without `exportTo`; empty: `*`.
        default_service_export_to: ExportTo = "defaultServiceExportTo",
        /// For VirtualServices without `exportTo`; empty: `*`.
        default_virtual_service_export_to: ExportTo = "defaultVirtualServiceExportTo",
        /// For DestinationRules without `exportTo`; empty: `*`.
        default_destination_rule_export_to: ExportTo = "defaultDestinationRuleExportTo",
        /// For DestinationRules without one.
        locality_lb_setting: Option<Spanned<LocalityLoadBalancer>> = "localityLbSetting",
        /// For DestinationRules without one.
        zone_aware_lb_setting: Option<Spanned<ZoneAwareLoadBalancer>> = "zoneAwareLbSetting",
        /// For http rules without `retries`.
        default_http_retry_policy: Option<Spanned<HttpRetry>> = "defaultHttpRetryPolicy",
        /// Blocks for clusters whose DestinationRule leaves them out.
        default_traffic_policy: Option<Spanned<DefaultTrafficPolicy>> = "defaultTrafficPolicy",
        /// Port of the explicit HTTP proxy; 0: none.
        proxy_http_port: Spanned<u16> = "proxyHttpPort",
        /// Refresh after failed resolutions; default 60 s.
        dns_refresh_rate: Option<Spanned<Duration>> = "dnsRefreshRate",
        /// Namespace whose resources hold for all; empty: `istio-system`.
        root_namespace: Spanned<String> = "rootNamespace",
        /// Whether HTTP/1.1 becomes HTTP/2 upstream where a rule says DEFAULT.
        h2_upgrade_policy: Spanned<H2UpgradePolicy> = "h2UpgradePolicy",
        /// What becomes of the paths of requests before they are routed.
        path_normalization: Option<Spanned<ProxyPathNormalization>> = "pathNormalization",
        /// Trust domain of mesh identities; empty: `cluster.local`.
        trust_domain: Spanned<String> = "trustDomain",
        /// Settings of every proxy.
        default_config: Option<Spanned<ProxyConfig>> = "defaultConfig",
        /// Whether mesh identities are used without a rule; default true.
        enable_auto_mtls: Option<Spanned<bool>> = "enableAutoMtls",
    } ignores [
        "proxyListenPort", "proxyInboundListenPort", "ingressClass", "ingressService", "ingressControllerMode",
        "ingressSelector", "enableTracing", "enableEnvoyAccessLogService", "disableEnvoyListenerLog",
        "trustDomainAliases", "caCertificates", "certificates", "configSources", "discoverySelectors",
        "extensionProviders", "defaultProviders", "enablePrometheusMerge", "verifyCertificateAtClient", "ca",
        "meshMTLS", "tlsDefaults", "thriftConfig", "serviceSettings", "inboundClusterStatName",
        "outboundClusterStatName", "inboundTrafficPolicy", "reportBatchMaxEntries", "reportBatchMaxTime",
        "mixerCheckServer", "mixerReportServer", "disablePolicyChecks", "disableMixerHttpReports",
        "policyCheckFailOpen", "sidecarToTelemetrySessionAffinity", "sdsUdsPath", "sdsRefreshDelay",
        "enableSdsTokenMount", "sdsUseK8sSaJwt", "enableClientSidePolicyCheck", "authPolicy",
        "rdsRefreshDelay", "hboneIdleTimeout", "serviceScopeConfigs", "serviceEntryVisibility"
    ]
}

object! {
    /// What becomes of the paths of requests.
    pub struct ProxyPathNormalization {
        /// How much.
        normalization: Spanned<PathNormalization> = "normalization",
    }
}

names! {
    /// How much is done to the path of a request before it is routed.
    pub enum PathNormalization {
        /// As BASE.
        #[default]
        Default = "DEFAULT",
        /// Nothing.
        None = "NONE",
        /// Dot segments are taken out, and backslashes become slashes.
        Base = "BASE",
        /// That, and several slashes become one.
        MergeSlashes = "MERGE_SLASHES",
        /// Escaped slashes and backslashes become slashes before that.
        DecodeAndMergeSlashes = "DECODE_AND_MERGE_SLASHES",
    }
}

impl MeshConfig {
    /// What becomes of the paths of requests.
    pub fn path_normalization(&self) -> PathNormalization {
        self.path_normalization.as_ref().map(|how| how.normalization.value).unwrap_or_default()
    }

    /// Limit on connecting where no rule has one.
    pub fn connect_timeout(&self) -> Duration {
        self.connect_timeout.as_deref().copied().unwrap_or(Duration::from_secs(10))
    }

    /// Refresh after failed resolutions.
    pub fn dns_refresh_rate(&self) -> Duration {
        self.dns_refresh_rate.as_deref().copied().unwrap_or(Duration::from_secs(60))
    }

    /// Namespace whose resources hold for all.
    pub fn root_namespace(&self) -> &str {
        or(&self.root_namespace, "istio-system")
    }

    /// Trust domain of mesh identities.
    pub fn trust_domain(&self) -> &str {
        or(&self.trust_domain, "cluster.local")
    }

    /// `exportTo` of ServiceEntries without one.
    pub fn default_service_export_to(&self) -> Vec<ExportTarget> {
        targets(&self.default_service_export_to)
    }

    /// `exportTo` of VirtualServices without one.
    pub fn default_virtual_service_export_to(&self) -> Vec<ExportTarget> {
        targets(&self.default_virtual_service_export_to)
    }

    /// `exportTo` of DestinationRules without one.
    pub fn default_destination_rule_export_to(&self) -> Vec<ExportTarget> {
        targets(&self.default_destination_rule_export_to)
    }

    /// A key of `defaultConfig.proxyMetadata`.
    pub fn proxy_metadata(&self, key: &str) -> Option<&str> {
        self.default_config.as_ref()?.proxy_metadata.get(key).map(String::as_str)
    }

    /// `ISTIO_META_DNS_CAPTURE` of `defaultConfig.proxyMetadata`; nothing when it is not written.
    pub fn dns_capture(&self) -> Option<bool> {
        self.proxy_metadata("ISTIO_META_DNS_CAPTURE").map(is_true)
    }

    /// `ISTIO_META_DNS_AUTO_ALLOCATE` of `defaultConfig.proxyMetadata`; nothing when it is not written.
    pub fn dns_auto_allocate(&self) -> Option<bool> {
        self.proxy_metadata("ISTIO_META_DNS_AUTO_ALLOCATE").map(is_true)
    }
}

fn or<'a>(value: &'a str, default: &'a str) -> &'a str {
    if value.is_empty() { default } else { value }
}

fn is_true(value: &str) -> bool {
    matches!(value, "1" | "t" | "T" | "true" | "TRUE" | "True")
}

fn targets(export_to: &ExportTo) -> Vec<ExportTarget> {
    export_to.0.iter().map(|target| target.value.clone()).collect()
}

object! {
    /// What happens to unknown destinations.
    pub struct MeshOutboundTrafficPolicy {
        /// Which policy; absent: ALLOW_ANY.
        mode: Option<Spanned<MeshPolicyMode>> = "mode",
        /// TLS for ALLOW_ANY_DYNAMIC_DNS.
        tls: Option<Spanned<ClientTlsSettings>> = "tls",
    }
}

impl MeshOutboundTrafficPolicy {
    /// The policy in force.
    pub fn mode(&self) -> MeshPolicyMode {
        self.mode.as_deref().copied().unwrap_or(MeshPolicyMode::AllowAny)
    }
}

names! {
    /// Which policy holds for unknown destinations (semantics.md §5).
    pub enum MeshPolicyMode {
        /// They are refused.
        RegistryOnly = "REGISTRY_ONLY",
        /// They are let through; the default.
        #[default]
        AllowAny = "ALLOW_ANY",
        /// Plain HTTP is resolved by its Host, the rest let through.
        AllowAnyDynamicDns = "ALLOW_ANY_DYNAMIC_DNS",
    }
}

names! {
    /// Form of the access log.
    pub enum AccessLogEncoding {
        /// One line of text.
        #[default]
        Text = "TEXT",
        /// One JSON object a line.
        Json = "JSON",
    }
}

object! {
    /// Blocks for clusters whose DestinationRule leaves them out.
    pub struct DefaultTrafficPolicy {
        /// Limits on connections and requests.
        connection_pool: Option<Spanned<ConnectionPool>> = "connectionPool",
        /// When an endpoint is taken out.
        outlier_detection: Option<Spanned<OutlierDetection>> = "outlierDetection",
    }
}

object! {
    /// Settings of every proxy; most of ProxyConfig has no meaning here and is not read.
    pub struct ProxyConfig {
        /// Environment of the proxy, with the switches of DNS capture.
        proxy_metadata: Labels = "proxyMetadata",
    } ignores anything
}
