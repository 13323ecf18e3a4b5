//! Small servers on a thread of this process, inside a namespace.

use std::{
    io,
    net::SocketAddr,
    os::unix::net::UnixListener as StdUnixListener,
    path::Path,
    sync::{
        Arc,
        atomic::{AtomicU64, Ordering},
    },
    thread::JoinHandle,
};

use socket2::{Domain, Protocol, Socket, Type};
use tokio::{
    net::{TcpListener, TcpStream, UnixListener},
    sync::oneshot,
};

use super::behaviour::{After, Behaviour};
use crate::{netns::Netns, wait};

/// Connections that may wait to be accepted: more than any test opens at once.
const BACKLOG: i32 = 4096;

/// Any number of listeners; they and their connections end when this is dropped.
#[derive(Debug)]
pub struct Servers {
    accepted: Arc<AtomicU64>,
    stop: Option<oneshot::Sender<()>>,
    thread: Option<JoinHandle<()>>,
}

impl Servers {
    /// Listens on each address inside the namespace; listening has begun when this returns.
    #[track_caller]
    pub fn tcp(netns: &Netns, list: impl IntoIterator<Item = (String, Behaviour)>) -> Self {
        let listeners = list.into_iter().map(|(address, behaviour)| {
            let address: SocketAddr = address.parse().expect("ADDRESS:PORT");
            // Between fork and exec a child that another test starts holds all of our sockets, also
            // the one that listened here before.
            let what = format!("{address} to be free");
            let listener = wait::until(&what, || match netns.run(|| listen(address)) {
                Err(error) if error.kind() == io::ErrorKind::AddrInUse => None,
                other => Some(other.unwrap_or_else(|error| panic!("{address}: {error}"))),
            });
            (Listener::Tcp(listener), behaviour)
        });
        Self::start(listeners.collect())
    }

    /// Listens on one address.
    #[track_caller]
    pub fn one(netns: &Netns, address: &str, behaviour: Behaviour) -> Self {
        Self::tcp(netns, [(address.to_owned(), behaviour)])
    }

    /// Listens on a Unix socket.
    #[track_caller]
    pub fn unix(path: &Path, behaviour: Behaviour) -> Self {
        let listener = StdUnixListener::bind(path).and_then(|listener| {
            listener.set_nonblocking(true)?;
            Ok(listener)
        });
        let listener = listener.unwrap_or_else(|error| panic!("{}: {error}", path.display()));
        Self::start(vec![(Listener::Unix(listener), behaviour)])
    }

    /// Connections accepted so far, by all of them.
    pub fn accepted(&self) -> u64 {
        self.accepted.load(Ordering::Relaxed)
    }

    fn start(listeners: Vec<(Listener, Behaviour)>) -> Self {
        let accepted = Arc::new(AtomicU64::new(0));
        let count = Arc::clone(&accepted);
        let (stop, stopped) = oneshot::channel();
        let thread = std::thread::spawn(move || {
            let mut runtime = tokio::runtime::Builder::new_current_thread();
            let runtime = runtime.enable_all().build().expect("a runtime");
            runtime.block_on(async move {
                for (listener, behaviour) in listeners {
                    tokio::spawn(accept(listener, behaviour, Arc::clone(&count)));
                }
                // Either the guard is dropped or it said so; both end the runtime and its tasks.
                drop(stopped.await);
            });
        });
        Self { accepted, stop: Some(stop), thread: Some(thread) }
    }
}

impl Drop for Servers {
    fn drop(&mut self) {
        drop(self.stop.take());
        if let Some(thread) = self.thread.take() {
            // It ended by a panic only if listening failed, which a client has noticed.
            drop(thread.join());
        }
    }
}

enum Listener {
    Tcp(std::net::TcpListener),
    Unix(StdUnixListener),
}

/// A listener with a long queue that refuses IPv4 on an IPv6 address.
fn listen(address: SocketAddr) -> io::Result<std::net::TcpListener> {
    let socket = Socket::new(Domain::for_address(address), Type::STREAM, Some(Protocol::TCP))?;
    socket.set_reuse_address(true)?;
    if address.is_ipv6() {
        socket.set_only_v6(true)?;
    }
    socket.set_nonblocking(true)?;
    socket.bind(&address.into())?;
    socket.listen(BACKLOG)?;
    Ok(socket.into())
}

async fn accept(listener: Listener, behaviour: Behaviour, count: Arc<AtomicU64>) {
    match listener {
        Listener::Tcp(listener) => {
            let listener = TcpListener::from_std(listener).expect("a listener");
            while let Ok((stream, _)) = listener.accept().await {
                count.fetch_add(1, Ordering::Relaxed);
                tokio::spawn(serve_tcp(stream, behaviour.clone()));
            }
        }
        Listener::Unix(listener) => {
            let listener = UnixListener::from_std(listener).expect("a listener");
            while let Ok((mut stream, _)) = listener.accept().await {
                count.fetch_add(1, Ordering::Relaxed);
                let behaviour = behaviour.clone();
                tokio::spawn(async move { behaviour.serve(&mut stream).await });
            }
        }
    }
}

async fn serve_tcp(mut stream: TcpStream, behaviour: Behaviour) {
    // Its latency is measured too.
    drop(stream.set_nodelay(true));
    if let Ok(After::Reset) = behaviour.serve(&mut stream).await {
        drop(socket2::SockRef::from(&stream).set_linger(Some(std::time::Duration::ZERO)));
    }
}
