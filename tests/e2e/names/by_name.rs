//! A program that knows only a name, and the queries it makes for that.

use egressd_tests::{Behaviour, Node, Servers, Unbound, WORLD_V4};

use super::{UPSTREAM, node, service};

const VIP: &str = "240.240.0.1";

#[test]
fn curl_by_name_reaches_a_static_endpoint() {
    // No server answers this node's queries: there is nobody but us.
    let node = Node::new();
    let endpoint = format!("{}:9000", WORLD_V4[0]);
    let page = Behaviour::Page("the page of one".to_owned());
    let _server = Servers::one(&node.world, &endpoint, page);
    let one = service("one", "STATIC", &[WORLD_V4[0]]);
    let daemon = node.daemon().config("dns: {capture: all}").resource(one).start();
    let text = node.curl("http://one.test/").arg("--ipv4").run().text();
    assert_eq!(text, "the page of one");
    let record = daemon.wait_record();
    assert_eq!(record.upstream_cluster, "outbound|80||one.test");
    assert_eq!(record.upstream_host, endpoint);
    assert_eq!(record.downstream_local, format!("{VIP}:80"));
    daemon.stop();
}

/// `dig`, with what it prints about the reply.
fn dig(node: &Node, words: &str) -> String {
    let dig = node.app(["dig", "+tries=1", "+time=5"]);
    words.split_whitespace().fold(dig, |dig, word| dig.arg(word)).run().text()
}

#[test]
fn dig_gets_what_the_name_table_says() {
    let node = node();
    let _unbound = Unbound::start(&node.world, UPSTREAM, &["mail.test. 5 MX 1 mx.test."]);
    let daemon = node.daemon().resource(service("one", "STATIC", &["192.0.2.1"])).start();
    let answered = |words: &str, wanted: &[&str]| {
        let text = dig(&node, words);
        // Compared without the blanks that dig lines columns up with.
        let plain = text.split_whitespace().collect::<Vec<_>>().join(" ");
        for wanted in wanted {
            assert!(plain.contains(wanted), "`dig {words}` without `{wanted}`:\n{text}");
        }
    };
    let a = "one.test. 30 IN A 240.240.0.1";
    let udp = "SERVER: 10.77.0.2#53(10.77.0.2) (UDP)";
    let ours = ["status: NOERROR", "flags: qr aa rd", "ANSWER: 1,", a];
    for edns in ["+edns", "+noedns", "+bufsize=512", "+edns=0 +nocookie", "+ignore"] {
        answered(&format!("one.test A {edns}"), &[&ours[..], &[udp]].concat());
    }
    let tcp = "SERVER: 10.77.0.2#53(10.77.0.2) (TCP)";
    answered("one.test A +tcp", &[&ours[..], &[tcp]].concat());
    answered("OnE.TeSt A", &ours);
    answered("one.test AAAA", &["status: NOERROR", "one.test. 30 IN AAAA 2001:2::1"]);
    // What is not ours is the upstream's, code and all.
    answered("one.test MX", &["status: NXDOMAIN", "ANSWER: 0,", udp]);
    answered("mail.test MX", &["status: NOERROR", "mail.test. 5 IN MX 1 mx.test."]);
    answered("mail.test A", &["status: NOERROR", "ANSWER: 0,"]);
    answered("nowhere.test A", &["status: NXDOMAIN"]);
    daemon.stop();
}

#[test]
fn replies_from_upstream_keep_their_size_and_their_truncation() {
    let node = node();
    let long = "x".repeat(200);
    let texts: Vec<_> = (0..4).map(|n| format!("big.test. 5 TXT \"{n}{long}\"")).collect();
    let texts: Vec<_> = texts.iter().map(|text| text.replace('"', "\\\"")).collect();
    let texts: Vec<_> = texts.iter().map(String::as_str).collect();
    let unbound = Unbound::start(&node.world, UPSTREAM, &texts);
    let daemon = node.daemon().start();
    let text = dig(&node, "big.test TXT +noedns +ignore");
    assert!(text.contains("flags: qr aa tc"), "{text}");
    assert!(text.contains("(UDP)") && text.contains("ANSWER: 0"), "{text}");
    // dig asks again over TCP of itself, and so do we.
    let text = dig(&node, "big.test TXT +noedns");
    assert!(text.contains("(TCP)") && text.contains("ANSWER: 4"), "{text}");
    let text = dig(&node, "big.test TXT +bufsize=1232 +ignore");
    assert!(text.contains("(UDP)") && text.contains("ANSWER: 4"), "{text}");
    assert_eq!(unbound.queries("big.test", "TXT"), 4);
    assert_eq!(daemon.number("/dns/requests"), 4);
    daemon.stop();
}
