//! The rules: Istio's webhook and its schema together, since a cluster applies both (semantics.md §1.1).
//!
//! What the schema says about types and required fields is checked while decoding; here are the rules about
//! values and about fields that depend on each other. Each function takes what was read, the place it was read
//! from and the findings so far, and reports at the field that is wrong or missing. A finding is an error where
//! Istio refuses the resource and a warning where its webhook warns; an info is egressd's own.

mod client_tls;
mod destination_rule;
mod domain;
mod duration;
mod export_to;
mod gateway;
mod header;
mod http_action;
mod http_match;
mod http_route;
mod labels;
mod limits;
mod load_balancer;
mod locality;
mod mesh;
mod reach;
mod regex;
mod route;
mod server_tls;
mod service_entry;
mod service_port;
mod sidecar;
mod telemetry;
mod traffic_policy;
mod virtual_service;
mod workload_entry;

#[cfg(test)]
mod primitives;

pub(crate) use destination_rule::destination_rule;
pub(crate) use domain::is_dns_label;
pub(crate) use gateway::gateway;
pub(crate) use mesh::mesh_config;
pub(crate) use service_entry::service_entry;
pub(crate) use sidecar::sidecar;
pub(crate) use telemetry::telemetry;
pub(crate) use virtual_service::virtual_service;
pub(crate) use workload_entry::workload_entry;
