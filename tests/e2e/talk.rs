//! Other commands during a watch, and the output of the watch.

use std::fs::File;
use std::io::{BufRead, BufReader, Write};
use std::os::fd::AsRawFd;
use std::os::unix::fs::PermissionsExt;
use std::os::unix::net::UnixStream;
use std::path::PathBuf;
use std::time::Duration;

use rustix::process::Signal;
use serde_json::Value;

use crate::support::process::Running;
use crate::support::project::{Project, script, sleeper};
use crate::support::{WAIT_TIMEOUT, engine, wait_for};

const LIMIT: Duration = Duration::from_secs(60);

/// Starts a watch on a group and waits until it settles.
fn start_watch(purpose: &str) -> (Project, Running) {
    let project = Project::new(purpose);
    let dependencies = "dependencies: [{name: api, restart: true}]";
    project.write("all.yaml", &(sleeper("api", "env: {A: b}") + &sleeper("web", dependencies) + &sleeper("far", "")));
    let mut watch = project.spawn(&["up", "--watch"]);
    watch.wait_for_stderr("watching 3 services");
    (project, watch)
}

/// Returns the path of a file in the state directory of the group.
fn state_file(project: &Project, file: &str) -> PathBuf {
    let engines = project.home.path().join("state/drillmaster");
    let engine = std::fs::read_dir(engines).unwrap().next().unwrap().unwrap().path();
    engine.join(&project.group).join(file)
}

/// Returns the pid in the lock file.
fn lock_holder(project: &Project) -> String {
    let text = std::fs::read_to_string(state_file(project, "lock")).unwrap();
    text.split_whitespace().nth(1).unwrap().to_owned()
}

#[test]
fn second_watch_names_the_first() {
    let (project, mut watch) = start_watch("second");
    let pid = format!("pid {}", lock_holder(&project));
    let specs = project.specs().canonicalize().unwrap();
    let run = project.run(&["up", "--watch"]).exits(4).stderr_contains(&pid).stderr_contains(specs.to_str().unwrap());
    assert!(run.took < WAIT_TIMEOUT, "fails immediately: {run}");
    // The watch would revert these commands, so they are refused.
    for command in ["start", "stop"] {
        project.run(&[command]).exits(4).stderr_contains(&pid).stderr_contains("drillmaster up --watch");
    }
    project.assert_settled(&["api", "far", "web"]);
    assert!(watch.is_running());
    let mode = std::fs::metadata(state_file(&project, "socket")).unwrap().permissions().mode();
    assert_eq!(mode & 0o777, 0o600, "accessible only by the owner");
}

#[test]
fn down_stops_the_watch_and_removes_everything() {
    let (project, watch) = start_watch("enddown");
    project.run(&["down"]).exits(0).stdout_contains("3 removed");
    let run = watch.wait_for_exit(LIMIT).exits(0).stderr_contains("watch stopped: requested by drillmaster down (pid ");
    run.output_lacks("removed");
    assert!(project.containers().is_empty() && engine::networks(&project.group).is_empty());
    assert!(!state_file(&project, "socket").exists());
}

#[test]
fn ctrl_c_stops_the_watch_and_keeps_containers() {
    for signal in [Signal::TERM, Signal::INT] {
        let (project, watch) = start_watch("endsignal");
        watch.signal(signal);
        watch.wait_for_exit(LIMIT).exits(130).stderr_contains("containers keep running");
        project.assert_settled(&["api", "far", "web"]);
    }
}

#[test]
fn second_ctrl_c_exits_immediately() {
    let project = Project::new("twicec");
    // The container stops slowly, and the watch waits for it.
    let slow = "---\nname: api\nimage: drillmaster/busybox:1\ncommand: [sleep, infinity]\nstop_timeout: 30s\n";
    project
        .write("all.yaml", &format!("{slow}env: {{A: b}}\nports: ['{}:80']\n", crate::support::project::free_port()));
    let mut watch = project.spawn(&["up", "--watch"]);
    watch.wait_for_stderr("watching 1 service");
    project.remove("all.yaml");
    project.write("other.yaml", &sleeper("web", ""));
    watch.wait_for_stderr("api: removing");
    // Engine requests in progress at the exit could outlast this test.
    watch.wait_for_stderr("web: ready");
    watch.signal(Signal::INT);
    watch.wait_for_stderr("press Ctrl-C again");
    watch.signal(Signal::INT);
    let run = watch.wait_for_exit(LIMIT).exits(130);
    assert!(run.took < Duration::from_secs(25), "{run}");
}

#[test]
fn up_makes_the_watch_retry_immediately() {
    let (project, watch) = start_watch("upbeside");
    // After two failures, `bad` is in backoff.
    let broken = script("bad", "test -e /data/ok && sleep infinity", "volumes: ['data:/data']");
    project.write("bad.yaml", &broken);
    wait_for("bad to have failed twice", WAIT_TIMEOUT, || watch.stderr().contains("2nd in a row").then_some(()));
    let run = project.run(&["up"]).exits(1).stderr_contains("bad: failed (Exited)");
    run.stdout_contains("3 services ready, 1 failed: bad");
    // With selected services, failures of other services do not affect the exit code.
    let run = project.run(&["up", "web", "--output", "json"]).exits(0);
    assert_eq!((&run.json()["outcome"], &run.json()["failures"]), (&"done".into(), &Value::Array(Vec::new())));
    project.run(&["up", "wbe"]).exits(2).stderr_contains("did you mean `web`?");
    project.write("bad.yaml", &sleeper("bad", ""));
    project.run(&["up"]).exits(0).stdout_contains("4 services ready");
    project.assert_settled(&["api", "bad", "far", "web"]);
}

#[test]
fn up_timeout_applies_during_a_watch() {
    let (project, mut watch) = start_watch("uptime");
    project.write("slow.yaml", &script("slow", "sleep infinity", "ping: {tcp: 80}"));
    project.run(&["up", "--timeout", "2s"]).exits(1).stderr_contains("--timeout");
    assert!(watch.is_running());
}

#[test]
fn reload_replaces_unchanged_service_with_or_without_watch() {
    let (project, watch) = start_watch("reload");
    let ids = || ["api", "web", "far"].map(|service| project.id(service));
    let starts = || engine::text(&project.inspect("web")["State"]["StartedAt"]);
    let (before, started) = (ids(), starts());
    project.run(&["reload", "api"]).exits(0).stdout_contains("1 replaced").stdout_contains("1 restarted");
    let after = ids();
    assert!(before[0] != after[0] && before[1..] == after[1..], "only the selected service is replaced");
    assert_ne!(started, starts(), "dependents with `restart: true` are restarted");
    watch.signal(Signal::INT);
    watch
        .wait_for_exit(LIMIT)
        .exits(130)
        .stderr_contains("api: replacing: reload requested")
        .stderr_contains("web: restarting: dependency api restarted");
    let (before, started) = (ids(), starts());
    project.run(&["reload", "api"]).exits(0).stdout_contains("1 replaced").stdout_contains("1 restarted");
    let after = ids();
    assert!(before[0] != after[0] && before[1..] == after[1..], "only the selected service is replaced");
    assert_ne!(started, starts(), "dependents with `restart: true` are restarted");
    project.run(&["reload", "aip"]).exits(2).stderr_contains("did you mean `api`?");
    project.run(&["reload"]).exits(2);
    project.assert_settled(&["api", "far", "web"]);
}

#[test]
fn status_includes_state_held_by_the_watch() {
    let (project, watch) = start_watch("live");
    let all = |project: &Project| project.run(&["status", "--output", "json"]).exits(0).json();
    assert_eq!(all(&project)["watched"], true);
    project.write("bad.yaml", &script("bad", "exit 3", ""));
    let bad = wait_for("the next retry", WAIT_TIMEOUT, || {
        let status = all(&project);
        let bad = status["services"].as_array()?.iter().find(|service| service["name"] == "bad")?.clone();
        (!bad["next_try"].is_null()).then_some(bad)
    });
    assert_eq!((&bad["phase"], &bad["reason"]), (&"Restarting".into(), &"CrashLoopBackOff".into()), "{bad}");
    assert_eq!((&bad["last_exit"]["code"], &bad["last_exit"]["reason"]), (&3.into(), &"Error".into()), "{bad}");
    assert!(bad["restarts"].as_u64() >= Some(1), "{bad}");
    // With invalid specs, status still works.
    project.write("bad.yaml", "prots: []\n");
    wait_for("the spec error in status", WAIT_TIMEOUT, || {
        let run = project.run(&["status"]).exits(0).stdout_contains("far");
        run.stdout.contains("bad.yaml").then_some(())
    });
    watch.signal(Signal::INT);
    watch.wait_for_exit(LIMIT).exits(130).stderr_contains("prots").stderr_contains("keeping the last valid specs");
    project.run(&["status"]).exits(0).stderr_contains("prots");
    project.remove("bad.yaml");
    assert_eq!(all(&project)["watched"], false);
}

#[test]
fn status_watch_keeps_running() {
    let project = Project::new("statuswatch");
    project.write("all.yaml", &sleeper("api", ""));
    let text = project.spawn(&["status", "--watch"]);
    let json = project.spawn(&["status", "--watch", "--output", "json"]);
    wait_for("the first table", WAIT_TIMEOUT, || text.stdout().contains("Pending").then_some(()));
    wait_for("the first line", WAIT_TIMEOUT, || json.stdout().contains("Pending").then_some(()));
    project.up();
    wait_for("the table with Ready", WAIT_TIMEOUT, || text.stdout().contains(" Ready ").then_some(()));
    wait_for("the line with Ready", WAIT_TIMEOUT, || {
        let last: Value = serde_json::from_str(json.stdout().lines().last()?).ok()?;
        (last["services"][0]["phase"] == "Ready").then_some(())
    });
    engine::container_action(&project.name("api"), "kill");
    wait_for("the exit in the table", WAIT_TIMEOUT, || text.stdout().contains("exited with code 137").then_some(()));
}

#[test]
fn killed_watch_releases_the_lock() {
    let (project, watch) = start_watch("sigkill");
    watch.signal(Signal::KILL);
    drop(watch);
    assert!(state_file(&project, "socket").exists(), "SIGKILL allows no cleanup");
    let run = project.run(&["up"]).exits(0).stdout_contains("nothing to do");
    run.output_lacks("waiting for");
    let mut watch = project.spawn(&["up", "--watch"]);
    watch.wait_for_stderr("watching 3 services");
    project.run(&["down"]).exits(0);
    watch.wait_for_exit(LIMIT).exits(0);
}

#[test]
fn unresponsive_watch_is_named() {
    let (project, watch) = start_watch("sigstop");
    let pid = lock_holder(&project);
    watch.signal(Signal::STOP);
    for command in [&["down"][..], &["up"], &["up", "--watch"], &["reload", "api"], &["stop"]] {
        let run = project
            .run(command)
            .exits(4)
            .stderr_contains(&format!("pid {pid}"))
            .stderr_contains(&format!("kill -CONT {pid}"));
        assert!(run.took < WAIT_TIMEOUT, "{run}");
    }
    project.run(&["status"]).exits(0).stdout_contains("Ready");
    watch.signal(Signal::CONT);
    project.run(&["up"]).exits(0).stdout_contains("3 services ready");
    project.assert_settled(&["api", "far", "web"]);
}

#[test]
fn watch_that_is_busy_with_other_clients_is_not_to_be_killed() {
    let project = Project::new("busy");
    project.write("all.yaml", &sleeper("api", "ping: {tcp: 80}"));
    let mut watch = project.spawn(&["up", "--watch"]);
    watch.wait_for_stderr("api: creating");
    // The path of the socket may be too long to connect to.
    let directory = File::open(state_file(&project, "")).unwrap();
    let socket = format!("/proc/self/fd/{}/socket", directory.as_raw_fd());
    let waiting = (0..64).map(|_| {
        let mut client = BufReader::new(UnixStream::connect(&socket).unwrap());
        client.read_line(&mut String::new()).unwrap();
        client.get_mut().write_all(b"{\"ask\":\"reconcile\"}\n").unwrap();
        client
    });
    let waiting: Vec<_> = waiting.collect();
    for command in ["down", "up"] {
        let run = project.run(&[command]).exits(4).stderr_contains("busy with 64 other clients");
        assert!(!run.stderr.contains("kill"), "{run}");
    }
    project.run(&["status"]).exits(0);
    drop(waiting);
    project.run(&["down"]).exits(0);
    watch.wait_for_exit(LIMIT).exits(0);
}

#[test]
fn watched_group_rejects_other_spec_directories() {
    let (project, mut watch) = start_watch("claim");
    let other = tempfile::tempdir().unwrap();
    let specs = other.path().join("specs");
    std::fs::create_dir(&specs).unwrap();
    std::fs::write(specs.join("all.yaml"), sleeper("api", "")).unwrap();
    let specs = specs.to_str().unwrap();
    let group = project.group.clone();
    for command in [&["up"][..], &["up", "--watch"], &["down"], &["reload", "api"], &["stop"]] {
        let arguments: Vec<&str> = command.iter().copied().chain(["--specs", specs, "--group", &group]).collect();
        project.run(&arguments).exits(4).stderr_contains(project.specs().canonicalize().unwrap().to_str().unwrap());
    }
    assert!(watch.is_running());
    project.assert_settled(&["api", "far", "web"]);
}

#[test]
fn watch_waits_for_a_running_command() {
    let project = Project::new("watchwaits");
    let slow = script("api", "sleep 2; touch /tmp/ready; sleep infinity", "ping: {exec: [test, -f, /tmp/ready]}");
    project.write("all.yaml", &slow);
    let mut first = project.spawn(&["up", "-v"]);
    first.wait_for_stderr("waiting for readiness probe");
    let mut watch = project.spawn(&["up", "--watch"]);
    watch.wait_for_stderr("waiting for pid");
    first.wait_for_exit(LIMIT).exits(0);
    watch.wait_for_stderr("watching 1 service");
}

#[test]
fn watch_prints_json_events() {
    let project = Project::new("jsonlines");
    project.write("all.yaml", &sleeper("api", "env: {A: secret-one}"));
    let watch = project.spawn(&["up", "--watch", "--output", "json"]);
    let last_event = |event: &str| {
        wait_for(event, WAIT_TIMEOUT, || {
            let text = watch.stdout();
            let complete = &text[..text.rfind('\n')? + 1];
            complete
                .lines()
                .map(|line| serde_json::from_str::<Value>(line).unwrap())
                .rfind(|line| line["event"] == event)
        })
    };
    last_event("watching");
    project.write("all.yaml", &sleeper("api", "env: {A: secret-two}"));
    wait_for("the replacement", WAIT_TIMEOUT, || {
        let line = last_event("reconciling");
        (line["action"] == "replace").then_some(())
    });
    let line = last_event("reconciling");
    assert_eq!((&line["service"], &line["causes"][0]["field"]), (&"api".into(), &"env.A".into()), "{line}");
    assert_eq!(line["message"], "api: replacing: spec changed: env.A");
    assert!(engine::text(&line["time"]).ends_with('Z'));
    wait_for("api to be ready", WAIT_TIMEOUT, || {
        (last_event("ready")["time"].as_str() > line["time"].as_str()).then_some(())
    });
    watch.signal(Signal::TERM);
    let run = watch.wait_for_exit(LIMIT).exits(130);
    assert!(run.stdout.lines().last().is_some_and(|line| line.contains("\"watch-stopped\"")), "{run}");
    run.output_lacks("secret");
}
