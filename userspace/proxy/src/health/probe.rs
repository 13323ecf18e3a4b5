//! One probe of one endpoint.

use std::{sync::Arc, time::Duration};

use egressd_tables::{
    Cluster, HealthCheck, Probe, Sni, TlsMode, TlsOrigination, TlsVersion, UpstreamHttp,
    UpstreamTls, Verification,
};
use tokio::time::timeout;

use crate::{
    addrs::UpstreamAddr,
    cluster::Mesh,
    http::{Ask, Sockets, ask},
    socket::ConnectOptions,
};

/// Opens the connections of probes.
pub(crate) type Connectors = Arc<Sockets>;

/// Probes the endpoints of a cluster.
pub(super) struct Prober {
    /// The cluster; if its port is one of TLS that applications speak themselves, as one that speaks
    /// TLS.
    cluster: Arc<Cluster>,
    probe: Probe,
    timeout: Duration,
    connectors: Connectors,
}

impl Prober {
    /// A prober for a cluster that wants these checks.
    pub(super) fn new(cluster: &Arc<Cluster>, check: &HealthCheck, connectors: Connectors) -> Self {
        let mut cluster = Arc::clone(cluster);
        if check.tls && cluster.tls == UpstreamTls::Plaintext {
            let host = host_of(&cluster);
            let http = UpstreamHttp::Http1;
            cluster = Arc::new(Cluster { tls: unverified(host), http, ..(*cluster).clone() });
        }
        Self { cluster, probe: check.probe.clone(), timeout: check.timeout, connectors }
    }

    /// Whether the endpoint is well.
    pub(super) async fn probe(&self, addr: &UpstreamAddr, mesh: &Mesh) -> bool {
        let why = match timeout(self.timeout, self.try_it(addr, mesh)).await {
            Ok(Ok(())) => return true,
            Ok(Err(why)) => why,
            Err(_elapsed) => "it took too long".to_owned(),
        };
        tracing::debug!(cluster = %self.cluster.name, endpoint = %addr, why, "a probe failed");
        false
    }

    async fn try_it(&self, addr: &UpstreamAddr, mesh: &Mesh) -> Result<(), String> {
        match &self.probe {
            Probe::Tcp => {
                let timeout = self.timeout;
                let options = ConnectOptions { timeout, keepalive: None, source: None };
                let connected = self.connectors.factory.connect(addr, &options).await;
                connected.map(drop).map_err(|error| error.to_string())
            }
            Probe::Http { path, headers } => {
                let (cluster, host) = (&self.cluster, host_of(&self.cluster));
                let asked = Ask { cluster, addr, mesh, host: &host, path, headers };
                match ask(&self.connectors, asked).await? {
                    200 => Ok(()),
                    status => Err(format!("status {status}")),
                }
            }
        }
    }
}

/// What the endpoints are called in probes; a wildcard is no name.
fn host_of(cluster: &Cluster) -> Arc<str> {
    match cluster.service() {
        Some(service) => {
            service.host.strip_prefix("*.").map_or_else(|| Arc::clone(&service.host), Arc::from)
        }
        None => Arc::from("localhost"),
    }
}

/// TLS as far as it takes to be answered. Whether the certificate is good is for the application to
/// say, which speaks TLS itself and may trust other authorities than we do.
fn unverified(host: Arc<str>) -> UpstreamTls {
    UpstreamTls::Originate(Arc::new(TlsOrigination {
        mode: TlsMode::Simple,
        sni: Sni::RequestHost { service: host },
        verification: Verification::Skip,
        identity: None,
        alpn: Vec::new(),
        min_version: TlsVersion::V1_2,
        max_version: TlsVersion::V1_3,
    }))
}
