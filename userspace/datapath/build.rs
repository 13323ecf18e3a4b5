//! Builds the eBPF object from the `ebpf` crate, with this same toolchain.
//!
//! `RUSTC_BOOTSTRAP=1` lets a stable compiler build `core` for the BPF target; bpf-linker is the
//! one that `cargo xtask setup` puts under `target/tools`.

use std::{env, path::PathBuf};

use anyhow::Context as _;
use aya_build::{Package, Toolchain};

fn main() -> anyhow::Result<()> {
    let here = PathBuf::from(env::var("CARGO_MANIFEST_DIR")?);
    let root = here.ancestors().nth(2).context("the crate is two folders below the root")?;
    let tools = root.join("target/tools/bin");
    let path = env::var_os("PATH").unwrap_or_default();
    let paths = std::iter::once(tools).chain(env::split_paths(&path));
    let path = env::join_paths(paths)?;
    let ebpf = root.join("ebpf");
    let ebpf = ebpf.to_str().context("the path of the sources is not UTF-8")?;
    println!("cargo:rerun-if-changed={ebpf}/abi");
    set_environment(&path);
    let package = Package { name: "egressd-ebpf", root_dir: ebpf, ..Package::default() };
    aya_build::build_ebpf([package], Toolchain::Custom("1.95.0"))
        .context("building the eBPF object; `cargo xtask setup` installs what it needs")
}

#[expect(unsafe_code, reason = "aya-build reads its settings from the environment")]
fn set_environment(path: &std::ffi::OsStr) {
    // SAFETY: the build script has one thread.
    unsafe {
        env::set_var("PATH", path);
        env::set_var("RUSTC_BOOTSTRAP", "1");
    }
}
