//! Detection of spec changes on a real file system, made in the ways common tools do.
//!
//! Each test waits for the expected notification. The absence of one is checked for a fixed time.

#![allow(clippy::unwrap_used)] // a panic fails the test

use std::collections::BTreeSet;
use std::ffi::OsStr;
use std::fmt::Write;
use std::fs;
use std::os::unix::ffi::OsStrExt;
use std::os::unix::fs::{PermissionsExt, symlink};
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use drillmaster::control::event::Reading;
use drillmaster::control::execute::outputs::OutputStore;
use drillmaster::control::specs::sources::{self, Layout, Reader, SpecInput};
use drillmaster::control::specs::watcher::{self, Backend, EventSource, Handler, WatchedPaths, Watcher};
use drillmaster::spec::model::Build;
use drillmaster::spec::{Content, Diagnostic, SourceFile};
use notify::{EventHandler, RecursiveMode};
use tempfile::TempDir;
use tokio::sync::mpsc;
use tokio::time::{Instant, sleep, timeout};

/// Maximum time until an expected notification.
const DEADLINE: Duration = Duration::from_secs(20);
/// Time without an unexpected notification.
const WINDOW: Duration = Duration::from_millis(800);

/// A spec directory `specs` in a temporary directory, with a reader.
struct SpecDirectory {
    home: TempDir,
    reader: Reader,
    changes: mpsc::Receiver<()>,
    parsed: Arc<AtomicUsize>,
    notes: Arc<Mutex<Vec<String>>>,
}

impl SpecDirectory {
    /// Creates the initial files and reads them.
    async fn new(prepare: impl FnOnce(&Path)) -> SpecDirectory {
        let mut specs = SpecDirectory::without_reading(None, prepare);
        specs.expect_message().await;
        specs.read();
        specs
    }

    fn without_reading(backend: Option<Backend>, prepare: impl FnOnce(&Path)) -> SpecDirectory {
        let home = tempfile::tempdir().unwrap();
        prepare(home.path());
        let (parsed, notes) = (Arc::new(AtomicUsize::new(0)), Arc::new(Mutex::new(Vec::new())));
        let (count, recorder) = (Arc::clone(&parsed), Arc::clone(&notes));
        let notify = move |sentence| recorder.lock().unwrap().push(sentence);
        let (watcher, changes) = match backend {
            Some(backend) => Watcher::start_with(backend, notify),
            None => Watcher::start(notify),
        };
        let parse = move |input: SpecInput<'_>| {
            count.fetch_add(1, Ordering::Relaxed);
            Reading::Invalid(vec![Diagnostic::new(describe(&input))])
        };
        let reader = Reader::new(
            home.path().join("specs"),
            Layout::Directory(None),
            watcher,
            OutputStore::default(),
            Box::new(parse),
        );
        SpecDirectory { home, reader, changes, parsed, notes }
    }

    fn path(&self, path: &str) -> PathBuf {
        self.home.path().join(path)
    }

    fn write(&self, path: &str, text: &str) {
        write(self.home.path(), path, text);
    }

    /// Reads the specs. Returns one line per file with its text.
    fn read(&self) -> String {
        match self.reader.read() {
            Reading::Invalid(found) => found[0].message.clone(),
            Reading::Valid(_) => unreachable!("the parser never returns valid specs"),
        }
    }

    /// Waits for a notification.
    #[track_caller]
    fn expect_message(&mut self) -> impl Future<Output = ()> {
        let place = std::panic::Location::caller();
        async move {
            let message = timeout(DEADLINE, self.changes.recv()).await;
            assert!(message.is_ok_and(|message| message.is_some()), "no notification: {place}");
        }
    }

    /// Checks that there is no notification.
    #[track_caller]
    fn expect_no_message(&mut self) -> impl Future<Output = ()> {
        let place = std::panic::Location::caller();
        async move {
            assert!(timeout(WINDOW, self.changes.recv()).await.is_err(), "unexpected notification: {place}");
        }
    }

    /// Checks that there is exactly one notification, and what is read then.
    #[track_caller]
    fn expect_one_message(&mut self, found: &str) -> impl Future<Output = ()> {
        let place = std::panic::Location::caller();
        let found = found.to_owned();
        async move {
            self.expect_message().await;
            assert_eq!(self.read(), found, "{place}");
            self.expect_no_message().await;
        }
    }
}

fn write(home: &Path, path: &str, text: &str) {
    let path = home.join(path);
    fs::create_dir_all(path.parent().unwrap()).unwrap();
    fs::write(path, text).unwrap();
}

/// Creates one file with the text `one`.
fn one(home: &Path) {
    write(home, "specs/web.yaml", "one");
}

/// Replaces a link atomically, or creates it.
fn replace_link(target: impl AsRef<Path>, link: PathBuf) {
    let new = link.with_extension("new");
    symlink(target, &new).unwrap();
    fs::rename(new, link).unwrap();
}

/// Formats the input of the parser. The text `env_file FILE` reads an env file, `build DIRECTORY` a build context.
fn describe(input: &SpecInput<'_>) -> String {
    let sources = match input.sources {
        Ok(sources) => sources,
        Err(_) => return "no directory".into(),
    };
    let mut found = String::new();
    for file in sources.files.iter().chain(&sources.dotenv) {
        let text = match &file.content {
            Content::Bytes(bytes) => String::from_utf8(bytes.clone()).unwrap(),
            Content::TooLarge(_) => "too large".into(),
            Content::Unreadable(why) => why.clone(),
        };
        write!(found, "{}: {text}", file.path).unwrap();
        if let Some(path) = text.strip_prefix("env_file ") {
            let read = (input.read)(path).map_or_else(|why| why, |bytes| String::from_utf8(bytes).unwrap());
            write!(found, " = {read}").unwrap();
        }
        if let Some(context) = text.strip_prefix("build ") {
            let build = Build {
                context: context.into(),
                dockerfile: Default::default(),
                target: None,
                args: Default::default(),
                labels: Default::default(),
            };
            let tree = (input.tree)(&build).map_or_else(|why| format!("{why:?}"), |tree| tree.digest[..8].to_owned());
            write!(found, " = {tree}").unwrap();
        }
        found.push('\n');
    }
    found
}

#[tokio::test]
async fn file_is_written_in_place() {
    let mut specs = SpecDirectory::new(one).await;
    assert_eq!(specs.read(), "web.yaml: one\n");
    specs.write("specs/web.yaml", "two");
    specs.expect_one_message("web.yaml: two\n").await;
}

#[tokio::test]
async fn file_is_saved_by_sed() {
    let mut specs = SpecDirectory::new(one).await;
    specs.write("specs/sedA1b2C3", "two");
    fs::rename(specs.path("specs/sedA1b2C3"), specs.path("specs/web.yaml")).unwrap();
    specs.expect_one_message("web.yaml: two\n").await;
}

#[tokio::test]
async fn file_is_saved_by_vi() {
    let mut specs = SpecDirectory::new(one).await;
    specs.write("specs/4913", "");
    fs::remove_file(specs.path("specs/4913")).unwrap();
    fs::rename(specs.path("specs/web.yaml"), specs.path("specs/web.yaml~")).unwrap();
    specs.write("specs/web.yaml", "two");
    fs::remove_file(specs.path("specs/web.yaml~")).unwrap();
    specs.expect_one_message("web.yaml: two\n").await;
}

#[tokio::test]
async fn file_is_moved_into_and_out_of_the_directory() {
    let mut specs = SpecDirectory::new(|home| {
        one(home);
        write(home, "elsewhere/db.yaml", "db");
    })
    .await;
    fs::rename(specs.path("elsewhere/db.yaml"), specs.path("specs/db.yaml")).unwrap();
    specs.expect_one_message("db.yaml: db\nweb.yaml: one\n").await;
    fs::rename(specs.path("specs/db.yaml"), specs.path("elsewhere/db.yaml")).unwrap();
    specs.expect_one_message("web.yaml: one\n").await;
    fs::remove_file(specs.path("specs/web.yaml")).unwrap();
    specs.expect_one_message("").await;
}

#[tokio::test]
async fn half_written_file_is_not_reported() {
    let mut specs = SpecDirectory::new(one).await;
    loop {
        let start = Instant::now();
        specs.write("specs/web.yaml", "");
        sleep(Duration::from_millis(300)).await;
        specs.write("specs/web.yaml", "two");
        if start.elapsed() < watcher::DEBOUNCE {
            break;
        }
        // On a busy machine the write may take too long; that is not tested here.
        specs.expect_message().await;
        specs.expect_no_message().await;
    }
    specs.expect_one_message("web.yaml: two\n").await;
}

#[tokio::test]
async fn many_saves_are_few_notifications() {
    let mut specs = SpecDirectory::new(one).await;
    let home = specs.home.path().to_owned();
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
    specs.expect_message().await;
    let mut messages = 1;
    while timeout(WINDOW, specs.changes.recv()).await.is_ok() {
        messages += 1;
    }
    assert_eq!(specs.read(), "web.yaml: 50\n");
    // On a busy machine there may be more notifications.
    assert!(writer.join().unwrap() || messages <= 2, "{messages} messages");
}

#[tokio::test]
async fn directory_is_created_removed_and_created_again() {
    let mut specs = SpecDirectory::new(one).await;
    for text in ["db", "again"] {
        fs::create_dir_all(specs.path("specs/sub/deep")).unwrap();
        specs.write("specs/sub/deep/db.yaml", text);
        specs.expect_one_message(&format!("sub/deep/db.yaml: {text}\nweb.yaml: one\n")).await;
        // The new directory is watched as well.
        specs.write("specs/sub/deep/db.yaml", "other");
        specs.expect_one_message("sub/deep/db.yaml: other\nweb.yaml: one\n").await;
        fs::remove_dir_all(specs.path("specs/sub")).unwrap();
        specs.expect_one_message("web.yaml: one\n").await;
    }
}

#[tokio::test]
async fn directory_is_recreated_between_two_readings() {
    let mut specs = SpecDirectory::new(|home| write(home, "specs/sub/db.yaml", "db")).await;
    // The second directory may have the inode of the first.
    fs::remove_dir_all(specs.path("specs/sub")).unwrap();
    specs.write("specs/sub/db.yaml", "again");
    specs.expect_one_message("sub/db.yaml: again\n").await;
    specs.write("specs/sub/db.yaml", "other");
    specs.expect_one_message("sub/db.yaml: other\n").await;
}

#[tokio::test]
async fn directory_is_renamed() {
    let mut specs = SpecDirectory::new(|home| write(home, "specs/sub/deep/db.yaml", "db")).await;
    fs::rename(specs.path("specs/sub"), specs.path("specs/other")).unwrap();
    specs.expect_one_message("other/deep/db.yaml: db\n").await;
    specs.write("specs/other/deep/db.yaml", "two");
    specs.expect_one_message("other/deep/db.yaml: two\n").await;
    // Another directory takes the old name.
    specs.write("specs/sub/deep/db.yaml", "new");
    specs.expect_one_message("other/deep/db.yaml: two\nsub/deep/db.yaml: new\n").await;
    specs.write("specs/other/deep/db.yaml", "three");
    specs.expect_one_message("other/deep/db.yaml: three\nsub/deep/db.yaml: new\n").await;
    specs.write("specs/sub/deep/db.yaml", "newer");
    specs.expect_one_message("other/deep/db.yaml: three\nsub/deep/db.yaml: newer\n").await;
}

#[tokio::test]
async fn link_to_a_file_is_replaced() {
    let mut specs = SpecDirectory::new(|home| {
        write(home, "store/1.yaml", "one");
        write(home, "store/2.yaml", "two");
        fs::create_dir(home.join("specs")).unwrap();
        symlink("../store/1.yaml", home.join("specs/web.yaml")).unwrap();
    })
    .await;
    specs.write("store/1.yaml", "edited");
    specs.expect_one_message("web.yaml: edited\n").await;
    specs.write("store/2.yaml", "not linked yet");
    specs.expect_no_message().await;
    replace_link("../store/2.yaml", specs.path("specs/web.yaml"));
    specs.expect_one_message("web.yaml: not linked yet\n").await;
    specs.write("store/2.yaml", "read");
    specs.expect_one_message("web.yaml: read\n").await;
}

#[tokio::test]
async fn link_to_a_directory_is_replaced() {
    let mut specs = SpecDirectory::new(|home| {
        write(home, "specs/.store/1/web.yaml", "one");
        write(home, "specs/.store/2/web.yaml", "two");
        symlink(".store/1", home.join("specs/sub")).unwrap();
    })
    .await;
    specs.write("specs/.store/1/web.yaml", "edited");
    specs.expect_one_message("sub/web.yaml: edited\n").await;
    replace_link(".store/2", specs.path("specs/sub"));
    specs.expect_one_message("sub/web.yaml: two\n").await;
    specs.write("specs/.store/2/web.yaml", "three");
    specs.expect_one_message("sub/web.yaml: three\n").await;
    // The target of the link is replaced.
    fs::rename(specs.path("specs/.store/2"), specs.path("specs/.store/old")).unwrap();
    fs::rename(specs.path("specs/.store/1"), specs.path("specs/.store/2")).unwrap();
    specs.expect_one_message("sub/web.yaml: edited\n").await;
    fs::remove_file(specs.path("specs/sub")).unwrap();
    specs.expect_one_message("").await;
}

#[tokio::test]
async fn link_to_a_directory_outside_is_refused() {
    let mut specs = SpecDirectory::new(|home| {
        write(home, "specs/here/db.yaml", "db");
        write(home, "store/web.yaml", "one");
        symlink("../../store", home.join("specs/here/sub")).unwrap();
    })
    .await;
    let store = specs.path("store").canonicalize().unwrap();
    let refused = format!(
        "it leads to a directory outside of the spec directory, {}; link to its files instead, or start the name with a \
         dot if it has no specs",
        store.display()
    );
    assert_eq!(specs.read(), format!("here/db.yaml: db\nhere/sub: {refused}\n"));
    // Through another link.
    symlink("here/sub", specs.path("specs/again")).unwrap();
    specs.expect_one_message(&format!("again: {refused}\nhere/db.yaml: db\nhere/sub: {refused}\n")).await;
    fs::remove_file(specs.path("specs/again")).unwrap();
    specs.expect_one_message(&format!("here/db.yaml: db\nhere/sub: {refused}\n")).await;
    specs.write("store/web.yaml", "not watched");
    specs.expect_no_message().await;
    replace_link("../../store/web.yaml", specs.path("specs/here/sub"));
    specs.expect_one_message("here/db.yaml: db\n").await;
    replace_link("../../store/web.yaml", specs.path("specs/here/web.yaml"));
    specs.expect_one_message("here/db.yaml: db\nhere/web.yaml: not watched\n").await;
}

#[tokio::test]
async fn files_are_replaced_by_kubernetes() {
    let mut specs = SpecDirectory::new(|home| {
        write(home, "specs/..1/web.yaml", "one");
        symlink("..1", home.join("specs/..data")).unwrap();
        symlink("..data/web.yaml", home.join("specs/web.yaml")).unwrap();
        write(home, "specs/..1/sub/db.yaml", "one");
        symlink("..data/sub", home.join("specs/sub")).unwrap();
    })
    .await;
    for (number, text) in [(2, "two"), (3, "three")] {
        specs.write(&format!("specs/..{number}/web.yaml"), text);
        specs.write(&format!("specs/..{number}/sub/db.yaml"), text);
        symlink(format!("..{number}"), specs.path("specs/..data_tmp")).unwrap();
        fs::rename(specs.path("specs/..data_tmp"), specs.path("specs/..data")).unwrap();
        fs::remove_dir_all(specs.path(&format!("specs/..{}", number - 1))).unwrap();
        specs.expect_one_message(&format!("sub/db.yaml: {text}\nweb.yaml: {text}\n")).await;
    }
}

#[tokio::test]
async fn spec_directory_is_replaced() {
    let mut specs = SpecDirectory::new(|home| {
        one(home);
        write(home, "next/web.yaml", "two");
    })
    .await;
    fs::rename(specs.path("specs"), specs.path("old")).unwrap();
    fs::rename(specs.path("next"), specs.path("specs")).unwrap();
    specs.expect_one_message("web.yaml: two\n").await;
    specs.write("specs/web.yaml", "three");
    specs.expect_one_message("web.yaml: three\n").await;
    specs.write("old/web.yaml", "old");
    specs.expect_no_message().await;

    fs::remove_dir_all(specs.path("specs")).unwrap();
    specs.expect_one_message("no directory").await;
    one(specs.home.path());
    specs.expect_one_message("web.yaml: one\n").await;
    specs.write("specs/web.yaml", "four");
    specs.expect_one_message("web.yaml: four\n").await;
}

#[tokio::test]
async fn ancestor_directory_is_replaced() {
    let home = tempfile::tempdir().unwrap();
    let specs = home.path().join("project/sub/specs");
    fs::create_dir_all(&specs).unwrap();
    let (watcher, mut changes) = Watcher::start(|_| {});
    let places = WatchedPaths { directories: [specs.clone()].into(), ..WatchedPaths::default() };
    assert!(watcher.follow(&places));
    assert!(!watcher.follow(&places), "the watch is active");
    fs::rename(home.path().join("project"), home.path().join("old")).unwrap();
    fs::create_dir_all(&specs).unwrap();
    // There is no event for this change; the next reading detects it.
    assert!(watcher.follow(&places), "another directory");
    changes.recv().await.unwrap();
    write(&specs, "web.yaml", "one");
    assert_eq!(timeout(DEADLINE, changes.recv()).await, Ok(Some(())));
}

#[tokio::test]
async fn linked_spec_directory_is_replaced() {
    let mut specs = SpecDirectory::new(|home| {
        write(home, "1/web.yaml", "one");
        write(home, "2/web.yaml", "two");
        symlink("1", home.join("specs")).unwrap();
    })
    .await;
    replace_link("2", specs.path("specs"));
    specs.expect_one_message("web.yaml: two\n").await;
    specs.write("2/web.yaml", "three");
    specs.expect_one_message("web.yaml: three\n").await;
    specs.write("1/web.yaml", "old");
    specs.expect_no_message().await;
}

#[tokio::test]
async fn env_files_are_watched() {
    let mut specs = SpecDirectory::new(|home| {
        write(home, "specs/a.yaml", "env_file ../conf/a.env");
        write(home, "specs/b.yaml", "env_file local.env");
        write(home, "conf/a.env", "A");
    })
    .await;
    let found = |a: &str, b: &str| format!("a.yaml: env_file ../conf/a.env = {a}\nb.yaml: env_file local.env = {b}\n");
    let missing = "no such file or directory";
    assert_eq!(specs.read(), found("A", missing));
    specs.write("conf/a.env", "B");
    specs.expect_one_message(&found("B", missing)).await;
    specs.write("specs/local.env", "C");
    specs.expect_one_message(&found("B", "C")).await;
    specs.write("conf/unrelated", "D");
    specs.expect_no_message().await;
    fs::remove_dir_all(specs.path("conf")).unwrap();
    specs.expect_one_message(&found(missing, "C")).await;
    specs.write("conf/a.env", "E");
    specs.expect_one_message(&found("E", "C")).await;
    specs.write("specs/a.yaml", "no more");
    specs.expect_one_message("a.yaml: no more\nb.yaml: env_file local.env = C\n").await;
    specs.write("conf/a.env", "F");
    specs.expect_no_message().await;
}

#[tokio::test]
async fn build_sources_are_watched() {
    let mut specs = SpecDirectory::new(|home| {
        write(home, "specs/a.yaml", "build ../api");
        write(home, "api/Dockerfile", "FROM x");
        write(home, "api/.dockerignore", "cache");
        write(home, "api/src/main", "one");
    })
    .await;
    let mut seen = BTreeSet::from([specs.read()]);
    assert!(!specs.read().contains("Error") && !specs.read().contains("Context"), "{}", specs.read());
    // Each change is reported and changes the digest.
    let expect_change = async |specs: &mut SpecDirectory, seen: &mut BTreeSet<String>, what: &str| {
        specs.expect_message().await;
        let found = specs.read();
        assert!(seen.insert(found.clone()), "{what}: {found}");
        specs.expect_no_message().await;
    };
    specs.write("api/src/main", "two");
    expect_change(&mut specs, &mut seen, "a file").await;
    specs.write("api/src/deep/er/new", "new");
    expect_change(&mut specs, &mut seen, "new directories").await;
    specs.write("api/src/deep/er/new", "newer");
    expect_change(&mut specs, &mut seen, "a file in a new directory").await;
    fs::set_permissions(specs.path("api/src/main"), fs::Permissions::from_mode(0o755)).unwrap();
    expect_change(&mut specs, &mut seen, "a mode").await;
    specs.write("api/Dockerfile", "FROM y");
    expect_change(&mut specs, &mut seen, "the Dockerfile").await;
    specs.write("api/.dockerignore", "cache\nsrc/deep");
    expect_change(&mut specs, &mut seen, "the ignore file").await;
    fs::remove_dir_all(specs.path("api")).unwrap();
    expect_change(&mut specs, &mut seen, "removed context").await;
    specs.write("api/Dockerfile", "FROM z");
    expect_change(&mut specs, &mut seen, "recreated context").await;
}

#[tokio::test]
async fn ignored_files_are_not_reported_and_unchanged_not_parsed() {
    let mut specs = SpecDirectory::new(|home| {
        write(home, "specs/a.yaml", "build ../api");
        write(home, "api/Dockerfile", "FROM x");
        write(home, "api/.dockerignore", "cache");
        write(home, "api/main", "one");
        write(home, "api/cache/deep/file", "one");
    })
    .await;
    let found = specs.read();
    let parsed = specs.parsed.load(Ordering::Relaxed);
    specs.write("api/cache/deep/file", "two");
    specs.write("api/cache/other", "two");
    specs.write("beside", "two");
    specs.expect_no_message().await;
    specs.write("api/main", "one");
    specs.expect_one_message(&found).await;
    assert_eq!(specs.parsed.load(Ordering::Relaxed), parsed, "unchanged file parsed again");
    specs.write("api/.main.swp", "swap file");
    specs.expect_message().await;
    assert_eq!((specs.read(), specs.parsed.load(Ordering::Relaxed)), (found, parsed));
}

#[tokio::test]
async fn dotenv_is_created_and_removed() {
    let mut specs = SpecDirectory::new(one).await;
    specs.write("specs/.env", "A=1");
    specs.expect_one_message("web.yaml: one\n.env: A=1\n").await;
    specs.write("specs/.env", "A=2");
    specs.expect_one_message("web.yaml: one\n.env: A=2\n").await;
    fs::remove_file(specs.path("specs/.env")).unwrap();
    specs.expect_one_message("web.yaml: one\n").await;
}

#[tokio::test]
async fn dotenv_of_the_project_is_read_first() {
    let mut specs = SpecDirectory::new(|home| {
        one(home);
        write(home, "specs/.env", "A=1");
    })
    .await;
    specs.write(".env", "A=0");
    specs.expect_one_message("web.yaml: one\n../.env: A=0\n.env: A=1\n").await;
    fs::remove_file(specs.path("specs/.env")).unwrap();
    specs.expect_one_message("web.yaml: one\n../.env: A=0\n").await;
}

#[tokio::test]
async fn unreadable_file_recovers() {
    let mut specs = SpecDirectory::new(one).await;
    symlink("../nowhere.yaml", specs.path("specs/db.yaml")).unwrap();
    specs.expect_one_message("db.yaml: no such file or directory\nweb.yaml: one\n").await;
    specs.write("nowhere.yaml", "db");
    specs.expect_one_message("db.yaml: db\nweb.yaml: one\n").await;

    // Root can read the file regardless of its mode.
    fs::set_permissions(specs.path("specs/web.yaml"), fs::Permissions::from_mode(0o000)).unwrap();
    specs.expect_message().await;
    assert!(
        ["one", "permission denied"].map(|text| format!("db.yaml: db\nweb.yaml: {text}\n")).contains(&specs.read())
    );
    fs::set_permissions(specs.path("specs/web.yaml"), fs::Permissions::from_mode(0o600)).unwrap();
    specs.expect_one_message("db.yaml: db\nweb.yaml: one\n").await;
}

#[tokio::test]
async fn unrelated_files_are_not_reported() {
    let mut specs = SpecDirectory::new(|home| {
        write(home, "specs/web.yaml", "env_file ../app.env");
        write(home, "app.env", "A");
        fs::create_dir(home.join("specs/sub")).unwrap();
    })
    .await;
    specs.write("specs/.web.yaml.swp", "swap");
    specs.write("specs/web.yaml~", "backup");
    specs.write("specs/#web.yaml#", "autosave");
    specs.write("specs/README.md", "words");
    fs::rename(specs.path("specs/README.md"), specs.path("specs/LICENSE")).unwrap();
    fs::remove_file(specs.path("specs/LICENSE")).unwrap();
    specs.write("specs/.git/HEAD", "git");
    specs.write("specs/sub/4913", "");
    for path in ["specs/web.yaml", "app.env", "specs/sub"] {
        fs::File::open(specs.path(path)).unwrap();
        let _ = fs::read(specs.path(path));
        let _ = fs::read_dir(specs.path("specs")).unwrap().count();
    }
    for count in 0..100 {
        specs.write(&format!("build/{count}"), "busy");
        specs.write(&format!("{count}.log"), "busy");
        fs::remove_file(specs.path(&format!("{count}.log"))).unwrap();
    }
    for _ in 0..10 {
        specs.read();
    }
    specs.expect_no_message().await;
    assert_eq!(specs.parsed.load(Ordering::Relaxed), 1, "parsed again");
}

#[tokio::test]
async fn only_changed_specs_are_parsed_again() {
    let specs = SpecDirectory::new(|home| {
        write(home, "specs/web.yaml", "env_file ../app.env");
        write(home, "specs/.env", "A=1");
    })
    .await;
    let parsed = |specs: &SpecDirectory| {
        specs.read();
        specs.parsed.load(Ordering::Relaxed)
    };
    assert_eq!(parsed(&specs), 1);
    let text = fs::read(specs.path("specs/web.yaml")).unwrap();
    fs::write(specs.path("specs/web.yaml"), text).unwrap();
    assert_eq!(parsed(&specs), 1, "unchanged bytes");
    specs.write("specs/web.yaml", "env_file ../app.ENV");
    assert_eq!(parsed(&specs), 2);
    specs.write("specs/.env", "A=2");
    assert_eq!(parsed(&specs), 3);
    specs.write("app.ENV", "A");
    assert_eq!(parsed(&specs), 4, "a file that could not be read at first");
    fs::remove_dir_all(specs.path("specs")).unwrap();
    assert_eq!(parsed(&specs), 5);
    assert_eq!(parsed(&specs), 5);
}

/// A backend without events: every watch fails.
struct NoWatches;

impl notify::Watcher for NoWatches {
    fn new<F: EventHandler>(_: F, _: notify::Config) -> notify::Result<Self> {
        Ok(NoWatches)
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

/// A backend whose watches become active late: a file is written before.
struct LateWatches(notify::RecommendedWatcher);

impl notify::Watcher for LateWatches {
    fn new<F: EventHandler>(handler: F, config: notify::Config) -> notify::Result<Self> {
        Ok(LateWatches(notify::Watcher::new(handler, config)?))
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
    let late: Backend =
        |handler| Ok(Box::new(<LateWatches as notify::Watcher>::new(handler, notify::Config::default())?));
    let specs = SpecDirectory::without_reading(Some(late), one);
    assert_eq!(specs.read(), "web.yaml: late\n");
}

#[tokio::test]
async fn specs_are_polled_without_watches() {
    for (backend, why) in [
        ((|_| Ok(Box::new(NoWatches) as EventSource)) as Backend, "limit of file watches reached"),
        (|_| Err(notify::Error::io(std::io::Error::from_raw_os_error(24))), "Too many open files"),
    ] {
        let mut specs = SpecDirectory::without_reading(Some(backend), one);
        specs.expect_message().await;
        assert_eq!(specs.read(), "web.yaml: one\n");
        // Polling detects changes, and is silent without them.
        for text in ["one", "two", "three"] {
            specs.write("specs/web.yaml", text);
            specs.expect_message().await;
            while specs.read() != format!("web.yaml: {text}\n") {
                specs.expect_message().await;
            }
        }
        let notes = specs.notes.lock().unwrap();
        assert_eq!(notes.len(), 1, "notes once: {notes:?}");
        assert!(notes[0].starts_with("polling for spec changes: ") && notes[0].contains(why), "{notes:?}");
    }
}

#[tokio::test]
async fn polling_does_not_read_half_written_files() {
    let mut specs = SpecDirectory::without_reading(Some(|_| Ok(Box::new(NoWatches) as EventSource)), one);
    specs.expect_message().await;
    specs.read();
    specs.write("specs/web.yaml", "");
    let web = specs.path("specs/web.yaml");
    let writer = std::thread::spawn(move || {
        std::thread::sleep(Duration::from_millis(200));
        fs::write(web, "two").unwrap();
    });
    let found = specs.read();
    writer.join().unwrap();
    assert_eq!(found, "web.yaml: two\n");
}

#[tokio::test]
async fn polling_ends_when_watches_are_available() {
    static NO_WATCHES: AtomicBool = AtomicBool::new(true);
    fn backend(handler: Handler) -> notify::Result<EventSource> {
        if NO_WATCHES.load(Ordering::Relaxed) {
            return Err(notify::Error::new(notify::ErrorKind::MaxFilesWatch));
        }
        Ok(Box::new(notify::recommended_watcher(handler)?))
    }
    let home = tempfile::tempdir().unwrap();
    let (watcher, _changes) = Watcher::start_with(backend, |_| {});
    let places = WatchedPaths { directories: [home.path().to_owned()].into(), ..WatchedPaths::default() };
    assert!(!watcher.follow(&places) && watcher.polls());
    NO_WATCHES.store(false, Ordering::Relaxed);
    assert!(watcher.follow(&places), "a new watch");
    assert!(!watcher.polls());
    assert!(!watcher.follow(&places), "no new watch");
}

/// The errors of a spec directory, by path.
fn errors(directory: &Path) -> Vec<(String, String)> {
    let sources = sources::read(directory, None).unwrap();
    let error = |file: SourceFile| match file.content {
        Content::Unreadable(why) => Some((file.path, why)),
        Content::Bytes(_) | Content::TooLarge(_) => None,
    };
    sources.files.into_iter().filter_map(error).collect()
}

#[test]
fn nothing_is_skipped_silently() {
    let home = tempfile::tempdir().unwrap();
    let deep = "d/".repeat(33);
    write(home.path(), &format!("{deep}web.yaml"), "one");
    fs::write(home.path().join(OsStr::from_bytes(b"caf\xe9.yaml")), "two").unwrap();
    fs::write(home.path().join(OsStr::from_bytes(b"caf\xe9.txt")), "not a spec").unwrap();
    let name = "its name is not UTF-8; rename it".to_owned();
    let depth = "directories are nested deeper than 32".to_owned();
    let path = deep.trim_end_matches('/').to_owned();
    assert_eq!(errors(home.path()), [("caf\u{fffd}.yaml".to_owned(), name), (path, depth)]);
}

#[test]
fn size_of_all_specs_is_limited() {
    let home = tempfile::tempdir().unwrap();
    for number in 0..66 {
        let file = fs::File::create(home.path().join(format!("{number:02}.yaml"))).unwrap();
        file.set_len(1024 * 1024).unwrap();
    }
    let paths: Vec<String> = errors(home.path()).into_iter().map(|(path, _)| path).collect();
    assert_eq!(paths, ["64.yaml", "65.yaml"]);
}

#[test]
fn files_of_the_kernel_do_not_block() {
    let home = tempfile::tempdir().unwrap();
    for (name, target) in [("a.yaml", "/dev/zero"), ("b.yaml", "/proc/self/status")] {
        symlink(target, home.path().join(name)).unwrap();
    }
    let refused = |name: &str| (name.to_owned(), "not a regular file".to_owned());
    assert_eq!(errors(home.path()), [refused("a.yaml"), refused("b.yaml")]);
}
