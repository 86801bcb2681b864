//! Source files, locations and diagnostics.
//!
//! Values only; `render` formats them for a terminal.

use std::fmt;
use std::ops::Range;
use std::sync::Arc;

/// The text of a file with its displayed path.
#[derive(Debug, PartialEq, Eq)]
pub struct SourceText {
    /// Path as shown to people, e.g. `specs/app.yaml`.
    path: String,
    /// The text; empty where the file could not be read.
    text: String,
    /// Byte offset of the first character of each line.
    lines: Vec<usize>,
    /// The texts that this one stands for, each with the offset at which it begins; none where it is one of its own.
    parts: Vec<(usize, Arc<SourceText>)>,
}

impl SourceText {
    /// A text under this path.
    pub fn new(path: impl Into<String>, text: impl Into<String>) -> Arc<Self> {
        let text = text.into();
        let lines = std::iter::once(0).chain(text.match_indices('\n').map(|(at, _)| at + 1)).collect();
        Arc::new(Self { path: path.into(), text, lines, parts: Vec::new() })
    }

    /// Several texts as one, given by the offsets at which they begin, in order: what a program makes may stand in any
    /// of its files.
    pub fn of(parts: Vec<(usize, Arc<SourceText>)>) -> Arc<Self> {
        Arc::new(Self { path: String::new(), text: String::new(), lines: vec![0], parts })
    }

    /// The text in which an offset is, and where that one begins.
    fn part(self: &Arc<Self>, offset: usize) -> (usize, &Arc<Self>) {
        let before = self.parts.partition_point(|(start, _)| *start <= offset);
        before.checked_sub(1).and_then(|at| self.parts.get(at)).map_or((0, self), |(start, text)| (*start, text))
    }

    /// Path as shown to people.
    pub fn path(&self) -> &str {
        &self.path
    }

    /// The whole text.
    pub fn text(&self) -> &str {
        &self.text
    }

    /// Line (from 1) of a byte offset.
    pub fn line(&self, offset: usize) -> usize {
        self.lines.partition_point(|start| *start <= offset)
    }

    /// Column (from 1, in characters) of a byte offset.
    pub fn column(&self, offset: usize) -> usize {
        let start = self.line_range(self.line(offset)).start;
        let before = self.text.get(start..offset.min(self.text.len())).unwrap_or_default();
        before.trim_start_matches('\u{feff}').chars().count() + 1
    }

    /// Bytes of a line (from 1), without its line break.
    pub fn line_range(&self, line: usize) -> Range<usize> {
        let start = self.lines.get(line.saturating_sub(1)).copied().unwrap_or(self.text.len());
        let end = self.lines.get(line).copied().unwrap_or(self.text.len());
        let bare = self.text.get(start..end).unwrap_or_default().trim_end_matches(['\n', '\r']);
        start..start + bare.len()
    }
}

/// A range of bytes in a file.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Location {
    /// The file.
    pub file: Arc<SourceText>,
    /// Bytes of its text.
    pub span: Range<usize>,
}

impl Location {
    /// These bytes of this file, brought within the text and to the borders of characters.
    pub fn new(file: &Arc<SourceText>, span: Range<usize>) -> Self {
        let (offset, file) = file.part(span.start);
        let span = span.start - offset..span.end.saturating_sub(offset);
        let text = file.text();
        let floor = |mut at: usize| {
            at = at.min(text.len());
            while !text.is_char_boundary(at) {
                at -= 1;
            }
            at
        };
        let start = floor(span.start);
        Self { file: Arc::clone(file), span: start..floor(span.end).max(start) }
    }

    /// Line of the first character, from 1.
    pub fn line(&self) -> usize {
        self.file.line(self.span.start)
    }

    /// Column of the first character, from 1, in characters.
    pub fn column(&self) -> usize {
        self.file.column(self.span.start)
    }
}

/// An error in the specs.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Diagnostic {
    /// What is wrong: lower case, no full stop.
    pub message: String,
    /// Where, if it is anywhere.
    pub place: Option<Location>,
    /// A few words for the mark under the line; may be empty.
    pub label: String,
    /// Other places that belong to it, each with a few words.
    pub related: Vec<(Location, String)>,
    /// What to do about it.
    pub hint: Option<String>,
}

impl Diagnostic {
    /// Something wrong at no place in particular.
    pub fn new(message: impl Into<String>) -> Self {
        Self { message: message.into(), place: None, label: String::new(), related: Vec::new(), hint: None }
    }

    /// Something wrong at a place.
    pub fn at(place: Location, message: impl Into<String>) -> Self {
        Self { place: Some(place), ..Self::new(message) }
    }

    /// With a few words for the mark.
    #[must_use]
    pub fn label(mut self, label: impl Into<String>) -> Self {
        self.label = label.into();
        self
    }

    /// With another place.
    #[must_use]
    pub fn related(mut self, place: Location, label: impl Into<String>) -> Self {
        self.related.push((place, label.into()));
        self
    }

    /// With a hint, if there is one.
    #[must_use]
    pub fn hint(mut self, hint: impl Into<Option<String>>) -> Self {
        self.hint = hint.into().or(self.hint);
        self
    }
}

impl fmt::Display for Diagnostic {
    /// One line: `specs/app.yaml:3:5: message`.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if let Some(place) = &self.place {
            write!(f, "{}:{}:{}: ", place.file.path(), place.line(), place.column())?;
        }
        f.write_str(&self.message)
    }
}

/// Returns the known word closest to `word`, for "did you mean" hints.
pub fn closest<'a>(word: &str, known: impl IntoIterator<Item = &'a str>) -> Option<&'a str> {
    const LONGEST: usize = 100; // the distance takes quadratic time
    if word.len() > LONGEST {
        return None;
    }
    let lower = word.to_lowercase();
    let allowed = (lower.chars().count() / 3).clamp(1, 3);
    known
        .into_iter()
        .filter(|candidate| candidate.len() <= LONGEST && candidate.len().abs_diff(lower.len()) <= 4 * allowed)
        .map(|candidate| (strsim::damerau_levenshtein(&lower, &candidate.to_lowercase()), candidate))
        .filter(|(distance, candidate)| *distance <= allowed && *distance < candidate.chars().count())
        .min_by_key(|(distance, _)| *distance)
        .map(|(_, candidate)| candidate)
}
