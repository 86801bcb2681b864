//! The progress display: on a terminal one live line per service, elsewhere plain lines.

use std::collections::BTreeMap;
use std::time::Duration;

use indicatif::{MultiProgress, ProgressBar, ProgressStyle};

use super::event_log::retrying;
use super::{LineBreak, Paint, Style, Text, count, diagnostics, title};
use crate::control::event::{Failed, Report};
use crate::engine::PullProgress;
use crate::plan::step::{Action, Change, Reason, Step, Subject, Verb};

/// Displays reports as they arrive.
#[derive(Debug)]
pub struct Progress {
    style: Style,
    lines: MultiProgress,
    bars: BTreeMap<String, ProgressBar>,
    last_failure: String,
}

impl Progress {
    pub fn new(style: Style) -> Progress {
        Progress { style, lines: MultiProgress::new(), bars: BTreeMap::new(), last_failure: String::new() }
    }

    /// Displays one report of a one-shot run.
    pub fn show(&mut self, report: Report) {
        match report {
            Report::Planned(changes) => self.planned(&changes),
            Report::StepStarted(step) => self.started(&step),
            Report::StepDone(step) => self.done(&step),
            Report::StepFailed(step, why) => {
                self.clear(&title(&step.subject));
                // A failed pull or build is reported by the services that use the image.
                if !matches!(step.verb, Verb::Pull | Verb::Build) {
                    let failed = Text::painted(Paint::Yellow, failed_to(&step));
                    self.line(Text::from(title(&step.subject)) + ": " + failed + format!(": {why}"));
                }
            }
            Report::Pulling(image, progress) if self.style.live => self.pulling(&image, &progress),
            // The failure is no matter of time.
            Report::Waiting { service, reason, blocked: true } => self.end(&service, reason.into()),
            Report::Waiting { service, reason, .. } => self.set_message(&service, reason.into()),
            Report::Ready(service) => self.end(&service, Text::painted(Paint::Green, "ready")),
            Report::Succeeded(job) => self.end(&job, Text::painted(Paint::Green, "succeeded")),
            Report::RolledBack(service) => self.end(&service, Text::painted(Paint::Yellow, super::ROLLED_BACK)),
            Report::Output { service, event, line } => {
                let service = service.map(|service| format!("{service}: ")).unwrap_or_default();
                self.line(format!("{service}{event} | {line}").into());
            }
            Report::Failed(failed) => self.failed(&failed),
            Report::Note(text) => self.line(text.into()),
            // Specs that are invalid only with the outputs of this run.
            Report::SpecsInvalid(errors) => self.print(diagnostics::text(&errors, self.style.color_err), true),
            // Only `up --watch` prints the others.
            _ => {}
        }
    }

    /// Updates the live lines only; for `up --watch`, which prints events itself.
    pub fn draw(&mut self, report: &Report) {
        if !self.style.live {
            return;
        }
        match report {
            Report::StepStarted(step) => self.started(step),
            Report::Waiting { service, blocked: true, .. } => self.clear(service),
            Report::Waiting { service, reason, .. } => self.set_message(service, reason.into()),
            Report::Pulling(image, progress) => self.pulling(image, progress),
            // The next step or wait adds its own line.
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

    /// Prints a line above the live lines. `always`: even with --quiet.
    pub fn print(&self, text: Text, always: bool) {
        match (self.style.live, always) {
            (true, _) => self.lines.suspend(|| self.style.eprintln(text)),
            (false, true) => self.style.eprintln(text),
            (false, false) => self.style.note(text),
        }
    }

    /// Removes the live lines; printed lines stay.
    pub fn finish(&mut self) {
        for bar in self.bars.values() {
            bar.finish_and_clear();
        }
        self.bars.clear();
    }

    /// Lists what will be removed before it is removed.
    fn planned(&mut self, changes: &[Change]) {
        let with_action = |action: Action, kind: &str| -> Vec<&str> {
            changes
                .iter()
                .filter(|change| change.action == action && change.subject.kind() == kind)
                .map(|change| change.subject.name())
                .collect()
        };
        for (kind, noun) in [("Service", "container"), ("Network", "network"), ("Volume", "volume"), ("Image", "image")]
        {
            let names = with_action(Action::Remove, kind);
            if !names.is_empty() {
                let removes = Text::painted(Paint::Yellow, format!("removes {}", count(names.len(), noun)));
                self.line(removes + format!(": {}", names.join(", ")));
            }
        }
    }

    fn started(&mut self, step: &Step) {
        let text = match &step.verb {
            Verb::Create { name, .. } => format!("creating {name}"),
            Verb::Start(container) => format!("starting {}", container.name),
            Verb::Stop(container) => format!("stopping {}", container.name),
            Verb::Unpause(container) => format!("unpausing {}", container.name),
            Verb::Signal { container, signal } => format!("sending {signal} to {}", container.name),
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
            Verb::Hook { point, action, .. } => format!("{point}: {action}"),
        };
        let cause = Text::painted(Paint::Dim, format!("({})", step.cause));
        self.set_message(&title(&step.subject), Text::from(text) + " " + cause);
    }

    fn done(&mut self, step: &Step) {
        match (&step.verb, &step.subject) {
            // Removes the live line; a plain line would repeat the start of the step.
            (Verb::Remove { .. }, Subject::Service(service)) => self.clear(service),
            (Verb::RemoveNetwork { .. } | Verb::RemoveVolume | Verb::RemoveImage, subject) => {
                self.end(&title(subject), "removed".into())
            }
            (Verb::CreateNetwork, subject) => self.end(&title(subject), "created".into()),
            (Verb::Pull, subject) => self.end(&title(subject), "pulled".into()),
            (Verb::Build, subject) => self.end(&title(subject), "built".into()),
            _ => {}
        }
    }

    fn failed(&mut self, failed: &Failed) {
        let failure = &failed.failure;
        // If the group belongs to another directory, all services fail with one message: print it once.
        let last = std::mem::replace(&mut self.last_failure, failure.message.clone());
        let message = match failure.reason == Reason::Conflict && last == failure.message {
            true => "same reason as above",
            false => &failure.message,
        };
        let failed_with = Text::painted(Paint::Red, format!("failed ({})", failure.reason.word()));
        let text = Text::from(format!("{}: ", failure.service)) + failed_with + format!(": {message}");
        let text = match failed.retry {
            Some(retry) => text + format!("; {}", retrying(retry, failed)),
            None => text,
        };
        self.clear(&failure.service);
        // Errors are printed even with --quiet.
        self.print(text + last_lines(failed), true);
    }

    /// Displays the current activity of a subject.
    fn set_message(&mut self, name: &str, text: Text) {
        if self.style.live {
            self.bar(name, &text);
        } else {
            self.style.note(Text::from(format!("{name}: ")) + text);
        }
    }

    /// Prints the final state of a subject.
    fn end(&mut self, name: &str, text: Text) {
        self.clear(name);
        self.line(Text::from(format!("{name}: ")) + text);
    }

    fn line(&self, text: Text) {
        self.print(text, false);
    }

    fn clear(&mut self, name: &str) {
        if let Some(bar) = self.bars.remove(name) {
            bar.finish_and_clear();
        }
    }

    fn pulling(&mut self, image: &str, progress: &PullProgress) {
        let text = format!("{}/{} layers, {}", progress.done, progress.total, megabytes(progress.bytes));
        self.bar(&format!("image {image}"), &format!("pulling: {text}").into());
    }

    fn bar(&mut self, name: &str, text: &Text) {
        let bar = self.bars.entry(name.to_owned()).or_insert_with(|| {
            let bar = self.lines.add(ProgressBar::new_spinner());
            bar.set_style(
                ProgressStyle::with_template("{spinner} {prefix}: {wide_msg} {elapsed}")
                    .unwrap_or_else(|_| ProgressStyle::default_spinner()),
            );
            bar.set_prefix(Text::from(name).print(false));
            bar.enable_steady_tick(Duration::from_millis(120));
            bar
        });
        bar.set_message(text.print(self.style.color_err));
    }
}

/// `failed to remove`.
pub fn failed_to(step: &Step) -> String {
    let text = step.to_string();
    format!("failed to {}", text.split_once(": ").map_or(&text[..], |(_, verb)| verb))
}

/// The last lines of a container or build, printed below its failure; empty if there are none.
pub fn last_lines(failed: &Failed) -> Text {
    if failed.output.is_empty() {
        return Text::default();
    }
    let origin = if failed.failure.reason == Reason::BuildFailed { "build" } else { "container" };
    Text::from(LineBreak) + format!("  last lines of its {origin}:") + output(failed.output.iter().map(String::as_str))
}

/// Lines of output, below a message.
pub fn output<'l>(lines: impl Iterator<Item = &'l str>) -> Text {
    lines.map(|line| Text::from(LineBreak) + format!("  | {line}")).collect()
}

fn megabytes(bytes: u64) -> String {
    format!("{}.{} MB", bytes / 1_000_000, bytes % 1_000_000 / 100_000)
}
