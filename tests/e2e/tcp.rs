//! Connections that nobody reads: where they go, under which limits, and what bad peers do to them.

mod balancing;
mod databases;
mod garbage;
mod headers;
mod limits;
mod seeds;
mod sni;
