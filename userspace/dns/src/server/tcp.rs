//! Connections: several queries on each, answered as they are ready (RFC 7766).

use std::{
    future::pending,
    net::{SocketAddr, TcpListener as StdTcpListener},
    os::fd::AsFd as _,
    sync::Arc,
    time::{Duration, Instant},
};

use tokio::{
    io::{AsyncBufReadExt as _, AsyncWrite, BufReader},
    net::{TcpListener, TcpStream, tcp::OwnedReadHalf},
    sync::{Mutex, Notify},
    task::JoinSet,
    time::{sleep, timeout},
};

use crate::{
    answer::{Answerer, Verdict},
    forward::{asker, read_message, write_message},
    metrics::Metrics,
    server::Shared,
    shares::{Asker, Place},
    socket::{Askers, SocketKind},
    upstream::Upstream,
    wire::{self, Fault, Query},
};

/// Serves one listening socket until it is dropped.
pub(crate) async fn serve(
    listener: StdTcpListener,
    askers: Option<Arc<dyn Askers>>,
    shared: Arc<Shared>,
) {
    let listener = match TcpListener::from_std(listener) {
        Ok(listener) => listener,
        Err(error) => {
            tracing::error!(%error, "a DNS socket cannot be served");
            return;
        }
    };
    // Dropped with the listener, and all connections with it.
    let mut connections = JoinSet::new();
    loop {
        let accepted = listener.accept().await;
        while connections.try_join_next().is_some() {}
        match accepted {
            Ok((stream, client)) => {
                let local = stream.local_addr().ok();
                let asker = asker(askers.as_deref(), SocketKind::Tcp, client, local);
                // Beyond the limit, those of the client with the most are closed.
                let Some(place) = shared.clients.take(asker) else {
                    shared.crowded(asker);
                    shared.metrics.connections_closed.increment();
                    continue;
                };
                let shared = Arc::clone(&shared);
                connections.spawn(async move {
                    tokio::select! {
                        () = connection(stream, client, asker, Arc::clone(&shared)) => {}
                        () = place.displaced() => {
                            shared.crowded(asker);
                            shared.metrics.connections_closed.increment();
                        }
                    }
                });
            }
            Err(error) => {
                tracing::warn!(%error, "a DNS connection could not be accepted");
                // Out of files, most likely: trying again at once would burn the processor.
                sleep(ACCEPT_PAUSE).await;
            }
        }
    }
}

async fn connection(stream: TcpStream, client: SocketAddr, asker: Asker, shared: Arc<Shared>) {
    let asked = shared.asked.connection(stream.as_fd());
    if let Err(error) = stream.set_nodelay(true) {
        tracing::debug!(%client, %error, "a DNS connection cannot be set to send at once");
    }
    let (from, to) = stream.into_split();
    let mut from = BufReader::with_capacity(READ_BUFFER, from);
    let outgoing = Arc::new(Outgoing::new(to, Arc::clone(&shared.metrics)));
    let mut answerer = Answerer::new(shared.services);
    // Reading and writing go on side by side, so that a slow question holds up nobody.
    let reading = async {
        let mut forwarding = JoinSet::new();
        while let Some(message) = next_message(&mut from, &mut forwarding).await {
            shared.metrics.requests.increment();
            match decide(&message, asked, asker, &shared, &mut answerer) {
                Next::Close => break,
                Next::Reply(reply) => outgoing.send(&reply, None).await,
                Next::Ask(order, place) => {
                    let (shared, outgoing) = (Arc::clone(&shared), Arc::clone(&outgoing));
                    forwarding.spawn(async move {
                        let (reply, place) = ask(&order, message, place, &shared).await;
                        outgoing.send(&reply, place.as_ref()).await;
                    });
                }
            }
        }
        // What was asked before the client closed its side is still answered.
        while forwarding.join_next().await.is_some() {}
    };
    tokio::select! {
        () = reading => {}
        () = outgoing.over.notified() => {
            tracing::debug!(%client, "a DNS connection broke, or its answers are not read");
        }
    }
}

/// The way back to a client: one answer at a time. Each waits for its turn with whoever has it, so
/// that what has to give way goes wherever it stands in the line.
struct Outgoing<W> {
    to: Mutex<W>,
    /// An answer could not be written: the connection has to end.
    over: Notify,
    metrics: Arc<Metrics>,
}

impl<W: AsyncWrite + Unpin> Outgoing<W> {
    fn new(to: W, metrics: Arc<Metrics>) -> Self {
        Self { to: Mutex::new(to), over: Notify::new(), metrics }
    }

    /// Writes an answer. If the client does not take it, or others need its place meanwhile, the
    /// connection is over: the answers of many who do not read would fill the memory.
    async fn send(&self, reply: &[u8], place: Option<&Place>) {
        let writing = async { write_message(&mut *self.to.lock().await, reply).await };
        let is_written = tokio::select! {
            written = timeout(WRITE_LIMIT, writing) => matches!(written, Ok(Ok(()))),
            () = displaced(place) => {
                self.metrics.connections_closed.increment();
                false
            }
        };
        if !is_written {
            self.over.notify_one();
        }
    }
}

/// Completes when a place has to be given up; never without one.
async fn displaced(place: Option<&Place>) {
    match place {
        Some(place) => place.displaced().await,
        None => pending().await,
    }
}

/// What becomes of a message.
enum Next {
    /// It was no query.
    Close,
    Reply(Vec<u8>),
    /// Upstreams are asked, and there is a place for that.
    Ask(Vec<Upstream>, Place),
}

fn decide(
    message: &[u8],
    asked: Option<SocketAddr>,
    asker: Asker,
    shared: &Shared,
    answerer: &mut Answerer,
) -> Next {
    let mut reply = Vec::new();
    let snapshot = shared.published.load();
    match answerer.respond(message, &snapshot, SocketKind::Tcp, &mut reply) {
        Verdict::Dropped => {
            shared.metrics.malformed.increment();
            return Next::Close;
        }
        Verdict::Malformed => shared.metrics.malformed.increment(),
        Verdict::Answered => {}
        Verdict::Forward(query) => match shared.servers_for(&query, asked) {
            Ok(order) => match shared.streams.place(asker, shared) {
                Some(place) => return Next::Ask(order, place),
                None => {
                    shared.metrics.upstream_failures.increment();
                    wire::fail(&mut reply, &query, Fault::ServFail);
                }
            },
            Err(fault) => wire::fail(&mut reply, &query, fault),
        },
    }
    Next::Reply(reply)
}

/// The reply, and its place among the answers that wait to be read.
async fn ask(
    order: &[Upstream],
    message: Vec<u8>,
    place: Place,
    shared: &Shared,
) -> (Vec<u8>, Option<Place>) {
    shared.metrics.upstream_requests.increment();
    let start = Instant::now();
    let replied = shared.streams.ask(order, &message, place, shared).await;
    shared.metrics.upstream_duration.record(start.elapsed());
    match replied {
        Some((reply, place)) => (reply, Some(place)),
        None => {
            shared.metrics.upstream_failures.increment();
            let mut reply = Vec::new();
            if let Ok(query) = Query::parse(&message) {
                wire::fail(&mut reply, &query, Fault::ServFail);
            }
            (reply, None)
        }
    }
}

/// The next message; nothing once the client is done, idle for too long, or too slow with a message
/// it has begun. With too many questions on their way, it waits until one is answered.
async fn next_message(
    from: &mut BufReader<OwnedReadHalf>,
    forwarding: &mut JoinSet<()>,
) -> Option<Vec<u8>> {
    while forwarding.try_join_next().is_some() {}
    while forwarding.len() >= MAX_PIPELINE {
        forwarding.join_next().await;
    }
    loop {
        // Waiting for the first byte takes nothing off the stream, so it can be given up.
        match timeout(IDLE_LIMIT, from.fill_buf()).await {
            Ok(Ok(bytes)) if !bytes.is_empty() => break,
            Ok(_done_or_broken) => return None,
            // Somebody who waits for an answer is not idle.
            Err(_elapsed) if forwarding.is_empty() => return None,
            Err(_elapsed) => while forwarding.try_join_next().is_some() {},
        }
    }
    timeout(READ_LIMIT, read_message(from)).await.ok()?.ok()
}

/// Questions of one connection that are on their way, and answers that wait to be written.
const MAX_PIPELINE: usize = 16;
/// How long a connection may lie idle. Clients that keep one open ask more often.
const IDLE_LIMIT: Duration = Duration::from_secs(10);
/// How long one message may take to arrive, and one answer to be taken, those before it included.
const READ_LIMIT: Duration = Duration::from_secs(5);
const WRITE_LIMIT: Duration = Duration::from_secs(5);
/// Bytes buffered of a connection: most queries come whole.
const READ_BUFFER: usize = 1024;
/// The pause after a connection could not be accepted.
const ACCEPT_PAUSE: Duration = Duration::from_millis(50);

#[cfg(test)]
mod tests {
    use tokio::io::duplex;

    use super::*;
    use crate::shares::Places;

    #[tokio::test]
    async fn an_answer_gives_way_wherever_it_stands_in_the_line() {
        let (ours, client) = duplex(16);
        let outgoing = Outgoing::new(ours, Arc::default());
        let places = Places::new(1);
        let [greedy, other] = [1, 2].map(|uid| Asker::Process { uid, cgroup: 1 });
        let place = places.take(greedy);
        // Nobody reads: the first one stands, and needs no place.
        let first = outgoing.send(&[0; 100], None);
        let second = outgoing.send(&[0; 100], place.as_ref());
        tokio::pin!(first, second);
        for _ in 0..3 {
            let none = timeout(Duration::from_millis(5), async {
                tokio::select! { () = &mut first => {}, () = &mut second => {} }
            });
            assert!(none.await.is_err());
        }
        assert!(places.take(other).is_some());
        second.await;
        outgoing.over.notified().await;
        assert_eq!(outgoing.metrics.connections_closed.get(), 1);
        drop(client);
    }

    #[tokio::test(start_paused = true)]
    async fn all_answers_in_the_line_have_one_limit() {
        let (ours, _client) = duplex(16);
        let outgoing = Outgoing::new(ours, Arc::default());
        let start = tokio::time::Instant::now();
        tokio::join!(outgoing.send(&[0; 100], None), outgoing.send(&[0; 100], None));
        assert_eq!(start.elapsed(), WRITE_LIMIT);
    }
}
