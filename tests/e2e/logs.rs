//! `logs`: merging by time, limits, and following through restarts and replacements.

use std::time::Duration;

use serde_json::Value;

use crate::support::engine::{self, Capability};
use crate::support::process::Running;
use crate::support::project::{Project, script};
use crate::support::{WAIT_TIMEOUT, wait_for};

#[track_caller]
fn wait_for_line(following: &Running, line: &str) {
    let what = format!("{line:?} in the followed output");
    wait_for(&what, WAIT_TIMEOUT, || following.stdout().contains(line).then_some(()));
}

/// A service that says its word once, and is ready then.
fn speaker(name: &str, word: &str) -> String {
    script(name, &format!("echo {word}; sleep infinity"), &format!("ping: {{log: {word}}}"))
}

#[test]
fn follow_shows_restarted_replaced_and_new_containers() {
    let project = Project::new("follow");
    project.write("api.yaml", &speaker("api", "first"));
    project.up();
    let mut following = project.spawn(&["logs", "--follow"]);
    wait_for_line(&following, "api | first\n");
    engine::container_action(&project.name("api"), "kill");
    wait_for_line(&following, "api | --- container exited (137) ---\n");
    engine::container_action(&project.name("api"), "start");
    wait_for_line(&following, "api | --- container restarted ---\n");
    wait_for("the line of the second run", WAIT_TIMEOUT, || {
        (following.stdout().matches("api | first\n").count() == 2).then_some(())
    });
    project.write("api.yaml", &speaker("api", "second"));
    project.up();
    wait_for_line(&following, "api | --- new container ");
    wait_for_line(&following, "api | second\n");
    wait_for("the end of the replaced container", WAIT_TIMEOUT, || {
        (following.stdout().matches("--- container ").count() == 3).then_some(())
    });
    project.write("later.yaml", &speaker("later", "hello"));
    project.up();
    wait_for_line(&following, "later | hello\n");
    project.run(&["down"]).exits(0);
    wait_for("the end of all containers", WAIT_TIMEOUT, || {
        (following.stdout().matches("--- container ").count() == 5).then_some(())
    });
    assert!(following.is_running(), "only a signal ends it");
    let output = following.stdout();
    assert_eq!(output.matches("| second\n").count(), 1, "{output}");
}

#[test]
fn follow_shows_services_that_are_created_later() {
    let project = Project::new("follownew");
    let mut following = project.spawn(&["logs", "--follow", "--tail", "0", "--output", "json"]);
    following.wait_for_stderr("no containers");
    project.write("api.yaml", &speaker("api", "first"));
    project.up();
    wait_for_line(&following, "\"line\":\"first\"");
    project.run(&["down"]).exits(0);
    wait_for_line(&following, "\"event\":\"");
    let output = following.stdout();
    let lines: Vec<Value> = output.lines().map(|line| serde_json::from_str(line).unwrap()).collect();
    assert_eq!((&lines[0]["service"], &lines[0]["line"]), (&"api".into(), &"first".into()), "{output}");
    assert!(lines[1]["message"].as_str().is_some_and(|text| text.starts_with("container ")), "{output}");
}

#[test]
fn lines_of_several_services_are_sorted_by_time() {
    if engine::lacks(Capability::Files) {
        return;
    }
    let project = Project::new("merge");
    let (api, worker) = (project.home.path().join("api"), project.home.path().join("worker"));
    for directory in [&api, &worker] {
        std::fs::create_dir(directory).unwrap();
    }
    // Each waits for the file that the other one writes after its line.
    let turns = |own: &str, lines: &[(&str, &str)]| {
        let lines = lines.iter().map(|(file, line)| {
            format!(
                "while [ ! -e /turns/{file} ]; do sleep 0.02; done; echo {line}; sleep 0.02; touch /turns/after-{line}"
            )
        });
        let lines: Vec<String> = lines.collect();
        let volumes = format!("volumes: ['{}:/turns']\nping: {{exec: [test, -e, /turns/end]}}", api.display());
        script(own, &format!("{}; touch /turns/end; sleep infinity", lines.join("; ")), &volumes)
    };
    std::fs::write(api.join("start"), "").unwrap();
    let one = turns("api", &[("start", "a1"), ("after-w2", "a3")]);
    let two = turns("worker", &[("after-a1", "w2"), ("after-a3", "w4")]);
    project.write("all.yaml", &(one + &two));
    project.up();
    wait_for("the last line", WAIT_TIMEOUT, || api.join("after-w4").exists().then_some(()));
    let run = project.run(&["logs"]).exits(0);
    assert_eq!(run.stdout, "api    | a1\nworker | w2\napi    | a3\nworker | w4\n", "{run}");

    let stamped = project.run(&["logs", "--timestamps"]).exits(0);
    let times: Vec<&str> = stamped.stdout.lines().filter_map(|line| line.split_whitespace().nth(2)).collect();
    assert_eq!(times.len(), 4, "{stamped}");
    assert!(times.is_sorted(), "{stamped}");
    // Both limits are included, and are exact although the engine knows whole seconds only.
    let lines = |arguments: &[&str]| project.run(&[&["logs"], arguments].concat()).exits(0).stdout;
    assert_eq!(lines(&["--since", times[1], "--until", times[2]]), "worker | w2\napi    | a3\n");
    assert_eq!(lines(&["--since", times[3]]), "worker | w4\n");
    assert_eq!(lines(&["--until", times[2], "-n", "1"]), "worker | w2\napi    | a3\n");
    assert_eq!(lines(&["--since", "1h", "-t", "api"]).lines().count(), 2);
    assert_eq!(lines(&["--until", "1h"]), "");
    project.run(&["logs", "--since", "2026-01-31T09:30:00"]).exits(2).stderr_contains("with its zone");
    project.run(&["logs", "--since", "soon"]).exits(2).stderr_contains("--since");
}

#[test]
fn long_lines_stay_in_one_piece() {
    let project = Project::new("long");
    let text = "head -c 40000 /dev/zero | tr '\\0' x; echo; echo end; sleep infinity";
    project.write("all.yaml", &script("api", text, "ping: {log: end}"));
    project.up();
    let run = project.run(&["logs"]).exits(0);
    assert_eq!(run.stdout, format!("api | {}\napi | end\n", "x".repeat(40_000)));
    let following = project.spawn(&["logs", "-f", "--tail", "1"]);
    wait_for_line(&following, "api | end\n");
    following.signal(rustix::process::Signal::TERM);
    following.wait_for_exit(Duration::from_secs(30));
}
