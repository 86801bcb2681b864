//! One controller per group: a lock file that the operating system releases when its holder dies.
//!
//! Its text says who holds it, for whoever has to wait. The lock is the truth, the text is a hint: it stays when a
//! holder is killed, and a new one signs a moment after it took the lock.

use std::fmt;
use std::fs::{self, DirBuilder, File, OpenOptions, Permissions, TryLockError};
use std::io::{self, Read, Seek, Write};
use std::os::unix::fs::{DirBuilderExt, PermissionsExt};
use std::path::{Path, PathBuf};
use std::time::Duration;

use tokio::time::{MissedTickBehavior, interval};

/// How often whoever waits looks who holds the lock: one holder may follow another.
const LOOK: Duration = Duration::from_millis(100);
/// What a watching controller calls itself.
pub const WATCH: &str = "up --watch";

/// Where a group's lock, socket and memory lie: `$XDG_STATE_HOME/drillmaster/<engine id>/<group>`, else below
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

/// Who holds the lock, as it wrote itself down.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Holder {
    /// Its process id.
    pub pid: u32,
    /// What it does: `up --watch`.
    pub command: String,
}

impl Holder {
    /// Whether it stays until somebody ends it, and can be talked to meanwhile.
    pub fn watches(&self) -> bool {
        self.command == WATCH
    }

    /// Reads `pid 12 (drillmaster up --watch)`.
    fn parse(text: &str) -> Option<Holder> {
        let (pid, rest) = text.trim_end().strip_prefix("pid ")?.split_once(" (drillmaster ")?;
        Some(Holder { pid: pid.parse().ok()?, command: rest.strip_suffix(')')?.to_owned() })
    }
}

impl fmt::Display for Holder {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "pid {} (drillmaster {})", self.pid, self.command)
    }
}

/// How trying to take the lock ended.
#[derive(Debug)]
pub enum Attempt {
    /// It is ours.
    Taken(Lock),
    /// It is this one's, which is not waited for.
    Held(Holder),
}

/// The right to change a group; given back when it is dropped.
#[derive(Debug)]
pub struct Lock {
    file: File,
}

/// Takes the lock. While another controller holds it, `waits_for` is asked about each holder whether to wait for it;
/// `None`: it has not said who it is.
///
/// # Errors
///
/// When the directory or the file cannot be made or used.
pub async fn acquire(
    directory: &Path,
    command: &str,
    mut waits_for: impl FnMut(Option<&Holder>) -> bool,
) -> io::Result<Attempt> {
    make_private(directory)?;
    let path = directory.join("lock");
    let file = OpenOptions::new().read(true).write(true).create(true).truncate(false).open(&path)?;
    let file = match file.try_lock() {
        Ok(()) => file,
        Err(TryLockError::Error(error)) => return Err(error),
        Err(TryLockError::WouldBlock) => {
            let mut locked = tokio::task::spawn_blocking(move || file.lock().map(|()| file));
            let mut queries = interval(LOOK);
            queries.set_missed_tick_behavior(MissedTickBehavior::Delay);
            let (mut seen, mut asked) = (None, None);
            loop {
                tokio::select! {
                    // cancel-safe because the thread goes on, and its end is seen in the next turn
                    locked = &mut locked => break locked.map_err(io::Error::other)??,
                    // cancel-safe because a tick that was missed comes again
                    _ = queries.tick() => {
                        let now = holder(&path);
                        // A text is believed when it has stood for a while: one that has just taken the lock signs at
                        // once, and until then the text is of somebody who has gone.
                        if seen.as_ref() == Some(&now) && asked.as_ref() != Some(&now) {
                            if !waits_for(now.as_ref())
                                && let Some(holder) = now
                            {
                                // The thread gives back what it gets, for nobody takes it.
                                return Ok(Attempt::Held(holder));
                            }
                            asked.clone_from(&seen);
                        }
                        seen = Some(now);
                    }
                }
            }
        }
    };
    let mut lock = Lock { file };
    lock.sign(command)?;
    Ok(Attempt::Taken(lock))
}

impl Lock {
    /// Writes who holds it, for whoever has to wait.
    fn sign(&mut self, command: &str) -> io::Result<()> {
        let holder = Holder { pid: std::process::id(), command: command.to_owned() };
        self.file.set_len(0)?;
        self.file.rewind()?;
        write!(self.file, "{holder}")
    }
}

impl Drop for Lock {
    fn drop(&mut self) {
        // So that nobody takes it for the next holder's signature; the lock itself goes with the file.
        let _ = self.file.set_len(0);
    }
}

/// Who holds the lock; `None`: it has not signed, or not in a way that can be read.
fn holder(path: &Path) -> Option<Holder> {
    let mut text = String::new();
    // A signature is short; whatever else lies there is not read whole.
    File::open(path).ok()?.take(1024).read_to_string(&mut text).ok()?;
    Holder::parse(&text)
}

/// Makes the directory, and sees to it that nobody else can look into it: the socket in it obeys whoever reaches it.
fn make_private(directory: &Path) -> io::Result<()> {
    DirBuilder::new().recursive(true).mode(0o700).create(directory)?;
    if fs::metadata(directory)?.permissions().mode() & 0o077 != 0 {
        fs::set_permissions(directory, Permissions::from_mode(0o700))?;
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn taken(attempt: Attempt) -> Lock {
        match attempt {
            Attempt::Taken(lock) => lock,
            Attempt::Held(holder) => panic!("held by {holder}"),
        }
    }

    #[test]
    fn a_signature_is_read_as_it_was_written() {
        let holder = Holder { pid: 12, command: WATCH.into() };
        assert_eq!(Holder::parse(&holder.to_string()), Some(holder));
        for text in ["", "pid", "pid x (drillmaster up)", "pid 12 (drillmaster up", "pid -1 (drillmaster up)"] {
            assert_eq!(Holder::parse(text), None, "{text:?}");
        }
    }

    #[tokio::test]
    async fn who_is_not_waited_for_is_named() {
        let state = tempfile::tempdir().unwrap();
        let directory = state.path().join("a/b");
        let lock = taken(acquire(&directory, WATCH, |_| true).await.unwrap());
        assert_eq!(fs::metadata(&directory).unwrap().permissions().mode() & 0o777, 0o700);
        let attempt = acquire(&directory, "up", |holder| !holder.is_some_and(Holder::watches)).await.unwrap();
        assert!(
            matches!(&attempt, Attempt::Held(holder) if holder.pid == std::process::id() && holder.watches()),
            "{attempt:?}"
        );
        drop(lock);
        // The attempt that was given up stands in nobody's way.
        taken(acquire(&directory, "up", |_| true).await.unwrap());
    }

    #[tokio::test]
    async fn a_holder_that_follows_another_is_noticed_by_whoever_waits() {
        let state = tempfile::tempdir().unwrap();
        let mut first = taken(acquire(state.path(), "up", |_| true).await.unwrap());
        let mut asked = Vec::new();
        let attempt = acquire(state.path(), "stop", |holder| {
            asked.extend(holder.map(|holder| holder.command.clone()));
            // As if it had been handed over without a gap.
            first.sign(WATCH).unwrap();
            !holder.is_some_and(Holder::watches)
        });
        let attempt = attempt.await.unwrap();
        assert!(matches!(attempt, Attempt::Held(_)), "{attempt:?}");
        assert_eq!(asked, ["up", WATCH]);
    }
}
