//! The decision about one query, and the answer if it is ours to give (semantics.md §2, "Resolver
//! behaviour").

use std::{
    net::{Ipv4Addr, Ipv6Addr},
    sync::Arc,
};

use rand::{SeedableRng as _, rngs::SmallRng, seq::SliceRandom as _};

use crate::{
    names::{Found, Names, Snapshot},
    socket::SocketKind,
    wire::{self, Fault, Malformed, Owner, Query, Reply, code},
};

/// What becomes of a packet.
#[expect(clippy::large_enum_variant, reason = "a box would cost every query an allocation")]
pub(crate) enum Verdict<'a> {
    /// It is no query, and nobody is answered.
    Dropped,
    /// It is a query that cannot be read; the buffer says so.
    Malformed,
    /// The answer is in the buffer.
    Answered,
    /// It is asked upstream as it came.
    Forward(Query<'a>),
}

/// What the server makes of a packet by itself.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Response {
    /// Nothing: it is no query.
    Dropped,
    /// This reply.
    Reply(Vec<u8>),
    /// It asks upstream.
    Forwarded,
}

/// What the server makes of a packet that came by `kind`, for tools and fuzzing: no sockets, and the
/// very decision of the running server.
pub fn respond(packet: &[u8], names: Arc<dyn Names>, search: &str, kind: SocketKind) -> Response {
    let snapshot = Snapshot { names: Some(names), search: search.into() };
    let mut out = Vec::new();
    match Answerer::new(Services::Hidden).respond(packet, &snapshot, kind, &mut out) {
        Verdict::Dropped => Response::Dropped,
        Verdict::Malformed | Verdict::Answered => Response::Reply(out),
        Verdict::Forward(_) => Response::Forwarded,
    }
}

/// Answers queries from a name table. One for each thread.
pub(crate) struct Answerer {
    random: SmallRng,
    /// Places of the addresses, shuffled anew for each answer.
    order: Vec<usize>,
    services: Services,
}

/// What becomes of HTTPS and SVCB queries (RFC 9460) for hosts that are ours to answer.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Services {
    /// There are no such records: the addresses in them, or those of the host they point to, would
    /// lead past the host's own address.
    #[default]
    Hidden,
    /// They are asked upstream, as Istio does.
    Forwarded,
}

impl Answerer {
    pub(crate) fn new(services: Services) -> Self {
        Self { random: SmallRng::from_rng(&mut rand::rng()), order: Vec::new(), services }
    }

    /// Decides about a packet; writes what is to be replied into `out`.
    pub(crate) fn respond<'a>(
        &mut self,
        packet: &'a [u8],
        snapshot: &Snapshot,
        kind: SocketKind,
        out: &mut Vec<u8>,
    ) -> Verdict<'a> {
        let query = match Query::parse(packet) {
            Ok(query) => query,
            Err(Malformed::NotAQuery) => return Verdict::Dropped,
            Err(Malformed::NoQuestion) => {
                wire::fail_header(out, packet, Fault::ServFail);
                return Verdict::Malformed;
            }
            Err(Malformed::Unreadable) => {
                wire::fail_header(out, packet, Fault::FormErr);
                return Verdict::Malformed;
            }
        };
        let limit = match kind {
            SocketKind::Udp => query.udp_limit().min(MAX_DATAGRAM),
            SocketKind::Tcp => wire::STREAM,
        };
        if self.answer(&query, snapshot, limit, out) {
            Verdict::Answered
        } else {
            Verdict::Forward(query)
        }
    }

    /// Writes the answer, of at most `limit` bytes, if it is ours to give; says whether it is.
    fn answer(
        &mut self,
        query: &Query<'_>,
        snapshot: &Snapshot,
        limit: usize,
        out: &mut Vec<u8>,
    ) -> bool {
        let Some(names) = &snapshot.names else {
            wire::fail(out, query, Fault::ServFail);
            return true;
        };
        let is_service = matches!(query.record_type(), code::SVCB | code::HTTPS);
        let is_address = matches!(query.record_type(), code::A | code::AAAA);
        let is_ours = is_address || is_service && self.services == Services::Hidden;
        if !is_ours || query.class() != code::IN || !query.is_standard() {
            return false;
        }
        let Some(name) = query.name() else { return false };
        let name = if is_service { without_prefixes(name) } else { name };
        let Some(way) = find(&**names, name, &snapshot.search) else { return false };
        if query.edns().is_some_and(|edns| edns.version > 0) {
            wire::fail(out, query, Fault::BadVersion);
            return true;
        }
        let reply = Reply::begin(out, query, limit);
        // Addresses in it, or an alias, would lead past the host's own.
        if is_service {
            reply.finish();
            return true;
        }
        match way {
            Way::Direct(found) => self.write(reply, owner(query, name), query, &found),
            Way::Search(found) => {
                self.write_alias(reply, owner(query, name), query, &found, name, &snapshot.search)
            }
        }
        true
    }

    /// A name found by way of the search domain: an alias to it and its addresses in one answer, so
    /// that the client's resolver stops searching. A wildcard is shown as itself.
    fn write_alias(
        &mut self,
        mut reply: Reply<'_>,
        owner: Owner<'_>,
        query: &Query<'_>,
        found: &Found<'_>,
        name: &str,
        search: &str,
    ) {
        if !has_family(found, query.record_type()) {
            reply.finish();
            return;
        }
        let target =
            if found.is_wildcard() { found.host } else { without(name, search).unwrap_or(name) };
        let target = reply.alias(owner, target);
        self.write(reply, target, query, found);
    }

    fn write(&mut self, reply: Reply<'_>, owner: Owner<'_>, query: &Query<'_>, found: &Found<'_>) {
        match query.record_type() {
            code::A => self.write_addresses(reply, owner, found.v4.len(), |at| {
                found.v4.get(at).map(Ipv4Addr::octets)
            }),
            _ => self.write_addresses(reply, owner, found.v6.len(), |at| {
                found.v6.get(at).map(Ipv6Addr::octets)
            }),
        }
    }

    fn write_addresses<const N: usize>(
        &mut self,
        mut reply: Reply<'_>,
        mut owner: Owner<'_>,
        count: usize,
        octets: impl Fn(usize) -> Option<[u8; N]>,
    ) {
        self.order.clear();
        self.order.extend(0..count);
        self.order.shuffle(&mut self.random);
        for octets in self.order.iter().filter_map(|at| octets(*at)) {
            owner = reply.address(owner, &octets);
            if reply.is_truncated() {
                break;
            }
        }
        reply.finish();
    }
}

/// How a name leads to an entry.
enum Way<'a> {
    /// It is the host, or a wildcard covers it.
    Direct(Found<'a>),
    /// It is the host with the first search domain behind it.
    Search(Found<'a>),
}

/// A host by its own name comes first, then the search domain, then a wildcard over the whole name.
fn find<'a>(names: &'a dyn Names, name: &str, search: &str) -> Option<Way<'a>> {
    let direct = names.find(name);
    if let Some(found) = direct.filter(|found| !found.is_wildcard()) {
        return Some(Way::Direct(found));
    }
    let base = without(name, search).filter(|base| !is_within(base, search));
    if let Some(found) =
        base.and_then(|base| names.find(base)).filter(|found| !is_within(found.host, search))
    {
        return Some(Way::Search(found));
    }
    direct.map(Way::Direct)
}

/// The host in a name such as `_8443._https.host`, which SVCB queries have (RFC 9460 §2.3).
fn without_prefixes(mut name: &str) -> &str {
    while let Some((first, rest)) = name.split_once('.')
        && first.starts_with('_')
    {
        name = rest;
    }
    name
}

/// The name before the search domain, if it ends in it.
fn without<'a>(name: &'a str, search: &str) -> Option<&'a str> {
    if search.is_empty() {
        return None;
    }
    name.strip_suffix(search)?.strip_suffix('.').filter(|base| !base.is_empty())
}

/// Whether a host is itself under the search domain; such a one is not searched for.
fn is_within(host: &str, search: &str) -> bool {
    let start = host.len().checked_sub(search.len());
    let tail = start.and_then(|start| host.get(start..));
    tail.is_some_and(|tail| tail.eq_ignore_ascii_case(search))
        && start.is_some_and(|start| start == 0 || host.as_bytes().get(start - 1) == Some(&b'.'))
}

fn has_family(found: &Found<'_>, record_type: u16) -> bool {
    match record_type {
        code::A => !found.v4.is_empty(),
        _ => !found.v6.is_empty(),
    }
}

/// Owners are in lower case, whatever the question's case.
fn owner<'a>(query: &Query<'_>, name: &'a str) -> Owner<'a> {
    if query.is_lower_case() { Reply::question_name() } else { Owner::Text(name) }
}

/// The largest datagram of IPv4.
const MAX_DATAGRAM: usize = 65_507;
