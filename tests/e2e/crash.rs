//! Crash recovery: if `up` or `down` is killed at any point, the next run completes it.

use std::time::Duration;

use rustix::process::Signal;

use crate::support::engine;
use crate::support::project::{Project, random_u64, script, sleeper, splitmix64};

const SERVICES: [&str; 4] = ["api", "db", "other", "web"];

/// Writes the specs. Another value replaces `db` and `web`.
fn write(project: &Project, value: &str) {
    let ping = "ping: {exec: [test, -f, /tmp/ready]}";
    let db = format!("env: {{A: {value}}}\nvolumes: ['named:/named', '/nameless']\n{ping}");
    let specs = [
        script("db", "sleep 0.3; touch /tmp/ready; sleep infinity", &db),
        sleeper("api", "dependencies: [db]"),
        sleeper("web", &format!("env: {{A: {value}}}\ndependencies: [api]")),
        sleeper("other", ""),
    ];
    project.write("all.yaml", &specs.concat());
}

/// Kills `up` at ten random points: four during a cold start, six during a replacement.
#[test]
fn next_up_completes_a_run_killed_at_any_point() {
    let seed = std::env::var("DRILLMASTER_SEED").ok().and_then(|seed| seed.parse().ok()).unwrap_or_else(random_u64);
    println!("to reproduce: DRILLMASTER_SEED={seed}");
    let project = Project::new("crash");
    write(&project, "v0");
    let cold = project.up().took;
    project.assert_settled(&SERVICES);
    write(&project, "v1");
    let warm = project.up().took;
    let mut numbers = std::iter::successors(Some(splitmix64(seed)), |seed| Some(splitmix64(*seed)));
    // A random point within part `part` of `parts` equal parts of the run.
    let mut point = |part: u32, parts: u32, whole: Duration| {
        let within = numbers.next().unwrap() % 1000;
        (whole * part + whole * u32::try_from(within).unwrap() / 1000) / parts
    };

    for part in 0..4 {
        project.run(&["down", "--volumes"]).exits(0);
        kill_after(&project, point(part, 4, cold));
        project.up();
        project.assert_settled(&SERVICES);
    }
    for path in ["/named", "/nameless"] {
        project.exec("db", &["sh", "-c", &format!("echo kept > {path}/file")]);
    }
    for part in 0..6 {
        let at = point(part, 6, warm);
        write(&project, &format!("w{part}"));
        let (api, other) = (project.id("api"), project.id("other"));
        kill_after(&project, at);
        project.up();
        project.assert_settled(&SERVICES);
        assert_eq!(
            (project.id("api"), project.id("other")),
            (api, other),
            "killed after {at:?}: api and other are unchanged"
        );
        for path in ["/named", "/nameless"] {
            let kept = project.exec("db", &["cat", &format!("{path}/file")]);
            assert_eq!(kept, "kept\n", "killed after {at:?}: {path}");
        }
        assert_eq!(project.exec("db", &["sh", "-c", "echo $A"]), format!("w{part}\n"));
    }
    let volumes = engine::volumes(&project.group);
    assert_eq!(volumes.len(), 2, "one named and one anonymous volume: {volumes:?}");
    project.run(&["down", "--volumes"]).exits(0);
    assert!(project.containers().is_empty() && engine::volumes(&project.group).is_empty());
}

fn kill_after(project: &Project, delay: Duration) {
    let running = project.spawn(&["up"]);
    std::thread::sleep(delay);
    running.signal(Signal::KILL);
}

#[test]
fn next_down_completes_a_killed_down() {
    let project = Project::new("downcrash");
    write(&project, "v0");
    project.up();
    let mut running = project.spawn(&["down"]);
    running.wait_for_stderr("removing");
    running.signal(Signal::KILL);
    drop(running);
    project.run(&["down"]).exits(0);
    assert!(project.containers().is_empty() && engine::networks(&project.group).is_empty());
    assert_eq!(engine::volumes(&project.group).len(), 2, "volumes are kept");
    project.up();
    project.assert_settled(&SERVICES);
}

#[test]
fn latest_spec_wins_after_a_crash() {
    let project = Project::new("crashedit");
    write(&project, "v0");
    project.up();
    write(&project, "v1");
    let mut running = project.spawn(&["up", "-v"]);
    running.wait_for_stderr("db: starting");
    running.signal(Signal::KILL);
    drop(running);
    write(&project, "v2");
    project.up();
    project.assert_settled(&SERVICES);
    assert_eq!(project.exec("db", &["sh", "-c", "echo $A"]), "v2\n");
    // Reverting to the spec of the current container changes nothing.
    let ids = SERVICES.map(|service| project.id(service));
    write(&project, "v3");
    let mut running = project.spawn(&["up", "-v"]);
    running.wait_for_stderr("web: starting");
    running.signal(Signal::KILL);
    drop(running);
    write(&project, "v2");
    project.up();
    project.assert_settled(&SERVICES);
    let now = SERVICES.map(|service| project.id(service));
    assert_eq!((&now[0], &now[2]), (&ids[0], &ids[2]));
}
