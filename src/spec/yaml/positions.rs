//! Positions in the text that the parser gets.

use std::borrow::Cow;
use std::collections::BTreeSet;
use std::ops::Range;

use saphyr_parser::{Marker, Span};

/// Spaces that are added to a line: more than any line around it has.
const INDENTATION: usize = 256;

/// Inserts spaces before the characters at the given offsets of the file.
pub(super) fn indent<'t>(rest: &'t str, from: usize, indented: &BTreeSet<usize>) -> Cow<'t, str> {
    if indented.is_empty() {
        return Cow::Borrowed(rest);
    }
    let mut text = String::with_capacity(rest.len() + indented.len() * INDENTATION);
    let mut copied = 0;
    for at in indented.iter().map(|at| at - from) {
        text.push_str(&rest[copied..at]);
        text.extend(std::iter::repeat_n(' ', INDENTATION));
        copied = at;
    }
    text.push_str(&rest[copied..]);
    Cow::Owned(text)
}

/// Converts the parser's positions (characters from its start) to byte offsets in the file.
pub(super) struct Positions {
    from: usize,
    /// Byte offset of each character; empty for ASCII text.
    bytes: Vec<usize>,
    length: usize,
}

impl Positions {
    pub(super) fn new(text: &str, from: usize, indented: &BTreeSet<usize>) -> Self {
        let rest = text.get(from..).unwrap_or_default();
        let bytes = if rest.is_ascii() && indented.is_empty() {
            Vec::new()
        } else {
            let repeat = |at: usize| if indented.contains(&(from + at)) { INDENTATION + 1 } else { 1 };
            rest.char_indices().flat_map(|(at, _)| std::iter::repeat_n(at, repeat(at))).collect()
        };
        Self { from, bytes, length: rest.len() }
    }

    pub(super) fn byte(&self, marker: &Marker) -> usize {
        let index = marker.index();
        let at = match self.bytes.is_empty() {
            true => index,
            false => self.bytes.get(index).copied().unwrap_or(self.length),
        };
        self.from + at.min(self.length)
    }

    pub(super) fn range(&self, span: &Span) -> Range<usize> {
        let start = self.byte(&span.start);
        start..self.byte(&span.end).max(start)
    }
}
