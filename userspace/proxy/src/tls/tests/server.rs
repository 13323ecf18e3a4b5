//! A rustls server, and settings that lead to it.

use std::{io, sync::Arc, time::Duration};

use egressd_tables::{
    ClientIdentity, Sni, TlsMode, TlsOrigination, TlsVersion, TrustAnchors, UpstreamTls,
    Verification,
};
use rustls::{
    RootCertStore, ServerConfig, SupportedProtocolVersion,
    pki_types::{CertificateDer, PrivateKeyDer, pem::PemObject},
    server::WebPkiClientVerifier,
};
use tokio::{
    io::{AsyncReadExt, AsyncWriteExt},
    net::TcpStream,
    task::JoinHandle,
    time::Instant,
};
use tokio_rustls::TlsAcceptor;

use super::pki::Leaf;
use crate::{
    addrs::UpstreamAddr,
    testing::{PATIENCE, pair},
    tls::{Originator, Sources, Speaks, TlsFailure, TlsStream, Upstream, material::provider},
};

/// What a server saw of a client.
#[derive(Debug)]
pub(super) struct Visit {
    pub(super) server_name: Option<String>,
    pub(super) alpn: Option<Vec<u8>>,
    /// How many certificates the client showed.
    pub(super) certificates: usize,
}

/// A server's configuration; with `clients`, only those with a certificate of that authority get in.
pub(super) fn config(leaf: &Leaf, clients: Option<&str>) -> ServerConfig {
    config_with(leaf, clients, rustls::ALL_VERSIONS)
}

/// The same for these versions only.
pub(super) fn config_with(
    leaf: &Leaf,
    clients: Option<&str>,
    versions: &[&'static SupportedProtocolVersion],
) -> ServerConfig {
    let builder =
        ServerConfig::builder_with_provider(provider()).with_protocol_versions(versions).unwrap();
    let builder = match clients {
        None => builder.with_no_client_auth(),
        Some(ca) => {
            let mut roots = RootCertStore::empty();
            roots.add(CertificateDer::from_pem_slice(ca.as_bytes()).unwrap()).unwrap();
            let verifier = WebPkiClientVerifier::builder_with_provider(Arc::new(roots), provider());
            builder.with_client_cert_verifier(verifier.build().unwrap())
        }
    };
    let chain = CertificateDer::pem_slice_iter(leaf.certificate.as_bytes());
    let chain = chain.collect::<Result<Vec<_>, _>>().unwrap();
    let key = PrivateKeyDer::from_pem_slice(leaf.key.as_bytes()).unwrap();
    builder.with_single_cert(chain, key).unwrap()
}

/// Serves one client: sends back the first bytes it sends, and waits for its end.
pub(super) fn serve(
    config: impl Into<Arc<ServerConfig>>,
    socket: TcpStream,
) -> JoinHandle<io::Result<Visit>> {
    let acceptor = TlsAcceptor::from(config.into());
    tokio::spawn(async move {
        let mut tls = acceptor.accept(socket).await?;
        let (_, connection) = tls.get_ref();
        let visit = Visit {
            server_name: connection.server_name().map(str::to_owned),
            alpn: connection.alpn_protocol().map(<[u8]>::to_vec),
            certificates: connection.peer_certificates().map_or(0, <[_]>::len),
        };
        let mut buffer = [0; 1024];
        let read = tls.read(&mut buffer).await?;
        tls.write_all(&buffer[..read]).await?;
        tls.shutdown().await?;
        while tls.read(&mut buffer).await? > 0 {}
        Ok(visit)
    })
}

/// Connects to a server and exchanges a few bytes; what the server saw.
pub(super) async fn visit(
    originator: &Originator,
    origination: &TlsOrigination,
    speaks: Speaks<'_>,
    config: impl Into<Arc<ServerConfig>>,
) -> Result<Visit, TlsFailure> {
    let (ours, theirs) = pair().await;
    let server = serve(config, theirs);
    let tls = originate(origination);
    let upstream = upstream(originator, &tls, speaks);
    let mut tls = match originator.connect(&upstream, ours, soon()).await {
        Ok(tls) => tls,
        Err(failure) => {
            server.await.unwrap().unwrap_err();
            return Err(failure);
        }
    };
    exchange(&mut tls).await.map_err(|error| TlsStream::failure(&error))?;
    drop(tls);
    Ok(server.await.unwrap().unwrap())
}

/// Sends a few bytes, expects them back, and says goodbye.
pub(super) async fn exchange(tls: &mut TlsStream) -> io::Result<()> {
    tls.write_all(b"hello").await?;
    tls.flush().await?;
    let mut buffer = [0; 16];
    let mut read = 0;
    while read < 5 {
        read += match tls.read(&mut buffer[read..]).await? {
            0 => return Err(io::ErrorKind::UnexpectedEof.into()),
            some => some,
        };
    }
    assert_eq!(&buffer[..read], b"hello");
    tls.shutdown().await
}

pub(super) fn upstream<'a>(
    originator: &Originator,
    tls: &'a UpstreamTls,
    speaks: Speaks<'a>,
) -> Upstream<'a> {
    let wanted = originator.wanted(tls, true).unwrap();
    Upstream { wanted, endpoint: &ENDPOINT, speaks, peer: None }
}

pub(super) fn originate(origination: &TlsOrigination) -> UpstreamTls {
    UpstreamTls::Originate(Arc::new(origination.clone()))
}

/// An originator that looks at its files each time.
pub(super) fn originator() -> Originator {
    Originator::with_recheck(Sources::default(), Duration::ZERO)
}

/// SIMPLE with these roots, and nothing else written.
pub(super) fn simple(roots: &Arc<str>) -> TlsOrigination {
    TlsOrigination {
        mode: TlsMode::Simple,
        sni: Sni::RequestHost { service: "service.example".into() },
        verification: Verification::Verify {
            roots: TrustAnchors::File(Arc::clone(roots)),
            names: Vec::new(),
            match_sni: true,
            crl: None,
        },
        identity: None,
        alpn: Vec::new(),
        min_version: TlsVersion::V1_2,
        max_version: TlsVersion::V1_3,
    }
}

/// MUTUAL with these files.
pub(super) fn mutual(roots: &Arc<str>, certificate: Arc<str>, key: Arc<str>) -> TlsOrigination {
    TlsOrigination {
        mode: TlsMode::Mutual,
        identity: Some(ClientIdentity::Files { certificate, key }),
        ..simple(roots)
    }
}

/// A request for the host that most tests ask for.
pub(super) const REQUEST: Speaks<'static> = Speaks::Http1 { host: "a.example" };

pub(super) fn soon() -> Instant {
    Instant::now() + PATIENCE
}

static ENDPOINT: std::sync::LazyLock<UpstreamAddr> =
    std::sync::LazyLock::new(|| UpstreamAddr::Ip("127.0.0.1:443".parse().unwrap()));
