//! Specs that change on a real file system, in all the ways in which people and programs change files.
//!
//! Each test waits for what should happen. That something does not happen is seen in a time in which it would have.

#![allow(clippy::unwrap_used)] // a test that cannot prepare its ground fails

use std::collections::BTreeSet;
use std::fmt::Write;
use std::fs;
use std::os::unix::fs::{PermissionsExt, symlink};
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use drillmaster::control::event::Reading;
use drillmaster::control::execute::outputs::OutputStore;
use drillmaster::control::specs::sources::{Reader, SpecInput};
use drillmaster::control::specs::watcher::{self, Backend, EventSource, Handler, WatchedPaths, Watcher};
use drillmaster::spec::model::Build;
use drillmaster::spec::{Content, Diagnostic};
use notify::{EventHandler, RecursiveMode};
use tempfile::TempDir;
use tokio::sync::mpsc;
use tokio::time::{Instant, sleep, timeout};

/// How long something that should happen may take.
const DEADLINE: Duration = Duration::from_secs(20);
/// In this time something that should not happen would have.
const WINDOW: Duration = Duration::from_millis(800);

/// A spec directory `specs` in a directory of its own, and somebody who reads it.
struct Ground {
    home: TempDir,
    reader: Reader,
    changes: mpsc::Receiver<()>,
    parsed: Arc<AtomicUsize>,
    told: Arc<Mutex<Vec<String>>>,
}

impl Ground {
    /// Prepares what there is at first, and reads it.
    async fn new(prepare: impl FnOnce(&Path)) -> Ground {
        let mut ground = Ground::unread(None, prepare);
        ground.message().await;
        ground.read();
        ground
    }

    fn unread(backend: Option<Backend>, prepare: impl FnOnce(&Path)) -> Ground {
        let home = tempfile::tempdir().unwrap();
        prepare(home.path());
        let (parsed, told) = (Arc::new(AtomicUsize::new(0)), Arc::new(Mutex::new(Vec::new())));
        let (count, heard) = (Arc::clone(&parsed), Arc::clone(&told));
        let tell = move |sentence| heard.lock().unwrap().push(sentence);
        let (watcher, changes) = match backend {
            Some(backend) => Watcher::start_with(backend, tell),
            None => Watcher::start(tell),
        };
        let parse = move |input: SpecInput<'_>| {
            count.fetch_add(1, Ordering::Relaxed);
            Reading::Invalid(vec![Diagnostic::new(say(&input))])
        };
        let reader = Reader::new(home.path().join("specs"), watcher, OutputStore::default(), Box::new(parse));
        Ground { home, reader, changes, parsed, told }
    }

    fn path(&self, path: &str) -> PathBuf {
        self.home.path().join(path)
    }

    fn write(&self, path: &str, text: &str) {
        write(self.home.path(), path, text);
    }

    /// What the specs say now: each file with its text, a line each.
    fn read(&self) -> String {
        match self.reader.read() {
            Reading::Invalid(said) => said[0].message.clone(),
            Reading::Valid(_) => unreachable!("nothing here is valid"),
        }
    }

    /// Waits until it is said that something may have changed.
    #[track_caller]
    fn message(&mut self) -> impl Future<Output = ()> {
        let place = std::panic::Location::caller();
        async move {
            let message = timeout(DEADLINE, self.changes.recv()).await;
            assert!(message.is_ok_and(|message| message.is_some()), "nothing was said of the change: {place}");
        }
    }

    /// Sees that it is not.
    #[track_caller]
    fn silence(&mut self) -> impl Future<Output = ()> {
        let place = std::panic::Location::caller();
        async move {
            assert!(timeout(WINDOW, self.changes.recv()).await.is_err(), "a message for nothing: {place}");
        }
    }

    /// Sees that there is exactly one message, and that the specs say this then.
    #[track_caller]
    fn once(&mut self, said: &str) -> impl Future<Output = ()> {
        let place = std::panic::Location::caller();
        let said = said.to_owned();
        async move {
            self.message().await;
            assert_eq!(self.read(), said, "{place}");
            self.silence().await;
        }
    }
}

fn write(home: &Path, path: &str, text: &str) {
    let path = home.join(path);
    fs::create_dir_all(path.parent().unwrap()).unwrap();
    fs::write(path, text).unwrap();
}

/// One file that says `one`.
fn one(home: &Path) {
    write(home, "specs/web.yaml", "one");
}

/// A link under this name, which may be taken, leads to the target.
fn swap(target: impl AsRef<Path>, link: PathBuf) {
    let new = link.with_extension("new");
    symlink(target, &new).unwrap();
    fs::rename(new, link).unwrap();
}

/// What was found, in words. A text `env_file FILE` asks for a further file, `build DIRECTORY` for what is built from.
fn say(input: &SpecInput<'_>) -> String {
    let sources = match input.sources {
        Ok(sources) => sources,
        Err(_) => return "no directory".into(),
    };
    let mut said = String::new();
    for file in sources.files.iter().chain(&sources.dotenv) {
        let text = match &file.content {
            Content::Bytes(bytes) => String::from_utf8(bytes.clone()).unwrap(),
            Content::TooLarge(_) => "too large".into(),
            Content::Unreadable(why) => why.clone(),
        };
        write!(said, "{}: {text}", file.path).unwrap();
        if let Some(path) = text.strip_prefix("env_file ") {
            let read = (input.read)(path).map_or_else(|why| why, |bytes| String::from_utf8(bytes).unwrap());
            write!(said, " = {read}").unwrap();
        }
        if let Some(context) = text.strip_prefix("build ") {
            let build = Build {
                context: context.into(),
                dockerfile: None,
                target: None,
                args: Default::default(),
                labels: Default::default(),
            };
            let tree = (input.tree)(&build).map_or_else(|why| format!("{why:?}"), |tree| tree.digest[..8].to_owned());
            write!(said, " = {tree}").unwrap();
        }
        said.push('\n');
    }
    said
}

#[tokio::test]
async fn a_file_is_written_in_place() {
    let mut ground = Ground::new(one).await;
    assert_eq!(ground.read(), "web.yaml: one\n");
    ground.write("specs/web.yaml", "two");
    ground.once("web.yaml: two\n").await;
}

#[tokio::test]
async fn a_file_is_saved_as_sed_does_it() {
    let mut ground = Ground::new(one).await;
    ground.write("specs/sedA1b2C3", "two");
    fs::rename(ground.path("specs/sedA1b2C3"), ground.path("specs/web.yaml")).unwrap();
    ground.once("web.yaml: two\n").await;
}

#[tokio::test]
async fn a_file_is_saved_as_vi_does_it() {
    let mut ground = Ground::new(one).await;
    ground.write("specs/4913", "");
    fs::remove_file(ground.path("specs/4913")).unwrap();
    fs::rename(ground.path("specs/web.yaml"), ground.path("specs/web.yaml~")).unwrap();
    ground.write("specs/web.yaml", "two");
    fs::remove_file(ground.path("specs/web.yaml~")).unwrap();
    ground.once("web.yaml: two\n").await;
}

#[tokio::test]
async fn a_file_is_moved_into_place_and_away() {
    let mut ground = Ground::new(|home| {
        one(home);
        write(home, "elsewhere/db.yaml", "db");
    })
    .await;
    fs::rename(ground.path("elsewhere/db.yaml"), ground.path("specs/db.yaml")).unwrap();
    ground.once("db.yaml: db\nweb.yaml: one\n").await;
    fs::rename(ground.path("specs/db.yaml"), ground.path("elsewhere/db.yaml")).unwrap();
    ground.once("web.yaml: one\n").await;
    fs::remove_file(ground.path("specs/web.yaml")).unwrap();
    ground.once("").await;
}

#[tokio::test]
async fn half_written_file_is_not_reported() {
    let mut ground = Ground::new(one).await;
    loop {
        let start = Instant::now();
        ground.write("specs/web.yaml", "");
        sleep(Duration::from_millis(300)).await;
        ground.write("specs/web.yaml", "two");
        if start.elapsed() < watcher::DEBOUNCE {
            break;
        }
        // The machine was too busy to write it in time: that is not what is looked at here.
        ground.message().await;
        ground.silence().await;
    }
    ground.once("web.yaml: two\n").await;
}

#[tokio::test]
async fn many_saves_are_few_messages() {
    let mut ground = Ground::new(one).await;
    let home = ground.home.path().to_owned();
    let writer = std::thread::spawn(move || {
        let start = Instant::now();
        let mut stalled = false;
        for count in 1..=50 {
            let before = Instant::now();
            write(&home, "specs/.web.yaml.new", &count.to_string());
            fs::rename(home.join("specs/.web.yaml.new"), home.join("specs/web.yaml")).unwrap();
            std::thread::sleep(Duration::from_millis(20));
            stalled |= before.elapsed() >= watcher::DEBOUNCE;
        }
        stalled || start.elapsed() >= watcher::MAX_DELAY - watcher::DEBOUNCE
    });
    ground.message().await;
    let mut messages = 1;
    while timeout(WINDOW, ground.changes.recv()).await.is_ok() {
        messages += 1;
    }
    assert_eq!(ground.read(), "web.yaml: 50\n");
    // Where the machine was too busy to write them in time, more are right.
    assert!(writer.join().unwrap() || messages <= 2, "{messages} messages");
}

#[tokio::test]
async fn a_directory_comes_and_goes_and_comes_again() {
    let mut ground = Ground::new(one).await;
    for text in ["db", "again"] {
        fs::create_dir_all(ground.path("specs/sub/deep")).unwrap();
        ground.write("specs/sub/deep/db.yaml", text);
        ground.once(&format!("sub/deep/db.yaml: {text}\nweb.yaml: one\n")).await;
        // It is watched as well.
        ground.write("specs/sub/deep/db.yaml", "other");
        ground.once("sub/deep/db.yaml: other\nweb.yaml: one\n").await;
        fs::remove_dir_all(ground.path("specs/sub")).unwrap();
        ground.once("web.yaml: one\n").await;
    }
}

#[tokio::test]
async fn directory_recreated_between_two_readings() {
    let mut ground = Ground::new(|home| write(home, "specs/sub/db.yaml", "db")).await;
    // The second one may have the number of the first.
    fs::remove_dir_all(ground.path("specs/sub")).unwrap();
    ground.write("specs/sub/db.yaml", "again");
    ground.once("sub/db.yaml: again\n").await;
    ground.write("specs/sub/db.yaml", "other");
    ground.once("sub/db.yaml: other\n").await;
}

#[tokio::test]
async fn a_directory_is_renamed() {
    let mut ground = Ground::new(|home| write(home, "specs/sub/deep/db.yaml", "db")).await;
    fs::rename(ground.path("specs/sub"), ground.path("specs/other")).unwrap();
    ground.once("other/deep/db.yaml: db\n").await;
    ground.write("specs/other/deep/db.yaml", "two");
    ground.once("other/deep/db.yaml: two\n").await;
    // Another takes its old name.
    ground.write("specs/sub/deep/db.yaml", "new");
    ground.once("other/deep/db.yaml: two\nsub/deep/db.yaml: new\n").await;
    ground.write("specs/other/deep/db.yaml", "three");
    ground.once("other/deep/db.yaml: three\nsub/deep/db.yaml: new\n").await;
    ground.write("specs/sub/deep/db.yaml", "newer");
    ground.once("other/deep/db.yaml: three\nsub/deep/db.yaml: newer\n").await;
}

#[tokio::test]
async fn a_link_to_a_file_is_swapped() {
    let mut ground = Ground::new(|home| {
        write(home, "store/1.yaml", "one");
        write(home, "store/2.yaml", "two");
        fs::create_dir(home.join("specs")).unwrap();
        symlink("../store/1.yaml", home.join("specs/web.yaml")).unwrap();
    })
    .await;
    ground.write("store/1.yaml", "edited");
    ground.once("web.yaml: edited\n").await;
    ground.write("store/2.yaml", "nobody reads it yet");
    ground.silence().await;
    swap("../store/2.yaml", ground.path("specs/web.yaml"));
    ground.once("web.yaml: nobody reads it yet\n").await;
    ground.write("store/2.yaml", "read");
    ground.once("web.yaml: read\n").await;
}

#[tokio::test]
async fn a_link_to_a_directory_is_swapped() {
    let mut ground = Ground::new(|home| {
        write(home, "store/1/web.yaml", "one");
        write(home, "store/2/web.yaml", "two");
        fs::create_dir(home.join("specs")).unwrap();
        symlink("../store/1", home.join("specs/sub")).unwrap();
    })
    .await;
    ground.write("store/1/web.yaml", "edited");
    ground.once("sub/web.yaml: edited\n").await;
    swap("../store/2", ground.path("specs/sub"));
    ground.once("sub/web.yaml: two\n").await;
    ground.write("store/2/web.yaml", "three");
    ground.once("sub/web.yaml: three\n").await;
    // What it leads to is replaced as a whole.
    fs::rename(ground.path("store/2"), ground.path("store/old")).unwrap();
    fs::rename(ground.path("store/1"), ground.path("store/2")).unwrap();
    ground.once("sub/web.yaml: edited\n").await;
    fs::remove_file(ground.path("specs/sub")).unwrap();
    ground.once("").await;
}

#[tokio::test]
async fn files_are_swapped_as_kubernetes_does_it() {
    let mut ground = Ground::new(|home| {
        write(home, "specs/..1/web.yaml", "one");
        symlink("..1", home.join("specs/..data")).unwrap();
        symlink("..data/web.yaml", home.join("specs/web.yaml")).unwrap();
    })
    .await;
    for (number, text) in [(2, "two"), (3, "three")] {
        ground.write(&format!("specs/..{number}/web.yaml"), text);
        symlink(format!("..{number}"), ground.path("specs/..data_tmp")).unwrap();
        fs::rename(ground.path("specs/..data_tmp"), ground.path("specs/..data")).unwrap();
        fs::remove_dir_all(ground.path(&format!("specs/..{}", number - 1))).unwrap();
        ground.once(&format!("web.yaml: {text}\n")).await;
    }
}

#[tokio::test]
async fn the_spec_directory_is_replaced() {
    let mut ground = Ground::new(|home| {
        one(home);
        write(home, "next/web.yaml", "two");
    })
    .await;
    fs::rename(ground.path("specs"), ground.path("old")).unwrap();
    fs::rename(ground.path("next"), ground.path("specs")).unwrap();
    ground.once("web.yaml: two\n").await;
    ground.write("specs/web.yaml", "three");
    ground.once("web.yaml: three\n").await;
    ground.write("old/web.yaml", "old");
    ground.silence().await;

    fs::remove_dir_all(ground.path("specs")).unwrap();
    ground.once("no directory").await;
    one(ground.home.path());
    ground.once("web.yaml: one\n").await;
    ground.write("specs/web.yaml", "four");
    ground.once("web.yaml: four\n").await;
}

#[tokio::test]
async fn a_directory_far_above_is_replaced() {
    let home = tempfile::tempdir().unwrap();
    let specs = home.path().join("project/sub/specs");
    fs::create_dir_all(&specs).unwrap();
    let (watcher, mut changes) = Watcher::start(|_| {});
    let places = WatchedPaths { directories: [specs.clone()].into(), ..WatchedPaths::default() };
    assert!(watcher.follow(&places));
    assert!(!watcher.follow(&places), "the watch stands");
    fs::rename(home.path().join("project"), home.path().join("old")).unwrap();
    fs::create_dir_all(&specs).unwrap();
    // No event tells that; the next reading, for whatever reason, finds it.
    assert!(watcher.follow(&places), "another directory");
    changes.recv().await.unwrap();
    write(&specs, "web.yaml", "one");
    assert_eq!(timeout(DEADLINE, changes.recv()).await, Ok(Some(())));
}

#[tokio::test]
async fn the_spec_directory_is_a_link_and_swapped() {
    let mut ground = Ground::new(|home| {
        write(home, "1/web.yaml", "one");
        write(home, "2/web.yaml", "two");
        symlink("1", home.join("specs")).unwrap();
    })
    .await;
    swap("2", ground.path("specs"));
    ground.once("web.yaml: two\n").await;
    ground.write("2/web.yaml", "three");
    ground.once("web.yaml: three\n").await;
    ground.write("1/web.yaml", "old");
    ground.silence().await;
}

#[tokio::test]
async fn further_files_are_followed() {
    let mut ground = Ground::new(|home| {
        write(home, "specs/a.yaml", "env_file ../conf/a.env");
        write(home, "specs/b.yaml", "env_file local.env");
        write(home, "conf/a.env", "A");
    })
    .await;
    let said = |a: &str, b: &str| format!("a.yaml: env_file ../conf/a.env = {a}\nb.yaml: env_file local.env = {b}\n");
    let missing = "no such file or directory";
    assert_eq!(ground.read(), said("A", missing));
    ground.write("conf/a.env", "B");
    ground.once(&said("B", missing)).await;
    ground.write("specs/local.env", "C");
    ground.once(&said("B", "C")).await;
    ground.write("conf/unrelated", "D");
    ground.silence().await;
    fs::remove_dir_all(ground.path("conf")).unwrap();
    ground.once(&said(missing, "C")).await;
    ground.write("conf/a.env", "E");
    ground.once(&said("E", "C")).await;
    ground.write("specs/a.yaml", "no more");
    ground.once("a.yaml: no more\nb.yaml: env_file local.env = C\n").await;
    ground.write("conf/a.env", "F");
    ground.silence().await;
}

#[tokio::test]
async fn build_sources_are_watched() {
    let mut ground = Ground::new(|home| {
        write(home, "specs/a.yaml", "build ../api");
        write(home, "api/Dockerfile", "FROM x");
        write(home, "api/.dockerignore", "cache");
        write(home, "api/src/main", "one");
    })
    .await;
    let mut seen = BTreeSet::from([ground.read()]);
    assert!(!ground.read().contains("Error") && !ground.read().contains("Context"), "{}", ground.read());
    // Each of these is told, and makes it another.
    let another = async |ground: &mut Ground, seen: &mut BTreeSet<String>, what: &str| {
        ground.message().await;
        let said = ground.read();
        assert!(seen.insert(said.clone()), "{what}: {said}");
        ground.silence().await;
    };
    ground.write("api/src/main", "two");
    another(&mut ground, &mut seen, "a file").await;
    ground.write("api/src/deep/er/new", "new");
    another(&mut ground, &mut seen, "directories that are new").await;
    ground.write("api/src/deep/er/new", "newer");
    another(&mut ground, &mut seen, "a file in a directory that is new").await;
    fs::set_permissions(ground.path("api/src/main"), fs::Permissions::from_mode(0o755)).unwrap();
    another(&mut ground, &mut seen, "a mode").await;
    ground.write("api/Dockerfile", "FROM y");
    another(&mut ground, &mut seen, "the Dockerfile").await;
    ground.write("api/.dockerignore", "cache\nsrc/deep");
    another(&mut ground, &mut seen, "what is left out").await;
    fs::remove_dir_all(ground.path("api")).unwrap();
    another(&mut ground, &mut seen, "that it has gone").await;
    ground.write("api/Dockerfile", "FROM z");
    another(&mut ground, &mut seen, "that it is there again").await;
}

#[tokio::test]
async fn ignored_files_are_not_reported_and_unchanged_not_parsed() {
    let mut ground = Ground::new(|home| {
        write(home, "specs/a.yaml", "build ../api");
        write(home, "api/Dockerfile", "FROM x");
        write(home, "api/.dockerignore", "cache");
        write(home, "api/main", "one");
        write(home, "api/cache/deep/file", "one");
    })
    .await;
    let said = ground.read();
    let parsed = ground.parsed.load(Ordering::Relaxed);
    ground.write("api/cache/deep/file", "two");
    ground.write("api/cache/other", "two");
    ground.write("beside", "two");
    ground.silence().await;
    ground.write("api/main", "one");
    ground.once(&said).await;
    assert_eq!(ground.parsed.load(Ordering::Relaxed), parsed, "it was saved as it was");
    ground.write("api/.main.swp", "an editor has it open");
    ground.message().await;
    assert_eq!((ground.read(), ground.parsed.load(Ordering::Relaxed)), (said, parsed));
}

#[tokio::test]
async fn dotenv_comes_and_goes() {
    let mut ground = Ground::new(one).await;
    ground.write("specs/.env", "A=1");
    ground.once("web.yaml: one\n.env: A=1\n").await;
    ground.write("specs/.env", "A=2");
    ground.once("web.yaml: one\n.env: A=2\n").await;
    fs::remove_file(ground.path("specs/.env")).unwrap();
    ground.once("web.yaml: one\n").await;
}

#[tokio::test]
async fn unreadable_file_recovers() {
    let mut ground = Ground::new(one).await;
    symlink("../nowhere.yaml", ground.path("specs/db.yaml")).unwrap();
    ground.once("db.yaml: no such file or directory\nweb.yaml: one\n").await;
    ground.write("nowhere.yaml", "db");
    ground.once("db.yaml: db\nweb.yaml: one\n").await;

    // Whoever runs the tests as root may read it all the same.
    fs::set_permissions(ground.path("specs/web.yaml"), fs::Permissions::from_mode(0o000)).unwrap();
    ground.message().await;
    assert!(
        ["one", "permission denied"].map(|text| format!("db.yaml: db\nweb.yaml: {text}\n")).contains(&ground.read())
    );
    fs::set_permissions(ground.path("specs/web.yaml"), fs::Permissions::from_mode(0o600)).unwrap();
    ground.once("db.yaml: db\nweb.yaml: one\n").await;
}

#[tokio::test]
async fn unrelated_files_are_not_reported() {
    let mut ground = Ground::new(|home| {
        write(home, "specs/web.yaml", "env_file ../app.env");
        write(home, "app.env", "A");
        fs::create_dir(home.join("specs/sub")).unwrap();
    })
    .await;
    ground.write("specs/.web.yaml.swp", "swap");
    ground.write("specs/web.yaml~", "backup");
    ground.write("specs/#web.yaml#", "autosave");
    ground.write("specs/README.md", "words");
    fs::rename(ground.path("specs/README.md"), ground.path("specs/LICENSE")).unwrap();
    fs::remove_file(ground.path("specs/LICENSE")).unwrap();
    ground.write("specs/.git/HEAD", "git");
    ground.write("specs/sub/4913", "");
    for path in ["specs/web.yaml", "app.env", "specs/sub"] {
        fs::File::open(ground.path(path)).unwrap();
        let _ = fs::read(ground.path(path));
        let _ = fs::read_dir(ground.path("specs")).unwrap().count();
    }
    for count in 0..100 {
        ground.write(&format!("build/{count}"), "busy");
        ground.write(&format!("{count}.log"), "busy");
        fs::remove_file(ground.path(&format!("{count}.log"))).unwrap();
    }
    for _ in 0..10 {
        ground.read();
    }
    ground.silence().await;
    assert_eq!(ground.parsed.load(Ordering::Relaxed), 1, "nothing was parsed again");
}

#[tokio::test]
async fn only_what_has_changed_is_parsed_again() {
    let ground = Ground::new(|home| {
        write(home, "specs/web.yaml", "env_file ../app.env");
        write(home, "specs/.env", "A=1");
    })
    .await;
    let parsed = |ground: &Ground| {
        ground.read();
        ground.parsed.load(Ordering::Relaxed)
    };
    assert_eq!(parsed(&ground), 1);
    let text = fs::read(ground.path("specs/web.yaml")).unwrap();
    fs::write(ground.path("specs/web.yaml"), text).unwrap();
    assert_eq!(parsed(&ground), 1, "the same bytes");
    ground.write("specs/web.yaml", "env_file ../app.ENV");
    assert_eq!(parsed(&ground), 2);
    ground.write("specs/.env", "A=2");
    assert_eq!(parsed(&ground), 3);
    ground.write("app.ENV", "A");
    assert_eq!(parsed(&ground), 4, "a file that could not be read at first");
    fs::remove_dir_all(ground.path("specs")).unwrap();
    assert_eq!(parsed(&ground), 5);
    assert_eq!(parsed(&ground), 5);
}

/// Gives no events: every watch fails.
struct Full;

impl notify::Watcher for Full {
    fn new<F: EventHandler>(_: F, _: notify::Config) -> notify::Result<Self> {
        Ok(Full)
    }

    fn watch(&mut self, _: &Path, _: RecursiveMode) -> notify::Result<()> {
        Err(notify::Error::new(notify::ErrorKind::MaxFilesWatch))
    }

    fn unwatch(&mut self, _: &Path) -> notify::Result<()> {
        Ok(())
    }

    fn kind() -> notify::WatcherKind {
        notify::WatcherKind::NullWatcher
    }
}

/// Gives events, but each watch comes late: something is written before it stands.
struct Late(notify::RecommendedWatcher);

impl notify::Watcher for Late {
    fn new<F: EventHandler>(handler: F, config: notify::Config) -> notify::Result<Self> {
        Ok(Late(notify::Watcher::new(handler, config)?))
    }

    fn watch(&mut self, path: &Path, mode: RecursiveMode) -> notify::Result<()> {
        if path.ends_with("specs") {
            fs::write(path.join("web.yaml"), "late").unwrap();
        }
        self.0.watch(path, mode)
    }

    fn unwatch(&mut self, path: &Path) -> notify::Result<()> {
        self.0.unwatch(path)
    }

    fn kind() -> notify::WatcherKind {
        notify::RecommendedWatcher::kind()
    }
}

#[tokio::test]
async fn changes_before_the_watch_is_active_are_read() {
    let late: Backend = |handler| Ok(Box::new(<Late as notify::Watcher>::new(handler, notify::Config::default())?));
    let ground = Ground::unread(Some(late), one);
    assert_eq!(ground.read(), "web.yaml: late\n");
}

#[tokio::test]
async fn where_watches_run_out_specs_are_polled() {
    for (backend, why) in [
        ((|_| Ok(Box::new(Full) as EventSource)) as Backend, "limit of file watches reached"),
        (|_| Err(notify::Error::io(std::io::Error::from_raw_os_error(24))), "Too many open files"),
    ] {
        let mut ground = Ground::unread(Some(backend), one);
        ground.message().await;
        assert_eq!(ground.read(), "web.yaml: one\n");
        // Whatever happens, and also if nothing does.
        for text in ["one", "two", "three"] {
            ground.write("specs/web.yaml", text);
            ground.message().await;
            while ground.read() != format!("web.yaml: {text}\n") {
                ground.message().await;
            }
        }
        let told = ground.told.lock().unwrap();
        assert_eq!(told.len(), 1, "told once: {told:?}");
        assert!(told[0].starts_with("polling for spec changes: ") && told[0].contains(why), "{told:?}");
    }
}

#[tokio::test]
async fn where_specs_are_polled_a_half_written_file_is_not_read() {
    let mut ground = Ground::unread(Some(|_| Ok(Box::new(Full) as EventSource)), one);
    ground.message().await;
    ground.read();
    ground.write("specs/web.yaml", "");
    let web = ground.path("specs/web.yaml");
    let writer = std::thread::spawn(move || {
        std::thread::sleep(Duration::from_millis(200));
        fs::write(web, "two").unwrap();
    });
    let said = ground.read();
    writer.join().unwrap();
    assert_eq!(said, "web.yaml: two\n");
}

#[tokio::test]
async fn polling_ends_when_there_are_watches_again() {
    static FULL: AtomicBool = AtomicBool::new(true);
    fn backend(handler: Handler) -> notify::Result<EventSource> {
        if FULL.load(Ordering::Relaxed) {
            return Err(notify::Error::new(notify::ErrorKind::MaxFilesWatch));
        }
        Ok(Box::new(notify::recommended_watcher(handler)?))
    }
    let home = tempfile::tempdir().unwrap();
    let (watcher, _changes) = Watcher::start_with(backend, |_| {});
    let places = WatchedPaths { directories: [home.path().to_owned()].into(), ..WatchedPaths::default() };
    assert!(!watcher.follow(&places) && watcher.polls());
    FULL.store(false, Ordering::Relaxed);
    assert!(watcher.follow(&places), "a new watch");
    assert!(!watcher.polls());
    assert!(!watcher.follow(&places), "no new watch");
}
