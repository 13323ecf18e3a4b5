//! What the kernel knows of hosts, for `egressd config vips --admin`.

use egressd_datapath::{Host, HostAddress};
use serde_json::{Value, json};

use super::state::State;

/// The tables of the generation in force, as the kernel holds them. Hosts that have no entry by name,
/// because another service of the same name has it, are found by the service's number.
pub(super) fn json(state: &State) -> Result<Value, egressd_datapath::Error> {
    let known = state.datapath().hosts()?;
    let host = |(name, host): &(String, Host)| {
        json!({
            "host": name,
            "addresses": host.addresses().map(|ip| ip.to_string()).collect::<Vec<_>>(),
            "service": host.service(),
        })
    };
    let address = |(ip, address): &(_, HostAddress)| {
        json!({
            "address": std::net::IpAddr::to_string(ip),
            "host": state.in_force.host(known.generation, Some(address.first())).as_deref(),
            "service": address.first(),
            "services": address.services(),
        })
    };
    Ok(json!({
        "generation": known.generation,
        "hosts": known.names.iter().map(host).collect::<Vec<_>>(),
        "addresses": known.addresses.iter().map(address).collect::<Vec<_>>(),
    }))
}
