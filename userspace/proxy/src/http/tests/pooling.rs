//! Upstream connections: kept, limited, closed, replaced.

use std::{sync::Arc, time::Duration};

use tokio::{
    io::{AsyncReadExt, AsyncWriteExt},
    net::TcpListener,
    sync::Semaphore,
};

use super::support::*;
use crate::testing::until;

#[tokio::test]
async fn connections_are_used_again_by_others() {
    let upstream = Upstream::echo().await;
    let bed = bed().host("a", plain("a"), &[upstream.addr]).start().await;
    for _ in 0..10 {
        bed.get("a", "/").await;
    }
    assert_eq!((upstream.requests(), upstream.connections()), (10, 1));
}

#[tokio::test]
async fn requests_of_a_connection_are_limited() {
    let upstream = Upstream::echo().await;
    let mut limited = cluster("a");
    limited.pool.max_requests_per_connection = Some(2);
    let bed = bed().host("a", forwarding(to(limited)), &[upstream.addr]).start().await;
    for _ in 0..6 {
        bed.get("a", "/").await;
    }
    assert_eq!((upstream.requests(), upstream.connections()), (6, 3));
}

#[tokio::test]
async fn idle_connections_are_closed() {
    let upstream = Upstream::echo().await;
    let mut limited = cluster("a");
    limited.pool.http_idle_timeout = Some(Duration::from_millis(1));
    let bed = bed().host("a", forwarding(to(limited)), &[upstream.addr]).start().await;
    bed.get("a", "/").await;
    tokio::time::sleep(Duration::from_millis(2500)).await;
    bed.get("a", "/").await;
    assert_eq!(upstream.connections(), 2);
}

/// A server that answers one request on each connection and then closes it, at once or when told.
async fn closing(
    gate: Arc<Semaphore>,
) -> (std::net::SocketAddr, Arc<std::sync::atomic::AtomicU32>) {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let addr = listener.local_addr().unwrap();
    let count = Arc::<std::sync::atomic::AtomicU32>::default();
    let counted = Arc::clone(&count);
    tokio::spawn(async move {
        loop {
            let (mut socket, _) = listener.accept().await.unwrap();
            counted.fetch_add(1, std::sync::atomic::Ordering::SeqCst);
            let gate = Arc::clone(&gate);
            tokio::spawn(async move {
                let mut some = [0; 4096];
                assert!(socket.read(&mut some).await.unwrap() > 0);
                let answer = b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nok";
                socket.write_all(answer).await.unwrap();
                gate.acquire().await.unwrap().forget();
                // The next request is read and not answered.
                if gate.available_permits() == 0 {
                    assert!(socket.read(&mut some).await.is_ok());
                }
            });
        }
    });
    (addr, count)
}

#[tokio::test]
async fn a_connection_closed_while_idle_is_not_used() {
    let gate = Arc::new(Semaphore::new(1000));
    let (addr, count) = closing(gate).await;
    let bed = bed().host("a", plain("a"), &[addr]).start().await;
    let mut client = bed.client().await;
    for _ in 0..20 {
        let answer = client.get("a", "/").await;
        assert_eq!((answer.status, &*answer.body), (200, "ok"));
    }
    assert_eq!(count.load(std::sync::atomic::Ordering::SeqCst), 20);
}

#[tokio::test]
async fn a_connection_closed_while_nobody_looks_is_not_used() {
    let (addr, count) = closing(Arc::new(Semaphore::new(1000))).await;
    let bed = bed().host("a", plain("a"), &[addr]).start().await;
    let mut client = bed.client().await;
    for _ in 0..5 {
        let answer = client.get("a", "/").await;
        assert_eq!((answer.status, &*answer.body), (200, "ok"));
        // Its end arrives while the connection lies in the pool, and before the pool is swept.
        tokio::time::sleep(Duration::from_millis(20)).await;
    }
    assert_eq!(count.load(std::sync::atomic::Ordering::SeqCst), 5);
}

#[tokio::test]
async fn a_connection_closed_under_a_request_is_replaced() {
    // The server reads the second request and closes: the request may have been acted on.
    let gate = Arc::new(Semaphore::new(0));
    let (addr, count) = closing(Arc::clone(&gate)).await;
    let bed = bed().host("a", plain("a"), &[addr]).start().await;
    let mut client = bed.client().await;
    assert_eq!(client.get("a", "/").await.status, 200);
    gate.add_permits(1);
    assert_eq!(client.get("a", "/").await.status, 200);
    assert_eq!(count.load(std::sync::atomic::Ordering::SeqCst), 2);
    gate.add_permits(1);
    let answer = client.send(with_body("POST", "a", "/", "x")).await;
    assert_eq!(answer.status, 503);
    assert_eq!(
        said(&bed.all(3).await[2]),
        "503 UC upstream_reset_before_response_started{connection_termination}"
    );
}

#[tokio::test]
async fn connections_are_closed_when_the_endpoint_closes_them() {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let addr = listener.local_addr().unwrap();
    let server = tokio::spawn(async move {
        let (mut socket, _) = listener.accept().await.unwrap();
        let mut some = [0; 4096];
        assert!(socket.read(&mut some).await.unwrap() > 0);
        socket.write_all(b"HTTP/1.1 200 OK\r\nContent-Length: 0\r\n\r\n").await.unwrap();
        socket.shutdown().await.unwrap();
        // Ends when the other side has closed too.
        socket.read(&mut some).await.unwrap()
    });
    let bed = bed().host("a", plain("a"), &[addr]).start().await;
    bed.get("a", "/").await;
    assert_eq!(tokio::time::timeout(crate::testing::PATIENCE, server).await.unwrap().unwrap(), 0);
}

#[tokio::test]
async fn answers_to_nothing_do_not_answer_the_next_request() {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let addr = listener.local_addr().unwrap();
    tokio::spawn(async move {
        loop {
            let (mut socket, _) = listener.accept().await.unwrap();
            tokio::spawn(async move {
                let mut some = [0; 4096];
                while socket.read(&mut some).await.unwrap() > 0 {
                    let answer = b"HTTP/1.1 200 OK\r\nContent-Length: 4\r\n\r\ngood\
                                   HTTP/1.1 200 OK\r\nContent-Length: 4\r\n\r\nevil";
                    socket.write_all(answer).await.unwrap();
                }
            });
        }
    });
    let bed = bed().host("a", plain("a"), &[addr]).start().await;
    let mut client = bed.client().await;
    for _ in 0..5 {
        assert_eq!(client.get("a", "/").await.body, "good");
    }
}

#[tokio::test]
async fn a_drained_connection_answers_and_closes() {
    let upstream = Upstream::http1(|_, _| async {
        tokio::time::sleep(Duration::from_millis(200)).await;
        text("late")
    })
    .await;
    let bed = bed().host("a", plain("a"), &[upstream.addr]).start().await;
    let raw = bed.raw(b"GET / HTTP/1.1\r\nHost: a\r\n\r\n");
    let drain = async {
        until("the request is there", || upstream.requests() == 1).await;
        bed.drain.notify_waiters();
    };
    let (answer, ()) = tokio::join!(raw, drain);
    assert!(answer.contains("connection: close") && answer.ends_with("late"), "{answer}");
}
