//! Which slot each cluster and each of its endpoints has, and the views in force.
//!
//! What a view has left is used again only when no program can still read it: a sweep waits for that.

use std::{
    collections::{BTreeMap, BTreeSet},
    mem::offset_of,
    net::SocketAddr,
    ops::Range,
    sync::{Arc, atomic::Ordering},
    time::{Duration, Instant},
};

use aya::{
    Ebpf,
    maps::{HashMap, MapData},
};
use egressd_abi::{
    ClusterSlot, EndpointRow, EndpointSlot, Level, MAX_CLUSTER_NAME, MAX_CLUSTERS,
    MAX_ENDPOINT_ROWS, MAX_ENDPOINTS, MAX_LEVELS, MAX_VIEWS, View, name_key, name_of,
};

use super::{
    DirectCounts, DirectEndpoint, DirectTarget, DirectView,
    blocks::Blocks,
    layout::{Layout, layout},
    memory::Shared,
};
use crate::{
    error::Error,
    rows::{take, wait_for_readers},
};

/// How long the slot of a cluster that nobody names stays its own, so that late records find its name.
const KEPT: Duration = Duration::from_secs(60);

/// The shared arrays.
struct Memory {
    clusters: Shared<ClusterSlot>,
    views: Shared<View>,
    levels: Shared<Level>,
    rows: Shared<EndpointRow>,
    endpoints: Shared<EndpointSlot>,
}

/// What of each array is in use.
struct Room {
    clusters: Blocks,
    views: Blocks,
    levels: Blocks,
    rows: Blocks,
    endpoints: Blocks,
}

/// Everything that is known of clusters.
pub(super) struct Slots {
    memory: Memory,
    names: HashMap<MapData, u32, [u8; MAX_CLUSTER_NAME]>,
    room: Room,
    clusters: BTreeMap<Arc<str>, Known>,
    by_slot: BTreeMap<u32, Arc<str>>,
    /// The clusters that each of the two generations names.
    named: [Vec<Arc<str>>; 2],
    /// What views have left, and perhaps a program still reads.
    left: Vec<Placed>,
    tick: Duration,
}

/// A cluster.
struct Known {
    slot: u32,
    view: DirectView,
    placed: Option<Placed>,
    endpoints: BTreeMap<SocketAddr, Held>,
    /// When it was last named or told of.
    seen: Instant,
}

/// An endpoint's slot.
struct Held {
    slot: u32,
    /// When a view had it last; nothing as long as that in force does.
    left: Option<Instant>,
}

/// Where a view is.
#[derive(Debug)]
struct Placed {
    view: Range<u32>,
    levels: Range<u32>,
    rows: Range<u32>,
}

impl Slots {
    pub(super) fn take(bpf: &mut Ebpf) -> Result<Self, Error> {
        let memory = Memory {
            clusters: Shared::take(bpf, "CLUSTERS", MAX_CLUSTERS)?,
            views: Shared::take(bpf, "VIEWS", MAX_VIEWS)?,
            levels: Shared::take(bpf, "LEVELS", MAX_LEVELS)?,
            rows: Shared::take(bpf, "ENDPOINT_ROWS", MAX_ENDPOINT_ROWS)?,
            endpoints: Shared::take(bpf, "ENDPOINTS", MAX_ENDPOINTS)?,
        };
        let room = Room {
            clusters: Blocks::new(MAX_CLUSTERS),
            views: Blocks::new(MAX_VIEWS),
            levels: Blocks::new(MAX_LEVELS),
            rows: Blocks::new(MAX_ENDPOINT_ROWS),
            endpoints: Blocks::new(MAX_ENDPOINTS),
        };
        let mut slots = Self {
            memory,
            names: take(bpf, "CLUSTER_NAMES")?,
            room,
            clusters: BTreeMap::new(),
            by_slot: BTreeMap::new(),
            named: [Vec::new(), Vec::new()],
            left: Vec::new(),
            tick: tick(),
        };
        slots.recover();
        Ok(slots)
    }

    /// Takes over what a daemon before this one has left in pinned maps: names and slots, endpoints with
    /// their connections, and the views in force.
    fn recover(&mut self) {
        let names: Vec<_> = self.names.iter().filter_map(Result::ok).collect();
        for (slot, key) in names {
            let (Some(name), true) = (name_of(&key), self.room.clusters.claim(&(slot..slot + 1)))
            else {
                continue;
            };
            let name: Arc<str> = name.into();
            let placed = self.placed(slot);
            let seen = Instant::now();
            let (view, endpoints) = (DirectView::default(), BTreeMap::new());
            self.by_slot.insert(slot, Arc::clone(&name));
            self.clusters.insert(name, Known { slot, view, placed, endpoints, seen });
        }
        if self.clusters.is_empty() {
            return;
        }
        let rows = self.clusters.values().filter_map(|known| known.placed.as_ref());
        let rows = rows.flat_map(|placed| placed.rows.clone());
        let in_force: BTreeSet<u32> =
            rows.filter_map(|row| Some(self.memory.rows.read(row)?.slot)).collect();
        for slot in 0..MAX_ENDPOINTS {
            let Some(endpoint) = self.memory.endpoints.read(slot) else { break };
            let Some(cluster) = endpoint.cluster.checked_sub(1) else { continue };
            let name = self.by_slot.get(&cluster);
            if let Some(known) = name.and_then(|name| self.clusters.get_mut(name))
                && self.room.endpoints.claim(&(slot..slot + 1))
            {
                let left = (!in_force.contains(&slot)).then(Instant::now);
                let held = Held { slot, left };
                known.endpoints.insert(endpoint.address.socket_addr(), held);
            }
        }
        self.memory.endpoints.unmap();
    }

    /// Where the view in force of a recovered cluster is.
    fn placed(&mut self, slot: u32) -> Option<Placed> {
        let number = self.memory.clusters.read(slot)?.view.checked_sub(1)?;
        let view = self.memory.views.read(number)?;
        let span = |runs: &mut dyn Iterator<Item = (u32, u32)>| {
            let runs: Vec<_> = runs.filter(|(_, count)| *count > 0).collect();
            let first = runs.iter().map(|(first, _)| *first).min().unwrap_or(0);
            let end = runs.iter().map(|(first, count)| first + count).max().unwrap_or(0);
            first..end
        };
        let levels = span(&mut view.levels.iter().map(|levels| (levels.first, levels.count)));
        let read = levels.clone().filter_map(|level| self.memory.levels.read(level));
        let rows = span(&mut read.map(|level| (level.first, level.count)));
        let placed = Placed { view: number..number + 1, levels, rows };
        self.room.views.claim(&placed.view);
        self.room.levels.claim(&placed.levels);
        self.room.rows.claim(&placed.rows);
        Some(placed)
    }

    /// The slot of a cluster, by its name.
    pub(super) fn slot(&mut self, name: &str) -> Result<u32, Error> {
        let now = Instant::now();
        if let Some(known) = self.clusters.get_mut(name) {
            known.seen = now;
            return Ok(known.slot);
        }
        let key = name_key(name).ok_or(Error::TableFull {
            table: "bytes of a cluster's name",
            limit: MAX_CLUSTER_NAME as u32,
            wanted: name.len(),
        })?;
        let run = self.room.clusters.take(1);
        let slot = run.ok_or_else(|| full("cluster", MAX_CLUSTERS))?.start;
        self.memory.clusters.write(slot, ClusterSlot::default());
        if let Err(error) = self.names.insert(slot, key, 0) {
            self.room.clusters.give(slot..slot + 1);
            return Err(Error::bpf(format!("writing the name of the cluster {name}"))(error));
        }
        let name: Arc<str> = name.into();
        self.by_slot.insert(slot, Arc::clone(&name));
        let (view, endpoints) = (DirectView::default(), BTreeMap::new());
        self.clusters.insert(name, Known { slot, view, placed: None, endpoints, seen: now });
        Ok(slot)
    }

    /// The name of a cluster, by its slot.
    pub(super) fn name(&self, slot: u32) -> Option<Arc<str>> {
        self.by_slot.get(&slot).cloned()
    }

    /// Notes which clusters one of the two generations names.
    pub(super) fn set_named(&mut self, generation: usize, names: Vec<Arc<str>>) {
        if let Some(named) = self.named.get_mut(generation) {
            *named = names;
        }
    }

    /// Puts a view in force.
    pub(super) fn set(&mut self, name: &str, view: &DirectView) -> Result<(), Error> {
        let slot = self.slot(name)?;
        let Some(known) = self.clusters.get(name) else { return Ok(()) };
        // What a daemon before this one has left is in force, and not what is known here.
        if known.view == *view && known.placed.is_some() == (view.target != DirectTarget::Unknown) {
            return Ok(());
        }
        let placed = match self.place(name, slot, view) {
            Err(Error::TableFull { .. }) => {
                // What was left may be enough.
                wait_for_readers();
                self.reuse();
                self.place(name, slot, view)
            }
            placed => placed,
        };
        // What cannot be held is the proxy's.
        let (placed, result) = match placed {
            Ok(placed) => (placed, Ok(())),
            Err(error) => (None, Err(error)),
        };
        let number = placed.as_ref().map_or(0, |placed| placed.view.start + 1);
        if let Some(word) = self.memory.clusters.word(slot, offset_of!(ClusterSlot, view)) {
            word.store(number, Ordering::Release);
        }
        let Some(known) = self.clusters.get_mut(name) else { return Ok(()) };
        self.left.extend(std::mem::replace(&mut known.placed, placed));
        known.view = view.clone();
        let now = Instant::now();
        let mut current: Vec<SocketAddr> = Vec::new();
        if let DirectTarget::Endpoints(levels) = &view.target {
            let all = levels.iter().flat_map(|level| &level.endpoints);
            current.extend(all.map(|endpoint| canonical(endpoint.address)));
        }
        current.sort_unstable();
        for (address, held) in &mut known.endpoints {
            let stays = current.binary_search(address).is_ok();
            if stays {
                held.left = None;
            } else {
                held.left.get_or_insert(now);
            }
            // For conversations in datagrams, which ask before each.
            let usable = offset_of!(EndpointSlot, usable);
            if let Some(word) = self.memory.endpoints.word(held.slot, usable) {
                word.store(u32::from(stays), Ordering::Release);
            }
        }
        result
    }

    /// Writes a view where nobody reads.
    fn place(
        &mut self,
        name: &str,
        cluster: u32,
        view: &DirectView,
    ) -> Result<Option<Placed>, Error> {
        let Self { clusters, memory, room, tick, .. } = self;
        let Some(known) = clusters.get_mut(name) else { return Ok(None) };
        let slot = |endpoint: &DirectEndpoint| {
            let address = canonical(endpoint.address);
            if let Some(held) = known.endpoints.get(&address) {
                return Ok(held.slot);
            }
            let run = room.endpoints.take(1);
            let slot = run.ok_or_else(|| full("endpoint", MAX_ENDPOINTS))?.start;
            let written = EndpointSlot::new(address.into(), endpoint.hash, cluster);
            memory.endpoints.write(slot, written);
            known.endpoints.insert(address, Held { slot, left: Some(Instant::now()) });
            Ok(slot)
        };
        let jiffies = |time: Duration| {
            u32::try_from(time.as_nanos().div_ceil(tick.as_nanos().max(1))).unwrap_or(0).max(1)
        };
        let Some(layout) = layout(view, jiffies, slot)? else { return Ok(None) };
        let placed = room.place(&layout)?;
        let Layout { view, levels, rows } = layout.at(placed.levels.start, placed.rows.start);
        for (place, row) in placed.rows.clone().zip(rows) {
            memory.rows.write(place, row);
        }
        for (place, level) in placed.levels.clone().zip(levels) {
            memory.levels.write(place, level);
        }
        memory.views.write(placed.view.start, view);
        Ok(Some(placed))
    }

    /// What views have left, for [`Slots::free`] once nobody can read it any more.
    pub(super) fn take_left(&mut self) -> Left {
        Left { placed: std::mem::take(&mut self.left), before: Instant::now() }
    }

    /// Makes what was left free.
    pub(super) fn free(&mut self, left: Left) {
        for placed in left.placed {
            self.room.give(placed);
        }
        let Self { clusters, memory, room, .. } = self;
        for known in clusters.values_mut() {
            known.endpoints.retain(|_, held| {
                let old = held.left.is_some_and(|since| since < left.before);
                let idle = memory.endpoints.read(held.slot).is_none_or(|slot| slot.active == 0);
                if old && idle {
                    let nobody = EndpointSlot::new(SocketAddr::from(([0; 4], 0)).into(), 0, 0);
                    memory
                        .endpoints
                        .write(held.slot, EndpointSlot { cluster: 0, usable: 0, ..nobody });
                    room.endpoints.give(held.slot..held.slot + 1);
                }
                !(old && idle)
            });
        }
        self.forget_unnamed();
    }

    /// Forgets clusters that no generation has named for long and that have no connection.
    fn forget_unnamed(&mut self) {
        let now = Instant::now();
        for name in self.named.iter().flatten() {
            if let Some(known) = self.clusters.get_mut(name) {
                known.seen = now;
            }
        }
        let Self { clusters, memory, room, names, by_slot, left, .. } = self;
        clusters.retain(|name, known| {
            let idle = memory.clusters.read(known.slot).is_none_or(|slot| slot.active == 0);
            if now.saturating_duration_since(known.seen) < KEPT || !idle {
                return true;
            }
            if let Some(placed) = known.placed.take() {
                if let Some(word) = memory.clusters.word(known.slot, offset_of!(ClusterSlot, view))
                {
                    word.store(0, Ordering::Release);
                }
                left.push(placed);
                for held in known.endpoints.values_mut() {
                    held.left.get_or_insert(now);
                }
                // The rest the next time: a program may be on its way.
                return true;
            }
            if !known.endpoints.is_empty() {
                return true;
            }
            if let Err(error) = names.remove(&known.slot) {
                tracing::debug!(%error, %name, "removing the name of a cluster");
            }
            by_slot.remove(&known.slot);
            room.clusters.give(known.slot..known.slot + 1);
            false
        });
    }

    /// [`Slots::free`] of everything that was left, where the caller has waited.
    fn reuse(&mut self) {
        let left = self.take_left();
        self.free(left);
    }

    /// The connections of every cluster.
    pub(super) fn counts(&self) -> Vec<DirectCounts> {
        let count = |(name, known): (&Arc<str>, &Known)| {
            let slot = self.memory.clusters.read(known.slot)?;
            let endpoints = known.endpoints.iter().filter_map(|(address, held)| {
                let endpoint = self.memory.endpoints.read(held.slot)?;
                Some((*address, endpoint.active + endpoint.conversations, endpoint.begun))
            });
            Some(DirectCounts {
                cluster: Arc::clone(name),
                active: slot.active + slot.conversations,
                begun: slot.begun,
                refused: slot.refused,
                endpoints: endpoints.collect(),
            })
        };
        self.clusters.iter().filter_map(count).collect()
    }

    /// How long connections of a cluster may be silent, and how long they may last.
    pub(super) fn time_limits(&self, slot: u32) -> (Option<Duration>, Option<Duration>) {
        let known = self.by_slot.get(&slot).and_then(|name| self.clusters.get(name));
        let limits = known.map(|known| known.view.limits).unwrap_or_default();
        (limits.idle_timeout, limits.max_duration)
    }

    /// Whether any cluster has such limits.
    pub(super) fn has_time_limits(&self) -> bool {
        self.clusters.values().any(|known| {
            known.view.limits.idle_timeout.is_some() || known.view.limits.max_duration.is_some()
        })
    }

    /// Takes a connection from the counts that is no longer there.
    pub(super) fn take_one(&self, cluster: u32, endpoint: u32) {
        self.correct_cluster(cluster, 1);
        self.correct_endpoint(endpoint, 1);
    }

    /// The connections that a cluster counts, and those that were begun.
    pub(super) fn cluster_numbers(&self, slot: u32) -> Option<(u64, u64)> {
        let slot = self.memory.clusters.read(slot)?;
        Some((slot.active, slot.begun))
    }

    /// The same of an endpoint.
    pub(super) fn endpoint_numbers(&self, slot: u32) -> Option<(u64, u64)> {
        let slot = self.memory.endpoints.read(slot)?;
        Some((slot.active, slot.begun))
    }

    /// Takes so many from a cluster's count; a number below zero, as it wraps around, adds.
    pub(super) fn correct_cluster(&self, slot: u32, surplus: u64) {
        if let Some(word) = self.memory.clusters.long(slot, offset_of!(ClusterSlot, active)) {
            word.fetch_sub(surplus, Ordering::Relaxed);
        }
    }

    /// The same for an endpoint.
    pub(super) fn correct_endpoint(&self, slot: u32, surplus: u64) {
        if let Some(word) = self.memory.endpoints.long(slot, offset_of!(EndpointSlot, active)) {
            word.fetch_sub(surplus, Ordering::Relaxed);
        }
    }

    /// The slots of all clusters, and of all endpoints.
    pub(super) fn all(&self) -> (Vec<u32>, Vec<u32>) {
        let endpoints = self.clusters.values().flat_map(|known| known.endpoints.values());
        (self.by_slot.keys().copied().collect(), endpoints.map(|held| held.slot).collect())
    }
}

/// What views have left at some time.
pub(super) struct Left {
    placed: Vec<Placed>,
    before: Instant,
}

impl Room {
    fn place(&mut self, layout: &Layout) -> Result<Placed, Error> {
        let long = |count: usize| u32::try_from(count).unwrap_or(u32::MAX);
        let view = self.views.take(1).ok_or_else(|| full("view", MAX_VIEWS))?;
        let Some(levels) = self.levels.take(long(layout.levels.len())) else {
            self.views.give(view);
            return Err(full("priority", MAX_LEVELS));
        };
        let Some(rows) = self.rows.take(long(layout.rows.len())) else {
            self.views.give(view);
            self.levels.give(levels);
            return Err(full("endpoint row", MAX_ENDPOINT_ROWS));
        };
        Ok(Placed { view, levels, rows })
    }

    fn give(&mut self, placed: Placed) {
        self.views.give(placed.view);
        self.levels.give(placed.levels);
        self.rows.give(placed.rows);
    }
}

fn full(table: &'static str, limit: u32) -> Error {
    Error::TableFull { table, limit, wanted: limit as usize + 1 }
}

fn canonical(address: SocketAddr) -> SocketAddr {
    SocketAddr::new(address.ip().to_canonical(), address.port())
}

/// The kernel's tick, which its coarse clock goes by.
fn tick() -> Duration {
    use nix::time::{ClockId, clock_getres};
    clock_getres(ClockId::CLOCK_MONOTONIC_COARSE).map_or(Duration::from_millis(4), Duration::from)
}
