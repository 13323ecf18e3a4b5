//! Giving out addresses, one after the other.

use std::collections::BTreeMap;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};
use std::sync::Arc;

use egressd_model::resource::Key;
use egressd_model::value::IpRange;

use crate::fast::FastSet;
use crate::vip::{Vip, VipAllocation, VipExhausted, VipRequest};

impl VipAllocation {
    /// The state after these requests, which come oldest first.
    ///
    /// A host keeps its pair. It gets another one if a ServiceEntry writes one of its addresses
    /// itself, or if an older host has it too. Who has none gets the next pair that is free; what a
    /// gone host had is given out again only once every offset has been used.
    pub fn allocate(&self, requests: &[VipRequest]) -> (Self, Vec<VipExhausted>) {
        let written = requests.iter().flat_map(|request| &request.written).copied();
        let taken = written.collect();
        let mut pool = Pool { ranges: self, taken, next: self.next.max(1), empty: false };
        pool.taken.reserve(4 * requests.len());
        let mut kept: Vec<(&Key, BTreeMap<Arc<str>, Vip>)> = Vec::with_capacity(requests.len());
        let mut waiting = Vec::new();
        for request in requests {
            let old = self.given.get(&request.entry);
            let mut vips = Vec::with_capacity(request.hosts.len());
            for host in &request.hosts {
                let assigned = || request.assigned.get(host).copied().filter(|vip| pool.owns(*vip));
                let before = old.and_then(|old| old.get(host)).copied().or_else(assigned);
                match before.filter(|vip| pool.take(*vip)) {
                    Some(vip) => vips.push((Arc::clone(host), vip)),
                    None => waiting.push((&request.entry, host)),
                }
            }
            if !vips.is_empty() {
                kept.push((&request.entry, vips.into_iter().collect()));
            }
        }
        let mut given: BTreeMap<_, BTreeMap<Arc<str>, Vip>> =
            kept.into_iter().map(|(entry, vips)| (entry.clone(), vips)).collect();
        let mut exhausted = Vec::new();
        for (entry, host) in waiting {
            match pool.draw() {
                Some(vip) => {
                    given.entry(entry.clone()).or_default().insert(Arc::clone(host), vip);
                }
                None => exhausted.push(VipExhausted {
                    host: Arc::clone(host),
                    entry: entry.clone(),
                    range: self.range_v4,
                }),
            }
        }
        let (range_v4, range_v6) = (self.range_v4, self.range_v6);
        (Self { range_v4, range_v6, next: pool.next, given }, exhausted)
    }
}

/// What is left to give.
struct Pool<'a> {
    ranges: &'a VipAllocation,
    taken: FastSet<IpAddr>,
    next: u32,
    /// Every offset has been tried.
    empty: bool,
}

impl Pool<'_> {
    /// Takes both addresses of a pair unless one is taken.
    fn take(&mut self, vip: Vip) -> bool {
        let free = vip.addresses().all(|address| !self.taken.contains(&address));
        if free {
            self.taken.extend(vip.addresses());
        }
        free
    }

    /// Whether a pair is from our ranges.
    fn owns(&self, vip: Vip) -> bool {
        vip.addresses().all(|address| {
            self.ranges.range_v4.contains(address) || self.ranges.range_v6.contains(address)
        })
    }

    /// The next free pair. Begins anew from the first offset when the last one is used.
    fn draw(&mut self) -> Option<Vip> {
        let last = if self.empty { 0 } else { self.last() };
        for _ in 0..last {
            if self.next > last {
                self.next = 1;
            }
            let vip = self.at(self.next);
            self.next += 1;
            if self.take(vip) {
                return Some(vip);
            }
        }
        self.empty = true;
        None
    }

    fn at(&self, offset: u32) -> Vip {
        let (mut v4, mut v6) = (None, None);
        for range in [self.ranges.range_v4, self.ranges.range_v6] {
            match range.address() {
                IpAddr::V4(base) => {
                    v4 = Some(Ipv4Addr::from_bits(base.to_bits().wrapping_add(offset)));
                }
                IpAddr::V6(base) => {
                    v6 = Some(Ipv6Addr::from_bits(base.to_bits().wrapping_add(offset.into())));
                }
            }
        }
        Vip { v4, v6 }
    }

    /// The last offset that is inside both ranges; 0 if there is none.
    fn last(&self) -> u32 {
        let last = |range: IpRange| {
            let bits = IpRange::single(range.address()).prefix() - range.prefix();
            1_u32.checked_shl(bits.into()).map_or(u32::MAX - 1, |size| size - 1)
        };
        last(self.ranges.range_v4).min(last(self.ranges.range_v6))
    }
}
