//! The resources of a large node: ServiceEntries with two hosts each, of every common kind, and
//! VirtualServices for some of the HTTP ones. A file for each.

use std::{
    fs,
    path::{Path, PathBuf},
};

use anyhow::{Context as _, Result, bail};

/// Kinds of ServiceEntry, which take turns.
pub(crate) const KINDS: usize = 4;

/// Writes this many.
pub(crate) fn write(folder: &Path, entries: usize, rules: usize) -> Result<()> {
    if rules * KINDS > entries {
        bail!("{rules} VirtualServices are more than the HTTP hosts of {entries} ServiceEntries");
    }
    let entries = (0..entries).map(|n| (entry_path(folder, n), entry(n, Edit::Endpoints, 0)));
    let rules = (0..rules).map(|n| (rule_path(folder, n), rule(n, 0)));
    for (path, text) in entries.chain(rules) {
        fs::write(&path, text).with_context(|| format!("cannot write {}", path.display()))?;
    }
    Ok(())
}

pub(crate) fn entry_path(folder: &Path, n: usize) -> PathBuf {
    folder.join(format!("entry-{n:05}.yaml"))
}

pub(crate) fn rule_path(folder: &Path, n: usize) -> PathBuf {
    folder.join(format!("rule-{n:05}.yaml"))
}

/// The hosts of a ServiceEntry.
pub(crate) fn hosts(n: usize) -> [String; 2] {
    [format!("api-{n}.example.com"), format!("cdn-{n}.example.org")]
}

/// What an edition of a ServiceEntry has changed.
#[derive(Clone, Copy)]
pub(crate) enum Edit {
    /// Where it leads: nothing that connections are told by.
    Endpoints,
    /// The address that it is dialled at.
    Addresses,
    /// One more host, which gets a virtual address where there is no other.
    Hosts,
}

/// A ServiceEntry; each edition but the first, 0, differs from all others.
pub(crate) fn entry(n: usize, edit: Edit, edition: usize) -> String {
    let [first, second] = hosts(n);
    let of = |kind: Edit| if edit as u8 == kind as u8 { edition } else { 0 };
    let third = match of(Edit::Hosts) {
        0 => String::new(),
        edition => format!("  - new-{n}-{edition}.example.net\n"),
    };
    let octet = 10 + of(Edit::Addresses) % 100;
    let address = format!("  addresses:\n  - {octet}.{}.{}.{}\n", n >> 16, n >> 8 & 255, n & 255);
    let last = (n + of(Edit::Endpoints)) % 250 + 1;
    let edition = of(Edit::Endpoints);
    let dns =
        format!("  resolution: DNS\n  endpoints:\n  - address: edition-{edition}.example.net\n");
    let (ports, rest) = match n % KINDS {
        0 => (
            "  - number: 80\n    name: http\n    protocol: HTTP\n\
             \x20 - number: 443\n    name: https\n    protocol: HTTPS\n",
            dns,
        ),
        1 => ("  - number: 443\n    name: tls\n    protocol: TLS\n", dns),
        2 => (
            "  - number: 3306\n    name: mysql\n    protocol: TCP\n",
            // Two hosts can share a TCP port only if nobody has to look one up.
            format!("  resolution: NONE\n{address}"),
        ),
        _ => (
            "  - number: 8080\n    name: http-alt\n    protocol: HTTP\n",
            format!(
                "  resolution: STATIC\n{address}  endpoints:\n  - address: 192.0.2.{last}\n\
                 \x20 - address: 198.51.100.{last}\n"
            ),
        ),
    };
    format!(
        "apiVersion: networking.istio.io/v1\nkind: ServiceEntry\nmetadata:\n  name: entry-{n}\n\
         \x20 namespace: team-{}\nspec:\n  hosts:\n  - {first}\n  - {second}\n{third}  \
         location: MESH_EXTERNAL\n  ports:\n{ports}{rest}",
        n % 50
    )
}

/// A VirtualService for a host of an HTTP ServiceEntry.
pub(crate) fn rule(n: usize, edition: usize) -> String {
    let entry = n * KINDS;
    let [first, second] = hosts(entry);
    format!(
        "apiVersion: networking.istio.io/v1\nkind: VirtualService\nmetadata:\n  name: rule-{n}\n\
         \x20 namespace: team-{}\nspec:\n  hosts:\n  - {first}\n  http:\n  - name: old\n    match:\n\
         \x20   - uri:\n        regex: /v1/{n}/.*\n    - headers:\n        x-old:\n          exact: \"yes\"\n\
         \x20   timeout: {}s\n    route:\n    - destination:\n        host: {second}\n\
         \x20 - name: rest\n    route:\n    - destination:\n        host: {first}\n      weight: 90\n\
         \x20   - destination:\n        host: {second}\n      weight: 10\n",
        entry % 50,
        edition % 100 + 1
    )
}
