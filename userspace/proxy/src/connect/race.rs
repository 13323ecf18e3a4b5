//! Attempts side by side: one that does not answer does not hold up the others (RFC 8305 §5).

use std::{
    future::{Future, poll_fn},
    pin::Pin,
    task::Poll,
    time::Duration,
};

use tokio::time::timeout;

/// Attempts under way. Dropping it gives them up.
pub(super) struct Race<'a, T> {
    running: Vec<Pin<Box<dyn Future<Output = T> + Send + 'a>>>,
}

impl<'a, T> Race<'a, T> {
    /// One without attempts.
    pub(super) fn new() -> Self {
        Self { running: Vec::new() }
    }

    /// Whether nothing is under way.
    pub(super) fn is_empty(&self) -> bool {
        self.running.is_empty()
    }

    /// Adds an attempt.
    pub(super) fn add(&mut self, attempt: impl Future<Output = T> + Send + 'a) {
        self.running.push(Box::pin(attempt));
    }

    /// Waits for the end of an attempt, whichever comes first; with `head_start`, for that long at
    /// most. Without attempts there is nothing to wait for.
    pub(super) async fn next(&mut self, head_start: Option<Duration>) -> Option<T> {
        let next = poll_fn(|cx| {
            let mut done = None;
            self.running.retain_mut(|attempt| {
                if done.is_some() {
                    return true;
                }
                match attempt.as_mut().poll(cx) {
                    Poll::Ready(outcome) => {
                        done = Some(outcome);
                        false
                    }
                    Poll::Pending => true,
                }
            });
            match done {
                None if !self.running.is_empty() => Poll::Pending,
                done => Poll::Ready(done),
            }
        });
        match head_start {
            Some(limit) => timeout(limit, next).await.ok().flatten(),
            None => next.await,
        }
    }
}

#[cfg(test)]
mod tests {
    use tokio::time::{Instant, sleep};

    use super::*;

    #[tokio::test(start_paused = true)]
    async fn the_first_to_end_is_told_first() {
        let mut race = Race::new();
        assert_eq!(race.next(None).await, None);
        let after = |seconds: u64| async move {
            sleep(Duration::from_secs(seconds)).await;
            seconds
        };
        let start = Instant::now();
        race.add(after(5));
        assert_eq!(race.next(Some(Duration::from_secs(1))).await, None);
        race.add(after(2));
        assert!(!race.is_empty());
        assert_eq!(race.next(Some(Duration::from_secs(9))).await, Some(2));
        assert_eq!(start.elapsed(), Duration::from_secs(3));
        assert_eq!(race.next(None).await, Some(5));
        assert_eq!(start.elapsed(), Duration::from_secs(5));
        assert!(race.is_empty());
    }
}
