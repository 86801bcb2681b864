//! One controller per group: a lock file that the operating system releases when its holder dies.

use std::fs::{self, File, OpenOptions, TryLockError};
use std::io::{self, Read, Seek, Write};
use std::path::{Path, PathBuf};

/// Where a group's lock and memory lie: `$XDG_STATE_HOME/drillmaster/<engine id>/<group>`, else below
/// `~/.local/state`. Nothing in it is needed to know what exists: that is on the engine.
pub fn state_directory(xdg_state_home: Option<&Path>, home: Option<&Path>, engine: &str, group: &str) -> PathBuf {
    let base = match (xdg_state_home, home) {
        (Some(state), _) if state.is_absolute() => state.to_owned(),
        (_, Some(home)) => home.join(".local/state"),
        _ => std::env::temp_dir(),
    };
    // Engine ids hold colons (20.10) or are UUIDs; neither they nor anything else may leave the directory.
    let engine: String = engine.chars().map(|c| if c.is_ascii_alphanumeric() { c } else { '-' }).collect();
    base.join("drillmaster").join(engine).join(group)
}

/// The right to change a group; given back when it is dropped.
#[derive(Debug)]
pub struct Lock {
    file: File,
}

/// Takes the lock. Where another controller holds it, `waiting` is told who, and the call waits until it lets go.
pub async fn acquire(directory: &Path, command: &str, waiting: impl FnOnce(&str)) -> io::Result<Lock> {
    fs::create_dir_all(directory)?;
    let path = directory.join("lock");
    let file = OpenOptions::new().read(true).write(true).create(true).truncate(false).open(path)?;
    let file = match file.try_lock() {
        Ok(()) => file,
        Err(TryLockError::Error(error)) => return Err(error),
        Err(TryLockError::WouldBlock) => {
            waiting(&holder(&file));
            tokio::task::spawn_blocking(move || file.lock().map(|()| file)).await.map_err(io::Error::other)??
        }
    };
    let mut lock = Lock { file };
    lock.sign(command)?;
    Ok(lock)
}

impl Lock {
    /// Writes who holds it, for whoever has to wait.
    fn sign(&mut self, command: &str) -> io::Result<()> {
        self.file.set_len(0)?;
        self.file.rewind()?;
        write!(self.file, "pid {} (drillmaster {command})", std::process::id())
    }
}

/// Who holds the lock, as it wrote itself down.
fn holder(mut file: &File) -> String {
    let mut text = String::new();
    match file.read_to_string(&mut text) {
        Ok(_) if !text.is_empty() => text,
        _ => "another drillmaster".into(),
    }
}
