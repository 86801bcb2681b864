//! Runs ended by `--timeout`, by Ctrl-C, or by a second Ctrl-C.

use std::time::Duration;

use rustix::process::Signal;

use crate::support::project::{Project, script, sleeper};

const LIMIT: Duration = Duration::from_secs(60);

/// Creates a project in which `api` becomes ready when a file is created, `web` depends on `api`, and `other` has no
/// dependencies.
fn unready_project(purpose: &str) -> Project {
    let project = Project::new(purpose);
    let api = sleeper("api", "ping: {exec: [test, -f, /tmp/ready]}");
    project.write("all.yaml", &(api + &sleeper("web", "dependencies: [api]") + &sleeper("other", "")));
    project
}

/// Makes `api` ready and asserts that the next run completes the interrupted one.
#[track_caller]
fn assert_next_run_completes(project: &Project) {
    assert_eq!(project.names(), ["api.new", "other"], "completed steps are kept");
    let before = project.containers();
    project.exec("api.new", &["touch", "/tmp/ready"]);
    project.up().stdout_contains("3 services ready");
    project.assert_settled(&["api", "other", "web"]);
    assert_eq!(project.id("api"), before[0].id, "the candidate is kept");
    assert_eq!(project.id("other"), before[1].id);
}

#[test]
fn next_up_completes_a_run_that_timed_out() {
    let project = unready_project("timeout");
    // Long enough for `other`, even on a busy machine.
    let run = project.run(&["up", "--timeout", "6s"]).exits(1).stderr_contains("--timeout");
    let run = run
        .stderr_contains("api: pending: waiting for readiness probe")
        .stderr_contains("web: pending: waiting for api");
    assert!(run.took > Duration::from_secs(6) && run.took < Duration::from_secs(30), "{run}");
    assert_next_run_completes(&project);
    project.run(&["up", "--timeout", "soon"]).exits(2).stderr_contains("--timeout");
    project.run(&["up", "--timeout", "0s"]).stderr_contains("--timeout");
}

#[test]
fn next_up_completes_an_interrupted_run() {
    let project = unready_project("interrupt");
    for signal in [Signal::INT, Signal::TERM] {
        let mut running = project.spawn(&["up"]);
        running.wait_for_stderr("api: waiting for readiness probe");
        crate::support::wait_for("other to be created", crate::support::WAIT_TIMEOUT, || {
            project.names().contains(&"other".into()).then_some(())
        });
        running.signal(signal);
        let run = running
            .wait_for_exit(LIMIT)
            .exits(130)
            .stderr_contains("interrupted")
            .stderr_contains("api: pending: waiting for readiness probe");
        assert!(run.took < Duration::from_secs(40), "{run}");
    }
    assert_next_run_completes(&project);
}

#[test]
fn second_interrupt_does_not_wait_for_the_step() {
    let project = Project::new("second");
    // The container takes ten seconds to stop.
    let slow = script("api", "sleep infinity", "").replace("stop_signal: KILL", "stop_timeout: 10s");
    project.write("all.yaml", &slow);
    project.up();
    let mut running = project.spawn(&["down"]);
    running.wait_for_stderr("api: removing");
    running.signal(Signal::INT);
    running.wait_for_stderr("press Ctrl-C again");
    assert!(running.is_running(), "the run waits for the step");
    running.signal(Signal::INT);
    let run = running.wait_for_exit(LIMIT).exits(130);
    assert!(run.took < Duration::from_secs(8), "the run does not wait for the step: {run}");
    project.run(&["down"]).exits(0);
    assert!(project.containers().is_empty());
}

#[test]
fn interrupted_run_is_marked_in_json() {
    let project = unready_project("intjson");
    let mut running = project.spawn(&["up", "--output", "json"]);
    running.wait_for_stderr("api: waiting for readiness probe");
    running.signal(Signal::INT);
    let run = running.wait_for_exit(LIMIT).exits(130);
    assert_eq!(run.json()["outcome"], "interrupted", "{run}");
}
