//! How a flow ended, as one closed list: the source of its flags, its details, and the metric label.

use std::{fmt, io};

use super::flags::{ResponseFlag, ResponseFlags};
use crate::{socket::ConnectError, tls::TlsFailure};

/// How a flow ended.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Outcome {
    /// Both sides sent all they had.
    Completed,
    /// The application broke off after the flow was established.
    AppReset,
    /// The application broke off, or went, before there was an endpoint to talk to.
    AppGone,
    /// The endpoint broke off.
    UpstreamReset,
    /// The endpoint broke off, and TLS tells why, or that it was not the endpoint's own doing.
    UpstreamBroke(TransportFailure),
    /// Nothing was sent for as long as a flow may be idle.
    IdleTimeout,
    /// The flow lasted as long as a flow may.
    DurationLimit,
    /// Nothing on the listener takes the connection.
    NoRoute,
    /// The route leads to a cluster that does not exist.
    NoCluster,
    /// The cluster has no endpoint: none configured, none resolved, or BlackHoleCluster.
    NoHealthyUpstream,
    /// The cluster has as many connections as it may have.
    Overflow,
    /// None of the names of the cluster's endpoints resolves.
    Unresolved,
    /// The name that the application asked for does not resolve.
    DnsFailure,
    /// As many names of applications are being resolved, or known, as may be.
    DnsOverflow,
    /// `strict`, or the address that it leads to, forbids it; the word says why.
    Refused(&'static str),
    /// No endpoint could be connected to; the reason is that of the last attempt.
    ConnectFailed(TransportFailure),
    /// egressd carries as many flows as it may.
    FlowLimit,
    /// egressd ends, and the time for draining is over.
    Drained,
    /// The client of a Gateway did not get its TLS: it is not who it should be, or a file of ours is
    /// missing.
    NotTerminated(Box<TlsFailure>),
    /// The flow was dropped without a word: a defect of egressd.
    Forgotten,
}

/// Why an endpoint could not be connected to, as `upstream_transport_failure_reason`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum TransportFailure {
    /// The kernel refused at once.
    Immediate(io::ErrorKind, Errno),
    /// The network refused.
    Delayed(io::ErrorKind, Errno),
    /// Nobody answered in time.
    Timeout,
    /// The name does not resolve.
    Unresolved,
    /// The loop guard refused.
    Loop,
    /// There was no socket to be had.
    NoSocket(Errno),
    /// There is a connection, and no TLS on it.
    Tls(Box<TlsFailure>),
    /// There is a connection, and no way through it to where the tunnel leads.
    Tunnel(TunnelFailure),
}

/// Why a tunnel did not open.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum TunnelFailure {
    /// The proxy at the endpoint answered with this status.
    Status(u16),
    /// It answered something that is not HTTP.
    NotHttp,
    /// It closed the connection without an answer.
    Closed,
    /// It did not answer within the time for connecting.
    Timeout,
    /// The rule asks for a POST, which is not done.
    Post,
}

/// An error number of the system; 0 where there is none.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Errno(pub i32);

impl Outcome {
    /// The response flags.
    pub fn flags(&self) -> ResponseFlags {
        match self {
            Self::Completed | Self::IdleTimeout => ResponseFlags::NONE,
            Self::AppReset | Self::AppGone => ResponseFlag::DownstreamConnectionTermination.into(),
            Self::UpstreamReset | Self::UpstreamBroke(_) => {
                ResponseFlag::UpstreamConnectionTermination.into()
            }
            Self::DurationLimit => ResponseFlag::DurationTimeout.into(),
            Self::NoRoute => ResponseFlag::NoRoute.into(),
            Self::NoCluster => ResponseFlag::NoCluster.into(),
            Self::NoHealthyUpstream | Self::Unresolved | Self::Refused(_) => {
                ResponseFlag::NoHealthyUpstream.into()
            }
            Self::Overflow | Self::DnsOverflow => ResponseFlag::UpstreamOverflow.into(),
            Self::DnsFailure => ResponseFlag::DnsFailure.into(),
            // TCP connects that fail carry both, as Envoy's do: the attempts are used up as well.
            Self::ConnectFailed(_) => ResponseFlags::from(ResponseFlag::UpstreamConnectionFailure)
                .with(ResponseFlag::RetryLimitExceeded),
            Self::FlowLimit => ResponseFlag::Overload.into(),
            Self::NotTerminated(_) => ResponseFlag::DownstreamProtocolError.into(),
            Self::Drained | Self::Forgotten => ResponseFlag::LocalReset.into(),
        }
    }

    /// What ended the flow beside the two sides, for `connection_termination_details`.
    pub fn termination(&self) -> Option<&'static str> {
        match self {
            Self::IdleTimeout => Some("tcp_session_idle_timeout"),
            Self::DurationLimit => Some("max_connection_duration_reached"),
            Self::NoRoute => Some("filter_chain_not_found"),
            Self::FlowLimit => Some("flow_limit_reached"),
            Self::Drained => Some("drain_time_over"),
            Self::Forgotten => Some("internal_error"),
            Self::Refused(what) => Some(what),
            // Envoy's word for the limit of its dynamic forward proxy.
            Self::DnsOverflow => Some("dns_cache_overflow"),
            Self::NotTerminated(_) => Some("downstream_tls_failed"),
            Self::Completed
            | Self::AppReset
            | Self::AppGone
            | Self::UpstreamReset
            | Self::UpstreamBroke(_)
            | Self::NoCluster
            | Self::NoHealthyUpstream
            | Self::Overflow
            | Self::Unresolved
            | Self::DnsFailure
            | Self::ConnectFailed(_) => None,
        }
    }

    /// Why there was no endpoint to connect to, or none could be, if that is what happened.
    pub fn transport_failure(&self) -> Option<&TransportFailure> {
        match self {
            Self::ConnectFailed(failure) | Self::UpstreamBroke(failure) => Some(failure),
            Self::Unresolved | Self::DnsFailure => Some(&TransportFailure::Unresolved),
            Self::Completed
            | Self::AppReset
            | Self::AppGone
            | Self::UpstreamReset
            | Self::IdleTimeout
            | Self::DurationLimit
            | Self::NoRoute
            | Self::NoCluster
            | Self::NoHealthyUpstream
            | Self::Overflow
            | Self::DnsOverflow
            | Self::FlowLimit
            | Self::Refused(_)
            | Self::Drained
            | Self::NotTerminated(_)
            | Self::Forgotten => None,
        }
    }

    /// Whether the flow went as the application and the endpoint wanted it to.
    pub fn is_success(&self) -> bool {
        self.flags() == ResponseFlags::NONE
    }
}

impl From<&ConnectError> for TransportFailure {
    fn from(error: &ConnectError) -> Self {
        match error {
            ConnectError::Loop { .. } => Self::Loop,
            ConnectError::Socket { source, .. } => Self::NoSocket(source.into()),
            ConnectError::Immediate { source, .. } => Self::Immediate(source.kind(), source.into()),
            ConnectError::Delayed { source, .. } => Self::Delayed(source.kind(), source.into()),
            ConnectError::Timeout { .. } => Self::Timeout,
        }
    }
}

impl From<&io::Error> for Errno {
    fn from(error: &io::Error) -> Self {
        Self(error.raw_os_error().unwrap_or(0))
    }
}

impl fmt::Display for TransportFailure {
    /// In Envoy's words, which hold no spaces in an access log.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Immediate(_, errno) => write!(f, "immediate_connect_error:_{errno}"),
            Self::Delayed(_, errno) => write!(f, "delayed_connect_error:_{errno}"),
            Self::Timeout => f.write_str("connection_timeout"),
            Self::Unresolved => f.write_str("dns_resolution_failure"),
            Self::Loop => f.write_str("upstream_leads_back_to_egressd"),
            Self::NoSocket(errno) => write!(f, "no_socket:_{errno}"),
            Self::Tls(failure) => failure.fmt(f),
            Self::Tunnel(failure) => failure.fmt(f),
        }
    }
}

impl fmt::Display for TunnelFailure {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Status(status) => write!(f, "tunnel_refused:_{status}"),
            Self::NotHttp => f.write_str("tunnel_answer_is_not_HTTP"),
            Self::Closed => f.write_str("tunnel_closed_without_an_answer"),
            Self::Timeout => f.write_str("tunnel_timeout"),
            Self::Post => f.write_str("tunnel_by_POST_not_supported"),
        }
    }
}

impl From<TlsFailure> for TransportFailure {
    fn from(failure: TlsFailure) -> Self {
        Self::Tls(Box::new(failure))
    }
}

impl From<TunnelFailure> for TransportFailure {
    fn from(failure: TunnelFailure) -> Self {
        Self::Tunnel(failure)
    }
}

impl fmt::Display for Errno {
    /// The system's description with `_` for spaces: `Connection_refused`.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let text = io::Error::from_raw_os_error(self.0).to_string();
        // The standard library appends the number in parentheses.
        let text = text.split(" (os error").next().unwrap_or_default();
        for (at, word) in text.split(' ').enumerate() {
            if at > 0 {
                f.write_str("_")?;
            }
            f.write_str(word)?;
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn failures_read_as_envoys_do() {
        let refused = io::Error::from_raw_os_error(libc::ECONNREFUSED);
        let to = "10.0.0.1:80".parse::<std::net::SocketAddr>().unwrap().into();
        let error = ConnectError::Delayed { to, source: refused };
        let failure = TransportFailure::from(&error);
        assert_eq!(failure.to_string(), "delayed_connect_error:_Connection_refused");
        assert_eq!(Outcome::ConnectFailed(failure).flags().to_string(), "UF,URX");
    }
}
