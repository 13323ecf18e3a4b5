//! Socket storage from any kind of program.
//!
//! aya-ebpf's typed accessor takes a `SockAddrContext` only; sock_ops and cgroup_sock programs need
//! the same helper with their own socket pointer.
#![expect(unsafe_code, reason = "helpers take raw pointers")]

use aya_ebpf::{
    bindings::BPF_SK_STORAGE_GET_F_CREATE,
    btf_maps::SkStorage,
    helpers::{bpf_sk_storage_delete, bpf_sk_storage_get},
};
use core::ffi::c_void;

/// The value `sk` carries, if any.
///
/// `sk` must be a socket pointer the verifier knows not to be null, or a cgroup_sock context.
#[inline(always)]
#[expect(clippy::mut_from_ref, reason = "the map is a handle; the value belongs to the socket")]
pub(crate) fn get<T>(map: &'static SkStorage<T>, sk: *mut c_void) -> Option<&'static mut T> {
    // SAFETY: the helper returns null or a value of the map's type that lives until the program
    // ends; concurrent writers of one socket's storage are serialised by the socket's lock.
    unsafe { bpf_sk_storage_get(raw(map), sk, core::ptr::null_mut(), 0).cast::<T>().as_mut() }
}

/// The value `sk` carries, made zero if there was none; `None` when memory is short.
#[inline(always)]
#[expect(clippy::mut_from_ref, reason = "the map is a handle; the value belongs to the socket")]
pub(crate) fn get_or_create<T>(
    map: &'static SkStorage<T>,
    sk: *mut c_void,
) -> Option<&'static mut T> {
    let create = u64::from(BPF_SK_STORAGE_GET_F_CREATE);
    // SAFETY: as in `get`.
    unsafe { bpf_sk_storage_get(raw(map), sk, core::ptr::null_mut(), create).cast::<T>().as_mut() }
}

/// Takes the value of `sk` away; nothing happens if there is none.
#[inline(always)]
pub(crate) fn delete<T>(map: &'static SkStorage<T>, sk: *mut c_void) {
    // SAFETY: `sk` is a socket the verifier has checked. The result only says whether it was there.
    let _absent = unsafe { bpf_sk_storage_delete(raw(map), sk) };
}

#[inline(always)]
fn raw<T>(map: &'static SkStorage<T>) -> *mut c_void {
    core::ptr::from_ref(map).cast_mut().cast()
}
