//! Hooks: each runs at its hook point, once per container, and blocks for at most its timeout.

use std::io::{Read, Write};
use std::net::TcpListener;
use std::path::Path;
use std::time::Duration;

use rustix::process::Signal;

use crate::support::engine;
use crate::support::events::{Event, Events};
use crate::support::process::Running;
use crate::support::project::{Project, script, sleeper};
use crate::support::watcher::Watcher;
use crate::support::{WAIT_TIMEOUT, wait_for};

/// A hook that appends its time, event, service, container and group to the timeline.
const RECORD: &str = r#"#!/bin/sh
echo "$(date +%s%N) ${1:-$DRILLMASTER_EVENT} ${DRILLMASTER_SERVICE:-group} ${DRILLMASTER_CONTAINER:-none}" \
    "$DRILLMASTER_GROUP $DRILLMASTER_SERVICES/$DRILLMASTER_FAILED" >> ../timeline
"#;

/// One line of the timeline.
#[derive(Debug, Clone, PartialEq, Eq)]
struct Entry {
    /// Time in nanoseconds since the epoch, like engine events.
    time: i64,
    /// Event and service: `post_start db`.
    event: String,
    /// Container id, or `none`.
    container: String,
    /// Group name, services, and failed services: `shop db web/`.
    group: String,
}

/// Creates a project with a recording hook: `{run: [sh, ./record.sh]}`.
fn project(purpose: &str) -> Project {
    let project = Project::new(purpose);
    project.write("record.sh", RECORD);
    project
}

/// Returns all recorded hook runs in order.
fn timeline(project: &Project) -> Vec<Entry> {
    let text = std::fs::read_to_string(project.home.path().join("timeline")).unwrap_or_default();
    let entries = text.lines().map(|line| {
        let words: Vec<&str> = line.splitn(5, ' ').collect();
        let [time, event, service, container, group] = words[..] else { panic!("{line}") };
        let (event, container, group) = (format!("{event} {service}"), container.to_owned(), group.to_owned());
        Entry { time: time.parse().unwrap(), event, container, group }
    });
    entries.collect()
}

/// Returns event and service of all recorded hook runs.
fn recorded_events(project: &Project) -> Vec<String> {
    timeline(project).into_iter().map(|entry| entry.event).collect()
}

/// Returns the first timeline entry of an event.
#[track_caller]
fn first_entry(project: &Project, event: &str) -> Entry {
    let timeline = timeline(project);
    timeline.iter().find(|entry| entry.event == event).unwrap_or_else(|| panic!("no {event} in {timeline:#?}")).clone()
}

/// Returns the first matching engine event.
#[track_caller]
fn first_event(events: &Events, action: &str, name: &str) -> Event {
    let position = events.position(action, name);
    events.seen()[position].clone()
}

/// Waits for a complete line in a file written by a hook, and returns the content.
#[track_caller]
fn wait_for_file(project: &Project, file: &str) -> String {
    let path = project.home.path().join(file);
    wait_for(&format!("file {file}"), WAIT_TIMEOUT, || {
        std::fs::read_to_string(&path).ok().filter(|text| text.ends_with('\n'))
    })
}

/// Waits for the exit of a process.
#[track_caller]
fn wait_for_process_exit(pid: &str) {
    let stat = Path::new("/proc").join(pid.trim()).join("stat");
    wait_for(&format!("process {pid} to exit"), WAIT_TIMEOUT, || {
        // A zombie has exited too.
        std::fs::read_to_string(&stat).map_or(true, |stat| stat.contains(") Z ")).then_some(())
    });
}

const ALL: &str = "pre_start: {run: [sh, ./record.sh]}\npost_start: {run: [sh, ./record.sh]}\n\
                   pre_stop: {run: [sh, ./record.sh]}\npost_stop: {run: [sh, ./record.sh]}";

#[test]
fn hooks_run_in_order_with_engine_operations() {
    let project = project("hooks");
    let group = &project.group;
    let on = "on: {up: {run: [sh, ./record.sh]}, down: {run: [sh, ./record.sh]}}";
    project.write("group.yaml", &format!("kind: Group\nname: {group}\n{on}\n"));
    project.write("ping.sh", "docker exec $DRILLMASTER_CONTAINER test -e /tmp/ready && exec sh ./record.sh ping\n");
    let more = ALL.replace(
        "post_start: {run: [sh, ./record.sh]}",
        "post_start: [{exec: [sh, -c, 'echo hello; echo ann > /tmp/user']}, {run: [sh, ./record.sh]}]",
    );
    let db = script("db", "sleep 0.5; touch /tmp/ready; sleep infinity", &more) + "ping: {run: [sh, ./ping.sh]}\n";
    project.write("all.yaml", &(db + &sleeper("web", "dependencies: [db]")));
    let events = Events::subscribe(group);
    let run = project.up().stderr_contains("db: post_start | hello");
    drop(run);
    let (db, web) = (project.name("db"), project.name("web"));
    let new = format!("{db}.new");
    let id = project.id("db");
    assert_eq!(project.exec("db", &["cat", "/tmp/user"]), "ann\n");
    let hook = |event: &str| first_entry(&project, event);
    let engine_time = |action: &str, name: &str| first_event(&events, action, name).time;
    assert!(hook("pre_start db").time < engine_time("create", &new), "{:#?}", events.seen());
    assert_eq!(hook("pre_start db").container, "none");
    assert!(hook("ping db").time < hook("post_start db").time);
    assert_eq!((&hook("post_start db").container, &hook("post_start db").group), (&id, &format!("{group} /")));
    assert!(hook("post_start db").time < engine_time("rename", &db), "{:#?}", events.seen());
    assert!(hook("post_start db").time < engine_time("create", &format!("{web}.new")), "{:#?}", events.seen());
    assert!(engine_time("rename", &web) < hook("up group").time);
    assert_eq!(hook("up group").group, format!("{group} db web/"));

    // Hooks run once per container: without a new container, no hook runs.
    let hooks = |project: &Project| recorded_events(project).iter().filter(|event| event.ends_with("t db")).count();
    let before = hooks(&project);
    project.up().stdout_contains("nothing to do");
    assert_eq!(hooks(&project), before);

    project.run(&["down"]).exits(0);
    assert!(hook("pre_stop db").time < engine_time("die", &db), "{:#?}", events.seen());
    assert!(engine_time("die", &db) < hook("post_stop db").time, "{:#?}", events.seen());
    assert_eq!((&hook("pre_stop db").container, &hook("post_stop db").container), (&id, &id));
    assert!(engine_time("destroy", &db) < hook("down group").time, "{:#?}", events.seen());
    assert_eq!(hook("down group").group, format!("{group} db web/"));
}

#[test]
fn replacement_runs_all_hooks() {
    let project = project("hookswap");
    let write = |value: &str| project.write("all.yaml", &sleeper("api", &format!("env: {{A: {value}}}\n{ALL}")));
    write("one");
    project.up();
    let old = project.id("api");
    write("two");
    project.up();
    let new = project.id("api");
    let timeline = timeline(&project);
    let seen: Vec<(&str, &str)> =
        timeline.iter().map(|entry| (entry.event.as_str(), entry.container.as_str())).collect();
    let first = [("pre_start api", "none"), ("post_start api", &old)];
    let second =
        [("pre_start api", "none"), ("post_start api", new.as_str()), ("pre_stop api", &old), ("post_stop api", &old)];
    assert_eq!(seen, [&first[..], &second[..]].concat());
    // stop and start create no container, so no start hooks run.
    project.run(&["stop"]).exits(0);
    project.run(&["start"]).exits(0);
    assert_eq!(recorded_events(&project)[6..], ["pre_stop api", "post_stop api"]);
    assert_eq!(project.id("api"), new);
}

#[test]
fn post_start_failure_fails_its_service_until_fixed() {
    let project = project("badhook");
    let bad = [
        ("fails", "{run: [sh, -c, 'echo no such user >&2; exit 3']}", "exited with code 3"),
        ("within", "{exec: [sh, -c, 'echo not in here; exit 4']}", "exited with code 4"),
        ("hangs", "{run: [sh, -c, 'sleep 1000 & echo $! > ../hanging; wait'], timeout: 1s}", "1 s"),
        ("stuck", "{exec: [sleep, '1000'], timeout: 1s}", "1 s"),
        ("missing", "{run: [./no-such-program]}", "no-such-program"),
    ];
    let good = [
        // Ten megabytes without a final newline.
        ("prints", "{run: [sh, -c, 'yes $(seq 300) | head -c 10000000']}"),
        ("wide", "{exec: [sh, -c, 'head -c 3000000 /dev/zero | tr \"\\0\" x']}"),
        ("leaves", "{run: [sh, -c, 'sleep 1000 & echo $! > ../left']}"),
    ];
    let write = |hook: &dyn Fn(&str) -> String| {
        let names = bad.iter().map(|case| case.0).chain(good.iter().map(|case| case.0));
        let services = names.map(|name| sleeper(name, &format!("post_start: {}", hook(name))));
        let dependents =
            bad.iter().map(|(name, ..)| sleeper(&format!("of-{name}"), &format!("dependencies: [{name}]")));
        project.write("all.yaml", &services.chain(dependents).collect::<String>());
    };
    let hooks = bad.iter().map(|(name, hook, _)| (*name, *hook)).chain(good);
    let hooks: std::collections::BTreeMap<&str, &str> = hooks.collect();
    write(&|name| hooks[name].to_owned());
    let mut run = project.run(&["up"]).exits(1);
    for (name, _, message) in bad {
        run = run.stderr_contains(&format!("of-{name}: pending: waiting for {name}, which has failed"));
        let prefix = format!("{name}: failed (HookFailed): post_start hook failed: ");
        let failed = run.stderr.lines().find(|line| line.starts_with(&prefix)).unwrap_or_else(|| panic!("{name}"));
        assert!(failed.contains(message), "{failed}");
    }
    for (name, _) in good {
        run = run.stderr_contains(&format!("{name}: ready"));
    }
    run.stderr_contains("fails: post_start | no such user")
        .stderr_contains("within: post_start | not in here")
        .stderr_contains("prints: post_start | 1 ");
    wait_for_process_exit(&wait_for_file(&project, "hanging"));
    wait_for_process_exit(&wait_for_file(&project, "left"));
    let status = project.status("fails");
    assert_eq!(status["ready"], false, "{status:#}");

    write(&|_| "{run: ['true']}".to_owned());
    project.up();
    let dependents = bad.map(|(name, ..)| format!("of-{name}"));
    let all = bad
        .iter()
        .map(|case| case.0)
        .chain(good.iter().map(|case| case.0))
        .chain(dependents.iter().map(String::as_str));
    project.assert_settled(&all.collect::<Vec<_>>());
}

#[test]
fn post_start_failure_rolls_back_a_replacement() {
    let project = project("hookundo");
    let write = |value: &str, hook: &str| {
        project.write("all.yaml", &sleeper("api", &format!("env: {{A: {value}}}\npost_start: {{run: [{hook}]}}")));
    };
    write("one", "'true'");
    project.up();
    let old = project.id("api");
    write("two", "'false'");
    project.run(&["up"]).exits(1).stderr_contains("api: failed (HookFailed)");
    assert_eq!((project.id("api"), project.names()), (old.clone(), vec!["api".to_owned()]));
    // A failing pre_stop or post_stop hook does not block the replacement.
    let stops = "pre_stop: {run: ['false']}\npost_stop: {run: [sleep, '1000'], timeout: 500ms}";
    project.write("all.yaml", &sleeper("api", &format!("env: {{A: three}}\n{stops}")));
    project.up().stderr_contains("pre_stop hook failed").stderr_contains("post_stop hook failed");
    assert_ne!(project.id("api"), old);
    project.assert_settled(&["api"]);
}

#[test]
fn watch_runs_hooks_for_every_state_change() {
    let project = project("onwatch");
    let record = "{run: [sh, ./record.sh]}";
    let events = ["ready", "exited", "unhealthy", "restarted", "replaced", "stopped", "failed"];
    let on: String = events.iter().map(|event| format!("{event}: {record}, ")).collect();
    let write = |value: &str, more: &str| {
        let ping = "ping: {exec: [test, -f, /tmp/ready]}\nhealth: {interval: 200ms, retries: 2, action: restart}";
        let text = "touch /tmp/ready; sleep infinity";
        let api = format!("env: {{A: {value}}}\non: {{{on}}}\npost_start: [{record}, {{run: [echo, hello]}}]\n{ping}");
        project.write("all.yaml", &(script("api", text, &api) + &sleeper("other", "") + more));
    };
    write("one", "");
    let mut watcher = Watcher::start(&project);
    watcher.wait_for_line("the output of post_start", |line| {
        line["event"] == "output" && line["service"] == "api" && line["hook"] == "post_start" && line["line"] == "hello"
    });
    let wait_for_hooks = |watcher: &mut Watcher, expected: &[(&str, usize)]| {
        for (event, times) in expected {
            let event = format!("{event} api");
            watcher.wait_for(&format!("{event}, {times} times"), |_| {
                (recorded_events(&project).iter().filter(|recorded| **recorded == event).count() >= *times)
                    .then_some(())
            });
        }
    };
    wait_for_hooks(&mut watcher, &[("ready", 1)]);
    let id = project.id("api");
    engine::container_action(&project.name("api"), "kill");
    wait_for_hooks(&mut watcher, &[("exited", 1), ("restarted", 1), ("ready", 2)]);
    engine::container_action(&project.name("api"), "restart?t=0");
    wait_for_hooks(&mut watcher, &[("exited", 2), ("ready", 3)]);
    project.exec("api", &["rm", "/tmp/ready"]);
    wait_for_hooks(&mut watcher, &[("unhealthy", 1), ("restarted", 2), ("ready", 4)]);
    assert_eq!(project.id("api"), id);
    let count = |event: &str| recorded_events(&project).iter().filter(|recorded| **recorded == event).count();
    assert_eq!(count("post_start api"), 1, "the container is not replaced: {:#?}", timeline(&project));

    write("two", &script("bad", "exit 5", &format!("on: {{failed: {record}}}")));
    wait_for_hooks(&mut watcher, &[("replaced", 1), ("post_start", 2)]);
    watcher.wait_for("the failed hook of bad", |_| (count("failed bad") >= 1).then_some(()));
    project.write("all.yaml", &sleeper("other", ""));
    wait_for_hooks(&mut watcher, &[("stopped", 1)]);
    watcher.interrupt();
}

/// Runs a command, sends SIGKILL while the hook of a hook point runs, and runs the command again until it exits.
#[track_caller]
fn kill_in_hook(project: &Project, point: &str, command: &str) {
    let event = format!("{point} api");
    let hang = project.home.path().join("hang");
    std::fs::write(&hang, point).unwrap();
    let running = project.spawn(&[command]);
    wait_for(&format!("hook {point}"), WAIT_TIMEOUT, || recorded_events(project).contains(&event).then_some(()));
    running.signal(Signal::KILL);
    drop::<Running>(running);
    std::fs::remove_file(&hang).unwrap();
    let started = recorded_events(project).iter().filter(|recorded| **recorded == event).count();
    assert_eq!(started, 1);
    project.run(&[command]).exits(0);
    let completed = recorded_events(project).iter().filter(|recorded| **recorded == format!("end-{event}")).count();
    // A stopped container does not record that drillmaster stopped it, so post_stop is not repeated.
    assert!(completed >= 1 || point == "post_stop", "{point} did not complete: {:#?}", timeline(project));
}

#[test]
fn hook_of_a_killed_run_runs_again() {
    let project = project("hookkill");
    // The hook named in `hang` hangs until the file is removed, and then fails without completing.
    let text = "printf x=y >> $DRILLMASTER_OUTPUT\n\
                hangs() { test \"$(cat ../hang 2>/dev/null)\" = $DRILLMASTER_EVENT; }\n\
                sh ./record.sh; hangs || exec sh ./record.sh end-$DRILLMASTER_EVENT\n\
                while hangs; do sleep 0.05; done; exit 1\n";
    project.write("hook.sh", text);
    project.write("all.yaml", &sleeper("api", &ALL.replace("record.sh", "hook.sh")));
    // Kill each hook in turn; post_start and pre_stop run for the same container.
    kill_in_hook(&project, "pre_start", "up");
    project.assert_settled(&["api"]);
    project.run(&["down"]).exits(0);
    std::fs::remove_file(project.home.path().join("timeline")).unwrap();
    kill_in_hook(&project, "post_start", "up");
    project.assert_settled(&["api"]);
    kill_in_hook(&project, "pre_stop", "down");
    assert!(project.containers().is_empty());
    project.up();
    std::fs::remove_file(project.home.path().join("timeline")).unwrap();
    kill_in_hook(&project, "post_stop", "down");
    assert!(project.containers().is_empty());
    // Partial files of the killed runs are removed.
    let left = files_below(&project.home.path().join("state"));
    assert!(left.len() == 1 && left[0].ends_with("lock"), "{left:?}");
}

/// Lists all files below a directory.
fn files_below(directory: &std::path::Path) -> Vec<std::path::PathBuf> {
    let entries = std::fs::read_dir(directory).unwrap().map(|entry| entry.unwrap().path());
    entries.flat_map(|path| if path.is_dir() { files_below(&path) } else { vec![path] }).collect()
}

#[test]
fn interrupt_kills_the_hook_and_its_children() {
    let project = project("hookint");
    let hook = "{run: [sh, -c, 'sleep 1000 & echo $! > ../child; wait']}";
    project
        .write("all.yaml", &(sleeper("api", &format!("post_start: {hook}")) + &sleeper("web", "dependencies: [api]")));
    let running = project.spawn(&["up"]);
    let child = wait_for_file(&project, "child");
    running.signal(Signal::INT);
    running.wait_for_exit(WAIT_TIMEOUT).exits(130);
    wait_for_process_exit(&child);
    assert_eq!(project.names(), ["api.new"]);
    project.write("all.yaml", &(sleeper("api", "") + &sleeper("web", "dependencies: [api]")));
    project.up();
    project.assert_settled(&["api", "web"]);
}

#[test]
fn killed_run_leaves_no_process_of_its_hook() {
    let project = project("hookgone");
    let hook = "{run: [sh, -c, \"setsid sh -c 'echo $$ > ../child; exec sleep 1000' & sleep 1000\"]}";
    project.write("all.yaml", &sleeper("api", &format!("pre_start: {hook}")));
    let running = project.spawn(&["up"]);
    let child = wait_for_file(&project, "child");
    running.signal(Signal::KILL);
    wait_for_process_exit(&child);
    drop::<Running>(running);
    // A ping leaves nothing behind either.
    let ping = "{run: [sh, -c, \"setsid sh -c 'echo $$ > ../left; exec sleep 1000' & \
                while ! test -s ../left; do :; done\"]}";
    project.write("all.yaml", &sleeper("api", &format!("ping: {ping}")));
    project.up();
    wait_for_process_exit(&wait_for_file(&project, "left"));
}

/// Starts an HTTP server that returns these statuses in order. The thread returns the requests.
fn server(statuses: &'static [&'static str]) -> (u16, std::thread::JoinHandle<Vec<String>>) {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let port = listener.local_addr().unwrap().port();
    let thread = std::thread::spawn(move || {
        let requests = statuses.iter().map(|status| {
            let (mut stream, _) = listener.accept().unwrap();
            stream.set_read_timeout(Some(Duration::from_secs(10))).unwrap();
            let mut request = Vec::new();
            let mut buffer = [0; 1024];
            while !request.ends_with(b"}") {
                match stream.read(&mut buffer) {
                    Ok(length @ 1..) => request.extend_from_slice(&buffer[..length]),
                    _ => break,
                }
            }
            let _ = write!(stream, "HTTP/1.1 {status}\r\ncontent-length: 0\r\nconnection: close\r\n\r\n");
            String::from_utf8_lossy(&request).into_owned()
        });
        requests.collect()
    });
    (port, thread)
}

#[test]
fn http_hook_sends_request_and_checks_status() {
    let project = project("hookhttp");
    let (port, requests) = server(&["500 Oh Dear", "201 Created", "202 Accepted"]);
    let hook = |status: &str| {
        let url = format!("url: 'http://127.0.0.1:{port}/users?first=ann'");
        format!("{{http: {{{url}, method: POST, headers: {{x-token: abc}}, body: '{{\"name\": \"ann\"}}'{status}}}}}")
    };
    project.write("all.yaml", &sleeper("api", &format!("post_start: {}", hook(""))));
    project.run(&["up"]).exits(1).stderr_contains("api: failed (HookFailed)").stderr_contains("returned status 500");
    project.up();
    project.assert_settled(&["api"]);
    project.write("all.yaml", &sleeper("api", &format!("env: {{A: b}}\npost_start: {}", hook(", status: 200"))));
    project.run(&["up"]).exits(1).stderr_contains("returned status 202").stderr_contains("expected 200");
    for request in requests.join().unwrap() {
        assert!(request.starts_with("POST /users?first=ann HTTP/1.1\r\n"), "{request}");
        assert!(request.to_lowercase().contains("x-token: abc\r\n"), "{request}");
        assert!(request.ends_with("\r\n\r\n{\"name\": \"ann\"}"), "{request}");
    }
}
