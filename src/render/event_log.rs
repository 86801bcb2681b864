//! Event lines of `up --watch`: a report as one line of text and as one JSON object. Prints nothing.
//!
//! Waits and most steps are not events: they appear only in the progress display.

use std::time::{Duration, SystemTime};

use serde_json::{Map, Value};

use super::plan::plain;
use super::progress::failed_to;
use super::{Paint, count, diagnostics, json, title};
use crate::control::event::{Failed, Outcome, Report};
use crate::observed::State;
use crate::plan::backoff::heals;
use crate::plan::cause::Cause;
use crate::plan::step::{Action, Change, Step, Verb};
use crate::spec::Diagnostic;
use crate::status::next_try;

/// An event of the watch.
#[derive(Debug, Clone, PartialEq)]
pub struct EventLine {
    /// Its name in the JSON contract.
    pub event: &'static str,
    /// The service, or the kind and name of another object.
    pub subject: Option<String>,
    /// The colored start of the message.
    pub headline: String,
    pub paint: Paint,
    /// The rest of the message.
    pub rest: String,
    /// Additional JSON fields.
    pub fields: Map<String, Value>,
}

impl EventLine {
    fn new(event: &'static str, paint: Paint, headline: impl Into<String>, rest: impl Into<String>) -> EventLine {
        EventLine { event, subject: None, headline: headline.into(), paint, rest: rest.into(), fields: Map::new() }
    }

    fn service(mut self, service: &str) -> EventLine {
        self.subject = Some(service.to_owned());
        self.with("service", service.into())
    }

    fn with(mut self, field: &str, value: Value) -> EventLine {
        self.fields.insert(field.to_owned(), value);
        self
    }

    /// The message, on one line.
    pub fn message(&self) -> String {
        let subject = self.subject.as_ref().map(|subject| format!("{subject}: ")).unwrap_or_default();
        format!("{subject}{}{}", self.headline, self.rest)
    }

    /// The JSON object: `{"time", "event", "message", …}`.
    pub fn to_json(&self, now: SystemTime) -> Value {
        let mut value = self.fields.clone();
        let time = jiff::Timestamp::try_from(now).unwrap_or_default();
        value.insert("time".into(), format!("{time:.3}").into());
        value.insert("event".into(), self.event.into());
        value.insert("message".into(), self.message().into());
        value.into()
    }
}

/// The event line of a report; `None` if the report is not an event.
pub fn event_line(report: &Report) -> Option<EventLine> {
    Some(match report {
        Report::Reconciling { change, spec } => reconciling(change, *spec),
        Report::Ready(service) => EventLine::new("ready", Paint::Green, "ready", "").service(service),
        Report::Succeeded(job) => EventLine::new("succeeded", Paint::Green, "succeeded", "").service(job),
        Report::RolledBack(service) => EventLine::new("rolled-back", Paint::Yellow, super::ROLLED_BACK, "").service(service),
        Report::Failed(failed) => self::failed(failed),
        Report::Removed(service) => EventLine::new("removed", Paint::Yellow, "removed", "").service(service),
        Report::Unhealthy { service, why } => {
            EventLine::new("unhealthy", Paint::Red, "unhealthy", format!(": {why}")).service(service).with("error", why[..].into())
        }
        Report::Healthy(service) => EventLine::new("healthy", Paint::Green, "healthy", " again").service(service),
        Report::Note(text) => EventLine::new("note", Paint::Bold, "", text),
        // Reported by the services that use the image.
        Report::StepFailed(Step { verb: Verb::Build, .. }, _) => return None,
        Report::StepFailed(step, why) => {
            let line = EventLine::new("step-failed", Paint::Yellow, failed_to(step), format!(": {why}"));
            on_object(step, line).with("error", why[..].into())
        }
        Report::StepStarted(step @ Step { verb: Verb::Pull, .. }) => {
            on_object(step, EventLine::new("pulling", Paint::Bold, "pulling", format!(": {}", step.cause)))
        }
        Report::StepDone(step @ Step { verb: Verb::Pull, .. }) => {
            on_object(step, EventLine::new("pulled", Paint::Bold, "pulled", ""))
        }
        Report::StepStarted(step @ Step { verb: Verb::Build, .. }) => {
            on_object(step, EventLine::new("building", Paint::Bold, "building", ""))
        }
        Report::StepDone(step @ Step { verb: Verb::Build, .. }) => {
            on_object(step, EventLine::new("built", Paint::Bold, "built", ""))
        }
        Report::SpecsInvalid(errors) => specs_invalid(errors),
        Report::SpecsValid => EventLine::new("specs-valid", Paint::Green, "specs are valid again", ""),
        Report::SpecsEmpty => EventLine::new(
            "specs-empty",
            Paint::Yellow,
            "no services left in the specs",
            ": running containers are kept; `drillmaster down` removes them",
        ),
        Report::EngineLost(error) => {
            let rest = format!(": {error}; retrying");
            EventLine::new("engine-lost", Paint::Red, "engine unreachable", rest)
                .with("error", error.to_string().into())
        }
        Report::EngineReconnected => EventLine::new("engine-reconnected", Paint::Green, "reconnected to the engine", ""),
        Report::Output { service, event, line: text, .. } => {
            let line = EventLine::new("output", Paint::Dim, event, format!(" | {text}"));
            let line = line.with("line", text[..].into()).with("hook", event[..].into());
            match service {
                Some(service) => line.service(service),
                None => line,
            }
        }
        Report::Settled(outcome) => settled(outcome),
        Report::Planned(_)
        | Report::StepStarted(_)
        | Report::StepDone(_)
        | Report::Pulling(..)
        | Report::Waiting { .. }
        | Report::Status(_)
        // See `stopped`.
        | Report::Stopping(_) => return None,
    })
}

/// The last event line of a watch.
pub fn stopped(outcome: &Outcome) -> EventLine {
    let rest = match (&outcome.ended_by, &outcome.engine) {
        (Some(by), _) => format!(": requested by {by}"),
        (None, Some(error)) => format!(": {error}"),
        (None, None) if outcome.lease_lost.is_some() => ": another controller has taken over the group".to_owned(),
        (None, None) => "; containers keep running".to_owned(),
    };
    let by = outcome.ended_by.clone().map_or(Value::Null, Value::from);
    EventLine::new("watch-stopped", Paint::Bold, "watch stopped", rest).with("by", by)
}

fn on_object(step: &Step, line: EventLine) -> EventLine {
    let (name, kind) = (step.subject.name(), step.subject.kind());
    EventLine { subject: Some(title(&step.subject)), ..line }.with("name", name.into()).with("kind", kind.into())
}

fn reconciling(change: &Change, spec: bool) -> EventLine {
    let (headline, paint) = match change.action {
        Action::Create => ("creating", Paint::Green),
        Action::Replace => ("replacing", Paint::Yellow),
        Action::Update => ("updating", Paint::Yellow),
        Action::Restart => ("restarting", Paint::Yellow),
        Action::Start => ("starting", Paint::Yellow),
        Action::Stop => ("stopping", Paint::Yellow),
        Action::Remove => ("removing", Paint::Yellow),
        Action::Build => ("building", Paint::Yellow),
        Action::Pull => ("pulling", Paint::Yellow),
    };
    let why = why(change, spec);
    let rest = if why.is_empty() { String::new() } else { format!(": {why}") };
    let line = EventLine::new("reconciling", paint, headline, rest)
        .service(change.subject.name())
        .with("kind", change.kind[..].into())
        .with("action", change.action.word().into())
        .with("causes", change.causes.iter().map(|cause| json::cause(cause, false)).collect())
        .with("source", change.source[..].into())
        .with("spec", spec.into());
    EventLine { subject: Some(title(&change.subject)), ..line }
}

/// The causes of a difference as a short text, without secret values.
fn why(change: &Change, spec: bool) -> String {
    if change.action == Action::Remove && change.causes.is_empty() {
        return "removed from the specs".into();
    }
    let mut parts: Vec<String> = Vec::new();
    let fields: Vec<&str> = change.causes.iter().filter_map(field).collect();
    if !fields.is_empty() {
        parts.push(match change.action {
            _ if fields == ["build"] => "sources changed".into(),
            _ if spec => format!("spec changed: {}", fields.join(", ")),
            // The tag points to another image.
            _ if fields == ["image"] => "image changed".into(),
            // A job that has succeeded runs again.
            _ if fields == ["rerun"] => "rerun: always".into(),
            Action::Update => external_change(change),
            _ => format!("{} differs", fields.join(", ")),
        });
    }
    parts.extend(change.causes.iter().filter_map(observed));
    parts.join("; ")
}

/// The path of a field of the spec; `None` for a cause that was observed on the engine.
fn field(cause: &Cause) -> Option<&str> {
    match cause {
        Cause::Field { path, .. } => Some(path),
        _ => None,
    }
}

/// `resources.memory modified externally (64m)`.
fn external_change(change: &Change) -> String {
    let one = |cause: &Cause| match cause {
        Cause::Field { path, old: Some(old), secret, .. } => {
            Some(format!("{path} modified externally ({})", plain(&json::shown(Some(old), *secret))))
        }
        Cause::Field { path, old: None, .. } => Some(format!("{path} removed externally")),
        _ => None,
    };
    change.causes.iter().filter_map(one).collect::<Vec<_>>().join("; ")
}

/// What was observed on the engine; `None` for a field of the spec.
pub(super) fn observed(cause: &Cause) -> Option<String> {
    Some(match cause {
        Cause::Field { .. } => return None,
        Cause::Sources { files, .. } => format!("sources changed: {files}"),
        Cause::Dependency(name) => format!("dependency {name} restarted"),
        Cause::NoContainer { candidate: None, .. } => "no container".into(),
        Cause::NoContainer { candidate: Some(candidate), .. } => format!("{candidate} is not ready yet"),
        Cause::State { found: None, .. } => "container was removed".into(),
        Cause::State { found: Some(state), .. } => match state {
            State::Paused => "container was paused".into(),
            State::Created => "container was never started".into(),
            State::Dead => "container is dead".into(),
            State::Exited { code: None } => "container exited".into(),
            State::Exited { code: Some(code) } => format!("container exited with code {code}"),
            state => format!("container is {state}"),
        },
        Cause::Name { found: Some(name), .. } => format!("container was renamed to {name}"),
        Cause::Name { found: None, .. } => "container name is taken by another container".into(),
        Cause::Network { found: None, .. } => "not connected to its network".into(),
        Cause::Network { found: Some(_), .. } => "connected to another network".into(),
        Cause::Reload => "reload requested".into(),
        Cause::Unhealthy => "unhealthy".into(),
        Cause::MountedFile { source, .. } => format!("mounted file {source} changed"),
        Cause::EarlierBuild => "unused image of an earlier build".into(),
        Cause::Profiles(profiles) => match profiles.len() {
            1 => format!("profile {} is not active", profiles.iter().map(String::as_str).collect::<String>()),
            _ => format!(
                "profiles {} are not active",
                profiles.iter().map(String::as_str).collect::<Vec<_>>().join(", ")
            ),
        },
    })
}

/// `retrying in 4 s (3rd in a row)`; of a job `retrying in 1 s (1 of 2)`.
pub(super) fn retrying(retry: Duration, failed: &Failed) -> String {
    match failed.retries {
        Some(retries) => format!("{} ({} of {retries})", next_try(retry, 1), failed.count),
        None => next_try(retry, failed.count),
    }
}

/// `failed (Exited): exited with code 1; retrying in 4 s (3rd in a row)`.
fn failed(failed: &Failed) -> EventLine {
    let failure = &failed.failure;
    let next = match failed.retry {
        Some(retry) => format!("; {}", retrying(retry, failed)),
        // Retried when the obstacle is gone.
        None if heals(failure.reason) => String::new(),
        None => "; no retry until the spec changes".into(),
    };
    let headline = format!("failed ({})", failure.reason.word());
    EventLine::new("failed", Paint::Red, headline, format!(": {}{next}", failure.message))
        .service(&failure.service)
        .with("reason", failure.reason.word().into())
        .with("output", failed.output.clone().into())
        .with("count", failed.count.into())
        .with("retry_seconds", failed.retry.map_or(Value::Null, |retry| retry.as_secs_f64().into()))
}

fn specs_invalid(errors: &[Diagnostic]) -> EventLine {
    let first = errors.first().map(Diagnostic::to_string).unwrap_or_default();
    let more = match errors.len() {
        0 | 1 => String::new(),
        all => format!(" (and {})", count(all - 1, "more error")),
    };
    EventLine::new(
        "specs-invalid",
        Paint::Red,
        "invalid specs",
        format!("; keeping the last valid specs: {first}{more}"),
    )
    .with("diagnostics", diagnostics::to_json(errors)["diagnostics"].take())
}

fn settled(outcome: &Outcome) -> EventLine {
    let waiting = outcome.waits.iter().filter(|wait| !outcome.failed.contains_key(&wait.service)).count();
    let all = outcome.ready.len() + outcome.failed.len() + waiting;
    let mut problems = Vec::new();
    if !outcome.failed.is_empty() {
        problems.push(format!("{} failed", outcome.failed.len()));
    }
    if waiting > 0 {
        problems.push(format!("{waiting} waiting"));
    }
    let problems = if problems.is_empty() { String::new() } else { format!(" ({})", problems.join(", ")) };
    EventLine::new("watching", Paint::Bold, "watching", format!(" {}{problems}", count(all, "service")))
        .with("services", all.into())
        .with("failed", outcome.failed.len().into())
        .with("waiting", waiting.into())
}
