//! Doors at Unix sockets: a Gateway's `bind: unix:///path` or `unix://@name`.

use std::{
    fs, io,
    os::{fd::OwnedFd, unix::fs::FileTypeExt},
};

use egressd_proxy::{DoorAddr, UnixName};
use nix::errno::Errno;
use socket2::{Domain, SockAddr, Socket, Type};

/// Listens at a Unix socket. A file that a daemon before us has left is replaced; who may connect is
/// said by the process's umask and the folder.
pub(super) fn listen(name: &UnixName) -> io::Result<OwnedFd> {
    let addr = address(name)?;
    let socket = Socket::new(Domain::UNIX, Type::STREAM, None)?;
    match socket.bind(&addr) {
        Err(error) if errno(&error) == Some(Errno::EADDRINUSE) && is_left_over(name, &addr) => {
            fs::remove_file(name.as_str())?;
            socket.bind(&addr)?;
        }
        bound => bound?,
    }
    socket.listen(egressd_proxy::BACKLOG)?;
    Ok(socket.into())
}

/// Removes the file of a socket that is closed.
pub(super) fn tidy(addr: &DoorAddr) {
    let DoorAddr::Unix(name) = addr else { return };
    if let Ok(addr) = address(name)
        && is_left_over(name, &addr)
        && let Err(error) = fs::remove_file(name.as_str())
    {
        tracing::debug!(%error, socket = name.as_str(), "a closed socket's file stays");
    }
}

fn address(name: &UnixName) -> io::Result<SockAddr> {
    match name.as_abstract() {
        // As socket2 writes it: a name that begins with NUL.
        Some(name) => SockAddr::unix(format!("\0{name}")),
        None => SockAddr::unix(name.as_str()),
    }
}

/// Whether a path is a socket that nobody listens at.
fn is_left_over(name: &UnixName, addr: &SockAddr) -> bool {
    let file = fs::symlink_metadata(name.as_str());
    if name.as_abstract().is_some() || !file.is_ok_and(|file| file.file_type().is_socket()) {
        return false;
    }
    let Ok(socket) = Socket::new(Domain::UNIX, Type::STREAM, None) else { return false };
    // A listener whose queue is full must not hold us up.
    let tried = socket.set_nonblocking(true).and_then(|()| socket.connect(addr));
    tried.is_err_and(|error| errno(&error) == Some(Errno::ECONNREFUSED))
}

fn errno(error: &io::Error) -> Option<Errno> {
    error.raw_os_error().map(Errno::from_raw)
}

#[cfg(test)]
mod tests {
    use std::os::unix::net::{UnixListener, UnixStream};

    use super::*;

    #[test]
    fn what_a_daemon_before_has_left_is_replaced_and_nothing_else() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("door");
        let name = UnixName::new(path.to_str().unwrap());
        drop(UnixListener::bind(&path).unwrap());
        let listening = listen(&name).unwrap();
        UnixStream::connect(&path).unwrap();
        assert_eq!(errno(&listen(&name).unwrap_err()), Some(Errno::EADDRINUSE));
        tidy(&DoorAddr::Unix(name.clone()));
        assert!(path.exists());
        drop(listening);
        tidy(&DoorAddr::Unix(name.clone()));
        assert!(!path.exists());
        fs::write(&path, "a file").unwrap();
        assert!(listen(&name).is_err());
        assert_eq!(fs::read_to_string(&path).unwrap(), "a file");
    }
}
