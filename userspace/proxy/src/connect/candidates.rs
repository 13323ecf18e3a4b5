//! The endpoints that may be tried for one connection, one after the other.

use std::{collections::VecDeque, net::IpAddr, sync::Arc};

use crate::{
    addrs::UpstreamAddr,
    cluster::{Choice, ClusterSpec, Host, HostLease, HostState, Mesh},
};

/// An endpoint to be tried.
#[derive(Debug)]
pub(super) struct Candidate {
    pub(super) addr: UpstreamAddr,
    pub(super) mesh: Mesh,
    /// What is known of an endpoint of the cluster, whose load counts this attempt.
    pub(super) endpoint: Option<(Arc<HostState>, HostLease)>,
}

/// Where candidates come from.
pub(super) enum Candidates<'a> {
    /// A cluster that chooses among its endpoints.
    Chosen {
        choice: Choice<'a>,
        /// Those that were passed over for one of the other family; the next ones to be tried.
        passed: VecDeque<&'a Host>,
        /// Whether one of the other family may be tried while one has not answered yet.
        both_families: bool,
    },
    /// The addresses of one name, the families in turn (RFC 8305 §4).
    OfName { addresses: std::vec::IntoIter<IpAddr>, port: u16 },
    /// One address.
    Only(Option<UpstreamAddr>),
}

impl<'a> Candidates<'a> {
    /// The endpoints of a cluster in the order of its choice.
    pub(super) fn chosen(choice: Choice<'a>, spec: &ClusterSpec) -> Self {
        let both_families = spec.has_names_of_both_families();
        Self::Chosen { choice, passed: VecDeque::new(), both_families }
    }

    /// The addresses of a name in the order of its answer, but the families in turn.
    pub(super) fn of_name(addresses: &[IpAddr], port: u16) -> Self {
        let of = |v4: bool| addresses.iter().filter(move |ip| ip.is_ipv4() == v4).copied();
        let v4_first = addresses.first().is_none_or(IpAddr::is_ipv4);
        let (mut first, mut other) = (of(v4_first), of(!v4_first));
        let mut in_turn = Vec::with_capacity(addresses.len());
        while in_turn.len() < addresses.len() {
            in_turn.extend(first.next().into_iter().chain(other.next()));
        }
        Self::OfName { addresses: in_turn.into_iter(), port }
    }

    /// The next one.
    pub(super) fn next(&mut self) -> Option<Candidate> {
        match self {
            Self::Chosen { choice, passed, .. } => {
                passed.pop_front().or_else(|| choice.next()).map(candidate)
            }
            Self::OfName { addresses, port } => {
                addresses.next().map(|ip| at(UpstreamAddr::Ip((ip, *port).into())))
            }
            Self::Only(addr) => addr.take().map(at),
        }
    }

    /// The next one that may be tried while another one has not answered yet. For a name, any address:
    /// they are the same to whoever asked for it. For a cluster, one of the other family: an endpoint
    /// that is only slow is no reason to bother the next.
    pub(super) fn beside(&mut self, running: &UpstreamAddr) -> Option<Candidate> {
        match self {
            Self::Chosen { choice, passed, both_families: true } => {
                let is_other = |host: &&Host| is_v4(&host.addr) != is_v4(running);
                if let Some(at) = passed.iter().position(&is_other) {
                    return passed.remove(at).map(candidate);
                }
                loop {
                    let host = choice.next()?;
                    if is_other(&host) {
                        return Some(candidate(host));
                    }
                    passed.push_back(host);
                }
            }
            Self::Chosen { both_families: false, .. } => None,
            Self::OfName { .. } | Self::Only(_) => self.next(),
        }
    }
}

fn candidate(host: &Host) -> Candidate {
    let endpoint = Some((Arc::clone(&host.state), host.state.lease()));
    Candidate { addr: host.addr.clone(), mesh: host.mesh.clone(), endpoint }
}

fn at(addr: UpstreamAddr) -> Candidate {
    Candidate { addr, mesh: Mesh::default(), endpoint: None }
}

fn is_v4(addr: &UpstreamAddr) -> Option<bool> {
    match addr {
        UpstreamAddr::Ip(addr) => Some(addr.is_ipv4()),
        UpstreamAddr::Unix(_) => None,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_families_of_a_name_in_turn() {
        let ip = |text: &str| text.parse::<IpAddr>().unwrap();
        let order = |list: &[&str]| {
            let addresses: Vec<_> = list.iter().map(|text| ip(text)).collect();
            let mut candidates = Candidates::of_name(&addresses, 80);
            let mut order = Vec::new();
            while let Some(candidate) = candidates.next() {
                order.push(candidate.addr.to_string());
            }
            order.join(" ")
        };
        assert_eq!(order(&[]), "");
        let both = ["192.0.2.1", "192.0.2.2", "192.0.2.3", "2001:db8::1"];
        assert_eq!(order(&both), "192.0.2.1:80 [2001:db8::1]:80 192.0.2.2:80 192.0.2.3:80");
        assert_eq!(order(&["2001:db8::1", "192.0.2.1"]), "[2001:db8::1]:80 192.0.2.1:80");
        assert_eq!(order(&["2001:db8::1", "2001:db8::2"]), "[2001:db8::1]:80 [2001:db8::2]:80");
    }
}
