//! Golden lines, and the promise of exactly one record.

use std::{
    io,
    net::SocketAddr,
    sync::Mutex,
    time::{Duration, UNIX_EPOCH},
};

use expect_test::{Expect, expect};

use http::{HeaderValue, Method, Version};

use super::*;
use crate::{addrs::UnixName, socket::ConnectError};

fn at(text: &str) -> SocketAddr {
    text.parse().unwrap()
}

fn record(dialled: &str, outcome: Outcome) -> FlowRecord {
    FlowRecord {
        outcome,
        duration: Duration::from_millis(84),
        client: Some(ClientAddr(at("127.0.0.1:50842"))),
        ..FlowRecord::new(
            UNIX_EPOCH + Duration::from_millis(1_616_138_967_498),
            Original::new(OriginalDst(at(dialled))),
        )
    }
}

fn completed() -> FlowRecord {
    FlowRecord {
        bytes_received: 6238,
        bytes_sent: 6291,
        server_name: Some("api.dropboxapi.com".into()),
        cluster: Some("outbound|443||api.dropboxapi.com".into()),
        upstream: Some(UpstreamAddr::Ip(at("162.125.66.18:443"))),
        upstream_local: Some(LocalAddr(at("10.0.0.5:50844"))),
        ..record("240.240.0.3:443", Outcome::Completed)
    }
}

fn refused() -> FlowRecord {
    let to = at("10.0.0.17:3306");
    let source = io::Error::from_raw_os_error(libc::ECONNREFUSED);
    let error = ConnectError::Delayed { to: to.into(), source };
    FlowRecord {
        cluster: Some("outbound|3306||db.example.com".into()),
        upstream: Some(to.into()),
        ..record("[2001:2::7]:3306", Outcome::ConnectFailed((&error).into()))
    }
}

fn check_text(record: &FlowRecord, expected: Expect) {
    let mut line = Vec::new();
    write_text(&mut line, record);
    expected.assert_eq(&String::from_utf8(line).unwrap());
}

fn check_json(record: &FlowRecord, expected: Expect) {
    let mut line = Vec::new();
    write_json(&mut line, record);
    let text = String::from_utf8(line).unwrap();
    serde_json::from_str::<serde_json::Value>(&text).unwrap();
    expected.assert_eq(&text.replace(",\"", ",\n\""));
}

#[test]
fn text_of_a_flow_that_went_well() {
    check_text(
        &completed(),
        expect![[r#"
        [2021-03-19T07:29:27.498Z] "- - -" 0 - - - "-" 6238 6291 84 - "-" "-" "-" "-" "162.125.66.18:443" outbound|443||api.dropboxapi.com 10.0.0.5:50844 240.240.0.3:443 127.0.0.1:50842 api.dropboxapi.com -
    "#]],
    );
}

#[test]
fn text_of_a_refused_connect() {
    check_text(
        &refused(),
        expect![[r#"
        [2021-03-19T07:29:27.498Z] "- - -" 0 UF,URX - - "delayed_connect_error:_Connection_refused" 0 0 84 - "-" "-" "-" "-" "10.0.0.17:3306" outbound|3306||db.example.com - [2001:2::7]:3306 127.0.0.1:50842 - -
    "#]],
    );
}

#[test]
fn text_of_a_denied_connect() {
    let original = Original::new(OriginalDst(at("1.2.3.4:443")));
    check_text(
        &FlowRecord::denied(UNIX_EPOCH, original, "BlackHoleCluster"),
        expect![[r#"
        [1970-01-01T00:00:00.000Z] "- - -" 0 UH - - "-" 0 0 0 - "-" "-" "-" "-" "-" BlackHoleCluster - 1.2.3.4:443 - - -
    "#]],
    );
}

#[test]
fn text_of_a_limit_and_a_unix_socket() {
    let flow = FlowRecord {
        cluster: Some("outbound|80||example.unix.local".into()),
        upstream: Some(UpstreamAddr::Unix(UnixName::new("/run/example/socket"))),
        authority: Some("example.unix.local".into()),
        route_name: Some("default".into()),
        ..record("240.240.0.9:80", Outcome::IdleTimeout)
    };
    check_text(
        &flow,
        expect![[r#"
        [2021-03-19T07:29:27.498Z] "- - -" 0 - - tcp_session_idle_timeout "-" 0 0 84 - "-" "-" "-" "example.unix.local" "/run/example/socket" outbound|80||example.unix.local - 240.240.0.9:80 127.0.0.1:50842 - default
    "#]],
    );
}

#[test]
fn text_keeps_a_hostile_name_inside_its_field() {
    let flow = FlowRecord {
        authority: Some("a\" UF\nb".into()),
        ..record("240.240.0.9:80", Outcome::NoRoute)
    };
    check_text(
        &flow,
        expect![[r#"
        [2021-03-19T07:29:27.498Z] "- - -" 0 NR - filter_chain_not_found "-" 0 0 84 - "-" "-" "-" "a\" UF\nb" "-" - - 240.240.0.9:80 127.0.0.1:50842 - -
    "#]],
    );
}

#[test]
fn json_of_a_flow_that_went_well() {
    check_json(
        &completed(),
        expect![[r#"
        {"start_time":"2021-03-19T07:29:27.498Z",
        "method":null,
        "path":null,
        "protocol":null,
        "response_code":0,
        "response_flags":"-",
        "response_code_details":null,
        "connection_termination_details":null,
        "upstream_transport_failure_reason":null,
        "bytes_received":6238,
        "bytes_sent":6291,
        "duration":84,
        "upstream_service_time":null,
        "x_forwarded_for":null,
        "user_agent":null,
        "request_id":null,
        "authority":null,
        "upstream_host":"162.125.66.18:443",
        "upstream_cluster":"outbound|443||api.dropboxapi.com",
        "upstream_local_address":"10.0.0.5:50844",
        "downstream_local_address":"240.240.0.3:443",
        "downstream_remote_address":"127.0.0.1:50842",
        "requested_server_name":"api.dropboxapi.com",
        "route_name":null}
    "#]],
    );
}

#[test]
fn json_of_a_refused_connect() {
    check_json(
        &refused(),
        expect![[r#"
        {"start_time":"2021-03-19T07:29:27.498Z",
        "method":null,
        "path":null,
        "protocol":null,
        "response_code":0,
        "response_flags":"UF,URX",
        "response_code_details":null,
        "connection_termination_details":null,
        "upstream_transport_failure_reason":"delayed_connect_error:_Connection_refused",
        "bytes_received":0,
        "bytes_sent":0,
        "duration":84,
        "upstream_service_time":null,
        "x_forwarded_for":null,
        "user_agent":null,
        "request_id":null,
        "authority":null,
        "upstream_host":"10.0.0.17:3306",
        "upstream_cluster":"outbound|3306||db.example.com",
        "upstream_local_address":null,
        "downstream_local_address":"[2001:2::7]:3306",
        "downstream_remote_address":"127.0.0.1:50842",
        "requested_server_name":null,
        "route_name":null}
    "#]],
    );
}

fn request() -> FlowRecord {
    let fields = HttpFields {
        method: Some(Method::GET),
        path: Some("/delay/5?a=b".parse().unwrap()),
        authority: Some(HeaderValue::from_static("httpbin.org")),
        status: 504,
        flags: ResponseFlag::UpstreamTimeout.into(),
        details: "response_timeout".into(),
        user_agent: Some(HeaderValue::from_static("curl/8.4.0 \"x\"")),
        request_id: Some(HeaderValue::from_static("1e97ff71-91ea-4f1f-8cf1-5d4b3cf0fcd8")),
        ..HttpFields::new(Version::HTTP_11)
    };
    FlowRecord {
        bytes_sent: 24,
        cluster: Some("outbound|80||httpbin.org".into()),
        upstream: Some(UpstreamAddr::Ip(at("52.22.188.65:80"))),
        upstream_local: Some(LocalAddr(at("10.0.0.5:50844"))),
        http: Some(Box::new(fields)),
        ..record("240.240.0.3:80", Outcome::Completed)
    }
}

#[test]
fn text_of_a_request() {
    check_text(
        &request(),
        expect![[r#"
        [2021-03-19T07:29:27.498Z] "GET /delay/5?a=b HTTP/1.1" 504 UT response_timeout - "-" 0 24 84 - "-" "curl/8.4.0 \"x\"" "1e97ff71-91ea-4f1f-8cf1-5d4b3cf0fcd8" "httpbin.org" "52.22.188.65:80" outbound|80||httpbin.org 10.0.0.5:50844 240.240.0.3:80 127.0.0.1:50842 - -
    "#]],
    );
    let mut answered = request();
    let fields = answered.http.as_mut().unwrap();
    fields.status = 200;
    fields.flags = ResponseFlags::NONE;
    fields.details = "via_upstream".into();
    fields.upstream_service_time = Some(Duration::from_micros(5_421_900));
    fields.version = Version::HTTP_2;
    fields.forwarded_for = Some(HeaderValue::from_bytes(b"10.0.0.1\xff").unwrap());
    answered.route_name = Some("default".into());
    check_text(
        &answered,
        expect![[r#"
        [2021-03-19T07:29:27.498Z] "GET /delay/5?a=b HTTP/2" 200 - via_upstream - "-" 0 24 84 5421 "10.0.0.1�" "curl/8.4.0 \"x\"" "1e97ff71-91ea-4f1f-8cf1-5d4b3cf0fcd8" "httpbin.org" "52.22.188.65:80" outbound|80||httpbin.org 10.0.0.5:50844 240.240.0.3:80 127.0.0.1:50842 - default
    "#]],
    );
}

#[test]
fn json_of_a_request() {
    check_json(
        &request(),
        expect![[r#"
        {"start_time":"2021-03-19T07:29:27.498Z",
        "method":"GET",
        "path":"/delay/5?a=b",
        "protocol":"HTTP/1.1",
        "response_code":504,
        "response_flags":"UT",
        "response_code_details":"response_timeout",
        "connection_termination_details":null,
        "upstream_transport_failure_reason":null,
        "bytes_received":0,
        "bytes_sent":24,
        "duration":84,
        "upstream_service_time":null,
        "x_forwarded_for":null,
        "user_agent":"curl/8.4.0 \"x\"",
        "request_id":"1e97ff71-91ea-4f1f-8cf1-5d4b3cf0fcd8",
        "authority":"httpbin.org",
        "upstream_host":"52.22.188.65:80",
        "upstream_cluster":"outbound|80||httpbin.org",
        "upstream_local_address":"10.0.0.5:50844",
        "downstream_local_address":"240.240.0.3:80",
        "downstream_remote_address":"127.0.0.1:50842",
        "requested_server_name":null,
        "route_name":null}
    "#]],
    );
}

#[derive(Debug, Default)]
struct Taken(Mutex<Vec<Outcome>>);

impl Fate for &Taken {
    fn take(&self, record: &FlowRecord) {
        self.0.lock().unwrap().push(record.outcome.clone());
    }

    fn dropped(&self) -> Outcome {
        Outcome::Forgotten
    }
}

#[test]
fn one_connection_one_record() {
    let taken = Taken::default();
    let pending = || {
        let original = Original::new(OriginalDst(at("1.2.3.4:443")));
        Pending::new(original, ClientAddr(at("127.0.0.1:1")), &taken)
    };
    pending().record(Outcome::Completed);
    drop(pending());
    assert_eq!(*taken.0.lock().unwrap(), [Outcome::Completed, Outcome::Forgotten]);
}
