//! Events to trees: spans, aliases, merge keys, duplicate keys, limits.

use std::borrow::Cow;
use std::collections::{HashMap, HashSet};

use saphyr_parser::{Event, Marker, Parser, ScalarStyle, ScanError, Tag};

use crate::Span;
use crate::yaml::scalar::Style;
use crate::yaml::{Chunk, Entry, MAX_COPIES, MAX_DEPTH, Node, Scalar, Value, flow};

/// The text is not YAML, or goes beyond a limit.
#[derive(Clone, Debug)]
pub(crate) struct SyntaxError {
    pub(crate) span: Span,
    pub(crate) message: String,
    pub(crate) help: Option<String>,
}

/// A key that stands twice in one map. The first one counts.
#[derive(Clone, Debug)]
pub(crate) struct Duplicate {
    pub(crate) key: String,
    pub(crate) span: Span,
    pub(crate) first: Span,
    /// Index of the document within the chunk.
    pub(crate) document: usize,
}

/// Reads a chunk. Documents before a syntax error are returned beside it.
pub(crate) fn read(chunk: Chunk<'_>) -> (Vec<Node<'_>>, Vec<Duplicate>, Option<SyntaxError>) {
    let mut builder = Builder::new(chunk);
    let mut parser = Parser::new_from_str(chunk.text);
    let mut error = None;
    while let Some(event) = parser.next_event() {
        let step = match event {
            Ok((event, span)) => builder.event(event, span),
            Err(scan) => Err(builder.scan_error(&scan)),
        };
        if let Err(step) = step {
            error = Some(step);
            break;
        }
    }
    (builder.documents, builder.duplicates, error)
}

struct Builder<'t> {
    chunk: Chunk<'t>,
    cursor: Cursor,
    open: Vec<Frame<'t>>,
    documents: Vec<Node<'t>>,
    duplicates: Vec<Duplicate>,
    anchors: HashMap<usize, Node<'t>>,
    copies: usize,
}

/// A map or list that is not closed yet.
struct Frame<'t> {
    span: Span,
    anchor: usize,
    content: Content<'t>,
}

enum Content<'t> {
    List(Vec<Node<'t>>),
    Map {
        entries: Vec<Entry<'t>>,
        seen: HashSet<Cow<'t, str>>,
        merged: Vec<Entry<'t>>,
        key: Option<Key<'t>>,
    },
}

struct Key<'t> {
    text: Cow<'t, str>,
    span: Span,
    merge: bool,
}

/// Maps with fewer keys than this are searched key by key.
const SEARCHED: usize = 12;

impl<'t> Builder<'t> {
    fn new(chunk: Chunk<'t>) -> Self {
        Self {
            chunk,
            cursor: Cursor::default(),
            open: Vec::new(),
            documents: Vec::new(),
            duplicates: Vec::new(),
            anchors: HashMap::new(),
            copies: 0,
        }
    }

    fn event(&mut self, event: Event<'t>, span: saphyr_parser::Span) -> Result<(), SyntaxError> {
        match event {
            Event::Nothing
            | Event::StreamStart
            | Event::StreamEnd
            | Event::DocumentStart(_)
            | Event::DocumentEnd => Ok(()),
            Event::Alias(id) => {
                let span = self.span(span);
                let node = self.alias(id, span)?;
                self.push(node, 0, false)
            }
            Event::Scalar(text, style, anchor, tag) => {
                let span = self.span(span);
                let plain = matches!(style, ScalarStyle::Plain);
                let style = scalar_style(style, tag.as_deref());
                let node = Node { span, value: Value::Scalar(Scalar { text, style }) };
                self.push(node, anchor, plain)
            }
            Event::SequenceStart(anchor, _) => self.open(span, anchor, Content::List(Vec::new())),
            Event::MappingStart(anchor, _) => {
                let (entries, merged) = (Vec::new(), Vec::new());
                self.open(
                    span,
                    anchor,
                    Content::Map { entries, seen: HashSet::new(), merged, key: None },
                )
            }
            Event::SequenceEnd | Event::MappingEnd => self.close(),
        }
    }

    fn open(
        &mut self,
        span: saphyr_parser::Span,
        anchor: usize,
        content: Content<'t>,
    ) -> Result<(), SyntaxError> {
        let span = self.span(span);
        if self.open.len() >= MAX_DEPTH {
            return Err(SyntaxError {
                span,
                message: format!("nested more than {MAX_DEPTH} levels deep"),
                help: None,
            });
        }
        self.open.push(Frame { span, anchor, content });
        Ok(())
    }

    fn close(&mut self) -> Result<(), SyntaxError> {
        let Some(frame) = self.open.pop() else { return Ok(()) };
        let node = match frame.content {
            Content::List(items) => {
                let span = items.first().map_or(frame.span, |item| item.span);
                Node { span, value: Value::List(items) }
            }
            Content::Map { mut entries, merged, .. } => {
                for entry in merged {
                    if !entries.iter().any(|known| known.key == entry.key) {
                        entries.push(entry);
                    }
                }
                let span = entries.first().map_or(frame.span, |entry| entry.key_span);
                Node { span, value: Value::Map(entries) }
            }
        };
        let node = self.unglue(node);
        self.push(node, frame.anchor, false)
    }

    /// Turns the one-key map that YAML 1.2 sees in `[001:db8::]` back into the string that Go's reader sees.
    fn unglue(&self, node: Node<'t>) -> Node<'t> {
        let in_list = matches!(self.open.last(), Some(Frame { content: Content::List(_), .. }));
        match &node.value {
            Value::Map(entries) if in_list => match &entries[..] {
                [entry] if entry.value.is_null() && self.is_glued(entry.key_span) => {
                    let text = Cow::Owned(format!("{}:", entry.key));
                    let span = Span { end: entry.key_span.end + 1, ..entry.key_span };
                    Node { span, value: Value::Scalar(Scalar { text, style: Style::Plain }) }
                }
                _ => node,
            },
            Value::Scalar(_) | Value::List(_) | Value::Map(_) => node,
        }
    }

    fn is_glued(&self, key: Span) -> bool {
        let quoted =
            |at: u32| matches!(self.chunk.text.as_bytes().get(at as usize), Some(b'"' | b'\''));
        let (start, end) = (key.start - self.chunk.offset, key.end - self.chunk.offset);
        !quoted(start) && flow::colon_belongs_to_key(self.chunk.text, end as usize)
    }

    /// Hands a finished node to whatever is open.
    fn push(&mut self, node: Node<'t>, anchor: usize, plain: bool) -> Result<(), SyntaxError> {
        if anchor != 0 {
            self.copy(&node)?;
            self.anchors.insert(anchor, node.clone());
        }
        let document = self.documents.len();
        let Some(frame) = self.open.last_mut() else {
            self.documents.push(node);
            return Ok(());
        };
        match &mut frame.content {
            Content::List(items) => items.push(node),
            Content::Map { entries, seen, merged, key } => match key.take() {
                None => *key = Some(map_key(node, plain)?),
                Some(key) if key.merge => merge(node, merged)?,
                Some(key) => {
                    let known = if entries.len() < SEARCHED {
                        entries.iter().any(|entry| entry.key == key.text)
                    } else {
                        if seen.is_empty() {
                            seen.extend(entries.iter().map(|entry| entry.key.clone()));
                        }
                        !seen.insert(key.text.clone())
                    };
                    if known {
                        let first = entries.iter().find(|entry| entry.key == key.text);
                        let first = first.map_or(key.span, |entry| entry.key_span);
                        let key_text = key.text.into_owned();
                        self.duplicates.push(Duplicate {
                            key: key_text,
                            span: key.span,
                            first,
                            document,
                        });
                    } else {
                        entries.push(Entry { key: key.text, key_span: key.span, value: node });
                    }
                }
            },
        }
        Ok(())
    }

    /// A copy of an anchored node.
    fn alias(&mut self, id: usize, span: Span) -> Result<Node<'t>, SyntaxError> {
        let Some(node) = self.anchors.get(&id).cloned() else {
            let message = "an alias inside the very node that it stands for".to_owned();
            return Err(SyntaxError { span, message, help: None });
        };
        // What is inside keeps its own place; the copy itself stands where the alias does.
        let node = Node { span, ..node };
        self.copy(&node)?;
        Ok(node)
    }

    /// Counts the nodes that an anchor keeps or an alias makes.
    fn copy(&mut self, node: &Node<'_>) -> Result<(), SyntaxError> {
        self.copies += node.count(MAX_COPIES);
        if self.copies <= MAX_COPIES {
            return Ok(());
        }
        let message = format!("anchors and aliases make more than {MAX_COPIES} copies");
        Err(SyntaxError { span: node.span, message, help: None })
    }

    fn span(&mut self, span: saphyr_parser::Span) -> Span {
        let start = self.cursor.byte(self.chunk.text, span.start.index());
        let end = self.cursor.byte(self.chunk.text, span.end.index());
        self.place(span.start, start, end)
    }

    fn place(&self, start: Marker, first: usize, last: usize) -> Span {
        let narrow = |value: usize| u32::try_from(value).unwrap_or(u32::MAX);
        Span {
            line: narrow(start.line()).saturating_add(self.chunk.line),
            column: narrow(start.col()).saturating_add(1),
            start: narrow(first).saturating_add(self.chunk.offset),
            end: narrow(last.max(first)).saturating_add(self.chunk.offset),
        }
    }

    fn scan_error(&mut self, error: &ScanError) -> SyntaxError {
        let text = self.chunk.text;
        let at = self.cursor.byte(text, error.marker().index());
        let mut span = self.place(*error.marker(), at, at);
        let written = text.trim_end();
        if at >= written.len() {
            // Something was missing at the end: the last line is a better place than an empty one after it.
            let start = written.rfind('\n').map_or(0, |newline| newline + 1);
            let line = self.chunk.line as usize + written.matches('\n').count() + 1;
            let column = written[start..].chars().count();
            let narrow = |value: usize| u32::try_from(value).unwrap_or(u32::MAX);
            let end = narrow(written.len()).saturating_add(self.chunk.offset);
            span = Span { line: narrow(line), column: narrow(column.max(1)), start: end, end };
        }
        let line = text.lines().nth(error.marker().line().saturating_sub(1)).unwrap_or("");
        let indent = &line[..line.len() - line.trim_start().len()];
        let help = if indent.contains('\t') {
            Some("indent with spaces: YAML allows no tabs there")
        } else if text.as_bytes().get(at) == Some(&b'*') {
            Some("put `*` in quotes: alone it begins an alias")
        } else {
            None
        };
        let help = help.map(str::to_owned);
        SyntaxError { span, message: format!("not YAML: {}", error.info()), help }
    }
}

fn scalar_style(style: ScalarStyle, tag: Option<&Tag>) -> Style {
    let text_tag = tag.is_some_and(|tag| tag.is_yaml_core_schema() && tag.suffix == "str");
    match style {
        ScalarStyle::Plain if !text_tag => Style::Plain,
        ScalarStyle::Plain
        | ScalarStyle::SingleQuoted
        | ScalarStyle::DoubleQuoted
        | ScalarStyle::Literal
        | ScalarStyle::Folded => Style::Text,
    }
}

fn map_key(node: Node<'_>, plain: bool) -> Result<Key<'_>, SyntaxError> {
    let span = node.span;
    match node.value {
        Value::Scalar(scalar) => {
            Ok(Key { merge: plain && scalar.text == "<<", text: scalar.text, span })
        }
        Value::List(_) | Value::Map(_) => {
            let message = "a key must be a string, not a map or a list".to_owned();
            Err(SyntaxError { span, message, help: None })
        }
    }
}

/// `<<: *map` or `<<: [*a, *b]`: entries that the map does not have itself; of several the first.
fn merge<'t>(node: Node<'t>, merged: &mut Vec<Entry<'t>>) -> Result<(), SyntaxError> {
    let span = node.span;
    let bad = || {
        let message = "a merge key takes a map or a list of maps".to_owned();
        Err(SyntaxError { span, message, help: None })
    };
    let maps = match node.value {
        Value::Map(_) => vec![node],
        Value::List(items) => items,
        Value::Scalar(_) => return bad(),
    };
    for map in maps {
        let Value::Map(entries) = map.value else { return bad() };
        for entry in entries {
            if !merged.iter().any(|known| known.key == entry.key) {
                merged.push(entry);
            }
        }
    }
    Ok(())
}

/// Turns the parser's character positions into bytes; moves from the last answer, since events come nearly in order.
#[derive(Default)]
struct Cursor {
    character: usize,
    byte: usize,
}

impl Cursor {
    fn byte(&mut self, text: &str, character: usize) -> usize {
        let bytes = text.as_bytes();
        while self.character < character && self.byte < bytes.len() {
            self.byte += 1;
            while self.byte < bytes.len() && !text.is_char_boundary(self.byte) {
                self.byte += 1;
            }
            self.character += 1;
        }
        while self.character > character && self.byte > 0 {
            self.byte -= 1;
            while self.byte > 0 && !text.is_char_boundary(self.byte) {
                self.byte -= 1;
            }
            self.character -= 1;
        }
        self.byte
    }
}
