//! What the system says about DNS: `/etc/resolv.conf`, and the servers behind a local stub.

mod changes;

use std::{
    fs::File,
    io::{self, Read as _},
    net::{IpAddr, SocketAddr, SocketAddrV6},
    path::{Path, PathBuf},
    time::Duration,
};

use resolv_conf::ScopedIp;

pub use self::changes::Changes;
use crate::upstream::{Foreign, Upstream, Upstreams, is_local};

/// Where the files are.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Paths {
    /// The file that every program reads. Default `/etc/resolv.conf`.
    pub resolv_conf: PathBuf,
    /// Files with the servers that a local stub asks, in the order they are tried. Default those of
    /// systemd-resolved, NetworkManager and dnsmasq.
    pub behind_stub: Vec<PathBuf>,
}

impl Default for Paths {
    fn default() -> Self {
        Self {
            resolv_conf: "/etc/resolv.conf".into(),
            behind_stub: [
                "/run/systemd/resolve/resolv.conf",
                "/run/NetworkManager/no-stub-resolv.conf",
                "/run/dnsmasq/resolv.conf",
            ]
            .map(PathBuf::from)
            .to_vec(),
        }
    }
}

/// The system's DNS, read once.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct SystemDns {
    /// The servers that programs ask: what `dns.capture: resolv.conf` captures.
    pub servers: Vec<SocketAddr>,
    /// The servers that we ask: the same, or those behind a local stub.
    pub upstreams: Vec<SocketAddr>,
    /// Search domains, in order. The first one shortens a client's search.
    pub search: Vec<String>,
    /// Limit for one question to one server. Default 5 s, `options timeout:` says otherwise.
    pub timeout: Duration,
    /// How often all servers are asked. Default 2, `options attempts:` says otherwise.
    pub attempts: usize,
    /// Where `upstreams` were found.
    pub source: PathBuf,
}

/// Why the system's DNS is not known.
#[derive(Debug, thiserror::Error)]
pub enum SystemDnsError {
    /// The file cannot be read.
    #[error("reading {path}")]
    Read {
        /// The file.
        path: PathBuf,
        /// Why.
        source: io::Error,
    },
}

impl SystemDns {
    /// Reads the files. A line that makes no sense is skipped, as programs do.
    ///
    /// A server on this node is a stub: its own servers are asked instead, because it may ask us
    /// what we ask it. Where they are not known, the stub itself is asked, and watched for leading
    /// back here.
    ///
    /// # Errors
    /// `/etc/resolv.conf` is there and cannot be read. Without it, the server is 127.0.0.1, as for
    /// every program.
    pub fn read(paths: &Paths) -> Result<Self, SystemDnsError> {
        Ok(Self::of(&Files::read(paths)?, paths))
    }

    fn of(files: &Files, paths: &Paths) -> Self {
        let path = &paths.resolv_conf;
        let config = parse(path, &files.resolv_conf);
        let servers = addresses(&config.get_nameservers_or_local());
        let (upstreams, source) = if servers.iter().any(|server| is_local(server.ip())) {
            files.behind_stub(&servers, paths).unwrap_or_else(|| (servers.clone(), path.clone()))
        } else {
            (servers.clone(), path.clone())
        };
        Self {
            servers,
            upstreams,
            search: config.get_last_search_or_domain().cloned().collect(),
            timeout: Duration::from_secs(config.timeout.clamp(1, 30).into()),
            attempts: usize::try_from(config.attempts.clamp(1, 5)).unwrap_or(2),
            source,
        }
    }

    /// The upstreams for forwarding: these servers, and never the stub that they stand behind. A
    /// query for another server goes to that one.
    pub fn to_upstreams(&self) -> Upstreams {
        let servers = self.upstreams.iter().copied().map(Upstream::plain).collect();
        let stubs = self.servers.iter().filter(|server| !self.upstreams.contains(server));
        Upstreams::new(servers, Foreign::AskIt, stubs.map(SocketAddr::ip).collect())
    }
}

/// What is in the files.
#[derive(Clone, Debug, PartialEq, Eq)]
struct Files {
    /// Nothing if it is not there.
    resolv_conf: Vec<u8>,
    /// In the order of [`Paths::behind_stub`]; nothing of those that cannot be read.
    behind_stub: Vec<Vec<u8>>,
}

impl Files {
    fn read(paths: &Paths) -> Result<Self, SystemDnsError> {
        let path = &paths.resolv_conf;
        let resolv_conf = match read_file(path) {
            Err(error) if error.kind() == io::ErrorKind::NotFound => Vec::new(),
            text => text.map_err(|source| SystemDnsError::Read { path: path.clone(), source })?,
        };
        let behind_stub =
            paths.behind_stub.iter().map(|path| read_file(path).unwrap_or_default()).collect();
        Ok(Self { resolv_conf, behind_stub })
    }

    /// Whether resolv.conf has a line that names a server.
    fn name_a_server(&self, paths: &Paths) -> bool {
        !parse(&paths.resolv_conf, &self.resolv_conf).nameservers.is_empty()
    }

    /// The servers of the first file that names one which is not on this node. Servers of
    /// resolv.conf that are no stub stay.
    fn behind_stub(
        &self,
        servers: &[SocketAddr],
        paths: &Paths,
    ) -> Option<(Vec<SocketAddr>, PathBuf)> {
        paths.behind_stub.iter().zip(&self.behind_stub).find_map(|(path, text)| {
            let found = addresses(&parse(path, text).nameservers);
            let mut real: Vec<_> =
                found.into_iter().filter(|server| !is_local(server.ip())).collect();
            let others = servers.iter().filter(|server| !is_local(server.ip()));
            for other in others {
                if !real.is_empty() && !real.contains(other) {
                    real.push(*other);
                }
            }
            (!real.is_empty()).then(|| (real, path.clone()))
        })
    }
}

/// As much of a file as any resolver configuration can need.
fn read_file(path: &Path) -> io::Result<Vec<u8>> {
    let mut text = Vec::new();
    File::open(path)?.take(MAX_FILE).read_to_end(&mut text)?;
    Ok(text)
}

fn parse(path: &Path, text: &[u8]) -> resolv_conf::Config {
    let (mut config, errors) = resolv_conf::Config::parse_with_errors(text);
    for error in errors {
        tracing::debug!(path = %path.display(), %error, "a line of resolv.conf is skipped");
    }
    config.glibc_normalize();
    config
}

fn addresses(servers: &[ScopedIp]) -> Vec<SocketAddr> {
    let mut found = Vec::new();
    for server in servers {
        let address = match server {
            ScopedIp::V4(ip) => SocketAddr::new(IpAddr::V4(*ip), DNS_PORT),
            ScopedIp::V6(ip, scope) => {
                let scope = scope.as_deref().map_or(0, scope_id);
                SocketAddrV6::new(*ip, DNS_PORT, 0, scope).into()
            }
        };
        if !found.contains(&address) {
            found.push(address);
        }
    }
    found
}

/// The number of an interface, which may be written as a name or as a number.
fn scope_id(scope: &str) -> u32 {
    scope.parse().ok().or_else(|| nix::net::if_::if_nametoindex(scope).ok()).unwrap_or(0)
}

const DNS_PORT: u16 = 53;
/// Bytes read of each file.
const MAX_FILE: u64 = 64 << 10;

#[cfg(test)]
mod tests {
    use std::fs;

    use super::*;

    struct Files(tempfile::TempDir);

    impl Files {
        fn new(resolv_conf: &str, stub: Option<&str>) -> Self {
            let directory = tempfile::tempdir().unwrap();
            fs::write(directory.path().join("resolv.conf"), resolv_conf).unwrap();
            if let Some(stub) = stub {
                fs::write(directory.path().join("stub.conf"), stub).unwrap();
            }
            Self(directory)
        }

        fn read(&self) -> SystemDns {
            let at = |name| self.0.path().join(name);
            let paths = Paths {
                resolv_conf: at("resolv.conf"),
                behind_stub: vec![at("missing.conf"), at("stub.conf")],
            };
            SystemDns::read(&paths).unwrap()
        }
    }

    fn shown(servers: &[SocketAddr]) -> Vec<String> {
        servers.iter().map(ToString::to_string).collect()
    }

    #[test]
    fn servers_search_and_options() {
        let files = Files::new(
            "# comment\nnameserver 203.0.113.1\nnameserver 2001:db8::1\nnameserver 203.0.113.1\n\
             nonsense\nsearch ns1.svc.cluster.local svc.cluster.local\n\
             options ndots:5 timeout:3 attempts:1\n",
            None,
        );
        let dns = files.read();
        assert_eq!(shown(&dns.servers), ["203.0.113.1:53", "[2001:db8::1]:53"]);
        assert_eq!(dns.upstreams, dns.servers);
        assert_eq!(dns.search, ["ns1.svc.cluster.local", "svc.cluster.local"]);
        assert_eq!((dns.timeout, dns.attempts), (Duration::from_secs(3), 1));
        assert!(dns.source.ends_with("resolv.conf"));
    }

    #[test]
    fn the_servers_behind_a_stub() {
        let files = Files::new(
            "nameserver 127.0.0.53\nsearch lan\n",
            Some("nameserver 203.0.113.7\nnameserver 127.0.0.1\n"),
        );
        let dns = files.read();
        assert_eq!(shown(&dns.servers), ["127.0.0.53:53"]);
        assert_eq!(shown(&dns.upstreams), ["203.0.113.7:53"]);
        assert!(dns.source.ends_with("stub.conf"));
    }

    #[test]
    fn a_stub_with_nothing_known_behind_it() {
        let files = Files::new("nameserver 127.0.0.1\n", Some("nameserver 127.0.0.53\n"));
        assert_eq!(shown(&files.read().upstreams), ["127.0.0.1:53"]);
        // Without any server, every program asks this one.
        assert_eq!(shown(&Files::new("", None).read().upstreams), ["127.0.0.1:53", "[::1]:53"]);
    }
}
