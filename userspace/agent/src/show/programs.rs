//! The programs in the kernel: what they cost, as the kernel measures it (bpf_stats).

use std::{
    io::{self, Write as _},
    path::Path,
    thread,
    time::Duration,
};

use serde_json::{Value, json};

use super::{Table, json_lines};
use crate::{admin, cli::Output, exit::Exit};

/// The longest time of measuring, in seconds: an hour.
const LONGEST: u64 = 3600;

/// Measures for a number of seconds and prints what the programs of a running daemon did.
#[expect(clippy::print_stderr, reason = "this is how a command complains")]
pub(super) fn show(socket: &Path, seconds: u64, output: Output) -> Exit {
    let at = socket.display();
    let programs = match measure(socket, seconds.min(LONGEST)) {
        Ok(programs) => programs,
        Err(error) => {
            eprintln!("egressd: no daemon answers at {at}: {error}; is it running? see --admin");
            return Exit::Impossible;
        }
    };
    match print(&programs, output) {
        Err(error) if error.kind() != io::ErrorKind::BrokenPipe => Exit::Impossible,
        Ok(()) | Err(_) => Exit::Fine,
    }
}

fn measure(socket: &Path, seconds: u64) -> io::Result<Vec<Value>> {
    if seconds == 0 {
        return ask(socket);
    }
    admin::ask(socket, "programs on")?;
    let before = ask(socket)?;
    thread::sleep(Duration::from_secs(seconds));
    let after = ask(socket)?;
    admin::ask(socket, "programs off")?;
    Ok(after.into_iter().map(|program| since(&before, program)).collect())
}

fn ask(socket: &Path) -> io::Result<Vec<Value>> {
    let answer = serde_json::from_str(&admin::ask(socket, "programs")?);
    answer.map_err(|_no_list| io::Error::other("it cannot say; is it of another version?"))
}

/// What a program has done since it was looked at before.
fn since(before: &[Value], mut program: Value) -> Value {
    let same = before.iter().find(|known| known["id"] == program["id"]);
    for key in ["runTimeNs", "runCount"] {
        let known = same.and_then(|known| known[key].as_u64()).unwrap_or(0);
        let now = program[key].as_u64().unwrap_or(0);
        program[key] = json!(now.saturating_sub(known));
    }
    program
}

fn print(programs: &[Value], output: Output) -> io::Result<()> {
    let out = &mut io::BufWriter::new(io::stdout().lock());
    match output {
        Output::Json => json_lines(&Value::from(programs.to_vec()), out)?,
        Output::Text => {
            let mut table =
                Table::new(&["PROGRAM", "ID", "RUNS", "TIME", "NS/RUN", "VERIFIED", "BYTES"]);
            for program in programs {
                let number = |key: &str| program[key].as_u64().unwrap_or(0);
                let (runs, time) = (number("runCount"), number("runTimeNs"));
                table.add([
                    program["name"].as_str().unwrap_or("-").to_owned(),
                    number("id").to_string(),
                    runs.to_string(),
                    format!("{:?}", Duration::from_nanos(time)),
                    time.checked_div(runs).map_or("-".to_owned(), |each| each.to_string()),
                    number("verifiedInstructions").to_string(),
                    number("bytes").to_string(),
                ]);
            }
            table.print(out)?;
        }
    }
    out.flush()
}
