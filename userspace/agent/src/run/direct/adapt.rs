//! The same things in the words of the proxy and of the kernel side.

use std::io;

use egressd_datapath as kernel;
use egressd_datapath::{DirectEnd as End, DirectRecord};
use egressd_proxy::{
    ClientAddr, DirectBalance, DirectEndpoints, DirectHost, DirectNumbers, DirectView, Errno,
    FlowRecord, LocalAddr, Outcome, TransportFailure, UpstreamAddr,
};

use crate::run::adapt::original;

/// The endpoints of a view.
pub(super) fn endpoints(view: &DirectView) -> impl Iterator<Item = &DirectHost> {
    let levels = match &view.endpoints {
        DirectEndpoints::Chosen { levels, .. } => levels.as_slice(),
        DirectEndpoints::Unknown | DirectEndpoints::None | DirectEndpoints::Original(_) => &[],
    };
    levels.iter().flat_map(|level| &level.hosts)
}

/// A cluster as the kernel side takes it.
pub(super) fn view(view: &DirectView) -> kernel::DirectView {
    let limits = &view.limits;
    let mut balance = kernel::DirectBalance::default();
    let target = match &view.endpoints {
        DirectEndpoints::Unknown => kernel::DirectTarget::Unknown,
        DirectEndpoints::None => kernel::DirectTarget::Endpoints(Vec::new()),
        DirectEndpoints::Original(port) => kernel::DirectTarget::Original { port: Some(*port) },
        DirectEndpoints::Chosen { balance: chosen, levels } => {
            balance = match chosen {
                DirectBalance::RoundRobin => kernel::DirectBalance::RoundRobin,
                DirectBalance::LeastRequest => kernel::DirectBalance::LeastRequest,
                DirectBalance::Random => kernel::DirectBalance::Random,
                DirectBalance::SourceIp => kernel::DirectBalance::SourceIp,
            };
            let levels = levels.iter().map(|level| kernel::DirectLevel {
                load_end: u32::try_from(level.load).unwrap_or(100),
                endpoints: level.hosts.iter().map(endpoint).collect(),
            });
            kernel::DirectTarget::Endpoints(levels.collect())
        }
    };
    kernel::DirectView {
        target,
        balance,
        limits: kernel::DirectLimits {
            max_connections: Some(limits.max_connections).filter(|most| *most != u32::MAX),
            connect_timeout: Some(limits.connect_timeout),
            keepalive: limits.keepalive.map(|keepalive| kernel::DirectKeepalive {
                idle: keepalive.time,
                interval: keepalive.interval,
                probes: keepalive.probes,
            }),
            idle_timeout: limits.idle_timeout,
            max_duration: limits.max_duration,
        },
    }
}

fn endpoint(host: &DirectHost) -> kernel::DirectEndpoint {
    kernel::DirectEndpoint { address: host.addr, weight: host.weight, hash: host.hash }
}

/// The record of a connection that the proxy did not carry.
pub(super) fn record(record: &DirectRecord) -> FlowRecord {
    let flow = FlowRecord::new(record.started, original(record.socket));
    FlowRecord {
        duration: record.duration,
        outcome: outcome(record),
        bytes_received: record.sent,
        bytes_sent: record.received,
        client: record.local.map(ClientAddr),
        cluster: Some(record.cluster.clone()),
        upstream: record.endpoint.map(UpstreamAddr::Ip),
        upstream_local: record.local.filter(|_| record.connect.is_some()).map(LocalAddr),
        direct: Some(Box::new(DirectNumbers {
            rtt: record.rtt,
            retransmits: record.retransmits,
            acknowledged_only: record.end.is_abort(),
        })),
        ..flow
    }
}

fn outcome(record: &DirectRecord) -> Outcome {
    match record.end {
        End::NoEndpoint => Outcome::NoHealthyUpstream,
        End::Overflow => Outcome::Overflow,
        End::ConnectFailed { timed_out: true } => Outcome::ConnectFailed(TransportFailure::Timeout),
        End::ConnectFailed { timed_out: false } | End::NotStarted => {
            let errno = if record.errno == 0 { libc::ECONNREFUSED } else { record.errno };
            let kind = io::Error::from_raw_os_error(errno).kind();
            Outcome::ConnectFailed(TransportFailure::Delayed(kind, Errno(errno)))
        }
        End::Abandoned => Outcome::AppGone,
        End::Closed => Outcome::Completed,
        End::Idle => Outcome::IdleTimeout,
        End::Expired => Outcome::DurationLimit,
        End::Reset => Outcome::UpstreamReset,
        End::Aborted => Outcome::AppReset,
    }
}
