//! What a small server does with one connection.

use std::{io, time::Duration};

use tokio::io::{AsyncRead, AsyncReadExt as _, AsyncWrite, AsyncWriteExt as _};

/// What a small server does with each connection.
#[derive(Clone, Debug)]
pub enum Behaviour {
    /// Says its name and a line feed at once, as server-first protocols do, then echoes to the end.
    Named(String),
    /// Answers one HTTP request, whatever it is, with this page.
    Page(String),
    /// Echoes to the end.
    Echo,
    /// Reads to the end, then answers with the number of bytes as text: needs half-close.
    Count,
    /// Sends this many bytes, ends its direction, and reads to the end.
    Send(usize),
    /// Reads nothing and says nothing while the client is there.
    Stall,
    /// Ends the connection at once.
    Close,
    /// Resets the connection after the first byte.
    Reset,
}

impl Behaviour {
    /// A server that says its name first.
    pub fn named(name: impl Into<String>) -> Self {
        Self::Named(name.into())
    }

    /// Serves one connection; an error is the peer's going away.
    pub(super) async fn serve(
        &self,
        mut stream: impl AsyncRead + AsyncWrite + Unpin,
    ) -> io::Result<After> {
        match self {
            Self::Named(name) => {
                stream.write_all(format!("{name}\n").as_bytes()).await?;
                echo(&mut stream).await?;
            }
            Self::Page(page) => {
                let mut request = Vec::new();
                while !request.ends_with(b"\r\n\r\n") {
                    request.push(stream.read_u8().await?);
                }
                let head = format!("HTTP/1.1 200 OK\r\nContent-Length: {}\r\n\r\n", page.len());
                stream.write_all(format!("{head}{page}").as_bytes()).await?;
            }
            Self::Echo => echo(&mut stream).await?,
            Self::Count => {
                let count = tokio::io::copy(&mut stream, &mut tokio::io::sink()).await?;
                stream.write_all(count.to_string().as_bytes()).await?;
            }
            Self::Send(size) => {
                let mut bytes = tokio::io::repeat(b'x').take(*size as u64);
                tokio::io::copy(&mut bytes, &mut stream).await?;
                stream.shutdown().await?;
                tokio::io::copy(&mut stream, &mut tokio::io::sink()).await?;
            }
            Self::Stall => loop {
                tokio::time::sleep(Duration::from_secs(3600)).await;
            },
            Self::Close => (),
            Self::Reset => {
                stream.read_u8().await?;
                return Ok(After::Reset);
            }
        }
        stream.shutdown().await?;
        Ok(After::Close)
    }
}

/// How the connection is to be given up.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum After {
    /// By closing.
    Close,
    /// By RST.
    Reset,
}

async fn echo(stream: &mut (impl AsyncRead + AsyncWrite + Unpin)) -> io::Result<()> {
    let mut buffer = vec![0; 64 * 1024];
    loop {
        let size = stream.read(&mut buffer).await?;
        if size == 0 {
            return Ok(());
        }
        stream.write_all(&buffer[..size]).await?;
    }
}
