//! `accessLog:`: where access records go.

use egressd_model::resource::{AccessLogEncoding, MeshConfig};
use serde::Deserialize;

/// `accessLog:`. Keys left out fall back to what MeshConfig says, then to the default.
#[derive(Debug, Clone, PartialEq, Eq, Deserialize, Default)]
#[serde(default, deny_unknown_fields)]
pub(crate) struct AccessLogConfig {
    /// A file, `/dev/stdout`, or empty for none.
    path: Option<String>,
    /// `TEXT` or `JSON`.
    encoding: Option<LogEncoding>,
}

/// Where access records go, with everything that has a say in it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct AccessLogSettings {
    /// A file, `/dev/stdout`, or empty for none. Default: `/dev/stdout`.
    pub(crate) path: String,
    /// How a record is written. Default: text.
    pub(crate) encoding: LogEncoding,
    /// The line as MeshConfig's `accessLogFormat` has it; nothing for Istio's default. Text alone.
    pub(crate) format: Option<String>,
}

/// `accessLog.encoding`.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Deserialize, Default)]
#[serde(rename_all = "UPPERCASE")]
pub(crate) enum LogEncoding {
    /// One line of text.
    #[default]
    Text,
    /// One JSON object a line.
    Json,
}

impl AccessLogConfig {
    /// The key, else MeshConfig's `accessLogFile` and `accessLogEncoding`, else the default.
    pub(crate) fn with(&self, mesh: &MeshConfig) -> AccessLogSettings {
        let of_mesh = mesh.access_log_file.is_written().then(|| mesh.access_log_file.value.clone());
        let path = self.path.clone().or(of_mesh);
        let encoding = self.encoding.unwrap_or(match mesh.access_log_encoding.value {
            AccessLogEncoding::Text => LogEncoding::Text,
            AccessLogEncoding::Json => LogEncoding::Json,
        });
        let format = Some(mesh.access_log_format.value.clone());
        AccessLogSettings {
            path: path.unwrap_or_else(|| "/dev/stdout".to_owned()),
            encoding,
            format: format.filter(|format| !format.is_empty()),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn mesh_config_counts_where_the_key_is_silent() {
        let settings = |own: &str, mesh: &str| {
            let own: AccessLogConfig = serde_yaml::from_str(own).unwrap();
            let (mesh, _) = egressd_model::parse_mesh_config("x", mesh, &[]).unwrap();
            let AccessLogSettings { path, encoding, .. } = own.with(&mesh);
            (path, encoding)
        };
        let of_mesh = "{accessLogFile: /var/log/x, accessLogEncoding: JSON}";
        let expect = |path: &str, encoding| (path.to_owned(), encoding);
        assert_eq!(settings("{}", "{}"), expect("/dev/stdout", LogEncoding::Text));
        assert_eq!(settings("{}", of_mesh), expect("/var/log/x", LogEncoding::Json));
        assert_eq!(settings("{encoding: TEXT}", of_mesh), expect("/var/log/x", LogEncoding::Text));
        assert_eq!(settings("{path: y}", of_mesh), expect("y", LogEncoding::Json));
        assert_eq!(settings("{path: \"\"}", of_mesh), expect("", LogEncoding::Json));
        assert_eq!(settings("{}", "{accessLogFile: \"\"}"), expect("", LogEncoding::Text));
    }
}
