//! A text that finds the lines around a place without a walk through all of it.

use std::ops::Range;

use miette::{MietteError, MietteSpanContents, SourceCode, SourceSpan, SpanContents};

/// A text with the places of its lines.
#[derive(Debug)]
pub(super) struct Source {
    name: String,
    text: String,
    /// Where each line begins.
    lines: Vec<usize>,
}

impl Source {
    pub(super) fn new(name: &str, text: &str) -> Self {
        let breaks = text.bytes().enumerate().filter(|(_, byte)| *byte == b'\n');
        let lines = std::iter::once(0).chain(breaks.map(|(at, _)| at + 1)).collect();
        Self { name: name.to_owned(), text: text.to_owned(), lines }
    }

    /// A range as far as it is inside the text and on its first line: a caret says more than a box.
    pub(super) fn within_line(&self, range: Range<usize>) -> Range<usize> {
        let start = self.text.floor_char_boundary(range.start.min(self.text.len()));
        let line_end = self.end_of(self.line_of(start));
        let end = self.text.floor_char_boundary(range.end.min(self.text.len()));
        start..end.min(line_end).max(start)
    }

    /// The line, from 0, of a byte.
    fn line_of(&self, at: usize) -> usize {
        self.lines.partition_point(|begin| *begin <= at).saturating_sub(1)
    }

    /// A place without its surroundings: what the line above the text names.
    fn exactly(&self, span: &SourceSpan) -> MietteSpanContents<'_> {
        let (start, end) = (span.offset(), span.offset() + span.len());
        let line = self.line_of(start);
        let begin = self.lines.get(line).copied().unwrap_or_default();
        let column = self.text.get(begin..start).unwrap_or_default().chars().count();
        let data = self.text.as_bytes().get(start..end).unwrap_or_default();
        MietteSpanContents::new_named(self.name.clone(), data, *span, line, column, 1)
    }

    /// Where a line ends, its break left out.
    fn end_of(&self, line: usize) -> usize {
        let end = self.lines.get(line + 1).map_or(self.text.len(), |next| next - 1);
        let begin = self.lines.get(line).copied().unwrap_or_default();
        let carriage = self.text.get(begin..end).is_some_and(|text| text.ends_with('\r'));
        end - usize::from(carriage)
    }
}

impl SourceCode for Source {
    fn read_span<'a>(
        &'a self,
        span: &SourceSpan,
        before: usize,
        after: usize,
    ) -> Result<Box<dyn SpanContents<'a> + 'a>, MietteError> {
        let end = span.offset() + span.len();
        if end > self.text.len() {
            return Err(MietteError::OutOfBounds);
        }
        if before == 0 && after == 0 {
            return Ok(Box::new(self.exactly(span)));
        }
        let first = self.line_of(span.offset()).saturating_sub(before);
        let last = (self.line_of(end) + after).min(self.lines.len() - 1);
        let begin = self.lines.get(first).copied().unwrap_or_default();
        let stop = self.lines.get(last + 1).copied().unwrap_or(self.text.len());
        let data = self.text.as_bytes().get(begin..stop).unwrap_or_default();
        Ok(Box::new(MietteSpanContents::new_named(
            self.name.clone(),
            data,
            (begin, data.len()).into(),
            first,
            0,
            last - first + 1,
        )))
    }
}
