//! A text cut into its documents, so that a syntax error in one hides nothing in the others.

/// One document of a text, or several that `...` separates.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Chunk<'t> {
    pub(crate) text: &'t str,
    /// Lines of the whole text before it.
    pub(crate) line: u32,
    /// Bytes of the whole text before it.
    pub(crate) offset: u32,
}

/// Cuts before every line that begins with `---` and white space. In YAML such a line always begins a document.
pub(crate) fn chunks(text: &str) -> Vec<Chunk<'_>> {
    let mut chunks = Vec::new();
    let (mut start, mut start_line) = (0, 0);
    let (mut offset, mut line) = (0, 0);
    for content in text.split_inclusive('\n') {
        let begins = is_marker(content) && !only_directives(&text[start..offset]);
        if begins {
            push(&mut chunks, &text[start..offset], start_line, start);
            (start, start_line) = (offset, line);
        }
        offset += content.len();
        line += 1;
    }
    push(&mut chunks, &text[start..], start_line, start);
    chunks
}

fn push<'t>(chunks: &mut Vec<Chunk<'t>>, text: &'t str, line: u32, offset: usize) {
    if !text.trim().is_empty() {
        // A text is at most MAX_TEXT bytes long.
        chunks.push(Chunk { text, line, offset: u32::try_from(offset).unwrap_or(u32::MAX) });
    }
}

fn is_marker(line: &str) -> bool {
    line.strip_prefix("---")
        .is_some_and(|rest| rest.is_empty() || rest.starts_with([' ', '\t', '\r', '\n']))
}

/// Directives stand before the `---` of the document they belong to.
fn only_directives(text: &str) -> bool {
    let mut lines = text.lines().map(str::trim_end).filter(|line| !line.is_empty());
    lines.all(|line| line.starts_with(['%', '#'])) && text.lines().any(|line| line.starts_with('%'))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn documents_are_cut_at_their_markers() {
        let text = "a: 1\n---\nb: 2\n--- # c\nc: 3\n---x: 4\n---";
        let cut: Vec<_> = chunks(text).into_iter().map(|chunk| (chunk.line, chunk.text)).collect();
        assert_eq!(
            cut,
            [(0, "a: 1\n"), (1, "---\nb: 2\n"), (3, "--- # c\nc: 3\n---x: 4\n"), (6, "---")]
        );
    }

    #[test]
    fn directives_stay_with_their_document() {
        assert_eq!(chunks("%YAML 1.2\n---\na: 1\n").len(), 1);
    }
}
