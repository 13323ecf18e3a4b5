//! A configuration that is compiled without a daemon.
