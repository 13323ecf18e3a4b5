//! Python with what PyPI has.

/// Python in the environment that `cargo xtask setup` makes: httpx, requests, grpcio, websockets.
pub const PYTHON: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/../target/tools/python/bin/python3");
