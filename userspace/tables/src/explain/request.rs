//! Why this virtual host and this rule.

use std::sync::Arc;

use egressd_model::value::HostPattern;

use crate::answer::Payload;
use crate::decide::Action;
use crate::explain::{Passed, Stage, Story, words};
use crate::route::{
    AbortStatus, Forward, HttpDecision, RequestHead, Route, RouteAction, RouteTable, VhostOrigin,
    VirtualHost, strip_port,
};

impl Story<'_> {
    /// What becomes of the request.
    pub(super) fn request(&mut self) {
        let (Action::Http(table), Payload::Http(head), Some(request)) =
            (&self.answer.decision.action, &self.call.payload, &self.answer.request)
        else {
            self.tell(
                Stage::VirtualHost,
                "none",
                "the chain routes HTTP requests, and the first bytes are not one",
            );
            return;
        };
        self.virtual_host(table, head, request);
        let Some(virtual_host) = &request.virtual_host else { return };
        self.rule(virtual_host, head, request);
        if let Some(route) = request.route.as_ref().filter(|_| !request.foreign_host) {
            self.action(route);
        }
    }

    fn virtual_host(&mut self, table: &RouteTable, head: &RequestHead<'_>, request: &HttpDecision) {
        let Some(virtual_host) = &request.virtual_host else {
            let because = format!("table {} has none for {}", table.name, head.authority);
            self.tell_with(Stage::VirtualHost, "none", because, self.nearest());
            return;
        };
        let host = strip_port(head.authority).to_ascii_lowercase();
        let because = match (&virtual_host.origin, virtual_host.domain_for(&host)) {
            (VhostOrigin::CatchAll, _) | (_, None) => {
                format!("no other virtual host of table {} answers to {host}", table.name)
            }
            (_, Some(domain)) if *domain.to_ascii_lowercase() == *host => {
                format!("the request names {host}")
            }
            (_, Some(domain)) => format!("the request names {host}, which {domain} covers"),
        };
        let instead_of = match virtual_host.origin {
            VhostOrigin::CatchAll => self.nearest(),
            VhostOrigin::Service(_) | VhostOrigin::VirtualService(..) => {
                table.less_specific(virtual_host, &host)
            }
        };
        self.tell_with(Stage::VirtualHost, &*virtual_host.name, because, instead_of);
    }

    fn rule(&mut self, host: &VirtualHost, head: &RequestHead<'_>, request: &HttpDecision) {
        if request.foreign_host {
            let because = "strict: the request names another host than the address dialled";
            self.tell(Stage::Rule, request.result(), because);
            return;
        }
        let Some(route) = &request.route else {
            let because = "no rule matches: 404, flag NR";
            self.tell_with(Stage::Rule, "none", because, host.closest_miss(head, None));
            return;
        };
        let conditions = words::list(route.matcher.conditions());
        let mut because = match conditions.is_empty() {
            true => "it matches every request".to_owned(),
            false => conditions,
        };
        if let Some(owner) = &route.virtual_service {
            because = format!("VirtualService {owner}: {because}");
        }
        let name = if route.name.is_empty() { "(no name)" } else { &*route.name };
        self.tell_with(Stage::Rule, name, because, host.closest_miss(head, Some(route)));
    }

    fn action(&mut self, route: &Route) {
        let mut changes = changes(route);
        match &route.action {
            RouteAction::Forward(forward) => {
                changes.extend(changes_of_forward(forward));
                if !changes.is_empty() {
                    self.tell(Stage::Changes, changes.join("; "), "");
                }
                self.forward(forward);
            }
            RouteAction::Redirect(_) | RouteAction::Respond { .. } | RouteAction::Nothing => {
                if !changes.is_empty() {
                    self.tell(Stage::Changes, changes.join("; "), "");
                }
                let request = self.answer.request.as_ref();
                let result = request.map(HttpDecision::result).unwrap_or_default();
                self.tell(Stage::Cluster, result, "the rule answers by itself");
            }
        }
    }
}

impl VirtualHost {
    /// Its most specific domain for a name.
    fn domain_for(&self, host: &str) -> Option<&Arc<str>> {
        let covering = self.domains.iter().filter(|domain| covers(domain, host));
        covering.max_by_key(|domain| (!domain.starts_with('*'), domain.len()))
    }

    /// The rule that came nearest: an earlier one with the fewest conditions that fail, or else a
    /// later one that would match too.
    fn closest_miss(&self, head: &RequestHead<'_>, chosen: Option<&Arc<Route>>) -> Option<Passed> {
        let is_chosen =
            |route: &Arc<Route>| chosen.is_some_and(|chosen| Arc::ptr_eq(chosen, route));
        let failures = |route: &Route| {
            let failing = route.matcher.conditions().filter(|condition| !condition.holds(head));
            failing.map(|condition| condition.to_string()).collect::<Vec<_>>()
        };
        let mut routes = self.routes.iter();
        let earlier = routes.by_ref().take_while(|route| !is_chosen(route));
        let nearest = earlier.map(|route| (route, failures(route))).min_by_key(|(_, f)| f.len());
        if let Some((route, failures)) = nearest {
            return Some(Passed::new(
                route.title(),
                format!("it asks for {}", failures.join(", ")),
            ));
        }
        let later = routes.find(|route| route.matcher.matches(head))?;
        Some(Passed::new(later.title(), "it matches too, and comes later"))
    }
}

impl RouteTable {
    /// Another virtual host that covers the name.
    fn less_specific(&self, chosen: &VirtualHost, host: &str) -> Option<Passed> {
        let others = self.virtual_hosts.iter().filter(|other| other.name != chosen.name);
        let others = others.filter(|other| other.origin != VhostOrigin::CatchAll);
        let covering = others.filter_map(|other| Some((other.domain_for(host)?, other)));
        let (domain, other) = covering.max_by_key(|(domain, _)| domain.len())?;
        Some(Passed::new(&*other.name, format!("{domain} is less specific")))
    }
}

impl Route {
    fn title(&self) -> String {
        match (&*self.name, &self.virtual_service) {
            ("", None) => "(no name)".to_owned(),
            ("", Some(owner)) => format!("a rule of VirtualService {owner}"),
            (name, _) => name.to_owned(),
        }
    }
}

fn covers(domain: &str, host: &str) -> bool {
    domain.eq_ignore_ascii_case(host)
        || HostPattern::new(&domain.to_ascii_lowercase()).covers_name(host)
}

/// What a rule does beside its action.
fn changes(route: &Route) -> Vec<String> {
    let mut changes = Vec::new();
    if let Some(delay) = route.fault.as_ref().and_then(|fault| fault.delay) {
        let share = words::percent(delay.per_million);
        changes.push(format!("delay of {:?} for {share}", delay.wait));
    }
    if let Some(abort) = route.fault.as_ref().and_then(|fault| fault.abort) {
        let status = match abort.status {
            AbortStatus::Http(status) => format!("{status}"),
            AbortStatus::Grpc(status) => format!("gRPC {status}"),
        };
        changes.push(format!("abort with {status} for {}", words::percent(abort.per_million)));
    }
    for (ops, of) in [(&route.request_headers, "request"), (&route.response_headers, "response")] {
        if !ops.is_empty() {
            let set = ops.changes.iter().map(|change| change.name.to_string());
            let removed = ops.remove.iter().map(|name| format!("-{name}"));
            changes.push(format!("{of} headers {}", words::list(set.chain(removed))));
        }
    }
    if let Some(cors) = &route.cors {
        changes.push(format!("CORS for {}", words::list(&cors.origins)));
    }
    changes
}

fn changes_of_forward(forward: &Forward) -> Vec<String> {
    let mut changes = Vec::new();
    if let Some(authority) = &forward.authority {
        changes.push(format!("authority {authority}"));
    }
    match &forward.rewrite {
        Some(crate::route::PathRewrite::Prefix(prefix)) => {
            changes.push(format!("path rewritten to {prefix}"));
        }
        Some(crate::route::PathRewrite::Regex { pattern, replacement }) => {
            changes.push(format!("path {} rewritten to {replacement}", pattern.as_str()));
        }
        None => {}
    }
    for mirror in &forward.mirrors {
        changes.push(format!(
            "{} copied to {}",
            words::percent(mirror.per_million),
            mirror.cluster
        ));
    }
    changes
}
