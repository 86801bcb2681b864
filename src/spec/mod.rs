//! From files to specs: parsed, checked, every error with its place.
//!
//! Pure: the texts of the files, the environment and a way to read further files come in as arguments.
//!
//! The way of a file: `yaml`, or `starlark` for a program, makes located trees (`node`) of it, one for each document;
//! `interpolate` replaces the
//! variables in them; `document` reads each into its kind (`model`, `hook`, `value`, `short`) through `decode`, which
//! finds all that is wrong and not only the first; `check` looks at what holds between them; `load` does all of that.

pub mod build;
mod check;
pub mod decode;
mod document;
pub mod env_file;
pub mod hook;
pub mod interpolate;
mod load;
pub mod locate;
pub mod model;
pub mod node;
pub mod render_form;
mod schema;
mod short;
#[allow(unsafe_code, reason = "the derives of the language's library implement a trait that is marked unsafe")]
pub mod starlark;
pub mod value;
pub mod yaml;

use std::collections::{BTreeMap, BTreeSet};
use std::fmt;

pub use interpolate::OutputUse;
pub use load::{load, no_directory};
pub use locate::{Diagnostic, Location, SourceText};
use model::{Group, Service};
use node::Node;
pub use schema::schema;

/// Everything that specs are made of.
#[derive(Clone, Copy)]
pub struct Input<'a> {
    /// The spec directory as shown to people, e.g. `specs`.
    pub dir: &'a str,
    /// The spec files in it, in any order.
    pub files: &'a [SourceFile],
    /// The file `.env` in it, where there is one.
    pub dotenv: Option<&'a SourceFile>,
    /// The environment of the process; it wins over `.env`.
    pub environment: &'a BTreeMap<String, String>,
    /// Outputs of hooks and jobs that are known, by key.
    pub context: &'a BTreeMap<String, String>,
    /// Reads a further file, its path relative to the spec directory; the error is a text for people.
    pub read: &'a (dyn Fn(&str) -> Result<Vec<u8>, String> + Sync),
    /// Looks at what an image is built from.
    pub tree: &'a (dyn Fn(&model::Build) -> Result<Tree, TreeError> + Sync),
    /// What programs can reach.
    pub reach: &'a dyn Reach,
}

/// What programs can reach while they are evaluated: files within the spec directory, wherever a path or a link in it
/// leads. The errors are texts for people.
pub trait Reach: Sync {
    /// Reads a file.
    fn read(&self, path: &str) -> Result<Vec<u8>, String>;
    /// The names in a directory, and which of them are directories; the spec directory itself is `""`.
    fn list(&self, path: &str) -> Result<Vec<(String, bool)>, String>;
    /// Whether they have taken too long.
    fn expired(&self) -> bool;
}

/// Nothing: for specs that are not programs.
#[derive(Debug, Clone, Copy)]
pub struct Nowhere;

impl Reach for Nowhere {
    fn read(&self, _: &str) -> Result<Vec<u8>, String> {
        Err("there is no such file".into())
    }

    fn list(&self, _: &str) -> Result<Vec<(String, bool)>, String> {
        Ok(Vec::new())
    }

    fn expired(&self) -> bool {
        false
    }
}

/// What an image is built from, as it lies there now.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub struct Tree {
    /// The directory, absolute.
    pub context: String,
    /// The Dockerfile, absolute.
    pub dockerfile: String,
    /// Hash of everything in them that a build is given.
    pub digest: String,
}

/// Why nothing can be built from there; texts for people.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub enum TreeError {
    /// Something is wrong with the context.
    Context(String),
    /// Something is wrong with the Dockerfile.
    Dockerfile(String),
}

/// One file of the spec directory.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct SourceFile {
    /// Path relative to the spec directory, with `/` between its parts.
    pub path: String,
    /// What is in it.
    pub content: Content,
}

/// What is in a file.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Content {
    /// Its bytes.
    Bytes(Vec<u8>),
    /// So many bytes, more than [`MAX_FILE_SIZE`]: there is no need to read it.
    TooLarge(u64),
    /// It cannot be read; the text says why, for people.
    Unreadable(String),
}

/// Names of networks that mean something of their own to the engine; no group's network can have them.
pub const RESERVED_NETWORKS: [&str; 4] = ["bridge", "default", "host", "none"];

/// The largest spec file, in bytes.
pub const MAX_FILE_SIZE: u64 = 1024 * 1024;

/// The specs of a directory.
#[derive(Debug, Clone, PartialEq)]
pub struct Specs {
    /// The Group document, if there is one.
    pub group: Option<Loaded<Group>>,
    /// The services and jobs, sorted by name.
    pub services: Vec<Loaded<Service>>,
    /// Further files that were read, relative to the spec directory: what to watch beside the specs.
    pub reads: BTreeSet<String>,
    /// Variables that the specs name, set or not.
    pub variables: BTreeSet<String>,
    /// What programs printed, each line with its file in front.
    pub printed: Vec<String>,
    /// Functions of programs, as they are called and where they are given, by their numbers.
    pub functions: Vec<String>,
}

/// A document as it was read.
#[derive(Debug, Clone, PartialEq)]
pub struct Loaded<T> {
    /// What it says.
    pub spec: T,
    /// Where it stands.
    pub source: Source,
    /// Contents of its `env_file`s, in their order.
    pub env_files: Vec<BTreeMap<String, String>>,
    /// Outputs that it refers to.
    pub uses: Vec<OutputUse>,
    /// What its image is built from, where it is.
    pub tree: Option<Tree>,
    /// The tree that it was read from, with variables replaced.
    pub root: Node,
}

/// Where a document stands: the line of its `name`, else of its first key. Shown as `app.yaml:12`.
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
