//! The commands that need no daemon, as they are typed.

#![expect(clippy::unwrap_used, reason = "a test whose surroundings are not as expected must fail")]
#![expect(clippy::print_stdout, reason = "a test says what it compared, or that it was skipped")]

mod check;
mod config;
mod explain;
mod seeds;
mod support;
