//! What people do to containers by hand, `up` puts right; without replacing what only has to be mended.

use serde_json::json;

use crate::support::engine;
use crate::support::project::{Project, sleeper};

/// Two services; something is done to `api` by hand, which `diff` has to see; then `up` puts it right. Whether the
/// container is still the same.
#[track_caller]
fn mended(purpose: &str, difference: &str, hand: impl FnOnce(&Project)) -> bool {
    let project = Project::new(purpose);
    project.write("all.yaml", &(sleeper("api", "") + &sleeper("other", "")));
    project.up();
    let (id, other) = (project.id("api"), project.id("other"));
    hand(&project);
    assert_eq!(project.differences(), [difference]);
    project.up();
    project.is_settled(&["api", "other"]);
    assert_eq!(project.id("other"), other, "the other is left alone");
    assert_eq!(project.status("api")["phase"], "Ready");
    project.id("api") == id
}

#[test]
fn paused() {
    assert!(mended("paused", "api start state", |project| {
        engine::act(&project.name("api"), "pause");
        assert_eq!(project.status("api")["phase"], "Paused");
    }));
}

#[test]
fn stopped() {
    assert!(mended("stopped", "api start state", |project| engine::act(&project.name("api"), "stop")));
}

#[test]
fn killed() {
    assert!(mended("killed", "api start state", |project| {
        engine::act(&project.name("api"), "kill");
        let status = project.status("api");
        assert_eq!((&status["phase"], &status["ready"]), (&json!("Exited"), &json!(false)), "{status:#}");
        assert_eq!(status["message"], "exited with code 137");
    }));
}

#[test]
fn disconnected() {
    assert!(mended("offline", "api update network", |project| {
        let network = engine::networks(&project.group).remove(0);
        let body = json!({ "Container": project.name("api"), "Force": true });
        engine::must("POST", &format!("/networks/{network}/disconnect"), Some(&body));
    }));
}

#[test]
fn disconnected_and_attached_again_it_answers_to_its_name() {
    let project = Project::new("alias");
    project.write("all.yaml", &(sleeper("api", "aliases: [backend]") + &sleeper("other", "")));
    project.up();
    let network = engine::networks(&project.group).remove(0);
    let body = json!({ "Container": project.name("api"), "Force": true });
    engine::must("POST", &format!("/networks/{network}/disconnect"), Some(&body));
    project.up();
    for name in ["api", "backend"] {
        project.exec("other", &["nslookup", name]);
    }
}

#[test]
fn renamed() {
    assert!(mended("renamed", "api update name", |project| {
        engine::act(&project.name("api"), "rename?name=somebody-else-was-here");
        let status = project.status("api");
        assert_eq!((&status["reason"], &status["ready"]), (&json!("Renamed"), &json!(false)), "{status:#}");
    }));
}

#[test]
fn two_that_swapped_their_names() {
    let project = Project::new("swapped");
    project.write("all.yaml", &(sleeper("a", "") + &sleeper("b", "")));
    project.up();
    let (a, b) = (project.id("a"), project.id("b"));
    engine::act(&a, &format!("rename?name={}-aside", project.group));
    engine::act(&b, &format!("rename?name={}", project.name("a")));
    engine::act(&a, &format!("rename?name={}", project.name("b")));
    project.up();
    project.is_settled(&["a", "b"]);
    assert_eq!((project.id("a"), project.id("b")), (a, b), "each has its own name back");
}

#[test]
fn removed() {
    assert!(!mended("removed", "api create container", |project| {
        engine::must("DELETE", &format!("/containers/{}?force=true", project.name("api")), None);
        let status = project.status("api");
        assert_eq!((&status["phase"], &status["reason"]), (&json!("Pending"), &json!("NoContainer")));
    }));
}

#[test]
fn network_removed() {
    let project = Project::new("netgone");
    project.write("all.yaml", &(sleeper("api", "") + &sleeper("other", "")));
    project.up();
    let network = engine::networks(&project.group).remove(0);
    for service in ["api", "other"] {
        let body = json!({ "Container": project.name(service), "Force": true });
        engine::must("POST", &format!("/networks/{network}/disconnect"), Some(&body));
    }
    engine::must("DELETE", &format!("/networks/{network}"), None);
    let ids = (project.id("api"), project.id("other"));
    project.up();
    project.is_settled(&["api", "other"]);
    assert_eq!((project.id("api"), project.id("other")), ids, "attached to a new network, not replaced");
    project.exec("api", &["nslookup", "other"]);
}

#[test]
fn two_networks_of_one_name() {
    let project = Project::new("twonets");
    project.write("all.yaml", &(sleeper("api", "") + &sleeper("other", "")));
    project.run(&["up", "api"]).exits(0);
    let network = engine::must("GET", &format!("/networks/{}", project.group), None);
    // As two clients at the same moment can do it; engines from 25 on refuse.
    let body = json!({ "Name": project.group, "Labels": network["Labels"], "CheckDuplicate": false });
    if let Err(refused) = engine::ask("POST", "/networks/create", Some(&body)) {
        assert!(refused.contains("already exists"), "{refused}");
        return;
    }
    assert_eq!(engine::networks(&project.group).len(), 2);
    let id = project.id("api");
    project.up();
    project.is_settled(&["api", "other"]);
    assert_eq!(project.id("api"), id);
    project.exec("api", &["nslookup", "other"]);
}

#[test]
fn everything_at_once_and_twice() {
    let project = Project::new("havoc");
    let names = ["a", "b", "c", "d"];
    project.write("all.yaml", &names.map(|name| sleeper(name, "")).concat());
    project.up();
    engine::act(&project.name("a"), "pause");
    engine::act(&project.name("b"), "kill");
    engine::act(&project.name("c"), &format!("rename?name={}-aside", project.group));
    engine::must("DELETE", &format!("/containers/{}?force=true", project.name("d")), None);
    project.up();
    project.is_settled(&names);
    project.up().prints("4 services ready (nothing to do)");
}
