//! What is not ours is left alone, and said; what is removed is said, and nothing else goes.

use std::collections::BTreeMap;

use serde_json::{Value, json};

use crate::support::engine::{self, Container};
use crate::support::project::{BUSYBOX, Project, sleeper};

/// A container made by hand; removed with this value.
struct ByHand(String);

impl ByHand {
    fn new(name: &str, labels: &Value) -> ByHand {
        let body = json!({ "Image": BUSYBOX, "Cmd": ["sleep", "infinity"], "Labels": labels,
            "HostConfig": { "NetworkMode": "none" } });
        let made = engine::must("POST", &format!("/containers/create?name={name}"), Some(&body));
        let id = engine::text(&made["Id"]);
        engine::act(&id, "start");
        ByHand(id)
    }
}

impl Drop for ByHand {
    fn drop(&mut self) {
        let _ = engine::ask("DELETE", &format!("/containers/{}?force=true&v=true", self.0), None);
    }
}

#[test]
fn a_container_of_the_same_name_is_reported_and_left_alone() {
    let project = Project::new("foreign");
    project.write("all.yaml", &(sleeper("api", "") + &sleeper("web", "dependencies: [api]") + &sleeper("other", "")));
    let by_hand = ByHand::new(&project.name("api"), &json!({}));
    let run = project.run(&["up"]).exits(1).says("api: failed (Conflict)").says(&project.name("api"));
    let run = run
        .says("is not managed by drillmaster")
        .says("web: pending: waiting for api")
        .prints("1 service ready, 1 failed: api, 1 waiting: web");
    assert_eq!(run.stderr.matches("is not managed by drillmaster").count(), 1, "said once: {run}");
    assert_eq!(project.id("api"), by_hand.0, "it is the same container");
    assert_eq!(project.inspect("api")["State"]["Running"], true);
    assert_eq!(project.names(), ["other"]);
    let status = project.status("api");
    assert_eq!((&status["phase"], &status["reason"]), (&json!("Conflict"), &json!("Conflict")), "{status:#}");
    let run = project.run(&["diff"]).exits(2).prints("Conflict");
    assert!(run.stdout.contains(&project.name("api")), "{run}");
    project.run(&["diff", "--output", "json"]).exits(2).prints("\"failures\"");
    project.run(&["down"]).exits(0);
    assert_eq!(project.id("api"), by_hand.0, "it is the same container");
    assert_eq!(project.inspect("api")["State"]["Running"], true);
    // Once it is out of the way, all is well.
    drop(by_hand);
    project.up();
    project.is_settled(&["api", "other", "web"]);
}

#[test]
fn so_is_one_of_the_name_that_a_replacement_would_have() {
    let project = Project::new("foreignnew");
    project.write("all.yaml", &sleeper("api", "env: {A: one}"));
    project.up();
    let before = project.id("api");
    let by_hand = ByHand::new(&format!("{}.new", project.name("api")), &json!({}));
    project.write("all.yaml", &sleeper("api", "env: {A: two}"));
    project.run(&["up"]).exits(1).says("api: failed (Conflict)").says("is not managed by drillmaster");
    assert_eq!(project.id("api"), before);
    assert_eq!(project.id("api.new"), by_hand.0);
}

/// State of everything of a group that must not change.
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
        let run = run.says(&directory).never_says("panicked");
        assert_eq!(state(&owner.group), before, "nothing is touched by {run}");
    }
    other.run(&["diff"]).exits(2).prints(&directory);
    let run = other.run(&["status"]).exits(0);
    run.prints("Conflict").prints(&directory);
    owner.is_settled(&["api", "web"]);
}

#[test]
fn two_groups_do_not_see_each_other() {
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
    engine::must("POST", "/volumes/create", Some(&json!({ "Name": name })));
    project.write("all.yaml", &sleeper("api", "volumes: ['data:/data']"));
    project.up();
    project.run(&["down", "--volumes"]).exits(0);
    let volume = engine::look(&format!("/volumes/{name}"));
    let _ = engine::ask("DELETE", &format!("/volumes/{name}"), None);
    assert!(volume.is_some(), "it was not ours");
}

#[test]
fn what_a_person_adds_to_our_containers_is_kept() {
    let project = Project::new("added");
    project.write("all.yaml", &sleeper("api", ""));
    project.up();
    let network = project.name("extra");
    let labels: BTreeMap<&str, &str> = BTreeMap::from([("drillmaster.test", "yes")]);
    engine::must("POST", "/networks/create", Some(&json!({ "Name": network, "Labels": labels })));
    let body = json!({ "Container": project.name("api") });
    engine::must("POST", &format!("/networks/{network}/connect"), Some(&body));
    let differences = project.differences();
    project.up();
    let attached = project.inspect("api")["NetworkSettings"]["Networks"][&network].is_object();
    project.run(&["down"]).exits(0);
    let there = engine::look(&format!("/networks/{network}")).is_some();
    let _ = engine::ask("DELETE", &format!("/networks/{network}"), None);
    assert_eq!(differences, Vec::<String>::new());
    assert!(attached, "it stays attached");
    assert!(there, "it was not ours");
}
