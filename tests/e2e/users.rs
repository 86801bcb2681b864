//! Controllers of two users on one engine. The second user has another state directory, and so another lock file.

use std::process::Command;
use std::time::Duration;

use rustix::process::Signal;

use crate::support::engine;
use crate::support::process::{self, Run, Running};
use crate::support::project::{Project, script, sleeper};
use crate::support::wait_for;

const LIMIT: Duration = Duration::from_secs(60);

/// A command of the second user.
fn command(project: &Project, arguments: &[&str]) -> Command {
    let mut command = project.command(arguments);
    command.env("XDG_STATE_HOME", project.home.path().join("other")).env("USER", "bob");
    command
}

fn run(project: &Project, arguments: &[&str]) -> Run {
    process::run(command(project, arguments), LIMIT)
}

/// Starts a watch of the first user and waits until it settles.
fn start_watch(project: &Project) -> Running {
    let mut watch = project.spawn(&["up", "--watch"]);
    watch.wait_for_stderr("watching 1 service");
    watch
}

#[test]
fn hooks_run_once_for_two_users() {
    let project = Project::new("users");
    let hook = "pre_start: {run: [sh, -c, 'echo ran >> ../hooks; sleep 2']}";
    project.write("all.yaml", &sleeper("api", hook));
    let mut first = project.spawn(&["up"]);
    first.wait_for_stderr("pre_start");
    let second = process::spawn(command(&project, &["up"])).wait_for_exit(LIMIT).exits(0);
    let pid = format!("pid {} (drillmaster up, since ", first.id());
    first.wait_for_exit(LIMIT).exits(0).stdout_contains("1 created");
    second.stderr_contains("waiting for").stderr_contains(&pid).stdout_contains("nothing to do");
    let ran = std::fs::read_to_string(project.home.path().join("hooks")).unwrap();
    assert_eq!(ran, "ran\n");
    project.run(&["down", "--volumes"]).exits(0).output_lacks("lease");
    assert_eq!(engine::leases(&project.group), Vec::<String>::new());
}

#[test]
fn watch_of_another_user_is_left_alone() {
    let project = Project::new("otherwatch");
    project.write("all.yaml", &sleeper("api", ""));
    let mut watch = start_watch(&project);
    let lease = engine::leases(&project.group);
    assert_eq!(lease.len(), 1, "{lease:?}");
    let holder = format!("pid {} (drillmaster up --watch, since ", watch.id());
    for arguments in
        [&["up"][..], &["up", "--watch"], &["down", "--volumes"], &["start"], &["stop"], &["reload", "api"]]
    {
        let refused = run(&project, arguments).exits(4).stderr_contains(&holder);
        refused.stderr_contains(&project.group).stderr_contains("only one controller");
    }
    // Commands that only read take no lease.
    run(&project, &["status"]).exits(0).stdout_contains("Ready");
    run(&project, &["diff"]).exits(0);
    run(&project, &["logs"]).exits(0);
    assert!(watch.is_running());
    project.assert_settled(&["api"]);
    watch.signal(Signal::TERM);
    watch.wait_for_exit(LIMIT).exits(130);
    assert_eq!(engine::leases(&project.group), Vec::<String>::new());
    run(&project, &["down"]).exits(0).stdout_contains("1 removed");
}

#[test]
fn lease_of_a_killed_controller_ends_at_once() {
    let project = Project::new("killedlease");
    project.write("all.yaml", &sleeper("api", ""));
    let watch = start_watch(&project);
    // The killed process is a zombie until the end of the test.
    watch.signal(Signal::KILL);
    let next = run(&project, &["up"]).exits(0);
    next.stdout_contains("nothing to do").output_lacks("waiting");
    assert_eq!(engine::leases(&project.group), Vec::<String>::new());
    drop(watch);
}

#[test]
fn suspended_controller_ends_when_another_has_taken_over() {
    let project = Project::new("suspended");
    project.write("all.yaml", &script("api", "sleep infinity", "ping: {tcp: 80}"));
    let mut first = project.spawn(&["up"]);
    first.wait_for_stderr("waiting for readiness probe");
    first.signal(Signal::STOP);
    project.write("all.yaml", &sleeper("api", ""));
    let mut second = process::spawn(command(&project, &["up", "--watch"]));
    second.wait_for_stderr("waiting for");
    // The first one has to be seen without a renewal for 30 s.
    wait_for("the second user to take over", LIMIT, || second.stderr().contains("watching 1 service").then_some(()));
    let before = project.id("api");
    first.signal(Signal::CONT);
    let first = first.wait_for_exit(LIMIT).exits(4);
    let pid = format!("pid {} (drillmaster up --watch, since ", second.id());
    first.stderr_contains(&pid).stderr_contains("has taken over group").stderr_contains("suspended");
    assert!(second.is_running());
    assert_eq!(project.id("api"), before, "nothing changed");
    project.assert_settled(&["api"]);
}
