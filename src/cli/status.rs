//! `status`: how each service is, once or again whenever something has changed.

use std::collections::BTreeSet;
use std::path::PathBuf;
use std::sync::Arc;
use std::time::{Duration, SystemTime};

use futures_util::StreamExt;
use futures_util::future::{join, try_join_all};
use futures_util::stream::BoxStream;
use serde_json::Value;

use super::args::{Global, Status};
use super::project::Project;
use super::{Exit, Failure, ask, session};
use crate::engine::{Engine, EngineError, EngineEvent, EngineInfo};
use crate::observed::Observed;
use crate::render::{self, Style, json};
use crate::status::{Overview, View, overview};
use crate::types::ContainerId;

/// How often a watching controller is asked, which tells nothing by itself.
const TICK: Duration = Duration::from_secs(2);
/// Events come in flocks: what comes within this time is looked at once.
const EVENT_DEBOUNCE: Duration = Duration::from_millis(100);
/// Pause before an engine that went away is looked for again.
const RETRY_DELAY: Duration = Duration::from_secs(1);

pub(super) async fn status(global: &Global, status: &Status, style: Style) -> Result<Exit, Failure> {
    let engine = session::connect(global);
    let mut looker = match Project::load_leniently(global, style) {
        Ok(project) => Looker::new(project, engine.await?, style).await?,
        // Whoever watches these specs can still be asked.
        Err(Failure::Specs(errors)) => {
            let Ok(engine) = engine.await else { return Err(Failure::Specs(errors)) };
            let Some(group) = watched_group(global, engine.as_ref()).await else { return Err(Failure::Specs(errors)) };
            let global = Global { group: Some(group), ..global.clone() };
            Looker::new(Project::load_leniently(&global, style)?, engine, style).await?
        }
        Err(failure) => return Err(failure),
    };
    if status.watch {
        return watch(global, &mut looker, style).await;
    }
    let overview = looker.look().await?;
    if style.json {
        style.result_json(&json::status(&overview));
    } else {
        style.result(&render::status::table(&overview, SystemTime::now(), style.color_out));
    }
    Ok(Exit::Ok)
}

/// What it takes to say how things are.
struct Looker {
    project: Project,
    engine: Arc<dyn Engine>,
    state: PathBuf,
}

impl Looker {
    async fn new(mut project: Project, engine: Arc<dyn Engine>, style: Style) -> Result<Looker, Failure> {
        let state = session::state_directory(&engine.about().await?, &project.desired.group);
        project.try_load_outputs(&state, style);
        Ok(Looker { project, engine, state })
    }

    async fn look(&self) -> Result<Overview, EngineError> {
        let (desired, readable) = (&self.project.desired, self.project.readable);
        let (observed, live) = join(detailed(self.engine.as_ref(), &desired.group), ask::live(&self.state)).await;
        let now = SystemTime::now();
        Ok(overview(&View { desired, readable, observed: &observed?, live: live.as_ref(), now }))
    }
}

/// Shows how things are whenever that has changed, until nobody reads it any longer. An engine that goes away is waited
/// for.
async fn watch(global: &Global, looker: &mut Looker, style: Style) -> Result<Exit, Failure> {
    let mut shown = Shown { style, last: None };
    let mut last = looker.look().await?;
    let (engine, group) = (looker.engine.clone(), looker.project.desired.group.clone());
    let mut hints = None;
    loop {
        // Specs change too; those that are invalid say nothing.
        if let Ok(mut project) = Project::load(global)
            && project.desired.group == group
            && project.load_outputs(&looker.state, style).is_ok()
        {
            looker.project = project;
        }
        let looked = async {
            // Subscribed first, so that nothing is missed that happens after the look.
            if hints.is_none() {
                hints = Some(subscribe(engine.as_ref(), &group).await?);
            }
            looker.look().await
        };
        match looked.await {
            Ok(overview) => last = overview,
            Err(error) => {
                hints = None;
                last.engine = Some(error.to_string());
            }
        }
        if !shown.show(&last) {
            return Ok(Exit::Ok);
        }
        let Some(stream) = &mut hints else {
            tokio::time::sleep(RETRY_DELAY).await;
            continue;
        };
        let ticks = last.watched || last.services.iter().any(|service| service.next_try.is_some());
        tokio::select! {
            // cancel-safe because an event is only a hint, and what it hints at is looked at after every wait
            hint = stream.next() => match hint {
                Some(Ok(_)) => tokio::time::sleep(EVENT_DEBOUNCE).await,
                Some(Err(_)) | None => hints = None,
            },
            // cancel-safe because it is begun anew for each wait
            () = tokio::time::sleep(TICK), if ticks => {}
        }
    }
}

/// Subscribes to what happens to the group.
async fn subscribe<'a>(
    engine: &'a dyn Engine,
    group: &'a str,
) -> Result<BoxStream<'a, Result<EngineEvent, EngineError>>, EngineError> {
    let mut hints = engine.events(group);
    match hints.next().await {
        Some(Err(error)) => Err(error),
        // One that ends at once is noticed by whoever reads on.
        Some(Ok(_)) | None => Ok(hints),
    }
}

/// What was shown last.
struct Shown {
    style: Style,
    last: Option<Value>,
}

impl Shown {
    /// Shows it where it differs from the last. False: nobody reads it any longer.
    fn show(&mut self, overview: &Overview) -> bool {
        let value = json::status(overview);
        let key = key(value.clone(), self.style.json);
        let first = self.last.is_none();
        let changed = self.last.replace(key.clone()).as_ref() != Some(&key);
        // Times go on, and on a terminal they are drawn over each other.
        if !changed && (self.style.json || !self.style.redraws()) {
            return true;
        }
        match self.style.json {
            true => self.style.result_line(&value),
            false => {
                let table = render::status::table(overview, SystemTime::now(), self.style.color_out);
                self.style.result_again(&table, first)
            }
        }
    }
}

/// What has to differ to be shown: that it is a second later is no change, nor is what a table does not show.
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

/// The group that a controller keeps in agreement with these specs, as far as containers and the controller tell.
async fn watched_group(global: &Global, engine: &dyn Engine) -> Option<String> {
    let source = global.specs.canonicalize().ok()?.to_string_lossy().into_owned();
    let about: EngineInfo = engine.about().await.ok()?;
    let observed = engine.list("", false).await.ok()?;
    let groups: BTreeSet<&String> = observed
        .containers
        .values()
        .filter_map(|container| container.identity.as_ref())
        .filter(|identity| identity.source == source)
        .map(|identity| &identity.group)
        .collect();
    for group in groups {
        if ask::live(&session::state_directory(&about, group)).await.is_some() {
            return Some(group.clone());
        }
    }
    None
}

/// What the engine has, with the details of the group's containers.
async fn detailed(engine: &dyn Engine, group: &str) -> Result<Observed, EngineError> {
    let mut observed = engine.list(group, false).await?;
    inspect(engine, group, &mut observed).await?;
    Ok(observed)
}

/// Looks up the details of the group's containers: since when, how often, why.
pub(super) async fn inspect(engine: &dyn Engine, group: &str, observed: &mut Observed) -> Result<(), EngineError> {
    let ids: Vec<ContainerId> = observed.of_group(group).map(|container| container.id.clone()).collect();
    let inspected = try_join_all(ids.iter().map(|id| engine.inspect(id))).await?;
    for (id, found) in ids.into_iter().zip(inspected) {
        match found {
            Some(container) => observed.containers.insert(id, container),
            None => observed.containers.remove(&id),
        };
    }
    Ok(())
}
