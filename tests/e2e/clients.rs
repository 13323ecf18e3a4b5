//! Clients that make their sockets in unusual ways, and what they print.

use egressd_tests::{Node, Spawn};

const DIAL: &str = include_str!("clients/dial.py");
const IO_URING: &str = include_str!("clients/io_uring.py");
const STORM: &str = include_str!("clients/storm.py");
const HOLD: &str = include_str!("clients/hold.py");

/// Connects to an address and port, with options such as `--v6-only`.
pub(crate) fn dial<'a>(node: &'a Node, address: &str, port: u16, options: &[&str]) -> Spawn<'a> {
    let spawn = node.python(DIAL).arg(address).arg(port.to_string());
    options.iter().fold(spawn, |spawn, option| spawn.arg(option))
}

/// Connects through io_uring.
pub(crate) fn io_uring<'a>(node: &'a Node, address: &str, port: u16) -> Spawn<'a> {
    node.python(IO_URING).arg(address).arg(port.to_string())
}

/// `threads` threads that connect `each` times, to `(ADDRESS:PORT, NAME)` in turn.
pub(crate) fn storm<'a>(
    node: &'a Node,
    threads: usize,
    each: usize,
    targets: &[(String, String)],
) -> Spawn<'a> {
    let lines: Vec<_> = targets.iter().map(|(at, name)| format!("{at}={name}\n")).collect();
    let spawn = node.python(STORM).arg(threads.to_string()).arg(each.to_string());
    spawn.input(lines.concat())
}

/// Opens `count` connections to `ADDRESS,PORT` in turn and holds all of them.
pub(crate) fn hold<'a>(node: &'a Node, count: usize, targets: &[&str]) -> Spawn<'a> {
    let spawn = node.python(HOLD).arg(count.to_string());
    targets.iter().fold(spawn, |spawn, target| spawn.arg(target))
}

/// The value a client printed after a word, such as `peer`; `-` if it did not.
pub(crate) fn said<'a>(printed: &'a str, word: &str) -> &'a str {
    let mut pairs = printed.lines().filter_map(|line| line.split_once(' '));
    pairs.find(|(first, _)| *first == word).map_or("-", |(_, value)| value)
}
