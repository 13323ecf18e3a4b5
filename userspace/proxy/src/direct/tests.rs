//! What the kernel is told, and when.

use std::{
    net::IpAddr,
    sync::atomic::{AtomicUsize, Ordering},
};

use egressd_tables::IpFamilies;

use super::*;
use crate::{
    resolve::{Addresses, NameListener, ResolveError, Resolving},
    testing::{self, OneCluster, until},
};

/// Keeps what it is told.
#[derive(Default)]
struct Sink {
    views: Mutex<BTreeMap<String, DirectView>>,
    published: AtomicUsize,
}

impl DirectSink for Sink {
    fn publish(&self, cluster: &Arc<str>, view: &DirectView) {
        self.published.fetch_add(1, Ordering::Relaxed);
        self.views.lock().unwrap().insert(cluster.to_string(), view.clone());
    }

    fn forget(&self, cluster: &str) {
        self.views.lock().unwrap().remove(cluster);
    }
}

impl Sink {
    /// `kind` or the endpoints with their weights, levels apart.
    fn told(&self, cluster: &str) -> String {
        let views = self.views.lock().unwrap();
        match views.get(cluster).map(|view| &view.endpoints) {
            None => "nothing".to_owned(),
            Some(DirectEndpoints::Unknown) => "unknown".to_owned(),
            Some(DirectEndpoints::None) => "none".to_owned(),
            Some(DirectEndpoints::Original(port)) => format!("port {port}"),
            Some(DirectEndpoints::Chosen { levels, .. }) => {
                let host = |host: &DirectHost| format!("{}*{}", host.addr, host.weight);
                let level = |level: &DirectLevel| {
                    let hosts: Vec<_> = level.hosts.iter().map(host).collect();
                    format!("{}%: {}", level.load, hosts.join(" "))
                };
                levels.iter().map(level).collect::<Vec<_>>().join("; ")
            }
        }
    }
}

/// Answers what it is set to, once somebody has asked for it.
#[derive(Default)]
struct Names {
    answers: Mutex<HashMap<String, Addresses>>,
    asked: Mutex<BTreeSet<String>>,
    told: Mutex<Option<NameListener>>,
}

impl Names {
    fn set(&self, name: &str, addresses: &[&str]) {
        let addresses: Addresses =
            addresses.iter().map(|ip| ip.parse::<IpAddr>().unwrap()).collect();
        self.answers.lock().unwrap().insert(name.to_owned(), addresses);
        self.tell(name, NameEvent::Changed);
    }

    fn tell(&self, name: &str, event: NameEvent) {
        if let Some(told) = &*self.told.lock().unwrap() {
            told(name, event);
        }
    }
}

impl Resolver for Names {
    fn cached(&self, name: &str, _: IpFamilies) -> Option<Addresses> {
        let asked = self.asked.lock().unwrap().contains(name);
        self.answers.lock().unwrap().get(name).filter(|_| asked).cloned()
    }

    fn follow(&self, told: NameListener) {
        *self.told.lock().unwrap() = Some(told);
    }

    fn want(&self, name: &str, _: IpFamilies) {
        self.asked.lock().unwrap().insert(name.to_owned());
    }

    fn resolve<'a>(&'a self, name: &'a str, families: IpFamilies) -> Resolving<'a> {
        self.asked.lock().unwrap().insert(name.to_owned());
        let known = self.cached(name, families);
        Box::pin(async move {
            known.ok_or(ResolveError {
                name: name.into(),
                reason: "no such name".into(),
                overload: false,
            })
        })
    }
}

/// A cluster with these endpoints: addresses or names, with their weights.
fn cluster(endpoints: &[(&str, u32)]) -> tables::Cluster {
    let endpoint = |(address, weight): &(&str, u32)| tables::Endpoint {
        address: EndpointAddress::parse(address),
        port: 90,
        weight: *weight,
        labels: Arc::default(),
        mesh_tls: false,
        service_account: None,
        workload: None,
    };
    let is_name = |(address, _): &(&str, u32)| address.parse::<IpAddr>().is_err();
    tables::Cluster {
        name: A.into(),
        kind: tables::ClusterKind::Passthrough,
        discovery: match endpoints.iter().any(is_name) {
            true => Discovery::StrictDns(IpFamilies::V4),
            false => Discovery::Static,
        },
        endpoints: vec![tables::EndpointGroup {
            locality: tables::Locality::default(),
            priority: 0,
            weight: 1,
            endpoints: endpoints.iter().map(endpoint).collect(),
        }],
        load_balancer: tables::LoadBalancer {
            policy: tables::LbPolicy::RoundRobin,
            locality_weighted: false,
            warmup: None,
            panic_threshold: 0.0,
            hash: None,
        },
        connect_timeout: Duration::from_secs(10),
        pool: tables::ConnectionPool::default(),
        outlier: None,
        health_check: None,
        tls: tables::UpstreamTls::Plaintext,
        http: tables::UpstreamHttp::Http1,
        tunnel: None,
        proxy_protocol: None,
        verify_destination: None,
        rules: Vec::new(),
    }
}

const A: &str = "outbound|90||a.example";

struct World {
    clusters: Arc<Registry>,
    names: Arc<Names>,
    sink: Arc<Sink>,
    direct: Direct,
}

impl World {
    fn new(clusters: &[tables::Cluster]) -> Self {
        let snapshot = Snapshot::of(OneCluster::new(testing::cluster(&[])));
        let (names, sink) = (Arc::<Names>::default(), Arc::<Sink>::default());
        let direct = Direct::start(&snapshot, Arc::clone(&names) as _, Arc::clone(&sink) as _);
        let clusters_in_use = Arc::clone(snapshot.clusters());
        let world = Self { clusters: clusters_in_use, names, sink, direct: direct.unwrap() };
        world.reload(clusters, false);
        world
    }

    fn reload(&self, clusters: &[tables::Cluster], datagrams: bool) {
        let reached = |one: &tables::Cluster| Reached { cluster: Arc::new(one.clone()), datagrams };
        self.direct.shared.follow(clusters.iter().map(reached).collect());
    }

    fn told(&self) -> String {
        self.sink.told(A)
    }

    /// A proxied connection finds the endpoints.
    async fn connect(&self, cluster: &tables::Cluster) {
        let cluster = self.clusters.get(&Arc::new(cluster.clone()));
        cluster.hosts(&*self.names).await.unwrap();
    }
}

const TWO: [(&str, u32); 2] = [("192.0.2.1", 1), ("192.0.2.2", 3)];

#[tokio::test]
async fn listed_endpoints_are_told_at_once() {
    let world = World::new(&[cluster(&TWO)]);
    assert_eq!(world.told(), "100%: 192.0.2.1:90*1 192.0.2.2:90*3");
    world.reload(&[cluster(&TWO)], false);
    assert_eq!(world.sink.published.load(Ordering::Relaxed), 1, "the same is told once");
    world.reload(&[cluster(&[("192.0.2.7", 1)])], false);
    assert_eq!(world.told(), "100%: 192.0.2.7:90*1");
    world.reload(&[cluster(&[])], false);
    assert_eq!(world.told(), "none");
    world.reload(&[], false);
    assert_eq!(world.told(), "nothing");
}

#[tokio::test]
async fn names_are_unknown_until_a_connection_resolves_them() {
    let named = cluster(&[("b.example", 1)]);
    let world = World::new(std::slice::from_ref(&named));
    assert_eq!(world.told(), "unknown");
    world.names.set("b.example", &["192.0.2.1"]);
    world.connect(&named).await;
    until("the answer is told", || world.told() == "100%: 192.0.2.1:90*1").await;
    world.names.set("b.example", &["192.0.2.2"]);
    until("the next one is, too", || world.told() == "100%: 192.0.2.2:90*1").await;
    world.names.tell("b.example", NameEvent::Idle);
    assert_eq!(world.told(), "unknown");
    world.connect(&named).await;
    until("it is told again", || world.told() == "100%: 192.0.2.2:90*1").await;
}

#[tokio::test]
async fn datagrams_need_no_connection() {
    let world = World::new(&[]);
    world.names.set("b.example", &["192.0.2.1"]);
    world.reload(&[cluster(&[("b.example", 1)])], true);
    until("the answer is told", || world.told() == "100%: 192.0.2.1:90*1").await;
}

#[tokio::test]
async fn one_that_fails_is_out_and_comes_back_by_itself() {
    let rules = tables::OutlierDetection {
        consecutive_5xx: Some(3),
        consecutive_gateway_errors: None,
        consecutive_local_failures: None,
        split_local_errors: false,
        interval: Duration::from_millis(100),
        base_ejection_time: Duration::from_millis(300),
        max_ejection_time: Duration::from_secs(300),
        max_ejection_percent: 50,
        error_codes: Vec::new(),
    };
    let world = World::new(&[tables::Cluster { outlier: Some(rules), ..cluster(&TWO) }]);
    let first = "192.0.2.1:90".parse().unwrap();
    for end in [DirectEnd::NotConnected, DirectEnd::NotConnected, DirectEnd::Ended] {
        world.direct.observe(A, first, end);
    }
    assert_eq!(world.told(), "100%: 192.0.2.1:90*1 192.0.2.2:90*3");
    for _ in 0..3 {
        world.direct.observe(A, first, DirectEnd::NotConnected);
    }
    until("it is out", || world.told() == "100%: 192.0.2.2:90*3").await;
    until("it is back", || world.told() == "100%: 192.0.2.1:90*1 192.0.2.2:90*3").await;
    for _ in 0..3 {
        world.direct.observe(A, first, DirectEnd::Reset);
    }
    until("resets count, too", || world.told() == "100%: 192.0.2.2:90*3").await;
}

#[tokio::test]
async fn one_that_joins_warms_up() {
    let warm = |endpoints: &[(&str, u32)]| {
        let mut cluster = cluster(endpoints);
        cluster.load_balancer.warmup = Some(tables::Warmup {
            duration: Duration::from_secs(1),
            minimum_percent: 10.0,
            aggression: 1.0,
        });
        cluster
    };
    let world = World::new(&[warm(&[("192.0.2.1", 1)])]);
    world.reload(&[warm(&[("192.0.2.1", 1), ("192.0.2.2", 1)])], false);
    assert_eq!(world.told(), "100%: 192.0.2.1:90*1000 192.0.2.2:90*100");
    until("it has its share", || world.told() == "100%: 192.0.2.1:90*1 192.0.2.2:90*1").await;
}

#[tokio::test]
async fn another_port_of_the_destination() {
    let discovery = Discovery::OriginalDst { port: Some(91) };
    let world = World::new(&[tables::Cluster { discovery, ..cluster(&[]) }]);
    assert_eq!(world.told(), "port 91");
}
