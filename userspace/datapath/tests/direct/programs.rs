//! What the programs cost.

use crate::lab::{Lab, server, view};

/// Instructions that the verifier may go through for any program. It refuses a million; other kernels
/// count differently, by half as much again at most.
const MOST: u32 = 250_000;

#[test]
fn the_verifier_has_room_left() {
    let lab = Lab::new();
    let programs = lab.datapath().programs().unwrap();
    assert_eq!(programs.len(), 10);
    for program in programs {
        println!("{:>8} {}", program.verified_instructions, program.name);
        assert!((1..MOST).contains(&program.verified_instructions), "{program:?}");
    }
}

/// Nanoseconds that all programs together may take for one connection. They take some 3,000 on an idle
/// machine; this is for a busy one.
const CONNECTION: u64 = 15_000;

#[test]
fn a_connection_costs_microseconds() {
    let mut lab = Lab::new();
    server("127.0.1.1:81");
    server("127.0.1.2:81");
    lab.route("240.0.0.1:80", &[("one", 1)]);
    lab.set("one", &view(&[("127.0.1.1:81", 1), ("127.0.1.2:81", 1)]));
    let _stats = aya::sys::enable_stats(aya::sys::Stats::RunTime).unwrap();
    let times = || -> Vec<(String, u64, u64)> {
        let programs = lab.datapath().programs().unwrap().into_iter();
        let nanoseconds = |time: std::time::Duration| time.as_nanos() as u64;
        programs.map(|one| (one.name, nanoseconds(one.run_time), one.run_count)).collect()
    };
    let before = times();
    lab.python("for _ in range(3000): s = tcp(('240.0.0.1', 80)); s.recv(99); s.close()");
    let mut sum = 0;
    for (before, (name, time, count)) in before.iter().zip(times()) {
        let (time, count) = (time - before.1, count - before.2);
        sum += time;
        println!("{:>6} ns {:>6} runs {name}", time.checked_div(count).unwrap_or(0), count);
    }
    println!("{} ns for each of 3,000 connections", sum / 3000);
    assert!((1..CONNECTION).contains(&(sum / 3000)));
}
