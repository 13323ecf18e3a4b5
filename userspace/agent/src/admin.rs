//! The administration socket: one command a line, one JSON object back.
//!
//! A Unix socket that only root may open. The protocol is a line of text so that `socat` and a shell
//! are enough when nothing else works.

use std::{
    fs,
    future::poll_fn,
    io,
    os::unix::fs::{FileTypeExt as _, PermissionsExt as _},
    path::{Path, PathBuf},
    sync::Arc,
    task::{Context, Poll},
    time::Duration,
};

use tokio::{
    io::{
        AsyncBufReadExt as _, AsyncRead, AsyncReadExt as _, AsyncWrite, AsyncWriteExt as _,
        BufReader,
    },
    net::{TcpListener, UnixListener, UnixStream},
    sync::Semaphore,
};

mod client;

pub(crate) use client::ask;

/// The longest command.
const COMMAND_BYTES: u64 = 4096;
/// A client that neither asks nor reads is let go after this.
const PATIENCE: Duration = Duration::from_secs(5);
/// Commands answered at the same time; others wait.
const CLIENTS: usize = 16;

/// The socket, which is removed when this is dropped.
#[derive(Debug)]
pub(crate) struct AdminSocket {
    path: PathBuf,
    listener: UnixListener,
}

impl AdminSocket {
    /// Listens at `path`. A socket left behind by a killed daemon is replaced, one that answers is
    /// not.
    pub(crate) async fn bind(path: &Path) -> io::Result<Self> {
        if let Some(directory) = path.parent() {
            fs::create_dir_all(directory)?;
        }
        match UnixStream::connect(path).await {
            Ok(_answers) => return Err(io::ErrorKind::AddrInUse.into()),
            // A file of another kind refuses, too, and is somebody's.
            Err(error)
                if error.kind() == io::ErrorKind::ConnectionRefused
                    && fs::symlink_metadata(path)?.file_type().is_socket() =>
            {
                fs::remove_file(path)?;
            }
            Err(_absent) => {}
        }
        let listener = UnixListener::bind(path)?;
        fs::set_permissions(path, fs::Permissions::from_mode(0o600))?;
        Ok(Self { path: path.to_owned(), listener })
    }

    /// Answers commands with `answer` for ever.
    pub(crate) async fn serve<F>(&self, answer: F)
    where
        F: Fn(&str) -> String + Send + Sync + 'static,
    {
        let accept =
            |cx: &mut Context<'_>| self.listener.poll_accept(cx).map_ok(|(stream, _)| stream);
        serve(accept, answer).await;
    }
}

/// Answers commands that come by TCP, for those who cannot open a Unix socket. Whoever may connect may
/// ask.
pub(crate) async fn serve_tcp<F>(listener: TcpListener, answer: F)
where
    F: Fn(&str) -> String + Send + Sync + 'static,
{
    let accept = |cx: &mut Context<'_>| listener.poll_accept(cx).map_ok(|(stream, _)| stream);
    serve(accept, answer).await;
}

async fn serve<S, A, F>(mut accept: A, answer: F)
where
    A: FnMut(&mut Context<'_>) -> Poll<io::Result<S>>,
    S: AsyncRead + AsyncWrite + Send + 'static,
    F: Fn(&str) -> String + Send + Sync + 'static,
{
    let answer = Arc::new(answer);
    let places = Arc::new(Semaphore::new(CLIENTS));
    loop {
        let Ok(place) = Arc::clone(&places).acquire_owned().await else { return };
        match poll_fn(&mut accept).await {
            Ok(stream) => {
                let answer = Arc::clone(&answer);
                tokio::spawn(async move {
                    let work = converse(stream, answer);
                    if let Ok(Err(error)) = tokio::time::timeout(PATIENCE, work).await {
                        tracing::debug!(%error, "administration");
                    }
                    drop(place);
                });
            }
            Err(error) => {
                tracing::warn!(%error, "administration socket");
                tokio::time::sleep(Duration::from_millis(100)).await;
            }
        }
    }
}

impl Drop for AdminSocket {
    fn drop(&mut self) {
        if let Err(error) = fs::remove_file(&self.path) {
            tracing::warn!(%error, path = %self.path.display(), "removing the administration socket");
        }
    }
}

/// An answer as HTTP has it; the end of the connection is its end.
fn http(said: &str) -> String {
    let kind = if said.starts_with('{') { "application/json" } else { "text/plain; version=0.0.4" };
    let length = said.len();
    format!(
        "HTTP/1.0 200 OK\r\ncontent-type: {kind}\r\ncontent-length: {length}\r\n\
         connection: close\r\n\r\n{said}"
    )
}

async fn converse<S, F>(stream: S, answer: Arc<F>) -> io::Result<()>
where
    S: AsyncRead + AsyncWrite,
    F: Fn(&str) -> String + Send + Sync + 'static,
{
    // A long answer takes a while to make, and names of clusters are resolved on this thread.
    let answer = async |command: &str| {
        let (answer, command) = (Arc::clone(&answer), command.to_owned());
        tokio::task::spawn_blocking(move || answer(&command)).await.map_err(io::Error::other)
    };
    let (reader, mut writer) = tokio::io::split(stream);
    let mut reader = BufReader::new(reader.take(COMMAND_BYTES));
    let mut line = String::new();
    reader.read_line(&mut line).await?;
    let asked = line.trim();
    // `curl --unix-socket PATH http://egressd/metrics`, and whatever else reads metrics by HTTP.
    let mut said = match asked.strip_prefix("GET /").and_then(|rest| rest.split_once(' ')) {
        Some((command, _version)) => {
            // What is left unread when a connection is closed makes it a reset.
            let mut header = String::new();
            while reader.read_line(&mut header).await? > 0 && !header.trim().is_empty() {
                header.clear();
            }
            http(&answer(command).await?)
        }
        None => answer(asked).await?,
    };
    if !said.ends_with('\n') {
        said.push('\n');
    }
    writer.write_all(said.as_bytes()).await?;
    writer.shutdown().await
}
