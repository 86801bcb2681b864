//! `diff`: the plan of `up`, printed.

use super::args::{Diff, Global};
use super::project::Project;
use super::{Exit, Failure, groups, session};
use crate::control::local_state::{LocalState, gives_way};
use crate::desired::Desired;
use crate::plan::takeover::Takeover;
use crate::render::{self, Style, json};
use crate::{control, plan};

pub(super) async fn diff(global: &Global, diff: &Diff, style: Style) -> Result<Exit, Failure> {
    let mut project = Project::load(global, &diff.services)?;
    project.print_notes(style);
    let scope = project.with_dependencies(&diff.services, &[])?;
    let engine = session::connect(global).await?;
    let info = engine.about().await?;
    let state_directory = session::state_directory(&info, &project.desired.group)?;
    project.load_outputs(&state_directory, style).map_err(Failure::Specs)?;
    let mut desired = Desired { scope, ..project.desired };
    let local_state = LocalState::new(state_directory);
    let memory = local_state.memory();
    let observed = control::observe(engine.as_ref(), &desired, &memory).await?;
    if diff.adopt {
        let others = groups::other_directories(&desired, &observed);
        desired.adopted.extend(others.into_iter().filter(|path| gives_way(path, &desired.source)));
        desired.takeover = Takeover::of_project(&desired, &observed).ids();
    }
    let forecast = plan::forecast(&desired, &observed, &memory);
    if style.json {
        style.result_json(&json::diff(&desired, &forecast, diff.show_values));
    } else {
        style.result(&render::plan::forecast(&forecast, diff.show_values));
        for note in &forecast.notes {
            style.note(note);
        }
        let last_run = local_state.last_run();
        let failed = desired.services.values().filter(|service| desired.scope.contains(&service.service));
        let failed = failed.filter_map(|service| Some((service, last_run.failure(&desired, &observed, service)?)));
        for (service, failure) in failed {
            style.note(format!("{}: failed in the last run ({}): {}", service.name, failure.reason, failure.message));
        }
        if forecast.changes.is_empty() && forecast.failures.is_empty() {
            style.note("no differences");
        }
    }
    Ok(if !forecast.failures.is_empty() {
        Exit::Invalid
    } else if forecast.changes.is_empty() {
        Exit::Ok
    } else {
        Exit::Failed
    })
}
