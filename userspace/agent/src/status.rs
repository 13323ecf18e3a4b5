//! `egressd status`: what a running daemon does.

use serde_json::Value;

use crate::{admin, cli, cli::Output, exit::Exit};

/// Asks the daemon and prints its answer.
#[expect(clippy::print_stdout, clippy::print_stderr, reason = "this is what the command is for")]
pub(crate) fn status(args: &cli::Status) -> Exit {
    let answer = match admin::ask(&args.admin, "status") {
        Ok(answer) => answer,
        Err(error) => {
            let socket = args.admin.display();
            eprintln!(
                "egressd: no daemon answers at {socket}: {error}; is it running? see --admin"
            );
            return Exit::Impossible;
        }
    };
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
