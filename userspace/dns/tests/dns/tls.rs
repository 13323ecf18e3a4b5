//! DNS over TLS in front of an upstream, and somebody who trusts it.

use std::{net::SocketAddr, sync::Arc};

use rcgen::{CertifiedKey, generate_simple_self_signed};
use rustls::{
    ClientConfig, RootCertStore, ServerConfig,
    crypto::ring,
    pki_types::{PrivateKeyDer, PrivatePkcs8KeyDer},
};
use tokio::{
    io::copy_bidirectional,
    net::{TcpListener, TcpSocket},
    runtime::{Builder, Runtime},
};
use tokio_rustls::TlsAcceptor;

/// A TLS server that passes what it gets to an upstream's TCP port.
pub(crate) struct Tls {
    pub(crate) address: SocketAddr,
    /// Trusts the certificate, which is for `dns.example`.
    pub(crate) trust: Arc<ClientConfig>,
    _runtime: Runtime,
}

impl Tls {
    pub(crate) fn before(upstream: SocketAddr) -> Self {
        let names = vec!["dns.example".to_owned()];
        let CertifiedKey { cert, signing_key } = generate_simple_self_signed(names).unwrap();
        let key = PrivateKeyDer::Pkcs8(PrivatePkcs8KeyDer::from(signing_key.serialize_der()));
        let mut roots = RootCertStore::empty();
        roots.add(cert.der().clone()).unwrap();
        let provider = Arc::new(ring::default_provider());
        let trust = ClientConfig::builder_with_provider(Arc::clone(&provider))
            .with_safe_default_protocol_versions()
            .unwrap()
            .with_root_certificates(roots)
            .with_no_client_auth();
        let config = ServerConfig::builder_with_provider(provider)
            .with_safe_default_protocol_versions()
            .unwrap()
            .with_no_client_auth()
            .with_single_cert(vec![cert.der().clone()], key)
            .unwrap();
        let acceptor = TlsAcceptor::from(Arc::new(config));
        let runtime = Builder::new_multi_thread().worker_threads(1).enable_all().build().unwrap();
        let listener = runtime.block_on(TcpListener::bind("127.0.0.1:0")).unwrap();
        let address = listener.local_addr().unwrap();
        runtime.spawn(async move {
            loop {
                let (stream, _) = listener.accept().await.unwrap();
                let acceptor = acceptor.clone();
                tokio::spawn(async move {
                    // Whoever does not trust us leaves in the handshake.
                    let Ok(mut stream) = acceptor.accept(stream).await else { return };
                    let socket = TcpSocket::new_v4().unwrap();
                    let mut server = socket.connect(upstream).await.unwrap();
                    drop(copy_bidirectional(&mut stream, &mut server).await);
                });
            }
        });
        Self { address, trust: Arc::new(trust), _runtime: runtime }
    }

    /// The server, under a name.
    pub(crate) fn upstream(&self, name: &str) -> egressd_dns::Upstream {
        format!("tls://{}#{name}", self.address).parse().unwrap()
    }
}
