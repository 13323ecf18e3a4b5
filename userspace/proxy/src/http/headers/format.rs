//! `%COMMAND%`s in the values of headers, those of Envoy that make sense for a client's proxy.

use std::{
    borrow::Cow,
    time::{SystemTime, UNIX_EPOCH},
};

use http::HeaderMap;

use crate::{
    addrs::UpstreamAddr,
    commands::{Piece, pieces, take_apart},
    record::{FlowRecord, HttpFields, write_utc},
};

/// What commands can look at.
#[derive(Clone, Copy)]
pub(crate) struct Context<'a> {
    /// What is known of the exchange so far.
    pub(crate) flow: &'a FlowRecord,
    /// The request's headers, if those being changed are the answer's.
    pub(crate) request: Option<&'a HeaderMap>,
    /// The answer's headers, if those being changed are a trailer's.
    pub(crate) response: Option<&'a HeaderMap>,
}

/// A value with its commands replaced. `%%` is a percent sign; what a command does not know, or is no
/// command, is empty.
pub(crate) fn expand<'t>(
    template: &'t str,
    headers: &HeaderMap,
    context: &Context<'_>,
) -> Cow<'t, str> {
    if !template.contains('%') {
        return Cow::Borrowed(template);
    }
    let mut out = String::with_capacity(template.len());
    for piece in pieces(template) {
        match piece {
            Piece::Text(text) => out.push_str(text),
            Piece::Command(command) => {
                out.push_str(&value_of(command, headers, context).unwrap_or_default());
            }
        }
    }
    Cow::Owned(out)
}

/// The value of a command; nothing if it has none, or is none of ours.
fn value_of(command: &str, headers: &HeaderMap, context: &Context<'_>) -> Option<String> {
    let (name, argument, _) = take_apart(command);
    let Context { flow, request, response } = context;
    let http = flow.http.as_deref();
    let upstream = match &flow.upstream {
        Some(UpstreamAddr::Ip(addr)) => Some(*addr),
        Some(UpstreamAddr::Unix(_)) | None => None,
    };
    let client = flow.client.map(|client| client.0);
    let dialled = flow.destination().0;
    let value = match name {
        "REQ" => field(argument, |name| {
            let pseudo = http.and_then(|http| pseudo_header(http, name));
            pseudo.or_else(|| header(request.unwrap_or(headers), name))
        })?,
        "RESP" => field(argument, |name| header(response.unwrap_or(headers), name))?,
        "DOWNSTREAM_REMOTE_ADDRESS" => client?.to_string(),
        "DOWNSTREAM_REMOTE_ADDRESS_WITHOUT_PORT" => client?.ip().to_string(),
        "DOWNSTREAM_REMOTE_PORT" => client?.port().to_string(),
        "DOWNSTREAM_LOCAL_ADDRESS" => dialled.to_string(),
        "DOWNSTREAM_LOCAL_ADDRESS_WITHOUT_PORT" => dialled.ip().to_string(),
        "DOWNSTREAM_LOCAL_PORT" => dialled.port().to_string(),
        "UPSTREAM_HOST" | "UPSTREAM_REMOTE_ADDRESS" => flow.upstream.as_ref()?.to_string(),
        "UPSTREAM_REMOTE_ADDRESS_WITHOUT_PORT" => upstream?.ip().to_string(),
        "UPSTREAM_REMOTE_PORT" => upstream?.port().to_string(),
        "UPSTREAM_LOCAL_ADDRESS" => flow.upstream_local?.to_string(),
        "UPSTREAM_CLUSTER" => flow.cluster.as_ref()?.to_string(),
        "ROUTE_NAME" => flow.route_name.as_ref()?.to_string(),
        "REQUESTED_SERVER_NAME" => flow.server_name.as_ref()?.to_string(),
        "PROTOCOL" => http?.protocol().to_owned(),
        "RESPONSE_CODE" => http?.status.to_string(),
        "RESPONSE_CODE_DETAILS" => http?.details.to_string(),
        "RESPONSE_FLAGS" => flow.flags().to_string(),
        "BYTES_RECEIVED" => flow.bytes_received.to_string(),
        "BYTES_SENT" => flow.bytes_sent.to_string(),
        "HOSTNAME" => rustix::system::uname().nodename().to_str().ok()?.to_owned(),
        "ENVIRONMENT" => std::env::var(argument).ok()?,
        "START_TIME" => time(argument, flow.start)?,
        _ => return None,
    };
    Some(value)
}

fn header(headers: &HeaderMap, name: &str) -> Option<String> {
    headers.get(name)?.to_str().ok().map(str::to_owned)
}

fn pseudo_header(http: &HttpFields, name: &str) -> Option<String> {
    match name.to_ascii_lowercase().as_str() {
        ":authority" | "host" => http.authority.as_ref()?.to_str().ok().map(str::to_owned),
        ":method" => http.method.as_ref().map(ToString::to_string),
        ":path" => http.path.as_ref().map(ToString::to_string),
        _ => None,
    }
}

/// The header in `NAME?ALTERNATIVE:LENGTH`.
fn field(argument: &str, header: impl Fn(&str) -> Option<String>) -> Option<String> {
    let (names, length) = match argument.rsplit_once(':') {
        Some((names, length)) if !names.is_empty() => (names, length.parse().ok()),
        Some(_) | None => (argument, None),
    };
    let mut value = names.split('?').find_map(header)?;
    value.truncate(length.filter(|at| value.is_char_boundary(*at)).unwrap_or(value.len()));
    Some(value)
}

/// A moment, by default as in access logs; of strftime's letters those for numbers are known.
fn time(format: &str, moment: SystemTime) -> Option<String> {
    let mut utc = Vec::new();
    write_utc(&mut utc, moment);
    // 2026-11-20T10:47:00.123Z
    let utc = String::from_utf8(utc).ok()?;
    if format.is_empty() {
        return Some(utc);
    }
    let since = moment.duration_since(UNIX_EPOCH).unwrap_or_default();
    let seconds = since.as_secs().to_string();
    let nanos = format!("{:09}", since.subsec_nanos());
    let mut out = format.to_owned();
    for (letters, value) in [
        ("%s", seconds.as_str()),
        ("%3f", nanos.get(..3)?),
        ("%6f", nanos.get(..6)?),
        ("%9f", &nanos),
        ("%f", &nanos),
        ("%F", utc.get(..10)?),
        ("%T", utc.get(11..19)?),
        ("%Y", utc.get(..4)?),
        ("%m", utc.get(5..7)?),
        ("%d", utc.get(8..10)?),
        ("%H", utc.get(11..13)?),
        ("%M", utc.get(14..16)?),
        ("%S", utc.get(17..19)?),
    ] {
        out = out.replace(letters, value);
    }
    Some(out)
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use http::{HeaderValue, Version};

    use super::*;
    use crate::{
        addrs::{ClientAddr, OriginalDst},
        original::Original,
    };

    fn expanded(template: &str) -> String {
        let original = Original::new(OriginalDst("240.240.0.1:80".parse().unwrap()));
        let mut flow = FlowRecord::new(UNIX_EPOCH + Duration::from_millis(1_500), original);
        flow.client = Some(ClientAddr("10.0.0.7:4000".parse().unwrap()));
        flow.cluster = Some("outbound|80||a.example".into());
        let mut fields = HttpFields::new(Version::HTTP_2);
        fields.path = Some("/x".parse().unwrap());
        flow.http = Some(Box::new(fields));
        let mut headers = HeaderMap::new();
        headers.insert("user-agent", HeaderValue::from_static("curl"));
        let context = Context { flow: &flow, request: None, response: None };
        expand(template, &headers, &context).into_owned()
    }

    #[test]
    fn commands() {
        for (template, expected) in [
            ("plain", "plain"),
            ("100%%", "100%"),
            ("%%REQ(x)%%", "%REQ(x)%"),
            ("[%PROTOCOL%]", "[HTTP/2]"),
            ("%REQ(User-Agent)%/%REQ(nope)%", "curl/"),
            ("%REQ(nope?user-agent:2)%", "cu"),
            ("%REQ(:authority?user-agent)%", "curl"),
            ("%REQ(:PATH)%", "/x"),
            ("%DOWNSTREAM_REMOTE_ADDRESS%", "10.0.0.7:4000"),
            ("%DOWNSTREAM_REMOTE_ADDRESS_WITHOUT_PORT%", "10.0.0.7"),
            ("%DOWNSTREAM_LOCAL_PORT%", "80"),
            ("%UPSTREAM_CLUSTER%", "outbound|80||a.example"),
            ("%UPSTREAM_HOST%", ""),
            ("%START_TIME%", "1970-01-01T00:00:01.500Z"),
            ("%START_TIME(%s.%3f)%", "1.500"),
            ("%START_TIME(%Y/%m/%d)% x", "1970/01/01 x"),
            ("%NOPE%", ""),
            ("%UNTERMINATED", ""),
        ] {
            assert_eq!(expanded(template), expected, "{template}");
        }
    }
}
