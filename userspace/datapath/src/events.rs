//! The rare events of the kernel side, and its debug lines, delivered by one thread.

use std::{
    io,
    os::fd::{AsFd as _, OwnedFd},
    time::{Duration, SystemTime},
};

use aya::maps::{MapData, RingBuf};
use aya_log::EbpfLogger;
use egressd_abi::{Event, EventKind};
use nix::{
    poll::{PollFd, PollFlags, PollTimeout, poll},
    sys::eventfd::EventFd,
    time::{ClockId, clock_gettime},
};
use zerocopy::FromBytes as _;

use crate::{
    addresses::AddressChanges,
    direct::{DirectRecord, Records},
    originals::Socket,
};

/// The target of the programs' debug lines.
const LOG_TARGET: &str = "egressd::ebpf";

/// Why a connect() was refused.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Denied {
    /// No service has the destination and the policy is REGISTRY_ONLY.
    UnknownDestination,
    /// The proxy did not listen in the network namespace.
    ProxyDown,
    /// There was no usable path.
    NoPath,
}

/// What the kernel side tells.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Notice {
    /// A connect() was refused.
    Denied {
        /// When.
        at: SystemTime,
        /// Who, and where to.
        socket: Socket,
        /// Why.
        why: Denied,
        /// What connect() returned.
        errno: i32,
    },
    /// A process connected where nothing of ours listens.
    NewNetns {
        /// Who, and where to.
        socket: Socket,
    },
    /// The addresses of our network namespace have changed.
    Addresses,
    /// A connection that took the direct path has ended, or was refused.
    Direct(Box<DirectRecord>),
}

/// The thread that waits for events. Dropping it ends the thread.
#[derive(Debug)]
pub struct Watch {
    stop: EventFd,
    thread: Option<std::thread::JoinHandle<()>>,
}

/// Events handled before the other sources have their turn.
const AT_ONCE: usize = 1024;

/// What the thread reads from.
pub(crate) struct Sources {
    /// Namespaces, which go before denials.
    pub(crate) rare: RingBuf<MapData>,
    pub(crate) events: RingBuf<MapData>,
    /// Direct connections that are over.
    pub(crate) records: Records,
    pub(crate) log: Option<EbpfLogger<Forward>>,
    pub(crate) addresses: Option<AddressChanges>,
}

impl Watch {
    pub(crate) fn start(
        sources: Sources,
        handler: impl FnMut(Notice) + Send + 'static,
    ) -> io::Result<Self> {
        let stop = EventFd::new()?;
        let stopped = stop.as_fd().try_clone_to_owned()?;
        let thread = std::thread::Builder::new()
            .name("egressd-events".to_owned())
            .spawn(move || run(sources, &stopped, handler))?;
        Ok(Self { stop, thread: Some(thread) })
    }
}

impl Drop for Watch {
    fn drop(&mut self) {
        if self.stop.write(1).is_ok()
            && let Some(thread) = self.thread.take()
            && thread.join().is_err()
        {
            tracing::error!("the thread that reads kernel events panicked");
        }
    }
}

fn run(mut sources: Sources, stop: &OwnedFd, mut handler: impl FnMut(Notice)) {
    while let Some(ready) = wait(&sources, stop) {
        for _ in 0..AT_ONCE {
            let Some(item) = sources.rare.next().or_else(|| sources.events.next()) else { break };
            if let Some(notice) = Event::read_from_bytes(&item).ok().and_then(|e| notice(&e)) {
                handler(notice);
            }
        }
        for _ in 0..AT_ONCE {
            let Some(record) = sources.records.next() else { break };
            handler(Notice::Direct(Box::new(record)));
        }
        if let Some(log) = &mut sources.log {
            log.flush();
        }
        if let (true, Some(addresses)) = (ready.addresses, &sources.addresses) {
            addresses.drain();
            handler(Notice::Addresses);
        }
    }
}

/// Records of orderly ends wake nobody up: they are looked for this often, in milliseconds.
const LOOK: u8 = 100;

struct Ready {
    addresses: bool,
}

/// Waits for something to read; `None` when it is time to end.
fn wait(sources: &Sources, stop: &OwnedFd) -> Option<Ready> {
    let readable = |fd| PollFd::new(fd, PollFlags::POLLIN);
    let buffers = [&sources.rare, &sources.events, sources.records.buffer()];
    let buffers = buffers.map(|buffer| readable(buffer.as_fd()));
    let mut fds = vec![readable(stop.as_fd())];
    fds.extend(buffers);
    let addresses = sources.addresses.as_ref().map(|changes| {
        fds.push(readable(changes.as_fd()));
        fds.len() - 1
    });
    fds.extend(sources.log.as_ref().map(|log| readable(log.as_fd())));
    match poll(&mut fds, PollTimeout::from(LOOK)) {
        Ok(_) | Err(nix::errno::Errno::EINTR) => {}
        Err(error) => {
            tracing::error!(%error, "waiting for kernel events");
            return None;
        }
    }
    let is_ready = |index: usize| fds.get(index).and_then(PollFd::any).unwrap_or(false);
    if is_ready(0) {
        return None;
    }
    Some(Ready { addresses: addresses.is_some_and(is_ready) })
}

fn notice(event: &Event) -> Option<Notice> {
    use egressd_abi as abi;
    let socket = event.original.into();
    match event.kind()? {
        EventKind::Denied => {
            let why = match event.reason {
                abi::REASON_UNKNOWN_DESTINATION => Denied::UnknownDestination,
                abi::REASON_PROXY_DOWN => Denied::ProxyDown,
                _ => Denied::NoPath,
            };
            let errno = i32::try_from(event.errno).unwrap_or(0);
            Some(Notice::Denied { at: wall_clock(event.time_ns), socket, why, errno })
        }
        EventKind::NewNetns => Some(Notice::NewNetns { socket }),
    }
}

/// The wall clock's reading at an instant of CLOCK_MONOTONIC.
pub(crate) fn wall_clock(monotonic_ns: u64) -> SystemTime {
    let now = SystemTime::now();
    let Ok(reading) = clock_gettime(ClockId::CLOCK_MONOTONIC) else {
        return now;
    };
    let ago = Duration::from(reading).saturating_sub(Duration::from_nanos(monotonic_ns));
    now.checked_sub(ago).unwrap_or(now)
}

/// Passes the programs' debug lines on to `tracing`.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Forward;

impl log::Log for Forward {
    fn enabled(&self, _metadata: &log::Metadata<'_>) -> bool {
        true
    }

    fn log(&self, record: &log::Record<'_>) {
        tracing::debug!(target: LOG_TARGET, line = %record.args(), "kernel");
    }

    fn flush(&self) {}
}
