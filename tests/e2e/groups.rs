//! `ls` and `prune`: all groups of the engine.

use crate::support::engine;
use crate::support::project::{Project, sleeper};

#[test]
fn groups_are_listed_and_pruned_once_their_directory_is_gone() {
    let project = Project::new("prune");
    let volumes = "volumes: ['data:/data']";
    project.write("all.yaml", &(sleeper("db", volumes) + &sleeper("api", "")));
    project.up();
    project.run(&["stop", "api"]).exits(0);
    let group = project.group.as_str();
    let listed = || {
        let run = project.run(&["ls", "--output", "json"]).exits(0);
        let all = run.json();
        all["groups"].as_array().unwrap().iter().find(|found| found["name"] == group).cloned()
    };
    let source = project.specs().canonicalize().unwrap().to_str().unwrap().to_owned();
    let found = listed().unwrap();
    assert_eq!((&found["containers"], &found["running"]), (&2.into(), &1.into()), "{found:#}");
    assert_eq!(found["networks"], serde_json::json!([group]));
    assert_eq!(found["directories"], serde_json::json!([{ "path": source, "exists": true }]));
    let run = project.run(&["ls"]).exits(0);
    let line = run.stdout.lines().find(|line| line.starts_with(group)).unwrap_or_else(|| panic!("{run}"));
    assert_eq!(line.split_whitespace().collect::<Vec<_>>(), [group, "1/2", group, &source]);
    project.run(&["prune", "--yes", group]).exits(2).stderr_contains("its directory exists");

    std::fs::remove_dir_all(project.specs()).unwrap();
    assert_eq!(listed().unwrap()["directories"][0]["exists"], false);
    project.run(&["ls"]).exits(0).stdout_contains(&format!("{source} (gone)"));
    // Without a terminal it cannot ask.
    let run = project.run(&["prune", group]).exits(2).stderr_contains("--yes");
    run.stderr_contains(&format!("group {group}: 2 containers (1 running), network {group}, of {source}"));
    assert_eq!(project.containers().len(), 2);
    project.run(&["prune", "--yes", group]).exits(0).stdout_contains("2 removed");
    assert!(project.containers().is_empty() && engine::networks(group).is_empty());
    assert_eq!(engine::volumes(group).len(), 1, "volumes are kept");
    assert_eq!(listed(), None);
    let state = project.state_directory();
    assert!(!state.exists(), "{}", state.display());
    // What `down` has left.
    project.write("group.yaml", &format!("kind: Group\nname: {group}\n"));
    project.write("all.yaml", &sleeper("api", ""));
    project.up();
    project.run(&["down"]).exits(0);
    assert!(state.exists(), "{}", state.display());
    let run = project.run(&["prune", "--yes", group]).exits(0);
    run.stderr_contains(&format!("the local state of groups that have nothing on this engine: {group}"));
    assert!(!state.exists(), "{}", state.display());
    project.run(&["prune", "--yes", group]).exits(2).stderr_contains("it has no containers");
}

#[test]
fn prune_removes_volumes_on_request_only() {
    let project = Project::new("prunevol");
    project.write("all.yaml", &sleeper("db", "volumes: ['data:/data']"));
    project.up();
    std::fs::remove_dir_all(project.specs()).unwrap();
    let volume = project.name("data");
    let run = project.run(&["prune", "--yes", "--volumes", &project.group, "--output", "json"]).exits(0);
    let run = run.stderr_contains(&format!("volume {volume} and its data"));
    assert_eq!(run.json()["groups"][0]["name"], project.group.as_str());
    assert!(engine::volumes(&project.group).is_empty(), "{run}");
}

#[test]
fn network_has_the_subnet_of_the_specs() {
    let project = Project::new("subnet");
    let write = |subnet: &str| {
        project.write("group.yaml", &format!("kind: Group\nname: {}\nsubnet: {subnet}\n", project.group));
    };
    project.write("all.yaml", &sleeper("api", ""));
    write("10.213.58.0/24");
    project.up();
    let subnet =
        || engine::request("GET", &format!("/networks/{}", project.group), None)["IPAM"]["Config"][0]["Subnet"].clone();
    assert_eq!(subnet(), "10.213.58.0/24");
    assert_eq!(project.differences(), Vec::<String>::new());
    write("10.213.59.0/24");
    let message = "has the subnet 10.213.58.0/24, the specs say 10.213.59.0/24; run `drillmaster down` first";
    project.run(&["diff"]).exits(2).stdout_contains(message);
    project.run(&["up"]).exits(1).stderr_contains(message);
    assert_eq!(project.containers()[0].state, "running");
    project.run(&["down"]).exits(0);
    project.up();
    assert_eq!(subnet(), "10.213.59.0/24");
    write("10.213.59.7/24");
    project.run(&["validate"]).exits(2).stderr_contains("the range starts at `10.213.59.0/24`");
}

#[test]
fn moved_directory_goes_on_with_the_command_of_the_error() {
    let project = Project::new("moved");
    project.write("all.yaml", &sleeper("db", "volumes: ['data:/data']"));
    project.up();
    project.exec("db", &["touch", "/data/kept"]);
    let old = project.specs().canonicalize().unwrap();
    std::fs::rename(&old, project.home.path().join("elsewhere")).unwrap();
    let command = format!("drillmaster down --group {} --specs {}", project.group, old.display());
    project.run(&["up", "--specs", "elsewhere"]).exits(1).stderr_contains(&format!("`{command}`"));
    let arguments: Vec<&str> = command.split(' ').skip(1).collect();
    project.run(&arguments).exits(0).stdout_contains("1 removed");
    project.run(&["up", "--specs", "elsewhere"]).exits(0);
    project.exec("db", &["test", "-e", "/data/kept"]);
}

#[test]
fn moved_directory_adopts_its_group() {
    let project = Project::new("adopt");
    let volumes = "volumes: ['data:/data']";
    project.write("all.yaml", &(sleeper("db", volumes) + &sleeper("api", "")));
    project.up();
    let (db, api) = (project.id("db"), project.id("api"));
    let old = project.specs().canonicalize().unwrap();
    let new = project.home.path().join("elsewhere");
    let message = "which exists; run `drillmaster down` there";
    // A copy is no move.
    std::fs::create_dir(&new).unwrap();
    for entry in std::fs::read_dir(&old).unwrap().map(Result::unwrap) {
        std::fs::copy(entry.path(), new.join(entry.file_name())).unwrap();
    }
    let in_new = |arguments: &[&str]| project.run(&[arguments, &["--specs", "elsewhere"]].concat());
    in_new(&["up", "--adopt"]).exits(2).stderr_contains(message);
    std::fs::remove_dir_all(&new).unwrap();

    std::fs::rename(&old, &new).unwrap();
    in_new(&["up"]).exits(1).stderr_contains("run `drillmaster up --adopt`");
    let adopting = format!("adopting group {} from {}, which no longer exists", project.group, old.display());
    in_new(&["up", "--adopt"]).exits(0).stdout_contains("2 services ready (nothing to do)").stderr_contains(&adopting);
    assert_eq!((project.id("db"), project.id("api")), (db.clone(), api));
    // From now on without the option, also for new containers.
    std::fs::write(new.join("all.yaml"), sleeper("db", volumes) + &sleeper("api", "env: {A: b}")).unwrap();
    in_new(&["diff"]).exits(1);
    in_new(&["up"]).exits(0).stdout_contains("2 services ready (1 replaced)");
    let services = in_new(&["status", "--output", "json"]).exits(0).json()["services"].clone();
    assert!(services.as_array().unwrap().iter().all(|service| service["phase"] == "Ready"), "{services:#}");
    let listed = in_new(&["ls", "--output", "json"]).exits(0).json();
    let group = listed["groups"].as_array().unwrap().iter().find(|found| found["name"] == project.group.as_str());
    let path = new.canonicalize().unwrap();
    assert_eq!(group.unwrap()["directories"], serde_json::json!([{ "path": path, "exists": true }]));
    in_new(&["prune", "--yes", &project.group]).exits(2).stderr_contains("its directory exists");

    // While a directory of the old name exists, what has its labels is its own.
    std::fs::create_dir(&old).unwrap();
    in_new(&["up"]).exits(1).stderr_contains("belongs to");
    std::fs::remove_dir(&old).unwrap();
    in_new(&["up", "--adopt"]).exits(0).stderr_contains("nothing to adopt");
    in_new(&["down", "--volumes"]).exits(0);
    assert!(project.containers().is_empty() && engine::networks(&project.group).is_empty());
    assert!(engine::volumes(&project.group).is_empty());
}
