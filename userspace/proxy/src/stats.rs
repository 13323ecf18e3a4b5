//! Counters of the proxy as a whole.

use std::sync::{
    Arc,
    atomic::{AtomicU64, Ordering},
};

use crate::record::{FlowRecord, Records, ResponseFlags};

/// What has happened since the start, over all workers.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Stats {
    /// Flows that began: captured connections that were accepted.
    pub opened: u64,
    /// Flows that ended. Each left one record, or, if it carried HTTP, one for each of its requests.
    pub closed: u64,
    /// Requests that ended; each left one record.
    pub requests: u64,
    /// Of the flows and requests that ended, the ones with a response flag.
    pub failed: u64,
    /// Flows under way.
    pub active: u64,
    /// Connections without a hand-off: reset, and no flow.
    pub no_original: u64,
    /// Flows that were reset because there were too many (`OM`).
    pub over_limit: u64,
    /// Times accept4() failed for want of something, such as descriptors.
    pub accept_failures: u64,
    /// Bytes from applications, of flows that ended.
    pub bytes_received: u64,
    /// Bytes to applications, of flows that ended.
    pub bytes_sent: u64,
}

/// One worker's share of [`Stats`]. Written by its own thread, so no cache line is fought over.
#[derive(Debug, Default)]
#[repr(align(128))]
pub(crate) struct Counters {
    pub(crate) opened: Counter,
    pub(crate) closed: Counter,
    pub(crate) requests: Counter,
    pub(crate) failed: Counter,
    pub(crate) no_original: Counter,
    pub(crate) over_limit: Counter,
    pub(crate) accept_failures: Counter,
    pub(crate) bytes_received: Counter,
    pub(crate) bytes_sent: Counter,
    /// Signs of life; no part of [`Stats`].
    pub(crate) beats: Counter,
}

/// A number that only grows.
#[derive(Debug, Default)]
pub(crate) struct Counter(AtomicU64);

impl Counter {
    pub(crate) fn add(&self, more: u64) {
        self.0.fetch_add(more, Ordering::Relaxed);
    }

    pub(crate) fn get(&self) -> u64 {
        self.0.load(Ordering::Relaxed)
    }
}

/// Counts the records of requests on their way.
pub(crate) struct Counted {
    /// Where they are counted.
    pub(crate) counters: Arc<Counters>,
    /// Where they go.
    pub(crate) records: Arc<dyn Records>,
}

impl Records for Counted {
    fn record(&self, record: &FlowRecord) {
        let counters = &self.counters;
        counters.requests.add(1);
        if record.flags() != ResponseFlags::NONE {
            counters.failed.add(1);
        }
        counters.bytes_received.add(record.bytes_received);
        counters.bytes_sent.add(record.bytes_sent);
        self.records.record(record);
    }
}

impl Counters {
    /// Adds this worker's numbers to the sum.
    pub(crate) fn add_to(&self, sum: &mut Stats) {
        sum.opened += self.opened.get();
        sum.closed += self.closed.get();
        sum.requests += self.requests.get();
        sum.failed += self.failed.get();
        sum.no_original += self.no_original.get();
        sum.over_limit += self.over_limit.get();
        sum.accept_failures += self.accept_failures.get();
        sum.bytes_received += self.bytes_received.get();
        sum.bytes_sent += self.bytes_sent.get();
    }
}
