//! The output of `up --watch`: one line per event, and live lines for what is in progress.

use std::time::SystemTime;

use serde_json::Value;

use super::event_log::{self, EventLine, event_line};
use super::progress::{Progress, last_lines};
use super::secrets::redacted_json;
use super::{Paint, Style, Text, diagnostics};
use crate::control::event::{Outcome, Report};
use crate::plan::step::{Step, Verb};

/// The JSON object of a report, as other processes receive it from the controller, without secret values.
pub fn event(report: &Report) -> Option<Value> {
    event_line(report).map(|line| redacted_json(line.to_json(SystemTime::now())))
}

/// Prints reports as they arrive.
#[derive(Debug)]
pub struct WatchPrinter {
    style: Style,
    specs: String,
    progress: Progress,
}

impl WatchPrinter {
    /// `specs` is the spec directory as given on the command line.
    pub fn new(style: Style, specs: String) -> WatchPrinter {
        WatchPrinter { style, specs, progress: Progress::new(style) }
    }

    /// Prints one report.
    pub fn show(&mut self, report: Report) {
        if let Report::StepStarted(step) | Report::StepDone(step) = &report {
            tracing::debug!(%step, cause = step.cause, begun = matches!(report, Report::StepStarted(_)), "step");
        }
        let is_folded = self.style.live && !self.style.json && self.fold(&report);
        if let Some(line) = event_line(&report).filter(|_| !is_folded) {
            self.print(&line, &report);
        }
        self.progress.draw(&report);
    }

    /// Folds the output of a build on a terminal. Returns true for a line that is kept until the build ends.
    fn fold(&mut self, report: &Report) -> bool {
        match report {
            Report::Output { build: Some(build), .. } => {
                self.progress.building(build, report);
                return true;
            }
            Report::StepDone(step @ Step { verb: Verb::Build, .. }) => self.progress.fold(step),
            Report::StepFailed(step @ Step { verb: Verb::Build, .. }, _) => self.progress.unfold(step),
            _ => {}
        }
        false
    }

    /// Prints how the watch ended.
    pub fn stopped(&mut self, outcome: &Outcome) {
        self.progress.finish();
        let line = event_log::stopped(outcome);
        match self.style.json {
            true => _ = self.style.result_line(&line.to_json(SystemTime::now())),
            false => self.style.note(text(&line)),
        }
    }

    fn print(&self, line: &EventLine, report: &Report) {
        if self.style.json {
            self.style.result_line(&line.to_json(SystemTime::now()));
            return;
        }
        let mut text = text(line);
        match report {
            Report::Settled(_) => {
                text += format!(" in {} (Ctrl-C stops the watch; containers keep running)", self.specs)
            }
            Report::SpecsInvalid(errors) => {
                let headline = Text::painted(Paint::Red, &line.headline);
                let errors = diagnostics::text(errors, self.style.color_err);
                text = errors + headline + "; keeping the last valid specs";
            }
            Report::Failed(failed) => text += last_lines(failed),
            _ => {}
        }
        // Errors are printed even with --quiet.
        self.progress.print(text, line.paint == Paint::Red);
    }
}

fn text(line: &EventLine) -> Text {
    let subject = line.subject.as_ref().map(|subject| format!("{subject}: ")).unwrap_or_default();
    Text::from(subject) + Text::painted(line.paint, &line.headline) + &line.rest
}
