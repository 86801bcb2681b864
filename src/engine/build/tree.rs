//! The files of a build context, and a digest of everything in them that affects the image.
//!
//! Relevant are paths, contents, executable bits and targets of symbolic links.
//! Times and owners do not. Reads files; sends nothing.

use std::collections::{BTreeMap, BTreeSet, HashMap};
use std::fs::{self, File, Metadata};
use std::io::{self, Read};
use std::os::unix::ffi::OsStrExt;
use std::os::unix::fs::MetadataExt;
use std::path::{Component, Path, PathBuf};
use std::sync::{Mutex, PoisonError};
use std::time::{Duration, SystemTime};

use sha2::{Digest, Sha256};

use super::ignore::Ignore;
use crate::engine::io_message;
use crate::spec::build::{DOCKERFILE_INLINE, Dockerfile};
use crate::spec::{SourceFiles, Tree, TreeError};

/// Name of the ignore file.
pub(super) const IGNORE: &str = ".dockerignore";
/// Size limit of the ignore file and the Dockerfile, in bytes.
const LONGEST: u64 = 1024 * 1024;
/// A file that was changed less than this before it was read may be changed again without a trace in its times.
const SETTLED: Duration = Duration::from_secs(2);
/// Size of a read, in bytes.
const PIECE: usize = 64 * 1024;

/// A digest of a file.
pub(super) type Sum = [u8; 32];

/// The entries of a context that are not ignored.
#[derive(Debug)]
pub(super) struct Files {
    /// By path relative to the context; a directory precedes its entries.
    pub entries: BTreeMap<PathBuf, Kind>,
    /// Content of the Dockerfile.
    pub dockerfile: Vec<u8>,
    /// Its path relative to the context, if it is one of the entries.
    pub inside: Option<PathBuf>,
}

/// A kind of entry.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Kind {
    Directory,
    File,
    /// A symbolic link and its target.
    Link(PathBuf),
}

/// Paths to watch for changes, beside the contents of the files.
#[derive(Debug, Default, Clone, PartialEq, Eq)]
pub struct Watched {
    /// Directories in which every entry matters.
    pub directories: BTreeSet<PathBuf>,
    /// Single files and directories, which may not exist.
    pub entries: BTreeSet<PathBuf>,
}

/// Absolute paths of a context and its Dockerfile.
#[derive(Debug, Clone, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct ContextPaths {
    /// The directory.
    pub context: PathBuf,
    /// The Dockerfile.
    pub dockerfile: Dockerfile<PathBuf>,
}

impl ContextPaths {
    /// From paths in a spec: the context relative to a directory, the Dockerfile relative to the context.
    pub fn new(directory: &Path, context: &str, dockerfile: &Dockerfile) -> ContextPaths {
        let home = context.strip_prefix("~/").zip(std::env::home_dir());
        let context = home.map_or_else(|| directory.join(context), |(rest, home)| home.join(rest));
        let context = lexical(&context);
        let dockerfile = dockerfile.clone().map(|path| lexical(&context.join(path)));
        ContextPaths { context, dockerfile }
    }
}

/// Resolves `.` and `..` without following links.
fn lexical(path: &Path) -> PathBuf {
    let mut clean = PathBuf::new();
    for part in path.components() {
        match part {
            Component::CurDir => {}
            Component::ParentDir => _ = clean.pop(),
            part => clean.push(part),
        }
    }
    clean
}

/// Reads the entries of a context, and the paths to watch for changes.
pub fn look(paths: &ContextPaths, sums: &Sums) -> (Result<Tree, TreeError>, Watched) {
    let mut watched = Watched::default();
    let known = sums.of(paths);
    let mut seen = HashMap::new();
    let result = find(paths, &mut watched).and_then(|files| {
        let mut digesting = Digesting::new(&files.dockerfile);
        let mut hashes = recipe_hashes(paths, &files.dockerfile);
        for (path, kind) in &files.entries {
            let at = paths.context.join(path);
            let name = path.to_string_lossy().into_owned();
            match kind {
                Kind::Directory => {
                    digesting.directory(path);
                    hashes.insert(name + "/", 0);
                }
                Kind::Link(target) => {
                    digesting.link(path, target);
                    hashes.insert(name, short(&Sha256::digest(target.as_os_str().as_bytes()).into()));
                }
                Kind::File => match sum_of(&at, known.get(path)) {
                    Ok((executable, sum, stamp)) => {
                        digesting.file(path, executable, &sum);
                        hashes.insert(name, short(&sum) ^ u64::from(executable));
                        if stamp.is_settled() {
                            seen.insert(path.clone(), (stamp, sum));
                        }
                    }
                    // It was removed since it was listed.
                    Err(error) if error.kind() == io::ErrorKind::NotFound => {}
                    Err(error) => return Err(unreadable(path, &error)),
                },
            }
        }
        Ok(Tree {
            context: paths.context.to_string_lossy().into_owned(),
            dockerfile: paths.dockerfile.clone().map(|path| path.to_string_lossy().into_owned()),
            digest: digesting.finish(),
            files: SourceFiles::new(hashes),
        })
    });
    sums.keep(paths, seen);
    (result, watched)
}

/// Hashes of the Dockerfile and of the ignore files, which may be ignored or lie outside of the context.
fn recipe_hashes(paths: &ContextPaths, dockerfile: &[u8]) -> BTreeMap<String, u64> {
    let hash = |bytes: &[u8]| short(&Sha256::digest(bytes).into());
    let name = |path: &Path| path.strip_prefix(&paths.context).unwrap_or(path).to_string_lossy().into_owned();
    let ignore_files =
        ignore_paths(paths).into_iter().filter_map(|path| Some((name(&path), hash(&small(&path).ok()?))));
    let dockerfile_name = paths.dockerfile.file().map_or_else(|| DOCKERFILE_INLINE.to_owned(), |path| name(path));
    ignore_files.chain([(dockerfile_name, hash(dockerfile))]).collect()
}

/// The start of a digest, to tell versions of one file apart.
fn short(sum: &Sum) -> u64 {
    sum.iter().take(8).fold(0, |hash, byte| hash << 8 | u64::from(*byte))
}

/// Finds the entries that are not ignored.
pub(super) fn find(paths: &ContextPaths, watched: &mut Watched) -> Result<Files, TreeError> {
    let ContextPaths { context, dockerfile } = paths;
    watched.entries.extend([context].into_iter().chain(dockerfile.file()).cloned());
    let root = match fs::metadata(context) {
        Ok(found) if !found.is_dir() => return Err(TreeError::Context("not a directory".into())),
        Ok(_) => context.canonicalize().map_err(|error| TreeError::Context(io_message(&error)))?,
        Err(error) => return Err(TreeError::Context(io_message(&error))),
    };
    let dockerfile_text = match dockerfile {
        Dockerfile::File(path) => small(path).map_err(TreeError::Dockerfile)?,
        Dockerfile::Inline(text) => text.clone().into_bytes(),
    };
    let ignore = ignore(paths, watched)?;
    let mut entries = BTreeMap::new();
    let mut open = vec![(root, PathBuf::new(), ignore.top())];
    while let Some((directory, prefix, above)) = open.pop() {
        let listed = fs::read_dir(&directory);
        // Also if it cannot be read: that may change.
        watched.directories.insert(directory.clone());
        let listed = match listed {
            Ok(listed) => listed,
            Err(error) if error.kind() == io::ErrorKind::NotFound && !prefix.as_os_str().is_empty() => continue,
            Err(error) => return Err(unreadable(&prefix, &error)),
        };
        for entry in listed {
            let entry = entry.map_err(|error| unreadable(&prefix, &error))?;
            let path = prefix.join(entry.file_name());
            let text = path.to_string_lossy();
            let matches = ignore.matches(&text, &above);
            let ignored_paths = ignore.leaves_out(&matches);
            let kind = match entry.file_type() {
                Ok(kind) => kind,
                // It was removed since it was listed.
                Err(error) if error.kind() == io::ErrorKind::NotFound => continue,
                Err(error) => return Err(unreadable(&path, &error)),
            };
            if kind.is_dir() && (!ignored_paths || ignore.takes_back_in(&text)) {
                open.push((entry.path(), path.clone(), matches));
            }
            if ignored_paths {
                continue;
            }
            if kind.is_dir() {
                entries.insert(path, Kind::Directory);
            } else if kind.is_symlink() {
                let target = fs::read_link(entry.path()).map_err(|error| unreadable(&path, &error))?;
                entries.insert(path, Kind::Link(target));
            } else if kind.is_file() {
                entries.insert(path, Kind::File);
            }
            // Sockets, pipes and devices are skipped.
        }
    }
    let inside = dockerfile.file().and_then(|path| path.strip_prefix(context).ok());
    let inside = inside.filter(|path| entries.get(*path) == Some(&Kind::File)).map(Path::to_owned);
    Ok(Files { entries, dockerfile: dockerfile_text, inside })
}

/// The ignore file: `NAME.dockerignore` beside the Dockerfile, else the one of the context.
fn ignore(paths: &ContextPaths, watched: &mut Watched) -> Result<Ignore, TreeError> {
    for path in ignore_paths(paths) {
        watched.entries.insert(path.clone());
        if fs::symlink_metadata(&path).is_ok() {
            let name = path.file_name().unwrap_or_default().to_string_lossy().into_owned();
            let text = small(&path).map_err(|why| TreeError::Context(format!("{name}: {why}")))?;
            let ignore = Ignore::parse(&String::from_utf8_lossy(&text));
            return ignore.map_err(|why| TreeError::Context(format!("{name}: {why}")));
        }
    }
    Ignore::parse("").map_err(TreeError::Context)
}

/// Where the ignore file may be; the first counts.
fn ignore_paths(paths: &ContextPaths) -> Vec<PathBuf> {
    let own = paths.dockerfile.file().map(|dockerfile| {
        let mut own = dockerfile.clone().into_os_string();
        own.push(IGNORE);
        own.into()
    });
    own.into_iter().chain([paths.context.join(IGNORE)]).collect()
}

/// Reads a small file.
fn small(path: &Path) -> Result<Vec<u8>, String> {
    let found = fs::metadata(path).map_err(|error| io_message(&error))?;
    if !found.is_file() {
        return Err("not a regular file".into());
    }
    if found.len() > LONGEST {
        return Err(format!("it has {} bytes; at most {LONGEST} are read", found.len()));
    }
    fs::read(path).map_err(|error| io_message(&error))
}

fn unreadable(path: &Path, error: &io::Error) -> TreeError {
    let shown = if path.as_os_str().is_empty() { Path::new(".") } else { path };
    let why = io_message(error);
    TreeError::Context(format!("{} cannot be read: {why} ({IGNORE} can leave it out)", shown.display()))
}

/// Cached digests of files, so that unchanged files are not read again.
#[derive(Debug, Default)]
pub struct Sums(Mutex<HashMap<ContextPaths, Known>>);

/// The files of one context, by path.
type Known = HashMap<PathBuf, (Stamp, Sum)>;

/// Identifies the version of a file.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
struct Stamp {
    size: u64,
    inode: u64,
    modified: (i64, i64),
    /// Time of any change, also one that sets the other time back.
    changed: (i64, i64),
}

impl Stamp {
    fn of(found: &Metadata) -> Stamp {
        Stamp {
            size: found.len(),
            inode: found.ino(),
            modified: (found.mtime(), found.mtime_nsec()),
            changed: (found.ctime(), found.ctime_nsec()),
        }
    }

    /// Returns true if a later change would show: not if it could have the same times.
    fn is_settled(&self) -> bool {
        let seconds = u64::try_from(self.changed.0).unwrap_or_default();
        let changed = SystemTime::UNIX_EPOCH + Duration::from_secs(seconds);
        SystemTime::now().duration_since(changed).is_ok_and(|age| age > SETTLED)
    }
}

impl Sums {
    fn of(&self, paths: &ContextPaths) -> Known {
        self.0.lock().unwrap_or_else(PoisonError::into_inner).remove(paths).unwrap_or_default()
    }

    /// Forgets files that no longer exist.
    fn keep(&self, paths: &ContextPaths, seen: Known) {
        self.0.lock().unwrap_or_else(PoisonError::into_inner).insert(paths.clone(), seen);
    }

    /// Forgets directories that no build uses any more.
    pub fn only(&self, wanted: impl Fn(&ContextPaths) -> bool) {
        self.0.lock().unwrap_or_else(PoisonError::into_inner).retain(|paths, _| wanted(paths));
    }
}

/// Executable bit, digest and stamp of a file.
fn sum_of(path: &Path, known: Option<&(Stamp, Sum)>) -> io::Result<(bool, Sum, Stamp)> {
    let found = fs::symlink_metadata(path)?;
    let stamp = Stamp::of(&found);
    if let Some((before, sum)) = known
        && *before == stamp
    {
        return Ok((is_executable(&found), *sum, stamp));
    }
    let mut file = File::open(path)?;
    let mut sum = Sha256::new();
    let mut piece = vec![0; PIECE];
    loop {
        match file.read(&mut piece)? {
            0 => break,
            length => sum.update(&piece[..length]),
        }
    }
    Ok((is_executable(&found), sum.finalize().into(), stamp))
}

/// Executable bit in the image: for all users or for none.
pub(super) fn is_executable(found: &Metadata) -> bool {
    found.mode() & 0o100 != 0
}

/// A digest over files, added in the order of their paths.
#[derive(Debug)]
pub(super) struct Digesting(Sha256);

impl Digesting {
    /// Starts with the content of the Dockerfile, wherever it is.
    pub fn new(dockerfile: &[u8]) -> Digesting {
        let mut digesting = Digesting(Sha256::new());
        digesting.part(b"dockerfile");
        digesting.part(dockerfile);
        digesting
    }

    /// Adds a directory.
    pub fn directory(&mut self, path: &Path) {
        self.part(b"directory");
        self.part(path.as_os_str().as_bytes());
    }

    /// Adds a symbolic link.
    pub fn link(&mut self, path: &Path, target: &Path) {
        self.part(b"link");
        self.part(path.as_os_str().as_bytes());
        self.part(target.as_os_str().as_bytes());
    }

    /// Adds a file.
    pub fn file(&mut self, path: &Path, executable: bool, sum: &Sum) {
        self.part(if executable { b"program" } else { b"file" });
        self.part(path.as_os_str().as_bytes());
        self.part(sum);
    }

    /// The digest, in hexadecimal digits.
    pub fn finish(self) -> String {
        self.0.finalize().iter().map(|byte| format!("{byte:02x}")).collect()
    }

    /// Prefixed with its length, so that different lists of parts differ.
    fn part(&mut self, bytes: &[u8]) {
        self.0.update((bytes.len() as u64).to_be_bytes());
        self.0.update(bytes);
    }
}

#[cfg(test)]
mod tests {
    use std::os::unix::fs::{PermissionsExt, symlink};

    use super::*;

    /// Creates a directory with a Dockerfile and these files.
    fn ground(files: &[(&str, &str)]) -> tempfile::TempDir {
        let home = tempfile::tempdir().unwrap();
        for (path, text) in [("api/Dockerfile", "FROM scratch\n")].iter().chain(files) {
            write(&home, path, text);
        }
        home
    }

    fn write(home: &tempfile::TempDir, path: &str, text: &str) {
        let path = home.path().join(path);
        fs::create_dir_all(path.parent().unwrap()).unwrap();
        fs::write(path, text).unwrap();
    }

    fn context_paths(home: &tempfile::TempDir, dockerfile: Option<&str>) -> ContextPaths {
        let dockerfile = dockerfile.map(|path| Dockerfile::File(path.to_owned())).unwrap_or_default();
        ContextPaths::new(&home.path().join("specs"), "../api", &dockerfile)
    }

    fn digest_of(home: &tempfile::TempDir, dockerfile: Option<&str>) -> String {
        look(&context_paths(home, dockerfile), &Sums::default()).0.unwrap().digest
    }

    fn digest(home: &tempfile::TempDir) -> String {
        digest_of(home, None)
    }

    /// Returns the paths that are not ignored.
    fn paths(home: &tempfile::TempDir) -> Vec<String> {
        let files = find(&context_paths(home, None), &mut Watched::default()).unwrap();
        files.entries.keys().map(|path| path.to_str().unwrap().to_owned()).collect()
    }

    fn error(home: &tempfile::TempDir, dockerfile: Option<&str>) -> TreeError {
        look(&context_paths(home, dockerfile), &Sums::default()).0.unwrap_err()
    }

    #[test]
    fn digest_covers_paths_contents_and_executable_bits() {
        let home = ground(&[("api/a", "1"), ("api/b/c", "1")]);
        let mut seen = BTreeSet::from([digest(&home)]);
        let mut another = |home: &tempfile::TempDir, what: &str| {
            assert!(seen.insert(digest(home)), "{what} does not change the digest");
        };
        write(&home, "api/a", "2");
        another(&home, "content");
        fs::rename(home.path().join("api/a"), home.path().join("api/d")).unwrap();
        another(&home, "a name");
        fs::set_permissions(home.path().join("api/d"), fs::Permissions::from_mode(0o755)).unwrap();
        another(&home, "the executable bit");
        symlink("d", home.path().join("api/l")).unwrap();
        another(&home, "a link");
        fs::remove_file(home.path().join("api/l")).unwrap();
        symlink("b", home.path().join("api/l")).unwrap();
        another(&home, "a link target");
        fs::create_dir(home.path().join("api/e")).unwrap();
        another(&home, "an empty directory");
        write(&home, "api/Dockerfile", "FROM debian\n");
        another(&home, "the Dockerfile");
        write(&home, "api/b/c", "");
        write(&home, "api/b/c2", "1");
        another(&home, "contents of two files swapped");
    }

    #[test]
    fn changed_files_are_named() {
        let home = ground(&[("api/a", "1"), ("api/b/c", "1"), ("api/.dockerignore", "Dockerfile\nlog\n.dockerignore")]);
        let files = || look(&context_paths(&home, None), &Sums::default()).0.unwrap().files;
        let mut before = files();
        let mut changes = || {
            let now = files();
            let changed = now.changed_since(&before);
            before = now;
            changed
        };
        assert_eq!(changes(), [""; 0]);
        write(&home, "api/log", "2");
        write(&home, "api/a", "2");
        fs::set_permissions(home.path().join("api/b/c"), fs::Permissions::from_mode(0o755)).unwrap();
        assert_eq!(changes(), ["a", "b/c"]);
        write(&home, "api/b/d/e", "1");
        fs::create_dir(home.path().join("api/empty")).unwrap();
        symlink("a", home.path().join("api/link")).unwrap();
        assert_eq!(changes(), ["b/d/e", "empty/", "link"]);
        fs::remove_dir_all(home.path().join("api/b")).unwrap();
        write(&home, "api/Dockerfile", "FROM debian\n");
        write(&home, "api/.dockerignore", "Dockerfile\n.dockerignore");
        assert_eq!(changes(), [".dockerignore", "Dockerfile", "b/c", "b/d/e", "log"]);
    }

    #[test]
    fn digest_ignores_times_permissions_and_location() {
        let home = ground(&[("api/a", "1")]);
        let before = digest(&home);
        let path = home.path().join("api/a");
        File::options().write(true).open(&path).unwrap().set_modified(SystemTime::UNIX_EPOCH).unwrap();
        fs::set_permissions(&path, fs::Permissions::from_mode(0o600)).unwrap();
        assert_eq!(digest(&home), before);
        let elsewhere = ground(&[("api/a", "1")]);
        assert_eq!(digest(&elsewhere), before);
    }

    #[test]
    fn excluded_files_do_not_change_the_digest() {
        let home = ground(&[("api/a", "1"), ("api/.dockerignore", "log\n*.tmp\n!keep.tmp\n"), ("api/keep.tmp", "1")]);
        let before = digest(&home);
        for path in ["api/log/x", "api/x.tmp", "api/.a.swp", "api/a~"] {
            write(&home, path, "x");
            assert_eq!(digest(&home), before, "{path}");
        }
        assert_eq!(paths(&home), [".dockerignore", "Dockerfile", "a", "keep.tmp"]);
        write(&home, "api/keep.tmp", "2");
        assert_ne!(digest(&home), before);
    }

    #[test]
    fn repository_is_no_source_unless_it_is_included() {
        let home = ground(&[("api/a", "1"), ("api/.git/HEAD", "ref"), ("api/vendor/.git/HEAD", "ref")]);
        assert_eq!(paths(&home), ["Dockerfile", "a", "vendor", "vendor/.git", "vendor/.git/HEAD"]);
        let home = ground(&[("api/.git/HEAD", "ref"), ("api/.dockerignore", "!.git")]);
        assert_eq!(paths(&home), [".dockerignore", ".git", ".git/HEAD", "Dockerfile"]);
    }

    #[test]
    fn text_of_a_dockerfile_is_a_source() {
        let home = ground(&[("api/a", "1")]);
        let tree = |text: &str| {
            let dockerfile = Dockerfile::Inline(text.to_owned());
            let (tree, watched) = look(&ContextPaths::new(home.path(), "api", &dockerfile), &Sums::default());
            assert!(!watched.entries.contains(&home.path().join("api/Dockerfile")));
            tree.unwrap()
        };
        let (one, other) = (tree("FROM a\n"), tree("FROM b\n"));
        assert_ne!(one.digest, other.digest);
        assert_eq!(other.files.changed_since(&one.files), [DOCKERFILE_INLINE]);
    }

    #[test]
    fn digest_covers_an_ignored_or_external_dockerfile() {
        let home = ground(&[("api/.dockerignore", "Dockerfile\n.dockerignore"), ("docker/api", "FROM a\n")]);
        assert_eq!(paths(&home), Vec::<String>::new());
        let before = digest(&home);
        write(&home, "api/Dockerfile", "FROM debian\n");
        assert_ne!(digest(&home), before);
        let before = digest_of(&home, Some("../docker/api"));
        write(&home, "docker/api", "FROM b\n");
        assert_ne!(digest_of(&home, Some("../docker/api")), before);
        // An ignore file named after the Dockerfile takes precedence.
        write(&home, "docker/api.dockerignore", "");
        let files = find(&context_paths(&home, Some("../docker/api")), &mut Watched::default()).unwrap();
        assert_eq!((files.entries.len(), files.inside), (2, None));
    }

    #[test]
    fn watched_files_are_those_in_the_digest() {
        let home = ground(&[("api/a/b", "1"), ("api/big/x", "1"), ("api/.dockerignore", "big")]);
        let (_, watched) = look(&context_paths(&home, None), &Sums::default());
        let root = home.path().join("api").canonicalize().unwrap();
        assert_eq!(watched.directories, [root.clone(), root.join("a")].into());
        let names = ["api", "api/.dockerignore", "api/Dockerfile", "api/Dockerfile.dockerignore"];
        assert_eq!(watched.entries, names.map(|name| home.path().join(name)).into());
        fs::remove_dir_all(home.path().join("api")).unwrap();
        let (result, watched) = look(&context_paths(&home, None), &Sums::default());
        assert_eq!(result, Err(TreeError::Context("no such file or directory".into())));
        assert!(watched.entries.contains(&home.path().join("api")));
    }

    #[test]
    fn errors_are_reported() {
        let home = ground(&[("file", "")]);
        let no_file = TreeError::Dockerfile("no such file or directory".into());
        assert_eq!(error(&home, Some("Dockerfile.dev")), no_file);
        assert_eq!(error(&home, Some(".")), TreeError::Dockerfile("not a regular file".into()));
        let file = ContextPaths::new(home.path(), "file", &Dockerfile::default());
        let (result, _) = look(&file, &Sums::default());
        assert_eq!(result, Err(TreeError::Context("not a directory".into())));
        write(&home, "api/.dockerignore", "a\n!\n");
        let ignore = "`!` pattern is empty (line 2)";
        assert_eq!(error(&home, None), TreeError::Context(format!(".dockerignore: {ignore}")));
    }

    #[test]
    fn unchanged_file_is_not_read_again() {
        let home = ground(&[("api/a", "1"), ("api/b", "1")]);
        let (paths, sums) = (context_paths(&home, None), Sums::default());
        let digest = || look(&paths, &sums).0.unwrap().digest;
        let before = digest();
        let known = || sums.0.lock().unwrap().get(&paths).unwrap().len();
        assert_eq!(known(), 0, "a file just written may change again within the timestamp resolution");
        // Passing time cannot be simulated: the change time of a file cannot be set.
        std::thread::sleep(SETTLED + Duration::from_millis(1100));
        assert_eq!((digest(), known()), (before.clone(), 3));
        let wrong = [0; 32];
        sums.0.lock().unwrap().get_mut(&paths).unwrap().get_mut(Path::new("a")).unwrap().1 = wrong;
        let mistaken = digest();
        assert_ne!(mistaken, before, "read again");
        write(&home, "api/b", "1");
        assert_eq!(digest(), mistaken, "same content");
        write(&home, "api/a", "1");
        assert_eq!(digest(), before);
        sums.only(|_| false);
        assert!(sums.0.lock().unwrap().is_empty());
    }

    #[test]
    fn paths_are_relative_to_spec_directory_or_context() {
        let absolute = |context: &str, dockerfile: Dockerfile| {
            let paths = ContextPaths::new(Path::new("/srv/specs"), context, &dockerfile);
            format!("{} {}", paths.context.display(), paths.dockerfile.file().unwrap().display())
        };
        let file = |path: &str| Dockerfile::File(path.to_owned());
        assert_eq!(absolute("../api/./x", Dockerfile::default()), "/srv/api/x /srv/api/x/Dockerfile");
        assert_eq!(absolute("/api", file("../df/api")), "/api /df/api");
        assert_eq!(absolute(".", file("/Dockerfile")), "/srv/specs /Dockerfile");
    }
}
