//! Replies on their way back to those who asked by datagram.

use std::{
    net::{SocketAddr, UdpSocket},
    sync::Arc,
    time::Instant,
};

use crate::{
    server::{
        Shared,
        datagram::{Ends, send_one},
    },
    shares::Asker,
    socket::{Askers, SocketKind},
    upstream::Upstream,
    wire::{self, Fault, Query},
};

/// Where a query has come from.
pub(crate) struct Sender<'a> {
    /// The socket it came by.
    pub(crate) socket: &'a Arc<UdpSocket>,
    /// The port of that socket.
    pub(crate) port: u16,
    /// Where it came from and went to.
    pub(crate) ends: Ends,
    /// Who may know whose it is.
    pub(crate) askers: Option<&'a dyn Askers>,
}

impl Sender<'_> {
    /// Our address that the query was sent to, if that is known.
    pub(crate) fn local(&self) -> Option<SocketAddr> {
        self.ends.local.map(|local| SocketAddr::new(local, self.port))
    }

    /// Whose the query is.
    pub(crate) fn asker(&self, kind: SocketKind) -> Asker {
        asker(self.askers, kind, self.ends.client, self.local())
    }
}

/// Whose socket has the address `client`, as far as that is known.
pub(crate) fn asker(
    askers: Option<&dyn Askers>,
    kind: SocketKind,
    client: SocketAddr,
    local: Option<SocketAddr>,
) -> Asker {
    let known = askers.zip(local).and_then(|(askers, local)| askers.asker(kind, client, local));
    known.unwrap_or(Asker::Address(client.ip()))
}

/// Somebody who has asked and waits.
pub(crate) struct Client {
    /// The socket the query came by.
    pub(crate) socket: Arc<UdpSocket>,
    /// Where it came from and went to.
    pub(crate) ends: Ends,
    /// The query as it came.
    pub(crate) query: Vec<u8>,
    /// The largest reply that can be taken.
    pub(crate) limit: usize,
    /// When it came.
    pub(crate) since: Instant,
    /// Whose share of what may wait it counts against.
    pub(crate) asker: Asker,
}

impl Client {
    /// Ends the wait: with a reply, as it came but for the id, or with SERVFAIL.
    pub(crate) fn finish(self, reply: Option<Vec<u8>>, shared: &Shared) {
        shared.metrics.upstream_duration.record(self.since.elapsed());
        let reply = match reply {
            Some(mut reply) => {
                wire::set_id(&mut reply, wire::id(&self.query).unwrap_or_default());
                reply
            }
            None => {
                shared.metrics.upstream_failures.increment();
                let Ok(query) = Query::parse(&self.query) else { return };
                let mut reply = Vec::new();
                wire::fail(&mut reply, &query, Fault::ServFail);
                reply
            }
        };
        if let Err(error) = send_one(&self.socket, self.ends, reply) {
            tracing::debug!(client = %self.ends.client, %error, "an answer could not be sent");
        }
    }

    /// Lets the runtime ask these servers over connections, and finishes from there; at once, if there
    /// is no place for that. `fallback` is what a server has said that could not help.
    pub(crate) fn ask_over_connections(
        self,
        order: Vec<Upstream>,
        fallback: Option<Vec<u8>>,
        shared: &Arc<Shared>,
    ) {
        let Some(place) = shared.streams.place(self.asker, shared) else {
            return self.finish(fallback, shared);
        };
        let runtime = shared.connections.clone();
        let shared = Arc::clone(shared);
        runtime.spawn(async move {
            let reply = shared.streams.ask(&order, &self.query, place, &shared).await;
            // Sent at once: there is nobody to wait for.
            let mut reply = reply.map(|(reply, _place)| reply).or(fallback);
            // A connection carries more than a datagram: the client is to ask over TCP.
            if let Some(reply) = &mut reply
                && reply.len() > self.limit
            {
                wire::truncate(reply);
            }
            self.finish(reply, &shared);
        });
    }
}

#[cfg(test)]
mod tests {
    use std::{net::Ipv4Addr, time::Duration};

    use tokio::runtime::Builder;

    use super::*;
    use crate::{
        answer::Services, metrics::Metrics, plain_socket, server::Wiring, socket::NotKnown,
        upstream::Transport,
    };

    #[test]
    fn what_has_no_place_makes_no_task() {
        // A thread that does not get to it.
        let runtime = Builder::new_current_thread().build().unwrap();
        let metrics = Arc::<Metrics>::default();
        let wiring = Wiring {
            threads: 1,
            sockets: Arc::new(plain_socket),
            asked: Arc::new(NotKnown),
            heartbeat: Arc::new(|| {}),
            services: Services::default(),
            metrics: Arc::clone(&metrics),
            tls: None,
        };
        let shared = Arc::new(Shared::new(wiring, runtime.handle().clone()));
        let application = UdpSocket::bind("127.0.0.1:0").unwrap();
        application.set_read_timeout(Some(Duration::from_secs(5))).unwrap();
        let socket = Arc::new(UdpSocket::bind("127.0.0.1:0").unwrap());
        let query = [&[7, 7, 1, 0, 0, 1, 0, 0, 0, 0, 0, 0][..], b"\x01a\x00\x00\x01\x00\x01"];
        let address = "127.0.0.1:9".parse().unwrap();
        for _ in 0..1000 {
            let client = Client {
                socket: Arc::clone(&socket),
                ends: Ends { client: application.local_addr().unwrap(), local: None },
                query: query.concat(),
                limit: wire::PLAIN_UDP,
                since: Instant::now(),
                asker: Asker::Address(Ipv4Addr::LOCALHOST.into()),
            };
            let order = vec![Upstream { address, transport: Transport::Tcp }];
            client.ask_over_connections(order, None, &shared);
        }
        // Some may have had their time before the last ones came.
        let tasks = runtime.handle().metrics().num_alive_tasks();
        let displaced = 1000 - usize::try_from(metrics.upstream_refused.get()).unwrap();
        assert!(tasks >= 512 && tasks <= displaced, "{tasks} tasks: {metrics}");
        assert!(metrics.upstream_refused.get() > 100, "{metrics}");
        // Who is refused hears of it at once.
        let mut reply = [0; 64];
        let length = application.recv(&mut reply).unwrap();
        assert!(length >= 12 && reply[..2] == [7, 7] && reply[3] & 15 == 2, "{reply:?}");
    }
}
