//! Drift: `up` corrects external changes, and replaces a container only if necessary.

use serde_json::json;

use crate::support::engine;
use crate::support::project::{Project, sleeper};

/// Changes `api` externally and asserts that `diff` reports exactly this difference and that `up` corrects it. Returns true
/// if the container was kept.
#[track_caller]
fn correct_in_place(purpose: &str, difference: &str, change: impl FnOnce(&Project)) -> bool {
    let project = Project::new(purpose);
    project.write("all.yaml", &(sleeper("api", "") + &sleeper("other", "")));
    project.up();
    let (id, other) = (project.id("api"), project.id("other"));
    change(&project);
    assert_eq!(project.differences(), [difference]);
    project.up();
    project.assert_settled(&["api", "other"]);
    assert_eq!(project.id("other"), other, "the other container is kept");
    assert_eq!(project.status("api")["phase"], "Ready");
    project.id("api") == id
}

#[test]
fn paused_container_is_unpaused() {
    assert!(correct_in_place("paused", "api start state", |project| {
        engine::container_action(&project.name("api"), "pause");
        assert_eq!(project.status("api")["phase"], "Paused");
    }));
}

#[test]
fn stopped_container_is_started() {
    assert!(correct_in_place("stopped", "api start state", |project| engine::container_action(
        &project.name("api"),
        "stop"
    )));
}

#[test]
fn killed_container_is_started() {
    assert!(correct_in_place("killed", "api start state", |project| {
        engine::container_action(&project.name("api"), "kill");
        let status = project.status("api");
        assert_eq!((&status["phase"], &status["ready"]), (&json!("Exited"), &json!(false)), "{status:#}");
        assert_eq!(status["message"], "exited with code 137");
    }));
}

#[test]
fn disconnected_container_is_reconnected() {
    assert!(correct_in_place("offline", "api update network", |project| {
        let network = engine::networks(&project.group).remove(0);
        let body = json!({ "Container": project.name("api"), "Force": true });
        engine::request("POST", &format!("/networks/{network}/disconnect"), Some(&body));
    }));
}

#[test]
fn reconnected_container_has_its_aliases() {
    let project = Project::new("alias");
    project.write("all.yaml", &(sleeper("api", "aliases: [backend]") + &sleeper("other", "")));
    project.up();
    let network = engine::networks(&project.group).remove(0);
    let body = json!({ "Container": project.name("api"), "Force": true });
    engine::request("POST", &format!("/networks/{network}/disconnect"), Some(&body));
    project.up();
    for name in ["api", "backend"] {
        project.exec("other", &["nslookup", name]);
    }
}

#[test]
fn renamed_container_gets_its_name_back() {
    assert!(correct_in_place("renamed", "api update name", |project| {
        engine::container_action(&project.name("api"), "rename?name=other-name");
        let status = project.status("api");
        assert_eq!((&status["reason"], &status["ready"]), (&json!("Renamed"), &json!(false)), "{status:#}");
    }));
}

#[test]
fn swapped_names_are_swapped_back() {
    let project = Project::new("swapped");
    project.write("all.yaml", &(sleeper("a", "") + &sleeper("b", "")));
    project.up();
    let (a, b) = (project.id("a"), project.id("b"));
    engine::container_action(&a, &format!("rename?name={}-aside", project.group));
    engine::container_action(&b, &format!("rename?name={}", project.name("a")));
    engine::container_action(&a, &format!("rename?name={}", project.name("b")));
    project.up();
    project.assert_settled(&["a", "b"]);
    assert_eq!((project.id("a"), project.id("b")), (a, b), "both containers are kept");
}

#[test]
fn removed_container_is_recreated() {
    assert!(!correct_in_place("removed", "api create container", |project| {
        engine::request("DELETE", &format!("/containers/{}?force=true", project.name("api")), None);
        let status = project.status("api");
        assert_eq!((&status["phase"], &status["reason"]), (&json!("Pending"), &json!("NoContainer")));
    }));
}

#[test]
fn removed_network_is_recreated() {
    let project = Project::new("netgone");
    project.write("all.yaml", &(sleeper("api", "") + &sleeper("other", "")));
    project.up();
    let network = engine::networks(&project.group).remove(0);
    for service in ["api", "other"] {
        let body = json!({ "Container": project.name(service), "Force": true });
        engine::request("POST", &format!("/networks/{network}/disconnect"), Some(&body));
    }
    engine::request("DELETE", &format!("/networks/{network}"), None);
    let ids = (project.id("api"), project.id("other"));
    project.up();
    project.assert_settled(&["api", "other"]);
    assert_eq!((project.id("api"), project.id("other")), ids, "connected to a new network, not replaced");
    project.exec("api", &["nslookup", "other"]);
}

#[test]
fn duplicate_network_name_is_tolerated() {
    let project = Project::new("twonets");
    project.write("all.yaml", &(sleeper("api", "") + &sleeper("other", "")));
    project.run(&["up", "api"]).exits(0);
    let network = engine::request("GET", &format!("/networks/{}", project.group), None);
    // Two concurrent clients can cause this; engines from version 25 refuse.
    let body = json!({ "Name": project.group, "Labels": network["Labels"], "CheckDuplicate": false });
    if let Err(refused) = engine::try_request("POST", "/networks/create", Some(&body)) {
        assert!(refused.contains("already exists"), "{refused}");
        return;
    }
    assert_eq!(engine::networks(&project.group).len(), 2);
    let id = project.id("api");
    project.up();
    project.assert_settled(&["api", "other"]);
    assert_eq!(project.id("api"), id);
    project.exec("api", &["nslookup", "other"]);
}

#[test]
fn combined_drift_is_corrected_in_one_run() {
    let project = Project::new("havoc");
    let names = ["a", "b", "c", "d"];
    project.write("all.yaml", &names.map(|name| sleeper(name, "")).concat());
    project.up();
    engine::container_action(&project.name("a"), "pause");
    engine::container_action(&project.name("b"), "kill");
    engine::container_action(&project.name("c"), &format!("rename?name={}-aside", project.group));
    engine::request("DELETE", &format!("/containers/{}?force=true", project.name("d")), None);
    project.up();
    project.assert_settled(&names);
    project.up().stdout_contains("4 services ready (nothing to do)");
}
