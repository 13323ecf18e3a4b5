//! WebSocket: after the upstream has agreed to it, bytes go both ways as they are.

use std::{
    future::poll_fn,
    sync::{Arc, atomic::Ordering},
    time::Duration,
};

use bytes::Bytes;
use egressd_tables::Cluster;
use tokio::time::timeout;

use super::{
    circuit::Permit,
    downstream::Downstream,
    io::HttpIo,
    log::RequestLog,
    pool::H1,
    response_body::{Lease, UpstreamConnection},
};
use crate::{
    cluster::HostLease,
    record::ResponseFlag,
    relay::{self, Carried, Ending, Ends, Limits, SealedEnds, Side},
    socket::Stream,
};

/// The upstream's side of a connection that speaks another protocol.
pub(crate) struct Switched {
    connection: Box<H1>,
    log: Box<RequestLog>,
    idle: Option<Duration>,
    _request: Permit,
    _host: Option<HostLease>,
}

/// Begins it: as soon as the application has been told, [`Switched::carry`] takes over.
pub(crate) fn begin(
    downstream: &Downstream,
    lease: Lease,
    log: Box<RequestLog>,
    cluster: &Arc<Cluster>,
) {
    let Lease { connection, request, host } = lease;
    // An answer of this kind comes on HTTP/1 alone.
    if let UpstreamConnection::H1(connection) = connection {
        let idle = cluster.pool.tcp_idle_timeout;
        downstream.switch(Switched { connection, log, idle, _request: request, _host: host });
    }
}

impl Switched {
    /// Carries bytes until one side ends. `early` is what the application sent ahead.
    pub(crate) async fn carry(self, app: HttpIo, early: Bytes, downstream: &Downstream) {
        let Self { connection, mut log, idle, _request, _host } = self;
        let Some((upstream, first, _held)) = connection.into_io().await else {
            log.flag(ResponseFlag::UpstreamConnectionTermination);
            log.finish();
            return;
        };
        let received = Arc::clone(log.received());
        let mut carried = Carried { up: early.len() as u64, down: first.len() as u64 };
        let ending = match (app, upstream) {
            (HttpIo::Plain(mut app), HttpIo::Plain(mut upstream)) => {
                let limits = Limits { idle, until: None };
                let given = write_all(&mut upstream, &early).await.is_ok()
                    && write_all(&mut app, &first).await.is_ok();
                let mut relayed = Carried::default();
                let ending = if given {
                    let pipes = &downstream.worker.pipes;
                    let mut ends = Ends { app, upstream };
                    relay::relay(&mut ends, limits, pipes, &mut relayed).await
                } else {
                    Ending::Expired
                };
                carried.up += relayed.up;
                carried.down += relayed.down;
                ending
            }
            (HttpIo::Tls(app), HttpIo::Plain(upstream)) => match app.into_inner() {
                Some(app) => sealed(app, upstream, idle, &early, &first, &mut carried).await,
                None => Ending::Expired,
            },
            (HttpIo::Plain(app), HttpIo::Tls(upstream)) => match upstream.into_inner() {
                Some(upstream) => sealed(app, upstream, idle, &early, &first, &mut carried).await,
                None => Ending::Expired,
            },
            (HttpIo::Tls(app), HttpIo::Tls(upstream)) => {
                match (app.into_inner(), upstream.into_inner()) {
                    (Some(app), Some(upstream)) => {
                        sealed(app, upstream, idle, &early, &first, &mut carried).await
                    }
                    _ => Ending::Expired,
                }
            }
        };
        match ending {
            Ending::Complete | Ending::Idle | Ending::Expired => {}
            Ending::AppReset(_) => log.flag(ResponseFlag::DownstreamConnectionTermination),
            Ending::UpstreamReset(_) => log.flag(ResponseFlag::UpstreamConnectionTermination),
        }
        received.fetch_add(carried.up, Ordering::Relaxed);
        log.sent(usize::try_from(carried.down).unwrap_or(usize::MAX));
        log.finish();
    }
}

/// Relays where a side is TLS, within the same limits as elsewhere; what it carried is added.
async fn sealed<A: Side, U: Side>(
    app: A,
    upstream: U,
    idle: Option<Duration>,
    early: &[u8],
    first: &[u8],
    carried: &mut Carried,
) -> Ending {
    let mut ends = SealedEnds { app, upstream };
    let given = async {
        give(&mut ends.upstream, early).await?;
        give(&mut ends.app, first).await
    };
    if !matches!(timeout(BEGINNING, given).await, Ok(Ok(()))) {
        return Ending::Expired;
    }
    let mut relayed = Carried::default();
    let limits = Limits { idle, until: None };
    let ending = relay::relay_sealed(&mut ends, limits, &mut relayed).await;
    carried.up += relayed.up;
    carried.down += relayed.down;
    ending
}

async fn give(to: &mut impl Side, mut bytes: &[u8]) -> std::io::Result<()> {
    while !bytes.is_empty() {
        let given = poll_fn(|cx| to.poll_give(cx, bytes)).await?;
        bytes = bytes.get(given..).unwrap_or_default();
    }
    poll_fn(|cx| to.poll_given(cx)).await
}

async fn write_all(stream: &mut Stream, mut bytes: &[u8]) -> std::io::Result<()> {
    while !bytes.is_empty() {
        let written = poll_fn(|cx| stream.poll_send(cx, bytes)).await?;
        bytes = bytes.get(written..).unwrap_or_default();
    }
    Ok(())
}

/// How long a side may take for the bytes that came with the head of the other.
const BEGINNING: Duration = Duration::from_secs(10);
