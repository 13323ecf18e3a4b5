//! How many names are resolved at a time.

use std::{
    future::Future,
    net::{IpAddr, Ipv4Addr},
    sync::Arc,
};

use tokio::sync::Semaphore;

use crate::{
    resolver::{
        Origin,
        backend::{Failure, Records},
    },
    shares::{Asker, Places},
};

/// The limits. Cheap to clone; all clones are one.
#[derive(Clone)]
pub(crate) struct Attempts {
    of_clusters: Arc<Semaphore>,
    of_requests: Arc<Places>,
}

impl Attempts {
    pub(crate) fn new() -> Self {
        Self {
            of_clusters: Arc::new(Semaphore::new(MAX_CLUSTER_ATTEMPTS)),
            of_requests: Places::new(MAX_REQUEST_ATTEMPTS),
        }
    }

    /// Resolves, within the limits: names of the configuration wait for their turn; a name of a
    /// request takes the place of the one that has been resolved for the longest time, or is
    /// [`Failure::Busy`].
    pub(crate) async fn run(
        &self,
        origin: Origin,
        asking: impl Future<Output = Result<Records, Failure>>,
    ) -> Result<Records, Failure> {
        match origin {
            Origin::Cluster => {
                // Never closed.
                let _turn = self.of_clusters.acquire().await;
                asking.await
            }
            Origin::Request => {
                let place = self.of_requests.take(ANYBODY).ok_or(Failure::Busy)?;
                tokio::select! {
                    outcome = asking => outcome,
                    () = place.displaced() => Err(Failure::Busy),
                }
            }
        }
    }
}

/// Requests do not say whose they are: all are one client, whose oldest attempt gives way.
const ANYBODY: Asker = Asker::Address(IpAddr::V4(Ipv4Addr::UNSPECIFIED));
/// Names of the configuration that are resolved at a time: each takes up to four sockets, two families
/// with two servers.
const MAX_CLUSTER_ATTEMPTS: usize = 512;
/// The same for names that requests bring.
pub(crate) const MAX_REQUEST_ATTEMPTS: usize = 256;
