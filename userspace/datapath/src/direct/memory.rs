//! Array maps that the daemon reads and writes in its own memory, as the programs do in theirs.
//!
//! Parts are mapped when they are first touched: the whole would count as the daemon's memory at once.
#![expect(unsafe_code, reason = "shared memory is reached by raw pointers")]

use std::{
    io,
    marker::PhantomData,
    os::fd::{AsFd as _, AsRawFd as _},
    ptr::NonNull,
    sync::{
        OnceLock,
        atomic::{AtomicU32, AtomicU64},
    },
};

use aya::{
    Ebpf,
    maps::{Map, MapData},
};
use zerocopy::{FromBytes, Immutable, IntoBytes};

use crate::error::Error;

/// Values that are mapped together. With values of a multiple of eight bytes, 512 of them are a number of
/// whole pages.
const PART: u32 = 2048;

/// An array map of so many `T` (BPF_F_MMAPABLE).
pub(super) struct Shared<T> {
    map: MapData,
    parts: Vec<OnceLock<Part<T>>>,
    values: PhantomData<T>,
}

/// [`PART`] values, mapped.
struct Part<T>(NonNull<T>);

// SAFETY: the memory is shared with programs on every CPU anyway. Words that two may write are written
// by atomic operations; everything else is written under one lock, before programs are told of it.
unsafe impl<T: Send> Send for Part<T> {}
// SAFETY: as above.
unsafe impl<T: Send> Sync for Part<T> {}

impl<T> Part<T> {
    const SIZE: usize = size_of::<T>() * PART as usize;

    fn map(map: &MapData, part: usize) -> io::Result<Self> {
        const { assert!(size_of::<T>().is_multiple_of(8)) };
        let fd = map.fd().as_fd().as_raw_fd();
        let offset = libc::off_t::try_from(part * Self::SIZE)
            .map_err(|_long| io::ErrorKind::InvalidInput)?;
        let protection = libc::PROT_READ | libc::PROT_WRITE;
        let anywhere = std::ptr::null_mut();
        // SAFETY: the kernel chooses the place; nothing else is changed.
        let base =
            unsafe { libc::mmap(anywhere, Self::SIZE, protection, libc::MAP_SHARED, fd, offset) };
        if base == libc::MAP_FAILED {
            return Err(io::Error::last_os_error());
        }
        NonNull::new(base.cast()).map(Self).ok_or(io::ErrorKind::OutOfMemory.into())
    }
}

impl<T> Drop for Part<T> {
    fn drop(&mut self) {
        // SAFETY: this is the mapping made above, and nobody holds a reference into it.
        let result = unsafe { libc::munmap(self.0.as_ptr().cast(), Self::SIZE) };
        debug_assert_eq!(result, 0, "munmap of a mapping of ours");
    }
}

impl<T: FromBytes + IntoBytes + Immutable + Copy> Shared<T> {
    /// Takes a map of so many values by its name.
    pub(super) fn take(bpf: &mut Ebpf, name: &str, count: u32) -> Result<Self, Error> {
        let map = bpf.take_map(name).ok_or_else(|| Error::missing(name))?;
        let Map::Array(map) = map else { return Err(Error::missing(name)) };
        let parts = (0..count / PART).map(|_| OnceLock::new()).collect();
        Ok(Self { map, parts, values: PhantomData })
    }

    fn at(&self, index: u32) -> Option<NonNull<T>> {
        let number = (index / PART) as usize;
        let cell = self.parts.get(number)?;
        let part = match cell.get() {
            Some(part) => part,
            None => match Part::map(&self.map, number) {
                Ok(part) => cell.get_or_init(|| part),
                Err(error) => {
                    // The programs take what is not written for what is not known.
                    tracing::error!(%error, "mapping a part of an eBPF map");
                    return None;
                }
            },
        };
        // SAFETY: the place is inside the part.
        Some(unsafe { part.0.add((index % PART) as usize) })
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

    /// Gives parts back until they are touched again.
    pub(super) fn unmap(&mut self) {
        for part in &mut self.parts {
            drop(part.take());
        }
    }

    /// The 32-bit number at an offset of a value, in bytes.
    pub(super) fn word(&self, index: u32, offset: usize) -> Option<&AtomicU32> {
        let aligned = offset.is_multiple_of(4) && offset + 4 <= size_of::<T>();
        let place = self.at(index).filter(|_| aligned)?;
        // SAFETY: the word is inside the value, which stays mapped as long as `self` is borrowed.
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
