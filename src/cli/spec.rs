//! `validate`, `render` and `schema`: commands that need no engine.

use super::args::{Global, Render};
use super::project::Project;
use super::{Exit, Failure};
use crate::render::{LineBreak, Style, Text, count, diagnostics, specs};
use crate::spec;
use crate::spec::model::Kind;

pub(super) fn validate(global: &Global, style: Style) -> Result<Exit, Failure> {
    let (project, specs) = Project::with_specs(global, &[], false)?;
    print_program_output(&specs, style);
    project.print_notes(style);
    project.print_tips(style);
    if style.json {
        let notes = diagnostics::list(&[&specs.notes[..], &specs.tips].concat());
        style.result_json(&serde_json::json!({ "diagnostics": [], "notes": notes }));
    } else {
        let jobs = specs.services.iter().filter(|service| matches!(service.spec.kind, Kind::Job(_))).count();
        let services = count(specs.services.len() - jobs, "service");
        let jobs = if jobs == 0 { String::new() } else { format!(", {}", count(jobs, "job")) };
        let text = format!("{}: {services}{jobs}, no errors", project.desired.group);
        style.result(&(Text::from(text) + LineBreak));
    }
    Ok(Exit::Ok)
}

pub(super) fn render(global: &Global, render: &Render, style: Style) -> Result<Exit, Failure> {
    let (project, specs) = Project::with_specs(global, &render.services, false)?;
    project.known(&render.services)?;
    print_program_output(&specs, style);
    project.print_notes(style);
    if style.json {
        style.result_json(&specs::to_json(&specs, &render.services, render.show_values));
    } else {
        style.result_document(&specs::yaml(&specs, &render.services, render.show_values));
    }
    Ok(Exit::Ok)
}

/// Prints the output of `print` in programs.
fn print_program_output(specs: &spec::Specs, style: Style) {
    specs.printed.iter().for_each(|line| style.note(line));
}

pub(super) fn schema(style: Style) -> Result<Exit, Failure> {
    style.result_json(&spec::schema());
    Ok(Exit::Ok)
}
