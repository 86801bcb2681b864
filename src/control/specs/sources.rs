//! Sources of specs: reads the spec directory, `.env` and the files that specs name, once or repeatedly. Parses nothing.

use std::collections::{BTreeMap, BTreeSet};
use std::fs::{self, OpenOptions};
use std::io::{self, Read};
use std::os::unix::fs::OpenOptionsExt;
use std::path::{Path, PathBuf};
use std::sync::{Mutex, PoisonError};

use rustix::fs::{FsWord, PROC_SUPER_MAGIC};

use super::mounts;
use super::watcher::{self, WatchedPaths, Watcher, is_hidden, is_spec};
use crate::control::event::Reading;
use crate::control::execute::outputs::{OutputMap, OutputStore};
use crate::desired::files::MountSourceState;
use crate::engine::build::tree::{self, ContextPaths, Sums, Watched};
use crate::engine::io_message;
use crate::spec::compose::FileKind;
use crate::spec::model::Build;
use crate::spec::{Content, FileAccess, MAX_FILE_SIZE, SourceFile, Tree, TreeError};

/// Maximum nesting of directories.
const MAX_DEPTH: usize = 32;
/// Maximum size of all spec files together, in bytes.
const MAX_TOTAL_SIZE: u64 = 64 * MAX_FILE_SIZE;
/// Type of sysfs, from `statfs(2)`.
const SYSFS_MAGIC: FsWord = 0x6265_6572;
/// How many times the specs are read if they change meanwhile.
const MAX_ATTEMPTS: usize = 10;

/// Content of a spec directory.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Sources {
    /// The spec files, sorted by path.
    pub files: Vec<SourceFile>,
    /// The `.env` files. Later ones override earlier ones.
    pub dotenv: Vec<SourceFile>,
    /// The spec directory and those below it.
    pub directories: BTreeSet<PathBuf>,
    /// Symbolic links in these directories.
    pub links: BTreeSet<PathBuf>,
}

/// Reads a spec directory recursively, without hidden files and directories. The directory itself may be a link, and
/// links to files are followed. Links to directories are followed inside the spec directory only: one to `/` would have
/// everything read and watched.
///
/// Variables are read from `env_files`, which must exist; without them from `.env` in the directory that contains the
/// spec directory and from `.env` in the spec directory, as far as they exist.
///
/// # Errors
///
/// If the directory itself cannot be read. The error of a file is in its [`Content`].
pub fn read(directory: &Path, env_files: Option<&[PathBuf]>) -> io::Result<Sources> {
    let mut walk = Walk { root: directory.canonicalize()?, seen: BTreeSet::new(), sources: Sources::default() };
    walk.visit(directory, "", 0)?;
    let mut sources = walk.sources;
    sources.files.sort_by(|a, b| a.path.cmp(&b.path));
    limit_total(&mut sources.files);
    sources.dotenv = match env_files {
        Some(files) => files.iter().map(|path| read_env_file(path)).collect(),
        None => DOTENV.iter().filter_map(|path| read_dotenv(directory, path)).collect(),
    };
    Ok(sources)
}

/// The `.env` files that are read without `--env-file`, relative to the spec directory.
const DOTENV: [&str; 2] = ["../.env", ".env"];

/// Reads one of [`DOTENV`], if it exists.
fn read_dotenv(directory: &Path, path: &str) -> Option<SourceFile> {
    let full_path = directory.join(path);
    if !full_path.exists() {
        return None;
    }
    let content = unless_removed(&full_path, read_content(&full_path))?;
    Some(SourceFile { path: path.to_owned(), content })
}

/// Reads a file given on the command line.
fn read_env_file(path: &Path) -> SourceFile {
    // Common for "no env file".
    let content = if path == Path::new("/dev/null") { Content::Bytes(Vec::new()) } else { read_content(path) };
    SourceFile { path: path.to_string_lossy().into_owned(), content }
}

/// Drops the content of the files that exceed the maximum size of all files together.
fn limit_total(files: &mut [SourceFile]) {
    let mut total = 0;
    for file in files {
        if let Content::Bytes(bytes) = &file.content {
            total += bytes.len() as u64;
            if total > MAX_TOTAL_SIZE {
                let maximum = MAX_TOTAL_SIZE / (1 << 20);
                file.content = Content::Unreadable(format!("the spec files before it have {maximum} MiB, the maximum"));
            }
        }
    }
}

/// Reads a file that a spec names; `path` is relative to the spec directory.
///
/// # Errors
///
/// If it cannot be read or is larger than [`MAX_FILE_SIZE`].
pub fn read_file(directory: &Path, path: &str) -> Result<Vec<u8>, String> {
    read_at(&directory.join(path))
}

fn read_at(path: &Path) -> Result<Vec<u8>, String> {
    match read_content(path) {
        Content::Bytes(bytes) => Ok(bytes),
        Content::TooLarge(size) => Err(format!("too large: {size} bytes (maximum {MAX_FILE_SIZE})")),
        Content::Unreadable(why) => Err(why),
    }
}

/// Returns what is at a path, links followed.
pub fn kind(path: &Path) -> FileKind {
    match fs::metadata(path) {
        Ok(found) if found.is_dir() => FileKind::Directory,
        Ok(_) => FileKind::File,
        Err(_) => FileKind::Missing,
    }
}

/// Access of programs to a spec directory.
pub struct ProgramFileAccess<'a>(pub &'a Path);

impl FileAccess for ProgramFileAccess<'_> {
    fn read(&self, path: &str) -> Result<Vec<u8>, String> {
        read_inside(self.0, path)
    }

    fn list(&self, path: &str) -> Result<Listing, String> {
        list_inside(self.0, path)
    }
}

/// The names in a directory, sorted; true for directories.
type Listing = Vec<(String, bool)>;

/// Resolves a path, which must be inside the directory.
fn resolve_inside(directory: &Path, path: &str) -> Result<PathBuf, String> {
    let root = directory.canonicalize().map_err(|error| io_message(&error))?;
    let target = root.join(path).canonicalize().map_err(|error| io_message(&error))?;
    match target.starts_with(&root) {
        true => Ok(target),
        false => Err("the link leads out of the spec directory".into()),
    }
}

fn read_inside(directory: &Path, path: &str) -> Result<Vec<u8>, String> {
    read_at(&resolve_inside(directory, path)?)
}

fn list_inside(directory: &Path, path: &str) -> Result<Listing, String> {
    let directory = resolve_inside(directory, path)?;
    let mut names = Vec::new();
    for entry in fs::read_dir(directory).map_err(|error| io_message(&error))? {
        let entry = entry.map_err(|error| io_message(&error))?;
        if let Ok(name) = entry.file_name().into_string() {
            names.push((name, fs::metadata(entry.path()).is_ok_and(|found| found.is_dir())));
        }
    }
    names.sort();
    Ok(names)
}

/// Reads the build context of an image; a relative path is relative to the spec directory.
///
/// # Errors
///
/// If the context or the Dockerfile cannot be read.
pub fn read_tree(directory: &Path, build: &Build) -> Result<Tree, TreeError> {
    tree::look(&context_paths(directory, build), &Sums::default()).0
}

fn context_paths(directory: &Path, build: &Build) -> ContextPaths {
    ContextPaths::new(directory, &build.context, &build.dockerfile)
}

/// A reading of a spec directory under way.
struct Walk {
    /// The spec directory, with links resolved.
    root: PathBuf,
    /// Directories that were visited, with links resolved.
    seen: BTreeSet<PathBuf>,
    sources: Sources,
}

impl Walk {
    fn visit(&mut self, directory: &Path, prefix: &str, depth: usize) -> io::Result<()> {
        let resolved = directory.canonicalize()?;
        if !resolved.starts_with(&self.root) {
            return Err(io::Error::other(format!(
                "it leads to a directory outside of the spec directory, {}; link to its files instead, or start the \
                 name with a dot if it has no specs",
                resolved.display()
            )));
        }
        // A link may lead to a directory above.
        if !self.seen.insert(resolved) {
            return Ok(());
        }
        if depth > MAX_DEPTH {
            return Err(io::Error::other(format!("directories are nested deeper than {MAX_DEPTH}")));
        }
        self.sources.directories.insert(directory.to_owned());
        for entry in fs::read_dir(directory)? {
            self.visit_entry(&entry?, prefix, depth);
        }
        Ok(())
    }

    fn visit_entry(&mut self, entry: &fs::DirEntry, prefix: &str, depth: usize) {
        let file_name = entry.file_name();
        let name = &*file_name.to_string_lossy();
        if is_hidden(name) {
            return;
        }
        let path = format!("{prefix}{name}");
        let full_path = entry.path();
        if file_name.to_str().is_none() {
            if is_spec(name) || full_path.is_dir() {
                let content = Content::Unreadable("its name is not UTF-8; rename it".into());
                self.sources.files.push(SourceFile { path, content });
            }
            return;
        }
        if entry.file_type().is_ok_and(|kind| kind.is_symlink()) {
            self.sources.links.insert(full_path.clone());
        }
        let content = match fs::metadata(&full_path) {
            Ok(found) if found.is_dir() => match self.visit(&full_path, &format!("{path}/"), depth + 1) {
                Ok(()) => return,
                Err(error) => Content::Unreadable(io_message(&error)),
            },
            _ if is_spec(name) => read_content(&full_path),
            _ => return,
        };
        let content = unless_removed(&full_path, content);
        self.sources.files.extend(content.map(|content| SourceFile { path, content }));
    }
}

/// The content of a file; `None` if the file was removed since it was listed: editors move files for a moment.
fn unless_removed(path: &Path, content: Content) -> Option<Content> {
    let removed = matches!(content, Content::Unreadable(_)) && fs::symlink_metadata(path).is_err();
    (!removed).then_some(content)
}

fn read_content(path: &Path) -> Content {
    match fs::metadata(path) {
        Err(error) => Content::Unreadable(io_message(&error)),
        Ok(found) if !found.is_file() => Content::Unreadable("not a regular file".into()),
        Ok(found) if found.len() > MAX_FILE_SIZE => Content::TooLarge(found.len()),
        Ok(_) => match read_limited(path) {
            Ok(bytes) if bytes.len() as u64 > MAX_FILE_SIZE => Content::TooLarge(bytes.len() as u64),
            Ok(bytes) => Content::Bytes(bytes),
            Err(error) => Content::Unreadable(io_message(&error)),
        },
    }
}

/// Reads a file up to one byte more than the limit: it may grow meanwhile. Files of procfs and sysfs are refused: they have
/// no size, and some wait for data forever.
fn read_limited(path: &Path) -> io::Result<Vec<u8>> {
    let flags = rustix::fs::OFlags::NONBLOCK.bits().cast_signed();
    let file = OpenOptions::new().read(true).custom_flags(flags).open(path)?;
    if [PROC_SUPER_MAGIC, SYSFS_MAGIC].contains(&rustix::fs::fstatfs(&file)?.f_type) {
        return Err(io::Error::other("not a regular file"));
    }
    let mut bytes = Vec::new();
    file.take(MAX_FILE_SIZE + 1).read_to_end(&mut bytes)?;
    Ok(bytes)
}

/// Which files have specs.
#[derive(Debug, Clone)]
pub enum Layout {
    /// Those of the spec directory; variables are read from these env files, as [`read`] does.
    Directory(Option<Vec<PathBuf>>),
    /// Those that the parser reads by their names.
    Named,
}

impl Layout {
    /// Reads what is known before parsing; see [`read`].
    ///
    /// # Errors
    ///
    /// If the directory cannot be read.
    pub fn read(&self, directory: &Path) -> io::Result<Sources> {
        match self {
            Layout::Directory(env_files) => read(directory, env_files.as_deref()),
            Layout::Named => Ok(Sources::default()),
        }
    }
}

/// Input of [`Parse`].
pub struct SpecInput<'a> {
    /// The spec directory, with links resolved if it exists.
    pub directory: &'a Path,
    /// Its content, or why it cannot be read.
    pub sources: &'a io::Result<Sources>,
    /// Reads a file that a spec names, as [`read_file`] does, and watches it from then on.
    pub read: &'a (dyn Fn(&str) -> Result<Vec<u8>, String> + Sync),
    /// Looks what is at a path, as [`kind`] does, and watches it from then on.
    pub kind: &'a dyn Fn(&str) -> FileKind,
    /// Reads the build context of an image, as [`read_tree`] does, and watches it from then on.
    pub tree: &'a (dyn Fn(&Build) -> Result<Tree, TreeError> + Sync),
    /// Access of programs, as [`ProgramFileAccess`]; what they read is watched from then on.
    pub file_access: &'a dyn FileAccess,
    /// Looks at the source of a bind mount, as [`mounts::look`] does, and watches it from then on.
    pub look: &'a dyn Fn(&str, bool) -> MountSourceState,
}

/// Parses specs. Must be deterministic.
pub type Parse = Box<dyn Fn(SpecInput<'_>) -> Reading + Send + Sync>;

/// Repeated reader of a spec directory. Unchanged specs are not parsed again.
pub struct Reader {
    directory: PathBuf,
    layout: Layout,
    parse: Parse,
    watcher: Watcher,
    outputs: OutputStore,
    sums: Sums,
    last: Mutex<Option<ReadCache>>,
}

impl Reader {
    /// A reader of this directory, an absolute path; links are resolved at each reading. Specs are also parsed again
    /// when the outputs change.
    pub fn new(directory: PathBuf, layout: Layout, watcher: Watcher, outputs: OutputStore, parse: Parse) -> Reader {
        Reader { directory, layout, parse, watcher, outputs, sums: Sums::default(), last: Mutex::new(None) }
    }

    /// Reads the specs and updates what the watcher watches. Blocks; if the watcher polls, until the specs stay the same
    /// for [`watcher::DEBOUNCE`].
    pub fn read(&self) -> Reading {
        let mut last = self.last.lock().unwrap_or_else(PoisonError::into_inner);
        let mut cache = self.read_again(last.take());
        for _ in 1..MAX_ATTEMPTS {
            let watches_added = self.watcher.follow(&cache.watched_paths(&self.directory, &self.layout));
            let unsettled = cache.new && self.watcher.polls();
            if unsettled {
                // Without events there is no other sign that the files are complete.
                std::thread::sleep(watcher::DEBOUNCE);
            } else if !watches_added {
                break;
            }
            cache = self.read_again(Some(cache));
        }
        self.sums.only(|paths| cache.trees.contains_key(paths));
        last.insert(cache).reading.clone()
    }

    fn read_again(&self, last: Option<ReadCache>) -> ReadCache {
        let directory = self.directory.canonicalize().unwrap_or_else(|_| self.directory.clone());
        let (sources, outputs) = (self.layout.read(&directory), self.outputs.values());
        let same = last.filter(|last| last.is_current(&directory, &sources, &outputs));
        match same.and_then(|last| last.with_current_trees(&self.sums)) {
            Some(last) => ReadCache { new: false, ..last },
            None => ReadCache::parse(directory, sources, outputs, &self.parse, &self.sums),
        }
    }
}

/// One reading: everything that was read, and the result.
struct ReadCache {
    directory: PathBuf,
    sources: io::Result<Sources>,
    /// Answers to queries of specs and programs.
    files: BTreeMap<FileQuery, Result<FileResult, String>>,
    /// Outputs that the specs may use.
    outputs: OutputMap,
    /// Build contexts, and what to watch for changes of each.
    trees: BTreeMap<ContextPaths, (Result<Tree, TreeError>, Watched)>,
    reading: Reading,
    /// It differs from the reading before.
    new: bool,
}

/// Query for something other than the spec files.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
enum FileQuery {
    /// A file that a spec names.
    SpecFile(String),
    /// A file that a program reads.
    ProgramFile(String),
    /// What is at a path.
    Kind(String),
    /// The names in a directory.
    Listing(String),
    /// The source of a bind mount; true: with a digest of its content.
    Mount(String, bool),
}

#[derive(Debug, Clone, PartialEq, Eq)]
enum FileResult {
    Bytes(Vec<u8>),
    Kind(FileKind),
    Names(Listing),
    Mount(MountSourceState),
}

impl FileQuery {
    fn run(&self, directory: &Path) -> Result<FileResult, String> {
        match self {
            FileQuery::SpecFile(path) => read_file(directory, path).map(FileResult::Bytes),
            FileQuery::ProgramFile(path) => read_inside(directory, path).map(FileResult::Bytes),
            FileQuery::Kind(path) => Ok(FileResult::Kind(kind(Path::new(path)))),
            FileQuery::Listing(path) => list_inside(directory, path).map(FileResult::Names),
            FileQuery::Mount(path, content) => Ok(FileResult::Mount(mounts::look(path, *content))),
        }
    }

    fn path(&self) -> &str {
        match self {
            FileQuery::SpecFile(path)
            | FileQuery::ProgramFile(path)
            | FileQuery::Kind(path)
            | FileQuery::Listing(path)
            | FileQuery::Mount(path, _) => path,
        }
    }
}

/// Access to the spec directory that records every query and its result.
struct Recorder<'a> {
    directory: &'a Path,
    files: Mutex<BTreeMap<FileQuery, Result<FileResult, String>>>,
}

impl Recorder<'_> {
    fn run(&self, query: FileQuery) -> Result<FileResult, String> {
        let result = query.run(self.directory);
        self.files.lock().unwrap_or_else(PoisonError::into_inner).insert(query, result.clone());
        result
    }

    fn bytes(&self, query: FileQuery) -> Result<Vec<u8>, String> {
        self.run(query).map(|result| match result {
            FileResult::Bytes(bytes) => bytes,
            FileResult::Kind(_) | FileResult::Names(_) | FileResult::Mount(_) => Vec::new(),
        })
    }
}

impl FileAccess for Recorder<'_> {
    fn read(&self, path: &str) -> Result<Vec<u8>, String> {
        self.bytes(FileQuery::ProgramFile(path.to_owned()))
    }

    fn list(&self, path: &str) -> Result<Listing, String> {
        self.run(FileQuery::Listing(path.to_owned())).map(|result| match result {
            FileResult::Names(names) => names,
            FileResult::Bytes(_) | FileResult::Kind(_) | FileResult::Mount(_) => Vec::new(),
        })
    }
}

impl ReadCache {
    fn parse(
        directory: PathBuf,
        sources: io::Result<Sources>,
        outputs: OutputMap,
        parse: &Parse,
        sums: &Sums,
    ) -> ReadCache {
        // Recorded here and not taken from the parsed specs, because invalid specs name files too.
        let recorder = Recorder { directory: &directory, files: Mutex::default() };
        let read = |path: &str| recorder.bytes(FileQuery::SpecFile(path.to_owned()));
        let kind = |path: &str| match recorder.run(FileQuery::Kind(path.to_owned())) {
            Ok(FileResult::Kind(kind)) => kind,
            _ => FileKind::Missing,
        };
        let trees = Mutex::new(BTreeMap::new());
        let tree = |build: &Build| {
            let paths = context_paths(&directory, build);
            let (result, watched) = tree::look(&paths, sums);
            trees.lock().unwrap_or_else(PoisonError::into_inner).insert(paths, (result.clone(), watched));
            result
        };
        let look = |path: &str, content| match recorder.run(FileQuery::Mount(path.to_owned(), content)) {
            Ok(FileResult::Mount(state)) => state,
            _ => MountSourceState::Unknown,
        };
        let input = SpecInput {
            directory: &directory,
            sources: &sources,
            read: &read,
            kind: &kind,
            tree: &tree,
            file_access: &recorder,
            look: &look,
        };
        let reading = parse(input);
        let files = recorder.files.into_inner().unwrap_or_else(PoisonError::into_inner);
        let trees = trees.into_inner().unwrap_or_else(PoisonError::into_inner);
        ReadCache { directory, sources, files, outputs, trees, reading, new: true }
    }

    /// Returns true if nothing but the build contexts may have changed.
    fn is_current(&self, directory: &Path, sources: &io::Result<Sources>, outputs: &OutputMap) -> bool {
        let same = match (&self.sources, sources) {
            (Ok(then), Ok(now)) => then == now,
            (Err(then), Err(now)) => then.kind() == now.kind() && then.to_string() == now.to_string(),
            _ => false,
        };
        same && self.directory == directory
            && self.outputs == *outputs
            && self.files.iter().all(|(query, then)| query.run(directory) == *then)
    }

    /// This reading, if the build contexts are unchanged. What to watch of them may have changed: a new directory may
    /// contain nothing but ignored files.
    fn with_current_trees(mut self, sums: &Sums) -> Option<ReadCache> {
        for (paths, (then, watched)) in &mut self.trees {
            let (now, watch_now) = tree::look(paths, sums);
            if *then != now {
                return None;
            }
            *watched = watch_now;
        }
        Some(self)
    }

    /// Everything whose change may change the next reading.
    fn watched_paths(&self, root: &Path, layout: &Layout) -> WatchedPaths {
        let (directories, links) = match &self.sources {
            Ok(sources) => (sources.directories.clone(), sources.links.clone()),
            Err(_) => Default::default(),
        };
        let is_watched =
            |result: &Result<FileResult, String>| !matches!(result, Ok(FileResult::Mount(MountSourceState::NoFile)));
        let queries = || self.files.iter().filter(|(_, result)| is_watched(result)).map(|(query, _)| query);
        let (replaceable, files): (Vec<&FileQuery>, Vec<&FileQuery>) =
            queries().partition(|query| matches!(query, FileQuery::Mount(_, false)));
        let full = |query: &FileQuery| self.directory.join(query.path());
        let replaceable = replaceable.into_iter().map(full).collect();
        let files = files.into_iter().map(full);
        let mut entries: BTreeSet<PathBuf> = files.chain(links).collect();
        entries.insert(root.to_owned());
        match layout {
            Layout::Directory(Some(files)) => entries.extend(files.iter().cloned()),
            Layout::Directory(None) => entries.extend(DOTENV.iter().map(|path| self.directory.join(path))),
            Layout::Named => {}
        }
        let listing =
            |query: &FileQuery| matches!(query, FileQuery::Listing(_)).then(|| self.directory.join(query.path()));
        let listings = self.files.keys().filter_map(listing);
        let watched = self.trees.values().map(|(_, watched)| watched);
        entries.extend(watched.clone().flat_map(|watched| watched.entries.iter().cloned()));
        let trees = watched.flat_map(|watched| watched.directories.iter().cloned()).chain(listings).collect();
        WatchedPaths { directories, entries, replaceable, trees }
    }
}
