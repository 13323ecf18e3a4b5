//! From the address dialled to the listener it meets.

use egressd_abi::{Matched as Table, RowVerdict};

use crate::answer::Payload;
use crate::decide::{Original, Sniffed};
use crate::explain::{Passed, Stage, Story, words};
use crate::listener::{Bind, Listener};
use crate::path::Path;
use crate::service::Service;
use crate::tables::Tables;
use crate::tcp::TCP_IDLE;

impl Story<'_> {
    /// What the address stands for.
    pub(super) fn destination(&mut self) {
        let dialled = self.call.destination;
        let ip = dialled.ip().to_canonical();
        let holders: Vec<_> = self.tables.holders(ip).collect();
        let because = match holders.as_slice() {
            [] if self.tables.vip_ranges.iter().any(|range| range.contains(ip)) => {
                "it lies in the range of virtual addresses, and stands for no host".to_owned()
            }
            [] => "no resource names the address".to_owned(),
            [(service, Held::Allocated), ..] => {
                format!("virtual address of {}", service.host)
            }
            [(service, Held::Written(range)), rest @ ..] => {
                let more = rest.iter().map(|(service, _)| &service.host);
                let hosts = words::list(std::iter::once(&service.host).chain(more));
                if range.is_single() {
                    format!("address of {hosts}")
                } else {
                    format!("inside {range} of {hosts}")
                }
            }
        };
        self.tell(Stage::Destination, dialled.to_string(), because);
    }

    /// What the kernel does with the connect(), as far as the tables say it.
    pub(super) fn capture(&mut self) {
        let ip = self.call.destination.ip().to_canonical();
        let (table, row) = self.tables.rows.find(self.call.destination);
        let local = match ip {
            std::net::IpAddr::V4(v4) => v4.is_loopback() || v4.is_link_local(),
            std::net::IpAddr::V6(v6) => v6.is_loopback() || v6.is_unicast_link_local(),
        };
        let chosen = match (table, row.verdict()) {
            (Table::Prefix | Table::Port | Table::Nothing, _) if local => "left alone",
            (_, Some(RowVerdict::Proxy)) => "handed to the proxy",
            (_, Some(RowVerdict::Refuse)) => "refused",
            (_, Some(RowVerdict::Leave)) => "left alone",
            (_, Some(RowVerdict::Direct)) => "turned to an endpoint: the direct path",
            (_, None) if self.tables.rows.deny_unknown => "refused",
            (_, None) => "left alone",
        };
        let because = match table {
            Table::Prefix | Table::Port | Table::Nothing if local => {
                "loopback and link-local destinations need a row for their address and port"
            }
            Table::Exact => "there is a row for the address and port",
            Table::Prefix => "there is a row for a block that holds the address",
            Table::Port => "there is a row for the port",
            Table::Nothing if self.tables.rows.deny_unknown => {
                "there is no row for it, and the policy is REGISTRY_ONLY"
            }
            Table::Nothing => {
                "there is no row for it, and the policy lets unknown destinations pass"
            }
        };
        let instead_of = match (row.verdict(), self.tables.path(self.call.destination)) {
            (Some(RowVerdict::Proxy), Path::Proxied(why)) => {
                Some(Passed::new("the direct path", why.to_string()))
            }
            _ => None,
        };
        self.tell_with(Stage::Capture, chosen, because, instead_of);
    }

    /// The rule set.
    pub(super) fn listener(&mut self) {
        let listener = &self.answer.decision.listener;
        let port = self.call.destination.port();
        let (because, instead_of) = match listener.bind {
            Bind::Address(_) | Bind::Socket(_) => (
                "it has the address and port dialled",
                self.tables.wildcards.get(&port).map(|wildcard| {
                    Passed::new(
                        wildcard.name(),
                        "a listener with the address comes before one with the port alone",
                    )
                }),
            ),
            Bind::Wildcard if listener.port == 0 => {
                ("no listener has the address or the port", self.other_port())
            }
            Bind::Wildcard => {
                ("no listener has the address, and this one has the port", self.other_port())
            }
        };
        self.tell_with(Stage::Listener, listener.name(), because, instead_of);
    }

    /// A listener of the address with another port.
    fn other_port(&self) -> Option<Passed> {
        let ip = self.call.destination.ip().to_canonical();
        let port = self.call.destination.port();
        let (service, _) = self.tables.holders(ip).next()?;
        let mut declared = service.ports.iter().map(|port| port.number);
        let other = declared.find_map(|number| {
            let rules = self.tables.addresses.get(&(ip, number))?;
            Some(Listener::at(ip, number, rules))
        })?;
        Some(Passed::new(other.name(), format!("it has port {}, not {port}", other.port)))
    }

    /// What is looked at.
    pub(super) fn first_bytes(&mut self) {
        let sniff = self.answer.decision.listener.sniff;
        if sniff.is_nothing() {
            let because =
                "its rules ask for nothing that the client says: the server may speak first";
            self.tell(Stage::FirstBytes, "not looked at", because);
            return;
        }
        let chosen = match self.call.payload.sniffed(sniff) {
            Sniffed::Tls { sni: Some(sni) } => format!("TLS to {sni}"),
            Sniffed::Tls { sni: None } => "TLS without a server name".to_owned(),
            Sniffed::Http => "an HTTP request".to_owned(),
            Sniffed::Raw | Sniffed::Nothing => match self.call.payload {
                Payload::Http(_) => "an HTTP request, which the listener does not look for",
                Payload::Raw | Payload::Tls { .. } => "neither TLS nor HTTP",
            }
            .to_owned(),
        };
        let looks = match (sniff.tls, sniff.http) {
            (true, true) => "the listener looks for TLS and HTTP",
            (true, false) => "the listener looks for TLS",
            _ => "the listener looks for HTTP",
        };
        let wait = match sniff.timeout {
            Some(timeout) => format!("{looks}; silence of {timeout:?} counts as neither"),
            None => format!("{looks}, and waits {TCP_IDLE:?} for it at most"),
        };
        self.tell(Stage::FirstBytes, chosen, wait);
    }

    /// Where the original destination is.
    pub(super) fn original(&self) -> String {
        let dialled = self.call.destination;
        match &self.answer.decision.original {
            Original::Dialled => dialled.to_string(),
            Original::Resolve(host) => {
                format!(
                    "{host}:{}, resolved, because the address dialled is virtual",
                    dialled.port()
                )
            }
            Original::Nowhere => {
                "nowhere: the address dialled is virtual, and its host is not resolved".to_owned()
            }
        }
    }
}

/// How a service has an address.
enum Held {
    Allocated,
    Written(egressd_model::value::IpRange),
}

impl Tables {
    /// The services that an address stands for, single addresses before blocks.
    fn holders(&self, ip: std::net::IpAddr) -> impl Iterator<Item = (&Service, Held)> {
        let held = move |service: &Service| {
            if service.vips.iter().flat_map(|vip| vip.addresses()).any(|vip| vip == ip) {
                return Some(Held::Allocated);
            }
            let written = service.addresses.iter().filter(|range| range.contains(ip));
            written.max_by_key(|range| range.prefix()).map(|range| Held::Written(*range))
        };
        let mut all: Vec<_> =
            self.services.iter().filter_map(|service| Some((&**service, held(service)?))).collect();
        all.sort_by_key(|(_, held)| match held {
            Held::Allocated => 0,
            Held::Written(range) => u8::MAX - range.prefix(),
        });
        all.into_iter()
    }
}
