//! The progress display: on a terminal one live line per service, elsewhere plain lines.

use std::collections::{BTreeMap, VecDeque};
use std::time::{Duration, Instant};

use indicatif::{MultiProgress, ProgressBar, ProgressStyle};

use super::event_log::{observed, retrying};
use super::{LineBreak, Paint, Style, Text, count, diagnostics, title};
use crate::control::event::{BuildOutput, Failed, Report};
use crate::engine::PullProgress;
use crate::plan::cause::{self, Cause};
use crate::plan::step::{Action, Change, Reason, Step, Subject, Verb};

/// Displays reports as they arrive.
#[derive(Debug)]
pub struct Progress {
    style: Style,
    lines: MultiProgress,
    bars: BTreeMap<String, ProgressBar>,
    /// What is being done about a service, by its name.
    begun: BTreeMap<String, Begun>,
    /// Waits that are not printed yet, by service.
    waits: BTreeMap<String, (Instant, String)>,
    /// Output of the builds that are running, by image; on a terminal only.
    builds: BTreeMap<String, BuildLog>,
    last_failure: String,
}

/// Output of a build: its steps, and as many of its last lines as are kept.
#[derive(Debug, Default)]
struct BuildLog {
    /// Lines as they are printed; true for those that name a step.
    lines: VecDeque<(bool, Text)>,
    /// The current step.
    step: String,
    /// Number of lines of output among `lines`.
    kept: usize,
    /// Number of lines of output that are no longer kept.
    omitted: usize,
}

impl BuildLog {
    /// Adds a line. Returns the text of the live line.
    fn push(&mut self, is_step: bool, line: &str, printed: Text) -> String {
        self.lines.push_back((is_step, printed));
        if is_step {
            self.step = line.chars().take(MAX_STEP_LENGTH).collect();
            return format!("building: {}", self.step);
        }
        self.kept += 1;
        if self.kept > MAX_BUILD_LINES
            && let Some(oldest) = self.lines.iter().position(|(is_step, _)| !is_step)
        {
            self.lines.remove(oldest);
            self.kept -= 1;
            self.omitted += 1;
        }
        match self.step.is_empty() {
            true => format!("building: {line}"),
            false => format!("building: {} | {line}", self.step),
        }
    }
}

/// Lines of output of a build that are kept until it ends.
const MAX_BUILD_LINES: usize = 1000;
/// Longest name of a step on the live line, in characters.
const MAX_STEP_LENGTH: usize = 60;
/// How long a wait lasts before it is printed.
const WAIT_SHOWN_AFTER: Duration = Duration::from_secs(1);

/// A difference that is being resolved.
#[derive(Debug)]
struct Begun {
    since: Instant,
    action: Action,
    headline: &'static str,
}

impl Progress {
    pub fn new(style: Style) -> Progress {
        Progress {
            style,
            lines: MultiProgress::new(),
            bars: BTreeMap::new(),
            begun: BTreeMap::new(),
            waits: BTreeMap::new(),
            builds: BTreeMap::new(),
            last_failure: String::new(),
        }
    }

    /// Displays one report of a one-shot run.
    pub fn show(&mut self, report: Report) {
        match report {
            Report::Planned(changes) => self.planned(&changes),
            Report::Reconciling { change, spec } => self.begin(&change, spec),
            Report::StepStarted(step) => self.started(&step),
            Report::StepDone(step) => self.done(&step),
            Report::StepFailed(step, why) => {
                self.unfold(&step);
                self.clear(&title(&step.subject));
                // A failed pull or build is reported by the services that use the image.
                if !matches!(step.verb, Verb::Pull | Verb::Build) {
                    let failed = Text::painted(Paint::Yellow, failed_to(&step));
                    self.line(Text::from(title(&step.subject)) + ": " + failed + format!(": {why}"));
                }
            }
            Report::Pulling(image, progress) if self.style.live => self.pulling(&image, &progress),
            // The failure is no matter of time.
            Report::Waiting { service, reason, blocked: true } => {
                self.clear(&service);
                self.line(format!("{service}: {reason}").into());
            }
            Report::Waiting { service, reason, .. } => self.wait(&service, reason),
            Report::Ready(service) => self.complete(&service, "ready"),
            Report::Succeeded(job) => self.complete(&job, "succeeded"),
            Report::Removed(service) => self.end(&service, "removed".into()),
            Report::RolledBack(service) => self.end(&service, Text::painted(Paint::Yellow, super::ROLLED_BACK)),
            Report::Output { build: Some(ref build), .. } if self.style.live => self.building(build, &report),
            Report::Output { .. } => self.line(output_line(&report)),
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
            Report::StepStarted(step) => {
                self.builds.remove(step.subject.name());
                self.bar(&title(&step.subject), &with_cause(step));
            }
            Report::Waiting { service, blocked: true, .. } => self.clear(service),
            Report::Waiting { service, reason, .. } => self.bar(service, &reason.into()),
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

    /// Prints the waits that last. To be called regularly.
    pub fn tick(&mut self) {
        let lasts = |since: &Instant| since.elapsed() >= WAIT_SHOWN_AFTER;
        let (lasting, waits) = std::mem::take(&mut self.waits).into_iter().partition(|(_, (since, _))| lasts(since));
        self.waits = waits;
        for (service, (_, reason)) in BTreeMap::into_iter(lasting) {
            self.line(format!("{service}: {reason}").into());
        }
    }

    /// Keeps a line of a build until its end, and shows the current step and its last output.
    pub fn building(&mut self, build: &BuildOutput, report: &Report) {
        let Report::Output { line, .. } = report else { return };
        let log = self.builds.entry(build.image.clone()).or_default();
        let text = log.push(build.is_step, line, output_line(report));
        self.bar(&title(&Subject::Image(build.image.clone())), &text.into());
    }

    /// Prints the steps of a build that succeeded.
    pub fn fold(&mut self, step: &Step) {
        for (is_step, line) in self.builds.remove(step.subject.name()).unwrap_or_default().lines {
            if is_step {
                self.line(line);
            }
        }
    }

    /// Prints the whole output of a build that failed.
    pub fn unfold(&mut self, step: &Step) {
        let log = self.builds.remove(step.subject.name()).unwrap_or_default();
        if log.omitted > 0 {
            self.line(format!("… {} omitted", count(log.omitted, "line")).into());
        }
        log.lines.into_iter().for_each(|(_, line)| self.line(line));
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
        self.builds.clear();
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
        for (kind, noun) in [
            ("Container", "container"),
            ("Service", "container"),
            ("Network", "network"),
            ("Volume", "volume"),
            ("Image", "image"),
        ] {
            let names = with_action(Action::Remove, kind);
            if !names.is_empty() {
                let removes = Text::painted(Paint::Yellow, format!("removes {}", count(names.len(), noun)));
                self.line(removes + format!(": {}", names.join(", ")));
            }
        }
    }

    /// Displays what is done about a service, with its causes.
    fn begin(&mut self, change: &Change, spec: bool) {
        let (service, headline) = (change.subject.name(), headline(change));
        let begun = Begun { since: Instant::now(), action: change.action, headline };
        self.begun.insert(service.to_owned(), begun);
        self.waits.remove(service);
        let why = why(change, spec);
        let text = Text::from(format!("{service}: {headline}"));
        if !why.is_empty() {
            self.line(text + " " + Text::painted(Paint::Dim, format!("({why})")));
        } else if !self.style.live {
            self.line(text);
        }
        if self.style.live {
            self.bar(service, &headline.into());
            if let Some(bar) = self.bars.get(service) {
                bar.reset_elapsed();
            }
        }
    }

    /// Displays a step. Without `-v`, most of them only on the live line.
    fn started(&mut self, step: &Step) {
        let subject = title(&step.subject);
        self.waits.remove(&subject);
        self.builds.remove(step.subject.name());
        let is_shown = self.style.verbose
            || matches!(
                step.verb,
                Verb::Pull | Verb::Build | Verb::RemoveVolume | Verb::RemoveImage | Verb::Hook { .. }
            );
        let text = match (&step.verb, self.begun.get(&subject)) {
            (Verb::Hook { .. }, _) if !self.style.verbose => activity(step).into(),
            (_, Some(begun)) if !is_shown => begun.headline.into(),
            _ => with_cause(step),
        };
        if self.style.live {
            self.bar(&subject, &text);
        } else if is_shown {
            self.line(Text::from(format!("{subject}: ")) + text);
        }
    }

    fn done(&mut self, step: &Step) {
        let subject = title(&step.subject);
        match &step.verb {
            Verb::Stop(_) if self.begun.get(&subject).is_some_and(|begun| begun.action == Action::Stop) => {
                self.end(&subject, "stopped".into());
            }
            Verb::Remove { .. } if matches!(step.subject, Subject::Container(_)) => {
                self.end(&subject, "removed".into())
            }
            Verb::CreateNetwork | Verb::RemoveNetwork { .. } if !self.style.verbose => self.clear(&subject),
            Verb::RemoveNetwork { .. } | Verb::RemoveVolume | Verb::RemoveImage => self.end(&subject, "removed".into()),
            Verb::CreateNetwork => self.end(&subject, "created".into()),
            Verb::Pull => self.end(&subject, "pulled".into()),
            Verb::Build => {
                self.fold(step);
                self.end(&subject, "built".into());
            }
            _ => {}
        }
    }

    /// Prints that a service is ready or a job has succeeded, with the time since its first step.
    fn complete(&mut self, service: &str, word: &str) {
        let time = self.begun.remove(service).map(|begun| format!(" ({})", seconds(begun.since.elapsed())));
        self.end(service, Text::painted(Paint::Green, word) + time.unwrap_or_default());
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
        self.begun.remove(&*failure.service);
        // Errors are printed even with --quiet.
        self.print(text + last_lines(failed), true);
    }

    /// Displays what a service waits for; on plain output only if it lasts.
    fn wait(&mut self, service: &str, reason: String) {
        if self.style.live {
            return self.bar(service, &reason.into());
        }
        if self.style.verbose {
            return self.line(format!("{service}: {reason}").into());
        }
        let since = self.waits.remove(service).map_or_else(Instant::now, |(since, _)| since);
        self.waits.insert(service.to_owned(), (since, reason));
    }

    /// Prints the final state of a subject.
    fn end(&mut self, name: &str, text: Text) {
        self.begun.remove(name);
        self.clear(name);
        self.line(Text::from(format!("{name}: ")) + text);
    }

    fn line(&self, text: Text) {
        self.print(text, false);
    }

    fn clear(&mut self, name: &str) {
        self.waits.remove(name);
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

/// What a step does: `creating shop-api.new`.
fn activity(step: &Step) -> String {
    match &step.verb {
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
    }
}

/// `creating shop-api.new (no container)`.
fn with_cause(step: &Step) -> Text {
    Text::from(activity(step)) + " " + Text::painted(Paint::Dim, format!("({})", step.cause))
}

/// What is done about a difference of a service.
fn headline(change: &Change) -> &'static str {
    match change.action {
        Action::Create | Action::Replace | Action::Restart | Action::Start if change.kind == "Job" => "running",
        Action::Create | Action::Start => "starting",
        Action::Replace => "replacing",
        Action::Update => "updating",
        Action::Restart => "restarting",
        Action::Stop => "stopping",
        Action::Remove => "removing",
        Action::Build => "building",
        Action::Pull => "pulling",
    }
}

/// The causes of a difference: `env.LOG changed`. Empty if it is a first container, or requested.
fn why(change: &Change, spec: bool) -> String {
    match change.action {
        Action::Remove if change.causes.is_empty() && spec => return "removed from the specs".to_owned(),
        Action::Stop => return String::new(),
        _ => {}
    }
    let is_field = |cause: &Cause| {
        matches!(
            cause,
            Cause::Field { .. } | Cause::Sources { .. } | Cause::MountedFile { .. } | Cause::Reload | Cause::Unhealthy
        )
    };
    let (fields, found): (Vec<Cause>, Vec<Cause>) = change.causes.iter().cloned().partition(is_field);
    let fields = (!fields.is_empty()).then(|| cause::fields(&fields));
    let found = found.iter().filter_map(|cause| match cause {
        // A first container.
        Cause::NoContainer { .. } => None,
        Cause::Name { found: Some(name), wanted: None } => Some(format!("surplus container {name}")),
        cause => observed(cause),
    });
    fields.into_iter().chain(found).collect::<Vec<_>>().join("; ")
}

/// `1.2 s`.
fn seconds(time: Duration) -> String {
    format!("{:.1} s", time.as_secs_f64())
}

/// `api: post_start | created user ann`; empty for other reports.
fn output_line(report: &Report) -> Text {
    let Report::Output { service, event, line, .. } = report else { return Text::default() };
    let service = service.as_ref().map(|service| format!("{service}: ")).unwrap_or_default();
    format!("{service}{event} | {line}").into()
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

#[cfg(test)]
mod tests {
    use super::*;
    use crate::observed::State;

    #[test]
    fn causes_are_named_unless_a_first_container_is_created() {
        let no_container = Cause::NoContainer { candidate: None, wanted: "shop-api".into() };
        let env = Cause::field("env.LOG", Some("info"), Some("debug"));
        for (kind, action, causes, expected) in [
            ("Service", Action::Create, vec![no_container.clone()], "starting ()"),
            ("Job", Action::Create, vec![no_container], "running ()"),
            ("Job", Action::Replace, vec![Cause::Reload], "running (requested)"),
            ("Service", Action::Replace, vec![env.clone()], "replacing (env.LOG changed)"),
            (
                "Service",
                Action::Restart,
                vec![env, Cause::Dependency("db".into())],
                "restarting (env.LOG changed; dependency db restarted)",
            ),
            (
                "Service",
                Action::Start,
                vec![Cause::not_running(State::Exited { code: Some(1) })],
                "starting (container exited with code 1)",
            ),
            ("Service", Action::Remove, vec![], "removing (removed from the specs)"),
        ] {
            let (kind, source, subject) = (kind.to_owned(), String::new(), Subject::Service("api".into()));
            let change = Change { subject, kind, action, replica: None, causes, interrupts: None, source };
            assert_eq!(format!("{} ({})", headline(&change), why(&change, true)), expected);
        }
        assert_eq!(seconds(Duration::from_millis(1249)), "1.2 s");
    }

    #[test]
    fn long_build_keeps_its_steps_and_its_last_lines() {
        let mut log = BuildLog::default();
        assert_eq!(log.push(false, "Pulling from debian", "first".into()), "building: Pulling from debian");
        assert_eq!(log.push(true, "Step 1/1 : RUN make", "step".into()), "building: Step 1/1 : RUN make");
        for n in 0..MAX_BUILD_LINES {
            assert_eq!(log.push(false, "cc", n.to_string().into()), "building: Step 1/1 : RUN make | cc");
        }
        let kept: Vec<String> = log.lines.iter().map(|(_, line)| line.to_string()).collect();
        assert_eq!((log.omitted, kept.len()), (1, MAX_BUILD_LINES + 1));
        assert_eq!(kept[..2], ["step", "0"]);
    }
}
