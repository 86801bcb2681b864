//! Concurrent commands: one holds the lock, the others wait.

use std::time::Duration;

use crate::support::engine;
use crate::support::project::{Project, script, sleeper};

const LIMIT: Duration = Duration::from_secs(60);

#[test]
fn concurrent_cold_starts_create_containers_once() {
    let project = Project::new("twice");
    project.write("all.yaml", &(sleeper("api", "") + &sleeper("web", "dependencies: [api]")));
    for round in 0..10 {
        let both = [project.spawn(&["up"]), project.spawn(&["up"])];
        let [one, two] = both.map(|running| running.wait_for_exit(LIMIT).exits(0));
        let created = [&one, &two].iter().filter(|run| run.stdout.contains("(2 created)")).count();
        let idle = [&one, &two].iter().filter(|run| run.stdout.contains("nothing to do")).count();
        assert_eq!((created, idle), (1, 1), "round {round}: only one creates containers:\n{one}\n{two}");
        project.assert_settled(&["api", "web"]);
        project.up().stdout_contains("nothing to do");
        project.run(&["down"]).exits(0);
        assert!(project.containers().is_empty() && engine::networks(&project.group).is_empty());
    }
}

#[test]
fn waiting_command_names_the_lock_holder() {
    let project = Project::new("waits");
    let slow = script("api", "sleep 6; touch /tmp/ready; sleep infinity", "ping: {exec: [test, -f, /tmp/ready]}");
    project.write("all.yaml", &slow);
    let mut first = project.spawn(&["up", "-v"]);
    first.wait_for_stderr("waiting for readiness probe");
    // Read-only commands do not wait for the lock.
    project.run(&["status"]).exits(0).stdout_contains("Starting");
    project.run(&["diff"]).exits(1);
    assert!(first.is_running());
    let second = project.spawn(&["stop"]).wait_for_exit(LIMIT).exits(0);
    let second =
        second.stderr_contains("waiting for pid").stderr_contains("drillmaster up").stderr_contains(&project.group);
    first.wait_for_exit(LIMIT).exits(0);
    assert!(second.took > Duration::from_millis(500), "{second}");
    project.run(&["down"]).exits(0);
    assert!(project.containers().is_empty());
}

#[test]
fn down_ends_a_command_that_waits_for_a_ping() {
    let project = Project::new("downends");
    project.write("all.yaml", &sleeper("api", "ping: {tcp: 80}"));
    for command in [&["up"][..], &["reload", "api"]] {
        let mut first = project.spawn(command);
        first.wait_for_stderr("waiting for readiness probe");
        // Nothing else ends it.
        project.run(&["status"]).exits(0).stdout_contains("Starting");
        project.run(&["stop", "--timeout", "1s"]).exits(4).stderr_contains("timed out waiting for the lock");
        let second = project.spawn(&["down"]).wait_for_exit(LIMIT).exits(0);
        second.stderr_contains(&format!("stopping pid {} (drillmaster {})", first.id(), command[0]));
        let first = first.wait_for_exit(LIMIT).exits(130);
        first.stderr_contains("stopped: requested by drillmaster down (pid ");
        assert!(project.containers().is_empty() && engine::networks(&project.group).is_empty());
    }
    // One that does not respond is waited for.
    let mut first = project.spawn(&["up"]);
    first.wait_for_stderr("waiting for readiness probe");
    first.signal(rustix::process::Signal::STOP);
    let second = project.run(&["down", "--timeout", "8s"]).exits(4);
    second.stderr_contains("timed out waiting for the lock").stderr_contains(&first.id().to_string());
    first.signal(rustix::process::Signal::CONT);
    project.run(&["down"]).exits(0);
    first.wait_for_exit(LIMIT).exits(130);
}

#[test]
fn lock_wait_can_be_interrupted_and_timed_out() {
    let project = Project::new("impatient");
    let never = script("api", "sleep infinity", "ping: {tcp: 80}");
    project.write("all.yaml", &never);
    let mut first = project.spawn(&["up"]);
    first.wait_for_stderr("waiting for readiness probe");
    let mut second = project.spawn(&["up"]);
    second.wait_for_stderr("waiting for");
    second.signal(rustix::process::Signal::INT);
    second.wait_for_exit(Duration::from_secs(20)).exits(130);
    // --timeout applies to the wait for the lock too.
    let third = project
        .run(&["up", "--timeout", "1s"])
        .exits(4)
        .stderr_contains("timed out waiting for the lock")
        .stderr_contains("drillmaster up");
    assert!(third.took < Duration::from_secs(20), "{third}");
    assert!(first.is_running());
    // A killed holder releases the lock.
    first.signal(rustix::process::Signal::KILL);
    drop(first);
    project.write("all.yaml", &sleeper("api", ""));
    project.up();
}

#[test]
fn groups_on_one_network_are_told_apart_by_their_names() {
    let (one, two) = (Project::new("netone"), Project::new("nettwo"));
    for project in [&one, &two] {
        project.write("group.yaml", &format!("kind: Group\nname: {}\nnetwork: {}\n", project.group, one.group));
        project.write("db.yaml", &sleeper("db", ""));
    }
    two.write("web.yaml", &sleeper("web", "replicas: 2\n"));
    one.up();
    one.run(&["diff"]).exits(0).output_lacks("warning");
    let warning = format!("`db` is db of group {} and db of group {}", two.group, one.group);
    two.run(&["diff"]).exits(1).stderr_contains(&warning);
    two.up().stderr_contains(&warning);
    let address = |project: &Project, service: &str| {
        engine::text(&project.inspect(service)["NetworkSettings"]["Networks"][&one.group]["IPAddress"])
    };
    let resolve = |name: &str| one.exec("db", &["nslookup", name]);
    for project in [&one, &two] {
        let answer = resolve(&format!("db.{}", project.group));
        let other = if project.group == one.group { &two } else { &one };
        assert!(answer.contains(&address(project, "db")) && !answer.contains(&address(other, "db")), "{answer}");
    }
    let answer = resolve(&format!("web.{}", two.group));
    assert!(["web-1", "web-2"].iter().all(|replica| answer.contains(&address(&two, replica))), "{answer}");
    two.run(&["down"]).exits(0);
    one.run(&["diff"]).exits(0).output_lacks("warning");
}
