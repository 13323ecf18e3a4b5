//! TLS against servers of our own making, over loopback.

mod files;
mod gateways;
mod openssl;
mod peers;
mod pki;
mod relays;
mod server;
mod sessions;
mod streams;
mod verification;
