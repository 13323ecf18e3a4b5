//! `egressd status` and `egressd metrics`: what a running daemon does.

use std::path::Path;

use serde_json::Value;

use crate::{admin, cli, cli::Output, exit::Exit};

/// Asks the daemon and prints its answer.
#[expect(clippy::print_stdout, reason = "this is what the command is for")]
pub(crate) fn status(args: &cli::Status) -> Exit {
    let Some(answer) = ask(&args.admin, "status") else { return Exit::Impossible };
    match (args.output, serde_json::from_str::<Value>(&answer)) {
        (Output::Text, Ok(Value::Object(fields))) => {
            for (key, value) in fields {
                print_field("", &key, &value);
            }
        }
        (Output::Json | Output::Text, _) => print!("{answer}"),
    }
    Exit::Fine
}

/// Asks the daemon for its metrics and prints them.
#[expect(clippy::print_stdout, reason = "this is what the command is for")]
pub(crate) fn metrics(args: &cli::Metrics) -> Exit {
    let Some(answer) = ask(&args.admin, "metrics") else { return Exit::Impossible };
    print!("{answer}");
    Exit::Fine
}

/// The daemon's answer; without one, says so.
#[expect(clippy::print_stderr, reason = "this is how a command complains")]
fn ask(socket: &Path, command: &str) -> Option<String> {
    let answer = admin::ask(socket, command);
    let complain = |error: &std::io::Error| {
        let socket = socket.display();
        eprintln!("egressd: no daemon answers at {socket}: {error}; is it running? see --admin");
    };
    answer.inspect_err(complain).ok()
}

#[expect(clippy::print_stdout, reason = "this is what the command is for")]
fn print_field(indent: &str, key: &str, value: &Value) {
    match value {
        Value::Object(fields) => {
            println!("{indent}{key}:");
            for (key, value) in fields {
                print_field(&format!("{indent}  "), key, value);
            }
        }
        Value::String(text) => println!("{indent}{key}: {text}"),
        Value::Null | Value::Bool(_) | Value::Number(_) | Value::Array(_) => {
            println!("{indent}{key}: {value}");
        }
    }
}
