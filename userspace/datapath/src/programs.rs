//! What the programs cost.

use std::{os::fd::OwnedFd, time::Duration};

use aya::{
    Ebpf,
    programs::ProgramInfo,
    sys::{Stats, enable_stats},
};

use crate::error::Error;

/// One program.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ProgramStats {
    /// Its name.
    pub name: String,
    /// The identifier by which `bpftool prog` knows it.
    pub id: u32,
    /// How long it has run in all; zero unless `kernel.bpf_stats_enabled` is set.
    pub run_time: Duration,
    /// How often it has run; 0 unless `kernel.bpf_stats_enabled` is set.
    pub run_count: u64,
    /// Instructions that the verifier went through; it refuses more than a million.
    pub verified_instructions: u32,
    /// Bytes of machine code.
    pub size: u32,
}

/// Measures the run time and count of all programs of the machine while what is returned is kept.
///
/// # Errors
/// What the kernel says; it needs CAP_SYS_ADMIN.
pub fn measure_programs() -> Result<OwnedFd, Error> {
    enable_stats(Stats::RunTime).map_err(Error::bpf("measuring programs"))
}

/// Every program that is loaded, by name.
pub(crate) fn programs(bpf: &Ebpf) -> Result<Vec<ProgramStats>, Error> {
    let mut found = Vec::new();
    for (name, program) in bpf.programs() {
        let info = program.info().map_err(Error::bpf(format!("asking for the program {name}")))?;
        found.push(stats(name, &info));
    }
    found.sort_unstable_by(|one, other| one.name.cmp(&other.name));
    Ok(found)
}

fn stats(name: &str, info: &ProgramInfo) -> ProgramStats {
    ProgramStats {
        name: name.to_owned(),
        id: info.id(),
        run_time: info.run_time(),
        run_count: info.run_count(),
        verified_instructions: info.verified_instruction_count().unwrap_or(0),
        size: info.size_jitted(),
    }
}
