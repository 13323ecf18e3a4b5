//! Developer commands: setup, lint, test, demo, bench.

fn main() {}
