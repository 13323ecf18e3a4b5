//! The rules inside the virtual hosts of `routing/`: what Istio's own route configuration states about
//! destinations, timeouts, retries, rewrites, headers, mirrors, faults, CORS and hashing.

use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;

use egressd_tables::{
    AbortStatus, ChainAction, Destinations, Forward, HashKey, HeaderOps, PathRedirect, PathRewrite,
    Route, RouteAction, RouteTable, Tables, TextMatch, UnmatchedPreflight,
};
use serde_json::Value;

use crate::data::routing_cases;
use crate::folder::{conformance, say};

/// The rules of each virtual host of each table, in order, each as a set of facts.
type Rules = BTreeMap<(String, String), Vec<BTreeSet<String>>>;

#[test]
fn rules_state_what_istio_does() {
    let Some(folder) = conformance() else { return };
    let mut rules = 0;
    for case in routing_cases(&folder) {
        let istio: Value = serde_json::from_str(&case.read("clusters.json").unwrap()).unwrap();
        if istio["routes"].is_null() {
            continue;
        }
        let expected = of_istio(&istio["routes"]);
        let found = of_ours(&case.compile());
        for (host, expected) in expected.iter().filter(|((table, _), _)| table != "http_proxy") {
            rules += expected.len();
            let found = found.get(host).unwrap_or_else(|| panic!("{} {host:?}", case.name));
            assert_eq!(found, expected, "{} {host:?}", case.name);
        }
    }
    say(&format_args!("routing: {rules} of {rules} rules of virtual hosts agree"));
    assert!(rules > 0);
}

fn of_istio(routes: &Value) -> Rules {
    let mut rules = Rules::new();
    for table in array(routes) {
        for host in array(&table["virtualHosts"]) {
            let key = (text(&table["name"]), text(&host["name"]));
            rules.insert(key, array(&host["routes"]).map(rule_of_istio).collect());
        }
    }
    rules
}

fn rule_of_istio(rule: &Value) -> BTreeSet<String> {
    let mut facts = BTreeSet::from([format!("name {}", text(&rule["name"]))]);
    condition_of_istio(&rule["match"], &mut facts);
    for (direction, key) in [("request", "requestHeaders"), ("response", "responseHeaders")] {
        for one in array(&rule[format!("{key}ToAdd")]) {
            let how = if one.get("appendAction").is_some() { "set" } else { "add" };
            let header = &one["header"];
            facts.insert(format!(
                "{direction} {how} {}: {}",
                text(&header["key"]),
                text(&header["value"])
            ));
        }
        for name in array(&rule[format!("{key}ToRemove")]) {
            facts.insert(format!("{direction} remove {}", text(name)));
        }
    }
    if let Some(redirect) = rule.get("redirect") {
        facts.insert(format!(
            "redirect {} {} {}",
            text(&redirect["hostRedirect"]),
            text(&redirect["pathRedirect"]),
            text(&redirect["responseCode"])
        ));
    }
    if let Some(response) = rule.get("directResponse") {
        let body = text(&response["body"]["inlineString"]);
        facts.insert(format!("respond {} {body}", response["status"]));
    }
    if let Some(action) = rule.get("route") {
        action_of_istio(action, &mut facts);
    }
    let filters = &rule["typedPerFilterConfig"];
    let fault = &filters["envoy.filters.http.fault"];
    if let Some(delay) = fault.get("delay") {
        let share = &delay["percentage"]["numerator"];
        facts.insert(format!("delay {} {share}", text(&delay["fixedDelay"])));
    }
    if let Some(abort) = fault.get("abort") {
        facts.insert(format!("abort {} {}", abort["httpStatus"], abort["percentage"]["numerator"]));
    }
    if let Some(cors) = filters.get("envoy.filters.http.cors") {
        facts.insert(format!(
            "cors {} {} {} {} {} {}",
            text(&cors["allowMethods"]),
            text(&cors["allowHeaders"]),
            text(&cors["exposeHeaders"]),
            text(&cors["maxAge"]),
            cors["allowCredentials"],
            cors["forwardNotMatchingPreflights"]
        ));
        for origin in array(&cors["allowOriginStringMatch"]) {
            facts.insert(format!("origin {}", string_match(origin)));
        }
    }
    facts
}

fn condition_of_istio(condition: &Value, facts: &mut BTreeSet<String>) {
    let case = condition["caseSensitive"] != false;
    let path = match (condition["prefix"].as_str(), condition["path"].as_str()) {
        (Some(prefix), _) => format!("prefix {prefix}"),
        (None, Some(path)) => format!("exact {path}"),
        (None, None) => format!("regex {}", text(&condition["safeRegex"]["regex"])),
    };
    facts.insert(format!("path {path} case {case}"));
    for header in array(&condition["headers"]) {
        let not = if header["invertMatch"] == true { "not " } else { "" };
        let value = if header["presentMatch"] == true {
            "present".to_owned()
        } else {
            string_match(&header["stringMatch"])
        };
        facts.insert(format!("{not}header {} {value}", text(&header["name"])));
    }
    for query in array(&condition["queryParameters"]) {
        let value = string_match(&query["stringMatch"]);
        facts.insert(format!("query {} {value}", text(&query["name"])));
    }
}

fn string_match(value: &Value) -> String {
    let simple = ["exact", "prefix"];
    let simple = simple.iter().find_map(|kind| Some((kind, value[*kind].as_str()?)));
    match simple {
        Some((kind, text)) => format!("{kind} {text}"),
        None => format!("regex {}", text(&value["safeRegex"]["regex"])),
    }
}

fn action_of_istio(action: &Value, facts: &mut BTreeSet<String>) {
    if let Some(cluster) = action["cluster"].as_str() {
        facts.insert(format!("to {cluster}"));
    }
    for one in array(&action["weightedClusters"]["clusters"]) {
        facts.insert(format!("to {} share {}", text(&one["name"]), one["weight"]));
    }
    facts.insert(format!("timeout {}", text(&action["timeout"])));
    for (key, word) in [("hostRewriteLiteral", "host"), ("prefixRewrite", "path")] {
        if let Some(new) = action[key].as_str() {
            facts.insert(format!("new {word} {new}"));
        }
    }
    for mirror in array(&action["requestMirrorPolicies"]) {
        let share = &mirror["runtimeFraction"]["defaultValue"];
        facts.insert(format!("mirror {} {}", text(&mirror["cluster"]), share["numerator"]));
    }
    for hash in array(&action["hashPolicy"]) {
        facts.insert(if let Some(cookie) = hash.get("cookie") {
            let (name, path) = (text(&cookie["name"]), text(&cookie["path"]));
            format!("hash cookie {name} {path} {}", text(&cookie["ttl"]))
        } else if let Some(header) = hash.get("header") {
            format!("hash header {}", text(&header["headerName"]))
        } else if let Some(query) = hash.get("queryParameter") {
            format!("hash query {}", text(&query["name"]))
        } else {
            "hash source".to_owned()
        });
    }
    let Some(retry) = action.get("retryPolicy") else {
        facts.insert("no retry".to_owned());
        return;
    };
    let codes: Vec<_> = array(&retry["retriableStatusCodes"]).map(ToString::to_string).collect();
    facts.insert(format!(
        "retry {} on {} codes {} each {} previous {} remote {} backoff {}",
        retry["numRetries"],
        text(&retry["retryOn"]),
        codes.join(","),
        text(&retry["perTryTimeout"]),
        array(&retry["retryHostPredicate"]).count() > 0,
        retry.get("retryPriority").is_some(),
        retry["retryBackOff"]["baseInterval"].as_str().unwrap_or("0.025s"),
    ));
}

fn of_ours(tables: &Tables) -> Rules {
    let mut rules = Rules::new();
    for chain in tables.listeners().iter().flat_map(|listener| &listener.chains) {
        if let ChainAction::Http(table) = &chain.action {
            add(table, &mut rules);
        }
    }
    rules
}

fn add(table: &RouteTable, rules: &mut Rules) {
    for host in &table.virtual_hosts {
        let key = (table.name.to_string(), host.name.to_string());
        rules.insert(key, host.routes.iter().map(|route| rule_of_ours(route)).collect());
    }
}

fn rule_of_ours(route: &Route) -> BTreeSet<String> {
    let mut facts = BTreeSet::from([format!("name {}", route.name)]);
    let condition = &route.matcher;
    let path = condition.path.as_ref().map_or("prefix /".to_owned(), ToString::to_string);
    facts.insert(format!("path {path} case {}", !condition.ignore_path_case));
    let own = [(":method", &condition.method), (":authority", &condition.authority)];
    for (name, value) in own {
        facts.extend(value.iter().map(|value| format!("header {name} {value}")));
    }
    let lists = [
        ("header", &condition.headers),
        ("not header", &condition.without_headers),
        ("query", &condition.query),
    ];
    for (word, list) in lists {
        facts.extend(list.iter().map(|(name, value)| format!("{word} {name} {value}")));
    }
    operations("request", &route.request_headers, &mut facts);
    operations("response", &route.response_headers, &mut facts);
    match &route.action {
        RouteAction::Forward(forward) => forward_of_ours(forward, &mut facts),
        RouteAction::Redirect(redirect) => {
            let (PathRedirect::Whole(path) | PathRedirect::Prefix(path)) = &redirect.path;
            let code = if redirect.status == 302 { "FOUND" } else { "" };
            facts.insert(format!("redirect {} {path} {code}", redirect.authority));
        }
        RouteAction::Respond { status, body } => {
            facts.insert(format!("respond {status} {}", String::from_utf8_lossy(body)));
        }
        RouteAction::Nothing => {}
    }
    if let Some(fault) = &route.fault {
        if let Some(delay) = fault.delay {
            facts.insert(format!("delay {} {}", seconds(delay.wait), delay.per_million));
        }
        if let Some(abort) = fault.abort {
            let (AbortStatus::Http(_) | AbortStatus::Grpc(_)) = abort.status;
            if let AbortStatus::Http(status) = abort.status {
                facts.insert(format!("abort {status} {}", abort.per_million));
            }
        }
    }
    if let Some(cors) = &route.cors {
        let age = cors.max_age.map(|age| age.to_string()).unwrap_or_default();
        facts.insert(format!(
            "cors {} {} {} {age} {} {}",
            cors.methods,
            cors.headers,
            cors.expose,
            cors.credentials,
            cors.unmatched == UnmatchedPreflight::Forward
        ));
        facts.extend(cors.origins.iter().map(|origin: &TextMatch| format!("origin {origin}")));
    }
    facts
}

fn operations(direction: &str, operations: &HeaderOps, facts: &mut BTreeSet<String>) {
    for change in &operations.changes {
        let how = if change.append { "add" } else { "set" };
        facts.insert(format!("{direction} {how} {}: {}", change.name, change.value));
    }
    facts.extend(operations.remove.iter().map(|name| format!("{direction} remove {name}")));
}

fn forward_of_ours(forward: &Forward, facts: &mut BTreeSet<String>) {
    match &forward.destinations {
        Destinations::Single(one) => {
            facts.insert(format!("to {}", one.cluster));
        }
        Destinations::Weighted(all) => {
            facts.extend(all.iter().map(|one| format!("to {} share {}", one.cluster, one.weight)));
        }
    }
    facts.insert(format!("timeout {}", seconds(forward.timeout.unwrap_or_default())));
    facts.extend(forward.authority.iter().map(|new| format!("new host {new}")));
    match &forward.rewrite {
        Some(PathRewrite::Prefix(new)) => {
            facts.insert(format!("new path {new}"));
        }
        Some(PathRewrite::Regex { .. }) | None => {}
    }
    for mirror in &forward.mirrors {
        facts.insert(format!("mirror {} {}", mirror.cluster, mirror.per_million));
    }
    for hash in &forward.hash {
        facts.insert(match &hash.key {
            HashKey::Header(name) => format!("hash header {name}"),
            HashKey::QueryParameter(name) => format!("hash query {name}"),
            HashKey::SourceIp => "hash source".to_owned(),
            HashKey::Cookie { name, path, ttl, .. } => format!(
                "hash cookie {name} {} {}",
                path.as_deref().unwrap_or_default(),
                ttl.map(seconds).unwrap_or_default()
            ),
        });
    }
    let Some(retry) = &forward.retry else {
        facts.insert("no retry".to_owned());
        return;
    };
    let codes: Vec<_> = retry.status_codes.iter().map(ToString::to_string).collect();
    facts.insert(format!(
        "retry {} on {} codes {} each {} previous {} remote {} backoff {}",
        retry.attempts,
        retry.retry_on,
        codes.join(","),
        retry.per_try_timeout.map(seconds).unwrap_or_default(),
        retry.avoid_previous_hosts,
        retry.remote_localities,
        seconds(retry.backoff),
    ));
}

fn array(value: &Value) -> impl Iterator<Item = &Value> {
    value.as_array().into_iter().flatten()
}

fn text(value: &Value) -> String {
    value.as_str().unwrap_or_default().to_owned()
}

fn seconds(duration: Duration) -> String {
    match duration.subsec_millis() {
        0 => format!("{}s", duration.as_secs()),
        millis => format!("{}.{millis:03}s", duration.as_secs()),
    }
}
