//! `status`: the status of the services, once or with every change.

use std::sync::Arc;
use std::time::{Duration, SystemTime};

use backon::{ConstantBuilder, Retryable as _};
use futures_util::StreamExt;
use futures_util::future::{join, try_join_all};
use futures_util::stream::BoxStream;
use serde_json::Value;

use super::args::{Global, Status};
use super::project::{Project, profiles};
use super::session::{EVENT_DEBOUNCE, RECONNECT_DELAY};
use super::{Exit, Failure, ask, session};
use crate::control::local_state::LocalState;
use crate::control::state_directory::StateDirectory;
use crate::engine::{Engine, EngineError, EngineEvent};
use crate::observed::Observed;
use crate::render::{self, Style, json};
use crate::status::{Overview, View, overview};
use crate::types::ContainerId;

/// How often a watching controller is polled: it reports nothing by itself.
const POLL_INTERVAL: Duration = Duration::from_secs(2);

pub(super) async fn status(global: &Global, status: &Status, style: Style) -> Result<Exit, Failure> {
    let project = Project::load_leniently(global, profiles(global, &[]), style).await?;
    let mut reader = StatusReader::new(project, session::connect(global).await?, style).await?;
    if status.watch {
        return watch(global, &mut reader, style).await;
    }
    let overview = reader.read().await?;
    if style.json {
        style.result_json(&json::status(&overview));
    } else {
        style.result(&render::status::table(&overview, SystemTime::now()));
    }
    Ok(Exit::Ok)
}

/// Reads the status of the group from the specs, the engine and the controller.
struct StatusReader {
    project: Project,
    engine: Arc<dyn Engine>,
    state_directory: StateDirectory,
}

impl StatusReader {
    async fn new(mut project: Project, engine: Arc<dyn Engine>, style: Style) -> Result<StatusReader, Failure> {
        let state_directory = session::state_directory(&engine.about().await?, &project.desired.group)?;
        project.try_load_outputs(&state_directory, style);
        Ok(StatusReader { project, engine, state_directory })
    }

    async fn read(&self) -> Result<Overview, EngineError> {
        let (desired, readable) = (&self.project.desired, self.project.readable);
        let observed = list_with_details(self.engine.as_ref(), &desired.group);
        let (observed, live) = join(observed, ask::live(&self.state_directory)).await;
        let now = SystemTime::now();
        let local_state = LocalState::new(self.state_directory.clone());
        let (last_run, mounted) = (local_state.last_run(), local_state.mounted());
        let observed = observed?;
        Ok(overview(&View {
            desired,
            readable,
            observed: &observed,
            live: live.as_ref(),
            last_run: &last_run,
            mounted: &mounted,
            now,
        }))
    }

    /// Reads the specs again. If they are invalid or name another group, the last valid specs are kept.
    fn reload_specs(&mut self, global: &Global, style: Style) {
        if let Ok(mut project) =
            Project::load_without_values(global, profiles(global, &[]), Style { quiet: true, ..style })
            && project.desired.group == self.project.desired.group
            && project.load_outputs(&self.state_directory, style).is_ok()
        {
            self.project = project;
        }
    }
}

/// Prints the status each time it changes, until stdout is closed. If the engine becomes unreachable, reconnects.
async fn watch(global: &Global, reader: &mut StatusReader, style: Style) -> Result<Exit, Failure> {
    let mut printer = Printer { style, last: None };
    let mut last = reader.read().await?;
    let (engine, group) = (reader.engine.clone(), reader.project.desired.group.clone());
    loop {
        let connect = || async {
            let events = subscribe(engine.as_ref(), &group).await?;
            reader.read().await?;
            Ok(events)
        };
        let report_lost = |error: &EngineError| {
            last.engine = Some(error.to_string());
            printer.print(&last)
        };
        let retries = ConstantBuilder::new().with_delay(RECONNECT_DELAY).without_max_times();
        let Ok(mut events) = connect.retry(retries).when(report_lost).await else { return Ok(Exit::Ok) };
        loop {
            reader.reload_specs(global, style);
            let Ok(overview) = reader.read().await else { break };
            last = overview;
            if !printer.print(&last) {
                return Ok(Exit::Ok);
            }
            let polls = last.watched || last.services.iter().any(|service| service.next_try.is_some());
            tokio::select! {
                // cancel-safe because an event only triggers a refresh, and each wait ends with one
                event = events.next() => match event {
                    Some(Ok(_)) => tokio::time::sleep(EVENT_DEBOUNCE).await,
                    Some(Err(_)) | None => break,
                },
                // cancel-safe because each wait starts a new timer
                () = tokio::time::sleep(POLL_INTERVAL), if polls => {}
            }
        }
    }
}

/// Subscribes to the events of the group.
async fn subscribe<'a>(
    engine: &'a dyn Engine,
    group: &'a str,
) -> Result<BoxStream<'a, Result<EngineEvent, EngineError>>, EngineError> {
    let mut events = engine.events(group);
    match events.next().await {
        Some(Err(error)) => Err(error),
        // The caller notices if the stream ends at once.
        Some(Ok(_)) | None => Ok(events),
    }
}

/// Prints the status where it differs from the last one printed.
struct Printer {
    style: Style,
    last: Option<Value>,
}

impl Printer {
    /// Returns false if stdout is closed.
    fn print(&mut self, overview: &Overview) -> bool {
        let value = json::status(overview);
        let key = key(value.clone(), self.style.json);
        let first = self.last.is_none();
        let changed = self.last.replace(key.clone()).as_ref() != Some(&key);
        // On a terminal the table is redrawn even if nothing changed, to update its times.
        if !changed && (self.style.json || !self.style.redraws()) {
            return true;
        }
        match self.style.json {
            true => self.style.result_line(&value),
            false => {
                let table = render::status::table(overview, SystemTime::now());
                self.style.result_again(&table, first)
            }
        }
    }
}

/// The part of the status whose changes are printed: without the passing of time and without what the table omits.
fn key(mut overview: Value, json: bool) -> Value {
    for service in overview["services"].as_array_mut().into_iter().flatten() {
        if !service["next_try"].is_null() {
            (service["next_try"], service["message"]) = (true.into(), Value::Null);
        }
        if !json {
            (service["restarts"], service["last_exit"]) = (Value::Null, Value::Null);
        }
    }
    overview
}

/// Lists the engine's objects and inspects the group's containers.
async fn list_with_details(engine: &dyn Engine, group: &str) -> Result<Observed, EngineError> {
    let mut observed = engine.list(group, false).await?;
    inspect(engine, group, &mut observed).await?;
    Ok(observed)
}

/// Inspects the group's containers: start times, restart counts, errors.
pub(super) async fn inspect(engine: &dyn Engine, group: &str, observed: &mut Observed) -> Result<(), EngineError> {
    let ids: Vec<ContainerId> = observed.of_group(group).map(|container| container.id.clone()).collect();
    let details = try_join_all(ids.iter().map(|id| engine.inspect(id))).await?;
    for (id, container) in ids.into_iter().zip(details) {
        match container {
            Some(container) => observed.insert(container),
            None => drop(observed.containers.remove(&id)),
        }
    }
    Ok(())
}
