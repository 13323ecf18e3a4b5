//! Names to addresses.

use std::{
    future::Future,
    net::{IpAddr, Ipv4Addr, Ipv6Addr},
    pin::Pin,
    sync::Arc,
};

use egressd_tables::IpFamilies;

use crate::{addrs::ClientAddr, original::Original};

/// The addresses of a name, in the order of the answer. The same allocation means the same answer.
pub type Addresses = Arc<[IpAddr]>;

/// A lookup under way.
pub type Resolving<'a> = Pin<Box<dyn Future<Output = Result<Addresses, ResolveError>> + Send + 'a>>;

/// Whose connection or request brings a name.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Asker {
    /// A process on this node.
    Process {
        /// The user who called connect().
        uid: u32,
        /// Its cgroup.
        cgroup: u64,
    },
    /// A client that dialled us: nothing else is known of it.
    Address(IpAddr),
}

impl Asker {
    /// Whose a connection is: the process that the kernel has seen, or else its address.
    pub(crate) fn of(original: &Original, client: ClientAddr) -> Self {
        match *original {
            Original { cgroup: 0, .. } => Self::Address(client.0.ip()),
            Original { uid, cgroup, .. } => Self::Process { uid, cgroup },
        }
    }
}

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

    /// Sees to it that `name` is being resolved, for a cluster that does not wait for it. Counts as use.
    fn want(&self, name: &str, families: IpFamilies);

    /// As [`Resolver::resolve`], for a name that a connection or a request brings (DYNAMIC_DNS):
    /// anybody may bring any number, so an implementation bounds these by themselves, and shares them
    /// out among those who ask. Default: there is no difference.
    fn resolve_asked<'a>(
        &'a self,
        name: &'a str,
        families: IpFamilies,
        asker: Asker,
    ) -> Resolving<'a> {
        let _ = asker;
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
/// and others have credentials of cloud machines to give away. IPv6 addresses that a translator or a
/// tunnel turns into IPv4 ones are as those. Private networks are not among them: that is where many
/// services are.
pub fn is_local(ip: IpAddr) -> bool {
    match ip.to_canonical() {
        IpAddr::V4(ip) => {
            // 0.0.0.0/8 is this host.
            ip.octets()[0] == 0 || ip.is_multicast() || ip.is_broadcast() || is_local_to_some(ip)
        }
        IpAddr::V6(ip) => {
            ip.is_loopback()
                || ip.is_unspecified()
                || ip.is_unicast_link_local()
                || ip.is_multicast()
                || LOCAL_V6.iter().any(|(prefix, length)| is_within(ip, *prefix, *length))
                || embedded(ip).into_iter().flatten().any(is_local_to_some)
        }
    }
}

fn is_local_to_some(ip: Ipv4Addr) -> bool {
    ip.is_loopback() || ip.is_link_local() || METADATA_V4.contains(&ip)
}

/// The IPv4 addresses that an IPv6 one may stand for: compatible with IPv4 (RFC 4291 §2.5.5.1), behind
/// a translator (RFC 6052 §2.1, RFC 8215), or at the end of a tunnel (RFC 3056). Where the prefix of a
/// translator ends is its own affair; where there is none, zeros stand.
fn embedded(ip: Ipv6Addr) -> [Option<Ipv4Addr>; 4] {
    let o = ip.octets();
    let last = Some(Ipv4Addr::new(o[12], o[13], o[14], o[15]));
    match ip.segments() {
        [0, 0, 0, 0, 0, 0, ..] | [0x64, 0xff9b, 0, 0, 0, 0, ..] => [last, None, None, None],
        [0x64, 0xff9b, 1, ..] => [
            last,
            Some(Ipv4Addr::new(o[6], o[7], o[9], o[10])),
            Some(Ipv4Addr::new(o[7], o[9], o[10], o[11])),
            Some(Ipv4Addr::new(o[9], o[10], o[11], o[12])),
        ],
        [0x2002, ..] => [Some(Ipv4Addr::new(o[2], o[3], o[4], o[5])), None, None, None],
        _ => [None; 4],
    }
}

fn is_within(ip: Ipv6Addr, prefix: Ipv6Addr, length: u32) -> bool {
    (ip.to_bits() ^ prefix.to_bits()).leading_zeros() >= length
}

/// Metadata services outside of 169.254.0.0/16.
const METADATA_V4: [Ipv4Addr; 3] = [
    // Alibaba Cloud.
    Ipv4Addr::new(100, 100, 100, 200),
    // Azure: its WireServer has certificates of machines.
    Ipv4Addr::new(168, 63, 129, 16),
    // Oracle Cloud, classic.
    Ipv4Addr::new(192, 0, 0, 192),
];
/// Networks that clouds have their services for a machine in, and others that lead nowhere by
/// themselves: each with the length of its prefix.
const LOCAL_V6: [(Ipv6Addr, u32); 5] = [
    // EC2: metadata, Pod Identity, time, names.
    (Ipv6Addr::new(0xfd00, 0xec2, 0, 0, 0, 0, 0, 0), 32),
    // Google Cloud.
    (Ipv6Addr::new(0xfd20, 0xce, 0, 0, 0, 0, 0, 0), 64),
    // Oracle Cloud.
    (Ipv6Addr::new(0xfd00, 0xc1, 0, 0, 0, 0, 0, 0), 64),
    // Site-local (RFC 3879).
    (Ipv6Addr::new(0xfec0, 0, 0, 0, 0, 0, 0, 0), 10),
    // Teredo (RFC 4380): whose IPv4 address it is, is hidden in it.
    (Ipv6Addr::new(0x2001, 0, 0, 0, 0, 0, 0, 0), 32),
];

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
            "fd00:ec2::23",
            "fd20:ce::254",
            "fd00:c1::a9fe:a9fe",
            "fec0::1",
            "168.63.129.16",
            "192.0.0.192",
            "::127.0.0.1",
            "64:ff9b::a9fe:a9fe",
            "64:ff9b::7f00:1",
            "64:ff9b::168.63.129.16",
            "64:ff9b:1::a9fe:a9fe",
            "64:ff9b:1:2:3:4:a9fe:a9fe",
            // With prefixes of 48, 56 and 64 bits.
            "64:ff9b:1:a9fe:a9:fe00::",
            "64:ff9b:1:a9:fe:a9fe::",
            "64:ff9b:1:0:a9:fea9:fe00:0",
            "2002:a9fe:a9fe::1",
            "2002:7f00:1::",
            "2001:0:a9fe:a9fe::1",
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
            "2001:2::7",
            "fd00:ec3::1",
            "fd20:cf::1",
            "64:ff9b::8.8.8.8",
            "64:ff9b::10.0.0.1",
            "64:ff9b:1::8.8.8.8",
            "64:ff9b:1:fffe::192.0.2.1",
            "64:ff9b:2::a9fe:a9fe",
            "2002:c000:201::1",
        ] {
            assert!(!is_local(ip.parse().unwrap()), "{ip}");
        }
    }
}
