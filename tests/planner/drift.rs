//! Correction of drift: external changes to containers and networks.

use drillmaster::observed::State;
use drillmaster::plan::cause::Cause;
use drillmaster::plan::{Memory, forecast};
use drillmaster::spec::model::RestartPolicy;

use crate::builders::*;

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
fn secret_fields_are_marked_now_and_later() {
    let spec = |word: &str, secret: bool| {
        let mut wanted = desired([service("api").command(&["serve", word])]);
        let api = wanted.services.get_mut("api").unwrap();
        api.secret = if secret { ["command".to_owned()].into() } else { [].into() };
        wanted
    };
    for (before, now) in [(true, true), (true, false), (false, true), (false, false)] {
        let observed = agreeing(&spec("old", before));
        let changes = forecast(&spec("new", now), &observed, &Memory::default()).changes;
        let [Cause::Field { path, secret, .. }] = &changes[0].causes[..] else { panic!("{changes:?}") };
        assert_eq!((path.as_str(), *secret), ("command", before || now), "{before} {now}");
        // Whether a field is secret is no difference.
        let same = forecast(&spec("old", now), &observed, &Memory::default());
        assert!(same.changes.is_empty() && same.steps.is_empty(), "{same:?}");
    }
}

#[test]
fn paused_container_is_resumed() {
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
fn stopped_container_is_started() {
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
fn externally_renamed_container_gets_its_name_back() {
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
fn renamed_and_changed_container_is_replaced() {
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
fn surplus_container_is_removed() {
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
fn externally_swapped_names_are_swapped_back() {
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
fn disconnected_container_is_connected_again() {
    let wanted = desired([service("api")]);
    let mut observed = agreeing(&wanted);
    by_name(&mut observed, "shop-api").networks.clear();
    check(
        &wanted,
        &observed,
        "
        update api [network]
        --
        api: connect shop-api to shop (net-1)   # not attached to network shop
    ",
    );
}

#[test]
fn stopped_containers_are_connected_to_a_recreated_network() {
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
        api: disconnect shop-api from shop (shop)   # not attached to network shop
        api: connect shop-api to shop (new:shop)   # not attached to network shop
        api: start shop-api   # exited with code 0
    ",
    );
}

#[test]
fn outdated_network_of_the_group_is_removed() {
    let old = desired([service("api")]);
    let mut new = desired([]);
    new.network = "other".into();
    new.networks = [("other".to_owned(), Default::default())].into();
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
fn unused_duplicate_network_is_removed() {
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
        b: connect shop-b to shop (net-1)   # not attached to network shop
        network shop: remove net-0   # unused
    ",
    );
}

#[test]
fn duplicate_networks_are_merged() {
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
        b: disconnect shop-b from shop (net-0)   # not attached to network shop
        b: connect shop-b to shop (net-1)   # not attached to network shop
        network shop: remove net-0   # unused
    ",
    );
}

#[test]
fn network_with_guests_stays() {
    let old = desired([service("a")]);
    let mut observed = agreeing(&old);
    let mut guest = by_name(&mut observed, "shop-a").clone();
    (guest.id, guest.name, guest.identity) = ("guest".into(), "debug".into(), None);
    observed.insert(guest);
    check(
        &nothing(),
        &observed,
        "
        remove a []
        --
        a: stop shop-a   # requested
        a: remove shop-a   # requested
    ",
    );
    let notes = drillmaster::plan::forecast(&nothing(), &observed, &Memory::default()).notes;
    let expected = "network shop stays: container debug, which is not in this group, is attached";
    assert_eq!(notes.into_iter().collect::<Vec<_>>(), [expected]);
}

#[test]
fn shared_network_is_removed_with_its_last_group() {
    let old = desired([service("a")]);
    let mut observed = agreeing(&old);
    for network in observed.networks.values_mut() {
        network.group = Some("other".into());
    }
    let removal = "
        remove a []
        remove shop []
        --
        a: stop shop-a   # requested
        a: remove shop-a   # requested
        network shop: remove net-1   # unused
    ";
    check(&nothing(), &observed, removal);
    // The other group exists.
    let mut other = by_name(&mut observed, "shop-a").clone();
    (other.id, other.name) = ("other".into(), "other-a".into());
    let identity = other.identity.as_mut().unwrap();
    identity.group = "other".into();
    other.networks.clear();
    observed.insert(other);
    check(
        &nothing(),
        &observed,
        "
        remove a []
        --
        a: stop shop-a   # requested
        a: remove shop-a   # requested
    ",
    );
}

#[test]
fn foreign_network_is_used_and_never_removed() {
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
