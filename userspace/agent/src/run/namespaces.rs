//! Listeners in the network namespaces of containers.
//!
//! The kernel side tells when a process connects where nothing of ours listens. A thread then enters
//! that namespace, listens there, and leaves; the sockets stay, and the next connection is captured.
//! A listener keeps its namespace alive, so those without a process are given up again.

use std::{
    collections::BTreeMap,
    fs,
    path::PathBuf,
    sync::{
        Arc, Mutex, PoisonError,
        atomic::{AtomicUsize, Ordering},
    },
    time::Duration,
};

use egressd_datapath::{DnsSockets, Listeners, NetnsCookie, Socket, in_netns_of};
use egressd_dns::ListenersId;
use egressd_proxy::ListenerId;

use super::{dns, state::State};

/// How often namespaces without processes are looked for.
pub(super) const SWEEP: Duration = Duration::from_secs(30);
/// Namespaces listened in at once: each costs 99 descriptors.
const MOST: usize = 256;
/// Of these, those that processes of one user other than root have made us enter: anybody may make
/// namespaces, and nobody must use up everybody's.
const MOST_OF_A_USER: usize = 32;
/// Reports worked at or waiting; further ones are dropped, and come again with the next connection.
const WAITING: usize = 8;

/// The namespaces we listen in, beside our own.
#[derive(Debug, Default)]
pub(super) struct Namespaces {
    known: Mutex<BTreeMap<u64, Known>>,
    waiting: AtomicUsize,
}

#[derive(Debug)]
struct Known {
    /// Who connected there first.
    uid: u32,
    /// What `/proc/PID/ns/net` of its processes points to.
    link: PathBuf,
    listeners: Vec<ListenerId>,
    dns: Option<ListenersId>,
}

impl Namespaces {
    /// Listens in the namespace of a process that has just connected, on a thread that may block.
    pub(super) fn enter_soon(self: &Arc<Self>, state: &Arc<State>, socket: Socket) {
        if self.waiting.fetch_add(1, Ordering::Relaxed) >= WAITING {
            self.waiting.fetch_sub(1, Ordering::Relaxed);
            tracing::debug!(netns = socket.netns, "too many new network namespaces at once");
            return;
        }
        let (namespaces, state) = (Arc::clone(self), Arc::clone(state));
        tokio::task::spawn_blocking(move || {
            namespaces.enter(&state, socket);
            namespaces.waiting.fetch_sub(1, Ordering::Relaxed);
        });
    }

    fn enter(&self, state: &Arc<State>, socket: Socket) {
        let mut known = self.known.lock().unwrap_or_else(PoisonError::into_inner);
        if known.contains_key(&socket.netns) {
            return;
        }
        if !has_room(&known, socket.uid) {
            // Some may have been left since the last look.
            sweep(&mut known, state);
        }
        if !has_room(&known, socket.uid) {
            tracing::warn!(
                limit = MOST,
                limit_of_a_user = MOST_OF_A_USER,
                uid = socket.uid,
                "no more network namespaces are listened in"
            );
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

    /// Gives up the namespaces that no process is in, and learns the addresses of the others anew:
    /// an interface may have come after us.
    pub(super) fn sweep(&self, state: &Arc<State>) {
        let mut known = self.known.lock().unwrap_or_else(PoisonError::into_inner);
        for (netns, pid) in sweep(&mut known, state) {
            let state = Arc::clone(state);
            let visit = move || {
                let here = NetnsCookie::current().ok().map(NetnsCookie::raw);
                // The process may be gone and its number another one's.
                if here == Some(netns) { state.datapath().learn_addresses() } else { Ok(()) }
            };
            match in_netns_of(pid, visit) {
                Ok(Ok(())) => {}
                Ok(Err(error)) => tracing::warn!(%error, netns, "learning a namespace's addresses"),
                Err(error) => tracing::debug!(%error, netns, "a process has gone"),
            }
        }
    }
}

fn has_room(known: &BTreeMap<u64, Known>, uid: u32) -> bool {
    let theirs = known.values().filter(|entry| entry.uid == uid).count();
    known.len() < MOST && (uid == 0 || theirs < MOST_OF_A_USER)
}

/// Gives up namespaces without a process. Of the others, their cookies and a process in each.
fn sweep(known: &mut BTreeMap<u64, Known>, state: &State) -> Vec<(u64, u32)> {
    if known.is_empty() {
        return Vec::new();
    }
    // Without a list of processes nothing is known, and nothing is given up.
    let Ok(inhabited) = inhabited() else { return Vec::new() };
    let mut stay = Vec::new();
    known.retain(|netns, entry| match inhabited.get(&entry.link) {
        Some(pid) => {
            stay.push((*netns, *pid));
            true
        }
        None => {
            tracing::info!(netns, "a namespace has no process: leaving it");
            entry.listeners.iter().for_each(|listener| state.server.stop(*listener));
            entry.dns.into_iter().for_each(|sockets| state.dns.close(sockets));
            state.datapath().forget_addresses(NetnsCookie::from_raw(*netns));
            false
        }
    });
    stay
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
    Ok(Some(Known { uid: socket.uid, link, listeners, dns }))
}

/// What a visit brings home.
struct Found {
    link: PathBuf,
    listeners: Listeners,
    dns: Option<DnsSockets>,
}

/// What the network namespaces of all processes are called, with a process of each.
fn inhabited() -> std::io::Result<BTreeMap<PathBuf, u32>> {
    let processes = fs::read_dir("/proc")?.filter_map(Result::ok).filter_map(|entry| {
        let pid = entry.file_name().to_str()?.parse().ok()?;
        Some((fs::read_link(entry.path().join("ns/net")).ok()?, pid))
    });
    Ok(processes.collect())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn nobody_uses_up_everybodys_namespaces() {
        let mut known = BTreeMap::new();
        let mut add = |netns: u64, uid: u32| {
            let room = has_room(&known, uid);
            if room {
                let (link, listeners) = (PathBuf::new(), Vec::new());
                known.insert(netns, Known { uid, link, listeners, dns: None });
            }
            room
        };
        let of_one = (0..1000).filter(|netns| add(*netns, 1000)).count();
        assert_eq!(of_one, MOST_OF_A_USER);
        let of_root = (1000..2000).filter(|netns| add(*netns, 0)).count();
        assert_eq!(of_root, MOST - MOST_OF_A_USER);
        assert!(!add(5000, 1001));
    }

    #[test]
    fn we_are_a_process_in_our_namespace() {
        let ours = fs::read_link("/proc/self/ns/net").unwrap();
        assert!(inhabited().unwrap().contains_key(&ours));
    }
}
