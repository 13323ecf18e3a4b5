//! The story of a call: what was chosen at each stage, why, and why the next best was not.

mod chain;
mod cluster;
mod destination;
mod nearest;
mod request;
mod words;

use std::fmt;

use crate::answer::{Answer, Call, Payload};
use crate::decide::Action;
use crate::tables::Tables;

/// What becomes of a call, and the reasons.
#[derive(Clone, Debug, PartialEq)]
pub struct Explanation {
    /// What becomes of it.
    pub answer: Answer,
    /// Stage by stage, in the order in which they are met. Stages without anything to say are left
    /// out; those from [`Stage::Cluster`] on come once for each cluster.
    pub steps: Vec<Step>,
}

/// One stage.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Step {
    /// Which one.
    pub stage: Stage,
    /// What was chosen, in the words of listeners, routes and clusters.
    pub chosen: String,
    /// Why; empty where it follows from the step before.
    pub because: String,
    /// The next best.
    pub instead_of: Option<Passed>,
}

/// What was not chosen.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Passed {
    /// What it is.
    pub what: String,
    /// Why not.
    pub why: String,
}

/// A stage on the way of a call.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Stage {
    /// The address that is dialled.
    Destination,
    /// What the kernel does with the connect().
    Capture,
    /// The rule set it meets.
    Listener,
    /// What is looked at before deciding.
    FirstBytes,
    /// The filter chain.
    Chain,
    /// The virtual host.
    VirtualHost,
    /// The rule.
    Rule,
    /// What is changed, injected or copied on the way.
    Changes,
    /// Where it goes.
    Cluster,
    /// The places behind it.
    Endpoints,
    /// What is spoken there.
    Tls,
    /// How long it may take.
    Timeouts,
    /// How often it is tried.
    Retries,
}

impl Tables {
    /// Explains a call. Costs a pass over the services: not for the data path.
    pub fn explain(&self, call: &Call<'_>) -> Explanation {
        let answer = self.answer(call);
        let mut story = Story { tables: self, call, answer: &answer, steps: Vec::new() };
        story.destination();
        story.capture();
        story.listener();
        story.first_bytes();
        story.chain();
        match &answer.decision.action {
            Action::Refuse(_) => {}
            Action::Tcp(route) => story.relay(route),
            Action::Http(_) => story.request(),
        }
        let steps = story.steps;
        Explanation { answer, steps }
    }
}

/// An explanation being told.
struct Story<'a> {
    tables: &'a Tables,
    call: &'a Call<'a>,
    answer: &'a Answer,
    steps: Vec<Step>,
}

impl Story<'_> {
    fn tell(&mut self, stage: Stage, chosen: impl Into<String>, because: impl Into<String>) {
        let (chosen, because) = (chosen.into(), because.into());
        self.steps.push(Step { stage, chosen, because, instead_of: None });
    }

    fn tell_with(
        &mut self,
        stage: Stage,
        chosen: impl Into<String>,
        because: impl Into<String>,
        instead_of: Option<Passed>,
    ) {
        let (chosen, because) = (chosen.into(), because.into());
        self.steps.push(Step { stage, chosen, because, instead_of });
    }

    /// The host that the call names: the server name or the request's authority.
    fn asked(&self) -> Option<&str> {
        match &self.call.payload {
            Payload::Raw => None,
            Payload::Tls { sni } => *sni,
            Payload::Http(head) => Some(crate::route::strip_port(head.authority)),
        }
    }
}

impl Passed {
    fn new(what: impl Into<String>, why: impl Into<String>) -> Self {
        Self { what: what.into(), why: why.into() }
    }
}

impl fmt::Display for Stage {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Destination => "destination",
            Self::Capture => "kernel",
            Self::Listener => "listener",
            Self::FirstBytes => "first bytes",
            Self::Chain => "filter chain",
            Self::VirtualHost => "virtual host",
            Self::Rule => "route",
            Self::Changes => "changes",
            Self::Cluster => "cluster",
            Self::Endpoints => "endpoints",
            Self::Tls => "TLS",
            Self::Timeouts => "timeouts",
            Self::Retries => "retries",
        })
    }
}
