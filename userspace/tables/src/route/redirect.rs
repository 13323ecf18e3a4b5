//! Redirects (semantics.md §3, redirect).

use std::sync::Arc;

use crate::route::matcher::TextMatch;
use crate::route::request::{RequestHead, strip_port};

/// How the new location is made from the request's own.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Redirect {
    /// The status: 301, 302, 303, 307 or 308.
    pub status: u16,
    /// The new host; empty keeps the request's.
    pub authority: Arc<str>,
    /// The new path.
    pub path: PathRedirect,
    /// The new scheme; nothing keeps the request's.
    pub scheme: Option<Arc<str>>,
    /// The port to name; nothing names none, or the request's own if the host is kept.
    pub port: Option<u16>,
}

/// What becomes of the path.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum PathRedirect {
    /// The whole path and query is replaced; empty keeps it.
    Whole(Arc<str>),
    /// The matched prefix is replaced.
    Prefix(Arc<str>),
}

impl Redirect {
    /// The new location for a request that met the condition `matched` on its path.
    pub fn location(&self, head: &RequestHead<'_>, matched: Option<&TextMatch>) -> String {
        let scheme = self.scheme.as_deref().unwrap_or(head.scheme);
        let host = match (&*self.authority, self.port) {
            ("", Some(_)) => strip_port(head.authority),
            ("", None) => head.authority,
            (authority, _) => authority,
        };
        let mut location = format!("{scheme}://{host}");
        if let Some(port) = self.port {
            location.push_str(&format!(":{port}"));
        }
        match &self.path {
            PathRedirect::Whole(path) if path.is_empty() => location.push_str(head.path),
            PathRedirect::Whole(path) => location.push_str(path),
            PathRedirect::Prefix(prefix) => {
                let length = match matched {
                    Some(TextMatch::Prefix(old)) => old.len(),
                    Some(TextMatch::Exact(_) | TextMatch::Regex(_)) => head.path_only().len(),
                    Some(TextMatch::Present) | None => 0,
                };
                location.push_str(prefix);
                location.push_str(head.path.get(length..).unwrap_or_default());
            }
        }
        location
    }

    /// The action as Envoy's JSON has it, defaults left out: the words of the conformance data.
    pub fn to_words(&self) -> String {
        let mut fields = Vec::new();
        if !self.authority.is_empty() {
            fields.push(format!("\"hostRedirect\": {:?}", &*self.authority));
        }
        if let PathRedirect::Whole(path) = &self.path {
            fields.push(format!("\"pathRedirect\": {:?}", &**path));
        }
        if let Some(port) = self.port {
            fields.push(format!("\"portRedirect\": {port}"));
        }
        if let PathRedirect::Prefix(prefix) = &self.path {
            fields.push(format!("\"prefixRewrite\": {:?}", &**prefix));
        }
        let code = match self.status {
            302 => "FOUND",
            303 => "SEE_OTHER",
            307 => "TEMPORARY_REDIRECT",
            308 => "PERMANENT_REDIRECT",
            _ => "",
        };
        if !code.is_empty() {
            fields.push(format!("\"responseCode\": \"{code}\""));
        }
        if let Some(scheme) = &self.scheme {
            fields.push(format!("\"schemeRedirect\": {:?}", &**scheme));
        }
        format!("redirect:{{{}}}", fields.join(", "))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::route::request::NoHeaders;

    fn head(path: &'static str) -> RequestHead<'static> {
        RequestHead {
            method: "GET",
            scheme: "http",
            authority: "a.example:8080",
            path,
            headers: &NoHeaders,
        }
    }

    fn redirect(path: PathRedirect) -> Redirect {
        Redirect { status: 301, authority: "".into(), path, scheme: None, port: None }
    }

    #[test]
    fn locations() {
        let whole = |path: &str| redirect(PathRedirect::Whole(path.into()));
        assert_eq!(whole("").location(&head("/x?y"), None), "http://a.example:8080/x?y");
        assert_eq!(whole("/m").location(&head("/x?y"), None), "http://a.example:8080/m");
        let secure = Redirect { scheme: Some("https".into()), port: Some(8443), ..whole("") };
        assert_eq!(secure.location(&head("/x"), None), "https://a.example:8443/x");
        let other = Redirect { authority: "b.example".into(), ..whole("/m") };
        assert_eq!(other.location(&head("/x"), None), "http://b.example/m");
    }

    #[test]
    fn prefixes() {
        let matched = TextMatch::Prefix("/old".into());
        let new = redirect(PathRedirect::Prefix("/new".into()));
        let location = new.location(&head("/old/x?y"), Some(&matched));
        assert_eq!(location, "http://a.example:8080/new/x?y");
    }
}
