//! Volumes with settings: external ones, those that exist from before, and driver options.

use serde_json::json;

use crate::support::engine;
use crate::support::project::{BUSYBOX, Project, sleeper};

/// A volume outside of every group; removed when dropped.
struct Volume(String);

impl Volume {
    fn new(name: &str) -> Volume {
        engine::request("POST", "/volumes/create", Some(&json!({"Name": name})));
        Volume(name.to_owned())
    }
}

impl Drop for Volume {
    fn drop(&mut self) {
        let _ = engine::try_request("DELETE", &format!("/volumes/{}", self.0), None);
    }
}

fn volume(name: &str) -> Option<serde_json::Value> {
    engine::try_get(&format!("/volumes/{name}"))
}

#[test]
fn existing_volume_with_its_data_is_used_and_never_removed() {
    let project = Project::new("volfixed");
    let name = format!("{}_pg", project.group);
    let _volume = Volume::new(&name);
    let mounts = json!([{"Type": "volume", "Source": name, "Target": "/d"}]);
    let body = json!({"Image": BUSYBOX, "Cmd": ["sh", "-c", "echo kept > /d/row"], "HostConfig": {"Mounts": mounts}});
    let filler = format!("{}-filler", project.group);
    engine::request("POST", &format!("/containers/create?name={filler}"), Some(&body));
    engine::container_action(&filler, "start");
    engine::request("POST", &format!("/containers/{filler}/wait"), None);
    engine::request("DELETE", &format!("/containers/{filler}"), None);

    let group = format!("kind: Group\nname: {}\nvolumes: {{pg: {{name: {name}}}}}\n", project.group);
    project.write("group.yaml", &group);
    project.write("db.yaml", &sleeper("db", "volumes: [\"pg:/data\"]"));
    project.up();
    let container = format!("{}-db", project.group);
    assert_eq!(engine::exec(&container, &["cat", "/data/row"]).unwrap().trim(), "kept");
    let labels = volume(&name).unwrap()["Labels"].clone();
    assert!(labels.as_object().is_none_or(serde_json::Map::is_empty), "it was labelled: {labels}");
    project.up().stdout_contains("nothing to do");
    project.run(&["down", "--volumes"]).exits(0).stderr_contains(&format!("volume {name} stays"));
    assert!(volume(&name).is_some(), "it was removed");
}

#[test]
fn missing_external_volume_creates_nothing_and_says_how_to() {
    let project = Project::new("volext");
    let name = format!("{}-outside", project.group);
    let group =
        format!("kind: Group\nname: {}\nvolumes:\n  data:\n    external: true\n    name: {name}\n", project.group);
    project.write("group.yaml", &group);
    project.write("all.yaml", &(sleeper("db", "volumes: [\"data:/data\"]") + &sleeper("web", "")));
    let run = project.run(&["up"]).exits(1);
    let run = run.stderr_contains(&format!("external volume {name} does not exist (specs/group.yaml:4:3)"));
    run.stderr_contains(&format!("docker volume create {name}"));
    assert!(project.containers().is_empty() && volume(&name).is_none());

    let _volume = Volume::new(&name);
    project.up();
    project.run(&["down", "--volumes"]).exits(0).stderr_contains("stays: it is external");
    assert!(volume(&name).is_some());
}

#[test]
fn missing_volume_is_created_with_its_driver_options_and_labels() {
    let project = Project::new("volopts");
    let name = format!("{}_ram", project.group);
    let options = "driver_opts: {type: tmpfs, device: tmpfs, o: size=1m}";
    let group = |options: &str| {
        let entry = format!("{{name: {name}, {options}, labels: {{team: drills}}}}");
        format!("kind: Group\nname: {}\nvolumes: {{ram: {entry}}}\n", project.group)
    };
    project.write("group.yaml", &group(options));
    project.write("db.yaml", &sleeper("db", "volumes: [\"ram:/ram\"]"));
    project.up().stderr_contains(&format!("volume {name} does not exist yet"));
    let mut created = volume(&name).unwrap();
    // Podman adds it.
    created["Options"].as_object_mut().unwrap().remove("SIZE");
    assert_eq!(created["Options"], json!({"type": "tmpfs", "device": "tmpfs", "o": "size=1m"}));
    assert_eq!(created["Labels"]["team"], "drills");
    assert_eq!(created["Labels"]["drillmaster.group"], project.group.as_str());
    let mounts = engine::exec(&format!("{}-db", project.group), &["cat", "/proc/mounts"]).unwrap();
    assert!(mounts.lines().any(|line| line.starts_with("tmpfs /ram tmpfs")), "{mounts}");

    project.write("group.yaml", &group("driver_opts: {type: tmpfs, device: tmpfs, o: size=2m}"));
    let run = project.run(&["up"]).exits(1);
    run.stderr_contains(&format!("volume {name} has other driver options than the specs: o (specs/group.yaml:3:16)"));
    project.write("group.yaml", &group(options));
    project.run(&["down", "--volumes"]).exits(0);
    assert!(volume(&name).is_none());
}
