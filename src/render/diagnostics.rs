//! What is wrong in the specs, for people and for programs.
//!
//! Makes texts and values; printing them is the caller's. Whatever the files hold, the text stays short and holds no
//! control characters.

use std::collections::{BTreeMap, BTreeSet};
use std::fmt::Write;
use std::ops::Range;
use std::sync::Arc;

use annotate_snippets::{Annotation, AnnotationKind, Element, Level, Origin, Padding, Renderer, Snippet};
use serde_json::{Value, json};

use crate::spec::{Diagnostic, Location, SourceText};

/// The longest line that is shown whole, in characters.
const LONGEST_LINE: usize = 160;
/// How much of a longer line is shown before the mark and after it.
const BEFORE_MARK: usize = 40;
const AFTER_MARK: usize = 80;
/// Places of one file that are closer than this, in lines, are shown in one piece.
const ONE_PIECE: usize = 40;

/// The diagnostics as text: each with its lines shown and marked, and how many there are at the end.
pub fn render(diagnostics: &[Diagnostic], color: bool) -> String {
    let renderer = if color { Renderer::styled() } else { Renderer::plain() };
    let mut out = String::new();
    for diagnostic in diagnostics {
        out.push_str(&one(diagnostic, &renderer));
        out.push_str("\n\n");
    }
    if !diagnostics.is_empty() {
        out.push_str(&summary(diagnostics));
        out.push('\n');
    }
    out
}

/// The diagnostics for programs: `{"diagnostics": [{"file", "line", "column", "message", "hint"}]}`.
pub fn to_json(diagnostics: &[Diagnostic]) -> Value {
    let one = |diagnostic: &Diagnostic| {
        let place = diagnostic.place.as_ref();
        json!({
            "file": place.map(|place| place.file.path()),
            "line": place.map(Location::line),
            "column": place.map(Location::column),
            "message": diagnostic.message,
            "hint": diagnostic.hint,
        })
    };
    json!({"diagnostics": diagnostics.iter().map(one).collect::<Vec<_>>()})
}

/// "2 errors in 1 file".
fn summary(diagnostics: &[Diagnostic]) -> String {
    let counted = |count: usize, noun: &str| format!("{count} {noun}{}", if count == 1 { "" } else { "s" });
    let places = diagnostics.iter().filter_map(|diagnostic| diagnostic.place.as_ref());
    let files: BTreeSet<&str> = places.map(|place| place.file.path()).collect();
    let mut text = counted(diagnostics.len(), "error");
    if !files.is_empty() {
        let _ = write!(text, " in {}", counted(files.len(), "file"));
    }
    text
}

fn one(diagnostic: &Diagnostic, renderer: &Renderer) -> String {
    let mut group = Level::ERROR.primary_title(clean(&diagnostic.message)).elements(Vec::<Element<'_>>::new());
    let primary = diagnostic.place.iter().map(|place| Mark { place, label: &diagnostic.label, primary: true });
    let related = diagnostic.related.iter().map(|(place, label)| Mark { place, label, primary: false });
    for piece in pieces(primary.chain(related)) {
        group = group.elements(piece.elements());
    }
    if let Some(hint) = &diagnostic.hint {
        if diagnostic.place.as_ref().is_some_and(|place| !place.file.text().is_empty()) {
            group = group.element(Padding);
        }
        group = group.element(Level::HELP.message(clean(hint)));
    }
    renderer.render(&[group])
}

/// A place to mark.
struct Mark<'d> {
    place: &'d Location,
    label: &'d str,
    primary: bool,
}

impl Mark<'_> {
    fn line(&self) -> usize {
        self.place.line()
    }
}

/// Marks of one file that are shown together; the first gives the place in the headline.
struct Piece<'d> {
    marks: Vec<Mark<'d>>,
}

fn pieces<'d>(marks: impl Iterator<Item = Mark<'d>>) -> Vec<Piece<'d>> {
    let mut pieces: Vec<Piece<'d>> = Vec::new();
    for mark in marks {
        let fits = |piece: &&mut Piece<'d>| {
            let near = |other: &Mark<'_>| other.line().abs_diff(mark.line()) <= ONE_PIECE;
            piece.marks.iter().all(|other| Arc::ptr_eq(&other.place.file, &mark.place.file) && near(other))
        };
        match pieces.iter_mut().find(fits) {
            Some(piece) => piece.marks.push(mark),
            None => pieces.push(Piece { marks: vec![mark] }),
        }
    }
    pieces
}

impl Piece<'_> {
    fn elements(&self) -> Vec<Element<'static>> {
        let Some(first) = self.marks.first() else {
            return Vec::new();
        };
        let file = &first.place.file;
        let path = clean(file.path());
        if file.text().is_empty() {
            return vec![Origin::path(path).into()];
        }
        let (snippet, exact) = self.snippet(file);
        if exact {
            return vec![snippet.path(path).into()];
        }
        // The snippet would count the column in what is shown of the line; say the real one above it.
        vec![Origin::path(path).line(first.line()).char_column(first.place.column()).into(), snippet.into()]
    }

    /// The lines from the first mark to the last, cleaned and cut, with the marks moved to where their text went.
    ///
    /// True when the first mark has the same column in it as in the file.
    fn snippet(&self, file: &SourceText) -> (Snippet<'static, Annotation<'static>>, bool) {
        let lines = || self.marks.iter().map(Mark::line);
        let (from, to) = (lines().min().unwrap_or(1), lines().max().unwrap_or(1));
        let mut source = String::new();
        let mut starts: BTreeMap<usize, (usize, Shown)> = BTreeMap::new();
        for line in from..=to {
            let range = file.line_range(line);
            let text = file.text().get(range.clone()).unwrap_or_default();
            let marked = self.marks.iter().find(|mark| mark.line() == line);
            let shown = Shown::new(text, marked.map(|mark| mark.place.span.start.saturating_sub(range.start)));
            let start = source.len();
            source.push_str(&shown.text);
            source.push('\n');
            starts.insert(line, (start, shown));
        }
        let annotations = self.marks.iter().filter_map(|mark| {
            let line = file.line_range(mark.line());
            let (start, shown) = starts.get(&mark.line())?;
            let span = mark.place.span.start.saturating_sub(line.start)..mark.place.span.end.saturating_sub(line.start);
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
            let at = shown.position(mark.place.span.start.saturating_sub(file.line_range(mark.line()).start));
            shown.text.get(..at).map_or(0, |before| before.chars().count()) + 1 == mark.place.column()
        });
        (Snippet::source(source).line_start(from).annotations(annotations), exact)
    }
}

/// A line as it is shown.
struct Shown {
    text: String,
    /// For each byte of the line where a character begins, the byte of `text` where it is shown.
    map: Vec<(usize, usize)>,
}

impl Shown {
    fn new(line: &str, mark: Option<usize>) -> Self {
        let count = line.chars().count();
        let marked = line.char_indices().take_while(|(at, _)| *at < mark.unwrap_or(0)).count();
        let window = match count > LONGEST_LINE {
            true => marked.saturating_sub(BEFORE_MARK)..marked.saturating_add(AFTER_MARK).min(count),
            false => 0..count,
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
        if window.end < count {
            shown.text.push('…');
        }
        shown
    }

    fn push(&mut self, c: char) {
        match c {
            '\u{feff}' if self.text.is_empty() => {} // a byte order mark is no part of its line
            '\t' => self.text.push_str("    "),
            c if is_unsafe(c) => self.text.push('\u{fffd}'),
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

/// Whether a character could do something to the terminal, or make text look like other text.
fn is_unsafe(c: char) -> bool {
    c.is_control()
        || matches!(c, '\u{200b}'..='\u{200f}' | '\u{202a}'..='\u{202e}' | '\u{2066}'..='\u{2069}' | '\u{feff}')
}

/// A message in one line without control characters, and not endless.
fn clean(text: &str) -> String {
    const LONGEST: usize = 600;
    let mut shown = String::new();
    for c in text.chars().take(LONGEST) {
        match is_unsafe(c) {
            true => shown.extend(c.escape_default()),
            false => shown.push(c),
        }
    }
    if text.chars().nth(LONGEST).is_some() {
        shown.push('…');
    }
    shown
}
