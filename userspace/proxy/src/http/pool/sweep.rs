//! Looking after connections without a request: closing those that are idle too long, and noticing that
//! the endpoint has closed one, before a request is sent on it.

use std::{
    future::{Future, poll_fn},
    pin::pin,
    sync::{Weak, atomic::Ordering},
    task::{Context, Poll},
    time::Duration,
};

use tokio::time::sleep;

use super::{ClusterPool, Pools};

/// Looks at idle connections every [`INTERVAL`], and whenever something happens on one, as long as
/// there are any.
pub(super) async fn sweep_until_empty(pools: Weak<Pools>) {
    let mut next = pin!(sleep(INTERVAL));
    poll_fn(|cx| {
        let Some(pools) = pools.upgrade() else { return Poll::Ready(()) };
        loop {
            if pools.sweep(cx) {
                return Poll::Ready(());
            }
            if next.as_mut().poll(cx).is_pending() {
                return Poll::Pending;
            }
            next.set(sleep(INTERVAL));
        }
    })
    .await;
}

impl Pools {
    /// Closes what is not worth keeping; says whether nothing is left.
    fn sweep(&self, cx: &mut Context<'_>) -> bool {
        let mut clusters = self.lock();
        clusters.retain(|_, cluster| {
            cluster.sweep(cx);
            !cluster.lock().is_empty()
        });
        if clusters.is_empty() {
            self.sweeping.store(false, Ordering::Relaxed);
        }
        clusters.is_empty()
    }
}

impl ClusterPool {
    fn sweep(&self, cx: &mut Context<'_>) {
        let mut gone = Vec::new();
        let mut hosts = self.lock();
        for host in hosts.values() {
            let mut state = host.lock();
            let idle = std::mem::take(&mut state.idle);
            for mut connection in idle {
                if connection.is_worth_keeping(cx) {
                    state.idle.push(connection);
                } else {
                    gone.push(connection);
                }
            }
            let pool = &self.cluster.pool;
            state.shared.retain(|shared| shared.is_worth_keeping(pool));
        }
        hosts.retain(|_, host| std::sync::Arc::strong_count(host) > 1 || !host.is_empty());
        drop(hosts);
        // Outside the locks: each gives its place back.
        for connection in gone {
            connection.close();
        }
    }
}

/// How often idle connections are looked at without an occasion.
const INTERVAL: Duration = Duration::from_secs(1);
