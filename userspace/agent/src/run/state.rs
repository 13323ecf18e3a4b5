//! What a running daemon consists of, and the order in which a new generation reaches its parts.

use std::os::fd::OwnedFd;
use std::sync::{
    Arc, Mutex, MutexGuard, PoisonError,
    atomic::{AtomicU32, Ordering},
};

use egressd_datapath::Datapath;
use egressd_proxy::{Server, Snapshot};
use serde_json::json;

use super::{
    adapt::{self, Switch},
    diff::Diff,
    direct::DirectPath,
    dns::Dns,
    doors::Doors,
    in_force::InForce,
};
use crate::{config::CaptureConfig, store::Generation};

/// The parts of a running daemon.
pub(super) struct State {
    datapath: Mutex<Datapath>,
    /// The proxy.
    pub(super) server: Server,
    /// Names.
    pub(super) dns: Dns,
    /// Where records go.
    pub(super) records: Arc<Switch>,
    snapshot: Arc<Snapshot>,
    capture: CaptureConfig,
    number: AtomicU32,
    /// The tables in force.
    pub(super) in_force: Arc<InForce>,
    /// Sockets that clients dial by themselves.
    doors: Mutex<Doors>,
    /// Connections that the kernel sends straight to endpoints.
    direct: DirectPath,
    /// Programs are measured while this is held.
    measuring: Mutex<Option<OwnedFd>>,
}

/// Whether programs are measured.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Measuring {
    /// They are.
    On,
    /// They are not.
    Off,
}

impl State {
    pub(super) fn new(
        datapath: Datapath,
        server: Server,
        dns: Dns,
        records: Arc<Switch>,
        snapshot: Arc<Snapshot>,
        capture: CaptureConfig,
        direct: DirectPath,
    ) -> Self {
        let (datapath, number) = (Mutex::new(datapath), AtomicU32::new(0));
        let (in_force, doors, measuring) = (Arc::default(), Mutex::default(), Mutex::default());
        Self {
            datapath,
            server,
            dns,
            records,
            snapshot,
            capture,
            number,
            in_force,
            doors,
            direct,
            measuring,
        }
    }

    /// The kernel side, for one thing at a time.
    pub(super) fn datapath(&self) -> MutexGuard<'_, Datapath> {
        self.datapath.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// The sockets that clients dial by themselves.
    fn doors(&self) -> MutexGuard<'_, Doors> {
        self.doors.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Tries again to open the doors that could not be opened.
    pub(super) fn try_doors_again(&self) {
        self.doors().try_again(&self.server);
    }

    /// What is captured, and at which ports it arrives.
    pub(super) fn capture(&self) -> &CaptureConfig {
        &self.capture
    }

    /// Puts a generation in force: first where connections arrive, then where they are turned,
    /// then where names lead there (design.md, invariant 4). A connection that the old rows turn is decided by the new tables.
    ///
    /// Gives its number, and what it changes.
    ///
    /// # Errors
    /// The kernel did not take it; everything is as before.
    pub(super) fn publish(
        &self,
        generation: &Generation,
    ) -> Result<(u32, Diff), egressd_datapath::Error> {
        let number = self.number.load(Ordering::Relaxed) + 1;
        let table = adapt::kernel_table(&generation.tables, &self.capture);
        let mut datapath = self.datapath();
        // What can fail comes first, while nothing has changed yet.
        datapath.prepare(number, &table)?;
        self.snapshot.publish(Arc::clone(&generation.tables));
        let before = self.in_force.replace(number, &generation.tables);
        self.direct.follow(&generation.tables);
        datapath.flip()?;
        drop(datapath);
        self.doors().follow(&self.server, &generation.tables);
        self.dns.publish(&generation.tables);
        self.records.metrics.follow(&generation.tables);
        self.records.set(generation.access_log.unwrap_or(true));
        self.number.store(number, Ordering::Relaxed);
        let diff = before.map(|before| Diff::between(&before, &generation.tables));
        Ok((number, diff.unwrap_or_default()))
    }

    /// What `egressd metrics` prints.
    pub(super) fn metrics(&self) -> String {
        let (tables, mut active) = (self.in_force.tables(), self.snapshot.active());
        self.direct.add_active(&mut active);
        self.records.metrics.expose(tables.as_deref(), &active, &self.status())
    }

    /// What `egressd config programs` shows.
    pub(super) fn programs(&self) -> String {
        let programs = match self.datapath().programs() {
            Ok(programs) => programs,
            Err(error) => return json!({"error": error.to_string()}).to_string(),
        };
        let all = programs.into_iter().map(|program| {
            json!({
                "name": program.name,
                "id": program.id,
                "runTimeNs": u64::try_from(program.run_time.as_nanos()).unwrap_or(u64::MAX),
                "runCount": program.run_count,
                "verifiedInstructions": program.verified_instructions,
                "bytes": program.size,
            })
        });
        serde_json::Value::from_iter(all).to_string()
    }

    /// Switches the measuring of programs, which costs each of their runs some 50 ns.
    pub(super) fn measure(&self, measuring: Measuring) -> String {
        let mut held = self.measuring.lock().unwrap_or_else(PoisonError::into_inner);
        *held = match measuring {
            Measuring::Off => None,
            Measuring::On => match egressd_datapath::measure_programs() {
                Ok(stats) => Some(stats),
                Err(error) => return json!({"error": error.to_string()}).to_string(),
            },
        };
        json!({}).to_string()
    }

    /// The connections of each cluster that the kernel sends straight to its endpoints.
    pub(super) fn direct_counts(&self) -> serde_json::Value {
        self.direct.counts()
    }

    /// What `egressd status` shows.
    pub(super) fn status(&self) -> serde_json::Value {
        let stats = self.server.stats();
        let datapath = self.datapath();
        let counters: serde_json::Map<_, _> = datapath
            .counters()
            .unwrap_or_default()
            .into_iter()
            .map(|(name, value)| (name.to_owned(), value.into()))
            .collect();
        let cgroups: Vec<_> = datapath.cgroups().map(|path| path.display().to_string()).collect();
        json!({
            "version": env!("CARGO_PKG_VERSION"),
            "generation": self.number.load(Ordering::Relaxed),
            "cgroups": cgroups,
            "port": self.capture.port,
            "handoffs": datapath.handoffs(),
            "flows": stats.active,
            "counters": counters,
            "direct": self.direct.status(),
            "doors": self.doors().status(),
            "dns": self.dns.status(),
            "connections": {
                "opened": stats.opened,
                "closed": stats.closed,
                "failed": stats.failed,
                "no_original": stats.no_original,
                "over_limit": stats.over_limit,
                "records_lost": self.records.lost(),
                "accept_failures": stats.accept_failures,
                "bytes_received": stats.bytes_received,
                "bytes_sent": stats.bytes_sent,
            },
        })
    }
}
