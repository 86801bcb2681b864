//! What a watching controller says of a report: one sentence for people with its cause, the same for programs.
//!
//! Says nothing of what is no news: steps that begin and end, waits. Makes texts and values; prints nothing.

use std::time::SystemTime;

use serde_json::{Map, Value};

use super::progress::printable;
use super::{Paint, count, diagnostics, json, title};
use crate::control::event::{Failed, Outcome, Report};
use crate::observed::State;
use crate::plan::backoff::heals;
use crate::plan::cause::Cause;
use crate::plan::step::{Action, Change, Step, Verb};
use crate::spec::Diagnostic;
use crate::status::next_try;

/// Something that happened.
#[derive(Debug, Clone, PartialEq)]
pub struct EventLine {
    /// What kind of thing, in one word of the JSON contract.
    pub event: &'static str,
    /// Whom it is about: a service by its name, anything else with its kind in front.
    pub whom: Option<String>,
    /// What is to be noticed first.
    pub word: String,
    /// How much it matters.
    pub paint: Paint,
    /// The rest of the sentence.
    pub rest: String,
    /// What programs are told beside the sentence.
    pub fields: Map<String, Value>,
}

impl EventLine {
    fn new(event: &'static str, paint: Paint, word: impl Into<String>, rest: impl Into<String>) -> EventLine {
        EventLine { event, whom: None, word: word.into(), paint, rest: rest.into(), fields: Map::new() }
    }

    fn of(mut self, service: &str) -> EventLine {
        self.whom = Some(service.to_owned());
        self.with("service", service.into())
    }

    fn with(mut self, field: &str, value: Value) -> EventLine {
        self.fields.insert(field.to_owned(), value);
        self
    }

    /// The whole sentence, on one line.
    pub fn message(&self) -> String {
        let whom = self.whom.as_ref().map(|whom| format!("{whom}: ")).unwrap_or_default();
        format!("{whom}{}{}", self.word, self.rest)
    }

    /// For programs: `{"time", "event", "message", …}`.
    pub fn to_json(&self, now: SystemTime) -> Value {
        let mut value = self.fields.clone();
        let time = jiff::Timestamp::try_from(now).unwrap_or_default();
        value.insert("time".into(), format!("{time:.3}").into());
        value.insert("event".into(), self.event.into());
        value.insert("message".into(), self.message().into());
        value.into()
    }
}

/// What is said of a report; `None`: nothing.
pub fn news(report: &Report) -> Option<EventLine> {
    Some(match report {
        Report::Reconciling { change, spec } => differs(change, *spec),
        Report::Ready(service) => EventLine::new("ready", Paint::Green, "ready", "").of(service),
        Report::Succeeded(job) => EventLine::new("succeeded", Paint::Green, "succeeded", "").of(job),
        Report::RolledBack(service) => EventLine::new("serves", Paint::Yellow, "the container it had serves on", "").of(service),
        Report::Failed(failed) => self::failed(failed),
        Report::Removed(service) => EventLine::new("removed", Paint::Yellow, "removed", "").of(service),
        Report::Unhealthy { service, why } => {
            EventLine::new("unhealthy", Paint::Red, "unhealthy", format!(": {why}")).of(service).with("why", why[..].into())
        }
        Report::Healthy(service) => EventLine::new("healthy", Paint::Green, "healthy", " again").of(service),
        Report::Note(text) => EventLine::new("note", Paint::Bold, "", text),
        // Told by the services that want it.
        Report::StepFailed(Step { verb: Verb::Build, .. }, _) => return None,
        Report::StepFailed(step, why) => {
            let news = EventLine::new("refused", Paint::Yellow, "left", format!(": {why}"));
            about(step, news).with("why", why[..].into())
        }
        Report::StepStarted(step @ Step { verb: Verb::Pull, .. }) => {
            about(step, EventLine::new("pulling", Paint::Bold, "pulling", format!(": {}", step.cause)))
        }
        Report::StepDone(step @ Step { verb: Verb::Pull, .. }) => {
            about(step, EventLine::new("pulled", Paint::Bold, "pulled", ""))
        }
        Report::StepStarted(step @ Step { verb: Verb::Build, .. }) => {
            about(step, EventLine::new("building", Paint::Bold, "building", ""))
        }
        Report::StepDone(step @ Step { verb: Verb::Build, .. }) => {
            about(step, EventLine::new("built", Paint::Bold, "built", ""))
        }
        Report::SpecsInvalid(errors) => specs_invalid(errors),
        Report::SpecsValid => EventLine::new("specs-valid", Paint::Green, "the specs are valid again", ""),
        Report::SpecsEmpty => EventLine::new(
            "specs-empty",
            Paint::Yellow,
            "the specs name no service any longer",
            ": what runs is kept; `drillmaster down` removes it",
        ),
        Report::EngineLost(error) => {
            let rest = format!(": {error}; it is asked again until it answers");
            EventLine::new("engine-gone", Paint::Red, "engine", rest)
                .with("error", error.to_string().into())
        }
        Report::EngineReconnected => EventLine::new("engine-back", Paint::Green, "the engine answers again", ""),
        Report::Output { service, event, line } => {
            let news = EventLine::new("said", Paint::Dim, event, format!(" | {}", printable(line)));
            let news = news.with("line", line[..].into()).with("hook", event[..].into());
            match service {
                Some(service) => news.of(service),
                None => news,
            }
        }
        Report::Settled(outcome) => settled(outcome),
        Report::Planned(_)
        | Report::StepStarted(_)
        | Report::StepDone(_)
        | Report::Pulling(..)
        | Report::Waiting { .. }
        | Report::Status(_)
        // Told by whoever runs the watch, when it is over.
        | Report::Stopping(_) => return None,
    })
}

/// How the watch ended.
pub fn ended(outcome: &Outcome) -> EventLine {
    let rest = match (&outcome.ended_by, &outcome.engine) {
        (Some(by), _) => format!(": {by} asked for it"),
        (None, Some(error)) => format!(": {error}"),
        (None, None) => "; containers stay".to_owned(),
    };
    let by = outcome.ended_by.clone().map_or(Value::Null, Value::from);
    EventLine::new("ended", Paint::Bold, "the watch has ended", rest).with("by", by)
}

fn about(step: &Step, news: EventLine) -> EventLine {
    let (name, kind) = (step.subject.name(), step.subject.kind());
    EventLine { whom: Some(title(&step.subject)), ..news }.with("name", name.into()).with("kind", kind.into())
}

fn differs(change: &Change, spec: bool) -> EventLine {
    let (word, paint) = match change.action {
        Action::Create => ("creating", Paint::Green),
        Action::Replace => ("replacing", Paint::Yellow),
        Action::Update => ("updating", Paint::Yellow),
        Action::Restart => ("restarting", Paint::Yellow),
        Action::Start => ("starting", Paint::Yellow),
        Action::Stop => ("stopping", Paint::Yellow),
        Action::Remove => ("removing", Paint::Yellow),
    };
    let why = why(change, spec);
    let rest = if why.is_empty() { String::new() } else { format!(": {why}") };
    let news = EventLine::new("differs", paint, word, rest)
        .of(change.subject.name())
        .with("kind", change.subject.kind().into())
        .with("action", change.action.word().into())
        .with("causes", change.causes.iter().map(|cause| json::cause(cause, false)).collect())
        .with("source", change.source[..].into())
        .with("spec", spec.into());
    EventLine { whom: Some(title(&change.subject)), ..news }
}

/// The cause of a difference in a few words; values of the environment are never among them.
fn why(change: &Change, spec: bool) -> String {
    if change.action == Action::Remove && change.causes.is_empty() {
        return "no spec names it any longer".into();
    }
    let mut parts: Vec<String> = Vec::new();
    let fields: Vec<&str> = change.causes.iter().filter_map(field).collect();
    if !fields.is_empty() {
        parts.push(match change.action {
            _ if fields == ["build"] => "its sources changed".into(),
            _ if spec => format!("spec changed: {}", fields.join(", ")),
            // The reference is the same; what it names is not.
            _ if fields == ["image"] => "image changed".into(),
            Action::Update => by_hand(change),
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

/// `resources.memory was changed to 64m by hand`.
fn by_hand(change: &Change) -> String {
    let one = |cause: &Cause| match cause {
        Cause::Field { path, old: Some(Value::String(old)), .. } => {
            Some(format!("{path} was changed to {old} by hand"))
        }
        Cause::Field { path, old: Some(old), .. } => Some(format!("{path} was changed to {old} by hand")),
        Cause::Field { path, old: None, .. } => Some(format!("{path} was taken away by hand")),
        _ => None,
    };
    change.causes.iter().filter_map(one).collect::<Vec<_>>().join("; ")
}

/// What was observed on the engine; `None` for a field of the spec.
fn observed(cause: &Cause) -> Option<String> {
    Some(match cause {
        Cause::Field { .. } => return None,
        Cause::Dependency(name) => format!("{name} is started anew"),
        Cause::NoContainer { candidate: None, .. } => "it has no container".into(),
        Cause::NoContainer { candidate: Some(candidate), .. } => format!("{candidate} is not ready yet"),
        Cause::State { found: None, .. } => "container was removed".into(),
        Cause::State { found: Some(state), .. } => match state {
            State::Paused => "container was paused".into(),
            State::Created => "container was never started".into(),
            State::Dead => "container is dead".into(),
            State::Exited { code: None } => "container exited".into(),
            State::Exited { code: Some(code) } => format!("container exited with {code}"),
            state => format!("container is {state}"),
        },
        Cause::Name { found: Some(name), .. } => format!("container was renamed to {name}"),
        Cause::Name { found: None, .. } => "its name is taken by another container".into(),
        Cause::Network { found: None, .. } => "not on its network".into(),
        Cause::Network { found: Some(_), .. } => "on another network".into(),
        Cause::Reload => "asked for".into(),
        Cause::Unhealthy => "it is unhealthy".into(),
    })
}

/// `failed (Exited): it exited with 1; next try in 4 s (3rd in a row)`.
fn failed(failed: &Failed) -> EventLine {
    let failure = &failed.failure;
    let next = match failed.retry {
        Some(retry) => format!("; {}", next_try(retry, failed.count)),
        // When what is in the way goes, it heals by itself.
        None if heals(failure.reason) => String::new(),
        None => "; not tried again until its spec changes".into(),
    };
    let word = format!("failed ({})", failure.reason.word());
    EventLine::new("failed", Paint::Red, word, format!(": {}{next}", failure.message))
        .of(&failure.service)
        .with("reason", failure.reason.word().into())
        .with("output", failed.output.clone().into())
        .with("count", failed.count.into())
        .with("retry_seconds", failed.retry.map_or(Value::Null, |retry| retry.as_secs_f64().into()))
}

fn specs_invalid(errors: &[Diagnostic]) -> EventLine {
    let first = errors.first().map(Diagnostic::to_string).unwrap_or_default();
    let more = match errors.len() {
        0 | 1 => String::new(),
        all => format!(" (and {} more)", count(all - 1, "error")),
    };
    EventLine::new(
        "specs-invalid",
        Paint::Red,
        "the specs are invalid",
        format!(", the last good ones hold: {first}{more}"),
    )
    .with("diagnostics", diagnostics::to_json(errors)["diagnostics"].take())
}

fn settled(outcome: &Outcome) -> EventLine {
    let waiting = outcome.waits.iter().filter(|wait| !outcome.failed.contains_key(&wait.service)).count();
    let all = outcome.ready.len() + outcome.failed.len() + waiting;
    let mut bad = Vec::new();
    if !outcome.failed.is_empty() {
        bad.push(format!("{} failed", outcome.failed.len()));
    }
    if waiting > 0 {
        bad.push(format!("{waiting} waiting"));
    }
    let bad = if bad.is_empty() { String::new() } else { format!(" ({})", bad.join(", ")) };
    EventLine::new("watching", Paint::Bold, "watching", format!(" {}{bad}", count(all, "service")))
        .with("services", all.into())
        .with("failed", outcome.failed.len().into())
        .with("waiting", waiting.into())
}
