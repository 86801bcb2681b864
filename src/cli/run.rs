//! `up`, `down`, `start`, `stop`, `reload`, `run`: one run of the controller each, with different desired states. If a
//! controller is watching the group, a request to it instead.

use std::cell::RefCell;
use std::collections::BTreeSet;
use std::convert::Infallible;
use std::sync::Arc;
use std::time::{Duration, Instant, SystemTime};

use tokio::sync::mpsc;

use super::args::{Down, Global, Images, Logs, Prune, Reload, Restart, Run, Selection, Up};
use super::project::{Project, profiles};
use super::session::{self, Claim, GroupLock};
use super::{Exit, Failure, ask, groups, summary};
use crate::control::event::{self, Limits, Outcome, Request};
use crate::control::execute::context::ExecContext;
use crate::control::execute::routes::Routes;
use crate::control::ipc::socket::{Client, Presentation, Server};
use crate::control::ipc::wire::{Hello, WireRequest};
use crate::control::local_state::LocalState;
use crate::control::programs::SELF;
use crate::control::state_directory::StateDirectory;
use crate::control::{self, RunOptions};
use crate::desired::{Desired, Mode, Scope, Service, order};
use crate::engine::{Engine, EngineInfo};
use crate::observed::State;
use crate::render::progress::Progress;
use crate::render::{self, Style, json, title};
use crate::spec::Profiles;
use crate::status::last_run::LastRun;
use crate::status::{self, View};

/// How often the display is told that time has passed.
const TICK: Duration = Duration::from_millis(200);

/// A one-shot run.
struct Job {
    /// The name of the command, written to the lock file.
    command: &'static str,
    target: Target,
    reload: event::Reload,
    timeout: Option<Duration>,
    if_watched: IfWatched,
    /// The job whose exit code is returned.
    exit_code_from: Option<String>,
    /// The result is printed to stdout.
    prints_result: bool,
}

impl Job {
    fn new(command: &'static str, target: Target, timeout: Option<Duration>, if_watched: IfWatched) -> Job {
        Job {
            command,
            target,
            reload: event::Reload::default(),
            timeout,
            if_watched,
            exit_code_from: None,
            prints_result: true,
        }
    }
}

/// How a command changes the desired state of the specs.
#[derive(Debug, Clone)]
struct Target {
    scope: Scope,
    mode: Mode,
    /// No service is desired: `down` removes them, `stop` stops them.
    removes_services: bool,
}

impl Target {
    /// The services of the specs exist and run.
    fn running(scope: Scope) -> Target {
        let mode = Mode::Reconcile { purge_volumes: false, purge_images: false };
        Target { scope, mode, removes_services: false }
    }

    /// Returns true if the whole group is removed.
    fn removes_group(&self) -> bool {
        self.removes_services && self.scope == Scope::All && matches!(self.mode, Mode::Reconcile { .. })
    }

    fn apply(&self, desired: Desired) -> Desired {
        let (scope, mode) = (self.scope.clone(), self.mode);
        match self.removes_services {
            true => desired.without_services(scope, mode),
            false => Desired { scope, mode, ..desired },
        }
    }
}

/// What a command does if a controller is watching the group.
enum IfWatched {
    /// Sends a request to it.
    Ask(WireRequest),
    /// Stops it, then runs.
    Shutdown,
    /// Fails with this remedy: the controller would undo the work at once.
    Refuse(&'static str),
}

/// What to do if a watching controller would have to take over from docker compose.
const NO_TAKEOVER: &str = "it was not asked to remove containers of docker compose; stop it with Ctrl-C, then re-run";

pub(super) async fn up(global: &Global, up: &Up, style: Style) -> Result<Exit, Failure> {
    if up.detach {
        style.note("`up` always detaches: it ends when everything is ready; `--watch` keeps running");
    }
    let names: Vec<String> = up.selection.services.iter().chain(&up.exit_code_from).cloned().collect();
    let load = if up.prune_all { Project::load_or_empty } else { Project::load };
    let project = load(global, &names)?;
    refuse_empty(&project, up)?;
    project.print_notes(style);
    if up.adopt && !groups::adopt(global, &project, up.yes, style).await? {
        return Ok(Exit::Failed);
    }
    if let Some(job) = &up.exit_code_from {
        return up_for(global, up, project, job, style).await;
    }
    let scope = project.with_dependencies(&up.selection.services, &up.selection.exclude)?;
    let if_watched = match project.desired.is_empty() {
        _ if project.takes_over() => IfWatched::Refuse(NO_TAKEOVER),
        true => IfWatched::Refuse("it keeps containers without specs running; stop it with Ctrl-C, then re-run"),
        false => IfWatched::Ask(WireRequest::Reconcile),
    };
    let job = Job::new("up", Target::running(scope), up.selection.timeout, if_watched);
    execute(global, project, job, style).await
}

/// `up --exit-code-from`: brings the selected services up, runs the job until it has ended, and takes everything down if
/// asked to.
async fn up_for(global: &Global, up: &Up, project: Project, job: &str, style: Style) -> Result<Exit, Failure> {
    let reload = known_job(&project, job)?;
    let mut names = up.selection.services.clone();
    if !names.is_empty() {
        names.push(job.to_owned());
    }
    let scope = project.with_dependencies(&names, &up.selection.exclude)?;
    let if_watched = match up.down {
        _ if project.takes_over() => IfWatched::Refuse(NO_TAKEOVER),
        true => IfWatched::Refuse("`--down` would remove what it watches; stop it with Ctrl-C first, or omit `--down`"),
        false => IfWatched::Ask(WireRequest::Reload { services: reload.clone(), renew_volumes: false }),
    };
    let run = Job::new("up", Target::running(scope), up.selection.timeout, if_watched);
    let run = Job { reload: reload.into(), exit_code_from: Some(job.to_owned()), ..run };
    let exit = execute(global, project, run, style).await?;
    show_output(global, job, style).await?;
    if !up.down {
        return Ok(exit);
    }
    style.note("removing the group (--down)");
    let removed = remove(global, &Down::default(), !style.json, style).await?;
    Ok(if exit == Exit::Ok { removed } else { exit })
}

/// Checks that the specs define this job.
fn known_job(project: &Project, name: &str) -> Result<BTreeSet<String>, Failure> {
    let services = project.known(&[name.to_owned()])?;
    if project.desired.services.get(name).is_some_and(Service::is_job) {
        return Ok(services);
    }
    Err(Failure::Usage(format!("`{name}` is not a job; use `drillmaster reload {name}` to recreate a service")))
}

/// Prints the output of a job. With `--output json` the result is printed alone.
async fn show_output(global: &Global, job: &str, style: Style) -> Result<(), Failure> {
    if !style.json {
        let logs = Logs { services: vec![job.to_owned()], ..Logs::default() };
        super::logs::logs(global, &logs, style).await?;
    }
    Ok(())
}

/// Rejects specs without services, which would remove every container of the group, unless `--prune-all` is given.
pub(super) fn refuse_empty(project: &Project, up: &Up) -> Result<(), Failure> {
    if !project.desired.is_empty() || up.prune_all {
        return Ok(());
    }
    let inactive: BTreeSet<&str> = project.desired.inactive.values().flatten().map(String::as_str).collect();
    if let Some(profile) = inactive.first() {
        return Err(Failure::Usage(format!(
            "every service in {} has `profiles`, and none is active; add `--profile {profile}`; to remove all containers \
             of group {}, run `drillmaster down`",
            project.origin.display(),
            project.desired.group
        )));
    }
    Err(Failure::Usage(format!(
        "no services in {}; to remove all containers of group {}, run `drillmaster down` or `drillmaster up \
         --prune-all`",
        project.origin.display(),
        project.desired.group
    )))
}

pub(super) async fn down(global: &Global, down: &Down, style: Style) -> Result<Exit, Failure> {
    remove(global, down, true, style).await
}

async fn remove(global: &Global, down: &Down, prints_result: bool, style: Style) -> Result<Exit, Failure> {
    let project = Project::load_leniently(global, Profiles::all(), style).await?;
    let scope = project.with_dependents("removed", &[], &down.exclude)?;
    let mode = Mode::Reconcile { purge_volumes: down.volumes, purge_images: down.images };
    let target = Target { scope, mode, removes_services: true };
    let job = Job::new("down", target, down.timeout, IfWatched::Shutdown);
    execute(global, project, Job { prints_result, ..job }, style).await
}

/// `prune`: removes a group whose spec directory is gone.
pub(super) async fn remove_group(
    global: &Global,
    project: Project,
    prune: &Prune,
    style: Style,
) -> Result<Exit, Failure> {
    let mode = Mode::Reconcile { purge_volumes: prune.volumes, purge_images: false };
    let target = Target { scope: Scope::All, mode, removes_services: true };
    let if_watched = IfWatched::Refuse("stop the watch with Ctrl-C first");
    let job = Job::new("prune", target, prune.timeout, if_watched);
    execute(global, project, Job { prints_result: !style.json, ..job }, style).await
}

pub(super) async fn start(global: &Global, selection: &Selection, style: Style) -> Result<Exit, Failure> {
    let project = Project::load_without_values(global, profiles(global, &selection.services), style)?;
    let scope = project.with_dependencies(&selection.services, &selection.exclude)?;
    let target = Target { scope, mode: Mode::StartOnly, removes_services: false };
    let if_watched = IfWatched::Refuse("it starts containers itself; `drillmaster up` makes it retry now");
    let job = Job::new("start", target, selection.timeout, if_watched);
    execute(global, project, job, style).await
}

pub(super) async fn stop(global: &Global, selection: &Selection, style: Style) -> Result<Exit, Failure> {
    let project = Project::load_leniently(global, Profiles::all(), style).await?;
    let scope = project.with_dependents("stopped", &selection.services, &selection.exclude)?;
    let target = Target { scope, mode: Mode::StopOnly, removes_services: true };
    let if_watched = IfWatched::Refuse(
        "it would start the services again; stop it with Ctrl-C first, or remove the services from the specs",
    );
    let job = Job::new("stop", target, selection.timeout, if_watched);
    execute(global, project, job, style).await
}

pub(super) async fn build(global: &Global, images: &Images, style: Style) -> Result<Exit, Failure> {
    let remedy = "it builds images whose sources change itself; `drillmaster up` makes it retry now";
    images_only(global, "build", Mode::BuildImages, images, remedy, style).await
}

pub(super) async fn pull(global: &Global, images: &Images, style: Style) -> Result<Exit, Failure> {
    let remedy = "it pulls missing images itself, and newer ones with `pull: {every: …}` in the spec; to pull now, stop it \
                  with Ctrl-C first";
    images_only(global, "pull", Mode::PullImages, images, remedy, style).await
}

async fn images_only(
    global: &Global,
    command: &'static str,
    mode: Mode,
    images: &Images,
    remedy: &'static str,
    style: Style,
) -> Result<Exit, Failure> {
    let project = Project::load(global, &images.services)?;
    let names = project.known(&images.services)?;
    let scope = if names.is_empty() { Scope::All } else { Scope::Only(names) };
    let target = Target { scope, mode, removes_services: false };
    execute(global, project, Job::new(command, target, images.timeout, IfWatched::Refuse(remedy)), style).await
}

/// Stops the services, then starts them. Their dependents stay as they are.
pub(super) async fn restart(global: &Global, restart: &Restart, style: Style) -> Result<Exit, Failure> {
    let profiles = profiles(global, &restart.services);
    let project = Project::load_without_values(global, profiles.clone(), style)?;
    let names = project.known(&restart.services)?;
    let scope = if names.is_empty() { Scope::All } else { Scope::Only(names) };
    let refuse = || IfWatched::Refuse("use `drillmaster reload SERVICE`, which recreates the containers");
    let target = Target { scope: scope.clone(), mode: Mode::StopOnly, removes_services: true };
    let stop = Job { prints_result: false, ..Job::new("restart", target, restart.timeout, refuse()) };
    let exit = execute(global, project, stop, style).await?;
    if exit != Exit::Ok {
        return Ok(exit);
    }
    let project = Project::load_without_values(global, profiles, Style { quiet: true, ..style })?;
    let target = Target { scope, mode: Mode::StartOnly, removes_services: false };
    execute(global, project, Job::new("restart", target, restart.timeout, refuse()), style).await
}

pub(super) async fn reload(global: &Global, reload: &Reload, style: Style) -> Result<Exit, Failure> {
    let project = Project::load(global, &reload.services)?;
    let services = project.known(&reload.services)?;
    let with_dependents = order::with_restarted(&services, &project.desired);
    let scope = Scope::Only(order::with_dependencies(&with_dependents, &project.desired.needs()));
    let renew_volumes = reload.renew_volumes;
    let if_watched = IfWatched::Ask(WireRequest::Reload { services: services.clone(), renew_volumes });
    let job = Job::new("reload", Target::running(scope), reload.timeout, if_watched);
    let job = Job { reload: event::Reload { services, renew_volumes }, ..job };
    execute(global, project, job, style).await
}

pub(super) async fn run(global: &Global, run: &Run, style: Style) -> Result<Exit, Failure> {
    let project = Project::load(global, std::slice::from_ref(&run.job))?;
    let services = known_job(&project, &run.job)?;
    let scope = Scope::Only(order::with_dependencies(&services, &project.desired.needs()));
    let if_watched = IfWatched::Ask(WireRequest::Reload { services: services.clone(), renew_volumes: false });
    let job = Job::new("run", Target::running(scope), run.timeout, if_watched);
    let job = Job { reload: services.into(), exit_code_from: Some(run.job.clone()), ..job };
    let exit = execute(global, project, job, style).await?;
    show_output(global, &run.job, style).await?;
    Ok(exit)
}

async fn execute(global: &Global, mut project: Project, job: Job, style: Style) -> Result<Exit, Failure> {
    let start = Instant::now();
    let mut interrupts = session::interrupts("stopping after the current step", style)?;
    let remaining = || job.timeout.map(|timeout| timeout.saturating_sub(start.elapsed()));
    let prepare = prepare(global, &project, &job, remaining, style);
    let (engine, info, state_directory, access) = match session::unless_interrupted(&mut interrupts, prepare).await? {
        Ok(prepared) => prepared,
        Err(exit) => return Ok(exit),
    };
    let loaded = match job.target.removes_services {
        true => {
            project.try_load_outputs(&state_directory, style);
            Ok(())
        }
        false => {
            project.print_new_tips(&state_directory, style);
            project.load_outputs(&state_directory, style).map_err(Failure::Specs)
        }
    };
    let desired = job.target.apply(project.desired.clone());
    let outcome = match access {
        Access::Delegated(client, request) => {
            loaded?;
            let work = async {
                let mut outcome = ask::request(client, request, &desired, remaining(), style).await?;
                outcome.observed = engine.list(&desired.group, false).await?;
                Ok(outcome)
            };
            match session::unless_interrupted(&mut interrupts, work).await? {
                Ok(outcome) => outcome,
                Err(exit) => {
                    style.note("the watching controller continues");
                    return Ok(exit);
                }
            }
        }
        Access::Claimed(claim) => {
            let outcome = match loaded {
                Ok(()) => {
                    let (server, requests) = serve(&state_directory, &project, job.command);
                    let options = run_options(&info, &project, state_directory, remaining());
                    let (lease, reload) = (Some(claim.monitor()), job.reload.clone());
                    let options = RunOptions { lease, reload, ..options };
                    let (running, run) = (engine.clone(), options.clone());
                    let outcome = reconcile(running, &project, &job.target, run, requests, interrupts, style).await;
                    if let Some(name) = job.exit_code_from.as_ref().filter(|_| outcome.interrupted) {
                        let stop = RunOptions { reload: event::Reload::default(), ..options.clone() };
                        stop_job(engine.clone(), &project, name, stop, style).await;
                    }
                    if let Some(server) = server {
                        server.close().await;
                    }
                    if !job.target.mode.is_about_images() {
                        record(&options.local_state, &desired, &outcome);
                    }
                    if outcome.is_good() && job.target.removes_group() {
                        // Nothing is left that another directory could own.
                        if let Err(error) = options.local_state.forget_adoption() {
                            tracing::debug!(%error, "cannot forget the adoption");
                        }
                    }
                    Ok(outcome)
                }
                Err(failure) => Err(failure),
            };
            claim.release().await;
            outcome?
        }
    };
    let job_exit = job.exit_code_from.as_deref().and_then(|name| job_exit(&outcome, name));
    let exit = finish_run(engine.as_ref(), &project, &desired, outcome, job.prints_result, style).await?;
    Ok(job_exit.unwrap_or(exit))
}

/// Stops the job of an interrupted run, as `stop` does: with its stop signal, killed after its stop timeout.
async fn stop_job(engine: Arc<dyn Engine>, project: &Project, job: &str, options: RunOptions, style: Style) {
    let scope = Scope::Only([job.to_owned()].into());
    let target = Target { scope, mode: Mode::StopOnly, removes_services: true };
    // A further Ctrl-C ends the process.
    let ((_, requests), (_, interrupts)) = (mpsc::channel(1), mpsc::channel(1));
    let outcome = reconcile(engine, project, &target, options, requests, interrupts, style).await;
    if let (false, Some(error)) = (outcome.is_good(), outcome.engine) {
        style.error(format!("cannot stop {job}: {error}"));
    }
}

/// The exit code of a job that has ended; `None`: it has not, or it failed in another way.
fn job_exit(outcome: &Outcome, job: &str) -> Option<Exit> {
    if outcome.interrupted || outcome.timed_out || outcome.engine.is_some() || outcome.lease_lost.is_some() {
        return None;
    }
    let Some(failed) = outcome.failed.get(job) else {
        return outcome.ready.contains(job).then_some(Exit::Ok);
    };
    let container = outcome.observed.containers.get(&failed.failure.container.as_ref()?.id)?;
    match container.state {
        State::Exited { code: Some(code) } => u8::try_from(code).ok().filter(|code| *code != 0).map(Exit::Code),
        _ => None,
    }
}

/// Keeps the failures of a run for `status` and `diff`.
pub(super) fn record(local_state: &LocalState, desired: &Desired, outcome: &Outcome) {
    let last_run = updated(local_state.last_run(), desired, outcome);
    if let Err(error) = local_state.record_last_run(&last_run) {
        tracing::debug!(%error, "cannot record the failures of the run");
    }
}

/// The record of the runs before and of this one.
fn updated(mut last_run: LastRun, desired: &Desired, outcome: &Outcome) -> LastRun {
    let failures = outcome.failed.values().map(|failed| &failed.failure);
    let hide = |text: &str| render::redacted(text).into_owned();
    last_run.record(desired, &outcome.observed, failures, &outcome.steps, hide);
    last_run
}

/// How a command changes the group.
enum Access<'a> {
    /// By itself.
    Claimed(Claim),
    /// By a request to the watching controller.
    Delegated(Client, &'a WireRequest),
}

/// Connects to the engine and takes the lock and the lease of the group, or connects to the controller that holds it.
async fn prepare<'a>(
    global: &Global,
    project: &Project,
    job: &'a Job,
    remaining: impl Fn() -> Option<Duration>,
    style: Style,
) -> Result<(Arc<dyn Engine>, EngineInfo, StateDirectory, Access<'a>), Failure> {
    let group = &project.desired.group;
    let engine = session::connect(global).await?;
    let info = engine.about().await?;
    let directory = session::state_directory(&info, group)?;
    loop {
        let lock = session::acquire(&engine, &directory, group, job.command, remaining(), style).await?;
        let client = match lock {
            GroupLock::Acquired(claim) => return Ok((engine, info, directory, Access::Claimed(claim))),
            GroupLock::HeldByWatcher(client) => client,
        };
        ask::check_source(&client, &project.desired)?;
        match &job.if_watched {
            IfWatched::Ask(request) => return Ok((engine, info, directory, Access::Delegated(client, request))),
            IfWatched::Refuse(remedy) => return Err(ask::refused(&client, group, job.command, remedy)),
            IfWatched::Shutdown => ask::shut_down(client, job.command, remaining(), style).await?,
        }
    }
}

/// Lets another process end this run. Without a socket, that process waits for the lock.
fn serve(directory: &StateDirectory, project: &Project, command: &str) -> (Option<Server>, mpsc::Receiver<Request>) {
    let (sender, requests) = mpsc::channel(1);
    let hello = Hello { pid: std::process::id(), source: project.desired.source.clone(), command: command.to_owned() };
    let presentation = Presentation { event: |_| None, hide: render::redacted };
    let server = Server::start(directory.path(), hello, sender, presentation);
    if let Err(error) = &server {
        tracing::debug!(%error, "cannot create the control socket");
    }
    (server.ok(), requests)
}

/// Runs the controller in this process.
async fn reconcile(
    engine: Arc<dyn Engine>,
    project: &Project,
    target: &Target,
    options: RunOptions,
    requests: mpsc::Receiver<Request>,
    interrupts: mpsc::Receiver<()>,
    style: Style,
) -> Outcome {
    let progress = RefCell::new(Progress::new(style));
    let again = target.clone();
    let options = RunOptions { read: Some(project.read_again(move |desired| again.apply(desired))), ..options };
    let desired = target.apply(project.desired.clone());
    let show = |report| {
        project.hide_new_outputs();
        progress.borrow_mut().show(report);
    };
    let outcome = tokio::select! {
        outcome = control::run_serving(engine, desired, options, requests, interrupts, show) => outcome,
        // Cancel-safe: it never ends, so that it does not cancel the run.
        never = tick(&progress) => match never {},
    };
    progress.borrow_mut().finish();
    if outcome.is_good()
        && target.removes_group()
        && let Err(error) = project.context.clear()
    {
        style.eprintln(format!("cannot delete the outputs of the group: {error}"));
    }
    outcome
}

/// Lets the display show what lasts.
async fn tick(progress: &RefCell<Progress>) -> Infallible {
    loop {
        tokio::time::sleep(TICK).await;
        progress.borrow_mut().tick();
    }
}

/// The options that every run of this project shares.
pub(super) fn run_options(
    info: &EngineInfo,
    project: &Project,
    directory: StateDirectory,
    timeout: Option<Duration>,
) -> RunOptions {
    let group = &project.desired.group;
    RunOptions {
        limits: limits(info, timeout),
        context: ExecContext {
            group: group.clone(),
            directory: project.directory.clone(),
            // Valid even if the file has been replaced by another version.
            executable: SELF.into(),
            routes: Routes::new(info.capabilities.location.clone()),
            outputs: project.context.clone(),
            workers: project.workers.clone(),
        },
        local_state: LocalState::new(directory),
        read: None,
        reload: event::Reload::default(),
        lease: None,
    }
}

/// The number of concurrent steps. Measured on two cores: four setups saturate them; teardowns gain up to eight.
fn limits(info: &EngineInfo, timeout: Option<Duration>) -> Limits {
    let cores = std::thread::available_parallelism().map_or(2, std::num::NonZero::get);
    let teardowns = if info.capabilities.parallel_stops { 8 } else { 1 };
    Limits { setups: (2 * cores).max(4), teardowns, deadline: timeout }
}

async fn finish_run(
    engine: &dyn Engine,
    project: &Project,
    desired: &Desired,
    outcome: Outcome,
    prints_result: bool,
    style: Style,
) -> Result<Exit, Failure> {
    if let Some(error) = outcome.engine {
        return Err(Failure::Engine(error));
    }
    if let Some(lease) = outcome.lease_lost {
        return Err(session::lost(&lease, &desired.group));
    }
    if prints_result {
        print_result(engine, project, desired, &outcome, style).await?;
    }
    for wait in &outcome.waits {
        style.eprintln(format!("{}: pending: {}", wait.service, wait.reason));
    }
    for (subject, stuck) in &outcome.stuck {
        style.error(format!("could not remove {}: {}", title(subject), stuck.error));
        if stuck.active_endpoints {
            style.eprintln(
                "  no container of this group uses it; the engine reports a stale endpoint. The next `up` reuses the \
                 network; restarting the engine releases it",
            );
        }
    }
    if let Some(by) = &outcome.ended_by {
        style.error(format!("stopped: requested by {by}"));
    }
    if outcome.timed_out {
        style.error("timed out (--timeout); re-run to continue");
    }
    Ok(if outcome.interrupted {
        Exit::Interrupted
    } else if outcome.is_good() {
        Exit::Ok
    } else {
        Exit::Failed
    })
}

/// Prints what a run did, and how the services are.
async fn print_result(
    engine: &dyn Engine,
    project: &Project,
    desired: &Desired,
    outcome: &Outcome,
    style: Style,
) -> Result<(), Failure> {
    if style.json {
        let mut observed = outcome.observed.clone();
        super::status::inspect(engine, &project.desired.group, &mut observed).await?;
        let now = SystemTime::now();
        let last_run = &updated(LastRun::default(), desired, outcome);
        let state_directory = session::state_directory(&engine.about().await?, &project.desired.group)?;
        let mounted = &LocalState::new(state_directory).mounted();
        let Project { desired: all, readable, .. } = project;
        let view = View { desired: all, readable: *readable, observed: &observed, live: None, last_run, mounted, now };
        let services = status::status(&view);
        style.result_json(&json::outcome(desired, outcome, &services));
    } else {
        let is_about_images = desired.mode.is_about_images();
        let summary = if is_about_images { summary::of_images } else { summary::of_services };
        style.result(&summary(desired, outcome));
    }
    Ok(())
}
