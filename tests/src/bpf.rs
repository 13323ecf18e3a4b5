//! bpf(2): which programs are attached to a cgroup, and a program of somebody else's to be in the
//! way.
#![expect(unsafe_code, reason = "bpf(2) has no safe wrapper outside the datapath's library")]

use std::{
    fs::File,
    io,
    os::fd::{AsRawFd as _, FromRawFd as _, OwnedFd},
};

use crate::cgroup::Cgroup;

/// Commands of bpf(2).
const PROG_LOAD: libc::c_int = 5;
const PROG_ATTACH: libc::c_int = 8;
const PROG_QUERY: libc::c_int = 16;

/// BPF_PROG_TYPE_CGROUP_SOCK_ADDR.
const SOCK_ADDR: u32 = 18;
/// BPF_CGROUP_INET4_CONNECT.
const CONNECT4: u32 = 10;

/// The kinds of program this project attaches, as `enum bpf_attach_type` numbers them.
const ATTACH_TYPES: [(&str, u32); 10] = [
    ("sock_ops", 3),
    ("connect4", CONNECT4),
    ("connect6", 11),
    ("sendmsg4", 14),
    ("sendmsg6", 15),
    ("recvmsg4", 19),
    ("recvmsg6", 20),
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

/// The part of `union bpf_attr` that BPF_PROG_LOAD reads.
#[repr(C)]
#[derive(Default)]
struct Load {
    prog_type: u32,
    insn_count: u32,
    insns: u64,
    license: u64,
    log_level: u32,
    log_size: u32,
    log_buf: u64,
    kernel_version: u32,
    prog_flags: u32,
    prog_name: [u8; 16],
    prog_ifindex: u32,
    expected_attach_type: u32,
}

/// The part of `union bpf_attr` that BPF_PROG_ATTACH reads.
#[repr(C)]
struct Attach {
    target_fd: u32,
    attach_bpf_fd: u32,
    attach_type: u32,
    attach_flags: u32,
}

/// Calls bpf(2).
///
/// # Safety
/// `T` must have the layout that the command expects, and its pointers must be good for what the
/// command does with them.
unsafe fn bpf<T>(command: libc::c_int, attributes: &mut T) -> io::Result<i32> {
    // SAFETY: the pointer is to a live, writable struct of the size given; the caller vouches for
    // what is in it.
    let result = unsafe {
        libc::syscall(libc::SYS_bpf, command, std::ptr::from_mut(attributes), size_of::<T>())
    };
    i32::try_from(result).ok().filter(|result| *result >= 0).ok_or_else(io::Error::last_os_error)
}

fn descriptor(cgroup: &Cgroup) -> (File, u32) {
    let folder = File::open(cgroup.path()).expect("the cgroup's folder");
    let number = folder.as_raw_fd().cast_unsigned();
    (folder, number)
}

/// The names of the hooks at which something is attached to exactly this cgroup.
pub fn attached_programs(cgroup: &Cgroup) -> Vec<&'static str> {
    let (_folder, target_fd) = descriptor(cgroup);
    let attached = |attach_type: u32| {
        let mut query = Query { target_fd, attach_type, ..Query::default() };
        // SAFETY: prog_ids is null and prog_count 0, so that the kernel writes nothing but counts.
        let result = unsafe { bpf(PROG_QUERY, &mut query) };
        // Without room for identifiers it says ENOSPC where there are any.
        assert!(result.is_ok() || query.prog_count > 0, "BPF_PROG_QUERY: {result:?}");
        query.prog_count > 0
    };
    ATTACH_TYPES.into_iter().filter(|(_, kind)| attached(*kind)).map(|(name, _)| name).collect()
}

/// Attaches a connect4 program that allows everything and shares its place with nobody; it goes with
/// the cgroup.
pub fn attach_exclusive(cgroup: &Cgroup) {
    // r0 = 1; exit
    let instructions: [[u8; 8]; 2] = [[0xb7, 0, 0, 0, 1, 0, 0, 0], [0x95, 0, 0, 0, 0, 0, 0, 0]];
    let mut load = Load {
        prog_type: SOCK_ADDR,
        insn_count: instructions.len() as u32,
        insns: instructions.as_ptr() as u64,
        license: c"GPL".as_ptr() as u64,
        expected_attach_type: CONNECT4,
        ..Load::default()
    };
    // SAFETY: both pointers are to constants that outlive the call; there is no log buffer.
    let program = unsafe { bpf(PROG_LOAD, &mut load) }.expect("BPF_PROG_LOAD");
    // SAFETY: the kernel has just made this descriptor for us.
    let program = unsafe { OwnedFd::from_raw_fd(program) };
    let (_folder, target_fd) = descriptor(cgroup);
    let attach_bpf_fd = program.as_raw_fd().cast_unsigned();
    let mut attach = Attach { target_fd, attach_bpf_fd, attach_type: CONNECT4, attach_flags: 0 };
    // SAFETY: the struct holds numbers only.
    unsafe { bpf(PROG_ATTACH, &mut attach) }.expect("BPF_PROG_ATTACH");
}
