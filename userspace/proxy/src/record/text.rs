//! The access line in Istio's default TEXT format (semantics.md §7).

use std::{fmt::Display, io::Write};

use http::HeaderValue;

use super::{FlowRecord, HttpFields, time::write_utc};

/// Appends one line with its line feed.
///
/// Fields, in order: start, request line, code, flags, code details, termination details,
/// `"transport failure"`, bytes received, bytes sent, milliseconds, upstream service time,
/// `"x-forwarded-for"`, `"user-agent"`, `"x-request-id"`, `"authority"`, `"upstream host"`, cluster,
/// upstream local, downstream local (what was dialled), downstream remote (the application), server
/// name, route name. What is missing is `-`, the code of a flow without HTTP 0.
pub fn write_text(out: &mut Vec<u8>, record: &FlowRecord) {
    out.push(b'[');
    write_utc(out, record.start);
    out.extend_from_slice(b"] \"");
    let http = record.http.as_deref();
    wire(out, http.and_then(|http| Some(http.method.as_ref()?.as_str().as_bytes())));
    out.push(b' ');
    wire(out, http.and_then(|http| Some(http.path.as_ref()?.as_str().as_bytes())));
    plain_after(out, " ", http.map(HttpFields::protocol));
    plain_after(out, "\" ", Some(http.map_or(0, |http| http.status)));
    plain_after(out, " ", Some(record.flags()));
    plain_after(out, " ", http.map(|http| &*http.details));
    let outcome = &record.outcome;
    plain_after(out, " ", outcome.termination());
    plain_after(out, " \"", outcome.transport_failure());
    plain_after(out, "\" ", Some(record.bytes_received));
    plain_after(out, " ", Some(record.bytes_sent));
    plain_after(out, " ", Some(record.duration.as_millis()));
    let waited = http.and_then(|http| http.upstream_service_time);
    plain_after(out, " ", waited.map(|waited| waited.as_millis()));
    let header = |out: &mut Vec<u8>, before: &str, value: Option<&HeaderValue>| {
        out.extend_from_slice(before.as_bytes());
        wire(out, value.map(HeaderValue::as_bytes));
    };
    header(out, " \"", http.and_then(|http| http.forwarded_for.as_ref()));
    header(out, "\" \"", http.and_then(|http| http.user_agent.as_ref()));
    header(out, "\" \"", http.and_then(|http| http.request_id.as_ref()));
    out.extend_from_slice(b"\" \"");
    match http.and_then(|http| http.authority.as_ref()) {
        Some(authority) => wire(out, Some(authority.as_bytes())),
        None => from_the_wire(out, record.authority.as_deref()),
    }
    plain_after(out, "\" \"", record.upstream.as_ref());
    plain_after(out, "\" ", record.cluster.as_ref());
    plain_after(out, " ", record.upstream_local);
    plain_after(out, " ", Some(record.destination()));
    plain_after(out, " ", record.client);
    out.push(b' ');
    from_the_wire(out, record.server_name.as_deref());
    plain_after(out, " ", record.route_name.as_ref());
    out.push(b'\n');
}

fn plain_after(out: &mut Vec<u8>, before: &str, value: Option<impl Display>) {
    out.extend_from_slice(before.as_bytes());
    plain(out, value);
}

/// A value of ours, or `-`.
pub(super) fn plain(out: &mut Vec<u8>, value: Option<impl Display>) {
    let start = out.len();
    if let Some(value) = value {
        // Writing to memory does not fail.
        write!(out, "{value}").ok();
    }
    if out.len() == start {
        out.push(b'-');
    }
}

/// Bytes somebody sent us.
pub(super) fn wire(out: &mut Vec<u8>, value: Option<&[u8]>) {
    match value {
        Some(bytes) if !bytes.is_empty() && bytes.iter().all(|byte| is_plain(*byte)) => {
            out.extend_from_slice(bytes);
        }
        Some(bytes) => from_the_wire(out, Some(&String::from_utf8_lossy(bytes))),
        None => out.push(b'-'),
    }
}

/// Whether a byte stands for itself.
fn is_plain(byte: u8) -> bool {
    (byte.is_ascii_graphic() || byte == b' ') && byte != b'"' && byte != b'\\' && byte != b'\''
}

/// A value somebody sent us: what could end a field, or a line, is escaped.
pub(super) fn from_the_wire(out: &mut Vec<u8>, value: Option<&str>) {
    plain(out, value.map(|value| value.escape_debug()));
}
