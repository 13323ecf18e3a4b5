//! Virtual addresses step by step (`ipalloc.json`), by both of Istio's allocators.

use std::collections::BTreeMap;
use std::fs;
use std::net::IpAddr;

use egressd_tables::{Vip, VipAllocation, hashed_vips, requests};
use serde::Deserialize;
use serde_json::{Value, json};

use crate::data::model;
use crate::folder::{conformance, say};

type Addresses = BTreeMap<String, Vec<IpAddr>>;

#[derive(Clone, Default, Deserialize)]
struct Step {
    op: String,
    se: Option<String>,
    hosts: Option<Vec<String>>,
    resolution: Option<String>,
    addresses: Option<Vec<String>>,
    labels: Option<BTreeMap<String, String>>,
    status: Option<Addresses>,
    expect: Option<Addresses>,
    expect_other: Option<BTreeMap<String, Addresses>>,
    expect_count: Option<usize>,
}

/// A ServiceEntry under test; steps change it.
#[derive(Clone)]
struct Entry {
    name: String,
    hosts: Vec<String>,
    resolution: String,
    addresses: Vec<String>,
    labels: BTreeMap<String, String>,
    status: Addresses,
}

/// ServiceEntries in the order of their creation, and what was given to them.
struct World {
    entries: Vec<Entry>,
    vips: VipAllocation,
}

fn data() -> Option<Value> {
    let text = fs::read_to_string(conformance()?.join("ipalloc.json")).unwrap();
    Some(serde_json::from_str(&text).unwrap())
}

#[test]
fn allocator_follows_istio_step_by_step() {
    let Some(data) = data() else { return };
    for name in ["TestIPAllocate", "TestIPAllocateStaleAddressCleanup"] {
        let steps: Vec<Step> = serde_json::from_value(data["new_allocator"][name].clone()).unwrap();
        let mut world = World { entries: Vec::new(), vips: VipAllocation::default() };
        let mut last = String::new();
        for (number, step) in steps.iter().enumerate() {
            last = step.se.clone().unwrap_or(last);
            world.take(&last, step);
            world.check(&last, step, &format!("{name} step {}", number + 1));
        }
        say(&format_args!("ipalloc: {name}: {0} of {0} steps agree", steps.len()));
    }
}

#[test]
fn allocator_uses_other_ranges() {
    let Some(data) = data() else { return };
    let case = &data["new_allocator"]["TestIPAllocateWithEnvCIDR"];
    let text = |value: &Value| value.as_str().unwrap().to_owned();
    let vips = VipAllocation::new(&text(&case["v4"]), &text(&case["v6"])).unwrap();
    let mut world = World { entries: Vec::new(), vips };
    let before: Addresses = serde_json::from_value(case["preexisting"].clone()).unwrap();
    let hosts: Vec<_> = before.keys().cloned().collect();
    let step = Step {
        op: "create".to_owned(),
        hosts: Some(hosts.clone()),
        status: Some(before.clone()),
        ..Step::default()
    };
    world.take("default/a", &step);
    let all = hosts.into_iter().chain([text(&case["add_host"])]).collect();
    let step = Step { op: "set-hosts".to_owned(), hosts: Some(all), ..Step::default() };
    world.take("default/a", &step);
    let mut expect: Addresses = serde_json::from_value(case["expect"].clone()).unwrap();
    expect.extend(before);
    assert_eq!(world.given("default/a"), expect);
    say(&"ipalloc: TestIPAllocateWithEnvCIDR agrees");
}

#[test]
fn hashed_addresses_are_istios() {
    let Some(data) = data() else { return };
    let cases = data["old_allocator"]["cases"].as_array().unwrap();
    assert!(!cases.is_empty());
    for case in cases {
        let services = case["services"].as_array().unwrap();
        let of = |service: &Value, key: &str| service[key].as_str().unwrap_or_default().to_owned();
        let keys: Vec<_> = services.iter().map(|s| (of(s, "ns"), of(s, "host"))).collect();
        let found = hashed_vips(keys.iter().map(|(ns, host)| (ns.as_str(), host.as_str())));
        for (key, expected) in case["expect"].as_object().unwrap() {
            let expected: Vec<IpAddr> = serde_json::from_value(expected.clone()).unwrap();
            let named =
                |(ns, host): &&(&str, &str)| *key == *host || *key == format!("{ns}/{host}");
            let found = found.iter().find(|(name, _)| named(name)).unwrap().1;
            let addresses: Vec<_> = found.addresses().collect();
            assert_eq!(addresses[..expected.len()], expected, "{} {key}", case["name"]);
        }
    }
    say(&format_args!("ipalloc: {0} of {0} cases of the hashed addresses agree", cases.len()));
}

impl World {
    fn take(&mut self, name: &str, step: &Step) {
        if matches!(step.op.as_str(), "create" | "preexisting") {
            self.entries.push(Entry {
                name: name.to_owned(),
                hosts: Vec::new(),
                resolution: "DNS".to_owned(),
                addresses: Vec::new(),
                labels: BTreeMap::new(),
                status: Addresses::new(),
            });
        }
        let entry = self.entries.iter_mut().find(|entry| entry.name == name).unwrap();
        let step = step.clone();
        entry.hosts = step.hosts.unwrap_or_else(|| entry.hosts.clone());
        entry.resolution = step.resolution.unwrap_or_else(|| entry.resolution.clone());
        entry.addresses = step.addresses.unwrap_or_else(|| entry.addresses.clone());
        entry.labels = step.labels.unwrap_or_else(|| entry.labels.clone());
        entry.status = step.status.unwrap_or_else(|| entry.status.clone());
        let (vips, exhausted) = self.vips.allocate(&self.requests());
        assert_eq!(exhausted, []);
        self.vips = vips;
    }

    /// What the entries ask. Those that a webhook would reject (duplicate or unusable addresses, no
    /// hosts) cannot be read from YAML, and are asked for by hand.
    fn requests(&self) -> Vec<egressd_tables::VipRequest> {
        self.entries.iter().enumerate().map(|(age, entry)| entry.request(age)).collect()
    }

    fn given(&self, name: &str) -> Addresses {
        let given = self.vips.given.iter().find(|(key, _)| key.to_string() == name);
        let hosts = given.into_iter().flat_map(|(_, hosts)| hosts);
        hosts.map(|(host, vip)| (host.to_string(), vip.addresses().collect())).collect()
    }

    fn check(&self, name: &str, step: &Step, place: &str) {
        if let Some(expect) = &step.expect {
            assert_eq!(&self.given(name), expect, "{place}");
        }
        for (other, expect) in step.expect_other.iter().flatten() {
            assert_eq!(&self.given(other), expect, "{place}: {other}");
        }
        if let Some(count) = step.expect_count {
            let given: usize = self.given(name).values().map(Vec::len).sum();
            assert_eq!(given, count, "{place}");
        }
    }
}

impl Entry {
    fn request(&self, age: usize) -> egressd_tables::VipRequest {
        let (namespace, name) = self.name.split_once('/').unwrap();
        let readable = self.addresses.iter().all(|address| address.parse::<IpAddr>().is_ok());
        let mut hosts: Vec<_> = self.hosts.clone();
        hosts.dedup();
        if hosts.is_empty() || !readable {
            return egressd_tables::VipRequest {
                entry: egressd_model::resource::Key {
                    namespace: namespace.into(),
                    name: name.into(),
                },
                hosts: Vec::new(),
                written: Vec::new(),
                assigned: BTreeMap::new(),
            };
        }
        // A wildcard is allowed under DNS where the entry has endpoints.
        let wildcard = hosts.iter().any(|host| host.starts_with('*'));
        let endpoints = if wildcard && self.resolution == "DNS" {
            json!([{ "address": "upstream.testing.io" }])
        } else {
            json!([])
        };
        let document = json!({
            "apiVersion": "networking.istio.io/v1",
            "kind": "ServiceEntry",
            "metadata": {
                "name": name.replace(' ', "-"),
                "namespace": namespace,
                "labels": self.labels,
                "creationTimestamp": format!("2024-01-01T00:00:{age:02}Z"),
            },
            "spec": {
                "hosts": hosts,
                "addresses": self.addresses,
                "resolution": self.resolution,
                "ports": [{ "number": 80, "name": "http", "protocol": "HTTP" }],
                "endpoints": endpoints,
            },
        });
        let mut request = requests(&model(&document.to_string())).remove(0);
        request.entry.name = name.into();
        request.assigned = self
            .status
            .iter()
            .map(|(host, addresses)| (host.as_str().into(), pair(addresses)))
            .collect();
        request
    }
}

fn pair(addresses: &[IpAddr]) -> Vip {
    let mut vip = Vip { v4: None, v6: None };
    for address in addresses {
        match address {
            IpAddr::V4(v4) => vip.v4 = Some(*v4),
            IpAddr::V6(v6) => vip.v6 = Some(*v6),
        }
    }
    vip
}
