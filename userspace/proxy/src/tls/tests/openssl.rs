//! TLS against somebody else's implementation: `openssl s_server`, with RSA keys and certificates as
//! the `openssl` command makes them. Where there is no such command the test has nothing to say.

use std::{
    io::{BufRead, BufReader},
    path::Path,
    process::{Child, Command, Stdio},
};

use tokio::io::{AsyncReadExt, AsyncWriteExt};

use super::server::{REQUEST, mutual, originate, originator, simple, soon, upstream};
use crate::{
    socket::Stream,
    testing::dial,
    tls::{TlsFailure, TlsStream},
};

/// A server that turns each line around.
struct Server {
    child: Child,
    port: u16,
}

impl Server {
    fn start(dir: &Path, more: &[&str]) -> Self {
        let mut child = Command::new("openssl")
            .args(["s_server", "-accept", "127.0.0.1:0", "-rev", "-naccept", "1"])
            .args(["-cert", "server.pem", "-key", "server.key"])
            .args(more)
            .current_dir(dir)
            .stdout(Stdio::piped())
            .stderr(Stdio::null())
            .spawn()
            .unwrap();
        let out = BufReader::new(child.stdout.take().unwrap());
        let accept = out
            .lines()
            .map_while(Result::ok)
            .find_map(|line| line.strip_prefix("ACCEPT ")?.rsplit(':').next()?.parse().ok());
        Self { child, port: accept.expect("s_server says where it listens") }
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        self.child.kill().ok();
        self.child.wait().ok();
    }
}

/// Runs an `openssl` command; whether there is one.
fn openssl(dir: &Path, args: &[&str]) -> bool {
    let output = Command::new("openssl").args(args).current_dir(dir).output();
    let Ok(output) = output else { return false };
    assert!(output.status.success(), "{args:?}: {}", String::from_utf8_lossy(&output.stderr));
    true
}

async fn turned(tls: &mut TlsStream) -> Result<String, TlsFailure> {
    let talk = async {
        tls.write_all(b"hello\n").await?;
        tls.flush().await?;
        let mut answer = [0; 6];
        tls.read_exact(&mut answer).await?;
        Ok(String::from_utf8_lossy(&answer).into_owned())
    };
    talk.await.map_err(|error| TlsStream::failure(&error))
}

#[tokio::test]
async fn openssl_and_we_understand_each_other() {
    let dir = tempfile::tempdir().unwrap();
    let self_signed = |name: &str| {
        let (key, certificate) = (format!("{name}.key"), format!("{name}.pem"));
        let subject = "/CN=a.example";
        openssl(
            dir.path(),
            &[
                "req",
                "-x509",
                "-newkey",
                "rsa:2048",
                "-nodes",
                "-days",
                "2",
                "-subj",
                subject,
                "-addext",
                "subjectAltName=DNS:a.example",
                "-keyout",
                &key,
                "-out",
                &certificate,
            ],
        )
    };
    if !self_signed("server") {
        return;
    }
    self_signed("client");
    let path = |name: &str| dir.path().join(name).to_str().unwrap().into();
    let simple = simple(&path("server.pem"));
    let mutual = mutual(&path("server.pem"), path("client.pem"), path("client.key"));
    let clients = ["-Verify", "1", "-verify_return_error", "-CAfile", "client.pem"];
    let turn = Ok("olleh\n".to_owned());
    for (origination, more, expected) in [
        (&simple, &["-tls1_2"][..], &turn),
        (&simple, &["-tls1_3"], &turn),
        (&simple, &["-tls1_3", "-alpn", "http/1.1"], &turn),
        (&mutual, &[&clients[..], &["-tls1_2"]].concat(), &turn),
        (&mutual, &[&clients[..], &["-tls1_3"]].concat(), &turn),
    ] {
        let server = Server::start(dir.path(), more);
        let socket = dial(([127, 0, 0, 1], server.port).into()).await.into_std().unwrap();
        let originator = originator();
        let tls = originate(origination);
        let stream = Stream::accepted(socket.into());
        let upstream = upstream(&originator, &tls, REQUEST);
        let result = match originator.connect(&upstream, stream, soon()).await {
            Ok(mut tls) => turned(&mut tls).await,
            Err(failure) => Err(failure),
        };
        assert_eq!(&result, expected, "{more:?}");
    }
    let server = Server::start(dir.path(), &[&clients[..], &["-tls1_3"]].concat());
    let socket = dial(([127, 0, 0, 1], server.port).into()).await.into_std().unwrap();
    let originator = originator();
    let tls = originate(&simple);
    let stream = Stream::accepted(socket.into());
    let upstream = upstream(&originator, &tls, REQUEST);
    let mut tls = originator.connect(&upstream, stream, soon()).await.unwrap();
    assert_eq!(turned(&mut tls).await.unwrap_err().kind(), "refused_by_peer");
}
