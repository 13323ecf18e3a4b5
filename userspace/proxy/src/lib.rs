//! One captured connection from accept to record.
mod access_log;
mod addrs;
mod original;
mod record;
mod relay;
mod sniff;
mod socket;
#[cfg(test)]
mod testing;
pub use access_log::*;
pub use addrs::*;
pub use original::*;
pub use record::*;
pub use socket::*;
