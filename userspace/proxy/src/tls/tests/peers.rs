//! Peers that do not do their part, and what both sides settle on.

use std::{io, time::Duration};

use egressd_tables::TlsVersion;
use rustls::version::{TLS12, TLS13};
use tokio::{
    io::{AsyncReadExt, AsyncWriteExt},
    net::TcpStream,
    time::Instant,
};

use super::{
    pki::{Like, Pki},
    server::{
        REQUEST, config, config_with, exchange, mutual, originate, originator, serve, simple, soon,
        upstream, visit,
    },
};
use crate::{
    testing::{pair, reset},
    tls::{Alert, Originator, Speaks, TlsFailure, TlsStream},
};

/// How a handshake with such a peer ends.
async fn against<F>(peer: impl FnOnce(TcpStream) -> F, deadline: Instant) -> TlsFailure
where
    F: Future<Output = ()> + Send + 'static,
{
    let pki = Pki::new("ca");
    let originator = originator();
    let (ours, theirs) = pair().await;
    let peer = tokio::spawn(peer(theirs));
    let tls = originate(&simple(&pki.write("ca.pem", &pki.ca())));
    let failure = originator
        .connect(&upstream(&originator, &tls, REQUEST), ours, deadline)
        .await
        .unwrap_err();
    peer.abort();
    failure
}

#[tokio::test]
async fn a_plaintext_peer_is_recognised() {
    for greeting in [
        "HTTP/1.1 400 Bad Request\r\n\r\n",
        "220 mail.example ESMTP\r\n",
        "SSH-2.0-OpenSSH_9.2\r\n",
        "\0\0\0\0\0\0\0\0",
    ] {
        let failure = against(
            move |mut peer| async move {
                peer.write_all(greeting.as_bytes()).await.unwrap();
                peer.read_to_end(&mut Vec::new()).await.ok();
            },
            soon(),
        );
        assert_eq!(failure.await, TlsFailure::NotTls, "{greeting:?}");
    }
}

#[tokio::test]
async fn a_peer_that_goes_is_told_from_one_that_says_nothing() {
    let closing = against(
        |mut peer| async move {
            peer.read_u8().await.unwrap();
            peer.shutdown().await.unwrap();
            peer.read_to_end(&mut Vec::new()).await.ok();
        },
        soon(),
    );
    assert_eq!(closing.await, TlsFailure::Closed);
    let resetting = against(
        |mut peer| async move {
            peer.read_u8().await.unwrap();
            reset(peer);
        },
        soon(),
    );
    assert_eq!(resetting.await, TlsFailure::Reset);
    let silent = against(
        |mut peer| async move {
            peer.read_to_end(&mut Vec::new()).await.ok();
        },
        Instant::now() + Duration::from_millis(50),
    );
    assert_eq!(silent.await, TlsFailure::Timeout);
}

#[tokio::test]
async fn a_server_that_wants_a_certificate_says_so() {
    let pki = Pki::new("ca");
    let origination = simple(&pki.write("ca.pem", &pki.ca()));
    let leaf = pki.issue(Like::names(&["a.example"]));
    // Under TLS 1.3 the handshake is over when the server says it; under 1.2 it is not.
    for (version, alert) in [(&TLS13, "certificate_required"), (&TLS12, "certificate_required")] {
        let server = config_with(&leaf, Some(&pki.ca()), &[version]);
        let failure = visit(&originator(), &origination, REQUEST, server).await.unwrap_err();
        assert_eq!(failure.to_string(), format!("TLS_error:_refused_by_peer:_{alert}"));
    }
    let client = pki.issue(Like::names(&["client"]));
    let (certificate, key) =
        (pki.write("c.pem", &client.certificate), pki.write("c.key", &client.key));
    let origination = mutual(&pki.path("ca.pem"), certificate, key);
    let server = config(&leaf, Some(&pki.ca()));
    let seen = visit(&originator(), &origination, REQUEST, server).await.unwrap();
    assert_eq!(seen.certificates, 1);
}

#[tokio::test]
async fn both_sides_settle_on_a_version() {
    let pki = Pki::new("ca");
    let roots = pki.write("ca.pem", &pki.ca());
    let leaf = pki.issue(Like::names(&["a.example"]));
    let (v1_2, v1_3) = (TlsVersion::V1_2, TlsVersion::V1_3);
    for (min, max, server_version, expected) in [
        (v1_2, v1_3, &TLS12, Ok(())),
        (v1_2, v1_3, &TLS13, Ok(())),
        (v1_2, v1_2, &TLS12, Ok(())),
        (v1_2, v1_2, &TLS13, Err(TlsFailure::Refused(Alert(70)))),
        (v1_3, v1_3, &TLS12, Err(TlsFailure::Refused(Alert(70)))),
    ] {
        let mut origination = simple(&roots);
        origination.min_version = min;
        origination.max_version = max;
        let server = config_with(&leaf, None, &[server_version]);
        let result = visit(&originator(), &origination, REQUEST, server).await.map(drop);
        assert_eq!(result, expected, "{min:?} to {max:?} and {server_version:?}");
    }
}

#[tokio::test]
async fn both_sides_settle_on_a_protocol() {
    let pki = Pki::new("ca");
    let origination = simple(&pki.write("ca.pem", &pki.ca()));
    let leaf = pki.issue(Like::names(&["a.example"]));
    let h2 = Speaks::Http2 { host: "a.example" };
    let refused = Err(TlsFailure::Refused(Alert(120)));
    for (speaks, served, expected) in [
        (h2, &["h2", "http/1.1"][..], Ok(Some("h2"))),
        (REQUEST, &["h2", "http/1.1"], Ok(Some("http/1.1"))),
        (Speaks::Opaque, &["h2", "http/1.1"], Ok(None)),
        (h2, &[], Ok(None)),
        (h2, &["http/1.1"], refused),
    ] {
        let mut server = config(&leaf, None);
        server.alpn_protocols = served.iter().map(|name| name.as_bytes().to_vec()).collect();
        let seen = visit(&originator(), &origination, speaks, server).await;
        let alpn = seen.map(|seen| seen.alpn);
        assert_eq!(alpn, expected.map(|alpn| alpn.map(|name| name.as_bytes().to_vec())));
    }
}

#[tokio::test]
async fn the_name_asked_for_is_sent() {
    let pki = Pki::new("ca");
    let origination = simple(&pki.write("ca.pem", &pki.ca()));
    let leaf = pki.issue(Like::names(&["a.example", "127.0.0.1"]));
    for (speaks, sent) in [
        (REQUEST, Some("a.example")),
        (Speaks::Http1 { host: "127.0.0.1:80" }, None),
        (Speaks::Opaque, None),
    ] {
        let seen = visit(&originator(), &origination, speaks, config(&leaf, None)).await.unwrap();
        assert_eq!(seen.server_name.as_deref(), sent, "{speaks:?}");
    }
}

#[tokio::test]
async fn a_refused_peer_is_told() {
    let (ours, theirs) = (Pki::new("ours"), Pki::new("theirs"));
    let originator = originator();
    let (stream, peer) = pair().await;
    let server = serve(config(&theirs.issue(Like::names(&["a.example"])), None), peer);
    let tls = originate(&simple(&ours.write("ca.pem", &ours.ca())));
    let connected = originator.connect(&upstream(&originator, &tls, REQUEST), stream, soon()).await;
    assert_eq!(connected.unwrap_err().kind(), "certificate_of_unknown_issuer");
    let told = server.await.unwrap().unwrap_err();
    assert_eq!(TlsFailure::from_io(&told).to_string(), "TLS_error:_refused_by_peer:_unknown_ca");
}

#[tokio::test]
async fn an_end_without_goodbye_is_no_end() {
    let pki = Pki::new("ca");
    let originator = originator();
    let server = config(&pki.issue(Like::names(&["a.example"])), None);
    let (ours, theirs) = pair().await;
    let peer = tokio::spawn(async move {
        let acceptor = tokio_rustls::TlsAcceptor::from(std::sync::Arc::new(server));
        let mut tls = acceptor.accept(theirs).await.unwrap();
        tls.write_all(b"part").await.unwrap();
        tls.flush().await.unwrap();
        let (socket, _) = tls.into_inner();
        drop(socket);
    });
    let tls = originate(&simple(&pki.write("ca.pem", &pki.ca())));
    let mut tls =
        originator.connect(&upstream(&originator, &tls, REQUEST), ours, soon()).await.unwrap();
    let mut received = Vec::new();
    let error = tls.read_to_end(&mut received).await.unwrap_err();
    assert_eq!(received, b"part");
    assert_eq!(error.kind(), io::ErrorKind::UnexpectedEof);
    assert_eq!(TlsStream::failure(&error), TlsFailure::Closed);
    peer.await.unwrap();
}

#[tokio::test]
async fn what_waits_is_small() {
    let pki = Pki::new("ca");
    let originator = Originator::new(crate::tls::Sources::default());
    let (ours, theirs) = pair().await;
    let server = serve(config(&pki.issue(Like::names(&["a.example"])), None), theirs);
    let tls = originate(&simple(&pki.write("ca.pem", &pki.ca())));
    let upstream = upstream(&originator, &tls, REQUEST);
    let connecting = originator.connect(&upstream, ours, soon());
    let size = size_of_val(&connecting);
    assert!(size <= 512, "{size} bytes");
    assert_eq!(size_of::<TlsStream>(), size_of::<usize>());
    assert!(size_of::<TlsFailure>() <= 40, "{} bytes", size_of::<TlsFailure>());
    let mut stream = connecting.await.unwrap();
    exchange(&mut stream).await.unwrap();
    assert!(stream.peer_certificate().is_some());
    assert!(stream.local_addr().is_some());
    assert_eq!(stream.alpn(), None);
    stream.close();
    server.await.unwrap().unwrap();
}
