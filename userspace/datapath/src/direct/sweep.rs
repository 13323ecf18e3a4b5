//! What is done about direct connections now and then, off their way.

use std::sync::Mutex;

use aya::Ebpf;

use super::slots::Slots;
use crate::error::Error;

/// What a sweep has found.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Swept {
    /// Connections that were counted and are no longer there.
    pub mended: u32,
    /// Connections that were ended because they were silent for too long.
    pub idle: u32,
    /// Connections that were ended because they had lasted for too long.
    pub expired: u32,
}

/// Goes over all direct connections.
pub(super) struct Sweep {}

impl Sweep {
    pub(super) fn take(_bpf: &mut Ebpf) -> Result<Self, Error> {
        Ok(Self {})
    }

    /// Goes over them once.
    pub(super) fn run(&mut self, _slots: &Mutex<Slots>) -> Result<Swept, Error> {
        Ok(Swept::default())
    }
}
