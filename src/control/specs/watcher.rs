//! Notices that what the specs are made of may have changed, and says so once it is quiet again. Reads no spec and
//! decides nothing: each message only means "look again", and a message too many is harmless.
//!
//! Only directories are watched, each by itself: a file that an editor replaces is another file afterwards, and a watch
//! on it would stay with the old one. Which directories is worked out anew after each reading.

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

/// How long nothing may happen before it is told: some editors truncate a file and write it again a little later.
pub const DEBOUNCE: Duration = Duration::from_millis(500);
/// When it is told although something happens all the time.
pub const LATEST: Duration = Duration::from_secs(5);
/// How often it is told although nothing happened, should an event have been lost.
pub const RESYNC: Duration = Duration::from_secs(30);
/// How often where events cannot be had.
pub const POLL: Duration = Duration::from_secs(1);

/// How many links a path may lead over; the system's own limit.
const MAX_LINKS: usize = 40;

/// Whether the name of a file makes it a spec.
pub(super) fn is_spec(name: &str) -> bool {
    [".yaml", ".yml", ".star"].iter().any(|ending| name.ends_with(ending))
}

/// Whether the name of a file or directory keeps it from being looked at.
pub(super) fn is_hidden(name: &str) -> bool {
    name.starts_with('.')
}

/// What decides what a reading gives.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Places {
    /// Directories that are searched for specs.
    pub directories: BTreeSet<PathBuf>,
    /// Single files and directories, there or not; links are followed, and each on the way counts.
    pub entries: BTreeSet<PathBuf>,
    /// Directories of which every entry counts.
    pub trees: BTreeSet<PathBuf>,
}

/// Takes the events of a backend.
pub type Handler = Box<dyn FnMut(notify::Result<notify::Event>) + Send>;

/// Gives the events of directories. Dropping it ends them.
pub type Events = Box<dyn notify::Watcher + Send>;

/// Makes the source of events.
pub type Backend = fn(Handler) -> notify::Result<Events>;

/// The system's own.
fn native(handler: Handler) -> notify::Result<Events> {
    Ok(Box::new(notify::recommended_watcher(handler)?))
}

/// Watches directories until it is dropped.
pub struct Watcher {
    shared: Arc<Shared>,
    backend: Backend,
    standing: Mutex<ActiveWatches>,
    tell: Box<dyn Fn(String) + Send + Sync>,
    _messages: AbortOnDropHandle<()>,
}

impl Watcher {
    /// Begins with nothing to watch and with one message, so that what happened before is seen. `tell` is given, once,
    /// a sentence for people where events cannot be had. Needs a tokio runtime.
    pub fn start(tell: impl Fn(String) + Send + Sync + 'static) -> (Watcher, mpsc::Receiver<()>) {
        Watcher::start_with(native, tell)
    }

    /// The same with events from elsewhere.
    pub fn start_with(
        backend: Backend,
        tell: impl Fn(String) + Send + Sync + 'static,
    ) -> (Watcher, mpsc::Receiver<()>) {
        let shared = Arc::new(Shared::default());
        let (sender, changes) = mpsc::channel(1);
        let _ = sender.try_send(());
        let messages = AbortOnDropHandle::new(tokio::spawn(messages(Arc::clone(&shared), sender)));
        let standing = Mutex::default();
        (Watcher { shared, backend, standing, tell: Box::new(tell), _messages: messages }, changes)
    }

    /// Watches these places from now on, and no others. True where a watch is new: something may have been written
    /// before it stood, so what was read before is to be read again.
    pub fn follow(&self, places: &Places) -> bool {
        let interests = places.interests();
        let wanted: BTreeSet<PathBuf> = interests.keys().cloned().collect();
        // Not held while the backend is called: the thread that answers the call hands out events as well.
        let lost = {
            let mut known = lock(&self.shared.known);
            known.interests = interests;
            std::mem::take(&mut known.lost)
        };
        let followed = lock(&self.standing).follow(&wanted, &lost, || self.handler(), self.backend);
        let (grew, trouble) = match followed {
            Ok(grew) => (grew, None),
            Err(error) => (false, Some(error)),
        };
        let polled = self.shared.polling.swap(trouble.is_some(), Ordering::Relaxed);
        if let Some(error) = trouble.filter(|_| !polled) {
            (self.tell)(format!("watching files by polling: {}", notify_message(&error)));
            self.shared.touched.notify_one();
        }
        grew
    }

    /// Whether changes are found by looking every now and then, which may be while a file is being written.
    pub fn polls(&self) -> bool {
        self.shared.polling.load(Ordering::Relaxed)
    }

    fn handler(&self) -> Handler {
        let shared = Arc::clone(&self.shared);
        Box::new(move |event| shared.heard(event))
    }
}

/// The watches that stand.
#[derive(Default)]
struct ActiveWatches {
    events: Option<Events>,
    /// Each directory by its path without links, and which directory it was.
    watches: BTreeMap<PathBuf, Identity>,
}

/// Which directory it is, whatever its path: device and inode.
type Identity = (u64, u64);

fn identity(directory: &Path) -> Option<Identity> {
    let found = fs::metadata(directory).ok()?;
    Some((found.dev(), found.ino()))
}

impl ActiveWatches {
    /// Makes the watches those of the wanted directories; those at or below a lost path are gone. True where one is
    /// new; the first error where one cannot be had.
    fn follow(
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
        // The old ones first: a directory that was renamed can be watched under one path only.
        self.watches.retain(|path, known| {
            let stands = wanted.contains(path)
                && !lost.iter().any(|lost| path.starts_with(lost))
                && identity(path) == Some(*known);
            if !stands {
                // It may have gone with its directory.
                let _ = events.unwatch(path);
            }
            stands
        });
        let mut grew = false;
        let mut trouble = None;
        let new: Vec<&PathBuf> = wanted.iter().filter(|path| !self.watches.contains_key(*path)).collect();
        for path in new {
            // One that is gone by now is seen in its parent.
            let Some(identity) = identity(path) else {
                continue;
            };
            match events.watch(path, RecursiveMode::NonRecursive) {
                Ok(()) => {
                    self.watches.insert(path.clone(), identity);
                    grew = true;
                }
                Err(_) if !path.is_dir() => grew = true,
                Err(error) => trouble = trouble.or(Some(error)),
            }
        }
        trouble.map_or(Ok(grew), Err)
    }
}

/// What is wrong with a backend, for people.
fn notify_message(error: &notify::Error) -> String {
    match &error.kind {
        ErrorKind::MaxFilesWatch => {
            "the system's limit of watches is reached (sysctl fs.inotify.max_user_watches)".into()
        }
        ErrorKind::Io(error) if error.kind() == std::io::ErrorKind::PermissionDenied => {
            "a directory may not be read".into()
        }
        _ => error.to_string(),
    }
}

/// What the thread of the backend, the one that reads and the task that sends messages have in common.
#[derive(Default)]
struct Shared {
    known: Mutex<Known>,
    /// Something of interest happened.
    touched: Notify,
    polling: AtomicBool,
}

impl Shared {
    /// Takes an event.
    fn heard(&self, event: notify::Result<notify::Event>) {
        let mut known = lock(&self.known);
        let counts = match event {
            Ok(event) if !event.need_rescan() => known.concerns(&event),
            // Nobody knows what was missed, nor which watches have gone.
            _ => {
                known.lost = vec![PathBuf::from("/")];
                true
            }
        };
        if counts {
            self.touched.notify_one();
        }
    }
}

/// What is of interest, and what went.
#[derive(Default)]
struct Known {
    /// By directory, without links.
    interests: HashMap<PathBuf, Interest>,
    /// Paths that were moved or removed since the last reading. The watches there and below are gone with them: the
    /// number of a removed directory is given to the next, and notify forgets the watches of what was moved.
    lost: Vec<PathBuf>,
}

/// What is of interest in a directory.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
struct Interest {
    /// Specs, and directories that may hold some.
    specs: bool,
    /// Everything.
    all: bool,
    /// These entries.
    names: BTreeSet<OsString>,
}

impl Known {
    /// Whether an event may change what is read.
    fn concerns(&mut self, event: &notify::Event) -> bool {
        let moved = match event.kind {
            EventKind::Access(AccessKind::Close(AccessMode::Write)) => false,
            // Reading the specs brings these.
            EventKind::Access(_) => return false,
            EventKind::Remove(_) | EventKind::Modify(ModifyKind::Name(_)) => true,
            _ => false,
        };
        let mut counts = event.paths.is_empty();
        for path in &event.paths {
            if moved && self.interests.keys().any(|directory| directory.starts_with(path)) {
                self.lost.push(path.clone());
                counts = true;
            }
            counts = counts || self.matters(path);
        }
        counts
    }

    fn matters(&self, path: &Path) -> bool {
        if self.interests.contains_key(path) {
            return true;
        }
        let (Some(directory), Some(name)) = (path.parent(), path.file_name()) else {
            return true;
        };
        self.interests.get(directory).is_some_and(|interest| {
            interest.all
                || interest.names.contains(name)
                || interest.specs
                    && name.to_str().is_some_and(|name| !is_hidden(name) && (is_spec(name) || path.is_dir()))
        })
    }
}

impl Places {
    fn interests(&self) -> HashMap<PathBuf, Interest> {
        let mut interests: HashMap<PathBuf, Interest> = HashMap::new();
        for directory in self.directories.iter().filter_map(|directory| directory.canonicalize().ok()) {
            interests.entry(directory).or_default().specs = true;
        }
        for directory in self.trees.iter().filter_map(|directory| directory.canonicalize().ok()) {
            interests.entry(directory).or_default().all = true;
        }
        for entry in &self.entries {
            trail(entry, |directory, name| {
                interests.entry(directory.to_owned()).or_default().names.insert(name.to_owned());
            });
        }
        interests
    }
}

/// The entries that decide where an absolute path leads: its last one, each link on the way, and the first that is not
/// there. Each is given as the directory that holds it, without links, and its name.
fn trail(path: &Path, mut step: impl FnMut(&Path, &OsStr)) {
    let mut rest: VecDeque<OsString> = path.iter().map(OsStr::to_owned).collect();
    let mut at = PathBuf::from("/");
    let mut links = 0;
    while let Some(part) = rest.pop_front() {
        match Path::new(&part).components().next() {
            Some(Component::Normal(name)) => {
                let entry = at.join(name);
                if let Ok(target) = fs::read_link(&entry) {
                    step(&at, name);
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
                    return step(&at, name);
                }
                at = entry;
            }
            Some(Component::ParentDir) => {
                at.pop();
            }
            Some(Component::RootDir) => at = PathBuf::from("/"),
            Some(Component::CurDir | Component::Prefix(_)) | None => {}
        }
    }
}

/// Sends a message when something happened and it is quiet again, and every now and then anyway.
async fn messages(shared: Arc<Shared>, changes: mpsc::Sender<()>) {
    loop {
        let pause = if shared.polling.load(Ordering::Relaxed) { POLL } else { RESYNC };
        tokio::select! {
            biased;
            // cancel-safe because it ends the task
            () = changes.closed() => return,
            // cancel-safe because a notification that was not received stays
            () = shared.touched.notified() => quiet(&shared.touched).await,
            // cancel-safe because the time begins anew with each turn
            () = sleep(pause) => {}
        }
        // Where one waits already, it is enough.
        let _ = changes.try_send(());
    }
}

/// Waits until nothing has happened for a while, but not for ever.
async fn quiet(touched: &Notify) {
    let latest = Instant::now() + LATEST;
    while Instant::now() < latest && timeout_at(latest.min(Instant::now() + DEBOUNCE), touched.notified()).await.is_ok()
    {
    }
}

/// A panic elsewhere leaves nothing here half done.
fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Says when each message came, in milliseconds from the start, while things happen at these times.
    async fn told(touches: &[u64], polling: bool, until: u64) -> Vec<u64> {
        let start = Instant::now();
        let shared = Arc::new(Shared { polling: polling.into(), ..Shared::default() });
        let (sender, mut changes) = mpsc::channel(1);
        let _task = AbortOnDropHandle::new(tokio::spawn(messages(Arc::clone(&shared), sender)));
        let touches: Vec<u64> = touches.to_owned();
        let _other = AbortOnDropHandle::new(tokio::spawn(async move {
            for at in touches {
                tokio::time::sleep_until(start + Duration::from_millis(at)).await;
                shared.touched.notify_one();
            }
        }));
        let mut told = Vec::new();
        while let Ok(Some(())) = timeout_at(start + Duration::from_millis(until), changes.recv()).await {
            told.push(start.elapsed().as_millis() as u64);
        }
        told
    }

    #[tokio::test(start_paused = true)]
    async fn what_happens_is_told_once_it_is_quiet() {
        assert_eq!(told(&[100], false, 20_000).await, [600]);
        assert_eq!(told(&[100, 400, 700], false, 20_000).await, [1200], "written in steps");
        assert_eq!(told(&[100, 700], false, 20_000).await, [600, 1200], "two changes");
    }

    #[tokio::test(start_paused = true)]
    async fn what_never_ends_is_told_all_the_same() {
        let always: Vec<u64> = (0..120).map(|n| n * 100).collect();
        let told = told(&always, false, 20_000).await;
        assert!(told.len() == 3 && told[0] <= 5_100 && told[1] <= 10_200 && told[2] == 12_400, "{told:?}");
    }

    #[tokio::test(start_paused = true)]
    async fn it_is_told_every_now_and_then() {
        assert_eq!(told(&[], false, 70_000).await, [30_000, 60_000]);
        assert_eq!(told(&[10_000], false, 50_000).await, [10_500, 40_500], "not in the middle of a change");
        assert_eq!(told(&[], true, 3_500).await, [1_000, 2_000, 3_000]);
    }

    #[tokio::test]
    async fn the_thread_ends_with_the_watcher() {
        let home = tempfile::tempdir().unwrap();
        let (watcher, changes) = Watcher::start(|_| {});
        assert!(watcher.follow(&Places { directories: [home.path().to_owned()].into(), ..Places::default() }));
        // The thread holds it through the handler.
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
    fn every_link_on_the_way_counts() {
        let home = tempfile::tempdir().unwrap();
        let home = home.path().canonicalize().unwrap();
        fs::create_dir_all(home.join("real/deep")).unwrap();
        for (link, target) in [("a", "real"), ("b", "./a/../b2"), ("b2", "real/deep"), ("loop", "loop")] {
            std::os::unix::fs::symlink(target, home.join(link)).unwrap();
        }
        let trail = |path: &str| {
            let mut steps = Vec::new();
            trail(&home.join(path), |directory, name| {
                steps.push(directory.join(name).strip_prefix(&home).unwrap().to_str().unwrap().to_owned());
            });
            steps
        };
        assert_eq!(trail("real/deep/x"), ["real/deep/x"]);
        assert_eq!(trail("real/none/x"), ["real/none"]);
        assert_eq!(trail("a/deep"), ["a", "real/deep"]);
        assert_eq!(trail("b/x"), ["b", "a", "b2", "real/deep/x"]);
        assert_eq!(trail("loop/x").len(), MAX_LINKS + 1);
    }
}
