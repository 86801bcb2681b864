//! Specs that change under a watch: each change leads to exactly the replacement that it asks for, once, and what is
//! half written, invalid or gone to none.

use std::path::Path;
use std::process::Command;
use std::time::Duration;

use crate::support::engine;
use crate::support::events::Events;
use crate::support::process;
use crate::support::project::{Project, script, sleeper};
use crate::support::watcher::{Watcher, lives};

/// How often a container was created for a service.
fn created(project: &Project, events: &Events, service: &str) -> usize {
    let name = format!("{}.new", project.name(service));
    events.seen().iter().filter(|event| event.action == "create" && event.name == name).count()
}

/// Runs a program in the spec directory; it has to succeed.
#[track_caller]
fn run(project: &Project, program: &str, arguments: &[&str]) {
    let mut command = Command::new(program);
    command.args(arguments).current_dir(project.specs()).env("HOME", project.home.path()).env("TERM", "dumb");
    process::run(command, Duration::from_secs(20)).exits(0);
}

fn is_installed(program: &str) -> bool {
    Command::new(program).arg("--version").output().is_ok_and(|output| output.status.success())
}

/// `A` of `api` has this value; what is written first is the shorter half, and a valid spec of something else.
fn specs(value: &str) -> (String, String) {
    let first = sleeper("other", "") + &sleeper("api", "").replace("\n\n", "\n");
    (first, format!("env: {{A: {value}}}\n{}", sleeper("web", "dependencies: [api]")))
}

fn whole(value: &str) -> String {
    let (first, rest) = specs(value);
    first + &rest
}

/// A way to save `all.yaml`: to `text`, in which `A` is `new`; it was `old`.
type Save = fn(project: &Project, old: &str, new: &str, text: &str);

fn file(project: &Project) -> std::path::PathBuf {
    project.specs().join("all.yaml")
}

fn beside(project: &Project, name: &str, text: &str) -> std::path::PathBuf {
    let path = project.specs().join(name);
    std::fs::write(&path, text).unwrap();
    path
}

/// As vi does it where it may not write in place: the old file becomes the backup, and the new one gets its name.
fn as_vi(project: &Project, _: &str, _: &str, text: &str) {
    let swap = beside(project, ".all.yaml.swp", "b0VIM");
    let probe = beside(project, "4913", "");
    std::fs::remove_file(probe).unwrap();
    let backup = project.specs().join("all.yaml~");
    std::fs::rename(file(project), &backup).unwrap();
    project.write("all.yaml", text);
    std::fs::remove_file(backup).unwrap();
    std::fs::remove_file(swap).unwrap();
}

fn vi(project: &Project, old: &str, new: &str, _: &str, backup: &str) {
    if !is_installed("vim") {
        eprintln!("vim is not installed: this way to save is left out");
        return project.write("all.yaml", &whole(new));
    }
    let set = format!("set backupcopy={backup} writebackup");
    let change = format!("%s/A: {old}/A: {new}/");
    run(project, "vim", &["-u", "NONE", "-es", "-c", &set, "-c", &change, "-c", "x", "all.yaml"]);
}

const SAVES: [(&str, Save); 11] = [
    ("the way of vi", as_vi),
    ("vi with a backup that is renamed", |project, old, new, text| vi(project, old, new, text, "no")),
    ("vi with a backup that is a copy", |project, old, new, text| vi(project, old, new, text, "yes")),
    ("sed -i", |project, old, new, _| run(project, "sed", &["-i", &format!("s/A: {old}/A: {new}/"), "all.yaml"])),
    ("mv", |project, _, _, text| {
        beside(project, "all.tmp", text);
        run(project, "mv", &["all.tmp", "all.yaml"]);
    }),
    ("truncated, and written in two steps", |project, _, new, _| {
        let (first, rest) = specs(new);
        // As an editor does it that takes its time; that the first half is never taken for the whole is the test.
        project.write("all.yaml", &first);
        std::thread::sleep(Duration::from_millis(300));
        project.write("all.yaml", &(first + &rest));
    }),
    ("written in two steps, without a part of one service at first", |project, _, new, _| {
        let first = sleeper("other", "") + &sleeper("web", "dependencies: [api]") + &sleeper("api", "");
        project.write("all.yaml", &first);
        std::thread::sleep(Duration::from_millis(300));
        project.write("all.yaml", &format!("{}env: {{A: {new}}}\n", first.trim_end().to_owned() + "\n"));
    }),
    ("emptied first", |project, _, _, text| {
        project.write("all.yaml", "");
        std::thread::sleep(Duration::from_millis(300));
        project.write("all.yaml", text);
    }),
    ("removed first", |project, _, _, text| {
        project.remove("all.yaml");
        std::thread::sleep(Duration::from_millis(300));
        project.write("all.yaml", text);
    }),
    ("50 saves in a second", |project, _, _, text| {
        for number in 0..49 {
            project.write("all.yaml", &whole(&format!("draft{number}")));
            std::thread::sleep(Duration::from_millis(20));
        }
        project.write("all.yaml", text);
    }),
    ("a link that is swapped", |project, _, new, text| {
        let versions = project.home.path().join("versions");
        std::fs::create_dir_all(&versions).unwrap();
        let version = versions.join(new);
        std::fs::write(&version, text).unwrap();
        let link = project.specs().join("link");
        std::os::unix::fs::symlink(version, &link).unwrap();
        std::fs::rename(link, file(project)).unwrap();
    }),
];

#[test]
fn saved_change_replaces_exactly_once_in_any_way() {
    let project = Project::new("save");
    project.write("all.yaml", &whole("v0"));
    let mut watcher = Watcher::start(&project);
    let events = Events::of(&project.group);
    for (number, (how, save)) in SAVES.into_iter().enumerate() {
        let (before, told) = (lives(&project), watcher.told().len());
        let (old, new) = (format!("v{number}"), format!("v{}", number + 1));
        save(&project, &old, &new, &whole(&new));
        watcher.until_after(told, &format!("api to be ready after {how}"), |line| {
            line["event"] == "ready" && line["service"] == "api"
        });
        watcher.agrees(&project);
        assert_eq!(project.exec("api", &["sh", "-c", "echo $A"]), format!("{new}\n"), "{how}");
        let mut after = lives(&project);
        assert_ne!(after.insert("api".into(), before["api"].clone()).unwrap(), before["api"], "{how}");
        assert_eq!(after, before, "{how}: the others are left alone");
        let messages = watcher.messages(told);
        assert_eq!(messages, ["api: replacing: spec changed: env.A", "api: ready"], "{how}");
        assert_eq!(created(&project, &events, "api"), number + 1, "{how}: once: {:#?}", events.seen());
    }
    // Nothing came late, and nobody else was ever touched.
    watcher.interrupt().exits(130);
    assert_eq!(created(&project, &events, "api"), SAVES.len(), "{:#?}", events.seen());
    let (other, web) = (project.name("other"), project.name("web"));
    let touched =
        events.seen().into_iter().find(|event| event.name.starts_with(&other) || event.name.starts_with(&web));
    assert_eq!(touched, None);
}

fn git(project: &Project, arguments: &[&str]) {
    let who = ["-c", "user.name=test", "-c", "user.email=test@localhost", "-c", "init.defaultBranch=main"];
    let mut command = Command::new("git");
    command.args(who).args(arguments).current_dir(project.specs()).env("HOME", project.home.path());
    command.env("GIT_CONFIG_NOSYSTEM", "1");
    process::run(command, Duration::from_secs(20)).exits(0);
}

#[test]
fn another_branch_is_checked_out() {
    if !is_installed("git") {
        eprintln!("git is not installed: not tested");
        return;
    }
    let project = Project::new("branch");
    for (name, more) in [("api", "env: {A: main}"), ("db", ""), ("same", ""), ("web", "dependencies: [api]")] {
        project.write(&format!("app/{name}.yaml"), &sleeper(name, more));
    }
    git(&project, &["init", "-q"]);
    git(&project, &["add", "."]);
    git(&project, &["commit", "-q", "-m", "main"]);
    git(&project, &["checkout", "-q", "-b", "next"]);
    project.write("app/api.yaml", &sleeper("api", "env: {A: next}\ndependencies: [cache]"));
    project.write("new/cache.yaml", &sleeper("cache", ""));
    project.remove("app/db.yaml");
    git(&project, &["add", "-A", "."]);
    git(&project, &["commit", "-q", "-m", "next"]);
    git(&project, &["checkout", "-q", "main"]);

    let mut watcher = Watcher::start(&project);
    let events = Events::of(&project.group);
    let before = lives(&project);
    git(&project, &["checkout", "-q", "next"]);
    let serve = |names: [&str; 4]| (project.names() == names).then_some(());
    watcher.waits("the services of the other branch", |_| serve(["api", "cache", "same", "web"]));
    watcher.agrees(&project);
    let after = lives(&project);
    assert_eq!((&after["same"], &after["web"]), (&before["same"], &before["web"]));
    assert_ne!(after["api"], before["api"]);
    assert_eq!(project.exec("api", &["sh", "-c", "echo $A"]), "next\n");

    git(&project, &["checkout", "-q", "main"]);
    watcher.waits("the services of the first branch", |_| serve(["api", "db", "same", "web"]));
    watcher.agrees(&project);
    let after = lives(&project);
    assert_eq!((&after["same"], &after["web"]), (&before["same"], &before["web"]));
    watcher.interrupt().exits(130);
    assert_eq!(["api", "cache", "db"].map(|service| created(&project, &events, service)), [2, 1, 1]);
}

#[test]
fn files_that_specs_read_count_as_well() {
    let project = Project::new("envfile");
    let specs = [
        sleeper("one", "env_file: [one.env]"),
        sleeper("two", "env_file: [../two.env]"),
        sleeper("level", "env: {LEVEL: '${LEVEL}'}"),
        sleeper("other", ""),
    ];
    project.write("all.yaml", &specs.concat());
    project.write("one.env", "A=1\n");
    project.write("../two.env", "A=1\n");
    project.write(".env", "LEVEL=info\n");
    let mut watcher = Watcher::start(&project);
    let edits = [
        ("one.env", "A=2\n", "one", "env.A"),
        ("../two.env", "A=2\n", "two", "env.A"),
        (".env", "LEVEL=debug\n", "level", "env.LEVEL"),
    ];
    for (file, text, service, field) in edits {
        let (before, told) = (lives(&project), watcher.told().len());
        project.write(file, text);
        watcher.until_after(told, &format!("{service} to be ready after {file}"), |line| {
            line["event"] == "ready" && line["service"] == service
        });
        watcher.agrees(&project);
        let expected = [format!("{service}: replacing: spec changed: {field}"), format!("{service}: ready")];
        assert_eq!(watcher.messages(told), expected);
        let mut after = lives(&project);
        assert_ne!(after.insert(service.into(), before[service].clone()).unwrap(), before[service], "{file}");
        assert_eq!(after, before, "{file}: the others are left alone");
    }
    watcher.interrupt().exits(130);
}

/// A service whose new version shows that a change was taken up.
fn witness(value: u32) -> String {
    sleeper("witness", &format!("env: {{VALUE: '{value}'}}"))
}

/// Changes the witness and waits until that was taken up: what was to happen before has happened.
#[track_caller]
fn taken_up(project: &Project, watcher: &mut Watcher, value: u32) {
    let told = watcher.told().len();
    project.write("witness.yaml", &witness(value));
    watcher.until_after(told, "the witness", |line| line["event"] == "ready" && line["service"] == "witness");
}

#[test]
fn invalid_specs_change_nothing_and_show_their_place_once() {
    let project = Project::new("invalid");
    project.write("all.yaml", &(sleeper("api", "") + &sleeper("web", "dependencies: [api]")));
    let mut watcher = Watcher::start(&project);
    let before = lives(&project);
    let events = Events::of(&project.group);
    let invalid = |line: &serde_json::Value| line["event"] == "specs-invalid";
    let broken = sleeper("api", "env: {A: two}\nportz: [80]") + &sleeper("web", "dependencies: [api]");
    project.write("all.yaml", &broken);
    let line = watcher.until("the error", invalid);
    let place = &line["diagnostics"][0];
    assert_eq!(
        (&place["file"], &place["line"], &place["column"]),
        (&"specs/all.yaml".into(), &7.into(), &1.into()),
        "{line:#}"
    );
    assert!(line["message"].as_str().unwrap().contains("all.yaml:7:1"), "{line:#}");
    // Again the same, and beside it something that is valid: still one error, and nothing is taken up.
    project.write("all.yaml", &broken);
    project.write("more.yaml", &sleeper("more", ""));
    let text = project.run(&["status"]).exits(0).stdout;
    assert!(text.contains("all.yaml:7:1"), "{text}");
    // Another error is told.
    project.write("all.yaml", &broken.replace("portz", "portzz"));
    watcher.waits("the second error", |watcher| (watcher.count(invalid) == 2).then_some(()));
    assert_eq!(lives(&project), before, "nothing has changed");
    // A name that begins a mapping that never ends is no YAML at all.
    project.write("all.yaml", "name: {");
    watcher.waits("the third error", |watcher| (watcher.count(invalid) == 3).then_some(()));
    assert_eq!(lives(&project), before, "nothing has changed");

    project.remove("more.yaml");
    let told = watcher.told().len();
    project.write("all.yaml", &(sleeper("api", "env: {A: two}") + &sleeper("web", "dependencies: [api]")));
    watcher.until_after(told, "the good version", |line| line["event"] == "ready" && line["service"] == "api");
    watcher.agrees(&project);
    assert_eq!(lives(&project)["web"], before["web"]);
    assert_eq!(watcher.count(invalid), 3, "{:#?}", watcher.messages(0));
    watcher.interrupt().exits(130);
    assert_eq!(["api", "web", "more"].map(|service| created(&project, &events, service)), [1, 0, 0]);
}

#[test]
fn specs_that_are_suddenly_gone_remove_nothing() {
    let project = Project::new("gone");
    let all = sleeper("api", "") + &sleeper("web", "dependencies: [api]");
    project.write("all.yaml", &all);
    project.write("witness.yaml", &witness(0));
    let mut watcher = Watcher::start(&project);
    let events = Events::of(&project.group);
    let before = lives(&project);
    let (specs, aside) = (project.specs(), project.home.path().join("aside"));

    // The whole directory.
    std::fs::rename(&specs, &aside).unwrap();
    watcher.until("the missing directory to be told", |line| line["event"] == "specs-invalid");
    assert_eq!(lives(&project), before);
    std::fs::rename(&aside, &specs).unwrap();
    taken_up(&project, &mut watcher, 1);

    // Every file in it.
    let told = watcher.told().len();
    copy(&specs, &aside);
    for file in ["group.yaml", "all.yaml", "witness.yaml"] {
        project.remove(file);
    }
    watcher.until_after(told, "the missing files to be told", |line| line["event"] == "specs-invalid");
    assert_eq!(project.names(), ["api", "web", "witness"]);
    copy(&aside, &specs);
    taken_up(&project, &mut watcher, 2);

    // Every service.
    let told = watcher.told().len();
    for file in ["all.yaml", "witness.yaml"] {
        project.remove(file);
    }
    watcher.until_after(told, "that there is no service", |line| line["event"] == "specs-empty");
    assert_eq!(project.names(), ["api", "web", "witness"]);
    project.write("all.yaml", &all);
    taken_up(&project, &mut watcher, 3);
    for service in ["api", "web"] {
        assert_eq!(lives(&project)[service], before[service], "{service}: {:#?}", watcher.messages(0));
    }

    // One of them, on purpose.
    project.write("all.yaml", &sleeper("api", ""));
    watcher.waits("web to be removed", |_| (project.names() == ["api", "witness"]).then_some(()));
    watcher.until("it to be told", |line| line["event"] == "removed" && line["service"] == "web");
    watcher.agrees(&project);
    assert_eq!(lives(&project)["api"], before["api"]);
    watcher.interrupt().exits(130);
    let counts = ["api", "web", "witness"].map(|service| created(&project, &events, service));
    assert_eq!(counts, [0, 0, 3], "{:#?}", events.seen());
}

fn copy(from: &Path, to: &Path) {
    std::fs::create_dir_all(to).unwrap();
    for entry in std::fs::read_dir(from).unwrap() {
        let path = entry.unwrap().path();
        std::fs::copy(&path, to.join(path.file_name().unwrap())).unwrap();
    }
}

#[test]
fn failed_change_rolls_back_until_spec_changes() {
    let project = Project::new("bad");
    let other = sleeper("web", "dependencies: [api]");
    project.write("all.yaml", &(sleeper("api", "") + &other));
    project.write("witness.yaml", &witness(0));
    let mut watcher = Watcher::start(&project);
    let events = Events::of(&project.group);
    let before = lives(&project);
    let failed = |line: &serde_json::Value| line["event"] == "failed" && line["service"] == "api";
    project.write("all.yaml", &(script("api", "echo no configuration; sleep 0.2; exit 3", "") + &other));
    let line = watcher.until("the failure", failed);
    assert_eq!((&line["reason"], &line["retry_seconds"]), (&"Exited".into(), &serde_json::Value::Null), "{line:#}");
    assert_eq!(line["output"], serde_json::json!(["no configuration"]));
    taken_up(&project, &mut watcher, 1);
    let now = lives(&project);
    assert_eq!((&now["api"].id, &now["web"]), (&before["api"].id, &before["web"]), "the old one serves");
    assert_eq!(project.names(), ["api", "web", "witness"], "nothing is left of the new one");

    // The old one is kept alive meanwhile.
    let told = watcher.told().len();
    engine::act(&project.name("api"), "kill");
    watcher
        .until_after(told, "the old one to serve", |line| line["event"] == "rolled-back" && line["service"] == "api");
    assert_eq!(project.id("api"), before["api"].id);
    taken_up(&project, &mut watcher, 2);
    assert_eq!(created(&project, &events, "api"), 1, "it was tried once: {:#?}", watcher.messages(0));
    // That the old one was killed may be told as well.
    let given_up = |line: &serde_json::Value| failed(line) && line["retry_seconds"].is_null();
    assert_eq!(watcher.count(given_up), 1, "{:#?}", watcher.messages(0));

    let told = watcher.told().len();
    project.write("all.yaml", &(script("api", "echo fine; sleep infinity", "") + &other));
    watcher.until_after(told, "the good one", |line| line["event"] == "ready" && line["service"] == "api");
    watcher.agrees(&project);
    assert_ne!(project.id("api"), before["api"].id);
    assert_eq!(lives(&project)["web"], before["web"]);
    watcher.interrupt().exits(130);
    assert_eq!(created(&project, &events, "api"), 2);
}
