//! `status`: how each service is.

use std::time::SystemTime;

use futures_util::future::{join, try_join_all};

use super::args::{Global, Status};
use super::project::Project;
use super::{Ended, Failure, ask, session};
use crate::engine::{Engine, EngineError};
use crate::observed::Observed;
use crate::render::{self, Style, json};

pub(super) async fn status(global: &Global, _args: &Status, style: Style) -> Result<Ended, Failure> {
    let project = Project::load_leniently(global, style)?;
    let engine = session::connect(global).await?;
    let about = engine.about().await?;
    let group = &project.desired.group;
    let directory = session::state_directory(&about, group);
    let (observed, live) = join(detailed(engine.as_ref(), group), ask::live(&directory)).await;
    let now = SystemTime::now();
    let services = crate::status::status(&project.desired, &observed?, live.as_ref(), now);
    if style.json {
        style.result_json(&json::status(group, &services, live.as_ref()));
    } else {
        style.result(&render::status::table(&services, live.as_ref(), now, style.color_out));
    }
    Ok(Ended::Well)
}

/// What the engine has, with the details of the group's containers.
async fn detailed(engine: &dyn Engine, group: &str) -> Result<Observed, EngineError> {
    let mut observed = engine.list(group, false).await?;
    inspect(engine, group, &mut observed).await?;
    Ok(observed)
}

/// Looks up the details of the group's containers: since when, how often, why.
pub(super) async fn inspect(engine: &dyn Engine, group: &str, observed: &mut Observed) -> Result<(), EngineError> {
    let ids: Vec<String> = observed.of_group(group).map(|container| container.id.clone()).collect();
    let inspected = try_join_all(ids.iter().map(|id| engine.inspect(id))).await?;
    for (id, found) in ids.into_iter().zip(inspected) {
        match found {
            Some(container) => observed.containers.insert(id, container),
            None => observed.containers.remove(&id),
        };
    }
    Ok(())
}
