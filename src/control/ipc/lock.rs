//! Lock of a group: a lock file that the operating system releases when its holder exits. It is visible to one user on one
//! host; the [lease](crate::lease) is visible to all.
//!
//! The file names the holder, for processes that wait. Only the lock counts: the name of a killed holder stays in the file,
//! and a new holder writes its name a moment after it has acquired the lock.

use std::fmt;
use std::fs::{File, TryLockError};
use std::io::{self, Read, Seek, Write};
use std::time::Duration;

use tokio::time::{MissedTickBehavior, interval};

use crate::control::state_directory::{LOCK, StateDirectory};

/// How often a waiting process reads the holder's name: one holder may follow another.
const POLL_INTERVAL: Duration = Duration::from_millis(100);
/// Command name of a watching controller.
pub const WATCH: &str = "up --watch";

/// Process that holds the lock, as it is named in the file.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Holder {
    pub pid: u32,
    /// For example `up --watch`.
    pub command: String,
}

impl Holder {
    /// Returns true for a watching controller, which holds the lock until it is stopped and has a socket.
    pub fn is_watching(&self) -> bool {
        self.command == WATCH
    }

    /// Returns true for a one-shot command that ends at its next step for this one, instead of being waited for: what it
    /// makes would be removed.
    pub fn yields_to(&self, command: &str) -> bool {
        command == "down" && ["up", "start", "reload", "run"].contains(&self.command.as_str())
    }

    /// Parses `pid 12 (drillmaster up --watch)`.
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

/// Result of [`acquire`].
#[derive(Debug)]
pub enum Attempt {
    Acquired(Lock),
    /// The lock is held by a process for which the caller does not wait.
    Held(Holder),
}

/// Exclusive right to change a group. Dropping it releases the lock.
#[derive(Debug)]
pub struct Lock {
    file: File,
}

/// Acquires the lock. `should_wait` is called once for each holder meanwhile, with `None` for one that is not named in
/// the file; if it returns false, the lock is not acquired.
///
/// # Errors
///
/// If the directory or the file cannot be created or locked.
pub async fn acquire(
    directory: &StateDirectory,
    command: &str,
    mut should_wait: impl FnMut(Option<&Holder>) -> bool,
) -> io::Result<Attempt> {
    loop {
        let file = directory.open_lock()?;
        let file = match file.try_lock() {
            Ok(()) => file,
            Err(TryLockError::Error(error)) => return Err(error),
            Err(TryLockError::WouldBlock) => match wait(file, directory, &mut should_wait).await? {
                Ok(file) => file,
                Err(holder) => return Ok(Attempt::Held(holder)),
            },
        };
        // The holder before may have removed the directory: the next process would lock another file.
        if directory.is_lock(&file)? {
            let mut lock = Lock { file };
            lock.write_holder(command)?;
            return Ok(Attempt::Acquired(lock));
        }
    }
}

/// Removes the state directory of a group, unless another process holds its lock. Returns true if it was removed.
///
/// # Errors
///
/// If the directory cannot be locked or removed.
pub async fn remove_directory(directory: &StateDirectory) -> io::Result<bool> {
    match acquire(directory, "prune", |_| false).await? {
        Attempt::Acquired(_lock) => directory.remove_all().map(|()| true),
        Attempt::Held(_) => Ok(false),
    }
}

/// Waits until the file is locked, or for a holder for which the caller does not wait.
async fn wait(
    file: File,
    directory: &StateDirectory,
    should_wait: &mut impl FnMut(Option<&Holder>) -> bool,
) -> io::Result<Result<File, Holder>> {
    let mut locked = tokio::task::spawn_blocking(move || file.lock().map(|()| file));
    let mut polls = interval(POLL_INTERVAL);
    polls.set_missed_tick_behavior(MissedTickBehavior::Delay);
    let (mut last, mut known) = (None, None);
    loop {
        tokio::select! {
            // cancel-safe because the thread continues, and its end is seen in the next turn
            locked = &mut locked => return Ok(Ok(locked.map_err(io::Error::other)??)),
            // cancel-safe because a missed tick comes again
            _ = polls.tick() => {
                let holder = read_holder(directory);
                // A name counts if it is read twice in a row: until a new holder has written its own, the file has the
                // name of the one before.
                if last.as_ref() == Some(&holder) && known.as_ref() != Some(&holder) {
                    if !should_wait(holder.as_ref())
                        && let Some(holder) = holder
                    {
                        // If the receiver is gone, the thread releases the lock.
                        return Ok(Err(holder));
                    }
                    known.clone_from(&last);
                }
                last = Some(holder);
            }
        }
    }
}

impl Lock {
    /// Writes the holder's name, for processes that wait.
    fn write_holder(&mut self, command: &str) -> io::Result<()> {
        let holder = Holder { pid: std::process::id(), command: command.to_owned() };
        self.file.set_len(0)?;
        self.file.rewind()?;
        write!(self.file, "{holder}")
    }
}

impl Drop for Lock {
    fn drop(&mut self) {
        // So that the name is not mistaken for that of the next holder. The lock is released with the file.
        let _ = self.file.set_len(0);
    }
}

/// The holder that is named in the file; `None` if there is no valid name.
fn read_holder(directory: &StateDirectory) -> Option<Holder> {
    let mut text = String::new();
    // A name is short; anything else may have any size.
    directory.open(LOCK).ok()??.take(1024).read_to_string(&mut text).ok()?;
    Holder::parse(&text)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn acquired(attempt: Attempt) -> Lock {
        match attempt {
            Attempt::Acquired(lock) => lock,
            Attempt::Held(holder) => panic!("held by {holder}"),
        }
    }

    #[test]
    fn holder_is_parsed_as_written() {
        let holder = Holder { pid: 12, command: WATCH.into() };
        assert_eq!(Holder::parse(&holder.to_string()), Some(holder));
        for text in ["", "pid", "pid x (drillmaster up)", "pid 12 (drillmaster up", "pid -1 (drillmaster up)"] {
            assert_eq!(Holder::parse(text), None, "{text:?}");
        }
    }

    #[test]
    fn only_commands_that_start_services_yield_to_down() {
        let yields = |holder: &str, command: &str| Holder { pid: 1, command: holder.into() }.yields_to(command);
        assert!(["up", "start", "reload", "run"].iter().all(|holder| yields(holder, "down")));
        assert!(!["down", "stop", WATCH].iter().any(|holder| yields(holder, "down")));
        assert!(!["up", "stop", WATCH].iter().any(|command| yields("up", command)));
    }

    #[tokio::test]
    async fn attempt_without_waiting_returns_the_holder() {
        let state = tempfile::tempdir().unwrap();
        let directory = StateDirectory::at(&state.path().join("a/b"));
        let lock = acquired(acquire(&directory, WATCH, |_| true).await.unwrap());
        let attempt = acquire(&directory, "up", |holder| !holder.is_some_and(Holder::is_watching)).await.unwrap();
        assert!(
            matches!(&attempt, Attempt::Held(holder) if holder.pid == std::process::id() && holder.is_watching()),
            "{attempt:?}"
        );
        drop(lock);
        // The aborted attempt does not hold the lock.
        acquired(acquire(&directory, "up", |_| true).await.unwrap());
    }

    #[tokio::test]
    async fn waiting_process_notices_a_new_holder() {
        let state = tempfile::tempdir().unwrap();
        let directory = StateDirectory::at(state.path());
        let mut first = acquired(acquire(&directory, "up", |_| true).await.unwrap());
        let mut asked = Vec::new();
        let attempt = acquire(&directory, "stop", |holder| {
            asked.extend(holder.map(|holder| holder.command.clone()));
            // As if another process had acquired the lock immediately.
            first.write_holder(WATCH).unwrap();
            !holder.is_some_and(Holder::is_watching)
        });
        let attempt = attempt.await.unwrap();
        assert!(matches!(attempt, Attempt::Held(_)), "{attempt:?}");
        assert_eq!(asked, ["up", WATCH]);
    }

    /// A process that waits while the directory is removed must not hold the removed file, beside a holder of the new one.
    #[tokio::test]
    async fn lock_survives_the_removal_of_its_directory() {
        let home = tempfile::tempdir().unwrap();
        let directory = StateDirectory::at(&home.path().join("shop"));
        let Attempt::Acquired(first) = acquire(&directory, "prune", |_| true).await.unwrap() else { panic!("held") };
        let (waits, mut waiting) = tokio::sync::mpsc::unbounded_channel();
        let waiter = tokio::spawn({
            let directory = directory.clone();
            async move { acquire(&directory, "up", move |_| waits.send(()).is_ok()).await }
        });
        waiting.recv().await.unwrap();
        directory.remove_all().unwrap();
        assert!(!directory.path().exists());
        drop(first);
        let Attempt::Acquired(second) = waiter.await.unwrap().unwrap() else { panic!("held") };
        assert!(directory.is_lock(&second.file).unwrap());
        assert!(matches!(acquire(&directory, "down", |_| false).await.unwrap(), Attempt::Held(_)));
        assert!(!remove_directory(&directory).await.unwrap(), "it is in use");
        drop(second);
        assert!(remove_directory(&directory).await.unwrap());
        assert!(!directory.path().exists());
    }
}
