//! `top`: the processes of the running containers.

use super::args::{Global, Top};
use super::project::Project;
use super::{Exit, Failure, session};
use crate::engine::EngineError;
use crate::observed::Container;
use crate::render::Style;
use crate::render::top::{self, Running};
use crate::spec::Profiles;

pub(super) async fn top(global: &Global, top: &Top, style: Style) -> Result<Exit, Failure> {
    let project = Project::load_leniently(global, Profiles::all(), style).await?;
    let names = project.known(&top.services)?;
    let engine = session::connect(global).await?;
    let group = project.desired.group.as_str();
    let observed = engine.list(group, false).await?;
    let is_selected = |container: &&Container| {
        let service = container.service_of(group).unwrap_or_default();
        container.is_up() && (names.is_empty() || names.contains(service))
    };
    let mut containers: Vec<&Container> = observed.of_group(group).filter(is_selected).collect();
    containers.sort_by_key(|container| &container.name);
    let mut running = Vec::new();
    for container in containers {
        let Some(identity) = &container.identity else { continue };
        let processes = match engine.top(&container.id).await {
            Ok(processes) => processes,
            // It has ended meanwhile.
            Err(EngineError::NotFound { .. } | EngineError::Conflict { .. }) => continue,
            Err(error) => return Err(error.into()),
        };
        let (service, container) = (identity.service.clone(), container.name.clone());
        running.push(Running { service, replica: identity.replica, container, processes });
    }
    if style.json {
        style.result_json(&top::to_json(group, &running));
    } else {
        style.result(&top::table(&running));
    }
    let idle = names.iter().filter(|name| running.iter().all(|running| running.service != **name));
    for name in idle {
        style.note(format!("{name}: no running container"));
    }
    if names.is_empty() && running.is_empty() {
        style.note(format!("group {group} has 0 running containers"));
    }
    Ok(Exit::Ok)
}
