//! Ownership: unmanaged objects are reported and left alone; only objects of the group are removed.

use std::collections::BTreeMap;

use serde_json::{Value, json};

use crate::support::engine::{self, Container};
use crate::support::project::{BUSYBOX, Project, sleeper};

/// An unmanaged container; removed when dropped.
struct Unmanaged(String);

impl Unmanaged {
    fn new(name: &str, labels: &Value) -> Unmanaged {
        Unmanaged::of_image(BUSYBOX, name, labels)
    }

    fn of_image(image: &str, name: &str, labels: &Value) -> Unmanaged {
        let body = json!({ "Image": image, "Cmd": ["sleep", "infinity"], "Labels": labels,
            "HostConfig": { "NetworkMode": "none" } });
        let created = engine::request("POST", &format!("/containers/create?name={name}"), Some(&body));
        let id = engine::text(&created["Id"]);
        engine::container_action(&id, "start");
        Unmanaged(id)
    }
}

impl Drop for Unmanaged {
    fn drop(&mut self) {
        let _ = engine::try_request("DELETE", &format!("/containers/{}?force=true&v=true", self.0), None);
    }
}

#[test]
fn unmanaged_container_of_same_name_is_left_alone() {
    let project = Project::new("foreign");
    project.write("all.yaml", &(sleeper("api", "") + &sleeper("web", "dependencies: [api]") + &sleeper("other", "")));
    let unmanaged = Unmanaged::new(&project.name("api"), &json!({}));
    let run =
        project.run(&["up"]).exits(1).stderr_contains("api: failed (Conflict)").stderr_contains(&project.name("api"));
    let run = run
        .stderr_contains("is not managed by drillmaster")
        .stderr_contains("web: pending: waiting for api")
        .stdout_contains("1 service ready, 1 failed: api, 1 waiting: web");
    assert_eq!(run.stderr.matches("is not managed by drillmaster").count(), 1, "reported once: {run}");
    assert_eq!(project.id("api"), unmanaged.0, "the unmanaged container is kept");
    assert_eq!(project.inspect("api")["State"]["Running"], true);
    assert_eq!(project.names(), ["other"]);
    let status = project.status("api");
    assert_eq!((&status["phase"], &status["reason"]), (&json!("Conflict"), &json!("Conflict")), "{status:#}");
    let run = project.run(&["diff"]).exits(2).stdout_contains("Conflict");
    assert!(run.stdout.contains(&project.name("api")), "{run}");
    project.run(&["diff", "--output", "json"]).exits(2).stdout_contains("\"failures\"");
    project.run(&["down"]).exits(0);
    assert_eq!(project.id("api"), unmanaged.0, "the unmanaged container is kept");
    assert_eq!(project.inspect("api")["State"]["Running"], true);
    // Without the conflict, `up` succeeds.
    drop(unmanaged);
    project.up();
    project.assert_settled(&["api", "other", "web"]);
}

#[test]
fn unmanaged_container_of_candidate_name_is_left_alone() {
    let project = Project::new("foreignnew");
    project.write("all.yaml", &sleeper("api", "env: {A: one}"));
    project.up();
    let before = project.id("api");
    let unmanaged = Unmanaged::new(&format!("{}.new", project.name("api")), &json!({}));
    project.write("all.yaml", &sleeper("api", "env: {A: two}"));
    project
        .run(&["up"])
        .exits(1)
        .stderr_contains("api: failed (Conflict)")
        .stderr_contains("is not managed by drillmaster");
    assert_eq!(project.id("api"), before);
    assert_eq!(project.id("api.new"), unmanaged.0);
}

/// Returns all containers, networks and volumes of a group.
fn state(group: &str) -> (Vec<Container>, Vec<String>, Vec<String>) {
    (engine::containers(group), engine::networks(group), engine::volumes(group))
}

#[test]
fn group_of_another_directory_is_reported_and_not_touched() {
    let owner = Project::new("twodirs");
    owner.write("all.yaml", &(sleeper("api", "volumes: ['data:/data']") + &sleeper("web", "")));
    owner.up();
    let before = state(&owner.group);
    let other = Project::new("intruder");
    other.write("group.yaml", &format!("kind: Group\nname: {}\n", owner.group));
    other.write("all.yaml", &(sleeper("api", "env: {A: b}") + &sleeper("new", "")));
    let directory = owner.specs().canonicalize().unwrap().display().to_string();
    for command in [&["up"][..], &["down"], &["down", "--volumes"], &["stop"], &["start"], &["up", "--prune-all"]] {
        let run = other.run(command);
        assert_eq!(run.code, Some(1), "{run}");
        let run = run.stderr_contains(&directory).output_lacks("panicked");
        assert_eq!(state(&owner.group), before, "nothing changes: {run}");
    }
    other.run(&["diff"]).exits(2).stdout_contains(&directory);
    let run = other.run(&["status"]).exits(0);
    run.stdout_contains("Conflict").stdout_contains(&directory);
    owner.assert_settled(&["api", "web"]);
}

#[test]
fn two_groups_do_not_affect_each_other() {
    let one = Project::new("one");
    let two = Project::new("two");
    one.write("all.yaml", &sleeper("api", "volumes: ['data:/data']"));
    two.write("all.yaml", &sleeper("api", "volumes: ['data:/data']"));
    one.up();
    two.up();
    let before = state(&one.group);
    two.run(&["down", "--volumes"]).exits(0);
    assert_eq!(state(&one.group), before);
    assert_eq!(state(&two.group), (vec![], vec![], vec![]));
}

#[test]
fn unmanaged_volume_is_used_and_never_removed() {
    let project = Project::new("foreignvol");
    let name = project.name("data");
    engine::request("POST", "/volumes/create", Some(&json!({ "Name": name })));
    project.write("all.yaml", &sleeper("api", "volumes: ['data:/data']"));
    project.up();
    project.run(&["down", "--volumes"]).exits(0);
    let volume = engine::try_get(&format!("/volumes/{name}"));
    let _ = engine::try_request("DELETE", &format!("/volumes/{name}"), None);
    assert!(volume.is_some(), "unmanaged objects are kept");
}

#[test]
fn externally_attached_network_is_kept() {
    let project = Project::new("added");
    project.write("all.yaml", &sleeper("api", ""));
    project.up();
    let network = project.name("extra");
    let labels: BTreeMap<&str, &str> = BTreeMap::from([("drillmaster.test", "yes")]);
    engine::request("POST", "/networks/create", Some(&json!({ "Name": network, "Labels": labels })));
    let body = json!({ "Container": project.name("api") });
    engine::request("POST", &format!("/networks/{network}/connect"), Some(&body));
    let differences = project.differences();
    project.up();
    let attached = project.inspect("api")["NetworkSettings"]["Networks"][&network].is_object();
    project.run(&["down"]).exits(0);
    let exists = engine::try_get(&format!("/networks/{network}")).is_some();
    let _ = engine::try_request("DELETE", &format!("/networks/{network}"), None);
    assert_eq!(differences, Vec::<String>::new());
    assert!(attached, "the container stays attached");
    assert!(exists, "unmanaged objects are kept");
}

/// An image with the labels of a container (`docker commit`); removed when dropped.
struct CommittedImage(String);

impl CommittedImage {
    fn new(container: &str, name: &str) -> CommittedImage {
        engine::request("POST", &format!("/commit?container={container}&repo={name}&tag=1"), Some(&json!({})));
        CommittedImage(format!("{name}:1"))
    }
}

impl Drop for CommittedImage {
    fn drop(&mut self) {
        let _ = engine::try_request("DELETE", &format!("/images/{}?force=true", self.0), None);
    }
}

#[test]
fn container_of_a_committed_image_is_left_alone() {
    let project = Project::new("commit");
    project.write("all.yaml", &sleeper("api", ""));
    project.up();
    let image = CommittedImage::new(&project.id("api"), &project.name("debug"));
    let mine = Unmanaged::of_image(&image.0, &project.name("mine"), &json!({}));
    let inspect = || engine::request("GET", &format!("/containers/{}/json", mine.0), None);
    assert_eq!(inspect()["Config"]["Labels"]["drillmaster.service"], "api", "the labels are inherited");
    let started = inspect()["State"]["StartedAt"].clone();
    let note = format!("container {} has the labels of api from its image {}", project.name("mine"), image.0);
    project.run(&["up"]).exits(0).stderr_contains(&note);
    project.run(&["diff"]).exits(0).stderr_contains(&note);
    let id = project.id("api");
    project.write("all.yaml", &sleeper("api", "env: {A: '1'}"));
    project.up();
    assert_ne!(project.id("api"), id);
    project.run(&["stop"]).exits(0);
    project.run(&["down"]).exits(0);
    assert_eq!(inspect()["State"]["StartedAt"], started);
    assert_eq!(inspect()["State"]["Running"], true);
    // With the name of the service, it is a conflict.
    let restored = Unmanaged::of_image(&image.0, &project.name("api"), &json!({}));
    project.run(&["up"]).exits(1).stderr_contains("api: failed (Conflict)");
    project.run(&["down"]).exits(0);
    assert_eq!(project.id("api"), restored.0);
}

#[test]
fn network_stays_while_a_foreign_container_is_attached() {
    let project = Project::new("guest");
    project.write("all.yaml", &sleeper("api", ""));
    project.up();
    let guest = project.name("guest");
    let body = json!({
        "Image": BUSYBOX, "Cmd": ["sleep", "infinity"], "StopSignal": "KILL",
        "HostConfig": { "NetworkMode": project.group },
    });
    engine::request("POST", &format!("/containers/create?name={guest}"), Some(&body));
    engine::container_action(&guest, "start");
    let run = project.run(&["down"]);
    let networks = engine::networks(&project.group);
    engine::request("DELETE", &format!("/containers/{guest}?force=true"), None);
    let stays = format!("network {} stays: container {guest}, which is not in this group, is attached", project.group);
    let run = run.exits(0).stderr_contains(&stays).output_lacks("stale endpoint").stdout_contains("1 removed");
    assert_eq!(networks.len(), 1, "{run}");
    project.run(&["down"]).exits(0);
    assert!(engine::networks(&project.group).is_empty(), "it is removed once the guest is gone");
}

#[test]
fn shared_network_goes_with_the_last_of_its_groups() {
    let (one, two) = (Project::new("shareone"), Project::new("sharetwo"));
    let network = one.name("net");
    for project in [&one, &two] {
        project.write("group.yaml", &format!("kind: Group\nname: {}\nnetwork: {network}\n", project.group));
        project.write("all.yaml", &sleeper("api", ""));
        project.up();
    }
    let exists = || engine::try_get(&format!("/networks/{network}")).is_some();
    one.run(&["down"]).exits(0).stderr_contains(&format!("network {network} stays: container {}", two.name("api")));
    assert!(exists());
    two.run(&["down"]).exits(0);
    assert!(!exists());
}
