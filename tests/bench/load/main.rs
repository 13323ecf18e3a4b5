//! A load generator for `cargo xtask bench capture` and `bench tcp`: servers, and clients that print
//! medians.
//!
//! One process, one measurement, one line of output, so that the caller can place each in a cgroup
//! and take turns between them.

mod backend;
mod bulk;
mod events;
mod exchange;
mod hello;
mod hold;

use std::{
    env,
    io::{Read as _, Write as _},
    net::{SocketAddr, TcpListener, TcpStream},
    process::ExitCode,
    thread,
    time::{Duration, Instant},
};

use socket2::{Domain, Socket, Type};

type Result<T> = std::result::Result<T, Box<dyn std::error::Error + Send + Sync>>;

const USAGE: &str = "usage: egressd-load serve {close|idle|echo|sink} ADDRESS…\n\
                     \x20      egressd-load {connect|connect-only} ADDRESS COUNT\n\
                     \x20      egressd-load round-trip ADDRESS BYTES COUNT\n\
                     \x20      egressd-load bulk ADDRESS MEBIBYTES\n\
                     \x20      egressd-load backend ADDRESS…\n\
                     \x20      egressd-load {requests|connections|download|upload} ADDRESS AT-ONCE MILLISECONDS\n\
                     \x20      egressd-load hellos ADDRESS AT-ONCE MILLISECONDS SNI\n\
                     \x20      egressd-load hold ADDRESS COUNT";

/// What bulk transfers write at a time.
const BLOCK: usize = 128 * 1024;

/// Connections that may wait to be accepted.
const BACKLOG: i32 = 4096;
/// How long a server that is idle looks away, so that a connect() wakes nobody: waking a thread
/// takes longer than the rest of connect(). At most [`BACKLOG`] connections come in that time.
const IDLE: Duration = Duration::from_millis(10);

fn main() -> ExitCode {
    let words: Vec<String> = env::args().skip(1).collect();
    match run(&words.iter().map(String::as_str).collect::<Vec<_>>()) {
        Ok(line) => {
            // The caller reads it from a pipe, and is gone if that fails.
            writeln!(std::io::stdout(), "{line}").ok();
            ExitCode::SUCCESS
        }
        Err(error) => {
            writeln!(std::io::stderr(), "egressd-load: {error}").ok();
            ExitCode::FAILURE
        }
    }
}

fn run(words: &[&str]) -> Result<String> {
    match words {
        ["serve", mode, addresses @ ..] => serve(mode, addresses),
        ["connect", address, count] => connects(address.parse()?, count.parse()?, finish),
        ["connect-only", address, count] => connects(address.parse()?, count.parse()?, abort),
        ["round-trip", address, bytes, count] => {
            round_trips(address.parse()?, bytes.parse()?, count.parse()?)
        }
        ["bulk", address, mebibytes] => bulk(address.parse()?, mebibytes.parse()?),
        ["backend", addresses @ ..] => backend::serve(addresses),
        ["requests", to, at_once, time] => exchange(to, at_once, time, small(), false),
        ["connections", to, at_once, time] => exchange(to, at_once, time, small(), true),
        ["hellos", to, at_once, time, name] => {
            exchange(to, at_once, time, hello::client_hello(name), true)
        }
        ["download", to, at_once, time] => {
            bulk::run(to.parse()?, at_once.parse()?, milliseconds(time)?, bulk::Way::Down)
        }
        ["upload", to, at_once, time] => {
            bulk::run(to.parse()?, at_once.parse()?, milliseconds(time)?, bulk::Way::Up)
        }
        ["hold", to, count] => hold::run(to.parse()?, count.parse()?),
        _ => Err(USAGE.into()),
    }
}

fn exchange(
    to: &str,
    at_once: &str,
    time: &str,
    request: Vec<u8>,
    connect: bool,
) -> Result<String> {
    let (to, at_once, time) = (to.parse()?, at_once.parse()?, milliseconds(time)?);
    exchange::run(&exchange::Load { to, at_once, time, request, connect })
}

fn milliseconds(text: &str) -> Result<Duration> {
    Ok(Duration::from_millis(text.parse()?))
}

/// A request of 64 bytes that the backend sends back.
fn small() -> Vec<u8> {
    vec![b'e'; 64]
}

/// Serves until it is killed.
fn serve(mode: &str, addresses: &[&str]) -> Result<String> {
    let accept: fn(&TcpListener) = match mode {
        "close" => |listener| accept(listener, |_| Ok(())),
        "idle" => look_away,
        "echo" => |listener| accept(listener, echo),
        "sink" => |listener| accept(listener, sink),
        _ => return Err(USAGE.into()),
    };
    let mut threads = Vec::new();
    for address in addresses {
        let listener = listen(address.parse()?)?;
        threads.push(thread::spawn(move || accept(&listener)));
    }
    writeln!(std::io::stdout(), "listening")?;
    for thread in threads {
        drop(thread.join());
    }
    Err("no address to listen on".into())
}

fn accept(listener: &TcpListener, handle: fn(TcpStream) -> Result<()>) {
    for stream in listener.incoming().flatten() {
        // A client that goes away ends its own measurement.
        thread::spawn(move || handle(stream).ok());
    }
}

/// Accepts and closes what waits, now and then.
fn look_away(listener: &TcpListener) {
    listener.set_nonblocking(true).ok();
    loop {
        thread::sleep(IDLE);
        while listener.accept().is_ok() {}
    }
}

fn listen(address: SocketAddr) -> Result<TcpListener> {
    let socket = Socket::new(Domain::for_address(address), Type::STREAM, None)?;
    socket.set_reuse_address(true)?;
    socket.bind(&address.into())?;
    socket.listen(BACKLOG)?;
    Ok(socket.into())
}

fn echo(mut stream: TcpStream) -> Result<()> {
    stream.set_nodelay(true)?;
    let mut buffer = vec![0; BLOCK];
    loop {
        let size = stream.read(&mut buffer)?;
        if size == 0 {
            return Ok(());
        }
        stream.write_all(&buffer[..size])?;
    }
}

/// Reads to the end and answers with one byte, so that the client knows when all has arrived.
fn sink(mut stream: TcpStream) -> Result<()> {
    let mut buffer = vec![0; BLOCK];
    while stream.read(&mut buffer)? > 0 {}
    Ok(stream.write_all(&[0])?)
}

fn dial(address: SocketAddr) -> Result<TcpStream> {
    let socket = Socket::new(Domain::for_address(address), Type::STREAM, None)?;
    socket.connect(&address.into())?;
    Ok(socket.into())
}

/// The median time of connect() alone, in nanoseconds; `end` is not measured.
fn connects(address: SocketAddr, count: usize, end: fn(TcpStream) -> Result<()>) -> Result<String> {
    let mut times = Vec::with_capacity(count);
    for _ in 0..count {
        let socket = Socket::new(Domain::for_address(address), Type::STREAM, None)?;
        let start = Instant::now();
        socket.connect(&address.into())?;
        times.push(start.elapsed().as_nanos());
        end(socket.into())?;
    }
    Ok(median(times).to_string())
}

/// Waits until the server closes, so that nothing else runs during the next connect().
fn finish(mut stream: TcpStream) -> Result<()> {
    stream.read_to_end(&mut Vec::new())?;
    Ok(())
}

/// Resets the connection, so that its port is free at once.
fn abort(stream: TcpStream) -> Result<()> {
    Ok(socket2::SockRef::from(&stream).set_linger(Some(Duration::ZERO))?)
}

/// The median time of a round trip, in nanoseconds.
fn round_trips(address: SocketAddr, bytes: usize, count: usize) -> Result<String> {
    let mut stream = dial(address)?;
    stream.set_nodelay(true)?;
    let mut buffer = vec![0; bytes];
    let mut times = Vec::with_capacity(count);
    for _ in 0..count {
        let start = Instant::now();
        stream.write_all(&buffer)?;
        stream.read_exact(&mut buffer)?;
        times.push(start.elapsed().as_nanos());
    }
    Ok(median(times).to_string())
}

/// The rate of one transfer, in bits a second.
fn bulk(address: SocketAddr, mebibytes: usize) -> Result<String> {
    let mut stream = dial(address)?;
    let block = vec![0; BLOCK];
    let blocks = (mebibytes << 20) / BLOCK;
    let start = Instant::now();
    for _ in 0..blocks {
        stream.write_all(&block)?;
    }
    stream.shutdown(std::net::Shutdown::Write)?;
    stream.read_exact(&mut [0])?;
    let seconds = start.elapsed().as_secs_f64();
    Ok(((blocks * BLOCK * 8) as f64 / seconds).round().to_string())
}

fn median(mut times: Vec<u128>) -> u128 {
    times.sort_unstable();
    times.get(times.len() / 2).copied().unwrap_or(0)
}
