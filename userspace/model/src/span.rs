//! Where a value was written.
//!
//! Every value that a finding may point at is a [`Spanned`]: the value and its place in the file. Places never
//! take part in comparisons, so moving a resource to another line leaves everything that is derived from it equal.

use std::fmt;
use std::ops::Deref;

/// A place in one text: 1-based line and column, and the byte range.
///
/// A default `Span` (line 0) means that the value was not written but comes from a default.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Span {
    /// Line, from 1; 0 when nothing was written.
    pub line: u32,
    /// Column in characters, from 1; 0 when nothing was written.
    pub column: u32,
    /// First byte in the text.
    pub start: u32,
    /// One past the last byte in the text.
    pub end: u32,
}

impl Span {
    /// Whether the value stands in the text at all.
    pub fn is_written(self) -> bool {
        self.line != 0
    }
}

/// A value with the place it was written at. Compares, orders and hashes as the value alone.
#[derive(Clone, Default)]
pub struct Spanned<T> {
    /// The value.
    pub value: T,
    /// Where it was written.
    pub span: Span,
}

impl<T> Spanned<T> {
    /// A value at a place.
    pub fn new(value: T, span: Span) -> Self {
        Self { value, span }
    }

    /// A value that nobody wrote: defaults, and tests of other crates.
    pub fn unwritten(value: T) -> Self {
        Self { value, span: Span::default() }
    }

    /// Whether the value stands in the text.
    pub fn is_written(&self) -> bool {
        self.span.is_written()
    }
}

impl<T> From<T> for Spanned<T> {
    fn from(value: T) -> Self {
        Self::unwritten(value)
    }
}

impl<T> Deref for Spanned<T> {
    type Target = T;

    fn deref(&self) -> &T {
        &self.value
    }
}

impl<T: fmt::Debug> fmt::Debug for Spanned<T> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.value.fmt(f)
    }
}

impl<T: fmt::Display> fmt::Display for Spanned<T> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.value.fmt(f)
    }
}

impl<T: PartialEq> PartialEq for Spanned<T> {
    fn eq(&self, other: &Self) -> bool {
        self.value == other.value
    }
}

impl<T: Eq> Eq for Spanned<T> {}

impl<T: PartialOrd> PartialOrd for Spanned<T> {
    fn partial_cmp(&self, other: &Self) -> Option<std::cmp::Ordering> {
        self.value.partial_cmp(&other.value)
    }
}

impl<T: Ord> Ord for Spanned<T> {
    fn cmp(&self, other: &Self) -> std::cmp::Ordering {
        self.value.cmp(&other.value)
    }
}

impl<T: std::hash::Hash> std::hash::Hash for Spanned<T> {
    fn hash<H: std::hash::Hasher>(&self, state: &mut H) {
        self.value.hash(state);
    }
}
