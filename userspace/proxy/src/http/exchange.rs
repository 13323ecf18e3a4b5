//! One request, from its head to an answer: decide first, then act.

use std::sync::Arc;

use egressd_tables::{
    Abort, AbortStatus, BLACK_HOLE, Fault, HeaderOps, HttpDecision, Route, RouteAction,
};
use http::{HeaderMap, Request, Response, StatusCode, header};
use hyper::body::Incoming;
use tokio::time::sleep;

use super::{
    cors::{self, Crossing},
    downstream::{Downstream, Standing},
    forward,
    headers::{self, Context, Present, change, name},
    inbound::{self, Inbound, asked},
    log::RequestLog,
    reply::{Asked, Reply},
    response_body::ResponseBody,
};
use crate::{random, record::ResponseFlag};

/// Answers a request, by whatever its route says.
pub(crate) async fn answer(
    downstream: Arc<Downstream>,
    mut request: Request<Incoming>,
) -> Response<ResponseBody> {
    inbound::normalize_path(request.uri_mut(), downstream.worker.settings.path_normalization);
    let present = Present::of(request.headers());
    let log = RequestLog::new(&downstream, &request, present);
    let asked = asked(request.headers(), present);
    let mut exchange = Exchange { downstream, log, asked, crossing: Crossing::Nothing };
    let inbound = match Inbound::admit(request, present, exchange.downstream.scheme) {
        Ok(inbound) => inbound,
        Err(reply) => return exchange.reply(reply),
    };
    exchange.log.fields().authority = Some(inbound.authority.clone());
    match exchange.downstream.routes.standing() {
        Standing::Good => {}
        Standing::Outlived => exchange.downstream.retire(),
        Standing::Refused => {
            exchange.downstream.retire();
            exchange.log.flow_mut().cluster = Some(BLACK_HOLE.into());
            let refused = Reply::new(StatusCode::BAD_GATEWAY, "destination_refused");
            return exchange.reply(refused.flag(ResponseFlag::NoHealthyUpstream));
        }
    }
    let decision = inbound.with_head(|head| exchange.downstream.routes.route(head));
    let HttpDecision { route, foreign_host, virtual_host: _ } = decision;
    if foreign_host {
        exchange.log.flow_mut().cluster = Some(BLACK_HOLE.into());
        let refused = Reply::new(StatusCode::BAD_GATEWAY, "foreign_host");
        return exchange.reply(refused.flag(ResponseFlag::NoHealthyUpstream));
    }
    let Some(route) = &route else { return exchange.reply(no_route()) };
    if !route.name.is_empty() {
        exchange.log.flow_mut().route_name = Some(Arc::clone(&route.name));
    }
    if let Some(policy) = &route.cors {
        match cors::look(policy, &inbound.parts.method, &inbound.parts.headers) {
            Crossing::Answer(set) => {
                return exchange.reply_and(cors::reply(), |headers, _| headers.extend(set));
            }
            other @ (Crossing::Nothing | Crossing::Allowed(..)) => exchange.crossing = other,
        }
    }
    if let Some(fault) = &route.fault
        && let Some(reply) = Box::pin(exchange.inject(fault)).await
    {
        return exchange.reply(reply);
    }
    exchange.act(inbound, route).await
}

/// What an answer needs beside its words.
pub(crate) struct Exchange<'r> {
    /// The application's connection.
    pub(crate) downstream: Arc<Downstream>,
    /// The record.
    pub(crate) log: Box<RequestLog>,
    /// In what an answer of ours is expected.
    pub(crate) asked: Asked,
    /// Whether a page may read the answer.
    pub(crate) crossing: Crossing<'r>,
}

impl<'r> Exchange<'r> {
    async fn act(self, inbound: Inbound, route: &'r Route) -> Response<ResponseBody> {
        let ops = &route.response_headers;
        match &route.action {
            RouteAction::Forward(forward) => forward::forward(self, inbound, route, forward).await,
            RouteAction::Redirect(redirect) => {
                let matched = route.matcher.path.as_ref();
                let location = inbound.with_head(|head| redirect.location(head, matched));
                let status = StatusCode::from_u16(redirect.status);
                let reply = Reply::new(status.unwrap_or(MOVED), "direct_response");
                self.reply_and(reply, |headers, flow| {
                    if let Some(location) = headers::value(&location) {
                        headers.insert(header::LOCATION, location);
                    }
                    change_answer(ops, headers, flow, &inbound.parts.headers);
                })
            }
            RouteAction::Respond { status, body } => {
                let status = StatusCode::from_u16(*status).unwrap_or(StatusCode::OK);
                let reply = Reply::new(status, "direct_response").text(body.to_vec());
                self.reply_and(reply, |headers, flow| {
                    change_answer(ops, headers, flow, &inbound.parts.headers);
                })
            }
            RouteAction::Nothing => self.reply(no_route()),
        }
    }

    /// Injects what a fault says; an abort is an answer.
    async fn inject(&mut self, fault: &Fault) -> Option<Reply> {
        if let Some(delay) = fault.delay
            && happens(delay.per_million)
        {
            self.log.flag(ResponseFlag::DelayInjected);
            sleep(delay.wait).await;
        }
        let Abort { status, .. } = fault.abort.filter(|abort| happens(abort.per_million))?;
        let reply = match status {
            AbortStatus::Http(status) => {
                let status = StatusCode::from_u16(status).unwrap_or(StatusCode::OK);
                Reply::new(status, "fault_filter_abort")
            }
            AbortStatus::Grpc(status) => {
                // A gRPC status is one even if nobody asked for gRPC.
                self.asked = Asked::Grpc;
                let grpc = Some(u16::try_from(status).unwrap_or(2));
                Reply { grpc, ..Reply::new(StatusCode::OK, "fault_filter_abort") }
            }
        };
        Some(reply.text("fault filter abort").flag(ResponseFlag::FaultInjected))
    }

    /// Answers.
    pub(crate) fn reply(self, reply: Reply) -> Response<ResponseBody> {
        self.reply_and(reply, |_, _| {})
    }

    /// Answers, with a change to the headers.
    pub(crate) fn reply_and(
        self,
        reply: Reply,
        edit: impl FnOnce(&mut HeaderMap, &crate::record::FlowRecord),
    ) -> Response<ResponseBody> {
        let Self { downstream, log, asked, crossing } = self;
        let envoy_headers = downstream.worker.settings.envoy_headers;
        reply.send(log, asked, envoy_headers, |headers, flow| {
            if let Crossing::Allowed(policy, origin) = crossing {
                cors::allow(policy, origin, headers);
            }
            edit(headers, flow);
        })
    }
}

/// Applies a route's changes to the headers of an answer.
pub(crate) fn change_answer(
    ops: &HeaderOps,
    headers: &mut HeaderMap,
    flow: &crate::record::FlowRecord,
    request: &HeaderMap,
) {
    change::apply(ops, headers, &Context { flow, request: Some(request), response: None });
}

/// Whether something happens that does so many times of a million.
pub(crate) fn happens(per_million: u32) -> bool {
    random::below(1_000_000) < u64::from(per_million)
}

/// An identifier in the form of a random UUID.
pub(crate) fn request_id(headers: &mut HeaderMap, present: Present) -> http::HeaderValue {
    if present.has(&name::REQUEST_ID)
        && let Some(known) = headers.get(name::REQUEST_ID)
    {
        return known.clone();
    }
    let id = uuid(random::next(), random::next());
    let id = http::HeaderValue::from_bytes(&id)
        .unwrap_or_else(|_never| http::HeaderValue::from_static("-"));
    headers.insert(name::REQUEST_ID, id.clone());
    id
}

fn uuid(one: u64, other: u64) -> [u8; 36] {
    const DIGITS: &[u8; 16] = b"0123456789abcdef";
    let mut bits = (u128::from(one) << 64) | u128::from(other);
    bits = bits & !(0xf << 76) | (4 << 76);
    bits = bits & !(0x3 << 62) | (2 << 62);
    let mut text = [b'-'; 36];
    let mut shift = 128;
    for (at, place) in text.iter_mut().enumerate() {
        if !matches!(at, 8 | 13 | 18 | 23) {
            shift -= 4;
            *place = DIGITS[(bits >> shift) as usize & 0xf];
        }
    }
    text
}

fn no_route() -> Reply {
    Reply::new(StatusCode::NOT_FOUND, "route_not_found").flag(ResponseFlag::NoRoute)
}

const MOVED: StatusCode = StatusCode::MOVED_PERMANENTLY;

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn uuids_have_their_form() {
        let text = |one, other| String::from_utf8(uuid(one, other).to_vec()).unwrap();
        assert_eq!(text(0, 0), "00000000-0000-4000-8000-000000000000");
        assert_eq!(text(u64::MAX, u64::MAX), "ffffffff-ffff-4fff-bfff-ffffffffffff");
        assert_eq!(text(0x0123_4567_89ab_cdef, 0), "01234567-89ab-4def-8000-000000000000");
    }

    #[test]
    fn chances() {
        assert!(!happens(0));
        assert!(happens(1_000_000));
    }
}
