//! YAML text to trees that remember where every node stands.
//!
//! Resources are read through [`saphyr_parser`], an event parser with a position for every event, and not through
//! serde_yaml, which keeps positions for syntax errors only: a finding about a well-formed value (an unknown
//! protocol, a port out of range) could not say where it is. saphyr-parser also leaves three things to us that
//! Kubernetes does in its own way and that decide what a file means: how plain scalars are typed, duplicate keys,
//! and merge keys. The daemon's own egressd.yaml, where serde's derive is worth more than columns, stays with
//! serde_yaml.
//!
//! Limits, so that no text can exhaust the machine: [`MAX_TEXT`] bytes a file, [`MAX_DEPTH`] levels of nesting,
//! [`MAX_COPIES`] nodes copied through aliases.

mod document;
mod flow;
mod node;
mod reader;
mod scalar;

pub(crate) use document::{Chunk, chunks};
pub(crate) use node::{Entry, Node, Value};
pub(crate) use reader::{Duplicate, read};
pub(crate) use scalar::{Scalar, ScalarKind};

/// Largest file that is read, in bytes. 10,000 ServiceEntries are about 4 MiB.
pub const MAX_TEXT: usize = 16 << 20;
/// Deepest nesting of maps and lists. The API itself needs about 15.
pub const MAX_DEPTH: usize = 100;
/// Most nodes that the anchors and aliases of one document may copy.
pub const MAX_COPIES: usize = 100_000;
