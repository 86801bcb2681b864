//! Mounted files: the engine mounts a file, not its path, so a file that was replaced needs a restart.

use std::fs;
use std::time::Duration;

use serde_json::json;

use crate::support::engine::{self, Capability};
use crate::support::project::Project;
use crate::support::wait_for;

/// A service that mounts `app.conf` with these options of a mount, and prints `got HUP` on SIGHUP.
fn spec(options: &str) -> String {
    format!(
        "name: web\nimage: drillmaster/busybox:1\nstop_signal: KILL\n\
         command: [sh, -c, \"trap 'echo got HUP' HUP; echo ready; while :; do sleep 1; done\"]\n\
         ping: {{log: ready}}\nvolumes: [{{source: ./app.conf, target: /etc/app.conf, {options}}}]\n"
    )
}

/// A project with this service and its file, which says `one`.
fn with_file(purpose: &str, options: &str) -> Project {
    let project = Project::new(purpose);
    save(&project, "one");
    project.write("web.yaml", &spec(options));
    project
}

/// Saves as most editors do: a new file takes the name.
fn save(project: &Project, text: &str) {
    let (new, path) = (project.specs().join("app.conf.new"), project.specs().join("app.conf"));
    fs::write(&new, text).unwrap();
    fs::rename(&new, &path).unwrap();
}

fn shown(project: &Project) -> String {
    project.exec("web", &["cat", "/etc/app.conf"])
}

fn started_at(project: &Project) -> String {
    engine::text(&project.inspect("web")["State"]["StartedAt"])
}

#[test]
fn replaced_file_restarts_the_container() {
    let project = with_file("file-restart", "read_only: true");
    project.up();
    let (id, first) = (project.id("web"), started_at(&project));
    assert!(project.differences().is_empty());

    save(&project, "two");
    assert_eq!(shown(&project), "one", "the engine mounts the file, not the path");
    assert_eq!(project.differences(), ["web restart volumes./etc/app.conf"]);
    let status = project.status("web");
    assert_eq!((&status["ready"], &status["reason"]), (&json!(true), &json!("Outdated")), "{status:#}");
    assert!(engine::text(&status["message"]).contains("mounted file ./app.conf changed"), "{status:#}");
    project.run(&["up"]).exits(0).stdout_contains("1 service ready (1 restarted)");
    assert_eq!((shown(&project), project.id("web")), ("two".to_owned(), id));
    assert!(started_at(&project) != first);
    project.assert_settled(&["web"]);

    // The same content is no change, whatever the time and the inode.
    let second = started_at(&project);
    save(&project, "two");
    assert!(project.differences().is_empty());
    project.run(&["up"]).exits(0).stdout_contains("nothing to do");
    assert_eq!(started_at(&project), second);
    // A restart by someone else mounts the present file.
    save(&project, "three");
    engine::container_action(&project.name("web"), "restart?t=0");
    assert_eq!(shown(&project), "three");
    assert!(project.differences().is_empty());
}

#[test]
fn writable_file_counts_when_it_is_replaced() {
    if engine::lacks(Capability::Files) {
        return;
    }
    let project = with_file("file-writable", "read_only: false");
    project.up();
    project.exec("web", &["sh", "-c", "echo more >> /etc/app.conf"]);
    assert!(project.differences().is_empty(), "the container wrote to it itself");
    save(&project, "two");
    assert_eq!(project.differences(), ["web restart volumes./etc/app.conf"]);
    project.write("web.yaml", &spec("on_change: ignore"));
    assert!(project.differences().is_empty());
}

#[test]
fn file_can_be_signalled_or_replace_the_container() {
    let project = with_file("file-signal", "read_only: true, on_change: {signal: HUP}");
    project.up();
    let first = started_at(&project);
    fs::write(project.specs().join("app.conf"), "two").unwrap();
    assert_eq!(project.differences(), ["web update volumes./etc/app.conf"]);
    project.run(&["up"]).exits(0).stdout_contains("1 service ready (1 updated)");
    wait_for("the signal", Duration::from_secs(10), || project.run(&["logs"]).stdout.contains("got HUP").then_some(()));
    assert_eq!(started_at(&project), first);
    project.assert_settled(&["web"]);
    // The container does not see a file that has replaced the mounted one.
    save(&project, "three");
    assert_eq!(project.differences(), ["web restart volumes./etc/app.conf"]);
    project.up();
    assert_eq!(shown(&project), "three");

    let id = project.id("web");
    project.write("web.yaml", &spec("read_only: true, on_change: replace"));
    assert!(project.differences().is_empty());
    save(&project, "four");
    assert_eq!(project.differences(), ["web replace volumes./etc/app.conf"]);
    project.up();
    assert!(project.id("web") != id);
    assert_eq!(shown(&project), "four");
    project.assert_settled(&["web"]);
}

#[test]
fn watch_follows_files() {
    let project = with_file("file-watch", "read_only: true");
    let mut watch = project.spawn(&["up", "--watch"]);
    watch.wait_for_stderr("watching 1 service");
    for text in ["two", "three"] {
        save(&project, text);
        wait_for("the container to show the new file", Duration::from_secs(20), || {
            let found = engine::exec(&project.name("web"), &["cat", "/etc/app.conf"]);
            found.is_ok_and(|found| found.trim() == text).then_some(())
        });
    }
    watch.wait_for_stderr("web: restarting: mounted file ./app.conf changed");
    watch.signal(rustix::process::Signal::INT);
    watch.wait_for_exit(Duration::from_secs(20)).exits(130);
}

#[test]
fn on_change_of_a_directory_is_an_error() {
    let project = Project::new("file-directory");
    fs::create_dir_all(project.specs().join("app.conf")).unwrap();
    project.write("web.yaml", &spec("on_change: restart"));
    let message = "service web (web.yaml:1): `on_change` of /etc/app.conf applies to files, and ./app.conf is not a";
    project.run(&["up"]).exits(2).stderr_contains(message);
    // Without it, containers see what changes.
    project.write("web.yaml", &spec("read_only: true"));
    project.up();
    project.assert_settled(&["web"]);
}
