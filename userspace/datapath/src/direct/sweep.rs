//! What is done about direct connections now and then, off their way: those that have reached a time
//! limit are ended, and the counts are compared with what there is.

use std::{
    collections::{BTreeMap, BTreeSet, HashMap},
    io,
    os::fd::AsFd as _,
    sync::{Arc, Mutex, MutexGuard, PoisonError},
    time::{Duration, Instant},
};

use aya::{
    Ebpf,
    maps::{HashMap as HashTable, IterableMap as _, MapData},
};
use egressd_abi::{Flow, FlowKey, MAX_FLOWS, NO_ENDPOINT};
use nix::time::{ClockId, clock_gettime};

use super::{DirectEnd, slots::Slots};
use crate::{
    bpf,
    diag::{Diag, Found},
    error::Error,
    netns::NetnsCookie,
};

/// How often counts are compared with what there is.
const COMPARE: Duration = Duration::from_secs(10);
/// How often connections are looked for that never began.
const LOOK: Duration = Duration::from_secs(2);
/// A connection whose SYN has not gone out for so long never began: no close() tells of sockets inside the
/// kernel, MPTCP's among them.
const UNSTARTED: Duration = Duration::from_secs(5);
/// A connection that is counted for longer than this and has no socket in any state is none.
const GONE: Duration = Duration::from_secs(30);
/// How many connections that were ended here are remembered until their records come.
const REMEMBERED: usize = 65_536;

/// What a sweep has found.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Swept {
    /// Connections that were counted and are no longer there.
    pub mended: u64,
    /// Connections that were ended because they were silent for too long.
    pub idle: u64,
    /// Connections that were ended because they had lasted for too long.
    pub expired: u64,
}

/// Why connections were ended by the daemon, by their sockets' cookies.
#[derive(Clone, Default)]
pub(crate) struct Ended(Arc<Mutex<HashMap<u64, DirectEnd>>>);

impl Ended {
    fn lock(&self) -> MutexGuard<'_, HashMap<u64, DirectEnd>> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn note(&self, cookie: u64, why: DirectEnd) {
        let mut all = self.lock();
        if all.len() >= REMEMBERED {
            // Their records were lost, or never were.
            all.clear();
        }
        all.insert(cookie, why);
    }

    /// Why the connection of a socket was ended, if it was.
    pub(crate) fn take(&self, cookie: u64) -> Option<DirectEnd> {
        self.lock().remove(&cookie)
    }
}

/// A count: of a cluster or of an endpoint, by its slot.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
enum Count {
    Cluster(u32),
    Endpoint(u32),
}

/// Goes over all direct connections.
pub(super) struct Sweep {
    flows: HashTable<MapData, [u8; 16], [u8; 24]>,
    ended: Ended,
    compared: Option<Instant>,
    looked: Option<Instant>,
    /// Without a socket when it was last looked.
    missing: BTreeSet<FlowKey>,
    /// By how much counts were too large when they were last compared.
    surplus: BTreeMap<Count, u64>,
}

impl Sweep {
    pub(super) fn take(bpf: &mut Ebpf, ended: Ended) -> Result<Self, Error> {
        let map = bpf.take_map("FLOWS").ok_or_else(|| Error::missing("FLOWS"))?;
        let flows = HashTable::try_from(map).map_err(Error::bpf("opening the map FLOWS"))?;
        Ok(Self {
            flows,
            ended,
            compared: None,
            looked: None,
            missing: BTreeSet::new(),
            surplus: BTreeMap::new(),
        })
    }

    /// Goes over them once.
    pub(super) fn run(&mut self, slots: &Mutex<Slots>) -> Result<Swept, Error> {
        let slots = || slots.lock().unwrap_or_else(PoisonError::into_inner);
        let compares = self.compared.is_none_or(|last| last.elapsed() >= COMPARE);
        let now = now().map_err(Error::io("reading the clock"))?;
        let limits = slots().has_time_limits();
        let looks = self.looked.is_none_or(|last| last.elapsed() >= LOOK);
        if !compares && !limits && !looks {
            return Ok(Swept::default());
        }
        self.looked = Some(Instant::now());
        let before = if compares { counts(&slots()) } else { BTreeMap::new() };
        let flows: Vec<(FlowKey, Flow)> =
            bpf::entries(self.flows.map().fd().as_fd(), MAX_FLOWS as usize)
                .map_err(Error::io("reading the table of direct connections"))?;
        let mut swept = Swept::default();
        if compares {
            self.compared = Some(Instant::now());
            let after = counts(&slots());
            swept.mended += self.compare(&slots(), &flows, &before, &after);
        }
        let netns =
            NetnsCookie::current().map_err(Error::io("asking for our network namespace"))?.raw();
        let age = |key: &FlowKey| now.saturating_sub(Duration::from_nanos(key.started_ns));
        for (key, flow) in flows.iter().filter(|(_, flow)| flow.started == 0) {
            if age(key) > UNSTARTED && self.remove(key) {
                slots().take_one(flow.cluster, flow.endpoint);
                swept.mended += 1;
            }
        }
        let ours = |(_, flow): &(FlowKey, Flow)| flow.netns == netns && flow.started == 1;
        let mut ours = flows.into_iter().filter(ours).peekable();
        if ours.peek().is_none() || !compares && !limits {
            return Ok(swept);
        }
        let diag = Diag::open().map_err(Error::io("asking for sockets"))?;
        let sockets = diag.sockets().map_err(Error::io("listing the sockets of connections"))?;
        let missing = std::mem::take(&mut self.missing);
        for (key, flow) in ours {
            let age = age(&key);
            match sockets.get(&key.cookie) {
                Some(socket) => {
                    let limits = slots().time_limits(flow.cluster);
                    if let Some(why) = over(socket, age, limits) {
                        swept.note(why, self.end(&diag, socket, key.cookie, why)?);
                    }
                }
                // The kernel may pass one over whose neighbours leave while it lists them.
                None if age > GONE && missing.contains(&key) => {
                    if self.remove(&key) {
                        slots().take_one(flow.cluster, flow.endpoint);
                        swept.mended += 1;
                    }
                }
                None => {
                    self.missing.insert(key);
                }
            }
        }
        Ok(swept)
    }

    /// Takes an entry away. Whoever does takes it from the counts.
    fn remove(&mut self, key: &FlowKey) -> bool {
        let key: [u8; 16] = zerocopy::transmute!(*key);
        self.flows.remove(&key).is_ok()
    }

    /// Ends a connection. Says whether it was there to be ended.
    fn end(&self, diag: &Diag, socket: &Found, cookie: u64, why: DirectEnd) -> Result<bool, Error> {
        self.ended.note(cookie, why);
        match diag.destroy(socket) {
            Ok(()) => Ok(true),
            Err(error) if error.raw_os_error() == Some(libc::ENOENT) => {
                self.ended.take(cookie);
                Ok(false)
            }
            Err(error) => {
                self.ended.take(cookie);
                Err(Error::io("ending a connection that has reached its time limit")(error))
            }
        }
    }

    /// Compares the counts with the entries. A count that nobody has changed meanwhile, and that was
    /// wrong by as much the last time, is put right.
    fn compare(
        &mut self,
        slots: &Slots,
        flows: &[(FlowKey, Flow)],
        before: &BTreeMap<Count, (u64, u64)>,
        after: &BTreeMap<Count, (u64, u64)>,
    ) -> u64 {
        let mut there: BTreeMap<Count, u64> = BTreeMap::new();
        for (_, flow) in flows {
            *there.entry(Count::Cluster(flow.cluster)).or_default() += 1;
            if flow.endpoint != NO_ENDPOINT {
                *there.entry(Count::Endpoint(flow.endpoint)).or_default() += 1;
            }
        }
        let mut mended = 0;
        let known = std::mem::take(&mut self.surplus);
        for (count, numbers) in before {
            if after.get(count) != Some(numbers) {
                continue;
            }
            // A number below zero wraps around, as that of the slot does.
            let surplus = numbers.0.wrapping_sub(there.get(count).copied().unwrap_or(0));
            if surplus == 0 {
                continue;
            }
            if known.get(count) != Some(&surplus) {
                self.surplus.insert(*count, surplus);
                continue;
            }
            mended += surplus.cast_signed().unsigned_abs();
            match count {
                Count::Cluster(slot) => slots.correct_cluster(*slot, surplus),
                Count::Endpoint(slot) => slots.correct_endpoint(*slot, surplus),
            }
        }
        mended
    }
}

impl Swept {
    fn note(&mut self, why: DirectEnd, done: bool) {
        let number = if why == DirectEnd::Idle { &mut self.idle } else { &mut self.expired };
        *number += u64::from(done);
    }
}

/// The numbers of every slot: connections under way, and those begun.
fn counts(slots: &Slots) -> BTreeMap<Count, (u64, u64)> {
    let (clusters, endpoints) = slots.all();
    let cluster = |slot| Some((Count::Cluster(slot), slots.cluster_numbers(slot)?));
    let endpoint = |slot| Some((Count::Endpoint(slot), slots.endpoint_numbers(slot)?));
    let clusters = clusters.into_iter().filter_map(cluster);
    clusters.chain(endpoints.into_iter().filter_map(endpoint)).collect()
}

/// Which of its limits a connection has reached.
fn over(
    socket: &Found,
    age: Duration,
    (idle, lasting): (Option<Duration>, Option<Duration>),
) -> Option<DirectEnd> {
    if lasting.is_some_and(|most| age >= most) {
        return Some(DirectEnd::Expired);
    }
    let silent = Duration::from_millis(socket.silent_ms.into()).min(age);
    idle.is_some_and(|most| silent >= most).then_some(DirectEnd::Idle)
}

fn now() -> io::Result<Duration> {
    Ok(clock_gettime(ClockId::CLOCK_MONOTONIC)?.into())
}
