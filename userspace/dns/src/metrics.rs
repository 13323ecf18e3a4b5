//! What DNS counts. Atomics, read whenever somebody asks.

use std::{
    fmt,
    sync::atomic::{AtomicU64, Ordering},
    time::Duration,
};

/// The counters of server, forwarder and resolver. The first four are Istio's (semantics.md §2).
#[derive(Debug, Default)]
pub struct Metrics {
    /// `dns_requests_total`: queries received, of either transport.
    pub requests: Counter,
    /// `dns_upstream_requests_total`: queries that were asked upstream.
    pub upstream_requests: Counter,
    /// `dns_upstream_failures_total`: queries that no upstream answered; the client got SERVFAIL.
    pub upstream_failures: Counter,
    /// `dns_upstream_request_duration_seconds`: from a query's arrival until its answer from
    /// upstream, failures included.
    pub upstream_duration: Histogram,
    /// `dns_upstream_refused_total`: queries answered SERVFAIL at once because too many of the same
    /// client were waiting already; part of the failures.
    pub upstream_refused: Counter,
    /// `dns_upstream_displaced_total`: queries answered SERVFAIL before their time because others
    /// needed their place; part of the failures.
    pub upstream_displaced: Counter,
    /// `dns_connections_closed_total`: connections to port 53 closed because there were too many:
    /// those of the client with the most.
    pub connections_closed: Counter,
    /// `dns_upstream_loops_total`: queries answered SERVFAIL because an upstream leads back here;
    /// part of the failures.
    pub upstream_loops: Counter,
    /// `dns_malformed_requests_total`: packets that are no query or cannot be read.
    pub malformed: Counter,
    /// `dns_resolutions_total`: resolutions of names for clusters, each of one or two questions.
    pub resolutions: Counter,
    /// `dns_resolution_failures_total`: those that got no answer. A name that does not exist is an
    /// answer.
    pub resolution_failures: Counter,
    /// `dns_resolutions_refused_total`: names of requests that were not resolved, or not to the end,
    /// because too many were being resolved.
    pub resolutions_refused: Counter,
    /// `dns_failing_names`: names of clusters whose last resolution got no answer.
    pub failing_names: Gauge,
    /// `dns_stale_answers_total`: look-ups that got addresses past their time, because no upstream
    /// answers.
    pub stale_answers: Counter,
}

/// A number that only grows.
#[derive(Debug, Default)]
pub struct Counter(AtomicU64);

impl Counter {
    /// Adds one.
    pub fn increment(&self) {
        self.add(1);
    }

    /// Adds several.
    pub fn add(&self, count: u64) {
        self.0.fetch_add(count, Ordering::Relaxed);
    }

    /// The number.
    pub fn get(&self) -> u64 {
        self.0.load(Ordering::Relaxed)
    }
}

/// A number that grows and shrinks.
#[derive(Debug, Default)]
pub struct Gauge(AtomicU64);

impl Gauge {
    /// One more; gives how many there were.
    pub(crate) fn increment(&self) -> u64 {
        self.0.fetch_add(1, Ordering::Relaxed)
    }

    /// One less; gives how many there were. For each there must have been an increment.
    pub(crate) fn decrement(&self) -> u64 {
        self.0.fetch_sub(1, Ordering::Relaxed)
    }

    /// The number.
    pub fn get(&self) -> u64 {
        self.0.load(Ordering::Relaxed)
    }
}

/// Durations by upper bound.
#[derive(Debug, Default)]
pub struct Histogram {
    /// One for each of [`BOUNDS`], and one for what is longer than all; not cumulative.
    buckets: [Counter; BOUNDS.len() + 1],
    nanoseconds: Counter,
}

/// Upper bounds of the buckets, in seconds.
pub const BOUNDS: [f64; 6] = [0.001, 0.005, 0.01, 0.1, 1.0, 5.0];

impl Histogram {
    /// Adds a duration.
    pub fn record(&self, duration: Duration) {
        let seconds = duration.as_secs_f64();
        let place = BOUNDS.iter().position(|bound| seconds <= *bound).unwrap_or(BOUNDS.len());
        if let Some(bucket) = self.buckets.get(place) {
            bucket.increment();
        }
        self.nanoseconds.add(u64::try_from(duration.as_nanos()).unwrap_or(u64::MAX));
    }

    /// How many durations there are.
    pub fn count(&self) -> u64 {
        self.buckets.iter().map(Counter::get).sum()
    }

    /// All durations together.
    pub fn sum(&self) -> Duration {
        Duration::from_nanos(self.nanoseconds.get())
    }

    /// Each upper bound in seconds, the last one infinite, and how many durations are within it.
    pub fn cumulative(&self) -> impl Iterator<Item = (f64, u64)> {
        let bounds = BOUNDS.into_iter().chain([f64::INFINITY]);
        bounds.zip(&self.buckets).scan(0, |total, (bound, bucket)| {
            *total += bucket.get();
            Some((bound, *total))
        })
    }
}

/// The text that Prometheus reads.
impl fmt::Display for Metrics {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let counters = [
            ("dns_requests_total", "DNS queries received", &self.requests),
            ("dns_upstream_requests_total", "DNS queries asked upstream", &self.upstream_requests),
            (
                "dns_upstream_failures_total",
                "DNS queries that no upstream answered",
                &self.upstream_failures,
            ),
            (
                "dns_upstream_refused_total",
                "DNS queries refused because too many were waiting for upstreams",
                &self.upstream_refused,
            ),
            (
                "dns_upstream_displaced_total",
                "DNS queries given up because others needed their place",
                &self.upstream_displaced,
            ),
            (
                "dns_connections_closed_total",
                "DNS connections closed because there were too many",
                &self.connections_closed,
            ),
            (
                "dns_upstream_loops_total",
                "DNS queries refused because an upstream leads back here",
                &self.upstream_loops,
            ),
            (
                "dns_malformed_requests_total",
                "DNS packets that cannot be read as a query",
                &self.malformed,
            ),
            ("dns_resolutions_total", "Names resolved for clusters", &self.resolutions),
            (
                "dns_resolution_failures_total",
                "Resolutions for clusters without any answer",
                &self.resolution_failures,
            ),
            (
                "dns_resolutions_refused_total",
                "Names of requests not resolved because too many were",
                &self.resolutions_refused,
            ),
            (
                "dns_stale_answers_total",
                "Look-ups answered with addresses past their time",
                &self.stale_answers,
            ),
        ];
        for (name, help, counter) in counters {
            write!(f, "# HELP {name} {help}\n# TYPE {name} counter\n{name} {}\n", counter.get())?;
        }
        let (name, help) = ("dns_failing_names", "Names of clusters that got no answer last time");
        let failing = self.failing_names.get();
        write!(f, "# HELP {name} {help}\n# TYPE {name} gauge\n{name} {failing}\n")?;
        let name = "dns_upstream_request_duration_seconds";
        write!(f, "# HELP {name} Time until upstreams answered\n# TYPE {name} histogram\n")?;
        for (bound, count) in self.upstream_duration.cumulative() {
            f.write_str(name)?;
            if bound.is_finite() {
                writeln!(f, "_bucket{{le=\"{bound}\"}} {count}")?;
            } else {
                writeln!(f, "_bucket{{le=\"+Inf\"}} {count}")?;
            }
        }
        writeln!(f, "{name}_sum {}", self.upstream_duration.sum().as_secs_f64())?;
        writeln!(f, "{name}_count {}", self.upstream_duration.count())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn buckets_add_up() {
        let metrics = Metrics::default();
        metrics.requests.add(3);
        for milliseconds in [1, 2, 50, 6000] {
            metrics.upstream_duration.record(Duration::from_millis(milliseconds));
        }
        let counts: Vec<u64> = metrics.upstream_duration.cumulative().map(|(_, n)| n).collect();
        assert_eq!(counts, [1, 2, 2, 3, 3, 3, 4]);
        let text = metrics.to_string();
        assert!(text.contains("dns_requests_total 3\n"), "{text}");
        assert!(text.contains("dns_upstream_request_duration_seconds_bucket{le=\"0.1\"} 3\n"));
        assert!(text.contains("dns_upstream_request_duration_seconds_bucket{le=\"+Inf\"} 4\n"));
        assert!(text.contains("dns_upstream_request_duration_seconds_sum 6.053\n"));
    }
}
