//! An application's connection, from its first byte to its last.

mod incoming;

use std::{
    convert::Infallible,
    future::{Future, poll_fn},
    io,
    pin::{Pin, pin},
    sync::{
        Arc, Mutex, PoisonError,
        atomic::{AtomicBool, Ordering},
    },
    task::{Context, Poll, Wake, Waker},
    time::Duration,
};

use http::{HeaderValue, StatusCode, Version, header};
use hyper::{
    rt::Write,
    server::conn::{http1, http2},
    service::service_fn,
};
use hyper_util::rt::TokioTimer;
use tokio::time::{Instant, sleep, timeout};

use self::incoming::AppIo;
use super::{
    activity::Overdue,
    deadline::poll_timer,
    downstream::Downstream,
    exchange::answer,
    io::HttpIo,
    log::RequestLog,
    settings::{APPLICATION_WINDOW, BUFFER_SIZE, CONNECTION_WINDOW, HEAD_SIZE},
    watch::{Over, Tasks, ending, watching},
};
use crate::record::ResponseFlag;

/// What an application speaks.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Speaks {
    /// HTTP/1.0 or HTTP/1.1.
    Http1,
    /// HTTP/2.
    Http2,
}

/// Serves a connection until it ends. Once `drain` is done, requests under way are answered and no
/// further ones are taken.
///
/// Leaves one record a request, and one if there was none.
pub(crate) async fn serve(
    downstream: Arc<Downstream>,
    io: HttpIo,
    speaks: Speaks,
    drain: impl Future<Output = ()>,
) {
    let _at_least_one = AtLeastOne(&downstream);
    match speaks {
        Speaks::Http1 => serve_http1(&downstream, io, drain).await,
        Speaks::Http2 => serve_http2(&downstream, io, drain).await,
    }
}

/// Leaves a record if there was no request, however the connection ends.
struct AtLeastOne<'a>(&'a Arc<Downstream>);

impl Drop for AtLeastOne<'_> {
    fn drop(&mut self) {
        if self.0.activity.is_unused() {
            // Dropped as it is, it says that the application has gone, or that we end.
            drop(RequestLog::unreadable(self.0, Version::HTTP_11));
        }
    }
}

async fn serve_http1(downstream: &Arc<Downstream>, io: HttpIo, drain: impl Future<Output = ()>) {
    let requests = Arc::clone(downstream);
    let service = service_fn(move |request| {
        let downstream = Arc::clone(&requests);
        async move {
            let mut response = answer(Arc::clone(&downstream), request).await;
            if downstream.is_retired() {
                let close = HeaderValue::from_static("close");
                response.headers_mut().entry(header::CONNECTION).or_insert(close);
            }
            Ok::<_, Infallible>(response)
        }
    });
    let io = AppIo::new(io, Arc::clone(downstream), Speaks::Http1);
    let mut builder = http1::Builder::new();
    // That the application has gone is seen by [`AppIo`]; for hyper to see it, each request would cost
    // a buffer that nothing is read into.
    builder.half_close(true);
    // Waiting for heads is limited by [`Overdue`], without a timer a request.
    builder.header_read_timeout(None).max_header_size(HEAD_SIZE).auto_date_header(false);
    builder.max_buf_size(BUFFER_SIZE);
    let mut connection = builder.serve_connection(io, service);
    let running = run(downstream, &mut connection, |it| Pin::new(it).graceful_shutdown(), drain);
    let ended = watching(Arc::clone(downstream), running).await.unwrap_or_else(Ended::Expired);
    let parts = match ended {
        // The record of what was under way says why it ends here.
        Ended::Expired(over) => ending(over, || connection.into_parts()),
        Ended::Itself(_) | Ended::Overdue(_) => connection.into_parts(),
    };
    if let Some(switched) = downstream.switched() {
        switched.carry(parts.io.into_inner(), parts.read_buf, downstream).await;
        return;
    }
    match ended {
        Ended::Itself(Ok(())) => parts.io.into_inner().finish(),
        Ended::Itself(Err(error)) if error.is_parse() => {
            let (status, details) = if error.is_parse_too_large() {
                (StatusCode::REQUEST_HEADER_FIELDS_TOO_LARGE, "http1.headers_too_large")
            } else {
                (StatusCode::BAD_REQUEST, "http1.codec_error")
            };
            unreadable(downstream, Version::HTTP_11, status, details);
        }
        Ended::Itself(Err(error)) => tracing::debug!(%error, "a connection broke off"),
        // What is left of the answer does not follow: dropped as it is, the connection breaks off.
        Ended::Expired(over) => tracing::debug!(?over, "an exchange that nobody reads was ended"),
        Ended::Overdue(Overdue::Request) => parts.io.into_inner().finish(),
        Ended::Overdue(Overdue::Head) => {
            unreadable(downstream, Version::HTTP_11, LATE, "request_header_timeout");
            let mut io = parts.io;
            if let Err(error) = say(&mut io, LATE_ANSWER).await {
                tracing::debug!(%error, "a late application has gone");
            }
        }
    }
}

async fn serve_http2(downstream: &Arc<Downstream>, io: HttpIo, drain: impl Future<Output = ()>) {
    let requests = Arc::clone(downstream);
    let service = service_fn(move |request| {
        let downstream = Arc::clone(&requests);
        async move { Ok::<_, Infallible>(answer(downstream, request).await) }
    });
    let io = AppIo::new(io, Arc::clone(downstream), Speaks::Http2);
    let settings = &downstream.worker.settings;
    let mut builder = http2::Builder::new(Tasks(Arc::clone(downstream)));
    builder
        .timer(TokioTimer::new())
        .auto_date_header(false)
        .max_header_list_size(HEAD_SIZE as u32)
        .max_concurrent_streams(settings.max_streams)
        .max_send_buf_size(BUFFER_SIZE)
        .initial_stream_window_size(APPLICATION_WINDOW)
        .initial_connection_window_size(connection_window(settings.max_streams));
    let mut connection = pin!(builder.serve_connection(io, service));
    match run(downstream, &mut connection, |it| it.as_mut().graceful_shutdown(), drain).await {
        Ended::Itself(Ok(())) | Ended::Expired(_) => {}
        Ended::Overdue(_) => {
            connection.as_mut().graceful_shutdown();
            // What becomes of a connection that is over is nobody's concern.
            timeout(GOODBYE, connection).await.ok();
        }
        Ended::Itself(Err(error)) => {
            tracing::debug!(%error, "a connection broke off");
            if downstream.activity.is_unused() {
                let status = StatusCode::BAD_REQUEST;
                unreadable(downstream, Version::HTTP_2, status, "http2.codec_error");
            }
        }
    }
}

/// Bytes that an application may send ahead on all streams of a connection: as much as all of them may,
/// so that uploads to a slow upstream leave room for the others. A connection may be that of a proxy
/// before us, and carry the requests of many.
fn connection_window(streams: u32) -> u32 {
    APPLICATION_WINDOW.saturating_mul(streams).clamp(APPLICATION_WINDOW, CONNECTION_WINDOW)
}

/// How a connection ended.
enum Ended {
    Itself(hyper::Result<()>),
    Overdue(Overdue),
    /// What is on its way has had its time or its room, and the application does not take it.
    Expired(Over),
}

/// Runs a connection until it ends by itself or has waited too long.
async fn run<C: Future<Output = hyper::Result<()>> + Unpin>(
    downstream: &Downstream,
    connection: &mut C,
    shutdown: impl Fn(&mut C),
    drain: impl Future<Output = ()>,
) -> Ended {
    let settings = &downstream.worker.settings;
    let (mut drain, mut retired) = (pin!(drain), pin!(downstream.when_retired()));
    let (mut draining, called) = (false, Arc::<Called>::default());
    let bell = Waker::from(Arc::clone(&called));
    let mut timer = pin!(sleep(settings.request_head.min(settings.idle_connection)));
    poll_fn(|cx| {
        if !draining && called.take(cx) {
            let cx = &mut Context::from_waker(&bell);
            if drain.as_mut().poll(cx).is_ready() || retired.as_mut().poll(cx).is_ready() {
                draining = true;
                shutdown(connection);
            }
        }
        if let Poll::Ready(ended) = Pin::new(&mut *connection).poll(cx) {
            return Poll::Ready(Ended::Itself(ended));
        }
        while poll_timer(timer.as_mut(), cx).is_ready() {
            match downstream.activity.overdue(settings) {
                Ok(left) => timer.as_mut().reset(Instant::now() + left.max(SHORTEST)),
                Err(overdue) => return Poll::Ready(Ended::Overdue(overdue)),
            }
        }
        Poll::Pending
    })
    .await
}

/// Whether somebody called a connection's task to end it: most of its turns are for other reasons, and
/// need not ask.
#[derive(Debug, Default)]
struct Called {
    /// Nobody has, since that was asked.
    not: AtomicBool,
    /// The connection's task, which is one and the same all the time.
    task: Mutex<Option<Waker>>,
}

impl Called {
    /// Whether somebody did; at first nobody has been asked, so that it is as if.
    fn take(&self, cx: &Context<'_>) -> bool {
        if self.not.swap(true, Ordering::AcqRel) {
            return false;
        }
        *self.task.lock().unwrap_or_else(PoisonError::into_inner) = Some(cx.waker().clone());
        true
    }
}

impl Wake for Called {
    fn wake(self: Arc<Self>) {
        self.not.store(false, Ordering::Release);
        if let Some(task) = &*self.task.lock().unwrap_or_else(PoisonError::into_inner) {
            task.wake_by_ref();
        }
    }
}

/// Records something that is no request, and what it was answered with.
fn unreadable(
    downstream: &Arc<Downstream>,
    version: Version,
    status: StatusCode,
    details: &'static str,
) {
    let mut log = RequestLog::unreadable(downstream, version);
    log.flag(ResponseFlag::DownstreamProtocolError);
    log.answered(status.as_u16(), details);
    log.finish();
}

/// Writes an answer where hyper has none to give, and closes.
async fn say(io: &mut AppIo, answer: &'static [u8]) -> io::Result<()> {
    let mut left = answer;
    while !left.is_empty() {
        let written = poll_fn(|cx| Pin::new(&mut *io).poll_write(cx, left)).await?;
        left = left.get(written..).unwrap_or_default();
    }
    poll_fn(|cx| Pin::new(&mut *io).poll_shutdown(cx)).await
}

const LATE: StatusCode = StatusCode::REQUEST_TIMEOUT;
const LATE_ANSWER: &[u8] =
    b"HTTP/1.1 408 Request Timeout\r\nconnection: close\r\ncontent-length: 0\r\n\r\n";
/// How long an application may take to part.
const GOODBYE: Duration = Duration::from_secs(5);
/// The least time between two looks at what is overdue.
const SHORTEST: Duration = Duration::from_millis(10);
