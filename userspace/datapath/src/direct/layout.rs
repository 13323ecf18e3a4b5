//! A view as the kernel's rows: pure.

use std::{collections::BTreeSet, net::SocketAddr, time::Duration};

use egressd_abi::{
    BALANCE_LEAST_REQUEST, BALANCE_RANDOM, BALANCE_ROUND_ROBIN, BALANCE_SOURCE_IP, EndpointRow,
    Level, Levels, MAX_HASHED_ENDPOINTS, MAX_LEVEL_ENDPOINTS, MAX_VIEW_LEVELS, NO_LIMIT,
    VIEW_EMPTY, VIEW_ENDPOINTS, VIEW_ORIGINAL, View, turn_step,
};

use super::{DirectBalance, DirectEndpoint, DirectLevel, DirectTarget, DirectView};
use crate::error::Error;

/// A view with its levels and rows, numbered from 0.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct Layout {
    /// Its runs of levels count from the first of `levels`.
    pub(super) view: View,
    /// Their runs of rows count from the first of `rows`.
    pub(super) levels: Vec<Level>,
    pub(super) rows: Vec<EndpointRow>,
}

impl Layout {
    /// Where everything goes once it is known where the levels and rows begin.
    pub(super) fn at(mut self, first_level: u32, first_row: u32) -> Self {
        for levels in &mut self.view.levels {
            levels.first += first_level;
        }
        for level in &mut self.levels {
            level.first += first_row;
        }
        self
    }
}

/// The layout of a view; `None` for one that is not known. `slot` gives the slot of an endpoint.
pub(super) fn layout(
    view: &DirectView,
    jiffies: impl FnOnce(Duration) -> u32,
    mut slot: impl FnMut(&DirectEndpoint) -> Result<u32, Error>,
) -> Result<Option<Layout>, Error> {
    let mut layout = Layout { view: head(view, jiffies), levels: Vec::new(), rows: Vec::new() };
    match &view.target {
        DirectTarget::Unknown => return Ok(None),
        DirectTarget::Original { port } => {
            layout.view.kind = VIEW_ORIGINAL;
            layout.view.port = port.unwrap_or(0).to_be_bytes();
        }
        DirectTarget::Endpoints(levels) if levels.iter().all(|one| one.endpoints.is_empty()) => {
            layout.view.kind = VIEW_EMPTY;
        }
        DirectTarget::Endpoints(levels) => {
            check(levels, view.balance)?;
            layout.view.kind = VIEW_ENDPOINTS;
            let families: BTreeSet<bool> =
                endpoints(levels).map(|one| is_v4(one.address)).collect();
            let all = layout.add(levels, |_| true, &mut slot)?;
            let [v4, v6] = match (families.contains(&true), families.contains(&false)) {
                (true, true) => [
                    layout.add(levels, is_v4, &mut slot)?,
                    layout.add(levels, |address| !is_v4(address), &mut slot)?,
                ],
                (true, false) => [all, Levels::default()],
                (false, _) => [Levels::default(), all],
            };
            layout.view.levels = [all, v4, v6];
        }
    }
    Ok(Some(layout))
}

fn endpoints(levels: &[DirectLevel]) -> impl Iterator<Item = &DirectEndpoint> {
    levels.iter().flat_map(|level| &level.endpoints)
}

fn is_v4(address: SocketAddr) -> bool {
    address.ip().to_canonical().is_ipv4()
}

fn check(levels: &[DirectLevel], balance: DirectBalance) -> Result<(), Error> {
    let longest = levels.iter().map(|level| level.endpoints.len()).max().unwrap_or(0);
    // By address each is looked at.
    let by_address = balance == DirectBalance::SourceIp;
    let most = if by_address { MAX_HASHED_ENDPOINTS } else { MAX_LEVEL_ENDPOINTS };
    for (table, limit, wanted) in [
        ("priorities of a cluster", MAX_VIEW_LEVELS, levels.len()),
        ("endpoints of a priority", most, longest),
    ] {
        if wanted > limit as usize {
            return Err(Error::TableFull { table, limit, wanted });
        }
    }
    Ok(())
}

fn head(view: &DirectView, jiffies: impl FnOnce(Duration) -> u32) -> View {
    let limits = &view.limits;
    let keepalive = limits.keepalive.unwrap_or_default();
    let timeout = limits.connect_timeout.unwrap_or_default();
    let seconds = |time: Option<Duration>| {
        time.map_or(0, |time| u32::try_from(time.as_secs()).unwrap_or(u32::MAX).clamp(1, 32_767))
    };
    View {
        balance: match view.balance {
            DirectBalance::LeastRequest => BALANCE_LEAST_REQUEST,
            DirectBalance::RoundRobin => BALANCE_ROUND_ROBIN,
            DirectBalance::Random => BALANCE_RANDOM,
            DirectBalance::SourceIp => BALANCE_SOURCE_IP,
        },
        keepalive: u8::from(limits.keepalive.is_some()),
        max_connections: limits.max_connections.unwrap_or(NO_LIMIT),
        // The kernel keeps it as a signed number.
        connect_timeout_ms: u32::try_from(timeout.as_millis().min(i32::MAX as u128)).unwrap_or(0),
        connect_timeout_jiffies: if timeout.is_zero() || timeout >= Duration::from_secs(1) {
            0
        } else {
            jiffies(timeout)
        },
        keepalive_idle: seconds(keepalive.idle),
        keepalive_interval: seconds(keepalive.interval),
        keepalive_probes: keepalive.probes.map_or(0, |probes| probes.clamp(1, 127)),
        ..View::default()
    }
}

impl Layout {
    /// Adds the levels with those of their endpoints that are wanted.
    fn add(
        &mut self,
        levels: &[DirectLevel],
        wanted: impl Fn(SocketAddr) -> bool,
        slot: &mut impl FnMut(&DirectEndpoint) -> Result<u32, Error>,
    ) -> Result<Levels, Error> {
        let first = self.levels.len();
        for level in levels {
            let endpoints: Vec<_> =
                level.endpoints.iter().filter(|endpoint| wanted(endpoint.address)).collect();
            if endpoints.is_empty() {
                continue;
            }
            let start = self.rows.len();
            let weights = fitting(endpoints.iter().map(|endpoint| endpoint.weight.max(1)));
            let mut end = 0;
            for (endpoint, weight) in endpoints.iter().zip(&weights) {
                end += weight;
                self.rows.push(EndpointRow { end, slot: slot(endpoint)? });
            }
            self.levels.push(Level {
                load_end: level.load_end.min(100),
                first: number(start),
                count: number(endpoints.len()),
                total: end,
                step: u32::try_from(turn_step(end.into())).unwrap_or(1),
                even: u32::from(weights.iter().all(|weight| Some(weight) == weights.first())),
            });
        }
        // What was the share of a level without endpoints is the last one's.
        if let Some(last) = self.levels.last_mut() {
            last.load_end = 100;
        }
        Ok(Levels { first: number(first), count: number(self.levels.len() - first) })
    }
}

fn number(count: usize) -> u32 {
    u32::try_from(count).unwrap_or(u32::MAX)
}

/// The weights, made smaller by halves until their sum fits.
fn fitting(weights: impl Iterator<Item = u64>) -> Vec<u32> {
    let weights: Vec<u64> = weights.collect();
    let mut shift = 0;
    loop {
        let small = weights.iter().map(|weight| (weight >> shift).max(1));
        let sum = small.clone().try_fold(0_u32, |sum, weight| {
            u32::try_from(weight).ok().and_then(|weight| sum.checked_add(weight))
        });
        if sum.is_some() {
            return small.filter_map(|weight| u32::try_from(weight).ok()).collect();
        }
        shift += 1;
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn endpoint(address: &str, weight: u64) -> DirectEndpoint {
        DirectEndpoint { address: address.parse().unwrap(), weight, hash: 0 }
    }

    fn laid(levels: Vec<DirectLevel>) -> Layout {
        let view = DirectView { target: DirectTarget::Endpoints(levels), ..DirectView::default() };
        let slot = |endpoint: &DirectEndpoint| Ok(u32::from(endpoint.address.port()));
        layout(&view, |_| 0, slot).unwrap().unwrap()
    }

    #[test]
    fn one_family_is_laid_out_once() {
        let endpoints = vec![endpoint("10.0.0.1:1", 3), endpoint("10.0.0.2:2", 1)];
        let layout = laid(vec![DirectLevel { load_end: 100, endpoints }]).at(10, 100);
        let all = Levels { first: 10, count: 1 };
        assert_eq!(layout.view.levels[..2], [all, all]);
        assert_eq!(layout.view.levels[2].count, 0);
        assert_eq!(layout.rows, [EndpointRow { end: 3, slot: 1 }, EndpointRow { end: 4, slot: 2 }]);
        let level = layout.levels[0];
        assert_eq!((level.first, level.count, level.total, level.even), (100, 2, 4, 0));
    }

    #[test]
    fn families_have_levels_of_their_own() {
        let first = vec![endpoint("10.0.0.1:1", 1), endpoint("[2001:db8::1]:2", 1)];
        let second = vec![endpoint("[::ffff:10.0.0.2]:3", 1)];
        let layout = laid(vec![
            DirectLevel { load_end: 70, endpoints: first },
            DirectLevel { load_end: 100, endpoints: second },
        ]);
        let counts = layout.view.levels.map(|levels| levels.count);
        assert_eq!(counts, [2, 2, 1]);
        let loads: Vec<u32> = layout.levels.iter().map(|level| level.load_end).collect();
        assert_eq!(loads, [70, 100, 70, 100, 100]);
        let slots: Vec<u32> = layout.rows.iter().map(|row| row.slot).collect();
        assert_eq!(slots, [1, 2, 3, 1, 3, 2]);
    }

    #[test]
    fn large_weights_keep_their_proportions() {
        let weights = fitting([1 << 40, 1 << 39, 1].into_iter());
        assert_eq!(weights[0], 2 * weights[1]);
        assert_eq!(weights[2], 1);
        assert_eq!(fitting([5, 3].into_iter()), [5, 3]);
    }

    #[test]
    fn nobody_and_nothing() {
        assert_eq!(laid(Vec::new()).view.kind, VIEW_EMPTY);
        let unknown = layout(&DirectView::default(), |_| 0, |_| Ok(0)).unwrap();
        assert_eq!(unknown, None);
        let target = DirectTarget::Original { port: Some(258) };
        let view = DirectView { target, ..DirectView::default() };
        let layout = layout(&view, |_| 0, |_| Ok(0)).unwrap().unwrap();
        assert_eq!((layout.view.kind, layout.view.port), (VIEW_ORIGINAL, [1, 2]));
    }
}
