//! Replies on their way back to those who asked by datagram.

use std::{net::UdpSocket, sync::Arc, time::Instant};

use crate::{
    server::{
        Shared,
        datagram::{Ends, send_one},
    },
    upstream::Upstream,
    wire::{self, Fault, Query},
};

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

    /// Lets the runtime ask these servers over connections, and finishes from there. `fallback` is
    /// what a server has said that could not help.
    pub(crate) fn ask_over_connections(
        self,
        order: Vec<Upstream>,
        fallback: Option<Vec<u8>>,
        shared: &Arc<Shared>,
    ) {
        let runtime = shared.runtime.clone();
        let shared = Arc::clone(shared);
        runtime.spawn(async move {
            let reply = shared.streams.ask(&order, &self.query).await;
            let mut reply = reply.ok().or(fallback);
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
