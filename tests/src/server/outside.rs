//! Servers that people run: Python's, nginx, OpenSSL's.

use std::{fs, net::SocketAddr, os::unix::net::UnixStream, path::Path, time::Duration};

use socket2::{Domain, Socket, Type};
use tempfile::TempDir;

use crate::{
    netns::Netns,
    process::{Running, Spawn},
    wait::until,
};

/// Python's `http.server`, serving a folder.
#[derive(Debug)]
pub struct HttpServer {
    process: Running,
}

impl HttpServer {
    /// Serves a folder at `address:port`.
    #[track_caller]
    pub fn start(netns: &Netns, address: &str, port: u16, folder: &Path) -> Self {
        let words = ["/usr/bin/python3", "-u", "-m", "http.server", "--bind", address];
        let spawn = Spawn::new(words).arg("--directory").arg(folder).arg(port.to_string());
        let process = spawn.netns(netns).start();
        await_listener(netns, address, port);
        Self { process }
    }

    /// The requests it has logged so far.
    pub fn log(&self) -> String {
        self.process.output()
    }
}

/// nginx with one server block.
#[derive(Debug)]
pub struct Nginx {
    process: Running,
    /// Holds its configuration, pid and temporary files.
    _folder: TempDir,
}

impl Nginx {
    /// Listens on `address:port` with these directives inside the `server` block.
    #[track_caller]
    pub fn start(netns: &Netns, address: &str, port: u16, server: &str) -> Self {
        Self::listening(netns, address, port, "", server)
    }

    /// The same over TLS, HTTP/2 by ALPN included; `server` has the certificate's directives, too.
    #[track_caller]
    pub fn tls(netns: &Netns, address: &str, port: u16, server: &str) -> Self {
        Self::listening(netns, address, port, "ssl http2", server)
    }

    /// The same with these words after the address in `listen`.
    #[track_caller]
    pub fn listening(netns: &Netns, address: &str, port: u16, how: &str, server: &str) -> Self {
        let folder = TempDir::with_prefix("egressd-nginx-").expect("a temporary folder");
        let listen =
            if address.contains(':') { format!("[{address}]") } else { address.to_owned() };
        let config = format!(
            "daemon off; master_process off; pid nginx.pid; error_log stderr;\n\
             events {{ worker_connections 4096; }}\n\
             http {{\n\
               access_log off; default_type text/plain;\n\
               client_body_temp_path body; proxy_temp_path proxy; fastcgi_temp_path fastcgi;\n\
               uwsgi_temp_path uwsgi; scgi_temp_path scgi;\n\
               server {{ listen {listen}:{port} {how}; {server} }}\n\
             }}\n"
        );
        fs::write(folder.path().join("nginx.conf"), config).expect("a new file");
        let spawn = Spawn::new(["/usr/sbin/nginx", "-e", "stderr", "-c", "nginx.conf", "-p"]);
        let process = spawn.arg(folder.path()).netns(netns).start();
        await_listener(netns, address, port);
        Self { process, _folder: folder }
    }

    /// What it has logged so far.
    pub fn log(&self) -> String {
        self.process.output()
    }
}

/// `openssl s_server` with a certificate made for the occasion; it answers as a web server.
#[derive(Debug)]
pub struct TlsServer {
    process: Running,
    folder: TempDir,
}

impl TlsServer {
    /// Listens on `address:port` with a certificate for `host`.
    #[track_caller]
    pub fn start(netns: &Netns, address: &str, port: u16, host: &str) -> Self {
        let folder = TempDir::with_prefix("egressd-tls-").expect("a temporary folder");
        let (key, certificate) = (folder.path().join("key"), folder.path().join("certificate"));
        let make = ["openssl", "req", "-x509", "-nodes", "-days", "2", "-newkey", "ec"];
        let spawn = Spawn::new(make).arg("-pkeyopt").arg("ec_paramgen_curve:prime256v1");
        let spawn = spawn.arg("-subj").arg(format!("/CN={host}"));
        let spawn = spawn.arg("-addext").arg(format!("subjectAltName=DNS:{host}"));
        let spawn = spawn.arg("-keyout").arg(&key).arg("-out").arg(&certificate);
        spawn.run().expect_code(0);
        let words = ["openssl", "s_server", "-quiet", "-www", "-accept"];
        let spawn = Spawn::new(words).arg(format!("{address}:{port}"));
        let spawn = spawn.arg("-key").arg(&key).arg("-cert").arg(&certificate);
        let process = spawn.netns(netns).start();
        await_listener(netns, address, port);
        Self { process, folder }
    }

    /// The file of its certificate, for the client to trust.
    pub fn certificate(&self) -> std::path::PathBuf {
        self.folder.path().join("certificate")
    }

    /// What it has printed so far.
    pub fn log(&self) -> String {
        self.process.output()
    }
}

/// Connects until somebody listens.
#[track_caller]
pub fn await_listener(netns: &Netns, address: &str, port: u16) {
    let ip = address.parse().expect("an IP address");
    let target = SocketAddr::new(ip, port);
    until(&format!("a server on {target}"), || {
        netns.run(|| {
            let socket = Socket::new(Domain::for_address(target), Type::STREAM, None).ok()?;
            socket.connect_timeout(&target.into(), Duration::from_secs(1)).ok()
        })
    });
}

/// Connects until somebody listens at a Unix socket.
#[track_caller]
pub(super) fn await_socket(path: &Path) {
    until(&format!("a server at {}", path.display()), || UnixStream::connect(path).ok());
}
