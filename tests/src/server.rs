//! Servers: small ones inside this process, and real ones that people run.

mod behaviour;
mod database;
mod dns;
mod httpbin;
mod inside;
mod outside;

pub use behaviour::Behaviour;
pub use database::Database;
pub use dns::{Bind, Dnsmasq, Unbound};
pub use httpbin::Httpbin;
pub use inside::Servers;
pub use outside::{HttpServer, Nginx, TlsServer, await_listener};
