//! The part of a request that routing looks at.

use std::borrow::Cow;
use std::collections::BTreeMap;

/// The head of an HTTP request.
#[derive(Clone, Copy)]
pub struct RequestHead<'a> {
    /// The method, in upper case as sent.
    pub method: &'a str,
    /// `http` or `https`.
    pub scheme: &'a str,
    /// Host or :authority, with its port if it has one.
    pub authority: &'a str,
    /// The path with its query, as sent; `/` if there is none.
    pub path: &'a str,
    /// The other headers.
    pub headers: &'a dyn HeaderLookup,
}

impl RequestHead<'_> {
    /// The path without its query.
    pub fn path_only(&self) -> &str {
        self.path.split_once('?').map_or(self.path, |(path, _)| path)
    }

    /// The value of a query parameter, as sent; nothing if it is not there.
    pub fn query_parameter(&self, name: &str) -> Option<&str> {
        let (_, query) = self.path.split_once('?')?;
        let query = query.split_once('#').map_or(query, |(query, _)| query);
        query.split('&').find_map(|pair| match pair.split_once('=') {
            Some((key, value)) => (key == name).then_some(value),
            None => (pair == name).then_some(""),
        })
    }
}

/// Where the headers of a request are.
pub trait HeaderLookup {
    /// The value of a header by its lower-case name; several are joined with `,`. Nothing if the
    /// header is not there.
    fn header(&self, name: &str) -> Option<Cow<'_, str>>;
}

/// A request without headers.
#[derive(Clone, Copy, Debug, Default)]
pub struct NoHeaders;

impl HeaderLookup for NoHeaders {
    fn header(&self, _: &str) -> Option<Cow<'_, str>> {
        None
    }
}

/// Headers by lower-case name.
impl HeaderLookup for BTreeMap<String, String> {
    fn header(&self, name: &str) -> Option<Cow<'_, str>> {
        self.get(name).map(|value| Cow::Borrowed(value.as_str()))
    }
}

/// A host without the port behind it; the brackets of an IPv6 address stay.
pub fn strip_port(authority: &str) -> &str {
    let digits = |port: &str| port.bytes().all(|byte| byte.is_ascii_digit());
    match authority.rsplit_once(':') {
        Some((host, port)) if digits(port) && (!host.contains(':') || host.ends_with(']')) => host,
        _ => authority,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn ports_are_stripped() {
        for (authority, host) in [
            ("a.example", "a.example"),
            ("a.example:80", "a.example"),
            ("a.example:", "a.example"),
            ("a.example:http", "a.example:http"),
            ("[::1]:80", "[::1]"),
            ("[::1]", "[::1]"),
            ("::1", "::1"),
            ("1.2.3.4:8080", "1.2.3.4"),
            ("", ""),
        ] {
            assert_eq!(strip_port(authority), host, "{authority}");
        }
    }

    #[test]
    fn query_parameters() {
        let head = |path| RequestHead {
            method: "GET",
            scheme: "http",
            authority: "a",
            path,
            headers: &NoHeaders,
        };
        assert_eq!(head("/z?q=1&r").query_parameter("q"), Some("1"));
        assert_eq!(head("/z?q=1&r").query_parameter("r"), Some(""));
        assert_eq!(head("/z?q=1").query_parameter("x"), None);
        assert_eq!(head("/z").query_parameter("q"), None);
        assert_eq!(head("/z?a=b").path_only(), "/z");
    }
}
