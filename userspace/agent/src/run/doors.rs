//! Doors: sockets that clients dial by themselves. A generation says which there are: the explicit
//! HTTP proxy, Sidecar listeners with `captureMode: NONE`, and the servers of Gateways that select
//! this node (semantics.md §6).
//!
//! A door that cannot be opened is one error in the log, and tried again; nothing else waits for it.

mod unix;

use std::{collections::BTreeMap, io, net::SocketAddr, os::fd::OwnedFd, time::Duration};

use egressd_proxy::{Door, DoorAddr, Opened, Server};
use egressd_tables::{Bind, Tables};
use nix::errno::Errno;
use serde_json::{Value, json};
use socket2::{Domain, Socket, Type};

/// How often doors that could not be opened are tried again.
pub(super) const TRY_AGAIN: Duration = Duration::from_secs(1);

/// All doors of the generation in force.
#[derive(Debug, Default)]
pub(super) struct Doors(BTreeMap<Door, State>);

/// One door.
#[derive(Debug)]
struct State {
    /// Who asks for it, in words.
    wanted_by: String,
    /// Its sockets, or why there are none.
    open: Result<Vec<Opened>, String>,
}

impl Doors {
    /// Opens the doors that a generation asks for, and shuts those that it does not. Doors that stay
    /// are not touched.
    pub(super) fn follow(&mut self, server: &Server, tables: &Tables) {
        let mut wanted = wanted(tables);
        // First, so that a door may take the place of another one.
        for (door, state) in self.0.extract_if(.., |door, _| !wanted.contains_key(door)) {
            tracing::info!(%door, "closed");
            if let Ok(open) = state.open {
                open.into_iter().for_each(|opened| server.shut(opened));
                door.addresses().iter().for_each(unix::tidy);
            }
        }
        for (door, state) in &mut self.0 {
            if let Some(wanted_by) = wanted.remove(door) {
                state.wanted_by = wanted_by;
            }
        }
        for (door, wanted_by) in wanted {
            let open = open(server, &door);
            match &open {
                Ok(_) => tracing::info!(%door, %wanted_by, "open"),
                Err(error) => {
                    tracing::error!(%door, %wanted_by, error, "cannot listen: nobody is served there");
                }
            }
            self.0.insert(door, State { wanted_by, open });
        }
    }

    /// Tries again to open those that could not be. Says so only if that changes something.
    pub(super) fn try_again(&mut self, server: &Server) {
        for (door, state) in &mut self.0 {
            let Err(before) = &state.open else { continue };
            let open = open(server, door);
            match &open {
                Ok(_) => tracing::info!(%door, wanted_by = state.wanted_by, "open"),
                Err(error) if error == before => {}
                Err(error) => {
                    tracing::error!(%door, wanted_by = state.wanted_by, error, "cannot listen");
                }
            }
            state.open = open;
        }
    }

    /// What `egressd status` shows.
    pub(super) fn status(&self) -> Value {
        let door = |(door, state): (&Door, &State)| {
            let error = state.open.as_ref().err();
            json!({"door": door.to_string(), "wanted_by": state.wanted_by, "error": error})
        };
        self.0.iter().map(door).collect()
    }
}

/// The doors of a generation, and who asks for them.
fn wanted(tables: &Tables) -> BTreeMap<Door, String> {
    let mut wanted = BTreeMap::new();
    for listener in tables.sockets() {
        if let Bind::Socket(ip) = listener.bind {
            let door = Door::Listener(SocketAddr::new(ip, listener.port));
            wanted.insert(door, "meshConfig.proxyHttpPort or a Sidecar".to_owned());
        }
    }
    for server in tables.gateway_servers() {
        let door = Door::Gateway { bind: server.bind.clone(), port: server.port };
        let by = format!("Gateway {}", server.gateway);
        wanted
            .entry(door)
            .and_modify(|others: &mut String| {
                if !others.contains(&by) {
                    *others = format!("{others}, {by}");
                }
            })
            .or_insert(by);
    }
    wanted
}

fn open(server: &Server, door: &Door) -> Result<Vec<Opened>, String> {
    let addresses = door.addresses();
    if addresses.is_empty() {
        return Err("`bind` is neither an IP address nor a Unix socket".to_owned());
    }
    let both = addresses.len() > 1;
    let mut opened = Vec::new();
    for addr in addresses {
        let socket = match &addr {
            DoorAddr::Ip(addr) => listen(*addr),
            DoorAddr::Unix(name) => unix::listen(name),
        };
        match socket.and_then(|socket| server.open(&socket, addr.clone(), door.clone())) {
            Ok(one) => opened.push(one),
            // A machine without IPv6 has all its addresses without it.
            Err(error) if both && is_v6(&addr) && has_no_v6(&error) => {}
            Err(error) => {
                opened.into_iter().for_each(|one| server.shut(one));
                return Err(format!("{addr}: {error}"));
            }
        }
    }
    Ok(opened)
}

fn is_v6(addr: &DoorAddr) -> bool {
    matches!(addr, DoorAddr::Ip(addr) if addr.is_ipv6())
}

fn has_no_v6(error: &io::Error) -> bool {
    let errno = error.raw_os_error().map(Errno::from_raw);
    matches!(errno, Some(Errno::EAFNOSUPPORT | Errno::EADDRNOTAVAIL))
}

/// Listens at an address. One of IPv6 is for IPv6 alone, so that clients have the addresses they
/// have.
fn listen(addr: SocketAddr) -> io::Result<OwnedFd> {
    let socket = Socket::new(Domain::for_address(addr), Type::STREAM, None)?;
    // A server that starts again must not wait for connections of the one before.
    socket.set_reuse_address(true)?;
    if addr.is_ipv6() {
        socket.set_only_v6(true)?;
    }
    socket.bind(&addr.into())?;
    socket.listen(egressd_proxy::BACKLOG)?;
    Ok(socket.into())
}
