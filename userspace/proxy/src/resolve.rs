//! Names to addresses.

use std::{
    future::Future,
    net::{IpAddr, Ipv4Addr, Ipv6Addr},
    pin::Pin,
    sync::Arc,
};

use egressd_tables::IpFamilies;

/// The addresses of a name, in the order of the answer. The same allocation means the same answer.
pub type Addresses = Arc<[IpAddr]>;

/// A lookup under way.
pub type Resolving<'a> = Pin<Box<dyn Future<Output = Result<Addresses, ResolveError>> + Send + 'a>>;

/// What becomes of a name.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum NameEvent {
    /// Its addresses are others, or it has none any more.
    Changed,
    /// Nobody uses it, and it is not kept up to date any more.
    Idle,
}

/// Hears what becomes of names. Called where answers arrive: it must not wait.
pub type NameListener = Box<dyn Fn(&str, NameEvent) + Send + Sync>;

/// Resolves the names of endpoints.
///
/// Asked for every connection to a name, so an implementation keeps answers, and returns the same
/// allocation for the same answer: clusters rebuild their endpoints when it changes.
pub trait Resolver: Send + Sync + 'static {
    /// The addresses of `name` if they are known without waiting. Default: they are not.
    fn cached(&self, name: &str, families: IpFamilies) -> Option<Addresses> {
        let _ = (name, families);
        None
    }

    /// As [`Resolver::cached`], but does not count as use of the name. Default: the same.
    fn peek(&self, name: &str, families: IpFamilies) -> Option<Addresses> {
        self.cached(name, families)
    }

    /// Tells `told` from now on what becomes of names. Default: nobody is told anything.
    fn follow(&self, told: NameListener) {
        let _ = told;
    }

    /// The addresses of `name`, of these families only and at least one.
    fn resolve<'a>(&'a self, name: &'a str, families: IpFamilies) -> Resolving<'a>;

    /// As [`Resolver::resolve`], for a name that a connection or a request brings (DYNAMIC_DNS):
    /// anybody may bring any number, so an implementation bounds these by themselves. Default: there
    /// is no difference.
    fn resolve_asked<'a>(&'a self, name: &'a str, families: IpFamilies) -> Resolving<'a> {
        self.resolve(name, families)
    }

    /// Whether a connection to a name that a connection or a request brings, or to a port that nobody
    /// has declared, may end at this address. Default: not if it [`is_local`].
    fn admits(&self, ip: IpAddr) -> bool {
        !is_local(ip)
    }
}

/// Addresses that a name from outside must not lead to, whoever answers for it: what this node, its
/// link or its cloud alone can reach. Loopback is the node's own, also for containers; 169.254.0.0/16
/// and two more have credentials of cloud machines to give away. Private networks are not among them:
/// that is where many services are.
pub fn is_local(ip: IpAddr) -> bool {
    match ip.to_canonical() {
        IpAddr::V4(ip) => {
            ip.is_loopback()
                || ip.is_link_local()
                || ip.is_multicast()
                || ip.is_broadcast()
                // 0.0.0.0/8 is this host.
                || ip.octets()[0] == 0
                || ip == METADATA_V4
        }
        IpAddr::V6(ip) => {
            ip.is_loopback()
                || ip.is_unspecified()
                || ip.is_unicast_link_local()
                || ip.is_multicast()
                || ip == METADATA_V6
        }
    }
}

/// Metadata service of Alibaba Cloud.
const METADATA_V4: Ipv4Addr = Ipv4Addr::new(100, 100, 100, 200);
/// Instance metadata of EC2.
const METADATA_V6: Ipv6Addr = Ipv6Addr::new(0xfd00, 0xec2, 0, 0, 0, 0, 0, 0x254);

/// A name has no address.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("resolving {name}: {reason}")]
pub struct ResolveError {
    /// The name.
    pub name: Arc<str>,
    /// Why, in the words of whoever was asked.
    pub reason: Arc<str>,
    /// The name may be good: there was no room to find out.
    pub overload: bool,
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_local() {
        for ip in [
            "127.0.0.1",
            "127.64.0.1",
            "0.0.0.0",
            "0.1.2.3",
            "169.254.169.254",
            "224.0.0.1",
            "255.255.255.255",
            "100.100.100.200",
            "::",
            "::1",
            "fe80::1",
            "ff02::1",
            "fd00:ec2::254",
            "::ffff:127.0.0.1",
            "::ffff:169.254.169.254",
        ] {
            assert!(is_local(ip.parse().unwrap()), "{ip}");
        }
        for ip in [
            "10.0.0.1",
            "192.168.1.1",
            "172.16.0.1",
            "100.64.0.1",
            "192.0.2.1",
            "fd00::1",
            "2001:db8::1",
        ] {
            assert!(!is_local(ip.parse().unwrap()), "{ip}");
        }
    }
}
