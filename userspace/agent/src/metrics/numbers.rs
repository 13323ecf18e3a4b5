//! The numbers of one cluster.

use std::sync::{
    Mutex, MutexGuard, PoisonError,
    atomic::{AtomicU64, Ordering},
};

use egressd_proxy::{FlowRecord, ResponseFlags};

/// What connections and requests to a cluster have come to.
#[derive(Debug, Default)]
pub(super) struct Numbers {
    /// By Envoy's names.
    pub(super) cluster: ClusterNumbers,
    // Few kinds each: looking through them is faster than a map, and takes no allocation.
    requests: Mutex<Vec<(RequestKey, Requests)>>,
    connections: Mutex<Vec<(ResponseFlags, Connections)>>,
}

/// Envoy's counters of a cluster.
#[derive(Debug, Default)]
pub(super) struct ClusterNumbers {
    /// Connections tried, of flows of bytes.
    pub(super) connections: Counter,
    /// Connections that did not come to stand.
    pub(super) connect_fail: Counter,
    /// Of these, those that nobody answered in time.
    pub(super) connect_timeout: Counter,
    /// Flows refused because there are as many connections as there may be.
    pub(super) overflow: Counter,
    /// Bytes to endpoints.
    pub(super) sent: Counter,
    /// Bytes from endpoints.
    pub(super) received: Counter,
    /// Requests refused because there are as many as there may be.
    pub(super) pending_overflow: Counter,
    /// Requests that were not answered in time.
    pub(super) timeout: Counter,
    /// Requests that were tried as often as they may be.
    pub(super) retry_limit_exceeded: Counter,
}

/// A number that only grows.
#[derive(Debug, Default)]
pub(super) struct Counter(AtomicU64);

/// What tells requests of a cluster from one another.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct RequestKey {
    pub(super) status: u16,
    pub(super) grpc_status: Option<u16>,
    pub(super) flags: ResponseFlags,
}

/// Requests that look the same.
#[derive(Clone, Debug, Default)]
pub(super) struct Requests {
    pub(super) duration: Histogram,
    pub(super) request_bytes: Histogram,
    pub(super) response_bytes: Histogram,
}

/// Connections of bytes that ended the same way.
#[derive(Clone, Copy, Debug, Default)]
pub(super) struct Connections {
    pub(super) closed: u64,
    pub(super) sent: u64,
    pub(super) received: u64,
}

/// How often a value was at most each of [`BOUNDS`].
#[derive(Clone, Debug, Default)]
pub(super) struct Histogram {
    buckets: [u64; BOUNDS.len()],
    pub(super) count: u64,
    pub(super) sum: u64,
}

/// The bounds that Istio's histograms have, for milliseconds as for bytes; the first, half a
/// millisecond, counts what took none.
pub(super) const BOUNDS: [f64; 19] = [
    0.5,
    1.0,
    5.0,
    10.0,
    25.0,
    50.0,
    100.0,
    250.0,
    500.0,
    1_000.0,
    2_500.0,
    5_000.0,
    10_000.0,
    30_000.0,
    60_000.0,
    300_000.0,
    600_000.0,
    1_800_000.0,
    3_600_000.0,
];

/// Kinds of requests told apart in one cluster; what an upstream says more is counted by the class of its
/// status.
const KINDS: usize = 256;

impl Numbers {
    /// Counts a request.
    pub(super) fn request(
        &self,
        status: u16,
        grpc_status: Option<u16>,
        flags: ResponseFlags,
        record: &FlowRecord,
    ) {
        let mut key = RequestKey { status, grpc_status, flags };
        let mut requests = lock(&self.requests);
        if requests.len() >= KINDS && !requests.iter().any(|(known, _)| *known == key) {
            key = RequestKey { status: status / 100 * 100, grpc_status: None, ..key };
        }
        let same = of(&mut requests, key);
        same.duration.add(u64::try_from(record.duration.as_millis()).unwrap_or(u64::MAX));
        same.request_bytes.add(record.bytes_received);
        same.response_bytes.add(record.bytes_sent);
    }

    /// Counts a connection of bytes.
    pub(super) fn connection(&self, record: &FlowRecord) {
        let mut connections = lock(&self.connections);
        let same = of(&mut connections, record.flags());
        same.closed += 1;
        same.sent += record.bytes_received;
        same.received += record.bytes_sent;
    }

    /// Requests, by what tells them apart.
    pub(super) fn requests(&self) -> Vec<(RequestKey, Requests)> {
        lock(&self.requests).clone()
    }

    /// Connections of bytes, by response flags.
    pub(super) fn connections(&self) -> Vec<(ResponseFlags, Connections)> {
        lock(&self.connections).clone()
    }
}

impl Counter {
    pub(super) fn add(&self, more: u64) {
        self.0.fetch_add(more, Ordering::Relaxed);
    }

    pub(super) fn get(&self) -> u64 {
        self.0.load(Ordering::Relaxed)
    }
}

impl Histogram {
    fn add(&mut self, value: u64) {
        #[expect(clippy::cast_precision_loss, reason = "a bucket does not care for the last bits")]
        let place = BOUNDS.iter().position(|bound| value as f64 <= *bound);
        if let Some(bucket) = place.and_then(|at| self.buckets.get_mut(at)) {
            *bucket += 1;
        }
        self.count += 1;
        self.sum = self.sum.saturating_add(value);
    }

    /// Bounds, and how many values were at most that.
    pub(super) fn cumulative(&self) -> impl Iterator<Item = (f64, u64)> {
        let mut sum = 0;
        BOUNDS.iter().zip(&self.buckets).map(move |(bound, bucket)| {
            sum += bucket;
            (*bound, sum)
        })
    }
}

/// What belongs to a key.
fn of<K: PartialEq, T: Default>(all: &mut Vec<(K, T)>, key: K) -> &mut T {
    let at = all.iter().position(|(known, _)| *known == key).unwrap_or_else(|| {
        all.push((key, T::default()));
        all.len() - 1
    });
    &mut all[at].1
}

fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_histogram_counts_what_is_at_most_its_bounds() {
        let mut histogram = Histogram::default();
        for value in [0, 1, 5, 6, 4_000_000] {
            histogram.add(value);
        }
        let below: Vec<_> = histogram.cumulative().map(|(_, count)| count).collect();
        assert_eq!(below[..5], [1, 2, 3, 4, 4]);
        assert_eq!((below[18], histogram.count, histogram.sum), (4, 5, 4_000_012));
    }
}
