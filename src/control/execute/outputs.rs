//! Outputs of hooks and jobs: parses them, and keeps those of a group in its state directory.
//!
//! A value may be a secret, so only the owner can read the file. A lost value is set again when the hook runs again or
//! the job is inspected again. Which services wait for an output is decided in `plan`.

use std::collections::BTreeMap;
use std::io::{self, Write};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use futures_util::StreamExt;
use tempfile::NamedTempFile;

use crate::control::error::{OutputError, OutputProblem};
use crate::control::state_directory::{OUTPUTS, StateDirectory};
use crate::engine::{Engine, LogOptions};
use crate::spec::value::OutputKey;

/// The variable that names the file to which outputs are written as `key=value` lines.
pub const OUTPUT: &str = "DRILLMASTER_OUTPUT";
/// That file in the container of a job.
pub const JOB_OUTPUT_FILE: &str = "/tmp/drillmaster-output";

/// Size limit of an output file, in bytes.
pub const MAX_FILE_SIZE: usize = 1024 * 1024;
/// Size limit of a value, in bytes: Linux limits an environment variable to twice that.
const MAX_VALUE_SIZE: usize = 64 * 1024;

/// Outputs: values by key.
pub type OutputMap = BTreeMap<String, String>;

/// The outputs of a group. Clones share them.
#[derive(Debug, Clone, Default)]
pub struct OutputStore(Arc<Mutex<Stored>>);

#[derive(Debug, Default)]
struct Stored {
    /// `None`: outputs are kept in memory only.
    directory: Option<StateDirectory>,
    values: OutputMap,
    /// Values were set since the last [`OutputStore::take_new`].
    new: bool,
}

impl OutputStore {
    /// Loads the outputs of earlier runs from a state directory, and saves further ones there.
    ///
    /// # Errors
    ///
    /// If the file exists and cannot be read; the store is then empty.
    pub fn open(&self, directory: &StateDirectory) -> io::Result<()> {
        let parse = |bytes: Option<Vec<u8>>| match bytes {
            Some(bytes) => serde_json::from_slice(&bytes).map_err(io::Error::from),
            None => Ok(OutputMap::new()),
        };
        let read = directory.read(OUTPUTS).and_then(parse).map_err(|error| {
            io::Error::new(error.kind(), format!("{}: {error}", directory.path().join(OUTPUTS).display()))
        });
        let mut stored = self.lock();
        stored.directory = Some(directory.clone());
        stored.values = OutputMap::new();
        stored.new = true;
        read.map(|values| stored.values = values)
    }

    /// All outputs.
    pub fn values(&self) -> OutputMap {
        self.lock().values.clone()
    }

    /// All outputs, if any was set since the last call.
    pub fn take_new(&self) -> Option<OutputMap> {
        let mut stored = self.lock();
        std::mem::take(&mut stored.new).then(|| stored.values.clone())
    }

    /// Adds outputs, replacing those with the same keys. Returns true if any value changed.
    ///
    /// # Errors
    ///
    /// If the file cannot be written; nothing is changed then.
    pub fn save(&self, outputs: OutputMap) -> io::Result<bool> {
        let mut stored = self.lock();
        if outputs.iter().all(|(key, value)| stored.values.get(key) == Some(value)) {
            return Ok(false);
        }
        let mut values = stored.values.clone();
        values.extend(outputs);
        if let Some(directory) = &stored.directory {
            directory.write(OUTPUTS, |file| {
                serde_json::to_writer_pretty(&mut *file, &values)?;
                file.write_all(b"\n")
            })?;
        }
        (stored.values, stored.new) = (values, true);
        Ok(true)
    }

    /// Removes all outputs.
    ///
    /// # Errors
    ///
    /// If the file cannot be removed.
    pub fn clear(&self) -> io::Result<()> {
        let mut stored = self.lock();
        stored.values.clear();
        stored.directory.as_ref().map_or(Ok(()), |directory| directory.remove(OUTPUTS))
    }

    /// Creates a file to which a command on the host may write outputs. Only the owner can read it, and it is removed
    /// when the value is dropped.
    ///
    /// # Errors
    ///
    /// If it cannot be created.
    pub fn output_file(&self) -> io::Result<NamedTempFile> {
        match self.directory() {
            Some(directory) => directory.temporary(),
            None => NamedTempFile::new(),
        }
    }

    /// Removes temporary files that killed runs left in the state directory. The caller must hold the lock of the
    /// group.
    ///
    /// # Errors
    ///
    /// If the directory cannot be read, or a file cannot be removed.
    pub fn remove_temporary_files(&self) -> io::Result<()> {
        self.directory().map_or(Ok(()), |directory| directory.remove_temporary())
    }

    /// The state directory, once it is known.
    fn directory(&self) -> Option<StateDirectory> {
        self.lock().directory.clone()
    }

    fn lock(&self) -> MutexGuard<'_, Stored> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// Parses the `key=value` lines of an output file.
///
/// # Errors
///
/// If the file is too large or a line is not an output.
pub fn parse(bytes: &[u8]) -> Result<OutputMap, OutputError> {
    if bytes.len() > MAX_FILE_SIZE {
        return Err(OutputError::FileTooLarge { limit: MAX_FILE_SIZE });
    }
    let text = std::str::from_utf8(bytes).map_err(|_| OutputError::NotUtf8)?;
    let mut outputs = OutputMap::new();
    for (index, line) in text.lines().enumerate().filter(|(_, line)| !line.trim().is_empty()) {
        let (key, value) = parse_line(line).map_err(|problem| OutputError::Line { number: index + 1, problem })?;
        outputs.insert(key, value);
    }
    Ok(outputs)
}

fn parse_line(line: &str) -> Result<(String, String), OutputProblem> {
    let (key, value) = line.split_once('=').ok_or(OutputProblem::NotAPair)?;
    Ok((check_key(key.trim())?.into(), check_value(value)?))
}

/// The output that captured text stands for: the text without trailing line ends, as in a shell's `$(...)`.
///
/// # Errors
///
/// If the text cannot be a value.
pub fn capture(key: &str, text: &str) -> Result<OutputMap, OutputError> {
    let value = check_value(text.trim_end_matches(['\n', '\r']))
        .map_err(|problem| OutputError::Value { key: key.to_owned(), problem })?;
    Ok(OutputMap::from([(key.to_owned(), value)]))
}

/// Checks the outputs that a function set.
///
/// # Errors
///
/// If a key or a value is invalid.
pub fn check(pairs: Vec<(String, String)>) -> Result<OutputMap, OutputError> {
    let mut outputs = OutputMap::new();
    for (key, value) in pairs {
        let invalid = |problem| OutputError::Value { key: key.clone(), problem };
        check_key(&key).map_err(invalid)?;
        let value = check_value(&value).map_err(invalid)?;
        outputs.insert(key, value);
    }
    Ok(outputs)
}

fn check_key(key: &str) -> Result<OutputKey, OutputProblem> {
    key.parse::<OutputKey>().map_err(|error| OutputProblem::InvalidKey(error.to_string()))
}

fn check_value(value: &str) -> Result<String, OutputProblem> {
    match value {
        value if value.contains('\0') => Err(OutputProblem::Nul),
        value if value.len() > MAX_VALUE_SIZE => Err(OutputProblem::TooLarge { limit: MAX_VALUE_SIZE }),
        value => Ok(value.to_owned()),
    }
}

/// Collects the outputs of a job that succeeded: those in its output file, and its standard output as `key`.
///
/// # Errors
///
/// If the engine does not return them, or they are invalid.
pub async fn collect(engine: &dyn Engine, container: &str, key: Option<&str>) -> Result<OutputMap, OutputError> {
    let written = engine.read(container, JOB_OUTPUT_FILE, MAX_FILE_SIZE + 1).await?;
    let mut outputs = parse(&written.unwrap_or_default())?;
    if let Some(key) = key {
        let mut text = String::new();
        let mut lines = engine.logs(container, LogOptions::default());
        while let Some(line) = lines.next().await {
            let line = line?;
            if !line.stderr {
                text.push_str(&line.text);
                text.push('\n');
            }
            if text.len() > MAX_VALUE_SIZE + 1 {
                let problem = OutputProblem::TooLarge { limit: MAX_VALUE_SIZE };
                return Err(OutputError::Value { key: key.to_owned(), problem });
            }
        }
        outputs.extend(capture(key, &text)?);
    }
    Ok(outputs)
}

#[cfg(test)]
mod tests {
    use std::fs;
    use std::os::unix::fs::PermissionsExt;

    use super::*;

    fn map(pairs: &[(&str, &str)]) -> OutputMap {
        pairs.iter().map(|(key, value)| ((*key).to_owned(), (*value).to_owned())).collect()
    }

    #[test]
    fn outputs_are_saved_for_the_owner_only_and_loaded_again() {
        let state = tempfile::tempdir().unwrap();
        let directory = StateDirectory::at(&state.path().join("engine/group"));
        let store = OutputStore::default();
        store.open(&directory).unwrap();
        assert!(store.save(map(&[("a", "1"), ("b", "2")])).unwrap());
        assert!(!store.save(map(&[("a", "1")])).unwrap(), "unchanged");
        assert!(store.save(map(&[("a", "3")])).unwrap());
        let file = directory.path().join("context.json");
        assert_eq!(fs::metadata(&file).unwrap().permissions().mode() & 0o777, 0o600);
        let next = OutputStore::default();
        next.open(&directory).unwrap();
        assert_eq!(next.values(), map(&[("a", "3"), ("b", "2")]));
        fs::write(&file, "{").unwrap();
        assert!(next.open(&directory).unwrap_err().to_string().contains("context.json"));
        assert_eq!(next.values(), OutputMap::new());
        assert!(next.save(map(&[("c", "")])).unwrap(), "an unreadable file is replaced");
        next.clear().unwrap();
        next.clear().unwrap();
        assert!(!file.exists() && next.values().is_empty());
    }

    #[test]
    fn temporary_files_of_killed_runs_are_removed() {
        let state = tempfile::tempdir().unwrap();
        let store = OutputStore::default();
        store.open(&StateDirectory::at(state.path())).unwrap();
        store.save(map(&[("a", "1")])).unwrap();
        let (_, left) = store.output_file().unwrap().keep().unwrap();
        assert_eq!(left.parent(), Some(state.path()));
        assert_eq!(fs::metadata(&left).unwrap().permissions().mode() & 0o777, 0o600);
        fs::write(state.path().join("lock"), "").unwrap();
        store.remove_temporary_files().unwrap();
        let mut names: Vec<_> = fs::read_dir(state.path()).unwrap().map(|entry| entry.unwrap().file_name()).collect();
        names.sort();
        assert_eq!(names, ["context.json", "lock"]);
        // Without a state directory there is nothing to remove.
        OutputStore::default().remove_temporary_files().unwrap();
        assert!(OutputStore::default().output_file().unwrap().path().exists());
    }

    #[test]
    fn output_lines_are_parsed_and_checked() {
        let parse = |bytes: &[u8]| parse(bytes).map_err(|error| error.to_string());
        assert_eq!(parse(b"a=1\n\n b =x=y \r\nc="), Ok(map(&[("a", "1"), ("b", "x=y "), ("c", "")])));
        assert_eq!(parse(b""), Ok(OutputMap::new()));
        assert_eq!(parse(b"a=1\nb"), Err("line 2 of the output file is not `key=value`".into()));
        assert!(parse(b"a-b=1").unwrap_err().starts_with("line 1 of the output file has an invalid key: "));
        assert_eq!(parse(b"a=\0"), Err("line 1 of the output file contains a NUL byte".into()));
        assert_eq!(parse(b"a=\xff"), Err("output file is not UTF-8".into()));
        assert_eq!(parse(&vec![b' '; MAX_FILE_SIZE + 1]), Err("output file is larger than 1024 KiB".into()));
        assert_eq!(capture("a", "1\n2\n\n"), Ok(map(&[("a", "1\n2")])));
        let large = "x".repeat(MAX_VALUE_SIZE + 1);
        assert_eq!(
            capture("a", &large).map_err(|error| error.to_string()),
            Err("output `a` is larger than 64 KiB".into())
        );
    }
}
