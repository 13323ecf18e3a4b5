//! Configurations by their settings, a bounded number of them.

use std::{
    collections::HashMap,
    fmt,
    hash::Hash,
    sync::{Arc, Mutex, OnceLock, PoisonError},
    time::Duration,
};

use super::{
    failure::TlsFailure,
    held::{Held, Materials},
    library::Library,
    settings::FileNames,
};

/// The configurations in use.
pub(super) struct Cache<S, C> {
    library: Library,
    build: Build<S, C>,
    slots: Mutex<Slots<S, C>>,
}

/// What a configuration is made from.
pub(super) trait Recipe: Clone + Eq + Hash + Send + Sync + 'static {
    /// The files it needs.
    fn files(&self) -> &FileNames;
}

/// Makes a configuration from settings and what is in their files.
type Build<S, C> = fn(&S, Materials) -> Result<C, TlsFailure>;

struct Slots<S, C> {
    by_settings: HashMap<S, Slot<C>>,
    /// Counts uses; the slot with the lowest number was used longest ago.
    clock: u64,
}

struct Slot<C> {
    used: u64,
    /// Filled by the first who needs it, outside the lock of the map: files are read for it.
    held: Arc<OnceLock<Held<C>>>,
}

impl<S: Recipe, C: 'static> Cache<S, C> {
    /// An empty cache; files are looked at once in `recheck` at most.
    pub(super) fn new(recheck: Duration, build: Build<S, C>) -> Self {
        let slots = Slots { by_settings: HashMap::new(), clock: 0 };
        Self { library: Library::new(recheck), build, slots: Mutex::new(slots) }
    }

    /// The configuration for these settings and what is in their files.
    ///
    /// # Errors
    /// It cannot be made.
    pub(super) fn get(&self, settings: &S) -> Result<Arc<C>, TlsFailure> {
        let held = self.slots.lock().unwrap_or_else(PoisonError::into_inner).held(settings);
        held.get_or_init(|| {
            let (settings, build) = (settings.clone(), self.build);
            let files = settings.files().clone();
            Held::new(&files, &self.library, move |materials| build(&settings, materials))
        })
        .current()
    }

    /// How many configurations there are.
    #[cfg(test)]
    pub(super) fn len(&self) -> usize {
        self.slots.lock().unwrap().by_settings.len()
    }
}

impl<S: Recipe, C> Slots<S, C> {
    fn held(&mut self, settings: &S) -> Arc<OnceLock<Held<C>>> {
        self.clock += 1;
        if let Some(slot) = self.by_settings.get_mut(settings) {
            slot.used = self.clock;
            return Arc::clone(&slot.held);
        }
        if self.by_settings.len() >= MOST {
            self.forget_oldest();
        }
        let held = Arc::new(OnceLock::new());
        let slot = Slot { used: self.clock, held: Arc::clone(&held) };
        self.by_settings.insert(settings.clone(), slot);
        held
    }

    fn forget_oldest(&mut self) {
        let oldest = self.by_settings.iter().min_by_key(|(_, slot)| slot.used);
        if let Some(settings) = oldest.map(|(settings, _)| settings.clone()) {
            self.by_settings.remove(&settings);
        }
    }
}

impl<S, C> fmt::Debug for Cache<S, C> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Cache").finish_non_exhaustive()
    }
}

/// Configurations kept at once. More than there are different `tls` blocks in practice; each has a
/// few KiB, and its sessions.
const MOST: usize = 1024;
