//! Attaching to cgroups, and the links that keep it so.
//!
//! Links are made with flags 0 (`CgroupAttachMode::Single`): the kernel takes no other for a cgroup
//! link, and shows the result as "multi".

use std::{fs::File, path::Path};

use aya::{
    Ebpf,
    programs::{
        CgroupAttachMode, CgroupSock, CgroupSockAddr, ProgramError, SockOps,
        cgroup_sock::CgroupSockLink, cgroup_sock_addr::CgroupSockAddrLink, sock_ops::SockOpsLink,
    },
};

use crate::{
    error::Error,
    load::{CLOSE, CONNECT, PEER, RECEIVE, SEND, TCP, program},
};

const MODE: CgroupAttachMode = CgroupAttachMode::Single;

/// What is attached; dropping a field detaches it.
#[derive(Debug, Default)]
pub(crate) struct Links {
    connect: Vec<CgroupSockAddrLink>,
    peer: Vec<CgroupSockAddrLink>,
    send: Vec<CgroupSockAddrLink>,
    receive: Vec<CgroupSockAddrLink>,
    tcp: Vec<SockOpsLink>,
    close: Vec<CgroupSockLink>,
}

impl Links {
    /// Attaches everything to a cgroup whose processes are captured. The programs that turn
    /// connections come last, when those that finish the work are in place.
    pub(crate) fn capture(
        &mut self,
        bpf: &mut Ebpf,
        cgroup: &File,
        path: &Path,
    ) -> Result<(), Error> {
        self.follow(bpf, cgroup, path)?;
        let close: &mut CgroupSock = program(bpf, CLOSE)?;
        let id = close.attach(cgroup, MODE).map_err(refused("cgroup/sock_release", path))?;
        self.close.push(close.take_link(id).map_err(refused("cgroup/sock_release", path))?);
        for name in PEER {
            self.peer.push(attach_sock_addr(bpf, name, cgroup, path)?);
        }
        for name in CONNECT {
            self.connect.push(attach_sock_addr(bpf, name, cgroup, path)?);
        }
        Ok(())
    }

    /// Attaches what DNS needs beside the above.
    pub(crate) fn capture_dns(
        &mut self,
        bpf: &mut Ebpf,
        cgroup: &File,
        path: &Path,
    ) -> Result<(), Error> {
        for name in RECEIVE {
            self.receive.push(attach_sock_addr(bpf, name, cgroup, path)?);
        }
        for name in SEND {
            self.send.push(attach_sock_addr(bpf, name, cgroup, path)?);
        }
        Ok(())
    }

    /// Attaches what our own cgroup needs where it is not inside a captured one: the accepted end of
    /// a hand-off runs in the cgroup of the listener's owner.
    pub(crate) fn follow(
        &mut self,
        bpf: &mut Ebpf,
        cgroup: &File,
        path: &Path,
    ) -> Result<(), Error> {
        let tcp: &mut SockOps = program(bpf, TCP)?;
        let id = tcp.attach(cgroup, MODE).map_err(refused("sock_ops", path))?;
        self.tcp.push(tcp.take_link(id).map_err(refused("sock_ops", path))?);
        Ok(())
    }

    /// Stops turning queries, then connections: no name leads to an address that is no longer
    /// captured. What was turned already keeps its getpeername() and the source of its answers.
    pub(crate) fn stop_capture(&mut self) {
        self.send.clear();
        self.connect.clear();
    }
}

fn attach_sock_addr(
    bpf: &mut Ebpf,
    name: &'static str,
    cgroup: &File,
    path: &Path,
) -> Result<CgroupSockAddrLink, Error> {
    let program: &mut CgroupSockAddr = program(bpf, name)?;
    let id = program.attach(cgroup, MODE).map_err(refused(name, path))?;
    program.take_link(id).map_err(refused(name, path))
}

/// EPERM from a process with every capability means that somebody holds the hook exclusively.
fn refused(hook: &'static str, path: &Path) -> impl FnOnce(ProgramError) -> Error {
    let path = path.to_owned();
    move |error| {
        let exclusive = matches!(
            &error,
            ProgramError::SyscallError(call) if call.io_error.raw_os_error() == Some(libc::EPERM)
        );
        if exclusive {
            Error::Exclusive { hook, path }
        } else {
            Error::bpf(format!("attaching {hook} to {}", path.display()))(error)
        }
    }
}
