//! As many bytes as go through, on one or several connections.

use std::{
    fs::File,
    io,
    net::{SocketAddr, TcpStream},
    time::{Duration, Instant},
};

use nix::sys::socket::MsgFlags;

use super::{
    Result,
    backend::{CHUNK, GIVE, TAKE, pour, source},
    events::{Event, Events, dial, receive, transmit},
};

/// Which way the bytes go.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(crate) enum Way {
    /// To us.
    Down,
    /// From us.
    Up,
}

/// Prints the bits a second, and all bytes of the whole run.
pub(crate) fn run(to: SocketAddr, at_once: usize, time: Duration, way: Way) -> Result<String> {
    let begin = Instant::now() + WARM_UP;
    let end = begin + time;
    let (mut events, file, mut buffer) = (Events::new()?, source()?, vec![0; CHUNK]);
    let mut flows = Vec::new();
    for number in 0..at_once {
        let socket = dial(to)?;
        events.watch(number, &socket)?;
        flows.push(Flow { socket, offset: 0, begun: false });
    }
    let (mut total, mut errors, mut counted) = (0_u64, 0_u64, None);
    loop {
        let now = Instant::now();
        if now >= end {
            break;
        }
        if now >= begin && counted.is_none() {
            counted = Some((now, total));
        }
        for event in events.wait(50)? {
            let Some(flow) = flows.get_mut(event.number) else { continue };
            match flow.go_on(event, way, &file, &mut buffer) {
                Ok(bytes) => total += bytes as u64,
                Err(_broken) => errors += 1,
            }
        }
    }
    let (since, before) = counted.ok_or("nothing was measured")?;
    let rate = (total - before) as f64 * 8.0 / since.elapsed().as_secs_f64();
    if total == before {
        return Err("no byte went through".into());
    }
    Ok(format!("total={total} rate={rate:.0} errors={errors}"))
}

struct Flow {
    socket: TcpStream,
    offset: i64,
    begun: bool,
}

impl Flow {
    fn go_on(
        &mut self,
        event: Event,
        way: Way,
        file: &File,
        buffer: &mut [u8],
    ) -> io::Result<usize> {
        if !self.begun && event.writable {
            if let Some(error) = self.socket.take_error()? {
                return Err(error);
            }
            self.begun = true;
            transmit(&self.socket, &[if way == Way::Down { GIVE } else { TAKE }])?;
        }
        match way {
            Way::Down if event.readable => {
                let mut total = 0;
                loop {
                    // Thrown away inside the kernel.
                    let taken = receive(&self.socket, buffer, MsgFlags::MSG_TRUNC)?;
                    total += taken;
                    if taken < buffer.len() {
                        return Ok(total);
                    }
                }
            }
            Way::Up if self.begun && event.writable => pour(&self.socket, file, &mut self.offset),
            Way::Down | Way::Up => Ok(0),
        }
    }
}

/// Bytes of this time after the start do not count.
const WARM_UP: Duration = Duration::from_millis(300);
