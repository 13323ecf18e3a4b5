//! The thread that serves connections and asks upstreams over connections: its own, so that it waits
//! for nobody else's work, and gives a sign of life of its own.

use std::{io, sync::Arc, thread};

use tokio::{
    runtime::{Builder, Handle},
    sync::oneshot,
    time::{MissedTickBehavior, interval},
};

use crate::server::heartbeat::{self, Heartbeat};

/// A handle to the thread.
pub(crate) struct Connections {
    handle: Handle,
    stop: Option<oneshot::Sender<()>>,
    thread: Option<thread::JoinHandle<()>>,
}

impl Connections {
    /// Starts it; `index` is its place among those that give signs of life.
    pub(crate) fn start(index: usize, heartbeat: Arc<Heartbeat>) -> io::Result<Self> {
        let runtime = Builder::new_current_thread().enable_all().build()?;
        let handle = runtime.handle().clone();
        let (stop, stopped) = oneshot::channel();
        let beating = async move {
            let mut interval = interval(heartbeat::INTERVAL);
            interval.set_missed_tick_behavior(MissedTickBehavior::Delay);
            loop {
                interval.tick().await;
                heartbeat.beat(index);
            }
        };
        let work = async move {
            tokio::select! {
                () = beating => {}
                // Told to stop, or nobody is left who could tell.
                _ = stopped => {}
            }
        };
        let thread = thread::Builder::new()
            .name("dns-tcp".to_owned())
            .spawn(move || runtime.block_on(work))?;
        Ok(Self { handle, stop: Some(stop), thread: Some(thread) })
    }

    /// Where tasks are spawned.
    pub(crate) fn handle(&self) -> Handle {
        self.handle.clone()
    }

    /// Ends it, and every task on it.
    pub(crate) fn stop(&mut self) {
        drop(self.stop.take());
        if let Some(thread) = self.thread.take()
            && thread.join().is_err()
        {
            tracing::error!("the thread of DNS connections had panicked");
        }
    }
}
