//! Host names: DNS labels, full names, and names that may begin with a wildcard.

use std::net::IpAddr;

/// Why a text is no host name.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub(super) enum InvalidDomain {
    #[error("a host name must not be empty")]
    Empty,
    #[error("a host name has at most {LONGEST_NAME} characters, this one has {0}")]
    TooLong(usize),
    #[error("{name:?} is not a host name: the label {label:?} is not valid")]
    Label { name: String, label: String },
    #[error("{name:?} is not a host name: its last label {label:?} is all digits")]
    Numeric { name: String, label: String },
}

/// Most characters of a name.
const LONGEST_NAME: usize = 255;
/// Most characters of a label.
const LONGEST_LABEL: usize = 63;

/// Whether it is a label: 1 to 63 letters, digits and `-`, no `-` at either end. Istio allows both cases.
pub(crate) fn is_dns_label(text: &str) -> bool {
    let inner = |b: u8| b.is_ascii_alphanumeric() || b == b'-';
    (1..=LONGEST_LABEL).contains(&text.len())
        && text.bytes().all(inner)
        && !text.starts_with('-')
        && !text.ends_with('-')
}

/// A label that may be `*`, or begin with `*` or `*-`.
fn is_wildcard_label(text: &str) -> bool {
    let rest = text.strip_prefix('*').map(|rest| rest.strip_prefix('-').unwrap_or(rest));
    text.len() <= LONGEST_LABEL && (text == "*" || is_dns_label(rest.unwrap_or(text)))
}

/// A full name without a wildcard; a dot at the end is allowed.
pub(super) fn name(name: &str) -> Result<(), InvalidDomain> {
    length(name)?;
    labels(name, name)
}

/// A name whose first label may be or begin with a wildcard.
pub(super) fn wildcard_name(name: &str) -> Result<(), InvalidDomain> {
    length(name)?;
    let (first, rest) =
        name.split_once('.').map_or((name, None), |(first, rest)| (first, Some(rest)));
    if !is_wildcard_label(first) {
        return Err(InvalidDomain::Label { name: name.to_owned(), label: first.to_owned() });
    }
    rest.map_or(Ok(()), |rest| labels(name, rest))
}

/// Like [`wildcard_name`], and also the server names that a mesh generates: `outbound_.80_.SUBSET_.HOST`.
pub(super) fn generated_sni(name: &str) -> Result<(), InvalidDomain> {
    match name.strip_prefix("outbound_.") {
        Some(rest) if length(name).is_ok() => {
            let mut parts = rest.splitn(3, "_.");
            let port = parts.next().is_some_and(|port| port.parse::<u16>().is_ok());
            let host = parts.nth(1).is_some_and(|host| !host.is_empty());
            let invalid =
                || InvalidDomain::Label { name: name.to_owned(), label: "outbound_".to_owned() };
            if port && host { Ok(()) } else { Err(invalid()) }
        }
        Some(_) | None => wildcard_name(name),
    }
}

/// Whether it is an IP address.
pub(super) fn is_ip(text: &str) -> bool {
    text.parse::<IpAddr>().is_ok()
}

fn length(name: &str) -> Result<(), InvalidDomain> {
    match name.len() {
        0 => Err(InvalidDomain::Empty),
        length if length > LONGEST_NAME => Err(InvalidDomain::TooLong(length)),
        _ => Ok(()),
    }
}

fn labels(name: &str, labels: &str) -> Result<(), InvalidDomain> {
    let last = labels.rsplit('.').next().unwrap_or(labels);
    if !last.is_empty() && last.bytes().all(|b| b.is_ascii_digit()) {
        return Err(InvalidDomain::Numeric { name: name.to_owned(), label: last.to_owned() });
    }
    // One dot may end an absolute name.
    let relative = labels.strip_suffix('.').unwrap_or(labels);
    if labels.is_empty() {
        return Ok(());
    }
    match relative.split('.').find(|label| !is_dns_label(label)) {
        Some(label) => Err(InvalidDomain::Label { name: name.to_owned(), label: label.to_owned() }),
        None => Ok(()),
    }
}
