//! Hosts and addresses as a running daemon's kernel side holds them.

use std::{
    io::{self, Write},
    path::Path,
};

use serde_json::Value;

use super::{Filter, Table, json_lines};
use crate::{admin, cli::Output, exit::Exit};

/// Asks the daemon and prints its answer.
#[expect(clippy::print_stderr, reason = "this is how a command complains")]
pub(super) fn vips(socket: &Path, filter: &Filter, output: Output) -> Exit {
    let at = socket.display();
    let answer = match admin::ask(socket, "vips") {
        Ok(answer) => answer,
        Err(error) => {
            eprintln!("egressd: no daemon answers at {at}: {error}; is it running? see --admin");
            return Exit::Impossible;
        }
    };
    let answer = serde_json::from_str::<Value>(&answer);
    let Some(mut answer) = answer.ok().filter(|answer| answer["hosts"].is_array()) else {
        eprintln!("egressd: the daemon at {at} cannot say; is it of another version?");
        return Exit::Impossible;
    };
    keep(&mut answer["hosts"], |host| {
        filter.hosts(text(&host["host"])) && filter.addresses(items(&host["addresses"]))
    });
    keep(&mut answer["addresses"], |address| {
        let hosts = filter.fqdn.is_none() || filter.hosts(text(&address["host"]));
        hosts && filter.addresses(text(&address["address"]))
    });
    match print(&answer, output) {
        Err(error) if error.kind() != io::ErrorKind::BrokenPipe => Exit::Impossible,
        Ok(()) | Err(_) => Exit::Fine,
    }
}

fn print(answer: &Value, output: Output) -> io::Result<()> {
    let out = &mut io::BufWriter::new(io::stdout().lock());
    match output {
        Output::Json => json_lines(answer, out)?,
        Output::Text => {
            let mut hosts = Table::new(&["SERVICE FQDN", "ADDRESSES", "SERVICE"]);
            for host in answer["hosts"].as_array().into_iter().flatten() {
                let addresses: Vec<_> = items(&host["addresses"]).collect();
                hosts.add([shown(&host["host"]), addresses.join(","), shown(&host["service"])]);
            }
            hosts.print(out)?;
            writeln!(out)?;
            let mut addresses = Table::new(&["ADDRESS", "SERVICE FQDN", "SERVICE", "SHARED BY"]);
            for address in answer["addresses"].as_array().into_iter().flatten() {
                let cells = ["address", "host", "service", "services"];
                addresses.add(cells.map(|cell| shown(&address[cell])));
            }
            addresses.print(out)?;
        }
    }
    out.flush()
}

fn keep(list: &mut Value, wanted: impl Fn(&Value) -> bool) {
    if let Some(list) = list.as_array_mut() {
        list.retain(wanted);
    }
}

fn text(value: &Value) -> impl Iterator<Item = &str> {
    value.as_str().into_iter()
}

fn items(value: &Value) -> impl Iterator<Item = &str> {
    value.as_array().into_iter().flatten().filter_map(Value::as_str)
}

fn shown(value: &Value) -> String {
    match value {
        Value::Null => "-".to_owned(),
        Value::String(text) => text.clone(),
        Value::Bool(_) | Value::Number(_) | Value::Array(_) | Value::Object(_) => value.to_string(),
    }
}
