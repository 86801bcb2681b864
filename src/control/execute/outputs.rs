//! Outputs of hooks and jobs: takes them from what was written, and keeps them for the group in its state directory.
//!
//! A value may be a secret: the file is for its owner only. What is lost comes again when the job is looked at, or the
//! hook runs, once more. Who waits for what is decided in `plan`.

use std::collections::BTreeMap;
use std::fs;
use std::io::{self, Write};
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use futures_util::StreamExt;
use tempfile::NamedTempFile;

use crate::engine::{Engine, LogOptions};
use crate::spec::value::OutputKey;

/// The variable that names the file to which outputs are written as `key=value` lines.
pub const OUTPUT: &str = "DRILLMASTER_OUTPUT";
/// That file in the container of a job.
pub const OUTPUT_OF_JOB: &str = "/tmp/drillmaster-output";

/// How the names of files begin that are there for a moment only.
const SCRATCH: &str = "scratch-";

/// The largest file of outputs, in bytes.
pub const MOST: usize = 1024 * 1024;
/// The largest value, in bytes: the system passes on none of twice the size in an environment.
const LARGEST: usize = 64 * 1024;

/// What a hook or a job has given: values by key.
pub type OutputMap = BTreeMap<String, String>;

/// The outputs of a group. Clones share them.
#[derive(Debug, Clone, Default)]
pub struct OutputStore(Arc<Mutex<Kept>>);

#[derive(Debug, Default)]
struct Kept {
    path: Option<PathBuf>,
    values: OutputMap,
}

impl OutputStore {
    /// Reads what earlier runs kept in a state directory, and keeps further outputs there. Until then there are none.
    ///
    /// # Errors
    ///
    /// When there is something that cannot be read; then it goes on without.
    pub fn open(&self, state_directory: &Path) -> io::Result<()> {
        let path = state_directory.join("context.json");
        let read = match fs::read(&path) {
            Ok(bytes) => serde_json::from_slice(&bytes)
                .map_err(|error| io::Error::new(io::ErrorKind::InvalidData, format!("{}: {error}", path.display()))),
            Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(OutputMap::new()),
            Err(error) => Err(io::Error::new(error.kind(), format!("{}: {error}", path.display()))),
        };
        let mut kept = self.lock();
        kept.path = Some(path);
        kept.values = OutputMap::new();
        read.map(|values| kept.values = values)
    }

    /// All that are known.
    pub fn values(&self) -> OutputMap {
        self.lock().values.clone()
    }

    /// Takes outputs in, over those of the same keys; whether that changed any.
    ///
    /// # Errors
    ///
    /// When they cannot be written down. The file is replaced as a whole, so it is never half written.
    pub fn keep(&self, given: OutputMap) -> io::Result<bool> {
        let mut kept = self.lock();
        if given.iter().all(|(key, value)| kept.values.get(key) == Some(value)) {
            return Ok(false);
        }
        let mut values = kept.values.clone();
        values.extend(given);
        if let Some(path) = &kept.path {
            write(path, &values)?;
        }
        kept.values = values;
        Ok(true)
    }

    /// Forgets all: who gave them is gone.
    ///
    /// # Errors
    ///
    /// When the file cannot be removed.
    pub fn forget(&self) -> io::Result<()> {
        let mut kept = self.lock();
        kept.values.clear();
        match kept.path.as_ref().map(fs::remove_file) {
            Some(Err(error)) if error.kind() != io::ErrorKind::NotFound => Err(error),
            _ => Ok(()),
        }
    }

    /// A file to which a command on the host may write outputs, for its owner only. It goes with the value.
    ///
    /// # Errors
    ///
    /// When it cannot be made.
    pub fn output_file(&self) -> io::Result<NamedTempFile> {
        match self.directory() {
            Some(directory) => scratch(&directory),
            None => NamedTempFile::new(),
        }
    }

    /// Removes what runs that were killed have left in the state directory. Only for whoever holds the group.
    ///
    /// # Errors
    ///
    /// When the directory cannot be read, or something in it cannot be removed.
    pub fn tidy(&self) -> io::Result<()> {
        let Some(directory) = self.directory() else { return Ok(()) };
        for entry in fs::read_dir(directory)? {
            let entry = entry?;
            if entry.file_name().to_string_lossy().starts_with(SCRATCH) {
                fs::remove_file(entry.path())?;
            }
        }
        Ok(())
    }

    /// The state directory, once it is known.
    fn directory(&self) -> Option<PathBuf> {
        self.lock().path.as_ref().and_then(|path| path.parent()).map(Path::to_path_buf)
    }

    fn lock(&self) -> MutexGuard<'_, Kept> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// A file for its owner only, which is removed with the value.
fn scratch(directory: &Path) -> io::Result<NamedTempFile> {
    fs::create_dir_all(directory)?;
    NamedTempFile::with_prefix_in(SCRATCH, directory)
}

fn write(path: &Path, values: &OutputMap) -> io::Result<()> {
    let mut file = scratch(path.parent().unwrap_or(Path::new("/")))?;
    serde_json::to_writer_pretty(&mut file, values)?;
    file.write_all(b"\n")?;
    file.as_file().sync_all()?;
    file.persist(path)?;
    Ok(())
}

/// Reads `key=value` lines.
///
/// # Errors
///
/// What is wrong with them, for people.
pub fn parse(bytes: &[u8]) -> Result<OutputMap, String> {
    if bytes.len() > MOST {
        return Err(format!("more than {} KiB of outputs", MOST / 1024));
    }
    let text = std::str::from_utf8(bytes).map_err(|_| "its outputs are not UTF-8".to_owned())?;
    let mut given = OutputMap::new();
    for (number, line) in text.lines().enumerate().filter(|(_, line)| !line.trim().is_empty()) {
        let wrong = |what: String| format!("line {} of its outputs {what}", number + 1);
        let Some((key, value)) = line.split_once('=') else {
            return Err(wrong("is not `key=value`".into()));
        };
        let key = key.trim().parse::<OutputKey>().map_err(|error| wrong(format!("has no good key: {error}")))?;
        given.insert(key.into(), checked(value).map_err(wrong)?);
    }
    Ok(given)
}

/// A value as it was captured: without the line ends at its end, as a shell takes it.
///
/// # Errors
///
/// Why it cannot be one.
pub fn captured(key: &str, text: &str) -> Result<OutputMap, String> {
    let value = checked(text.trim_end_matches(['\n', '\r'])).map_err(|why| format!("the output `{key}` {why}"))?;
    Ok(OutputMap::from([(key.to_owned(), value)]))
}

/// What a function has set.
///
/// # Errors
///
/// Why it cannot be outputs.
pub fn set(pairs: Vec<(String, String)>) -> Result<OutputMap, String> {
    let mut given = OutputMap::new();
    for (key, value) in pairs {
        let wrong = |why: String| format!("the output {key:?} {why}");
        key.parse::<OutputKey>().map_err(|error| wrong(format!("has no good key: {error}")))?;
        let value = checked(&value).map_err(wrong)?;
        given.insert(key, value);
    }
    Ok(given)
}

fn checked(value: &str) -> Result<String, String> {
    match value {
        value if value.contains('\0') => Err("holds a NUL".into()),
        value if value.len() > LARGEST => Err(format!("is larger than {} KiB", LARGEST / 1024)),
        value => Ok(value.to_owned()),
    }
}

/// What a job has given that has succeeded: the lines that it wrote to its file, and its standard output where that is
/// captured.
///
/// # Errors
///
/// Why it cannot be had, for people.
pub async fn of_job(engine: &dyn Engine, container: &str, capture: Option<&str>) -> Result<OutputMap, String> {
    let written = engine.read(container, OUTPUT_OF_JOB, MOST + 1).await.map_err(|error| error.to_string())?;
    let mut given = parse(&written.unwrap_or_default())?;
    if let Some(key) = capture {
        let mut text = String::new();
        let mut lines = engine.logs(container, LogOptions::default());
        while let Some(line) = lines.next().await {
            let line = line.map_err(|error| error.to_string())?;
            if !line.stderr && text.len() <= LARGEST {
                text.push_str(&line.text);
                text.push('\n');
            }
        }
        given.extend(captured(key, &text)?);
    }
    Ok(given)
}

#[cfg(test)]
mod tests {
    use std::os::unix::fs::PermissionsExt;

    use super::*;

    fn given(pairs: &[(&str, &str)]) -> OutputMap {
        pairs.iter().map(|(key, value)| ((*key).to_owned(), (*value).to_owned())).collect()
    }

    #[test]
    fn outputs_are_kept_for_the_next_run_and_for_their_owner_only() {
        let state = tempfile::tempdir().unwrap();
        let directory = state.path().join("engine/group");
        let context = OutputStore::default();
        context.open(&directory).unwrap();
        assert!(context.keep(given(&[("a", "1"), ("b", "2")])).unwrap());
        assert!(!context.keep(given(&[("a", "1")])).unwrap(), "nothing new");
        assert!(context.keep(given(&[("a", "3")])).unwrap());
        let file = directory.join("context.json");
        assert_eq!(fs::metadata(&file).unwrap().permissions().mode() & 0o777, 0o600);
        let next = OutputStore::default();
        next.open(&directory).unwrap();
        assert_eq!(next.values(), given(&[("a", "3"), ("b", "2")]));
        fs::write(&file, "{").unwrap();
        assert!(next.open(&directory).unwrap_err().to_string().contains("context.json"));
        assert_eq!(next.values(), OutputMap::new());
        assert!(next.keep(given(&[("c", "")])).unwrap(), "what cannot be read is replaced");
        next.forget().unwrap();
        next.forget().unwrap();
        assert!(!file.exists() && next.values().is_empty());
    }

    #[test]
    fn what_a_killed_run_has_left_goes_with_the_next() {
        let state = tempfile::tempdir().unwrap();
        let context = OutputStore::default();
        context.open(state.path()).unwrap();
        context.keep(given(&[("a", "1")])).unwrap();
        let (_, left) = context.output_file().unwrap().keep().unwrap();
        assert_eq!(left.parent(), Some(state.path()));
        assert_eq!(fs::metadata(&left).unwrap().permissions().mode() & 0o777, 0o600);
        fs::write(state.path().join("lock"), "").unwrap();
        context.tidy().unwrap();
        let mut names: Vec<_> = fs::read_dir(state.path()).unwrap().map(|entry| entry.unwrap().file_name()).collect();
        names.sort();
        assert_eq!(names, ["context.json", "lock"]);
        // Where nothing is kept, there is nothing to tidy.
        OutputStore::default().tidy().unwrap();
        assert!(OutputStore::default().output_file().unwrap().path().exists());
    }

    #[test]
    fn lines_of_outputs() {
        assert_eq!(parse(b"a=1\n\n b =x=y \r\nc="), Ok(given(&[("a", "1"), ("b", "x=y "), ("c", "")])));
        assert_eq!(parse(b""), Ok(OutputMap::new()));
        assert_eq!(parse(b"a=1\nb"), Err("line 2 of its outputs is not `key=value`".into()));
        assert!(parse(b"a-b=1").unwrap_err().starts_with("line 1 of its outputs has no good key: "));
        assert_eq!(parse(b"a=\0"), Err("line 1 of its outputs holds a NUL".into()));
        assert_eq!(parse(b"a=\xff"), Err("its outputs are not UTF-8".into()));
        assert_eq!(parse(&vec![b' '; MOST + 1]), Err("more than 1024 KiB of outputs".into()));
        assert_eq!(captured("a", "1\n2\n\n"), Ok(given(&[("a", "1\n2")])));
        let large = "x".repeat(LARGEST + 1);
        assert_eq!(captured("a", &large), Err("the output `a` is larger than 64 KiB".into()));
    }
}
