//! Requests that are sent back, on connections that stay or on a new one each time, as fast as they
//! come back (a closed loop).

use std::{
    fmt::Write as _,
    net::{SocketAddr, TcpStream},
    time::{Duration, Instant},
};

use nix::sys::socket::MsgFlags;

use super::{
    Result,
    events::{Event, Events, dial, receive, transmit},
};

/// What is sent, how often at once, and for how long.
pub(crate) struct Load {
    /// Where to.
    pub(crate) to: SocketAddr,
    /// Requests under way at once.
    pub(crate) at_once: usize,
    /// How long is measured, after [`WARM_UP`].
    pub(crate) time: Duration,
    /// The request, which is also the reply.
    pub(crate) request: Vec<u8>,
    /// Each on a connection of its own, whose making counts.
    pub(crate) connect: bool,
}

/// Prints how many a second, and how long they took.
pub(crate) fn run(load: &Load) -> Result<String> {
    let begin = Instant::now() + WARM_UP;
    let end = begin + load.time;
    let mut events = Events::new()?;
    let mut calls: Vec<Call> = Vec::new();
    for number in 0..load.at_once {
        calls.push(Call::dial(&events, number, load.to)?);
    }
    let mut buffer = vec![0; load.request.len()];
    let (mut total, mut errors, mut times) = (0_u64, 0_u64, Vec::new());
    let mut swept = Instant::now();
    while Instant::now() < end {
        for event in events.wait(50)? {
            let call = &mut calls[event.number];
            match call.go_on(event, load, &mut buffer) {
                Ok(None) => {}
                Ok(Some(began)) => {
                    let now = Instant::now();
                    total += 1;
                    if now >= begin && now < end {
                        times.push((now - began).as_nanos() as u64);
                    }
                    if load.connect {
                        *call = Call::dial(&events, event.number, load.to)?;
                    } else {
                        call.began = now;
                        call.send(load).ok();
                    }
                }
                Err(_broken) => {
                    errors += 1;
                    *call = Call::dial(&events, event.number, load.to)?;
                }
            }
        }
        if swept.elapsed() > STALLED / 4 {
            swept = Instant::now();
            for (number, call) in calls.iter_mut().enumerate() {
                if call.began.elapsed() > STALLED {
                    errors += 1;
                    *call = Call::dial(&events, number, load.to)?;
                }
            }
        }
    }
    report(load, total, errors, times)
}

fn report(load: &Load, total: u64, errors: u64, mut times: Vec<u64>) -> Result<String> {
    times.sort_unstable();
    let at = |share: f64| {
        let index = (times.len().saturating_sub(1) as f64 * share).round() as usize;
        times.get(index).copied().unwrap_or(0) as f64 / 1000.0
    };
    let mut line = String::new();
    let rate = times.len() as f64 / load.time.as_secs_f64();
    write!(
        line,
        "total={total} rate={rate:.1} p50={:.2} p99={:.2} errors={errors}",
        at(0.5),
        at(0.99)
    )?;
    if times.is_empty() { Err(format!("nothing came back: {line}").into()) } else { Ok(line) }
}

/// A request under way.
struct Call {
    socket: TcpStream,
    /// When connect() or the request began, whichever counts.
    began: Instant,
    connected: bool,
    received: usize,
}

impl Call {
    fn dial(events: &Events, number: usize, to: SocketAddr) -> Result<Self> {
        let began = Instant::now();
        let socket = dial(to)?;
        events.watch(number, &socket)?;
        Ok(Self { socket, began, connected: false, received: 0 })
    }

    fn send(&mut self, load: &Load) -> Result<()> {
        self.received = 0;
        let sent = transmit(&self.socket, &load.request)?;
        if sent < load.request.len() {
            Err("a new connection took no request".into())
        } else {
            Ok(())
        }
    }

    /// When the reply is complete, tells when it began.
    fn go_on(&mut self, event: Event, load: &Load, buffer: &mut [u8]) -> Result<Option<Instant>> {
        if !self.connected && event.writable {
            if let Some(error) = self.socket.take_error()? {
                return Err(error.into());
            }
            self.connected = true;
            if !load.connect {
                self.began = Instant::now();
            }
            self.send(load)?;
        }
        if event.readable && self.connected {
            self.received += receive(&self.socket, buffer, MsgFlags::empty())?;
            if self.received >= load.request.len() {
                return Ok(Some(self.began));
            }
        }
        Ok(None)
    }
}

/// Requests that come back in this time after the start do not count.
const WARM_UP: Duration = Duration::from_millis(250);
/// A request that takes longer is given up.
const STALLED: Duration = Duration::from_secs(1);
