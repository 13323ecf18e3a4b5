//! Pipes for splice(2), lent to flows while bytes are on their way.

use std::{
    os::fd::OwnedFd,
    sync::{
        Arc, Mutex, PoisonError,
        atomic::{AtomicUsize, Ordering},
    },
};

use rustix::pipe::{PipeFlags, fcntl_setpipe_size, pipe_with};

/// A bounded supply of pipes, shared by all workers.
#[derive(Debug)]
pub(crate) struct PipePool {
    limit: usize,
    /// Pipes in existence, lent or idle.
    open: AtomicUsize,
    idle: Mutex<Vec<Pipe>>,
}

/// A pipe on loan. It goes back to the pool if it is empty, else it is closed with what it holds.
#[derive(Debug)]
pub(super) struct Lent {
    pipe: Option<Pipe>,
    /// Bytes in the pipe.
    pub(super) held: usize,
    pool: Arc<PipePool>,
}

#[derive(Debug)]
pub(super) struct Pipe {
    pub(super) read: OwnedFd,
    pub(super) write: OwnedFd,
}

impl PipePool {
    /// A pool of at most `limit` pipes, two descriptors each; 0 turns splicing off.
    pub(crate) fn new(limit: usize) -> Self {
        Self { limit, open: AtomicUsize::new(0), idle: Mutex::default() }
    }

    /// Lends an empty pipe; `None` when the limit is reached or the system has none left.
    pub(super) fn lend(self: &Arc<Self>) -> Option<Lent> {
        let idle = self.idle.lock().unwrap_or_else(PoisonError::into_inner).pop();
        let pipe = match idle {
            Some(pipe) => pipe,
            None => self.open()?,
        };
        Some(Lent { pipe: Some(pipe), held: 0, pool: Arc::clone(self) })
    }

    /// Pipes in existence.
    #[cfg(test)]
    pub(super) fn opened(&self) -> usize {
        self.open.load(Ordering::Relaxed)
    }

    fn open(&self) -> Option<Pipe> {
        if self.open.fetch_add(1, Ordering::Relaxed) >= self.limit {
            self.open.fetch_sub(1, Ordering::Relaxed);
            return None;
        }
        let Ok((read, write)) = pipe_with(PipeFlags::CLOEXEC | PipeFlags::NONBLOCK) else {
            self.open.fetch_sub(1, Ordering::Relaxed);
            return None;
        };
        // Over the user's limit of pipe pages the pipe stays at its 64 KiB.
        fcntl_setpipe_size(&write, SIZE).ok();
        Some(Pipe { read, write })
    }

    fn take_back(&self, pipe: Pipe) {
        let mut idle = self.idle.lock().unwrap_or_else(PoisonError::into_inner);
        if idle.len() < KEPT_IDLE {
            idle.push(pipe);
        } else {
            drop(idle);
            self.forget(pipe);
        }
    }

    fn forget(&self, pipe: Pipe) {
        drop(pipe);
        self.open.fetch_sub(1, Ordering::Relaxed);
    }
}

impl Lent {
    /// The pipe; there is one until the loan ends.
    pub(super) fn pipe(&self) -> Option<&Pipe> {
        self.pipe.as_ref()
    }
}

impl Drop for Lent {
    fn drop(&mut self) {
        let Some(pipe) = self.pipe.take() else { return };
        if self.held == 0 {
            self.pool.take_back(pipe);
        } else {
            self.pool.forget(pipe);
        }
    }
}

/// Bytes of page slots in a pipe: 256 slots, each of which takes up to 32 KiB of a large segment.
/// The most that an unprivileged process may ask for.
const SIZE: usize = 1024 * 1024;
/// Empty pipes kept for the next bulk flow; more are closed.
const KEPT_IDLE: usize = 64;

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_pool_lends_up_to_its_limit_and_takes_empty_pipes_back() {
        let pool = Arc::new(PipePool::new(2));
        let first = pool.lend().unwrap();
        let mut second = pool.lend().unwrap();
        assert!(pool.lend().is_none());
        drop(first);
        let third = pool.lend().unwrap();
        assert_eq!(pool.opened(), 2);
        second.held = 1;
        drop(second);
        assert_eq!(pool.opened(), 1);
        drop(third);
        assert_eq!(pool.opened(), 1);
    }

    #[test]
    fn no_pipes_at_all() {
        assert!(Arc::new(PipePool::new(0)).lend().is_none());
    }
}
