//! `status`: how each service is.

use std::time::SystemTime;

use futures_util::future::try_join_all;

use super::args::Global;
use super::project::Project;
use super::{Ended, Failure, session};
use crate::engine::{Engine, EngineError};
use crate::observed::Observed;
use crate::render::{self, Style, json};

pub(super) async fn status(global: &Global, style: Style) -> Result<Ended, Failure> {
    let project = Project::load_leniently(global, style)?;
    let engine = session::connect(global).await?;
    let group = &project.desired.group;
    let mut observed = engine.list(group, false).await?;
    inspect(engine.as_ref(), group, &mut observed).await?;
    let services = crate::status::status(&project.desired, &observed);
    if style.json {
        style.result_json(&json::status(group, &services));
    } else {
        style.result(&render::status::table(&services, SystemTime::now(), style.color_out));
    }
    Ok(Ended::Well)
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
