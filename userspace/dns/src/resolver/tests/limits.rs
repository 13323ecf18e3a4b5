//! How many names, attempts and addresses there may be, and who gives way.

use super::*;

#[tokio::test(start_paused = true)]
async fn as_many_names_as_may_be() {
    let limits = ResolverSettings { max_names: 3, max_dynamic_names: 2, ..settings() };
    let (resolver, fake) = resolver(limits);
    for name in ["a", "b", "c", "d", "e"] {
        fake.says(name, 60, &["192.0.2.1"]);
    }
    let names = |resolver: &Resolver| {
        resolver.names().into_iter().map(|(name, ..)| name.to_string()).collect::<Vec<_>>()
    };
    for name in ["a", "b", "c"] {
        resolver.lookup(name, V4, Origin::Request).await.unwrap();
        pass(1).await;
    }
    assert_eq!(names(&resolver), ["b", "c"]);
    // Used is younger than brought.
    resolver.cached("b", V4).unwrap();
    pass(1).await;
    resolver.lookup("d", V4, Origin::Request).await.unwrap();
    assert_eq!(names(&resolver), ["b", "d"]);
    // What the configuration names is counted apart, and takes over what a request has brought.
    let _watched = ["a", "b", "c"].map(|name| resolver.watch(name, V4, Origin::Cluster).unwrap());
    assert_eq!(names(&resolver), ["a", "b", "c", "d"]);
    let error = resolver.lookup("e", V4, Origin::Cluster).await.unwrap_err();
    assert_eq!(error.to_string(), "resolving e: 3 names are in use already");
    resolver.lookup("e", V4, Origin::Request).await.unwrap();
    // Requests' names go when they are idle; those of clusters may still be needed.
    pass(400).await;
    assert_eq!(names(&resolver), ["a", "b", "c"]);
}

#[tokio::test(start_paused = true)]
async fn an_answer_is_taken_in_up_to_a_limit() {
    let (resolver, fake) = resolver(settings());
    let many: Vec<_> = (0..3000)
        .map(|n| format!("192.0.{}.{}", n / 250, n % 250))
        .chain((0..3000).map(|n| format!("2001:db8::{n:x}")))
        .collect();
    fake.says("a.example", 60, &many.iter().map(String::as_str).collect::<Vec<_>>());
    let both = IpFamilies::Dual;
    let known = resolver.lookup("a.example", both, Origin::Request).await.unwrap();
    assert_eq!(known.len(), 2 * 64);
    assert_eq!(known[64].to_string(), "2001:db8::", "the first ones of each family");
    let known = resolver.lookup("a.example", V4, Origin::Cluster).await.unwrap();
    assert_eq!(known.len(), 1024);
    // Also while the other family is waited for.
    *fake.delay_v6.lock().unwrap() = Duration::from_secs(1);
    fake.says("b.example", 60, &many.iter().map(String::as_str).collect::<Vec<_>>());
    let half = resolver.lookup("b.example", both, Origin::Request).await.unwrap();
    assert_eq!(half.len(), 64);
}

#[tokio::test]
async fn names_of_requests_are_resolved_so_many_at_a_time() {
    let (resolver, fake) = resolver(settings());
    fake.says("good.example", 60, &["192.0.2.1"]);
    fake.takes(60_000);
    let flood: Vec<_> = (0..400)
        .map(|number| {
            let resolver = resolver.clone();
            tokio::spawn(async move {
                let name = format!("slow{number}.example");
                resolver.lookup(&name, V4, Origin::Request).await
            })
        })
        .collect();
    // At once, those that do not fit: long before any of them has had its time.
    let over = || flood.iter().filter(|lookup| lookup.is_finished()).count();
    let start = Instant::now();
    while over() < 400 - 256 && start.elapsed() < Duration::from_secs(5) {
        sleep(Duration::from_millis(10)).await;
    }
    assert_eq!(over(), 400 - 256);
    let refused = resolver.0.metrics.resolutions_refused.get();
    assert_eq!(refused, 400 - 256);
    // Those that take long give way: whoever comes later is answered all the same.
    sleep(Duration::from_millis(200)).await;
    fake.takes(0);
    let good = resolver.lookup("good.example", V4, Origin::Request).await;
    assert_eq!(good.unwrap().len(), 1);
    assert_eq!(resolver.0.metrics.resolutions_refused.get(), refused + 1);
    // Names of the configuration are not held up at all, and nothing of this is news.
    fake.says("cluster.example", 60, &["192.0.2.2"]);
    assert_eq!(shown(&resolver, "cluster.example").await, "192.0.2.2");
    assert_eq!(resolver.0.metrics.failing_names.get(), 0);
    let error = flood.into_iter().find(tokio::task::JoinHandle::is_finished).unwrap().await;
    let error = error.unwrap().unwrap_err();
    assert!(error.is_overload(), "{error}");
    assert!(error.to_string().ends_with("256 names of requests are being resolved already"));
}

#[tokio::test]
async fn slow_names_of_one_are_no_matter_to_others() {
    let (resolver, fake) = resolver(settings());
    let [greedy, other] = [1000, 1001].map(|uid| Asker::Process { uid, cgroup: 1 });
    fake.says("known.example", 2, &["192.0.2.1"]);
    resolver.lookup_for(greedy, "known.example", V4).await.unwrap();
    fake.takes(60_000);
    let flood = |count: std::ops::Range<u32>| {
        for number in count {
            let resolver = resolver.clone();
            tokio::spawn(async move {
                let name = format!("slow{number}.example");
                resolver.lookup_for(greedy, &name, V4).await
            });
        }
    };
    flood(0..300);
    while resolver.0.metrics.resolutions_refused.get() < 300 - 256 {
        sleep(Duration::from_millis(5)).await;
    }
    // All places are taken, and none of them is old: another one's name takes one all the same, and
    // keeps it while more of the same come.
    fake.takes(600);
    fake.says("good.example", 60, &["192.0.2.1"]);
    let good = tokio::spawn({
        let resolver = resolver.clone();
        async move { resolver.lookup_for(other, "good.example", V4).await }
    });
    for round in 1..14 {
        sleep(Duration::from_millis(210)).await;
        flood(round * 300..(round + 1) * 300);
    }
    assert_eq!(good.await.unwrap().unwrap().len(), 1);
    // A name that has addresses is refreshed, whatever else is under way.
    let before = resolver.0.metrics.resolutions_refused.get();
    assert!(before > 300, "{before}");
    assert!(resolver.cached("known.example", V4).is_some());
    assert_eq!(resolver.0.metrics.stale_answers.get(), 0);
}

#[tokio::test(start_paused = true)]
async fn names_that_are_not_there_push_out_none_that_are() {
    let limits = ResolverSettings { max_dynamic_names: 64, ..settings() };
    let (resolver, fake) = resolver(limits);
    fake.says("good.example", 3600, &["192.0.2.1"]);
    resolver.lookup("good.example", V4, Origin::Request).await.unwrap();
    for number in 0..1000 {
        let name = format!("none{number}.example");
        fake.knows_nothing_of(&name);
        assert!(resolver.lookup(&name, V4, Origin::Request).await.is_err());
    }
    assert!(resolver.cached("good.example", V4).is_some());
    assert!(resolver.names().len() <= 64, "{}", resolver.names().len());
    let of_requests = resolver.0.of_requests.load(Ordering::Relaxed);
    assert_eq!(of_requests, resolver.names().len());
}

#[tokio::test(start_paused = true)]
async fn a_name_that_cannot_be_is_not_kept() {
    let (resolver, fake) = resolver(settings());
    let endless = "x".repeat(60_000);
    assert!(resolver.cached(&endless, V4).is_none());
    let error = resolver.lookup(&endless, V4, Origin::Request).await.unwrap_err().to_string();
    assert!(error.ends_with("xx…: there is no such name") && error.len() < 100, "{error}");
    assert_eq!((resolver.names().len(), fake.asked()), (0, 0));
}
