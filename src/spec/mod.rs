//! Spec loading: parsing and validation. Every error has a location.
//!
//! Pure: file contents, environment and a reader for further files are passed as arguments.
//!
//! Stages: `yaml` or `starlark` parses a file into located trees (`node`), one per document; `interpolate` substitutes
//! variables; `document` decodes each tree into its kind (`model`, `hook`, `value`, `short`) through `decode`, which
//! reports all errors, not only the first; `check` validates across documents. `load` runs all stages.

pub mod build;
mod check;
pub mod compose;
pub mod decode;
mod document;
pub mod env_file;
pub mod hook;
pub mod interpolate;
mod load;
pub mod locate;
pub mod model;
pub mod node;
pub(crate) mod paths;
mod profiles;
pub mod render_form;
mod schema;
mod seccomp;
pub mod secrets;
mod short;
mod spellings;
#[allow(unsafe_code, reason = "derive macros of the Starlark crate generate unsafe code")]
pub mod starlark;
pub mod value;
pub(crate) mod write;
pub mod yaml;

use std::collections::{BTreeMap, BTreeSet};
use std::fmt;
use std::ops::Range;
use std::sync::Arc;

pub use interpolate::OutputUse;
pub use load::{load, load_compose, no_directory};
pub use locate::{Diagnostic, Location, SourceText};
use model::{Group, Service};
use node::Node;
pub use profiles::Profiles;
pub use schema::schema;
use secrets::{SecretFields, Secrets};
use starlark::Interpreter;

/// Input of spec loading.
#[derive(Clone, Copy)]
pub struct Input<'a> {
    /// Spec directory as displayed, e.g. `specs`.
    pub dir: &'a str,
    /// Spec files of the directory, in any order.
    pub files: &'a [SourceFile],
    /// `.env` files. Later ones override earlier ones.
    pub dotenv: &'a [SourceFile],
    /// Process environment. Takes precedence over `.env`.
    pub environment: &'a BTreeMap<String, String>,
    /// For a command that needs no values: missing variables, env files and build contexts are no errors, but in
    /// [`Specs::missing`]. The fields that use them are unknown, like those that use an unknown output.
    pub lenient: bool,
    /// Active profiles.
    pub profiles: &'a Profiles,
    /// Known outputs of hooks and jobs, by key.
    pub context: &'a BTreeMap<String, String>,
    /// Reads another file, relative to the spec directory. The error is a message for the user.
    pub read: &'a (dyn Fn(&str) -> Result<Vec<u8>, String> + Sync),
    /// Inspects a build context.
    pub tree: &'a (dyn Fn(&model::Build) -> Result<Tree, TreeError> + Sync),
    /// Evaluates Starlark programs.
    pub interpreter: &'a dyn Interpreter,
}

/// File access for Starlark programs: files in the spec directory, with symbolic links resolved. Errors are messages for
/// the user.
pub trait FileAccess {
    /// Reads a file.
    fn read(&self, path: &str) -> Result<Vec<u8>, String>;
    /// Lists a directory: names and whether each is a directory. The spec directory is `""`.
    fn list(&self, path: &str) -> Result<Vec<(String, bool)>, String>;
}

/// Current state of a build context.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub struct Tree {
    /// Absolute path of the context.
    pub context: String,
    /// Dockerfile; a file with its absolute path.
    pub dockerfile: build::Dockerfile,
    /// Hash of all files that are sent to the builder.
    pub digest: String,
    /// The same, file by file.
    pub files: SourceFiles,
}

/// Files of a build context with a short hash of each, by path relative to the context. Directories end with a slash.
#[derive(Clone, Default, PartialEq, Eq, PartialOrd, Ord)]
pub struct SourceFiles(Arc<BTreeMap<String, u64>>);

impl SourceFiles {
    pub fn new(files: BTreeMap<String, u64>) -> SourceFiles {
        SourceFiles(Arc::new(files))
    }

    /// The hashes by path.
    pub fn hashes(&self) -> &BTreeMap<String, u64> {
        &self.0
    }

    /// Paths of the files that were added, changed or removed, sorted. A directory is named only if nothing in it is.
    pub fn changed_since(&self, before: &SourceFiles) -> Vec<String> {
        let differs = |path: &&String| self.0.get(*path) != before.0.get(*path);
        let added_or_changed = self.0.keys().filter(differs);
        let removed = before.0.keys().filter(|path| !self.0.contains_key(*path));
        let changed: BTreeSet<&String> = added_or_changed.chain(removed).collect();
        // What is in a directory follows it.
        let mut changed = changed.into_iter().peekable();
        let mut named = Vec::new();
        while let Some(path) = changed.next() {
            let is_explained = path.ends_with('/') && changed.peek().is_some_and(|next| next.starts_with(path));
            if !is_explained {
                named.push(path.clone());
            }
        }
        named
    }
}

impl fmt::Debug for SourceFiles {
    /// The number of files: there may be many.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} files", self.0.len())
    }
}

/// Error in a build context; messages for the user.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub enum TreeError {
    /// The context is invalid.
    Context(String),
    /// The Dockerfile is invalid.
    Dockerfile(String),
}

/// One file of the spec directory.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct SourceFile {
    /// Path relative to the spec directory, separated by `/`, or absolute.
    pub path: String,
    pub content: Content,
}

/// Content of a spec file.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Content {
    Bytes(Vec<u8>),
    /// Not read: its size in bytes exceeds [`MAX_FILE_SIZE`].
    TooLarge(u64),
    /// Not readable, with a message for the user.
    Unreadable(String),
}

/// Network names that are reserved by the engine.
pub const RESERVED_NETWORKS: [&str; 4] = ["bridge", "default", "host", "none"];

/// Maximum size of a spec file, in bytes.
pub const MAX_FILE_SIZE: u64 = 1024 * 1024;

/// The specs of a directory.
#[derive(Debug, Clone, PartialEq)]
pub struct Specs {
    /// Group document, if any.
    pub group: Option<Loaded<Group>>,
    /// Services and jobs, sorted by name.
    pub services: Vec<Loaded<Service>>,
    /// Those whose profiles are not active, sorted by name, without env files and build contexts.
    pub inactive: Vec<Loaded<Service>>,
    /// Values of the variables that configs and secrets name.
    pub environment: BTreeMap<String, String>,
    /// Other files that were read, relative to the spec directory. Watched together with the specs.
    pub reads: BTreeSet<String>,
    /// Variables used in the specs, set or not.
    pub variables: BTreeSet<String>,
    /// Output of `print` in programs; each line starts with its file.
    pub printed: Vec<String>,
    /// Names and locations of the functions of programs, indexed by function number.
    pub functions: Vec<String>,
    /// Values that are hidden in text.
    pub secrets: Secrets,
    /// What is missing, where that is no error.
    pub missing: Vec<Diagnostic>,
    /// Project of docker compose that the specs were translated from.
    pub project: Option<String>,
    /// What a compose file says that means nothing here, or something else.
    pub notes: Vec<Diagnostic>,
    /// What the user should know once about a compose file.
    pub tips: Vec<Diagnostic>,
}

/// A parsed document.
#[derive(Debug, Clone, PartialEq)]
pub struct Loaded<T> {
    pub spec: T,
    pub source: Source,
    /// Variables of each `env_file`, in the order of the field.
    pub env_files: Vec<BTreeMap<String, String>>,
    /// Uses of outputs in its fields.
    pub uses: Vec<OutputUse>,
    /// Build context, if the image is built.
    pub tree: Option<Tree>,
    /// Seccomp profiles as JSON in its shortest form, by the paths in `security_opt`.
    pub seccomp: BTreeMap<String, String>,
    /// Text of the document's file.
    pub file: Arc<SourceText>,
    /// Node tree of the document, with variables substituted.
    pub root: Node,
    /// Its secret fields.
    pub secrets: SecretFields,
    /// Texts as they are written, by path, of the fields with references; none of documents from compose files.
    pub templates: BTreeMap<String, String>,
}

impl<T> Loaded<T> {
    /// Returns where a field is written, e.g. `specs/app.yaml:12:16`: its value, or its key where that is on an earlier
    /// line. The part of its name behind a dot is a key of the field, or of an item or value of it; where there is none,
    /// as in short forms, the field itself is the place.
    pub fn place(&self, field: &str) -> String {
        let (field, key) = field.split_once('.').map_or((field, None), |(field, key)| (field, Some(key)));
        let outer = self.root.entry(field);
        let inner = outer.zip(key).and_then(|(outer, key)| {
            let within = || outer.value.items().chain(outer.value.entries().map(|entry| &entry.value));
            outer.value.entry(key).or_else(|| within().find_map(|node| node.entry(key)))
        });
        let at = |span: &Range<usize>| Location::new(&self.file, span.clone());
        let location = match inner.or(outer) {
            Some(entry) => {
                let (key, value) = (at(&entry.key.span), at(&entry.value.span));
                if key.line() == value.line() && !entry.value.is_null() { value } else { key }
            }
            None => at(&self.root.span),
        };
        format!("{}:{}:{}", location.file.path(), location.line(), location.column())
    }
}

/// Location of a document: the line of its `name`, or of its first key. Displayed as `app.yaml:12`.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub struct Source {
    /// Path relative to the spec directory.
    pub file: String,
    /// Line, from 1.
    pub line: usize,
}

impl fmt::Display for Source {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}:{}", self.file, self.line)
    }
}
