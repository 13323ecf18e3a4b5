//! Why this filter chain.

use std::net::IpAddr;
use std::sync::Arc;

use crate::chain::{Chain, Matched};
use crate::decide::{Action, Sniffed};
use crate::explain::{Passed, Stage, Story, words};

impl Story<'_> {
    /// The filter chain.
    pub(super) fn chain(&mut self) {
        let decision = &self.answer.decision;
        let sniffed = self.call.payload.sniffed(decision.listener.sniff);
        let mut because = decision.matched.why();
        if let Action::Refuse(refusal) = decision.action {
            because = format!("{because}; the connection is refused: {refusal}");
        }
        let instead_of = match decision.chain.catch_all {
            true => self.nearest().or_else(|| self.closest_chain(&sniffed)),
            false => self.closest_chain(&sniffed),
        };
        self.tell_with(Stage::Chain, &*decision.chain.name, because, instead_of);
    }

    /// The service that the host asked for almost is.
    pub(super) fn nearest(&self) -> Option<Passed> {
        self.tables.nearest_host(self.asked()?, self.call.destination.port())
    }

    /// The chain that failed at the latest criterion; of several the first.
    fn closest_chain(&self, sniffed: &Sniffed<'_>) -> Option<Passed> {
        let decision = &self.answer.decision;
        let destination = self.call.destination.ip().to_canonical();
        let others = decision.listener.chains.iter();
        let others = others.filter(|chain| !Arc::ptr_eq(chain, &decision.chain));
        let failures =
            others.map(|chain| (chain, fails(chain, &decision.matched, destination, sniffed)));
        let mut best: Option<(&Arc<Chain>, Failure)> = None;
        for (chain, failure) in failures {
            if best.as_ref().is_none_or(|(_, known)| failure.late > known.late) {
                best = Some((chain, failure));
            }
        }
        best.map(|(chain, failure)| Passed::new(&*chain.name, failure.why))
    }
}

/// Where a chain was lost.
struct Failure {
    /// The later, the nearer it came.
    late: u8,
    why: String,
}

/// Why a chain that was not chosen was not. Criteria in the order in which they prune.
fn fails(chain: &Chain, chosen: &Matched, destination: IpAddr, sniffed: &Sniffed<'_>) -> Failure {
    let failure = |late, why: String| Failure { late, why };
    let blocks = &chain.destinations;
    let mine = blocks.iter().filter(|block| block.contains(destination));
    let mine = mine.max_by_key(|block| block.prefix());
    let (block, chosen) = match chosen {
        Matched::Destination(block, rest) => (Some(block), &**rest),
        other @ (Matched::ServerName | Matched::Http | Matched::Any | Matched::Default) => {
            (None, other)
        }
    };
    match (mine, block) {
        (None, _) if !blocks.is_empty() => {
            return failure(0, format!("it is for destinations in {}", words::list(blocks)));
        }
        (None, Some(block)) => {
            return failure(1, format!("a chain for {block} comes before one for any destination"));
        }
        (Some(mine), Some(block)) if mine.prefix() < block.prefix() => {
            return failure(1, format!("{block} is more specific than {mine}"));
        }
        (Some(_) | None, _) => {}
    }
    if !chain.server_names.is_empty() {
        let names = words::list(&chain.server_names);
        let covers = |name: &str| {
            let name = name.to_ascii_lowercase();
            chain.server_names.iter().any(|host| host.covers_name(&name))
        };
        return match sniffed {
            Sniffed::Tls { sni: Some(name) } if covers(name) => {
                failure(4, "a chain with a more specific name, or an older one, has it".to_owned())
            }
            Sniffed::Tls { sni: Some(name) } => {
                failure(3, format!("it is for the server name {names}, not {name}"))
            }
            Sniffed::Tls { sni: None } => {
                failure(2, format!("it is for the server name {names}, and there is none"))
            }
            Sniffed::Http | Sniffed::Raw | Sniffed::Nothing => {
                failure(2, format!("it is for TLS to {names}"))
            }
        };
    }
    match chosen {
        Matched::ServerName => failure(3, "a chain with the server name comes first".to_owned()),
        Matched::Http if !chain.http_only => {
            failure(4, "an HTTP request goes to the chain for requests first".to_owned())
        }
        Matched::Any | Matched::Default if chain.http_only => {
            failure(4, "it is for HTTP requests".to_owned())
        }
        Matched::Destination(..) | Matched::Http | Matched::Any | Matched::Default => {
            failure(5, "an older chain has the same criteria".to_owned())
        }
    }
}

impl Matched {
    fn why(&self) -> String {
        match self {
            Self::Destination(block, rest) => match **rest {
                Self::Any => format!("the destination lies in {block}"),
                Self::Destination(..) | Self::ServerName | Self::Http | Self::Default => {
                    format!("the destination lies in {block}, and {}", rest.why())
                }
            },
            Self::ServerName => "the server name is its own".to_owned(),
            Self::Http => "the first bytes are an HTTP request".to_owned(),
            Self::Any => "it asks for nothing more".to_owned(),
            Self::Default => "no other chain is left".to_owned(),
        }
    }
}
