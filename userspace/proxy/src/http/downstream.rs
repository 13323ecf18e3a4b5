//! An application's connection, as its requests see it, and the worker that serves it.

use std::{
    fmt,
    sync::{
        Arc, Mutex, PoisonError,
        atomic::{AtomicBool, Ordering},
    },
};

use egressd_tables::{HttpDecision, RequestHead, RouteTable};
use tokio::sync::Notify;

use super::{
    activity::Activity,
    binding::Binding,
    circuit::Circuits,
    pool::Pools,
    settings::HttpSettings,
    unread::Share,
    upgrade::Switched,
    upstream::{Connector, Origin, Picker},
};
use crate::{original::Original, record::Records, relay::PipePool};

/// What all connections of a worker share.
pub(crate) struct HttpWorker {
    /// Limits and habits.
    pub(crate) settings: HttpSettings,
    /// Chooses endpoints.
    pub(crate) picker: Arc<dyn Picker>,
    /// Connections to endpoints.
    pub(crate) pools: Arc<Pools>,
    /// What is held for those who do not read.
    pub(crate) unread: Arc<Share>,
    /// For bytes that are relayed after a switch of protocols.
    pub(crate) pipes: Arc<PipePool>,
    records: Arc<dyn Records>,
    /// The worker ends, and what is under way with it.
    ending: Arc<AtomicBool>,
}

/// An application's connection.
pub(crate) struct Downstream {
    /// Who serves it.
    pub(crate) worker: Arc<HttpWorker>,
    /// Decides its requests.
    pub(crate) routes: Box<dyn Routes>,
    /// Where it came from, and where it was to go.
    pub(crate) origin: Origin,
    /// What the kernel side knows of it.
    pub(crate) original: Original,
    /// The name in its ClientHello, where we end its TLS.
    pub(crate) server_name: Option<Box<str>>,
    /// `http`, or `https` where we end its TLS.
    pub(crate) scheme: &'static str,
    /// It came in at a Gateway, perhaps from a stranger.
    pub(crate) edge: bool,
    /// Connections to endpoints that are its own.
    pub(crate) binding: Binding,
    /// What happens on it.
    pub(crate) activity: Activity,
    /// It is to end as soon as what is under way on it has been answered.
    pub(super) retired: Retired,
    /// The upstream's side after a switch of protocols.
    switched: Mutex<Option<Switched>>,
}

/// Decides requests.
///
/// Asked for every request, so that a connection that lives long follows the configuration: what a
/// generation is pinned to is the request, not the connection.
pub(crate) trait Routes: Send + Sync {
    /// Decides a request.
    fn route(&self, head: &RequestHead<'_>) -> HttpDecision;

    /// What has become of the connection under the configuration in force; asked before each request
    /// is decided. Default: nothing.
    fn standing(&self) -> Standing {
        Standing::Good
    }
}

/// What has become of a connection since it came in.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Standing {
    /// It is what it was.
    Good,
    /// It would be something else if it came in at this moment: the request is decided as before, and
    /// is the last one.
    Outlived,
    /// It would be refused if it came in at this moment, and so is the request.
    Refused,
}

/// Whether a connection is to end early.
#[derive(Debug, Default)]
pub(super) struct Retired {
    flag: AtomicBool,
    told: Notify,
}

impl Routes for Arc<RouteTable> {
    fn route(&self, head: &RequestHead<'_>) -> HttpDecision {
        RouteTable::route(self, head)
    }
}

impl HttpWorker {
    /// A worker without connections. `circuits` is shared by all of them.
    pub(crate) fn new(
        settings: HttpSettings,
        picker: Arc<dyn Picker>,
        connector: Arc<dyn Connector>,
        circuits: Arc<Circuits>,
        pipes: Arc<PipePool>,
        records: Arc<dyn Records>,
        ending: Arc<AtomicBool>,
    ) -> Self {
        let unread = Arc::new(Share::new(Arc::clone(&circuits.unread)));
        let pools = Pools::new(connector, circuits);
        Self { settings, picker, pools, unread, pipes, records, ending }
    }

    /// Whether what is dropped from here on is not the application's doing.
    pub(crate) fn is_ending(&self) -> bool {
        self.ending.load(Ordering::SeqCst)
    }
}

impl fmt::Debug for HttpWorker {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("HttpWorker").field("settings", &self.settings).finish_non_exhaustive()
    }
}

impl Downstream {
    /// A connection that nothing has happened on.
    pub(crate) fn new(
        worker: Arc<HttpWorker>,
        routes: Box<dyn Routes>,
        origin: Origin,
        original: Original,
    ) -> Self {
        Self {
            worker,
            routes,
            origin,
            original,
            server_name: None,
            scheme: "http",
            edge: false,
            binding: Binding::default(),
            activity: Activity::default(),
            retired: Retired::default(),
            switched: Mutex::default(),
        }
    }

    /// Where records go.
    pub(crate) fn records(&self) -> &Arc<dyn Records> {
        &self.worker.records
    }

    /// What is under way on it is answered, and then it ends.
    pub(super) fn retire(&self) {
        if !self.retired.flag.swap(true, Ordering::Relaxed) {
            self.retired.told.notify_one();
        }
    }

    /// Whether it ends as soon as what is under way on it has been answered.
    pub(super) fn is_retired(&self) -> bool {
        self.retired.flag.load(Ordering::Relaxed)
    }

    /// Waits for [`Downstream::retire`].
    pub(super) async fn when_retired(&self) {
        self.retired.told.notified().await;
    }

    /// From here on another protocol is spoken.
    pub(crate) fn switch(&self, to: Switched) {
        self.activity.switch();
        *self.switched.lock().unwrap_or_else(PoisonError::into_inner) = Some(to);
    }

    /// The upstream's side, if another protocol is spoken.
    pub(crate) fn switched(&self) -> Option<Switched> {
        self.switched.lock().unwrap_or_else(PoisonError::into_inner).take()
    }
}
