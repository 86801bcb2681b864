//! The result line of a run.

use std::collections::BTreeSet;

use crate::control::event::Outcome;
use crate::desired::{Desired, Mode};
use crate::identity::service_of_instance;
use crate::observed::Container;
use crate::plan::current_container;
use crate::plan::step::{Action, Change, Subject, Verb};
use crate::render::{LineBreak, Paint, Text, count};

/// What happened to services, in the order of the result line.
const VERBS: [&str; 9] =
    ["created", "replaced", "updated", "restarted", "started", "stopped", "scaled up", "scaled down", "removed"];

/// What happened to the service of a change: it is scaled where other replicas stay.
fn verb(change: &Change, desired: &Desired, outcome: &Outcome) -> &'static str {
    let service = service_of_instance(change.subject.name(), change.replica);
    let is_created =
        |name: &str| outcome.changes.iter().any(|it| it.action == Action::Create && it.subject.name() == name);
    let mut replicas = desired.services.values().filter(|it| it.service == service);
    match change.action {
        Action::Create if replicas.any(|it| !is_created(&it.name)) => "scaled up",
        Action::Create => "created",
        Action::Replace => "replaced",
        Action::Update => "updated",
        Action::Restart => "restarted",
        Action::Start => "started",
        Action::Stop => "stopped",
        Action::Remove if change.causes.iter().any(|cause| cause.path() == "replicas") => "scaled down",
        Action::Remove => "removed",
        Action::Build => "built",
        Action::Pull => "pulled",
    }
}

/// The result line of `build` and `pull`: `shop: 2 images built, 1 up to date`.
pub(super) fn of_images(desired: &Desired, outcome: &Outcome) -> Text {
    let is_build = desired.mode == Mode::BuildImages;
    let (verb, done, rest) = match is_build {
        true => (Verb::Build, "built", "up to date"),
        false => (Verb::Pull, "pulled", "skipped"),
    };
    let services = desired.services.values().filter(|service| desired.scope.contains(&service.service));
    let services = services.filter(|service| !is_build || service.build.is_some());
    let images: BTreeSet<&str> = services.map(|service| service.config.image.as_str()).collect();
    let changed = outcome.changes.iter().filter(|change| images.contains(change.subject.name())).count();
    let number = outcome.steps.iter().filter(|step| step.verb == verb).count();
    let mut text = Text::from(format!("{}: ", desired.group));
    text += Text::painted(Paint::Green, format!("{} {done}", count(number, "image")));
    if images.len() > changed {
        text += format!(", {} {rest}", images.len() - changed);
    }
    let failed: BTreeSet<&str> = outcome.failed.keys().map(|name| service_of(desired, name)).collect();
    if !failed.is_empty() {
        let failed: Vec<&str> = failed.into_iter().collect();
        text += Text::painted(Paint::Red, format!(", failed: {}", failed.join(", ")));
    }
    text + LineBreak
}

/// The result line: `shop: 2 services ready, 1 job succeeded (1 created, 1 replaced)`.
pub(super) fn of_services(desired: &Desired, outcome: &Outcome) -> Text {
    let mut done: Vec<(&str, BTreeSet<&str>)> = VERBS.map(|verb| (verb, BTreeSet::new())).into();
    for change in &outcome.changes {
        let name = change.subject.name();
        let is_service = matches!(change.subject, Subject::Service(_));
        let is_open = outcome.failed.contains_key(name) || outcome.waits.iter().any(|wait| wait.service == name);
        let verb = verb(change, desired, outcome);
        if let Some((_, services)) = done.iter_mut().find(|(known, _)| is_service && !is_open && *known == verb) {
            services.insert(service_of_instance(name, change.replica));
        }
    }
    done.retain(|(_, services)| !services.is_empty());
    let done: Vec<String> = done.into_iter().map(|(verb, services)| format!("{} {verb}", services.len())).collect();
    let done = if done.is_empty() { removed(outcome) } else { done };
    let done = match done.is_empty() {
        true if outcome.is_good() => " (nothing to do)".to_owned(),
        true => String::new(),
        false => format!(" ({})", done.join(", ")),
    };
    let group = &desired.group;
    let list = |names: &BTreeSet<String>, state: &str| match names.len() {
        0 => String::new(),
        number => format!(", {number} {state}: {}", names.iter().map(String::as_str).collect::<Vec<_>>().join(", ")),
    };
    let service = |name| service_of(desired, name).to_owned();
    let names: BTreeSet<String> = outcome.failed.keys().map(|name| service(name)).collect();
    let waiting: BTreeSet<String> =
        outcome.waits.iter().map(|wait| service(&wait.service)).filter(|name| !names.contains(name)).collect();
    let serves = |name: &str| current_container(desired, &outcome.observed, name).is_some_and(Container::is_up);
    let failed = outcome.failed.iter().map(|(name, failed)| match failed.failure.replaces && serves(name) {
        true => format!("{} (the previous container serves)", service(name)),
        false => service(name),
    });
    let failed = list(&failed.collect(), "failed");
    let waiting = list(&waiting, "waiting");
    let text = Text::from(format!("{group}: "));
    if desired.is_empty() {
        let done = done.trim_start_matches(" (").trim_end_matches(')');
        return text
            + if done.is_empty() { "nothing done" } else { done }
            + Text::painted(Paint::Red, failed)
            + waiting
            + LineBreak;
    }
    match ready(desired, outcome) {
        // What has failed or waits says it all.
        None if !(failed.is_empty() && waiting.is_empty()) => {
            let problems = failed + &waiting;
            text + Text::painted(Paint::Red, problems.trim_start_matches(", ")) + done + LineBreak
        }
        ready => {
            let ready = ready.unwrap_or_else(|| "0 services ready".to_owned());
            text + Text::painted(Paint::Green, ready) + Text::painted(Paint::Red, failed) + waiting + done + LineBreak
        }
    }
}

/// The service of an instance: services count, however many replicas they have.
fn service_of<'a>(desired: &'a Desired, name: &'a str) -> &'a str {
    desired.spec_of(name).map_or(name, |spec| &spec.service)
}

/// What was removed beside containers: `1 network removed`. Told only if there is nothing else to tell.
fn removed(outcome: &Outcome) -> Vec<String> {
    let count_of = |verb: fn(&Verb) -> bool, noun: &str| {
        let number = outcome.steps.iter().filter(|step| verb(&step.verb)).count();
        (number > 0).then(|| format!("{} removed", count(number, noun)))
    };
    let removed = [
        count_of(|verb| matches!(verb, Verb::RemoveNetwork { .. }), "network"),
        count_of(|verb| matches!(verb, Verb::RemoveVolume), "volume"),
        count_of(|verb| matches!(verb, Verb::RemoveImage), "image"),
    ];
    removed.into_iter().flatten().collect()
}

/// `2 services ready, 1 job succeeded`; `None`: no service is ready.
fn ready(desired: &Desired, outcome: &Outcome) -> Option<String> {
    let all = desired.ready(&outcome.ready);
    let jobs = desired.services.values().filter(|it| it.is_job() && all.contains(it.service.as_str())).count();
    let services = format!("{} ready", count(all.len() - jobs, "service"));
    let jobs_succeeded = format!("{} succeeded", count(jobs, "job"));
    match (all.len() - jobs, jobs) {
        (0, 0) => None,
        (_, 0) => Some(services),
        (0, _) => Some(jobs_succeeded),
        _ => Some(format!("{services}, {jobs_succeeded}")),
    }
}
