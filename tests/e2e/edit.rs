//! Spec changes during a watch. Each change causes exactly one replacement; partial, invalid or missing files cause none.

use std::path::Path;
use std::process::Command;
use std::time::Duration;

use crate::support::engine;
use crate::support::events::Events;
use crate::support::process;
use crate::support::project::{Project, script, sleeper};
use crate::support::watcher::{Watcher, instances};

/// Counts the containers created for a service.
fn created(project: &Project, events: &Events, service: &str) -> usize {
    let name = format!("{}.new", project.name(service));
    events.seen().iter().filter(|event| event.action == "create" && event.name == name).count()
}

/// Runs a program in the spec directory and asserts success.
#[track_caller]
fn run(project: &Project, program: &str, arguments: &[&str]) {
    let mut command = Command::new(program);
    command.args(arguments).current_dir(project.specs()).env("HOME", project.home.path()).env("TERM", "dumb");
    process::run(command, Duration::from_secs(20)).exits(0);
}

fn is_installed(program: &str) -> bool {
    Command::new(program).arg("--version").output().is_ok_and(|output| output.status.success())
}

/// Returns the specs in two halves. `A` of `api` has this value; the first half alone is valid and lacks the rest of `api`.
fn specs(value: &str) -> (String, String) {
    let first = sleeper("other", "") + &sleeper("api", "").replace("\n\n", "\n");
    (first, format!("env: {{A: {value}}}\n{}", sleeper("web", "dependencies: [api]")))
}

fn complete(value: &str) -> String {
    let (first, rest) = specs(value);
    first + &rest
}

/// A method to save `text` as `all.yaml`, changing `A` from `old` to `new`.
type Save = fn(project: &Project, old: &str, new: &str, text: &str);

fn file(project: &Project) -> std::path::PathBuf {
    project.specs().join("all.yaml")
}

/// Writes another file to the spec directory and returns its path.
fn write_other(project: &Project, name: &str, text: &str) -> std::path::PathBuf {
    let path = project.specs().join(name);
    std::fs::write(&path, text).unwrap();
    path
}

/// Emulates vi with a renamed backup: renames the old file to the backup and writes a new file.
fn emulate_vi(project: &Project, _: &str, _: &str, text: &str) {
    let swap = write_other(project, ".all.yaml.swp", "b0VIM");
    let probe = write_other(project, "4913", "");
    std::fs::remove_file(probe).unwrap();
    let backup = project.specs().join("all.yaml~");
    std::fs::rename(file(project), &backup).unwrap();
    project.write("all.yaml", text);
    std::fs::remove_file(backup).unwrap();
    std::fs::remove_file(swap).unwrap();
}

fn vi(project: &Project, old: &str, new: &str, _: &str, backup: &str) {
    if !is_installed("vim") {
        eprintln!("vim is not installed: skipping this save method");
        return project.write("all.yaml", &complete(new));
    }
    let set = format!("set backupcopy={backup} writebackup");
    let change = format!("%s/A: {old}/A: {new}/");
    run(project, "vim", &["-u", "NONE", "-es", "-c", &set, "-c", &change, "-c", "x", "all.yaml"]);
}

const SAVES: [(&str, Save); 11] = [
    ("emulated vi", emulate_vi),
    ("vi with a renamed backup", |project, old, new, text| vi(project, old, new, text, "no")),
    ("vi with a copied backup", |project, old, new, text| vi(project, old, new, text, "yes")),
    ("sed -i", |project, old, new, _| run(project, "sed", &["-i", &format!("s/A: {old}/A: {new}/"), "all.yaml"])),
    ("mv", |project, _, _, text| {
        write_other(project, "all.tmp", text);
        run(project, "mv", &["all.tmp", "all.yaml"]);
    }),
    ("truncated and written in two steps", |project, _, new, _| {
        let (first, rest) = specs(new);
        // Like a slow editor: the first half must not be applied.
        project.write("all.yaml", &first);
        std::thread::sleep(Duration::from_millis(300));
        project.write("all.yaml", &(first + &rest));
    }),
    ("written in two steps, the first without a field", |project, _, new, _| {
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
            project.write("all.yaml", &complete(&format!("draft{number}")));
            std::thread::sleep(Duration::from_millis(20));
        }
        project.write("all.yaml", text);
    }),
    ("a swapped symlink", |project, _, new, text| {
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
fn every_save_method_replaces_exactly_once() {
    let project = Project::new("save");
    project.write("all.yaml", &complete("v0"));
    let mut watcher = Watcher::start(&project);
    let events = Events::subscribe(&project.group);
    for (number, (method, save)) in SAVES.into_iter().enumerate() {
        let (before, offset) = (instances(&project), watcher.lines().len());
        let (old, new) = (format!("v{number}"), format!("v{}", number + 1));
        save(&project, &old, &new, &complete(&new));
        watcher.wait_for_line_after(offset, &format!("api to be ready after {method}"), |line| {
            line["event"] == "ready" && line["service"] == "api"
        });
        watcher.wait_until_settled(&project);
        assert_eq!(project.exec("api", &["sh", "-c", "echo $A"]), format!("{new}\n"), "{method}");
        let mut after = instances(&project);
        assert_ne!(after.insert("api".into(), before["api"].clone()).unwrap(), before["api"], "{method}");
        assert_eq!(after, before, "{method}: other containers are untouched");
        let messages = watcher.messages(offset);
        assert_eq!(messages, ["api: replacing: spec changed: env.A", "api: ready"], "{method}");
        assert_eq!(created(&project, &events, "api"), number + 1, "{method}: once: {:#?}", events.seen());
    }
    // No late replacement, and the other containers were never touched.
    watcher.interrupt().exits(130);
    assert_eq!(created(&project, &events, "api"), SAVES.len(), "{:#?}", events.seen());
    let (other, web) = (project.name("other"), project.name("web"));
    let touched =
        events.seen().into_iter().find(|event| event.name.starts_with(&other) || event.name.starts_with(&web));
    assert_eq!(touched, None);
}

/// Runs git in the spec directory and asserts success.
fn git(project: &Project, arguments: &[&str]) {
    let config = ["-c", "user.name=test", "-c", "user.email=test@localhost", "-c", "init.defaultBranch=main"];
    let mut command = Command::new("git");
    command.args(config).args(arguments).current_dir(project.specs()).env("HOME", project.home.path());
    command.env("GIT_CONFIG_NOSYSTEM", "1");
    process::run(command, Duration::from_secs(20)).exits(0);
}

#[test]
fn branch_checkout_reconciles_its_services() {
    if !is_installed("git") {
        eprintln!("git is not installed: skipping");
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
    let events = Events::subscribe(&project.group);
    let before = instances(&project);
    git(&project, &["checkout", "-q", "next"]);
    let has_services = |names: [&str; 4]| (project.names() == names).then_some(());
    watcher.wait_for("the services of branch next", |_| has_services(["api", "cache", "same", "web"]));
    watcher.wait_until_settled(&project);
    let after = instances(&project);
    assert_eq!((&after["same"], &after["web"]), (&before["same"], &before["web"]));
    assert_ne!(after["api"], before["api"]);
    assert_eq!(project.exec("api", &["sh", "-c", "echo $A"]), "next\n");

    git(&project, &["checkout", "-q", "main"]);
    watcher.wait_for("the services of branch main", |_| has_services(["api", "db", "same", "web"]));
    watcher.wait_until_settled(&project);
    let after = instances(&project);
    assert_eq!((&after["same"], &after["web"]), (&before["same"], &before["web"]));
    watcher.interrupt().exits(130);
    assert_eq!(["api", "cache", "db"].map(|service| created(&project, &events, service)), [2, 1, 1]);
}

#[test]
fn changed_env_files_replace_their_services() {
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
        let (before, offset) = (instances(&project), watcher.lines().len());
        project.write(file, text);
        watcher.wait_for_line_after(offset, &format!("{service} to be ready after {file}"), |line| {
            line["event"] == "ready" && line["service"] == service
        });
        watcher.wait_until_settled(&project);
        let expected = [format!("{service}: replacing: spec changed: {field}"), format!("{service}: ready")];
        assert_eq!(watcher.messages(offset), expected);
        let mut after = instances(&project);
        assert_ne!(after.insert(service.into(), before[service].clone()).unwrap(), before[service], "{file}");
        assert_eq!(after, before, "{file}: other containers are untouched");
    }
    watcher.interrupt().exits(130);
}

/// Returns the spec of a marker service, whose replacement proves that earlier changes were processed.
fn witness(value: u32) -> String {
    sleeper("witness", &format!("env: {{VALUE: '{value}'}}"))
}

/// Changes the marker service and waits for its replacement. Earlier changes have been processed by then.
#[track_caller]
fn wait_until_processed(project: &Project, watcher: &mut Watcher, value: u32) {
    let offset = watcher.lines().len();
    project.write("witness.yaml", &witness(value));
    watcher.wait_for_line_after(offset, "the marker service to be ready", |line| {
        line["event"] == "ready" && line["service"] == "witness"
    });
}

#[test]
fn invalid_specs_change_nothing_and_are_reported_once() {
    let project = Project::new("invalid");
    project.write("all.yaml", &(sleeper("api", "") + &sleeper("web", "dependencies: [api]")));
    let mut watcher = Watcher::start(&project);
    let before = instances(&project);
    let events = Events::subscribe(&project.group);
    let is_invalid = |line: &serde_json::Value| line["event"] == "specs-invalid";
    let broken = sleeper("api", "env: {A: two}\nportz: [80]") + &sleeper("web", "dependencies: [api]");
    project.write("all.yaml", &broken);
    let line = watcher.wait_for_line("the error", is_invalid);
    let diagnostic = &line["diagnostics"][0];
    assert_eq!(
        (&diagnostic["file"], &diagnostic["line"], &diagnostic["column"]),
        (&"specs/all.yaml".into(), &7.into(), &1.into()),
        "{line:#}"
    );
    assert!(line["message"].as_str().unwrap().contains("all.yaml:7:1"), "{line:#}");
    // The same error again, and an additional valid file: no second error, and nothing is applied.
    project.write("all.yaml", &broken);
    project.write("more.yaml", &sleeper("more", ""));
    let text = project.run(&["status"]).exits(0).stdout;
    assert!(text.contains("all.yaml:7:1"), "{text}");
    // A different error is reported.
    project.write("all.yaml", &broken.replace("portz", "portzz"));
    watcher.wait_for("the second error", |watcher| (watcher.count(is_invalid) == 2).then_some(()));
    assert_eq!(instances(&project), before, "nothing changes");
    // An unclosed mapping is not valid YAML.
    project.write("all.yaml", "name: {");
    watcher.wait_for("the third error", |watcher| (watcher.count(is_invalid) == 3).then_some(()));
    assert_eq!(instances(&project), before, "nothing changes");

    project.remove("more.yaml");
    let offset = watcher.lines().len();
    project.write("all.yaml", &(sleeper("api", "env: {A: two}") + &sleeper("web", "dependencies: [api]")));
    watcher.wait_for_line_after(offset, "the fixed spec", |line| line["event"] == "ready" && line["service"] == "api");
    watcher.wait_until_settled(&project);
    assert_eq!(instances(&project)["web"], before["web"]);
    assert_eq!(watcher.count(is_invalid), 3, "{:#?}", watcher.messages(0));
    watcher.interrupt().exits(130);
    assert_eq!(["api", "web", "more"].map(|service| created(&project, &events, service)), [1, 0, 0]);
}

#[test]
fn missing_specs_remove_nothing() {
    let project = Project::new("gone");
    let all = sleeper("api", "") + &sleeper("web", "dependencies: [api]");
    project.write("all.yaml", &all);
    project.write("witness.yaml", &witness(0));
    let mut watcher = Watcher::start(&project);
    let events = Events::subscribe(&project.group);
    let before = instances(&project);
    let (specs, backup) = (project.specs(), project.home.path().join("backup"));

    // The spec directory is missing.
    std::fs::rename(&specs, &backup).unwrap();
    watcher.wait_for_line("the missing directory to be reported", |line| line["event"] == "specs-invalid");
    assert_eq!(instances(&project), before);
    std::fs::rename(&backup, &specs).unwrap();
    wait_until_processed(&project, &mut watcher, 1);

    // All spec files are missing.
    let offset = watcher.lines().len();
    copy(&specs, &backup);
    for file in ["group.yaml", "all.yaml", "witness.yaml"] {
        project.remove(file);
    }
    watcher.wait_for_line_after(offset, "the missing files to be reported", |line| line["event"] == "specs-invalid");
    assert_eq!(project.names(), ["api", "web", "witness"]);
    copy(&backup, &specs);
    wait_until_processed(&project, &mut watcher, 2);

    // All services are missing.
    let offset = watcher.lines().len();
    for file in ["all.yaml", "witness.yaml"] {
        project.remove(file);
    }
    watcher.wait_for_line_after(offset, "the empty specs to be reported", |line| line["event"] == "specs-empty");
    assert_eq!(project.names(), ["api", "web", "witness"]);
    project.write("all.yaml", &all);
    wait_until_processed(&project, &mut watcher, 3);
    for service in ["api", "web"] {
        assert_eq!(instances(&project)[service], before[service], "{service}: {:#?}", watcher.messages(0));
    }

    // A single removed service is removed.
    project.write("all.yaml", &sleeper("api", ""));
    watcher.wait_for("web to be removed", |_| (project.names() == ["api", "witness"]).then_some(()));
    watcher.wait_for_line("the removal to be reported", |line| line["event"] == "removed" && line["service"] == "web");
    watcher.wait_until_settled(&project);
    assert_eq!(instances(&project)["api"], before["api"]);
    watcher.interrupt().exits(130);
    let counts = ["api", "web", "witness"].map(|service| created(&project, &events, service));
    assert_eq!(counts, [0, 0, 3], "{:#?}", events.seen());
}

/// Copies all files of a directory.
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
    let events = Events::subscribe(&project.group);
    let before = instances(&project);
    let is_failure = |line: &serde_json::Value| line["event"] == "failed" && line["service"] == "api";
    project.write("all.yaml", &(script("api", "echo no configuration; sleep 0.2; exit 3", "") + &other));
    let line = watcher.wait_for_line("the failure", is_failure);
    assert_eq!((&line["reason"], &line["retry_seconds"]), (&"Exited".into(), &serde_json::Value::Null), "{line:#}");
    assert_eq!(line["output"], serde_json::json!(["no configuration"]));
    wait_until_processed(&project, &mut watcher, 1);
    let now = instances(&project);
    assert_eq!((&now["api"].id, &now["web"]), (&before["api"].id, &before["web"]), "the old container is current");
    assert_eq!(project.names(), ["api", "web", "witness"], "the candidate is removed");

    // The old container is still supervised.
    let offset = watcher.lines().len();
    engine::container_action(&project.name("api"), "kill");
    watcher.wait_for_line_after(offset, "the old container to run again", |line| {
        line["event"] == "rolled-back" && line["service"] == "api"
    });
    assert_eq!(project.id("api"), before["api"].id);
    wait_until_processed(&project, &mut watcher, 2);
    assert_eq!(created(&project, &events, "api"), 1, "one attempt: {:#?}", watcher.messages(0));
    // The killed container may be reported as a failure too, but with a retry.
    let is_given_up = |line: &serde_json::Value| is_failure(line) && line["retry_seconds"].is_null();
    assert_eq!(watcher.count(is_given_up), 1, "{:#?}", watcher.messages(0));

    let offset = watcher.lines().len();
    project.write("all.yaml", &(script("api", "echo fine; sleep infinity", "") + &other));
    watcher.wait_for_line_after(offset, "the fixed spec", |line| line["event"] == "ready" && line["service"] == "api");
    watcher.wait_until_settled(&project);
    assert_ne!(project.id("api"), before["api"].id);
    assert_eq!(instances(&project)["web"], before["web"]);
    watcher.interrupt().exits(130);
    assert_eq!(created(&project, &events, "api"), 2);
}
