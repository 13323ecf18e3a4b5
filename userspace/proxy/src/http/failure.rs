//! Why a try came to nothing, and how Envoy puts it: the flag, the status, and the sentence in the
//! answer's body.

use std::error::Error;

use http::StatusCode;

use super::{reply::Reply, upstream::NoEndpoint};
use crate::{
    connect::LOCAL_ADDRESS,
    record::{ResponseFlag, TransportFailure},
};

/// Why a try came to nothing.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Failure {
    /// There is nowhere to send it.
    NoEndpoint(NoEndpoint),
    /// A limit of the cluster is reached.
    Overflow,
    /// All clusters together have as many connections as there may be.
    Full,
    /// There is no connection.
    NotConnected(TransportFailure),
    /// The upstream closed or reset the connection.
    Terminated,
    /// The upstream reset the stream.
    Reset,
    /// The upstream has not looked at the request.
    Refused,
    /// What the upstream sent is not HTTP.
    Protocol,
    /// The try took too long.
    TimedOut,
    /// The application's part broke off.
    Downstream(super::request_body::Broken),
}

impl Failure {
    /// What hyper means.
    pub(crate) fn of(error: &hyper::Error) -> Self {
        let mut cause = error.source();
        while let Some(source) = cause {
            if let Some(error) = source.downcast_ref::<h2::Error>() {
                return Self::of_h2(error);
            }
            cause = source.source();
        }
        if error.is_parse() { Self::Protocol } else { Self::Terminated }
    }

    fn of_h2(error: &h2::Error) -> Self {
        match error.reason() {
            _ if error.is_io() => Self::Terminated,
            Some(h2::Reason::REFUSED_STREAM) => Self::Refused,
            Some(_) if error.is_go_away() && error.is_remote() => Self::Terminated,
            Some(_) if error.is_remote() => Self::Reset,
            Some(_) => Self::Protocol,
            None => Self::Terminated,
        }
    }

    /// Envoy's word for it.
    fn word(&self) -> &'static str {
        match self {
            Self::Overflow | Self::Full => "overflow",
            Self::NotConnected(TransportFailure::Timeout) => "connection timeout",
            Self::NotConnected(_) => "remote connection failure",
            Self::Terminated => "connection termination",
            Self::Reset => "remote reset",
            Self::Refused => "remote refused stream reset",
            Self::Protocol => "protocol error",
            Self::NoEndpoint(_) | Self::TimedOut | Self::Downstream(_) => "local reset",
        }
    }

    fn flag(&self) -> ResponseFlag {
        match self {
            Self::Overflow | Self::Full => ResponseFlag::UpstreamOverflow,
            Self::NotConnected(_) => ResponseFlag::UpstreamConnectionFailure,
            Self::Terminated => ResponseFlag::UpstreamConnectionTermination,
            Self::Reset | Self::Refused => ResponseFlag::UpstreamReset,
            Self::Protocol => ResponseFlag::UpstreamProtocolError,
            Self::TimedOut => ResponseFlag::UpstreamTimeout,
            Self::NoEndpoint(NoEndpoint::Unresolved) => ResponseFlag::DnsFailure,
            Self::NoEndpoint(NoEndpoint::DnsOverflow) => ResponseFlag::UpstreamOverflow,
            Self::NoEndpoint(NoEndpoint::NoneHealthy | NoEndpoint::Foreign | NoEndpoint::Local) => {
                ResponseFlag::NoHealthyUpstream
            }
            Self::Downstream(super::request_body::Broken::Gone) => {
                ResponseFlag::DownstreamConnectionTermination
            }
            Self::Downstream(super::request_body::Broken::Malformed) => {
                ResponseFlag::DownstreamProtocolError
            }
        }
    }

    /// What the transport said.
    pub(crate) fn transport(&self) -> Option<&TransportFailure> {
        match self {
            Self::NotConnected(failure) => Some(failure),
            Self::NoEndpoint(_)
            | Self::Overflow
            | Self::Full
            | Self::Terminated
            | Self::Reset
            | Self::Refused
            | Self::Protocol
            | Self::TimedOut
            | Self::Downstream(_) => None,
        }
    }

    /// The answer to the application, after the last try.
    pub(crate) fn reply(&self, retried: bool) -> Reply {
        let unavailable = StatusCode::SERVICE_UNAVAILABLE;
        let reply = match self {
            Self::NoEndpoint(NoEndpoint::NoneHealthy) => {
                Reply::new(unavailable, "no_healthy_upstream").text("no healthy upstream")
            }
            Self::NoEndpoint(NoEndpoint::Unresolved) => {
                Reply::new(unavailable, "dns_resolution_failure").text("DNS resolution failure")
            }
            Self::NoEndpoint(NoEndpoint::DnsOverflow) => {
                Reply::new(unavailable, "dns_cache_overflow").text("DNS cache overflow")
            }
            Self::NoEndpoint(NoEndpoint::Local) => {
                Reply::new(StatusCode::FORBIDDEN, LOCAL_ADDRESS).text("local address refused")
            }
            Self::NoEndpoint(NoEndpoint::Foreign) => {
                Reply::new(StatusCode::BAD_GATEWAY, "foreign_destination")
            }
            Self::TimedOut => Reply::new(StatusCode::GATEWAY_TIMEOUT, "upstream_per_try_timeout")
                .text("upstream request timeout"),
            Self::Downstream(_) => {
                Reply::new(StatusCode::BAD_REQUEST, "http1.codec_error").text("Bad Request").close()
            }
            Self::Protocol => Reply::new(StatusCode::BAD_GATEWAY, self.details(BEFORE)),
            Self::Overflow
            | Self::Full
            | Self::NotConnected(_)
            | Self::Terminated
            | Self::Reset
            | Self::Refused => Reply::new(unavailable, self.details(BEFORE)),
        };
        let reply = if reply.text.is_empty() && self.is_reset() {
            reply.text(self.sentence(retried))
        } else {
            reply
        };
        Reply { overloaded: matches!(self, Self::Overflow | Self::Full), ..reply.flag(self.flag()) }
    }

    fn is_reset(&self) -> bool {
        !matches!(self, Self::NoEndpoint(_) | Self::TimedOut | Self::Downstream(_))
    }

    /// How the record calls it: no spaces, as access logs are split at them.
    fn details(&self, when: &str) -> String {
        let mut details = format!("{when}{{{}", self.word().replace(' ', "_"));
        if let Some(reason) = self.transport_reason() {
            details.push('|');
            details.push_str(&reason);
        }
        details.push('}');
        details
    }

    fn sentence(&self, retried: bool) -> String {
        let retried = if retried { "retried and the latest " } else { "" };
        let mut sentence = format!(
            "upstream connect error or disconnect/reset before headers. {retried}reset reason: {}",
            self.word()
        );
        if let Some(reason) = self.transport_reason() {
            sentence.push_str(", transport failure reason: ");
            sentence.push_str(&reason.replace('_', " "));
        }
        sentence
    }

    /// A timeout is a reason of its own and needs no other.
    fn transport_reason(&self) -> Option<String> {
        if *self == Self::Full {
            return Some("max_http_connections".to_owned());
        }
        let failure = self.transport().filter(|failure| **failure != TransportFailure::Timeout)?;
        Some(failure.to_string())
    }
}

/// The flag and the details of an answer that broke off after its head.
pub(crate) fn broken_details(error: &hyper::Error) -> (ResponseFlag, String) {
    let failure = Failure::of(error);
    (failure.flag(), failure.details(AFTER))
}

const BEFORE: &str = "upstream_reset_before_response_started";
const AFTER: &str = "upstream_reset_after_response_started";

#[cfg(test)]
mod tests {
    use super::*;
    use crate::record::Errno;

    #[test]
    fn a_refused_connect_reads_as_envoys() {
        let refused = TransportFailure::Delayed(
            std::io::ErrorKind::ConnectionRefused,
            Errno(libc::ECONNREFUSED),
        );
        let reply = Failure::NotConnected(refused).reply(true);
        assert_eq!(
            reply.text,
            "upstream connect error or disconnect/reset before headers. retried and the latest \
             reset reason: remote connection failure, transport failure reason: delayed connect \
             error: Connection refused"
        );
        assert_eq!(
            reply.details,
            "upstream_reset_before_response_started{remote_connection_failure|\
             delayed_connect_error:_Connection_refused}"
        );
        assert_eq!(reply.flag, Some(ResponseFlag::UpstreamConnectionFailure));
    }

    #[test]
    fn others() {
        let check = |failure: Failure, status: u16, details: &str| {
            let reply = failure.reply(false);
            assert_eq!((reply.status.as_u16(), &*reply.details), (status, details));
        };
        check(
            Failure::NotConnected(TransportFailure::Timeout),
            503,
            "upstream_reset_before_response_started{connection_timeout}",
        );
        check(Failure::Overflow, 503, "upstream_reset_before_response_started{overflow}");
        check(Failure::Protocol, 502, "upstream_reset_before_response_started{protocol_error}");
        check(Failure::NoEndpoint(NoEndpoint::NoneHealthy), 503, "no_healthy_upstream");
        check(Failure::TimedOut, 504, "upstream_per_try_timeout");
    }
}
