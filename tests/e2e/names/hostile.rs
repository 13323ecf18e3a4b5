//! Packets that mean no good, and servers that are no help.

use std::fs;

use egressd_tests::{Daemon, Node, Unbound, WORLD_V4, until};

use super::{UPSTREAM, node, service};

/// Sends packets to a server whose queries are captured, and counts what comes back.
const FLOOD: &str = r#"
import os, random, select, socket, struct, sys
server, kind, count = sys.argv[1], sys.argv[2], int(sys.argv[3])
random.seed(7)
sock = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
sock.connect((server, 53))
good = b"\x12\x34\1\0\0\1\0\0\0\0\0\0\3one\4test\0\0\1\0\1"

def packet(number):
    if kind == "many":
        label = b"n%d" % number
        head = struct.pack(">6H", number & 0xffff, 0x100, 1, 0, 0, 0)
        return head + bytes([len(label)]) + label + b"\4test\0\0\1\0\1"
    bad = bytearray(good + os.urandom(random.randrange(0, 40)))
    for _ in range(random.randrange(1, 6)):
        bad[random.randrange(2, len(bad))] = random.randrange(256)
    return bytes(bad[:random.randrange(1, len(bad) + 1)])

replies, larger, failed = 0, 0, 0
def drain(wait):
    global replies, larger, failed
    while select.select([sock], [], [], wait)[0]:
        reply = sock.recv(65535)
        replies += 1
        larger += len(reply) > 512
        failed += reply[3] & 15 == 2
for number in range(count):
    sock.send(packet(number))
    if number % 64 == 63:
        drain(0)
drain(1)
print("replies", replies, "larger", larger, "failed", failed)
"#;

/// The numbers that [`FLOOD`] prints: replies, those that are larger than may be, SERVFAILs.
fn flood(node: &Node, server: &str, kind: &str, count: usize) -> [usize; 3] {
    let text = node.python(FLOOD).arg(server).arg(kind).arg(count.to_string()).run().text();
    let mut numbers = text.split(' ').filter_map(|word| word.parse().ok());
    [(); 3].map(|()| numbers.next().expect("three numbers"))
}

fn short(node: &Node, name: &str) -> String {
    node.app(["dig", "+short", "+tries=1", "+time=5", name]).run().text()
}

/// Memory that the daemon holds, in KiB.
fn memory(daemon: &Daemon) -> usize {
    let status = fs::read_to_string(format!("/proc/{}/status", daemon.pid())).unwrap();
    let line = status.lines().find_map(|line| line.strip_prefix("VmRSS:")).unwrap();
    line.trim().trim_end_matches(" kB").parse().unwrap()
}

#[test]
fn damaged_packets_harm_nobody() {
    let node = node();
    let _unbound = Unbound::start(&node.world, UPSTREAM, &["elsewhere.test. 5 A 192.0.2.7"]);
    let daemon = node.daemon().resource(service("one", "STATIC", &["192.0.2.1"])).start();
    let [_, larger, _] = flood(&node, UPSTREAM, "damaged", 20_000);
    assert_eq!(larger, 0);
    assert!(daemon.number("/dns/malformed") > 0);
    assert_eq!(short(&node, "one.test"), "240.240.0.1");
    assert_eq!(short(&node, "elsewhere.test"), "192.0.2.7");
    daemon.stop();
}

#[test]
fn ten_thousand_questions_to_an_upstream_that_says_nothing() {
    let node = node();
    // What is sent there is lost.
    node.netns.ip("neighbour add 10.77.0.99 lladdr 02:00:00:00:00:99 dev up0");
    let daemon = node
        .daemon()
        .config("dns: {upstreams: [10.77.0.99]}")
        .resource(service("one", "STATIC", &[WORLD_V4[0]]))
        .start();
    assert_eq!(short(&node, "one.test"), "240.240.0.1");
    let before = memory(&daemon);
    let [replies, _, failed] = flood(&node, UPSTREAM, "many", 10_000);
    // Those that may wait do; the others are told at once.
    assert!(failed > 5_000 && failed == replies, "{failed} of {replies}");
    assert_eq!(short(&node, "one.test"), "240.240.0.1");
    let grown = memory(&daemon).saturating_sub(before);
    assert!(grown < 16 << 10, "{grown} KiB more");
    // Before or after they have waited for a moment.
    let [refused, displaced] = ["refused", "displaced"];
    let number = |what: &str| daemon.number(&format!("/dns/upstream_{what}"));
    assert!(number(refused) + number(displaced) > 5_000);
    // In the end nobody waits any more.
    until("an end of all questions", || {
        // All but the two that were ours.
        let asked = daemon.number("/dns/requests") - 2;
        (daemon.number("/dns/upstream_failures") == asked).then_some(())
    });
    assert_eq!(short(&node, "one.test"), "240.240.0.1");
    daemon.stop();
}
