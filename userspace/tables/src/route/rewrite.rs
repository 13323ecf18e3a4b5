//! Changes to the path before forwarding (semantics.md §3, rewrite).

use std::sync::Arc;

use crate::route::matcher::{Pattern, TextMatch};
use crate::route::request::RequestHead;

/// How the path changes; the query stays.
#[derive(Clone, Debug, PartialEq)]
pub enum PathRewrite {
    /// The matched prefix is replaced; after an exact or regex match the whole path is.
    Prefix(Arc<str>),
    /// Every match of the expression is replaced; `\1` to `\9` in the text stand for its groups.
    Regex {
        /// The expression.
        pattern: Pattern,
        /// The replacement, in Rust's notation.
        replacement: Arc<str>,
    },
}

impl PathRewrite {
    /// A replacement in RE2's notation.
    pub fn regex(pattern: Pattern, replacement: &str) -> Self {
        Self::Regex { pattern, replacement: Arc::from(from_re2(replacement)) }
    }

    /// The new path with the old query, for a request that met the condition `matched` on its path.
    pub fn apply(&self, head: &RequestHead<'_>, matched: Option<&TextMatch>) -> String {
        let path = head.path_only();
        let query = head.path.get(path.len()..).unwrap_or_default();
        let path = match self {
            Self::Prefix(prefix) => {
                let length = match matched {
                    Some(TextMatch::Prefix(old)) => old.len(),
                    Some(TextMatch::Exact(_) | TextMatch::Regex(_)) => path.len(),
                    // The condition of a rule without one is the prefix `/`.
                    Some(TextMatch::Present) | None => 1,
                };
                format!("{prefix}{}", path.get(length..).unwrap_or_default())
            }
            Self::Regex { pattern, replacement } => pattern.replace_all(path, replacement),
        };
        path + query
    }
}

/// `\1` becomes `${1}`, `\\` a backslash, and `$` is escaped.
fn from_re2(text: &str) -> String {
    let mut out = String::with_capacity(text.len());
    let mut chars = text.chars();
    while let Some(c) = chars.next() {
        match (c, c == '\\') {
            ('$', _) => out.push_str("$$"),
            (_, true) => match chars.next() {
                Some(digit) if digit.is_ascii_digit() => {
                    out.push_str("${");
                    out.push(digit);
                    out.push('}');
                }
                Some(other) => out.push(other),
                None => out.push('\\'),
            },
            (c, _) => out.push(c),
        }
    }
    out
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::route::request::NoHeaders;

    fn check(rewrite: &PathRewrite, matched: Option<TextMatch>, path: &str, expect: &str) {
        let head = RequestHead {
            method: "GET",
            scheme: "http",
            authority: "a",
            path,
            headers: &NoHeaders,
        };
        assert_eq!(rewrite.apply(&head, matched.as_ref()), expect);
    }

    #[test]
    fn prefix_and_whole() {
        let new = PathRewrite::Prefix("/legacy".into());
        let prefix = || Some(TextMatch::Prefix("/api/v1".into()));
        check(&new, prefix(), "/api/v1/x?q=1", "/legacy/x?q=1");
        check(&new, prefix(), "/api/v1", "/legacy");
        check(&new, Some(TextMatch::Exact("/api".into())), "/api?q", "/legacy?q");
        check(&new, Some(TextMatch::Regex(Pattern::whole("/a.*"))), "/abc", "/legacy");
        check(&new, None, "/x", "/legacyx");
        check(&PathRewrite::Prefix("/".into()), None, "/x", "/x");
    }

    #[test]
    fn regex() {
        let swap =
            PathRewrite::regex(Pattern::anywhere("^/service/([^/]+)(/.*)$"), r"\2/instance/\1");
        check(&swap, None, "/service/foo/v1/api?q", "/v1/api/instance/foo?q");
        let dollar = PathRewrite::regex(Pattern::anywhere("one"), "$1");
        check(&dollar, None, "/one/one", "/$1/$1");
    }
}
