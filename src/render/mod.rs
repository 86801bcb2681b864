//! Output: the only module that prints. Results go to stdout, progress and messages to stderr.
//!
//! Everything is printed as [`Text`] or JSON, which escape control characters, except output that is copied as it is:
//! `exec`, and documents that are read by other programs.

pub mod diagnostics;
pub mod doctor;
pub mod event_log;
pub mod export;
pub mod graph;
pub mod groups;
pub mod json;
pub mod plan;
pub mod progress;
mod secrets;
pub mod specs;
pub mod status;
mod table;
mod text;
pub mod top;
pub mod watch;

use std::io::{self, ErrorKind, IsTerminal, Write};
use std::sync::OnceLock;

use tracing::field::Field;
use tracing_subscriber::fmt::format::Writer;

use crate::engine::io_message;
use crate::plan::step::Subject;
use crate::spec::Diagnostic;
use secrets::redacted_json;
pub use secrets::{hide, redacted, show_values};
pub use text::{LineBreak, Paint, Text};
use text::{escaped, escaped_json, shown};

/// First error of a write to stdout, other than that its reader is gone.
static WRITE_ERROR: OnceLock<String> = OnceLock::new();

/// The first error of a write to stdout, other than that its reader is gone: the result is incomplete.
pub fn write_error() -> Option<&'static str> {
    WRITE_ERROR.get().map(String::as_str)
}

/// Writes to stdout. Returns false on an error.
fn write_out(bytes: &[u8]) -> bool {
    let mut out = io::stdout().lock();
    let written = out.write_all(bytes).and_then(|()| out.flush());
    if let Err(error) = &written
        && error.kind() != ErrorKind::BrokenPipe
    {
        WRITE_ERROR.get_or_init(|| io_message(error));
    }
    written.is_ok()
}

/// Output options.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Style {
    /// Use colors on stdout.
    pub color_out: bool,
    /// Use colors on stderr.
    pub color_err: bool,
    /// Print only results and errors.
    pub quiet: bool,
    /// Print every step.
    pub verbose: bool,
    /// Print results as JSON.
    pub json: bool,
    /// Whether stderr is a terminal, so that lines can be redrawn.
    pub live: bool,
}

impl Style {
    /// Inspects stdout and stderr. `color` is `None` for "on a terminal, unless NO_COLOR is set".
    pub fn new(color: Option<bool>, no_color: bool, quiet: bool, json: bool) -> Style {
        let wanted = |terminal: bool| color.unwrap_or(terminal && !no_color);
        let live = std::io::stderr().is_terminal();
        Style {
            color_out: wanted(std::io::stdout().is_terminal()),
            color_err: wanted(live),
            quiet,
            verbose: false,
            json,
            live: live && !quiet,
        }
    }

    /// Prints a result to stdout. Returns false if stdout is closed.
    pub fn result(&self, text: &Text) -> bool {
        write_out(text.print(self.color_out).as_bytes())
    }

    /// Prints a document that other programs read, whose writer has escaped control characters in its own way.
    pub fn result_document(&self, document: &str) {
        write_out(document.as_bytes());
    }

    /// Prints a line of a service's log. Control characters are replaced. Returns false if stdout is closed.
    pub fn log(&self, name: &str, line: &str) -> bool {
        let line: String = line.chars().map(|c| if c.is_control() && c != '\t' { '\u{fffd}' } else { c }).collect();
        write_out(format!("{} | {line}\n", escaped(name)).as_bytes())
    }

    /// Copies output of a command to the same stream, byte for byte. Returns false if the stream is closed.
    pub fn forward(&self, stderr: bool, bytes: &[u8]) -> bool {
        if stderr {
            return std::io::stderr().lock().write_all(bytes).is_ok();
        }
        write_out(bytes)
    }

    /// Prints a result as indented JSON.
    pub fn result_json(&self, value: &serde_json::Value) {
        write_out(escaped_json(&format!("{:#}\n", redacted_json(value.clone()))).as_bytes());
    }

    /// Returns true if stdout is a terminal, so that a result can replace the previous one.
    pub fn redraws(&self) -> bool {
        std::io::stdout().is_terminal()
    }

    /// Prints a result that replaces the previous one: over it on a terminal, below it elsewhere. Returns false if stdout
    /// is closed.
    pub fn result_again(&self, text: &Text, first: bool) -> bool {
        let text = text.print(self.color_out);
        let text = match (self.redraws(), first) {
            (true, true) => format!("\u{1b}[2J\u{1b}[H{text}"),
            // Clears to the end of each line, and below, instead of the whole screen: no flicker.
            (true, false) => format!("\u{1b}[H{}\u{1b}[J", text.replace('\n', "\u{1b}[K\n")),
            (false, true) => text,
            (false, false) => format!("\n{text}"),
        };
        write_out(text.as_bytes())
    }

    /// Prints one of several results as JSON on one line. Returns false if stdout is closed.
    pub fn result_line(&self, value: &serde_json::Value) -> bool {
        self.log_json(&redacted_json(value.clone()))
    }

    /// Prints a line of a service's log as JSON. Returns false if stdout is closed.
    pub fn log_json(&self, value: &serde_json::Value) -> bool {
        write_out(escaped_json(&format!("{value}\n")).as_bytes())
    }

    /// Prints a line of progress to stderr, except with --quiet.
    pub fn note(&self, text: impl Into<Text>) {
        if !self.quiet {
            self.eprintln(text);
        }
    }

    /// Prints a remark about the specs with its place to stderr, unless --quiet is given.
    pub fn located_note(&self, note: &Diagnostic) {
        self.note(diagnostics::line(note));
    }

    /// Prints an error to stderr, even with --quiet.
    pub fn error(&self, text: impl Into<Text>) {
        self.eprintln(Text::painted(Paint::Red, "error:") + " " + text);
    }

    /// Prints a line to stderr, even with --quiet.
    pub fn eprintln(&self, text: impl Into<Text>) {
        // A failure to write to stderr cannot be reported anywhere.
        let _ = writeln!(std::io::stderr().lock(), "{}", text.into().trim_end().print(self.color_err));
    }

    /// Prints what is missing in the specs, or their errors where a command continues, to stderr.
    pub fn warnings(&self, warnings: &[Diagnostic]) {
        if !self.quiet {
            self.eprintln(diagnostics::warnings(warnings, self.color_err));
        }
    }

    /// Prints a question to stderr; the answer follows on the same line.
    pub fn prompt(&self, text: impl Into<Text>) {
        let mut stderr = std::io::stderr().lock();
        // A failure to write to stderr cannot be reported anywhere.
        let _ = write!(stderr, "{}", text.into().print(self.color_err)).and_then(|()| stderr.flush());
    }

    /// Prints errors of the specs to stderr, even with --quiet.
    pub fn diagnostics(&self, errors: &[Diagnostic]) {
        self.eprintln(diagnostics::text(errors, self.color_err));
    }
}

/// Text of a rollback, after the name of the service.
const ROLLED_BACK: &str = "rolled back to the previous container";

/// The writer of `-v`: stderr, ignoring errors, which would cause a panic during a step.
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

/// Writes a field of `-v` with its name, as safe text.
pub fn log_field(writer: &mut Writer<'_>, field: &Field, value: &dyn std::fmt::Debug) -> std::fmt::Result {
    let value = shown(&format!("{value:?}"));
    match field.name() {
        "message" => write!(writer, "{value}"),
        name => write!(writer, "{name}={value}"),
    }
}

/// `1 service`, `2 services`.
pub fn count(number: usize, noun: &str) -> String {
    format!("{number} {noun}{}", if number == 1 { "" } else { "s" })
}

/// A subject in messages: the name of a service, otherwise kind and name.
pub fn title(subject: &Subject) -> String {
    match subject {
        Subject::Service(name) => name.to_string(),
        subject => format!("{} {}", subject.kind().to_lowercase(), subject.name()),
    }
}
