//! Which of the headers that mean something to us a message has, found in one pass over their names.
//! Most messages have few of them, and looking for each costs a hash of its name.

use http::{HeaderMap, HeaderName, header};

use super::name;

/// Which headers a message had when it was looked at. One that was taken out since
/// still counts.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) struct Present(u32);

impl Present {
    /// Looks at a message's headers.
    pub(crate) fn of(headers: &HeaderMap) -> Self {
        Self(headers.keys().fold(0, |found, name| found | bit(name)))
    }

    /// Whether it has one of the names that are looked for; of another name it says yes.
    pub(crate) fn has(self, name: &HeaderName) -> bool {
        let bit = bit(name);
        bit == 0 || self.0 & bit != 0
    }

    /// Takes one out, if it is there.
    pub(crate) fn remove(self, headers: &mut HeaderMap, name: &HeaderName) {
        if self.has(name) {
            headers.remove(name);
        }
    }
}

/// The bit of a name; none for a name that means nothing here. By length first: that tells most names
/// apart without looking at them.
fn bit(name: &HeaderName) -> u32 {
    let name = name.as_str();
    let place = match name.len() {
        2 => is(name, &header::TE, 0),
        6 => is(name, &header::EXPECT, 1).or_else(|| is(name, &header::COOKIE, 2)),
        7 => is(name, &header::UPGRADE, 3),
        10 => is(name, &header::CONNECTION, 4).or_else(|| is(name, &name::KEEP_ALIVE, 5)),
        11 => is(name, &name::GRPC_STATUS, 6),
        12 => is(name, &header::CONTENT_TYPE, 7)
            .or_else(|| is(name, &name::REQUEST_ID, 8))
            .or_else(|| is(name, &name::GRPC_TIMEOUT, 9)),
        13 => is(name, &header::AUTHORIZATION, 10),
        14 => is(name, &header::CONTENT_LENGTH, 11).or_else(|| is(name, &name::HTTP2_SETTINGS, 12)),
        15 => is(name, &name::FORWARDED_FOR, 13),
        16 => is(name, &name::PROXY_CONNECTION, 14)
            .or_else(|| is(name, &header::WWW_AUTHENTICATE, 15))
            .or_else(|| is(name, &name::RETRY_ON, 16)),
        17 => is(name, &header::TRANSFER_ENCODING, 17)
            .or_else(|| is(name, &name::FORWARDED_PROTO, 18)),
        18 => is(name, &header::PROXY_AUTHENTICATE, 19),
        19 => {
            is(name, &header::PROXY_AUTHORIZATION, 20).or_else(|| is(name, &name::MAX_RETRIES, 21))
        }
        21 => is(name, &name::PEER_METADATA, 22).or_else(|| is(name, &name::RETRY_GRPC_ON, 23)),
        23 => is(name, &name::FORWARDED_CLIENT_CERT, 24),
        24 => is(name, &name::PEER_METADATA_ID, 25),
        27 => is(name, &name::DECORATOR_OPERATION, 26),
        30 => is(name, &name::TIMEOUT, 27).or_else(|| is(name, &name::RETRIABLE_CODES, 28)),
        38 => is(name, &name::TRY_TIMEOUT, 29),
        _ => None,
    };
    place.map_or(0, |place| 1 << place)
}

fn is(name: &str, known: &HeaderName, place: u32) -> Option<u32> {
    (name == known.as_str()).then_some(place)
}

/// The names that are looked for.
#[cfg(test)]
const NAMES: [HeaderName; 30] = [
    header::TE,
    header::EXPECT,
    header::COOKIE,
    header::UPGRADE,
    header::CONNECTION,
    name::KEEP_ALIVE,
    name::GRPC_STATUS,
    header::CONTENT_TYPE,
    name::REQUEST_ID,
    name::GRPC_TIMEOUT,
    header::AUTHORIZATION,
    header::CONTENT_LENGTH,
    name::HTTP2_SETTINGS,
    name::FORWARDED_FOR,
    name::PROXY_CONNECTION,
    header::WWW_AUTHENTICATE,
    name::RETRY_ON,
    header::TRANSFER_ENCODING,
    name::FORWARDED_PROTO,
    header::PROXY_AUTHENTICATE,
    header::PROXY_AUTHORIZATION,
    name::MAX_RETRIES,
    name::PEER_METADATA,
    name::RETRY_GRPC_ON,
    name::FORWARDED_CLIENT_CERT,
    name::PEER_METADATA_ID,
    name::DECORATOR_OPERATION,
    name::TIMEOUT,
    name::RETRIABLE_CODES,
    name::TRY_TIMEOUT,
];

#[cfg(test)]
mod tests {
    use http::HeaderValue;

    use super::*;

    #[test]
    fn each_name_has_a_bit_of_its_own() {
        for (place, name) in NAMES.iter().enumerate() {
            assert_eq!(bit(name), 1 << place, "{name}");
            let mut headers = HeaderMap::new();
            headers.insert(name, HeaderValue::from_static("x"));
            headers.insert("x-other", HeaderValue::from_static("x"));
            let present = Present::of(&headers);
            let found: Vec<_> = NAMES.into_iter().filter(|name| present.has(name)).collect();
            assert_eq!(found, std::slice::from_ref(name));
            present.remove(&mut headers, name);
            assert_eq!(headers.len(), 1);
        }
        // Of what is not looked for nothing is known.
        assert!(Present::default().has(&header::HOST));
    }
}
