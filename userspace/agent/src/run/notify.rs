//! What the service manager is told (sd_notify(3)): that we are ready, that we end, that we live.

use std::{
    env,
    ffi::OsString,
    os::{
        linux::net::SocketAddrExt as _,
        unix::{
            ffi::OsStrExt as _,
            net::{SocketAddr, UnixDatagram},
        },
    },
};

/// Speaks to the service manager, if there is one.
#[derive(Debug)]
pub(super) struct Notify(Option<(UnixDatagram, SocketAddr)>);

impl Notify {
    /// As the environment says.
    pub(super) fn from_env() -> Self {
        Self(env::var_os("NOTIFY_SOCKET").and_then(|socket| {
            let opened = open(&socket);
            opened
                .inspect_err(|error| tracing::warn!(%error, ?socket, "NOTIFY_SOCKET is no use"))
                .ok()
        }))
    }

    /// The daemon captures, or will not capture any more.
    pub(super) fn say(&self, state: &str) {
        if let Some((socket, manager)) = &self.0
            && let Err(error) = socket.send_to_addr(state.as_bytes(), manager)
        {
            tracing::debug!(%error, state, "telling the service manager");
        }
    }

    /// Every part works.
    pub(super) fn alive(&self) {
        self.say("WATCHDOG=1");
    }
}

fn open(socket: &OsString) -> std::io::Result<(UnixDatagram, SocketAddr)> {
    let address = match socket.as_bytes() {
        [b'@', name @ ..] => SocketAddr::from_abstract_name(name)?,
        _ => SocketAddr::from_pathname(socket)?,
    };
    let socket = UnixDatagram::unbound()?;
    // The manager may be slow, and the watchdog waits for nobody.
    socket.set_nonblocking(true)?;
    Ok((socket, address))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn by_path_and_in_the_abstract_namespace() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("notify");
        let name = format!("egressd-notify-{}", std::process::id());
        let hidden = SocketAddr::from_abstract_name(name.as_bytes()).unwrap();
        let managers = [
            (UnixDatagram::bind(&path).unwrap(), path.into_os_string()),
            (UnixDatagram::bind_addr(&hidden).unwrap(), OsString::from(format!("@{name}"))),
        ];
        for (manager, socket) in managers {
            let notify = Notify(Some(open(&socket).unwrap()));
            notify.say("READY=1");
            let mut buffer = [0; 100];
            let length = manager.recv(&mut buffer).unwrap();
            assert_eq!(&buffer[..length], b"READY=1");
        }
    }
}
