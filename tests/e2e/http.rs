//! HTTP: requests routed one by one, against real servers.

mod browser;
mod clients;
mod conformance;
mod health;
mod migration;
mod routes;
mod seeds;
mod session;
mod tls;
pub(crate) mod world;
