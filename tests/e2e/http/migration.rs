//! From a virtual machine to a container while requests go on (seeds.md 30, 33).

use egressd_tests::{Nginx, until};

use super::world::{World, wait_generation};

const SHARED: &str = include_str!("../../data/seeds/033-hello2-with-pod/resources.yaml");

/// The resources with these weights for the machine and the container.
fn weighted(vm: u32, docker: u32) -> String {
    let (first, second) = SHARED.split_once("weight: 0\n").unwrap();
    let second = second.replace("weight: 100\n", &format!("weight: {docker}\n"));
    format!("{first}weight: {vm}\n{second}")
}

#[test]
fn no_request_fails_on_the_way() {
    let world = World::new(&[("-", "192.168.0.204"), ("-", "10.244.1.23")]);
    let log = tempfile::TempDir::with_prefix("egressd-migration-").unwrap();
    let server = |name: &str, address: &str| {
        let file = log.path().join(name);
        let told = format!("access_log {}; location / {{ return 200 {name}; }}", file.display());
        Nginx::start(&world.node.world, address, 80, &told)
    };
    let _servers = [server("vm", "192.168.0.204"), server("pod", "10.244.1.23")];
    let answered = |name: &str| {
        let text = std::fs::read_to_string(log.path().join(name)).unwrap_or_default();
        text.lines().count()
    };
    // Without a rule of its own both share the load.
    let end = SHARED.find("---\napiVersion: networking.istio.io/v1beta1\nkind: DestinationRule");
    let daemon = world.daemon().resource(&SHARED[..end.unwrap()]).start();
    let words = ["wrk", "--threads", "1", "--connections", "8", "--duration", "8s"];
    let wrk = world.node.app(words).arg("http://xxx.jd.com/").start();
    until("requests to both", || (answered("vm") > 100 && answered("pod") > 100).then_some(()));
    for (generation, (vm, docker)) in (2..).zip([(100, 0), (50, 50), (0, 100)]) {
        daemon.put(0, &weighted(vm, docker));
        wait_generation(&daemon, generation);
        let before = answered("pod") + answered("vm");
        until("more requests", || (answered("pod") + answered("vm") > before + 200).then_some(()));
    }
    let (vm, pod) = (answered("vm"), answered("pod"));
    let printed = wrk.wait().text();
    // What was on its way to the machine at the switch, at most.
    assert!(answered("vm") <= vm + 16 && answered("pod") > pod, "{printed}");
    assert!(!printed.contains("Non-2xx") && !printed.contains("Socket errors"), "{printed}");
    until("the records", || {
        let records = daemon.records();
        let total: usize = answered("vm") + answered("pod");
        (records.len() >= total).then_some(())
    });
    let failed = daemon.records().into_iter().find(|record| record.code != "200");
    // Requests that wrk itself left behind at its end are none of ours.
    assert!(failed.is_none_or(|record| record.flags.contains("DC")), "a request failed");
    daemon.stop();
}
