//! The only place that prints: results to stdout, progress and messages to stderr. Decides nothing.

pub mod diagnostics;
pub mod event_log;
pub mod graph;
pub mod json;
pub mod plan;
pub mod progress;
pub mod specs;
pub mod status;
pub mod watch;

use std::io::{IsTerminal, Write};

use crate::plan::step::Subject;

/// How to print.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Style {
    /// Colours on stdout.
    pub color_out: bool,
    /// Colours on stderr.
    pub color_err: bool,
    /// Nothing but results and errors.
    pub quiet: bool,
    /// Results as JSON.
    pub json: bool,
    /// Whether stderr is a terminal, where lines can be drawn over.
    pub live: bool,
}

impl Style {
    /// Finds out: `color` is `None` for "on a terminal, unless NO_COLOR is set".
    pub fn new(color: Option<bool>, no_color: bool, quiet: bool, json: bool) -> Style {
        let wanted = |terminal: bool| color.unwrap_or(terminal && !no_color);
        let live = std::io::stderr().is_terminal();
        Style {
            color_out: wanted(std::io::stdout().is_terminal()),
            color_err: wanted(live),
            quiet,
            json,
            live: live && !quiet,
        }
    }

    /// Prints a result to stdout. False: nobody reads it any longer, so there is no need for more.
    pub fn result(&self, text: &str) -> bool {
        let mut out = std::io::stdout().lock();
        out.write_all(text.as_bytes()).and_then(|()| out.flush()).is_ok()
    }

    /// Passes on what a program has written to the same stream here, byte for byte. False: nobody reads it any longer.
    pub fn pass_on(&self, stderr: bool, bytes: &[u8]) -> bool {
        if stderr {
            return std::io::stderr().lock().write_all(bytes).is_ok();
        }
        let mut out = std::io::stdout().lock();
        out.write_all(bytes).and_then(|()| out.flush()).is_ok()
    }

    /// Prints a result for programs: one JSON document, indented, with a newline.
    pub fn result_json(&self, value: &serde_json::Value) {
        self.result(&format!("{value:#}\n"));
    }

    /// Whether a result can be drawn over the one before.
    pub fn redraws(&self) -> bool {
        std::io::stdout().is_terminal()
    }

    /// Prints a result that takes the place of the one before: over it on a terminal, else below it.
    pub fn result_again(&self, text: &str, first: bool) -> bool {
        match (self.redraws(), first) {
            (true, true) => self.result(&format!("\u{1b}[2J\u{1b}[H{text}")),
            // Each line to its end, and what was below, so that nothing flickers.
            (true, false) => self.result(&format!("\u{1b}[H{}\u{1b}[J", text.replace('\n', "\u{1b}[K\n"))),
            (false, true) => self.result(text),
            (false, false) => self.result(&format!("\n{text}")),
        }
    }

    /// Prints one of many results for programs: a JSON document on one line.
    pub fn result_line(&self, value: &serde_json::Value) -> bool {
        self.result(&format!("{value}\n"))
    }

    /// Prints a line of progress to stderr, unless it should be quiet.
    pub fn note(&self, text: &str) {
        if !self.quiet {
            self.complain(text);
        }
    }

    /// Prints an error to stderr, also when quiet.
    pub fn error(&self, text: &str) {
        self.complain(&format!("{} {text}", self.paint(Paint::Red, "error:")));
    }

    /// Prints a line to stderr, also when quiet.
    pub fn complain(&self, text: &str) {
        // There is nowhere to say that stderr cannot be written to.
        let _ = writeln!(std::io::stderr().lock(), "{}", text.trim_end());
    }

    /// Colours a text for stderr.
    pub fn paint(&self, paint: Paint, text: &str) -> String {
        painted(self.color_err, paint, text)
    }
}

/// Where `-v` writes: stderr, for as long as somebody reads it. An error here would be a panic in the middle of a step.
#[derive(Debug)]
pub struct LogWriter;

impl Write for LogWriter {
    fn write(&mut self, bytes: &[u8]) -> std::io::Result<usize> {
        let _ = std::io::stderr().lock().write_all(bytes);
        Ok(bytes.len())
    }

    fn flush(&mut self) -> std::io::Result<()> {
        Ok(())
    }
}

/// A colour with a meaning.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Paint {
    /// What went well.
    Green,
    /// What needs attention.
    Yellow,
    /// What went wrong.
    Red,
    /// What matters less.
    Dim,
    /// What matters more.
    Bold,
}

/// Colours a text, or not.
pub fn painted(color: bool, paint: Paint, text: &str) -> String {
    if !color || text.is_empty() {
        return text.to_owned();
    }
    let code = match paint {
        Paint::Green => "32",
        Paint::Yellow => "33",
        Paint::Red => "1;31",
        Paint::Dim => "2",
        Paint::Bold => "1",
    };
    format!("\u{1b}[{code}m{text}\u{1b}[0m")
}

/// `1 service`, `2 services`.
pub fn count(number: usize, thing: &str) -> String {
    format!("{number} {thing}{}", if number == 1 { "" } else { "s" })
}

/// A subject for people: a service by its name alone, anything else with its kind in front.
pub fn title(subject: &Subject) -> String {
    match subject {
        Subject::Service(name) => name.to_string(),
        subject => format!("{} {}", subject.kind().to_lowercase(), subject.name()),
    }
}
