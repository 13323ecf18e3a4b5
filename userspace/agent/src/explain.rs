//! `egressd explain`: what becomes of a connection or request, and why.
//!
//! The answers are those of the one decision function that the proxy asks too; this module puts a question and
//! prints the reasons.

mod calls;
mod hints;
mod json;
mod target;
mod text;

use std::{
    io::{self, IsTerminal as _, Write},
    net::IpAddr,
    path::PathBuf,
};

use clap::ValueEnum;
use egressd_tables::{
    Answer, Answers, Call, Explanation, IpFamilies, Path, Payload, RequestHead, VhostOrigin,
    normalize_path,
};

use crate::{
    cli::Output,
    exit::Exit,
    offline::{self, Compiled, Request, Vips},
};

use target::{Target, TargetError};

/// `egressd explain`.
#[derive(Debug, clap::Args)]
#[command(after_help = "\
Targets:
  http://HOST[:PORT][/PATH]      a plaintext request (also http2:// and grpc://)
  https://HOST[:PORT][/PATH]     the application's own TLS, with the host as server name
  tls://HOST[:PORT][?sni=NAME]   the same; the server name is the host unless given
  tcp://HOST:PORT                bytes (also mongodb://, mysql://, postgres:// and redis://)

A name is dialled at the address that egressd answers for it. For other names any address does, unless a resource \
names blocks of addresses: see --address.

With --calls each line is a JSON object with address, port, protocol (http, http2 or tcp), host, path, method, \
headers, tls (tls) and sni, and for each line an object with result, listener and route is printed. VIPs and DNS \
capture are off then unless --allocate-vips and --dns-capture are given, and answers are Istio's own.

Examples:
  egressd explain --config /etc/egressd https://api.example.com/v1
  egressd explain tcp://240.240.0.1:3306 'tls://1.2.3.4:443?sni=api.example.com'

Exit status: 0 explained, 1 the configuration is rejected, 2 wrong usage.")]
pub(crate) struct Args {
    #[command(flatten)]
    offline: offline::Args,
    /// How explanations are printed: for people; or as JSON, one object a target, one a line.
    #[arg(long, value_enum, default_value_t = Output::Text)]
    output: Output,
    /// Calls to decide, one JSON object a line; `-` is standard input.
    #[arg(long, value_name = "FILE.jsonl", conflicts_with_all = ["targets", "output"])]
    calls: Option<PathBuf>,
    /// Whose answers are given where egressd deliberately differs from Istio. Default: Istio's with
    /// --calls, else as egressd.yaml says.
    #[arg(long, value_enum)]
    answers: Option<Whose>,
    /// The method of HTTP requests.
    #[arg(long, default_value = "GET")]
    method: String,
    /// A header of HTTP requests; may be repeated.
    #[arg(long, value_name = "NAME: VALUE")]
    header: Vec<String>,
    /// The address of names that egressd does not answer itself.
    #[arg(long, value_name = "IP")]
    address: Option<IpAddr>,
    /// What is dialled.
    #[arg(value_name = "TARGET", required_unless_present = "calls")]
    targets: Vec<String>,
}

/// Whose answers.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
enum Whose {
    /// egressd's own, as `answers: egressd` in egressd.yaml.
    Egressd,
    /// Istio's, bug for bug.
    Istio,
}

/// Explains.
pub(crate) fn explain(args: &Args) -> Exit {
    if let Some(file) = &args.calls {
        return match args.calls_request().compile() {
            Ok(compiled) => calls::answer(file, &compiled.tables),
            Err(error) => offline::complain(&error),
        };
    }
    let targets: Result<Vec<_>, _> =
        args.targets.iter().map(|text| Target::parse(text, &args.method, &args.header)).collect();
    let targets = match targets {
        Ok(targets) => targets,
        Err(error) => return wrong_usage(&error),
    };
    match args.targets_request().compile() {
        Ok(compiled) => match print(args, &targets, &compiled) {
            Err(error) if error.kind() != io::ErrorKind::BrokenPipe => Exit::Impossible,
            Ok(()) | Err(_) => Exit::Fine,
        },
        Err(error) => offline::complain(&error),
    }
}

impl Args {
    /// As the daemon would answer.
    fn targets_request(&self) -> Request {
        let mut request = self.offline.request();
        request.overrides.answers = self.answers.map(Whose::answers);
        request
    }

    /// As Istio would: nothing that is not asked for, on a node that reaches IPv4 alone.
    fn calls_request(&self) -> Request {
        let mut request = self.offline.request();
        let overrides = &mut request.overrides;
        overrides.answers = Some(self.answers.unwrap_or(Whose::Istio).answers());
        overrides.dns_capture = Some(self.offline.dns_capture);
        overrides.allocate_vips = Some(self.offline.allocate_vips);
        overrides.families = overrides.families.or(Some(IpFamilies::V4));
        request.vips = Vips::Fresh;
        request
    }
}

impl Whose {
    fn answers(self) -> Answers {
        match self {
            Self::Egressd => Answers::Ours,
            Self::Istio => Answers::Istio,
        }
    }
}

fn print(args: &Args, targets: &[Target], compiled: &Compiled) -> io::Result<()> {
    let out = &mut io::stdout().lock();
    let style = text::Style::new(io::stdout().is_terminal());
    for (index, target) in targets.iter().enumerate() {
        let explained = Explained::of(target, compiled, args.address);
        match args.output {
            Output::Text => {
                if index > 0 {
                    writeln!(out)?;
                }
                text::print(&explained, style, out)?;
            }
            Output::Json => json::print(&explained, out)?,
        }
    }
    out.flush()
}

/// A target with what becomes of it.
struct Explained<'a> {
    target: &'a Target,
    explanation: Explanation,
    path: Path,
    hints: Vec<String>,
}

impl<'a> Explained<'a> {
    fn of(target: &'a Target, compiled: &Compiled, address: Option<IpAddr>) -> Self {
        let tables = &compiled.tables;
        let dialled = target.dial(tables, address);
        let call = target.call(dialled.destination);
        let path;
        let payload = match call.payload {
            Payload::Http(head) => {
                path = normalize_path(tables.path_normalization(), head.path);
                Payload::Http(RequestHead { path: &path, ..head })
            }
            Payload::Raw | Payload::Tls { .. } => call.payload,
        };
        let mut explanation = tables.explain(&Call { payload, ..call });
        dialled.describe(target, &mut explanation);
        let hints = hints::hints(target, &explanation, compiled);
        let path = tables.path(dialled.destination);
        Self { target, explanation, path, hints }
    }
}

/// Whether no service was found, and the outbound traffic policy decides.
fn is_policy(answer: &Answer) -> bool {
    match &answer.request {
        Some(request) => {
            let host = request.virtual_host.as_ref();
            host.is_none_or(|host| host.origin == VhostOrigin::CatchAll)
        }
        None => answer.decision.chain.catch_all,
    }
}

#[expect(clippy::print_stderr, reason = "this is how a command complains")]
fn wrong_usage(error: &TargetError) -> Exit {
    eprintln!("egressd: {error}");
    Exit::Usage
}
