//! Any packet, answered from a name table.

use std::sync::{Arc, OnceLock};

use egressd_dns::{Names, Response, SocketKind, respond};
use egressd_model::{Model, parse, parse_mesh_config};
use egressd_tables::{IpFamilies, Node, Options, Tables, VipAllocation, requests};
use hickory_proto::op::Message;

/// No packet makes the server panic. A reply is one that others can read, answers this very query and
/// is no larger than the query allows.
pub fn dns(data: &[u8]) {
    let names = NAMES.get_or_init(names);
    for search in ["", "example.com"] {
        for kind in [SocketKind::Udp, SocketKind::Tcp] {
            match respond(data, Arc::clone(names), search, kind) {
                Response::Dropped | Response::Forwarded => {}
                Response::Reply(reply) => check(data, &reply, kind),
            }
        }
    }
}

static NAMES: OnceLock<Arc<dyn Names>> = OnceLock::new();

fn check(query: &[u8], reply: &[u8], kind: SocketKind) {
    assert!(reply.len() >= HEADER, "{} bytes are no reply", reply.len());
    assert_eq!(reply[..2], query[..2], "the id is another");
    assert_ne!(reply[2] & 0x80, 0, "the reply is a query, which loops");
    assert!(reply.len() <= limit(query, kind), "{} bytes are too large", reply.len());
    let message = Message::from_vec(reply);
    assert!(message.is_ok(), "nobody can read the reply: {message:?} {reply:?}");
}

/// What the reply may measure (RFC 1035 §4.2.1, RFC 6891 §6.2.3), going by another reader.
fn limit(query: &[u8], kind: SocketKind) -> usize {
    match (kind, Message::from_vec(query)) {
        (SocketKind::Tcp, _) => usize::from(u16::MAX),
        (SocketKind::Udp, Ok(message)) => usize::from(message.max_payload()).max(PLAIN),
        // Unreadable for the other reader, perhaps in options that ours has no use for: the most that
        // anything like an OPT record says.
        (SocketKind::Udp, Err(_)) => {
            let sizes = query.windows(5).filter_map(|window| match window {
                [0, 0, 41, high, low] => Some(u16::from_be_bytes([*high, *low])),
                _ => None,
            });
            usize::from(sizes.max().unwrap_or_default()).max(PLAIN)
        }
    }
}

const HEADER: usize = 12;
const PLAIN: usize = 512;

/// Hosts with one address, many addresses, one family, a wildcard, and names that fill a message.
fn names() -> Arc<dyn Names> {
    let long = format!("{0}.{0}.{0}.example.com", "l".repeat(60));
    let mut entries = vec![
        ("one", "a.example.com", "192.0.2.1".to_owned()),
        ("both", "both.example.com", "192.0.2.2, '2001:db8::2'".to_owned()),
        ("six", "six.example.com", "'2001:db8::6'".to_owned()),
        ("wild", "'*.wild.example.com'", "192.0.2.3".to_owned()),
        ("long", &long, "192.0.2.4".to_owned()),
    ];
    // An entry holds 256 at most; entries of one host add up.
    for (third, name) in ["many-1", "many-2", "many-3", "many-4", "many-5"].iter().enumerate() {
        let many: Vec<_> = (0..250).map(|last| format!("10.9.{third}.{last}")).collect();
        entries.push((name, "many.example.com", many.join(", ")));
    }
    let mut text = String::new();
    for (name, host, addresses) in entries {
        text.push_str(&format!(
            "apiVersion: networking.istio.io/v1\nkind: ServiceEntry\nmetadata: {{name: {name}}}\n\
             spec: {{hosts: [{host}], addresses: [{addresses}], resolution: NONE, \
             ports: [{{number: 80, name: tcp, protocol: TCP}}]}}\n---\n"
        ));
    }
    let model = Model::assemble([&parse("names.yaml", &text)]).expect("names are valid");
    let (mesh, _) = parse_mesh_config("mesh.yaml", "", &[]).expect("the defaults are valid");
    let node = Node { families: IpFamilies::Dual, ..Node::default() };
    let options = Options { dns_capture: true, ..Options::default() };
    let (vips, _) = VipAllocation::default().allocate(&requests(&model));
    Arc::new(Tables::compile(&model, &mesh, &node, &options, &vips))
}
