//! What becomes of a request's path before anything looks at it.
//!
//! `meshConfig.pathNormalization`; Istio's default is BASE, for what leaves a node as well (Istio,
//! pilot/pkg/networking/core/listener_builder.go), so that `/public/../private` is found by the rules for
//! `/private`. Percent-encoded characters other than those of a dot segment stay as they are.

use std::borrow::Cow;

use egressd_model::resource::PathNormalization;

/// The path, and the query that may follow it, in the form that is routed, logged and sent on.
pub fn normalize_path(how: PathNormalization, path: &str) -> Cow<'_, str> {
    let (path_only, query) = match path.find(['?', '#']) {
        Some(at) => path.split_at(at),
        None => (path, ""),
    };
    let decodes = how == PathNormalization::DecodeAndMergeSlashes;
    let merges = decodes || how == PathNormalization::MergeSlashes;
    if how == PathNormalization::None
        || !path.starts_with('/')
        || !is_touched(path_only, merges, decodes)
    {
        return Cow::Borrowed(path);
    }
    let slashed = slashes(path_only, decodes);
    let mut normal = String::with_capacity(path.len());
    let segments: Vec<_> = slashed.split('/').skip(1).collect();
    let mut kept: Vec<&str> = Vec::with_capacity(segments.len());
    let last = segments.len().saturating_sub(1);
    for (at, segment) in segments.iter().enumerate() {
        match dots(segment) {
            Some(dots) => {
                if dots == 2 {
                    kept.pop();
                }
                // `/a/..` and `/a/.` end in a slash (RFC 3986 §5.2.4).
                if at == last {
                    kept.push("");
                }
            }
            None if merges && segment.is_empty() && at != last => {}
            None => kept.push(segment),
        }
    }
    for segment in kept {
        normal.push('/');
        normal.push_str(segment);
    }
    normal.push_str(query);
    Cow::Owned(normal)
}

/// Whether there may be anything to do: most paths have nothing of it.
fn is_touched(path: &str, merges: bool, decodes: bool) -> bool {
    path.contains('\\')
        || path.contains("/.")
        || path.contains('%') && (decodes || has_escaped_dot(path))
        || merges && path.contains("//")
}

fn has_escaped_dot(path: &str) -> bool {
    path.as_bytes().windows(3).any(|three| three.eq_ignore_ascii_case(b"%2e"))
}

/// The path with one kind of slashes.
fn slashes(path: &str, decodes: bool) -> String {
    let path = path.replace('\\', "/");
    if !decodes {
        return path;
    }
    ["%2F", "%2f", "%5C", "%5c"].iter().fold(path, |path, escaped| path.replace(escaped, "/"))
}

/// How many dots a dot segment has, written as they are or escaped.
fn dots(segment: &str) -> Option<usize> {
    let mut rest = segment.as_bytes();
    for count in 0..=2 {
        rest = match rest {
            [] => return (count > 0).then_some(count),
            [b'.', rest @ ..] | [b'%', b'2', b'e' | b'E', rest @ ..] => rest,
            _ => return None,
        };
    }
    None
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn as_istio_does_by_default() {
        for (path, normal) in [
            ("/", "/"),
            ("/a/b", "/a/b"),
            ("/a/../b", "/b"),
            ("/a/./b", "/a/b"),
            ("/../../b", "/b"),
            ("/a/b/..", "/a/"),
            ("/a/b/.", "/a/b/"),
            ("/..", "/"),
            ("/%2e%2E/%2e/x", "/x"),
            ("/a/.b/..c/...", "/a/.b/..c/..."),
            ("/a%2e", "/a%2e"),
            ("/a\\b", "/a/b"),
            ("/a//b/", "/a//b/"),
            ("/a%2f..%2fb", "/a%2f..%2fb"),
            ("/%61", "/%61"),
            ("/a/../b?c=/../d", "/b?c=/../d"),
            ("/a?b/../c", "/a?b/../c"),
            ("/a//../b", "/a/b"),
        ] {
            assert_eq!(normalize_path(PathNormalization::Default, path), normal, "{path}");
            assert_eq!(normalize_path(PathNormalization::Base, path), normal, "{path}");
            assert_eq!(normalize_path(PathNormalization::None, path), path);
        }
    }

    #[test]
    fn slashes_are_merged_on_request() {
        let merged = |path| normalize_path(PathNormalization::MergeSlashes, path).into_owned();
        assert_eq!(merged("/a//b///c//"), "/a/b/c/");
        assert_eq!(merged("/a%2F/b"), "/a%2F/b");
        assert_eq!(merged("//"), "/");
        let decoded =
            |path| normalize_path(PathNormalization::DecodeAndMergeSlashes, path).into_owned();
        assert_eq!(decoded("/a%2f%5C/b"), "/a/b");
        assert_eq!(decoded("/a%2f..%2fb?c=%2f"), "/b?c=%2f");
    }
}
