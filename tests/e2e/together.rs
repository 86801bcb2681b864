//! Two commands at the same moment: one does the work, the other waits for it.

use std::time::Duration;

use crate::support::engine;
use crate::support::project::{Project, script, sleeper};

const LIMIT: Duration = Duration::from_secs(60);

#[test]
fn two_cold_starts_at_the_same_moment_ten_times() {
    let project = Project::new("twice");
    project.write("all.yaml", &(sleeper("api", "") + &sleeper("web", "dependencies: [api]")));
    for round in 0..10 {
        let both = [project.spawn(&["up"]), project.spawn(&["up"])];
        let [one, two] = both.map(|running| running.ends(LIMIT).exits(0));
        let created = [&one, &two].iter().filter(|run| run.stdout.contains("(2 created)")).count();
        let idle = [&one, &two].iter().filter(|run| run.stdout.contains("nothing to do")).count();
        assert_eq!((created, idle), (1, 1), "round {round}: one does it:\n{one}\n{two}");
        project.is_settled(&["api", "web"]);
        project.up().prints("nothing to do");
        project.run(&["down"]).exits(0);
        assert!(project.containers().is_empty() && engine::networks(&project.group).is_empty());
    }
}

#[test]
fn waiting_command_names_the_lock_holder() {
    let project = Project::new("waits");
    let slow = script("api", "sleep 2; touch /tmp/ready; sleep infinity", "ping: {exec: [test, -f, /tmp/ready]}");
    project.write("all.yaml", &slow);
    let mut first = project.spawn(&["up"]);
    first.until_says("waiting for readiness probe");
    // These do not change anything, so they need not wait.
    project.run(&["status"]).exits(0).prints("Starting");
    project.run(&["diff"]).exits(1);
    assert!(first.is_running());
    let second = project.spawn(&["down"]).ends(LIMIT).exits(0);
    let second = second.says("waiting for pid").says("drillmaster up").says(&project.group);
    first.ends(LIMIT).exits(0);
    assert!(second.took > Duration::from_millis(500), "{second}");
    assert!(project.containers().is_empty());
}

#[test]
fn a_wait_for_another_can_be_interrupted() {
    let project = Project::new("impatient");
    let never = script("api", "sleep infinity", "ping: {tcp: 80}");
    project.write("all.yaml", &never);
    let mut first = project.spawn(&["up"]);
    first.until_says("waiting for readiness probe");
    let mut second = project.spawn(&["up"]);
    second.until_says("waiting for");
    second.signal(rustix::process::Signal::INT);
    second.ends(Duration::from_secs(20)).exits(130);
    // A time limit holds for the wait as well.
    let third =
        project.run(&["up", "--timeout", "1s"]).exits(4).says("timed out waiting for the lock").says("drillmaster up");
    assert!(third.took < Duration::from_secs(20), "{third}");
    assert!(first.is_running());
    // It dies without a word; nobody is locked out.
    first.signal(rustix::process::Signal::KILL);
    drop(first);
    project.write("all.yaml", &sleeper("api", ""));
    project.up();
}
