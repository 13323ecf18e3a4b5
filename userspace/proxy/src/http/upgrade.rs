//! WebSocket: after the upstream has agreed to it, bytes go both ways as they are.

use std::{
    future::poll_fn,
    sync::{Arc, atomic::Ordering},
    time::Duration,
};

use bytes::Bytes;
use egressd_tables::Cluster;
use hyper_util::rt::TokioIo;
use tokio::io::{AsyncWriteExt, copy_bidirectional};

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
    relay::{self, Carried, Ending, Ends, Limits},
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
            (app, upstream) => {
                let (mut app, mut upstream) = (TokioIo::new(app), TokioIo::new(upstream));
                match copy(&mut app, &mut upstream, &early, &first).await {
                    Ok((up, down)) => {
                        carried.up += up;
                        carried.down += down;
                        Ending::Complete
                    }
                    Err(error) => Ending::UpstreamReset(error),
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

async fn copy(
    app: &mut TokioIo<HttpIo>,
    upstream: &mut TokioIo<HttpIo>,
    early: &[u8],
    first: &[u8],
) -> std::io::Result<(u64, u64)> {
    upstream.write_all(early).await?;
    app.write_all(first).await?;
    copy_bidirectional(app, upstream).await
}

async fn write_all(stream: &mut Stream, mut bytes: &[u8]) -> std::io::Result<()> {
    while !bytes.is_empty() {
        let written = poll_fn(|cx| stream.poll_send(cx, bytes)).await?;
        bytes = bytes.get(written..).unwrap_or_default();
    }
    Ok(())
}
