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
    let specs = project.specs().display().to_string();
    project.run(&["-f", &specs, "config"]).exits(0).stdout_contains("name: api");
    project.run(&["-f", "no-such", "config"]).exits(2).stderr_contains("no-such");
    let run = project.run(&["down", "-v"]).exits(0);
    run.stderr_contains(&format!("removes 1 volume: {}", project.name("data")));
    assert!(engine::volumes(&project.group).is_empty());
}

#[test]
fn top_shows_the_processes_of_running_containers() {
    let project = Project::new("top");
    project.write("all.yaml", &(sleeper("db", "") + &sleeper("api", "")));
    project.run(&["top"]).exits(0).stderr_contains("has 0 running containers");
    project.up();
    let table = project.run(&["top"]).exits(0).stdout;
    let rows: Vec<&str> = table.lines().collect();
    assert!(rows.len() == 3 && rows[0].starts_with("CONTAINER") && rows[0].contains("PID"), "{table}");
    assert!(rows[1].starts_with(&project.name("api")) && rows[1].contains("sleep"), "{table}");
    project.run(&["stop", "db"]).exits(0);
    let run = project.run(&["top", "api", "db", "--output", "json"]).exits(0);
    let found: serde_json::Value = serde_json::from_str(&run.stdout).unwrap();
    let [api] = found["containers"].as_array().unwrap().as_slice() else { panic!("{found:#}") };
    assert_eq!((api["service"].as_str(), api["processes"].as_array().unwrap().len()), (Some("api"), 1));
    assert!(engine::text(&api["processes"][0]["CMD"]).contains("sleep"), "{found:#}");
    run.stderr_contains("db: no running container");
    project.run(&["top", "no-such"]).exits(2).stderr_contains("no-such");
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
