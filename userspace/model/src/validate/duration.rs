//! Durations: at least a millisecond, and whole milliseconds.

use std::time::Duration;

use crate::Spanned;
use crate::decode::{At, Cx};

/// Checks a duration where it is written. Zero is refused too: what it would mean is said by leaving it out.
pub(super) fn written(duration: Option<&Spanned<Duration>>, at: &At<'_>, cx: &mut Cx) {
    let Some(duration) = duration else { return };
    if let Err(message) = check(duration.value) {
        cx.error(at, "invalid-duration", format!("{:?} {message}", duration.value));
    }
}

/// The same, but zero switches something off.
pub(super) fn written_or_zero(duration: Option<&Spanned<Duration>>, at: &At<'_>, cx: &mut Cx) {
    written(duration.filter(|duration| !duration.is_zero()), at, cx);
}

/// What is wrong with a duration, if anything.
pub(super) fn check(duration: Duration) -> Result<(), &'static str> {
    if duration < Duration::from_millis(1) {
        Err("is too short: at least 1ms")
    } else if !duration.subsec_nanos().is_multiple_of(1_000_000) {
        Err("is too fine: whole milliseconds only")
    } else {
        Ok(())
    }
}
