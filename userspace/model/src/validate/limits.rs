//! Ports, counts and lengths.

use crate::Spanned;
use crate::decode::{At, Cx};

/// A port that must be 1 to 65535, wherever it is written or not. Larger numbers are refused while decoding.
pub(super) fn port(port: &Spanned<u16>, at: &At<'_>, cx: &mut Cx) {
    if port.value == 0 {
        cx.error(at, "out-of-range", "0 is not a port (1 to 65535)");
    }
}

/// A port that may be left out.
pub(super) fn optional_port(port: &Spanned<u16>, at: &At<'_>, cx: &mut Cx) {
    if port.is_written() {
        self::port(port, at, cx);
    }
}

/// A list or map with an upper limit on its entries.
pub(super) fn count(number: usize, most: usize, at: &At<'_>, cx: &mut Cx) {
    if number > most {
        cx.error(at, "too-many", format!("{number} entries, at most {most} are allowed"));
    }
}

/// A text with an upper limit on its characters.
pub(super) fn length(text: &str, most: usize, at: &At<'_>, cx: &mut Cx) {
    if text.len() > most && text.chars().count() > most {
        let message = format!("{} characters, at most {most} are allowed", text.chars().count());
        cx.error(at, "too-long", message);
    }
}

/// Whole percent.
pub(super) fn percent(percent: &Spanned<u32>, at: &At<'_>, cx: &mut Cx) {
    if percent.value > 100 {
        cx.error(at, "out-of-range", format!("{} is not a percentage (0 to 100)", percent.value));
    }
}
