//! Access records in Istio's default text format (semantics.md §7).

/// One record, the fields that tests ask for; `-` is what is missing.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct AccessLine {
    /// `METHOD PATH PROTOCOL`, `- - -` for TCP.
    pub request: String,
    /// The response's code, 0 for TCP.
    pub code: String,
    /// Response flags, such as `UH`.
    pub flags: String,
    /// What ended the connection beside the two sides.
    pub termination: String,
    /// Why there was no connection to an endpoint.
    pub failure: String,
    /// Bytes from the client.
    pub bytes_received: u64,
    /// Bytes to the client.
    pub bytes_sent: u64,
    /// Milliseconds from accept to end.
    pub duration: u64,
    /// The endpoint.
    pub upstream_host: String,
    /// Such as `outbound|27018||mongo.example`.
    pub upstream_cluster: String,
    /// The address the connection to the endpoint came from.
    pub upstream_local: String,
    /// What the client dialled.
    pub downstream_local: String,
    /// The client.
    pub downstream_remote: String,
    /// SNI of the client's TLS.
    pub server_name: String,
    /// The route, or `-`.
    pub route_name: String,
    /// The line itself.
    pub line: String,
}

impl AccessLine {
    /// Reads a line; fails the test if it is not in the format.
    #[track_caller]
    pub fn parse(line: &str) -> Self {
        let words = words(line);
        assert_eq!(words.len(), 22, "an access record has 22 fields: {line}");
        let text = |index: usize| words[index].clone();
        let number = |index: usize| -> u64 {
            words[index].parse().unwrap_or_else(|_| panic!("field {index} is no number: {line}"))
        };
        Self {
            request: text(1),
            code: text(2),
            flags: text(3),
            termination: text(5),
            failure: text(6),
            bytes_received: number(7),
            bytes_sent: number(8),
            duration: number(9),
            upstream_host: text(15),
            upstream_cluster: text(16),
            upstream_local: text(17),
            downstream_local: text(18),
            downstream_remote: text(19),
            server_name: text(20),
            route_name: text(21),
            line: line.to_owned(),
        }
    }

    /// What identifies the decision: flags, cluster and what was dialled.
    pub fn decision(&self) -> (&str, &str, &str) {
        (&self.flags, &self.upstream_cluster, &self.downstream_local)
    }
}

/// Splits at blanks, except inside quotes and the brackets around the time.
fn words(line: &str) -> Vec<String> {
    let mut words = Vec::new();
    let mut rest = line.trim();
    while !rest.is_empty() {
        // An address such as [fd77::1]:80 is followed by its port; the time is not.
        let end = match rest.as_bytes()[0] {
            b'"' => rest[1..].find('"').map(|end| end + 2),
            _ if words.is_empty() => rest.find(']').map(|end| end + 1),
            _ => rest.find(' '),
        };
        let (word, left) = rest.split_at(end.unwrap_or(rest.len()));
        words.push(word.trim_matches('"').to_owned());
        rest = left.trim_start();
    }
    words
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_tcp_record() {
        let line = r#"[2026-01-02T03:04:05.678Z] "- - -" 0 UF - - "delayed_connect_error" 5 17 31 - "-" "-" "-" "-" "[fd77::2]:9000" outbound|27018||mongo.example 10.77.0.1:4711 192.0.2.1:27018 10.77.0.1:40000 - -"#;
        let record = AccessLine::parse(line);
        let decision = ("UF", "outbound|27018||mongo.example", "192.0.2.1:27018");
        assert_eq!(record.decision(), decision);
        assert_eq!((record.bytes_received, record.bytes_sent, record.duration), (5, 17, 31));
        assert_eq!(record.upstream_host, "[fd77::2]:9000");
    }

    #[test]
    fn an_http_record() {
        let line = r#"[2026-01-02T03:04:05.678Z] "GET /delay/5 HTTP/1.1" 504 UT response_timeout - "-" 0 24 3001 - "-" "curl/7.88.1" "f2" "httpbin.org" "10.77.0.2:80" outbound|80||httpbin.org 10.77.0.1:4711 10.77.0.2:80 10.77.0.1:40000 - -"#;
        let record = AccessLine::parse(line);
        assert_eq!(record.request, "GET /delay/5 HTTP/1.1");
        assert_eq!((record.code.as_str(), record.flags.as_str()), ("504", "UT"));
    }
}
