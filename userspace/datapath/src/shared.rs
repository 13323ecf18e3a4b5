//! The map that all instances on a host share.
//!
//! `EGRESSD_REWRIT` tells a capture program that another instance has already turned this connect()
//! to its proxy. aya can put an existing map in place of a new one only through a pin, so where an
//! instance runs already the object is loaded on a thread with a mount namespace and a bpffs of its
//! own: the pin is seen by nobody and goes with the thread.

use std::{io, path::Path};

use aya::{
    Ebpf, EbpfLoader,
    maps::{MapData, loaded_maps},
};

use nix::{
    mount::{MsFlags, mount},
    sched::{CloneFlags, unshare},
};

use crate::{error::Error, locks};

/// The name of the shared map; the kernel keeps fifteen characters.
pub(crate) const MAP: &str = "EGRESSD_REWRIT";
/// A place that is there and that nothing else is looked for at: whoever loads may have pins elsewhere.
const MOUNT_POINT: &str = locks::FOLDER;
const PIN: &str = "/run/egressd/locks/egressd_rewritten";

/// Loads the object, with the shared map of an instance that runs if there is one.
pub(crate) fn load(loader: &mut EbpfLoader<'_>, object: &[u8]) -> Result<Ebpf, Error> {
    let Some(map) = existing() else {
        return loader.load(object).map_err(Error::bpf("loading the eBPF object"));
    };
    std::thread::scope(|scope| {
        let thread = std::thread::Builder::new().name("egressd-load".to_owned());
        let work = move || {
            private_bpffs().map_err(Error::io("mounting a private bpffs"))?;
            map.pin(Path::new(PIN)).map_err(Error::bpf("lending the shared map to the loader"))?;
            loader
                .map_pin_path(MAP, Path::new(PIN))
                .load(object)
                .map_err(Error::bpf("loading the eBPF object beside another instance"))
        };
        let handle = thread.spawn_scoped(scope, work).map_err(Error::io("starting a thread"))?;
        handle.join().unwrap_or_else(|_panic| {
            let source = io::Error::other("the loading thread panicked").into();
            Err(Error::Bpf { what: "loading the eBPF object".to_owned(), source })
        })
    })
}

/// The map of an instance that runs, opened: from here on it stays, also if that instance ends.
fn existing() -> Option<MapData> {
    loaded_maps()
        .filter_map(Result::ok)
        .filter(|info| info.name_as_str() == Some(MAP))
        .find_map(|info| MapData::from_id(info.id()).ok())
}

/// Gives the calling thread a mount namespace with an empty bpffs at the usual place.
fn private_bpffs() -> io::Result<()> {
    let none: Option<&str> = None;
    unshare(CloneFlags::CLONE_NEWNS)?;
    mount(none, "/", none, MsFlags::MS_REC | MsFlags::MS_PRIVATE, none)?;
    mount(Some("bpf"), MOUNT_POINT, Some("bpf"), MsFlags::empty(), none)?;
    Ok(())
}
