//! The access line in Istio's JSON format (semantics.md §7).

use std::{fmt::Display, io::Write, time::Duration};

use http::HeaderValue;

use super::{FlowRecord, HttpFields, time::write_utc};

/// Appends one line: an object with Istio's keys and a line feed. What is missing is `null`; numbers
/// are numbers. The record of a connection that the kernel made by itself has keys of its own at the
/// end: `egressd_path` (`direct`), `upstream_rtt_us`, `upstream_retransmits`, and after an abort
/// `bytes_received_are` (`acknowledged`).
pub fn write_json(out: &mut Vec<u8>, record: &FlowRecord) {
    out.extend_from_slice(b"{\"start_time\":\"");
    write_utc(out, record.start);
    out.push(b'"');
    let outcome = &record.outcome;
    let http = record.http.as_deref();
    text(out, "method", http.and_then(|http| http.method.as_ref()));
    text(out, "path", http.and_then(|http| http.path.as_ref()));
    text(out, "protocol", http.map(HttpFields::protocol));
    number(out, "response_code", http.map_or(0, |http| http.status.into()));
    text(out, "response_flags", Some(record.flags()));
    let details = http.map(|http| &*http.details).filter(|details| !details.is_empty());
    text(out, "response_code_details", details);
    text(out, "connection_termination_details", outcome.termination());
    text(out, "upstream_transport_failure_reason", outcome.transport_failure());
    number(out, "bytes_received", record.bytes_received);
    number(out, "bytes_sent", record.bytes_sent);
    number(out, "duration", millis(record.duration));
    match http.and_then(|http| http.upstream_service_time) {
        Some(waited) => number(out, "upstream_service_time", millis(waited)),
        None => text(out, "upstream_service_time", None::<&str>),
    }
    header(out, "x_forwarded_for", http.and_then(|http| http.forwarded_for.as_ref()));
    header(out, "user_agent", http.and_then(|http| http.user_agent.as_ref()));
    header(out, "request_id", http.and_then(|http| http.request_id.as_ref()));
    match http.and_then(|http| http.authority.as_ref()) {
        Some(authority) => header(out, "authority", Some(authority)),
        None => text(out, "authority", record.authority.as_ref()),
    }
    text(out, "upstream_host", record.upstream.as_ref());
    text(out, "upstream_cluster", record.cluster.as_ref());
    text(out, "upstream_local_address", record.upstream_local);
    text(out, "downstream_local_address", Some(record.destination()));
    text(out, "downstream_remote_address", record.client);
    text(out, "requested_server_name", record.server_name.as_ref());
    text(out, "route_name", record.route_name.as_ref());
    if let Some(direct) = &record.direct {
        text(out, "egressd_path", Some("direct"));
        number(out, "upstream_rtt_us", u64::try_from(direct.rtt.as_micros()).unwrap_or(u64::MAX));
        number(out, "upstream_retransmits", direct.retransmits.into());
        if direct.acknowledged_only {
            text(out, "bytes_received_are", Some("acknowledged"));
        }
    }
    out.extend_from_slice(b"}\n");
}

fn millis(time: Duration) -> u64 {
    u64::try_from(time.as_millis()).unwrap_or(u64::MAX)
}

fn header(out: &mut Vec<u8>, key: &str, value: Option<&HeaderValue>) {
    text(out, key, value.map(|value| String::from_utf8_lossy(value.as_bytes())));
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
