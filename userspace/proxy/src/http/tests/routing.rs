//! What routes do to requests: rewrites, headers, weights, hashing, mirrors.

use egressd_tables::{
    Destination, Destinations, Forward, HashKey, HashPolicy, Mirror, PathRewrite, Pattern, Route,
    RouteMatch, TextMatch,
};

use super::support::*;
use crate::testing::until;

#[tokio::test]
async fn paths_and_authorities_are_rewritten() {
    let upstream = Upstream::echo().await;
    let forward = Forward {
        rewrite: Some(PathRewrite::Prefix("/legacy-api".into())),
        authority: Some("new.example".into()),
        ..to(cluster("a"))
    };
    let matcher =
        RouteMatch { path: Some(TextMatch::Prefix("/api/v1".into())), ..RouteMatch::default() };
    let route = Route { matcher, ..forwarding(forward) };
    let bed = bed().host("a", route, &[upstream.addr]).start().await;
    let answer = bed.get("a", "/api/v1/x?y=z").await;
    assert!(answer.body.starts_with("GET /legacy-api/x?y=z HTTP/1.1\nhost: new.example\n"));
    assert!(answer.body.contains("x-envoy-original-path: /api/v1/x?y=z\n"), "{}", answer.body);
    assert_eq!(bed.get("a", "/other").await.status, 404);
    let records = bed.all(2).await;
    let http = records[0].http.as_ref().unwrap();
    assert_eq!(http.path.as_ref().unwrap().as_str(), "/api/v1/x?y=z");
}

#[tokio::test]
async fn dot_segments_are_no_way_around_a_rule() {
    let upstream = Upstream::echo().await;
    let matcher =
        RouteMatch { path: Some(TextMatch::Prefix("/public/".into())), ..RouteMatch::default() };
    let route = Route { matcher, ..forwarding(to(cluster("a"))) };
    let bed = bed().host("a", route, &[upstream.addr]).start().await;
    assert_eq!(bed.get("a", "/public/../private").await.status, 404);
    let answer = bed.get("a", "/other/%2e%2E/public\\x?y=/../z").await;
    assert!(answer.body.starts_with("GET /public/x?y=/../z HTTP/1.1\n"), "{}", answer.body);
    let records = bed.all(2).await;
    let paths: Vec<_> =
        records.iter().map(|record| record.http.as_ref().unwrap().path.as_ref().unwrap()).collect();
    assert_eq!(paths, ["/private", "/public/x?y=/../z"]);
}

#[tokio::test]
async fn regular_expressions_rewrite() {
    let upstream = Upstream::echo().await;
    let rewrite =
        PathRewrite::regex(Pattern::anywhere("^/service/([^/]+)(/.*)$"), r"\2/instance/\1");
    let forward = Forward { rewrite: Some(rewrite), ..to(cluster("a")) };
    let bed = bed().host("a", forwarding(forward), &[upstream.addr]).start().await;
    let answer = bed.get("a", "/service/foo/v1/api").await;
    assert!(answer.body.starts_with("GET /v1/api/instance/foo HTTP/1.1\n"), "{}", answer.body);
}

#[tokio::test]
async fn headers_change_on_both_levels_and_ways() {
    let upstream = Upstream::http1(|request, _| async {
        let mut response = seen(request).await;
        response.headers_mut().insert("server", "secret".parse().unwrap());
        response
    })
    .await;
    let mut end = destination(cluster("a"));
    end.request_headers =
        set(&[("x-both", "destination"), ("x-cluster", "%UPSTREAM_CLUSTER%")], &[]);
    end.response_headers = set(&[("x-code", "%RESPONSE_CODE%")], &["server"]);
    let forward = Forward { destinations: Destinations::Single(end), ..to(cluster("a")) };
    let mut route = forwarding(forward);
    route.request_headers = set(
        &[("x-both", "route"), ("x-client", "v1.2"), ("x-path", "%REQ(:path)%"), ("x-gone", "now")],
        &["user-agent", "x-gone"],
    );
    route.response_headers =
        set(&[("x-asked", "%REQ(x-client)%"), ("x-server", "%RESP(server)%")], &[]);
    let bed = bed().host("a", route, &[upstream.addr]).start().await;
    let mut request = request("GET", "a", "/p");
    request.headers_mut().insert("user-agent", "curl".parse().unwrap());
    let answer = bed.send(request).await;
    let lines: Vec<_> = answer.body.lines().filter(|line| !line.contains("x-request-id")).collect();
    assert_eq!(
        lines,
        [
            "GET /p HTTP/1.1",
            "host: a",
            "x-both: destination",
            "x-client: v1.2",
            "x-cluster: a",
            "x-envoy-attempt-count: 1",
            "x-forwarded-proto: http",
            "x-gone: now",
            "x-path: /p",
            "[]",
        ]
    );
    assert_eq!(answer.header("x-asked"), "v1.2");
    assert_eq!(answer.header("x-server"), "secret");
    assert_eq!((answer.header("server"), answer.header("x-code")), ("", "200"));
}

#[tokio::test]
async fn weights_share_requests() {
    let (one, other) = (Upstream::echo().await, Upstream::echo().await);
    let weighted = |name: &str, weight| Destination { weight, ..destination(cluster(name)) };
    let destinations = Destinations::Weighted(vec![weighted("one", 1), weighted("other", 3)]);
    let forward = Forward { destinations, ..to(cluster("a")) };
    let bed = bed()
        .host("a", forwarding(forward), &[])
        .cluster("one", &[one.addr])
        .cluster("other", &[other.addr])
        .start()
        .await;
    let mut client = bed.client().await;
    for _ in 0..400 {
        assert_eq!(client.get("a", "/").await.status, 200);
    }
    assert_eq!(one.requests() + other.requests(), 400);
    assert!((60..140).contains(&one.requests()), "{}", one.requests());
}

#[tokio::test]
async fn keys_are_hashed_and_cookies_issued() {
    let upstream = Upstream::echo().await;
    let key = HashKey::Cookie {
        name: "stick".into(),
        path: Some("/".into()),
        ttl: Some(std::time::Duration::from_secs(9)),
        attributes: Vec::new(),
    };
    let keys = vec![HashPolicy { key: HashKey::Header("x-user".into()) }, HashPolicy { key }];
    let forward = Forward { hash: keys, ..to(cluster("a")) };
    let bed = bed().host("a", forwarding(forward), &[upstream.addr]).start().await;
    let answer = bed.get("a", "/").await;
    let cookie = answer.header("set-cookie").to_owned();
    assert!(cookie.starts_with("stick=") && cookie.ends_with("; Max-Age=9; Path=/; HttpOnly"));
    let mut with_cookie = request("GET", "a", "/");
    let pair = cookie.split(';').next().unwrap();
    with_cookie.headers_mut().insert("cookie", format!("x=y; {pair}").parse().unwrap());
    assert!(!bed.send(with_cookie).await.headers.contains_key("set-cookie"));
    for user in ["ann", "ann", "bob"] {
        let mut request = request("GET", "a", "/");
        request.headers_mut().insert("x-user", user.parse().unwrap());
        bed.send(request).await;
    }
    let hashes = bed.picker.hashes.lock().unwrap().clone();
    assert!(hashes.iter().all(Option::is_some));
    assert_eq!((hashes[0], hashes[2]), (hashes[1], hashes[3]));
    assert_ne!(hashes[3], hashes[4]);
}

#[tokio::test]
async fn mirrors_get_copies_and_nobody_waits() {
    let (upstream, shadow) = (
        Upstream::echo().await,
        Upstream::http1(|request, _| async {
            let answer = seen(request).await;
            tokio::time::sleep(std::time::Duration::from_millis(20)).await;
            answer
        })
        .await,
    );
    let mirror = |name: &str, per_million| Mirror {
        cluster: egressd_tables::ClusterRef::Known(std::sync::Arc::new(cluster(name))),
        per_million,
    };
    let mirrors = vec![mirror("shadow", 1_000_000), mirror("never", 0), mirror("dead", 1_000_000)];
    let forward = Forward { mirrors, ..to(cluster("a")) };
    let bed = bed()
        .host("a", forwarding(forward), &[upstream.addr])
        .cluster("shadow", &[shadow.addr])
        .cluster("never", &[shadow.addr])
        .start()
        .await;
    let mut client = bed.client().await;
    for number in 1..=5 {
        let body = "x".repeat(number * 1000);
        let answer = client.send(with_body("POST", "a", "/", body)).await;
        assert_eq!(answer.status, 200);
        client.get("a", "/").await;
    }
    until("the copies are there", || shadow.requests() == 10).await;
    assert_eq!(upstream.requests(), 10);
    assert_eq!(bed.all(10).await.len(), 10);
}

#[tokio::test]
async fn a_mirror_sees_the_body() {
    let upstream = Upstream::echo().await;
    let (tell, mut told) = tokio::sync::mpsc::unbounded_channel();
    let shadow = Upstream::http1(move |request, _| {
        let tell = tell.clone();
        async move {
            use http_body_util::BodyExt;
            let host = request.headers()["host"].to_str().unwrap().to_owned();
            let body = request.into_body().collect().await.unwrap().to_bytes();
            tell.send((host, body)).unwrap();
            text("dropped")
        }
    })
    .await;
    let cluster_of = egressd_tables::ClusterRef::Known(std::sync::Arc::new(cluster("shadow")));
    let mirrors = vec![Mirror { cluster: cluster_of, per_million: 1_000_000 }];
    let forward = Forward { mirrors, ..to(cluster("a")) };
    let bed = bed().host("a", forwarding(forward), &[upstream.addr]);
    let bed = bed.cluster("shadow", &[shadow.addr]).start().await;
    bed.send(with_body("POST", "a", "/", "hello")).await;
    let (host, body) = told.recv().await.unwrap();
    assert_eq!((&*host, &body[..]), ("a", &b"hello"[..]));
}
