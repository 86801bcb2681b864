//! Reads what people wrote: the spec directory, `.env`, and files that specs name; once, or again and again. Parses
//! nothing.

use std::collections::{BTreeMap, BTreeSet};
use std::fs;
use std::io;
use std::path::{Path, PathBuf};
use std::sync::{Mutex, PoisonError};
use std::time::{Duration, Instant};

use super::watcher::{self, Places, Watcher, is_hidden, is_spec};
use crate::control::event::Reading;
use crate::control::execute::outputs::{OutputMap, OutputStore};
use crate::engine::build::tree::{self, ContextPaths, Sums, Watched};
use crate::spec::model::Build;
use crate::spec::{Content, MAX_FILE_SIZE, Reach, SourceFile, Tree, TreeError};

/// How deep directories may be nested.
const MAX_DEPTH: usize = 32;
/// How often a reading is made again, at most, because something may have changed under it.
const MAX_ATTEMPTS: usize = 10;

/// What lies in a spec directory.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Sources {
    /// The spec files, sorted by path.
    pub files: Vec<SourceFile>,
    /// The file `.env`, where there is one.
    pub dotenv: Option<SourceFile>,
    /// The directories that were searched, the spec directory among them.
    pub directories: BTreeSet<PathBuf>,
    /// What in them is a symbolic link.
    pub links: BTreeSet<PathBuf>,
}

/// How long the programs of a spec directory may take.
const EVALUATION: Duration = Duration::from_secs(10);

/// Reads a spec directory, recursively. Hidden files and directories are left out: editors and git keep theirs so.
///
/// # Errors
///
/// When the directory itself cannot be read; what is wrong with a file in it is in its [`Content`].
pub fn read(directory: &Path) -> io::Result<Sources> {
    let mut sources = Sources::default();
    let mut seen = BTreeSet::new();
    walk(directory, "", 0, &mut seen, &mut sources)?;
    sources.files.sort_by(|a, b| a.path.cmp(&b.path));
    let dotenv = directory.join(".env");
    if dotenv.exists() {
        sources.dotenv = present(&dotenv, content(&dotenv)).map(|content| SourceFile { path: ".env".into(), content });
    }
    Ok(sources)
}

/// Reads a file that a spec names, relative to the spec directory. The error is a text for people.
///
/// # Errors
///
/// When it cannot be read, or is larger than a spec may be.
pub fn read_further(directory: &Path, path: &str) -> Result<Vec<u8>, String> {
    read_at(&directory.join(path))
}

fn read_at(path: &Path) -> Result<Vec<u8>, String> {
    match content(path) {
        Content::Bytes(bytes) => Ok(bytes),
        Content::TooLarge(size) => Err(format!("it has {size} bytes; at most {MAX_FILE_SIZE} are read")),
        Content::Unreadable(why) => Err(why),
    }
}

/// What programs can reach of a spec directory, until they have had their time.
pub struct Within<'a> {
    directory: &'a Path,
    end: Instant,
}

impl Within<'_> {
    /// For this directory. Their time begins now.
    pub fn new(directory: &Path) -> Within<'_> {
        Within { directory, end: Instant::now() + EVALUATION }
    }
}

impl Reach for Within<'_> {
    fn read(&self, path: &str) -> Result<Vec<u8>, String> {
        read_within(self.directory, path)
    }

    fn list(&self, path: &str) -> Result<Listing, String> {
        list_within(self.directory, path)
    }

    fn expired(&self) -> bool {
        Instant::now() > self.end
    }
}

/// The names in a directory, sorted, and which of them are directories.
type Listing = Vec<(String, bool)>;

/// Where a path leads, which has to be within the directory.
fn within(directory: &Path, path: &str) -> Result<PathBuf, String> {
    let root = directory.canonicalize().map_err(|error| io_message(&error))?;
    let target = root.join(path).canonicalize().map_err(|error| io_message(&error))?;
    match target.starts_with(&root) {
        true => Ok(target),
        false => Err("it is a link that leads out of the spec directory".into()),
    }
}

fn read_within(directory: &Path, path: &str) -> Result<Vec<u8>, String> {
    read_at(&within(directory, path)?)
}

fn list_within(directory: &Path, path: &str) -> Result<Listing, String> {
    let directory = within(directory, path)?;
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

/// Looks at what an image is built from; a relative path is relative to the spec directory.
///
/// # Errors
///
/// When nothing can be built from there.
pub fn look_at_tree(directory: &Path, build: &Build) -> Result<Tree, TreeError> {
    tree::look(&place(directory, build), &Sums::default()).0
}

fn place(directory: &Path, build: &Build) -> ContextPaths {
    ContextPaths::new(directory, &build.context, build.dockerfile.as_deref())
}

fn walk(
    directory: &Path,
    prefix: &str,
    depth: usize,
    seen: &mut BTreeSet<PathBuf>,
    sources: &mut Sources,
) -> io::Result<()> {
    // Links may lead back up.
    if depth > MAX_DEPTH || !seen.insert(directory.canonicalize()?) {
        return Ok(());
    }
    sources.directories.insert(directory.to_owned());
    for entry in fs::read_dir(directory)? {
        let entry = entry?;
        let name = entry.file_name();
        let Some(name) = name.to_str() else { continue };
        if is_hidden(name) {
            continue;
        }
        let path = format!("{prefix}{name}");
        let at = entry.path();
        if entry.file_type().is_ok_and(|kind| kind.is_symlink()) {
            sources.links.insert(at.clone());
        }
        let content = match fs::metadata(&at) {
            Ok(found) if found.is_dir() => match walk(&at, &format!("{path}/"), depth + 1, seen, sources) {
                Ok(()) => continue,
                Err(error) => Content::Unreadable(io_message(&error)),
            },
            _ if is_spec(name) => content(&at),
            _ => continue,
        };
        sources.files.extend(present(&at, content).map(|content| SourceFile { path, content }));
    }
    Ok(())
}

/// What could be read, unless it has gone since its name was: editors move files away for a moment.
fn present(path: &Path, content: Content) -> Option<Content> {
    let gone = matches!(content, Content::Unreadable(_)) && fs::symlink_metadata(path).is_err();
    (!gone).then_some(content)
}

fn content(path: &Path) -> Content {
    match fs::metadata(path) {
        Err(error) => Content::Unreadable(io_message(&error)),
        Ok(found) if !found.is_file() => Content::Unreadable("it is not a regular file".into()),
        Ok(found) if found.len() > MAX_FILE_SIZE => Content::TooLarge(found.len()),
        Ok(_) => match fs::read(path) {
            Ok(bytes) => Content::Bytes(bytes),
            Err(error) => Content::Unreadable(io_message(&error)),
        },
    }
}

fn io_message(error: &io::Error) -> String {
    match error.kind() {
        io::ErrorKind::NotFound => "there is no such file".into(),
        io::ErrorKind::PermissionDenied => "you may not read it".into(),
        _ => error.to_string(),
    }
}

/// What a reading found, to be parsed.
pub struct Found<'a> {
    /// The spec directory, without links where it is there.
    pub directory: &'a Path,
    /// What lies in it, or why it cannot be read.
    pub sources: &'a io::Result<Sources>,
    /// Reads a further file, as [`read_further`]; what was asked for is followed from then on.
    pub read: &'a (dyn Fn(&str) -> Result<Vec<u8>, String> + Sync),
    /// Looks at what an image is built from, as [`look_at_tree`]; followed as well.
    pub tree: &'a (dyn Fn(&Build) -> Result<Tree, TreeError> + Sync),
    /// What programs can reach, as [`Within`]; followed as well.
    pub reach: &'a dyn Reach,
}

/// Parses what was found. Must give the same for the same.
pub type Parse = Box<dyn Fn(Found<'_>) -> Reading + Send + Sync>;

/// Reads a spec directory again and again. What is byte for byte as it was is not parsed again.
pub struct Reader {
    directory: PathBuf,
    parse: Parse,
    watcher: Watcher,
    context: OutputStore,
    sums: Sums,
    last: Mutex<Option<ReadCache>>,
}

impl Reader {
    /// For this directory, an absolute path; links are followed anew each time. What `parse` gives may be made of the
    /// outputs of `context`.
    pub fn new(directory: PathBuf, watcher: Watcher, context: OutputStore, parse: Parse) -> Reader {
        Reader { directory, parse, watcher, context, sums: Sums::default(), last: Mutex::new(None) }
    }

    /// Reads, and tells the watcher what to follow from then on. Blocks; where events cannot be had, also until what
    /// was found stays the same for a while.
    pub fn read(&self) -> Reading {
        let mut last = self.last.lock().unwrap_or_else(PoisonError::into_inner);
        let mut taken = self.again(last.take());
        for _ in 1..MAX_ATTEMPTS {
            let grew = self.watcher.follow(&taken.places(&self.directory));
            let unsettled = taken.new && self.watcher.polls();
            if unsettled {
                // No event tells when whoever writes it is done.
                std::thread::sleep(watcher::DEBOUNCE);
            } else if !grew {
                break;
            }
            taken = self.again(Some(taken));
        }
        self.sums.only(|place| taken.trees.contains_key(place));
        last.insert(taken).reading.clone()
    }

    fn again(&self, last: Option<ReadCache>) -> ReadCache {
        let directory = self.directory.canonicalize().unwrap_or_else(|_| self.directory.clone());
        let (sources, outputs) = (read(&directory), self.context.values());
        let same = last.filter(|last| last.is(&directory, &sources, &outputs));
        match same.and_then(|last| last.with_the_same_trees(&self.sums)) {
            Some(last) => ReadCache { new: false, ..last },
            None => ReadCache::parse(directory, sources, outputs, &self.parse, &self.sums),
        }
    }
}

/// What was read, byte for byte, and what it said.
struct ReadCache {
    directory: PathBuf,
    sources: io::Result<Sources>,
    /// What was asked for beside that, whatever came of it.
    further: BTreeMap<FileQuery, Result<FileResult, String>>,
    /// Outputs of which it may be made.
    outputs: OutputMap,
    /// What was looked at to be built from, what came of it, and what to watch for another answer.
    trees: BTreeMap<ContextPaths, (Result<Tree, TreeError>, Watched)>,
    reading: Reading,
    /// It was not so the time before.
    new: bool,
}

/// A question beside those for the spec files.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
enum FileQuery {
    /// For a file that a spec names.
    Further(String),
    /// For a file that a program reads.
    Within(String),
    /// For the names in a directory.
    Listing(String),
}

/// The answer.
#[derive(Debug, Clone, PartialEq, Eq)]
enum FileResult {
    Bytes(Vec<u8>),
    Names(Listing),
}

impl FileQuery {
    fn ask(&self, directory: &Path) -> Result<FileResult, String> {
        match self {
            FileQuery::Further(path) => read_further(directory, path).map(FileResult::Bytes),
            FileQuery::Within(path) => read_within(directory, path).map(FileResult::Bytes),
            FileQuery::Listing(path) => list_within(directory, path).map(FileResult::Names),
        }
    }

    fn path(&self) -> &str {
        match self {
            FileQuery::Further(path) | FileQuery::Within(path) | FileQuery::Listing(path) => path,
        }
    }
}

/// Takes note of every question.
struct Recorder<'a> {
    within: Within<'a>,
    further: Mutex<BTreeMap<FileQuery, Result<FileResult, String>>>,
}

impl Recorder<'_> {
    fn ask(&self, asked: FileQuery) -> Result<FileResult, String> {
        let given = asked.ask(self.within.directory);
        self.further.lock().unwrap_or_else(PoisonError::into_inner).insert(asked, given.clone());
        given
    }

    fn bytes(&self, asked: FileQuery) -> Result<Vec<u8>, String> {
        self.ask(asked).map(|given| match given {
            FileResult::Bytes(bytes) => bytes,
            FileResult::Names(_) => Vec::new(),
        })
    }
}

impl Reach for Recorder<'_> {
    fn read(&self, path: &str) -> Result<Vec<u8>, String> {
        self.bytes(FileQuery::Within(path.to_owned()))
    }

    fn list(&self, path: &str) -> Result<Listing, String> {
        self.ask(FileQuery::Listing(path.to_owned())).map(|given| match given {
            FileResult::Names(names) => names,
            FileResult::Bytes(_) => Vec::new(),
        })
    }

    fn expired(&self) -> bool {
        self.within.expired()
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
        // Kept here and not by whoever parses, since specs with errors name files too.
        let recorder = Recorder { within: Within::new(&directory), further: Mutex::default() };
        let read = |path: &str| recorder.bytes(FileQuery::Further(path.to_owned()));
        let trees = Mutex::new(BTreeMap::new());
        let tree = |build: &Build| {
            let place = place(&directory, build);
            let (result, watched) = tree::look(&place, sums);
            trees.lock().unwrap_or_else(PoisonError::into_inner).insert(place, (result.clone(), watched));
            result
        };
        let found = Found { directory: &directory, sources: &sources, read: &read, tree: &tree, reach: &recorder };
        let reading = parse(found);
        let further = recorder.further.into_inner().unwrap_or_else(PoisonError::into_inner);
        let trees = trees.into_inner().unwrap_or_else(PoisonError::into_inner);
        ReadCache { directory, sources, further, outputs, trees, reading, new: true }
    }

    /// Whether everything is as it was.
    fn is(&self, directory: &Path, sources: &io::Result<Sources>, outputs: &OutputMap) -> bool {
        let same = match (&self.sources, sources) {
            (Ok(then), Ok(now)) => then == now,
            (Err(then), Err(now)) => then.kind() == now.kind() && then.to_string() == now.to_string(),
            _ => false,
        };
        same && self.directory == directory
            && self.outputs == *outputs
            && self.further.iter().all(|(asked, then)| asked.ask(directory) == *then)
    }

    /// This, where what is built from is as it was. What to watch of it may be another: a directory that is new and
    /// left out by nothing may hold only what is.
    fn with_the_same_trees(mut self, sums: &Sums) -> Option<ReadCache> {
        for (place, (then, watched)) in &mut self.trees {
            let (now, other) = tree::look(place, sums);
            if *then != now {
                return None;
            }
            *watched = other;
        }
        Some(self)
    }

    /// What decides what the next reading gives.
    fn places(&self, root: &Path) -> Places {
        let (directories, links) = match &self.sources {
            Ok(sources) => (sources.directories.clone(), sources.links.clone()),
            Err(_) => Default::default(),
        };
        let further = self.further.keys().map(|asked| self.directory.join(asked.path()));
        let mut entries: BTreeSet<PathBuf> = further.chain(links).collect();
        entries.extend([root.to_owned(), self.directory.join(".env")]);
        let listing =
            |asked: &FileQuery| matches!(asked, FileQuery::Listing(_)).then(|| self.directory.join(asked.path()));
        let listings = self.further.keys().filter_map(listing);
        let watched = self.trees.values().map(|(_, watched)| watched);
        entries.extend(watched.clone().flat_map(|watched| watched.entries.iter().cloned()));
        let trees = watched.flat_map(|watched| watched.directories.iter().cloned()).chain(listings).collect();
        Places { directories, entries, trees }
    }
}
