//! TLS that ends here: what clients see, and which clients get in.

use std::{io, sync::Arc, time::Duration};

use egressd_tables::{ClientIdentity, TlsVersion, TrustAnchors};
use ring::digest::{SHA256, digest};
use rustls::{
    ClientConfig, RootCertStore,
    pki_types::{CertificateDer, PrivateKeyDer, pem::PemObject},
};
use tokio::{
    io::{AsyncReadExt, AsyncWriteExt},
    net::TcpStream,
    task::JoinHandle,
    time::Instant,
};
use tokio_rustls::{TlsConnector, client};

use super::{
    pki::{Leaf, Like, Pki, Purpose},
    server::{REQUEST, exchange, mutual, originate, originator, soon, upstream},
};
use crate::{
    testing::pair,
    tls::{
        CertificateFault, ClientDemands, Clients, FileFault, Role, ServerTls, Sources, Terminator,
        TlsFailure, TlsStream, material::provider,
    },
};

/// A gateway's files, and the authority of its clients.
struct Gateway {
    pki: Pki,
    terminator: Terminator,
    tls: ServerTls,
}

impl Gateway {
    fn new() -> Self {
        let pki = Pki::new("ca");
        let leaf = pki.issue(Like::names(&["a.example"]));
        let identity = ClientIdentity::Files {
            certificate: pki.write("gateway.pem", &leaf.certificate),
            key: pki.write("gateway.key", &leaf.key),
        };
        pki.write("ca.pem", &pki.ca());
        let tls = ServerTls {
            identities: vec![identity],
            clients: Clients::Anyone,
            alpn: Vec::new(),
            min_version: TlsVersion::V1_2,
            max_version: TlsVersion::V1_3,
            cipher_suites: Vec::new(),
        };
        let terminator = Terminator::with_recheck(Sources::default(), Duration::ZERO);
        Self { pki, terminator, tls }
    }

    fn demands(&self) -> ClientDemands {
        ClientDemands {
            roots: TrustAnchors::File(self.pki.path("ca.pem")),
            crl: None,
            names: Vec::new(),
            spki: Vec::new(),
            hashes: Vec::new(),
        }
    }

    /// Lets a client in; it says hello and goodbye.
    async fn admit(&self, client: ClientConfig) -> Result<TlsStream, TlsFailure> {
        let (ours, theirs) = pair().await;
        let visitor = visitor(client, theirs);
        let accepted = self.terminator.accept(&self.tls, ours, soon()).await;
        let Ok(mut stream) = accepted else {
            visitor.await.unwrap().unwrap_err();
            return accepted;
        };
        exchange_as_server(&mut stream).await.unwrap();
        visitor.await.unwrap().unwrap();
        Ok(stream)
    }

    async fn refusal(&self, client: ClientConfig) -> CertificateFault {
        let failure = self.admit(client).await.unwrap_err();
        let TlsFailure::Certificate(fault) = failure else { panic!("{failure}") };
        fault
    }

    fn client(&self, leaf: Option<&Leaf>) -> ClientConfig {
        let mut roots = RootCertStore::empty();
        roots.add(CertificateDer::from_pem_slice(self.pki.ca().as_bytes()).unwrap()).unwrap();
        let builder = ClientConfig::builder_with_provider(provider())
            .with_safe_default_protocol_versions()
            .unwrap()
            .with_root_certificates(roots);
        let Some(leaf) = leaf else { return builder.with_no_client_auth() };
        let key = PrivateKeyDer::from_pem_slice(leaf.key.as_bytes()).unwrap();
        builder.with_client_auth_cert(vec![der(leaf)], key).unwrap()
    }
}

fn der(leaf: &Leaf) -> CertificateDer<'static> {
    CertificateDer::from_pem_slice(leaf.certificate.as_bytes()).unwrap()
}

fn visitor(
    config: ClientConfig,
    socket: TcpStream,
) -> JoinHandle<io::Result<client::TlsStream<TcpStream>>> {
    tokio::spawn(async move {
        let name = "a.example".try_into().unwrap();
        let mut tls = TlsConnector::from(Arc::new(config)).connect(name, socket).await?;
        tls.write_all(b"hello").await?;
        let mut answer = [0; 5];
        tls.read_exact(&mut answer).await?;
        tls.shutdown().await?;
        Ok(tls)
    })
}

async fn exchange_as_server(stream: &mut TlsStream) -> io::Result<()> {
    let mut buffer = [0; 5];
    stream.read_exact(&mut buffer).await?;
    stream.write_all(&buffer).await?;
    stream.flush().await
}

#[tokio::test]
async fn anyone_gets_in_without_demands() {
    let mut gateway = Gateway::new();
    gateway.tls.alpn = vec!["h2".into(), "http/1.1".into()];
    let stream = gateway.admit(gateway.client(None)).await.unwrap();
    assert_eq!(stream.server_name(), Some("a.example"));
    assert_eq!(stream.alpn(), None);
    assert_eq!(stream.peer_certificate(), None);
    let mut client = gateway.client(None);
    client.alpn_protocols = vec![b"http/1.1".to_vec(), b"h2".to_vec()];
    let stream = gateway.admit(client).await.unwrap();
    assert_eq!(stream.alpn(), Some(&b"h2"[..]));
}

#[tokio::test]
async fn demands_keep_others_out() {
    let mut gateway = Gateway::new();
    let stranger = Pki::new("other").issue(Like::names(&["client.example"]));
    let friend = gateway.pki.issue(Like::names(&["client.example", "spiffe://td/ns/a/sa/b"]));
    let revoked = gateway.pki.issue(Like::names(&["client.example"]));
    let late = gateway.pki.issue(Like { years: (2020, 2021), ..Like::names(&["client.example"]) });
    let only_server =
        gateway.pki.issue(Like { purpose: Some(Purpose::Server), ..Like::names(&[]) });
    let list = gateway.pki.revocations(revoked.serial, 2090);
    let demands =
        ClientDemands { crl: Some(gateway.pki.write("crl.pem", &list)), ..gateway.demands() };
    gateway.tls.clients = Clients::Required(demands.clone());
    let refused = [
        (None, CertificateFault::Missing),
        (Some(&stranger), CertificateFault::UnknownIssuer),
        (Some(&late), CertificateFault::Expired),
        (Some(&revoked), CertificateFault::Revoked),
        (Some(&only_server), CertificateFault::WrongPurpose),
    ];
    for (leaf, fault) in &refused {
        assert_eq!(gateway.refusal(gateway.client(*leaf)).await, *fault);
    }
    let stream = gateway.admit(gateway.client(Some(&friend))).await.unwrap();
    assert_eq!(stream.peer_certificate(), Some(&*der(&friend)));

    // Who shows none may come in, who shows a bad one may not.
    gateway.tls.clients = Clients::Optional(demands.clone());
    gateway.admit(gateway.client(None)).await.unwrap();
    for (leaf, fault) in refused.iter().skip(1) {
        assert_eq!(gateway.refusal(gateway.client(*leaf)).await, *fault);
    }

    let named = |name: &str| {
        Clients::Required(ClientDemands { names: vec![name.into()], ..demands.clone() })
    };
    gateway.tls.clients = named("spiffe://td/ns/a/sa/b");
    gateway.admit(gateway.client(Some(&friend))).await.unwrap();
    gateway.tls.clients = named("spiffe://td/ns/a/sa/c");
    assert_eq!(
        gateway.refusal(gateway.client(Some(&friend))).await,
        CertificateFault::WrongName("spiffe://td/ns/a/sa/c".into())
    );
}

#[tokio::test]
async fn fingerprints_count_beside_the_path() {
    let mut gateway = Gateway::new();
    let friend = gateway.pki.issue(Like::names(&["client.example"]));
    let other = gateway.pki.issue(Like::names(&["client.example"]));
    let hash = digest(&SHA256, &der(&friend));
    let hash: Vec<String> = hash.as_ref().iter().map(|byte| format!("{byte:02X}")).collect();
    for hashes in [hash.concat(), hash.join(":")] {
        let wrong = "A".repeat(43) + "=";
        let demands = ClientDemands {
            hashes: vec![hashes.into()],
            spki: vec![wrong.into()],
            ..gateway.demands()
        };
        gateway.tls.clients = Clients::Required(demands);
        gateway.admit(gateway.client(Some(&friend))).await.unwrap();
        assert_eq!(
            gateway.refusal(gateway.client(Some(&other))).await,
            CertificateFault::Unacceptable("fingerprint_not_listed".into())
        );
    }
}

#[tokio::test]
async fn a_renewed_certificate_is_shown_and_a_missing_one_is_named() {
    let gateway = Gateway::new();
    gateway.admit(gateway.client(None)).await.unwrap();
    let other = Pki::new("other").issue(Like::names(&["a.example"]));
    gateway.pki.replace("gateway.key", &other.key);
    // Half a pair: the old one goes on.
    gateway.admit(gateway.client(None)).await.unwrap();
    gateway.pki.replace("gateway.pem", &other.certificate);
    let failure = gateway.admit(gateway.client(None)).await.unwrap_err();
    assert_eq!(failure.to_string(), "TLS_error:_refused_by_peer:_unknown_ca");
    gateway.pki.remove("gateway.key");
    let TlsFailure::File(failure) = gateway.terminator.prepare(&gateway.tls).unwrap_err() else {
        panic!("a file is missing");
    };
    assert_eq!((failure.role, failure.fault), (Role::Key, FileFault::Missing));
}

#[tokio::test]
async fn cipher_suites_are_those_listed() {
    let mut gateway = Gateway::new();
    gateway.tls.max_version = TlsVersion::V1_2;
    gateway.tls.cipher_suites =
        ["AES128-SHA", "ECDHE-ECDSA-AES128-GCM-SHA256"].map(Arc::from).to_vec();
    let (ours, theirs) = pair().await;
    let visitor = visitor(gateway.client(None), theirs);
    let mut stream = gateway.terminator.accept(&gateway.tls, ours, soon()).await.unwrap();
    exchange_as_server(&mut stream).await.unwrap();
    let client = visitor.await.unwrap().unwrap();
    let suite = client.get_ref().1.negotiated_cipher_suite().unwrap().suite();
    assert_eq!(suite, rustls::CipherSuite::TLS_ECDHE_ECDSA_WITH_AES_128_GCM_SHA256);
    gateway.tls.cipher_suites = vec!["AES128-SHA".into()];
    let failure = gateway.terminator.prepare(&gateway.tls).unwrap_err();
    assert_eq!(failure, TlsFailure::Settings("no_usable_cipher_suite".into()));
}

#[tokio::test]
async fn clients_that_do_not_speak_tls_are_told_apart() {
    let gateway = Gateway::new();
    let (ours, mut theirs) = pair().await;
    theirs.write_all(b"GET / HTTP/1.1\r\n\r\n").await.unwrap();
    let failure = gateway.terminator.accept(&gateway.tls, ours, soon()).await.unwrap_err();
    assert_eq!(failure, TlsFailure::NotTls);
    let (ours, _silent) = pair().await;
    let brief = Instant::now() + Duration::from_millis(50);
    let failure = gateway.terminator.accept(&gateway.tls, ours, brief).await.unwrap_err();
    assert_eq!(failure, TlsFailure::Timeout);
}

#[tokio::test]
async fn both_ends_can_be_ours() {
    let mut gateway = Gateway::new();
    gateway.tls.clients = Clients::Required(gateway.demands());
    let client = gateway.pki.issue(Like::names(&["client.example"]));
    let origination = mutual(
        &gateway.pki.path("ca.pem"),
        gateway.pki.write("client.pem", &client.certificate),
        gateway.pki.write("client.key", &client.key),
    );
    let (near, far) = (pair().await, pair().await);
    // Two pairs, joined in the middle, because each pair has one end of ours.
    let ((near, mut left), (far, mut right)) = (near, far);
    tokio::spawn(async move { tokio::io::copy_bidirectional(&mut left, &mut right).await });
    let originator = originator();
    let tls = originate(&origination);
    let upstream = upstream(&originator, &tls, REQUEST);
    let (client, server) = tokio::join!(
        originator.connect(&upstream, near, soon()),
        gateway.terminator.accept(&gateway.tls, far, soon()),
    );
    let (mut client, mut server) = (client.unwrap(), server.unwrap());
    let (sent, answered) = tokio::join!(exchange(&mut client), exchange_as_server(&mut server));
    sent.unwrap();
    answered.unwrap();
    assert!(server.peer_certificate().is_some());
}
