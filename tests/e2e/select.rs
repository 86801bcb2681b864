//! Which services a command is about; and what goes.

use std::collections::BTreeMap;

use serde_json::json;

use crate::support::engine;
use crate::support::events::Events;
use crate::support::project::{Project, sleeper};

/// `web` needs `api`, which needs `db`; `other` needs nobody.
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

/// State of each container, by name: `running`, `exited`.
fn states(project: &Project) -> BTreeMap<String, String> {
    let prefix = format!("{}-", project.group);
    project.containers().into_iter().map(|c| (c.name.replace(&prefix, ""), c.state)).collect()
}

#[test]
fn up_of_one_takes_what_it_needs_along() {
    let project = shop("along");
    project.run(&["up", "api"]).exits(0).prints("2 services ready (2 created)");
    assert_eq!(project.names(), ["api", "db"]);
    // What was not asked for is left as it is, also when it differs.
    project.up();
    let ids = ALL.map(|service| project.id(service));
    project.write("web.yaml", &sleeper("web", "dependencies: [api]\nenv: {A: b}"));
    project.write("db.yaml", &sleeper("db", "volumes: ['data:/data']\nenv: {A: b}"));
    project.remove("other.yaml");
    project.run(&["diff", "api"]).exits(1).prints("db: replace").never_says("web:").never_says("other:");
    project.run(&["up", "api"]).exits(0).prints("(1 replaced)");
    assert_eq!(project.names(), ALL);
    let now = ALL.map(|service| project.id(service));
    assert_eq!((&now[0], &now[2], &now[3]), (&ids[0], &ids[2], &ids[3]));
    assert_ne!(now[1], ids[1]);
    project.up().says("removes 1 container").says("other").prints("(1 replaced, 1 removed)");
    project.is_settled(&["api", "db", "web"]);
}

#[test]
fn needed_service_cannot_be_excluded() {
    let project = shop("exclude");
    let run = project.run(&["up", "--exclude", "db"]).exits(2);
    run.says("`db`").says("`api`").says("depends on it").never_says("Usage:");
    project.run(&["up", "web", "--exclude", "api"]).exits(2).says("`api`").says("`web`");
    project.run(&["up", "--exclude", "wob"]).exits(2).says("no service `wob`").says("did you mean `web`?");
    project.run(&["up", "wob"]).exits(2).says("no service `wob`").says("did you mean `web`?");
    project.run(&["up", "web", "--exclude", "web"]).exits(2).says("both selected and excluded");
    assert_eq!(project.names(), Vec::<String>::new(), "nothing was touched");
    project.run(&["up", "--exclude", "web", "--exclude", "other"]).exits(0).prints("2 services ready");
    assert_eq!(project.names(), ["api", "db"]);
    project.run(&["up", "--exclude", "other,web,api"]).exits(0).prints("nothing to do");
    project.up();

    let run = project.run(&["down", "--exclude", "web"]).exits(2);
    run.says("`web`").says("`api`");
    let run = project.run(&["stop", "db"]).exits(2).says("`db`");
    run.says("`api`");
    assert_eq!(states(&project).values().filter(|state| *state == "running").count(), 4, "nothing was touched");
    project.run(&["down", "--exclude", "db"]).exits(0);
    assert_eq!(project.names(), ["db"]);
    assert_eq!(states(&project)["db"], "running");
    assert_eq!(engine::networks(&project.group).len(), 1, "db still needs it");
}

#[test]
fn stop_keeps_containers_and_start_makes_none() {
    let project = shop("stop");
    let run = project.run(&["start"]).exits(1).says("db: failed (NoContainer)").says("drillmaster up");
    assert_eq!(project.names(), Vec::<String>::new(), "start makes no container: {run}");
    project.up();
    let ids = ALL.map(|service| project.id(service));
    let (db, api, web) = (project.name("db"), project.name("api"), project.name("web"));
    let events = Events::of(&project.group);
    project.run(&["stop"]).exits(0).prints("4 stopped");
    assert!(states(&project).values().all(|state| state == "exited"), "{:?}", states(&project));
    events.in_order(("die", &web), ("die", &api));
    events.in_order(("die", &api), ("die", &db));
    project.run(&["stop"]).exits(0).prints("nothing to do");
    let status = project.status("api");
    assert_eq!((&status["phase"], &status["ready"]), (&json!("Exited"), &json!(false)));

    let events = Events::of(&project.group);
    project.run(&["start"]).exits(0).prints("4 services ready (4 started)");
    events.in_order(("start", &db), ("start", &api));
    events.in_order(("start", &api), ("start", &web));
    project.is_settled(&ALL);
    assert_eq!(ALL.map(|service| project.id(service)), ids, "the same containers");
    project.run(&["start"]).exits(0).prints("nothing to do");

    // A part, and what it needs.
    project.run(&["stop", "web", "api", "db"]).exits(0).prints("3 stopped");
    assert_eq!(states(&project)["other"], "running");
    project.run(&["start", "api"]).exits(0).prints("2 services ready (2 started)");
    assert_eq!(states(&project)["web"], "exited");
    // `start` does not apply changes.
    project.write("web.yaml", &sleeper("web", "dependencies: [api]\nenv: {A: b}"));
    project.run(&["start"]).exits(0);
    assert_eq!(project.id("web"), ids[3]);
    project.up().prints("(1 replaced)");
    project.is_settled(&ALL);
}

#[test]
fn down_leaves_nothing_but_volumes_and_with_volumes_nothing() {
    let project = shop("down");
    project.up();
    project.exec("db", &["sh", "-c", "echo kept > /data/file"]);
    let events = Events::of(&project.group);
    let run = project.run(&["down"]).exits(0).says("removes 4 containers").prints("4 removed");
    assert!(run.stderr.contains(&format!("removes 1 network: {}", project.group)), "{run}");
    let (db, api, web) = (project.name("db"), project.name("api"), project.name("web"));
    events.in_order(("destroy", &web), ("destroy", &api));
    events.in_order(("destroy", &api), ("destroy", &db));
    assert!(project.containers().is_empty() && engine::networks(&project.group).is_empty());
    assert_eq!(engine::volumes(&project.group), [project.name("data")]);
    project.run(&["down"]).exits(0).prints("nothing to do");
    project.up();
    assert_eq!(project.exec("db", &["cat", "/data/file"]), "kept\n");
    let run = project.run(&["down", "--volumes"]).exits(0);
    assert!(run.stderr.contains(&format!("removes 1 volume: {}", project.name("data"))), "{run}");
    assert!(project.containers().is_empty() && engine::networks(&project.group).is_empty());
    assert!(engine::volumes(&project.group).is_empty());
    // Volumes of a group that has nothing else any longer go too.
    project.up();
    project.run(&["down"]).exits(0);
    project.run(&["down", "--volumes"]).exits(0);
    assert!(engine::volumes(&project.group).is_empty());
}

#[test]
fn down_stops_hanging_and_paused_containers() {
    let project = Project::new("downodd");
    // Deaf to SIGTERM, with little patience for it.
    let deaf = "---\nname: deaf\nimage: drillmaster/busybox:1\ncommand: [sleep, infinity]\nstop_timeout: 1s\n";
    project.write("all.yaml", &(deaf.to_owned() + &sleeper("paused", "") + &sleeper("stopped", "")));
    project.up();
    engine::act(&project.name("paused"), "pause");
    engine::act(&project.name("stopped"), "kill");
    let run = project.run(&["down"]).exits(0);
    assert!(project.containers().is_empty() && engine::networks(&project.group).is_empty());
    assert!(run.took.as_secs() < 9, "the deaf one was given one second: {run}");
}

#[test]
fn what_no_spec_names_any_longer_goes() {
    let project = shop("gone");
    project.up();
    project.remove("web.yaml");
    assert_eq!(project.differences(), ["web remove"]);
    let status = project.status("web");
    assert_eq!(status["reason"], "NotInSpecs", "{status:#}");
    project.up().says("removes 1 container: web").prints("(1 removed)");
    project.is_settled(&["api", "db", "other"]);
    assert_eq!(engine::volumes(&project.group), [project.name("data")]);
    // Renaming a service is removing one and creating another.
    project.remove("other.yaml");
    project.write("other.yaml", &sleeper("another", ""));
    project.up().prints("(1 created, 1 removed)");
    project.is_settled(&["another", "api", "db"]);
}

#[test]
fn a_port_moves_from_a_service_that_goes_to_one_that_comes() {
    let project = Project::new("moves");
    let port = crate::support::project::port();
    let ports = format!("ports: ['{port}:80']");
    project.write("all.yaml", &(sleeper("old", &ports) + &sleeper("other", "")));
    project.up();
    project.write("all.yaml", &(sleeper("new", &ports) + &sleeper("other", "")));
    project.up();
    project.is_settled(&["new", "other"]);
    // And from one that stays to another that stays.
    project.write("all.yaml", &(sleeper("new", "") + &sleeper("other", &ports)));
    project.up().prints("(2 replaced)");
    project.is_settled(&["new", "other"]);
}

#[test]
fn two_services_swap_their_ports_and_two_their_dependency() {
    let project = Project::new("swap");
    let (one, two) = (crate::support::project::port(), crate::support::project::port());
    let write = |a: String, b: String| project.write("all.yaml", &(sleeper("a", &a) + &sleeper("b", &b)));
    write(format!("ports: ['{one}:80']\ndependencies: [b]"), format!("ports: ['{two}:80']"));
    project.up();
    write(format!("ports: ['{two}:80']"), format!("ports: ['{one}:80']\ndependencies: [a]"));
    project.up().prints("(2 replaced)");
    project.is_settled(&["a", "b"]);
    project.run(&["down"]).exits(0);
    assert!(project.containers().is_empty());
}

#[test]
fn the_group_moves_to_another_network() {
    let project = Project::new("network");
    project.write("all.yaml", &(sleeper("a", "") + &sleeper("b", "dependencies: [a]")));
    project.up();
    let network = project.name("net");
    project.write("group.yaml", &format!("kind: Group\nname: {}\nnetwork: {network}\n", project.group));
    let run = project.run(&["diff"]).exits(1).prints(&format!("network: {} -> {network}", project.group));
    assert!(run.stdout.contains(&format!("network {}: remove", project.group)), "{run}");
    assert!(
        !run.stdout.lines().any(|line| line.starts_with(&format!("{}: remove", project.group))),
        "a network: {run}"
    );
    project.up().prints("(2 replaced)");
    project.is_settled(&["a", "b"]);
    project.exec("a", &["nslookup", "b"]);
}

#[test]
fn without_a_single_spec_nothing_goes_unless_asked_for() {
    let project = shop("empty");
    project.up();
    let before = project.containers();
    for service in ALL {
        project.remove(&format!("{service}.yaml"));
    }
    project.run(&["up"]).exits(2).says("no services in").says("--prune-all");
    assert_eq!(project.containers(), before);
    project.remove("group.yaml");
    project.run(&["up"]).exits(2).says("drillmaster down --group NAME");
    for command in [&["up"][..], &["down"], &["diff"], &["stop"], &["start"], &["status"], &["validate"]] {
        project.run(command).exits(2).says("specs");
        assert_eq!(project.containers(), before);
    }
    std::fs::remove_dir(project.specs()).unwrap();
    for command in [&["up"][..], &["down"], &["diff"], &["stop"], &["start"], &["status"], &["validate"]] {
        project.run(command).exits(2).says("specs");
        assert_eq!(project.containers(), before);
    }
    // The group is known only when somebody names it.
    let run = project.run(&["up", "--prune-all", "--group", &project.group]).exits(0);
    run.says("removes 4 containers").prints("4 removed");
    assert!(project.containers().is_empty());
}

#[test]
fn a_group_can_be_taken_down_when_its_specs_are_broken_or_gone() {
    let project = shop("broken");
    project.up();
    let before = project.containers();
    project.write("web.yaml", "name: [\n");
    project.run(&["down"]).exits(2).says("web.yaml").says("drillmaster down --group NAME");
    project.run(&["stop"]).exits(2).says("web.yaml").says("--group NAME");
    project.run(&["up"]).exits(2).says("web.yaml").never_says("--group NAME");
    assert_eq!(project.containers(), before);
    project.run(&["status", "--group", &project.group]).exits(0).prints("web");
    project.run(&["down", "--group", &project.group]).exits(0);
    assert!(project.containers().is_empty() && engine::networks(&project.group).is_empty());
}
