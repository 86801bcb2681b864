//! The controller: reconciles one group until it has converged ([`run`]) or until the watch is stopped ([`watch`]).
//!
//! [`reconcile`] decides and is synchronous; [`execute`] carries out its commands and sends the results back as events;
//! [`specs`] reads and watches the spec directory; [`ipc`] holds the lock of the group and serves other processes.
//! Nothing in here parses specs or prints.

pub mod event;
pub mod execute;
pub mod ipc;
pub mod local_state;
pub mod reconcile;
mod run;
pub mod specs;

use std::collections::BTreeSet;
use std::sync::Arc;
use std::time::Duration;

use futures_util::future::BoxFuture;
use tokio::sync::mpsc;

use self::event::{Limits, Outcome, Reading, Report, Request};
use self::execute::connect::ExecContext;
use self::execute::outputs::OutputStore;
use self::local_state::Notes;
use crate::desired::Desired;
use crate::engine::{Engine, EngineError};
use crate::observed::Observed;
use crate::plan::step::Query;
use crate::plan::{self, Memory};
use crate::types::ContainerId;

/// What a run is given beside the engine and the desired state.
#[derive(Clone)]
pub struct Setting {
    /// How it may go.
    pub limits: Limits,
    /// Where pings are made from.
    pub surroundings: ExecContext,
    /// What earlier runs noted.
    pub notes: Notes,
    /// Outputs of hooks and jobs.
    pub context: OutputStore,
    /// For a run that ends: reads the specs once more when outputs have changed. `None`: nothing is made of outputs. A
    /// watch reads them as it does otherwise.
    pub read: Option<Read>,
    /// Services to replace although they match.
    pub reload: BTreeSet<String>,
}

/// A way to read the specs, again and again.
pub type Read = Arc<dyn Fn() -> BoxFuture<'static, Reading> + Send + Sync>;

/// What a run is given that goes on until somebody ends it.
pub struct Watch {
    /// Reads the specs. Must not hold up the loop for long: what takes time runs on another thread.
    pub read: Read,
    /// Each message says that something in the specs may have changed.
    pub changes: mpsc::Receiver<()>,
    /// What other processes ask for.
    pub requests: mpsc::Receiver<Request>,
    /// The specs may come to name no service, and then everything is removed.
    pub may_empty: bool,
}

/// Runs until the engine agrees, or cannot be made to. `interrupts` ends it at the next step; containers stay as they
/// are, and the next run continues.
pub async fn run(
    engine: Arc<dyn Engine>,
    desired: Desired,
    setting: Setting,
    interrupts: mpsc::Receiver<()>,
    report: impl FnMut(Report),
) -> Outcome {
    run::drive(engine, desired, setting, None, interrupts, report).await
}

/// Runs until somebody ends it, and keeps the engine in agreement with the specs. Containers stay as they are.
pub async fn watch(
    engine: Arc<dyn Engine>,
    desired: Desired,
    setting: Setting,
    watch: Watch,
    interrupts: mpsc::Receiver<()>,
    report: impl FnMut(Report),
) -> Outcome {
    run::drive(engine, desired, setting, Some(watch), interrupts, report).await
}

/// Looks until a forecast needs nothing more: a list, then what it leaves open.
///
/// # Errors
///
/// Whatever the engine says.
pub async fn observe(engine: &dyn Engine, desired: &Desired, memory: &Memory) -> Result<Observed, EngineError> {
    let purge = desired.mode.purges_volumes();
    let mut observed = engine.list(&desired.group, purge).await?;
    loop {
        let queries = plan::plan(desired, &observed, memory, Duration::ZERO).queries;
        let open: Vec<&ContainerId> = queries
            .iter()
            .filter_map(|look| match look {
                Query::Container(id) => Some(id),
                // What an image brings matters when it is run, not for what differs.
                Query::Image(_) => None,
            })
            .collect();
        if open.is_empty() {
            return Ok(observed);
        }
        for id in open {
            match engine.inspect(id).await? {
                Some(container) => observed.containers.insert(id.clone(), container),
                None => observed.containers.remove(id),
            };
        }
    }
}
