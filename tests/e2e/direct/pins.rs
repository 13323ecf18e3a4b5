//! A bpffs for the time of a test.

use std::path::{Path, PathBuf};

use egressd_tests::Spawn;
use tempfile::TempDir;

/// Mounted in a temporary folder; unmounted when dropped.
pub(super) struct BpfFs(TempDir);

impl BpfFs {
    pub(super) fn mount() -> Self {
        let folder = TempDir::with_prefix("egressd-bpf-").unwrap();
        Spawn::new(["mount", "-t", "bpf", "bpf"]).arg(folder.path()).run().expect_code(0);
        Self(folder)
    }

    /// Where a daemon is to pin.
    pub(super) fn pins(&self) -> PathBuf {
        self.0.path().join("egressd")
    }

    /// The key of egressd.yaml that says so.
    pub(super) fn config(&self) -> String {
        format!("path: direct\ncapture: {{pinDirectory: {}}}", self.pins().display())
    }
}

impl Drop for BpfFs {
    fn drop(&mut self) {
        Spawn::new([Path::new("umount"), self.0.path()]).run();
    }
}
