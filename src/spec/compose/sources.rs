//! The files of a project in one range of offsets.

use std::collections::HashMap;
use std::ops::Range;
use std::sync::Arc;

use super::super::locate::{Location, SourceText, slice_of};

/// Files by their offsets; a file is in it once, however often it is read.
#[derive(Debug, Default)]
pub(super) struct Sources {
    parts: Vec<(usize, Arc<SourceText>)>,
    by_path: HashMap<String, usize>,
    next: usize,
}

impl Sources {
    /// Adds a file and returns its offset.
    pub fn add(&mut self, path: &str, text: &Arc<SourceText>) -> usize {
        if let Some(known) = self.by_path.get(path) {
            return *known;
        }
        let offset = self.next;
        self.parts.push((offset, Arc::clone(text)));
        self.by_path.insert(path.to_owned(), offset);
        // One more, so that an empty span at its end is not in the next file.
        self.next += text.text().len() + 1;
        offset
    }

    /// Returns the text of a file that was added.
    pub fn get(&self, path: &str) -> Option<Arc<SourceText>> {
        let offset = self.by_path.get(path)?;
        self.parts.iter().find(|(start, _)| start == offset).map(|(_, text)| Arc::clone(text))
    }

    pub fn location(&self, span: &Range<usize>) -> Location {
        Location::new(&self.joined(), span.clone())
    }

    /// Returns the source text of a span.
    pub fn raw(&self, span: &Range<usize>) -> &str {
        slice_of(&self.parts, span)
    }

    pub fn joined(&self) -> Arc<SourceText> {
        SourceText::joined(self.parts.clone())
    }
}
