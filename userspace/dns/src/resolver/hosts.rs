//! The hosts file, which comes before the DNS as it does for every program on the node.

use std::{
    collections::HashMap,
    fs,
    net::IpAddr,
    path::PathBuf,
    sync::{Mutex, PoisonError},
    time::{Duration, SystemTime},
};

use egressd_tables::IpFamilies;

use crate::resolver::backend::Records;

/// A hosts file, read again when it has changed.
pub(crate) struct Hosts {
    path: PathBuf,
    read: Mutex<Read>,
}

#[derive(Default)]
struct Read {
    /// When the file was last changed, and how long it was; `None` without a file.
    stamp: Option<(SystemTime, u64)>,
    names: HashMap<String, Vec<IpAddr>>,
}

impl Hosts {
    /// An empty path is no file.
    pub(crate) fn new(path: PathBuf) -> Self {
        Self { path, read: Mutex::default() }
    }

    /// The addresses that the file has for a name, which is in lower case.
    pub(crate) fn find(&self, name: &str, families: IpFamilies) -> Option<Records> {
        if self.path.as_os_str().is_empty() {
            return None;
        }
        let stamp = fs::metadata(&self.path)
            .and_then(|metadata| Ok((metadata.modified()?, metadata.len())))
            .ok();
        let mut read = self.read.lock().unwrap_or_else(PoisonError::into_inner);
        if read.stamp != stamp {
            // A file that cannot be read has no names.
            let text = fs::read(&self.path).unwrap_or_default();
            *read = Read { stamp, names: parse(&String::from_utf8_lossy(&text)) };
        }
        let is_wanted = |address: &&IpAddr| {
            if address.is_ipv4() { families.v4() } else { families.v6() }
        };
        let mut addresses: Vec<_> =
            read.names.get(name)?.iter().filter(is_wanted).copied().collect();
        addresses.sort_by_key(IpAddr::is_ipv6);
        (!addresses.is_empty()).then_some(Records { addresses, ttl: TTL })
    }
}

/// Each line is an address and its names; a `#` begins a comment.
fn parse(text: &str) -> HashMap<String, Vec<IpAddr>> {
    let mut names: HashMap<String, Vec<IpAddr>> = HashMap::new();
    for line in text.lines() {
        let line = line.split('#').next().unwrap_or_default();
        let mut words = line.split_ascii_whitespace();
        let Some(address) = words.next().and_then(|word| word.parse().ok()) else { continue };
        for name in words {
            let addresses = names.entry(name.to_ascii_lowercase()).or_default();
            if !addresses.contains(&address) {
                addresses.push(address);
            }
        }
    }
    names
}

/// How long a line of the file is good before the file is looked at again.
const TTL: Duration = Duration::from_secs(5);

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn read_again_when_it_changes() {
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("hosts");
        let hosts = Hosts::new(path.clone());
        let find = |name, families| hosts.find(name, families).map(|records| records.addresses);
        assert_eq!(find("a.example", IpFamilies::V4), None);
        fs::write(&path, "192.0.2.1 A.example a # b.example\n::1 a.example\nnonsense a.example\n")
            .unwrap();
        let (v4, v6) = ("192.0.2.1".parse().unwrap(), "::1".parse().unwrap());
        assert_eq!(find("a.example", IpFamilies::V4), Some(vec![v4]));
        assert_eq!(find("a.example", IpFamilies::Dual), Some(vec![v4, v6]));
        assert_eq!(find("a", IpFamilies::V6), None);
        assert_eq!(find("b.example", IpFamilies::V4), None);
        fs::write(&path, "").unwrap();
        assert_eq!(find("a.example", IpFamilies::V4), None);
        assert!(Hosts::new(PathBuf::new()).find("a.example", IpFamilies::V4).is_none());
    }
}
