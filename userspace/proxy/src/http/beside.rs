//! Happy eyeballs for requests (RFC 8305): an address that does not answer at once holds up no request
//! that has another one.
//!
//! As for connections carried as bytes: for a name that a request asks for, any address is as good; in
//! a cluster, only one of the other family is tried beside one that is slow.

use std::pin::Pin;

use egressd_tables::{Discovery, IpFamilies};
use tokio::time::timeout;

use super::{
    attempt::Attempts,
    pool::NoConnection,
    response_body::UpstreamConnection,
    upstream::{Picked, Picking, Wish},
};
use crate::{addrs::UpstreamAddr, cluster::Observation, connect::HEAD_START};

type Connected = Result<UpstreamConnection, NoConnection>;

impl Attempts<'_> {
    /// Waits for a connection to `first`, and beside it, once that has had its time, for one to
    /// another endpoint; gives that endpoint if it was the faster one.
    pub(super) async fn beside(
        &self,
        mut connecting: Pin<&mut (impl Future<Output = Connected> + Send)>,
        first: &Picked,
    ) -> Result<(UpstreamConnection, Option<Picked>), NoConnection> {
        if let Ok(connected) = timeout(HEAD_START, connecting.as_mut()).await {
            return Ok((connected?, None));
        }
        let Some(other) = self.other(first) else { return Ok((connecting.await?, None)) };
        let result = {
            let mut beside = Box::pin(self.connect(&other));
            tokio::select! {
                connected = connecting.as_mut() => match connected {
                    Ok(connection) => return Ok((connection, None)),
                    Err(_) => {
                        let seen = Observation::NotConnected;
                        self.worker.picker.observe(self.cluster, first, seen);
                        beside.await
                    }
                },
                connected = &mut beside => match connected {
                    Ok(connection) => Ok(connection),
                    Err(_) => return Ok((connecting.await?, None)),
                },
            }
        };
        Ok((result?, Some(other)))
    }

    /// An endpoint that may be tried beside this one, if that is known without waiting.
    fn other(&self, first: &Picked) -> Option<Picked> {
        let any_address = match self.cluster.discovery {
            Discovery::StrictDns(families) | Discovery::LogicalDns(families) => {
                if families != IpFamilies::Dual {
                    return None;
                }
                false
            }
            Discovery::DynamicForwardProxy { .. } | Discovery::OriginalDst { .. } => true,
            Discovery::Static => return None,
        };
        let tried: Vec<_> = self.tried.iter().chain([&first.addr]).cloned().collect();
        let wish = Wish {
            authority: self.outgoing.authority(),
            origin: self.origin,
            hash: self.hash,
            tried: &tried,
            reselections: self.reselections.max(LOOKS),
        };
        let Picking::Now(Ok(other)) = self.worker.picker.pick(self.cluster, wish) else {
            return None;
        };
        let is_new = !tried.contains(&other.addr);
        (is_new && (any_address || is_v4(&other.addr) != is_v4(&first.addr))).then_some(other)
    }
}

fn is_v4(addr: &UpstreamAddr) -> Option<bool> {
    match addr {
        UpstreamAddr::Ip(addr) => Some(addr.is_ipv4()),
        UpstreamAddr::Unix(_) => None,
    }
}

/// How often another endpoint is looked for.
const LOOKS: u32 = 8;
