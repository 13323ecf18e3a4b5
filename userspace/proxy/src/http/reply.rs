//! Answers of our own, in Envoy's words: a status, a line of text, and for gRPC the same as a status of
//! its own.

use std::borrow::Cow;

use bytes::Bytes;
use http::{HeaderMap, HeaderValue, Response, StatusCode, header};

use super::{
    headers::{self, name},
    log::RequestLog,
    response_body::ResponseBody,
};
use crate::record::{FlowRecord, ResponseFlag};

/// An answer of our own.
#[derive(Clone, Debug)]
pub(crate) struct Reply {
    /// The status for HTTP.
    pub(crate) status: StatusCode,
    /// The body, and the message for gRPC.
    pub(crate) text: Bytes,
    /// What the record says of it.
    pub(crate) details: Cow<'static, str>,
    /// What went wrong.
    pub(crate) flag: Option<ResponseFlag>,
    /// The gRPC status, where it does not follow from the other.
    pub(crate) grpc: Option<u16>,
    /// The request was turned away because there are too many.
    pub(crate) overloaded: bool,
    /// The connection ends with this answer.
    pub(crate) close: bool,
}

impl Reply {
    /// A status, and how the record calls it.
    pub(crate) fn new(status: StatusCode, details: impl Into<Cow<'static, str>>) -> Self {
        Self {
            status,
            text: Bytes::new(),
            details: details.into(),
            flag: None,
            grpc: None,
            overloaded: false,
            close: false,
        }
    }

    /// With a body.
    pub(crate) fn text(self, text: impl Into<Bytes>) -> Self {
        Self { text: text.into(), ..self }
    }

    /// With a flag in the record.
    pub(crate) fn flag(self, flag: ResponseFlag) -> Self {
        Self { flag: Some(flag), ..self }
    }

    /// Ending the connection.
    pub(crate) fn close(self) -> Self {
        Self { close: true, ..self }
    }

    /// Makes the answer, lets `edit` change its headers, and ends the record with it.
    pub(crate) fn send(
        self,
        mut log: Box<RequestLog>,
        to: Asked,
        envoy_headers: bool,
        edit: impl FnOnce(&mut HeaderMap, &FlowRecord),
    ) -> Response<ResponseBody> {
        if let Some(flag) = self.flag {
            log.flag(flag);
        }
        let grpc = self.grpc.unwrap_or_else(|| grpc_status(self.status));
        let mut response = Response::new(ResponseBody::empty());
        let mut body = Bytes::new();
        let set = response.headers_mut();
        if to == Asked::Grpc {
            set.insert(header::CONTENT_TYPE, HeaderValue::from_static("application/grpc"));
            set.insert(name::GRPC_STATUS, headers::number(grpc));
            if let Some(message) = headers::value(&percent_encoded(&self.text)) {
                set.insert(name::GRPC_MESSAGE, message);
            }
            log.fields().grpc_status = Some(grpc);
        } else {
            if !self.text.is_empty() {
                set.insert(header::CONTENT_TYPE, HeaderValue::from_static("text/plain"));
            }
            body = self.text;
            set.insert(header::CONTENT_LENGTH, headers::number(body.len() as u64));
        }
        if self.overloaded && envoy_headers {
            set.insert(name::OVERLOADED, HeaderValue::from_static("true"));
        }
        if self.close {
            set.insert(header::CONNECTION, HeaderValue::from_static("close"));
        }
        let status = if to == Asked::Grpc { StatusCode::OK } else { self.status };
        log.answered(status.as_u16(), self.details);
        edit(set, log.flow());
        *response.status_mut() = status;
        *response.body_mut() = ResponseBody::whole(body, log);
        response
    }
}

/// In what an answer is expected.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Asked {
    /// HTTP.
    Http,
    /// gRPC: failures are a status in headers.
    Grpc,
}

/// The gRPC status that a HTTP status stands for.
pub(crate) fn grpc_status(status: StatusCode) -> u16 {
    match status.as_u16() {
        400 => 13,
        401 => 16,
        403 => 7,
        404 => 12,
        429 | 502 | 503 | 504 => 14,
        _ => 2,
    }
}

/// A gRPC message as its header has it.
fn percent_encoded(text: &[u8]) -> String {
    let mut out = String::with_capacity(text.len());
    for byte in text {
        match byte {
            b' '..=b'~' if *byte != b'%' => out.push(char::from(*byte)),
            _ => out.push_str(&format!("%{byte:02X}")),
        }
    }
    out
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn messages_are_one_line_of_ascii() {
        assert_eq!(percent_encoded("a b%\nä".as_bytes()), "a b%25%0A%C3%A4");
    }

    #[test]
    fn statuses_of_grpc() {
        let grpc = |status: u16| grpc_status(StatusCode::from_u16(status).unwrap());
        assert_eq!((grpc(503), grpc(404), grpc(400), grpc(418)), (14, 12, 13, 2));
    }
}
