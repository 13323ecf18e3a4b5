//! Addresses of this machine.

use std::{
    collections::BTreeSet,
    net::IpAddr,
    sync::{Mutex, PoisonError},
    time::{Duration, Instant},
};

use nix::ifaddrs::{InterfaceAddress, getifaddrs};

/// Knows which addresses are this machine's, as of a few seconds ago.
#[derive(Debug, Default)]
pub(super) struct OwnAddresses(Mutex<Listed>);

#[derive(Debug, Default)]
struct Listed {
    at: Option<Instant>,
    addresses: BTreeSet<IpAddr>,
}

impl OwnAddresses {
    /// Whether an interface of this network namespace has the address. Those that kube-proxy puts on an
    /// interface in IPVS mode are of services, wherever those are.
    pub(super) fn contains(&self, ip: IpAddr) -> bool {
        let mut listed = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        if listed.at.is_none_or(|at| at.elapsed() >= GOOD_FOR) {
            match getifaddrs() {
                Ok(all) => {
                    let own = all.filter(|one| one.interface_name != OF_SERVICES);
                    listed.addresses = own.filter_map(|one| address(&one)).collect();
                }
                Err(error) => {
                    tracing::warn!(%error, "the addresses of this machine cannot be listed");
                }
            }
            listed.at = Some(Instant::now());
        }
        listed.addresses.contains(&ip.to_canonical())
    }
}

fn address(one: &InterfaceAddress) -> Option<IpAddr> {
    let address = one.address.as_ref()?;
    let v4 = address.as_sockaddr_in().map(|v4| IpAddr::V4(v4.ip()));
    v4.or_else(|| address.as_sockaddr_in6().map(|v6| IpAddr::V6(v6.ip())))
}

/// How long a list is good: making one takes up to a millisecond where there are hundreds of
/// interfaces.
const GOOD_FOR: Duration = Duration::from_secs(5);
/// kube-proxy's interface with the addresses of all services (pkg/proxy/ipvs, `DefaultDummyDevice`).
const OF_SERVICES: &str = "kube-ipvs0";

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_interfaces_have_is_ours() {
        let own = OwnAddresses::default();
        assert!(own.contains("127.0.0.1".parse().unwrap()));
        assert!(own.contains("::ffff:127.0.0.1".parse().unwrap()));
        for other in ["192.0.2.1", "2001:db8::1", "240.240.0.1"] {
            assert!(!own.contains(other.parse().unwrap()), "{other}");
        }
    }
}
