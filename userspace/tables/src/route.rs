//! HTTP routing: from a request's head to the rule that answers it.

mod cors;
mod fault;
mod forward;
mod headers;
mod matcher;
mod path;
mod redirect;
mod request;
mod retry;
mod rewrite;
mod table;

use std::sync::Arc;

use egressd_model::resource::Key;

pub use cors::{Cors, UnmatchedPreflight};
pub use fault::{Abort, AbortStatus, Delay, Fault};
pub(crate) use forward::pick;
pub use forward::{Destination, Destinations, Forward, Mirror};
pub use headers::{HeaderChange, HeaderOps};
pub use matcher::{Condition, Pattern, RouteMatch, Subject, TextMatch};
pub use path::normalize_path;
pub use redirect::{PathRedirect, Redirect};
pub use request::{HeaderLookup, NoHeaders, RequestHead, strip_port};
pub use retry::{DEFAULT_BACKOFF, DEFAULT_RETRY_ON, RetryPolicy};
pub use rewrite::PathRewrite;
pub use table::{Domains, HttpDecision, PortRule, RouteTable, VhostOrigin, VirtualHost};

/// One rule of a virtual host.
#[derive(Clone, Debug, PartialEq)]
pub struct Route {
    /// The name logs show: that of the VirtualService's rule (with `.` and the name of the match, if
    /// it has one), `default` for a service's own route, `allow_any` or `block_all`. May be empty.
    pub name: Arc<str>,
    /// What a request must look like.
    pub matcher: RouteMatch,
    /// What is done with it.
    pub action: RouteAction,
    /// Changes to the request, before those of the chosen destination.
    pub request_headers: HeaderOps,
    /// Changes to the response, before those of the chosen destination.
    pub response_headers: HeaderOps,
    /// Failures injected on purpose.
    pub fault: Option<Fault>,
    /// Answers to browsers' preflight requests.
    pub cors: Option<Cors>,
    /// The VirtualService it comes from; nothing for generated routes.
    pub virtual_service: Option<Key>,
    /// `match.statPrefix`; may be empty.
    pub stat_prefix: Arc<str>,
}

/// What is done with a request.
#[derive(Clone, Debug, PartialEq)]
pub enum RouteAction {
    /// It goes to an upstream.
    Forward(Box<Forward>),
    /// The client is sent elsewhere.
    Redirect(Redirect),
    /// It is answered here.
    Respond {
        /// The status, 200 to 599.
        status: u16,
        /// The body; empty for none.
        body: Arc<[u8]>,
    },
    /// Nothing is: a redirect with a code that Envoy does not know (semantics.md §3). Answered as
    /// if no route had matched.
    Nothing,
}

/// Name of the route that a service has without a VirtualService.
pub const DEFAULT_ROUTE: &str = "default";
/// Name of the route and virtual host of unknown hosts under ALLOW_ANY.
pub const ALLOW_ANY: &str = "allow_any";
/// Name of the route and virtual host of unknown hosts under REGISTRY_ONLY.
pub const BLOCK_ALL: &str = "block_all";
