//! The access line in Istio's default TEXT format (semantics.md §7).

use std::{
    fmt::Display,
    io::Write,
};

use super::{FlowRecord, time::write_utc};

/// Appends one line with its line feed.
///
/// Fields, in order: start, request line, code, flags, code details, termination details,
/// `"transport failure"`, bytes received, bytes sent, milliseconds, upstream service time,
/// `"x-forwarded-for"`, `"user-agent"`, `"x-request-id"`, `"authority"`, `"upstream host"`, cluster,
/// upstream local, downstream local (what was dialled), downstream remote (the application), server
/// name, route name. Those of HTTP are `-`, the code is 0, and so is what is missing.
pub fn write_text(out: &mut Vec<u8>, record: &FlowRecord) {
    out.push(b'[');
    write_utc(out, record.start);
    out.extend_from_slice(b"] \"- - -\" 0 ");
    let outcome = &record.outcome;
    plain(out, Some(outcome.flags()));
    out.extend_from_slice(b" - ");
    plain(out, outcome.termination());
    out.extend_from_slice(b" \"");
    plain(out, outcome.transport_failure());
    plain_after(out, "\" ", Some(record.bytes_received));
    plain_after(out, " ", Some(record.bytes_sent));
    plain_after(out, " ", Some(record.duration.as_millis()));
    out.extend_from_slice(b" - \"-\" \"-\" \"-\" \"");
    from_the_wire(out, record.authority.as_deref());
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
fn plain(out: &mut Vec<u8>, value: Option<impl Display>) {
    let start = out.len();
    if let Some(value) = value {
        // Writing to memory does not fail.
        write!(out, "{value}").ok();
    }
    if out.len() == start {
        out.push(b'-');
    }
}

/// A value somebody sent us: what could end a field, or a line, is escaped.
fn from_the_wire(out: &mut Vec<u8>, value: Option<&str>) {
    plain(out, value.map(|value| value.escape_debug()));
}
