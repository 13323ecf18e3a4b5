//! Faults, redirects, direct answers, CORS: what is answered without an upstream.

use std::time::{Duration, Instant};

use egressd_tables::{
    Abort, AbortStatus, Cors, Delay, Fault, PathRedirect, Redirect, RouteAction, TextMatch,
    UnmatchedPreflight,
};
use http::HeaderValue;

use super::support::*;

const ALWAYS: u32 = 1_000_000;

#[tokio::test]
async fn an_abort_is_an_answer() {
    let mut route = plain("a");
    let status = AbortStatus::Http(418);
    let abort = Some(Abort { per_million: ALWAYS, status });
    route.fault = Some(Fault { delay: None, abort });
    let bed = bed().host("a", route, &[]).start().await;
    let answer = bed.get("a", "/").await;
    assert_eq!((answer.status, &*answer.body), (418, "fault filter abort"));
    assert_eq!(bed.said().await, "418 FI fault_filter_abort");
}

#[tokio::test]
async fn an_abort_of_grpc_is_a_status_of_grpc() {
    let mut route = plain("a");
    let status = AbortStatus::Grpc(14);
    let abort = Some(Abort { per_million: ALWAYS, status });
    route.fault = Some(Fault { delay: None, abort });
    let bed = bed().host("a", route, &[]).start().await;
    let answer = bed.get("a", "/").await;
    assert_eq!((answer.status, answer.header("grpc-status")), (200, "14"));
    assert_eq!(answer.header("grpc-message"), "fault filter abort");
    assert_eq!(bed.record().await.http.unwrap().grpc_status, Some(14));
}

#[tokio::test]
async fn a_delay_comes_first() {
    let upstream = Upstream::echo().await;
    let mut route = plain("a");
    let wait = Duration::from_millis(120);
    route.fault = Some(Fault { delay: Some(Delay { per_million: ALWAYS, wait }), abort: None });
    let bed = bed().host("a", route, &[upstream.addr]).start().await;
    let start = Instant::now();
    assert_eq!(bed.get("a", "/").await.status, 200);
    assert!(start.elapsed() >= wait);
    assert_eq!(bed.said().await, "200 DI via_upstream");
}

#[tokio::test]
async fn never_is_never() {
    let upstream = Upstream::echo().await;
    let mut route = plain("a");
    let status = AbortStatus::Http(500);
    let delay = Delay { per_million: 0, wait: Duration::from_secs(3600) };
    route.fault = Some(Fault { delay: Some(delay), abort: Some(Abort { per_million: 0, status }) });
    let bed = bed().host("a", route, &[upstream.addr]).start().await;
    assert_eq!(bed.get("a", "/").await.status, 200);
}

#[tokio::test]
async fn redirects_and_direct_answers() {
    let redirect = Redirect {
        status: 308,
        authority: "b.example".into(),
        path: PathRedirect::Whole("".into()),
        scheme: Some("https".into()),
        port: None,
    };
    let mut away = route(RouteAction::Redirect(redirect));
    away.response_headers = set(&[("x-a", "%REQ(x-b)%"), ("x-c", "%RESPONSE_CODE%")], &[]);
    let direct = RouteAction::Respond { status: 503, body: b"closed"[..].into() };
    let nothing = RouteAction::Respond { status: 502, body: b""[..].into() };
    let bed = bed()
        .host("away", away, &[])
        .host("direct", route(direct), &[])
        .host("block", egressd_tables::Route { name: "block_all".into(), ..route(nothing) }, &[])
        .host("none", route(RouteAction::Nothing), &[])
        .start()
        .await;
    let mut request = request("GET", "away", "/x?y");
    request.headers_mut().insert("x-b", HeaderValue::from_static("mine"));
    let mut client = bed.client().await;
    let answer = client.send(request).await;
    assert_eq!((answer.status, answer.header("location")), (308, "https://b.example/x?y"));
    assert_eq!((answer.header("x-a"), answer.header("x-c")), ("mine", "308"));
    let answer = client.get("direct", "/").await;
    assert_eq!((answer.status, &*answer.body), (503, "closed"));
    let answer = client.get("block", "/").await;
    assert_eq!((answer.status, &*answer.body), (502, ""));
    assert_eq!(client.get("none", "/").await.status, 404);
    assert_eq!(client.get("foreign.example", "/").await.status, 502);
    let records = bed.all(5).await;
    let said: Vec<_> = records.iter().map(said).collect();
    assert_eq!(
        said,
        [
            "308 - direct_response",
            "503 - direct_response",
            "502 - direct_response",
            "404 NR route_not_found",
            "502 UH foreign_host",
        ]
    );
    assert_eq!(records[2].route_name.as_deref(), Some("block_all"));
    assert_eq!(records[4].cluster.as_deref(), Some("BlackHoleCluster"));
}

#[tokio::test]
async fn cors() {
    let upstream = Upstream::echo().await;
    let mut route = plain("a");
    route.cors = Some(Cors {
        origins: vec![TextMatch::Exact("http://page.example".into())],
        methods: "GET".into(),
        headers: "x-a".into(),
        expose: "x-b".into(),
        max_age: Some(60),
        credentials: false,
        unmatched: UnmatchedPreflight::Forward,
    });
    let bed = bed().host("a", route, &[upstream.addr]).start().await;
    let ask = |method: &str, origin: &'static str| {
        let mut request = request(method, "a", "/");
        let headers = request.headers_mut();
        headers.insert("origin", HeaderValue::from_static(origin));
        headers.insert("access-control-request-method", HeaderValue::from_static("GET"));
        request
    };
    let answer = bed.send(ask("OPTIONS", "http://page.example")).await;
    assert_eq!(upstream.requests(), 0);
    assert_eq!(answer.header("access-control-allow-methods"), "GET");
    assert_eq!(answer.header("access-control-max-age"), "60");
    let answer = bed.send(ask("GET", "http://page.example")).await;
    assert_eq!(answer.header("access-control-allow-origin"), "http://page.example");
    assert_eq!(answer.header("access-control-expose-headers"), "x-b");
    let answer = bed.send(ask("OPTIONS", "http://other.example")).await;
    assert!(!answer.headers.contains_key("access-control-allow-origin"));
    assert_eq!(upstream.requests(), 2);
    assert_eq!(said(&bed.all(3).await[0]), "200 - cors_response");
}
