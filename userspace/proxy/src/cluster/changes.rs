//! Who is told that the endpoints a cluster may be sent to are others than before.

use std::{
    collections::BTreeSet,
    sync::{
        Arc, Mutex, PoisonError,
        atomic::{AtomicBool, Ordering},
    },
};

use tokio::sync::Notify;

/// The clusters of which something has changed since somebody looked.
#[derive(Debug, Default)]
pub(crate) struct Changes {
    names: Mutex<BTreeSet<Arc<str>>>,
    wake: Notify,
}

/// One cluster's way to tell.
#[derive(Debug)]
pub(super) struct Told {
    changes: Arc<Changes>,
    name: Arc<str>,
    /// Nobody outside knows its endpoints: whoever finds them says so.
    unpublished: AtomicBool,
}

impl Changes {
    /// Notes a cluster, and wakes who waits.
    pub(crate) fn mark(&self, name: &Arc<str>) {
        let mut names = self.names.lock().unwrap_or_else(PoisonError::into_inner);
        if !names.contains(name) {
            names.insert(Arc::clone(name));
        }
        drop(names);
        self.wake.notify_one();
    }

    /// The clusters noted; none of them is any more.
    pub(crate) fn take(&self) -> BTreeSet<Arc<str>> {
        std::mem::take(&mut *self.names.lock().unwrap_or_else(PoisonError::into_inner))
    }

    /// Waits until a cluster is noted.
    pub(crate) async fn wait(&self) {
        self.wake.notified().await;
    }
}

impl Told {
    pub(super) fn new(changes: Arc<Changes>, name: Arc<str>) -> Self {
        Self { changes, name, unpublished: AtomicBool::new(true) }
    }

    /// The endpoints, or their health, have changed.
    pub(super) fn mark(&self) {
        self.changes.mark(&self.name);
    }

    /// The endpoints are known.
    pub(super) fn found(&self) {
        if self.unpublished.load(Ordering::Relaxed)
            && self.unpublished.swap(false, Ordering::AcqRel)
        {
            self.mark();
        }
    }

    /// Nobody outside knows the endpoints from now on.
    pub(super) fn unpublish(&self) {
        self.unpublished.store(true, Ordering::Release);
    }
}
