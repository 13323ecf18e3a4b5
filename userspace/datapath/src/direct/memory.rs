//! Array maps that the daemon reads and writes in its own memory, as the programs do in theirs.
#![expect(unsafe_code, reason = "shared memory is reached by raw pointers")]

use std::{
    io,
    marker::PhantomData,
    os::fd::{AsFd as _, AsRawFd as _},
    ptr::NonNull,
    sync::atomic::{AtomicU32, AtomicU64},
};

use aya::{
    Ebpf,
    maps::{Map, MapData},
};
use zerocopy::{FromBytes, Immutable, IntoBytes};

use crate::error::Error;

/// An array map of so many `T`, mapped (BPF_F_MMAPABLE).
pub(super) struct Shared<T> {
    base: NonNull<T>,
    count: u32,
    /// Keeps the map.
    _map: MapData,
    values: PhantomData<T>,
}

// SAFETY: the memory is shared with programs on every CPU anyway. Words that two may write are written
// by atomic operations; everything else is written under one lock, before programs are told of it.
unsafe impl<T: Send> Send for Shared<T> {}
// SAFETY: as above.
unsafe impl<T: Send> Sync for Shared<T> {}

impl<T: FromBytes + IntoBytes + Immutable + Copy> Shared<T> {
    /// The kernel rounds the size of a value up to this.
    const ROUNDED: () = assert!(size_of::<T>().is_multiple_of(8));

    /// Takes a map by its name.
    pub(super) fn take(bpf: &mut Ebpf, name: &str, count: u32) -> Result<Self, Error> {
        let map = bpf.take_map(name).ok_or_else(|| Error::missing(name))?;
        let Map::Array(map) = map else { return Err(Error::missing(name)) };
        Self::map(map, count).map_err(Error::io(format!("mapping the map {name}")))
    }

    fn map(map: MapData, count: u32) -> io::Result<Self> {
        let () = Self::ROUNDED;
        let size = size_of::<T>() * count as usize;
        // SAFETY: the kernel chooses the place; nothing else is changed.
        let base = unsafe {
            libc::mmap(
                std::ptr::null_mut(),
                size,
                libc::PROT_READ | libc::PROT_WRITE,
                libc::MAP_SHARED,
                map.fd().as_fd().as_raw_fd(),
                0,
            )
        };
        if base == libc::MAP_FAILED {
            return Err(io::Error::last_os_error());
        }
        let base = NonNull::new(base.cast()).ok_or(io::ErrorKind::OutOfMemory)?;
        Ok(Self { base, count, _map: map, values: PhantomData })
    }

    fn at(&self, index: u32) -> Option<NonNull<T>> {
        // SAFETY: the index is inside the mapping.
        (index < self.count).then(|| unsafe { self.base.add(index as usize) })
    }

    /// A copy of a value.
    pub(super) fn read(&self, index: u32) -> Option<T> {
        // SAFETY: the place is mapped and aligned, and every pattern of bytes is a `T`.
        self.at(index).map(|place| unsafe { place.read_volatile() })
    }

    /// Writes a value; nothing happens where there is no such index.
    pub(super) fn write(&self, index: u32, value: T) {
        if let Some(place) = self.at(index) {
            // SAFETY: as above; no program reads the value before it is told of it.
            unsafe { place.write_volatile(value) };
        }
    }

    /// The 32-bit number at an offset of a value, in bytes.
    pub(super) fn word(&self, index: u32, offset: usize) -> Option<&AtomicU32> {
        let aligned = offset.is_multiple_of(4) && offset + 4 <= size_of::<T>();
        let place = self.at(index).filter(|_| aligned)?;
        // SAFETY: the word is inside the value, which stays mapped as long as `self`.
        Some(unsafe { AtomicU32::from_ptr(place.cast::<u8>().add(offset).cast().as_ptr()) })
    }

    /// The 64-bit number at an offset of a value, in bytes.
    pub(super) fn long(&self, index: u32, offset: usize) -> Option<&AtomicU64> {
        let aligned = offset.is_multiple_of(8) && offset + 8 <= size_of::<T>();
        let place = self.at(index).filter(|_| aligned)?;
        // SAFETY: as above.
        Some(unsafe { AtomicU64::from_ptr(place.cast::<u8>().add(offset).cast().as_ptr()) })
    }
}

impl<T> Drop for Shared<T> {
    fn drop(&mut self) {
        let size = size_of::<T>() * self.count as usize;
        // SAFETY: this is the mapping made above, and nobody holds a reference into it.
        let result = unsafe { libc::munmap(self.base.as_ptr().cast(), size) };
        debug_assert_eq!(result, 0, "munmap of a mapping of ours");
    }
}
