//! The kernel's structs as byte arrays, which aya takes as they are.
//!
//! aya's `Pod` cannot be implemented here for the types of `egressd-abi`; an array of bytes of the
//! same size is `Pod` already, and zerocopy proves both ways of the conversion.

use zerocopy::transmute;

pub(crate) type RowBytes = [u8; 12];
pub(crate) type RouteBytes = [u8; 72];
pub(crate) type KeyBytes = [u8; 20];
pub(crate) type TupleBytes = [u8; 48];
pub(crate) type OriginalBytes = [u8; 64];
pub(crate) type ConfigBytes = [u8; 40];
pub(crate) type GenerationBytes = [u8; 8];
pub(crate) type OwnAddressBytes = [u8; 32];
pub(crate) type HostBytes = [u8; 24];
pub(crate) type HostAddressBytes = [u8; 8];

pub(crate) fn route(route: egressd_abi::DirectRoute) -> RouteBytes {
    transmute!(route)
}

pub(crate) fn row(row: egressd_abi::Row) -> RowBytes {
    transmute!(row)
}

pub(crate) fn key(key: egressd_abi::RowKey) -> KeyBytes {
    transmute!(key)
}

pub(crate) fn config(config: egressd_abi::Config) -> ConfigBytes {
    transmute!(config)
}

pub(crate) fn generation(generation: egressd_abi::Generation) -> GenerationBytes {
    transmute!(generation)
}

pub(crate) fn read_key(bytes: KeyBytes) -> egressd_abi::RowKey {
    transmute!(bytes)
}

pub(crate) fn host(host: egressd_abi::Host) -> HostBytes {
    transmute!(host)
}

pub(crate) fn read_host(bytes: HostBytes) -> egressd_abi::Host {
    transmute!(bytes)
}

pub(crate) fn host_address(address: egressd_abi::HostAddress) -> HostAddressBytes {
    transmute!(address)
}

pub(crate) fn read_host_address(bytes: HostAddressBytes) -> egressd_abi::HostAddress {
    transmute!(bytes)
}

pub(crate) fn original(bytes: OriginalBytes) -> egressd_abi::Original {
    transmute!(bytes)
}

/// `{netns cookie, address, reserved}`, as `OwnAddress` of the eBPF programs.
pub(crate) fn own_address(netns: u64, address: egressd_abi::RowKey) -> OwnAddressBytes {
    let mut bytes = [0; 32];
    bytes[..8].copy_from_slice(&netns.to_ne_bytes());
    bytes[8..28].copy_from_slice(&key(address.without_port()));
    bytes
}
