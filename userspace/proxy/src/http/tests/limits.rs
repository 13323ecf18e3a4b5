//! Limits of clusters: connections, requests, waiting, and clusters without endpoints.

use std::{sync::Arc, time::Duration};

use egressd_tables::{ClusterRef, Destinations, Forward};
use tokio::sync::Semaphore;

use super::support::*;
use crate::testing::until;

/// A server that answers when the gate lets it.
async fn gated() -> (Upstream, Arc<Semaphore>) {
    let gate = Arc::new(Semaphore::new(0));
    let held = Arc::clone(&gate);
    let upstream = Upstream::http1(move |_, _| {
        let gate = Arc::clone(&held);
        async move {
            gate.acquire().await.unwrap().forget();
            text("ok")
        }
    })
    .await;
    (upstream, gate)
}

#[tokio::test]
async fn requests_wait_for_a_connection() {
    let (upstream, gate) = gated().await;
    let mut limited = cluster("a");
    limited.pool.max_connections = 2;
    let bed = Arc::new(bed().host("a", forwarding(to(limited)), &[upstream.addr]).start().await);
    let asking: Vec<_> = (0..6)
        .map(|_| {
            let bed = Arc::clone(&bed);
            tokio::spawn(async move { bed.get("a", "/").await.status })
        })
        .collect();
    until("two are there", || upstream.requests() == 2).await;
    tokio::time::sleep(Duration::from_millis(100)).await;
    assert_eq!((upstream.requests(), upstream.connections()), (2, 2));
    gate.add_permits(6);
    for one in asking {
        assert_eq!(one.await.unwrap(), 200);
    }
    assert_eq!((upstream.requests(), upstream.connections()), (6, 2));
}

#[tokio::test]
async fn waiting_is_limited() {
    let (upstream, gate) = gated().await;
    let mut limited = cluster("a");
    limited.pool.max_connections = 1;
    limited.pool.max_pending_requests = 1;
    let bed = Arc::new(bed().host("a", forwarding(to(limited)), &[upstream.addr]).start().await);
    let ask = || {
        let bed = Arc::clone(&bed);
        tokio::spawn(async move { bed.get("a", "/").await })
    };
    let first = ask();
    until("one is there", || upstream.requests() == 1).await;
    let second = ask();
    tokio::time::sleep(Duration::from_millis(100)).await;
    let third = bed.get("a", "/").await;
    assert_eq!(third.status, 503);
    assert_eq!(third.header("x-envoy-overloaded"), "true");
    assert!(third.body.ends_with("reset reason: overflow"), "{}", third.body);
    gate.add_permits(2);
    assert_eq!((first.await.unwrap().status, second.await.unwrap().status), (200, 200));
    let overflow = "503 UO upstream_reset_before_response_started{overflow}";
    assert_eq!(said(&bed.all(3).await[0]), overflow);
}

#[tokio::test]
async fn requests_are_limited() {
    let (upstream, gate) = gated().await;
    let mut limited = cluster("a");
    limited.pool.max_requests = 1;
    let bed = Arc::new(bed().host("a", forwarding(to(limited)), &[upstream.addr]).start().await);
    let other = Arc::clone(&bed);
    let first = tokio::spawn(async move { other.get("a", "/").await.status });
    until("one is there", || upstream.requests() == 1).await;
    assert_eq!(bed.get("a", "/").await.status, 503);
    gate.add_permits(2);
    assert_eq!(first.await.unwrap(), 200);
    assert_eq!(bed.get("a", "/").await.status, 200);
}

#[tokio::test]
async fn a_waiting_request_takes_the_place_of_a_closed_connection() {
    let (upstream, gate) = gated().await;
    let mut limited = cluster("a");
    limited.pool.max_connections = 1;
    limited.pool.max_requests_per_connection = Some(1);
    let bed = Arc::new(bed().host("a", forwarding(to(limited)), &[upstream.addr]).start().await);
    let asking: Vec<_> = (0..3)
        .map(|_| {
            let bed = Arc::clone(&bed);
            tokio::spawn(async move { bed.get("a", "/").await.status })
        })
        .collect();
    gate.add_permits(3);
    for one in asking {
        assert_eq!(one.await.unwrap(), 200);
    }
    assert_eq!(upstream.connections(), 3);
}

#[tokio::test]
async fn nowhere_to_go() {
    let missing = |name: &str| {
        let mut destination = destination(cluster(name));
        destination.cluster = ClusterRef::Missing(name.into());
        forwarding(Forward { destinations: Destinations::Single(destination), ..to(cluster(name)) })
    };
    let bed = bed().host("empty", plain("empty"), &[]).host("none", missing("none"), &[]);
    let bed = bed.start().await;
    let answer = bed.get("empty", "/").await;
    assert_eq!((answer.status, &*answer.body), (503, "no healthy upstream"));
    let answer = bed.get("none", "/").await;
    assert_eq!((answer.status, &*answer.body), (503, ""));
    let records = bed.all(2).await;
    assert_eq!(said(&records[0]), "503 UH no_healthy_upstream");
    assert_eq!(said(&records[1]), "503 NC cluster_not_found");
    assert_eq!(records[1].cluster.as_deref(), Some("none"));
}
