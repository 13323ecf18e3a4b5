//! The queries of Istio's own test, with its name table and its upstream (conformance `dns.json`).

use std::{collections::HashMap, fs, net::IpAddr};

use hickory_proto::{
    op::{Message, ResponseCode},
    rr::{Name, RecordType},
};
use serde::Deserialize;

use crate::{
    client::{answers, ask_tcp, ask_udp, query},
    folder::{conformance, say},
    names::Table,
    running::Running,
    upstream::{Asked, Upstream, a},
};

#[derive(Deserialize)]
struct Conformance {
    cases: Vec<Case>,
    name_table: NameTable,
    proxy_domain: String,
    proxy_namespace: String,
    search: Vec<String>,
}

#[derive(Deserialize)]
struct NameTable {
    table: HashMap<String, Row>,
}

#[derive(Deserialize)]
struct Row {
    ips: Vec<IpAddr>,
    #[serde(default)]
    shortname: String,
    #[serde(default)]
    namespace: String,
    #[serde(default, rename = "altHosts")]
    others: Vec<String>,
}

#[derive(Deserialize)]
struct Case {
    name: String,
    host: String,
    qtype: String,
    transport: String,
    compare: String,
    expect_external_resolution: bool,
    expected_answers: Vec<String>,
    expected_rcode: Option<String>,
    edns0_udp_size: Option<u16>,
}

impl Conformance {
    fn load() -> Option<Self> {
        let text = fs::read_to_string(conformance()?.join("dns.json")).unwrap();
        Some(serde_json::from_str(&text).unwrap())
    }

    /// The names as Tables would have them: services of Kubernetes have short names, too, which is
    /// the registry's doing and not the server's.
    fn names(&self) -> Table {
        let mut names = Table::default();
        for (host, row) in &self.name_table.table {
            names = names.with(host, &row.ips);
            for other in &row.others {
                names = names.with(other, &row.ips);
            }
            let (short, namespace) = (&row.shortname, &row.namespace);
            if !short.is_empty() && *host == format!("{short}.{namespace}.{}", self.proxy_domain) {
                names = names.with(&format!("{short}.{namespace}"), &row.ips);
                names = names.with(&format!("{short}.{namespace}.svc"), &row.ips);
                if *namespace == self.proxy_namespace {
                    names = names.with(short, &row.ips);
                }
            }
        }
        names
    }
}

/// The upstream of Istio's test.
fn external(asked: &Asked) -> Vec<Vec<u8>> {
    match asked.name().as_str() {
        "www.bing.com." => asked.addresses(30, &["1.1.1.1"]),
        "giant." => vec![giant(asked, 64).to_vec().unwrap()],
        "giant-tc." => {
            let mut reply = giant(asked, 29);
            reply.metadata.truncation = true;
            vec![reply.to_vec().unwrap()]
        }
        _ => asked.nothing(),
    }
}

fn giant(asked: &Asked, count: u8) -> Message {
    let mut reply = asked.reply(ResponseCode::NoError);
    let owner = Name::from_ascii("aaaaaaaaaaaa.aaaaaa.").unwrap();
    let records = (0..count).map(|last| a(owner.clone(), 30, &format!("240.0.0.{last}")));
    reply.add_answers(records);
    reply
}

#[test]
fn istios_own_queries() {
    let Some(conformance) = Conformance::load() else { return };
    let upstream = Upstream::start(external);
    let server = Running::start(conformance.names(), vec![upstream.plain()]);
    server.server.set_search(&conformance.search[0]);
    for case in &conformance.cases {
        for transport in case.transport.split(" and ") {
            let before = upstream.queries();
            let record_type = match case.qtype.as_str() {
                "A" => RecordType::A,
                "AAAA" => RecordType::AAAA,
                other => panic!("unexpected type {other}"),
            };
            let question = query(&case.host, record_type, case.edns0_udp_size);
            let reply = match transport {
                "udp" => ask_udp(server.address, &question),
                _ => ask_tcp(server.address, &question),
            };
            check(case, transport, &reply);
            if case.expect_external_resolution {
                assert_eq!(upstream.queries(), before + 1, "{} over {transport}", case.name);
            }
        }
    }
    assert_eq!(conformance.cases.len(), 36);
    say(&format_args!("dns: {0} of {0} queries agree", conformance.cases.len()));
}

fn check(case: &Case, transport: &str, reply: &Message) {
    let what = format!("{} over {transport}", case.name);
    if let Some(code) = &case.expected_rcode {
        let expected = match code.as_str() {
            "NXDOMAIN" => ResponseCode::NXDomain,
            "SERVFAIL" => ResponseCode::ServFail,
            other => panic!("unexpected code {other}"),
        };
        assert_eq!(reply.response_code, expected, "{what}");
    }
    if case.expect_external_resolution {
        return;
    }
    let (mut found, mut expected) = (answers(reply), case.expected_answers.clone());
    if case.compare == "set" {
        found.sort();
        expected.sort();
    }
    assert_eq!(found, expected, "{what}");
}
