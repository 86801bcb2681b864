//! `up` killed at any moment, and run again, ends where it would have ended.

use std::time::Duration;

use rustix::process::Signal;

use crate::support::engine;
use crate::support::project::{Project, mix, random, script, sleeper};

const SERVICES: [&str; 4] = ["api", "db", "other", "web"];

/// The specs; another value means another container for `db` and `web`.
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

/// Ten moments, spread over a cold start and then over a replacement.
#[test]
fn killed_at_ten_moments_it_goes_on_where_it_was() {
    let seed = std::env::var("DRILLMASTER_SEED").ok().and_then(|seed| seed.parse().ok()).unwrap_or_else(random);
    println!("to do the same again: DRILLMASTER_SEED={seed}");
    let project = Project::new("crash");
    write(&project, "v0");
    let cold = project.up().took;
    project.is_settled(&SERVICES);
    write(&project, "v1");
    let warm = project.up().took;
    let mut numbers = std::iter::successors(Some(mix(seed)), |seed| Some(mix(*seed)));
    // The moment of each is anywhere in its own part of the run.
    let mut point = |part: u32, parts: u32, whole: Duration| {
        let within = numbers.next().unwrap() % 1000;
        (whole * part + whole * u32::try_from(within).unwrap() / 1000) / parts
    };

    for part in 0..4 {
        project.run(&["down", "--volumes"]).exits(0);
        kill_after(&project, point(part, 4, cold));
        project.up();
        project.is_settled(&SERVICES);
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
        project.is_settled(&SERVICES);
        assert_eq!((project.id("api"), project.id("other")), (api, other), "killed after {at:?}: these did not change");
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
fn down_killed_halfway_is_finished_by_the_next() {
    let project = Project::new("downcrash");
    write(&project, "v0");
    project.up();
    let mut running = project.spawn(&["down"]);
    running.until_says("removing");
    running.signal(Signal::KILL);
    drop(running);
    project.run(&["down"]).exits(0);
    assert!(project.containers().is_empty() && engine::networks(&project.group).is_empty());
    assert_eq!(engine::volumes(&project.group).len(), 2, "volumes stay");
    project.up();
    project.is_settled(&SERVICES);
}

#[test]
fn a_spec_that_changes_again_after_a_crash_wins() {
    let project = Project::new("crashedit");
    write(&project, "v0");
    project.up();
    write(&project, "v1");
    let mut running = project.spawn(&["up"]);
    running.until_says("db: starting");
    running.signal(Signal::KILL);
    drop(running);
    write(&project, "v2");
    project.up();
    project.is_settled(&SERVICES);
    assert_eq!(project.exec("db", &["sh", "-c", "echo $A"]), "v2\n");
    // Back to what is there is no change.
    let ids = SERVICES.map(|service| project.id(service));
    write(&project, "v3");
    let mut running = project.spawn(&["up"]);
    running.until_says("web: starting");
    running.signal(Signal::KILL);
    drop(running);
    write(&project, "v2");
    project.up();
    project.is_settled(&SERVICES);
    let now = SERVICES.map(|service| project.id(service));
    assert_eq!((&now[0], &now[2]), (&ids[0], &ids[2]));
}
