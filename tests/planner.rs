//! The planner, by example: whole plans as text, one step a line with its cause.

#![allow(clippy::unwrap_used, reason = "a test that cannot go on fails")]

mod builders;

use builders::*;
use drillmaster::desired::{Mode, Scope};
use drillmaster::identity::Identity;
use drillmaster::observed::{ImageFacts, State};
use drillmaster::spec::model::{Condition, Pull, RestartPolicy};
use std::time::Duration;

#[track_caller]
fn check(wanted: &drillmaster::desired::Desired, observed: &drillmaster::observed::Observed, expected: &str) {
    let found = plan_text(wanted, observed);
    let lines = |text: &str| text.trim().lines().map(|line| line.trim().to_owned()).collect::<Vec<_>>().join("\n");
    let line = std::panic::Location::caller().line();
    assert_eq!(lines(&found), lines(expected), "\n<<<{line}\n{found}\n>>>");
}

fn identity_of<'a>(observed: &'a mut drillmaster::observed::Observed, name: &str) -> &'a mut Identity {
    by_name(observed, name).identity.as_mut().unwrap()
}

#[test]
fn first_up_of_a_chain() {
    let wanted = desired([service("c").needs("b"), service("b").needs("a"), service("a")]);
    check(
        &wanted,
        &empty(&wanted),
        "
        create a [container]
        create b [container]
        create c [container]
        --
        network shop: create   # missing
        a: create shop-a.new   # no container
        a: start shop-a.new   # no container
        a: rename shop-a.new to shop-a   # candidate is ready
        b: create shop-b.new   # no container
        b: start shop-b.new   # no container
        b: rename shop-b.new to shop-b   # candidate is ready
        c: create shop-c.new   # no container
        c: start shop-c.new   # no container
        c: rename shop-c.new to shop-c   # candidate is ready
    ",
    );
}

#[test]
fn first_up_of_a_diamond() {
    let wanted = desired([
        service("top").needs("left").needs("right"),
        service("left").needs("base"),
        service("right").needs("base"),
        service("base").ping(Duration::from_secs(10)),
    ]);
    check(
        &wanted,
        &empty(&wanted),
        "
        create base [container]
        create left [container]
        create right [container]
        create top [container]
        --
        network shop: create   # missing
        base: create shop-base.new   # no container
        base: start shop-base.new   # no container
        base: rename shop-base.new to shop-base   # candidate is ready
        left: create shop-left.new   # no container
        right: create shop-right.new   # no container
        left: start shop-left.new   # no container
        right: start shop-right.new   # no container
        left: rename shop-left.new to shop-left   # candidate is ready
        right: rename shop-right.new to shop-right   # candidate is ready
        top: create shop-top.new   # no container
        top: start shop-top.new   # no container
        top: rename shop-top.new to shop-top   # candidate is ready
    ",
    );
}

#[test]
fn agreement_needs_nothing() {
    let wanted = desired([
        service("api").needs("db").port("8080:80").env("A", "1").memory("64m"),
        service("db").volume("data", "/data").anonymous_volume("/tmp/x").ping(Duration::from_secs(9)),
    ]);
    check(
        &wanted,
        &agreeing(&wanted),
        "
        --
    ",
    );
}

#[test]
fn a_changed_env_value_replaces_that_container() {
    let old = desired([service("api").env("LOG", "info").env("SAME", "x"), service("db")]);
    let new = desired([service("api").env("LOG", "debug").env("SAME", "x"), service("db")]);
    let mut observed = agreeing(&old);
    inspect(&mut observed, &old.services["api"]);
    check(
        &new,
        &observed,
        "
        replace api [env.LOG]
        --
        api: create shop-api.new   # env.LOG changed
        api: start shop-api.new   # env.LOG changed
        api: stop shop-api   # replacement is ready
        api: remove shop-api   # replacement is ready
        api: rename shop-api.new to shop-api   # candidate is ready
    ",
    );
}

#[test]
fn a_changed_env_value_is_looked_up_first() {
    let old = desired([service("api").env("LOG", "info")]);
    let new = desired([service("api").env("LOG", "debug")]);
    check(
        &new,
        &agreeing(&old),
        r#"
        look at Container("id-api")
        --
        api: create shop-api.new   # env.LOG changed
        api: start shop-api.new   # env.LOG changed
        api: stop shop-api   # replacement is ready
        api: remove shop-api   # replacement is ready
        api: rename shop-api.new to shop-api   # candidate is ready
    "#,
    );
}

#[test]
fn a_port_that_stays_is_handed_over_old_container_stopped_first() {
    let old = desired([service("api").port("8080:80").command(&["one"])]);
    let new = desired([service("api").port("8080:80").command(&["two"])]);
    check(
        &new,
        &agreeing(&old),
        "
        replace api [command]
        --
        api: create shop-api.new   # command changed
        api: stop shop-api   # replacement needs its ports or volumes
        api: start shop-api.new   # command changed
        api: remove shop-api   # replacement is ready
        api: rename shop-api.new to shop-api   # candidate is ready
    ",
    );
}

#[test]
fn changed_port_keeps_old_container_until_new_is_ready() {
    let old = desired([service("api").port("8080:80")]);
    let new = desired([service("api").port("8081:80")]);
    check(
        &new,
        &agreeing(&old),
        "
        replace api [ports]
        --
        api: create shop-api.new   # ports changed
        api: start shop-api.new   # ports changed
        api: stop shop-api   # replacement is ready
        api: remove shop-api   # replacement is ready
        api: rename shop-api.new to shop-api   # candidate is ready
    ",
    );
}

#[test]
fn a_shared_volume_stops_the_old_container_first() {
    let old = desired([service("db").volume("data", "/data").env("A", "1")]);
    let new = desired([service("db").volume("data", "/data").env("A", "2")]);
    let mut observed = agreeing(&old);
    inspect(&mut observed, &old.services["db"]);
    check(
        &new,
        &observed,
        "
        replace db [env.A]
        --
        db: create shop-db.new   # env.A changed
        db: stop shop-db   # replacement needs its ports or volumes
        db: start shop-db.new   # env.A changed
        db: remove shop-db   # replacement is ready
        db: rename shop-db.new to shop-db   # candidate is ready
    ",
    );
}

#[test]
fn anonymous_volumes_move_to_the_replacement() {
    let old = desired([service("db").anonymous_volume("/data").command(&["one"])]);
    let new = desired([service("db").anonymous_volume("/data").command(&["two"])]);
    check(
        &new,
        &agreeing(&old),
        "
        replace db [command]
        --
        db: create shop-db.new taking 1 volumes   # command changed
        db: stop shop-db   # replacement needs its ports or volumes
        db: start shop-db.new   # command changed
        db: remove shop-db   # replacement is ready
        db: rename shop-db.new to shop-db   # candidate is ready
    ",
    );
}

#[test]
fn an_image_tag_that_moved_replaces() {
    let wanted = desired([service("api")]);
    let mut observed = agreeing(&wanted);
    observed.images.insert("api:1".into(), "sha256:newer".into());
    observed.image_facts.insert("sha256:newer".into(), ImageFacts::default());
    check(
        &wanted,
        &observed,
        "
        replace api [image]
        --
        api: create shop-api.new   # image changed
        api: start shop-api.new   # image changed
        api: stop shop-api   # replacement is ready
        api: remove shop-api   # replacement is ready
        api: rename shop-api.new to shop-api   # candidate is ready
    ",
    );
}

#[test]
fn missing_image_is_pulled_once() {
    let wanted = desired([service("a").image("app:1"), service("b").image("app:1")]);
    let mut observed = empty(&wanted);
    observed.images.clear();
    check(
        &wanted,
        &observed,
        "
        create a [container]
        create b [container]
        --
        network shop: create   # missing
        image app:1: pull   # image not present locally
        a: create shop-a.new   # no container
        b: create shop-b.new   # no container
        a: start shop-a.new   # no container
        b: start shop-b.new   # no container
        a: rename shop-a.new to shop-a   # candidate is ready
        b: rename shop-b.new to shop-b   # candidate is ready
    ",
    );
}

#[test]
fn a_missing_image_that_may_not_be_pulled_fails() {
    let wanted = desired([service("a").pull(Pull::Never), service("b")]);
    let mut observed = empty(&wanted);
    observed.images.remove("a:1");
    check(
        &wanted,
        &observed,
        "
        create a [container]
        create b [container]
        FAILS a: ImageMissing: image a:1 is not present locally, and `pull: never` is set
        --
        network shop: create   # missing
        b: create shop-b.new   # no container
        b: start shop-b.new   # no container
        b: rename shop-b.new to shop-b   # candidate is ready
    ",
    );
}

#[test]
fn limits_and_restart_policy_are_updated_in_place() {
    let old = desired([service("api").memory("64m")]);
    let new = desired([service("api").memory("128m").restart(RestartPolicy::Always)]);
    let mut observed = agreeing(&old);
    inspect(&mut observed, &old.services["api"]);
    check(
        &new,
        &observed,
        "
        update api [resources.memory restart]
        --
        api: update shop-api   # resources.memory, restart changed
    ",
    );
}

#[test]
fn a_paused_container_is_thawed() {
    let wanted = desired([service("api").needs("db"), service("db")]);
    let mut observed = agreeing(&wanted);
    by_name(&mut observed, "shop-db").state = State::Paused;
    check(
        &wanted,
        &observed,
        "
        start db [state]
        --
        db: unpause shop-db   # paused
    ",
    );
}

#[test]
fn a_stopped_container_is_started() {
    let wanted = desired([service("api")]);
    let mut observed = agreeing(&wanted);
    let api = by_name(&mut observed, "shop-api");
    api.state = State::Exited { code: Some(137) };
    api.ports.clear();
    check(
        &wanted,
        &observed,
        "
        start api [state]
        --
        api: start shop-api   # exited with code 137
    ",
    );
}

#[test]
fn dead_container_is_created_again() {
    let wanted = desired([service("api")]);
    let mut observed = agreeing(&wanted);
    by_name(&mut observed, "shop-api").state = State::Dead;
    check(
        &wanted,
        &observed,
        "
        create api [state]
        --
        api: remove shop-api   # dead: cannot be started
        api: create shop-api.new   # no container
        api: start shop-api.new   # no container
        api: rename shop-api.new to shop-api   # candidate is ready
    ",
    );
}

#[test]
fn a_container_that_was_renamed_by_hand_gets_its_name_back() {
    let wanted = desired([service("api")]);
    let mut observed = agreeing(&wanted);
    by_name(&mut observed, "shop-api").name = "precious".into();
    check(
        &wanted,
        &observed,
        "
        update api [name]
        --
        api: rename precious to shop-api   # renamed externally to precious
    ",
    );
}

#[test]
fn a_renamed_container_that_differs_is_renamed_and_replaced() {
    let old = desired([service("api").command(&["one"])]);
    let new = desired([service("api").command(&["two"])]);
    let mut observed = agreeing(&old);
    by_name(&mut observed, "shop-api").name = "precious".into();
    check(
        &new,
        &observed,
        "
        replace api [command]
        --
        api: rename precious to shop-api   # renamed externally to precious
        api: create shop-api.new   # command changed
        api: start shop-api.new   # command changed
        api: stop shop-api   # replacement is ready
        api: remove shop-api   # replacement is ready
        api: rename shop-api.new to shop-api   # candidate is ready
    ",
    );
}

#[test]
fn a_superfluous_copy_goes() {
    let wanted = desired([service("api")]);
    let mut observed = agreeing(&wanted);
    let twin = copy(by_name(&mut observed, "shop-api"), "twin", "twin");
    add(&mut observed, twin);
    check(
        &wanted,
        &observed,
        "
        update api [name]
        --
        api: stop twin   # surplus container: another one holds the service name
        api: remove twin   # surplus container: another one holds the service name
    ",
    );
}

#[test]
fn two_containers_that_swapped_names_by_hand_get_them_back() {
    let wanted = desired([service("a"), service("b")]);
    let mut observed = agreeing(&wanted);
    by_name(&mut observed, "shop-a").name = "x".into();
    by_name(&mut observed, "shop-b").name = "shop-a".into();
    by_name(&mut observed, "x").name = "shop-b".into();
    check(
        &wanted,
        &observed,
        "
        update a [name]
        update b [name]
        --
        a: rename shop-b to shop-a.new   # renamed externally to shop-b
        b: rename shop-a to shop-b.new   # renamed externally to shop-a
        a: rename shop-a.new to shop-a   # candidate is ready
        b: rename shop-b.new to shop-b   # candidate is ready
    ",
    );
}

#[test]
fn a_disconnected_container_is_attached_again() {
    let wanted = desired([service("api")]);
    let mut observed = agreeing(&wanted);
    by_name(&mut observed, "shop-api").networks.clear();
    check(
        &wanted,
        &observed,
        "
        update api [network]
        --
        api: connect shop-api to net-1   # not attached to network shop
    ",
    );
}

#[test]
fn recreated_network_gets_stopped_containers_back() {
    let wanted = desired([service("api")]);
    let mut observed = agreeing(&wanted);
    by_name(&mut observed, "shop-api").state = State::Exited { code: Some(0) };
    observed.networks.clear();
    check(
        &wanted,
        &observed,
        "
        start api [state]
        --
        network shop: create   # missing
        api: disconnect shop-api from shop   # not attached to network shop
        api: connect shop-api to new:shop   # not attached to network shop
        api: start shop-api   # exited with code 0
    ",
    );
}

#[test]
fn a_candidate_of_an_earlier_spec_goes() {
    let old = desired([service("api").command(&["one"])]);
    let middle = desired([service("api").command(&["two"])]);
    let new = desired([service("api").command(&["three"])]);
    let mut observed = agreeing(&old);
    let mut candidate = copy(by_name(&mut agreeing(&middle), "shop-api"), "candidate", "shop-api.new");
    candidate.state = State::Created;
    add(&mut observed, candidate);
    check(
        &new,
        &observed,
        "
        replace api [command]
        --
        api: remove shop-api.new   # outdated spec revision
        api: create shop-api.new   # command changed
        api: start shop-api.new   # command changed
        api: stop shop-api   # replacement is ready
        api: remove shop-api   # replacement is ready
        api: rename shop-api.new to shop-api   # candidate is ready
    ",
    );
}

#[test]
fn a_candidate_that_is_not_needed_goes() {
    let wanted = desired([service("api")]);
    let mut observed = agreeing(&wanted);
    let candidate = copy(by_name(&mut observed, "shop-api"), "candidate", "shop-api.new");
    add(&mut observed, candidate);
    check(
        &wanted,
        &observed,
        "
        update api [name]
        --
        api: stop shop-api.new   # replacement no longer needed
        api: remove shop-api.new   # replacement no longer needed
    ",
    );
}

#[test]
fn a_candidate_half_way_is_brought_on() {
    let old = desired([service("api").command(&["one"])]);
    let new = desired([service("api").command(&["two"])]);
    let mut observed = agreeing(&old);
    let candidate = copy(by_name(&mut agreeing(&new), "shop-api"), "candidate", "shop-api.new");
    add(&mut observed, candidate);
    check(
        &new,
        &observed,
        "
        replace api [command]
        --
        api: stop shop-api   # replacement is ready
        api: remove shop-api   # replacement is ready
        api: rename shop-api.new to shop-api   # candidate is ready
    ",
    );
}

#[test]
fn candidate_without_current_container_takes_the_name() {
    let wanted = desired([service("api")]);
    let mut observed = agreeing(&wanted);
    by_name(&mut observed, "shop-api").name = "shop-api.new".into();
    check(
        &wanted,
        &observed,
        "
        create api [container]
        --
        api: rename shop-api.new to shop-api   # candidate is ready
    ",
    );
}

#[test]
fn what_no_spec_names_any_longer_goes_dependents_first() {
    let old = desired([service("keep"), service("db"), service("api").needs("db")]);
    let new = desired([service("keep")]);
    check(
        &new,
        &agreeing(&old),
        "
        remove api []
        remove db []
        --
        api: stop shop-api   # orphan: not in the specs
        api: remove shop-api   # orphan: not in the specs
        db: stop shop-db   # orphan: not in the specs
        db: remove shop-db   # orphan: not in the specs
    ",
    );
}

#[test]
fn down_goes_in_reverse() {
    let old = desired([service("c").needs("b"), service("b").needs("a"), service("a").volume("data", "/data")]);
    check(
        &nothing(),
        &agreeing(&old),
        "
        remove c []
        remove b []
        remove a []
        remove shop []
        --
        c: stop shop-c   # requested
        c: remove shop-c   # requested
        b: stop shop-b   # requested
        b: remove shop-b   # requested
        a: stop shop-a   # requested
        a: remove shop-a   # requested
        network shop: remove net-1   # unused
    ",
    );
}

#[test]
fn down_with_volumes() {
    let old = desired([service("a").volume("data", "/data")]);
    let mut observed = agreeing(&old);
    let volume = |name: &str, group: &str| drillmaster::observed::Volume {
        name: name.into(),
        group: group.into(),
        source: Some(SOURCE.into()),
    };
    observed.volumes.insert("shop-data".into(), volume("shop-data", GROUP));
    observed.volumes.insert("other-data".into(), volume("other-data", "other"));
    let mut wanted = nothing();
    wanted.mode = Mode::Reconcile { purge_volumes: true, purge_images: false };
    check(
        &wanted,
        &observed,
        "
        remove a []
        remove shop []
        remove shop-data []
        --
        a: stop shop-a   # requested
        a: remove shop-a with volumes   # requested
        network shop: remove net-1   # unused
        volume shop-data: remove   # --volumes
    ",
    );
}

#[test]
fn down_of_containers_that_need_each_other_in_a_circle() {
    let old = desired([service("a").needs("b"), service("b")]);
    let mut observed = agreeing(&old);
    let spec = identity_of(&mut observed, "shop-a").spec.replace("\"name\":\"b\"", "\"name\":\"a\"");
    identity_of(&mut observed, "shop-b").spec = spec;
    check(
        &nothing(),
        &observed,
        "
        remove a []
        remove b []
        remove shop []
        --
        a: stop shop-a   # requested
        a: remove shop-a   # requested
        b: stop shop-b   # requested
        b: remove shop-b   # requested
        network shop: remove net-1   # unused
    ",
    );
}

#[test]
fn stop_stops_dependents_first_and_keeps_everything() {
    let mut wanted = nothing();
    wanted.mode = Mode::StopOnly;
    let old = desired([service("api").needs("db"), service("db").volume("data", "/data")]);
    check(
        &wanted,
        &agreeing(&old),
        "
        stop api [state]
        stop db [state]
        --
        api: stop shop-api   # requested
        db: stop shop-db   # requested
    ",
    );
}

#[test]
fn start_starts_what_exists_and_misses_what_does_not() {
    let mut wanted = desired([service("api").needs("db"), service("db"), service("new").needs("db")]);
    let mut observed = agreeing(&desired([service("api").needs("db"), service("db")]));
    for container in observed.containers.values_mut() {
        container.state = State::Exited { code: Some(0) };
    }
    wanted.mode = Mode::StartOnly;
    check(
        &wanted,
        &observed,
        "
        start db [state]
        start api [state]
        FAILS new: NoContainer: no container; run `drillmaster up`
        --
        db: start shop-db   # exited with code 0
        api: start shop-api   # exited with code 0
    ",
    );
}

#[test]
fn a_foreign_container_with_our_name_is_a_conflict() {
    let wanted = desired([service("api").needs("db"), service("db"), service("other")]);
    let mut observed = empty(&wanted);
    add(&mut observed, foreign("shop-db"));
    check(&wanted, &observed, "
        create api [container]
        create other [container]
        FAILS db: Conflict: container shop-db exists and is not managed by drillmaster; rename or remove it (docker rename shop-db …)
        --
        network shop: create   # missing
        other: create shop-other.new   # no container
        other: start shop-other.new   # no container
        other: rename shop-other.new to shop-other   # candidate is ready
    ");
}

#[test]
fn name_conflict_is_ignored_until_replacement_needed() {
    let old = desired([service("api").needs_that("db", Condition::Ready, true), service("db")]);
    let mut observed = agreeing(&old);
    add(&mut observed, foreign("shop-api.new"));
    by_name(&mut observed, "shop-db").state = State::Exited { code: Some(137) };
    check(
        &old,
        &observed,
        "
        start db [state]
        restart api [dependencies.db]
        --
        api: stop shop-api   # dependency db restarted (`restart: true`)
        db: start shop-db   # exited with code 137
        api: start shop-api   # exited
    ",
    );
    let new = desired([service("api").needs_that("db", Condition::Ready, true).port("8080:80"), service("db")]);
    let mut observed = agreeing(&old);
    add(&mut observed, foreign("shop-api.new"));
    check(&new, &observed, "
        replace api [ports]
        FAILS api: Conflict: container shop-api.new exists and is not managed by drillmaster; rename or remove it (docker rename shop-api.new …)
        --
    ");
}

#[test]
fn failed_pull_does_not_stop_dependents() {
    let built = |image: &str| {
        desired([service("api").needs_that("db", Condition::Ready, true), service("db").image(image).pull(Pull::Never)])
    };
    let old = built("db:1");
    check(
        &built("db:2"),
        &agreeing(&old),
        "
        replace db [image]
        FAILS db: ImageMissing: image db:2 is not present locally, and `pull: never` is set
        --
    ",
    );
}

#[test]
fn an_image_is_pulled_before_anybody_rests_for_it() {
    let built =
        |image: &str| desired([service("api").needs_that("db", Condition::Ready, true), service("db").image(image)]);
    let old = built("db:1");
    check(
        &built("db:2"),
        &agreeing(&old),
        "
        replace db [image]
        restart api [dependencies.db]
        --
        image db:2: pull   # image not present locally
        api: stop shop-api   # dependency db restarted (`restart: true`)
        db: create shop-db.new   # image changed
        db: start shop-db.new   # image changed
        db: stop shop-db   # replacement is ready
        db: remove shop-db   # replacement is ready
        db: rename shop-db.new to shop-db   # candidate is ready
        api: start shop-api   # exited
    ",
    );
}

#[test]
fn the_same_group_from_another_directory_is_a_conflict() {
    let wanted = desired([service("api")]);
    let mut observed = agreeing(&wanted);
    identity_of(&mut observed, "shop-api").source = "/home/bob/shop/specs".into();
    check(&wanted, &observed, "
        FAILS api: Conflict: group shop belongs to /home/bob/shop/specs, which has containers on this engine; use another --group, or run `drillmaster down` there
        --
    ");
}

#[test]
fn a_port_of_a_foreign_container_is_a_conflict() {
    let wanted = desired([service("api").port("8080:80")]);
    let mut observed = empty(&wanted);
    let mut other = foreign("other");
    other.ports = by_name(&mut agreeing(&wanted), "shop-api").ports.clone();
    add(&mut observed, other);
    let memory = drillmaster::plan::Memory::default();
    let mut at_start = agreeing(&wanted);
    let api = by_name(&mut at_start, "shop-api");
    api.state = State::Created;
    api.ports.clear();
    add(&mut at_start, observed.containers["foreign-other"].clone());
    let plan = drillmaster::plan::plan(&wanted, &at_start, &memory, Duration::ZERO);
    assert!(plan.steps.is_empty(), "{:?}", plan.steps);
    assert!(plan.failures[0].message.contains("host port 8080 is in use by container other"));
}

#[test]
fn two_services_swap_their_ports() {
    let old = desired([service("a").port("8001:80"), service("b").port("8002:80")]);
    let new = desired([service("a").port("8002:80"), service("b").port("8001:80")]);
    check(
        &new,
        &agreeing(&old),
        "
        replace a [ports]
        replace b [ports]
        --
        a: create shop-a.new   # ports changed
        b: create shop-b.new   # ports changed
        b: stop shop-b   # a needs its port 8002
        a: stop shop-a   # b needs its port 8001
        a: start shop-a.new   # ports changed
        b: start shop-b.new   # ports changed
        a: remove shop-a   # replacement is ready
        b: remove shop-b   # replacement is ready
        a: rename shop-a.new to shop-a   # candidate is ready
        b: rename shop-b.new to shop-b   # candidate is ready
    ",
    );
}

#[test]
fn a_port_moves_to_a_service_that_the_other_needs() {
    let old = desired([service("a").port("8001:80").needs("b"), service("b")]);
    let new = desired([service("a").needs("b"), service("b").port("8001:80")]);
    check(
        &new,
        &agreeing(&old),
        "
        replace b [ports]
        replace a [ports]
        --
        b: create shop-b.new   # ports changed
        a: stop shop-a   # b needs its port 8001
        b: start shop-b.new   # ports changed
        b: stop shop-b   # replacement is ready
        b: remove shop-b   # replacement is ready
        b: rename shop-b.new to shop-b   # candidate is ready
        a: create shop-a.new   # ports changed
        a: start shop-a.new   # ports changed
        a: remove shop-a   # replacement is ready
        a: rename shop-a.new to shop-a   # candidate is ready
    ",
    );
}

#[test]
fn a_port_of_a_service_that_no_spec_names_is_taken_over() {
    let old = desired([service("old").port("8001:80")]);
    let new = desired([service("new").port("8001:80")]);
    let mut observed = agreeing(&old);
    add_image(&mut observed, "new:1", ImageFacts::default());
    check(
        &new,
        &observed,
        "
        create new [container]
        remove old []
        --
        new: create shop-new.new   # no container
        old: stop shop-old   # orphan: not in the specs
        new: start shop-new.new   # no container
        old: remove shop-old   # orphan: not in the specs
        new: rename shop-new.new to shop-new   # candidate is ready
    ",
    );
}

#[test]
fn dependent_with_restart_follows_replaced_dependency() {
    let build = |word| {
        desired([
            service("db").command(&[word]),
            service("api").needs_that("db", Condition::Ready, true),
            service("web").needs("db"),
        ])
    };
    check(
        &build("two"),
        &agreeing(&build("one")),
        "
        replace db [command]
        restart api [dependencies.db]
        --
        api: stop shop-api   # dependency db restarted (`restart: true`)
        db: create shop-db.new   # command changed
        db: start shop-db.new   # command changed
        db: stop shop-db   # replacement is ready
        db: remove shop-db   # replacement is ready
        db: rename shop-db.new to shop-db   # candidate is ready
        api: start shop-api   # exited
    ",
    );
}

#[test]
fn a_network_that_is_not_the_groups_any_longer_goes() {
    let old = desired([service("api")]);
    let mut new = desired([]);
    new.network = "other".into();
    let mut api = service("api").done();
    api.config.network = "other".into();
    api.fingerprint =
        drillmaster::desired::fingerprint::Fingerprint::of(api.kind, &api.config, &api.env, &api.dependencies);
    new.services.insert("api".into(), api);
    check(
        &new,
        &agreeing(&old),
        "
        replace api [network]
        remove shop []
        --
        network other: create   # missing
        api: create shop-api.new   # network changed
        api: start shop-api.new   # network changed
        api: stop shop-api   # replacement is ready
        api: remove shop-api   # replacement is ready
        api: rename shop-api.new to shop-api   # candidate is ready
        network shop: remove net-1   # unused
    ",
    );
}

#[test]
fn of_two_networks_of_our_name_the_one_in_use_stays() {
    let wanted = desired([service("a"), service("b")]);
    let mut observed = agreeing(&wanted);
    observed.networks.insert("net-0".into(), network("net-0", GROUP, true));
    by_name(&mut observed, "shop-b").networks.clear();
    check(
        &wanted,
        &observed,
        "
        update b [network]
        remove shop []
        --
        b: connect shop-b to net-1   # not attached to network shop
        network shop: remove net-0   # unused
    ",
    );
}

#[test]
fn containers_on_two_networks_of_our_name_come_together() {
    let wanted = desired([service("a"), service("b"), service("c")]);
    let mut observed = agreeing(&wanted);
    observed.networks.insert("net-0".into(), network("net-0", GROUP, true));
    by_name(&mut observed, "shop-b").networks[0].network_id = "net-0".into();
    check(
        &wanted,
        &observed,
        "
        update b [network]
        remove shop []
        --
        b: disconnect shop-b from net-0   # not attached to network shop
        b: connect shop-b to net-1   # not attached to network shop
        network shop: remove net-0   # unused
    ",
    );
}

#[test]
fn a_network_that_is_not_ours_is_used_and_never_removed() {
    let wanted = desired([service("api")]);
    let mut observed = empty(&wanted);
    observed.networks.insert("theirs".into(), network("theirs", GROUP, false));
    check(
        &wanted,
        &observed,
        "
        create api [container]
        --
        api: create shop-api.new   # no container
        api: start shop-api.new   # no container
        api: rename shop-api.new to shop-api   # candidate is ready
    ",
    );
    let mut observed = agreeing(&wanted);
    observed.networks.clear();
    observed.networks.insert("net-1".into(), network("net-1", GROUP, false));
    check(
        &nothing(),
        &observed,
        "
        remove api []
        --
        api: stop shop-api   # requested
        api: remove shop-api   # requested
    ",
    );
}

#[test]
fn other_hash_version_is_compared_by_applied_spec() {
    let wanted = desired([service("api").command(&["serve"]).env("A", "1").port("8080:80")]);
    let mut observed = agreeing(&wanted);
    identity_of(&mut observed, "shop-api").spec_hash = "v0:abc".into();
    identity_of(&mut observed, "shop-api").env_hash = "v0:abc".into();
    inspect(&mut observed, &wanted.services["api"]);
    check(
        &wanted,
        &observed,
        "
        --
    ",
    );
    let changed = desired([service("api").command(&["serve", "more"]).env("A", "1").port("8080:80")]);
    check(
        &changed,
        &observed,
        "
        replace api [command]
        --
        api: create shop-api.new   # command changed
        api: stop shop-api   # replacement needs its ports or volumes
        api: start shop-api.new   # command changed
        api: remove shop-api   # replacement is ready
        api: rename shop-api.new to shop-api   # candidate is ready
    ",
    );
}

#[test]
fn services_out_of_scope_are_not_touched() {
    let old = desired([service("api").needs("db").command(&["one"]), service("db"), service("gone")]);
    let mut new = desired([service("api").needs("db").command(&["two"]), service("db").command(&["two"])]);
    new.scope = Scope::Only(["api".to_owned()].into());
    check(
        &new,
        &agreeing(&old),
        "
        replace api [command]
        --
        api: create shop-api.new   # command changed
        api: start shop-api.new   # command changed
        api: stop shop-api   # replacement is ready
        api: remove shop-api   # replacement is ready
        api: rename shop-api.new to shop-api   # candidate is ready
    ",
    );
    new.scope = Scope::AllBut(["api".to_owned(), "db".to_owned()].into());
    check(
        &new,
        &agreeing(&old),
        "
        remove gone []
        --
        gone: stop shop-gone   # orphan: not in the specs
        gone: remove shop-gone   # orphan: not in the specs
    ",
    );
}

#[test]
fn stopped_dependency_out_of_scope_is_awaited() {
    let mut wanted = desired([service("api").needs("db"), service("db")]);
    wanted.scope = Scope::Only(["api".to_owned()].into());
    check(
        &wanted,
        &empty(&wanted),
        "
        create api [container]
        --
    ",
    );
}
