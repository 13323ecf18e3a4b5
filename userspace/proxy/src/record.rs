//! The record of a flow: what happened, to whom, and why. Every captured or denied connection leaves
//! exactly one (design.md, invariant 8), and access log, metrics and tests read the same one.

mod flags;
mod json;
mod outcome;
mod request;
mod template;
mod text;
mod time;

use std::{
    sync::Arc,
    time::{Duration, Instant, SystemTime},
};

pub(crate) use self::time::write_utc;
pub use self::{
    flags::{ResponseFlag, ResponseFlags},
    json::write_json,
    outcome::{Errno, Outcome, TransportFailure, TunnelFailure},
    request::{HttpFields, RequestPath},
    template::Template,
    text::write_text,
};
use crate::{
    addrs::{ClientAddr, LocalAddr, OriginalDst, UpstreamAddr},
    original::Original,
};

/// What happened to one connection, or to one request of a connection that carries HTTP.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct FlowRecord {
    /// When it was accepted, or denied.
    pub start: SystemTime,
    /// From then to its end.
    pub duration: Duration,
    /// How it ended; flags, details and failure reason follow from it.
    pub outcome: Outcome,
    /// Bytes from the application, delivered to the endpoint.
    pub bytes_received: u64,
    /// Bytes from the endpoint, delivered to the application.
    pub bytes_sent: u64,
    /// What was dialled and by whom.
    pub original: Original,
    /// The application's end; unknown for a connection that was denied in connect().
    pub client: Option<ClientAddr>,
    /// Host of the HTTP request that decided the route; without one, the host whose allocated address
    /// was dialled on a port that it does not declare.
    pub authority: Option<Box<str>>,
    /// SNI of the ClientHello.
    pub server_name: Option<Box<str>>,
    /// The name of the rule that was followed, where it has one.
    pub route_name: Option<Arc<str>>,
    /// The cluster that was chosen, also one that does not exist.
    pub cluster: Option<Arc<str>>,
    /// The endpoint that was connected to, or tried last.
    pub upstream: Option<UpstreamAddr>,
    /// Our end of the connection to the endpoint; `None` where there is none, and for a Unix socket.
    pub upstream_local: Option<LocalAddr>,
    /// The request, if this is the record of one.
    pub http: Option<Box<HttpFields>>,
    /// What the kernel knows of a connection that it made by itself; nothing for one of the proxy's.
    pub direct: Option<Box<DirectNumbers>>,
}

/// What is known of a connection that the kernel sent straight to its endpoint.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct DirectNumbers {
    /// The smoothed round-trip time.
    pub rtt: Duration,
    /// Segments that were sent again.
    pub retransmits: u32,
    /// It was broken off: of the bytes from the application only those count that the endpoint has
    /// acknowledged.
    pub acknowledged_only: bool,
}

/// Takes finished records.
///
/// Called on a worker's thread, once for every flow: it must not block.
pub trait Records: Send + Sync + 'static {
    /// Takes one record.
    fn record(&self, record: &FlowRecord);
}

/// A record in the making. [`Pending::record`] ends it; dropped without that, it is recorded as
/// [`Outcome::Drained`] or [`Outcome::Forgotten`].
#[derive(Debug)]
pub(crate) struct Pending<R: Fate> {
    /// What is known so far.
    pub(crate) flow: FlowRecord,
    started: Instant,
    fate: R,
    recorded: bool,
}

/// Where records go, and what it means that a flow is dropped.
pub(crate) trait Fate {
    /// Takes the record.
    fn take(&self, record: &FlowRecord);
    /// How a flow ended that was dropped in the middle.
    fn dropped(&self) -> Outcome;
}

impl FlowRecord {
    /// A record of a connection that nothing is known about but who dials what.
    pub fn new(start: SystemTime, original: Original) -> Self {
        Self {
            start,
            duration: Duration::ZERO,
            outcome: Outcome::Forgotten,
            bytes_received: 0,
            bytes_sent: 0,
            original,
            client: None,
            authority: None,
            server_name: None,
            route_name: None,
            cluster: None,
            upstream: None,
            upstream_local: None,
            http: None,
            direct: None,
        }
    }

    /// The record of a connection that the kernel side denied inside connect(), under the name of
    /// the cluster it would have ended in: BlackHoleCluster for an unknown destination under
    /// REGISTRY_ONLY (design.md, invariant 6).
    pub fn denied(at: SystemTime, original: Original, cluster: &str) -> Self {
        Self {
            outcome: Outcome::NoHealthyUpstream,
            cluster: Some(cluster.into()),
            ..Self::new(at, original)
        }
    }

    /// What the application dialled: `downstream_local_address` in the logs.
    pub fn destination(&self) -> OriginalDst {
        self.original.destination
    }

    /// What went wrong.
    pub fn flags(&self) -> ResponseFlags {
        self.http.as_ref().map_or_else(|| self.outcome.flags(), |http| http.flags)
    }
}

impl<R: Fate> Pending<R> {
    /// Starts the record of an accepted connection.
    pub(crate) fn new(original: Original, client: ClientAddr, fate: R) -> Self {
        let flow =
            FlowRecord { client: Some(client), ..FlowRecord::new(SystemTime::now(), original) };
        Self { flow, started: Instant::now(), fate, recorded: false }
    }

    /// Ends the record.
    pub(crate) fn record(mut self, outcome: Outcome) {
        self.finish(outcome);
    }

    /// Leaves the record to the requests of the connection.
    pub(crate) fn leave_to_requests(mut self) {
        self.recorded = true;
    }

    fn finish(&mut self, outcome: Outcome) {
        debug_assert!(!self.recorded, "one connection, one record");
        self.recorded = true;
        self.flow.outcome = outcome;
        self.flow.duration = self.started.elapsed();
        self.fate.take(&self.flow);
    }
}

impl<R: Fate> Drop for Pending<R> {
    fn drop(&mut self) {
        if !self.recorded {
            let outcome = self.fate.dropped();
            self.finish(outcome);
        }
    }
}

#[cfg(test)]
mod tests;
