//! One text: its documents, each with its findings and its resource.

use std::borrow::Cow;
use std::sync::Arc;

use crate::decode::{At, Cx, Decode};
use crate::document::{self, Document};
use crate::resource::MeshConfig;
use crate::yaml::{self, Chunk, MAX_TEXT, Node};
use crate::{Diagnostic, Model, Severity, Span, Verdict, validate};

/// Everything that is known about one file. Keep it, and parse again only the files that change.
#[derive(Clone, Debug, Default)]
pub struct ParsedFile {
    path: Arc<str>,
    documents: Vec<Document>,
}

impl ParsedFile {
    /// The file as the caller named it.
    pub fn path(&self) -> &Arc<str> {
        &self.path
    }

    /// Its documents in order; the items of a `List` count as documents of their own.
    pub fn documents(&self) -> &[Document] {
        &self.documents
    }

    /// All findings in the order of documents.
    pub fn diagnostics(&self) -> impl Iterator<Item = &Diagnostic> {
        self.documents.iter().flat_map(|document| &document.diagnostics)
    }

    /// The worst verdict of its documents.
    pub fn verdict(&self) -> Verdict {
        Verdict::of(self.diagnostics())
    }
}

/// Reads a text. Never fails and never panics: what is wrong is in the documents' findings.
pub fn parse(path: &str, text: &str) -> ParsedFile {
    let path: Arc<str> = Arc::from(path);
    if text.len() > MAX_TEXT {
        let message = format!("larger than {MAX_TEXT} bytes");
        let documents = vec![unreadable(&path, "file-too-large", Span::default(), message, None)];
        return ParsedFile { path, documents };
    }
    let mut documents = Vec::new();
    for chunk in yaml::chunks(text) {
        parse_chunk(&path, chunk, &mut documents);
    }
    ParsedFile { path, documents }
}

/// Reads bytes: UTF-8, with or without a byte order mark.
pub fn parse_bytes(path: &str, bytes: &[u8]) -> ParsedFile {
    match text_of(bytes) {
        Ok(text) => parse(path, text),
        Err(error) => {
            let path: Arc<str> = Arc::from(path);
            let line =
                bytes[..error.valid_up_to()].iter().filter(|byte| **byte == b'\n').count() + 1;
            let at = u32::try_from(error.valid_up_to()).unwrap_or(u32::MAX);
            let line = u32::try_from(line).unwrap_or(u32::MAX);
            let span = Span { line, column: 1, start: at, end: at };
            let help = Some("save the file as UTF-8".to_owned());
            let documents = vec![unreadable(&path, "not-utf8", span, error.to_string(), help)];
            ParsedFile { path, documents }
        }
    }
}

/// Reads texts with their paths and puts them together: [`parse`] and [`Model::assemble`] in one, for callers that
/// read everything once.
///
/// # Errors
/// Every finding of every text, if one of them is an error.
pub fn load<'a>(
    files: impl IntoIterator<Item = (&'a str, &'a str)>,
) -> Result<Model, Vec<Diagnostic>> {
    let files: Vec<ParsedFile> = files.into_iter().map(|(path, text)| parse(path, text)).collect();
    Model::assemble(&files)
}

/// Reads mesh-wide settings: the map at `path_in_document` of the first document, for example `["meshConfig"]` in
/// egressd.yaml, or the whole document where the path is empty. An absent or empty map gives the defaults.
///
/// # Errors
/// Every finding, if one of them is an error. Otherwise the warnings come with the settings.
pub fn parse_mesh_config(
    path: &str,
    text: &str,
    path_in_document: &[&str],
) -> Result<(MeshConfig, Vec<Diagnostic>), Vec<Diagnostic>> {
    let file: Arc<str> = Arc::from(path);
    let Some(chunk) = yaml::chunks(text).into_iter().next() else {
        return Ok((MeshConfig::default(), Vec::new()));
    };
    let (nodes, duplicates, error) = yaml::read(chunk);
    if let Some(error) = error {
        return Err(unreadable(&file, "syntax", error.span, error.message, error.help).diagnostics);
    }
    let mut cx = Cx::new(&file);
    let mesh = nodes.first().map(|node| mesh_config(&At::root(node), path_in_document, &mut cx));
    for duplicate in &duplicates {
        if let Some(node) = nodes.get(duplicate.document) {
            cx.duplicate_key(&At::root(node), duplicate);
        }
    }
    let rejected = cx.has_errors();
    let diagnostics = cx.finish();
    if rejected { Err(diagnostics) } else { Ok((mesh.unwrap_or_default(), diagnostics)) }
}

/// The place of what stands at a path of a text's first document: keys, and numbers of items from 0. Of a map or
/// list it is the place of its key. Where the end of the path is not written, the closest that is.
pub fn place_of<'a>(text: &str, path: impl IntoIterator<Item = &'a str>) -> Option<Span> {
    let chunk = yaml::chunks(text).into_iter().next()?;
    let (nodes, _, _) = yaml::read(chunk);
    let mut node = nodes.first()?;
    let mut place = None;
    for step in path {
        if let Some(entry) = node.entry(step) {
            (node, place) = (&entry.value, Some(entry.key_span));
        } else if let Some(item) = step.parse().ok().and_then(|index| node.item(index)) {
            (node, place) = (item, Some(item.span));
        } else {
            break;
        }
        if matches!(node.value, yaml::Value::Scalar(_)) && !node.is_null() {
            place = Some(node.span);
        }
    }
    place
}

fn mesh_config(at: &At<'_>, path: &[&str], cx: &mut Cx) -> MeshConfig {
    match path {
        [first, rest @ ..] => mesh_config(&at.field(first), rest, cx),
        [] if at.node().is_none_or(Node::is_null) => MeshConfig::default(),
        [] => {
            let mesh = MeshConfig::decode(at, cx);
            validate::mesh_config(&mesh, at, cx);
            mesh
        }
    }
}

fn text_of(bytes: &[u8]) -> Result<&str, std::str::Utf8Error> {
    std::str::from_utf8(bytes)
}

fn parse_chunk(path: &Arc<str>, chunk: Chunk<'_>, documents: &mut Vec<Document>) {
    // The parser takes a byte order mark for content; a space in its place keeps every position.
    let text = match chunk.text.strip_prefix('\u{feff}') {
        Some(rest) => Cow::Owned(rest.to_owned()),
        None => Cow::Borrowed(chunk.text),
    };
    let mark = u32::from(matches!(text, Cow::Owned(_))) * 3;
    let chunk = Chunk { text: &text, line: chunk.line, offset: chunk.offset + mark };
    let (nodes, duplicates, error) = yaml::read(chunk);
    for (index, node) in nodes.iter().enumerate().filter(|(_, node)| !node.is_null()) {
        let own: Vec<_> =
            duplicates.iter().filter(|duplicate| duplicate.document == index).collect();
        document::read(path, node, &own, documents);
    }
    if let Some(error) = error {
        documents.push(match document::first_unindented_line(chunk) {
            Some(diagnosis) => diagnosis.into_document(path),
            None => unreadable(path, "syntax", error.span, error.message, error.help),
        });
    }
}

fn unreadable(
    path: &Arc<str>,
    code: &'static str,
    span: Span,
    message: String,
    help: Option<String>,
) -> Document {
    let (severity, field) = (Severity::Error, String::new());
    Document::unreadable(Diagnostic {
        severity,
        code,
        path: Arc::clone(path),
        span,
        field,
        message,
        help,
    })
}
