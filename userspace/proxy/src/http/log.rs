//! The record of one request, from its head to the last byte of the answer.

use std::{
    borrow::Cow,
    sync::{
        Arc,
        atomic::{AtomicU64, Ordering},
    },
    time::{Duration, SystemTime},
};

use http::{Request, Version, header};
use tokio::time::Instant;

use super::{
    downstream::Downstream,
    headers::{Present, name},
    watch,
};
use crate::record::{FlowRecord, HttpFields, Outcome, ResponseFlag, TransportFailure};

/// The record of a request in the making. [`RequestLog::finish`] ends it; dropped without that, the
/// application has gone, or the exchange was ended.
pub(crate) struct RequestLog {
    flow: FlowRecord,
    started: Instant,
    received: Arc<AtomicU64>,
    downstream: Arc<Downstream>,
    finished: bool,
}

impl RequestLog {
    /// Starts the record of a request.
    pub(crate) fn new<B>(
        downstream: &Arc<Downstream>,
        request: &Request<B>,
        present: Present,
    ) -> Box<Self> {
        let mut fields = HttpFields::new(request.version());
        fields.method = Some(request.method().clone());
        fields.path = request.uri().path_and_query().cloned();
        let headers = request.headers();
        fields.authority = headers.get(header::HOST).cloned();
        fields.user_agent = headers.get(header::USER_AGENT).cloned();
        let known = |name| present.has(&name).then(|| headers.get(name)).flatten().cloned();
        fields.forwarded_for = known(name::FORWARDED_FOR);
        fields.request_id = known(name::REQUEST_ID);
        Box::new(Self::of(downstream, fields))
    }

    /// Starts the record of something that is no request.
    pub(crate) fn unreadable(downstream: &Arc<Downstream>, version: Version) -> Self {
        Self::of(downstream, HttpFields::new(version))
    }

    fn of(downstream: &Arc<Downstream>, fields: HttpFields) -> Self {
        downstream.activity.begin();
        let flow = FlowRecord {
            client: Some(downstream.origin.client),
            server_name: downstream.server_name.clone(),
            http: Some(Box::new(fields)),
            ..FlowRecord::new(SystemTime::now(), downstream.original)
        };
        Self {
            flow,
            started: Instant::now(),
            received: Arc::default(),
            downstream: Arc::clone(downstream),
            finished: false,
        }
    }

    /// What is known so far.
    pub(crate) fn flow(&self) -> &FlowRecord {
        &self.flow
    }

    /// What is known so far, to add to it.
    pub(crate) fn flow_mut(&mut self) -> &mut FlowRecord {
        &mut self.flow
    }

    /// What is known of the request.
    pub(crate) fn fields(&mut self) -> &mut HttpFields {
        self.flow.http.get_or_insert_with(|| Box::new(HttpFields::new(Version::HTTP_11)))
    }

    /// Something went wrong.
    pub(crate) fn flag(&mut self, flag: ResponseFlag) {
        let fields = self.fields();
        fields.flags = fields.flags.with(flag);
    }

    /// Connecting to the upstream failed.
    pub(crate) fn not_connected(&mut self, failure: TransportFailure) {
        self.flow.outcome = Outcome::ConnectFailed(failure);
    }

    /// There is a head of an answer.
    pub(crate) fn answered(&mut self, status: u16, details: impl Into<Cow<'static, str>>) {
        let fields = self.fields();
        fields.status = status;
        fields.details = details.into();
    }

    /// The counter of the request's bytes.
    pub(crate) fn received(&self) -> &Arc<AtomicU64> {
        &self.received
    }

    /// Counts bytes of the answer.
    pub(crate) fn sent(&mut self, bytes: usize) {
        self.flow.bytes_sent += bytes as u64;
    }

    /// How long ago the request came.
    pub(crate) fn elapsed(&self) -> Duration {
        self.started.elapsed()
    }

    /// Ends the record; later calls do nothing.
    pub(crate) fn finish(&mut self) {
        if self.finished {
            return;
        }
        self.finished = true;
        if matches!(self.flow.outcome, Outcome::Forgotten) {
            self.flow.outcome = Outcome::Completed;
        }
        self.flow.bytes_received = self.received.load(Ordering::Relaxed);
        let ended = Instant::now();
        self.flow.duration = ended.saturating_duration_since(self.started);
        self.downstream.activity.end(ended);
        self.downstream.records().record(&self.flow);
    }
}

impl Drop for RequestLog {
    fn drop(&mut self) {
        if !self.finished {
            let (flag, details) = if let Some(over) = watch::over() {
                over.said()
            } else if self.downstream.worker.is_ending() {
                (ResponseFlag::LocalReset, "drain_time_over")
            } else {
                (ResponseFlag::DownstreamConnectionTermination, "downstream_remote_disconnect")
            };
            self.flag(flag);
            self.fields().details = Cow::Borrowed(details);
            self.finish();
        }
    }
}
