//! Forwarding a request to an upstream.

use std::sync::Arc;
use std::time::Duration;

use crate::cluster::{ClusterRef, HashPolicy};
use crate::route::headers::HeaderOps;
use crate::route::retry::RetryPolicy;
use crate::route::rewrite::PathRewrite;

/// How a request is forwarded.
#[derive(Clone, Debug, PartialEq)]
pub struct Forward {
    /// Where to.
    pub destinations: Destinations,
    /// Limit on the whole exchange with its retries. Default none.
    pub timeout: Option<Duration>,
    /// When it is tried again; nothing: never.
    pub retry: Option<RetryPolicy>,
    /// The new path.
    pub rewrite: Option<PathRewrite>,
    /// The new authority; beats that of the destination.
    pub authority: Option<Arc<str>>,
    /// Where copies go; their answers are dropped.
    pub mirrors: Vec<Mirror>,
    /// What consistent hashing looks at; the first key that the request has counts.
    pub hash: Vec<HashPolicy>,
}

/// Where a request goes.
#[derive(Clone, Debug, PartialEq)]
pub enum Destinations {
    /// To one cluster.
    Single(Destination),
    /// To one of several, drawn by weight for each request.
    Weighted(Vec<Destination>),
}

/// One destination.
#[derive(Clone, Debug, PartialEq)]
pub struct Destination {
    /// The cluster.
    pub cluster: ClusterRef,
    /// Share among its siblings, greater than 0; the sum need not be 100.
    pub weight: u32,
    /// Changes to the request, after those of the route.
    pub request_headers: HeaderOps,
    /// Changes to the response, after those of the route.
    pub response_headers: HeaderOps,
    /// The new authority.
    pub authority: Option<Arc<str>>,
}

/// Where copies go.
#[derive(Clone, Debug, PartialEq)]
pub struct Mirror {
    /// The cluster.
    pub cluster: ClusterRef,
    /// How many requests of a million; greater than 0.
    pub per_million: u32,
}

impl Destinations {
    /// One destination, by a random number that the caller draws.
    pub fn pick(&self, random: u64) -> Option<&Destination> {
        match self {
            Self::Single(destination) => Some(destination),
            Self::Weighted(all) => pick(all, |destination| destination.weight, random),
        }
    }

    /// All of them.
    pub fn all(&self) -> &[Destination] {
        match self {
            Self::Single(destination) => std::slice::from_ref(destination),
            Self::Weighted(all) => all,
        }
    }
}

/// Draws by weight. The remainder of a 64-bit number is even enough: weights are 32-bit.
pub(crate) fn pick<T>(all: &[T], weight: impl Fn(&T) -> u32, random: u64) -> Option<&T> {
    let total: u64 = all.iter().map(|one| u64::from(weight(one))).sum();
    let mut left = random.checked_rem(total)?;
    all.iter().find(|one| {
        let weight = u64::from(weight(one));
        let hit = left < weight;
        left = left.saturating_sub(weight);
        hit
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn shares_follow_weights() {
        let weights = [80, 0, 20];
        let mut hits = [0; 100];
        for random in 0..100 {
            let drawn = pick(&weights, |weight| *weight, random).unwrap();
            hits[*drawn as usize] += 1;
        }
        assert_eq!((hits[80], hits[0], hits[20]), (80, 0, 20));
        assert_eq!(pick(&[0_u32], |weight| *weight, 7), None);
        assert_eq!(pick(&[] as &[u32], |weight| *weight, 7), None);
    }
}
