//! Listeners in the network namespaces of containers.
//!
//! The kernel side tells when a process connects where nothing of ours listens. A thread then enters
//! that namespace, listens there, and leaves; the sockets stay, and the next connection is captured.
//! A listener keeps its namespace alive, so those without a process are given up again.

use std::{
    collections::{BTreeMap, BTreeSet},
    fs,
    path::{Path, PathBuf},
    sync::{Arc, Mutex, PoisonError},
    time::Duration,
};

use egressd_datapath::{DnsSockets, Listeners, NetnsCookie, Socket, in_netns_of};
use egressd_dns::ListenersId;
use egressd_proxy::ListenerId;

use super::{dns, state::State};

/// How often namespaces without processes are looked for.
pub(super) const SWEEP: Duration = Duration::from_secs(30);
/// Namespaces listened in at once: each costs 98 descriptors.
const MOST: usize = 256;

/// The namespaces we listen in, beside our own.
#[derive(Debug, Default)]
pub(super) struct Namespaces {
    known: Mutex<BTreeMap<u64, Known>>,
}

#[derive(Debug)]
struct Known {
    /// What `/proc/PID/ns/net` of its processes points to.
    link: PathBuf,
    listeners: Vec<ListenerId>,
    dns: Option<ListenersId>,
}

impl Namespaces {
    /// Listens in the namespace of a process that has just connected. Blocks for some milliseconds.
    pub(super) fn enter(&self, state: &Arc<State>, socket: Socket) {
        let mut known = self.known.lock().unwrap_or_else(PoisonError::into_inner);
        if known.contains_key(&socket.netns) {
            return;
        }
        if known.len() >= MOST {
            tracing::warn!(limit = MOST, "no more network namespaces are listened in");
            return;
        }
        match open(state, socket) {
            Ok(Some(entry)) => {
                tracing::info!(netns = socket.netns, pid = socket.pid, "listening in a namespace");
                known.insert(socket.netns, entry);
            }
            Ok(None) => tracing::debug!(pid = socket.pid, "the process is elsewhere by now"),
            Err(error) => {
                tracing::warn!(%error, pid = socket.pid, "listening in a namespace");
            }
        }
    }

    /// Gives up the namespaces that no process is in.
    pub(super) fn sweep(&self, state: &State) {
        let mut known = self.known.lock().unwrap_or_else(PoisonError::into_inner);
        if known.is_empty() {
            return;
        }
        // Without a list of processes nothing is known, and nothing is given up.
        let Ok(inhabited) = inhabited() else { return };
        known.retain(|netns, entry| {
            let stays = inhabited.contains(&entry.link);
            if !stays {
                tracing::info!(netns, "a namespace has no process: leaving it");
                entry.listeners.iter().for_each(|listener| state.server.stop(*listener));
                entry.dns.into_iter().for_each(|sockets| state.dns.close(sockets));
                state.datapath().forget_addresses(NetnsCookie::from_raw(*netns));
            }
            stays
        });
    }
}

fn open(state: &Arc<State>, socket: Socket) -> Result<Option<Known>, Box<dyn std::error::Error>> {
    let visitor = Arc::clone(state);
    let visit = move || -> Result<Option<Found>, egressd_datapath::Error> {
        let here = NetnsCookie::current().ok().map(NetnsCookie::raw);
        let Ok(link) = fs::read_link("/proc/thread-self/ns/net") else { return Ok(None) };
        // The process that the report names may be gone and its number another one's.
        if here != Some(socket.netns) {
            return Ok(None);
        }
        let listeners = Listeners::bind(visitor.capture().port)?;
        let mut datapath = visitor.datapath();
        datapath.learn_addresses()?;
        datapath.tag(&listeners)?;
        let mut dns = None;
        if visitor.dns.is_serving() {
            let sockets = DnsSockets::bind(visitor.capture().dns_port(), dns::threads())?;
            datapath.tag_dns(&sockets)?;
            dns = Some(sockets);
        }
        Ok(Some(Found { link, listeners, dns }))
    };
    let Some(Found { link, listeners, dns }) = in_netns_of(socket.pid, visit)?? else {
        return Ok(None);
    };
    let listeners = listeners
        .into_sockets()
        .into_iter()
        .map(|socket| state.server.serve(socket))
        .collect::<Result<_, _>>()?;
    let dns = dns.map(|sockets| state.dns.listen(sockets)).transpose()?.flatten();
    Ok(Some(Known { link, listeners, dns }))
}

/// What a visit brings home.
struct Found {
    link: PathBuf,
    listeners: Listeners,
    dns: Option<DnsSockets>,
}

/// What the network namespaces of all processes are called.
fn inhabited() -> std::io::Result<BTreeSet<PathBuf>> {
    let names = fs::read_dir("/proc")?
        .filter_map(Result::ok)
        .filter(|entry| {
            entry.file_name().as_encoded_bytes().first().is_some_and(u8::is_ascii_digit)
        })
        .filter_map(|entry| fs::read_link(Path::join(&entry.path(), "ns/net")).ok())
        .collect();
    Ok(names)
}
