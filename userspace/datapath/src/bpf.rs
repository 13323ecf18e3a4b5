//! bpf(2) where aya has no word for it.
#![expect(unsafe_code, reason = "bpf(2) has no safe wrapper")]

use std::{
    ffi::CString,
    io,
    os::{
        fd::{AsRawFd as _, BorrowedFd, FromRawFd as _, OwnedFd},
        unix::ffi::OsStrExt as _,
    },
    path::Path,
};

use zerocopy::{FromBytes, IntoBytes};

const BPF_OBJ_PIN: libc::c_long = 6;
const BPF_OBJ_GET: libc::c_long = 7;
const BPF_MAP_LOOKUP_BATCH: libc::c_long = 24;
const BPF_LINK_CREATE: libc::c_long = 28;
const BPF_LINK_UPDATE: libc::c_long = 29;

/// Entries asked for at once.
const BATCH: usize = 1024;

/// What BPF_MAP_LOOKUP_BATCH reads of `union bpf_attr`.
#[repr(C)]
struct Batch {
    in_batch: u64,
    out_batch: u64,
    keys: u64,
    values: u64,
    count: u32,
    map_fd: u32,
    elem_flags: u64,
    flags: u64,
}

/// What BPF_LINK_CREATE reads of `union bpf_attr`.
#[repr(C)]
struct LinkCreate {
    prog_fd: u32,
    target_fd: u32,
    attach_type: u32,
    flags: u32,
}

/// What BPF_LINK_UPDATE reads of `union bpf_attr`.
#[repr(C)]
struct LinkUpdate {
    link_fd: u32,
    new_prog_fd: u32,
    flags: u32,
    old_prog_fd: u32,
}

/// What BPF_OBJ_PIN and BPF_OBJ_GET read of `union bpf_attr`.
#[repr(C)]
struct ObjectPath {
    pathname: u64,
    bpf_fd: u32,
    file_flags: u32,
}

fn number(fd: BorrowedFd<'_>) -> u32 {
    fd.as_raw_fd().cast_unsigned()
}

/// Calls bpf(2); the struct may be written to.
fn call<T>(command: libc::c_long, attributes: &mut T) -> io::Result<libc::c_int> {
    let size = size_of::<T>();
    // SAFETY: the struct has the layout that the command reads, and what its pointers lead to is good
    // for what the command does: both are local to this file.
    let result =
        unsafe { libc::syscall(libc::SYS_bpf, command, std::ptr::from_mut(attributes), size) };
    match libc::c_int::try_from(result) {
        Ok(result) if result >= 0 => Ok(result),
        Ok(_) | Err(_) => Err(io::Error::last_os_error()),
    }
}

/// Every entry of a hash map, a thousand with each call; entries that come or go meanwhile may or may
/// not be among them. At most `most`.
pub(crate) fn entries<K, V>(map: BorrowedFd<'_>, most: usize) -> io::Result<Vec<(K, V)>>
where
    K: FromBytes + IntoBytes + Clone,
    V: FromBytes + IntoBytes + Clone,
{
    let mut found = Vec::new();
    // A position in the table of buckets: four bytes for hash maps.
    let (mut position, mut next) = (0_u32, 0_u32);
    let mut size = BATCH;
    let mut begun = false;
    loop {
        let mut keys = vec![K::new_zeroed(); size];
        let mut values = vec![V::new_zeroed(); size];
        let mut batch = Batch {
            in_batch: if begun { &raw mut position as u64 } else { 0 },
            out_batch: &raw mut next as u64,
            keys: keys.as_mut_ptr() as u64,
            values: values.as_mut_ptr() as u64,
            count: u32::try_from(size).unwrap_or(u32::MAX),
            map_fd: number(map),
            elem_flags: 0,
            flags: 0,
        };
        let result = call(BPF_MAP_LOOKUP_BATCH, &mut batch);
        let over = match result {
            Ok(_) => false,
            Err(error) if error.raw_os_error() == Some(libc::ENOENT) => true,
            // One bucket has more than there is room for.
            Err(error) if error.raw_os_error() == Some(libc::ENOSPC) && size < most => {
                size *= 2;
                continue;
            }
            Err(error) => return Err(error),
        };
        keys.truncate(batch.count as usize);
        found.extend(keys.into_iter().zip(values));
        if over || found.len() >= most {
            return Ok(found);
        }
        (position, begun) = (next, true);
    }
}

/// Attaches a program to a cgroup.
pub(crate) fn create_link(
    program: BorrowedFd<'_>,
    cgroup: BorrowedFd<'_>,
    attach_type: u32,
) -> io::Result<OwnedFd> {
    let mut create =
        LinkCreate { prog_fd: number(program), target_fd: number(cgroup), attach_type, flags: 0 };
    descriptor(call(BPF_LINK_CREATE, &mut create)?)
}

/// Puts another program behind a link: the next event meets it, and none is missed.
pub(crate) fn update_link(link: BorrowedFd<'_>, program: BorrowedFd<'_>) -> io::Result<()> {
    let new_prog_fd = number(program);
    let mut update = LinkUpdate { link_fd: number(link), new_prog_fd, flags: 0, old_prog_fd: 0 };
    call(BPF_LINK_UPDATE, &mut update).map(drop)
}

/// Pins an object at a path of a bpffs.
pub(crate) fn pin(object: BorrowedFd<'_>, path: &Path) -> io::Result<()> {
    let path = CString::new(path.as_os_str().as_bytes())?;
    let pathname = path.as_ptr() as u64;
    let mut pin = ObjectPath { pathname, bpf_fd: number(object), file_flags: 0 };
    call(BPF_OBJ_PIN, &mut pin).map(drop)
}

/// Opens what is pinned at a path.
pub(crate) fn get_pinned(path: &Path) -> io::Result<OwnedFd> {
    let path = CString::new(path.as_os_str().as_bytes())?;
    let mut get = ObjectPath { pathname: path.as_ptr() as u64, bpf_fd: 0, file_flags: 0 };
    descriptor(call(BPF_OBJ_GET, &mut get)?)
}

fn descriptor(number: libc::c_int) -> io::Result<OwnedFd> {
    // SAFETY: the kernel has just made this descriptor for us.
    Ok(unsafe { OwnedFd::from_raw_fd(number) })
}
