//! bpf(2) where aya has no word for it.
#![expect(unsafe_code, reason = "bpf(2) has no safe wrapper")]

use std::{
    io,
    os::fd::{AsRawFd as _, BorrowedFd},
};

use zerocopy::{FromBytes, Immutable, IntoBytes};

const BPF_MAP_LOOKUP_BATCH: libc::c_long = 24;

/// Entries asked for at once.
const BATCH: usize = 1024;

/// What BPF_MAP_LOOKUP_BATCH reads of `union bpf_attr`.
#[repr(C)]
#[derive(IntoBytes, Immutable)]
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

fn number(fd: BorrowedFd<'_>) -> u32 {
    fd.as_raw_fd().cast_unsigned()
}

/// Calls bpf(2); the struct may be written to.
fn call<T>(command: libc::c_long, attributes: &mut T) -> io::Result<()> {
    let size = size_of::<T>();
    // SAFETY: the struct has the layout that the command reads, and what its pointers lead to is good
    // for what the command does: both are local to this file.
    let result =
        unsafe { libc::syscall(libc::SYS_bpf, command, std::ptr::from_mut(attributes), size) };
    if result < 0 { Err(io::Error::last_os_error()) } else { Ok(()) }
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
            Ok(()) => false,
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
