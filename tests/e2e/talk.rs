//! Other commands beside a watching controller, and what it says.

use std::os::unix::fs::PermissionsExt;
use std::path::PathBuf;
use std::time::Duration;

use rustix::process::Signal;
use serde_json::Value;

use crate::support::process::Running;
use crate::support::project::{Project, script, sleeper};
use crate::support::{SOON, engine, wait_for};

const LIMIT: Duration = Duration::from_secs(60);

/// A group that is watched and settled.
fn watched(purpose: &str) -> (Project, Running) {
    let project = Project::new(purpose);
    let needs = "dependencies: [{name: api, restart: true}]";
    project.write("all.yaml", &(sleeper("api", "env: {A: b}") + &sleeper("web", needs) + &sleeper("far", "")));
    let mut watch = project.spawn(&["up", "--watch"]);
    watch.until_says("watching 3 services");
    (project, watch)
}

/// The file of this name in the state directory of the group.
fn state(project: &Project, file: &str) -> PathBuf {
    let engines = project.home.path().join("state/drillmaster");
    let engine = std::fs::read_dir(engines).unwrap().next().unwrap().unwrap().path();
    engine.join(&project.group).join(file)
}

/// Who holds the lock, as it says.
fn holder(project: &Project) -> String {
    let text = std::fs::read_to_string(state(project, "lock")).unwrap();
    text.split_whitespace().nth(1).unwrap().to_owned()
}

#[test]
fn second_watch_names_the_first() {
    let (project, mut watch) = watched("second");
    let pid = format!("pid {}", holder(&project));
    let specs = project.specs().canonicalize().unwrap();
    let run = project.run(&["up", "--watch"]).exits(4).says(&pid).says(specs.to_str().unwrap());
    assert!(run.took < SOON, "at once: {run}");
    // What would be undone is not done.
    for command in ["start", "stop"] {
        project.run(&[command]).exits(4).says(&pid).says("drillmaster up --watch");
    }
    project.is_settled(&["api", "far", "web"]);
    assert!(watch.is_running());
    let mode = std::fs::metadata(state(&project, "socket")).unwrap().permissions().mode();
    assert_eq!(mode & 0o777, 0o600, "for nobody else");
}

#[test]
fn down_ends_the_watch_and_removes_everything() {
    let (project, watch) = watched("enddown");
    project.run(&["down"]).exits(0).prints("3 removed");
    let run = watch.ends(LIMIT).exits(0).says("watch stopped: requested by drillmaster down (pid ");
    run.never_says("removed");
    assert!(project.containers().is_empty() && engine::networks(&project.group).is_empty());
    assert!(!state(&project, "socket").exists());
}

#[test]
fn ctrl_c_ends_the_watch_and_containers_stay() {
    for signal in [Signal::TERM, Signal::INT] {
        let (project, watch) = watched("endsignal");
        watch.signal(signal);
        watch.ends(LIMIT).exits(130).says("containers keep running");
        project.is_settled(&["api", "far", "web"]);
    }
}

#[test]
fn the_second_ctrl_c_leaves_at_once() {
    let project = Project::new("twicec");
    // It takes its time to stop, and the watch waits for that.
    let slow = "---\nname: api\nimage: drillmaster/busybox:1\ncommand: [sleep, infinity]\nstop_timeout: 30s\n";
    project.write("all.yaml", &format!("{slow}env: {{A: b}}\nports: ['{}:80']\n", crate::support::project::port()));
    let mut watch = project.spawn(&["up", "--watch"]);
    watch.until_says("watching 1 service");
    project.remove("all.yaml");
    project.write("other.yaml", &sleeper("web", ""));
    watch.until_says("api: removing");
    // What is under way on the engine when it leaves could outlive this test.
    watch.until_says("web: ready");
    watch.signal(Signal::INT);
    watch.until_says("press Ctrl-C again");
    watch.signal(Signal::INT);
    let run = watch.ends(LIMIT).exits(130);
    assert!(run.took < Duration::from_secs(25), "{run}");
}

#[test]
fn up_asks_the_watch_to_look_again_now() {
    let (project, watch) = watched("upbeside");
    // It rests for long by now, or soon.
    let broken = script("bad", "test -e /data/ok && sleep infinity", "volumes: ['data:/data']");
    project.write("bad.yaml", &broken);
    wait_for("bad to have failed twice", SOON, || watch.stderr().contains("2nd in a row").then_some(()));
    let run = project.run(&["up"]).exits(1).says("bad: failed (Exited)");
    run.prints("3 services ready, 1 failed: bad");
    // Of other services' failures somebody who names one is not told by the exit code.
    let run = project.run(&["up", "web", "--output", "json"]).exits(0);
    assert_eq!((&run.json()["outcome"], &run.json()["failures"]), (&"done".into(), &Value::Array(Vec::new())));
    project.run(&["up", "wbe"]).exits(2).says("did you mean `web`?");
    project.write("bad.yaml", &sleeper("bad", ""));
    project.run(&["up"]).exits(0).prints("4 services ready");
    project.is_settled(&["api", "bad", "far", "web"]);
}

#[test]
fn the_time_given_to_up_holds_beside_a_watch() {
    let (project, mut watch) = watched("uptime");
    project.write("slow.yaml", &script("slow", "sleep infinity", "ping: {tcp: 80}"));
    project.run(&["up", "--timeout", "2s"]).exits(1).says("--timeout");
    assert!(watch.is_running());
}

#[test]
fn reload_replaces_what_matches_with_and_without_a_watch() {
    let (project, watch) = watched("reload");
    let ids = || ["api", "web", "far"].map(|service| project.id(service));
    let starts = || engine::text(&project.inspect("web")["State"]["StartedAt"]);
    let (before, started) = (ids(), starts());
    project.run(&["reload", "api"]).exits(0).prints("1 replaced").prints("1 restarted");
    let after = ids();
    assert!(before[0] != after[0] && before[1..] == after[1..], "only what was named is replaced");
    assert_ne!(started, starts(), "what asked for it is restarted");
    watch.signal(Signal::INT);
    watch
        .ends(LIMIT)
        .exits(130)
        .says("api: replacing: reload requested")
        .says("web: restarting: dependency api restarted");
    let (before, started) = (ids(), starts());
    project.run(&["reload", "api"]).exits(0).prints("1 replaced").prints("1 restarted");
    let after = ids();
    assert!(before[0] != after[0] && before[1..] == after[1..], "only what was named is replaced");
    assert_ne!(started, starts(), "what asked for it is restarted");
    project.run(&["reload", "aip"]).exits(2).says("did you mean `api`?");
    project.run(&["reload"]).exits(2);
    project.is_settled(&["api", "far", "web"]);
}

#[test]
fn status_tells_what_only_the_watch_knows() {
    let (project, watch) = watched("live");
    let all = |project: &Project| project.run(&["status", "--output", "json"]).exits(0).json();
    assert_eq!(all(&project)["watched"], true);
    project.write("bad.yaml", &script("bad", "exit 3", ""));
    let bad = wait_for("the next try", SOON, || {
        let status = all(&project);
        let bad = status["services"].as_array()?.iter().find(|service| service["name"] == "bad")?.clone();
        (!bad["next_try"].is_null()).then_some(bad)
    });
    assert_eq!((&bad["phase"], &bad["reason"]), (&"Restarting".into(), &"CrashLoopBackOff".into()), "{bad}");
    assert_eq!((&bad["last_exit"]["code"], &bad["last_exit"]["reason"]), (&3.into(), &"Error".into()), "{bad}");
    assert!(bad["restarts"].as_u64() >= Some(1), "{bad}");
    // Invalid specs are no reason to say nothing.
    project.write("bad.yaml", "prots: []\n");
    wait_for("the trouble with the specs", SOON, || {
        let run = project.run(&["status"]).exits(0).prints("far");
        run.stdout.contains("bad.yaml").then_some(())
    });
    watch.signal(Signal::INT);
    watch.ends(LIMIT).exits(130).says("prots").says("keeping the last valid specs");
    project.run(&["status"]).exits(2).says("prots");
    project.remove("bad.yaml");
    assert_eq!(all(&project)["watched"], false);
}

#[test]
fn status_watch_keeps_running() {
    let project = Project::new("statuswatch");
    project.write("all.yaml", &sleeper("api", ""));
    let text = project.spawn(&["status", "--watch"]);
    let json = project.spawn(&["status", "--watch", "--output", "json"]);
    wait_for("the first table", SOON, || text.stdout().contains("Pending").then_some(()));
    wait_for("the first line", SOON, || json.stdout().contains("Pending").then_some(()));
    project.up();
    wait_for("the table", SOON, || text.stdout().contains(" Ready ").then_some(()));
    wait_for("the line", SOON, || {
        let last: Value = serde_json::from_str(json.stdout().lines().last()?).ok()?;
        (last["services"][0]["phase"] == "Ready").then_some(())
    });
    engine::act(&project.name("api"), "kill");
    wait_for("the end of it", SOON, || text.stdout().contains("exited with code 137").then_some(()));
}

#[test]
fn killed_watch_releases_the_lock() {
    let (project, watch) = watched("sigkill");
    watch.signal(Signal::KILL);
    drop(watch);
    assert!(state(&project, "socket").exists(), "it could not clean up");
    let run = project.run(&["up"]).exits(0).prints("nothing to do");
    run.never_says("waiting for");
    let mut watch = project.spawn(&["up", "--watch"]);
    watch.until_says("watching 3 services");
    project.run(&["down"]).exits(0);
    watch.ends(LIMIT).exits(0);
}

#[test]
fn a_watch_that_does_not_answer_is_named() {
    let (project, watch) = watched("sigstop");
    let pid = holder(&project);
    watch.signal(Signal::STOP);
    for command in [&["down"][..], &["up"], &["up", "--watch"], &["reload", "api"], &["stop"]] {
        let run = project.run(command).exits(4).says(&format!("pid {pid}")).says(&format!("kill -CONT {pid}"));
        assert!(run.took < SOON, "{run}");
    }
    project.run(&["status"]).exits(0).prints("Ready");
    watch.signal(Signal::CONT);
    project.run(&["up"]).exits(0).prints("3 services ready");
    project.is_settled(&["api", "far", "web"]);
}

#[test]
fn another_directory_has_no_say_over_a_watched_group() {
    let (project, mut watch) = watched("claim");
    let other = tempfile::tempdir().unwrap();
    let specs = other.path().join("specs");
    std::fs::create_dir(&specs).unwrap();
    std::fs::write(specs.join("all.yaml"), sleeper("api", "")).unwrap();
    let specs = specs.to_str().unwrap();
    let group = project.group.clone();
    for command in [&["up"][..], &["up", "--watch"], &["down"], &["reload", "api"], &["stop"]] {
        let arguments: Vec<&str> = command.iter().copied().chain(["--specs", specs, "--group", &group]).collect();
        project.run(&arguments).exits(4).says(project.specs().canonicalize().unwrap().to_str().unwrap());
    }
    assert!(watch.is_running());
    project.is_settled(&["api", "far", "web"]);
}

#[test]
fn a_watch_waits_for_a_command_that_ends_by_itself() {
    let project = Project::new("watchwaits");
    let slow = script("api", "sleep 2; touch /tmp/ready; sleep infinity", "ping: {exec: [test, -f, /tmp/ready]}");
    project.write("all.yaml", &slow);
    let mut first = project.spawn(&["up"]);
    first.until_says("waiting for readiness probe");
    let mut watch = project.spawn(&["up", "--watch"]);
    watch.until_says("waiting for pid");
    first.ends(LIMIT).exits(0);
    watch.until_says("watching 1 service");
}

#[test]
fn json_events_of_a_watch() {
    let project = Project::new("jsonlines");
    project.write("all.yaml", &sleeper("api", "env: {A: secret-one}"));
    let watch = project.spawn(&["up", "--watch", "--output", "json"]);
    let told = |event: &str| {
        wait_for(event, SOON, || {
            let text = watch.stdout();
            let complete = &text[..text.rfind('\n')? + 1];
            complete
                .lines()
                .map(|line| serde_json::from_str::<Value>(line).unwrap())
                .rfind(|line| line["event"] == event)
        })
    };
    told("watching");
    project.write("all.yaml", &sleeper("api", "env: {A: secret-two}"));
    wait_for("the replacement", SOON, || {
        let news = told("reconciling");
        (news["action"] == "replace").then_some(())
    });
    let news = told("reconciling");
    assert_eq!((&news["service"], &news["causes"][0]["field"]), (&"api".into(), &"env.A".into()), "{news}");
    assert_eq!(news["message"], "api: replacing: spec changed: env.A");
    assert!(engine::text(&news["time"]).ends_with('Z'));
    wait_for("it to be ready", SOON, || (told("ready")["time"].as_str() > news["time"].as_str()).then_some(()));
    watch.signal(Signal::TERM);
    let run = watch.ends(LIMIT).exits(130);
    assert!(run.stdout.lines().last().is_some_and(|line| line.contains("\"watch-stopped\"")), "{run}");
    run.never_says("secret");
}
