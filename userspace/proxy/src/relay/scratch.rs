//! The buffer that all flows of a thread read into, one at a time.

use std::cell::RefCell;

/// Bytes in the buffer. 64 KiB stays in the second-level cache, and larger reads gain nothing that
/// splice(2) does not gain more of.
pub(crate) const SIZE: usize = 64 * 1024;

/// Lends the buffer to `use_it`, which must not wait and must not ask for it again.
pub(crate) fn with<R>(use_it: impl FnOnce(&mut [u8]) -> R) -> R {
    BUFFER.with_borrow_mut(|buffer| {
        if buffer.is_empty() {
            buffer.resize(SIZE, 0);
        }
        use_it(buffer)
    })
}

thread_local! {
    static BUFFER: RefCell<Vec<u8>> = const { RefCell::new(Vec::new()) };
}
