//! What is done about connections off their way.

use std::{
    io::Read as _,
    time::{Duration, Instant},
};

use egressd_datapath::{DirectEnd, DirectLimits, DirectView};

use crate::lab::{LIMIT, Lab, server, view};

/// Sweeps each 50 ms until a number of sweeps have found so much.
fn sweep_until(lab: &Lab, wanted: impl Fn(egressd_datapath::Swept) -> u64, most: u64) {
    let start = Instant::now();
    let mut sum = 0;
    while sum < most {
        assert!(start.elapsed() < LIMIT);
        sum += wanted(lab.clusters().sweep().unwrap());
        std::thread::sleep(Duration::from_millis(50));
    }
    assert_eq!(sum, most);
}

#[test]
fn time_limits_end_connections() {
    let mut lab = Lab::new();
    server("127.0.1.1:81");
    server("[::1]:81");
    let second = Some(Duration::from_secs(1));
    let views = [
        ("idle", DirectLimits { idle_timeout: second, ..DirectLimits::default() }),
        ("long", DirectLimits { max_duration: second, ..DirectLimits::default() }),
        ("none", DirectLimits::default()),
    ];
    for (index, (name, limits)) in views.into_iter().enumerate() {
        let endpoint = if name == "idle" { "[::1]:81" } else { "127.0.1.1:81" };
        let vip = if name == "idle" { "[2001:2::1]:80" } else { &format!("240.0.0.{index}:80") };
        lab.route(vip, &[(name, 1)]);
        lab.set(name, &DirectView { limits, ..view(&[(endpoint, 1)]) });
    }
    let mut child = lab.start(
        "busy = tcp(('2001:2::1', 80)); idle = tcp(('2001:2::1', 80)); long = tcp(('240.0.0.1', 80))
none = tcp(('240.0.0.2', 80))
for s in (busy, idle, long, none): s.recv(99)
print('ready', flush=True)
for _ in range(20): busy.sendall(b'x'); time.sleep(0.1)
def state(s):
    s.settimeout(0.1)
    try: return s.recv(1)
    except OSError as e: return e.errno or 'open'
print(state(busy), state(idle), state(long), state(none))",
    );
    let mut ready = [0; 6];
    child.stdout.as_mut().unwrap().read_exact(&mut ready).unwrap();
    let start = Instant::now();
    sweep_until(&lab, |swept| swept.idle + swept.expired, 2);
    assert!(start.elapsed() > Duration::from_millis(800), "{:?}", start.elapsed());
    let mut ends: Vec<_> = (0..2).map(|_| lab.record()).collect();
    ends.sort_by(|one, other| one.cluster.cmp(&other.cluster));
    let ends: Vec<_> = ends.iter().map(|record| (&*record.cluster, record.end)).collect();
    assert_eq!(ends, [("idle", DirectEnd::Idle), ("long", DirectEnd::Expired)]);
    let output = child.wait_with_output().unwrap();
    assert_eq!(String::from_utf8_lossy(&output.stdout), "open 103 103 open\n");
    lab.wait_active("idle", 0);
}

#[test]
fn a_view_is_put_in_force_within_a_millisecond() {
    let lab = Lab::new();
    let endpoints: Vec<(String, u64)> =
        (0..100).map(|last| (format!("127.0.2.{last}:81"), 1 + last % 3)).collect();
    let endpoints: Vec<(&str, u64)> =
        endpoints.iter().map(|(address, weight)| (address.as_str(), *weight)).collect();
    let mut times: Vec<Duration> = Vec::new();
    for round in 0..500 {
        let view = view(&endpoints[..50 + (round + round / 100) % 50]);
        let start = Instant::now();
        lab.set(&format!("c{}", round % 100), &view);
        times.push(start.elapsed());
    }
    times.sort();
    println!("median {:?}, 99 of 100 {:?}", times[250], times[495]);
    assert!(times[250] < Duration::from_millis(1), "{:?}", times[250]);
    // What was replaced is used again.
    for round in 0..20_000 {
        lab.set("one", &view(&endpoints[..round % 90 + 1]));
    }
    lab.clusters().sweep().unwrap();
    assert!(lab.clusters().set_cluster("huge", &huge()).is_err());
}

/// More endpoints than a level may have.
fn huge() -> DirectView {
    let all: Vec<String> = (0..1025).map(|n| format!("10.0.{}.{}:1", n / 250, n % 250)).collect();
    let all: Vec<(&str, u64)> = all.iter().map(|address| (address.as_str(), 1)).collect();
    view(&all)
}
