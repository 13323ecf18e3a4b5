//! One captured connection from accept to record.
mod addrs;
mod original;
mod relay;
mod socket;
#[cfg(test)]
mod testing;
pub use addrs::*;
pub use original::*;
pub use socket::*;
