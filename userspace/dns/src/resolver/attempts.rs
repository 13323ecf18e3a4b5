//! How many names are resolved at a time.

use std::{future::Future, sync::Arc};

use tokio::sync::Semaphore;

use crate::{
    resolver::backend::{Failure, Records},
    shares::{Asker, Places},
};

/// The limits. Cheap to clone; all clones are one.
#[derive(Clone)]
pub(crate) struct Attempts {
    of_clusters: Arc<Semaphore>,
    of_requests: Arc<Places>,
    refreshes: Arc<Places>,
}

/// What an attempt counts against.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Class {
    /// A name of the configuration.
    Cluster,
    /// A name that a request brings, and that has no addresses yet.
    Request(Asker),
    /// The next answer for such a name that has some: names that are not there keep none of these out.
    Refresh(Asker),
}

impl Attempts {
    pub(crate) fn new() -> Self {
        Self {
            of_clusters: Arc::new(Semaphore::new(MAX_CLUSTER_ATTEMPTS)),
            of_requests: Places::new(MAX_REQUEST_ATTEMPTS),
            refreshes: Places::new(MAX_REQUEST_ATTEMPTS),
        }
    }

    /// Resolves, within the limits: names of the configuration wait for their turn; a name of a
    /// request takes the place of the oldest one of whoever has the most, or is [`Failure::Busy`].
    pub(crate) async fn run(
        &self,
        class: Class,
        asking: impl Future<Output = Result<Records, Failure>>,
    ) -> Result<Records, Failure> {
        let (places, asker) = match class {
            Class::Cluster => {
                // Never closed.
                let _turn = self.of_clusters.acquire().await;
                return asking.await;
            }
            Class::Request(asker) => (&self.of_requests, asker),
            Class::Refresh(asker) => (&self.refreshes, asker),
        };
        let place = places.take(asker).ok_or(Failure::Busy)?;
        tokio::select! {
            outcome = asking => outcome,
            () = place.displaced() => Err(Failure::Busy),
        }
    }
}

/// Names of the configuration that are resolved at a time: each takes up to four sockets, two families
/// with two servers.
const MAX_CLUSTER_ATTEMPTS: usize = 512;
/// The same for names that requests bring, and for their refreshes.
pub(crate) const MAX_REQUEST_ATTEMPTS: usize = 256;
