//! WorkloadEntry (semantics.md §1.3), standalone or as an endpoint of a ServiceEntry.

use std::collections::BTreeMap;

use crate::Spanned;
use crate::decode::object;
use crate::value::{EndpointAddress, Labels, Locality};

object! {
    /// One endpoint.
    pub struct WorkloadEntry {
        /// IP, name or Unix socket; may be absent only where `network` is set.
        address: Spanned<EndpointAddress> = "address",
        /// Port by port name; beats the service's `targetPort` and number.
        ports: BTreeMap<String, Spanned<u16>> = "ports",
        /// Used by selectors and subsets. A standalone entry's metadata labels go over these.
        labels: Labels = "labels",
        /// Multi-network only.
        network: Spanned<String> = "network",
        /// `region/zone/subzone`.
        locality: Spanned<Locality> = "locality",
        /// Share within and across localities; 0 means 1.
        weight: Spanned<u32> = "weight",
        /// Service account in the mesh; implies mutual TLS.
        service_account: Spanned<String> = "serviceAccount",
    }
}

impl WorkloadEntry {
    /// The weight that counts: 0 and absent are 1.
    pub fn effective_weight(&self) -> u32 {
        self.weight.value.max(1)
    }
}
