//! Which servers have been silent lately.

use std::{
    collections::HashMap,
    net::SocketAddr,
    sync::{Mutex, PoisonError},
    time::{Duration, Instant},
};

/// Remembers servers that did not answer, so that they are asked last for a while. Without this a
/// dead server among two would delay every other query by the whole time limit.
#[derive(Debug, Default)]
pub(crate) struct Health(Mutex<HashMap<SocketAddr, Record>>);

#[derive(Clone, Copy, Debug)]
struct Record {
    /// Time limits passed in a row.
    silences: u32,
    /// The end of the last one.
    last: Instant,
}

impl Health {
    /// A query got no answer in time.
    pub(crate) fn silent(&self, server: SocketAddr) {
        let mut records = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        let now = Instant::now();
        if records.len() >= MAX_SERVERS && !records.contains_key(&server) {
            records.retain(|_, record| now.duration_since(record.last) < MEMORY);
            if records.len() >= MAX_SERVERS {
                return;
            }
        }
        let record = records.entry(server).or_insert(Record { silences: 0, last: now });
        *record = Record { silences: record.silences.saturating_add(1), last: now };
    }

    /// A query got an answer.
    pub(crate) fn spoke(&self, server: SocketAddr) {
        let mut records = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        if !records.is_empty() {
            records.remove(&server);
        }
    }

    /// Whether a server is to be asked last.
    pub(crate) fn is_silent(&self, server: SocketAddr) -> bool {
        let records = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        records
            .get(&server)
            .is_some_and(|record| record.silences >= PATIENCE && record.last.elapsed() < MEMORY)
    }
}

/// Silences in a row that count as one: a lost datagram is not a dead server.
const PATIENCE: u32 = 2;
/// How long a silence counts. After it the server gets its chance again.
const MEMORY: Duration = Duration::from_secs(10);
/// Servers remembered. Applications choose whom they ask, so there may be any number.
const MAX_SERVERS: usize = 256;

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn two_silences_and_a_word() {
        let health = Health::default();
        let server = "203.0.113.1:53".parse().unwrap();
        health.silent(server);
        assert!(!health.is_silent(server));
        health.silent(server);
        assert!(health.is_silent(server));
        health.spoke(server);
        assert!(!health.is_silent(server));
    }

    #[test]
    fn bounded() {
        let health = Health::default();
        for port in 1..1000 {
            health.silent(SocketAddr::from(([192, 0, 2, 1], port)));
        }
        assert_eq!(health.0.lock().unwrap().len(), MAX_SERVERS);
    }
}
