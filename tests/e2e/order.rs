//! Order: services start after their dependencies and stop before them.

use crate::support::events::Events;
use crate::support::project::{Project, script, sleeper};

#[test]
fn chain_starts_in_order_and_stops_in_reverse() {
    let project = Project::new("chain");
    // Ready after a delay, so that a dependent that does not wait starts too early.
    let slow = script("a", "sleep 0.7; touch /tmp/ready; sleep infinity", "ping: {exec: [test, -f, /tmp/ready]}");
    project.write("a.yaml", &slow);
    project.write("b.yaml", &sleeper("b", "dependencies: [a]"));
    project.write("c.yaml", &sleeper("c", "dependencies: [b]"));
    let events = Events::subscribe(&project.group);
    let run = project.up().stdout_contains(&format!("{}: 3 services ready (3 created)", project.group));
    assert!(run.took.as_secs_f32() > 0.7, "{run}");
    let (a, b, c) = (project.name("a"), project.name("b"), project.name("c"));
    events.assert_order(("rename", &a), ("create", &format!("{b}.new")));
    events.assert_order(("rename", &b), ("create", &format!("{c}.new")));
    project.assert_settled(&["a", "b", "c"]);

    project.run(&["down"]).exits(0);
    events.assert_order(("destroy", &c), ("die", &b));
    events.assert_order(("destroy", &b), ("die", &a));
    assert_eq!(project.names(), Vec::<String>::new());
}

#[test]
fn diamond_starts_its_branches_in_parallel() {
    let project = Project::new("diamond");
    let slow = |name: &str, more: &str| {
        let more = format!("ping: {{exec: [test, -f, /tmp/ready]}}\n{more}");
        script(name, "sleep 1; touch /tmp/ready; sleep infinity", &more)
    };
    let specs = [
        sleeper("top", "dependencies: [left, right]"),
        slow("left", "dependencies: [base]"),
        slow("right", "dependencies: [base]"),
        sleeper("base", ""),
    ];
    project.write("all.yaml", &specs.concat());
    let events = Events::subscribe(&project.group);
    project.up();
    let name = |service: &str| project.name(service);
    let new = |service: &str| format!("{}.new", project.name(service));
    for branch in ["left", "right"] {
        events.assert_order(("rename", &name("base")), ("create", &new(branch)));
        events.assert_order(("rename", &name(branch)), ("create", &new("top")));
    }
    // In parallel: each branch is created before the other one is ready.
    events.assert_order(("create", &new("left")), ("rename", &name("right")));
    events.assert_order(("create", &new("right")), ("rename", &name("left")));
    project.assert_settled(&["base", "left", "right", "top"]);
}

#[test]
fn started_condition_does_not_wait_for_readiness() {
    let project = Project::new("started");
    // It becomes ready only after the other one has been started.
    let slow = "until test -f /shared/started; do sleep 0.1; done; touch /tmp/ready; sleep infinity";
    let slow = script("slow", slow, "ping: {exec: [test, -f, /tmp/ready]}\nvolumes: ['shared:/shared']");
    let needs = "dependencies: [{name: slow, condition: started}]\nvolumes: ['shared:/shared']";
    let quick = script("quick", "touch /shared/started; sleep infinity", needs);
    project.write("all.yaml", &(slow + &quick));
    let events = Events::subscribe(&project.group);
    project.up();
    let (slow, quick) = (project.name("slow"), project.name("quick"));
    events.assert_order(("start", &format!("{slow}.new")), ("create", &format!("{quick}.new")));
    events.assert_order(("start", &format!("{quick}.new")), ("rename", &slow));
}

#[test]
fn dependent_with_restart_follows_its_dependency() {
    let project = Project::new("restart");
    let specs = |value: &str| {
        let db = sleeper("db", &format!("env: {{A: {value}}}"));
        let asked = sleeper("asked", "dependencies: [{name: db, restart: true}]");
        let other = sleeper("other", "dependencies: [db]");
        db + &asked + &other
    };
    project.write("all.yaml", &specs("one"));
    project.up();
    let started = |service: &str| project.inspect(service)["State"]["StartedAt"].clone();
    let before = (project.id("asked"), started("asked"), project.id("other"), started("other"), project.id("db"));
    project.write("all.yaml", &specs("two"));
    assert_eq!(project.differences(), ["db replace env.A", "asked restart dependencies.db"]);
    project.up();
    assert_ne!(project.id("db"), before.4);
    assert_eq!(project.id("asked"), before.0, "the container is not replaced");
    assert_ne!(started("asked"), before.1, "the container is restarted");
    assert_eq!((project.id("other"), started("other")), (before.2, before.3), "no `restart: true`, no restart");
    project.assert_settled(&["db", "asked", "other"]);
}
