//! `up`, `down`, `start`, `stop`: one run of the controller each, with another desired state.

use std::collections::BTreeSet;
use std::time::{Duration, Instant};

use super::args::{Down, Global, Selection, Up};
use super::project::Project;
use super::{Ended, Failure, session};
use crate::control::event::{Limits, Outcome};
use crate::control::notes::Notes;
use crate::control::{self, Setting};
use crate::desired::{Aim, Desired};
use crate::engine::{About, Engine};
use crate::plan::step::{Action, Subject};
use crate::render::progress::Progress;
use crate::render::{Paint, Style, count, json, painted};
use crate::status;

pub(super) async fn up(global: &Global, up: &Up, style: Style) -> Result<Ended, Failure> {
    let project = if up.prune_all { Project::load_or_empty(global)? } else { Project::load(global)? };
    if project.desired.services.is_empty() && !up.prune_all {
        return Err(Failure::Usage(format!(
            "the specs in {} name no service; to remove every container of the group {}, say `drillmaster down` or \
             `drillmaster up --prune-all`",
            global.specs.display(),
            project.desired.group
        )));
    }
    let scope = project.with_dependencies(&up.selection.services, &up.selection.exclude)?;
    let desired = Desired { scope, ..project.desired.clone() };
    carry_out(global, "up", &project, desired, up.selection.timeout, style).await
}

pub(super) async fn down(global: &Global, down: &Down, style: Style) -> Result<Ended, Failure> {
    let project = Project::load_leniently(global, style)?;
    let scope = project.with_dependents("removed", &[], &down.exclude)?;
    let desired = project.without_services(scope, Aim::Agree { purge_volumes: down.volumes });
    carry_out(global, "down", &project, desired, down.timeout, style).await
}

pub(super) async fn start(global: &Global, selection: &Selection, style: Style) -> Result<Ended, Failure> {
    let project = Project::load(global)?;
    let scope = project.with_dependencies(&selection.services, &selection.exclude)?;
    let desired = Desired { scope, aim: Aim::Run, ..project.desired.clone() };
    carry_out(global, "start", &project, desired, selection.timeout, style).await
}

pub(super) async fn stop(global: &Global, selection: &Selection, style: Style) -> Result<Ended, Failure> {
    let project = Project::load_leniently(global, style)?;
    let scope = project.with_dependents("stopped", &selection.services, &selection.exclude)?;
    let desired = project.without_services(scope, Aim::Rest);
    carry_out(global, "stop", &project, desired, selection.timeout, style).await
}

async fn carry_out(
    global: &Global,
    command: &str,
    project: &Project,
    desired: Desired,
    timeout: Option<Duration>,
    style: Style,
) -> Result<Ended, Failure> {
    let start = Instant::now();
    let mut interrupts = session::interrupts(style)?;
    let prepare = async {
        let engine = session::connect(global).await?;
        let about = engine.about().await?;
        let lock = session::acquire(&about, &desired.group, command, timeout, style).await?;
        Ok((engine, about, lock))
    };
    let (engine, about, _lock) = match session::unless_interrupted(&mut interrupts, prepare).await? {
        Ok(prepared) => prepared,
        Err(ended) => return Ok(ended),
    };
    let mut progress = Progress::new(style);
    let setting = Setting {
        limits: limits(&about, timeout.map(|timeout| timeout.saturating_sub(start.elapsed()))),
        surroundings: session::surroundings(&about, &desired.group, &project.directory),
        notes: Notes::new(&session::state_directory(&about, &desired.group)),
        reload: BTreeSet::new(),
    };
    let outcome =
        control::run(engine.clone(), desired.clone(), setting, interrupts, |report| progress.show(report)).await;
    progress.finish();
    conclude(engine.as_ref(), project, &desired, outcome, style).await
}

/// How much may go on at once. Creating and starting saturates two cores from four on; teardown gains until eight.
fn limits(about: &About, timeout: Option<Duration>) -> Limits {
    let cores = std::thread::available_parallelism().map_or(2, std::num::NonZero::get);
    let teardowns = if about.stops_one_at_a_time() { 1 } else { 8 };
    Limits { setups: (2 * cores).max(4), teardowns, deadline: timeout }
}

async fn conclude(
    engine: &dyn Engine,
    project: &Project,
    desired: &Desired,
    outcome: Outcome,
    style: Style,
) -> Result<Ended, Failure> {
    if let Some(error) = outcome.engine {
        return Err(Failure::Engine(error));
    }
    if style.json {
        let mut observed = outcome.observed.clone();
        super::status::inspect(engine, &project.desired.group, &mut observed).await?;
        let services = status::status(&project.desired, &observed);
        style.result_json(&json::outcome(&desired.group, &outcome, &services));
    } else {
        style.result(&summary(desired, &outcome, style));
    }
    for wait in &outcome.waits {
        style.complain(&format!("{}: not done: {}", wait.service, wait.reason));
    }
    for (subject, said) in &outcome.stuck {
        let name = subject.name();
        style.error(&format!("the {} {name} is left: {said}", subject.kind().to_lowercase()));
        if matches!(subject, Subject::Network(_)) && said.contains("active endpoints") {
            style.complain(
                "  nothing of this group is attached to it: the engine has lost count. It is used again by the next \
                 `up`; restarting the engine frees it",
            );
        }
    }
    if outcome.timed_out {
        style.error("the time given with --timeout is over; run it again to go on");
    }
    Ok(if outcome.interrupted {
        Ended::Interrupted
    } else if outcome.is_good() {
        Ended::Well
    } else {
        Ended::Short
    })
}

/// `shop: 3 services ready (1 created, 1 replaced)`.
fn summary(desired: &Desired, outcome: &Outcome, style: Style) -> String {
    let done: Vec<String> = [
        (Action::Create, "created"),
        (Action::Replace, "replaced"),
        (Action::Update, "updated"),
        (Action::Restart, "restarted"),
        (Action::Start, "started"),
        (Action::Stop, "stopped"),
        (Action::Remove, "removed"),
    ]
    .into_iter()
    .filter_map(|(action, word)| {
        let number = outcome
            .changes
            .iter()
            .filter(|change| change.action == action && matches!(change.subject, Subject::Service(_)))
            .filter(|change| !outcome.failed.contains_key(change.subject.name()))
            .filter(|change| outcome.waits.iter().all(|wait| wait.service != change.subject.name()))
            .count();
        (number > 0).then(|| format!("{number} {word}"))
    })
    .collect();
    let done = match done.is_empty() {
        true if outcome.is_good() => " (nothing to do)".to_owned(),
        true => String::new(),
        false => format!(" ({})", done.join(", ")),
    };
    let group = &desired.group;
    let named = |names: Vec<&str>, word: &str| match names.len() {
        0 => String::new(),
        number => format!(", {number} {word}: {}", names.join(", ")),
    };
    let failed = named(outcome.failed.keys().map(String::as_str).collect(), "failed");
    let failed = painted(style.color_out && !failed.is_empty(), Paint::Red, &failed);
    let waiting = named(outcome.waits.iter().map(|wait| wait.service.as_str()).collect(), "waiting");
    if desired.services.is_empty() {
        let done = done.trim_start_matches(" (").trim_end_matches(')');
        return format!("{group}: {}{failed}{waiting}\n", if done.is_empty() { "nothing done" } else { done });
    }
    let ready = painted(style.color_out, Paint::Green, &format!("{} ready", count(outcome.ready.len(), "service")));
    format!("{group}: {ready}{failed}{waiting}{done}\n")
}
