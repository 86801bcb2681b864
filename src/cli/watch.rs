//! `up --watch`: a run of the controller that continues until it is stopped.

use std::sync::Arc;

use anyhow::Context as _;
use tokio::sync::mpsc;

use super::args::{Global, Up};
use super::project::{Follow, Project};
use super::session::{self, GroupLock};
use super::{Exit, Failure, groups, run};
use crate::control::ipc::lock::WATCH;
use crate::control::ipc::socket::{Presentation, Server};
use crate::control::ipc::wire::Hello;
use crate::control::lease::LeaseMonitor;
use crate::control::state_directory::StateDirectory;
use crate::control::{self, RunOptions, WatchOptions};
use crate::engine::{Engine, EngineInfo};
use crate::render::watch::{self, WatchPrinter};
use crate::render::{self, Style};

/// How many requests of other processes may be queued.
const REQUEST_QUEUE: usize = 16;

pub(super) async fn up(global: &Global, up: &Up, style: Style) -> Result<Exit, Failure> {
    let mut interrupts = session::interrupts("stopping after the current step; containers keep running", style)?;
    let (project, follow) = Project::follow(global, up, move |text| style.note(&text))?;
    run::refuse_empty(&project, up)?;
    project.print_notes(style);
    if up.adopt && !groups::adopt(global, &project, up.yes, style).await? {
        return Ok(Exit::Failed);
    }
    let group = project.desired.group.clone();
    let group = group.as_str();
    let prepare = async {
        let engine = session::connect(global).await?;
        let info = engine.about().await?;
        let directory = session::state_directory(&info, group)?;
        match session::acquire(&engine, &directory, group, WATCH, None, style).await? {
            GroupLock::Acquired(claim) => Ok((engine, info, directory, claim)),
            GroupLock::HeldByWatcher(client) => Err(Failure::Held {
                message: format!(
                    "pid {} (drillmaster {WATCH}) is already watching group {group} with the specs in {}",
                    client.hello.pid, client.hello.source
                ),
                remedy: Some("`drillmaster up` makes it reconcile now; `drillmaster down` stops it".into()),
            }),
        }
    };
    let (engine, info, directory, claim) = match session::unless_interrupted(&mut interrupts, prepare).await? {
        Ok(prepared) => prepared,
        Err(exit) => return Ok(exit),
    };
    let prepared = Prepared { engine, info, directory, lease: claim.monitor() };
    let result = watch(up, project, follow, prepared, interrupts, style).await;
    claim.release().await;
    result
}

/// What a watch runs with.
struct Prepared {
    engine: Arc<dyn Engine>,
    info: EngineInfo,
    directory: StateDirectory,
    lease: LeaseMonitor,
}

/// Runs the controller while this process holds the group.
async fn watch(
    up: &Up,
    mut project: Project,
    follow: Follow,
    Prepared { engine, info, directory, lease }: Prepared,
    interrupts: mpsc::Receiver<()>,
    style: Style,
) -> Result<Exit, Failure> {
    let (requests, inbox) = mpsc::channel(REQUEST_QUEUE);
    let scope = project.desired.scope.clone();
    project.print_new_tips(&directory, style);
    project.load_outputs(&directory, style).map_err(Failure::Specs)?;
    project.desired.scope = scope;
    let hello = Hello { pid: std::process::id(), source: project.desired.source.clone(), command: WATCH.into() };
    let presentation = Presentation { event: watch::event, hide: render::redacted };
    let server = Server::start(directory.path(), hello, requests, presentation)
        .with_context(|| format!("cannot create the control socket in {}", directory.path().display()))?;
    let options = RunOptions { lease: Some(lease), ..run::run_options(&info, &project, directory, None) };
    let Follow { read, changes } = follow;
    let watch = WatchOptions { read, changes, requests: inbox, may_empty: up.prune_all };
    let mut printer = WatchPrinter::new(style, project.origin.display());
    let report = |report| {
        project.hide_new_outputs();
        printer.show(report);
    };
    let local_state = options.local_state.clone();
    let outcome = control::watch(engine, project.desired.clone(), options, watch, interrupts, report).await;
    run::record(&local_state, &project.desired, &outcome);
    printer.stopped(&outcome);
    server.close().await;
    match (outcome.engine, outcome.lease_lost) {
        (Some(error), _) => Err(Failure::Engine(error)),
        (None, Some(lease)) => Err(session::lost(&lease, &project.desired.group)),
        (None, None) if outcome.ended_by.is_some() => Ok(Exit::Ok),
        (None, None) => Ok(Exit::Interrupted),
    }
}
