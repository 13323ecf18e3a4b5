//! The HTTP path over loopback: real clients, the connection under test, real servers.

mod binding;
mod body;
mod faults;
mod floods;
mod forwarding;
mod framing;
mod hostile;
mod http2;
mod limits;
mod pooling;
mod retries;
mod routing;
mod support;
mod switching;
mod timeouts;
mod upstream_frames;
