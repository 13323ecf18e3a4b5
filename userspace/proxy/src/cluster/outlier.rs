//! Endpoints that misbehave are taken out for a while (semantics.md §4, outlierDetection).
//!
//! Requests and connections tell what became of them; nothing here has a timer. What is due (an
//! endpoint that comes back) is done when somebody next asks for the cluster's endpoints, at the
//! latest by the thread that tells the kernel of them.
//!
//! At least one endpoint may always be out, whatever `maxEjectionPercent`: with the default of 10 %
//! a cluster of fewer than ten would otherwise have no detection at all.

use std::{
    collections::HashMap,
    sync::{Arc, Mutex, MutexGuard, PoisonError},
};

use egressd_tables::OutlierDetection;
use tokio::time::Instant;

use super::host::HostState;
use crate::addrs::UpstreamAddr;

/// What became of a request or a connection to an endpoint.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Observation {
    /// It answered with this status.
    Answered(u16),
    /// A connection stands, and nothing more will be known of it.
    Connected,
    /// There was no connection to it.
    NotConnected,
    /// It did not answer in time.
    TimedOut,
    /// It broke off before it answered.
    BrokenOff,
    /// A connection that stood was reset by the endpoint.
    Reset,
    /// A connection that stood has ended without that.
    Ended,
}

/// Failures of an endpoint in a row.
#[derive(Debug, Default)]
pub(super) struct InARow(Mutex<Counts>);

#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
struct Counts {
    any: u32,
    gateway: u32,
    local: u32,
    /// Connections that were reset, counted apart: each of them stood before.
    resets: u32,
}

/// The endpoints of a cluster that are out, and those that were not long ago.
#[derive(Debug, Default)]
pub(super) struct Outliers(Mutex<Known>);

#[derive(Debug, Default)]
struct Known {
    ejected: HashMap<UpstreamAddr, Ejected>,
    /// When it is next looked at who may come back.
    sweep: Option<Instant>,
}

#[derive(Debug)]
struct Ejected {
    state: Arc<HostState>,
    /// How often in a row; each makes the next longer.
    times: u32,
    /// Since when it is out.
    since: Option<Instant>,
}

impl InARow {
    /// Counts, and says what there were too many of.
    pub(super) fn note(&self, rules: &OutlierDetection, seen: Observation) -> Option<&'static str> {
        let mut counts = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        counts.note(rules, seen)
    }
}

impl Counts {
    fn note(&mut self, rules: &OutlierDetection, seen: Observation) -> Option<&'static str> {
        let status = match (seen, rules.split_local_errors) {
            (Observation::Ended, _) => {
                self.resets = 0;
                return None;
            }
            (Observation::Reset, split) => {
                self.resets += 1;
                let most = match split {
                    true => rules.consecutive_local_failures,
                    false => {
                        let limits = [rules.consecutive_gateway_errors, rules.consecutive_5xx];
                        limits.into_iter().flatten().min()
                    }
                };
                let reached = most.is_some_and(|most| self.resets >= most);
                return reached.then(|| self.reset("resets"));
            }
            (Observation::Answered(status), split) => {
                if split {
                    self.local = 0;
                }
                status
            }
            (Observation::Connected, true) => {
                self.local = 0;
                return None;
            }
            (Observation::NotConnected | Observation::TimedOut | Observation::BrokenOff, true) => {
                self.local += 1;
                let reached =
                    rules.consecutive_local_failures.is_some_and(|most| self.local >= most);
                return reached.then(|| self.reset("local failures"));
            }
            // Where they are not counted apart they are the answers we give in their place.
            (Observation::Connected, false) => 200,
            (Observation::NotConnected | Observation::BrokenOff, false) => 503,
            (Observation::TimedOut, false) => 504,
        };
        let failed = if rules.error_codes.is_empty() || !matches!(seen, Observation::Answered(_)) {
            status >= 500
        } else {
            rules.error_codes.contains(&status)
        };
        if !failed {
            self.any = 0;
            self.gateway = 0;
            return None;
        }
        self.any += 1;
        self.gateway = if matches!(status, 502..=504) { self.gateway + 1 } else { 0 };
        if rules.consecutive_gateway_errors.is_some_and(|most| self.gateway >= most) {
            return Some(self.reset("gateway errors"));
        }
        let reached = rules.consecutive_5xx.is_some_and(|most| self.any >= most);
        reached.then(|| self.reset("5xx"))
    }

    fn reset(&mut self, why: &'static str) -> &'static str {
        *self = Self::default();
        why
    }
}

impl Outliers {
    /// Takes an endpoint out, one of `all`, unless too many are. Says whether it did.
    pub(super) fn eject(
        &self,
        rules: &OutlierDetection,
        all: usize,
        addr: &UpstreamAddr,
        state: &Arc<HostState>,
    ) -> bool {
        let mut known = self.lock();
        let out = known.ejected.values().filter(|one| one.since.is_some()).count();
        let most = all.saturating_mul(rules.max_ejection_percent as usize) / 100;
        if state.is_ejected() || out >= most.max(1) {
            return false;
        }
        let now = Instant::now();
        let one = known.ejected.entry(addr.clone());
        let one =
            one.or_insert_with(|| Ejected { state: Arc::clone(state), times: 0, since: None });
        one.times = one.times.saturating_add(1);
        one.since = Some(now);
        one.state = Arc::clone(state);
        state.set_ejected(true);
        known.sweep.get_or_insert(now + rules.interval);
        true
    }

    /// Brings back whoever has been out for long enough; all of them without `rules`. Says whether
    /// anybody came back.
    pub(super) fn bring_back(&self, rules: Option<&OutlierDetection>) -> bool {
        let mut known = self.lock();
        let Some(rules) = rules else {
            known.sweep = None;
            let back = std::mem::take(&mut known.ejected).into_values().map(Ejected::come_back);
            return back.filter(|came_back| *came_back).count() > 0;
        };
        let now = Instant::now();
        let mut any = false;
        while let Some(due) = known.sweep.filter(|due| *due <= now) {
            known.ejected.retain(|_, one| {
                match one.since {
                    Some(since) if due >= since + one.sentence(rules) => any |= one.let_in(),
                    Some(_) => {}
                    None => one.times -= 1,
                }
                one.times > 0
            });
            known.sweep = (!known.ejected.is_empty()).then(|| due + rules.interval);
        }
        any
    }

    /// When it is next looked at who may come back, or whose ejections are forgiven.
    pub(super) fn next_sweep(&self) -> Option<Instant> {
        self.lock().sweep
    }

    fn lock(&self) -> MutexGuard<'_, Known> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Ejected {
    fn sentence(&self, rules: &OutlierDetection) -> std::time::Duration {
        rules.base_ejection_time.saturating_mul(self.times).min(rules.max_ejection_time)
    }

    fn let_in(&mut self) -> bool {
        self.since = None;
        self.state.set_ejected(false);
        true
    }

    fn come_back(mut self) -> bool {
        self.since.is_some() && self.let_in()
    }
}

#[cfg(test)]
mod tests {
    use std::{net::SocketAddr, time::Duration};

    use tokio::time::advance;

    use super::{Observation::*, *};

    fn rules() -> OutlierDetection {
        OutlierDetection {
            consecutive_5xx: Some(3),
            consecutive_gateway_errors: None,
            consecutive_local_failures: None,
            split_local_errors: false,
            interval: Duration::from_secs(10),
            base_ejection_time: Duration::from_secs(30),
            max_ejection_time: Duration::from_secs(300),
            max_ejection_percent: 50,
            error_codes: Vec::new(),
        }
    }

    fn after(rules: &OutlierDetection, all: &[Observation]) -> Option<&'static str> {
        let counts = InARow::default();
        all.iter().fold(None, |_, seen| counts.note(rules, *seen))
    }

    #[test]
    fn failures_in_a_row() {
        let rules = rules();
        assert_eq!(after(&rules, &[Answered(500), Answered(503), Answered(500)]), Some("5xx"));
        assert_eq!(after(&rules, &[Answered(500), Answered(404), Answered(500)]), None);
        assert_eq!(after(&rules, &[NotConnected, TimedOut, BrokenOff]), Some("5xx"));
        assert_eq!(after(&rules, &[NotConnected, NotConnected, Connected, NotConnected]), None);
        // The count begins anew once they were too many.
        assert_eq!(after(&rules, &[NotConnected; 4]), None);
        assert_eq!(after(&rules, &[NotConnected; 6]), Some("5xx"));
        let never = OutlierDetection { consecutive_5xx: None, ..rules };
        assert_eq!(after(&never, &[Answered(500); 50]), None);
    }

    #[test]
    fn gateway_errors_and_statuses_of_ones_own() {
        let gateway = OutlierDetection {
            consecutive_5xx: None,
            consecutive_gateway_errors: Some(2),
            ..rules()
        };
        assert_eq!(after(&gateway, &[Answered(502), Answered(504)]), Some("gateway errors"));
        assert_eq!(after(&gateway, &[Answered(502), Answered(500), Answered(503)]), None);
        assert_eq!(after(&gateway, &[TimedOut, NotConnected]), Some("gateway errors"));
        let resets = [Connected, Reset, Connected, Reset, Connected];
        assert_eq!(after(&gateway, &[&resets[..], &[Reset]].concat()), None, "begins anew");
        assert_eq!(after(&gateway, &resets[..4]), Some("resets"));
        assert_eq!(after(&gateway, &[Reset, Ended, Reset]), None);
        let own = OutlierDetection { error_codes: vec![429], ..rules() };
        assert_eq!(after(&own, &[Answered(429); 3]), Some("5xx"));
        assert_eq!(after(&own, &[Answered(500); 3]), None);
        assert_eq!(after(&own, &[NotConnected; 3]), Some("5xx"));
    }

    #[test]
    fn failures_of_our_own_are_counted_apart() {
        let split = OutlierDetection {
            split_local_errors: true,
            consecutive_local_failures: Some(2),
            ..rules()
        };
        assert_eq!(after(&split, &[NotConnected, TimedOut]), Some("local failures"));
        assert_eq!(after(&split, &[NotConnected, Answered(500), NotConnected]), None);
        assert_eq!(after(&split, &[NotConnected, Connected, NotConnected]), None);
        let mixed = [Answered(500), Answered(500), NotConnected, Answered(500)];
        assert_eq!(after(&split, &mixed), Some("5xx"));
    }

    fn host(number: u8) -> (UpstreamAddr, Arc<HostState>) {
        (SocketAddr::from(([10, 0, 0, number], 80)).into(), Arc::default())
    }

    #[tokio::test(start_paused = true)]
    async fn each_ejection_is_longer_until_it_has_been_good_for_a_while() {
        let (rules, outliers, (addr, state)) = (rules(), Outliers::default(), host(1));
        let seconds = Duration::from_secs;
        let is_out_after = async |time| {
            advance(time).await;
            outliers.bring_back(Some(&rules));
            state.is_ejected()
        };
        assert!(outliers.eject(&rules, 4, &addr, &state));
        assert!(!outliers.eject(&rules, 4, &addr, &state));
        assert!(is_out_after(seconds(29)).await);
        assert!(!is_out_after(seconds(2)).await);
        assert!(outliers.eject(&rules, 4, &addr, &state));
        assert!(is_out_after(seconds(59)).await);
        assert!(!is_out_after(seconds(10)).await);
        // Two intervals, and both are forgiven.
        assert!(!is_out_after(seconds(21)).await);
        assert!(outliers.eject(&rules, 4, &addr, &state));
        assert!(!is_out_after(seconds(41)).await);
        for _ in 0..30 {
            outliers.eject(&rules, 4, &addr, &state);
            advance(seconds(310)).await;
            assert!(outliers.bring_back(Some(&rules)));
        }
    }

    #[tokio::test(start_paused = true)]
    async fn some_must_stay() {
        let (rules, outliers) = (rules(), Outliers::default());
        let hosts: Vec<_> = (0..4).map(host).collect();
        let eject = |(addr, state): &(UpstreamAddr, _)| outliers.eject(&rules, 4, addr, state);
        let out: Vec<_> = hosts.iter().map(eject).collect();
        assert_eq!(out, [true, true, false, false]);
        let few = OutlierDetection { max_ejection_percent: 10, ..rules.clone() };
        let alone = Outliers::default();
        let (addr, state) = host(9);
        assert!(alone.eject(&few, 3, &addr, &state));
        let (other, its_state) = host(8);
        assert!(!alone.eject(&few, 3, &other, &its_state));
        // Without rules everybody is in.
        assert!(alone.bring_back(None) && !state.is_ejected());
    }
}
