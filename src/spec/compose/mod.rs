//! Reading of compose files: from files to one merged tree in long forms.
//!
//! Pure: files, environment and home directory are passed as arguments. The order is compose's:
//!
//! 1. `files` selects the files and reads `.env`; `names` determines the name of the project.
//! 2. For each document of each file: `interpolate` substitutes variables (`template`), `include` and `extends` bring
//!    in other files, `merge` merges it onto what came before (`reset`: except what is tagged `!reset` or
//!    `!override`), `schema` checks the keys and their types, `canonical` expands short forms (`short`) and `unique`
//!    removes what is defined again.
//! 3. `defaults` and `paths` complete the result; `typed` checks and unifies the values; `normalize` adds what
//!    follows from it: networks, dependencies, names; `consistency` checks references; `environment` reads the env
//!    files.
//!
//! `translate` makes documents of ours of it, `import` writes them down.
//!
//! The result has only long forms, as `docker compose config` prints them, with two exceptions: sizes and durations
//! stay as they were written, and the content of env files is not inserted. Every node keeps its span.

mod canonical;
mod consistency;
mod environment;
mod extends;
mod files;
pub mod import;
mod include;
mod interpolate;
mod loader;
mod merge;
mod names;
mod normalize;
mod paths;
mod reset;
mod schema;
mod short;
mod sources;
pub mod template;
pub mod translate;
mod typed;
mod unique;
mod values;
pub mod words;

use std::collections::{BTreeMap, BTreeSet};
use std::ops::Range;
use std::sync::Arc;

use super::locate::{Diagnostic, Location, SourceText};
use super::node::Node;

pub use files::{FILE_NAMES, OVERRIDE_NAMES};
pub use typed::{bytes, duration};

/// What is at a path.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum FileKind {
    Missing,
    File,
    Directory,
}

/// File access; all paths are absolute. Errors are messages for the user.
pub trait Files {
    /// Returns what is at a path, following symbolic links.
    fn kind(&self, path: &str) -> FileKind;
    /// Reads a file.
    fn read(&self, path: &str) -> Result<Vec<u8>, String>;
}

/// What to read. Paths are absolute or relative to the working directory.
#[derive(Clone, Copy)]
pub struct Request<'a> {
    /// Compose files (`-f`), in order; none to find them.
    pub files: &'a [String],
    /// Env files (`--env-file`) instead of `.env`.
    pub env_files: &'a [String],
    /// Profiles to activate (`--profile`); none for those of `COMPOSE_PROFILES`.
    pub profiles: &'a [String],
    /// Services that are named on the command line; their own profiles are active.
    pub services: &'a [String],
    /// Name of the project (`--project-name`).
    pub name: Option<&'a str>,
    /// Directory of the project instead of that of the first file (`--project-directory`).
    pub directory: Option<&'a str>,
    /// Absolute path of the working directory.
    pub working_directory: &'a str,
    /// Home directory, for `~`.
    pub home: Option<&'a str>,
    /// Process environment.
    pub environment: &'a BTreeMap<String, String>,
    /// Required variables and env files that are missing are no errors, but in [`Project::missing`].
    pub lenient: bool,
    pub access: &'a dyn Files,
}

/// A project as its compose files define it.
pub struct Project {
    pub name: String,
    /// Absolute path of the directory of the project.
    pub directory: String,
    /// The compose files that were selected, as absolute paths, in order. Without those that they include or extend.
    pub files: Vec<String>,
    /// The merged documents in long forms, with all services, active or not.
    pub root: Node,
    /// The files that the spans refer to.
    pub text: Arc<SourceText>,
    /// Variables of the process and of `.env`.
    pub environment: BTreeMap<String, String>,
    /// Active profiles.
    pub profiles: Vec<String>,
    /// Services of which no profile is active.
    pub inactive: BTreeSet<String>,
    /// Variables from the env files of each active service, without those of its `environment`.
    pub env_files: BTreeMap<String, BTreeMap<String, String>>,
    /// Labels from the label files of each active service, without those of its `labels`.
    pub label_files: BTreeMap<String, BTreeMap<String, String>>,
    /// Contents of the secrets and configs that are variables, by section (`secrets`, `configs`) and name; without
    /// those of which the variable is not set.
    pub contents: BTreeMap<(&'static str, String), String>,
    /// Names of the variables that the files refer to, set or not.
    pub variables: BTreeSet<String>,
    /// What the user should know: variables that are not set, deprecated keys.
    pub notes: Vec<Diagnostic>,
    /// What is missing, where that is no error.
    pub missing: Vec<Diagnostic>,
    templates: Templates,
}

/// Original texts of the scalars into which a variable was inserted, by start and end of their span.
type Templates = BTreeMap<(usize, usize), String>;

impl Project {
    /// Returns the location of a span.
    pub fn location(&self, span: &Range<usize>) -> Location {
        Location::new(&self.text, span.clone())
    }

    /// Returns the text of a span in its file.
    pub fn source(&self, span: &Range<usize>) -> &str {
        self.text.slice(span)
    }

    /// Returns the original text of a scalar into which a variable was inserted, before substitution. The nodes of an
    /// expanded short form have the span of the short form, and its text.
    pub fn template(&self, span: &Range<usize>) -> Option<&str> {
        self.templates.get(&(span.start, span.end)).map(String::as_str)
    }

    /// Returns the services that are active, with their names.
    pub fn active_services(&self) -> impl Iterator<Item = (&str, &Node)> {
        let services = self.root.get("services").into_iter().flat_map(Node::entries);
        let services = services.map(|entry| (entry.key.text.as_str(), &entry.value));
        services.filter(|(name, _)| !self.inactive.contains(*name))
    }

    /// Returns the variables, with those that secrets and configs of included projects name.
    pub fn file_variables(&self) -> BTreeMap<String, String> {
        let mut variables = self.environment.clone();
        for ((section, name), content) in &self.contents {
            let definition = self.root.get(section).and_then(|all| all.get(name)?.get("environment")?.text());
            variables.extend(definition.map(|variable| (variable.to_owned(), content.clone())));
        }
        variables
    }

    /// Returns the environment of an active service: of its env files and its `environment`, which takes precedence.
    /// `None` removes a variable of the image.
    pub fn environment_of(&self, service: &str) -> BTreeMap<String, Option<String>> {
        let files = self.env_files.get(service).into_iter().flatten();
        let mut all: BTreeMap<_, _> = files.map(|(key, value)| (key.clone(), Some(value.clone()))).collect();
        let own = self.root.get("services").and_then(|services| services.get(service)?.get("environment"));
        for entry in own.into_iter().flat_map(Node::entries) {
            let value = (!entry.value.is_null()).then(|| entry.value.text().unwrap_or_default().to_owned());
            all.insert(entry.key.text.clone(), value);
        }
        all
    }
}

/// Result of reading a project.
pub struct Loaded {
    /// The project, or all errors, ordered by file and position; `None` if there are no compose files.
    pub project: Option<Result<Project, Vec<Diagnostic>>>,
    /// Absolute paths that the result depends on, existing or not.
    pub reads: BTreeSet<String>,
}

/// Reads the compose files of a project.
pub fn load(request: &Request<'_>) -> Loaded {
    let mut loader = loader::Loader::new(request);
    let project = loader.project();
    let reads = std::mem::take(&mut loader.reads);
    let project = match project {
        Ok(project) => project.map(Ok),
        Err(loader::Failed) => Some(Err(loader.errors())),
    };
    Loaded { project, reads }
}

/// Returns the directory of a project; `None` if there are no compose files. If they cannot be selected because of an
/// error, it is the directory where they were looked for.
pub fn directory(request: &Request<'_>) -> Option<String> {
    let mut loader = loader::Loader::new(request);
    match loader.select() {
        Ok(selection) => selection.map(|selection| selection.directory),
        Err(loader::Failed) => Some(loader.default_directory()),
    }
}

/// Error or note about a span.
#[derive(Debug, Clone, PartialEq, Eq)]
struct Problem {
    span: Range<usize>,
    message: String,
    label: &'static str,
    related: Option<(Range<usize>, &'static str)>,
    hint: Option<String>,
}

impl Problem {
    fn new(span: &Range<usize>, message: impl Into<String>) -> Problem {
        Problem { span: span.clone(), message: message.into(), label: "", related: None, hint: None }
    }

    fn hint(self, hint: impl Into<String>) -> Problem {
        Problem { hint: Some(hint.into()), ..self }
    }

    fn related(self, span: &Range<usize>, label: &'static str) -> Problem {
        Problem { related: Some((span.clone(), label)), ..self }
    }
}
