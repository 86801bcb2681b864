//! Watcher of the spec directory: sends a message when the specs may have changed, once changes have stopped for
//! [`DEBOUNCE`]. A message only means "read again"; a superfluous one is harmless.
//!
//! Only directories are watched, not recursively: a file that an editor replaces is a new file, and a watch on the old one
//! would miss its changes. The set of directories is computed again after each reading.

use std::collections::{BTreeMap, BTreeSet, HashMap, VecDeque};
use std::ffi::{OsStr, OsString};
use std::fs;
use std::os::unix::fs::MetadataExt;
use std::path::{Component, Path, PathBuf};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use notify::event::{AccessKind, AccessMode, ModifyKind};
use notify::{ErrorKind, EventKind, RecursiveMode};
use tokio::sync::{Notify, mpsc};
use tokio::time::{Instant, sleep, timeout_at};
use tokio_util::task::AbortOnDropHandle;

/// How long nothing must change before the message is sent: some editors truncate a file and write it a little later.
pub const DEBOUNCE: Duration = Duration::from_millis(500);
/// Maximum delay of the message while changes continue.
pub const MAX_DELAY: Duration = Duration::from_secs(5);
/// Interval of messages without a change, in case an event was lost.
pub const RESYNC_INTERVAL: Duration = Duration::from_secs(30);
/// The same interval while polling, without events.
pub const POLL_INTERVAL: Duration = Duration::from_secs(1);

/// Maximum number of symbolic links in a path; the limit of Linux.
const MAX_LINKS: usize = 40;

/// Returns true for the file name of a spec.
pub(super) fn is_spec(name: &str) -> bool {
    [".yaml", ".yml", ".star"].iter().any(|ending| name.ends_with(ending))
}

/// Returns true for the name of a hidden file or directory.
pub(super) fn is_hidden(name: &str) -> bool {
    name.starts_with('.')
}

/// Paths whose change may change the specs.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct WatchedPaths {
    /// Directories that may contain specs.
    pub directories: BTreeSet<PathBuf>,
    /// Single files and directories, which need not exist. Links are followed, and each of them is watched.
    pub entries: BTreeSet<PathBuf>,
    /// Files of which only replacements matter, not writes: containers may write to them all the time.
    pub replaceable: BTreeSet<PathBuf>,
    /// Directories in which every entry is watched.
    pub trees: BTreeSet<PathBuf>,
}

/// Receiver of the events of a backend.
pub type Handler = Box<dyn FnMut(notify::Result<notify::Event>) + Send>;

/// Source of file events. Dropping it ends them.
pub type EventSource = Box<dyn notify::Watcher + Send>;

/// Creates the source of events.
pub type Backend = fn(Handler) -> notify::Result<EventSource>;

/// The backend of the operating system.
fn native(handler: Handler) -> notify::Result<EventSource> {
    Ok(Box::new(notify::recommended_watcher(handler)?))
}

/// Watcher of directories. Dropping it ends the watches.
pub struct Watcher {
    shared: Arc<Shared>,
    backend: Backend,
    watches: Mutex<ActiveWatches>,
    on_polling: Box<dyn Fn(String) + Send + Sync>,
    _task: AbortOnDropHandle<()>,
}

impl Watcher {
    /// Starts a watcher that watches nothing yet, with one message waiting, so that earlier changes are seen.
    /// `on_polling` receives the reason if the watcher has to poll. Must be called within a runtime.
    pub fn start(on_polling: impl Fn(String) + Send + Sync + 'static) -> (Watcher, mpsc::Receiver<()>) {
        Watcher::start_with(native, on_polling)
    }

    /// The same with another backend.
    pub fn start_with(
        backend: Backend,
        on_polling: impl Fn(String) + Send + Sync + 'static,
    ) -> (Watcher, mpsc::Receiver<()>) {
        let shared = Arc::new(Shared::default());
        let (sender, changes) = mpsc::channel(1);
        let _ = sender.try_send(());
        let task = AbortOnDropHandle::new(tokio::spawn(send_changes(Arc::clone(&shared), sender)));
        let watches = Mutex::default();
        (Watcher { shared, backend, watches, on_polling: Box::new(on_polling), _task: task }, changes)
    }

    /// Watches exactly these paths from now on. Returns true if a watch was added: a change before that may have been
    /// missed, so the caller must read again.
    pub fn follow(&self, paths: &WatchedPaths) -> bool {
        let interests = paths.interests();
        let wanted: BTreeSet<PathBuf> = interests.keys().cloned().collect();
        // Unlocked before the backend is called: its thread needs the lock to pass events on.
        let lost = {
            let mut state = lock(&self.shared.state);
            state.interests = interests;
            std::mem::take(&mut state.lost)
        };
        let updated = lock(&self.watches).update(&wanted, &lost, || self.handler(), self.backend);
        let (added, reason) = match updated {
            Ok(added) => (added, wanted.iter().find_map(|directory| silent_file_system(directory))),
            Err(error) => (false, Some(notify_message(&error))),
        };
        let polled = self.shared.polling.swap(reason.is_some(), Ordering::Relaxed);
        if let Some(reason) = reason.filter(|_| !polled) {
            (self.on_polling)(format!("polling for spec changes: {reason}"));
            self.shared.changed.notify_one();
        }
        added
    }

    /// Returns true if the watcher polls. A message may then come while a file is being written.
    pub fn polls(&self) -> bool {
        self.shared.polling.load(Ordering::Relaxed)
    }

    fn handler(&self) -> Handler {
        let shared = Arc::clone(&self.shared);
        Box::new(move |event| shared.on_event(event))
    }
}

/// The watches that are in place.
#[derive(Default)]
struct ActiveWatches {
    events: Option<EventSource>,
    /// By path with links resolved.
    watches: BTreeMap<PathBuf, Identity>,
}

/// Identity of a directory, independent of its path: device and inode.
type Identity = (u64, u64);

fn identity(directory: &Path) -> Option<Identity> {
    let found = fs::metadata(directory).ok()?;
    Some((found.dev(), found.ino()))
}

impl ActiveWatches {
    /// Adds and removes watches until there is one for each wanted directory. Watches at or below a lost path are gone.
    /// Returns true if one was added, and the first error if one failed.
    fn update(
        &mut self,
        wanted: &BTreeSet<PathBuf>,
        lost: &[PathBuf],
        handler: impl FnOnce() -> Handler,
        backend: Backend,
    ) -> notify::Result<bool> {
        let events = match &mut self.events {
            Some(events) => events,
            none => none.insert(backend(handler())?),
        };
        // Old watches first: a renamed directory can be watched under one path only.
        self.watches.retain(|path, watched| {
            let keep = wanted.contains(path)
                && !lost.iter().any(|lost| path.starts_with(lost))
                && identity(path) == Some(*watched);
            if !keep {
                // It may be gone with its directory.
                let _ = events.unwatch(path);
            }
            keep
        });
        let mut added = false;
        let mut first_error = None;
        let new: Vec<&PathBuf> = wanted.iter().filter(|path| !self.watches.contains_key(*path)).collect();
        for path in new {
            // Removed meanwhile, which the watch on its parent reports.
            let Some(identity) = identity(path) else {
                continue;
            };
            match events.watch(path, RecursiveMode::NonRecursive) {
                Ok(()) => {
                    self.watches.insert(path.clone(), identity);
                    added = true;
                }
                Err(_) if !path.is_dir() => added = true,
                Err(error) => first_error = first_error.or(Some(error)),
            }
        }
        first_error.map_or(Ok(added), Err)
    }
}

/// Why changes in a directory may not be reported: its files can be changed on another machine, or by a process behind the
/// file system.
fn silent_file_system(directory: &Path) -> Option<String> {
    let magic = rustix::fs::statfs(directory).ok()?.f_type as u64;
    let name = shared_file_system(magic)?;
    Some(format!("{} is on {name}, which does not report all changes", directory.display()))
}

/// Name of a file system that is shared with other machines or served by a process, by its number in statfs(2).
fn shared_file_system(magic: u64) -> Option<&'static str> {
    Some(match magic & 0xFFFF_FFFF {
        0x6969 => "NFS",
        0x517B | 0xFF53_4D42 | 0xFE53_4D42 => "SMB",
        // Also the drives of Windows in WSL.
        0x0102_1997 => "9p",
        // Also virtiofs, which virtual machines use.
        0x6573_5546 => "FUSE",
        0x00C3_6400 => "Ceph",
        0x5346_414F | 0x6B41_4653 => "AFS",
        0x786F_4256 => "vboxsf",
        _ => return None,
    })
}

/// Error of a backend as a message.
fn notify_message(error: &notify::Error) -> String {
    match &error.kind {
        ErrorKind::MaxFilesWatch => "limit of file watches reached (sysctl fs.inotify.max_user_watches)".into(),
        ErrorKind::Io(error) if error.kind() == std::io::ErrorKind::PermissionDenied => {
            "permission denied for a directory".into()
        }
        _ => error.to_string(),
    }
}

/// State shared by the backend's thread, the reading thread and the sending task.
#[derive(Default)]
struct Shared {
    state: Mutex<WatchState>,
    /// Notified of relevant changes.
    changed: Notify,
    polling: AtomicBool,
}

impl Shared {
    fn on_event(&self, event: notify::Result<notify::Event>) {
        let mut state = lock(&self.state);
        let relevant = match event {
            Ok(event) if !event.need_rescan() => state.is_relevant(&event),
            // Any change may have been missed, and any watch may be gone.
            _ => {
                state.lost = vec![PathBuf::from("/")];
                true
            }
        };
        if relevant {
            self.changed.notify_one();
        }
    }
}

/// Which events are relevant, and which watches are gone.
#[derive(Default)]
struct WatchState {
    /// By directory, with links resolved.
    interests: HashMap<PathBuf, Interest>,
    /// Paths that were moved or removed since the last reading. Watches at and below them are gone: the inode of a removed
    /// directory may be reused, and `notify` drops the watches of a moved one.
    lost: Vec<PathBuf>,
}

/// Which entries of a directory are relevant.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
struct Interest {
    /// Specs, and directories that may contain some.
    specs: bool,
    /// All entries.
    all: bool,
    /// Entries by name.
    names: BTreeSet<OsString>,
    /// Entries that are relevant when they are replaced, by name.
    replaceable: BTreeSet<OsString>,
}

impl WatchState {
    /// Returns true if the event may change the specs.
    fn is_relevant(&mut self, event: &notify::Event) -> bool {
        let moved = match event.kind {
            EventKind::Access(AccessKind::Close(AccessMode::Write)) => false,
            // Caused by reading the specs.
            EventKind::Access(_) => return false,
            EventKind::Remove(_) | EventKind::Modify(ModifyKind::Name(_)) => true,
            _ => false,
        };
        let replaced = moved || matches!(event.kind, EventKind::Create(_));
        let mut relevant = event.paths.is_empty();
        for path in &event.paths {
            if moved && self.interests.keys().any(|directory| directory.starts_with(path)) {
                self.lost.push(path.clone());
                relevant = true;
            }
            relevant = relevant || self.is_relevant_path(path, replaced);
        }
        relevant
    }

    fn is_relevant_path(&self, path: &Path, replaced: bool) -> bool {
        if self.interests.contains_key(path) {
            return true;
        }
        let (Some(directory), Some(name)) = (path.parent(), path.file_name()) else {
            return true;
        };
        self.interests.get(directory).is_some_and(|interest| {
            interest.all
                || interest.names.contains(name)
                || replaced && interest.replaceable.contains(name)
                || interest.specs
                    && name.to_str().is_some_and(|name| !is_hidden(name) && (is_spec(name) || path.is_dir()))
        })
    }
}

impl WatchedPaths {
    fn interests(&self) -> HashMap<PathBuf, Interest> {
        let mut interests: HashMap<PathBuf, Interest> = HashMap::new();
        for directory in self.directories.iter().filter_map(|directory| directory.canonicalize().ok()) {
            interests.entry(directory).or_default().specs = true;
        }
        for directory in self.trees.iter().filter_map(|directory| directory.canonicalize().ok()) {
            interests.entry(directory).or_default().all = true;
        }
        for entry in &self.replaceable {
            visit_links(entry, |directory, name| {
                interests.entry(directory.to_owned()).or_default().replaceable.insert(name.to_owned());
            });
        }
        for entry in &self.entries {
            visit_links(entry, |directory, name| {
                interests.entry(directory.to_owned()).or_default().names.insert(name.to_owned());
            });
        }
        interests
    }
}

/// Visits the entries that decide where an absolute path leads: its last one, each link on the way, and the first that
/// does not exist. `visit` receives the directory of the entry, with links resolved, and its name.
fn visit_links(path: &Path, mut visit: impl FnMut(&Path, &OsStr)) {
    let mut rest: VecDeque<OsString> = path.iter().map(OsStr::to_owned).collect();
    let mut directory = PathBuf::from("/");
    let mut links = 0;
    while let Some(part) = rest.pop_front() {
        match Path::new(&part).components().next() {
            Some(Component::Normal(name)) => {
                let entry = directory.join(name);
                if let Ok(target) = fs::read_link(&entry) {
                    visit(&directory, name);
                    links += 1;
                    if links > MAX_LINKS {
                        return;
                    }
                    for part in target.iter().rev() {
                        rest.push_front(part.to_owned());
                    }
                    continue;
                }
                if rest.is_empty() || !entry.is_dir() {
                    return visit(&directory, name);
                }
                directory = entry;
            }
            Some(Component::ParentDir) => {
                directory.pop();
            }
            Some(Component::RootDir) => directory = PathBuf::from("/"),
            Some(Component::CurDir | Component::Prefix(_)) | None => {}
        }
    }
}

/// Sends a message after each burst of changes, and at an interval in any case.
async fn send_changes(shared: Arc<Shared>, changes: mpsc::Sender<()>) {
    loop {
        let interval = if shared.polling.load(Ordering::Relaxed) { POLL_INTERVAL } else { RESYNC_INTERVAL };
        tokio::select! {
            biased;
            // cancel-safe because it ends the task
            () = changes.closed() => return,
            // cancel-safe because a notification that was not received stays
            () = shared.changed.notified() => wait_until_quiet(&shared.changed).await,
            // cancel-safe because the interval starts again with each turn
            () = sleep(interval) => {}
        }
        // A message that is already waiting is enough.
        let _ = changes.try_send(());
    }
}

/// Waits until there is no change for [`DEBOUNCE`], at most for [`MAX_DELAY`].
async fn wait_until_quiet(changed: &Notify) {
    let deadline = Instant::now() + MAX_DELAY;
    while Instant::now() < deadline
        && timeout_at(deadline.min(Instant::now() + DEBOUNCE), changed.notified()).await.is_ok()
    {}
}

/// Locks a mutex. A panic never leaves the data inconsistent, so poisoning is ignored.
fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Times of the messages for changes at these times, all in milliseconds since the start.
    async fn message_times(changed_at: &[u64], polling: bool, until: u64) -> Vec<u64> {
        let start = Instant::now();
        let shared = Arc::new(Shared { polling: polling.into(), ..Shared::default() });
        let (sender, mut changes) = mpsc::channel(1);
        let _task = AbortOnDropHandle::new(tokio::spawn(send_changes(Arc::clone(&shared), sender)));
        let changed_at: Vec<u64> = changed_at.to_owned();
        let _other = AbortOnDropHandle::new(tokio::spawn(async move {
            for at in changed_at {
                tokio::time::sleep_until(start + Duration::from_millis(at)).await;
                shared.changed.notify_one();
            }
        }));
        let mut times = Vec::new();
        while let Ok(Some(())) = timeout_at(start + Duration::from_millis(until), changes.recv()).await {
            times.push(start.elapsed().as_millis() as u64);
        }
        times
    }

    #[tokio::test(start_paused = true)]
    async fn message_is_sent_once_changes_stop() {
        assert_eq!(message_times(&[100], false, 20_000).await, [600]);
        assert_eq!(message_times(&[100, 400, 700], false, 20_000).await, [1200], "written in steps");
        assert_eq!(message_times(&[100, 700], false, 20_000).await, [600, 1200], "two changes");
    }

    #[tokio::test(start_paused = true)]
    async fn endless_changes_delay_a_message_up_to_a_maximum() {
        let always: Vec<u64> = (0..120).map(|n| n * 100).collect();
        let times = message_times(&always, false, 20_000).await;
        assert!(times.len() == 3 && times[0] <= 5_100 && times[1] <= 10_200 && times[2] == 12_400, "{times:?}");
    }

    #[tokio::test(start_paused = true)]
    async fn messages_are_sent_periodically_without_changes() {
        assert_eq!(message_times(&[], false, 70_000).await, [30_000, 60_000]);
        assert_eq!(message_times(&[10_000], false, 50_000).await, [10_500, 40_500], "not in the middle of a change");
        assert_eq!(message_times(&[], true, 3_500).await, [1_000, 2_000, 3_000]);
    }

    #[test]
    fn shared_file_systems_are_polled() {
        assert_eq!(shared_file_system(0x6969), Some("NFS"));
        // The number is signed on some platforms.
        assert_eq!(shared_file_system(i64::from(0xFF53_4D42_u32 as i32) as u64), Some("SMB"));
        // ext4 and tmpfs.
        assert_eq!((shared_file_system(0xEF53), shared_file_system(0x0102_1994)), (None, None));
        let home = tempfile::tempdir().unwrap();
        assert_eq!(silent_file_system(home.path()), None);
    }

    #[tokio::test]
    async fn backend_thread_ends_with_the_watcher() {
        let home = tempfile::tempdir().unwrap();
        let (watcher, changes) = Watcher::start(|_| {});
        assert!(
            watcher.follow(&WatchedPaths { directories: [home.path().to_owned()].into(), ..WatchedPaths::default() })
        );
        // The thread holds a reference through the handler.
        let shared = Arc::downgrade(&watcher.shared);
        drop((watcher, changes));
        let ended = async {
            while shared.strong_count() > 0 {
                sleep(Duration::from_millis(1)).await;
            }
        };
        tokio::time::timeout(Duration::from_secs(10), ended).await.expect("the thread ends");
    }

    #[test]
    fn every_link_on_a_path_is_visited() {
        let home = tempfile::tempdir().unwrap();
        let home = home.path().canonicalize().unwrap();
        fs::create_dir_all(home.join("real/deep")).unwrap();
        for (link, target) in [("a", "real"), ("b", "./a/../b2"), ("b2", "real/deep"), ("loop", "loop")] {
            std::os::unix::fs::symlink(target, home.join(link)).unwrap();
        }
        let links = |path: &str| {
            let mut steps = Vec::new();
            visit_links(&home.join(path), |directory, name| {
                steps.push(directory.join(name).strip_prefix(&home).unwrap().to_str().unwrap().to_owned());
            });
            steps
        };
        assert_eq!(links("real/deep/x"), ["real/deep/x"]);
        assert_eq!(links("real/none/x"), ["real/none"]);
        assert_eq!(links("a/deep"), ["a", "real/deep"]);
        assert_eq!(links("b/x"), ["b", "a", "b2", "real/deep/x"]);
        assert_eq!(links("loop/x").len(), MAX_LINKS + 1);
    }
}
