//! The http rules of a VirtualService: conditions and actions (semantics.md §3).

use std::collections::BTreeMap;
use std::time::Duration;

use crate::Spanned;
use crate::decode::{names, object};
use crate::resource::virtual_service::Destination;
use crate::value::{Labels, Percent, StringMatch};

object! {
    /// One rule: alternatives of conditions, and what is done.
    pub struct HttpRoute {
        /// Name for logs.
        name: Spanned<String> = "name",
        /// Alternatives; empty matches everything.
        matches: Vec<Spanned<HttpMatch>> = "match",
        /// Weighted destinations.
        route: Vec<Spanned<HttpRouteDestination>> = "route",
        /// Answer with a redirect.
        redirect: Option<Spanned<Redirect>> = "redirect",
        /// Answer without an upstream.
        direct_response: Option<Spanned<DirectResponse>> = "directResponse",
        /// Take the routes of another VirtualService.
        delegate: Option<Spanned<Delegate>> = "delegate",
        /// Change path or authority before forwarding.
        rewrite: Option<Spanned<Rewrite>> = "rewrite",
        /// Limit on the whole exchange with its retries. Absent or zero: none.
        timeout: Option<Spanned<Duration>> = "timeout",
        /// Retry policy; absent: the mesh's default.
        retries: Option<Spanned<HttpRetry>> = "retries",
        /// Injected failures.
        fault: Option<Spanned<FaultInjection>> = "fault",
        /// One shadow destination; excludes `mirrors`.
        mirror: Option<Spanned<Destination>> = "mirror",
        /// Several shadow destinations.
        mirrors: Vec<Spanned<Mirror>> = "mirrors",
        /// Share of `mirror` in whole percent; deprecated, `mirrorPercentage` wins.
        mirror_percent: Option<Spanned<u32>> = "mirrorPercent",
        /// Share of `mirror`; absent: 100.
        mirror_percentage: Option<Spanned<Percent>> = "mirrorPercentage",
        /// Answers to browsers' preflight requests.
        cors_policy: Option<Spanned<CorsPolicy>> = "corsPolicy",
        /// Header changes for the whole rule.
        headers: Option<Spanned<Headers>> = "headers",
    }
}

object! {
    /// Conditions on a request; all must hold.
    pub struct HttpMatch {
        /// Name for logs.
        name: Spanned<String> = "name",
        /// The path without its query.
        uri: Option<Spanned<StringMatch>> = "uri",
        /// `http` or `https`.
        scheme: Option<Spanned<StringMatch>> = "scheme",
        /// The method.
        method: Option<Spanned<StringMatch>> = "method",
        /// The raw authority, with its port if it has one.
        authority: Option<Spanned<StringMatch>> = "authority",
        /// Headers by lower-case name.
        headers: BTreeMap<String, Spanned<StringMatch>> = "headers",
        /// Listener port; 0 for any.
        port: Spanned<u16> = "port",
        /// Labels of the client.
        source_labels: Labels = "sourceLabels",
        /// Gateways this holds for; empty means those of the resource.
        gateways: Vec<Spanned<String>> = "gateways",
        /// Query parameters by name.
        query_params: BTreeMap<String, Spanned<StringMatch>> = "queryParams",
        /// Whether `uri` (exact and prefix) ignores case.
        ignore_uri_case: bool = "ignoreUriCase",
        /// Headers that must not match.
        without_headers: BTreeMap<String, Spanned<StringMatch>> = "withoutHeaders",
        /// Namespace of the client; empty for any.
        source_namespace: Spanned<String> = "sourceNamespace",
        /// Prefix for statistics.
        stat_prefix: Spanned<String> = "statPrefix",
    }
}

object! {
    /// A weighted destination of an http rule.
    pub struct HttpRouteDestination {
        /// Where to.
        destination: Spanned<Destination> = "destination" required,
        /// Share among the rule's destinations.
        weight: Spanned<u32> = "weight",
        /// Header changes for this destination.
        headers: Option<Spanned<Headers>> = "headers",
    }
}

object! {
    /// An answer that points elsewhere.
    pub struct Redirect {
        /// New path.
        uri: Spanned<String> = "uri",
        /// New authority.
        authority: Spanned<String> = "authority",
        /// New port; excludes `derivePort`.
        port: Spanned<u16> = "port",
        /// Where the port comes from.
        derive_port: Option<Spanned<RedirectPort>> = "derivePort",
        /// New scheme.
        scheme: Spanned<String> = "scheme",
        /// Status, 300 to 399; 0 means 301.
        redirect_code: Spanned<u32> = "redirectCode",
        /// Replaces the matched prefix of the path; excludes `uri`.
        prefix_rewrite: Spanned<String> = "prefixRewrite",
    }
}

names! {
    /// Where a redirect's port comes from.
    pub enum RedirectPort {
        /// The scheme's own port.
        #[default]
        FromProtocolDefault = "FROM_PROTOCOL_DEFAULT",
        /// The listener's port.
        FromRequestPort = "FROM_REQUEST_PORT",
    }
}

object! {
    /// An answer made by the proxy.
    pub struct DirectResponse {
        /// 200 to 599.
        status: Spanned<u32> = "status" required,
        /// At most 1 MiB.
        body: Option<Spanned<DirectResponseBody>> = "body",
    }
}

/// The body of a [`DirectResponse`].
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum DirectResponseBody {
    /// Written as `string`.
    Text(String),
    /// Written as `bytes`, in base64.
    Bytes(Vec<u8>),
}

impl DirectResponseBody {
    /// The bytes to send.
    pub fn as_bytes(&self) -> &[u8] {
        match self {
            Self::Text(text) => text.as_bytes(),
            Self::Bytes(bytes) => bytes,
        }
    }
}

impl Default for DirectResponseBody {
    fn default() -> Self {
        Self::Text(String::new())
    }
}

object! {
    /// Another VirtualService that gives the routes.
    pub struct Delegate {
        /// Its name.
        name: Spanned<String> = "name",
        /// Its namespace; empty means the root's own.
        namespace: Spanned<String> = "namespace",
    }
}

object! {
    /// Changes of path and authority before forwarding.
    pub struct Rewrite {
        /// Replaces the matched prefix, or the whole path after an exact or regex match.
        uri: Spanned<String> = "uri",
        /// New authority.
        authority: Spanned<String> = "authority",
        /// Replaces by regular expression; excludes `uri`.
        uri_regex_rewrite: Option<Spanned<RegexRewrite>> = "uriRegexRewrite",
    }
}

object! {
    /// A replacement by regular expression.
    pub struct RegexRewrite {
        /// RE2 expression.
        pattern: Spanned<String> = "match",
        /// Replacement; `\1` is the first group.
        rewrite: Spanned<String> = "rewrite",
    }
}

object! {
    /// When and how often a request is tried again.
    pub struct HttpRetry {
        /// Tries after the first; 0 switches retries off.
        attempts: Spanned<u32> = "attempts",
        /// Limit on one try; absent: the route's timeout.
        per_try_timeout: Option<Spanned<Duration>> = "perTryTimeout",
        /// Conditions, comma separated; empty: the default ones.
        retry_on: Spanned<String> = "retryOn",
        /// Whether tries may go to other localities.
        retry_remote_localities: Option<Spanned<bool>> = "retryRemoteLocalities",
        /// Whether hosts already tried are avoided; absent: yes.
        retry_ignore_previous_hosts: Option<Spanned<bool>> = "retryIgnorePreviousHosts",
        /// First pause; absent: 25 ms.
        backoff: Option<Spanned<Duration>> = "backoff",
    }
}

object! {
    /// Injected failures.
    pub struct FaultInjection {
        /// Wait before forwarding.
        delay: Option<Spanned<FaultDelay>> = "delay",
        /// Answer instead of forwarding.
        abort: Option<Spanned<FaultAbort>> = "abort",
    }
}

object! {
    /// An injected wait.
    pub struct FaultDelay {
        /// Share in whole percent; deprecated, `percentage` wins.
        percent: Option<Spanned<u32>> = "percent",
        /// How long.
        fixed_delay: Option<Spanned<Duration>> = "fixedDelay",
        /// Known to the API, never implemented.
        exponential_delay: Option<Spanned<Duration>> = "exponentialDelay",
        /// Share; absent: never.
        percentage: Option<Spanned<Percent>> = "percentage",
    }
}

object! {
    /// An injected answer.
    pub struct FaultAbort {
        /// 200 to 599.
        http_status: Option<Spanned<u32>> = "httpStatus",
        /// A gRPC status by name or number.
        grpc_status: Option<Spanned<String>> = "grpcStatus",
        /// Known to the API, never implemented.
        http2_error: Option<Spanned<String>> = "http2Error",
        /// Share; absent: never.
        percentage: Option<Spanned<Percent>> = "percentage",
    }
}

object! {
    /// A shadow destination.
    pub struct Mirror {
        /// Where to.
        destination: Spanned<Destination> = "destination" required,
        /// Share; absent: 100.
        percentage: Option<Spanned<Percent>> = "percentage",
    }
}

object! {
    /// Answers to browsers' preflight requests.
    pub struct CorsPolicy {
        /// Deprecated list of exact origins.
        allow_origin: Vec<Spanned<String>> = "allowOrigin",
        /// Origins that are answered.
        allow_origins: Vec<Spanned<StringMatch>> = "allowOrigins",
        /// Methods that are allowed.
        allow_methods: Vec<Spanned<String>> = "allowMethods",
        /// Request headers that are allowed.
        allow_headers: Vec<Spanned<String>> = "allowHeaders",
        /// Response headers that scripts may read.
        expose_headers: Vec<Spanned<String>> = "exposeHeaders",
        /// How long browsers may keep the answer; whole seconds.
        max_age: Option<Spanned<Duration>> = "maxAge",
        /// Whether credentials are allowed.
        allow_credentials: Option<Spanned<bool>> = "allowCredentials",
        /// What happens to preflights of other origins.
        unmatched_preflights: Spanned<UnmatchedPreflights> = "unmatchedPreflights",
    }
}

names! {
    /// What happens to preflights whose origin does not match.
    pub enum UnmatchedPreflights {
        /// The default, FORWARD.
        #[default]
        Unspecified = "UNSPECIFIED",
        /// To the upstream.
        Forward = "FORWARD",
        /// Answered without CORS headers.
        Ignore = "IGNORE",
    }
}

object! {
    /// Header changes in both directions.
    pub struct Headers {
        /// On the way to the upstream.
        request: Option<Spanned<HeaderOperations>> = "request",
        /// On the way back.
        response: Option<Spanned<HeaderOperations>> = "response",
    }
}

object! {
    /// Header changes in one direction.
    pub struct HeaderOperations {
        /// Replaced or created.
        set: BTreeMap<String, Spanned<String>> = "set",
        /// Appended.
        add: BTreeMap<String, Spanned<String>> = "add",
        /// Removed.
        remove: Vec<Spanned<String>> = "remove",
    }
}
