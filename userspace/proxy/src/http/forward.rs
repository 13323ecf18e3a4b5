//! Forwarding: the way of a request to an upstream and of the answer back, with its tries and limits.

use std::{net::IpAddr, sync::Arc};

use egressd_tables::{ClusterRef, Destination, Forward, Route};
use http::{HeaderMap, HeaderValue, Response, StatusCode, Version, header, uri::PathAndQuery};
use http_body::Body;
use tokio::time::sleep;

use super::{
    attempt::{Answered, Attempts, spoken_to},
    binding,
    cors::{self, Crossing},
    deadline::{Deadline, Limit},
    exchange::{Exchange, change_answer, request_id},
    failure::Failure,
    hash,
    headers::{self, Context, Present, change, hop, name},
    inbound::Inbound,
    log::RequestLog,
    mirror,
    outgoing::Outgoing,
    reply::Reply,
    request_body::Sending,
    response_body::{FromUpstream, ResponseBody, grpc_status},
    retry::{Retries, Verdict},
    settings::HttpSettings,
    timeouts::Timeouts,
    upgrade,
    watch::Watched,
};
use crate::{
    random,
    record::{FlowRecord, ResponseFlag},
};

/// Forwards a request.
pub(crate) async fn forward(
    mut exchange: Exchange<'_>,
    inbound: Inbound,
    route: &Route,
    forward: &Forward,
) -> Response<ResponseBody> {
    let Some(destination) = forward.destinations.pick(random::next()) else {
        return exchange.reply(no_cluster());
    };
    exchange.log.flow_mut().cluster = Some(Arc::clone(destination.cluster.name()));
    let cluster = match &destination.cluster {
        ClusterRef::Known(cluster) => cluster,
        ClusterRef::Missing(_) => return exchange.reply(no_cluster()),
    };
    let downstream = Arc::clone(&exchange.downstream);
    let (worker, settings) = (&downstream.worker, &downstream.worker.settings);
    let version = inbound.parts.version;
    let keyed = hash::key(&forward.hash, &inbound, &downstream.origin);
    let Ok(path) = rewritten(&inbound, route, forward) else {
        let status = StatusCode::INTERNAL_SERVER_ERROR;
        return exchange.reply(Reply::new(status, "path_rewrite_failed"));
    };
    let mut ready = Ready::new(inbound, route, forward, destination, path, &mut exchange, settings);
    for one in mirror::chosen(&forward.mirrors) {
        mirror::send(worker, &downstream.origin, one, &ready.outgoing, version);
    }
    let complete = ready.outgoing.body.as_ref().and_then(Sending::completion);
    let mut deadline = match ready.timeouts.whole {
        Some((limit, time)) => Deadline::new(limit, time, complete),
        None => Deadline::NEVER,
    };
    if let Some(longest) = settings.idle_request {
        deadline = deadline.or_quiet_for(longest, exchange.log.received());
    }
    let avoid = forward.retry.as_ref().filter(|retry| retry.avoid_previous_hosts);
    let mut attempts = Attempts {
        worker,
        origin: &downstream.origin,
        binding: (version < Version::HTTP_2).then_some(&downstream.binding),
        outgoing: &ready.outgoing,
        cluster,
        pool: worker.pools.cluster(cluster),
        spoken: spoken_to(cluster, version, ready.outgoing.websocket),
        hash: keyed.hash,
        timeout: ready.timeouts.each,
        tried: Vec::new(),
        reselections: avoid.map_or(0, |retry| retry.host_selection_attempts),
        number: 0,
        current: None,
    };
    let trying = try_all(&mut attempts, &mut ready.retries, &mut exchange.log);
    let tried = deadline.bound(trying).await;
    let elapsed = exchange.log.elapsed();
    let Answered { response, lease, present } = match tried {
        Ok((Ok(answered), _)) => answered,
        Ok((Err(failure), tries)) => {
            if let Some(transport) = failure.transport() {
                exchange.log.not_connected(transport.clone());
            }
            return exchange.reply(failure.reply(tries > 1));
        }
        Err(limit) => {
            attempts.give_up();
            let whole = ready.outgoing.body.as_ref().is_none_or(Sending::is_complete);
            return exchange.reply(timed_out(limit, whole));
        }
    };
    let (mut parts, incoming) = response.into_parts();
    if is_ambiguous(&parts.headers, present) {
        return exchange.reply(Failure::Protocol.reply(false));
    }
    let switching = parts.status == StatusCode::SWITCHING_PROTOCOLS;
    if switching && !(ready.outgoing.websocket && parts.version == Version::HTTP_11) {
        // Nobody asked for it: what comes next on either connection would not be HTTP.
        return exchange.reply(Failure::Protocol.reply(false));
    }
    hop::strip_response(&mut parts.headers, present);
    if switching {
        parts.headers.insert(header::CONNECTION, HeaderValue::from_static("Upgrade"));
        parts.headers.insert(header::UPGRADE, HeaderValue::from_static("websocket"));
    }
    let log = &mut exchange.log;
    log.answered(parts.status.as_u16(), "via_upstream");
    log.fields().upstream_service_time = Some(elapsed);
    log.fields().grpc_status = grpc_status(&parts.headers, present);
    if settings.envoy_headers {
        let millis = u64::try_from(elapsed.as_millis()).unwrap_or(u64::MAX);
        parts.headers.insert(name::SERVICE_TIME, headers::number(millis));
    }
    for ops in [&route.response_headers, &destination.response_headers] {
        change_answer(ops, &mut parts.headers, log.flow(), &ready.outgoing.headers);
    }
    if let Some(cookie) = keyed.cookie {
        parts.headers.append(header::SET_COOKIE, cookie);
    }
    if let Crossing::Allowed(policy, origin) = exchange.crossing {
        cors::allow(policy, origin, &mut parts.headers);
    }
    parts.version = if version == Version::HTTP_2 { version } else { Version::HTTP_11 };
    if switching {
        upgrade::begin(&downstream, lease, exchange.log, cluster);
        return Response::from_parts(parts, ResponseBody::empty());
    }
    let from = FromUpstream { incoming, lease, limit: Watched::new(deadline) };
    Response::from_parts(parts, ResponseBody::upstream(from, exchange.log))
}

/// A request that is ready to be sent.
struct Ready<'r> {
    outgoing: Outgoing,
    timeouts: Timeouts,
    retries: Retries<'r>,
}

impl<'r> Ready<'r> {
    fn new(
        inbound: Inbound,
        route: &Route,
        forward: &'r Forward,
        destination: &Destination,
        path: Option<PathAndQuery>,
        exchange: &mut Exchange<'_>,
        settings: &HttpSettings,
    ) -> Self {
        let authority = forward.authority.as_ref().or(destination.authority.as_ref());
        let authority = authority.and_then(|authority| headers::value(authority));
        let Inbound { parts, body, authority: sent, path: old, websocket, present, .. } = inbound;
        let mut set = parts.headers;
        hop::strip_request(&mut set, present);
        let downstream = &exchange.downstream;
        if downstream.edge {
            set.remove(name::FORWARDED_PROTO);
            if is_stranger(downstream.origin.client.0.ip()) {
                hop::strip_strangers(&mut set);
            }
        }
        let timeouts = Timeouts::new(forward, &mut set, present, exchange.asked);
        let retries = Retries::new(forward.retry.as_ref(), &mut set, present);
        if settings.envoy_headers {
            exchange.log.fields().request_id = Some(request_id(&mut set, present));
            if !(present.has(&name::FORWARDED_PROTO) && set.contains_key(name::FORWARDED_PROTO)) {
                let scheme = HeaderValue::from_static(exchange.downstream.scheme);
                set.insert(name::FORWARDED_PROTO, scheme);
            }
            if let Some(expected) = timeouts.expected() {
                set.insert(name::EXPECTED_TIMEOUT, expected);
            }
            if let Some(old) = path.is_some().then(|| headers::value(old.as_str())).flatten() {
                set.insert(name::ORIGINAL_PATH, old);
            }
        }
        let flow: &FlowRecord = exchange.log.flow();
        let context = Context { flow, request: None, response: None };
        let ops = [&route.request_headers, &destination.request_headers];
        for ops in ops {
            change::apply(ops, &mut set, &context);
        }
        let may_bind = present.has(&header::AUTHORIZATION)
            || present.has(&header::PROXY_AUTHORIZATION)
            || ops.iter().any(|ops| !ops.is_empty());
        let binds = may_bind && binding::is_asked(&set);
        let received = Arc::clone(exchange.log.received());
        let holding = || exchange.downstream.worker.unread.holding();
        let room = if retries.is_possible() { settings.retry_buffer } else { 0 };
        let outgoing = Outgoing {
            method: parts.method,
            path: path.unwrap_or(old),
            authority: authority.unwrap_or(sent),
            headers: set,
            binds,
            body: (!body.is_end_stream()).then(|| Sending::new(body, room, received, holding())),
            websocket,
            count_tries: settings.envoy_headers,
        };
        Self { outgoing, timeouts, retries }
    }
}

/// Whether the length of an answer on HTTP/1 can be read in more than one way, or its coding is one that
/// only the next hop knows.
fn is_ambiguous(headers: &HeaderMap, present: Present) -> bool {
    if !present.has(&header::TRANSFER_ENCODING) && !present.has(&header::CONTENT_LENGTH) {
        return false;
    }
    let mut lengths = headers.get_all(header::CONTENT_LENGTH).iter();
    let length = lengths.next();
    let several = lengths.next().is_some()
        || length.is_some_and(|length| !length.as_bytes().iter().all(u8::is_ascii_digit));
    let coded = present.has(&header::TRANSFER_ENCODING);
    several || (coded && (length.is_some() || !hop::is_only_chunked(headers)))
}

/// The path that a route's rewrite makes of it, if it has one. What is no path afterwards, or one of
/// another form, is not sent, and neither is the path it should not have.
fn rewritten(
    inbound: &Inbound,
    route: &Route,
    forward: &Forward,
) -> Result<Option<PathAndQuery>, Unwritable> {
    let Some(rewrite) = &forward.rewrite else { return Ok(None) };
    let matched = route.matcher.path.as_ref();
    let new = inbound.with_head(|head| rewrite.apply(head, matched));
    let path = PathAndQuery::try_from(new).ok().filter(|path| path.as_str().starts_with('/'));
    path.map(Some).ok_or(Unwritable)
}

/// A rewrite has made something that is no path.
struct Unwritable;

/// Whether an address is not of a private network (RFC 1918, RFC 4193), nor of this machine.
fn is_stranger(ip: IpAddr) -> bool {
    match ip.to_canonical() {
        IpAddr::V4(v4) => !(v4.is_private() || v4.is_loopback()),
        IpAddr::V6(v6) => !(v6.is_unique_local() || v6.is_loopback()),
    }
}

/// Tries until there is an answer that is good enough, or no try is left; also says how many there were.
async fn try_all(
    attempts: &mut Attempts<'_>,
    retries: &mut Retries<'_>,
    log: &mut RequestLog,
) -> (Result<Answered, Failure>, u32) {
    loop {
        let mut tried = attempts.attempt(log).await;
        let verdict = match &tried {
            Ok(Answered { response, present, .. }) => {
                retries.after_answer(response.status(), response.headers(), *present)
            }
            Err(failure) => retries.after_failure(failure),
        };
        if verdict == Verdict::Exhausted {
            log.flag(ResponseFlag::RetryLimitExceeded);
        }
        let again = verdict == Verdict::Again && attempts.can_restart();
        let permit = again.then(|| attempts.pool.circuit.retry(&attempts.cluster.pool));
        let Some(permit) = permit else {
            if let (Ok(_), Some(body)) = (&tried, &attempts.outgoing.body) {
                body.forget();
            }
            return (tried, attempts.number);
        };
        let Some(_permit) = permit else {
            log.flag(ResponseFlag::UpstreamOverflow);
            return (tried, attempts.number);
        };
        if let Ok(Answered { response, lease, .. }) = &mut tried
            && response.body().is_end_stream()
        {
            lease.release();
        }
        drop(tried);
        sleep(retries.pause()).await;
    }
}

fn no_cluster() -> Reply {
    let reply = Reply::new(StatusCode::SERVICE_UNAVAILABLE, "cluster_not_found");
    reply.flag(ResponseFlag::NoCluster)
}

/// `whole`: the application has sent all of its request.
fn timed_out(limit: Limit, whole: bool) -> Reply {
    let status = StatusCode::GATEWAY_TIMEOUT;
    match limit {
        Limit::Route => Reply::new(status, "response_timeout")
            .text("upstream request timeout")
            .flag(ResponseFlag::UpstreamTimeout),
        Limit::Grpc => {
            let reply =
                Reply::new(status, "max_duration_timeout").text("downstream duration timeout");
            Reply { grpc: Some(DEADLINE_EXCEEDED), ..reply.flag(ResponseFlag::DurationTimeout) }
        }
        Limit::Quiet => {
            let status = if whole { status } else { StatusCode::REQUEST_TIMEOUT };
            let reply = Reply::new(status, "stream_idle_timeout").text("stream timeout");
            reply.flag(ResponseFlag::StreamIdleTimeout)
        }
    }
}

const DEADLINE_EXCEEDED: u16 = 4;
