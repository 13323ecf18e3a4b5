//! TLS against servers of our own making, over loopback.

mod files;
mod openssl;
mod peers;
mod pki;
mod server;
mod sessions;
mod streams;
mod verification;
