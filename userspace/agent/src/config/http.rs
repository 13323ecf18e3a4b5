//! `http:`: habits of the HTTP path that Istio's YAML does not speak of.

use std::time::Duration;

use egressd_proxy::HttpSettings;
use serde::Deserialize;

use super::{duration, fault::Faults};

/// `http:`, as it is written.
#[derive(Debug, Clone, PartialEq, Eq, Deserialize)]
#[serde(default, deny_unknown_fields, rename_all = "camelCase")]
pub(super) struct HttpFile {
    /// Whether requests and answers carry the headers that Istio's sidecar adds. Default: true.
    envoy_headers: bool,
    /// When a request on which nothing moves is ended. Default: `0s`, never.
    stream_idle_timeout: String,
    /// Limit on sending the head of a request. Default: `60s`.
    request_headers_timeout: String,
    /// When an application's connection without a request is closed. Default: `1h`.
    idle_timeout: String,
}

impl Default for HttpFile {
    fn default() -> Self {
        Self {
            envoy_headers: true,
            stream_idle_timeout: "0s".to_owned(),
            request_headers_timeout: "60s".to_owned(),
            idle_timeout: "1h".to_owned(),
        }
    }
}

impl HttpFile {
    /// What comes of it. What is wrong goes to `faults`.
    pub(super) fn finish(self, faults: &mut Faults<'_>) -> HttpSettings {
        let mut read = |key, text: &str| {
            duration::parse(text).unwrap_or_else(|| {
                faults.add(key, format!("`{text}` is not a duration like 30s or 1m30s"));
                Duration::from_secs(1)
            })
        };
        let idle_request = read("http.streamIdleTimeout", &self.stream_idle_timeout);
        let request_head = read("http.requestHeadersTimeout", &self.request_headers_timeout);
        let idle_connection = read("http.idleTimeout", &self.idle_timeout);
        for (key, limit) in
            [("http.requestHeadersTimeout", request_head), ("http.idleTimeout", idle_connection)]
        {
            if limit.is_zero() {
                faults.add(key, "0s would end every connection at once".to_owned());
            }
        }
        HttpSettings {
            envoy_headers: self.envoy_headers,
            idle_request: Some(idle_request).filter(|limit| !limit.is_zero()),
            request_head,
            idle_connection,
            ..HttpSettings::default()
        }
    }
}

#[cfg(test)]
mod tests {
    use std::path::Path;

    use super::*;

    fn finish(text: &str) -> (HttpSettings, String) {
        let file: HttpFile = serde_yaml::from_str(text).unwrap();
        let whole = format!("http: {text}");
        let mut faults = Faults::new(Path::new("x"), &whole);
        let settings = file.finish(&mut faults);
        (settings, faults.finish().map_or_else(|error| error.to_string(), |()| String::new()))
    }

    #[test]
    fn zero_is_never_or_refused() {
        assert_eq!(finish("{}"), (HttpSettings::default(), String::new()));
        let (settings, _) = finish("{envoyHeaders: false, streamIdleTimeout: 5s}");
        assert!(!settings.envoy_headers);
        assert_eq!(settings.idle_request, Some(Duration::from_secs(5)));
        let (_, said) = finish("{idleTimeout: 0s}");
        assert!(said.contains("http.idleTimeout: 0s would end"), "{said}");
        let (_, said) = finish("{streamIdleTimeout: soon}");
        assert!(said.contains("http.streamIdleTimeout: `soon` is not"), "{said}");
    }
}
