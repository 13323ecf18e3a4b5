//! Where things are in the workspace.

use std::path::{Path, PathBuf};

/// The workspace's root: the folder above this crate's.
pub(crate) fn root() -> &'static Path {
    Path::new(env!("CARGO_MANIFEST_DIR")).parent().unwrap_or(Path::new("."))
}

/// What setup installs for this workspace alone; kept out of `CARGO_TARGET_DIR` so that
/// `userspace/datapath/build.rs` finds the linker whatever the target folder is.
pub(crate) fn tools() -> PathBuf {
    root().join("target/tools")
}

/// Kernel images for `test kernels`.
pub(crate) fn kernels() -> PathBuf {
    root().join("target/kernels")
}

/// Corpora, builds and findings of `fuzz`.
pub(crate) fn fuzz() -> PathBuf {
    root().join("target/fuzz")
}
