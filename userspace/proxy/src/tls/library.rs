//! The files in use, each read once however many clusters need it.

use std::{
    collections::HashMap,
    sync::{Arc, Mutex, PoisonError, Weak},
    time::Duration,
};

use super::{
    file::Watched,
    material::{Chain, Crls, Key, Roots},
};

/// The files in use, by what they are for and their path.
///
/// Bounded by the configurations that hold them: a file that no configuration holds is forgotten.
#[derive(Debug)]
pub(super) struct Library {
    recheck: Duration,
    shelves: Mutex<Shelves>,
}

#[derive(Debug, Default)]
pub(super) struct Shelves {
    chains: Shelf<Chain>,
    keys: Shelf<Key>,
    roots: Shelf<Roots>,
    crls: Shelf<Crls>,
}

type Shelf<T> = HashMap<Arc<str>, Weak<Watched<T>>>;

/// A kind of content with a shelf of its own.
pub(super) trait Shelved: super::material::Material {
    /// Its shelf.
    fn shelf(shelves: &mut Shelves) -> &mut Shelf<Self>;
}

impl Library {
    /// An empty library; files are looked at once in `recheck` at most.
    pub(super) fn new(recheck: Duration) -> Self {
        Self { recheck, shelves: Mutex::default() }
    }

    /// The file at a path; it is not read here.
    pub(super) fn file<T: Shelved>(&self, path: &Arc<str>) -> Arc<Watched<T>> {
        let mut shelves = self.shelves.lock().unwrap_or_else(PoisonError::into_inner);
        let shelf = T::shelf(&mut shelves);
        if let Some(file) = shelf.get(path).and_then(Weak::upgrade) {
            return file;
        }
        shelf.retain(|_, file| file.strong_count() > 0);
        let file = Arc::new(Watched::new(Arc::clone(path), self.recheck));
        shelf.insert(Arc::clone(path), Arc::downgrade(&file));
        file
    }
}

impl Shelved for Chain {
    fn shelf(shelves: &mut Shelves) -> &mut Shelf<Self> {
        &mut shelves.chains
    }
}

impl Shelved for Key {
    fn shelf(shelves: &mut Shelves) -> &mut Shelf<Self> {
        &mut shelves.keys
    }
}

impl Shelved for Roots {
    fn shelf(shelves: &mut Shelves) -> &mut Shelf<Self> {
        &mut shelves.roots
    }
}

impl Shelved for Crls {
    fn shelf(shelves: &mut Shelves) -> &mut Shelf<Self> {
        &mut shelves.crls
    }
}
