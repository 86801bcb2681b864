//! State directory of a group: lock, control socket, outputs, and ids of containers updated in place.
//!
//! Outputs reach the environment of containers and hooks, and the socket controls the group. So the directories and files
//! must belong to the effective user, and the directories must not be writable by others. Files are opened without
//! following links, and only regular files of limited size are read. The observed state does not depend on them.

use std::collections::BTreeMap;
use std::fs::{self, DirBuilder, File, Metadata, OpenOptions};
use std::io::{self, Read};
use std::os::unix::fs::{DirBuilderExt, MetadataExt, OpenOptionsExt, PermissionsExt};
use std::path::{Path, PathBuf};

use rustix::fs::OFlags;
use rustix::io::Errno;
use tempfile::NamedTempFile;

/// Outputs of hooks and jobs.
pub(super) const OUTPUTS: &str = "context.json";
/// Ids of containers updated in place.
pub(super) const UPDATED: &str = "updated";
/// Versions of the files that containers mounted.
pub(super) const MOUNTED: &str = "mounted-files.json";
/// Directories whose objects the spec directory has taken over.
pub(super) const ADOPTED: &str = "adopted.json";
/// Failures of the last run.
pub(super) const LAST_RUN: &str = "last-run.json";
/// Files from which images were built.
pub(super) const SOURCES: &str = "sources.json";
/// What the user has been told once.
pub(super) const TOLD: &str = "told.json";
/// Lock file.
pub(super) const LOCK: &str = "lock";

/// Size limit of a file, in bytes.
const MAX_SIZE: u64 = 64 * 1024 * 1024;
/// Prefix of the names of temporary files.
const TEMPORARY: &str = "scratch-";
/// Permission bits with which others can write.
const WRITABLE_BY_OTHERS: u32 = 0o022;
/// Permission bit with which others can write, outside of the group.
const WRITABLE_BY_ALL: u32 = 0o002;
/// Permission bit with which only owners can rename and remove entries of a directory.
const STICKY: u32 = 0o1000;

/// The state directory of a group.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct StateDirectory {
    path: PathBuf,
}

/// Error of a state directory that cannot be used.
#[derive(Debug, thiserror::Error)]
pub enum StateError {
    /// Neither XDG_STATE_HOME nor a home directory is known.
    #[error("no directory for local state: no home directory found; set HOME or XDG_STATE_HOME to an absolute path")]
    NoHome,
    /// A directory or file that others control.
    #[error("{} {problem}; {remedy}", path.display())]
    Unsafe { path: PathBuf, problem: String, remedy: String },
    #[error("cannot read {}: {}", .0.display(), crate::engine::io_message(.1))]
    Unreadable(PathBuf, io::Error),
}

impl StateDirectory {
    /// Finds `<state home>/drillmaster/<engine id>/<group>` and checks what exists of it. `xdg_state_home` is
    /// `$XDG_STATE_HOME`, by default `.local/state` in `home`; relative paths are ignored, as the XDG specification
    /// demands.
    ///
    /// # Errors
    ///
    /// If there is no home directory, or if others control a directory or a file.
    pub fn locate(
        xdg_state_home: Option<PathBuf>,
        home: Option<PathBuf>,
        engine: &str,
        group: &str,
    ) -> Result<StateDirectory, StateError> {
        let path = engine_directory(xdg_state_home, home, engine)?.join(group);
        check_directory(&path)?;
        let directory = StateDirectory { path };
        for file in [OUTPUTS, UPDATED, LOCK] {
            let path = directory.path.join(file);
            directory.open(file).map_err(|error| StateError::Unreadable(path, error))?;
        }
        Ok(directory)
    }

    /// Finds the state directories of all groups of an engine, by group; see [`StateDirectory::locate`].
    ///
    /// # Errors
    ///
    /// If there is no home directory, or if others control a directory above them.
    pub fn locate_all(
        xdg_state_home: Option<PathBuf>,
        home: Option<PathBuf>,
        engine: &str,
    ) -> Result<BTreeMap<String, StateDirectory>, StateError> {
        let entries = fs::read_dir(engine_directory(xdg_state_home, home, engine)?).into_iter().flatten().flatten();
        let is_directory = |entry: &fs::DirEntry| entry.file_type().is_ok_and(|kind| kind.is_dir());
        let group =
            |entry: fs::DirEntry| Some((entry.file_name().into_string().ok()?, StateDirectory { path: entry.path() }));
        Ok(entries.filter(is_directory).filter_map(group).collect())
    }

    /// The directory at this path, which must be private to the effective user.
    pub fn at(path: &Path) -> StateDirectory {
        StateDirectory { path: path.to_owned() }
    }

    pub fn path(&self) -> &Path {
        &self.path
    }

    /// Creates the directory, private to the effective user.
    ///
    /// # Errors
    ///
    /// If it cannot be created, or if others control it.
    pub(super) fn create(&self) -> io::Result<()> {
        DirBuilder::new().recursive(true).mode(0o700).create(&self.path)?;
        let created = check_directory(&self.path).map_err(io::Error::other)?;
        if created.is_some_and(|metadata| metadata.mode() & 0o077 != 0) {
            fs::set_permissions(&self.path, fs::Permissions::from_mode(0o700))?;
        }
        Ok(())
    }

    /// Opens a file for reading; `None`: it does not exist.
    ///
    /// # Errors
    ///
    /// If it cannot be opened, belongs to another user, or is too large.
    pub(super) fn open(&self, name: &str) -> io::Result<Option<File>> {
        match open(OpenOptions::new().read(true), &self.path.join(name)) {
            Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(None),
            opened => opened.map(Some),
        }
    }

    /// Reads a file; `None`: it does not exist.
    ///
    /// # Errors
    ///
    /// If it cannot be read, belongs to another user, or is too large.
    pub(super) fn read(&self, name: &str) -> io::Result<Option<Vec<u8>>> {
        let Some(file) = self.open(name)? else { return Ok(None) };
        let mut bytes = Vec::new();
        file.take(MAX_SIZE).read_to_end(&mut bytes)?;
        Ok(Some(bytes))
    }

    /// Opens the lock file for reading and writing; creates it and the directory.
    ///
    /// # Errors
    ///
    /// If it cannot be created, or belongs to another user.
    pub(super) fn open_lock(&self) -> io::Result<File> {
        self.create()?;
        let mut options = OpenOptions::new();
        options.read(true).write(true).create(true).truncate(false).mode(0o600);
        open(&mut options, &self.path.join(LOCK))
    }

    /// Returns true if this file is the lock file, and not one that was removed.
    ///
    /// # Errors
    ///
    /// If a file cannot be inspected.
    pub(super) fn is_lock(&self, file: &File) -> io::Result<bool> {
        let opened = file.metadata()?;
        match fs::symlink_metadata(self.path.join(LOCK)) {
            Ok(found) => Ok((found.dev(), found.ino()) == (opened.dev(), opened.ino())),
            Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(false),
            Err(error) => Err(error),
        }
    }

    /// Removes the directory; the lock file, which the caller has locked, last.
    ///
    /// # Errors
    ///
    /// If an entry cannot be removed.
    pub(super) fn remove_all(&self) -> io::Result<()> {
        for entry in fs::read_dir(&self.path)? {
            let entry = entry?;
            if entry.file_name() != LOCK {
                fs::remove_file(entry.path())?;
            }
        }
        self.remove(LOCK)?;
        match fs::remove_dir(&self.path) {
            // Another process has begun to use it.
            Err(error) if error.kind() == io::ErrorKind::DirectoryNotEmpty => Ok(()),
            result => result,
        }
    }

    /// Replaces a file with what `content` writes. A crash leaves the old file or the new one.
    ///
    /// # Errors
    ///
    /// If the file cannot be written.
    pub(super) fn write(
        &self,
        name: &str,
        content: impl FnOnce(&mut NamedTempFile) -> io::Result<()>,
    ) -> io::Result<()> {
        let mut file = self.temporary()?;
        content(&mut file)?;
        file.as_file().sync_all()?;
        file.persist(self.path.join(name))?;
        Ok(())
    }

    /// Removes a file, if it exists.
    ///
    /// # Errors
    ///
    /// If it cannot be removed.
    pub(super) fn remove(&self, name: &str) -> io::Result<()> {
        match fs::remove_file(self.path.join(name)) {
            Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(()),
            result => result,
        }
    }

    /// Creates a file that only the owner can read, and that is removed when the value is dropped.
    ///
    /// # Errors
    ///
    /// If it cannot be created.
    pub(super) fn temporary(&self) -> io::Result<NamedTempFile> {
        self.create()?;
        NamedTempFile::with_prefix_in(TEMPORARY, &self.path)
    }

    /// Removes the temporary files of runs that were killed.
    ///
    /// # Errors
    ///
    /// If the directory cannot be read, or a file cannot be removed.
    pub(super) fn remove_temporary(&self) -> io::Result<()> {
        for entry in fs::read_dir(&self.path)? {
            let entry = entry?;
            if entry.file_name().to_string_lossy().starts_with(TEMPORARY) {
                fs::remove_file(entry.path())?;
            }
        }
        Ok(())
    }
}

/// The directory that holds the state directories of all groups of an engine, checked as far as it exists.
fn engine_directory(
    xdg_state_home: Option<PathBuf>,
    home: Option<PathBuf>,
    engine: &str,
) -> Result<PathBuf, StateError> {
    let absolute = |path: &PathBuf| path.is_absolute();
    let home = home.filter(absolute).map(|home| home.join(".local/state"));
    let mut path = xdg_state_home.filter(absolute).or(home).ok_or(StateError::NoHome)?;
    check_state_home(&path)?;
    // Engine ids contain colons (20.10) or are UUIDs. No id may lead out of the directory.
    let engine: String = engine.chars().map(|c| if c.is_ascii_alphanumeric() { c } else { '-' }).collect();
    for name in ["drillmaster", &engine] {
        path.push(name);
        check_directory(&path)?;
    }
    Ok(path)
}

/// Opens a file and checks it, without following a link and without waiting for the other end of a FIFO.
fn open(options: &mut OpenOptions, path: &Path) -> io::Result<File> {
    let flags = (OFlags::NOFOLLOW | OFlags::NONBLOCK).bits().cast_signed();
    let file = options.custom_flags(flags).open(path).map_err(|error| match error.raw_os_error() {
        Some(code) if code == Errno::LOOP.raw_os_error() => io::Error::other("it is a symbolic link"),
        _ => error,
    })?;
    check_file(&file)?;
    Ok(file)
}

/// Checks that an open file is a regular file of the effective user, of limited size.
fn check_file(file: &File) -> io::Result<()> {
    let metadata = file.metadata()?;
    if !metadata.is_file() {
        return Err(io::Error::other("it is not a regular file"));
    }
    if let Some(problem) = belongs_to_another(&metadata) {
        return Err(io::Error::other(format!("it {problem}")));
    }
    if metadata.len() > MAX_SIZE {
        return Err(io::Error::other(format!("it has {} bytes; at most {MAX_SIZE} are read", metadata.len())));
    }
    Ok(())
}

/// Checks a directory of drillmaster's own, if it exists.
fn check_directory(path: &Path) -> Result<Option<Metadata>, StateError> {
    let found = fs::symlink_metadata(path).map(Some).or_else(|error| absent(path, error))?;
    let Some(metadata) = found else { return Ok(None) };
    let mode = metadata.mode() & 0o7777;
    let (problem, remedy) = if metadata.is_symlink() {
        ("is a symbolic link".to_owned(), "set XDG_STATE_HOME to another directory".to_owned())
    } else if !metadata.is_dir() {
        ("is not a directory".to_owned(), "remove it".to_owned())
    } else if let Some(problem) = belongs_to_another(&metadata) {
        (problem, "set XDG_STATE_HOME to a directory of your own".to_owned())
    } else if mode & WRITABLE_BY_OTHERS != 0 {
        let remedy = format!("remove it, or inspect its files and run `chmod 700 {}`", path.display());
        (format!("is writable by others (mode {mode:04o})"), remedy)
    } else {
        return Ok(Some(metadata));
    };
    Err(StateError::Unsafe { path: path.to_owned(), problem, remedy })
}

/// Checks the directory that holds the state of all programs, if it exists: others must not be able to replace entries.
fn check_state_home(path: &Path) -> Result<(), StateError> {
    let Some(metadata) = fs::metadata(path).map(Some).or_else(|error| absent(path, error))? else { return Ok(()) };
    let mode = metadata.mode();
    let is_open = mode & WRITABLE_BY_ALL != 0 && mode & STICKY == 0;
    let problem = match belongs_to_another(&metadata).filter(|_| metadata.uid() != 0) {
        None if is_open => format!("is writable by everyone (mode {:04o})", mode & 0o7777),
        None => return Ok(()),
        Some(problem) => problem,
    };
    let remedy = "set XDG_STATE_HOME to a directory of your own".to_owned();
    Err(StateError::Unsafe { path: path.to_owned(), problem, remedy })
}

fn absent<T>(path: &Path, error: io::Error) -> Result<Option<T>, StateError> {
    match error.kind() {
        io::ErrorKind::NotFound => Ok(None),
        _ => Err(StateError::Unreadable(path.to_owned(), error)),
    }
}

fn belongs_to_another(metadata: &Metadata) -> Option<String> {
    let user = rustix::process::geteuid().as_raw();
    (metadata.uid() != user).then(|| format!("belongs to another user (uid {}, not {user})", metadata.uid()))
}

#[cfg(test)]
mod tests {
    use std::os::unix::fs::symlink;
    use std::os::unix::net::UnixListener;

    use super::*;

    fn locate(home: &Path) -> Result<StateDirectory, String> {
        StateDirectory::locate(Some(home.to_owned()), None, "AB:CD", "shop").map_err(|error| error.to_string())
    }

    /// A state directory that exists.
    fn created(home: &Path) -> StateDirectory {
        let directory = locate(home).unwrap();
        directory.create().unwrap();
        directory
    }

    #[test]
    fn state_home_is_that_of_xdg() {
        let path = |xdg: Option<&str>, home: Option<&str>| {
            let found = StateDirectory::locate(xdg.map(PathBuf::from), home.map(PathBuf::from), "AB:CD", "../x");
            found.map(|found| found.path.display().to_string()).map_err(|error| error.to_string())
        };
        let end = "drillmaster/AB-CD/../x";
        assert_eq!(path(Some("/no-such/state"), Some("/no-such/home")), Ok(format!("/no-such/state/{end}")));
        assert_eq!(path(None, Some("/no-such/home")), Ok(format!("/no-such/home/.local/state/{end}")));
        assert_eq!(path(Some("state"), Some("/no-such/home")), Ok(format!("/no-such/home/.local/state/{end}")));
        for (xdg, home) in [(None, None), (Some("state"), Some("home")), (Some(""), Some(""))] {
            assert!(path(xdg, home).unwrap_err().contains("set HOME or XDG_STATE_HOME"), "{xdg:?} {home:?}");
        }
    }

    #[test]
    fn files_are_replaced_as_a_whole_and_private() {
        let home = tempfile::tempdir().unwrap();
        let directory = created(home.path());
        assert_eq!(directory.read(UPDATED).unwrap(), None);
        directory.write(UPDATED, |file| io::Write::write_all(file, b"one")).unwrap();
        assert_eq!(directory.read(UPDATED).unwrap(), Some(b"one".to_vec()));
        let mode = |path: &Path| fs::metadata(path).unwrap().mode() & 0o777;
        assert_eq!((mode(directory.path()), mode(&directory.path().join(UPDATED))), (0o700, 0o600));
        locate(home.path()).unwrap();
    }

    #[test]
    fn directories_of_others_are_refused() {
        let home = tempfile::tempdir().unwrap();
        let directory = created(home.path());
        let top = home.path().join("drillmaster");
        for path in [&top, directory.path()] {
            for mode in [0o777, 0o720, 0o702, 0o1777] {
                fs::set_permissions(path, fs::Permissions::from_mode(mode)).unwrap();
                assert!(locate(home.path()).unwrap_err().contains("is writable by others"), "{mode:o}");
            }
            fs::set_permissions(path, fs::Permissions::from_mode(0o755)).unwrap();
            locate(home.path()).unwrap();
        }
        fs::set_permissions(home.path(), fs::Permissions::from_mode(0o777)).unwrap();
        assert!(locate(home.path()).unwrap_err().contains("is writable by everyone"));
        fs::set_permissions(home.path(), fs::Permissions::from_mode(0o1777)).unwrap();
        locate(home.path()).unwrap();
        let elsewhere = home.path().join("elsewhere");
        fs::rename(&top, &elsewhere).unwrap();
        symlink(&elsewhere, &top).unwrap();
        assert!(locate(home.path()).unwrap_err().contains("is a symbolic link"));
    }

    #[test]
    fn owner_must_be_the_effective_user() {
        if !rustix::process::geteuid().is_root() {
            return;
        }
        let home = tempfile::tempdir().unwrap();
        let directory = created(home.path());
        let give = |path: &Path, uid| std::os::unix::fs::chown(path, Some(uid), None).unwrap();
        directory.write(OUTPUTS, |_| Ok(())).unwrap();
        for path in [home.path().to_owned(), home.path().join("drillmaster"), directory.path().join(OUTPUTS)] {
            give(&path, 4321);
            assert!(locate(home.path()).unwrap_err().contains("belongs to another user (uid 4321, not 0)"));
            give(&path, 0);
        }
        locate(home.path()).unwrap();
    }

    #[test]
    fn files_of_other_types_are_refused() {
        let home = tempfile::tempdir().unwrap();
        let directory = created(home.path());
        for name in [OUTPUTS, UPDATED, LOCK] {
            let path = directory.path().join(name);
            let refused = |why: &str| {
                assert!(locate(home.path()).unwrap_err().contains(why), "{name}: {why}");
                assert!(directory.read(name).is_err(), "{name}: {why}");
                fs::remove_file(&path).unwrap();
            };
            symlink("/etc/hostname", &path).unwrap();
            refused("it is a symbolic link");
            std::process::Command::new("mkfifo").arg(&path).status().unwrap();
            refused("it is not a regular file");
            drop(UnixListener::bind(&path).unwrap());
            refused("");
            File::create(&path).unwrap().set_len(2_000_000_000).unwrap();
            refused("it has 2000000000 bytes");
        }
        symlink("/etc/hostname", directory.path().join(LOCK)).unwrap();
        assert!(directory.open_lock().is_err());
    }
}
