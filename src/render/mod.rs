//! Output: the only module that prints. Results go to stdout, progress and messages to stderr.

pub mod diagnostics;
pub mod event_log;
pub mod graph;
pub mod json;
pub mod plan;
pub mod progress;
pub mod specs;
pub mod status;
pub mod watch;

use std::io::{self, ErrorKind, IsTerminal, Write};
use std::sync::OnceLock;

use crate::engine::io_message;
use crate::plan::step::Subject;

/// Replaces values that may be secret.
const HIDDEN: &str = "(hidden)";

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
            json,
            live: live && !quiet,
        }
    }

    /// Prints a result to stdout. Returns false if stdout is closed.
    pub fn result(&self, text: &str) -> bool {
        write_out(text.as_bytes())
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
        self.result(&format!("{value:#}\n"));
    }

    /// Returns true if stdout is a terminal, so that a result can replace the previous one.
    pub fn redraws(&self) -> bool {
        std::io::stdout().is_terminal()
    }

    /// Prints a result that replaces the previous one: over it on a terminal, below it elsewhere. Returns false if stdout
    /// is closed.
    pub fn result_again(&self, text: &str, first: bool) -> bool {
        match (self.redraws(), first) {
            (true, true) => self.result(&format!("\u{1b}[2J\u{1b}[H{text}")),
            // Clears to the end of each line, and below, instead of the whole screen: no flicker.
            (true, false) => self.result(&format!("\u{1b}[H{}\u{1b}[J", text.replace('\n', "\u{1b}[K\n"))),
            (false, true) => self.result(text),
            (false, false) => self.result(&format!("\n{text}")),
        }
    }

    /// Prints one of several results as JSON on one line. Returns false if stdout is closed.
    pub fn result_line(&self, value: &serde_json::Value) -> bool {
        self.result(&format!("{value}\n"))
    }

    /// Prints a line of progress to stderr, except with --quiet.
    pub fn note(&self, text: &str) {
        if !self.quiet {
            self.eprintln(text);
        }
    }

    /// Prints an error to stderr, even with --quiet.
    pub fn error(&self, text: &str) {
        self.eprintln(&format!("{} {text}", self.paint(Paint::Red, "error:")));
    }

    /// Prints a line to stderr, even with --quiet.
    pub fn eprintln(&self, text: &str) {
        // A failure to write to stderr cannot be reported anywhere.
        let _ = writeln!(std::io::stderr().lock(), "{}", text.trim_end());
    }

    /// Colors a text for stderr.
    pub fn paint(&self, paint: Paint, text: &str) -> String {
        painted(self.color_err, paint, text)
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

/// Colors a text if `color` is set.
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
