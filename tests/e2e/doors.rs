//! Sockets that clients dial by themselves: egress gateways and the explicit HTTP proxy.

mod gateway;
mod mesh;
mod opening;
mod proxy;
mod world;
