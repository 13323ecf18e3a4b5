//! Loading the object through the verifier.

use aya::{
    Ebpf, EbpfLoader,
    programs::{CgroupSock, CgroupSockAddr, SockOps},
};
use tracing::Level;

use crate::{
    error::Error,
    pins::{self, Pins},
    shared,
};

/// The object `build.rs` made from the `ebpf` crate.
static OBJECT: &[u8] = aya::include_bytes_aligned!(concat!(env!("OUT_DIR"), "/egressd-ebpf"));

pub(crate) const CONNECT: [&str; 2] = ["egressd_conn4", "egressd_conn6"];
pub(crate) const PEER: [&str; 2] = ["egressd_peer4", "egressd_peer6"];
pub(crate) const SEND: [&str; 2] = ["egressd_send4", "egressd_send6"];
pub(crate) const RECEIVE: [&str; 2] = ["egressd_recv4", "egressd_recv6"];
pub(crate) const TCP: &str = "egressd_tcp";
pub(crate) const CLOSE: &str = "egressd_close";

/// Loads every program; nothing is attached.
pub(crate) fn load(pins: Option<&Pins>) -> Result<Ebpf, Error> {
    let level = log_level();
    let mut loader = EbpfLoader::new();
    if let Some(pins) = pins {
        for name in pins::MAPS {
            loader.map_pin_path(name, pins.map(name));
        }
    }
    loader.override_global(aya_log::LEVEL, &level, true);
    let mut bpf = shared::load(&mut loader, OBJECT)?;
    for name in [CONNECT, PEER, SEND, RECEIVE].into_iter().flatten() {
        let program: &mut CgroupSockAddr = program(&mut bpf, name)?;
        program.load().map_err(Error::bpf(format!("loading the program {name}")))?;
    }
    let program_tcp: &mut SockOps = program(&mut bpf, TCP)?;
    program_tcp.load().map_err(Error::bpf(format!("loading the program {TCP}")))?;
    let program_close: &mut CgroupSock = program(&mut bpf, CLOSE)?;
    program_close.load().map_err(Error::bpf(format!("loading the program {CLOSE}")))?;
    Ok(bpf)
}

/// A program by its name, as the type it must have.
pub(crate) fn program<'a, P>(bpf: &'a mut Ebpf, name: &str) -> Result<&'a mut P, Error>
where
    &'a mut P: TryFrom<&'a mut aya::programs::Program, Error = aya::programs::ProgramError>,
{
    let program = bpf.program_mut(name).ok_or_else(|| Error::missing(name))?;
    program.try_into().map_err(Error::bpf(format!("the program {name}")))
}

/// How much the programs say: a constant for the verifier, so that silence costs nothing.
fn log_level() -> u8 {
    const TARGET: &str = "egressd::ebpf";
    if tracing::enabled!(target: TARGET, Level::TRACE) {
        5
    } else if tracing::enabled!(target: TARGET, Level::DEBUG) {
        4
    } else {
        0
    }
}
