//! Jobs: run to their end once, before who needs them; shown when they fail; again when asked to.

use std::time::{SystemTime, UNIX_EPOCH};

use rustix::process::Signal;

use crate::support::engine;
use crate::support::events::Events;
use crate::support::project::{BUSYBOX, Project, sleeper};
use crate::support::watcher::Watcher;
use crate::support::{SOON, wait_for};

/// A job that runs a shell script, with further lines of its document.
fn job(name: &str, script: &str, more: &str) -> String {
    let script = serde_json::json!(script);
    format!("---\nkind: Job\nname: {name}\nimage: {BUSYBOX}\ncommand: [sh, -c, {script}]\nstop_signal: KILL\n{more}\n")
}

#[test]
fn a_job_succeeds_before_its_dependents_are_created_and_is_done() {
    let project = Project::new("job");
    let specs = [
        sleeper("db", ""),
        job("migrate", "sleep 0.5; echo migrated", "dependencies: [db]\non: {succeeded: {run: [echo, well done]}}"),
        sleeper("api", "dependencies: [migrate]"),
    ];
    project.write("all.yaml", &specs.concat());
    let events = Events::of(&project.group);
    let run = project.up().says("migrate: succeeded").says("migrate: succeeded | well done");
    assert!(run.stdout.contains("ready"), "{run}");
    let [db, migrate, api] = ["db", "migrate", "api"].map(|service| project.name(service));
    events.in_order(("rename", &db), ("create", &format!("{migrate}.new")));
    events.in_order(("die", &format!("{migrate}.new")), ("create", &format!("{api}.new")));
    events.in_order(("rename", &migrate), ("create", &format!("{api}.new")));

    let status = project.status("migrate");
    assert_eq!((&status["kind"], &status["phase"]), (&"Job".into(), &"Succeeded".into()), "{status:#}");
    assert_eq!((&status["ready"], &status["last_exit"]["code"]), (&true.into(), &0.into()), "{status:#}");
    project.run(&["status"]).exits(0).prints("Succeeded");

    let id = project.id("migrate");
    project.up().prints("nothing to do");
    assert_eq!(project.differences(), Vec::<String>::new());
    assert_eq!(project.id("migrate"), id, "done is done");
    project.run(&["down"]).exits(0);
    assert!(project.containers().is_empty());
}

#[test]
fn failed_job_is_retried_and_a_new_spec_fixes_it() {
    let project = Project::new("badjob");
    let write = |script: &str| {
        let hooks = "retries: 1\non: {failed: {run: [echo, told]}}";
        let specs = job("migrate", script, hooks) + &sleeper("api", "dependencies: [migrate]");
        project.write("all.yaml", &specs);
    };
    // Ten megabytes of output, of which the last lines count, and somebody left behind.
    write("sleep 1000 & yes $(seq 200) | head -c 10000000; echo; echo no such table; exit 7");
    let run =
        project.run(&["up"]).exits(1).says("migrate: failed (Exited): exited with code 7").says("| no such table");
    let run = run.says("migrate: failed | told").says("api: pending: waiting for migrate");
    assert_eq!(run.stderr.matches("failed (Exited)").count(), 2, "tried again once: {run}");
    assert_eq!(project.names(), ["migrate.new"], "what it left is there to be looked at");
    let status = project.status("migrate");
    assert_eq!((&status["kind"], &status["ready"]), (&"Job".into(), &false.into()), "{status:#}");
    write("true");
    project.up().says("migrate: succeeded").says("api: ready");
    assert_eq!(project.names(), ["api", "migrate"]);
}

#[test]
fn jobs_run_again_as_they_say() {
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
    // The engine tells when a container was created in whole seconds; what is made in the next one is younger.
    let second_of = || SystemTime::now().duration_since(UNIX_EPOCH).unwrap().as_secs();
    let now = second_of();
    wait_for("the next second", SOON, || (second_of() > now).then_some(()));
    write("two");
    project.up();
    let third = ids();
    assert_ne!(third[0], second[0]);
    assert_ne!(third[1], second[1], "what it needs is another one");
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
    project.run(&["run", "report"]).exits(0).prints("all is well");
    let first = project.id("report");
    project.run(&["run", "report"]).exits(0).prints("all is well");
    assert_ne!(project.id("report"), first);
    project.run(&["run", "bad"]).exits(1).says("bad: failed (Exited): exited with code 3").says("| all is lost");
    project.run(&["run", "db"]).exits(2).says("not a job");
    project.run(&["run", "nobody"]).exits(2).says("nobody");
}

#[test]
fn run_killed_during_a_job_resumes_without_repeats() {
    let project = Project::new("killjob");
    let script = "echo ran >> /data/runs; sleep 1.5; echo done";
    let more = "volumes: ['data:/data']";
    let specs = job("migrate", script, more) + &sleeper("api", &format!("dependencies: [migrate]\n{more}"));
    project.write("all.yaml", &specs);
    let running = project.spawn(&["up"]);
    wait_for("the job to run", SOON, || {
        project.containers().iter().any(|container| container.state == "running").then_some(())
    });
    running.signal(Signal::KILL);
    drop(running);
    project.up().says("migrate: succeeded");
    assert_eq!(project.exec("api", &["cat", "/data/runs"]), "ran\n", "the next run waited for the one that ran");

    project.run(&["down", "--volumes"]).exits(0);
    let mut running = project.spawn(&["up"]);
    running.until_says("migrate: succeeded");
    running.signal(Signal::KILL);
    drop(running);
    project.up();
    assert_eq!(project.exec("api", &["cat", "/data/runs"]), "ran\n", "a success is not repeated");
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
    let run = run.says("other: ready").says("migrate");
    run.never_says("api: ready");
    let mut watcher = Watcher::begin(&project);
    watcher.until("it to have read the specs", |line| line["event"] == "reconciling" && line["service"] == "migrate");
    write("sleep 1000", "two");
    watcher.until("the other one to be replaced", |line| line["event"] == "ready" && line["service"] == "other");
    assert_eq!(project.exec("other", &["sh", "-c", "echo $A"]), "two\n");
    assert_eq!(project.names(), ["migrate.new", "other"]);
    write("true", "two");
    watcher.until("success", |line| line["event"] == "succeeded" && line["service"] == "migrate");
    watcher.until("its dependent", |line| line["event"] == "ready" && line["service"] == "api");
    let id = project.id("migrate");
    watcher.until("peace", |line| line["event"] == "watching");
    // What was done stays done while others are mended.
    let since = watcher.told().len();
    engine::act(&project.name("other"), "kill");
    watcher.until_after(since, "repair", |line| line["event"] == "ready" && line["service"] == "other");
    assert_eq!(project.id("migrate"), id);
    watcher.interrupt();
}
