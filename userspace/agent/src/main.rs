//! The egressd daemon and command line.

fn main() {}
