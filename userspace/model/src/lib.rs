//! Istio YAML to a valid [`Model`], or every [`Diagnostic`].
//!
//! Pure: no file is opened and no clock is read. A caller reads files, hands each text to [`parse`], keeps the
//! [`ParsedFile`]s, and assembles a [`Model`] from them; after a change only the changed file is parsed again.
//!
//! ```
//! let text = "
//! apiVersion: networking.istio.io/v1
//! kind: ServiceEntry
//! metadata: {name: api}
//! spec:
//!   hosts: [api.example.com]
//!   ports: [{number: 443, name: https, protocol: TLS}]
//!   resolution: DNS
//! ";
//! let file = egressd_model::parse("api.yaml", text);
//! assert_eq!(file.verdict(), egressd_model::Verdict::Accept);
//! let model = egressd_model::Model::assemble([&file]).expect("nothing was rejected");
//! assert_eq!(model.service_entries()[0].hosts[0].as_str(), "api.example.com");
//! ```
//!
//! | module | holds |
//! |---|---|
//! | `yaml` | text to trees that remember places: documents, aliases, limits |
//! | `decode` | trees to typed values; unknown fields, wrong types, one finding a mistake |
//! | `document` | which document is ours, its metadata, lists, foreign kinds, lost indentation |
//! | [`resource`] | one struct for each message of the API |
//! | [`value`] | hosts, addresses, protocols and the like |
//! | `validate` | the rules of webhook and schema |
//! | `file`, `model` | one text's documents; all resources, oldest first |
//!
//! **Invariant:** a [`Model`] is valid. Rules run while a text is read, and there is no way to make a `Model` except
//! from texts without errors.
//!
//! **Invariant:** places never take part in comparisons ([`Spanned`]), and neither does the order of files.

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
pub use file::{ParsedFile, load, parse, parse_bytes, parse_mesh_config, place_of};
pub use model::Model;
pub use span::{Span, Spanned};
pub use yaml::{MAX_COPIES, MAX_DEPTH, MAX_TEXT};
