//! The host that comes nearest to one that nothing covers.

use crate::explain::Passed;
use crate::service::Service;
use crate::tables::Tables;

/// How two hosts are near, the nearest first.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
enum Near {
    /// The host is covered, on other ports.
    OtherPort,
    /// The host is a name under the service's.
    Below,
    /// The service is a wildcard, and the host the name that it stands under.
    Apex,
    /// The service's host is a name under the host.
    Above,
    /// So many letters differ.
    Letters(usize),
}

impl Tables {
    /// The service that comes nearest to a host asked for on a port, and why it is not meant.
    /// Nothing if none is similar.
    pub fn nearest_host(&self, host: &str, port: u16) -> Option<Passed> {
        let host = host.to_ascii_lowercase();
        let near = self.services.iter().filter_map(|service| {
            Some((near(&service.host.to_ascii_lowercase(), &host)?, service))
        });
        let longer_first = |service: &Service| usize::MAX - service.host.len();
        let (near, service) =
            near.min_by_key(|(near, service)| (*near, longer_first(service), &service.host))?;
        Some(Passed::new(&*service.host, near.why(service, &host, port)))
    }
}

fn near(service: &str, host: &str) -> Option<Near> {
    if egressd_model::value::HostPattern::new(service).covers_name(host) {
        return Some(Near::OtherPort);
    }
    let under = |name: &str, parent: &str| {
        name.strip_suffix(parent).is_some_and(|rest| rest.len() > 1 && rest.ends_with('.'))
    };
    match service.strip_prefix("*.") {
        Some(apex) if apex == host => Some(Near::Apex),
        Some(_) => None,
        None if under(host, service) => Some(Near::Below),
        None if under(service, host) => Some(Near::Above),
        None => letters(service, host).map(Near::Letters),
    }
}

impl Near {
    fn why(self, service: &Service, host: &str, port: u16) -> String {
        match self {
            Self::OtherPort => {
                let ports: Vec<_> =
                    service.ports.iter().map(|port| port.number.to_string()).collect();
                match service.port(port) {
                    None => format!("it declares port {}, not {port}", ports.join(", ")),
                    Some(declared) => format!(
                        "it declares port {port} as {}, where this name is not looked at",
                        declared.protocol
                    ),
                }
            }
            Self::Below => format!(
                "{} does not stand for the names under it; *.{} would",
                service.host, service.host
            ),
            Self::Apex => {
                format!("{} stands for the names under {host}, not for itself", service.host)
            }
            Self::Above => format!("{host} is the name above it"),
            Self::Letters(1) => "one letter differs".to_owned(),
            Self::Letters(some) => format!("{some} letters differ"),
        }
    }
}

/// How many letters differ, if one or two: inserted, deleted or replaced.
fn letters(a: &str, b: &str) -> Option<usize> {
    const FAR: usize = 3;
    if a.len().abs_diff(b.len()) >= FAR || a.len().min(b.len()) <= FAR {
        return None;
    }
    let b: Vec<_> = b.bytes().collect();
    let mut row: Vec<usize> = (0..=b.len()).collect();
    for (i, x) in a.bytes().enumerate() {
        let mut left = i + 1;
        let mut diagonal = i;
        let mut next = vec![left];
        for (y, above) in b.iter().zip(row.iter().skip(1)) {
            let same = diagonal + usize::from(x != *y);
            left = same.min(left + 1).min(above + 1);
            diagonal = *above;
            next.push(left);
        }
        row = next;
    }
    row.last().copied().filter(|distance| (1..FAR).contains(distance))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn nearness() {
        for (service, host, expect) in [
            ("baidu.com", "www.baidu.com", Some(Near::Below)),
            ("www.baidu.com", "baidu.com", Some(Near::Above)),
            ("*.baidu.com", "baidu.com", Some(Near::Apex)),
            ("*.baidu.com", "www.baidu.com", Some(Near::OtherPort)),
            ("baidu.com", "xbaidu.com", Some(Near::Letters(1))),
            ("api.example.com", "apl.exampel.com", None),
            ("api.example.com", "apl.example.com", Some(Near::Letters(1))),
            ("api.example.com", "pi.example.co", Some(Near::Letters(2))),
            ("a.example", "b.test", None),
        ] {
            assert_eq!(near(service, host), expect, "{service} {host}");
        }
    }
}
