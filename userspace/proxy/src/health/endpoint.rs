//! The endpoints of a cluster that is checked, and how their last probes went.

use std::{collections::HashMap, sync::Arc};

use egressd_tables::HealthCheck;

use crate::{
    addrs::UpstreamAddr,
    cluster::{Cluster, HostSet, HostState},
};

/// The endpoints of a cluster that is checked. When this goes, nobody is out for its probes.
#[derive(Default)]
pub(super) struct Watched {
    cluster: Option<Arc<Cluster>>,
    endpoints: HashMap<UpstreamAddr, Endpoint>,
}

struct Endpoint {
    state: Arc<HostState>,
    failing: bool,
    /// Probes in a row that went the other way.
    against: u32,
}

impl Watched {
    /// Watches these endpoints, and forgets all others.
    pub(super) fn keep(&mut self, cluster: Arc<Cluster>, hosts: &HostSet) {
        let mut before = std::mem::take(&mut self.endpoints);
        for host in hosts.iter() {
            let new = || Endpoint { state: Arc::clone(&host.state), failing: false, against: 0 };
            let endpoint = before.remove(&host.addr).filter(|known| known.is(&host.state));
            self.endpoints.insert(host.addr.clone(), endpoint.unwrap_or_else(new));
        }
        for (addr, gone) in before {
            cluster.set_failing(&addr, &gone.state, false);
        }
        self.cluster = Some(cluster);
    }

    /// Takes the result of a probe.
    pub(super) fn note(&mut self, addr: &UpstreamAddr, well: bool, settings: &HealthCheck) {
        let (Some(cluster), Some(endpoint)) = (&self.cluster, self.endpoints.get_mut(addr)) else {
            return;
        };
        if well != endpoint.failing {
            endpoint.against = 0;
            return;
        }
        endpoint.against += 1;
        let most = if well { settings.healthy_threshold } else { settings.unhealthy_threshold };
        if endpoint.against >= most {
            endpoint.failing = !well;
            endpoint.against = 0;
            cluster.set_failing(addr, &endpoint.state, endpoint.failing);
        }
    }
}

impl Endpoint {
    fn is(&self, state: &Arc<HostState>) -> bool {
        Arc::ptr_eq(&self.state, state)
    }
}

impl Drop for Watched {
    fn drop(&mut self) {
        let Some(cluster) = &self.cluster else { return };
        for (addr, endpoint) in &self.endpoints {
            cluster.set_failing(addr, &endpoint.state, false);
        }
    }
}

#[cfg(test)]
mod tests {
    use std::{net::SocketAddr, time::Duration};

    use egressd_tables::Probe;

    use super::*;
    use crate::testing::{Names, cluster};

    #[test]
    fn three_failures_take_it_out_and_two_successes_bring_it_back() {
        let settings = HealthCheck {
            interval: Duration::from_secs(1),
            timeout: Duration::from_secs(1),
            unhealthy_threshold: 3,
            healthy_threshold: 2,
            probe: Probe::Tcp,
            tls: false,
        };
        let addr = UpstreamAddr::from("10.0.0.1:80".parse::<SocketAddr>().unwrap());
        let cluster = Arc::new(Cluster::new(cluster(std::slice::from_ref(&addr))));
        let all = cluster.known_hosts(&Names::default()).unwrap();
        let mut watched = Watched::default();
        watched.keep(Arc::clone(&cluster), &all);
        let is_in = || !cluster.known_hosts(&Names::default()).unwrap().is_empty();
        let mut after = |results: &[bool]| {
            for well in results {
                watched.note(&addr, *well, &settings);
            }
            is_in()
        };
        assert!(after(&[false, false, true, false, false]));
        assert!(!after(&[false]));
        assert!(!after(&[true, false, true]));
        assert!(after(&[true]));
        assert!(!after(&[false, false, false]));
        drop(watched);
        assert!(is_in());
    }
}
