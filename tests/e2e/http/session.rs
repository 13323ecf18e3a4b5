//! The httpbin session of the seeds' last text (seeds.md 35–38), with a real httpbin.

use std::fs;

use egressd_tests::{Httpbin, Nginx, WORLD_V4};

use super::world::{World, last, masked, wait_generation};

const BAIDU: &str = include_str!("../../data/seeds/036-baidu-ext/resources.yaml");
const LOGGING: &str = include_str!("../../data/seeds/035-mesh-default/resources.yaml");
const HTTPBIN: &str = include_str!("../../data/seeds/037-httpbin-ext/resources.yaml");
const TIMEOUT: &str = include_str!("../../data/seeds/038-httpbin-ext-timeout/resources.yaml");
const RETRIES: &str = include_str!("../../data/seeds/021-httpbin-external/resources.yaml");
const RETRIES_5XX: &str =
    include_str!("../../data/seeds/021-httpbin-external-retry-on-5xx/resources.yaml");

fn world() -> (World, Httpbin) {
    let world = World::new(&[("httpbin.org", WORLD_V4[0])]);
    let httpbin = Httpbin::start(&world.node.world, WORLD_V4[0], 80);
    (world, httpbin)
}

#[test]
fn www_is_another_host_than_the_service_and_passes_through() {
    let world = World::new(&[("www.baidu.com", "39.156.66.10"), ("baidu.com", "39.156.66.10")]);
    let page = "location = / { return 200 \"a page\\n\"; } location / { return 404; }";
    let _server = Nginx::start(&world.node.world, "39.156.66.10", 80, page);
    let daemon = world.daemon().resource(LOGGING).resource(BAIDU).start();
    assert_eq!(world.get("http://www.baidu.com", &[]).told(), (200, "a page"));
    assert_eq!(
        masked(&last(&daemon, 1)),
        "TIME \"GET / HTTP/1.1\" 200 - via_upstream - \"-\" 0 7 MS MS \"-\" \"curl\" \"ID\" \
         \"www.baidu.com\" \"ADDRESS\" PassthroughCluster ADDRESS ADDRESS ADDRESS - allow_any"
    );
    assert_eq!(world.get("http://www.baidu.com/aaa", &[]).status, 404);
    let missing = masked(&last(&daemon, 2));
    let (head, tail) = missing.split_once(" 0 ").unwrap();
    assert_eq!(head, "TIME \"GET /aaa HTTP/1.1\" 404 - via_upstream - \"-\"");
    assert!(tail.ends_with(
        "\"www.baidu.com\" \"ADDRESS\" PassthroughCluster ADDRESS ADDRESS ADDRESS - allow_any"
    ));
    assert_eq!(world.get("http://baidu.com/", &[]).status, 200);
    assert_eq!(last(&daemon, 3).upstream_cluster, "outbound|80||baidu.com");
    daemon.stop();
}

#[test]
fn an_answer_may_take_five_seconds_or_three() {
    let (world, httpbin) = world();
    let daemon = world.daemon().resource(LOGGING).resource(HTTPBIN).start();
    let slow = world.get("http://httpbin.org/delay/5", &[]);
    assert_eq!(slow.status, 200);
    assert!((5.0..8.0).contains(&slow.seconds), "{slow:?}");
    let line = masked(&last(&daemon, 1));
    let (head, tail) = line.split_once(" 0 ").unwrap();
    assert_eq!(head, "TIME \"GET /delay/5 HTTP/1.1\" 200 - via_upstream - \"-\"");
    assert!(tail.ends_with(
        " MS MS \"-\" \"curl\" \"ID\" \"httpbin.org\" \"ADDRESS\" outbound|80||httpbin.org \
         ADDRESS ADDRESS ADDRESS - default"
    ));
    daemon.put(1, TIMEOUT);
    wait_generation(&daemon, 2);
    let cut = world.get("http://httpbin.org/delay/5", &[]);
    assert_eq!(cut.told(), (504, "upstream request timeout"));
    assert!((3.0..4.5).contains(&cut.seconds), "{cut:?}");
    assert_eq!(
        masked(&last(&daemon, 2)),
        "TIME \"GET /delay/5 HTTP/1.1\" 504 UT response_timeout - \"-\" 0 24 MS - \"-\" \"curl\" \
         \"ID\" \"httpbin.org\" \"ADDRESS\" outbound|80||httpbin.org ADDRESS ADDRESS ADDRESS - -"
    );
    // Without the service the request goes where its connection was going.
    daemon.put(1, BAIDU);
    wait_generation(&daemon, 3);
    let url = "http://httpbin.org/status/200";
    let direct = world.get(url, &["--resolve", &format!("httpbin.org:80:{}", WORLD_V4[0])]);
    assert_eq!(direct.status, 200);
    let record = last(&daemon, 3);
    assert_eq!(record.upstream_cluster, "PassthroughCluster");
    assert_eq!(record.route_name, "allow_any");
    assert!(httpbin.log().contains("GET /delay/5"), "{}", httpbin.log());
    daemon.stop();
}

#[test]
fn statuses_are_not_tried_again_unless_asked_for() {
    let (world, httpbin) = world();
    let daemon = world.daemon().resource(RETRIES).start();
    assert_eq!(world.get("http://httpbin.org/status/503", &[]).status, 503);
    assert_eq!(last(&daemon, 1).flags, "-");
    let late = world.get("http://httpbin.org/delay/5", &[]);
    assert_eq!(late.told(), (504, "upstream request timeout"));
    assert!((3.0..4.5).contains(&late.seconds), "{late:?}");
    let record = last(&daemon, 2);
    assert_eq!((record.flags.as_str(), record.code.as_str()), ("UT", "504"));
    assert_eq!(httpbin.answered("GET /status/503"), 1);
    daemon.put(0, RETRIES_5XX);
    wait_generation(&daemon, 2);
    assert_eq!(world.get("http://httpbin.org/status/503", &[]).status, 503);
    assert_eq!(last(&daemon, 3).flags, "URX");
    assert_eq!(httpbin.answered("GET /status/503"), 1 + 4);
    daemon.stop();
}

#[test]
fn headers_are_changed_and_the_mesh_keeps_its_own() {
    let (world, _httpbin) = world();
    let rule = fs::read_to_string(concat!(env!("CARGO_MANIFEST_DIR"), "/data/http/headers.yaml"));
    let daemon = world.daemon().resource(HTTPBIN).resource(rule.unwrap()).start();
    let answer = world.get(
        "http://httpbin.org/headers?show_env=1",
        &[
            "--include",
            "--header",
            "x-set: mine",
            "--header",
            "x-add: mine",
            "--header",
            "x-remove: mine",
            "--header",
            "x-envoy-peer-metadata: secret",
            "--header",
            "x-envoy-decorator-operation: secret",
        ],
    );
    let has = |line: &str| assert!(answer.body.contains(line), "{line}: {}", answer.body);
    has("\"X-Set\": \"theirs\"");
    has("\"X-Add\": \"mine,theirs\"");
    has("\"X-From\": \"httpbin.org\"");
    has("\"X-Envoy-Attempt-Count\": \"1\"");
    has("\"X-Forwarded-Proto\": \"http\"");
    has("\"X-Request-Id\": \"");
    has("x-answer: outbound|80||httpbin.org");
    has("x-envoy-upstream-service-time: ");
    for gone in ["X-Remove", "Decorator", "Peer-Metadata", "server: gunicorn"] {
        let gone = gone.to_ascii_lowercase();
        assert!(!answer.body.to_ascii_lowercase().contains(&gone), "{gone}: {}", answer.body);
    }
    daemon.stop();
}
