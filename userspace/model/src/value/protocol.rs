//! The protocol of a service port.

use std::fmt;

/// What a port declares. Names are read in any case (semantics.md §1.1).
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Protocol {
    /// Nothing declared: the first bytes decide.
    #[default]
    Unset,
    /// `HTTP`: HTTP/1.1.
    Http,
    /// `HTTP2`: prior knowledge.
    Http2,
    /// `GRPC`: HTTP/2.
    Grpc,
    /// `GRPC-Web`: HTTP/2.
    GrpcWeb,
    /// `HTTPS`: the application's own TLS, routed by SNI.
    Https,
    /// `TLS`: the same for what is not HTTP.
    Tls,
    /// `TCP`: opaque bytes.
    Tcp,
    /// `Mongo`: opaque bytes, server may speak first.
    Mongo,
    /// `Redis`: opaque bytes.
    Redis,
    /// `MySQL`: opaque bytes, server speaks first.
    Mysql,
    /// `UDP`: nothing is generated for it.
    Udp,
    /// `HTTP_PROXY`: an explicit proxy listener (Sidecar egress).
    HttpProxy,
    /// `HBONE`: a gateway server of an ambient mesh; never acts here.
    Hbone,
}

/// How a port is treated: the rows of the table in semantics.md §0.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum ProtocolFamily {
    /// Routed by Host.
    Http,
    /// Routed by SNI.
    Tls,
    /// Routed by address or port alone.
    Tcp,
    /// Sniffed.
    Unset,
    /// Not handled.
    Udp,
}

impl Protocol {
    /// Reads a protocol name in any case; nothing for an unknown one. The empty string is [`Protocol::Unset`].
    pub fn parse(text: &str) -> Option<Self> {
        let known = [
            Self::Unset,
            Self::Http,
            Self::Http2,
            Self::Grpc,
            Self::GrpcWeb,
            Self::Https,
            Self::Tls,
            Self::Tcp,
            Self::Mongo,
            Self::Redis,
            Self::Mysql,
            Self::Udp,
            Self::HttpProxy,
            Self::Hbone,
        ];
        known.into_iter().find(|protocol| protocol.as_str().eq_ignore_ascii_case(text))
    }

    /// The name as Istio prints it; empty for [`Protocol::Unset`].
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Unset => "",
            Self::Http => "HTTP",
            Self::Http2 => "HTTP2",
            Self::Grpc => "GRPC",
            Self::GrpcWeb => "GRPC-Web",
            Self::Https => "HTTPS",
            Self::Tls => "TLS",
            Self::Tcp => "TCP",
            Self::Mongo => "Mongo",
            Self::Redis => "Redis",
            Self::Mysql => "MySQL",
            Self::Udp => "UDP",
            Self::HttpProxy => "HTTP_PROXY",
            Self::Hbone => "HBONE",
        }
    }

    /// The family that decides listener and routing.
    pub fn family(self) -> ProtocolFamily {
        match self {
            Self::Unset => ProtocolFamily::Unset,
            Self::Http | Self::Http2 | Self::Grpc | Self::GrpcWeb | Self::HttpProxy => {
                ProtocolFamily::Http
            }
            Self::Https | Self::Tls => ProtocolFamily::Tls,
            Self::Tcp | Self::Mongo | Self::Redis | Self::Mysql | Self::Hbone => {
                ProtocolFamily::Tcp
            }
            Self::Udp => ProtocolFamily::Udp,
        }
    }

    /// HTTP, HTTP2, GRPC, GRPC-Web or HTTP_PROXY.
    pub fn is_http(self) -> bool {
        self.family() == ProtocolFamily::Http
    }

    /// HTTPS or TLS.
    pub fn is_tls(self) -> bool {
        self.family() == ProtocolFamily::Tls
    }

    /// Whether the upstream is spoken to in HTTP/2 with prior knowledge (or ALPN `h2` inside TLS).
    pub fn is_http2(self) -> bool {
        matches!(self, Self::Http2 | Self::Grpc | Self::GrpcWeb)
    }
}

impl fmt::Display for Protocol {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.as_str())
    }
}
