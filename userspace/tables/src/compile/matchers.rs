//! Conditions on requests, as resources write them.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use egressd_model::Spanned;
use egressd_model::resource::{CorsPolicy, HttpMatch, Rewrite, UnmatchedPreflights};
use egressd_model::value::StringMatch;

use crate::compile::memo::Memo;
use crate::route::{Cors, PathRewrite, RouteMatch, TextMatch, UnmatchedPreflight};

impl Memo {
    /// The conditions of one match block.
    pub(super) fn matcher(&self, condition: &HttpMatch) -> RouteMatch {
        let one =
            |written: &Option<Spanned<StringMatch>>| written.as_ref().map(|m| self.text_match(m));
        let map = |written: &BTreeMap<String, Spanned<StringMatch>>, lower: bool| {
            let name = |name: &str| if lower { name.to_ascii_lowercase() } else { name.to_owned() };
            written.iter().map(|(key, m)| (Arc::from(name(key)), self.presence(m))).collect()
        };
        RouteMatch {
            path: one(&condition.uri),
            ignore_path_case: condition.ignore_uri_case,
            method: one(&condition.method),
            scheme: one(&condition.scheme),
            authority: one(&condition.authority),
            headers: map(&condition.headers, true),
            without_headers: map(&condition.without_headers, true),
            query: map(&condition.query_params, false),
            name: Arc::from(condition.name.as_str()),
        }
    }

    fn text_match(&self, written: &StringMatch) -> TextMatch {
        match written {
            StringMatch::Present => TextMatch::Present,
            StringMatch::Exact(text) => TextMatch::Exact(Arc::from(text.as_str())),
            StringMatch::Prefix(text) => TextMatch::Prefix(Arc::from(text.as_str())),
            StringMatch::Regex(text) => TextMatch::Regex(self.whole_pattern(text)),
        }
    }

    /// For headers and query parameters the regex `*` means that they are there.
    fn presence(&self, written: &StringMatch) -> TextMatch {
        match written {
            StringMatch::Regex(text) if text == "*" => TextMatch::Present,
            StringMatch::Present
            | StringMatch::Exact(_)
            | StringMatch::Prefix(_)
            | StringMatch::Regex(_) => self.text_match(written),
        }
    }

    /// The new path.
    pub(super) fn path_rewrite(&self, rewrite: &Rewrite) -> Option<PathRewrite> {
        match &rewrite.uri_regex_rewrite {
            Some(regex) => {
                Some(PathRewrite::regex(self.loose_pattern(&regex.pattern), &regex.rewrite))
            }
            None => text(&rewrite.uri).map(PathRewrite::Prefix),
        }
    }

    /// A CORS policy.
    pub(super) fn cors(&self, written: &CorsPolicy) -> Cors {
        let join = |list: &[Spanned<String>]| -> Arc<str> {
            Arc::from(list.iter().map(|one| one.as_str()).collect::<Vec<_>>().join(","))
        };
        let exact = |origin: &Spanned<String>| TextMatch::Exact(Arc::from(origin.as_str()));
        Cors {
            origins: if written.allow_origins.is_empty() {
                written.allow_origin.iter().map(exact).collect()
            } else {
                written.allow_origins.iter().map(|origin| self.text_match(origin)).collect()
            },
            methods: join(&written.allow_methods),
            headers: join(&written.allow_headers),
            expose: join(&written.expose_headers),
            max_age: written.max_age.as_deref().map(Duration::as_secs),
            credentials: written.allow_credentials.as_deref().copied().unwrap_or_default(),
            unmatched: match written.unmatched_preflights.value {
                UnmatchedPreflights::Ignore => UnmatchedPreflight::Ignore,
                UnmatchedPreflights::Unspecified | UnmatchedPreflights::Forward => {
                    UnmatchedPreflight::Forward
                }
            },
        }
    }
}

fn text(value: &str) -> Option<Arc<str>> {
    Some(value).filter(|value| !value.is_empty()).map(Arc::from)
}
