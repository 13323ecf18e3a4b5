//! Asks the kernel which programs are attached to a cgroup: what must be none when we are gone.
#![expect(unsafe_code, reason = "bpf(2) has no safe wrapper outside the datapath's library")]

use std::{fs::File, os::fd::AsRawFd as _};

use crate::cgroup::Cgroup;

/// BPF_PROG_QUERY of bpf(2).
const PROG_QUERY: libc::c_int = 16;

/// The kinds of program this project attaches, as `enum bpf_attach_type` numbers them.
const ATTACH_TYPES: [(&str, u32); 6] = [
    ("sock_ops", 3),
    ("connect4", 10),
    ("connect6", 11),
    ("getpeername4", 29),
    ("getpeername6", 30),
    ("sock_release", 34),
];

/// The part of `union bpf_attr` that BPF_PROG_QUERY reads.
#[repr(C)]
#[derive(Default)]
struct Query {
    target_fd: u32,
    attach_type: u32,
    query_flags: u32,
    attach_flags: u32,
    prog_ids: u64,
    prog_count: u32,
    padding: u32,
    prog_attach_flags: u64,
    link_ids: u64,
    link_attach_flags: u64,
    revision: u64,
}

/// The names of the hooks at which something is attached to exactly this cgroup.
pub fn attached_programs(cgroup: &Cgroup) -> Vec<&'static str> {
    let folder = File::open(cgroup.path()).expect("the cgroup's folder");
    let target_fd = folder.as_raw_fd().cast_unsigned();
    let attached = |attach_type: u32| {
        let mut query = Query { target_fd, attach_type, ..Query::default() };
        // SAFETY: the pointer is to a live, writable struct of the size given, which has the
        // layout that the command expects; prog_ids is null and prog_count 0, so that the kernel
        // writes nothing but counts.
        let result =
            unsafe { libc::syscall(libc::SYS_bpf, PROG_QUERY, &raw mut query, size_of::<Query>()) };
        let error = std::io::Error::last_os_error();
        assert!(result == 0 || query.prog_count > 0, "BPF_PROG_QUERY: {error}");
        query.prog_count > 0
    };
    ATTACH_TYPES.into_iter().filter(|(_, kind)| attached(*kind)).map(|(name, _)| name).collect()
}
