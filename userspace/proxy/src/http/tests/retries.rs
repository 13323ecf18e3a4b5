//! Retries: how often, on what, where, and with which body.

use std::time::Duration;

use egressd_tables::{Forward, RetryBudget, RetryPolicy};
use http_body_util::BodyExt;

use super::support::*;
use crate::{cluster::Observation, http::settings::HttpSettings, testing::refusing};

fn retrying(retry_on: &str, attempts: u32) -> Forward {
    let retry = RetryPolicy {
        attempts,
        retry_on: retry_on.into(),
        backoff: Duration::from_millis(1),
        ..RetryPolicy::default()
    };
    Forward { retry: Some(retry), ..to(cluster("a")) }
}

#[tokio::test]
async fn by_default_statuses_are_not_tried_again() {
    let upstream = Upstream::statuses(&[503]).await;
    let bed = bed().host("a", plain("a"), &[upstream.addr]).start().await;
    assert_eq!(bed.get("a", "/").await.status, 503);
    assert_eq!(upstream.requests(), 1);
    assert_eq!(bed.said().await, "503 - via_upstream");
}

#[tokio::test]
async fn until_it_goes_well() {
    let upstream = Upstream::statuses(&[503, 500, 200]).await;
    let route = forwarding(retrying("5xx", 3));
    let bed = bed().host("a", route, &[upstream.addr]).start().await;
    assert_eq!(bed.get("a", "/").await.status, 200);
    assert_eq!(upstream.requests(), 3);
    assert_eq!(bed.said().await, "200 - via_upstream");
    let seen = bed.picker.observed.lock().unwrap().clone();
    assert_eq!(seen, [503, 500, 200].map(Observation::Answered));
}

#[tokio::test]
async fn until_there_are_no_more_tries() {
    let upstream = Upstream::statuses(&[503]).await;
    let route = forwarding(retrying("gateway-error", 3));
    let bed = bed().host("a", route, &[upstream.addr]).start().await;
    let answer = bed.get("a", "/").await;
    assert_eq!((answer.status, &*answer.body), (503, "503"));
    assert_eq!(upstream.requests(), 4);
    assert_eq!(bed.said().await, "503 URX via_upstream");
    assert_eq!(upstream.connections(), 4);
}

#[tokio::test]
async fn refused_connects_go_to_the_other_endpoint() {
    let (dead, upstream) = (refusing().await, Upstream::echo().await);
    let bed = bed().host("a", plain("a"), &[dead, upstream.addr]).start().await;
    for _ in 0..4 {
        let answer = bed.get("a", "/").await;
        assert_eq!(answer.status, 200);
    }
    let tries = bed.all(4).await;
    assert!(tries.iter().all(|record| record.flags().to_string() == "-"));
}

#[tokio::test]
async fn refused_by_all() {
    let dead = refusing().await;
    let bed = bed().host("a", plain("a"), &[dead]).start().await;
    let answer = bed.get("a", "/").await;
    assert_eq!(answer.status, 503);
    assert_eq!(
        answer.body,
        "upstream connect error or disconnect/reset before headers. retried and the latest reset \
         reason: remote connection failure, transport failure reason: delayed connect error: \
         Connection refused"
    );
    let record = bed.record().await;
    assert_eq!(
        said(&record),
        "503 UF,URX upstream_reset_before_response_started{remote_connection_failure|\
         delayed_connect_error:_Connection_refused}"
    );
    let failure = record.outcome.transport_failure().unwrap();
    assert_eq!(failure.to_string(), "delayed_connect_error:_Connection_refused");
    assert_eq!(record.upstream, Some(dead.into()));
    assert_eq!(bed.picker.observed.lock().unwrap().len(), 3);
}

#[tokio::test]
async fn each_try_is_counted_in_a_header() {
    let upstream = Upstream::http1(|request, number| async move {
        if number < 3 { status(503) } else { seen(request).await }
    })
    .await;
    let route = forwarding(retrying("5xx", 5));
    let bed = bed().host("a", route, &[upstream.addr]).start().await;
    let answer = bed.get("a", "/").await;
    assert!(answer.body.contains("x-envoy-attempt-count: 3\n"), "{}", answer.body);
}

async fn reading(sizes: &'static [u16]) -> Upstream {
    Upstream::http1(move |request, number| async move {
        let body = request.into_body().collect().await.unwrap().to_bytes();
        let failing = sizes.get(number as usize - 1);
        failing.map_or_else(|| text(body), |failing| status(*failing))
    })
    .await
}

#[tokio::test]
async fn bodies_are_sent_again() {
    let upstream = reading(&[503, 503]).await;
    let route = forwarding(retrying("5xx", 3));
    let bed = bed().host("a", route, &[upstream.addr]).start().await;
    let sent = "x".repeat(60_000);
    let answer = bed.send(with_body("POST", "a", "/", sent.clone())).await;
    assert_eq!((answer.status, answer.body == sent), (200, true));
    assert_eq!(bed.record().await.bytes_received, 60_000);
    let chunked = "POST / HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: chunked\r\n\
                   Connection: close\r\n\r\n3\r\nabc\r\n3\r\ndef\r\n0\r\n\r\n";
    let upstream = reading(&[503]).await;
    let route = forwarding(retrying("5xx", 3));
    let bed = super::support::bed().host("a", route, &[upstream.addr]).start().await;
    let answer = bed.raw(chunked.as_bytes()).await;
    assert!(answer.contains("abcdef"), "{answer}");
    assert_eq!(upstream.requests(), 2);
}

#[tokio::test]
async fn long_bodies_are_sent_once() {
    let upstream = reading(&[503, 503]).await;
    let route = forwarding(retrying("5xx", 3));
    let settings = HttpSettings { retry_buffer: 1000, ..HttpSettings::default() };
    let bed = bed().host("a", route, &[upstream.addr]).settings(settings).start().await;
    assert_eq!(bed.send(with_body("POST", "a", "/", "x".repeat(1001))).await.status, 503);
    assert_eq!(upstream.requests(), 1);
    assert_eq!(bed.send(with_body("POST", "a", "/", "x".repeat(1000))).await.status, 200);
}

#[tokio::test]
async fn a_budget_limits_retries() {
    let upstream = Upstream::statuses(&[503]).await;
    let mut limited = cluster("a");
    limited.pool.retry_budget = Some(RetryBudget { percent: 0.0, min_concurrency: 0 });
    let forward = Forward { retry: retrying("5xx", 3).retry, ..to(limited) };
    let bed = bed().host("a", forwarding(forward), &[upstream.addr]).start().await;
    assert_eq!(bed.get("a", "/").await.status, 503);
    assert_eq!(upstream.requests(), 1);
    assert_eq!(bed.said().await, "503 UO via_upstream");
}

#[tokio::test]
async fn grpc_statuses_in_headers() {
    let upstream = Upstream::http1(|_, number| async move {
        let mut response = text("");
        let grpc = if number == 1 { "14" } else { "0" };
        response.headers_mut().insert("grpc-status", grpc.parse().unwrap());
        response
    })
    .await;
    let bed = bed().host("a", plain("a"), &[upstream.addr]).start().await;
    assert_eq!(bed.get("a", "/").await.header("grpc-status"), "0");
    assert_eq!(upstream.requests(), 2);
}

#[tokio::test]
async fn the_application_asks_for_retries() {
    let upstream = Upstream::statuses(&[503, 503, 200]).await;
    let forward = Forward { retry: None, ..to(cluster("a")) };
    let bed = bed().host("a", forwarding(forward), &[upstream.addr]).start().await;
    let mut request = request("GET", "a", "/");
    request.headers_mut().insert("x-envoy-retry-on", "5xx".parse().unwrap());
    request.headers_mut().insert("x-envoy-max-retries", "2".parse().unwrap());
    assert_eq!(bed.send(request).await.status, 200);
    assert_eq!(upstream.requests(), 3);
}
