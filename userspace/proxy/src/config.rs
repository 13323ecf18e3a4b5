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
            max_connect_attempts: 3,
            max_pipes: 512,
            http: HttpSettings::default(),
        }
    }
}

impl Config {
    /// The same limits, lowered to what `descriptors` open files have room for: a flow needs two,
    /// a pipe two, and [`RESERVED`] are left for everything else.
    #[must_use]
    pub fn fitted(self, descriptors: u64) -> Self {
        let descriptors = usize::try_from(descriptors).unwrap_or(usize::MAX);
        let room = descriptors.saturating_sub(RESERVED) / 2;
        // Flows come first: a flow without a pipe is slower, but it works.
        let max_pipes = self.max_pipes.min(room / 8);
        Self { max_flows: self.max_flows.min(room - max_pipes).max(1), max_pipes, ..self }
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
            (fitted.max_flows, fitted.max_pipes)
        };
        assert_eq!(fitted(1_000_000), (65_536, 512));
        assert_eq!(fitted(20_000), (9_232, 512));
        assert_eq!(fitted(1024), (224, 32));
        assert_eq!(fitted(0), (1, 0));
    }
}
