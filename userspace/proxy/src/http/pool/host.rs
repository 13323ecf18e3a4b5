//! The connections to one endpoint.

use std::{
    collections::VecDeque,
    sync::{Arc, Mutex, MutexGuard, PoisonError, Weak},
};

use tokio::{sync::oneshot, time::Instant};

use super::{h1::H1, h2::Shared};
use crate::http::{binding::Owner, circuit::Permit, upstream::NotConnected};

/// The connections to one endpoint.
#[derive(Default)]
pub(super) struct HostPool(Mutex<State>);

/// What there is.
#[derive(Default)]
pub(super) struct State {
    /// HTTP/1 connections without a request, the one used last at the end.
    #[expect(
        clippy::vec_box,
        reason = "a connection stays in its box on its way from hand to hand"
    )]
    pub(super) idle: Vec<Box<H1>>,
    /// HTTP/2 connections.
    pub(super) shared: Vec<Shared>,
    /// Connections, those being made included.
    pub(super) open: u32,
    /// Requests for which there is no connection, and none may be made.
    pub(super) waiting: VecDeque<oneshot::Sender<Turn>>,
    /// Requests that wait for an HTTP/2 connection that is being made.
    pub(super) connecting: Option<Vec<oneshot::Sender<Result<(), NotConnected>>>>,
}

/// What somebody who waits is given.
pub(super) enum Turn {
    /// A connection.
    Take(Box<H1>),
    /// The right to make one.
    Connect(Place),
}

/// A connection's place among those there may be. Idle connections are kept by their host's pool, so
/// the way back is a weak one.
pub(super) struct Place {
    host: Weak<HostPool>,
    permit: Option<Permit>,
}

impl HostPool {
    pub(super) fn lock(&self) -> MutexGuard<'_, State> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Whether nothing is left of it.
    pub(super) fn is_empty(&self) -> bool {
        let state = self.lock();
        state.open == 0 && state.waiting.is_empty() && state.connecting.is_none()
    }

    /// Since when a connection has had no request: that which has had none for longest.
    pub(super) fn idle_since(&self) -> Option<Instant> {
        let state = self.lock();
        let shared = state.shared.iter().filter_map(Shared::idle_since).min();
        let idle = state.idle.first().map(|connection| connection.idle_since);
        idle.into_iter().chain(shared).min()
    }

    /// Closes one that has no request; says whether there was one.
    pub(super) fn close_idle(&self) -> bool {
        let mut state = self.lock();
        if !state.idle.is_empty() {
            let connection = state.idle.remove(0);
            // It gives its place back.
            drop(state);
            connection.close();
            return true;
        }
        let idle = state.shared.iter().position(|shared| shared.idle_since().is_some());
        // Without anybody to send on it, its task ends.
        idle.map(|at| state.shared.swap_remove(at)).is_some()
    }

    /// Gives a connection to somebody who waits, or keeps it.
    pub(super) fn put_back(&self, mut connection: Box<H1>) {
        loop {
            let mut state = self.lock();
            if connection.is_owned() && !state.waiting.is_empty() {
                // Who waits gets its place.
                drop(state);
                connection.close();
                return;
            }
            let Some(next) = state.waiting.pop_front() else {
                state.idle.push(connection);
                return;
            };
            drop(state);
            match next.send(Turn::Take(connection)) {
                Err(Turn::Take(refused)) => connection = refused,
                Ok(()) | Err(Turn::Connect(_)) => return,
            }
        }
    }
}

impl State {
    /// An idle connection for somebody: one of its own, or the one used last of those that are nobody's.
    pub(super) fn take_idle(&mut self, owner: Option<&Arc<Owner>>) -> Option<Box<H1>> {
        let own = owner.and_then(|owner| self.idle.iter().rposition(|one| one.is_owned_by(owner)));
        let at = own.or_else(|| self.idle.iter().rposition(|one| !one.is_owned()))?;
        Some(self.idle.remove(at))
    }

    /// The idle connection that its owner has used least lately.
    pub(super) fn take_owned(&mut self) -> Option<Box<H1>> {
        let at = self.idle.iter().position(|one| one.is_owned())?;
        Some(self.idle.remove(at))
    }

    /// Waits for a turn; who has gone meanwhile is forgotten.
    pub(super) fn wait(&mut self) -> oneshot::Receiver<Turn> {
        if self.waiting.len() >= CROWD && self.waiting.len().is_power_of_two() {
            self.waiting.retain(|one| !one.is_closed());
        }
        let (turn, waiting) = oneshot::channel();
        self.waiting.push_back(turn);
        waiting
    }

    /// A place for a connection that `permit` allows.
    pub(super) fn place(&mut self, host: &Arc<HostPool>, permit: Permit) -> Place {
        self.open += 1;
        Place { host: Arc::downgrade(host), permit: Some(permit) }
    }
}

/// From how many on those who wait are looked through, whenever there are twice as many.
pub(super) const CROWD: usize = 64;

impl Drop for Place {
    /// The connection is closed: its place goes to whoever waits.
    fn drop(&mut self) {
        let (Some(mut permit), Some(host)) = (self.permit.take(), self.host.upgrade()) else {
            return;
        };
        loop {
            let mut state = host.lock();
            let Some(next) = state.waiting.pop_front() else {
                state.open -= 1;
                return;
            };
            drop(state);
            let place = Self { host: Weak::clone(&self.host), permit: Some(permit) };
            match next.send(Turn::Connect(place)) {
                Err(Turn::Connect(mut refused)) => match refused.permit.take() {
                    Some(returned) => permit = returned,
                    None => return,
                },
                Ok(()) | Err(Turn::Take(_)) => return,
            }
        }
    }
}
