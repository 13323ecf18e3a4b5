//! Every prefix of what applications send first, and what they do wrong.

use tokio::io::AsyncWriteExt;

use super::*;
use crate::testing::{pair, reset};

const ALL: Wanted = Wanted { tls: true, http: true, timeout: crate::testing::PATIENCE };

/// A ClientHello's extensions, and how it is cut into records.
struct Hello {
    extensions: Vec<(u16, Vec<u8>)>,
    record: usize,
}

impl Hello {
    fn new(extensions: &[(u16, Vec<u8>)]) -> Self {
        Self { extensions: extensions.to_vec(), record: usize::MAX }
    }

    fn for_name(name: &str) -> Self {
        Self::new(&[grease(), server_name(name), protocols(&["h2", "http/1.1"])])
    }

    fn cut(mut self, record: usize) -> Self {
        self.record = record;
        self
    }

    fn bytes(&self) -> Vec<u8> {
        let mut body = vec![3, 3];
        body.extend([7; 32]);
        body.extend(vector(1, &[9; 32]));
        body.extend(vector(2, &[0x0a, 0x0a, 0x13, 0x01, 0x13, 0x02]));
        body.extend(vector(1, &[0]));
        if !self.extensions.is_empty() {
            let mut all = Vec::new();
            for (kind, content) in &self.extensions {
                all.extend(kind.to_be_bytes());
                all.extend(vector(2, content));
            }
            body.extend(vector(2, &all));
        }
        let mut message = vec![1];
        message.extend(vector(3, &body));
        let records = message.chunks(self.record.min(1 << 14)).flat_map(|chunk| {
            let mut record = vec![22, 3, 1];
            record.extend(vector(2, chunk));
            record
        });
        records.collect()
    }
}

fn vector(width: usize, content: &[u8]) -> Vec<u8> {
    let length = content.len().to_be_bytes();
    let mut out = length[length.len() - width..].to_vec();
    out.extend_from_slice(content);
    out
}

fn server_name(name: &str) -> (u16, Vec<u8>) {
    let mut entry = vec![0];
    entry.extend(vector(2, name.as_bytes()));
    (0, vector(2, &entry))
}

fn protocols(names: &[&str]) -> (u16, Vec<u8>) {
    let list: Vec<u8> = names.iter().flat_map(|name| vector(1, name.as_bytes())).collect();
    (16, vector(2, &list))
}

fn grease() -> (u16, Vec<u8>) {
    (0x5a5a, vec![0])
}

fn hello(name: Option<&str>, protocols: &[&str], parsed: Parsed<ClientHello>) {
    let Parsed::Whole(found) = parsed else { panic!("{parsed:?}") };
    assert_eq!(found.server_name.as_deref(), name);
    let wire: Vec<_> = protocols.iter().map(|name| name.as_bytes()).collect();
    assert_eq!(found.protocols().collect::<Vec<_>>(), wire);
}

#[test]
fn every_prefix_of_a_hello_however_it_is_cut() {
    for record in [usize::MAX, 1, 3, 4, 5, 64, 100] {
        let bytes = Hello::for_name("api.Example.com").cut(record).bytes();
        for length in 0..bytes.len() {
            assert_eq!(tls::parse(&bytes[..length]), Parsed::Partial, "{record} {length}");
            assert_eq!(judge(&bytes[..length], ALL), None, "{record} {length}");
        }
        hello(Some("api.example.com"), &["h2", "http/1.1"], tls::parse(&bytes));
        let followed = [&bytes[..], b"early data"].concat();
        hello(Some("api.example.com"), &["h2", "http/1.1"], tls::parse(&followed));
    }
}

#[test]
fn a_hello_with_post_quantum_keys_and_encrypted_hello() {
    let extensions = [
        (0xfe0d, vec![1; 400]),
        (51, vec![2; 1500]),
        server_name("public.example"),
        (21, vec![0; 20_000]),
    ];
    let bytes = Hello::new(&extensions).bytes();
    assert!(bytes.len() > 16_384);
    hello(Some("public.example"), &[], tls::parse(&bytes));
    for length in [1, 5, 9, 1000, 16_389, bytes.len() - 1] {
        assert_eq!(tls::parse(&bytes[..length]), Parsed::Partial, "{length}");
    }
}

#[test]
fn a_hello_without_a_usable_name() {
    hello(None, &[], tls::parse(&Hello::new(&[]).bytes()));
    hello(None, &["h2"], tls::parse(&Hello::new(&[protocols(&["h2"])]).bytes()));
    for name in ["", "two words", "tab\t", "caf\u{e9}", &"a".repeat(256)] {
        hello(None, &[], tls::parse(&Hello::new(&[server_name(name)]).bytes()));
    }
    // A list with a name of an unknown kind before the host name.
    let mut list = vec![9];
    list.extend(vector(2, b"x"));
    list.push(0);
    list.extend(vector(2, b"a.example"));
    hello(Some("a.example"), &[], tls::parse(&Hello::new(&[(0, vector(2, &list))]).bytes()));
}

#[test]
fn what_is_no_hello_shows_it_early() {
    let mut server_hello = Hello::new(&[]).bytes();
    server_hello[5] = 2;
    let mut too_long = Hello::new(&[]).bytes();
    too_long[6] = 1;
    too_long[7] = 0xff;
    let sslv2 = [0x80, 0x2e, 1, 3, 1, 0, 0x15, 0, 0, 0, 0x10];
    let cases: [(&str, &[u8], usize); 8] = [
        ("an SSLv2 hello", &sslv2, 1),
        ("HTTP", b"GET / HTTP/1.1\r\n\r\n", 1),
        ("an alert", &[21, 3, 1, 0, 2, 1, 0], 1),
        ("a wrong version", &[22, 4, 1], 2),
        ("an empty record", &[22, 3, 1, 0, 0], 5),
        ("an encrypted record", &[22, 3, 3, 0x41, 0], 5),
        ("a ServerHello", &server_hello, 6),
        ("a hello of 130,000 bytes", &too_long, 9),
    ];
    for (what, bytes, enough) in cases {
        for length in 0..enough {
            assert_eq!(tls::parse(&bytes[..length]), Parsed::Partial, "{what} {length}");
        }
        for length in enough..=bytes.len() {
            assert_eq!(tls::parse(&bytes[..length]), Parsed::Not, "{what} {length}");
        }
    }
}

#[test]
fn a_hello_cut_short_inside_is_none() {
    let whole = Hello::for_name("a.example").bytes();
    let body = whole.len() - 9;
    for missing in 1..body {
        let mut bytes = whole[..whole.len() - missing].to_vec();
        let record = (bytes.len() - 5) as u16;
        bytes[3..5].copy_from_slice(&record.to_be_bytes());
        let message = (bytes.len() - 9) as u32;
        bytes[6..9].copy_from_slice(&message.to_be_bytes()[1..]);
        match tls::parse(&bytes) {
            Parsed::Not => {}
            // Cut exactly before the extensions, which may be left out.
            Parsed::Whole(hello) => assert_eq!(hello.server_name, None, "{missing}"),
            Parsed::Partial => panic!("{missing}"),
        }
    }
}

#[test]
fn no_byte_of_a_hello_makes_the_parser_stumble() {
    let whole = Hello::for_name("a.example").bytes();
    for at in 0..whole.len() {
        for value in [0, 1, 0x7f, 0x80, 0xff] {
            let mut bytes = whole.clone();
            bytes[at] = value;
            for length in [at, at + 1, bytes.len()] {
                judge(&bytes[..length], ALL);
            }
        }
    }
}

const REQUEST: &str = "POST /api/v1?q=1 HTTP/1.1\r\nHost: API.example.com:8080\r\n\
                       X-Two: a\r\nx-two: b\r\n\r\n";

#[test]
fn every_prefix_of_a_request() {
    let line = REQUEST.find('\n').unwrap();
    for length in 0..REQUEST.len() {
        let expected = (length > line).then_some(Sniffed::Http(HttpVersion::Http1));
        assert_eq!(judge(&REQUEST.as_bytes()[..length], ALL), expected, "{length}");
    }
}

#[test]
fn the_first_line_decides() {
    for bytes in [
        &b"GET http://a.example:81?x HTTP/1.1\r\n"[..],
        b"GET / HTTP/1.0\r\n",
        b"GET / HTTP/1.1\n",
        b"GET / HTTP/1.1\r\nno header\r\n",
        b"CONNECT a.example:443 HTTP/1.1\r\n",
        b"\r\n\r\nGET / HTTP/1.1\r\n",
        b"MKCALENDAR /cal HTTP/1.1\r\n",
        b"M-SEARCH * HTTP/1.1\r\n",
        b"get / HTTP/1.1\r\n",
        b"x!y / HTTP/1.0\r\n",
        // For HTTP to refuse: a server may be less strict.
        b"GET / HTTP/1.2\r\n",
        b"GET / http/1.1\r\n",
        b"GET / HTTP/1.1  \r\n",
        b"GET\t/\tHTTP/1.1\r\n",
    ] {
        assert_eq!(judge(bytes, ALL), Some(Sniffed::Http(HttpVersion::Http1)));
    }
}

#[test]
fn every_prefix_of_a_method_that_is_nobodys() {
    for request in ["MKCALENDAR / HTTP/1.1\r\n", "X-Y / HTTP/1.0\r\n", "\r\nACL /a HTTP/1.1\r\n"] {
        for length in 0..request.len() {
            assert_eq!(judge(&request.as_bytes()[..length], ALL), None, "{request:?} {length}");
        }
        assert!(matches!(judge(request.as_bytes(), ALL), Some(Sniffed::Http(_))), "{request:?}");
    }
}

#[test]
fn every_prefix_of_the_http2_preface() {
    let preface = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n";
    for length in 0..preface.len() {
        assert_eq!(judge(&preface[..length], ALL), None, "{length}");
    }
    assert_eq!(judge(preface, ALL), Some(Sniffed::Http(HttpVersion::Http2)));
}

#[test]
fn other_protocols_show_it_early() {
    for (what, bytes, enough) in [
        ("SSH", &b"SSH-2.0-OpenSSH_9.6\r\n"[..], 20),
        ("SSH with a comment", b"SSH-2.0-OpenSSH_9.6 Ubuntu-3\r\n", 30),
        ("memcached", b"get key\r\n", 9),
        ("git", b"0032git-upload-pack /a.git\0host=b\0", 27),
        ("Redis", b"*1\r\n$4\r\nPING\r\n", 3),
        ("an inline Redis command", b"GETSET a b\r\n", 12),
        ("SMTP", b"EHLO client.example\r\n", 21),
        ("a request line without a version", b"GET key\r\n", 9),
        ("a version in a word", b"GET /HTTP/1.1\r\n", 15),
        ("PostgreSQL", &[0, 0, 0, 8, 4, 210, 22, 47], 1),
        ("LDAP", &[0x30, 0x0c, 2, 1, 1], 2),
        ("AMQP", b"AMQP\0\0\x09\x01", 5),
        ("a control character", b"GET /\x01 HTTP/1.1\r\n", 6),
        ("no method at all", b" / HTTP/1.1\r\n", 1),
        ("a name too long for a method", &[b'A'; 40], 33),
        ("nothing but empty lines", &[b'\n'; 12], 9),
        ("not the preface", b"PRI * HTTP/2.1\r\n", 16),
    ] {
        for length in 0..enough {
            assert_eq!(judge(&bytes[..length], ALL), None, "{what} {length}");
        }
        for length in enough..=bytes.len() {
            assert_eq!(judge(&bytes[..length], ALL), Some(Sniffed::Raw), "{what} {length}");
        }
    }
}

#[test]
fn what_is_found_does_not_depend_on_how_it_is_cut() {
    for bytes in [
        // What the fuzzer found: a word with lower case that its line makes a method.
        &b"SSH-2.SH-2.0-Oy HTTP/1.1\r\n"[..],
        b"get / HTTP/1.1\r\n\r\n",
        b"Post\t/ http/1.0\nmore",
        b"\r\nget / HTTP/1.1\r\n",
        b"gET key\r\n",
        b"GET / HTTP/1.1\x0c\n",
        b"GET / HTTP/1.1\x0b \r\n",
        b"GET /\0 HTTP/1.1\n",
        b"PRI * HTTP/2.0\r\n\r\nSN HTTP/1.1\r\n",
        b"PRI * HTTP/1.1\r\n",
        b"PRi * HTTP/1.1\r\n",
        b"ruok",
    ] {
        let whole = first_bytes(bytes);
        for length in 0..bytes.len() {
            let part = first_bytes(&bytes[..length]);
            let stays = part == FirstBytes::Undecided || part == whole;
            assert!(stays, "{:?}: {part:?}, then {whole:?}", bytes[..length].escape_ascii());
        }
    }
}

#[test]
fn only_what_is_wanted_is_found() {
    let hello = Hello::for_name("a.example").bytes();
    assert_eq!(judge(&hello, Wanted { tls: false, ..ALL }), Some(Sniffed::Raw));
    assert_eq!(judge(REQUEST.as_bytes(), Wanted { http: false, ..ALL }), Some(Sniffed::Raw));
}

#[tokio::test]
async fn a_hello_that_comes_byte_by_byte_is_left_in_the_socket() {
    let (mut ours, mut app) = pair().await;
    let bytes = Hello::for_name("a.example").cut(50).bytes();
    let sniffing = tokio::spawn(async move {
        let sniffed = sniff(&mut ours, ALL).await;
        (ours, sniffed)
    });
    for byte in &bytes {
        app.write_all(&[*byte]).await.unwrap();
        tokio::task::yield_now().await;
    }
    let (mut ours, sniffed) = sniffing.await.unwrap();
    let Ok(Sniffed::Tls(hello)) = sniffed else { panic!("{sniffed:?}") };
    assert_eq!(hello.server_name.as_deref(), Some("a.example"));
    let mut got = vec![0; bytes.len()];
    let read = poll_fn(|cx| ours.poll_recv(cx, &mut got)).await.unwrap();
    assert_eq!(got[..read], bytes[..read]);
}

#[tokio::test]
async fn an_application_that_ends_in_the_middle_is_raw() {
    let (mut ours, mut app) = pair().await;
    app.write_all(&Hello::for_name("a.example").bytes()[..20]).await.unwrap();
    app.shutdown().await.unwrap();
    assert_eq!(sniff(&mut ours, ALL).await.unwrap(), Sniffed::Raw);
}

#[tokio::test]
async fn an_application_that_goes_without_a_word() {
    let (mut ours, app) = pair().await;
    drop(app);
    let error = sniff(&mut ours, ALL).await.unwrap_err();
    assert_eq!(error.kind(), io::ErrorKind::UnexpectedEof);
    let (mut ours, app) = pair().await;
    reset(app);
    let error = sniff(&mut ours, ALL).await.unwrap_err();
    assert_eq!(error.kind(), io::ErrorKind::ConnectionReset);
}

#[tokio::test(start_paused = true)]
async fn silence_is_raw_when_the_time_is_over() {
    let (mut ours, app) = pair().await;
    let wanted = Wanted { timeout: Duration::from_secs(5), ..ALL };
    assert_eq!(sniff(&mut ours, wanted).await.unwrap(), Sniffed::Raw);
    drop(app);
}

#[tokio::test(start_paused = true)]
async fn a_word_that_few_requests_begin_with_is_waited_for_a_second() {
    let second = Duration::from_secs(1);
    let fifth = Duration::from_millis(200);
    for (word, patience) in
        [("PING", second), ("PING 1", second), ("ruok", fifth), ("SSH-2.0-Open", fifth)]
    {
        let (mut ours, mut app) = pair().await;
        app.write_all(word.as_bytes()).await.unwrap();
        let start = Instant::now();
        assert_eq!(sniff(&mut ours, ALL).await.unwrap(), Sniffed::Raw);
        let waited = start.elapsed();
        assert!(waited >= patience && waited < patience * 2, "{word}: {waited:?}");
    }
    for (word, patience) in [
        ("", None),
        ("P", None),
        ("GET", None),
        ("GET /", None),
        ("GET /lower", None),
        ("PRI *", None),
        ("PIN", Some(second)),
        ("GE /", Some(second)),
        ("\r\nPING", Some(second)),
        ("p", Some(fifth)),
        ("GEt", Some(fifth)),
    ] {
        assert_eq!(http::patience(word.as_bytes()), patience, "{word}");
    }
}

#[tokio::test(start_paused = true)]
async fn a_word_that_goes_on_with_lower_case_is_waited_for_no_longer_than_one_that_began_so() {
    let (mut ours, mut app) = pair().await;
    let start = Instant::now();
    let sniffing = tokio::spawn(async move { sniff(&mut ours, ALL).await });
    app.write_all(b"XYZ").await.unwrap();
    sleep(Duration::from_millis(100)).await;
    app.write_all(b"w").await.unwrap();
    assert_eq!(sniffing.await.unwrap().unwrap(), Sniffed::Raw);
    assert!(start.elapsed() < Duration::from_millis(400), "{:?}", start.elapsed());
}

#[tokio::test]
async fn a_request_line_without_an_end_is_for_http_to_refuse() {
    let (mut ours, mut app) = pair().await;
    let endless = [&b"GET /"[..], &[b'a'; 2 * MOST]].concat();
    let writer = tokio::spawn(async move {
        app.write_all(&endless).await.ok();
        app
    });
    assert_eq!(sniff(&mut ours, ALL).await.unwrap(), Sniffed::Http(HttpVersion::Http1));
    drop(ours);
    writer.await.unwrap();
}
