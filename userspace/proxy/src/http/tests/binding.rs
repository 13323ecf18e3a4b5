//! Authentication of connections: NTLM and Negotiate.

use std::{
    net::SocketAddr,
    sync::{Arc, Mutex},
};

use tokio::{
    io::{AsyncReadExt, AsyncWriteExt},
    net::{TcpListener, TcpStream},
};

use super::support::*;
use crate::testing::until;

/// A server that remembers whom a connection was authenticated for, as IIS does, and says so. Also says
/// which of its connections are open.
async fn remembering() -> (SocketAddr, Arc<Mutex<Vec<u32>>>) {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let addr = listener.local_addr().unwrap();
    let open = Arc::<Mutex<Vec<u32>>>::default();
    let shared = Arc::clone(&open);
    tokio::spawn(async move {
        for number in 1.. {
            let (socket, _) = listener.accept().await.unwrap();
            shared.lock().unwrap().push(number);
            let shared = Arc::clone(&shared);
            tokio::spawn(async move {
                remember(socket, number).await;
                shared.lock().unwrap().retain(|one| *one != number);
            });
        }
    });
    (addr, open)
}

async fn remember(mut socket: TcpStream, number: u32) {
    let mut user = "nobody".to_owned();
    let mut some = [0; 4096];
    loop {
        let Ok(read @ 1..) = socket.read(&mut some).await else { return };
        let asked = String::from_utf8_lossy(&some[..read]).to_ascii_lowercase();
        let sent = asked.lines().find_map(|line| line.strip_prefix("authorization: ntlm "));
        if let Some(sent) = sent {
            user = sent.to_owned();
        }
        let (status, more) = if asked.contains("/private") && user == "nobody" {
            ("401 Unauthorized", "WWW-Authenticate: Basic realm=x, NTLM\r\n")
        } else {
            ("200 OK", "")
        };
        let body = format!("{user} on {number}");
        let length = body.len();
        let answer = format!("HTTP/1.1 {status}\r\n{more}Content-Length: {length}\r\n\r\n{body}");
        if socket.write_all(answer.as_bytes()).await.is_err() {
            return;
        }
    }
}

fn by(user: &str) -> http::Request<http_body_util::Full<bytes::Bytes>> {
    let mut request = request("GET", "a", "/private");
    request.headers_mut().insert("authorization", format!("NTLM {user}").parse().unwrap());
    request
}

#[tokio::test]
async fn nobody_acts_in_the_name_of_another() {
    let (addr, open) = remembering().await;
    let bed = bed().host("a", plain("a"), &[addr]).start().await;
    let (mut alice, mut bob) = (bed.client().await, bed.client().await);
    assert_eq!(bob.get("a", "/").await.body, "nobody on 1");
    // The connection is shared until somebody is to be authenticated on it.
    let refused = alice.get("a", "/private").await;
    assert_eq!((refused.status, &*refused.body), (401, "nobody on 1"));
    assert_eq!(alice.send(by("alice")).await.body, "alice on 1");
    assert_eq!(bob.get("a", "/").await.body, "nobody on 2");
    assert_eq!(bob.get("a", "/private").await.status, 401);
    assert_eq!(bob.send(by("bob")).await.body, "bob on 2");
    for _ in 0..3 {
        assert_eq!(alice.get("a", "/private").await.body, "alice on 1");
        assert_eq!(bob.get("a", "/private").await.body, "bob on 2");
        assert_eq!(bed.get("a", "/").await.body, "nobody on 3");
    }
    // It goes with who it belongs to.
    drop(alice);
    until("the connection is closed", || *open.lock().unwrap() == [2, 3]).await;
}

#[tokio::test]
async fn an_owner_stays_at_its_endpoint() {
    let (one, two) = (remembering().await.0, remembering().await.0);
    let bed = bed().host("a", plain("a"), &[one, two]).start().await;
    let mut client = bed.client().await;
    assert_eq!(client.send(by("alice")).await.body, "alice on 1");
    for _ in 0..5 {
        assert_eq!(client.get("a", "/private").await.body, "alice on 1");
    }
}

#[tokio::test]
async fn who_waits_gets_the_place_of_an_idle_owned_connection() {
    let (addr, open) = remembering().await;
    let mut limited = cluster("a");
    limited.pool.max_connections = 1;
    let bed = bed().host("a", forwarding(to(limited)), &[addr]).start().await;
    let mut alice = bed.client().await;
    assert_eq!(alice.send(by("alice")).await.body, "alice on 1");
    assert_eq!(bed.get("a", "/").await.body, "nobody on 2");
    until("the other one is closed", || *open.lock().unwrap() == [2]).await;
    assert_eq!(alice.get("a", "/private").await.status, 401);
}

#[tokio::test]
async fn what_may_be_several_applications_owns_nothing() {
    use http_body_util::Empty;
    use hyper::client::conn::http2;
    use hyper_util::rt::{TokioExecutor, TokioIo};
    let (addr, open) = remembering().await;
    let bed = bed().host("a", plain("a"), &[addr]).http2().start().await;
    let io = TokioIo::new(crate::testing::dial(bed.front).await);
    let (mut sender, connection) = http2::handshake(TokioExecutor::new(), io).await.unwrap();
    tokio::spawn(connection);
    for number in 1..4 {
        let request = http::Request::get("http://a/private").header("authorization", "NTLM alice");
        let request = request.body(Empty::<bytes::Bytes>::new()).unwrap();
        let answer = Answer::read(sender.send_request(request).await.unwrap()).await;
        assert_eq!(answer.body, format!("alice on {number}"));
    }
    until("they are closed", || open.lock().unwrap().is_empty()).await;
}
