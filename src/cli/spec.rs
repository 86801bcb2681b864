//! `validate` and `schema`: what needs no engine.

use super::args::Global;
use super::project::Project;
use super::{Ended, Failure};
use crate::render::{Style, count};
use crate::spec;

pub(super) fn validate(global: &Global, style: Style) -> Result<Ended, Failure> {
    let project = Project::load(global)?;
    if style.json {
        style.result_json(&serde_json::json!({ "diagnostics": [] }));
    } else {
        let services = count(project.desired.names().len(), "service");
        style.result(&format!("{}: {services}, no errors\n", project.desired.group));
    }
    Ok(Ended::Well)
}

pub(super) fn schema(style: Style) -> Result<Ended, Failure> {
    style.result_json(&spec::schema());
    Ok(Ended::Well)
}
