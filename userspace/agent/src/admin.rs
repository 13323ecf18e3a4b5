//! The administration socket: one command a line, one JSON object back.
//!
//! A Unix socket that only root may open. The protocol is a line of text so that `socat` and a shell
//! are enough when nothing else works.

use std::{
    fs, io,
    os::unix::fs::{FileTypeExt as _, PermissionsExt as _},
    path::{Path, PathBuf},
    sync::Arc,
    time::Duration,
};

use tokio::{
    io::{AsyncBufReadExt as _, AsyncReadExt as _, AsyncWriteExt as _, BufReader},
    net::{UnixListener, UnixStream},
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
        let answer = Arc::new(answer);
        let places = Arc::new(Semaphore::new(CLIENTS));
        loop {
            let Ok(place) = Arc::clone(&places).acquire_owned().await else { return };
            match self.listener.accept().await {
                Ok((stream, _)) => {
                    let answer = Arc::clone(&answer);
                    tokio::spawn(async move {
                        let work = converse(stream, answer.as_ref());
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
}

impl Drop for AdminSocket {
    fn drop(&mut self) {
        if let Err(error) = fs::remove_file(&self.path) {
            tracing::warn!(%error, path = %self.path.display(), "removing the administration socket");
        }
    }
}

async fn converse<F: Fn(&str) -> String>(stream: UnixStream, answer: &F) -> io::Result<()> {
    let (reader, mut writer) = stream.into_split();
    let mut line = String::new();
    BufReader::new(reader.take(COMMAND_BYTES)).read_line(&mut line).await?;
    let mut said = answer(line.trim());
    said.push('\n');
    writer.write_all(said.as_bytes()).await?;
    writer.shutdown().await
}
