//! The controller: reconciles one group until it has converged ([`run()`]) or until the watch is stopped ([`watch`]).
//!
//! [`reconcile`] decides and is synchronous; [`execute`] carries out its commands and sends the results back as events;
//! [`programs`] evaluates Starlark in processes of its own; [`specs`] reads and watches the spec directory; [`ipc`] holds
//! the lock of the group and serves other processes; [`lease`] keeps controllers of other users and hosts away.
//! Nothing in here parses specs or prints.

pub mod error;
pub mod event;
pub mod execute;
pub mod ipc;
pub mod lease;
pub mod local_state;
pub mod programs;
pub mod reconcile;
mod run;
pub mod specs;
pub mod state_directory;

use std::sync::Arc;
use std::time::Duration;

use futures_util::future::BoxFuture;
use tokio::sync::mpsc;

use self::event::{Limits, Outcome, Reading, Reload, Report, Request};
use self::execute::context::ExecContext;
use self::lease::LeaseMonitor;
use self::local_state::LocalState;
use self::run::Mode;
use crate::desired::Desired;
use crate::engine::{Engine, EngineError};
use crate::observed::Observed;
use crate::plan::step::Query;
use crate::plan::{self, Memory};
use crate::types::ContainerId;

/// Options of a run.
#[derive(Clone)]
pub struct RunOptions {
    pub limits: Limits,
    /// Where hooks and probes run.
    pub context: ExecContext,
    pub local_state: LocalState,
    /// Reads the specs again when outputs change. `None`: the specs use no outputs. Ignored by a watch.
    pub read: Option<ReadSpecs>,
    /// Services to replace even if they match their specs.
    pub reload: Reload,
    /// The lease of the group, in a run that has one.
    pub lease: Option<LeaseMonitor>,
}

/// Reads the specs; may be called repeatedly. Must not block the event loop: slow work runs on another thread.
pub type ReadSpecs = Arc<dyn Fn() -> BoxFuture<'static, Reading> + Send + Sync>;

/// Options of a watch, beside those of a run.
pub struct WatchOptions {
    pub read: ReadSpecs,
    /// Each message means that the specs may have changed.
    pub changes: mpsc::Receiver<()>,
    /// Requests of other processes.
    pub requests: mpsc::Receiver<Request>,
    /// Specs without services are valid and remove everything.
    pub may_empty: bool,
}

/// Runs until the engine matches the desired state or cannot be made to. A message on `interrupts` ends the run after
/// the current step; containers stay as they are, and the next run continues.
pub async fn run(
    engine: Arc<dyn Engine>,
    desired: Desired,
    options: RunOptions,
    interrupts: mpsc::Receiver<()>,
    report: impl FnMut(Report),
) -> Outcome {
    let (_, requests) = mpsc::channel(1);
    run_serving(engine, desired, options, requests, interrupts, report).await
}

/// The same; another process can end the run with [`Shutdown`](event::RequestKind::Shutdown).
pub async fn run_serving(
    engine: Arc<dyn Engine>,
    desired: Desired,
    options: RunOptions,
    requests: mpsc::Receiver<Request>,
    interrupts: mpsc::Receiver<()>,
    report: impl FnMut(Report),
) -> Outcome {
    run::drive(engine, desired, options, Mode::Once { requests }, interrupts, report).await
}

/// Reconciles the engine with the specs until it is interrupted or asked to shut down. Containers stay as they are.
pub async fn watch(
    engine: Arc<dyn Engine>,
    desired: Desired,
    options: RunOptions,
    watch: WatchOptions,
    interrupts: mpsc::Receiver<()>,
    report: impl FnMut(Report),
) -> Outcome {
    run::drive(engine, desired, options, Mode::Watch(watch), interrupts, report).await
}

/// Observes the engine until a plan has no more queries about containers: one list, then inspections.
///
/// # Errors
///
/// If a call of the engine fails.
pub async fn observe(engine: &dyn Engine, desired: &Desired, memory: &Memory) -> Result<Observed, EngineError> {
    let mut observed = engine.list(&desired.group, desired.needs_volumes()).await?;
    loop {
        let queries = plan::plan(desired, &observed, memory, Duration::ZERO).queries;
        let open: Vec<&ContainerId> = queries
            .iter()
            .filter_map(|query| match query {
                Query::Container(id) => Some(id),
                // Image facts matter when a container is created, not for differences.
                Query::Image(_) => None,
            })
            .collect();
        if open.is_empty() {
            return Ok(observed);
        }
        for id in open {
            match engine.inspect(id).await? {
                Some(container) => observed.insert(container),
                None => drop(observed.containers.remove(id)),
            }
        }
    }
}
