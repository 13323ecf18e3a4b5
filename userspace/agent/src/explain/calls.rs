//! `--calls`: many questions at once, in the form of the conformance data.

use std::{
    collections::BTreeMap,
    fs::File,
    io::{self, BufRead, BufReader, Write},
    net::{IpAddr, Ipv4Addr, SocketAddr},
    path::Path,
};

use egressd_tables::{Call, Payload, RequestHead, Tables};
use serde::{Deserialize, Serialize, de::IgnoredAny};

use crate::exit::Exit;

/// One line of the file.
#[derive(Debug, Default, Deserialize)]
#[serde(default, deny_unknown_fields)]
struct CallLine {
    /// What the caller calls it: it means nothing here.
    #[serde(rename = "name")]
    _name: IgnoredAny,
    /// Empty: an address that no resource names.
    address: String,
    port: u16,
    /// `http`, `http2` or `tcp`; empty: `tcp`.
    protocol: String,
    /// Host or :authority of a request.
    host: String,
    /// Empty: `/`.
    path: String,
    /// Empty: GET.
    method: String,
    headers: BTreeMap<String, String>,
    /// `tls` or `mtls`; empty or `plaintext`: none.
    tls: String,
    /// Empty: the host.
    sni: String,
}

/// What is printed for it.
#[derive(Serialize)]
struct AnswerLine<'a> {
    result: String,
    listener: &'a str,
    route: &'a str,
}

/// Dialled where a call names no address.
const NOWHERE: IpAddr = IpAddr::V4(Ipv4Addr::new(1, 3, 3, 7));

/// Answers every call of a file.
pub(super) fn answer(file: &Path, tables: &Tables) -> Exit {
    match try_answer(file, tables) {
        Ok(()) => Exit::Fine,
        Err(Failure::Write(error)) if error.kind() == io::ErrorKind::BrokenPipe => Exit::Fine,
        Err(Failure::Write(error)) => {
            complain(&format!("writing answers: {error}"), Exit::Impossible)
        }
        Err(Failure::Read(error)) => {
            complain(&format!("reading {}: {error}", file.display()), Exit::Usage)
        }
        Err(Failure::Line(number, error)) => {
            complain(&format!("{}:{number}: {error}", file.display()), Exit::Usage)
        }
    }
}

enum Failure {
    Read(io::Error),
    Write(io::Error),
    Line(usize, String),
}

fn try_answer(file: &Path, tables: &Tables) -> Result<(), Failure> {
    let input: Box<dyn BufRead> = if file.as_os_str() == "-" {
        Box::new(io::stdin().lock())
    } else {
        Box::new(BufReader::new(File::open(file).map_err(Failure::Read)?))
    };
    let mut out = io::BufWriter::new(io::stdout().lock());
    for (index, line) in input.lines().enumerate() {
        let line = line.map_err(Failure::Read)?;
        if line.trim().is_empty() {
            continue;
        }
        let fail = |error: String| Failure::Line(index + 1, error);
        let call: CallLine =
            serde_json::from_str(&line).map_err(|error| fail(error.to_string()))?;
        let answer = call.answer(tables).map_err(fail)?;
        let line = AnswerLine {
            result: answer.result(),
            listener: &answer.listener(),
            route: answer.route(),
        };
        serde_json::to_writer(&mut out, &line).map_err(|error| Failure::Write(error.into()))?;
        out.write_all(b"\n").map_err(Failure::Write)?;
    }
    out.flush().map_err(Failure::Write)
}

impl CallLine {
    fn answer(&self, tables: &Tables) -> Result<egressd_tables::Answer, String> {
        let ip = match self.address.as_str() {
            "" => NOWHERE,
            text => text.parse().map_err(|error| format!("address {text:?}: {error}"))?,
        };
        let or = |text: &str, default: &str| -> String {
            if text.is_empty() { default.to_owned() } else { text.to_owned() }
        };
        let (method, path) = (or(&self.method, "GET"), or(&self.path, "/"));
        let sni = or(&self.sni, &self.host);
        let payload = if !matches!(self.tls.as_str(), "" | "plaintext") {
            Payload::Tls { sni: Some(sni.as_str()).filter(|sni| !sni.is_empty()) }
        } else if self.protocol.starts_with("http") {
            Payload::Http(RequestHead {
                method: &method,
                scheme: "http",
                authority: &self.host,
                path: &path,
                headers: &self.headers,
            })
        } else if !self.sni.is_empty() {
            // Istio's simulator compares the server name of a call that speaks no TLS, too.
            Payload::Tls { sni: Some(&self.sni) }
        } else {
            Payload::Raw
        };
        Ok(tables.answer(&Call { destination: SocketAddr::new(ip, self.port), payload }))
    }
}

#[expect(clippy::print_stderr, reason = "this is how a command complains")]
fn complain(what: &str, exit: Exit) -> Exit {
    eprintln!("egressd: {what}");
    exit
}
