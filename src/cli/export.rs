//! `export`: writes the specs as a file of another program.

use std::fs::{File, OpenOptions};
use std::io::{ErrorKind, Write};
use std::path::{Path, PathBuf};

use super::args::{Export, ExportCompose, Global};
use super::project::{Origin, Project};
use super::{Exit, Failure, session};
use crate::desired::resolve::ResolveContext;
use crate::engine::io_message;
use crate::export::compose::{Compose, Request, export as to_compose};
use crate::render::{Style, export as printed};

pub(super) fn export(global: &Global, export: &Export, style: Style) -> Result<Exit, Failure> {
    match export {
        Export::Compose(arguments) => compose(global, arguments, style),
    }
}

fn compose(global: &Global, arguments: &ExportCompose, style: Style) -> Result<Exit, Failure> {
    let (project, mut specs) = Project::with_specs(global, &arguments.services, true)?;
    if matches!(project.origin, Origin::Compose(_)) {
        let message = "the specs are compose files already; `docker compose config` prints them as one";
        return Err(Failure::Usage(message.to_owned()));
    }
    project.known(&arguments.services)?;
    if !global.profile.is_empty() {
        specs.inactive.clear();
    }
    let file = arguments.into.as_deref();
    let into = match file {
        Some(file) => target_directory(file, &project.directory)?,
        None => std::env::current_dir().map_err(anyhow::Error::new)?,
    };
    let text = |path: &Path| path.to_string_lossy().into_owned();
    let (directory, home) = (text(&project.directory), session::environment().remove("HOME"));
    let sources = project.origin.layout().read(&project.directory);
    let env_files: Vec<String> =
        sources.map(|sources| sources.dotenv).unwrap_or_default().into_iter().map(|file| file.path).collect();
    let compose = to_compose(&Request {
        specs: &specs,
        services: &arguments.services,
        context: ResolveContext { group: global.group.as_deref(), directory: &directory, home: home.as_deref() },
        into: &text(&into),
        env_files: &env_files,
    });
    if let Some(file) = file {
        write(file, arguments.force, &compose)?;
    }
    if !specs.missing.is_empty() {
        style.warnings(&specs.missing);
    }
    for note in &compose.notes {
        style.located_note(note);
    }
    match file {
        _ if style.json => style.result_document(&printed::compose_json(&compose, file.map(text).as_deref())),
        Some(file) => style.note(format!("wrote {}", file.display())),
        None => style.result_document(&printed::compose_yaml(&compose)),
    }
    Ok(if compose.notes.is_empty() { Exit::Ok } else { Exit::Failed })
}

/// Returns the directory of the file to write. In the spec directory, it would be read as a spec.
fn target_directory(file: &Path, specs: &Path) -> Result<PathBuf, Failure> {
    let failed = |why: &dyn std::fmt::Display| Failure::Usage(format!("--into {}: {why}", file.display()));
    let parent = file.parent().filter(|parent| *parent != Path::new("")).unwrap_or(Path::new("."));
    let directory = parent.canonicalize().map_err(|error| failed(&io_message(&error)))?;
    match directory.starts_with(specs) {
        true => Err(failed(&"it would be read as a spec there; write it beside the spec directory")),
        false => Ok(directory),
    }
}

fn write(file: &Path, force: bool, compose: &Compose) -> Result<(), Failure> {
    let opened = match force {
        true => File::create(file),
        false => OpenOptions::new().write(true).create_new(true).open(file),
    };
    let written = opened.and_then(|mut opened| opened.write_all(printed::compose_yaml(compose).as_bytes()));
    written.map_err(|error| match error.kind() {
        ErrorKind::AlreadyExists => {
            Failure::Usage(format!("--into {}: the file exists; --force overwrites it", file.display()))
        }
        _ => Failure::Other(anyhow::anyhow!("cannot write {}: {}", file.display(), io_message(&error))),
    })
}
