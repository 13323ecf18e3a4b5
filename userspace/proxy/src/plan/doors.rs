//! Connections of clients that dialled us by themselves.

use std::sync::Arc;

use egressd_tables as tables;
use egressd_tables::{
    Action, ChainAction, Decision, Flow, Listener, Original, ServerTlsSettings, TcpRoute,
};

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
                let plan = self.by_its_name(destination, sniffed, &decision, route);
                Arrangement::Relay { plan, tls }
            }
        }
    }

    /// Where the client dialled is here: what is to go "there" goes to the name that it asks for.
    fn by_its_name(
        &self,
        destination: OriginalDst,
        sniffed: &Sniffed,
        decision: &Decision,
        route: &TcpRoute,
    ) -> Plan {
        let original = match sniffed {
            Sniffed::Tls(hello) => hello.server_name.as_deref().map(Arc::from),
            Sniffed::Nothing | Sniffed::Raw | Sniffed::Http(_) => None,
        };
        let original = original.map_or(Original::Nowhere, Original::Resolve);
        let mut plan =
            self.tcp(destination, sniffed, &Decision { original, ..decision.clone() }, route);
        // A rule may allow any number of names: which ones, the client says.
        if let Ok(forward) = &mut plan.verdict {
            forward.target.asked_for();
        }
        plan
    }
}

#[cfg(test)]
mod tests {
    use egressd_tables::{Node, Options, Tables, VipAllocation};

    use super::*;
    use crate::{
        plan::{Forward, Target},
        sniff::ClientHello,
    };

    #[test]
    fn a_clients_server_name_is_a_name_that_is_asked_for() {
        // Whatever the rules are: everything goes where it asks to.
        let (node, options, vips) = (Node::default(), Options::default(), VipAllocation::default());
        let tables =
            Tables::compile(&Default::default(), &Default::default(), &node, &options, &vips);
        let generation = Generation { tables: Arc::new(tables), clusters: Arc::default() };
        let here = OriginalDst("192.0.2.1:15443".parse().unwrap());
        let sniffed = Sniffed::Tls(ClientHello::of("any.example.com"));
        let flow = Flow { destination: here.0, sniffed: as_tables_see(&sniffed) };
        let decision = generation.tables.decide(&flow);
        let Action::Tcp(route) = &decision.action else { panic!("bytes are carried") };
        let plan = generation.by_its_name(here, &sniffed, &decision, route);
        let Forward { target, .. } = plan.verdict.unwrap();
        let Target::Name { name, asked, .. } = target else { panic!("{target:?}") };
        assert_eq!((&*name, asked), ("any.example.com", true));
    }
}
