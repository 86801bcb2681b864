//! Profiles: services that exist only on request.

use std::time::Duration;

use crate::support::project::Project;

fn service(name: &str, fields: &str) -> String {
    format!("name: {name}\nimage: drillmaster/busybox:1\ncommand: [sleep, '3600']\nstop_signal: KILL\n{fields}---\n")
}

/// `web`, which may use `cache` of the profile `fast`, and `debugger` of the profile `debug`.
fn shop(purpose: &str) -> Project {
    let project = Project::new(purpose);
    let text = service("web", "dependencies: [{name: cache, required: false}]\n")
        + &service("cache", "profiles: [fast]\n")
        + &service("debugger", "profiles: [debug]\ndependencies: [web]\n");
    project.write("app.yaml", &text);
    project
}

fn names(project: &Project) -> Vec<String> {
    let prefix = format!("{}-", project.group);
    project.containers().into_iter().map(|container| container.name.replace(&prefix, "")).collect()
}

#[test]
fn only_active_services_exist() {
    let project = shop("profiles");
    project.run(&["validate"]).exits(0).stdout_contains("1 service, no errors");
    project.up().stdout_contains("1 service ready (1 created)");
    assert_eq!(names(&project), ["web"]);
    assert!(project.differences().is_empty());

    project.run(&["up", "--profile", "debug"]).exits(0).stdout_contains("2 services ready (1 created)");
    assert_eq!(names(&project), ["debugger", "web"]);
    let graph = project.run(&["graph", "--profile", "*"]).exits(0).stdout;
    assert!(["web", "cache", "debugger"].iter().all(|name| graph.contains(name)), "{graph}");
    project.run(&["diff", "--profile", "debug"]).exits(0);
    project.run(&["exec", "debugger", "--", "true"]).exits(0);
    let status = project.run(&["status"]).exits(0).stdout;
    assert!(status.contains("profile not active: debug; `drillmaster up` removes it"), "{status}");

    assert_eq!(project.differences(), ["debugger remove profiles"]);
    project.run(&["diff"]).exits(1).stdout_contains("debug");
    project.up().stderr_contains("debugger: ");
    assert_eq!(names(&project), ["web"]);

    let mut command = project.command(&["up"]);
    command.env("DRILLMASTER_PROFILES", "fast,debug");
    crate::support::process::run(command, Duration::from_secs(60)).exits(0);
    assert_eq!(names(&project), ["cache", "debugger", "web"]);
    project.run(&["down"]).exits(0);
    assert!(names(&project).is_empty(), "`down` removes all, whatever the profiles");
}

#[test]
fn named_service_is_active() {
    let project = shop("profile-named");
    project.run(&["up", "debugger"]).exits(0);
    assert_eq!(names(&project), ["debugger", "web"]);
    project.run(&["up", "--exclude", "debugger"]).exits(0);
    assert_eq!(names(&project), ["debugger", "web"]);
    project.run(&["stop", "debugger"]).exits(0);
    project.run(&["down"]).exits(0);
    assert!(names(&project).is_empty());

    project.write("app.yaml", &service("debugger", "profiles: [debug]\n"));
    project.run(&["up"]).exits(2).stderr_contains("add `--profile debug`");
    project.write("web.yaml", &service("web", "dependencies: [debugger]\n"));
    let failed = project.run(&["up"]).exits(2);
    let failed = failed.stderr_contains("`web` depends on `debugger`, whose profile `debug` is not active");
    failed.stderr_contains("web.yaml:5:");
}

#[test]
fn watch_keeps_the_profiles_of_its_start() {
    let project = shop("profile-watch");
    let mut watch = project.spawn(&["up", "--watch", "--profile", "debug"]);
    watch.wait_for_stderr("watching 2 services");
    project.write("other.yaml", &service("other", "profiles: [debug]\n"));
    watch.wait_for_stderr("other: ready");
    assert_eq!(names(&project), ["debugger", "other", "web"]);
    watch.signal(rustix::process::Signal::INT);
    watch.wait_for_exit(Duration::from_secs(20)).exits(130);
}
