//! Locks between daemons: empty files that only root can open. A lock goes with its process, however
//! that ends.

use std::{
    fs::{DirBuilder, File, OpenOptions},
    io,
    os::unix::fs::{DirBuilderExt as _, OpenOptionsExt as _},
    path::Path,
};

use nix::fcntl::{Flock, FlockArg};

use crate::error::Error;

/// Where they are kept, one for each thing that was ever locked.
pub(crate) const FOLDER: &str = "/run/egressd/locks";

/// Takes a lock; `None` if somebody has it.
pub(crate) fn lock(name: &str) -> Result<Option<Flock<File>>, Error> {
    let file = open(name).map_err(Error::io(format!("making a lock in {FOLDER}")))?;
    match Flock::lock(file, FlockArg::LockExclusiveNonblock) {
        Ok(lock) => Ok(Some(lock)),
        Err((_, nix::errno::Errno::EWOULDBLOCK)) => Ok(None),
        Err((_, error)) => Err(Error::io(format!("locking {FOLDER}/{name}"))(error.into())),
    }
}

fn open(name: &str) -> io::Result<File> {
    DirBuilder::new().recursive(true).mode(0o700).create(FOLDER)?;
    let path = Path::new(FOLDER).join(name);
    OpenOptions::new().create(true).truncate(false).write(true).mode(0o600).open(path)
}
