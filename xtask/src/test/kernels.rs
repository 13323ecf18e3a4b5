//! `cargo xtask test kernels`: the daemon at the root cgroup of Debian's kernels.
//!
//! Each kernel boots under qemu's software emulation (no KVM: CI machines are guests themselves)
//! with a first file system of busybox, the daemon and a script, [`INIT`], that prints a verdict.

use std::{
    fs::{self, File},
    path::{Path, PathBuf},
    process::{Child, Command, Stdio},
    thread,
    time::{Duration, Instant},
};

use anyhow::{Context as _, Result, bail};

use super::initramfs::Initramfs;
use crate::{
    cmd, paths,
    setup::{KERNELS, Kernel},
};

const INIT: &str = include_str!("guest/init");
const CONFIG: &str = include_str!("guest/egressd.yaml");
const SERVICES: &str = include_str!("guest/services.yaml");

/// From power-on to verdict. A boot takes 10 s on an idle machine, the emulated verifier and the
/// tests another 10; the rest is for a machine with other work.
const TIME_LIMIT: Duration = Duration::from_secs(240);
/// Between two looks at whether the guest has powered off.
const POLL: Duration = Duration::from_millis(100);

/// Boots each kernel and reads its verdict.
pub(crate) fn run() -> Result<()> {
    let daemon = cmd::daemon(&[])?;
    let folder = paths::kernels();
    let archive = folder.join("initramfs.cpio");
    fs::write(&archive, initramfs(&daemon)?)
        .with_context(|| format!("cannot write {}", archive.display()))?;
    let mut failed = 0;
    for kernel in &KERNELS {
        if let Err(error) = boot(kernel, &archive) {
            cmd::say(&format!("test kernels::{} ... FAILED\n{error:#}", kernel.version));
            failed += 1;
        }
    }
    let passed = KERNELS.len() - failed;
    if failed > 0 {
        bail!("test kernels: FAILED. {passed} passed; {failed} failed");
    }
    cmd::say(&format!("test kernels: ok. {passed} passed; 0 failed"));
    Ok(())
}

fn initramfs(daemon: &Path) -> Result<Vec<u8>> {
    let mut archive = Initramfs::default();
    // busybox's own client crashes in the static C library's name lookup; curl also tells what
    // getpeername() says.
    for program in ["busybox", "curl"] {
        let path = cmd::find(program).with_context(|| format!("{program} is not in PATH"))?;
        archive.program(&format!("/bin/{program}"), &path)?;
    }
    archive.program("/bin/egressd", daemon)?;
    archive.script("/init", INIT);
    archive.text("/etc/egressd/egressd.yaml", CONFIG);
    archive.text("/etc/egressd/resources/services.yaml", SERVICES);
    Ok(archive.finish())
}

fn boot(kernel: &Kernel, archive: &Path) -> Result<()> {
    let console = paths::kernels().join(kernel.version).join("console.log");
    let start = Instant::now();
    let guest = Guest::start(kernel, archive, &console)?;
    let ended = guest.wait()?;
    let text = String::from_utf8_lossy(&fs::read(&console)?).replace('\r', "");
    let took = start.elapsed().as_secs_f32();
    if !ended || !text.lines().any(|line| line == "VERDICT: ok") {
        let why = if ended { "" } else { " (time limit reached)" };
        bail!("kernel {}: the test failed{why}; the console said:\n{text}", kernel.version);
    }
    let release = text.lines().find_map(|line| line.strip_prefix("KERNEL: "));
    let release = release.unwrap_or(kernel.version);
    cmd::say(&format!("test kernels::{} ({release}, {took:.0} s) ... ok", kernel.version));
    for record in text.lines().filter_map(|line| line.strip_prefix("RECORD: ")) {
        cmd::say(&format!("    {record}"));
    }
    Ok(())
}

/// A running emulator; killed when dropped.
struct Guest {
    child: Child,
}

impl Guest {
    fn start(kernel: &Kernel, archive: &Path, console: &PathBuf) -> Result<Self> {
        let mut qemu = Command::new("qemu-system-x86_64");
        qemu.args(["-machine", "pc,accel=tcg", "-cpu", "max", "-smp", "2", "-m", "1024"]);
        qemu.args(["-nodefaults", "-no-reboot", "-nographic", "-serial", "stdio", "-nic", "none"]);
        qemu.arg("-kernel").arg(kernel.image()).arg("-initrd").arg(archive);
        qemu.args(["-append", "console=ttyS0 panic=-1 quiet"]);
        let output =
            File::create(console).with_context(|| format!("cannot write {}", console.display()))?;
        qemu.stdin(Stdio::null()).stderr(output.try_clone()?).stdout(output);
        let child = qemu.spawn().with_context(|| format!("cannot start `{}`", cmd::line(&qemu)))?;
        Ok(Self { child })
    }

    /// Whether the guest powered off within the time limit.
    fn wait(mut self) -> Result<bool> {
        let deadline = Instant::now() + TIME_LIMIT;
        while self.child.try_wait()?.is_none() {
            if Instant::now() > deadline {
                return Ok(false);
            }
            thread::sleep(POLL);
        }
        Ok(true)
    }
}

impl Drop for Guest {
    fn drop(&mut self) {
        // Both fail only when the child is gone, which is what is wanted.
        drop(self.child.kill());
        drop(self.child.wait());
    }
}
