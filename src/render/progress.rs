//! What happens while it happens: on a terminal one live line for each service, elsewhere plain lines.

use std::collections::BTreeMap;
use std::time::Duration;

use indicatif::{MultiProgress, ProgressBar, ProgressStyle};

use super::{Paint, Style, count, diagnostics, title};
use crate::control::event::{Failed, Report};
use crate::engine::PullProgress;
use crate::plan::step::{Action, Change, Reason, Step, Subject, Verb};

/// Shows reports as they come.
#[derive(Debug)]
pub struct Progress {
    style: Style,
    lines: MultiProgress,
    bars: BTreeMap<String, ProgressBar>,
    last_failure: String,
}

impl Progress {
    /// Shows nothing yet.
    pub fn new(style: Style) -> Progress {
        Progress { style, lines: MultiProgress::new(), bars: BTreeMap::new(), last_failure: String::new() }
    }

    /// Shows one report.
    pub fn show(&mut self, report: Report) {
        match report {
            Report::Planned(changes) => self.planned(&changes),
            Report::StepStarted(step) => self.begun(&step),
            Report::StepDone(step) => self.done(&step),
            Report::StepFailed(step, why) => {
                self.clear(&title(&step.subject));
                // An image that cannot be had is told by the services that want it.
                if !matches!(step.verb, Verb::Pull | Verb::Build) {
                    let word = self.style.paint(Paint::Yellow, "left");
                    self.line(&format!("{}: {word}: {why}", title(&step.subject)));
                }
            }
            Report::Pulling(image, progress) if self.style.live => self.pulling(&image, &progress),
            Report::Waiting { service, reason } => self.set_message(&service, &reason),
            Report::Ready(service) => {
                let word = self.style.paint(Paint::Green, "ready");
                self.end(&service, &word);
            }
            Report::Succeeded(job) => {
                let word = self.style.paint(Paint::Green, "succeeded");
                self.end(&job, &word);
            }
            Report::Output { service, event, line } => {
                let whom = service.map(|service| format!("{service} ")).unwrap_or_default();
                self.line(&format!("{whom}{event} | {}", printable(&line)));
            }
            Report::Failed(failed) => self.failed(&failed),
            Report::Note(text) => self.line(&text),
            // With the outputs that were given; they were valid before.
            Report::SpecsInvalid(errors) => self.print(&diagnostics::render(&errors, self.style.color_err), true),
            // Only a run that stays says more: `watch`.
            _ => {}
        }
    }

    /// Shows on live lines what is under way, and nothing else.
    pub fn draw(&mut self, report: &Report) {
        if !self.style.live {
            return;
        }
        match report {
            Report::StepStarted(step) => self.begun(step),
            Report::Waiting { service, reason } => self.set_message(service, reason),
            Report::Pulling(image, progress) => self.pulling(image, progress),
            // What follows, another step or a wait, has a line of its own.
            Report::StepDone(step) | Report::StepFailed(step, _) => self.clear(&title(&step.subject)),
            Report::Ready(service)
            | Report::Succeeded(service)
            | Report::RolledBack(service)
            | Report::Removed(service) => {
                self.clear(service);
            }
            Report::Failed(failed) => self.clear(&failed.failure.service),
            Report::EngineLost(_) => self.finish(),
            _ => {}
        }
    }

    /// Prints a line above the live ones. `always`: also when quiet.
    pub fn print(&self, text: &str, always: bool) {
        match (self.style.live, always) {
            (true, _) => self.suspended(text),
            (false, true) => self.style.complain(text),
            (false, false) => self.style.note(text),
        }
    }

    /// Takes the live lines away; what was printed above them stays.
    pub fn finish(&mut self) {
        for bar in self.bars.values() {
            bar.finish_and_clear();
        }
        self.bars.clear();
    }

    /// What will be destroyed is said before it is.
    fn planned(&mut self, changes: &[Change]) {
        let named = |action: Action, kind: &str| -> Vec<&str> {
            changes
                .iter()
                .filter(|change| change.action == action && change.subject.kind() == kind)
                .map(|change| change.subject.name())
                .collect()
        };
        for (kind, word) in [("Service", "service"), ("Network", "network"), ("Volume", "volume"), ("Image", "image")] {
            let names = named(Action::Remove, kind);
            if !names.is_empty() {
                let word = self.style.paint(Paint::Yellow, &format!("removes {}", count(names.len(), word)));
                self.line(&format!("{word}: {}", names.join(", ")));
            }
        }
    }

    fn begun(&mut self, step: &Step) {
        let text = match &step.verb {
            Verb::Create { name, .. } => format!("creating {name}"),
            Verb::Start(container) => format!("starting {}", container.name),
            Verb::Stop(container) => format!("stopping {}", container.name),
            Verb::Unpause(container) => format!("unpausing {}", container.name),
            Verb::Rename { container, to } => format!("renaming {} to {to}", container.name),
            Verb::Update { container, .. } => format!("updating {}", container.name),
            Verb::Connect { container, .. } => format!("connecting {}", container.name),
            Verb::Disconnect { container, .. } => format!("disconnecting {}", container.name),
            Verb::Remove { container, .. } => format!("removing {}", container.name),
            Verb::Pull => "pulling".into(),
            Verb::Build => "building".into(),
            Verb::CreateNetwork => "creating".into(),
            Verb::RemoveNetwork { .. } | Verb::RemoveVolume | Verb::RemoveImage => "removing".into(),
            Verb::Collect(_) => "collecting outputs".into(),
            Verb::Hook { moment, action, .. } => format!("{moment}: {action}"),
        };
        let cause = self.style.paint(Paint::Dim, &format!("({})", step.cause));
        self.set_message(&title(&step.subject), &format!("{text} {cause}"));
    }

    fn done(&mut self, step: &Step) {
        match (&step.verb, &step.subject) {
            // Its bar may be the last that is seen of a service; as a plain line it says nothing new.
            (Verb::Remove { .. }, Subject::Service(service)) => self.clear(service),
            (Verb::RemoveNetwork { .. } | Verb::RemoveVolume | Verb::RemoveImage, subject) => {
                self.end(&title(subject), "removed")
            }
            (Verb::CreateNetwork, subject) => self.end(&title(subject), "created"),
            (Verb::Pull, subject) => self.end(&title(subject), "pulled"),
            (Verb::Build, subject) => self.end(&title(subject), "built"),
            _ => {}
        }
    }

    fn failed(&mut self, failed: &Failed) {
        let failure = &failed.failure;
        let word = self.style.paint(Paint::Red, &format!("failed ({})", failure.reason.word()));
        let mut text = format!("{}: {word}: {}", failure.service, failure.message);
        // That the group is another directory's is one reason for all of its services, and told once.
        let last = std::mem::replace(&mut self.last_failure, failure.message.clone());
        if failure.reason == Reason::Conflict && last == failure.message {
            text = format!("{}: {word}: for the same reason", failure.service);
        }
        text += &last_lines(failed);
        self.clear(&failure.service);
        // A failure is an error: it is shown also when quiet.
        self.print(&text, true);
    }

    /// Something is going on with a subject.
    fn set_message(&mut self, name: &str, text: &str) {
        if self.style.live {
            self.bar(name, text);
        } else {
            self.style.note(&format!("{name}: {text}"));
        }
    }

    /// Something has come to its end for a subject.
    fn end(&mut self, name: &str, text: &str) {
        self.clear(name);
        self.line(&format!("{name}: {text}"));
    }

    fn line(&self, text: &str) {
        self.print(text, false);
    }

    fn clear(&mut self, name: &str) {
        if let Some(bar) = self.bars.remove(name) {
            bar.finish_and_clear();
        }
    }

    fn pulling(&mut self, image: &str, progress: &PullProgress) {
        let text = format!("{}/{} layers, {}", progress.done, progress.total, megabytes(progress.bytes));
        self.bar(&format!("image {image}"), &format!("pulling: {text}"));
    }

    fn suspended(&self, text: &str) {
        self.lines.suspend(|| self.style.complain(text));
    }

    fn bar(&mut self, name: &str, text: &str) {
        let bar = self.bars.entry(name.to_owned()).or_insert_with(|| {
            let bar = self.lines.add(ProgressBar::new_spinner());
            bar.set_style(
                ProgressStyle::with_template("{spinner} {prefix}: {wide_msg} {elapsed}")
                    .unwrap_or_else(|_| ProgressStyle::default_spinner()),
            );
            bar.set_prefix(name.to_owned());
            bar.enable_steady_tick(Duration::from_millis(120));
            bar
        });
        bar.set_message(text.to_owned());
    }
}

/// What explains a failure, below it; empty: nothing.
pub fn last_lines(failed: &Failed) -> String {
    if failed.output.is_empty() {
        return String::new();
    }
    let whose = if failed.failure.reason == Reason::BuildFailed { "build" } else { "container" };
    let lines = failed.output.iter().map(|line| format!("\n  | {}", printable(line)));
    format!("\n  the last lines of its {whose}:{}", lines.collect::<String>())
}

fn megabytes(bytes: u64) -> String {
    format!("{}.{} MB", bytes / 1_000_000, bytes % 1_000_000 / 100_000)
}

/// What a container printed must not steer the terminal.
pub fn printable(line: &str) -> String {
    line.chars().map(|c| if c.is_control() && c != '\t' { '\u{fffd}' } else { c }).collect()
}
