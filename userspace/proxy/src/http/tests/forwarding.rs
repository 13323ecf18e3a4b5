//! What a request looks like at the upstream, and its answer at the client.

use http::HeaderValue;

use super::support::*;
use crate::http::settings::HttpSettings;

/// What the upstream saw, with what differs from run to run cut out.
fn masked(body: &str) -> Vec<String> {
    body.lines()
        .map(|line| match line.split_once(": ") {
            Some(("x-request-id", id)) => format!("x-request-id: {} characters", id.len()),
            Some(_) | None => line.to_owned(),
        })
        .collect()
}

#[tokio::test]
async fn a_request_as_istios_sidecar_sends_it() {
    let upstream = Upstream::echo().await;
    let bed = bed().host("a.example", plain("a.example"), &[upstream.addr]).start().await;
    let answer = bed.get("a.example:80", "/x?y=z").await;
    assert_eq!(answer.status, 200);
    assert_eq!(
        masked(&answer.body),
        [
            "GET /x?y=z HTTP/1.1",
            "host: a.example:80",
            "x-envoy-attempt-count: 1",
            "x-forwarded-proto: http",
            "x-request-id: 36 characters",
            "[]",
        ]
    );
    assert!(answer.header("x-envoy-upstream-service-time").parse::<u32>().is_ok());
    let record = bed.record().await;
    let http = record.http.as_ref().unwrap();
    assert_eq!(said(&record), "200 - via_upstream");
    assert_eq!(http.path.as_ref().unwrap().as_str(), "/x?y=z");
    assert_eq!(http.authority, Some(HeaderValue::from_static("a.example:80")));
    assert!(http.upstream_service_time.is_some() && http.request_id.is_some());
    assert_eq!(record.cluster.as_deref(), Some("a.example"));
    assert_eq!(record.route_name.as_deref(), Some("default"));
    assert_eq!(record.upstream, Some(upstream.addr.into()));
    assert!(record.upstream_local.is_some());
    assert_eq!(record.bytes_sent, answer.body.len() as u64);
}

#[tokio::test]
async fn without_envoys_headers() {
    let upstream = Upstream::echo().await;
    let settings = HttpSettings { envoy_headers: false, ..HttpSettings::default() };
    let bed = bed().host("a", plain("a"), &[upstream.addr]).settings(settings).start().await;
    let answer = bed.get("a", "/").await;
    assert_eq!(masked(&answer.body), ["GET / HTTP/1.1", "host: a", "[]"]);
    assert_eq!(answer.header("x-envoy-upstream-service-time"), "");
}

#[tokio::test]
async fn what_belongs_to_a_connection_stays_there() {
    let upstream = Upstream::http1(|request, _| async {
        let mut response = seen(request).await;
        let headers = response.headers_mut();
        headers.insert("keep-alive", HeaderValue::from_static("timeout=5"));
        headers.insert("connection", HeaderValue::from_static("x-mine"));
        headers.insert("x-mine", HeaderValue::from_static("1"));
        headers.insert("x-envoy-peer-metadata", HeaderValue::from_static("1"));
        headers.insert("x-envoy-decorator-operation", HeaderValue::from_static("1"));
        headers.insert("x-yours", HeaderValue::from_static("1"));
        response
    })
    .await;
    let bed = bed().host("a", plain("a"), &[upstream.addr]).start().await;
    let mut request = request("GET", "a", "/");
    for (name, value) in [
        ("connection", "x-hop, te"),
        ("x-hop", "1"),
        ("te", "trailers"),
        ("proxy-connection", "keep-alive"),
        ("x-envoy-peer-metadata", "1"),
        ("x-envoy-decorator-operation", "1"),
        ("x-request-id", "mine"),
        ("x-forwarded-proto", "https"),
    ] {
        request.headers_mut().insert(name, HeaderValue::from_static(value));
    }
    let answer = bed.send(request).await;
    assert_eq!(
        answer.body.lines().collect::<Vec<_>>(),
        [
            "GET / HTTP/1.1",
            "host: a",
            "te: trailers",
            "x-envoy-attempt-count: 1",
            "x-forwarded-proto: https",
            "x-request-id: mine",
            "[]",
        ]
    );
    let names: Vec<_> = answer.headers.keys().map(|name| name.as_str().to_owned()).collect();
    assert_eq!(
        names.iter().filter(|name| name.starts_with('x')).collect::<Vec<_>>(),
        ["x-yours", "x-envoy-upstream-service-time"]
    );
    assert!(!answer.headers.contains_key("keep-alive"));
}

#[tokio::test]
async fn each_request_of_a_connection_is_routed_by_itself() {
    let (one, other) = (Upstream::echo().await, Upstream::statuses(&[418]).await);
    let bed = bed()
        .host("one", plain("one"), &[one.addr])
        .host("other", plain("other"), &[other.addr])
        .start()
        .await;
    let mut client = bed.client().await;
    for _ in 0..3 {
        assert_eq!(client.get("one", "/").await.status, 200);
        assert_eq!(client.get("other", "/").await.status, 418);
        assert_eq!(client.get("unknown", "/").await.status, 404);
    }
    assert_eq!((one.requests(), other.requests()), (3, 3));
    assert_eq!((one.connections(), other.connections()), (1, 1));
    let records = bed.all(9).await;
    assert_eq!(said(&records[2]), "404 NR route_not_found");
    assert_eq!(records[2].cluster, None);
}

#[tokio::test]
async fn absolute_form_and_old_versions() {
    let upstream = Upstream::echo().await;
    let bed = bed().host("a.example", plain("a.example"), &[upstream.addr]).start().await;
    let answer = bed
        .raw(b"GET http://a.example:8080/p?q HTTP/1.1\r\nHost: other\r\nConnection: close\r\n\r\n")
        .await;
    assert!(answer.contains("GET /p?q HTTP/1.1\nhost: a.example:8080\n"), "{answer}");
    let answer = bed.raw(b"GET http://a.example HTTP/1.0\r\nHost: a.example\r\n\r\n").await;
    assert!(answer.starts_with("HTTP/1.0 200"), "{answer}");
    assert!(answer.contains("GET / HTTP/1.1\nhost: a.example\n"), "{answer}");
}

#[tokio::test]
async fn head_and_no_content_have_no_body() {
    let upstream = Upstream::http1(|request, _| async move {
        if request.uri().path() == "/none" { status(204) } else { text("12345") }
    })
    .await;
    let bed = bed().host("a", plain("a"), &[upstream.addr]).start().await;
    let mut client = bed.client().await;
    let answer = client.send(request("HEAD", "a", "/")).await;
    assert_eq!((answer.status, &*answer.body, answer.header("content-length")), (200, "", "5"));
    assert_eq!(client.get("a", "/none").await.status, 204);
    assert_eq!(client.get("a", "/").await.body, "12345");
    assert_eq!(upstream.connections(), 1);
}
