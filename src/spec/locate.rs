//! Source files, locations and diagnostics.
//!
//! `render` formats diagnostics for the terminal.

use std::fmt;
use std::ops::Range;
use std::sync::Arc;

/// The text of a file with its displayed path.
#[derive(Debug, PartialEq, Eq)]
pub struct SourceText {
    /// Path as displayed, e.g. `specs/app.yaml`.
    path: String,
    /// Content; empty if the file could not be read.
    text: String,
    /// Byte offset of each line's first character.
    lines: Vec<usize>,
    /// The text is secret and not shown in diagnostics.
    hidden: bool,
    /// Source texts of a joined text, each with its start offset; empty for the text of a single file.
    parts: Vec<(usize, Arc<SourceText>)>,
}

impl SourceText {
    /// Creates the source text of a single file.
    pub fn new(path: impl Into<String>, text: impl Into<String>) -> Arc<Self> {
        Arc::new(Self::of_file(path.into(), text.into(), false))
    }

    /// Creates the source text of a file whose content is secret: diagnostics show the place without the text.
    pub fn hidden(path: &str, text: &str) -> Arc<Self> {
        Arc::new(Self::of_file(path.to_owned(), text.to_owned(), true))
    }

    fn of_file(path: String, text: String, hidden: bool) -> Self {
        let lines = std::iter::once(0).chain(text.match_indices('\n').map(|(at, _)| at + 1)).collect();
        Self { path, text, lines, hidden, parts: Vec::new() }
    }

    /// Joins source texts at ascending start offsets: the spans of one program document can refer to several files.
    pub fn joined(parts: Vec<(usize, Arc<SourceText>)>) -> Arc<Self> {
        Arc::new(Self { path: String::new(), text: String::new(), lines: vec![0], hidden: false, parts })
    }

    /// Returns the files of a joined text with their start offsets, or the one file.
    pub fn files(&self) -> impl Iterator<Item = (usize, &SourceText)> {
        let alone = self.parts.is_empty().then_some((0, self));
        alone.into_iter().chain(self.parts.iter().map(|(start, text)| (*start, &**text)))
    }

    /// Returns the text of a span; empty if it is in none of the files.
    pub fn slice(&self, span: &Range<usize>) -> &str {
        match self.parts.as_slice() {
            [] => self.text.get(span.clone()).unwrap_or_default(),
            parts => slice_of(parts, span),
        }
    }

    /// Returns the range of the lines that follow that of an offset and are indented more than it, with the blank lines
    /// between them.
    pub fn block_at(&self, offset: usize) -> Range<usize> {
        let (start, file) = part(&self.parts, offset).map_or((0, self), |(start, file)| (*start, &**file));
        let content = |line: usize| file.text.get(file.line_range(line)).unwrap_or_default();
        let indent = |line: usize| content(line).len() - content(line).trim_start().len();
        let first = file.line(offset - start);
        let is_in = |line: &usize| content(*line).trim().is_empty() || indent(*line) > indent(first);
        let last = (first + 1..=file.lines.len()).take_while(is_in).last().unwrap_or(first);
        offset..start + file.line_range(last).end
    }

    /// Returns the part that contains an offset, with the start offset of that part.
    fn part_at(self: &Arc<Self>, offset: usize) -> (usize, &Arc<Self>) {
        part(&self.parts, offset).map_or((0, self), |(start, text)| (*start, text))
    }

    /// Returns the path as displayed.
    pub fn path(&self) -> &str {
        &self.path
    }

    /// Returns true if the content must not be shown.
    pub fn is_hidden(&self) -> bool {
        self.hidden
    }

    /// Returns the content.
    pub fn text(&self) -> &str {
        &self.text
    }

    /// Returns the line (from 1) of a byte offset.
    pub fn line(&self, offset: usize) -> usize {
        self.lines.partition_point(|start| *start <= offset)
    }

    /// Returns the column (from 1, in characters) of a byte offset.
    pub fn column(&self, offset: usize) -> usize {
        let start = self.line_range(self.line(offset)).start;
        let before = self.text.get(start..offset.min(self.text.len())).unwrap_or_default();
        before.trim_start_matches('\u{feff}').chars().count() + 1
    }

    /// Returns the byte range of a line (from 1), without its line break.
    pub fn line_range(&self, line: usize) -> Range<usize> {
        let start = self.lines.get(line.saturating_sub(1)).copied().unwrap_or(self.text.len());
        let end = self.lines.get(line).copied().unwrap_or(self.text.len());
        let bare = self.text.get(start..end).unwrap_or_default().trim_end_matches(['\n', '\r']);
        start..start + bare.len()
    }
}

/// Returns the part that contains an offset; `None` if there are no parts before it.
fn part(parts: &[(usize, Arc<SourceText>)], offset: usize) -> Option<&(usize, Arc<SourceText>)> {
    let before = parts.partition_point(|(start, _)| *start <= offset);
    before.checked_sub(1).and_then(|at| parts.get(at))
}

/// Returns the text of a span in one of several files with ascending start offsets; empty if it is in none.
pub fn slice_of<'p>(parts: &'p [(usize, Arc<SourceText>)], span: &Range<usize>) -> &'p str {
    let found = part(parts, span.start);
    found
        .and_then(|(start, text)| text.text.get(span.start - start..span.end.saturating_sub(*start)))
        .unwrap_or_default()
}

/// A byte range in a file.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Location {
    pub file: Arc<SourceText>,
    /// Byte range in the text of the file.
    pub span: Range<usize>,
}

impl Location {
    /// Creates a location; clamps the span to the text and to character boundaries.
    pub fn new(file: &Arc<SourceText>, span: Range<usize>) -> Self {
        let (offset, file) = file.part_at(span.start);
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

    /// Returns the line of the first character, from 1.
    pub fn line(&self) -> usize {
        self.file.line(self.span.start)
    }

    /// Returns the column of the first character, from 1, in characters.
    pub fn column(&self) -> usize {
        self.file.column(self.span.start)
    }
}

/// An error in the specs.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Diagnostic {
    /// Lower case, no final period.
    pub message: String,
    /// Primary location; `None` if the error has no source location.
    pub location: Option<Location>,
    /// Short text next to the underline of the primary location; may be empty.
    pub label: String,
    /// Secondary locations with their labels.
    pub related: Vec<(Location, String)>,
    /// How to fix the error.
    pub hint: Option<String>,
}

impl Diagnostic {
    /// Creates a diagnostic without a location.
    pub fn new(message: impl Into<String>) -> Self {
        Self { message: message.into(), location: None, label: String::new(), related: Vec::new(), hint: None }
    }

    /// Creates a diagnostic at a location.
    pub fn at(location: Location, message: impl Into<String>) -> Self {
        Self { location: Some(location), ..Self::new(message) }
    }

    /// Sets the label.
    #[must_use]
    pub fn label(mut self, label: impl Into<String>) -> Self {
        self.label = label.into();
        self
    }

    /// Adds a secondary location.
    #[must_use]
    pub fn related(mut self, location: Location, label: impl Into<String>) -> Self {
        self.related.push((location, label.into()));
        self
    }

    /// Sets the hint; `None` keeps the current one.
    #[must_use]
    pub fn hint(mut self, hint: impl Into<Option<String>>) -> Self {
        self.hint = hint.into().or(self.hint);
        self
    }
}

impl fmt::Display for Diagnostic {
    /// Formats a single line: `specs/app.yaml:3:5: message`.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if let Some(location) = &self.location {
            write!(f, "{}:{}:{}: ", location.file.path(), location.line(), location.column())?;
        }
        f.write_str(&self.message)
    }
}

/// Returns the known word closest to `word`, for "did you mean" hints.
pub fn closest<'a>(word: &str, known: impl IntoIterator<Item = &'a str>) -> Option<&'a str> {
    const MAX_LENGTH: usize = 100; // computing the edit distance takes quadratic time
    if word.len() > MAX_LENGTH {
        return None;
    }
    let lower = word.to_lowercase();
    let allowed = (lower.chars().count() / 3).clamp(1, 3);
    known
        .into_iter()
        .filter(|candidate| candidate.len() <= MAX_LENGTH && candidate.len().abs_diff(lower.len()) <= 4 * allowed)
        .map(|candidate| (strsim::damerau_levenshtein(&lower, &candidate.to_lowercase()), candidate))
        .filter(|(distance, candidate)| *distance <= allowed && *distance < candidate.chars().count())
        .min_by_key(|(distance, _)| *distance)
        .map(|(_, candidate)| candidate)
}
