//! What a watching controller prints: one line for each thing that happened; what is under way only as live lines.

use std::time::SystemTime;

use serde_json::Value;

use super::event_log::{self, EventLine, news};
use super::progress::{Progress, last_lines, printable};
use super::{Paint, Style, diagnostics};
use crate::control::event::{Outcome, Report};

/// What programs are told of a report, also those that ask the controller from another process.
pub fn event(report: &Report) -> Option<Value> {
    news(report).map(|news| news.to_json(SystemTime::now()))
}

/// Prints reports as they come.
#[derive(Debug)]
pub struct Watching {
    style: Style,
    specs: String,
    progress: Progress,
}

impl Watching {
    /// Prints nothing yet. `specs`: the spec directory, as shown to people.
    pub fn new(style: Style, specs: String) -> Watching {
        Watching { style, specs, progress: Progress::new(style) }
    }

    /// Prints one report.
    pub fn show(&mut self, report: Report) {
        if let Report::StepStarted(step) | Report::StepDone(step) = &report {
            tracing::debug!(%step, cause = step.cause, begun = matches!(report, Report::StepStarted(_)), "step");
        }
        if let Some(news) = news(&report) {
            self.tell(&news, &report);
        }
        self.progress.draw(&report);
    }

    /// Says how it ended.
    pub fn ended(&mut self, outcome: &Outcome) {
        self.progress.finish();
        let news = event_log::ended(outcome);
        match self.style.json {
            // Whether anybody still reads it changes nothing.
            true => _ = self.style.result_line(&news.to_json(SystemTime::now())),
            false => self.style.note(&self.text(&news)),
        }
    }

    fn tell(&self, news: &EventLine, report: &Report) {
        if self.style.json {
            self.style.result_line(&news.to_json(SystemTime::now()));
            return;
        }
        let mut text = self.text(news);
        match report {
            Report::Settled(_) => text += &format!(" in {} (Ctrl-C ends the watch; containers stay)", self.specs),
            Report::SpecsInvalid(errors) => {
                let word = self.style.paint(Paint::Red, &news.word);
                text = format!("{}{word}; the last good ones hold", diagnostics::render(errors, self.style.color_err));
            }
            Report::Failed(failed) => text += &last_lines(failed),
            _ => {}
        }
        // What went wrong is shown also when quiet.
        self.progress.print(&text, news.paint == Paint::Red);
    }

    fn text(&self, news: &EventLine) -> String {
        let whom = news.whom.as_ref().map(|whom| format!("{whom}: ")).unwrap_or_default();
        format!("{whom}{}{}", self.style.paint(news.paint, &news.word), printable(&news.rest))
    }
}
