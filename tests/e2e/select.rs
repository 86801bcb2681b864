//! Selection of services by name and `--exclude`, and removal of orphans.

use std::collections::BTreeMap;

use serde_json::json;

use crate::support::engine;
use crate::support::events::Events;
use crate::support::project::{Project, sleeper};

/// Creates a project in which `web` depends on `api`, `api` depends on `db`, and `other` has no dependencies.
fn shop(purpose: &str) -> Project {
    let project = Project::new(purpose);
    for (name, more) in [
        ("db", "volumes: ['data:/data']"),
        ("api", "dependencies: [db]"),
        ("web", "dependencies: [api]"),
        ("other", ""),
    ] {
        project.write(&format!("{name}.yaml"), &sleeper(name, more));
    }
    project
}

const ALL: [&str; 4] = ["api", "db", "other", "web"];

/// Returns the container states by container name: `running`, `exited`.
fn states(project: &Project) -> BTreeMap<String, String> {
    let prefix = format!("{}-", project.group);
    project.containers().into_iter().map(|c| (c.name.replace(&prefix, ""), c.state)).collect()
}

#[test]
fn up_of_one_service_includes_its_dependencies() {
    let project = shop("along");
    project.run(&["up", "api"]).exits(0).stdout_contains("2 services ready (2 created)");
    assert_eq!(project.names(), ["api", "db"]);
    // Services that are not selected are left alone, even if they differ.
    project.up();
    let ids = ALL.map(|service| project.id(service));
    project.write("web.yaml", &sleeper("web", "dependencies: [api]\nenv: {A: b}"));
    project.write("db.yaml", &sleeper("db", "volumes: ['data:/data']\nenv: {A: b}"));
    project.remove("other.yaml");
    project.run(&["diff", "api"]).exits(1).stdout_contains("db: replace").output_lacks("web:").output_lacks("other:");
    project.run(&["up", "api"]).exits(0).stdout_contains("(1 replaced)");
    assert_eq!(project.names(), ALL);
    let now = ALL.map(|service| project.id(service));
    assert_eq!((&now[0], &now[2], &now[3]), (&ids[0], &ids[2], &ids[3]));
    assert_ne!(now[1], ids[1]);
    project
        .up()
        .stderr_contains("removes 1 container")
        .stderr_contains("other")
        .stdout_contains("(1 replaced, 1 removed)");
    project.assert_settled(&["api", "db", "web"]);
}

#[test]
fn needed_service_cannot_be_excluded() {
    let project = shop("exclude");
    let run = project.run(&["up", "--exclude", "db"]).exits(2);
    run.stderr_contains("`db`").stderr_contains("`api`").stderr_contains("depends on it").output_lacks("Usage:");
    project.run(&["up", "web", "--exclude", "api"]).exits(2).stderr_contains("`api`").stderr_contains("`web`");
    project
        .run(&["up", "--exclude", "wob"])
        .exits(2)
        .stderr_contains("no service `wob`")
        .stderr_contains("did you mean `web`?");
    project.run(&["up", "wob"]).exits(2).stderr_contains("no service `wob`").stderr_contains("did you mean `web`?");
    project.run(&["up", "web", "--exclude", "web"]).exits(2).stderr_contains("both selected and excluded");
    assert_eq!(project.names(), Vec::<String>::new(), "nothing changes");
    project.run(&["up", "--exclude", "web", "--exclude", "other"]).exits(0).stdout_contains("2 services ready");
    assert_eq!(project.names(), ["api", "db"]);
    project.run(&["up", "--exclude", "other,web,api"]).exits(0).stdout_contains("nothing to do");
    project.up();

    let run = project.run(&["down", "--exclude", "web"]).exits(2);
    run.stderr_contains("`web`").stderr_contains("`api`");
    let run = project.run(&["stop", "db"]).exits(2).stderr_contains("`db`");
    run.stderr_contains("`api`");
    assert_eq!(states(&project).values().filter(|state| *state == "running").count(), 4, "nothing changes");
    project.run(&["down", "--exclude", "db"]).exits(0);
    assert_eq!(project.names(), ["db"]);
    assert_eq!(states(&project)["db"], "running");
    assert_eq!(engine::networks(&project.group).len(), 1, "db still uses the network");
}

#[test]
fn stop_keeps_containers_and_start_creates_none() {
    let project = shop("stop");
    let run =
        project.run(&["start"]).exits(1).stderr_contains("db: failed (NoContainer)").stderr_contains("drillmaster up");
    assert_eq!(project.names(), Vec::<String>::new(), "start creates no container: {run}");
    project.up();
    let ids = ALL.map(|service| project.id(service));
    let (db, api, web) = (project.name("db"), project.name("api"), project.name("web"));
    let events = Events::subscribe(&project.group);
    project.run(&["stop"]).exits(0).stdout_contains("4 stopped");
    assert!(states(&project).values().all(|state| state == "exited"), "{:?}", states(&project));
    events.assert_order(("die", &web), ("die", &api));
    events.assert_order(("die", &api), ("die", &db));
    project.run(&["stop"]).exits(0).stdout_contains("nothing to do");
    let status = project.status("api");
    assert_eq!((&status["phase"], &status["ready"]), (&json!("Exited"), &json!(false)));

    let events = Events::subscribe(&project.group);
    project.run(&["start"]).exits(0).stdout_contains("4 services ready (4 started)");
    events.assert_order(("start", &db), ("start", &api));
    events.assert_order(("start", &api), ("start", &web));
    project.assert_settled(&ALL);
    assert_eq!(ALL.map(|service| project.id(service)), ids, "the same containers");
    project.run(&["start"]).exits(0).stdout_contains("nothing to do");

    // A selected service with its dependencies.
    project.run(&["stop", "web", "api", "db"]).exits(0).stdout_contains("3 stopped");
    assert_eq!(states(&project)["other"], "running");
    project.run(&["start", "api"]).exits(0).stdout_contains("2 services ready (2 started)");
    assert_eq!(states(&project)["web"], "exited");
    // `start` does not apply changes.
    project.write("web.yaml", &sleeper("web", "dependencies: [api]\nenv: {A: b}"));
    project.run(&["start"]).exits(0);
    assert_eq!(project.id("web"), ids[3]);
    project.up().stdout_contains("(1 replaced)");
    project.assert_settled(&ALL);
}

#[test]
fn down_keeps_volumes_unless_volumes_is_given() {
    let project = shop("down");
    project.up();
    project.exec("db", &["sh", "-c", "echo kept > /data/file"]);
    let events = Events::subscribe(&project.group);
    let run = project.run(&["down"]).exits(0).stderr_contains("removes 4 containers").stdout_contains("4 removed");
    assert!(run.stderr.contains(&format!("removes 1 network: {}", project.group)), "{run}");
    let (db, api, web) = (project.name("db"), project.name("api"), project.name("web"));
    events.assert_order(("destroy", &web), ("destroy", &api));
    events.assert_order(("destroy", &api), ("destroy", &db));
    assert!(project.containers().is_empty() && engine::networks(&project.group).is_empty());
    assert_eq!(engine::volumes(&project.group), [project.name("data")]);
    project.run(&["down"]).exits(0).stdout_contains("nothing to do");
    project.up();
    assert_eq!(project.exec("db", &["cat", "/data/file"]), "kept\n");
    let run = project.run(&["down", "--volumes"]).exits(0);
    assert!(run.stderr.contains(&format!("removes 1 volume: {}", project.name("data"))), "{run}");
    assert!(project.containers().is_empty() && engine::networks(&project.group).is_empty());
    assert!(engine::volumes(&project.group).is_empty());
    // `down --volumes` also removes volumes of a group without containers.
    project.up();
    project.run(&["down"]).exits(0);
    project.run(&["down", "--volumes"]).exits(0);
    assert!(engine::volumes(&project.group).is_empty());
}

#[test]
fn down_stops_hanging_and_paused_containers() {
    let project = Project::new("downodd");
    // Ignores SIGTERM, with a short stop timeout.
    let hanging = "---\nname: hanging\nimage: drillmaster/busybox:1\ncommand: [sleep, infinity]\nstop_timeout: 1s\n";
    project.write("all.yaml", &(hanging.to_owned() + &sleeper("paused", "") + &sleeper("stopped", "")));
    project.up();
    engine::container_action(&project.name("paused"), "pause");
    engine::container_action(&project.name("stopped"), "kill");
    let run = project.run(&["down"]).exits(0);
    assert!(project.containers().is_empty() && engine::networks(&project.group).is_empty());
    assert!(run.took.as_secs() < 9, "stop_timeout is respected: {run}");
}

#[test]
fn orphan_is_removed() {
    let project = shop("gone");
    project.up();
    project.remove("web.yaml");
    assert_eq!(project.differences(), ["web remove"]);
    let status = project.status("web");
    assert_eq!(status["reason"], "NotInSpecs", "{status:#}");
    project.up().stderr_contains("removes 1 container: web").stdout_contains("(1 removed)");
    project.assert_settled(&["api", "db", "other"]);
    assert_eq!(engine::volumes(&project.group), [project.name("data")]);
    // A renamed service is removed and created.
    project.remove("other.yaml");
    project.write("other.yaml", &sleeper("another", ""));
    project.up().stdout_contains("(1 created, 1 removed)");
    project.assert_settled(&["another", "api", "db"]);
}

#[test]
fn port_moves_between_services() {
    let project = Project::new("moves");
    let port = crate::support::project::free_port();
    let ports = format!("ports: ['{port}:80']");
    project.write("all.yaml", &(sleeper("old", &ports) + &sleeper("other", "")));
    project.up();
    project.write("all.yaml", &(sleeper("new", &ports) + &sleeper("other", "")));
    project.up();
    project.assert_settled(&["new", "other"]);
    // A port moves between two remaining services.
    project.write("all.yaml", &(sleeper("new", "") + &sleeper("other", &ports)));
    project.up().stdout_contains("(2 replaced)");
    project.assert_settled(&["new", "other"]);
}

#[test]
fn services_swap_ports_and_dependency() {
    let project = Project::new("swap");
    let (one, two) = (crate::support::project::free_port(), crate::support::project::free_port());
    let write = |a: String, b: String| project.write("all.yaml", &(sleeper("a", &a) + &sleeper("b", &b)));
    write(format!("ports: ['{one}:80']\ndependencies: [b]"), format!("ports: ['{two}:80']"));
    project.up();
    write(format!("ports: ['{two}:80']"), format!("ports: ['{one}:80']\ndependencies: [a]"));
    project.up().stdout_contains("(2 replaced)");
    project.assert_settled(&["a", "b"]);
    project.run(&["down"]).exits(0);
    assert!(project.containers().is_empty());
}

#[test]
fn changed_group_network_replaces_all_containers() {
    let project = Project::new("network");
    project.write("all.yaml", &(sleeper("a", "") + &sleeper("b", "dependencies: [a]")));
    project.up();
    let network = project.name("net");
    project.write("group.yaml", &format!("kind: Group\nname: {}\nnetwork: {network}\n", project.group));
    let run = project.run(&["diff"]).exits(1).stdout_contains(&format!("network: {} -> {network}", project.group));
    assert!(run.stdout.contains(&format!("network {}: remove", project.group)), "{run}");
    assert!(
        !run.stdout.lines().any(|line| line.starts_with(&format!("{}: remove", project.group))),
        "a network: {run}"
    );
    project.up().stdout_contains("(2 replaced)");
    project.assert_settled(&["a", "b"]);
    project.exec("a", &["nslookup", "b"]);
}

#[test]
fn empty_specs_remove_nothing_without_prune_all() {
    let project = shop("empty");
    project.up();
    let before = project.containers();
    for service in ALL {
        project.remove(&format!("{service}.yaml"));
    }
    project.run(&["up"]).exits(2).stderr_contains("no services in").stderr_contains("--prune-all");
    assert_eq!(project.containers(), before);
    project.remove("group.yaml");
    project.run(&["up"]).exits(2).stderr_contains("drillmaster down --group NAME");
    for command in [&["up"][..], &["down"], &["diff"], &["stop"], &["start"], &["status"], &["validate"]] {
        project.run(command).exits(2).stderr_contains("specs");
        assert_eq!(project.containers(), before);
    }
    std::fs::remove_dir(project.specs()).unwrap();
    for command in [&["up"][..], &["down"], &["diff"], &["stop"], &["start"], &["status"], &["validate"]] {
        project.run(command).exits(2).stderr_contains("specs");
        assert_eq!(project.containers(), before);
    }
    // Without specs, the group must be named.
    let run = project.run(&["up", "--prune-all", "--group", &project.group]).exits(0);
    run.stderr_contains("removes 4 containers").stdout_contains("4 removed");
    assert!(project.containers().is_empty());
}

#[test]
fn down_by_group_name_works_with_invalid_specs() {
    let project = shop("broken");
    project.up();
    let before = project.containers();
    project.write("web.yaml", "name: [\n");
    project.run(&["up"]).exits(2).stderr_contains("web.yaml").output_lacks("--group NAME");
    assert_eq!(project.containers(), before);
    project.run(&["status", "--group", &project.group]).exits(0).stdout_contains("web");
    project.run(&["down", "--group", &project.group]).exits(0);
    assert!(project.containers().is_empty() && engine::networks(&project.group).is_empty());
}
