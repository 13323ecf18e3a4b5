//! Calls as the conformance data has them.

use std::collections::BTreeMap;
use std::net::SocketAddr;

use egressd_tables::{Answer, Call, Payload, RequestHead, Tables};
use serde::Deserialize;

/// The column `call` of calls.tsv, and the calls of simulation.json.
#[derive(Debug, Default, Deserialize)]
pub(crate) struct CallRow {
    #[serde(default)]
    pub(crate) name: String,
    #[serde(default)]
    pub(crate) address: String,
    pub(crate) port: u16,
    #[serde(default)]
    pub(crate) protocol: String,
    #[serde(default)]
    pub(crate) host: String,
    #[serde(default)]
    pub(crate) path: String,
    #[serde(default)]
    pub(crate) method: String,
    #[serde(default)]
    pub(crate) headers: BTreeMap<String, String>,
    #[serde(default)]
    pub(crate) tls: String,
    #[serde(default)]
    pub(crate) sni: String,
}

impl CallRow {
    pub(crate) fn answer(&self, tables: &Tables) -> Answer {
        let or = |text: &str, default: &str| {
            if text.is_empty() { default.to_owned() } else { text.to_owned() }
        };
        let address = or(&self.address, "1.3.3.7");
        let (method, path) = (or(&self.method, "GET"), or(&self.path, "/"));
        let sni = or(&self.sni, &self.host);
        let payload = if !matches!(self.tls.as_str(), "" | "plaintext") {
            Payload::Tls { sni: Some(sni.as_str()).filter(|sni| !sni.is_empty()) }
        } else if self.protocol.starts_with("http") {
            Payload::Http(RequestHead {
                method: &method,
                scheme: "http",
                authority: &self.host,
                path: &path,
                headers: &self.headers,
            })
        } else if !self.sni.is_empty() {
            // Istio's simulator compares the SNI of a call even if it speaks no TLS.
            Payload::Tls { sni: Some(&self.sni) }
        } else {
            Payload::Raw
        };
        let destination = SocketAddr::new(address.parse().unwrap(), self.port);
        tables.answer(&Call { destination, payload })
    }
}
