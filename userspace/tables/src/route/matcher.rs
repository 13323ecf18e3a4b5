//! Conditions on a request (semantics.md §3, http match).

use std::fmt;
use std::sync::Arc;

use regex::Regex;
use regex_syntax::hir::literal::Extractor;

use crate::route::request::RequestHead;

/// All conditions of one match block; every one must hold. The default matches every request.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct RouteMatch {
    /// On the path without its query. Nothing: any.
    pub path: Option<TextMatch>,
    /// Whether exact and prefix conditions on the path ignore case.
    pub ignore_path_case: bool,
    /// On the method.
    pub method: Option<TextMatch>,
    /// On the scheme.
    pub scheme: Option<TextMatch>,
    /// On the authority as sent, with its port.
    pub authority: Option<TextMatch>,
    /// On headers, by lower-case name.
    pub headers: Vec<(Arc<str>, TextMatch)>,
    /// On headers that must not match; a missing header counts as empty.
    pub without_headers: Vec<(Arc<str>, TextMatch)>,
    /// On query parameters.
    pub query: Vec<(Arc<str>, TextMatch)>,
    /// The name of the match block; may be empty.
    pub name: Arc<str>,
}

impl RouteMatch {
    /// Whether the request fulfils all conditions.
    pub fn matches(&self, head: &RequestHead<'_>) -> bool {
        self.conditions().all(|condition| condition.holds(head))
    }

    /// Every condition; none for a block that matches every request.
    pub fn conditions<'a>(&'a self) -> impl Iterator<Item = Condition<'a>> {
        let path = Subject::Path { ignore_case: self.ignore_path_case };
        let single = [
            (path, &self.path),
            (Subject::Method, &self.method),
            (Subject::Authority, &self.authority),
            (Subject::Scheme, &self.scheme),
        ];
        let single =
            single.into_iter().filter_map(|(subject, test)| Some((subject, test.as_ref()?)));
        let header = |(name, test): &'a Named| (Subject::Header(name), test);
        let without = |(name, test): &'a Named| (Subject::NoHeader(name), test);
        let query = |(name, test): &'a Named| (Subject::Query(name), test);
        single
            .chain(self.headers.iter().map(header))
            .chain(self.without_headers.iter().map(without))
            .chain(self.query.iter().map(query))
            .map(|(subject, test)| Condition { subject, test })
    }

    /// Whether it matches whatever comes, so that rules behind it are out of reach: path prefix `/`
    /// or regex `.*`, and no other condition (semantics.md §3).
    pub fn is_catch_all(&self) -> bool {
        let path = match &self.path {
            None => true,
            Some(TextMatch::Prefix(prefix)) => &**prefix == "/",
            Some(TextMatch::Regex(pattern)) => pattern.as_str() == ".*",
            Some(TextMatch::Exact(_) | TextMatch::Present) => false,
        };
        path && self.method.is_none()
            && self.scheme.is_none()
            && self.authority.is_none()
            && self.headers.is_empty()
            && self.without_headers.is_empty()
            && self.query.is_empty()
    }
}

/// A condition on what has a name.
type Named = (Arc<str>, TextMatch);

/// One condition of a match block.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Condition<'a> {
    /// What is looked at.
    pub subject: Subject<'a>,
    /// What it must be, or must not be for [`Subject::NoHeader`].
    pub test: &'a TextMatch,
}

/// What a condition looks at.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Subject<'a> {
    /// The path without its query.
    Path {
        /// Whether exact and prefix tests ignore case.
        ignore_case: bool,
    },
    /// The method.
    Method,
    /// The authority as sent, with its port.
    Authority,
    /// The scheme.
    Scheme,
    /// The header of this name.
    Header(&'a str),
    /// The header of this name, which must not pass the test; a missing one counts as empty.
    NoHeader(&'a str),
    /// The query parameter of this name.
    Query(&'a str),
}

impl Condition<'_> {
    /// Whether the request fulfils it.
    pub fn holds(&self, head: &RequestHead<'_>) -> bool {
        let test = self.test;
        match self.subject {
            Subject::Path { ignore_case: true } => test.matches_ignoring_case(head.path_only()),
            Subject::Path { ignore_case: false } => test.matches(head.path_only()),
            Subject::Method => test.matches(head.method),
            Subject::Authority => test.matches(head.authority),
            Subject::Scheme => test.matches(head.scheme),
            Subject::Header(name) => header(head, name).is_some_and(|value| test.matches(&value)),
            Subject::NoHeader(name) => match test {
                TextMatch::Present => header(head, name).is_none(),
                TextMatch::Exact(_) | TextMatch::Prefix(_) | TextMatch::Regex(_) => {
                    !test.matches(&header(head, name).unwrap_or_default())
                }
            },
            Subject::Query(name) => {
                head.query_parameter(name).is_some_and(|value| test.matches(value))
            }
        }
    }
}

impl fmt::Display for Condition<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.subject {
            Subject::Path { ignore_case: true } => write!(f, "path {} in any case", self.test),
            Subject::Path { ignore_case: false } => write!(f, "path {}", self.test),
            Subject::Method => write!(f, "method {}", self.test),
            Subject::Authority => write!(f, "authority {}", self.test),
            Subject::Scheme => write!(f, "scheme {}", self.test),
            Subject::Header(name) => write!(f, "header {name} {}", self.test),
            Subject::NoHeader(name) => write!(f, "header {name} not {}", self.test),
            Subject::Query(name) => write!(f, "query parameter {name} {}", self.test),
        }
    }
}

/// Headers may be named as pseudo headers too.
fn header<'a>(head: &RequestHead<'a>, name: &str) -> Option<std::borrow::Cow<'a, str>> {
    match name {
        ":authority" | "host" => Some(head.authority.into()),
        ":method" => Some(head.method.into()),
        ":path" => Some(head.path.into()),
        ":scheme" => Some(head.scheme.into()),
        name => head.headers.header(name),
    }
}

/// A condition on one text.
#[derive(Clone, Debug, PartialEq)]
pub enum TextMatch {
    /// It is there, whatever it is.
    Present,
    /// It is this.
    Exact(Arc<str>),
    /// It begins with these bytes.
    Prefix(Arc<str>),
    /// The expression matches the whole of it.
    Regex(Pattern),
}

impl TextMatch {
    /// Whether the text fulfils the condition.
    pub fn matches(&self, text: &str) -> bool {
        match self {
            Self::Present => true,
            Self::Exact(exact) => **exact == *text,
            Self::Prefix(prefix) => text.starts_with(&**prefix),
            Self::Regex(pattern) => pattern.matches(text),
        }
    }

    /// The same, with letters of either case alike; regular expressions still tell them apart.
    pub fn matches_ignoring_case(&self, text: &str) -> bool {
        match self {
            Self::Present => true,
            Self::Exact(exact) => exact.eq_ignore_ascii_case(text),
            Self::Prefix(prefix) => text
                .as_bytes()
                .get(..prefix.len())
                .is_some_and(|start| start.eq_ignore_ascii_case(prefix.as_bytes())),
            Self::Regex(pattern) => pattern.matches(text),
        }
    }
}

impl fmt::Display for TextMatch {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Present => f.write_str("present"),
            Self::Exact(text) => write!(f, "exact {text}"),
            Self::Prefix(text) => write!(f, "prefix {text}"),
            Self::Regex(pattern) => write!(f, "regex {}", pattern.as_str()),
        }
    }
}

/// A regular expression, compiled once a generation. Two are equal if their texts are.
#[derive(Clone)]
pub struct Pattern {
    text: Arc<str>,
    /// What every match begins with, so that most texts are told without the expression, which is
    /// large and rarely in a processor's cache.
    begin: Arc<[u8]>,
    /// Nothing for a text that does not compile; a valid resource holds none.
    whole: Option<Arc<Regex>>,
}

impl Pattern {
    /// Compiles an expression that must match whole texts. One that does not compile never matches.
    pub fn whole(text: &str) -> Self {
        Self {
            text: Arc::from(text),
            begin: begin(text),
            whole: Regex::new(&format!("^(?:{text})$")).ok().map(Arc::new),
        }
    }

    /// Compiles an expression that may match anywhere, for replacements.
    pub fn anywhere(text: &str) -> Self {
        let whole = Regex::new(text).ok().map(Arc::new);
        Self { text: Arc::from(text), begin: Arc::default(), whole }
    }

    /// The text as written.
    pub fn as_str(&self) -> &str {
        &self.text
    }

    /// Whether it matches.
    pub fn matches(&self, text: &str) -> bool {
        text.as_bytes().starts_with(&self.begin)
            && self.whole.as_ref().is_some_and(|regex| regex.is_match(text))
    }

    /// The text with every match replaced.
    pub fn replace_all(&self, text: &str, replacement: &str) -> String {
        match &self.whole {
            Some(regex) => regex.replace_all(text, replacement).into_owned(),
            None => text.to_owned(),
        }
    }
}

/// The longest text that every match of an expression begins with.
fn begin(text: &str) -> Arc<[u8]> {
    let literals = regex_syntax::parse(text).map(|parsed| Extractor::new().extract(&parsed));
    let common = literals.as_ref().ok().and_then(|literals| literals.longest_common_prefix());
    Arc::from(common.unwrap_or_default())
}

impl PartialEq for Pattern {
    fn eq(&self, other: &Self) -> bool {
        self.text == other.text
    }
}

impl fmt::Debug for Pattern {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.text.fmt(f)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::route::request::NoHeaders;

    const HEAD: RequestHead<'_> = RequestHead {
        method: "GET",
        scheme: "http",
        authority: "a.example:80",
        path: "/cAsE/1?q=1",
        headers: &NoHeaders,
    };

    fn path(condition: TextMatch, ignore_path_case: bool) -> bool {
        RouteMatch { path: Some(condition), ignore_path_case, ..RouteMatch::default() }
            .matches(&HEAD)
    }

    #[test]
    fn paths() {
        assert!(path(TextMatch::Exact("/cAsE/1".into()), false));
        assert!(!path(TextMatch::Exact("/case/1".into()), false));
        assert!(path(TextMatch::Exact("/case/1".into()), true));
        assert!(path(TextMatch::Prefix("/cA".into()), false));
        assert!(path(TextMatch::Prefix("/CASE".into()), true));
        assert!(!path(TextMatch::Prefix("/case/1/2".into()), true));
        assert!(path(TextMatch::Regex(Pattern::whole("/c.*1")), false));
        assert!(!path(TextMatch::Regex(Pattern::whole("/c")), false));
    }

    #[test]
    fn what_every_match_begins_with_changes_no_answer() {
        for (text, begin) in [
            ("/v1/7/.*", "/v1/7/"),
            ("/a(b|c)", "/a"),
            ("/ab?", "/a"),
            ("/ab*c", "/a"),
            ("/ab+", "/ab"),
            ("/a|/b", "/"),
            ("a|b", ""),
            ("(?i)/a", "/"),
            (".*", ""),
            ("", ""),
            (r"/a\.b", "/a.b"),
            ("^/a$", "/a"),
            ("(", ""),
        ] {
            let pattern = Pattern::whole(text);
            assert_eq!(std::str::from_utf8(&pattern.begin), Ok(begin), "{text}");
            let plain = Regex::new(&format!("^(?:{text})$")).ok();
            for path in
                ["", "/", "/a", "/A", "/ab", "/abb", "/ac", "/a.b", "/v1/7/", "/v1/7/x", "a", "b"]
            {
                let expected = plain.as_ref().is_some_and(|plain| plain.is_match(path));
                assert_eq!(pattern.matches(path), expected, "{text} {path}");
            }
        }
    }

    #[test]
    fn missing_headers_count_as_empty_without() {
        let without = |condition| RouteMatch {
            without_headers: vec![("x".into(), condition)],
            ..RouteMatch::default()
        };
        assert!(without(TextMatch::Present).matches(&HEAD));
        assert!(without(TextMatch::Exact("v".into())).matches(&HEAD));
        assert!(!without(TextMatch::Exact("".into())).matches(&HEAD));
        assert!(!without(TextMatch::Regex(Pattern::whole(".*"))).matches(&HEAD));
    }

    #[test]
    fn authority_is_compared_raw() {
        let authority = |text: &str| RouteMatch {
            authority: Some(TextMatch::Exact(text.into())),
            ..RouteMatch::default()
        };
        assert!(authority("a.example:80").matches(&HEAD));
        assert!(!authority("a.example").matches(&HEAD));
    }
}
