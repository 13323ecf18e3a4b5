//! The access line in Istio's JSON format (semantics.md §7).

use std::{fmt::Display, io::Write};

use super::{FlowRecord, time::write_utc};

/// Appends one line: an object with Istio's keys and a line feed. What is missing, and what only
/// HTTP has, is `null`; numbers are numbers.
pub fn write_json(out: &mut Vec<u8>, record: &FlowRecord) {
    out.extend_from_slice(b"{\"start_time\":\"");
    write_utc(out, record.start);
    out.push(b'"');
    let outcome = &record.outcome;
    for key in ["method", "path", "protocol"] {
        text(out, key, None::<&str>);
    }
    number(out, "response_code", 0);
    text(out, "response_flags", Some(outcome.flags()));
    text(out, "response_code_details", None::<&str>);
    text(out, "connection_termination_details", outcome.termination());
    text(out, "upstream_transport_failure_reason", outcome.transport_failure());
    number(out, "bytes_received", record.bytes_received);
    number(out, "bytes_sent", record.bytes_sent);
    number(out, "duration", u64::try_from(record.duration.as_millis()).unwrap_or(u64::MAX));
    for key in ["upstream_service_time", "x_forwarded_for", "user_agent", "request_id"] {
        text(out, key, None::<&str>);
    }
    text(out, "authority", record.authority.as_ref());
    text(out, "upstream_host", record.upstream.as_ref());
    text(out, "upstream_cluster", record.cluster.as_ref());
    text(out, "upstream_local_address", record.upstream_local);
    text(out, "downstream_local_address", Some(record.destination()));
    text(out, "downstream_remote_address", record.client);
    text(out, "requested_server_name", record.server_name.as_ref());
    text(out, "route_name", record.route_name.as_ref());
    out.extend_from_slice(b"}\n");
}

fn text(out: &mut Vec<u8>, key: &str, value: Option<impl Display>) {
    name(out, key);
    let written = match value {
        Some(value) => serde_json::to_writer(&mut *out, &format_args!("{value}")),
        None => serde_json::to_writer(&mut *out, &()),
    };
    debug_assert!(written.is_ok(), "text and memory cannot fail");
}

fn number(out: &mut Vec<u8>, key: &str, value: u64) {
    name(out, key);
    // Writing to memory does not fail.
    write!(out, "{value}").ok();
}

fn name(out: &mut Vec<u8>, key: &str) {
    out.extend_from_slice(b",\"");
    out.extend_from_slice(key.as_bytes());
    out.extend_from_slice(b"\":");
}
