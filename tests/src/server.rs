//! Servers: small ones inside this process, and real ones that people run.

mod behaviour;
mod dns;
mod httpbin;
mod inside;
mod outside;

pub use behaviour::Behaviour;
pub use dns::{Bind, Dnsmasq, Unbound};
pub use httpbin::Httpbin;
pub use inside::Servers;
pub use outside::{HttpServer, Nginx, TlsServer, await_listener};
