//! Places for things that go on side by side as tasks: each holds one, and learns when it has to
//! give it up.

use std::{
    collections::HashMap,
    sync::{Arc, Mutex, MutexGuard, PoisonError},
    time::Instant,
};

use tokio::sync::Notify;

use crate::shares::{Admission, Asker, Shares};

/// A limited number of places.
#[derive(Debug)]
pub(crate) struct Places(Mutex<State>);

#[derive(Debug)]
struct State {
    shares: Shares,
    /// By ticket: whose it is, and what rings when the holder has to go.
    held: HashMap<u64, (Asker, Arc<Notify>)>,
    last: u64,
}

/// A place, held while this lives.
#[derive(Debug)]
pub(crate) struct Place {
    places: Arc<Places>,
    asker: Asker,
    ticket: u64,
    bell: Arc<Notify>,
}

impl Places {
    /// So many places.
    pub(crate) fn new(limit: usize) -> Arc<Self> {
        let (shares, held) = (Shares::new(limit), HashMap::new());
        Arc::new(Self(Mutex::new(State { shares, held, last: 0 })))
    }

    /// Takes a place, if need be somebody else's; nothing if all others have less than this one.
    pub(crate) fn take(self: &Arc<Self>, asker: Asker) -> Option<Place> {
        let now = Instant::now();
        let mut state = self.state();
        match state.shares.admit(asker, now) {
            Admission::Free => {}
            // It counts no longer, though it takes a moment until it is gone.
            Admission::InsteadOf(ticket) => state.give_up(ticket),
            Admission::Refused => return None,
        }
        state.last += 1;
        let (ticket, bell) = (state.last, Arc::new(Notify::new()));
        state.held.insert(ticket, (asker, Arc::clone(&bell)));
        state.shares.add(asker, ticket, now);
        drop(state);
        Some(Place { places: Arc::clone(self), asker, ticket, bell })
    }

    fn state(&self) -> MutexGuard<'_, State> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl State {
    fn give_up(&mut self, ticket: u64) {
        if let Some((asker, bell)) = self.held.remove(&ticket) {
            self.shares.remove(asker, ticket);
            bell.notify_one();
        }
    }
}

impl Place {
    /// Whose it is.
    pub(crate) fn asker(&self) -> Asker {
        self.asker
    }

    /// Completes when the place is somebody else's.
    pub(crate) async fn displaced(&self) {
        self.bell.notified().await;
    }
}

impl Drop for Place {
    fn drop(&mut self) {
        self.places.state().give_up(self.ticket);
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use tokio::time::timeout;

    use super::*;

    fn user(uid: u32) -> Asker {
        Asker::Process { uid, cgroup: 1 }
    }

    #[tokio::test]
    async fn who_is_displaced_hears_of_it() {
        let places = Places::new(2);
        let [first, second] = [1, 1].map(|uid| places.take(user(uid)).unwrap());
        assert!(places.take(user(1)).is_none());
        let third = places.take(user(2)).unwrap();
        first.displaced().await;
        assert!(timeout(Duration::from_millis(10), second.displaced()).await.is_err());
        // It is gone already, and takes nothing away by going.
        drop(first);
        assert_eq!(places.state().shares.count(), 2);
        drop((second, third));
        assert_eq!(places.state().shares.count(), 0);
        assert!(places.state().held.is_empty());
    }
}
