//! Regular expressions in RE2's syntax.

use crate::decode::{At, Cx};
use crate::value::Re2;

/// Longest expression that Istio passes on.
const LONGEST: usize = 1024;

/// Checks that an expression is neither empty nor too long, and compiles.
pub(super) fn regex(pattern: &str, at: &At<'_>, cx: &mut Cx) {
    if pattern.is_empty() {
        cx.error(at, "invalid-regex", "a regular expression must not be empty");
    } else if pattern.len() > LONGEST {
        let message = format!("{} characters, at most {LONGEST} are allowed", pattern.len());
        cx.error(at, "invalid-regex", message);
    } else if let Err(error) = Re2::check(pattern) {
        cx.error(at, "invalid-regex", error.to_string()).help("the syntax is RE2's");
    }
}
