//! Giving memory back to the system.
//!
//! Reading resources and compiling them takes several times what the result takes, in small pieces all
//! over the heap. The C library keeps what is freed, and it would stay resident for good.

/// Gives the pages that hold nothing back to the system. Takes milliseconds for 100 MB: for moments when
/// much has just been freed.
#[cfg(target_env = "gnu")]
pub(crate) fn give_back() {
    // SAFETY: takes no pointer, and locks the heaps while it looks at them (malloc_trim(3)).
    #[expect(unsafe_code, reason = "the C library's function has no safe wrapper")]
    let _released = unsafe { libc::malloc_trim(0) };
}

/// Other C libraries give back by themselves, or cannot.
#[cfg(not(target_env = "gnu"))]
pub(crate) fn give_back() {}
