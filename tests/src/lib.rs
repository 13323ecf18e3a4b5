//! End-to-end tests and their support.
