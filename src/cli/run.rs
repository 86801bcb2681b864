//! `up`, `down`, `start`, `stop`, `reload`: one run of the controller each, with another desired state. Beside a watching
//! controller, which does the work then, a question.

use std::collections::BTreeSet;
use std::time::{Duration, Instant, SystemTime};

use super::args::{Down, Global, Logs, Reload, Run, Selection, Up};
use super::project::Project;
use super::session::{self, GroupLock};
use super::{Exit, Failure, ask};
use crate::control::event::{Limits, Outcome};
use crate::control::execute::context::ExecContext;
use crate::control::ipc::wire::WireRequest;
use crate::control::local_state::LocalState;
use crate::control::{self, RunOptions};
use crate::desired::{Desired, Mode, Scope, Service, order};
use crate::engine::{Engine, EngineInfo};
use crate::plan::step::{Action, Subject};
use crate::render::progress::Progress;
use crate::render::{Paint, Style, count, json, painted};
use crate::status::{self, View};

/// A run to do.
struct Job {
    /// What the lock says of it.
    command: &'static str,
    /// What it wants of what the specs desire.
    shape: Shape,
    reload: BTreeSet<String>,
    timeout: Option<Duration>,
    beside: IfWatched,
}

/// Makes of what the specs desire what a command wants.
#[derive(Debug, Clone)]
struct Shape {
    scope: Scope,
    mode: Mode,
    /// No services are desired: they are to go, or to rest.
    parts: bool,
}

impl Shape {
    /// Services are to exist and to run.
    fn agree(scope: Scope) -> Shape {
        Shape { scope, mode: Mode::Reconcile { purge_volumes: false, purge_images: false }, parts: false }
    }

    fn of(&self, desired: Desired) -> Desired {
        let (scope, mode) = (self.scope.clone(), self.mode);
        match self.parts {
            true => desired.without_services(scope, mode),
            false => Desired { scope, mode, ..desired },
        }
    }
}

/// What is done where a watching controller has the group.
enum IfWatched {
    /// It is asked to do the work.
    Ask(WireRequest),
    /// It is asked to end.
    Shutdown,
    /// Nothing: it would undo the work at once. What to do instead.
    Refuse(&'static str),
}

pub(super) async fn up(global: &Global, up: &Up, style: Style) -> Result<Exit, Failure> {
    let project = if up.prune_all { Project::load_or_empty(global)? } else { Project::load(global)? };
    refuse_empty(global, &project, up)?;
    let scope = project.with_dependencies(&up.selection.services, &up.selection.exclude)?;
    let beside = match project.desired.is_empty() {
        true => IfWatched::Refuse("it keeps what runs; end it with Ctrl-C there, and run this again"),
        false => IfWatched::Ask(WireRequest::Reconcile),
    };
    let (shape, reload) = (Shape::agree(scope), BTreeSet::new());
    let job = Job { command: "up", shape, reload, timeout: up.selection.timeout, beside };
    carry_out(global, project, job, style).await
}

/// Specs without any service would remove everything.
pub(super) fn refuse_empty(global: &Global, project: &Project, up: &Up) -> Result<(), Failure> {
    if !project.desired.is_empty() || up.prune_all {
        return Ok(());
    }
    Err(Failure::Usage(format!(
        "the specs in {} name no service; to remove every container of the group {}, say `drillmaster down` or \
         `drillmaster up --prune-all`",
        global.specs.display(),
        project.desired.group
    )))
}

pub(super) async fn down(global: &Global, down: &Down, style: Style) -> Result<Exit, Failure> {
    let project = Project::load_leniently(global, style)?;
    let scope = project.with_dependents("removed", &[], &down.exclude)?;
    let mode = Mode::Reconcile { purge_volumes: down.volumes, purge_images: down.images };
    let shape = Shape { scope, mode, parts: true };
    let (reload, timeout) = (BTreeSet::new(), down.timeout);
    carry_out(global, project, Job { command: "down", shape, reload, timeout, beside: IfWatched::Shutdown }, style)
        .await
}

pub(super) async fn start(global: &Global, selection: &Selection, style: Style) -> Result<Exit, Failure> {
    let project = Project::load(global)?;
    let scope = project.with_dependencies(&selection.services, &selection.exclude)?;
    let shape = Shape { scope, mode: Mode::StartOnly, parts: false };
    let beside = IfWatched::Refuse("it starts what should run by itself; `drillmaster up` makes it try again now");
    let job = Job { command: "start", shape, reload: BTreeSet::new(), timeout: selection.timeout, beside };
    carry_out(global, project, job, style).await
}

pub(super) async fn stop(global: &Global, selection: &Selection, style: Style) -> Result<Exit, Failure> {
    let project = Project::load_leniently(global, style)?;
    let scope = project.with_dependents("stopped", &selection.services, &selection.exclude)?;
    let shape = Shape { scope, mode: Mode::StopOnly, parts: true };
    let beside = IfWatched::Refuse(
        "it would bring back what is stopped; end it first (Ctrl-C there), or take the service out of the specs",
    );
    let job = Job { command: "stop", shape, reload: BTreeSet::new(), timeout: selection.timeout, beside };
    carry_out(global, project, job, style).await
}

pub(super) async fn reload(global: &Global, reload: &Reload, style: Style) -> Result<Exit, Failure> {
    let project = Project::load(global)?;
    let services = project.known(&reload.services)?;
    let with_dependents = order::with_restarted(&services, &project.desired);
    let scope = Scope::Only(order::with_dependencies(&with_dependents, &project.desired.needs()));
    let beside = IfWatched::Ask(WireRequest::Reload { services: services.clone() });
    let shape = Shape::agree(scope);
    let job = Job { command: "reload", shape, reload: services, timeout: reload.timeout, beside };
    carry_out(global, project, job, style).await
}

pub(super) async fn run(global: &Global, run: &Run, style: Style) -> Result<Exit, Failure> {
    let project = Project::load(global)?;
    let services = project.known(std::slice::from_ref(&run.job))?;
    if !project.desired.services.get(run.job.as_str()).is_some_and(Service::is_job) {
        let name = &run.job;
        return Err(Failure::Usage(format!("`{name}` is not a Job; `drillmaster reload {name}` replaces a service")));
    }
    let scope = Scope::Only(order::with_dependencies(&services, &project.desired.needs()));
    let beside = IfWatched::Ask(WireRequest::Reload { services: services.clone() });
    let job = Job { command: "run", shape: Shape::agree(scope), reload: services, timeout: run.timeout, beside };
    let ended = carry_out(global, project, job, style).await?;
    if !style.json {
        let logs = Logs { services: vec![run.job.clone()], follow: false, tail: None };
        super::logs::logs(global, &logs, style).await?;
    }
    Ok(ended)
}

async fn carry_out(global: &Global, mut project: Project, job: Job, style: Style) -> Result<Exit, Failure> {
    let start = Instant::now();
    let mut interrupts = session::interrupts("ending with the step under way", style)?;
    let Job { command, shape, reload, timeout, beside } = job;
    let desired = shape.of(project.desired.clone());
    let left = || timeout.map(|timeout| timeout.saturating_sub(start.elapsed()));
    let prepare = async {
        let engine = session::connect(global).await?;
        let about = engine.about().await?;
        loop {
            let right = session::acquire(&about, &desired.group, command, left(), style).await?;
            let GroupLock::HeldByWatcher(client) = right else { return Ok((engine, about, right)) };
            ask::is_of(&client, &desired)?;
            match &beside {
                IfWatched::Ask(_) => return Ok((engine, about, GroupLock::HeldByWatcher(client))),
                IfWatched::Refuse(instead) => return Err(ask::refused(&client, &desired.group, command, instead)),
                IfWatched::Shutdown => ask::end(client, command, left(), style).await?,
            }
        }
    };
    let (engine, about, right) = match session::unless_interrupted(&mut interrupts, prepare).await? {
        Ok(prepared) => prepared,
        Err(ended) => return Ok(ended),
    };
    let state_directory = session::state_directory(&about, &desired.group);
    match shape.parts {
        true => project.try_load_outputs(&state_directory, style),
        false => project.load_outputs(&state_directory, style).map_err(Failure::Specs)?,
    }
    let desired = shape.of(project.desired.clone());
    let outcome = match (right, beside) {
        (GroupLock::HeldByWatcher(client), IfWatched::Ask(question)) => {
            let work = async {
                let mut outcome = ask::work(client, &question, &desired, left(), style).await?;
                outcome.observed = engine.list(&desired.group, false).await?;
                Ok(outcome)
            };
            match session::unless_interrupted(&mut interrupts, work).await? {
                Ok(outcome) => outcome,
                Err(ended) => {
                    style.note("the watching controller goes on");
                    return Ok(ended);
                }
            }
        }
        // Held until the run is over.
        (_right, _) => {
            let mut progress = Progress::new(style);
            let again = shape.clone();
            let read = Some(project.read_again(move |desired| again.of(desired)));
            let options = RunOptions { reload, read, ..run_options(&about, &project, left()) };
            let report = |report| progress.show(report);
            let outcome = control::run(engine.clone(), desired.clone(), options, interrupts, report).await;
            progress.finish();
            // Who gave outputs is gone.
            let all = shape.parts && shape.scope == Scope::All && matches!(shape.mode, Mode::Reconcile { .. });
            if let Some(Err(error)) = (all && outcome.is_good()).then(|| project.context.clear()) {
                style.complain(&format!("the outputs of the group cannot be forgotten: {error}"));
            }
            outcome
        }
    };
    finish_run(engine.as_ref(), &project, &desired, outcome, style).await
}

/// How a run of this project may go.
pub(super) fn run_options(about: &EngineInfo, project: &Project, timeout: Option<Duration>) -> RunOptions {
    let group = &project.desired.group;
    RunOptions {
        limits: limits(about, timeout),
        context: ExecContext {
            group: group.clone(),
            directory: project.directory.clone(),
            reaches_containers: about.reaches_containers,
            outputs: project.context.clone(),
        },
        local_state: LocalState::new(&session::state_directory(about, group)),
        read: None,
        reload: BTreeSet::new(),
    }
}

/// How much may go on at once. Creating and starting saturates two cores from four on; teardown gains until eight.
fn limits(about: &EngineInfo, timeout: Option<Duration>) -> Limits {
    let cores = std::thread::available_parallelism().map_or(2, std::num::NonZero::get);
    let teardowns = if about.stops_one_at_a_time() { 1 } else { 8 };
    Limits { setups: (2 * cores).max(4), teardowns, deadline: timeout }
}

async fn finish_run(
    engine: &dyn Engine,
    project: &Project,
    desired: &Desired,
    outcome: Outcome,
    style: Style,
) -> Result<Exit, Failure> {
    if let Some(error) = outcome.engine {
        return Err(Failure::Engine(error));
    }
    if style.json {
        let mut observed = outcome.observed.clone();
        super::status::inspect(engine, &project.desired.group, &mut observed).await?;
        let now = SystemTime::now();
        let view = View { desired: &project.desired, readable: project.readable, observed: &observed, live: None, now };
        let services = status::status(&view);
        style.result_json(&json::outcome(desired, &outcome, &services));
    } else {
        style.result(&summary(desired, &outcome, style));
    }
    for wait in &outcome.waits {
        style.complain(&format!("{}: not done: {}", wait.service, wait.reason));
    }
    for (subject, stuck) in &outcome.stuck {
        let name = subject.name();
        style.error(&format!("the {} {name} is left: {}", subject.kind().to_lowercase(), stuck.error));
        if stuck.active_endpoints {
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
        Exit::Interrupted
    } else if outcome.is_good() {
        Exit::Ok
    } else {
        Exit::Failed
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
    let failed = named(outcome.failed.keys().map(|name| name.as_str()).collect(), "failed");
    let failed = painted(style.color_out && !failed.is_empty(), Paint::Red, &failed);
    let waiting = named(outcome.waits.iter().map(|wait| wait.service.as_str()).collect(), "waiting");
    if desired.is_empty() {
        let done = done.trim_start_matches(" (").trim_end_matches(')');
        return format!("{group}: {}{failed}{waiting}\n", if done.is_empty() { "nothing done" } else { done });
    }
    let ready = painted(
        style.color_out,
        Paint::Green,
        &format!("{} ready", count(desired.ready(&outcome.ready).len(), "service")),
    );
    format!("{group}: {ready}{failed}{waiting}{done}\n")
}
