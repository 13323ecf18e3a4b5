//! Waiting for a condition, with a limit.

use std::{
    thread,
    time::{Duration, Instant},
};

/// How long anything may take to come about before a test fails: generous, because CI machines have
/// two busy cores, and never waited out when all is well.
pub const WAIT: Duration = Duration::from_secs(20);

/// Between two looks at a condition that cannot be waited for otherwise.
const POLL: Duration = Duration::from_millis(5);

/// Looks until there is a value; panics after [`WAIT`] with `what` was awaited.
#[track_caller]
pub fn until<T>(what: &str, mut look: impl FnMut() -> Option<T>) -> T {
    let deadline = Instant::now() + WAIT;
    loop {
        if let Some(value) = look() {
            return value;
        }
        assert!(Instant::now() < deadline, "gave up waiting for {what}");
        thread::sleep(POLL);
    }
}
