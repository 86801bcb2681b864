//! Replicas: numbered containers of one service. Scaling affects only surplus or missing replicas; a rollout replaces one
//! at a time.

use std::collections::BTreeMap;

use crate::support::events::Events;
use crate::support::project::{Project, script, sleeper};
use crate::support::watcher::{Instance, Watcher, instances};
use crate::support::{WAIT_TIMEOUT, engine, wait_for};

fn spec(number: Option<u32>, more: &str) -> String {
    let replicas = number.map(|number| format!("replicas: {number}\n")).unwrap_or_default();
    sleeper("api", &format!("{replicas}{more}")) + &sleeper("web", "dependencies: [{name: api, restart: true}]")
}

fn names(range: std::ops::RangeInclusive<u32>) -> Vec<String> {
    range.map(|n| format!("api-{n}")).chain(["web".to_owned()]).collect()
}

#[track_caller]
fn assert_settled(project: &Project, names: &[String]) {
    project.assert_settled(&names.iter().map(String::as_str).collect::<Vec<_>>());
}

/// Counts the addresses of the service name on the network.
fn addresses(project: &Project) -> usize {
    let found = engine::exec(&project.name("web"), &["nslookup", "api"]).unwrap_or_default();
    found.lines().filter(|line| line.starts_with("Name:")).count()
}

/// Returns true if no remaining container was restarted or replaced.
fn remaining_unchanged(before: &BTreeMap<String, Instance>, after: &BTreeMap<String, Instance>) -> bool {
    before.iter().filter(|(name, _)| after.contains_key(*name)).all(|(name, instance)| after[name] == *instance)
}

#[test]
fn scaling_touches_only_the_difference() {
    let project = Project::new("scale");
    project.write("all.yaml", &spec(Some(2), ""));
    project.up().stdout_contains("2 services ready (2 created)");
    assert_settled(&project, &names(1..=2));
    assert_eq!(addresses(&project), 2);

    let before = instances(&project);
    project.write("all.yaml", &spec(Some(4), ""));
    assert_eq!(project.differences(), ["api create container", "api create container"]);
    let replicas: Vec<_> = project.diff().iter().map(|change| change["replica"].clone()).collect();
    assert_eq!(replicas, [3, 4]);
    project.up().stdout_contains("(1 scaled up)");
    assert_settled(&project, &names(1..=4));
    assert!(remaining_unchanged(&before, &instances(&project)));
    assert_eq!(addresses(&project), 4);

    let before = instances(&project);
    project.write("all.yaml", &spec(Some(1), ""));
    project.up().stdout_contains("(1 scaled down)");
    assert_settled(&project, &names(1..=1));
    assert!(remaining_unchanged(&before, &instances(&project)));

    // Without `replicas`, replica 1 becomes the only container.
    let one = Instance::of(&project.inspect("api-1"));
    project.write("all.yaml", &spec(None, ""));
    project.up();
    project.assert_settled(&["api", "web"]);
    assert_eq!(Instance::of(&project.inspect("api")), one);
    project.write("all.yaml", &spec(Some(2), ""));
    project.up().stdout_contains("1 scaled up)");
    assert_settled(&project, &names(1..=2));
    assert_eq!(Instance::of(&project.inspect("api-1")), one);

    let web = Instance::of(&project.inspect("web"));
    project.write("all.yaml", &spec(Some(0), ""));
    project.up().stdout_contains("(1 scaled down)");
    project.assert_settled(&["web"]);
    assert_eq!(Instance::of(&project.inspect("web")), web);
    project.run(&["down"]).exits(0);
    assert!(project.containers().is_empty());
}

#[test]
fn replicas_are_replaced_one_at_a_time_until_one_fails() {
    let project = Project::new("roll");
    let with = |version: &str, more: &str| spec(Some(3), &format!("env: {{V: {version}}}\n{more}"));
    project.write("all.yaml", &with("a", ""));
    project.up();
    let events = Events::subscribe(&project.group);
    project.write("all.yaml", &with("b", ""));
    project.up().stdout_contains("1 replaced");
    assert_settled(&project, &names(1..=3));
    for n in 1..3 {
        let (renamed, created) = (project.name(&format!("api-{n}")), project.name(&format!("api-{}.new", n + 1)));
        events.assert_order(("rename", &renamed), ("create", &created));
    }

    let before = instances(&project);
    project.write("all.yaml", &with("c", "ping: {tcp: 80, timeout: 1s}"));
    let run =
        project.run(&["up"]).exits(1).stderr_contains("api-1: failed (NotReady)").stdout_contains("1 failed: api");
    run.stderr_contains("api-2: pending: waiting for api-1, which failed with this spec");
    let after = instances(&project);
    assert_eq!(after.keys().collect::<Vec<_>>(), ["api-1", "api-2", "api-3", "web"]);
    for n in 1..=3 {
        let name = format!("api-{n}");
        assert_eq!(before[&name], after[&name], "{run:?}", run = name);
    }
}

#[test]
fn output_names_the_replica() {
    let project = Project::new("replicaname");
    let hook = "post_start: {run: [sh, -c, 'echo replica $${DRILLMASTER_REPLICA} of $${DRILLMASTER_SERVICE}']}";
    let api = crate::support::project::script("api", "echo hello; sleep infinity", &format!("replicas: 2\n{hook}"));
    project.write("all.yaml", &(api + &sleeper("web", "")));
    let run = project.up().stderr_contains("api-1: ready").stderr_contains("api-1: post_start | replica 1 of api");
    run.stderr_contains("api-2: post_start | replica 2 of api");

    let status = project.run(&["status", "--output", "json"]).exits(0).json();
    let all: Vec<_> =
        status["services"].as_array().unwrap().iter().map(|service| (&service["name"], &service["replica"])).collect();
    let (api, web) = (serde_json::json!("api"), serde_json::json!("web"));
    assert_eq!(all, [(&api, &1.into()), (&api, &2.into()), (&web, &serde_json::Value::Null)]);
    let table = project.run(&["status"]).exits(0).stdout;
    assert!(table.contains("\napi-2 ") && table.contains("\nweb "), "{table}");

    let logs = project.run(&["logs", "api"]).exits(0);
    let mut lines: Vec<&str> = logs.stdout.lines().collect();
    lines.sort_unstable();
    assert_eq!(lines, ["api-1 | hello", "api-2 | hello"]);

    let states = |project: &Project| -> Vec<String> {
        project.containers().into_iter().map(|container| container.state).collect()
    };
    project.run(&["stop", "api"]).exits(0);
    assert_eq!(states(&project), ["exited", "exited", "running"]);
    project.run(&["start", "api"]).exits(0);
    assert_eq!(states(&project), ["running", "running", "running"]);
    let (web_before, one) = (project.id("web"), project.id("api-1"));
    project.run(&["reload", "api"]).exits(0).stdout_contains("1 replaced");
    assert!(project.id("web") == web_before && project.id("api-1") != one);
    project.run(&["down", "--exclude", "api"]).exits(0);
    assert_eq!(project.names(), ["api-1", "api-2"]);
    project.run(&["up", "web"]).exits(0);
    assert_eq!(project.names(), ["api-1", "api-2", "web"]);
}

#[test]
fn watch_scales_and_restarts_only_the_exited_replica() {
    let project = Project::new("scalewatch");
    project.write("all.yaml", &spec(Some(2), ""));
    let mut watch = Watcher::start(&project);
    let before = instances(&project);
    project.write("all.yaml", &spec(Some(3), ""));
    wait_for("the third replica", WAIT_TIMEOUT, || project.names().contains(&"api-3".to_owned()).then_some(()));
    watch.wait_until_settled(&project);
    assert!(remaining_unchanged(&before, &instances(&project)), "{:?}", watch.messages(0));

    let before = instances(&project);
    engine::container_action(&project.name("api-2"), "kill");
    wait_for("the second replica to restart", WAIT_TIMEOUT, || {
        let after = instances(&project);
        (after["api-2"] != before["api-2"] && project.is_ready()).then_some(())
    });
    let after = instances(&project);
    assert!(after["api-1"] == before["api-1"] && after["api-3"] == before["api-3"]);

    project.write("all.yaml", &spec(Some(1), ""));
    wait_for("the surplus replicas to be removed", WAIT_TIMEOUT, || {
        (project.names() == ["api-1", "web"]).then_some(())
    });
    watch.wait_until_settled(&project);
    assert_eq!(instances(&project)["api-1"], before["api-1"]);
    watch.interrupt().exits(130);
}

#[test]
fn results_count_services_not_containers() {
    let project = Project::new("counted");
    project.write("all.yaml", &(sleeper("api", "replicas: 3") + &sleeper("db", "")));
    project.up().stdout_contains(": 2 services ready (2 created)");
    project.write("all.yaml", &(sleeper("api", "replicas: 3\nenv: {A: b}") + &sleeper("db", "")));
    project.up().stdout_contains(": 2 services ready (1 replaced)");
    project.run(&["down"]).exits(0).stdout_contains(": 2 removed");
    project.write("all.yaml", &script("api", "exit 3", "replicas: 2"));
    let run = project.run(&["up"]).exits(1).stdout_contains(": 1 failed: api");
    run.output_lacks("0 services");
}

#[test]
fn volumes_do_not_accumulate() {
    let project = Project::new("volumeleak");
    let write = |replicas: u32, version: u32| {
        let container = "image: drillmaster/volume:1\nstop_signal: KILL\nvolumes: [/scratch]";
        let service = format!(
            "name: api\n{container}\ncommand: [sleep, infinity]\nenv: {{VERSION: {version}}}\nreplicas: {replicas}\n"
        );
        let job = format!("---\nkind: Job\nname: fill\n{container}\ncommand: ['true']\nenv: {{VERSION: {version}}}\n");
        project.write("all.yaml", &(service + &job));
    };
    write(3, 1);
    project.up();
    let volumes = || engine::volumes(&project.group).into_iter().collect::<std::collections::BTreeSet<_>>();
    let first = volumes();
    assert_eq!(first.len(), 8, "each container has one of the image and one of the spec: {first:?}");
    for version in 2..=3 {
        write(3, version);
        project.up();
    }
    project.run(&["run", "fill"]).exits(0);
    project.run(&["reload", "api"]).exits(0);
    assert_eq!(volumes(), first, "replacements take the volumes over");
    // Only `down --volumes` removes volumes: those of the replicas that are gone are kept.
    write(1, 3);
    project.up();
    assert_eq!(volumes(), first);
    write(3, 3);
    project.up();
    project.run(&["down", "--volumes"]).exits(0);
    assert!(volumes().is_empty());
}
