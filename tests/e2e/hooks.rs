//! Hooks: run at their moment, for each container once, and never in the way for longer than they may be.

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
use crate::support::{SOON, wait_for};

/// Writes a line into the timeline: when, what, and about whom.
const NOTE: &str = r#"#!/bin/sh
echo "$(date +%s%N) ${1:-$DRILLMASTER_EVENT} ${DRILLMASTER_SERVICE:-group} ${DRILLMASTER_CONTAINER:-none}" \
    "$DRILLMASTER_GROUP $DRILLMASTER_SERVICES/$DRILLMASTER_FAILED" >> ../timeline
"#;

/// One line of the timeline.
#[derive(Debug, Clone, PartialEq, Eq)]
struct Noted {
    /// Nanoseconds, as the engine's events have them.
    time: i64,
    /// `post_start db`.
    what: String,
    /// Id of the container, or `none`.
    container: String,
    /// Name of the group, its services and those that failed: `shop db web/`.
    group: String,
}

/// A project whose hooks can note what happens: `{run: [sh, ./note.sh]}`.
fn project(purpose: &str) -> Project {
    let project = Project::new(purpose);
    project.write("note.sh", NOTE);
    project
}

/// Everything that was noted, in the order of time.
fn timeline(project: &Project) -> Vec<Noted> {
    let text = std::fs::read_to_string(project.home.path().join("timeline")).unwrap_or_default();
    let noted = text.lines().map(|line| {
        let words: Vec<&str> = line.splitn(5, ' ').collect();
        let [time, event, service, container, group] = words[..] else { panic!("{line}") };
        let (what, container, group) = (format!("{event} {service}"), container.to_owned(), group.to_owned());
        Noted { time: time.parse().unwrap(), what, container, group }
    });
    noted.collect()
}

/// What was noted, without the rest.
fn what(project: &Project) -> Vec<String> {
    timeline(project).into_iter().map(|noted| noted.what).collect()
}

/// When that was noted first.
#[track_caller]
fn noted(project: &Project, what: &str) -> Noted {
    let timeline = timeline(project);
    timeline.iter().find(|noted| noted.what == what).unwrap_or_else(|| panic!("no {what} in {timeline:#?}")).clone()
}

/// When the engine did that first.
#[track_caller]
fn done(events: &Events, action: &str, name: &str) -> Event {
    events.seen()[events.position(action, name)].clone()
}

/// A file that a hook writes, once it is there.
#[track_caller]
fn written(project: &Project, file: &str) -> String {
    let path = project.home.path().join(file);
    wait_for(&format!("the file {file}"), SOON, || std::fs::read_to_string(&path).ok().filter(|it| it.ends_with('\n')))
}

/// Waits until a process that a hook left behind is gone.
#[track_caller]
fn is_gone(pid: &str) {
    let stat = Path::new("/proc").join(pid.trim()).join("stat");
    wait_for(&format!("the end of process {pid}"), SOON, || {
        // One that nobody has waited for yet is as good as gone.
        std::fs::read_to_string(&stat).map_or(true, |stat| stat.contains(") Z ")).then_some(())
    });
}

const ALL: &str = "pre_start: {run: [sh, ./note.sh]}\npost_start: {run: [sh, ./note.sh]}\n\
                   pre_stop: {run: [sh, ./note.sh]}\npost_stop: {run: [sh, ./note.sh]}";

#[test]
fn each_hook_has_its_place_between_the_steps_of_the_engine() {
    let project = project("hooks");
    let group = &project.group;
    let on = "on: {up: {run: [sh, ./note.sh]}, down: {run: [sh, ./note.sh]}}";
    project.write("group.yaml", &format!("kind: Group\nname: {group}\n{on}\n"));
    project.write("ping.sh", "docker exec $DRILLMASTER_CONTAINER test -e /tmp/ready && exec sh ./note.sh ping\n");
    let more = ALL.replace(
        "post_start: {run: [sh, ./note.sh]}",
        "post_start: [{exec: [sh, -c, 'echo hello; echo ann > /tmp/user']}, {run: [sh, ./note.sh]}]",
    );
    let db = script("db", "sleep 0.5; touch /tmp/ready; sleep infinity", &more) + "ping: {run: [sh, ./ping.sh]}\n";
    project.write("all.yaml", &(db + &sleeper("web", "dependencies: [db]")));
    let events = Events::of(group);
    let run = project.up().says("db: post_start | hello");
    drop(run);
    let (db, web) = (project.name("db"), project.name("web"));
    let new = format!("{db}.new");
    let id = project.id("db");
    assert_eq!(project.exec("db", &["cat", "/tmp/user"]), "ann\n");
    let noted = |what: &str| noted(&project, what);
    let done = |action: &str, name: &str| done(&events, action, name).time;
    assert!(noted("pre_start db").time < done("create", &new), "{:#?}", events.seen());
    assert_eq!(noted("pre_start db").container, "none");
    assert!(noted("ping db").time < noted("post_start db").time);
    assert_eq!((&noted("post_start db").container, &noted("post_start db").group), (&id, &format!("{group} /")));
    assert!(noted("post_start db").time < done("rename", &db), "{:#?}", events.seen());
    assert!(noted("post_start db").time < done("create", &format!("{web}.new")), "{:#?}", events.seen());
    assert!(done("rename", &web) < noted("up group").time);
    assert_eq!(noted("up group").group, format!("{group} db web/"));

    // Once for each container; nothing new, nothing to run.
    let hooks = |project: &Project| what(project).iter().filter(|what| what.ends_with("t db")).count();
    let before = hooks(&project);
    project.up().prints("nothing to do");
    assert_eq!(hooks(&project), before);

    project.run(&["down"]).exits(0);
    assert!(noted("pre_stop db").time < done("die", &db), "{:#?}", events.seen());
    assert!(done("die", &db) < noted("post_stop db").time, "{:#?}", events.seen());
    assert_eq!((&noted("pre_stop db").container, &noted("post_stop db").container), (&id, &id));
    assert!(done("destroy", &db) < noted("down group").time, "{:#?}", events.seen());
    assert_eq!(noted("down group").group, format!("{group} db web/"));
}

#[test]
fn a_replacement_goes_through_all_of_them() {
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
        timeline.iter().map(|noted| (noted.what.as_str(), noted.container.as_str())).collect();
    let first = [("pre_start api", "none"), ("post_start api", &old)];
    let second =
        [("pre_start api", "none"), ("post_start api", new.as_str()), ("pre_stop api", &old), ("post_stop api", &old)];
    assert_eq!(seen, [&first[..], &second[..]].concat());
    // What only stops and starts again creates nothing.
    project.run(&["stop"]).exits(0);
    project.run(&["start"]).exits(0);
    assert_eq!(what(&project)[6..], ["pre_stop api", "post_stop api"]);
    assert_eq!(project.id("api"), new);
}

#[test]
fn a_bad_post_start_fails_its_service_and_a_better_one_heals_it() {
    let project = project("badhook");
    let bad = [
        ("fails", "{run: [sh, -c, 'echo no such user >&2; exit 3']}", "exited with code 3"),
        ("within", "{exec: [sh, -c, 'echo not in here; exit 4']}", "exited with code 4"),
        ("hangs", "{run: [sh, -c, 'sleep 1000 & echo $! > ../hanging; wait'], timeout: 1s}", "1 s"),
        ("stuck", "{exec: [sleep, '1000'], timeout: 1s}", "1 s"),
        ("missing", "{run: [./no-such-program]}", "no-such-program"),
    ];
    let good = [
        // Ten megabytes, at the end without the end of a line.
        ("prints", "{run: [sh, -c, 'yes $(seq 300) | head -c 10000000']}"),
        ("wide", "{exec: [sh, -c, 'head -c 3000000 /dev/zero | tr \"\\0\" x']}"),
        ("leaves", "{run: [sh, -c, 'sleep 1000 & echo $! > ../left']}"),
    ];
    let write = |hook: &dyn Fn(&str) -> String| {
        let names = bad.iter().map(|it| it.0).chain(good.iter().map(|it| it.0));
        let services = names.map(|name| sleeper(name, &format!("post_start: {}", hook(name))));
        let dependents =
            bad.iter().map(|(name, ..)| sleeper(&format!("of-{name}"), &format!("dependencies: [{name}]")));
        project.write("all.yaml", &services.chain(dependents).collect::<String>());
    };
    let hooks = bad.iter().map(|(name, hook, _)| (*name, *hook)).chain(good);
    let hooks: std::collections::BTreeMap<&str, &str> = hooks.collect();
    write(&|name| hooks[name].to_owned());
    let mut run = project.run(&["up"]).exits(1);
    for (name, _, why) in bad {
        run = run.says(&format!("of-{name}: pending: waiting for {name}, which has failed"));
        let begin = format!("{name}: failed (HookFailed): post_start hook failed: ");
        let failed = run.stderr.lines().find(|line| line.starts_with(&begin)).unwrap_or_else(|| panic!("{name}"));
        assert!(failed.contains(why), "{failed}");
    }
    for (name, _) in good {
        run = run.says(&format!("{name}: ready"));
    }
    run.says("fails: post_start | no such user")
        .says("within: post_start | not in here")
        .says("prints: post_start | 1 ");
    is_gone(&written(&project, "hanging"));
    is_gone(&written(&project, "left"));
    let status = project.status("fails");
    assert_eq!(status["ready"], false, "{status:#}");

    write(&|_| "{run: ['true']}".to_owned());
    project.up();
    let dependents = bad.map(|(name, ..)| format!("of-{name}"));
    let all = bad.iter().map(|it| it.0).chain(good.iter().map(|it| it.0)).chain(dependents.iter().map(String::as_str));
    project.is_settled(&all.collect::<Vec<_>>());
}

#[test]
fn a_replacement_whose_post_start_fails_is_undone() {
    let project = project("hookundo");
    let write = |value: &str, hook: &str| {
        project.write("all.yaml", &sleeper("api", &format!("env: {{A: {value}}}\npost_start: {{run: [{hook}]}}")));
    };
    write("one", "'true'");
    project.up();
    let old = project.id("api");
    write("two", "'false'");
    project.run(&["up"]).exits(1).says("api: failed (HookFailed)");
    assert_eq!((project.id("api"), project.names()), (old.clone(), vec!["api".to_owned()]));
    // One that only comes before or after a stop holds nothing up.
    let stops = "pre_stop: {run: ['false']}\npost_stop: {run: [sleep, '1000'], timeout: 500ms}";
    project.write("all.yaml", &sleeper("api", &format!("env: {{A: three}}\n{stops}")));
    project.up().says("pre_stop hook failed").says("post_stop hook failed");
    assert_ne!(project.id("api"), old);
    project.is_settled(&["api"]);
}

#[test]
fn watch_runs_hooks_for_every_state_change() {
    let project = project("onwatch");
    let note = "{run: [sh, ./note.sh]}";
    let occasions = ["ready", "exited", "unhealthy", "restarted", "replaced", "stopped", "failed"];
    let on: String = occasions.iter().map(|occasion| format!("{occasion}: {note}, ")).collect();
    let write = |value: &str, more: &str| {
        let ping = "ping: {exec: [test, -f, /tmp/ready]}\nhealth: {interval: 200ms, retries: 2, action: restart}";
        let text = "touch /tmp/ready; sleep infinity";
        let api = format!("env: {{A: {value}}}\non: {{{on}}}\npost_start: [{note}, {{run: [echo, hello]}}]\n{ping}");
        project.write("all.yaml", &(script("api", text, &api) + &sleeper("other", "") + more));
    };
    write("one", "");
    let mut watcher = Watcher::start(&project);
    watcher.until("its words", |line| {
        line["event"] == "output" && line["service"] == "api" && line["hook"] == "post_start" && line["line"] == "hello"
    });
    let until = |watcher: &mut Watcher, wanted: &[(&str, usize)]| {
        for (event, times) in wanted {
            let event = format!("{event} api");
            watcher.waits(&format!("{event}, {times} times"), |_| {
                (what(&project).iter().filter(|what| **what == event).count() >= *times).then_some(())
            });
        }
    };
    until(&mut watcher, &[("ready", 1)]);
    let id = project.id("api");
    engine::act(&project.name("api"), "kill");
    until(&mut watcher, &[("exited", 1), ("restarted", 1), ("ready", 2)]);
    engine::act(&project.name("api"), "restart?t=0");
    until(&mut watcher, &[("exited", 2), ("ready", 3)]);
    project.exec("api", &["rm", "/tmp/ready"]);
    until(&mut watcher, &[("unhealthy", 1), ("restarted", 2), ("ready", 4)]);
    assert_eq!(project.id("api"), id);
    let count = |event: &str| what(&project).iter().filter(|what| **what == event).count();
    assert_eq!(count("post_start api"), 1, "it is the same container: {:#?}", timeline(&project));

    write("two", &script("bad", "exit 5", &format!("on: {{failed: {note}}}")));
    until(&mut watcher, &[("replaced", 1), ("post_start", 2)]);
    watcher.waits("failed", |_| (count("failed bad") >= 1).then_some(()));
    project.write("all.yaml", &sleeper("other", ""));
    until(&mut watcher, &[("stopped", 1)]);
    watcher.interrupt();
}

/// Runs `command`, kills it with SIGKILL in the middle of the hook of that moment, and runs it again to its end.
#[track_caller]
fn killed_in(project: &Project, point: &str, command: &str) {
    let what = format!("{point} api");
    let stay = project.home.path().join("stay");
    std::fs::write(&stay, point).unwrap();
    let running = project.spawn(&[command]);
    wait_for(&format!("the hook {point}"), SOON, || self::what(project).contains(&what).then_some(()));
    running.signal(Signal::KILL);
    drop::<Running>(running);
    std::fs::remove_file(&stay).unwrap();
    let begun = self::what(project).iter().filter(|it| **it == what).count();
    assert_eq!(begun, 1);
    project.run(&[command]).exits(0);
    let ends = self::what(project).iter().filter(|it| **it == format!("end-{what}")).count();
    // That a container was stopped by drillmaster is not to be seen on it, so what follows the stop is begun once.
    assert!(ends >= 1 || point == "post_stop", "{point} was not run to its end: {:#?}", timeline(project));
}

#[test]
fn killed_inside_a_hook_it_runs_it_again() {
    let project = project("hookkill");
    // At the moment at which it is to stay, it stays until it may go, and then it has not done its work.
    let text = "printf x=y >> $DRILLMASTER_OUTPUT\n\
                stays() { test \"$(cat ../stay 2>/dev/null)\" = $DRILLMASTER_EVENT; }\n\
                sh ./note.sh; stays || exec sh ./note.sh end-$DRILLMASTER_EVENT\n\
                while stays; do sleep 0.05; done; exit 1\n";
    project.write("hook.sh", text);
    project.write("all.yaml", &sleeper("api", &ALL.replace("note.sh", "hook.sh")));
    // In the middle of the one, and then of the other of the same container.
    killed_in(&project, "pre_start", "up");
    project.is_settled(&["api"]);
    project.run(&["down"]).exits(0);
    std::fs::remove_file(project.home.path().join("timeline")).unwrap();
    killed_in(&project, "post_start", "up");
    project.is_settled(&["api"]);
    killed_in(&project, "pre_stop", "down");
    assert!(project.containers().is_empty());
    project.up();
    std::fs::remove_file(project.home.path().join("timeline")).unwrap();
    killed_in(&project, "post_stop", "down");
    assert!(project.containers().is_empty());
    // What those had begun to write who were killed is gone.
    let left = files_below(&project.home.path().join("state"));
    assert!(left.len() == 1 && left[0].ends_with("lock"), "{left:?}");
}

/// The files below a directory.
fn files_below(directory: &std::path::Path) -> Vec<std::path::PathBuf> {
    let entries = std::fs::read_dir(directory).unwrap().map(|entry| entry.unwrap().path());
    entries.flat_map(|path| if path.is_dir() { files_below(&path) } else { vec![path] }).collect()
}

#[test]
fn interrupted_it_ends_the_hook_with_its_children() {
    let project = project("hookint");
    let hook = "{run: [sh, -c, 'sleep 1000 & echo $! > ../child; wait']}";
    project
        .write("all.yaml", &(sleeper("api", &format!("post_start: {hook}")) + &sleeper("web", "dependencies: [api]")));
    let running = project.spawn(&["up"]);
    let child = written(&project, "child");
    running.signal(Signal::INT);
    running.ends(SOON).exits(130);
    is_gone(&child);
    assert_eq!(project.names(), ["api.new"]);
    project.write("all.yaml", &(sleeper("api", "") + &sleeper("web", "dependencies: [api]")));
    project.up();
    project.is_settled(&["api", "web"]);
}

/// Answers each request with the next of these statuses, and gives what was asked.
fn server(answers: &'static [&'static str]) -> (u16, std::thread::JoinHandle<Vec<String>>) {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let port = listener.local_addr().unwrap().port();
    let thread = std::thread::spawn(move || {
        let asked = answers.iter().map(|answer| {
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
            let _ = write!(stream, "HTTP/1.1 {answer}\r\ncontent-length: 0\r\nconnection: close\r\n\r\n");
            String::from_utf8_lossy(&request).into_owned()
        });
        asked.collect()
    });
    (port, thread)
}

#[test]
fn a_request_is_sent_and_its_status_counts() {
    let project = project("hookhttp");
    let (port, asked) = server(&["500 Oh Dear", "201 Created", "202 Accepted"]);
    let hook = |status: &str| {
        let url = format!("url: 'http://127.0.0.1:{port}/users?first=ann'");
        format!("{{http: {{{url}, method: POST, headers: {{x-token: abc}}, body: '{{\"name\": \"ann\"}}'{status}}}}}")
    };
    project.write("all.yaml", &sleeper("api", &format!("post_start: {}", hook(""))));
    project.run(&["up"]).exits(1).says("api: failed (HookFailed)").says("returned status 500");
    project.up();
    project.is_settled(&["api"]);
    project.write("all.yaml", &sleeper("api", &format!("env: {{A: b}}\npost_start: {}", hook(", status: 200"))));
    project.run(&["up"]).exits(1).says("returned status 202").says("expected 200");
    for request in asked.join().unwrap() {
        assert!(request.starts_with("POST /users?first=ann HTTP/1.1\r\n"), "{request}");
        assert!(request.to_lowercase().contains("x-token: abc\r\n"), "{request}");
        assert!(request.ends_with("\r\n\r\n{\"name\": \"ann\"}"), "{request}");
    }
}
