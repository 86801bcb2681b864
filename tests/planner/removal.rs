//! Orphans, `down`, `stop` and `start`.

use drillmaster::desired::Mode;
use drillmaster::identity::Identity;
use drillmaster::observed::State;

use crate::builders::*;

fn identity_of<'a>(observed: &'a mut drillmaster::observed::Observed, name: &str) -> &'a mut Identity {
    by_name(observed, name).identity.as_mut().unwrap()
}

#[test]
fn orphans_are_removed_dependents_first() {
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
fn down_removes_dependents_first() {
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
fn down_removes_volumes_on_request() {
    let old = desired([service("a").volume("data", "/data")]);
    let mut observed = agreeing(&old);
    let volume = |name: &str, group: &str| drillmaster::observed::Volume {
        name: name.into(),
        group: Some(group.into()),
        source: Some(SOURCE.into()),
        ..Default::default()
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
fn down_removes_containers_with_cyclic_dependencies() {
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
fn start_starts_existing_and_reports_missing_containers() {
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
