//! Where the specs of a command are: a spec directory, or compose files.

use std::collections::BTreeMap;
use std::io;
use std::path::{Path, PathBuf};

use super::super::args::Global;
use super::super::{Failure, session};
use super::{absolute, env_files};
use crate::control::specs::sources::{self, Layout, SpecInput};
use crate::engine::io_message;
use crate::spec::compose::{self, FileKind, Files};
use crate::spec::{self, Diagnostic, Profiles, Specs};

/// The spec directory of a command without `--specs`.
const DEFAULT: &str = "specs";

/// Where the specs are.
#[derive(Clone)]
pub(in crate::cli) enum Origin {
    /// A spec directory, as it was given, and the files of `--env-file`.
    Directory(PathBuf, Option<Vec<PathBuf>>),
    Compose(ComposeFiles),
}

/// Compose files, and what the command line says about them.
#[derive(Clone)]
pub(in crate::cli) struct ComposeFiles {
    /// Named files; none to find them.
    files: Vec<String>,
    env_files: Vec<String>,
    name: Option<String>,
    directory: Option<String>,
    working_directory: String,
    environment: BTreeMap<String, String>,
}

impl Origin {
    /// Selects the specs: those of `--specs`, otherwise those in `specs`, otherwise the compose files that docker compose
    /// would find.
    pub fn select(global: &Global) -> Result<Origin, Failure> {
        let directory = |path: PathBuf| Ok(Origin::Directory(path, env_files(global)?));
        match global.specs.as_slice() {
            [] => {
                let (own, found) = (directory(DEFAULT.into())?, ComposeFiles::new(global, &[])?);
                // The specs are read to decide only where there is a choice.
                if found.project_directory().is_none() {
                    return Ok(own);
                }
                let has_specs = || Ok::<_, Failure>(!own.is_empty(&own.layout().read(&own.directory()?)));
                let is_own = global.project_directory.is_none() && has_specs()?;
                Ok(if is_own { own } else { Origin::Compose(found) })
            }
            [path] if has_compose_file(path) => {
                let working_directory = absolute(path)?.to_string_lossy().into_owned();
                Ok(Origin::Compose(ComposeFiles { working_directory, ..ComposeFiles::new(global, &[])? }))
            }
            [path] if path.is_dir() || !path.exists() && !is_yaml(path) => directory(path.clone()),
            files => match files.iter().find(|path| path.is_dir()) {
                Some(path) => Err(Failure::Usage(format!(
                    "--specs {} is a directory: name one directory, or compose files",
                    path.display()
                ))),
                None => Ok(Origin::Compose(ComposeFiles::new(global, files)?)),
            },
        }
    }

    /// The directory that owns the group, absolute, with links resolved if it exists.
    pub fn directory(&self) -> Result<PathBuf, Failure> {
        match self {
            Origin::Directory(path, _) => absolute(path),
            Origin::Compose(files) => absolute(Path::new(&match files.project_directory() {
                Some(directory) => directory,
                // The error of reading it is reported later.
                None => files.working_directory.clone(),
            })),
        }
    }

    /// As [`Origin::directory`], with links.
    pub fn unresolved_directory(&self) -> Result<PathBuf, Failure> {
        match self {
            Origin::Directory(path, _) => super::absolute_unresolved(path),
            Origin::Compose(_) => self.directory(),
        }
    }

    /// How to name the specs in messages.
    pub fn display(&self) -> String {
        match self {
            Origin::Directory(path, _) => path.display().to_string(),
            Origin::Compose(files) if files.files.is_empty() => "the compose file".to_owned(),
            Origin::Compose(files) => files.files.join(", "),
        }
    }

    pub fn layout(&self) -> Layout {
        match self {
            Origin::Directory(_, env_files) => Layout::Directory(env_files.clone()),
            Origin::Compose(_) => Layout::Named,
        }
    }

    /// Returns true if there is no spec file or no directory.
    pub fn is_empty(&self, sources: &io::Result<sources::Sources>) -> bool {
        matches!(self, Origin::Directory(..))
            && match sources {
                Ok(sources) => sources.files.is_empty(),
                Err(error) => error.kind() == io::ErrorKind::NotFound,
            }
    }
}

/// Returns true for the directory of a compose project: a spec directory has no such file.
fn has_compose_file(directory: &Path) -> bool {
    let is_compose = |text: String| text.lines().any(|line| line.starts_with("services:"));
    compose::FILE_NAMES.iter().any(|name| std::fs::read_to_string(directory.join(name)).is_ok_and(is_compose))
}

fn is_yaml(path: &Path) -> bool {
    path.extension().is_some_and(|extension| extension == "yaml" || extension == "yml")
}

impl ComposeFiles {
    pub fn new(global: &Global, files: &[PathBuf]) -> Result<ComposeFiles, Failure> {
        let text = |path: &PathBuf| path.to_string_lossy().into_owned();
        let working_directory = std::env::current_dir().map_err(anyhow::Error::new)?;
        Ok(ComposeFiles {
            files: files.iter().map(text).collect(),
            env_files: global.env_file.iter().map(text).collect(),
            name: global.group.clone(),
            directory: global.project_directory.as_ref().map(text),
            working_directory: text(&working_directory),
            environment: session::environment(),
        })
    }

    fn request<'a>(
        &'a self,
        profiles: &'a [String],
        services: &'a [String],
        lenient: bool,
        access: &'a dyn Files,
    ) -> compose::Request<'a> {
        compose::Request {
            files: &self.files,
            env_files: &self.env_files,
            profiles,
            services,
            name: self.name.as_deref(),
            directory: self.directory.as_deref(),
            working_directory: &self.working_directory,
            home: self.environment.get("HOME").map(String::as_str),
            environment: &self.environment,
            lenient,
            access,
        }
    }

    /// The directory of the project; `None`: there are no compose files.
    fn project_directory(&self) -> Option<String> {
        compose::directory(&self.request(&[], &[], true, &Disk))
    }

    /// Reads the project with these profiles, without the values that are missing.
    pub fn project(&self, profiles: &[String]) -> Result<compose::Project, Failure> {
        match compose::load(&self.request(profiles, &[], true, &Disk)).project {
            Some(project) => project.map_err(Failure::Specs),
            None => Err(Failure::Specs(vec![self.not_found()])),
        }
    }

    fn not_found(&self) -> Diagnostic {
        let names = compose::FILE_NAMES.join("`, `");
        Diagnostic::new(format!("no compose file found: neither `{names}` here nor in a directory above"))
            .hint("name it, for example `drillmaster import docker/compose.yaml`".to_owned())
    }

    /// Reads the project and translates it into specs.
    pub fn parse(
        &self,
        input: &SpecInput<'_>,
        profiles: &Profiles,
        lenient: bool,
        load: impl FnOnce(&compose::Project, &Profiles) -> Result<Specs, Vec<Diagnostic>>,
    ) -> Result<Specs, Vec<Diagnostic>> {
        let (names, services) = (profiles.names(), profiles.services());
        let loaded = compose::load(&self.request(&names, &services, lenient, &Recorded(input)));
        for path in &loaded.reads {
            (input.kind)(path);
        }
        match loaded.project {
            Some(Ok(project)) => load(&project, &Profiles::new(&project.profiles, &services)),
            Some(Err(errors)) => Err(errors),
            None => Err(vec![nothing_found()]),
        }
    }
}

/// Files as a reading accesses them.
struct Recorded<'a>(&'a SpecInput<'a>);

impl Files for Recorded<'_> {
    fn kind(&self, path: &str) -> FileKind {
        (self.0.kind)(path)
    }

    fn read(&self, path: &str) -> Result<Vec<u8>, String> {
        (self.0.read)(path)
    }
}

/// Files, before any reading.
pub(in crate::cli) struct Disk;

impl Files for Disk {
    fn kind(&self, path: &str) -> FileKind {
        sources::kind(Path::new(path))
    }

    fn read(&self, path: &str) -> Result<Vec<u8>, String> {
        sources::read_file(Path::new("/"), path)
    }
}

/// The error for a spec directory that cannot be read.
pub(super) fn unreadable(display_path: &str, error: &io::Error) -> Diagnostic {
    if error.kind() == io::ErrorKind::NotFound {
        return if display_path == DEFAULT { nothing_found() } else { spec::no_directory(display_path) };
    }
    let diagnostic = Diagnostic::new(format!("cannot read directory `{display_path}`: {}", io_message(error)));
    let is_file = error.kind() == io::ErrorKind::NotADirectory;
    let hint = is_file.then(|| "`--specs` takes the directory that contains the specs, or compose files".to_owned());
    diagnostic.hint(hint)
}

/// The error if there is neither the spec directory that is looked for without `--specs`, nor a compose file.
fn nothing_found() -> Diagnostic {
    let names = compose::FILE_NAMES.map(|name| format!("`{name}`")).join(", ");
    Diagnostic::new(format!("no specs found: neither the directory `{DEFAULT}` nor a compose file")).hint(format!(
        "create `{DEFAULT}` and add specs, or select a directory or compose files with `--specs`; compose files are looked \
         for here and in the directories above: {names}"
    ))
}
