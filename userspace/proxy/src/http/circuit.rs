//! Limits of a cluster as a whole (semantics.md §4, connectionPool), over all workers and generations.

use std::{
    collections::HashMap,
    sync::{
        Arc, Mutex, PoisonError,
        atomic::{AtomicU32, Ordering},
    },
};

use egressd_tables::ConnectionPool;

/// What a cluster has under way.
#[derive(Debug, Default)]
pub(crate) struct Circuit {
    counts: [AtomicU32; 4],
}

/// Something that is limited.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Limited {
    /// Open connections.
    Connections,
    /// Requests that wait for a connection.
    Pending,
    /// Requests under way.
    Requests,
    /// Retries under way.
    Retries,
}

/// One of what is limited; counted while this lives.
#[derive(Debug)]
pub(crate) struct Permit {
    circuit: Arc<Circuit>,
    what: Limited,
}

/// The circuits of all clusters, by name.
#[derive(Debug, Default)]
pub(crate) struct Circuits(Mutex<HashMap<Arc<str>, Arc<Circuit>>>);

impl Circuit {
    /// How many there are.
    pub(crate) fn count(&self, what: Limited) -> u32 {
        self.counts[what as usize].load(Ordering::Relaxed)
    }

    /// One more, unless there are as many as there may be.
    pub(crate) fn permit(self: &Arc<Self>, what: Limited, limit: u32) -> Option<Permit> {
        let permit = self.force(what);
        (self.count(what) <= limit).then_some(permit)
    }

    /// One more, whatever the limit.
    pub(crate) fn force(self: &Arc<Self>, what: Limited) -> Permit {
        self.counts[what as usize].fetch_add(1, Ordering::Relaxed);
        Permit { circuit: Arc::clone(self), what }
    }

    /// One more retry, if the budget or the limit allows it.
    pub(crate) fn retry(self: &Arc<Self>, pool: &ConnectionPool) -> Option<Permit> {
        let limit = match pool.retry_budget {
            Some(budget) => {
                let active = self.count(Limited::Requests) + self.count(Limited::Pending);
                let share = f64::from(active) * budget.percent / 100.0;
                budget.min_concurrency.max(share as u32)
            }
            None => pool.max_retries,
        };
        self.permit(Limited::Retries, limit)
    }
}

impl Drop for Permit {
    fn drop(&mut self) {
        self.circuit.counts[self.what as usize].fetch_sub(1, Ordering::Relaxed);
    }
}

impl Circuits {
    /// The circuit of a cluster.
    pub(crate) fn get(&self, cluster: &Arc<str>) -> Arc<Circuit> {
        let mut circuits = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(circuit) = circuits.get(cluster) {
            return Arc::clone(circuit);
        }
        // A new one is rare, and the time to forget those that nobody refers to any more.
        circuits.retain(|_, circuit| Arc::strong_count(circuit) > 1);
        Arc::clone(circuits.entry(Arc::clone(cluster)).or_default())
    }
}

#[cfg(test)]
mod tests {
    use egressd_tables::RetryBudget;

    use super::*;

    #[test]
    fn permits_count_while_they_live() {
        let circuit = Arc::<Circuit>::default();
        let first = circuit.permit(Limited::Connections, 1);
        assert!(first.is_some());
        assert!(circuit.permit(Limited::Connections, 1).is_none());
        assert_eq!(circuit.count(Limited::Connections), 1);
        let forced = circuit.force(Limited::Connections);
        assert_eq!(circuit.count(Limited::Connections), 2);
        drop((first, forced));
        assert_eq!(circuit.count(Limited::Connections), 0);
        assert_eq!(circuit.count(Limited::Requests), 0);
    }

    #[test]
    fn a_budget_is_a_share_of_what_is_under_way() {
        let circuit = Arc::<Circuit>::default();
        let budget = RetryBudget { percent: 20.0, min_concurrency: 3 };
        let pool = ConnectionPool {
            retry_budget: Some(budget),
            max_retries: 0,
            ..ConnectionPool::default()
        };
        let allowed = || std::iter::from_fn(|| circuit.retry(&pool)).collect::<Vec<_>>().len();
        assert_eq!(allowed(), 3);
        let _requests: Vec<_> = (0..50).map(|_| circuit.force(Limited::Requests)).collect();
        assert_eq!(allowed(), 10);
        let unbudgeted = ConnectionPool { retry_budget: None, ..pool };
        assert!(circuit.retry(&unbudgeted).is_none());
    }

    #[test]
    fn circuits_are_kept_by_name_while_in_use() {
        let circuits = Circuits::default();
        let a = circuits.get(&"a".into());
        assert!(Arc::ptr_eq(&a, &circuits.get(&"a".into())));
        drop(a);
        let _b = circuits.get(&"b".into());
        assert_eq!(circuits.0.lock().unwrap().len(), 1);
    }
}
