//! `import`: compose files as specs.

use std::fs;
use std::io::Write as _;
use std::path::{Path, PathBuf};

use serde_json::json;

use super::args::{Global, Import};
use super::project::{ComposeFiles, Disk, Origin, Project, absolute, env_files};
use super::{Exit, Failure};
use crate::control::specs::sources;
use crate::desired::{Desired, differences};
use crate::engine::io_message;
use crate::render::{LineBreak, Style, Text, diagnostics};
use crate::spec::compose;
use crate::spec::compose::import::{Imported, Services, import as specs_of};
use crate::spec::{Diagnostic, Profiles};

pub(super) fn import(global: &Global, arguments: &Import, style: Style) -> Result<Exit, Failure> {
    let files = [&global.specs[..], &arguments.files].concat();
    let compose = ComposeFiles::new(global, &files)?;
    let project = compose.project(&global.profile)?;
    let into = arguments.into.clone().unwrap_or_else(|| beside(&project.directory));
    let directory = created(&into)?;
    let services = if global.profile.is_empty() { Services::All } else { Services::Active };
    let imported = specs_of(&project, &directory.to_string_lossy(), &Disk, services);
    write(&directory, &imported)?;
    let compared = compare(global, &project, compose, directory, services)?;
    if style.json {
        style.result_json(&to_json(&into, &imported, &compared));
    }
    print(&into, &imported, &compared, style);
    let is_whole = compared.errors.is_empty() && compared.differing.is_empty() && imported.left_out.is_empty();
    Ok(if is_whole { Exit::Ok } else { Exit::Failed })
}

/// The directory `specs` of a project, relative to the working directory if it is below it.
fn beside(project: &str) -> PathBuf {
    let here = std::env::current_dir().unwrap_or_default();
    let project = Path::new(project);
    project.strip_prefix(here).unwrap_or(project).join("specs")
}

/// Returns the directory for the specs, which must not have any.
fn created(path: &Path) -> Result<PathBuf, Failure> {
    fs::create_dir_all(path).map_err(|error| {
        Failure::Usage(format!("cannot create the directory {}: {}", path.display(), io_message(&error)))
    })?;
    let directory = absolute(path)?;
    let known = sources::read(&directory, None).map(|known| known.files).unwrap_or_default();
    match known.first() {
        None => Ok(directory),
        Some(first) => Err(Failure::Usage(format!(
            "{} already has specs, such as {}; write into another directory with --into DIR",
            path.display(),
            first.path
        ))),
    }
}

fn write(directory: &Path, imported: &Imported) -> Result<(), anyhow::Error> {
    for (at, file) in imported.files.iter().enumerate() {
        let path = directory.join(&file.file);
        let written = fs::File::create_new(&path).and_then(|mut created| created.write_all(file.text.as_bytes()));
        if let Err(error) = written {
            // A part of the specs would run a part of the services.
            for written in &imported.files[..at] {
                let _ = fs::remove_file(directory.join(&written.file));
            }
            return Err(anyhow::anyhow!("cannot write {}: {}", path.display(), io_message(&error)));
        }
    }
    Ok(())
}

/// What reading the specs again found.
#[derive(Default)]
struct Compared {
    /// What is invalid in the compose files as services of ours, or in the specs.
    errors: Vec<Diagnostic>,
    /// What services need and is missing: variables, env files, build contexts.
    missing: Vec<Diagnostic>,
    /// Where the specs say something else than the compose files.
    differing: Vec<String>,
}

/// Reads both the compose files and the specs that were made of them: with all profiles, unless services of several
/// exclude each other.
fn compare(
    global: &Global,
    project: &compose::Project,
    files: ComposeFiles,
    directory: PathBuf,
    services: Services,
) -> Result<Compared, Failure> {
    let specs = Origin::Directory(directory, env_files(global)?);
    let all = Profiles::new(&["*".to_owned()], &[]);
    if services == Services::All
        && let Ok(direct) = read(global, Origin::Compose(files.clone()), &all)?
    {
        return Ok(compared(project, Ok(direct), read(global, specs, &all)?));
    }
    let active = Profiles::new(&project.profiles, &[]);
    Ok(compared(project, read(global, Origin::Compose(files), &active)?, read(global, specs, &active)?))
}

/// A desired state and what is missing for it, or what is invalid.
type Reading = Result<(Desired, Vec<Diagnostic>), Vec<Diagnostic>>;

fn read(global: &Global, origin: Origin, profiles: &Profiles) -> Result<Reading, Failure> {
    match Project::read_leniently(global, origin, profiles.clone()) {
        Ok((project, missing)) => Ok(Ok((project.desired, missing))),
        Err(Failure::Specs(errors)) => Ok(Err(errors)),
        Err(failure) => Err(failure),
    }
}

fn compared(project: &compose::Project, direct: Reading, specs: Reading) -> Compared {
    match (direct, specs) {
        // The compose files have it: the specs lack a variable of an env file that they do not read.
        (Ok((_, known)), Ok((_, missing))) if missing.len() > known.len() => {
            Compared { errors: missing, ..Compared::default() }
        }
        (Ok((direct, _)), Ok((specs, missing))) => {
            // What is missing has no value that could be compared.
            let differing = if project.missing.is_empty() { differences(&direct, &specs) } else { Vec::new() };
            Compared { missing, differing, ..Compared::default() }
        }
        (Err(errors), Ok((_, missing))) => Compared { errors, missing, ..Compared::default() },
        (Ok(_), Err(errors)) => Compared { errors, ..Compared::default() },
        (Err(errors), Err(others)) => Compared { errors: [errors, others].concat(), ..Compared::default() },
    }
}

fn to_json(into: &Path, imported: &Imported, compared: &Compared) -> serde_json::Value {
    let files = imported.files.iter().map(|file| {
        let path = into.join(&file.file);
        json!({ "file": path, "kind": file.kind, "name": file.name, "proposal": file.proposal })
    });
    let all = |list: &[Diagnostic]| diagnostics::to_json(list)["diagnostics"].take();
    json!({
        "files": files.collect::<Vec<_>>(),
        "left_out": all(&imported.left_out),
        "errors": all(&compared.errors),
        "missing": all(&compared.missing),
        "differences": compared.differing,
        "notes": all(&imported.notes),
    })
}

fn print(into: &Path, imported: &Imported, compared: &Compared, style: Style) {
    for note in &imported.notes {
        style.located_note(note);
    }
    if !compared.missing.is_empty() {
        style.warnings(&compared.missing);
    }
    // Reading the compose files names what is left out, too.
    let errors = if compared.errors.is_empty() { &imported.left_out } else { &compared.errors };
    if !errors.is_empty() {
        style.diagnostics(errors);
        style.eprintln("the specs are written; what is named above is missing or invalid in them");
    }
    for difference in &compared.differing {
        style.error(format!("the specs differ from the compose files in {difference}"));
    }
    for file in imported.files.iter().filter(|_| !style.json) {
        let path = into.join(&file.file);
        let proposal = file.proposal.as_ref().map(|ping| format!(" (proposed: {ping})")).unwrap_or_default();
        style.result(&(Text::from(format!("{}{proposal}", path.display())) + LineBreak));
    }
}
