//! One captured connection, from accept to record:
//!
//! `Accepted -> Original -> Sniffed -> Plan -> Connected -> Ending -> FlowRecord`

use std::{
    os::fd::{AsFd, OwnedFd},
    sync::Arc,
};

use tokio::time::Instant;

use crate::{
    addrs::ClientAddr,
    connect::{self, Connected, Tools},
    original::Original,
    plan::Forward,
    record::{Fate, FlowRecord, Outcome, Pending},
    relay::{self, Carried, Ending, Ends, Limits},
    server::{Slot, Worker},
    sniff::{self, Sniffed},
    socket::{Accepted, Stream, reset},
};

/// Carries one connection through.
pub(crate) async fn run(worker: Arc<Worker>, accepted: Accepted, slot: Result<Slot, OverLimit>) {
    let Accepted { socket, client } = accepted;
    let Some(original) = original(&worker, &socket) else {
        worker.counters.no_original.add(1);
        reset(socket);
        return;
    };
    worker.counters.opened.add(1);
    let mut pending = Pending::new(original, client, Arc::clone(&worker));
    if slot.is_err() {
        worker.counters.over_limit.add(1);
        reset(socket);
        pending.record(Outcome::FlowLimit);
        return;
    }
    let app = Stream::accepted(socket);
    let outcome = carry(&worker, app, client, &mut pending.flow).await;
    pending.record(outcome);
    drop(slot);
}

/// There are as many flows as there may be.
#[derive(Clone, Copy, Debug)]
pub(crate) struct OverLimit;

fn original(worker: &Worker, socket: &OwnedFd) -> Option<Original> {
    match worker.shared.originals.original(socket.as_fd()) {
        Ok(original) => original,
        Err(error) => {
            tracing::debug!(%error, "reading the original destination");
            None
        }
    }
}

async fn carry(
    worker: &Worker,
    mut app: Stream,
    client: ClientAddr,
    record: &mut FlowRecord,
) -> Outcome {
    let forward = match decide(worker, &mut app, record).await {
        Ok(forward) => forward,
        Err(outcome) => return outcome,
    };
    let shared = &*worker.shared;
    let tools = Tools {
        factory: &shared.factory,
        resolver: &*shared.resolver,
        max_attempts: shared.config.max_connect_attempts.max(1),
    };
    let connected = connect::connect(tools, &forward, client, &mut app, record).await;
    let Connected { stream, leases } = match connected {
        Ok(connected) => connected,
        Err(outcome) => return outcome,
    };
    let limits = Limits {
        idle: forward.idle_timeout,
        until: forward.max_duration.and_then(|longest| Instant::now().checked_add(longest)),
    };
    // From here on the cluster is known by its leases alone.
    drop(forward);
    let ends = Ends { app, upstream: stream };
    let mut flow = Flow { record, ends, carried: Carried::default() };
    let ending = relay::relay(&mut flow.ends, limits, &shared.pipes, &mut flow.carried).await;
    drop(flow);
    drop(leases);
    match ending {
        Ending::Complete => Outcome::Completed,
        Ending::AppReset(error) => {
            tracing::debug!(%error, "the application broke off");
            Outcome::AppReset
        }
        Ending::UpstreamReset(error) => {
            tracing::debug!(%error, "the endpoint broke off");
            Outcome::UpstreamReset
        }
        Ending::Idle => Outcome::IdleTimeout,
        Ending::Expired => Outcome::DurationLimit,
    }
}

/// Sniffs as far as the listener asks, and decides.
async fn decide(
    worker: &Worker,
    app: &mut Stream,
    record: &mut FlowRecord,
) -> Result<Forward, Outcome> {
    let destination = record.destination();
    let router = worker.shared.snapshot.load();
    let sniffed = match router.wanted(destination) {
        Some(wanted) => {
            // Boxed: few flows are sniffed, and all would carry the room for it to their end.
            Box::pin(sniff::sniff(app, wanted)).await.map_err(|_gone| Outcome::AppGone)?
        }
        None => Sniffed::Nothing,
    };
    let plan = router.plan(destination, &sniffed);
    record.cluster = plan.cluster;
    record.route_name = plan.route;
    record.authority = plan.authority;
    if let Sniffed::Tls(hello) = sniffed {
        record.server_name = hello.server_name;
    }
    plan.verdict
}

/// A flow that is relayed. Whatever becomes of it, its record gets what the relay knows: the bytes,
/// and our address, which is asked for only here, where nobody waits for it.
struct Flow<'a> {
    record: &'a mut FlowRecord,
    ends: Ends,
    carried: Carried,
}

impl Drop for Flow<'_> {
    fn drop(&mut self) {
        self.record.bytes_received = self.carried.up;
        self.record.bytes_sent = self.carried.down;
        self.record.upstream_local = self.ends.upstream.local_addr();
    }
}

impl Fate for Arc<Worker> {
    fn take(&self, record: &FlowRecord) {
        let counters = &self.counters;
        counters.closed.add(1);
        if !record.outcome.is_success() {
            counters.failed.add(1);
        }
        counters.bytes_received.add(record.bytes_received);
        counters.bytes_sent.add(record.bytes_sent);
        self.shared.records.record(record);
    }

    fn dropped(&self) -> Outcome {
        if self.is_ending() { Outcome::Drained } else { Outcome::Forgotten }
    }
}
