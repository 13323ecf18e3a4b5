//! Access lines as MeshConfig's `accessLogFormat` has them: text with `%COMMAND%`s, those of Envoy that a
//! record can answer.

use std::io::Write;

use http::HeaderValue;

use super::{
    FlowRecord, HttpFields,
    text::{from_the_wire, plain, wire},
    time::write_utc,
};
use crate::commands::{Piece, pieces, take_apart};

/// A format, taken apart once.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Template {
    parts: Vec<Part>,
    unknown: Vec<String>,
}

#[derive(Clone, Debug, PartialEq, Eq)]
enum Part {
    Text(String),
    /// Fields of which the first that is there counts, cut to so many bytes.
    Field(Vec<Field>, Option<usize>),
}

/// What a command stands for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Field {
    StartTime,
    Method,
    Path,
    Authority,
    ForwardedFor,
    UserAgent,
    RequestId,
    ServiceTime,
    Protocol,
    Code,
    Details,
    Termination,
    TransportFailure,
    Flags,
    BytesReceived,
    BytesSent,
    Duration,
    UpstreamHost,
    UpstreamCluster,
    UpstreamLocal,
    DownstreamLocal,
    DownstreamRemote,
    ServerName,
    RouteName,
    /// A header that records do not keep, or a command that means nothing here.
    Nothing,
}

impl Template {
    /// Takes a format apart. `%%` is a percent sign; the line's end need not be written.
    pub fn new(format: &str) -> Self {
        let (mut parts, mut unknown) = (Vec::new(), Vec::new());
        for piece in pieces(format.trim_end_matches(['\r', '\n'])) {
            match piece {
                Piece::Text(more) => match parts.last_mut() {
                    Some(Part::Text(text)) => text.push_str(more),
                    Some(Part::Field(..)) | None => parts.push(Part::Text(more.to_owned())),
                },
                Piece::Command(command) => {
                    let (fields, most) = fields(command).unwrap_or_else(|| {
                        unknown.push(command.to_owned());
                        (vec![Field::Nothing], None)
                    });
                    parts.push(Part::Field(fields, most));
                }
            }
        }
        Self { parts, unknown }
    }

    /// Commands that nothing is known of: they print `-`.
    pub fn unknown(&self) -> &[String] {
        &self.unknown
    }

    /// Appends one line with its line feed.
    pub fn write(&self, out: &mut Vec<u8>, record: &FlowRecord) {
        for part in &self.parts {
            match part {
                Part::Text(text) => out.extend_from_slice(text.as_bytes()),
                Part::Field(fields, most) => {
                    let start = out.len();
                    for field in fields {
                        out.truncate(start);
                        field.write(out, record);
                        if out.get(start..) != Some(b"-") {
                            break;
                        }
                    }
                    if let Some(most) = most {
                        out.truncate(out.len().min(start + most));
                    }
                }
            }
        }
        out.push(b'\n');
    }
}

impl Field {
    fn write(self, out: &mut Vec<u8>, record: &FlowRecord) {
        let http = record.http.as_deref();
        let header = |out: &mut Vec<u8>, value: Option<&HeaderValue>| {
            wire(out, value.map(HeaderValue::as_bytes));
        };
        match self {
            Self::StartTime => write_utc(out, record.start),
            Self::Method => {
                wire(out, http.and_then(|http| Some(http.method.as_ref()?.as_str().as_bytes())));
            }
            Self::Path => {
                wire(out, http.and_then(|http| Some(http.path.as_ref()?.as_str().as_bytes())));
            }
            Self::Authority => match http.and_then(|http| http.authority.as_ref()) {
                Some(authority) => header(out, Some(authority)),
                None => from_the_wire(out, record.authority.as_deref()),
            },
            Self::ForwardedFor => header(out, http.and_then(|http| http.forwarded_for.as_ref())),
            Self::UserAgent => header(out, http.and_then(|http| http.user_agent.as_ref())),
            Self::RequestId => header(out, http.and_then(|http| http.request_id.as_ref())),
            Self::ServiceTime => {
                let waited = http.and_then(|http| http.upstream_service_time);
                plain(out, waited.map(|waited| waited.as_millis()));
            }
            Self::Protocol => plain(out, http.map(HttpFields::protocol)),
            Self::Code => plain(out, Some(http.map_or(0, |http| http.status))),
            Self::Details => plain(out, http.map(|http| &*http.details)),
            Self::Termination => plain(out, record.outcome.termination()),
            Self::TransportFailure => plain(out, record.outcome.transport_failure()),
            Self::Flags => plain(out, Some(record.flags())),
            Self::BytesReceived => plain(out, Some(record.bytes_received)),
            Self::BytesSent => plain(out, Some(record.bytes_sent)),
            Self::Duration => plain(out, Some(record.duration.as_millis())),
            Self::UpstreamHost => plain(out, record.upstream.as_ref()),
            Self::UpstreamCluster => plain(out, record.cluster.as_ref()),
            Self::UpstreamLocal => plain(out, record.upstream_local),
            Self::DownstreamLocal => plain(out, Some(record.destination())),
            Self::DownstreamRemote => plain(out, record.client),
            Self::ServerName => from_the_wire(out, record.server_name.as_deref()),
            Self::RouteName => plain(out, record.route_name.as_ref()),
            // Writing to memory does not fail.
            Self::Nothing => out.write_all(b"-").unwrap_or_default(),
        }
    }
}

/// What a command stands for: `REQ(X?Y):N` is header X, else Y, and N bytes of it at most.
fn fields(command: &str) -> Option<(Vec<Field>, Option<usize>)> {
    let (name, argument, behind) = take_apart(command);
    let most = behind.strip_prefix(':').and_then(|most| most.parse().ok());
    let field = match name {
        "REQ" => return Some((argument.split('?').map(request_header).collect(), most)),
        "RESP" => return Some((argument.split('?').map(response_header).collect(), most)),
        "TRAILER" | "HOSTNAME" | "DYNAMIC_METADATA" | "FILTER_STATE" => Field::Nothing,
        "START_TIME" => Field::StartTime,
        "PROTOCOL" => Field::Protocol,
        "RESPONSE_CODE" => Field::Code,
        "RESPONSE_CODE_DETAILS" => Field::Details,
        "CONNECTION_TERMINATION_DETAILS" => Field::Termination,
        "UPSTREAM_TRANSPORT_FAILURE_REASON" => Field::TransportFailure,
        "RESPONSE_FLAGS" => Field::Flags,
        "BYTES_RECEIVED" => Field::BytesReceived,
        "BYTES_SENT" => Field::BytesSent,
        "DURATION" => Field::Duration,
        "UPSTREAM_HOST" | "UPSTREAM_REMOTE_ADDRESS" => Field::UpstreamHost,
        "UPSTREAM_CLUSTER" | "UPSTREAM_CLUSTER_RAW" => Field::UpstreamCluster,
        "UPSTREAM_LOCAL_ADDRESS" => Field::UpstreamLocal,
        "DOWNSTREAM_LOCAL_ADDRESS" => Field::DownstreamLocal,
        "DOWNSTREAM_REMOTE_ADDRESS" | "DOWNSTREAM_DIRECT_REMOTE_ADDRESS" => Field::DownstreamRemote,
        "REQUESTED_SERVER_NAME" => Field::ServerName,
        "ROUTE_NAME" => Field::RouteName,
        _ => return None,
    };
    Some((vec![field], most))
}

fn request_header(name: &str) -> Field {
    match &*name.to_ascii_lowercase() {
        ":method" => Field::Method,
        // Records keep the path as it came, which is what Envoy puts into the first of these.
        "x-envoy-original-path" | ":path" => Field::Path,
        ":authority" | "host" => Field::Authority,
        "x-forwarded-for" => Field::ForwardedFor,
        "user-agent" => Field::UserAgent,
        "x-request-id" => Field::RequestId,
        _ => Field::Nothing,
    }
}

fn response_header(name: &str) -> Field {
    match &*name.to_ascii_lowercase() {
        "x-envoy-upstream-service-time" => Field::ServiceTime,
        ":status" => Field::Code,
        _ => Field::Nothing,
    }
}

#[cfg(test)]
mod tests {
    use std::time::SystemTime;

    use super::*;
    use crate::{
        addrs::OriginalDst,
        original::Original,
        record::{Outcome, write_text},
    };

    fn record() -> FlowRecord {
        let dialled = OriginalDst("192.0.2.1:80".parse().unwrap());
        let mut http = HttpFields::new(http::Version::HTTP_11);
        http.method = Some(http::Method::GET);
        http.path = Some("/a?b".parse().unwrap());
        http.authority = Some(HeaderValue::from_static("a.example"));
        http.user_agent = Some(HeaderValue::from_static("say \"hi\""));
        http.status = 200;
        FlowRecord {
            outcome: Outcome::Completed,
            cluster: Some("outbound|80||a.example".into()),
            bytes_sent: 12,
            http: Some(Box::new(http)),
            ..FlowRecord::new(SystemTime::UNIX_EPOCH, Original::new(dialled))
        }
    }

    fn line(format: &str) -> String {
        let mut out = Vec::new();
        Template::new(format).write(&mut out, &record());
        String::from_utf8(out).unwrap()
    }

    #[test]
    fn commands_are_replaced() {
        assert_eq!(line("%REQ(:METHOD)% %REQ(X-ENVOY-ORIGINAL-PATH?:PATH)%"), "GET /a?b\n");
        assert_eq!(line("100%% %RESPONSE_CODE% %BYTES_SENT%\n"), "100% 200 12\n");
        assert_eq!(
            line("%UPSTREAM_CLUSTER%|%ROUTE_NAME%|%REQ(COOKIE)%"),
            "outbound|80||a.example|-|-\n"
        );
        assert_eq!(line("%REQ(:PATH):2% \"%REQ(USER-AGENT)%\""), "/a \"say \\\"hi\\\"\"\n");
        assert_eq!(line("%START_TIME%"), "1970-01-01T00:00:00.000Z\n");
        assert_eq!(line("%REQ(X?:AUTHORITY)%%RESPONSE_FLAGS%"), "a.example-\n");
    }

    #[test]
    fn unknown_commands_are_told() {
        let template = Template::new("%NONSENSE% %DURATION% %REQ(A%");
        assert_eq!(template.unknown(), ["NONSENSE"]);
        assert_eq!(line("%NONSENSE%x"), "-x\n");
    }

    #[test]
    fn istios_default_can_be_written_out() {
        let format = "[%START_TIME%] \"%REQ(:METHOD)% %REQ(X-ENVOY-ORIGINAL-PATH?:PATH)% \
                      %PROTOCOL%\" %RESPONSE_CODE% %RESPONSE_FLAGS% %RESPONSE_CODE_DETAILS% \
                      %CONNECTION_TERMINATION_DETAILS% \"%UPSTREAM_TRANSPORT_FAILURE_REASON%\" \
                      %BYTES_RECEIVED% %BYTES_SENT% %DURATION% \
                      %RESP(X-ENVOY-UPSTREAM-SERVICE-TIME)% \"%REQ(X-FORWARDED-FOR)%\" \
                      \"%REQ(USER-AGENT)%\" \"%REQ(X-REQUEST-ID)%\" \"%REQ(:AUTHORITY)%\" \
                      \"%UPSTREAM_HOST%\" %UPSTREAM_CLUSTER_RAW% %UPSTREAM_LOCAL_ADDRESS% \
                      %DOWNSTREAM_LOCAL_ADDRESS% %DOWNSTREAM_REMOTE_ADDRESS% \
                      %REQUESTED_SERVER_NAME% %ROUTE_NAME%";
        let mut expected = Vec::new();
        write_text(&mut expected, &record());
        assert_eq!(line(format), String::from_utf8(expected).unwrap());
    }
}
