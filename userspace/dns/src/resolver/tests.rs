//! The resolver over time, with a DNS of the tests' own and a clock that only moves when it is told.

mod limits;

use std::{
    collections::BTreeMap,
    sync::{
        Mutex,
        atomic::{AtomicUsize, Ordering},
    },
};

use tokio::time::{advance, sleep};

use super::*;
use crate::{
    plain_socket,
    resolver::backend::{Asking, Failure, Family, Records},
    upstream::Upstreams,
};

const V4: IpFamilies = IpFamilies::V4;

/// Says what it is told, after the time it is told, and counts.
#[derive(Default)]
struct Fake {
    answers: Mutex<BTreeMap<(String, bool), Result<Records, Failure>>>,
    delay: Mutex<Duration>,
    /// What IPv6 takes longer.
    delay_v6: Mutex<Duration>,
    asked: Arc<AtomicUsize>,
}

impl Fake {
    fn says(&self, name: &str, ttl: u64, addresses: &[&str]) {
        let ttl = Duration::from_secs(ttl);
        for is_v6 in [false, true] {
            let addresses = addresses.iter().map(|address| address.parse::<IpAddr>().unwrap());
            let addresses: Vec<_> =
                addresses.filter(|address| address.is_ipv6() == is_v6).collect();
            let answer = if addresses.is_empty() {
                Err(Failure::NoAddresses { ttl: Some(ttl) })
            } else {
                Ok(Records { addresses, ttl })
            };
            self.answers.lock().unwrap().insert((name.to_owned(), is_v6), answer);
        }
    }

    fn knows_nothing_of(&self, name: &str) {
        for is_v6 in [false, true] {
            let answer = Err(Failure::NoSuchName { ttl: Some(Duration::from_secs(10)) });
            self.answers.lock().unwrap().insert((name.to_owned(), is_v6), answer);
        }
    }

    fn is_down(&self) {
        self.answers.lock().unwrap().clear();
    }

    fn takes(&self, milliseconds: u64) {
        *self.delay.lock().unwrap() = Duration::from_millis(milliseconds);
    }

    fn asked(&self) -> usize {
        self.asked.load(Ordering::Relaxed)
    }
}

impl Backend for Fake {
    fn ask(&self, name: &str, family: Family) -> Asking {
        self.asked.fetch_add(1, Ordering::Relaxed);
        let key = (name.to_owned(), family == Family::V6);
        let down = Failure::Unavailable { reason: "down".to_owned() };
        let answer = self.answers.lock().unwrap().get(&key).cloned().unwrap_or(Err(down));
        let mut delay = *self.delay.lock().unwrap();
        if family == Family::V6 {
            delay += *self.delay_v6.lock().unwrap();
        }
        Box::pin(async move {
            sleep(delay).await;
            answer
        })
    }
}

fn settings() -> ResolverSettings {
    ResolverSettings { hosts: PathBuf::new(), ..ResolverSettings::default() }
}

fn resolver(settings: ResolverSettings) -> (Resolver, Arc<Fake>) {
    let resolver = Resolver::new(
        settings,
        &Upstreams::default(),
        Arc::new(plain_socket),
        None,
        Arc::new(Metrics::default()),
        Handle::current(),
    );
    let fake = Arc::new(Fake::default());
    resolver.set_backend(Arc::clone(&fake) as Arc<dyn Backend>);
    (resolver, fake)
}

async fn shown(resolver: &Resolver, name: &str) -> String {
    match resolver.lookup(name, V4, Origin::Cluster).await {
        Ok(addresses) => addresses.iter().map(ToString::to_string).collect::<Vec<_>>().join(" "),
        Err(error) => error.to_string(),
    }
}

/// Lets time pass in steps, so that tasks do their work on the way.
async fn pass(seconds: u64) {
    for _ in 0..seconds * 4 {
        advance(Duration::from_millis(250)).await;
        tokio::task::yield_now().await;
    }
}

#[tokio::test(start_paused = true)]
async fn one_question_for_all_who_ask() {
    let (resolver, fake) = resolver(settings());
    fake.says("a.example", 30, &["192.0.2.1", "192.0.2.2"]);
    fake.takes(100);
    assert_eq!(resolver.cached("a.example", V4), None);
    assert_eq!(fake.asked(), 0, "looking alone asks nobody");
    let lookups: Vec<_> = (0..100)
        .map(|_| {
            let resolver = resolver.clone();
            tokio::spawn(async move { shown(&resolver, "A.example.").await })
        })
        .collect();
    for lookup in lookups {
        assert_eq!(lookup.await.unwrap(), "192.0.2.1 192.0.2.2");
    }
    assert_eq!(fake.asked(), 1);
    assert_eq!(resolver.cached("a.example", V4).unwrap().len(), 2);
    assert_eq!(shown(&resolver, "192.0.2.77").await, "192.0.2.77");
    assert_eq!(shown(&resolver, "[2001:db8::1]").await, "2001:db8::1");
}

#[tokio::test(start_paused = true)]
async fn both_families_are_one_answer() {
    let (resolver, fake) = resolver(settings());
    fake.says("a.example", 30, &["2001:db8::1", "192.0.2.1"]);
    let dual = resolver.lookup("a.example", IpFamilies::Dual, Origin::Cluster).await.unwrap();
    assert_eq!(*dual, ["192.0.2.1".parse::<IpAddr>().unwrap(), "2001:db8::1".parse().unwrap()]);
    let v6 = resolver.lookup("a.example", IpFamilies::V6, Origin::Cluster).await.unwrap();
    assert_eq!(v6.len(), 1);
}

#[tokio::test(start_paused = true)]
async fn kept_warm_while_used_and_no_longer() {
    let (resolver, fake) = resolver(settings());
    fake.says("a.example", 10, &["192.0.2.1"]);
    assert_eq!(shown(&resolver, "a.example").await, "192.0.2.1");
    for second in 0..100 {
        pass(1).await;
        assert!(resolver.cached("a.example", V4).is_some(), "cold after {second} s");
    }
    let asked = fake.asked();
    assert!((10..=14).contains(&asked), "asked {asked} times in 100 s");
    // Five minutes later nobody uses it.
    pass(320).await;
    let asked = fake.asked();
    pass(600).await;
    assert_eq!(fake.asked(), asked);
    assert_eq!(resolver.cached("a.example", V4), None, "past its time");
    fake.says("a.example", 10, &["192.0.2.2"]);
    assert_eq!(shown(&resolver, "a.example").await, "192.0.2.2");
}

#[tokio::test(start_paused = true)]
async fn changes_are_told_once() {
    let (resolver, fake) = resolver(settings());
    fake.says("a.example", 10, &["192.0.2.1"]);
    let mut watch = resolver.watch("a.example", V4, Origin::Cluster).unwrap();
    watch.changed().await.unwrap();
    let known = |watch: &mut watch::Receiver<Known>| match &*watch.borrow_and_update() {
        Known::Addresses(addresses) => addresses.iter().map(ToString::to_string).collect(),
        other @ (Known::Pending | Known::Failed(_)) => format!("{other:?}"),
    };
    assert_eq!(known(&mut watch), "192.0.2.1");
    pass(30).await;
    assert!(!watch.has_changed().unwrap(), "the same again is no change");
    fake.says("a.example", 10, &["192.0.2.2"]);
    pass(12).await;
    assert_eq!(known(&mut watch), "192.0.2.2");
    // Watching is use.
    let asked = fake.asked();
    pass(1000).await;
    assert!(fake.asked() > asked + 90);
    fake.knows_nothing_of("a.example");
    pass(12).await;
    assert!(known(&mut watch).contains("NoSuchName"));
}

#[tokio::test(start_paused = true)]
async fn a_change_is_told_although_one_family_comes_later() {
    let (resolver, fake) = resolver(settings());
    let told = Arc::<Mutex<Vec<NameEvent>>>::default();
    let heard = Arc::clone(&told);
    resolver.follow(move |name, event| {
        assert_eq!(name, "a.example");
        heard.lock().unwrap().push(event);
    });
    *fake.delay_v6.lock().unwrap() = Duration::from_millis(100);
    let lookup = || resolver.lookup("a.example", IpFamilies::Dual, Origin::Cluster);
    let events = || std::mem::take(&mut *told.lock().unwrap());
    fake.says("a.example", 30, &["192.0.2.1", "2001:db8::1"]);
    lookup().await.unwrap();
    pass(1).await;
    assert_eq!(lookup().await.unwrap().len(), 2);
    // One family, and then the other one.
    assert_eq!(events(), [NameEvent::Changed; 2]);
    fake.says("a.example", 30, &["192.0.2.2", "2001:db8::1"]);
    pass(30).await;
    assert_eq!(lookup().await.unwrap()[0].to_string(), "192.0.2.2");
    assert_eq!(events(), [NameEvent::Changed]);
    pass(30).await;
    assert_eq!(events(), [], "the same again");
}

#[tokio::test(start_paused = true)]
async fn the_last_answer_serves_while_nobody_answers() {
    let max_stale = Duration::from_secs(600);
    let (resolver, fake) = resolver(ResolverSettings { max_stale, ..settings() });
    fake.says("a.example", 10, &["192.0.2.1"]);
    assert_eq!(shown(&resolver, "a.example").await, "192.0.2.1");
    fake.is_down();
    fake.takes(5000);
    for second in 0..60 {
        pass(1).await;
        let start = Instant::now();
        assert_eq!(shown(&resolver, "a.example").await, "192.0.2.1", "after {second} s");
        assert!(start.elapsed() <= Duration::from_millis(500), "after {second} s");
    }
    let asked = fake.asked();
    assert!(asked < 12, "asked {asked} times");
    let metrics = &resolver.0.metrics;
    assert!(metrics.stale_answers.get() > 40 && metrics.resolution_failures.get() > 2);
    // They are back.
    fake.takes(10);
    fake.says("a.example", 10, &["192.0.2.2"]);
    pass(61).await;
    assert_eq!(shown(&resolver, "a.example").await, "192.0.2.2");
    // And gone for longer than is tolerable.
    fake.is_down();
    for _ in 0..70 {
        pass(10).await;
        resolver.cached("a.example", V4);
    }
    assert_eq!(
        shown(&resolver, "a.example").await,
        "resolving a.example: no DNS server answers: down"
    );
}

#[tokio::test(start_paused = true)]
async fn other_servers_are_asked_at_once() {
    let (resolver, fake) = resolver(settings());
    fake.says("a.example", 10, &["192.0.2.1"]);
    assert_eq!(shown(&resolver, "a.example").await, "192.0.2.1");
    fake.is_down();
    for _ in 0..30 {
        pass(2).await;
        assert_eq!(shown(&resolver, "a.example").await, "192.0.2.1");
    }
    let other = Arc::new(Fake::default());
    other.says("a.example", 10, &["192.0.2.3"]);
    resolver.set_backend(Arc::clone(&other) as Arc<dyn Backend>);
    assert!(resolver.cached("a.example", V4).is_some(), "nothing is forgotten");
    pass(1).await;
    assert_eq!(shown(&resolver, "a.example").await, "192.0.2.3");
}

#[tokio::test(start_paused = true)]
async fn failures_are_held_for_a_second_and_absence_for_its_time() {
    let (resolver, fake) = resolver(settings());
    let error = "resolving a.example: no DNS server answers: down";
    assert_eq!(shown(&resolver, "a.example").await, error);
    assert_eq!(shown(&resolver, "a.example").await, error);
    assert_eq!(fake.asked(), 1);
    fake.says("a.example", 60, &["192.0.2.1"]);
    pass(1).await;
    assert_eq!(shown(&resolver, "a.example").await, "192.0.2.1");
    fake.knows_nothing_of("b.example");
    for _ in 0..9 {
        assert_eq!(
            shown(&resolver, "b.example").await,
            "resolving b.example: there is no such name"
        );
        pass(1).await;
    }
    assert_eq!(fake.asked(), 3, "a twice, b once");
    fake.says("b.example", 10, &["2001:db8::1"]);
    pass(2).await;
    assert_eq!(
        shown(&resolver, "b.example").await,
        "resolving b.example: it has no IPv4 addresses"
    );
}

#[tokio::test(start_paused = true)]
async fn nobody_waits_for_ever() {
    let (resolver, fake) = resolver(settings());
    fake.takes(3_600_000);
    let start = Instant::now();
    assert_eq!(shown(&resolver, "a.example").await, "resolving a.example: no answer within 11s");
    assert_eq!(start.elapsed().as_secs(), 11);
}

#[tokio::test(start_paused = true)]
async fn the_hosts_file_comes_first() {
    let file = tempfile::NamedTempFile::new().unwrap();
    std::fs::write(file.path(), "192.0.2.5 a.example\n").unwrap();
    let (resolver, fake) =
        resolver(ResolverSettings { hosts: file.path().to_owned(), ..settings() });
    fake.says("a.example", 60, &["192.0.2.1"]);
    assert_eq!(shown(&resolver, "a.example").await, "192.0.2.5");
    assert_eq!(fake.asked(), 0);
}

#[tokio::test(start_paused = true)]
async fn tasks_end_with_the_resolver() {
    let (resolver, fake) = resolver(settings());
    fake.says("a.example", 1, &["192.0.2.1"]);
    let watch = resolver.watch("a.example", V4, Origin::Cluster).unwrap();
    pass(5).await;
    drop(resolver);
    pass(5).await;
    let asked = fake.asked();
    pass(10).await;
    assert_eq!(fake.asked(), asked);
    assert!(watch.has_changed().is_err(), "the sender is gone");
}

#[tokio::test(start_paused = true)]
async fn one_family_does_not_wait_for_the_other() {
    let (resolver, fake) = resolver(settings());
    fake.says("a.example", 30, &["192.0.2.1", "2001:db8::1"]);
    fake.takes(10);
    *fake.delay_v6.lock().unwrap() = Duration::from_secs(8);
    let start = Instant::now();
    let lookup = || resolver.lookup("a.example", IpFamilies::Dual, Origin::Cluster);
    let half = lookup().await.unwrap();
    assert!(start.elapsed() < Duration::from_millis(100), "{:?}", start.elapsed());
    assert_eq!(*half, ["192.0.2.1".parse::<IpAddr>().unwrap()]);
    // It joins when it comes.
    pass(10).await;
    assert_eq!(lookup().await.unwrap().len(), 2);
    // And stays while the next answer is being fetched.
    fake.says("a.example", 30, &["192.0.2.2", "2001:db8::1"]);
    pass(26).await;
    let known = lookup().await.unwrap();
    assert_eq!(known.len(), 2, "{known:?}");
}

#[tokio::test(start_paused = true)]
async fn one_family_that_never_answers_costs_nothing() {
    let (resolver, fake) = resolver(settings());
    let answer =
        Ok(Records { addresses: vec!["192.0.2.1".parse().unwrap()], ttl: Duration::from_secs(5) });
    fake.answers.lock().unwrap().insert(("a.example".to_owned(), false), answer);
    *fake.delay_v6.lock().unwrap() = Duration::from_secs(10);
    for _ in 0..60 {
        let start = Instant::now();
        let known = resolver.lookup("a.example", IpFamilies::Dual, Origin::Cluster).await;
        assert_eq!(known.unwrap().len(), 1);
        assert!(start.elapsed() < Duration::from_millis(100), "{:?}", start.elapsed());
        pass(1).await;
    }
    assert_eq!(resolver.0.metrics.failing_names.get(), 0);
}

#[tokio::test(start_paused = true)]
async fn a_name_that_was_forgotten_is_asked_for_though_nobody_waits() {
    let (resolver, fake) = resolver(settings());
    assert!(shown(&resolver, "a.example").await.contains("no DNS server answers"));
    pass(400).await;
    assert_eq!(resolver.names(), []);
    fake.says("a.example", 60, &["192.0.2.1"]);
    assert_eq!(resolver.cached("a.example", V4), None);
    resolver.want("a.example", V4);
    pass(1).await;
    assert!(resolver.cached("a.example", V4).is_some());
    // Wanting is use, and no more than that.
    let asked = fake.asked();
    for _ in 0..40 {
        resolver.want("a.example", V4);
    }
    pass(1).await;
    assert_eq!(fake.asked(), asked);
}

#[tokio::test(start_paused = true)]
async fn a_ttl_of_nothing_is_no_storm() {
    let (resolver, fake) = resolver(settings());
    fake.says("a.example", 0, &["192.0.2.1"]);
    assert_eq!(shown(&resolver, "a.example").await, "192.0.2.1");
    // Nobody uses it: five minutes are not three hundred questions.
    pass(310).await;
    assert!(fake.asked() <= 12, "asked {} times", fake.asked());
    // In use it is asked for every second, and whoever comes late gets what is true.
    fake.says("a.example", 0, &["192.0.2.2"]);
    assert_eq!(shown(&resolver, "a.example").await, "192.0.2.2");
    let before = fake.asked();
    for _ in 0..30 {
        pass(1).await;
        assert_eq!(shown(&resolver, "a.example").await, "192.0.2.2");
    }
    let asked = fake.asked() - before;
    assert!((25..=45).contains(&asked), "asked {asked} times");
}
