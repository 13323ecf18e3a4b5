//! Texts that lost their indentation on the way (copied from a web page, mostly): one finding, at the first line
//! that is wrong, instead of one for every field (seeds.md 15).

use std::sync::Arc;

use crate::decode::{At, Cx};
use crate::document::Document;
use crate::document::envelope::TOP_LEVEL;
use crate::yaml::Chunk;
use crate::{Diagnostic, Severity, Span};

/// Blocks of a resource that are never empty on purpose.
const BLOCKS: [&str; 2] = ["metadata", "spec"];

/// The first line that should have been indented.
pub(crate) struct Unindented {
    block: &'static str,
    key: String,
    span: Span,
}

impl Unindented {
    fn diagnostic(&self, path: &Arc<str>) -> Diagnostic {
        Diagnostic {
            severity: Severity::Error,
            code: "lost-indentation",
            path: Arc::clone(path),
            span: self.span,
            field: self.key.clone(),
            message: format!(
                "`{}` stands beside `{}:`, not in it: the text lost its indentation",
                self.key, self.block
            ),
            help: Some(format!(
                "indent what belongs to `{}:` by two spaces, and so on further in",
                self.block
            )),
        }
    }

    pub(crate) fn into_document(self, path: &Arc<str>) -> Document {
        Document::unreadable(self.diagnostic(path))
    }
}

/// Reports an empty block that is followed by a key from inside it.
pub(super) fn report(at: &At<'_>, cx: &mut Cx) -> bool {
    let entries = at.node().map_or(&[][..], |node| node.entries());
    for pair in entries.windows(2) {
        let [block, next] = pair else { continue };
        let Some(block) =
            BLOCKS.into_iter().find(|name| *name == block.key && block.value.is_null())
        else {
            continue;
        };
        if !TOP_LEVEL.contains(&&*next.key) {
            let found = Unindented { block, key: next.key.to_string(), span: next.key_span };
            let diagnostic = found.diagnostic(cx.path());
            cx.lost_indentation(diagnostic);
            return true;
        }
    }
    false
}

/// The same by lines, for a text that is not even YAML any more.
pub(crate) fn first_unindented_line(chunk: Chunk<'_>) -> Option<Unindented> {
    let mut block = None;
    let mut start = chunk.offset as usize;
    for (index, raw) in chunk.text.split_inclusive('\n').enumerate() {
        let line = raw.trim_end();
        let begin = start;
        start += raw.len();
        if line.is_empty() || line.starts_with(['#', '%']) || line.starts_with("---") {
            continue;
        }
        let key = line
            .split_once(':')
            .map(|(key, _)| key)
            .filter(|key| !key.contains([' ', '\t', '{', '"']));
        if let (Some(block), Some(key)) = (block, key)
            && !TOP_LEVEL.contains(&key)
        {
            let narrow = |value: usize| u32::try_from(value).unwrap_or(u32::MAX);
            let line = chunk.line.saturating_add(narrow(index + 1));
            let span =
                Span { line, column: 1, start: narrow(begin), end: narrow(begin + key.len()) };
            return Some(Unindented { block, key: key.to_owned(), span });
        }
        block = BLOCKS.into_iter().find(|name| line.strip_suffix(':') == Some(name));
    }
    None
}
