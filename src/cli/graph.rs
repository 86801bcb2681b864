//! `graph`: the dependency graph, as DOT or JSON. Needs no engine.

use super::args::Global;
use super::project::Project;
use super::{Exit, Failure};
use crate::render::{Style, graph};

pub(super) fn graph(global: &Global, style: Style) -> Result<Exit, Failure> {
    let project = Project::load(global, &[])?;
    if style.json {
        style.result_json(&graph::json(&project.desired));
    } else {
        style.result_document(&graph::dot(&project.desired));
    }
    Ok(Exit::Ok)
}
