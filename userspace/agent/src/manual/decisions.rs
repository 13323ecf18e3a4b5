//! Choices: their context, the choice, what follows from it.
//!
//! # A pair of maps for each table, chosen by one word (2026-11)
//!
//! *Context.* A generation of rows must appear at once. Replacing an inner map of a map-in-map costs
//! about 8 ms here, and aya 0.14 has no batch update.
//!
//! *Choice.* Each table has two plain maps. The one that is not in force is brought from what it
//! holds to what is wanted, then one word is flipped, which each connect() reads once. Before the
//! other one is touched again, `membarrier(2)` waits for every program that may still read it.
//!
//! *Consequences.* A reload writes only what differs from the generation before last. Sizes are
//! fixed when the object is loaded.
//!
//! # The rewritten-mark is shared through its name (2026-11)
//!
//! *Context.* Where one instance captures a cgroup inside another instance's, the outer program sees
//! the spread address that the inner one has put in, and would deny it as a dial to the spread
//! range.
//!
//! *Choice.* One socket-storage map for all instances of a host, found among the loaded maps by its
//! name and lent to the loader through a pin in a mount namespace that nobody else sees.
//!
//! *Consequences.* Nothing is ever pinned where it could stay behind. Another process with CAP_BPF
//! could make a map of that name first; it could as well load a program of its own.
//!
//! # Explicit excludes do not hide an exact row (2026-11)
//!
//! *Context.* `capture.excludeCidrs` may cover an address that a service has as its VIP.
//!
//! *Choice.* As with loopback: an exact row wins. The VIP leads nowhere without us.
//!
//! # aya's `Pod` through byte arrays (2026-11)
//!
//! *Context.* aya asks for `unsafe impl Pod` on key and value types, which live in another crate.
//!
//! *Choice.* Maps are opened with byte arrays of the same size; zerocopy proves the conversion.
//!
//! *Consequences.* No unsafe code at all for map access; a wrong size fails when the map is opened.
