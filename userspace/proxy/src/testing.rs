//! What the tests of several modules share: connections over loopback, and waiting for conditions.

use std::{net::SocketAddr, time::Duration};

use tokio::{
    net::{TcpListener, TcpStream},
    time::{Instant, sleep},
};

use crate::socket::Stream;

/// A connection over loopback: our end, and the peer's.
pub(crate) async fn pair() -> (Stream, TcpStream) {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let peer = dial(listener.local_addr().unwrap()).await;
    let (ours, _) = listener.accept().await.unwrap();
    let ours = ours.into_std().unwrap();
    (Stream::new(ours.into()).unwrap(), peer)
}

/// Connects as an application would.
#[expect(clippy::disallowed_methods, reason = "the test plays the application")]
pub(crate) async fn dial(addr: SocketAddr) -> TcpStream {
    let stream = TcpStream::connect(addr).await.unwrap();
    stream.set_nodelay(true).unwrap();
    stream
}

/// Closes with a reset instead of an end.
pub(crate) fn reset(stream: TcpStream) {
    stream.set_zero_linger().unwrap();
    drop(stream);
}

/// Waits until `condition` holds.
pub(crate) async fn until(what: &str, mut condition: impl FnMut() -> bool) {
    let start = Instant::now();
    while !condition() {
        assert!(start.elapsed() < PATIENCE, "waited in vain until {what}");
        sleep(Duration::from_millis(1)).await;
    }
}

/// Longer than anything takes on a busy machine; reached only by a failing test.
pub(crate) const PATIENCE: Duration = Duration::from_secs(20);
