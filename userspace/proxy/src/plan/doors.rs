//! Connections of clients that dialled us by themselves.

use std::sync::Arc;

use egressd_tables as tables;
use egressd_tables::{Action, ChainAction, Decision, Flow, Listener, Original, ServerTlsSettings};

use super::{FOR_EVER, Generation, Plan, Requests, as_tables_see, refusal_word};
use crate::{
    addrs::OriginalDst,
    door::Door,
    record::Outcome,
    sniff::{Sniffed, Wanted},
};

/// What is done with a connection, and whether its TLS ends here before.
#[derive(Debug)]
pub(crate) enum Arrangement {
    /// Its requests are answered.
    Requests {
        /// What decides them.
        requests: Requests,
        /// TLS that ends here.
        tls: Option<Arc<ServerTlsSettings>>,
    },
    /// Its bytes are carried, or it is closed.
    Relay {
        /// Where to.
        plan: Plan,
        /// TLS that ends here.
        tls: Option<Arc<ServerTlsSettings>>,
    },
}

impl Arrangement {
    /// Nobody is there for it.
    pub(crate) fn nowhere() -> Self {
        Self::Relay { plan: Plan::nowhere(Outcome::NoRoute), tls: None }
    }
}

/// What must be known of a connection before it is decided; `None` if nothing.
pub(crate) fn wanted_at_door(listener: &Listener) -> Option<Wanted> {
    let chains = listener.chains.iter().chain([&listener.default_chain]);
    let mut plain = chains.filter(|chain| chain.terminate.is_none());
    // Which version of HTTP it is has to be seen, although nothing depends on it here.
    let http = plain.any(|chain| matches!(chain.action, ChainAction::Http(_)));
    let sniff = listener.sniff;
    let wanted = Wanted {
        tls: sniff.tls,
        http: sniff.http || http,
        timeout: sniff.timeout.unwrap_or(FOR_EVER),
    };
    (wanted.tls || wanted.http).then_some(wanted)
}

impl Generation {
    /// The listener behind a door.
    pub(super) fn behind(&self, door: &Door) -> Option<Listener> {
        match door {
            Door::Listener(addr) => {
                let listener = self.tables.listener(*addr);
                matches!(listener.bind, tables::Bind::Socket(_)).then_some(listener)
            }
            Door::Gateway { bind, port } => {
                let mut servers = self.tables.gateway_servers().iter();
                let server = servers.find(|one| one.bind == *bind && one.port == *port)?;
                Some(server.listener.clone())
            }
        }
    }

    /// What is done with a connection that came in by a listener of our own.
    pub(super) fn at_door(
        &self,
        listener: &Listener,
        destination: OriginalDst,
        sniffed: &Sniffed,
    ) -> Arrangement {
        let flow = Flow { destination: destination.0, sniffed: as_tables_see(sniffed) };
        let decision = self.tables.decide_on(listener, &flow);
        let tls = decision.chain.terminate.clone();
        match &decision.action {
            Action::Http(table) => {
                let table = Arc::clone(table);
                // Where the client dialled is here: what is to go "there" goes to what it asks for.
                let requests = Requests { table, original: Original::Nowhere, explicit: true };
                Arrangement::Requests { requests, tls }
            }
            Action::Refuse(refusal) => {
                let plan = Plan::nowhere(Outcome::Refused(refusal_word(*refusal)));
                Arrangement::Relay { plan, tls: None }
            }
            // No server takes it.
            Action::Tcp(_) if decision.chain.catch_all => Arrangement::nowhere(),
            Action::Tcp(route) => {
                let original = match sniffed {
                    Sniffed::Tls(hello) => hello.server_name.as_deref().map(Arc::from),
                    Sniffed::Nothing | Sniffed::Raw | Sniffed::Http(_) => None,
                };
                let original = original.map_or(Original::Nowhere, Original::Resolve);
                let decision = Decision { original, ..decision.clone() };
                let plan = self.tcp(destination, sniffed, &decision, route);
                Arrangement::Relay { plan, tls }
            }
        }
    }
}
