//! Who has how much under way, and whose goes when there is no room: no client keeps others from
//! what all of them need.
//!
//! Room is given freely while there is some. When it is full, the newcomer takes the place of the
//! oldest of whoever has the most: first among users, then among the cgroups of that user. A client
//! with little under way loses nothing to one with much, and something that will never be answered
//! does not hold its place against something that will (as unbound's jostle list). Where nobody has
//! much, the oldest of all gives way, and nothing before its time.

mod places;

use std::{
    collections::{BTreeMap, HashMap},
    net::IpAddr,
    time::{Duration, Instant},
};

pub(crate) use self::places::{Place, Places};

/// Who asks: what a share belongs to.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Asker {
    /// A process on this node.
    Process {
        /// The user that its socket belongs to.
        uid: u32,
        /// The cgroup that its socket was made in.
        cgroup: u64,
    },
    /// Somebody at an address, of whom nothing else is known.
    Address(IpAddr),
}

/// What is under way, by who asked.
#[derive(Debug)]
pub(crate) struct Shares {
    limit: usize,
    count: usize,
    users: HashMap<User, Groups>,
}

/// Whether there is room.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Admission {
    /// There is.
    Free,
    /// There is, once this one is over.
    InsteadOf(u64),
    /// The newcomer has the most itself, and nothing that is old enough to give way.
    Refused,
}

/// The first level: one user's cgroups together are one client.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
enum User {
    Uid(u32),
    Address(IpAddr),
}

/// The second level, for users who are many clients: root, above all.
#[derive(Debug, Default)]
struct Groups {
    count: usize,
    /// When each began, by its ticket; tickets grow with time.
    by_cgroup: HashMap<u64, BTreeMap<u64, Instant>>,
}

impl Asker {
    fn user(self) -> User {
        match self {
            Self::Process { uid, .. } => User::Uid(uid),
            Self::Address(ip) => User::Address(ip),
        }
    }

    fn cgroup(self) -> u64 {
        match self {
            Self::Process { cgroup, .. } => cgroup,
            Self::Address(_) => 0,
        }
    }
}

impl Shares {
    /// Room for so many.
    pub(crate) fn new(limit: usize) -> Self {
        Self { limit, count: 0, users: HashMap::new() }
    }

    /// How many there are.
    pub(crate) fn count(&self) -> usize {
        self.count
    }

    /// Whether one more may begin. Changes nothing.
    pub(crate) fn admit(&self, asker: Asker, now: Instant) -> Admission {
        if self.count < self.limit {
            return Admission::Free;
        }
        let own = |is_own: bool| usize::from(is_own);
        let most = self.users.iter().max_by_key(|(user, groups)| {
            let is_own = **user == asker.user();
            (groups.count + own(is_own), is_own)
        });
        let Some((user, groups)) = most else { return Admission::Refused };
        let is_own_user = *user == asker.user();
        let most = groups.by_cgroup.iter().max_by_key(|(cgroup, tickets)| {
            let is_own = is_own_user && **cgroup == asker.cgroup();
            (tickets.len() + own(is_own), is_own)
        });
        let Some((cgroup, tickets)) = most else { return Admission::Refused };
        let is_own = is_own_user && *cgroup == asker.cgroup();
        let had_its_chance = |began: &Instant| now.duration_since(*began) >= JOSTLE;
        let has_much = tickets.len() >= self.floor();
        let oldest = tickets.first_key_value().map(|(ticket, began)| (*ticket, *began));
        let oldest = if is_own || has_much { oldest } else { self.oldest() };
        match oldest {
            Some((ticket, began)) if (has_much && !is_own) || had_its_chance(&began) => {
                Admission::InsteadOf(ticket)
            }
            Some(_) | None => Admission::Refused,
        }
    }

    /// Who has less than this has little: what is young stays, whoever comes.
    fn floor(&self) -> usize {
        (self.limit / SMALL_PART).min(FLOOR)
    }

    /// The oldest of all.
    fn oldest(&self) -> Option<(u64, Instant)> {
        let all = self.users.values().flat_map(|groups| groups.by_cgroup.values());
        let oldest = all.filter_map(BTreeMap::first_key_value).min_by_key(|(ticket, _)| **ticket);
        oldest.map(|(ticket, began)| (*ticket, *began))
    }

    /// Counts one that begins. Its ticket must be larger than all before.
    pub(crate) fn add(&mut self, asker: Asker, ticket: u64, now: Instant) {
        let groups = self.users.entry(asker.user()).or_default();
        let before = groups.by_cgroup.entry(asker.cgroup()).or_default().insert(ticket, now);
        let added = usize::from(before.is_none());
        groups.count += added;
        self.count += added;
    }

    /// Takes one away that is over.
    pub(crate) fn remove(&mut self, asker: Asker, ticket: u64) {
        let Some(groups) = self.users.get_mut(&asker.user()) else { return };
        let Some(tickets) = groups.by_cgroup.get_mut(&asker.cgroup()) else { return };
        if tickets.remove(&ticket).is_none() {
            return;
        }
        if tickets.is_empty() {
            groups.by_cgroup.remove(&asker.cgroup());
        }
        groups.count -= 1;
        self.count -= 1;
        if groups.count == 0 {
            self.users.remove(&asker.user());
        }
    }
}

/// How long something keeps its place against what the same client begins after it (unbound's
/// `jostle-timeout`). Without this, a client that asks faster than it is answered would get no answer
/// at all.
const JOSTLE: Duration = Duration::from_millis(200);
/// A client with less than this is not what fills the room. One that is many clients, with a question
/// each, displaces nothing of it before its time; nor does a program that asks for A and AAAA together
/// stand behind those who ask for one.
const FLOOR: usize = 16;
/// The same as a part of a room that is small: one in thirty-two.
const SMALL_PART: usize = 32;

#[cfg(test)]
mod tests {
    use super::*;

    fn process(uid: u32, cgroup: u64) -> Asker {
        Asker::Process { uid, cgroup }
    }

    /// Shares with room for four, and what is in them: tickets from 0 on.
    fn full(askers: &[Asker], began: Instant) -> Shares {
        let mut shares = Shares::new(4);
        for (ticket, asker) in (0..).zip(askers) {
            assert_eq!(shares.admit(*asker, began), Admission::Free);
            shares.add(*asker, ticket, began);
        }
        shares
    }

    #[test]
    fn the_oldest_of_whoever_has_the_most_gives_way() {
        let now = Instant::now();
        let (busy, other) = (process(1000, 7), process(1001, 7));
        let shares = full(&[other, busy, busy, busy], now);
        assert_eq!(shares.admit(other, now), Admission::InsteadOf(1));
        assert_eq!(shares.admit(process(0, 1), now), Admission::InsteadOf(1));
        // It pushes out what is its own, once that has had its chance.
        assert_eq!(shares.admit(busy, now), Admission::Refused);
        assert_eq!(shares.admit(busy, now + JOSTLE), Admission::InsteadOf(1));
    }

    #[test]
    fn many_cgroups_of_a_user_are_one_client() {
        let now = Instant::now();
        let (a, b, c) = (process(1000, 1), process(1000, 2), process(1000, 3));
        let other = process(1001, 9);
        let shares = full(&[other, a, b, c], now);
        assert!(matches!(shares.admit(other, now), Admission::InsteadOf(1..=3)));
        assert_eq!(shares.admit(process(1000, 4), now + JOSTLE), shares.admit(other, now));
    }

    #[test]
    fn services_of_root_are_clients_of_their_own() {
        let now = Instant::now();
        let (busy, quiet) = (process(0, 1), process(0, 2));
        let shares = full(&[quiet, busy, busy, busy], now);
        assert_eq!(shares.admit(quiet, now), Admission::InsteadOf(1));
        assert_eq!(shares.admit(process(0, 3), now), Admission::InsteadOf(1));
        assert_eq!(shares.admit(busy, now), Admission::Refused);
    }

    #[test]
    fn many_users_displace_nothing_young_of_one_with_little() {
        let now = Instant::now();
        let mut shares = Shares::new(512);
        let victim = process(0, 7);
        // A moment later than the others.
        for ticket in 0..509 {
            shares.add(process(100_000 + u32::try_from(ticket).unwrap(), 1), ticket, now);
        }
        let later = now + Duration::from_millis(50);
        for ticket in 509..512 {
            shares.add(victim, ticket, later);
        }
        let another = process(200_000, 1);
        assert_eq!(shares.admit(another, later), Admission::Refused);
        assert_eq!(shares.admit(victim, later), Admission::Refused);
        // What has had its time goes first, and not what belongs to who has three.
        assert_eq!(shares.admit(another, now + JOSTLE), Admission::InsteadOf(0));
        // With sixteen it is one of those that fill the room.
        for ticket in 512..525 {
            shares.remove(process(100_000 + u32::try_from(ticket - 512).unwrap(), 1), ticket - 512);
            shares.add(victim, ticket, later);
        }
        assert_eq!(shares.admit(another, later), Admission::InsteadOf(509));
    }

    #[test]
    fn what_is_over_makes_room() {
        let now = Instant::now();
        let stranger = Asker::Address([10, 0, 0, 1].into());
        let mut shares = full(&[stranger; 4], now);
        shares.remove(stranger, 2);
        shares.remove(stranger, 2);
        assert_eq!((shares.count(), shares.admit(stranger, now)), (3, Admission::Free));
        for ticket in [0, 1, 3] {
            shares.remove(stranger, ticket);
        }
        assert!(shares.users.is_empty());
    }
}
