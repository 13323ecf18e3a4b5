//! How the server, and a listener of it, come to an end.

use super::*;

#[tokio::test]
async fn the_end_waits_for_flows() {
    let (endpoint, at) = endpoint().await;
    let proxy = start(Config::default(), to(&[at]));
    let mut app = dial(proxy.addr).await;
    let mut upstream = accepted(&endpoint).await;
    let ending = tokio::spawn({
        let server = Arc::clone(&proxy.server);
        async move { server.shutdown(PATIENCE).await }
    });
    // The listener is closed, the flow goes on.
    let addr = proxy.addr;
    until("nobody listens", || TcpListener::bind(addr).is_ok()).await;
    upstream.write_all(b"still here").await.unwrap();
    drop(upstream);
    assert_eq!(read_all(&mut app).await.unwrap(), b"still here");
    drop(app);
    assert_eq!(ending.await.unwrap(), Drained { finished: 1, reset: 0 });
    assert_eq!(proxy.records.only().await.outcome, Outcome::Completed);
}

#[tokio::test]
async fn the_end_resets_what_does_not_end() {
    let (endpoint, at) = endpoint().await;
    let proxy = start(Config::default(), to(&[at]));
    let mut app = dial(proxy.addr).await;
    app.write_all(b"12345").await.unwrap();
    let mut upstream = accepted(&endpoint).await;
    let mut got = [0; 5];
    upstream.read_exact(&mut got).await.unwrap();
    let drained = proxy.server.shutdown(Duration::from_millis(50)).await;
    assert_eq!(drained, Drained { finished: 0, reset: 1 });
    is_reset(&mut app).await;
    is_reset(&mut upstream).await;
    let record = proxy.records.only().await;
    assert_eq!((record.outcome, record.bytes_received), (Outcome::Drained, 5));
}

#[tokio::test]
async fn a_second_signal_ends_at_once() {
    let (endpoint, at) = endpoint().await;
    let proxy = start(Config::default(), to(&[at]));
    let mut app = dial(proxy.addr).await;
    let _upstream = accepted(&endpoint).await;
    let ending = tokio::spawn({
        let server = Arc::clone(&proxy.server);
        async move { server.shutdown(PATIENCE * 100).await }
    });
    proxy.server.end_now();
    let drained = timeout(PATIENCE, ending).await.unwrap().unwrap();
    assert_eq!(drained, Drained { finished: 0, reset: 1 });
    is_reset(&mut app).await;
}

#[tokio::test]
async fn a_listener_can_be_stopped_by_itself() {
    let (endpoint, at) = endpoint().await;
    let proxy = start(Config::default(), to(&[at]));
    let other = TcpListener::bind("127.0.0.1:0").unwrap();
    let other_addr = other.local_addr().unwrap();
    let id = proxy.server.serve(other).unwrap();
    drop(dial(other_addr).await);
    drop(accepted(&endpoint).await);
    proxy.server.stop(id);
    until("nobody listens", || TcpListener::bind(other_addr).is_ok()).await;
    drop(dial(proxy.addr).await);
    drop(accepted(&endpoint).await);
}
