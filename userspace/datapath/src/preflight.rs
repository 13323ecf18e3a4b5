//! What must be true of the machine before anything is loaded.

use std::fs;

use crate::error::Error;

/// The oldest kernel with everything the programs use: `bpf_set_retval` in cgroup/connect
/// programs, without which a denied connect() could only answer EPERM.
const FLOOR: (u32, u32) = (6, 1);
const FLOOR_TEXT: &str = "6.1";
const FLOOR_FEATURE: &str = "bpf_set_retval in cgroup/connect programs";

const CAP_NET_ADMIN: u32 = 12;
const CAP_SYS_ADMIN: u32 = 21;
const CAP_BPF: u32 = 39;

/// Checks capabilities and the kernel's version.
pub(crate) fn check() -> Result<(), Error> {
    let status =
        fs::read_to_string("/proc/self/status").map_err(Error::io("reading our status"))?;
    capabilities(&status)?;
    let release = fs::read_to_string("/proc/sys/kernel/osrelease")
        .map_err(Error::io("reading the kernel's release"))?;
    kernel(release.trim())
}

fn capabilities(status: &str) -> Result<(), Error> {
    let effective = status
        .lines()
        .find_map(|line| line.strip_prefix("CapEff:"))
        .and_then(|hex| u64::from_str_radix(hex.trim(), 16).ok())
        .unwrap_or(0);
    let has = |bit: u32| effective & (1 << bit) != 0;
    let mut missing = Vec::new();
    if !has(CAP_BPF) && !has(CAP_SYS_ADMIN) {
        missing.push("CAP_BPF");
    }
    if !has(CAP_NET_ADMIN) {
        missing.push("CAP_NET_ADMIN");
    }
    if missing.is_empty() {
        Ok(())
    } else {
        Err(Error::Capability { missing: missing.join(" and ") })
    }
}

fn kernel(release: &str) -> Result<(), Error> {
    let mut parts = release.split(|c: char| !c.is_ascii_digit());
    let mut number = || parts.next().and_then(|part| part.parse::<u32>().ok());
    let version = number().zip(number());
    if version.is_some_and(|version| version >= FLOOR) {
        return Ok(());
    }
    Err(Error::KernelTooOld {
        release: release.to_owned(),
        feature: FLOOR_FEATURE,
        floor: FLOOR_TEXT,
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn floor() {
        for good in ["6.1.0-1-cloud-amd64", "6.18.44", "7.0", "10.2.1"] {
            assert!(kernel(good).is_ok(), "{good}");
        }
        for old in ["5.15.0-91-generic", "6.0.19", "4.19", "weird"] {
            assert!(matches!(kernel(old), Err(Error::KernelTooOld { .. })), "{old}");
        }
    }

    #[test]
    fn missing_capabilities_are_named() {
        let said = |hex| capabilities(&format!("Name:\tx\nCapEff:\t{hex}\n")).unwrap_err();
        assert!(said("0000000000000000").to_string().starts_with("CAP_BPF and CAP_NET_ADMIN is"));
        assert!(said("0000008000000000").to_string().starts_with("CAP_NET_ADMIN is"));
        assert!(capabilities("CapEff:\t000001ffffffffff\n").is_ok());
        assert!(capabilities("CapEff:\t0000000000201000\n").is_ok());
    }
}
