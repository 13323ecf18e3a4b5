//! Endpoints of clusters, by address and by name.

use std::net::SocketAddr;

use super::*;
use crate::testing::{Names, cluster, named_cluster};

fn addrs(hosts: &HostSet, cluster: &Cluster) -> Vec<String> {
    let mut choice = cluster.choose(hosts, IpAddr::from([127, 0, 0, 1]));
    let mut all: Vec<_> =
        std::iter::from_fn(|| choice.next()).map(|host| host.addr.to_string()).collect();
    all.sort();
    all
}

#[tokio::test]
async fn addresses_need_no_resolver() {
    let at = |text: &str| UpstreamAddr::Ip(text.parse::<SocketAddr>().unwrap());
    let cluster = Cluster::new(cluster(&[at("10.0.0.1:80"), at("10.0.0.2:81")]));
    let hosts = cluster.hosts(&Names::default()).await.unwrap();
    assert_eq!(addrs(&hosts, &cluster), ["10.0.0.1:80", "10.0.0.2:81"]);
}

#[tokio::test]
async fn endpoints_follow_the_answers() {
    let names = Names::default();
    let cluster = Cluster::new(named_cluster("a.example", 80));
    assert_eq!(&*cluster.hosts(&names).await.unwrap_err().name, "a.example");
    names.set("a.example", &["10.0.0.1", "10.0.0.2"]);
    let first = cluster.hosts(&names).await.unwrap();
    assert_eq!(addrs(&first, &cluster), ["10.0.0.1:80", "10.0.0.2:80"]);
    let again = cluster.hosts(&names).await.unwrap();
    assert!(Arc::ptr_eq(&first, &again));
    names.set("a.example", &["10.0.0.3"]);
    let other = cluster.hosts(&names).await.unwrap();
    assert_eq!(addrs(&other, &cluster), ["10.0.0.3:80"]);
}

#[tokio::test]
async fn one_name_of_several_is_enough() {
    let names = Names::default();
    names.set("b.example", &["10.0.0.9"]);
    let mut spec = named_cluster("a.example", 80);
    spec.endpoints.extend(named_cluster("b.example", 90).endpoints);
    let cluster = Cluster::new(spec);
    let hosts = cluster.hosts(&names).await.unwrap();
    assert_eq!(addrs(&hosts, &cluster), ["10.0.0.9:90"]);
}

#[tokio::test(start_paused = true)]
async fn a_name_that_nobody_answers_for_holds_nobody_up() {
    let names = Names::default();
    names.cache();
    names.hang("a.example");
    names.set("b.example", &["10.0.0.9"]);
    let mut spec = named_cluster("a.example", 80);
    spec.endpoints.extend(named_cluster("b.example", 90).endpoints);
    let cluster = Cluster::new(spec);
    // A moment for the first connection, nothing for those after it.
    assert!(cluster.known_hosts(&names).is_none());
    for grace in [GRACE, Duration::ZERO] {
        let start = tokio::time::Instant::now();
        let hosts = cluster.hosts(&names).await.unwrap();
        assert_eq!(addrs(&hosts, &cluster), ["10.0.0.9:90"]);
        assert_eq!(start.elapsed().as_millis(), grace.as_millis());
    }
    names.wanted();
    assert_eq!(addrs(&cluster.known_hosts(&names).unwrap(), &cluster), ["10.0.0.9:90"]);
    assert_eq!(names.wanted(), ["a.example"], "nobody waits, and it is asked for all the same");
    cluster.hosts(&names).await.unwrap();
    assert_eq!(names.wanted(), ["a.example"]);
    // It joins when it answers, and is waited for again when the other one is gone.
    names.set("a.example", &["10.0.0.1"]);
    let both = ["10.0.0.1:80", "10.0.0.9:90"];
    assert_eq!(addrs(&cluster.known_hosts(&names).unwrap(), &cluster), both);
    assert_eq!(addrs(&cluster.hosts(&names).await.unwrap(), &cluster), both);
    assert!(names.wanted().is_empty());
}

#[tokio::test(start_paused = true)]
async fn an_address_is_not_held_up_by_a_name() {
    let names = Names::default();
    names.hang("a.example");
    let at = |text: &str| UpstreamAddr::Ip(text.parse::<SocketAddr>().unwrap());
    let mut spec = named_cluster("a.example", 80);
    spec.endpoints.extend(cluster(&[at("10.0.0.1:80")]).endpoints);
    let cluster = Cluster::new(spec);
    let hosts = timeout(GRACE * 2, cluster.hosts(&names)).await.unwrap().unwrap();
    assert_eq!(addrs(&hosts, &cluster), ["10.0.0.1:80"]);
    assert!(cluster.known_hosts(&names).is_some());
}

#[tokio::test]
async fn a_logical_name_is_its_first_address() {
    let names = Names::default();
    names.set("a.example", &["10.0.0.2", "10.0.0.1"]);
    let lookup = spec::Lookup::First(egressd_tables::IpFamilies::V4);
    let cluster = Cluster::new(ClusterSpec { lookup, ..named_cluster("a.example", 80) });
    let hosts = cluster.hosts(&names).await.unwrap();
    assert_eq!(addrs(&hosts, &cluster), ["10.0.0.2:80"]);
}

#[test]
fn connections_are_counted_against_the_limit() {
    let cluster = Arc::new(Cluster::new(ClusterSpec { max_connections: 2, ..cluster(&[]) }));
    let one = cluster.lease();
    let two = cluster.lease();
    assert!(one.is_some() && two.is_some());
    assert!(cluster.lease().is_none());
    drop(one);
    assert!(cluster.lease().is_some());
}

#[test]
fn a_new_generation_goes_on_counting() {
    let old = Arc::new(Cluster::new(ClusterSpec { max_connections: 1, ..cluster(&[]) }));
    let lease = old.lease();
    let spec = ClusterSpec { max_connections: 2, ..cluster(&[]) };
    let new = Arc::new(Cluster::with_shared(spec, Arc::clone(&old.shared)));
    assert!(new.lease().is_some());
    let second = new.lease();
    assert!(second.is_some() && new.lease().is_none());
    drop(lease);
    assert!(new.lease().is_some());
}
