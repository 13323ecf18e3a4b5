//! Attaching to cgroups, and the links that keep it so.
//!
//! Links are made with flags 0: the kernel takes no other for a cgroup link, and shows the result as
//! "multi". A link that a daemon before this one has pinned gets our program in the place of its own,
//! so that no connect() is missed in between.

use std::{
    fs::{self, File},
    io,
    os::fd::{AsFd as _, OwnedFd},
    os::unix::fs::MetadataExt as _,
    path::{Path, PathBuf},
};

use aya::Ebpf;

use crate::{
    bpf,
    error::Error,
    load::{CLOSE, CONNECT, PEER, RECEIVE, SEND, TCP},
    pins::Pins,
};

/// A place in the kernel where programs are attached to a cgroup: the program, the name for people, and
/// the number in `enum bpf_attach_type`.
#[derive(Debug, Clone, Copy)]
struct Hook {
    program: &'static str,
    name: &'static str,
    number: u32,
}

const fn hook(program: &'static str, name: &'static str, number: u32) -> Hook {
    Hook { program, name, number }
}

const TCP_HOOK: Hook = hook(TCP, "sock_ops", 3);
/// The programs that turn connections come last, when those that finish the work are in place.
const CAPTURE: [Hook; 5] = [
    hook(CLOSE, "cgroup/sock_release", 34),
    hook(PEER[0], "cgroup/getpeername4", 29),
    hook(PEER[1], "cgroup/getpeername6", 30),
    hook(CONNECT[0], "cgroup/connect4", 10),
    hook(CONNECT[1], "cgroup/connect6", 11),
];
const DATAGRAMS: [Hook; 4] = [
    hook(RECEIVE[0], "cgroup/recvmsg4", 19),
    hook(RECEIVE[1], "cgroup/recvmsg6", 20),
    hook(SEND[0], "cgroup/sendmsg4", 14),
    hook(SEND[1], "cgroup/sendmsg6", 15),
];

/// What is attached; dropping it detaches everything whose pin is gone.
#[derive(Debug, Default)]
pub(crate) struct Links {
    held: Vec<Link>,
}

#[derive(Debug)]
struct Link {
    hook: Hook,
    pin: Option<PathBuf>,
    _fd: OwnedFd,
}

/// Where programs come from and links go to.
pub(crate) struct Place<'a> {
    pub(crate) bpf: &'a Ebpf,
    pub(crate) pins: Option<&'a Pins>,
    pub(crate) cgroup: &'a File,
    pub(crate) path: &'a Path,
}

impl Links {
    /// Attaches everything to a cgroup whose processes are captured.
    pub(crate) fn capture(&mut self, place: &Place<'_>) -> Result<(), Error> {
        self.follow(place)?;
        CAPTURE.into_iter().try_for_each(|hook| self.attach(place, hook))
    }

    /// Attaches what datagrams need beside the above.
    pub(crate) fn capture_datagrams(&mut self, place: &Place<'_>) -> Result<(), Error> {
        DATAGRAMS.into_iter().try_for_each(|hook| self.attach(place, hook))
    }

    /// Attaches what our own cgroup needs where it is not inside a captured one: the accepted end of
    /// a hand-off runs in the cgroup of the listener's owner.
    pub(crate) fn follow(&mut self, place: &Place<'_>) -> Result<(), Error> {
        self.attach(place, TCP_HOOK)
    }

    fn attach(&mut self, place: &Place<'_>, hook: Hook) -> Result<(), Error> {
        let number = place.cgroup.metadata().map(|found| found.ino());
        let number = number.map_err(Error::io(format!("looking at {}", place.path.display())))?;
        let pin = place.pins.map(|pins| pins.link(hook.program, number));
        let program =
            place.bpf.program(hook.program).ok_or_else(|| Error::missing(hook.program))?;
        let program =
            program.fd().map_err(Error::bpf(format!("the program {}", hook.program)))?.as_fd();
        if let Some(path) = &pin
            && let Some(fd) = adopted(path, program)?
        {
            self.held.push(Link { hook, pin, _fd: fd });
            return Ok(());
        }
        let fd = bpf::create_link(program, place.cgroup.as_fd(), hook.number)
            .map_err(refused(hook.name, place.path))?;
        if let Some(path) = &pin {
            // One that could not be adopted goes when the new one stands.
            if let Err(error) = fs::remove_file(path)
                && error.kind() != io::ErrorKind::NotFound
            {
                return Err(Error::io(format!("removing the pinned link {}", path.display()))(
                    error,
                ));
            }
            bpf::pin(fd.as_fd(), path)
                .map_err(Error::io(format!("pinning a link at {}", path.display())))?;
        }
        self.held.push(Link { hook, pin, _fd: fd });
        Ok(())
    }

    /// Stops turning datagrams, then connections: no name leads to an address that is no longer
    /// captured. What was turned already keeps its getpeername() and the source of its answers.
    pub(crate) fn stop_capture(&mut self) {
        for programs in [SEND, CONNECT] {
            self.held.retain(|link| {
                let stops = programs.contains(&link.hook.program);
                if stops {
                    link.unpin();
                }
                !stops
            });
        }
    }

    /// Whether datagrams are looked at.
    pub(crate) fn has_datagrams(&self) -> bool {
        self.held.iter().any(|link| SEND.contains(&link.hook.program))
    }

    /// Where links are pinned.
    pub(crate) fn pins(&self) -> impl Iterator<Item = &Path> {
        self.held.iter().filter_map(|link| link.pin.as_deref())
    }
}

impl Link {
    fn unpin(&self) {
        if let Some(path) = &self.pin
            && let Err(error) = fs::remove_file(path)
        {
            tracing::warn!(%error, path = %path.display(), "a pinned link could not be removed");
        }
    }
}

/// A link that was pinned by a daemon before this one, with our program behind it; `None` where there is
/// none, or where it no longer leads to a cgroup.
fn adopted(path: &Path, program: std::os::fd::BorrowedFd<'_>) -> Result<Option<OwnedFd>, Error> {
    let fd = match bpf::get_pinned(path) {
        Ok(fd) => fd,
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(None),
        Err(error) => {
            return Err(Error::io(format!("opening the pinned link {}", path.display()))(error));
        }
    };
    match bpf::update_link(fd.as_fd(), program) {
        Ok(()) => Ok(Some(fd)),
        Err(error) => {
            tracing::info!(%error, path = %path.display(), "a pinned link is replaced by a new one");
            Ok(None)
        }
    }
}

/// EPERM from a process with every capability means that somebody holds the hook exclusively.
fn refused(hook: &'static str, path: &Path) -> impl FnOnce(io::Error) -> Error {
    let path = path.to_owned();
    move |error| {
        if error.raw_os_error() == Some(libc::EPERM) {
            Error::Exclusive { hook, path }
        } else {
            Error::io(format!("attaching {hook} to {}", path.display()))(error)
        }
    }
}
