//! What direct connections need while they run: limits in time, counts that stay true, and names that
//! stay resolved.

use std::{
    collections::HashMap,
    io,
    sync::{
        Arc,
        mpsc::{RecvTimeoutError, Sender, channel},
    },
    thread::{self, JoinHandle},
    time::Duration,
};

use egressd_datapath::DirectClusters;
use egressd_proxy::Direct;

/// A thread of the daemon's own network namespace that looks after direct connections, until dropped.
pub(super) struct Tending {
    stop: Option<Sender<()>>,
    thread: Option<JoinHandle<()>>,
}

/// Between two looks: how late a limit in time may be.
const LOOK: Duration = Duration::from_secs(1);
/// Looks between two looks at which clusters are in use; far below the time that an unused name is
/// kept fresh.
const USED: u32 = 5;

impl Tending {
    /// Starts.
    pub(super) fn start(clusters: DirectClusters, direct: Arc<Direct>) -> io::Result<Self> {
        let (stop, stopped) = channel();
        let name = "egressd-tend".to_owned();
        let thread = thread::Builder::new().name(name).spawn(move || {
            let (mut begun, mut look) = (HashMap::new(), 0_u32);
            while let Err(RecvTimeoutError::Timeout) = stopped.recv_timeout(LOOK) {
                sweep(&clusters);
                look = look.wrapping_add(1);
                if look.is_multiple_of(USED) {
                    keep_names(&clusters, &direct, &mut begun);
                }
            }
        })?;
        Ok(Self { stop: Some(stop), thread: Some(thread) })
    }
}

impl Drop for Tending {
    fn drop(&mut self) {
        self.stop = None;
        if let Some(thread) = self.thread.take()
            && thread.join().is_err()
        {
            tracing::error!("the thread that tends direct connections panicked");
        }
    }
}

fn sweep(clusters: &DirectClusters) {
    match clusters.sweep() {
        Ok(swept) if swept.mended > 0 => {
            tracing::warn!(swept.mended, "connections were counted that are no more");
        }
        Ok(_) => {}
        Err(error) => tracing::warn!(%error, "looking after direct connections"),
    }
}

/// The names of clusters that connections were made to stay resolved.
fn keep_names(clusters: &DirectClusters, direct: &Direct, begun: &mut HashMap<Arc<str>, u64>) {
    let mut used = Vec::new();
    let mut now = HashMap::new();
    for counts in clusters.counts() {
        if begun.get(&counts.cluster) != Some(&counts.begun) && counts.begun > 0 {
            used.push(Arc::clone(&counts.cluster));
        }
        now.insert(counts.cluster, counts.begun);
    }
    *begun = now;
    direct.used(used.iter().map(|name| &**name));
}
