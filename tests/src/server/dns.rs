//! DNS servers that people run, with records that a test changes while they run: bind9, unbound and
//! dnsmasq.

mod bind;
mod dnsmasq;
mod unbound;

pub use bind::Bind;
pub use dnsmasq::Dnsmasq;
pub use unbound::Unbound;

/// The lines of a server's log of queries that name `name` as a word and contain `what`, such as a
/// type.
fn count(log: &str, name: &str, what: &str) -> usize {
    let is_name =
        |line: &str| line.split_whitespace().any(|word| word.trim_end_matches('.') == name);
    log.lines().filter(|line| is_name(line) && line.contains(what)).count()
}
