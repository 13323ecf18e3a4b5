//! Connections to endpoints, kept for further requests.
//!
//! Each worker has its own, so that an exchange never leaves its thread; the limits of a cluster count
//! over all of them. An HTTP/1 connection has no task: whoever sends a request on it drives it, which
//! saves two turns of the event loop a request. An HTTP/2 connection carries many requests and has one.
//!
//! A worker without any connection to an endpoint may always open one, also beyond `maxConnections`:
//! nobody else could end its waiting. Envoy does the same.

mod h1;
mod h2;
mod host;
mod sweep;

use std::{
    collections::HashMap,
    sync::{
        Arc, Mutex, MutexGuard, PoisonError, Weak,
        atomic::{AtomicBool, Ordering},
    },
};

use egressd_tables::{Cluster, Sni, UpstreamTls};
use tokio::time::Instant;

pub(crate) use self::{
    h1::{Exchanged, H1, Unsent},
    h2::H2,
};
use self::{host::HostPool, sweep::sweep_until_empty};
use super::{
    binding::Owner,
    circuit::{Circuit, Circuits, Limited, Permit},
    upstream::{Connector, NotConnected, Origin, Picked, Target, bare_host},
};
use crate::{
    FastMap,
    addrs::{ClientAddr, OriginalDst, UpstreamAddr},
    cluster::Mesh,
};

/// The connections of one worker.
pub(crate) struct Pools {
    me: Weak<Self>,
    connector: Arc<dyn Connector>,
    circuits: Arc<Circuits>,
    clusters: Mutex<FastMap<Arc<str>, Arc<ClusterPool>>>,
    sweeping: AtomicBool,
}

/// The connections to one cluster, as one or several generations describe it alike.
pub(crate) struct ClusterPool {
    cluster: Arc<Cluster>,
    /// What the cluster has under way.
    pub(crate) circuit: Arc<Circuit>,
    hosts: Mutex<HashMap<HostKey, Arc<HostPool>>>,
}

/// What connections must have in common to be used for each other.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
struct HostKey {
    addr: UpstreamAddr,
    mesh: Mesh,
    /// Both ends of the application's connection, where the endpoint is told of it.
    told: Option<(ClientAddr, OriginalDst)>,
    /// The server name, where requests choose it.
    name: Option<Box<str>>,
}

/// Where a request is to be sent.
#[derive(Clone, Copy)]
pub(crate) struct Way<'a> {
    /// The endpoint.
    pub(crate) picked: &'a Picked,
    /// Host or :authority of the request.
    pub(crate) authority: &'a str,
    /// Where the request came from.
    pub(crate) origin: &'a Origin,
    /// Who may have connections of its own.
    pub(crate) owner: Option<&'a Arc<Owner>>,
}

/// Why there is no connection for a request.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum NoConnection {
    /// A limit of the cluster is reached.
    Overflow,
    /// The limit of all clusters together is reached.
    Full,
    /// Connecting failed.
    Failed(NotConnected),
}

impl Pools {
    /// Nothing is connected.
    pub(crate) fn new(connector: Arc<dyn Connector>, circuits: Arc<Circuits>) -> Arc<Self> {
        Arc::new_cyclic(|me| Self {
            me: Weak::clone(me),
            connector,
            circuits,
            clusters: Mutex::default(),
            sweeping: AtomicBool::new(false),
        })
    }

    /// The pool of a cluster. A new generation keeps it unless something changes that connections
    /// depend on.
    pub(crate) fn cluster(&self, cluster: &Arc<Cluster>) -> Arc<ClusterPool> {
        let mut clusters = self.lock();
        let known = clusters.get(&cluster.name);
        if let Some(known) = known
            && Arc::ptr_eq(&known.cluster, cluster)
        {
            return Arc::clone(known);
        }
        let hosts = match known {
            Some(known) if connects_alike(&known.cluster, cluster) => {
                // Connections under way find their way back to the same hosts.
                known.lock().clone()
            }
            Some(_) | None => HashMap::new(),
        };
        let pool = Arc::new(ClusterPool {
            cluster: Arc::clone(cluster),
            circuit: self.circuits.get(&cluster.name),
            hosts: Mutex::new(hosts),
        });
        clusters.insert(Arc::clone(&cluster.name), Arc::clone(&pool));
        if !self.sweeping.swap(true, Ordering::Relaxed) {
            tokio::spawn(sweep_until_empty(Weak::clone(&self.me)));
        }
        pool
    }

    /// Whether no connection is open, kept, or being made.
    #[cfg(test)]
    pub(crate) fn is_empty(&self) -> bool {
        self.lock().values().all(|cluster| cluster.lock().values().all(|host| host.is_empty()))
    }

    /// Makes sure that all clusters together may have one more connection.
    fn room_for(&self, circuit: &Circuit) -> Result<(), NoConnection> {
        if circuit.is_full() && !self.make_room() {
            circuit.warn();
            return Err(NoConnection::Full);
        }
        Ok(())
    }

    /// Closes the connection that has been without a request for longest; says whether there was one.
    fn make_room(&self) -> bool {
        let clusters: Vec<_> = self.lock().values().cloned().collect();
        let idle = clusters.iter().filter_map(|cluster| cluster.longest_idle(|_| true));
        let longest = idle.min_by_key(|(since, _)| *since);
        longest.is_some_and(|(_, host)| host.close_idle())
    }

    fn connector(&self) -> &dyn Connector {
        &*self.connector
    }

    fn lock(&self) -> MutexGuard<'_, FastMap<Arc<str>, Arc<ClusterPool>>> {
        self.clusters.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl ClusterPool {
    fn host(&self, way: Way<'_>) -> Arc<HostPool> {
        let key = HostKey {
            addr: way.picked.addr.clone(),
            mesh: way.picked.mesh.clone(),
            told: self.tells().then_some((way.origin.client, way.origin.destination)),
            name: self.named_by_request().then(|| folded(bare_host(way.authority))),
        };
        Arc::clone(self.lock().entry(key).or_default())
    }

    /// Leave for a connection beyond `maxConnections` to an address that this worker has none to, under
    /// whatever name; nothing if another was closed for it, and asking again may help.
    fn force(&self, addr: &UpstreamAddr) -> Result<Option<Permit>, NoConnection> {
        if !self.is_connected_to(addr) {
            return Ok(Some(self.circuit.force(Limited::Connections)));
        }
        if self.close_idle(addr) { Ok(None) } else { Err(NoConnection::Overflow) }
    }

    /// Whether this worker has a connection to an address, under whatever name.
    fn is_connected_to(&self, addr: &UpstreamAddr) -> bool {
        self.lock().iter().any(|(key, host)| key.addr == *addr && host.lock().open > 0)
    }

    /// Closes a connection to an address that has no request; says whether there was one.
    fn close_idle(&self, addr: &UpstreamAddr) -> bool {
        let longest = self.longest_idle(|key| key.addr == *addr);
        longest.is_some_and(|(_, host)| host.close_idle())
    }

    /// Where a connection has been without a request for longest, and since when.
    fn longest_idle(&self, of: impl Fn(&HostKey) -> bool) -> Option<(Instant, Arc<HostPool>)> {
        let hosts = self.lock();
        let hosts = hosts.iter().filter(|(key, _)| of(key));
        let idle = hosts.filter_map(|(_, host)| Some((host.idle_since()?, host)));
        idle.min_by_key(|(since, _)| *since).map(|(since, host)| (since, Arc::clone(host)))
    }

    /// Whether endpoints are told whose connection it is, which then is no other's.
    fn tells(&self) -> bool {
        self.cluster.proxy_protocol.is_some()
    }

    fn named_by_request(&self) -> bool {
        match &self.cluster.tls {
            UpstreamTls::Plaintext => false,
            UpstreamTls::Originate(tls) | UpstreamTls::Auto(tls) => {
                matches!(tls.sni, Sni::RequestHost { .. })
            }
        }
    }

    fn target<'a>(&'a self, way: Way<'a>, http2: bool) -> Target<'a> {
        Target {
            cluster: &self.cluster,
            addr: &way.picked.addr,
            mesh: &way.picked.mesh,
            origin: self.tells().then_some(way.origin),
            host: bare_host(way.authority),
            http2,
        }
    }

    fn lock(&self) -> MutexGuard<'_, HashMap<HostKey, Arc<HostPool>>> {
        self.hosts.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// A name as certificates are compared with it: however it is written, it is one name and one pool.
fn folded(name: &str) -> Box<str> {
    name.strip_suffix('.').unwrap_or(name).to_ascii_lowercase().into()
}

/// Whether connections made for one are good for the other.
fn connects_alike(one: &Cluster, other: &Cluster) -> bool {
    one.tls == other.tls
        && one.http == other.http
        && one.pool == other.pool
        && one.proxy_protocol == other.proxy_protocol
        && one.connect_timeout == other.connect_timeout
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_name_is_one_however_it_is_written() {
        for name in ["api.example", "Api.eXample", "API.EXAMPLE."] {
            assert_eq!(&*folded(name), "api.example");
        }
    }
}
