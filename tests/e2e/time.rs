//! A run that somebody ends: by a time limit, by Ctrl-C, by Ctrl-C again.

use std::time::Duration;

use rustix::process::Signal;

use crate::support::project::{Project, script, sleeper};

const LIMIT: Duration = Duration::from_secs(60);

/// `api` becomes ready when somebody makes the file; `web` needs it; `other` needs nobody.
fn waiting(purpose: &str) -> Project {
    let project = Project::new(purpose);
    let api = sleeper("api", "ping: {exec: [test, -f, /tmp/ready]}");
    project.write("all.yaml", &(api + &sleeper("web", "dependencies: [api]") + &sleeper("other", "")));
    project
}

/// Makes `api` ready, and lets the next run complete what the first began.
#[track_caller]
fn completed(project: &Project) {
    assert_eq!(project.names(), ["api.new", "other"], "what was done stays");
    let before = project.containers();
    project.exec("api.new", &["touch", "/tmp/ready"]);
    project.up().prints("3 services ready");
    project.is_settled(&["api", "other", "web"]);
    assert_eq!(project.id("api"), before[0].id, "it went on with what was there");
    assert_eq!(project.id("other"), before[1].id);
}

#[test]
fn a_time_limit_ends_a_run_and_the_next_completes_it() {
    let project = waiting("timeout");
    // Long enough for `other`, also on a busy machine.
    let run = project.run(&["up", "--timeout", "6s"]).exits(1).says("--timeout");
    let run = run.says("api: pending: waiting for readiness probe").says("web: pending: waiting for api");
    assert!(run.took > Duration::from_secs(6) && run.took < Duration::from_secs(30), "{run}");
    completed(&project);
    project.run(&["up", "--timeout", "soon"]).exits(2).says("--timeout");
    project.run(&["up", "--timeout", "0s"]).says("--timeout");
}

#[test]
fn an_interrupt_ends_a_run_and_the_next_completes_it() {
    let project = waiting("interrupt");
    for signal in [Signal::INT, Signal::TERM] {
        let mut running = project.spawn(&["up"]);
        running.until_says("api: waiting for readiness probe");
        crate::support::wait_for("other", crate::support::SOON, || {
            project.names().contains(&"other".into()).then_some(())
        });
        running.signal(signal);
        let run = running.ends(LIMIT).exits(130).says("interrupted").says("api: pending: waiting for readiness probe");
        assert!(run.took < Duration::from_secs(40), "{run}");
    }
    completed(&project);
}

#[test]
fn an_interrupt_ends_after_the_step_and_a_second_at_once() {
    let project = Project::new("second");
    // Stopping it takes ten seconds.
    let deaf = script("api", "sleep infinity", "").replace("stop_signal: KILL", "stop_timeout: 10s");
    project.write("all.yaml", &deaf);
    project.up();
    let mut running = project.spawn(&["down"]);
    running.until_says("api: stopping");
    running.signal(Signal::INT);
    running.until_says("press Ctrl-C again");
    assert!(running.is_running(), "it waits for the step");
    running.signal(Signal::INT);
    let run = running.ends(LIMIT).exits(130);
    assert!(run.took < Duration::from_secs(8), "it did not wait for the step: {run}");
    project.run(&["down"]).exits(0);
    assert!(project.containers().is_empty());
}

#[test]
fn an_interrupted_run_says_so_to_programs() {
    let project = waiting("intjson");
    let mut running = project.spawn(&["up", "--output", "json"]);
    running.until_says("api: waiting for readiness probe");
    running.signal(Signal::INT);
    let run = running.ends(LIMIT).exits(130);
    assert_eq!(run.json()["outcome"], "interrupted", "{run}");
}
