//! Where Istio's own answers are, and a word about what came of them. Crates take this file into
//! their tests by `#[path]`: no crate is below all of them.

use std::{
    env, fmt,
    io::{self, Write as _},
    path::{Path, PathBuf},
    sync::Once,
};

/// What was skipped is said once, for all tests of a program.
static SKIPPED: Once = Once::new();

/// The folder of the conformance data: `EGRESSD_CONFORMANCE`, else `../shared/conformance` beside the
/// workspace. Without it the test that asks has nothing to compare, and says so; with
/// `EGRESSD_REQUIRE_CONFORMANCE=1` it fails.
pub(crate) fn conformance() -> Option<PathBuf> {
    let beside = || Path::new(env!("CARGO_MANIFEST_DIR")).join("../../../shared/conformance");
    let folder = env::var_os("EGRESSD_CONFORMANCE").map_or_else(beside, PathBuf::from);
    if folder.is_dir() {
        return Some(folder);
    }
    let required = env::var_os("EGRESSD_REQUIRE_CONFORMANCE").is_some_and(|value| value == "1");
    assert!(!required, "no conformance data in {}", folder.display());
    SKIPPED.call_once(|| {
        say(&format_args!(
            "SKIPPED: no data in {}; set EGRESSD_CONFORMANCE to the folder that has it",
            folder.display()
        ));
    });
    None
}

/// Writes a line where it is seen although the test passes: cargo keeps back what is printed.
pub(crate) fn say(line: &dyn fmt::Display) {
    let written = writeln!(io::stdout().lock(), "conformance: {line}");
    assert!(written.is_ok(), "{written:?}");
}
