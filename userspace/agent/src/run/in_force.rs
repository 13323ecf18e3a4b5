//! The generation in force, for those who only have the number of a service.

use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use egressd_tables::{ServiceId, Tables};

/// The tables in force and their number.
#[derive(Debug, Default)]
pub(super) struct InForce(Mutex<Option<(u32, Arc<Tables>)>>);

impl InForce {
    /// Puts a generation in the place of the one before, which is given back.
    pub(super) fn replace(&self, number: u32, tables: &Arc<Tables>) -> Option<Arc<Tables>> {
        self.lock().replace((number, Arc::clone(tables))).map(|(_, before)| before)
    }

    /// The tables in force.
    pub(super) fn tables(&self) -> Option<Arc<Tables>> {
        self.lock().as_ref().map(|(_, tables)| Arc::clone(tables))
    }

    /// The host of a service of a generation; `None` once another generation is in force, whose
    /// services are numbered anew.
    pub(super) fn host(&self, generation: u32, service: Option<u32>) -> Option<Arc<str>> {
        let held = self.lock();
        let (_, tables) = held.as_ref().filter(|(number, _)| *number == generation)?;
        tables.service(ServiceId(service?)).map(|service| Arc::clone(&service.host))
    }

    fn lock(&self) -> MutexGuard<'_, Option<(u32, Arc<Tables>)>> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}
