//! Connections that have carried one byte each way and then wait.

use std::{
    io::{self, Write as _},
    net::{SocketAddr, TcpStream},
    thread,
};

use nix::sys::socket::MsgFlags;

use super::{
    Result,
    events::{Events, dial, receive, transmit},
};

/// Opens `count` connections, says so, and keeps them until it is killed.
pub(crate) fn run(to: SocketAddr, count: usize) -> Result<String> {
    let mut events = Events::new()?;
    let mut sockets: Vec<TcpStream> = Vec::new();
    let (mut sent, mut done) = (vec![false; count], 0);
    while done < count {
        while sockets.len() < count && sockets.len() - done < AT_ONCE {
            let socket = dial(to)?;
            events.watch(sockets.len(), &socket)?;
            sockets.push(socket);
        }
        let happened = events.wait(5000)?;
        if happened.is_empty() {
            return Err(format!("{done} of {count} connections came about").into());
        }
        for event in happened {
            let socket = &sockets[event.number];
            if event.writable && !sent[event.number] {
                if let Some(error) = socket.take_error()? {
                    return Err(error.into());
                }
                sent[event.number] = transmit(socket, b"h")? == 1;
            }
            if event.readable {
                done += receive(socket, &mut [0], MsgFlags::empty())?;
            }
        }
    }
    writeln!(io::stdout(), "holding")?;
    loop {
        thread::park();
    }
}

/// Connections in the making at once.
const AT_ONCE: usize = 64;
