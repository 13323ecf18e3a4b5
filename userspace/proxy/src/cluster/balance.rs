//! Load balancing: which endpoint a connection goes to.

use std::{
    net::IpAddr,
    sync::atomic::{AtomicU64, Ordering},
    time::Instant,
};

use egressd_tables::{
    Warmup,
    balancing::{first_wins, hash_ip, mix, ticket},
};

use super::{
    host::{Host, HostSet, Level},
    shares::Shares,
};
use crate::{cluster::Balance, random};

/// Chooses endpoints of one cluster, each at most once a connection.
///
/// A level's endpoints are all tried before the next level's.
pub(crate) struct Choice<'a> {
    hosts: &'a HostSet,
    balance: Balance,
    /// How many choices have been made in turn, in this cluster, whatever the generation.
    turn: &'a AtomicU64,
    client: IpAddr,
    /// Decides instead, where there is one.
    key: Option<u64>,
    /// How the share of a new endpoint grows; for turns and least requests.
    warmup: Option<Warmup>,
    /// The level that is tried first.
    first: usize,
    /// Levels that were tried before.
    level: usize,
    /// Places in the level that were tried already.
    tried: Vec<usize>,
}

impl<'a> Choice<'a> {
    /// Starts choosing for a connection from `client`.
    pub(crate) fn new(
        hosts: &'a HostSet,
        balance: Balance,
        turn: &'a AtomicU64,
        client: IpAddr,
    ) -> Self {
        let first = match &*hosts.loads {
            [] | [_] => 0,
            loads => {
                let point = random::below(100);
                loads.iter().position(|load| point < *load).unwrap_or(0)
            }
        };
        Self {
            hosts,
            balance,
            turn,
            client,
            key: None,
            warmup: None,
            first,
            level: 0,
            tried: Vec::new(),
        }
    }

    /// The same, by a key that the application's request has, if it has one.
    pub(crate) fn by_key(self, key: Option<u64>) -> Self {
        Self { key, ..self }
    }

    /// The same, with endpoints that have joined the others getting less at first.
    pub(crate) fn warming(self, warmup: Option<Warmup>) -> Self {
        Self { warmup, ..self }
    }

    /// The next endpoint to try; `None` when all were tried.
    pub(crate) fn next(&mut self) -> Option<&'a Host> {
        loop {
            let levels = &self.hosts.levels;
            if self.level == levels.len() {
                return None;
            }
            let level = levels.get((self.first + self.level) % levels.len())?;
            if let Some(at) = self.pick(level) {
                self.tried.push(at);
                return level.hosts.get(at);
            }
            self.level += 1;
            self.tried.clear();
        }
    }

    fn pick(&self, level: &Level) -> Option<usize> {
        let count = level.hosts.len();
        if self.tried.len() >= count {
            return None;
        }
        if count == 1 {
            return Some(0);
        }
        if !self.tried.is_empty() {
            // After a failure any other endpoint will do; from a random place, so that the load of
            // a dead one does not go to its neighbour alone.
            let start = random::below(count as u64) as usize;
            return (0..count).map(|at| (start + at) % count).find(|at| !self.tried.contains(at));
        }
        if let Some(key) = self.key {
            return Some(level.by_rendezvous(mix(key)));
        }
        let warming = self.warmup.and_then(|warmup| level.warming(&warmup, Instant::now()));
        let shares = warming.as_ref().unwrap_or(&level.shares);
        Some(match self.balance {
            Balance::RoundRobin => shares.in_turn(self.turn.fetch_add(1, Ordering::Relaxed)),
            Balance::LeastRequest => level.less_busy(shares),
            Balance::Random => level.shares.at(random::below(level.shares.total())),
            Balance::SourceIp => level.by_rendezvous(hash_ip(self.client)),
        })
    }
}

impl Level {
    /// Of two drawn by weight, the one with fewer connections for its weight.
    fn less_busy(&self, shares: &Shares) -> usize {
        let most = self.hosts.len() - 1;
        let [one, other] = [(); 2].map(|()| shares.at(random::below(shares.total())).min(most));
        let load = |at: usize| (u64::from(self.hosts[at].state.active()) + 1, shares.weight(at));
        let ((busy_one, weight_one), (busy_other, weight_other)) = (load(one), load(other));
        let first = u128::from(busy_one) * u128::from(weight_other);
        if first <= u128::from(busy_other) * u128::from(weight_one) { one } else { other }
    }

    /// The endpoint that draws the highest ticket for this key (weighted rendezvous hashing): the same
    /// as long as it is there, and an endpoint that comes or goes moves only its own keys.
    fn by_rendezvous(&self, key: u64) -> usize {
        let draw =
            |host: &Host| (ticket(key, host.hash), u32::try_from(host.weight).unwrap_or(u32::MAX));
        let draws = self.hosts.iter().map(draw).enumerate();
        let best = draws.reduce(|best, next| if first_wins(best.1, next.1) { best } else { next });
        best.map_or(0, |(at, _)| at)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::cluster::{host::HostStates, spec::Mesh};

    fn hosts(levels: &[&[u64]]) -> HostSet {
        let states = HostStates::default();
        let mut set = HostSet::builder(&states);
        for (priority, weights) in levels.iter().enumerate() {
            for (at, weight) in weights.iter().enumerate() {
                let addr = format!("10.0.{priority}.{}:80", at + 1).parse::<std::net::SocketAddr>();
                set.add(priority as u32, addr.unwrap().into(), *weight, &Mesh::default());
            }
        }
        set.build()
    }

    fn shares(hosts: &HostSet, balance: Balance, rounds: usize) -> Vec<u32> {
        let turn = AtomicU64::new(0);
        let mut hits = vec![0; hosts.levels[0].hosts.len()];
        for round in 0..rounds {
            let client = IpAddr::from((round as u32).to_be_bytes());
            let host = Choice::new(hosts, balance, &turn, client).next().unwrap();
            let at = hosts.levels[0].hosts.iter().position(|one| one.addr == host.addr).unwrap();
            hits[at] += 1;
        }
        hits
    }

    #[test]
    fn round_robin_is_exact_and_mixed() {
        assert_eq!(shares(&hosts(&[&[1, 1, 1]]), Balance::RoundRobin, 9), [3, 3, 3]);
        assert_eq!(shares(&hosts(&[&[5, 3, 2]]), Balance::RoundRobin, 10), [5, 3, 2]);
        assert_eq!(shares(&hosts(&[&[5, 3, 2]]), Balance::RoundRobin, 1000), [500, 300, 200]);
        assert_eq!(shares(&hosts(&[&[1, 1]]), Balance::RoundRobin, 1), [1, 0]);
        let weighted = hosts(&[&[90, 5, 5]]);
        let turns: Vec<_> = (0..100).map(|turn| weighted.levels[0].shares.in_turn(turn)).collect();
        // The light ones come now and then, not all in a row at the end.
        assert!(turns.chunks(25).all(|quarter| quarter.iter().any(|at| *at != 0)), "{turns:?}");
    }

    #[test]
    fn random_least_request_and_source_follow_weights() {
        for balance in [Balance::Random, Balance::SourceIp] {
            let hits = shares(&hosts(&[&[6, 3, 1]]), balance, 100_000);
            for (hits, expected) in hits.iter().zip([60_000_u32, 30_000, 10_000]) {
                assert!(hits.abs_diff(expected) < 2_000, "{balance:?} {hits} {expected}");
            }
        }
        // Idle endpoints: the heavier of two drawn wins, so more than its share.
        let hits = shares(&hosts(&[&[3, 1]]), Balance::LeastRequest, 10_000);
        assert!(hits[0] > 7_000, "{hits:?}");
        let hits = shares(&hosts(&[&[1, 1]]), Balance::LeastRequest, 10_000);
        assert!(hits[0].abs_diff(hits[1]) < 1_000, "{hits:?}");
    }

    #[test]
    fn least_request_keeps_connections_level() {
        let hosts = hosts(&[&[1, 1, 1, 1]]);
        let turn = AtomicU64::new(0);
        let mut leases = Vec::new();
        for _ in 0..400 {
            let client = IpAddr::from([127, 0, 0, 1]);
            let host = Choice::new(&hosts, Balance::LeastRequest, &turn, client).next().unwrap();
            leases.push(host.state.lease());
        }
        for host in &hosts.levels[0].hosts {
            assert!(host.state.active().abs_diff(100) < 15, "{}", host.state.active());
        }
        drop(leases);
        assert!(hosts.levels[0].hosts.iter().all(|host| host.state.active() == 0));
    }

    #[test]
    fn a_client_keeps_its_endpoint_when_others_come_and_go() {
        let three = hosts(&[&[1, 1, 1]]);
        let four = hosts(&[&[1, 1, 1, 1]]);
        let turn = AtomicU64::new(0);
        let mut moved = 0;
        for client in 0..10_000_u32 {
            let client = IpAddr::from(client.to_be_bytes());
            let before = Choice::new(&three, Balance::SourceIp, &turn, client).next().unwrap();
            let after = Choice::new(&four, Balance::SourceIp, &turn, client).next().unwrap();
            if before.addr != after.addr {
                assert_eq!(after.addr.to_string(), "10.0.0.4:80");
                moved += 1;
            }
        }
        assert!((2_200..2_800).contains(&moved), "{moved}");
    }

    #[test]
    fn each_endpoint_is_tried_once_and_lower_priorities_last() {
        for balance in
            [Balance::RoundRobin, Balance::LeastRequest, Balance::Random, Balance::SourceIp]
        {
            let hosts = hosts(&[&[1, 2, 1], &[1]]);
            let turn = AtomicU64::new(0);
            let mut choice = Choice::new(&hosts, balance, &turn, IpAddr::from([10, 0, 0, 9]));
            let mut tried: Vec<_> =
                std::iter::from_fn(|| choice.next()).map(|host| host.addr.to_string()).collect();
            assert_eq!(tried.last().unwrap(), "10.0.1.1:80");
            tried.sort();
            assert_eq!(tried, ["10.0.0.1:80", "10.0.0.2:80", "10.0.0.3:80", "10.0.1.1:80"]);
            assert!(choice.next().is_none());
        }
    }

    #[test]
    fn a_cluster_without_endpoints() {
        let hosts = hosts(&[]);
        let turn = AtomicU64::new(0);
        let mut choice =
            Choice::new(&hosts, Balance::RoundRobin, &turn, IpAddr::from([10, 0, 0, 9]));
        assert!(choice.next().is_none());
    }
}
