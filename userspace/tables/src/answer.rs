//! The whole answer to one call: connection and, if it carries one, request.

use std::borrow::Cow;
use std::net::SocketAddr;

use crate::decide::{Action, Decision, Flow, Sniffed};
use crate::listener::Sniff;
use crate::route::{HttpDecision, RequestHead};
use crate::tables::Tables;

/// A connection with the first thing said on it, known in advance: what `explain` asks about.
#[derive(Clone, Copy)]
pub struct Call<'a> {
    /// The address and port dialled.
    pub destination: SocketAddr,
    /// The first thing the client says.
    pub payload: Payload<'a>,
}

/// The first thing a client says.
#[derive(Clone, Copy)]
pub enum Payload<'a> {
    /// Neither TLS nor HTTP.
    Raw,
    /// A ClientHello.
    Tls {
        /// The name in it.
        sni: Option<&'a str>,
    },
    /// A plaintext request.
    Http(RequestHead<'a>),
}

/// What becomes of a call.
#[derive(Clone, Debug, PartialEq)]
pub struct Answer {
    /// What becomes of the connection.
    pub decision: Decision,
    /// What becomes of the request, where requests are routed.
    pub request: Option<HttpDecision>,
}

impl Payload<'_> {
    /// What a listener sees of it that looks for no more than this.
    pub fn sniffed(&self, sniff: Sniff) -> Sniffed<'_> {
        match self {
            Self::Tls { sni } if sniff.tls => Sniffed::Tls { sni: *sni },
            Self::Http(_) if sniff.http => Sniffed::Http,
            Self::Raw | Self::Tls { .. } | Self::Http(_) if sniff.is_nothing() => Sniffed::Nothing,
            Self::Raw | Self::Tls { .. } | Self::Http(_) => Sniffed::Raw,
        }
    }
}

impl Tables {
    /// Decides a whole call, looking at no more of it than its listener does.
    pub fn answer(&self, call: &Call<'_>) -> Answer {
        let sniffed = call.payload.sniffed(self.listener(call.destination).sniff);
        let decision = self.decide(&Flow { destination: call.destination, sniffed });
        let request = match (&decision.action, &call.payload) {
            (Action::Http(table), Payload::Http(head)) => Some(table.route(head)),
            (Action::Http(_) | Action::Tcp(_) | Action::Refuse(_), _) => None,
        };
        Answer { decision, request }
    }
}

impl Answer {
    /// A cluster, or what else is done, in the words of the conformance data.
    pub fn result(&self) -> String {
        match (&self.decision.action, &self.request) {
            (Action::Http(table), Some(request)) if table.name.is_empty() => {
                format!("{}(inline route)", request.result())
            }
            (_, Some(request)) => request.result(),
            (Action::Http(_), None) => "error:protocol error".to_owned(),
            (Action::Tcp(_) | Action::Refuse(_), None) => {
                self.decision.result().unwrap_or_default().to_owned()
            }
        }
    }

    /// The listener's name.
    pub fn listener(&self) -> Cow<'_, str> {
        self.decision.listener.name()
    }

    /// The route's name; empty where there is none or it has none.
    pub fn route(&self) -> &str {
        self.request.as_ref().map_or("", HttpDecision::route_name)
    }
}
