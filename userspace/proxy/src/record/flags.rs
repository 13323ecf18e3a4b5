//! Response flags: the short words for what went wrong, as Envoy and Istio print them
//! (semantics.md §7).

use std::fmt;

/// One reason a flow did not go as asked.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum ResponseFlag {
    /// `UH`: the cluster has no endpoint to offer; also what BlackHoleCluster answers.
    NoHealthyUpstream,
    /// `UF`: connecting to the endpoint failed.
    UpstreamConnectionFailure,
    /// `UO`: a limit of the cluster's connection pool is reached.
    UpstreamOverflow,
    /// `NR`: nothing on the listener takes the connection.
    NoRoute,
    /// `URX`: as many connects were tried as are allowed.
    RetryLimitExceeded,
    /// `UT`: the endpoint did not answer in time.
    UpstreamTimeout,
    /// `UC`: the endpoint broke off.
    UpstreamConnectionTermination,
    /// `DC`: the application broke off.
    DownstreamConnectionTermination,
    /// `DT`: the flow lasted as long as a flow may.
    DurationTimeout,
    /// `NC`: the route leads to a cluster that does not exist.
    NoCluster,
    /// `DF`: the endpoint's name does not resolve.
    DnsFailure,
    /// `OM`: egressd itself has reached a limit.
    Overload,
    /// `LR`: egressd broke off, because it ends.
    LocalReset,
    /// `UR`: the endpoint reset the stream of the request.
    UpstreamReset,
    /// `DI`: a delay was injected on purpose.
    DelayInjected,
    /// `FI`: the answer was injected on purpose.
    FaultInjected,
    /// `SI`: nothing moved for as long as a request may be idle.
    StreamIdleTimeout,
    /// `DPE`: what the application sent is not HTTP.
    DownstreamProtocolError,
    /// `UPE`: what the endpoint sent is not HTTP.
    UpstreamProtocolError,
}

/// A set of [`ResponseFlag`]s, printed in their order and with commas; empty is `-`.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct ResponseFlags(u32);

impl ResponseFlag {
    /// Every flag, in the order in which they are printed.
    pub const ALL: [Self; 19] = [
        Self::NoHealthyUpstream,
        Self::UpstreamTimeout,
        Self::LocalReset,
        Self::UpstreamReset,
        Self::UpstreamConnectionFailure,
        Self::UpstreamConnectionTermination,
        Self::UpstreamOverflow,
        Self::NoRoute,
        Self::DelayInjected,
        Self::FaultInjected,
        Self::DownstreamConnectionTermination,
        Self::RetryLimitExceeded,
        Self::StreamIdleTimeout,
        Self::DownstreamProtocolError,
        Self::DurationTimeout,
        Self::UpstreamProtocolError,
        Self::NoCluster,
        Self::Overload,
        Self::DnsFailure,
    ];

    /// The word in access logs and metric labels.
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::NoHealthyUpstream => "UH",
            Self::UpstreamConnectionFailure => "UF",
            Self::UpstreamOverflow => "UO",
            Self::NoRoute => "NR",
            Self::RetryLimitExceeded => "URX",
            Self::UpstreamTimeout => "UT",
            Self::UpstreamConnectionTermination => "UC",
            Self::DownstreamConnectionTermination => "DC",
            Self::DurationTimeout => "DT",
            Self::NoCluster => "NC",
            Self::DnsFailure => "DF",
            Self::Overload => "OM",
            Self::LocalReset => "LR",
            Self::UpstreamReset => "UR",
            Self::DelayInjected => "DI",
            Self::FaultInjected => "FI",
            Self::StreamIdleTimeout => "SI",
            Self::DownstreamProtocolError => "DPE",
            Self::UpstreamProtocolError => "UPE",
        }
    }
}

impl ResponseFlags {
    /// No flag: the flow went as asked.
    pub const NONE: Self = Self(0);

    /// The set with one more flag.
    #[must_use]
    pub const fn with(self, flag: ResponseFlag) -> Self {
        Self(self.0 | (1 << flag as u16))
    }

    /// Whether the flag is in the set.
    pub const fn contains(self, flag: ResponseFlag) -> bool {
        self.0 & (1 << flag as u16) != 0
    }

    /// The flags in the order in which they are printed.
    pub fn iter(self) -> impl Iterator<Item = ResponseFlag> {
        ResponseFlag::ALL.into_iter().filter(move |flag| self.contains(*flag))
    }
}

impl From<ResponseFlag> for ResponseFlags {
    fn from(flag: ResponseFlag) -> Self {
        Self::NONE.with(flag)
    }
}

impl fmt::Display for ResponseFlag {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.as_str())
    }
}

impl fmt::Display for ResponseFlags {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if *self == Self::NONE {
            return f.write_str("-");
        }
        for (at, flag) in self.iter().enumerate() {
            if at > 0 {
                f.write_str(",")?;
            }
            flag.fmt(f)?;
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn flags_print_in_one_order() {
        let flags = ResponseFlags::from(ResponseFlag::RetryLimitExceeded)
            .with(ResponseFlag::UpstreamConnectionFailure);
        assert_eq!(flags.to_string(), "UF,URX");
        assert_eq!(ResponseFlags::NONE.to_string(), "-");
    }

    #[test]
    fn every_flag_is_its_own() {
        let all = ResponseFlag::ALL.into_iter().fold(ResponseFlags::NONE, ResponseFlags::with);
        assert_eq!(all.iter().count(), ResponseFlag::ALL.len());
    }
}
