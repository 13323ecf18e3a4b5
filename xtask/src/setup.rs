//! `cargo xtask setup`: brings what is missing and says what it did.
//!
//! Every other command calls it, so looking must be cheap: each part looks at the thing itself (a
//! file, dpkg's status), not at a record of having installed it.

use std::{process::Command, time::Instant};

use anyhow::{Context as _, Result};

use crate::{cmd, paths};

mod kernels;
mod packages;
mod python;

pub(crate) use kernels::{KERNELS, Kernel};
pub(crate) use packages::is_root;

/// Brings every missing part; silent when there is none.
pub(crate) fn bring_missing() -> Result<()> {
    if !has_rust_src()? {
        bring("rust-src", cmd::command("rustup").args(["component", "add", "rust-src"]))?;
    }
    for tool in TOOLS {
        if !tool.is_installed() {
            bring(tool.name, &mut tool.install())?;
        }
    }
    packages::bring_missing()?;
    python::bring_missing()?;
    kernels::bring_missing()
}

/// A cargo-installed program, pinned.
struct Tool {
    name: &'static str,
    version: &'static str,
    /// Further arguments of `cargo install`.
    arguments: &'static [&'static str],
}

const TOOLS: [Tool; 3] = [
    // Later ones need a system LLVM 22; this one loads the toolchain's own.
    Tool { name: "bpf-linker", version: "0.10.4", arguments: &[] },
    // The dev profile builds in a third of the time and checks this workspace in a second.
    Tool {
        name: "cargo-deny",
        version: "0.20.2",
        arguments: &["--no-default-features", "--debug", "--config", "profile.dev.debug=0"],
    },
    // It only starts cargo and the targets.
    Tool {
        name: "cargo-fuzz",
        version: "0.13.1",
        arguments: &["--debug", "--config", "profile.dev.debug=0"],
    },
];

impl Tool {
    /// Whether cargo's own record under `target/tools` names this version.
    fn is_installed(&self) -> bool {
        let record = paths::tools().join(".crates.toml");
        let wanted = format!("\"{} {} ", self.name, self.version);
        paths::tools().join("bin").join(self.name).is_file()
            && std::fs::read_to_string(record).is_ok_and(|text| text.contains(&wanted))
    }

    fn install(&self) -> Command {
        let mut cargo = cmd::cargo();
        cargo.args(["install", self.name, "--version", self.version, "--locked", "--root"]);
        cargo.arg(paths::tools()).args(self.arguments);
        // A shared target folder would hold these builds for ever.
        cargo.env_remove("CARGO_TARGET_DIR");
        cargo
    }
}

fn has_rust_src() -> Result<bool> {
    let sysroot = cmd::stdout(cmd::command("rustc").args(["--print", "sysroot"]))?;
    let core = "lib/rustlib/src/rust/library/core/Cargo.toml";
    Ok(std::path::Path::new(sysroot.trim()).join(core).is_file())
}

/// Runs one installation, saying so before and after.
fn bring(what: &str, command: &mut Command) -> Result<()> {
    cmd::say(&format!("setup: {what} is missing: {}", cmd::line(command)));
    let start = Instant::now();
    cmd::output(command).with_context(|| format!("cannot install {what}"))?;
    cmd::say(&format!("setup: {what} installed in {:.0} s", start.elapsed().as_secs_f32()));
    Ok(())
}
