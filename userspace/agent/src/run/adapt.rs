//! Between the crates that do not know each other: datapath, tables and proxy.

use std::{
    io,
    os::fd::BorrowedFd,
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering},
    },
};

use egressd_datapath::{Host, HostTable, KernelTable, Socket};
use egressd_proxy::{AccessLog, FlowRecord, IpRange, Original, OriginalDst, Originals, Records};
use egressd_tables::{BLACK_HOLE, Tables};

use crate::{config::CaptureConfig, metrics::Metrics};

/// Reads the kernel's hand-offs for the proxy.
pub(super) struct Handoffs(pub(super) egressd_datapath::Originals);

impl Originals for Handoffs {
    fn original(&self, socket: BorrowedFd<'_>) -> io::Result<Option<Original>> {
        Ok(self.0.get(&socket)?.map(original))
    }
}

/// What the kernel side knows of an application's socket, as the proxy records it.
pub(super) fn original(socket: Socket) -> Original {
    Original {
        destination: OriginalDst(socket.destination),
        pid: socket.pid,
        uid: socket.uid,
        cgroup: socket.cgroup,
        cookie: socket.cookie,
        netns: socket.netns,
        generation: socket.generation,
    }
}

/// The record of a connection that the kernel denied.
pub(super) fn denied(at: std::time::SystemTime, socket: Socket) -> FlowRecord {
    FlowRecord::denied(at, original(socket), BLACK_HOLE)
}

/// The rows of a generation, with what the daemon's own file excludes.
pub(super) fn kernel_table(tables: &Tables, capture: &CaptureConfig) -> KernelTable {
    let rows = tables.kernel_rows();
    let mut table = KernelTable {
        exact: rows.exact.clone(),
        prefixes: rows.prefixes.clone(),
        ports: rows.ports.clone(),
        deny_unknown: rows.deny_unknown,
        hosts: hosts(tables),
        directs: rows.direct.iter().map(direct_route).collect(),
        ..KernelTable::default()
    };
    let udp = &rows.udp;
    table.exact.extend(udp.exact.iter().map(|(key, row)| (key.udp(), *row)));
    table.prefixes.extend(udp.prefixes.iter().map(|((bits, key), row)| ((*bits, key.udp()), *row)));
    for (address, bits) in &capture.exclude_cidrs {
        table.exclude_network(*address, *bits);
    }
    for port in &capture.exclude_ports {
        table.exclude_port(*port);
    }
    table
}

fn direct_route(route: &egressd_tables::DirectRoute) -> egressd_datapath::DirectRoute {
    egressd_datapath::DirectRoute { clusters: route.clusters.clone() }
}

/// The names that DNS answers, and whom the addresses of all services stand for.
fn hosts(tables: &Tables) -> HostTable {
    let names = tables.names().entries().iter().map(|entry| {
        let (v4, v6) = (entry.v4.first().copied(), entry.v6.first().copied());
        (Arc::clone(&entry.host), Host::new(v4, v6, entry.service.0))
    });
    let services = (0..).zip(tables.services());
    HostTable::new(names, services.flat_map(|(id, service)| service.ips().map(move |ip| (ip, id))))
}

/// The ranges VIPs are allocated from, for the loop guard.
pub(super) fn vip_ranges() -> Vec<IpRange> {
    let vips = egressd_tables::VipAllocation::default();
    [vips.range_v4, vips.range_v6]
        .iter()
        .map(|range| IpRange::new(range.address(), range.prefix()))
        .collect()
}

/// Where records go: the access log, while it is switched on.
pub(super) struct Switch {
    log: Option<AccessLog>,
    on: AtomicBool,
    /// Counts them all, logged or not.
    pub(super) metrics: Metrics,
}

impl Switch {
    /// A switch that is on; without a log there is nothing to switch.
    pub(super) fn new(log: Option<AccessLog>, metrics: Metrics) -> Self {
        Self { log, on: AtomicBool::new(true), metrics }
    }

    /// Switches.
    pub(super) fn set(&self, on: bool) {
        self.on.store(on, Ordering::Relaxed);
    }

    /// Opens the log's file anew.
    pub(super) fn reopen(&self) {
        if let Some(log) = &self.log {
            log.reopen();
        }
    }

    /// Lines lost because the writer was behind.
    pub(super) fn lost(&self) -> u64 {
        self.log.as_ref().map_or(0, AccessLog::lost)
    }
}

impl Records for Switch {
    fn record(&self, record: &FlowRecord) {
        self.metrics.record(record);
        if let Some(log) = &self.log
            && self.on.load(Ordering::Relaxed)
        {
            log.record(record);
        }
    }
}
