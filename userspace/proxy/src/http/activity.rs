//! What happens on an application's connection, as far as its limits depend on it.
//!
//! Written by the connection's own thread; atomics only because a task may be moved in principle.

use std::{
    sync::atomic::{AtomicBool, AtomicU32, AtomicU64, Ordering},
    time::Duration,
};

use tokio::time::Instant;

use super::settings::HttpSettings;

/// What happens on an application's connection.
#[derive(Debug)]
pub(crate) struct Activity {
    since: Instant,
    /// Requests under way.
    requests: AtomicU32,
    /// Requests that ever were.
    begun: AtomicU64,
    /// When it last became idle, or bytes came while it was: milliseconds since the start.
    changed: AtomicU64,
    /// Part of a head has come, and no request yet.
    in_head: AtomicBool,
    /// The last bytes were part of a head.
    ahead: AtomicBool,
    /// The first request must come at once.
    hurried: AtomicBool,
    /// Another protocol is spoken.
    switched: AtomicBool,
}

/// What a connection has waited too long for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Overdue {
    /// The rest of a head.
    Head,
    /// A request.
    Request,
}

impl Default for Activity {
    fn default() -> Self {
        Self {
            since: Instant::now(),
            requests: AtomicU32::new(0),
            begun: AtomicU64::new(0),
            changed: AtomicU64::new(0),
            in_head: AtomicBool::new(false),
            ahead: AtomicBool::new(false),
            hurried: AtomicBool::new(false),
            switched: AtomicBool::new(false),
        }
    }
}

impl Activity {
    /// Bytes of HTTP/1 have come; `in_head`: the last of them are part of a head.
    pub(crate) fn received(&self, in_head: bool) {
        self.ahead.store(in_head, Ordering::Relaxed);
        if self.requests.load(Ordering::Relaxed) == 0 && !self.in_head.swap(true, Ordering::Relaxed)
        {
            self.change(Instant::now());
        }
    }

    /// A request has come.
    pub(crate) fn begin(&self) {
        self.in_head.store(false, Ordering::Relaxed);
        self.requests.fetch_add(1, Ordering::Relaxed);
        self.begun.fetch_add(1, Ordering::Relaxed);
    }

    /// A request has been answered, or given up, at this moment.
    pub(crate) fn end(&self, at: Instant) {
        if self.requests.fetch_sub(1, Ordering::Relaxed) == 1 {
            // A head that has begun to come meanwhile has its time from here on.
            self.in_head.store(self.ahead.load(Ordering::Relaxed), Ordering::Relaxed);
            self.change(at);
        }
    }

    /// Whether a request is under way.
    pub(crate) fn is_busy(&self) -> bool {
        self.requests.load(Ordering::Relaxed) > 0
    }

    /// The first request has no more time than the head of one: who dials may be anybody.
    pub(crate) fn hurry(&self) {
        self.hurried.store(true, Ordering::Relaxed);
    }

    /// Whether no request ever came.
    pub(crate) fn is_unused(&self) -> bool {
        self.begun.load(Ordering::Relaxed) == 0
    }

    /// Another protocol is spoken from here on.
    pub(super) fn switch(&self) {
        self.switched.store(true, Ordering::Relaxed);
    }

    /// Whether another protocol is spoken.
    pub(crate) fn is_switched(&self) -> bool {
        self.switched.load(Ordering::Relaxed)
    }

    /// What it has waited too long for, or how long it may still wait before that is asked again.
    pub(crate) fn overdue(&self, settings: &HttpSettings) -> Result<Duration, Overdue> {
        if self.requests.load(Ordering::Relaxed) > 0 || self.is_switched() {
            return Ok(settings.idle_connection.min(settings.request_head));
        }
        let changed = Duration::from_millis(self.changed.load(Ordering::Relaxed));
        let quiet = self.since.elapsed().saturating_sub(changed);
        let hurried = self.hurried.load(Ordering::Relaxed) && self.is_unused();
        let (longest, overdue) = if hurried || self.in_head.load(Ordering::Relaxed) {
            (settings.request_head, Overdue::Head)
        } else {
            (settings.idle_connection, Overdue::Request)
        };
        match longest.checked_sub(quiet) {
            // A head may begin right after this was asked.
            Some(left) if !left.is_zero() => Ok(left.min(settings.request_head)),
            Some(_) | None => Err(overdue),
        }
    }

    fn change(&self, at: Instant) {
        let since = at.saturating_duration_since(self.since);
        let millis = u64::try_from(since.as_millis()).unwrap_or(u64::MAX);
        self.changed.store(millis, Ordering::Relaxed);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test(start_paused = true)]
    async fn strangers_have_little_time_for_their_first_request() {
        let settings = HttpSettings::default();
        let activity = Activity::default();
        activity.hurry();
        tokio::time::advance(settings.request_head).await;
        assert_eq!(activity.overdue(&settings), Err(Overdue::Head));
        activity.begin();
        activity.end(Instant::now());
        tokio::time::advance(settings.request_head).await;
        assert!(activity.overdue(&settings).is_ok());
    }

    #[tokio::test(start_paused = true)]
    async fn heads_and_idle_connections_have_their_limits() {
        let seconds = Duration::from_secs;
        let settings = HttpSettings {
            request_head: seconds(10),
            idle_connection: seconds(100),
            ..HttpSettings::default()
        };
        let activity = Activity::default();
        assert_eq!(activity.overdue(&settings), Ok(seconds(10)));
        tokio::time::advance(seconds(95)).await;
        assert_eq!(activity.overdue(&settings), Ok(seconds(5)));
        activity.received(true);
        tokio::time::advance(seconds(4)).await;
        activity.received(false);
        assert_eq!(activity.overdue(&settings), Ok(seconds(6)));
        activity.begin();
        tokio::time::advance(seconds(1000)).await;
        assert!(activity.overdue(&settings).is_ok());
        activity.end(Instant::now());
        assert_eq!(activity.overdue(&settings), Ok(seconds(10)));
        tokio::time::advance(seconds(100)).await;
        assert_eq!(activity.overdue(&settings), Err(Overdue::Request));
        activity.received(true);
        tokio::time::advance(seconds(10)).await;
        assert_eq!(activity.overdue(&settings), Err(Overdue::Head));
        assert!(!activity.is_unused());
        activity.begin();
        activity.received(true);
        activity.end(Instant::now());
        tokio::time::advance(seconds(10)).await;
        assert_eq!(activity.overdue(&settings), Err(Overdue::Head));
    }
}
