//! From the state before and what is asked for to the state after. Pure.

use std::{
    collections::BTreeMap,
    sync::Arc,
    time::{SystemTime, UNIX_EPOCH},
};

use egressd_tables::{VipAllocation, VipExhausted, VipRequest};

use crate::state::{
    file::{Row, StateFile},
    memory::Memory,
};

/// Allocates: who has a pair keeps it, who had one gets it back, and nobody gets one that rests.
pub(crate) fn allocate(
    before: &StateFile,
    empty: &VipAllocation,
    requests: &[VipRequest],
    now: SystemTime,
) -> (StateFile, VipAllocation, Vec<VipExhausted>) {
    let now = now.duration_since(UNIX_EPOCH).map_or(0, |since| since.as_secs());
    let hosts = || {
        requests.iter().flat_map(|request| request.hosts.iter().map(move |host| (request, host)))
    };
    let wishes: Vec<_> = hosts()
        .map(|(request, host)| [&*request.entry.namespace, &*request.entry.name, &**host])
        .collect();
    let is_ours = |vip: egressd_tables::Vip| {
        vip.v4.is_none_or(|v4| empty.range_v4.contains(v4.into()))
            && vip.v6.is_none_or(|v6| empty.range_v6.contains(v6.into()))
    };
    let mut memory = Memory::new(before, is_ours, &wishes, now);
    let mut known = VipAllocation { next: before.next, ..empty.clone() };
    for ((request, host), vip) in hosts().zip(memory.recall(&wishes)) {
        if let Some(vip) = vip {
            let given = known.given.entry(request.entry.clone()).or_default();
            given.insert(Arc::clone(host), vip);
        }
    }
    let mut reserving = requests.to_vec();
    if let Some(any) = requests.first() {
        reserving.push(VipRequest {
            // Nobody looks at it: there are no hosts.
            entry: any.entry.clone(),
            hosts: Vec::new(),
            written: memory.reserved(),
            assigned: BTreeMap::new(),
        });
    }
    let (allocation, exhausted) = known.allocate(&reserving);
    let given: Vec<Row> = rows(&allocation).collect();
    let resting = memory.rest(before, &given).into();
    let given = given.into();
    let state = StateFile { next: allocation.next, given, resting, ..before.clone() };
    (state, allocation, exhausted)
}

fn rows(allocation: &VipAllocation) -> impl Iterator<Item = Row> {
    allocation.given.iter().flat_map(|(key, hosts)| {
        hosts.iter().map(move |(host, vip)| Row {
            namespace: Arc::clone(&key.namespace),
            entry: Arc::clone(&key.name),
            host: Arc::clone(host),
            v4: vip.v4,
            v6: vip.v6,
        })
    })
}
