//! Loads, attaches and feeds the eBPF programs.
