//! The value types that several resources share.

use crate::Spanned;
use crate::decode::scalars::text;
use crate::decode::{At, Cx, Decode, nearest};
use crate::resource::DirectResponseBody;
use crate::value::{
    EndpointAddress, ExportTarget, ExportTo, HostPattern, IpRange, Locality, NamespacedHost,
    Percent, Protocol, StringMatch,
};
use crate::yaml::Value;

impl Decode for HostPattern {
    fn decode(at: &At<'_>, cx: &mut Cx) -> Self {
        text(at, cx).map(Self::new).unwrap_or_default()
    }
}

impl Decode for NamespacedHost {
    fn decode(at: &At<'_>, cx: &mut Cx) -> Self {
        text(at, cx).map(Self::parse).unwrap_or_default()
    }
}

impl Decode for EndpointAddress {
    fn decode(at: &At<'_>, cx: &mut Cx) -> Self {
        text(at, cx).map(Self::parse).unwrap_or_default()
    }
}

impl Decode for Locality {
    fn decode(at: &At<'_>, cx: &mut Cx) -> Self {
        text(at, cx).map(Self::parse).unwrap_or_default()
    }
}

impl Decode for IpRange {
    fn decode(at: &At<'_>, cx: &mut Cx) -> Self {
        let Some(text) = text(at, cx) else { return Self::default() };
        Self::parse(text).unwrap_or_else(|error| {
            cx.fail(at, "invalid-address", error.to_string()).help(
                "an address such as 192.0.2.1 or 2001:db8::1, or a block such as 192.0.2.0/24",
            );
            Self::default()
        })
    }
}

impl Decode for ExportTo {
    fn decode(at: &At<'_>, cx: &mut Cx) -> Self {
        Self(Decode::decode(at, cx))
    }
}

impl Decode for ExportTarget {
    fn decode(at: &At<'_>, cx: &mut Cx) -> Self {
        text(at, cx).map(Self::parse).unwrap_or_default()
    }
}

impl Decode for Protocol {
    fn decode(at: &At<'_>, cx: &mut Cx) -> Self {
        let Some(text) = text(at, cx) else { return Self::Unset };
        Self::parse(text).unwrap_or_else(|| {
            let help = match nearest(text, PROTOCOLS.iter().copied()) {
                Some(meant) => format!("did you mean `{meant}`?"),
                None => format!("one of {}", PROTOCOLS.join(", ")),
            };
            cx.fail(at, "unknown-protocol", format!("unknown protocol {text:?}")).help(help);
            Self::Unset
        })
    }
}

/// What people write; HBONE is left out, since it is not for them.
const PROTOCOLS: [&str; 12] = [
    "HTTP",
    "HTTPS",
    "HTTP2",
    "GRPC",
    "GRPC-Web",
    "TCP",
    "TLS",
    "Mongo",
    "MySQL",
    "Redis",
    "UDP",
    "HTTP_PROXY",
];

impl Decode for StringMatch {
    fn decode(at: &At<'_>, cx: &mut Cx) -> Self {
        let Some(entries) = cx.entries(at) else { return Self::Present };
        let mut found = None;
        for entry in entries.iter().filter(|entry| !entry.value.is_null()) {
            let at = at.entry(entry);
            let read: fn(String) -> Self = match &*entry.key {
                "exact" => Self::Exact,
                "prefix" => Self::Prefix,
                "regex" => Self::Regex,
                key => {
                    cx.unknown_field(&at, key, &["exact", "prefix", "regex"]);
                    continue;
                }
            };
            let value = read(String::decode(&at, cx));
            if found.is_some() {
                cx.error(
                    &at,
                    "conflicting-fields",
                    "only one of `exact`, `prefix` and `regex` may be set",
                );
            }
            found.get_or_insert(value);
        }
        found.unwrap_or_default()
    }
}

/// Written as a message with one field.
impl Decode for Percent {
    fn decode(at: &At<'_>, cx: &mut Cx) -> Self {
        let Some(entries) = cx.entries(at) else { return Self::default() };
        let mut percent = Self::default();
        for entry in entries.iter().filter(|entry| !entry.value.is_null()) {
            let at = at.entry(entry);
            match &*entry.key {
                "value" => percent = Self(f64::decode(&at, cx)),
                key => cx.unknown_field(&at, key, &["value"]),
            }
        }
        percent
    }
}

impl Decode for DirectResponseBody {
    fn decode(at: &At<'_>, cx: &mut Cx) -> Self {
        let Some(entries) = cx.entries(at) else { return Self::default() };
        let mut found = None;
        for entry in entries.iter().filter(|entry| !entry.value.is_null()) {
            let at = at.entry(entry);
            let body = match &*entry.key {
                "string" => Self::Text(String::decode(&at, cx)),
                "bytes" => Self::Bytes(bytes(&at, cx)),
                key => {
                    cx.unknown_field(&at, key, &["string", "bytes"]);
                    continue;
                }
            };
            if found.is_some() {
                cx.error(&at, "conflicting-fields", "only one of `string` and `bytes` may be set");
            }
            found.get_or_insert(body);
        }
        found.unwrap_or_default()
    }
}

fn bytes(at: &At<'_>, cx: &mut Cx) -> Vec<u8> {
    let Some(text) = text(at, cx) else { return Vec::new() };
    base64(text).unwrap_or_else(|| {
        cx.fail(at, "invalid-base64", "not base64").help("write text in `string` instead");
        Vec::new()
    })
}

/// Both alphabets, with or without padding, as protobuf's JSON form allows.
fn base64(text: &str) -> Option<Vec<u8>> {
    let text = text.trim_end_matches('=');
    let mut bytes = Vec::with_capacity(text.len() * 3 / 4);
    let (mut bits, mut count) = (0_u32, 0);
    for byte in text.bytes() {
        let value = match byte {
            b'A'..=b'Z' => byte - b'A',
            b'a'..=b'z' => byte - b'a' + 26,
            b'0'..=b'9' => byte - b'0' + 52,
            b'+' | b'-' => 62,
            b'/' | b'_' => 63,
            _ => return None,
        };
        bits = (bits << 6) | u32::from(value);
        count += 6;
        if count >= 8 {
            count -= 8;
            bytes.push(u8::try_from((bits >> count) & 0xff).ok()?);
        }
    }
    (count != 6).then_some(bytes)
}

/// A value that a rule wants to look at as it was written.
pub(crate) fn written<'a>(at: &At<'a>) -> Option<Spanned<&'a str>> {
    let node = at.node()?;
    match &node.value {
        Value::Scalar(scalar) => Some(Spanned::new(&*scalar.text, node.span)),
        Value::List(_) | Value::Map(_) => None,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn base64_in_both_alphabets() {
        assert_eq!(base64("aGVsbG8=").as_deref(), Some(&b"hello"[..]));
        assert_eq!(base64("aGVsbG8").as_deref(), Some(&b"hello"[..]));
        assert_eq!(base64("-_8").as_deref(), Some(&[0xfb, 0xff][..]));
        assert_eq!(base64("a"), None);
        assert_eq!(base64("a b"), None);
    }
}
