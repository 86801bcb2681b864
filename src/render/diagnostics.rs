//! Diagnostics of the specs as text and as JSON.
//!
//! The text is short and free of control characters, whatever the files contain.

use std::collections::{BTreeMap, BTreeSet};
use std::fmt::Write;
use std::ops::Range;
use std::sync::Arc;

use annotate_snippets::{Annotation, AnnotationKind, Element, Level, Origin, Padding, Renderer, Snippet};
use serde_json::{Value, json};

use super::secrets::redacted;
use super::text::{escaped, is_unsafe};
use super::{Text, count};
use crate::spec::{Diagnostic, Location, SourceText};

/// The longest line that is printed in full, in characters.
const MAX_LINE: usize = 160;
/// How many characters of a longer line are printed before and after the mark.
const BEFORE_MARK: usize = 40;
const AFTER_MARK: usize = 80;
/// Marks of one file within this number of lines share a snippet.
const SNIPPET_LINES: usize = 40;

/// The diagnostics as text for the terminal.
pub(super) fn text(diagnostics: &[Diagnostic], color: bool) -> Text {
    Text::prepared(render(diagnostics, color))
}

/// Diagnostics in spite of which a command continues, as text for the terminal.
pub(super) fn warnings(diagnostics: &[Diagnostic], color: bool) -> Text {
    let renderer = if color { Renderer::styled() } else { Renderer::plain() };
    let each: Vec<String> = diagnostics.iter().map(|it| one(it, Level::WARNING, &renderer)).collect();
    Text::prepared(each.join("\n\n"))
}

/// A diagnostic on one line: `compose.yaml:3:5: message; hint`.
pub fn line(diagnostic: &Diagnostic) -> String {
    let place = diagnostic
        .location
        .as_ref()
        .map(|location| format!("{}:{}:{}: ", location.file.path(), location.line(), location.column()));
    let hint = diagnostic.hint.as_ref().map(|hint| format!("; {hint}"));
    let line = format!("{}{}{}", place.unwrap_or_default(), diagnostic.message, hint.unwrap_or_default());
    escaped(&redacted(&line)).into_owned()
}

/// The diagnostics as text: each with its source lines, and a summary at the end.
pub fn render(diagnostics: &[Diagnostic], color: bool) -> String {
    let renderer = if color { Renderer::styled() } else { Renderer::plain() };
    let mut out = String::new();
    for diagnostic in diagnostics {
        out.push_str(&one(diagnostic, Level::ERROR, &renderer));
        out.push_str("\n\n");
    }
    if !diagnostics.is_empty() {
        out.push_str(&summary(diagnostics));
        out.push('\n');
    }
    out
}

/// The diagnostics as JSON: `{"diagnostics": [{"file", "line", "column", "message", "hint"}]}`.
pub fn to_json(diagnostics: &[Diagnostic]) -> Value {
    json!({"diagnostics": list(diagnostics)})
}

/// The diagnostics as a JSON list.
pub fn list(diagnostics: &[Diagnostic]) -> Value {
    let one = |diagnostic: &Diagnostic| {
        let location = diagnostic.location.as_ref();
        json!({
            "file": location.map(|location| location.file.path()),
            "line": location.map(Location::line),
            "column": location.map(Location::column),
            "message": diagnostic.message,
            "hint": diagnostic.hint,
        })
    };
    diagnostics.iter().map(one).collect()
}

/// "2 errors in 1 file".
fn summary(diagnostics: &[Diagnostic]) -> String {
    let locations = diagnostics.iter().filter_map(|diagnostic| diagnostic.location.as_ref());
    let files: BTreeSet<&str> = locations.map(|location| location.file.path()).collect();
    let mut text = count(diagnostics.len(), "error");
    if !files.is_empty() {
        let _ = write!(text, " in {}", count(files.len(), "file"));
    }
    text
}

fn one(diagnostic: &Diagnostic, level: Level<'_>, renderer: &Renderer) -> String {
    let mut group = level.primary_title(clean(&diagnostic.message)).elements(Vec::<Element<'_>>::new());
    let primary = diagnostic.location.iter().map(|location| Mark { location, label: &diagnostic.label, primary: true });
    let related = diagnostic.related.iter().map(|(location, label)| Mark { location, label, primary: false });
    for marks in group_marks(primary.chain(related)) {
        group = group.elements(marks.elements());
    }
    if let Some(hint) = &diagnostic.hint {
        if diagnostic.location.as_ref().is_some_and(|location| !location.file.text().is_empty()) {
            group = group.element(Padding);
        }
        group = group.element(Level::HELP.message(clean(hint)));
    }
    renderer.render(&[group])
}

/// A location to mark.
struct Mark<'d> {
    location: &'d Location,
    label: &'d str,
    primary: bool,
}

impl Mark<'_> {
    fn line(&self) -> usize {
        self.location.line()
    }
}

/// Marks of one file in one snippet; the first one is the location in its header.
struct MarkGroup<'d> {
    marks: Vec<Mark<'d>>,
}

fn group_marks<'d>(marks: impl Iterator<Item = Mark<'d>>) -> Vec<MarkGroup<'d>> {
    let mut groups: Vec<MarkGroup<'d>> = Vec::new();
    for mark in marks {
        let fits = |group: &&mut MarkGroup<'d>| {
            let near = |other: &Mark<'_>| other.line().abs_diff(mark.line()) <= SNIPPET_LINES;
            group.marks.iter().all(|other| Arc::ptr_eq(&other.location.file, &mark.location.file) && near(other))
        };
        match groups.iter_mut().find(fits) {
            Some(group) => group.marks.push(mark),
            None => groups.push(MarkGroup { marks: vec![mark] }),
        }
    }
    groups
}

impl MarkGroup<'_> {
    fn elements(&self) -> Vec<Element<'static>> {
        let Some(first) = self.marks.first() else {
            return Vec::new();
        };
        let file = &first.location.file;
        let path = clean(file.path());
        if file.text().is_empty() {
            return vec![Origin::path(path).into()];
        }
        if file.is_hidden() {
            return vec![Origin::path(path).line(first.line()).char_column(first.location.column()).into()];
        }
        let (snippet, exact) = self.snippet(file);
        if exact {
            return vec![snippet.path(path).into()];
        }
        // The snippet would count columns in the shortened line: print the real column above it.
        vec![Origin::path(path).line(first.line()).char_column(first.location.column()).into(), snippet.into()]
    }

    /// The lines from the first to the last mark, sanitized and shortened, with the marks moved accordingly.
    ///
    /// Also returns true if the first mark has the same column in it as in the file.
    fn snippet(&self, file: &SourceText) -> (Snippet<'static, Annotation<'static>>, bool) {
        let lines = || self.marks.iter().map(Mark::line);
        let (from, to) = (lines().min().unwrap_or(1), lines().max().unwrap_or(1));
        let mut source = String::new();
        let mut starts: BTreeMap<usize, (usize, ShownLine)> = BTreeMap::new();
        for line in from..=to {
            let range = file.line_range(line);
            let text = file.text().get(range.clone()).unwrap_or_default();
            let marked = self.marks.iter().find(|mark| mark.line() == line);
            let shown = ShownLine::new(text, marked.map(|mark| mark.location.span.start.saturating_sub(range.start)));
            let start = source.len();
            source.push_str(&shown.text);
            source.push('\n');
            starts.insert(line, (start, shown));
        }
        let annotations = self.marks.iter().filter_map(|mark| {
            let line = file.line_range(mark.line());
            let (start, shown) = starts.get(&mark.line())?;
            let span =
                mark.location.span.start.saturating_sub(line.start)..mark.location.span.end.saturating_sub(line.start);
            let span = shown.span(span);
            let kind = if mark.primary { AnnotationKind::Primary } else { AnnotationKind::Context };
            let label = (!mark.label.is_empty()).then(|| clean(mark.label));
            Some(kind.span(start + span.start..start + span.end).label(label))
        });
        let annotations: Vec<_> = annotations.collect();
        let exact = self.marks.first().is_some_and(|mark| {
            let Some((_, shown)) = starts.get(&mark.line()) else {
                return false;
            };
            let at = shown.position(mark.location.span.start.saturating_sub(file.line_range(mark.line()).start));
            shown.text.get(..at).map_or(0, |before| before.chars().count()) + 1 == mark.location.column()
        });
        (Snippet::source(source).line_start(from).annotations(annotations), exact)
    }
}

/// A line as it is printed.
struct ShownLine {
    text: String,
    /// For each byte offset in the line where a character starts, its offset in `text`.
    map: Vec<(usize, usize)>,
}

impl ShownLine {
    fn new(line: &str, mark: Option<usize>) -> Self {
        let length = line.chars().count();
        let marked = line.char_indices().take_while(|(at, _)| *at < mark.unwrap_or(0)).count();
        let window = match length > MAX_LINE {
            true => marked.saturating_sub(BEFORE_MARK)..marked.saturating_add(AFTER_MARK).min(length),
            false => 0..length,
        };
        let mut shown = Self { text: String::new(), map: Vec::new() };
        if window.start > 0 {
            shown.text.push('…');
        }
        for (at, c) in line.char_indices().skip(window.start).take(window.len()) {
            shown.map.push((at, shown.text.len()));
            shown.push(c);
        }
        shown.map.push((line.char_indices().nth(window.end).map_or(line.len(), |(at, _)| at), shown.text.len()));
        if window.end < length {
            shown.text.push('…');
        }
        shown
    }

    fn push(&mut self, c: char) {
        match c {
            '\u{feff}' if self.text.is_empty() => {} // a byte order mark is not part of the line
            '\t' => self.text.push_str("    "),
            c if is_unsafe(c) => self.text.extend(c.escape_default()),
            c => self.text.push(c),
        }
    }

    fn position(&self, at: usize) -> usize {
        let next = self.map.partition_point(|(from, _)| *from < at);
        self.map.get(next).or(self.map.last()).map_or(0, |(_, to)| *to)
    }

    fn span(&self, span: Range<usize>) -> Range<usize> {
        let start = self.position(span.start);
        start..self.position(span.end).max(start)
    }
}

/// A message on one line, without control characters and of limited length.
fn clean(text: &str) -> String {
    const MAX_LENGTH: usize = 600;
    let text = redacted(text);
    let end = text.char_indices().nth(MAX_LENGTH).map(|(at, _)| at);
    let shown = escaped(&text[..end.unwrap_or(text.len())]).replace('\t', "\\t");
    if end.is_some() { shown + "…" } else { shown }
}
