//! The proxy's own limits; what depends on a destination comes with the tables.

use std::thread::available_parallelism;

use crate::http::HttpSettings;

/// Limits of the proxy.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Config {
    /// Threads that carry flows, each with an event loop of its own. Default: as many as there are
    /// CPUs the process may run on. 0 counts as 1.
    pub workers: usize,
    /// Flows carried at once; a further connection is reset, with flag `OM` in its record. Default
    /// 65,536; never more than the limit of open files has room for ([`Config::fitted`]).
    pub max_flows: usize,
    /// Connections to HTTP endpoints at once, with and without a request. At the limit the one without a
    /// request for longest is closed; where all are in use, a request that needs one more is answered
    /// 503, with flag `UO` and `max_http_connections` in its record. Default 32,768; never more than
    /// the limit of open files leaves beside flows and pipes ([`Config::fitted`]).
    pub max_http_connections: usize,
    /// Endpoints tried for one connection, each once, before it fails with `UF,URX`. Default 3.
    /// 0 counts as 1.
    pub max_connect_attempts: u32,
    /// Pipes for splice(2), two descriptors each, lent to flows that move much; with none left a
    /// flow is copied. Default 512; 0 turns splicing off.
    pub max_pipes: usize,
    /// Limits and habits of HTTP.
    pub http: HttpSettings,
}

impl Default for Config {
    fn default() -> Self {
        Self {
            workers: available_parallelism().map_or(1, usize::from),
            max_flows: 65_536,
            max_http_connections: 32_768,
            max_connect_attempts: 3,
            max_pipes: 512,
            http: HttpSettings::default(),
        }
    }
}

impl Config {
    /// The same limits, lowered to what `descriptors` open files have room for: a flow needs two,
    /// a pipe two, [`RESERVED`] are left for everything else, and a thirteenth of the rest is for
    /// connections to HTTP endpoints. That is enough for many: a flow that carries requests has one
    /// descriptor of its own and is counted with two.
    #[must_use]
    pub fn fitted(self, descriptors: u64) -> Self {
        let descriptors = usize::try_from(descriptors).unwrap_or(usize::MAX);
        let room = descriptors.saturating_sub(RESERVED) / 2;
        // Flows come first: a flow without a pipe is slower, but it works.
        let max_pipes = self.max_pipes.min(room / 8);
        let max_flows = self.max_flows.min((room - max_pipes) * 12 / 13).max(1);
        let left = (2 * room).saturating_sub(2 * (max_flows + max_pipes));
        let max_http_connections = self.max_http_connections.min(left).max(1);
        Self { max_flows, max_http_connections, max_pipes, ..self }
    }

    /// The same limits, lowered to what this process's limit of open files has room for.
    #[must_use]
    pub fn fitted_to_process(self) -> Self {
        let limit = rustix::process::getrlimit(rustix::process::Resource::Nofile);
        limit.current.map_or(self, |descriptors| self.fitted(descriptors))
    }
}

/// Descriptors for listeners, event loops, logs, maps, lookups and the admin socket.
pub const RESERVED: usize = 512;

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn limits_fit_the_descriptors() {
        let fitted = |descriptors| {
            let fitted = Config::default().fitted(descriptors);
            let all = 2 * fitted.max_flows + fitted.max_http_connections + 2 * fitted.max_pipes;
            assert!(all as u64 + RESERVED as u64 <= descriptors.max(515), "{fitted:?}");
            (fitted.max_flows, fitted.max_http_connections, fitted.max_pipes)
        };
        assert_eq!(fitted(1_000_000), (65_536, 32_768, 512));
        assert_eq!(fitted(20_000), (8_521, 1_422, 512));
        assert_eq!(fitted(1024), (206, 36, 32));
        assert_eq!(fitted(0), (1, 1, 0));
    }
}
