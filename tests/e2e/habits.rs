//! What users of compose type.

use crate::support::engine;
use crate::support::project::{Project, sleeper};

#[test]
fn commands_of_compose_are_understood() {
    let project = Project::new("habits");
    project.write("all.yaml", &(sleeper("db", "volumes: ['data:/data']") + &sleeper("api", "dependencies: [db]")));
    project.run(&["up", "-d"]).exits(0).stderr_contains("ends when everything is ready");
    project.run(&["ps"]).exits(0).stdout_contains("Ready");
    project.run(&["config"]).exits(0).stdout_contains("name: api");
    project.run(&["exec", "api", "sh", "-c", "echo done"]).exits(0).stdout_contains("done");
    project.run(&["exec", "-T", "api", "echo", "-n", "done"]).exits(0).stdout_contains("done");
    project.run(&["exec", "-it", "api", "echo", "done"]).exits(0).stdout_contains("done");
    for (command, hint) in [("build", "`drillmaster up` builds"), ("pull", "`pull: always`"), ("top", "`docker top")] {
        project.run(&[command, "api"]).exits(2).stderr_contains(hint);
    }
    let run = project.run(&["down", "-v"]).exits(0);
    run.stderr_contains(&format!("removes 1 volume: {}", project.name("data")));
    assert!(engine::volumes(&project.group).is_empty());
}

#[test]
fn restart_stops_and_starts_the_same_containers() {
    let project = Project::new("restart");
    project.write("all.yaml", &(sleeper("db", "") + &sleeper("api", "dependencies: [db]")));
    project.up();
    let started = |service: &str| engine::text(&project.inspect(service)["State"]["StartedAt"]);
    let ids = || ["api", "db"].map(|service| project.id(service));
    let (before, api, db) = (ids(), started("api"), started("db"));
    // Its dependent stays as it is.
    project.run(&["restart", "db"]).exits(0).stdout_contains("(1 started)");
    assert_eq!((ids(), started("api")), (before.clone(), api.clone()));
    assert_ne!(started("db"), db);
    project.run(&["restart"]).exits(0).stdout_contains(": 2 services ready (2 started)");
    assert_eq!(ids(), before);
    assert_ne!(started("api"), api);
    assert_eq!(project.differences(), Vec::<String>::new());
    project.run(&["restart", "no-such"]).exits(2).stderr_contains("no-such");
}
