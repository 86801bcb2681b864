//! Jobs: run to completion once, before their dependents start; re-run on request; failures show the output.

use std::time::{SystemTime, UNIX_EPOCH};

use rustix::process::Signal;

use crate::support::engine;
use crate::support::events::Events;
use crate::support::project::{BUSYBOX, Project, script, sleeper};
use crate::support::watcher::Watcher;
use crate::support::{WAIT_TIMEOUT, wait_for};

/// Returns the spec of a job that runs a shell script, with additional YAML lines.
fn job(name: &str, script: &str, more: &str) -> String {
    let script = serde_json::json!(script);
    format!("---\nkind: Job\nname: {name}\nimage: {BUSYBOX}\ncommand: [sh, -c, {script}]\nstop_signal: KILL\n{more}\n")
}

#[test]
fn job_completes_before_its_dependents_are_created() {
    let project = Project::new("job");
    let specs = [
        sleeper("db", ""),
        job("migrate", "sleep 0.5; echo migrated", "dependencies: [db]\non: {succeeded: {run: [echo, well done]}}"),
        sleeper("api", "dependencies: [migrate]"),
    ];
    project.write("all.yaml", &specs.concat());
    let events = Events::subscribe(&project.group);
    let run = project.up().stderr_contains("migrate: succeeded").stderr_contains("migrate: succeeded | well done");
    assert!(run.stdout.contains("ready"), "{run}");
    let [db, migrate, api] = ["db", "migrate", "api"].map(|service| project.name(service));
    events.assert_order(("rename", &db), ("create", &format!("{migrate}.new")));
    events.assert_order(("die", &format!("{migrate}.new")), ("create", &format!("{api}.new")));
    events.assert_order(("rename", &migrate), ("create", &format!("{api}.new")));

    let status = project.status("migrate");
    assert_eq!((&status["kind"], &status["phase"]), (&"Job".into(), &"Succeeded".into()), "{status:#}");
    assert_eq!((&status["ready"], &status["last_exit"]["code"]), (&true.into(), &0.into()), "{status:#}");
    project.run(&["status"]).exits(0).stdout_contains("Succeeded");

    let id = project.id("migrate");
    project.up().stdout_contains("nothing to do");
    assert_eq!(project.differences(), Vec::<String>::new());
    assert_eq!(project.id("migrate"), id, "the job does not run again");
    project.run(&["down"]).exits(0);
    assert!(project.containers().is_empty());
}

#[test]
fn failed_job_is_retried_and_a_new_spec_fixes_it() {
    let project = Project::new("badjob");
    let write = |script: &str| {
        let hooks = "retries: 1\non: {failed: {run: [echo, notified]}}";
        let specs = job("migrate", script, hooks) + &sleeper("api", "dependencies: [migrate]");
        project.write("all.yaml", &specs);
    };
    // Ten megabytes of output, of which the last lines are shown, and a background process.
    write("sleep 1000 & yes $(seq 200) | head -c 10000000; echo; echo no such table; exit 7");
    let run = project
        .run(&["up"])
        .exits(1)
        .stderr_contains("migrate: failed (Exited): exited with code 7")
        .stderr_contains("| no such table");
    let run = run.stderr_contains("migrate: failed | notified").stderr_contains("api: pending: waiting for migrate");
    assert_eq!(run.stderr.matches("failed (Exited)").count(), 2, "one retry: {run}");
    assert_eq!(project.names(), ["migrate.new"], "the failed container is kept for inspection");
    let status = project.status("migrate");
    assert_eq!((&status["kind"], &status["ready"]), (&"Job".into(), &false.into()), "{status:#}");
    write("true");
    project.up().stderr_contains("migrate: succeeded").stderr_contains("api: ready");
    assert_eq!(project.names(), ["api", "migrate"]);
}

#[test]
fn rerun_setting_controls_job_reruns() {
    let project = Project::new("rerun");
    let write = |value: &str| {
        let specs = [
            sleeper("db", &format!("env: {{A: {value}}}")),
            job("always", "true", "rerun: always"),
            job("along", "true", "rerun: with-dependencies\ndependencies: [db]"),
            job("once", "true", "dependencies: [db]"),
        ];
        project.write("all.yaml", &specs.concat());
    };
    let ids = || ["always", "along", "once"].map(|job| project.id(job));
    write("one");
    project.up();
    let first = ids();
    project.up();
    let second = ids();
    assert_ne!(second[0], first[0]);
    assert_eq!(second[1..], first[1..]);
    // The engine reports creation times in whole seconds. Wait, so that the new container is younger.
    let current_second = || SystemTime::now().duration_since(UNIX_EPOCH).unwrap().as_secs();
    let now = current_second();
    wait_for("the next second", WAIT_TIMEOUT, || (current_second() > now).then_some(()));
    write("two");
    project.up();
    let third = ids();
    assert_ne!(third[0], second[0]);
    assert_ne!(third[1], second[1], "its dependency was replaced");
    assert_eq!(third[2], second[2]);
    assert_eq!(project.names(), ["along", "always", "db", "once"]);
}

#[test]
fn run_command_runs_a_job() {
    let project = Project::new("runjob");
    let specs = [
        sleeper("db", ""),
        job("report", "echo all is well", "dependencies: [db]"),
        job("bad", "echo all is lost; exit 3", ""),
    ];
    project.write("all.yaml", &specs.concat());
    project.run(&["run", "report"]).exits(0).stdout_contains("all is well");
    let first = project.id("report");
    project.run(&["run", "report"]).exits(0).stdout_contains("all is well");
    assert_ne!(project.id("report"), first);
    project
        .run(&["run", "bad"])
        .exits(3)
        .stderr_contains("bad: failed (Exited): exited with code 3")
        .stderr_contains("| all is lost");
    project.run(&["run", "db"]).exits(2).stderr_contains("not a job");
    project.run(&["run", "no-such-job"]).exits(2).stderr_contains("no-such-job");
}

#[test]
fn interrupted_run_stops_its_job() {
    let project = Project::new("stopjob");
    let trap = "trap 'echo told to stop; exit 5' TERM; echo running; while true; do sleep 0.1; done";
    let write = |script: &str| {
        let specs = [sleeper("db", ""), job("slow", script, "dependencies: [db]").replace("KILL", "TERM")];
        project.write("all.yaml", &specs.concat());
    };
    write(trap);
    let running = project.spawn(&["run", "slow"]);
    wait_for("the job to run", WAIT_TIMEOUT, || {
        project.run(&["logs", "slow"]).stdout.contains("running").then_some(())
    });
    running.signal(Signal::INT);
    let run = running.wait_for_exit(WAIT_TIMEOUT).exits(130).stderr_contains("interrupted");
    run.stdout_contains("told to stop");
    let state = |name: &str| project.containers().into_iter().find(|it| it.name == project.name(name)).unwrap().state;
    assert_eq!(state("slow.new"), "exited");
    assert_eq!(state("db"), "running", "only the job is stopped");
    // The next run begins it again.
    write("echo done");
    project.run(&["run", "slow"]).exits(0).stdout_contains("done");
}

#[test]
fn up_returns_the_exit_code_of_a_job_and_takes_everything_down() {
    let project = Project::new("exitcode");
    let write = |script: &str| {
        let specs = [sleeper("db", ""), job("test", script, "dependencies: [db]"), sleeper("other", "")];
        project.write("all.yaml", &specs.concat());
    };
    write("echo ran; exit 42");
    project.run(&["up", "--exit-code-from", "test"]).exits(42).stdout_contains("test | ran");
    assert_eq!(project.names(), ["db", "other", "test.new"]);
    let run = project.run(&["up", "--exit-code-from", "test", "--down"]).exits(42).stdout_contains("test | ran");
    assert_eq!(project.names(), Vec::<String>::new(), "{run}");
    write("echo ran");
    project.run(&["up", "--exit-code-from", "test"]).exits(0).stdout_contains("test | ran");
    let first = project.id("test");
    project.run(&["up", "--exit-code-from", "test"]).exits(0);
    assert_ne!(project.id("test"), first, "it runs each time");
    let run = project.run(&["up", "--exit-code-from", "test", "--down", "--output", "json"]).exits(0);
    assert_eq!(run.json()["outcome"], "done", "{run}");
    assert_eq!(project.names(), Vec::<String>::new());
    project.run(&["up", "--exit-code-from", "db"]).exits(2).stderr_contains("not a job");
    project.run(&["up", "--down"]).exits(2);
}

#[test]
fn run_killed_during_a_job_resumes_without_repeats() {
    let project = Project::new("killjob");
    let script = "echo ran >> /data/runs; sleep 1.5; echo done";
    let more = "volumes: ['data:/data']";
    let specs = job("migrate", script, more) + &sleeper("api", &format!("dependencies: [migrate]\n{more}"));
    project.write("all.yaml", &specs);
    let running = project.spawn(&["up"]);
    wait_for("the job to run", WAIT_TIMEOUT, || {
        project.containers().iter().any(|container| container.state == "running").then_some(())
    });
    running.signal(Signal::KILL);
    drop(running);
    project.up().stderr_contains("migrate: succeeded");
    assert_eq!(project.exec("api", &["cat", "/data/runs"]), "ran\n", "the next run waited for the running job");

    project.run(&["down", "--volumes"]).exits(0);
    let mut running = project.spawn(&["up"]);
    running.wait_for_stderr("migrate: succeeded");
    running.signal(Signal::KILL);
    drop(running);
    project.up();
    assert_eq!(project.exec("api", &["cat", "/data/runs"]), "ran\n", "a succeeded job is not repeated");
}

#[test]
fn hanging_job_blocks_only_dependents_and_recovers() {
    let project = Project::new("hangjob");
    let write = |script: &str, value: &str| {
        let specs = [
            job("migrate", script, ""),
            sleeper("api", "dependencies: [migrate]"),
            sleeper("other", &format!("env: {{A: {value}}}")),
        ];
        project.write("all.yaml", &specs.concat());
    };
    write("sleep 1000", "one");
    let run = project.run(&["up", "--timeout", "3s"]);
    assert_ne!(run.code, Some(0), "{run}");
    let run = run.stderr_contains("other: ready").stderr_contains("migrate");
    run.output_lacks("api: ready");
    let mut watcher = Watcher::spawn(&project);
    watcher.wait_for_line("migrate to start", |line| line["event"] == "reconciling" && line["service"] == "migrate");
    write("sleep 1000", "two");
    watcher.wait_for_line("other to be replaced", |line| line["event"] == "ready" && line["service"] == "other");
    assert_eq!(project.exec("other", &["sh", "-c", "echo $A"]), "two\n");
    assert_eq!(project.names(), ["migrate.new", "other"]);
    write("true", "two");
    watcher.wait_for_line("migrate to succeed", |line| line["event"] == "succeeded" && line["service"] == "migrate");
    watcher.wait_for_line("api to be ready", |line| line["event"] == "ready" && line["service"] == "api");
    let id = project.id("migrate");
    watcher.wait_for_line("the watch to settle", |line| line["event"] == "watching");
    // Correcting drift of other services does not re-run the job.
    let since = watcher.lines().len();
    engine::container_action(&project.name("other"), "kill");
    watcher.wait_for_line_after(since, "other to be ready again", |line| {
        line["event"] == "ready" && line["service"] == "other"
    });
    assert_eq!(project.id("migrate"), id);
    watcher.interrupt();
}

#[test]
fn retries_of_a_job_are_counted_and_show_the_last_run_only() {
    let project = Project::new("retried");
    let job = script("flaky", "echo attempt of $(date +%s); exit 3", "kind: Job\nretries: 2");
    project.write("all.yaml", &job);
    let run = project.run(&["up"]).exits(1);
    for retry in ["flaky: failed (Exited): exited with code 3; retrying in 1 s (1 of 2)", "retrying in 2 s (2 of 2)"] {
        assert!(run.stderr.contains(retry), "{run}");
    }
    let lines = run.stderr.lines().filter(|line| line.contains("| attempt of")).count();
    assert_eq!(lines, 3, "one for each of three runs\n{run}");
    project.run(&["down"]).exits(0);
}

#[test]
fn service_that_completes_is_called_a_job() {
    let project = Project::new("completes");
    project.write("all.yaml", &script("once", "exit 0", ""));
    project.run(&["up"]).exits(1).stderr_contains("if it is meant to run to completion, write `kind: Job`");
    project.run(&["down"]).exits(0);
}
