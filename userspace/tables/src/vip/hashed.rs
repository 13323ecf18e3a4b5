//! Istio's older allocation, where the address follows from the name
//! (`PILOT_ENABLE_IP_AUTOALLOCATE=false`): stateless, but one host more can move others.

use std::collections::BTreeMap;
use std::net::{Ipv4Addr, Ipv6Addr};

use crate::vip::Vip;

/// The pair of every `(namespace, host)`, given once for each ServiceEntry that has it, oldest first.
/// Hosts with one namespace share their pair. Hosts beyond the capacity of 65,024 get none.
pub fn hashed_vips<'a>(
    hosts: impl IntoIterator<Item = (&'a str, &'a str)>,
) -> BTreeMap<(&'a str, &'a str), Vip> {
    let mut slots = vec![None; SLOTS as usize];
    for host in hosts.into_iter().take(slots.len()) {
        let hash = fnv1a(host);
        let step = PRIME - hash % PRIME;
        // Collisions are resolved modulo one less than the number of slots, as Istio does.
        let later = (1..).map(|i: u32| hash.wrapping_add(i.wrapping_mul(step)) % (SLOTS - 1));
        let mut places = std::iter::once(hash % SLOTS).chain(later).take(slots.len());
        let free = places.find(|place| slots.get(*place as usize).is_some_and(Option::is_none));
        if let Some(slot) = free.and_then(|place| slots.get_mut(place as usize)) {
            *slot = Some(host);
        }
    }
    let mut vips = BTreeMap::new();
    let mut number = 0;
    for slot in slots {
        number += 1;
        let Some(host) = slot else { continue };
        if number % OCTET == 0 {
            number += 1;
        }
        vips.entry(host).or_insert_with(|| vip(number));
    }
    vips
}

/// 256 third octets, 254 fourth ones.
const SLOTS: u32 = 256 * 254;
/// The largest prime below [`SLOTS`].
const PRIME: u32 = 65_011;
/// Numbers with a fourth octet of 0 or 255 are left out.
const OCTET: u32 = 255;

fn vip(number: u32) -> Vip {
    let [.., third] = (number / OCTET).to_be_bytes();
    let [.., fourth] = (number % OCTET).to_be_bytes();
    // The last group is both numbers in hexadecimal, one after the other and without padding.
    let group = if third == 0 { format!("{fourth:x}") } else { format!("{third:x}{fourth:x}") };
    let group = u16::from_str_radix(&group, 16).unwrap_or_default();
    Vip {
        v4: Some(Ipv4Addr::new(240, 240, third, fourth)),
        v6: Some(Ipv6Addr::new(0x2001, 2, 0, 0, 0, 0, 0xf0f0, group)),
    }
}

/// FNV-1a of `namespace/host` in 32 bits.
fn fnv1a((namespace, host): (&str, &str)) -> u32 {
    let bytes = namespace.bytes().chain([b'/']).chain(host.bytes());
    bytes.fold(0x811c_9dc5, |hash: u32, byte| (hash ^ u32::from(byte)).wrapping_mul(0x0100_0193))
}
