//! Services come up in the order of their dependencies, and go in the reverse.

use crate::support::events::Events;
use crate::support::project::{Project, script, sleeper};

#[test]
fn a_chain_comes_up_one_after_the_other_and_goes_the_other_way() {
    let project = Project::new("chain");
    // Ready only after a while: whoever does not wait is too early.
    let slow = script("a", "sleep 0.7; touch /tmp/ready; sleep infinity", "ping: {exec: [test, -f, /tmp/ready]}");
    project.write("a.yaml", &slow);
    project.write("b.yaml", &sleeper("b", "dependencies: [a]"));
    project.write("c.yaml", &sleeper("c", "dependencies: [b]"));
    let events = Events::of(&project.group);
    let run = project.up().prints(&format!("{}: 3 services ready (3 created)", project.group));
    assert!(run.took.as_secs_f32() > 0.7, "{run}");
    let (a, b, c) = (project.name("a"), project.name("b"), project.name("c"));
    events.in_order(("rename", &a), ("create", &format!("{b}.new")));
    events.in_order(("rename", &b), ("create", &format!("{c}.new")));
    project.is_settled(&["a", "b", "c"]);

    project.run(&["down"]).exits(0);
    events.in_order(("destroy", &c), ("die", &b));
    events.in_order(("destroy", &b), ("die", &a));
    assert_eq!(project.names(), Vec::<String>::new());
}

#[test]
fn a_diamond_comes_up_in_order_with_its_branches_side_by_side() {
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
    let events = Events::of(&project.group);
    project.up();
    let name = |service: &str| project.name(service);
    let new = |service: &str| format!("{}.new", project.name(service));
    for branch in ["left", "right"] {
        events.in_order(("rename", &name("base")), ("create", &new(branch)));
        events.in_order(("rename", &name(branch)), ("create", &new("top")));
    }
    // Side by side: each branch is created before the other is ready.
    events.in_order(("create", &new("left")), ("rename", &name("right")));
    events.in_order(("create", &new("right")), ("rename", &name("left")));
    project.is_settled(&["base", "left", "right", "top"]);
}

#[test]
fn a_dependency_that_need_only_be_started_is_not_awaited() {
    let project = Project::new("started");
    let slow = script("slow", "sleep 2; touch /tmp/ready; sleep infinity", "ping: {exec: [test, -f, /tmp/ready]}");
    let quick = sleeper("quick", "dependencies: [{name: slow, condition: started}]");
    project.write("all.yaml", &(slow + &quick));
    let events = Events::of(&project.group);
    project.up();
    let (slow, quick) = (project.name("slow"), project.name("quick"));
    events.in_order(("start", &format!("{slow}.new")), ("create", &format!("{quick}.new")));
    events.in_order(("rename", &quick), ("rename", &slow));
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
    assert_eq!(project.id("asked"), before.0, "it is the same container");
    assert_ne!(started("asked"), before.1, "it was started again");
    assert_eq!((project.id("other"), started("other")), (before.2, before.3), "it did not ask");
    project.is_settled(&["db", "asked", "other"]);
}
