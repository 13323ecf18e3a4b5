//! The direct path: what the kernel makes of connections by itself is what the proxy would have made
//! of them, and what differs is what the manual says.

mod changes;
mod chaos;
mod databases;
mod datagrams;
mod endpoints;
mod equal;
mod limits;
mod pins;
mod restarts;
mod world;
