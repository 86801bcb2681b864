//! Text that is safe to print.
//!
//! What a container, the engine, a registry, a file or another process wrote is shown as text: a character that could
//! control the terminal or disguise what is printed becomes a visible escape such as `\u{1b}` or `\n`. Colors and line
//! breaks of our own are inserted by type, never as characters, so every message is safe unless it says otherwise. Secret
//! values are hidden.

use std::borrow::Cow;
use std::fmt;
use std::ops::{Add, AddAssign};

use super::secrets::redacted;

/// A color by its meaning.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Paint {
    /// Success.
    Green,
    /// Needs attention.
    Yellow,
    /// Error.
    Red,
    /// Less important.
    Dim,
    /// More important.
    Bold,
}

/// Text with colors and line breaks. Displayed without colors.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Text(Vec<Piece>);

#[derive(Debug, Clone, PartialEq, Eq)]
enum Piece {
    /// Shown with escapes.
    Plain(Option<Paint>, String),
    LineBreak,
    /// Safe already, with colors of its own.
    Prepared(String),
}

/// A line break of our own.
#[derive(Debug, Clone, Copy)]
pub struct LineBreak;

impl Text {
    /// Colored text.
    pub fn painted(paint: Paint, text: impl Into<String>) -> Text {
        Text(vec![Piece::Plain(Some(paint), text.into())])
    }

    /// Output of a renderer that escapes what it is given.
    pub(super) fn prepared(text: String) -> Text {
        Text(vec![Piece::Prepared(text)])
    }

    /// Removes white space and line breaks at the end.
    #[must_use]
    pub fn trim_end(mut self) -> Text {
        while let Some(last) = self.0.last_mut() {
            if let Piece::Plain(_, text) | Piece::Prepared(text) = last {
                text.truncate(text.trim_end().len());
                if !text.is_empty() {
                    break;
                }
            }
            self.0.pop();
        }
        self
    }

    /// The characters to print, with colors if `color` is set.
    pub fn print(&self, color: bool) -> String {
        let mut out = String::new();
        for piece in &self.0 {
            match piece {
                Piece::LineBreak => out.push('\n'),
                Piece::Prepared(text) => out.push_str(text),
                Piece::Plain(Some(paint), text) if color && !text.is_empty() => {
                    out.push_str(&format!("\u{1b}[{}m{}\u{1b}[0m", paint.code(), shown(text)));
                }
                Piece::Plain(_, text) => out.push_str(&shown(text)),
            }
        }
        out
    }
}

impl Paint {
    /// The parameters of its SGR control sequence.
    fn code(self) -> &'static str {
        match self {
            Paint::Green => "32",
            Paint::Yellow => "33",
            Paint::Red => "1;31",
            Paint::Dim => "2",
            Paint::Bold => "1",
        }
    }
}

impl fmt::Display for Text {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.print(false))
    }
}

impl From<&str> for Text {
    fn from(text: &str) -> Text {
        text.to_owned().into()
    }
}

impl From<&String> for Text {
    fn from(text: &String) -> Text {
        text.clone().into()
    }
}

impl From<String> for Text {
    fn from(text: String) -> Text {
        Text(vec![Piece::Plain(None, text)])
    }
}

impl From<LineBreak> for Text {
    fn from(_: LineBreak) -> Text {
        Text(vec![Piece::LineBreak])
    }
}

impl<T: Into<Text>> Add<T> for Text {
    type Output = Text;

    fn add(mut self, more: T) -> Text {
        self += more;
        self
    }
}

impl<T: Into<Text>> AddAssign<T> for Text {
    fn add_assign(&mut self, more: T) {
        self.0.extend(more.into().0);
    }
}

impl FromIterator<Text> for Text {
    fn from_iter<I: IntoIterator<Item = Text>>(texts: I) -> Text {
        Text(texts.into_iter().flat_map(|text| text.0).collect())
    }
}

/// Returns true if a character could control the terminal or disguise text: control characters except the tab, line
/// separators, zero-width characters and bidirectional controls.
pub(super) fn is_unsafe(c: char) -> bool {
    (c.is_control() && c != '\t')
        || matches!(
            c,
            '\u{61c}'
                | '\u{200b}'..='\u{200f}'
                | '\u{2028}'..='\u{202e}'
                | '\u{2060}'..='\u{2069}'
                | '\u{feff}'
        )
}

/// Text of others as it is shown: without secret values, and with escapes.
pub(super) fn shown(text: &str) -> String {
    escaped(&redacted(text)).into_owned()
}

/// Replaces unsafe characters by visible escapes.
pub(super) fn escaped(text: &str) -> Cow<'_, str> {
    if !text.contains(is_unsafe) {
        return text.into();
    }
    let mut shown = String::new();
    for c in text.chars() {
        match is_unsafe(c) {
            true => shown.extend(c.escape_default()),
            false => shown.push(c),
        }
    }
    shown.into()
}

/// Replaces the unsafe characters that JSON may contain in strings by JSON's own escapes: nothing is lost.
pub(super) fn escaped_json(json: &str) -> Cow<'_, str> {
    // Control characters up to U+001F are escaped already; those left are line breaks between the values.
    let is_left = |c: char| is_unsafe(c) && c > ' ';
    if !json.contains(is_left) {
        return json.into();
    }
    let mut text = String::new();
    for c in json.chars() {
        match is_left(c) {
            true => text.push_str(&format!("\\u{:04x}", u32::from(c))),
            false => text.push(c),
        }
    }
    text.into()
}
