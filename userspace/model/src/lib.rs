//! Istio YAML to a valid [`Model`], or every [`Diagnostic`].
//!
//! Pure: no file is opened and no clock is read. A caller reads files, hands each text to [`parse`], keeps the
//! [`ParsedFile`]s, and assembles a [`Model`] from them; after a change only the changed file is parsed again.

mod decode;
mod diagnostic;
mod document;
mod file;
mod model;
pub mod resource;
mod span;
mod validate;
pub mod value;
mod yaml;

pub use diagnostic::{Diagnostic, Severity, Verdict};
pub use document::{AnyResource, Document};
pub use file::{ParsedFile, load, parse, parse_bytes, parse_mesh_config};
pub use model::Model;
pub use span::{Span, Spanned};
pub use yaml::{MAX_COPIES, MAX_DEPTH, MAX_TEXT};
