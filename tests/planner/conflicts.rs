//! Conflicts: names, groups and ports that are in use by others or exchanged between services.

use std::collections::BTreeMap;
use std::time::Duration;

use drillmaster::capabilities::{ApiVersion, EngineKind};
use drillmaster::desired::{DeclaredVolume, Desired, Need, Network};
use drillmaster::identity::Identity;
use drillmaster::observed::{ComposeService, Container, ImageFacts, Observed, State};
use drillmaster::plan::{Memory, forecast};
use drillmaster::spec::model::Condition;

use crate::builders::*;

fn identity_of<'a>(observed: &'a mut drillmaster::observed::Observed, name: &str) -> &'a mut Identity {
    by_name(observed, name).identity.as_mut().unwrap()
}

#[test]
fn foreign_container_with_our_name_is_a_conflict() {
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
fn running_containers_of_docker_compose_are_a_conflict() {
    let mut wanted = desired([service("api").needs("db"), service("db")]);
    wanted.project = Some("shop".into());
    let mut observed = empty(&wanted);
    for name in ["shop-db-1", "shop-api-1", "other-1"] {
        let project = name.split('-').next().map(str::to_owned);
        let compose = project.map(|project| ComposeService { project, ..ComposeService::default() });
        add(&mut observed, Container { compose, ..foreign(name) });
    }
    let text = plan_text(&wanted, &observed);
    let message = "Conflict: docker compose runs this project: shop-api-1, shop-db-1; `drillmaster up --adopt` removes \
                   these containers and keeps the volumes, as `docker compose -p shop down` does";
    assert_eq!(text.matches(message).count(), 2, "{text}");
    assert!(!text.contains("create shop-"), "nothing is touched: {text}");

    let mut stopped = observed.clone();
    stopped.containers.values_mut().for_each(|container| container.state = State::Exited { code: Some(0) });
    assert!(!plan_text(&wanted, &stopped).contains("Conflict"), "they hold nothing any more");
    wanted.project = None;
    assert!(!plan_text(&wanted, &observed).contains("Conflict"), "the specs may have nothing to do with it");
    wanted.volumes.insert("shop_data".to_owned(), DeclaredVolume { is_fixed: true, ..DeclaredVolume::default() });
    assert_eq!(plan_text(&wanted, &observed).matches(message).count(), 2, "they write to the volumes of the project");
}

#[test]
fn field_that_podman_ignores_fails_its_service() {
    let need = Need::Docker("ignores it; name CDI devices");
    let wanted = desired([service("api").requires("gpus", "specs/api.yaml:3:7", need)]);
    let mut observed = empty(&wanted);
    let failures = |observed: &Observed| -> Vec<String> {
        let found = forecast(&wanted, observed, &Memory::default()).failures;
        found.into_iter().map(|failure| failure.message).collect()
    };
    assert_eq!(failures(&observed), [""; 0]);
    observed.capabilities.kind = EngineKind::Podman;
    observed.capabilities.version = "5.8.6".into();
    let expected =
        "`gpus` (specs/api.yaml:3:7) needs Docker; the engine is Podman 5.8.6, which ignores it; name CDI devices";
    assert_eq!(failures(&observed), [expected]);
}

#[test]
fn field_that_the_engine_is_too_old_for_fails_its_service() {
    let annotated = service("api").requires("annotations", "specs/api.yaml:3:14", Need::Api(ApiVersion(1, 43)));
    let wanted = desired([annotated, service("web").needs("api"), service("other")]);
    let mut observed = empty(&wanted);
    observed.capabilities.version = "20.10.24".into();
    observed.capabilities.api = ApiVersion(1, 41);
    check(
        &wanted,
        &observed,
        "
        create other [container]
        create web [container]
        FAILS api: Unsupported: `annotations` (specs/api.yaml:3:14) needs API 1.43 (Docker 24.0); the engine is Docker 20.10.24 with API 1.41
        --
        network shop: create   # missing
        other: create shop-other.new   # no container
        other: start shop-other.new   # no container
        other: rename shop-other.new to shop-other   # candidate is ready
    ",
    );
    observed.capabilities.api = ApiVersion(1, 43);
    assert!(!plan_text(&wanted, &observed).contains("FAILS"));
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
fn changed_subnet_is_a_conflict_that_says_to_go_down_first() {
    let mut wanted = desired([service("api")]);
    let mut observed = agreeing(&wanted);
    observed.networks.values_mut().for_each(|network| network.subnets = vec!["10.1.0.0/24".into()]);
    wanted.networks = BTreeMap::from([(GROUP.to_owned(), Network::with_subnet("10.1.0.0/24"))]);
    check(&wanted, &observed, "--");
    wanted.networks = BTreeMap::from([(GROUP.to_owned(), Network::with_subnet("10.2.0.0/24"))]);
    let expected = "FAILS api: Conflict: the network shop has the subnet 10.1.0.0/24, the specs say 10.2.0.0/24; \
                    run `drillmaster down` first\n--";
    assert_eq!(plan_text(&wanted, &observed).trim(), expected);
    check(
        &nothing(),
        &observed,
        "
        remove api []
        remove shop []
        --
        api: stop shop-api   # requested
        api: remove shop-api   # requested
        network shop: remove net-1   # unused
    ",
    );
}

#[test]
fn same_group_from_another_directory_is_a_conflict() {
    let wanted = desired([service("api")]);
    let mut observed = agreeing(&wanted);
    identity_of(&mut observed, "shop-api").source = "/home/bob/shop/specs".into();
    check(&wanted, &observed, "
        FAILS api: Conflict: group shop belongs to /home/bob/shop/specs, which has containers on this engine; if that directory was moved here, run `drillmaster up --adopt`; otherwise use another --group, or run `drillmaster down --group shop --specs /home/bob/shop/specs` first, which keeps volumes
        --
    ");
    // What it has adopted is its own.
    let adopting = Desired { adopted: ["/home/bob/shop/specs".to_owned()].into(), ..wanted };
    check(&adopting, &observed, "--");
}

#[test]
fn port_of_a_foreign_container_is_a_conflict() {
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
fn services_can_swap_ports() {
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

/// Returns the plan of a watch in which the new container of `a` needs the port of `b`, which is replaced too.
fn plan_of_port_exchange(b: &str, obstacle: drillmaster::observed::Container) -> drillmaster::plan::step::Plan {
    let old = desired([service("a").port("8001:80"), service("b").port("8002:80")]);
    let new = desired([service("a").port("8002:80"), service("b").port(b)]);
    let mut observed = agreeing(&old);
    let mut candidate = by_name(&mut agreeing(&new), "shop-a").clone();
    candidate.id = "new-a".into();
    candidate.name = "shop-a.new".into();
    candidate.state = State::Created;
    candidate.ports.clear();
    add(&mut observed, candidate);
    add(&mut observed, obstacle);
    let memory = drillmaster::plan::Memory { watching: true, ..Default::default() };
    drillmaster::plan::plan(&new, &observed, &memory, Duration::ZERO)
}

#[test]
fn blocked_replacement_does_not_release_its_port() {
    let stops = |plan: &drillmaster::plan::step::Plan, name: &str| {
        plan.steps.iter().any(|step| step_line(step).starts_with(&format!("{name}: stop ")))
    };
    let mut other = foreign("other");
    assert!(stops(&plan_of_port_exchange("8003:80", other.clone()), "b"));
    other.ports = by_name(&mut agreeing(&desired([service("b").port("8003:80")])), "shop-b").ports.clone();
    for plan in [plan_of_port_exchange("8001:80", foreign("shop-b.new")), plan_of_port_exchange("8003:80", other)] {
        assert!(!stops(&plan, "b"), "{:?}", plan.steps);
        let failure = plan.failures.iter().find(|failure| failure.service == "a").unwrap();
        let message = "host port 8002 is in use by container shop-b, whose service b is not replaced now";
        assert_eq!(failure.message, message);
    }
}

/// The service keeps running while the port that its replacement needs is not free.
#[test]
fn service_is_not_stopped_for_a_port_that_stays_in_use() {
    let old = desired([service("a").port("8001:80").port("9000:90"), service("b").port("8002:80")]);
    let new = desired([service("a").port("8002:80").port("9000:90"), service("b").port("8003:80")]);
    let mut observed = agreeing(&old);
    add(&mut observed, foreign("shop-b.new"));
    let memory = drillmaster::plan::Memory { watching: true, ..Default::default() };
    let plan = drillmaster::plan::plan(&new, &observed, &memory, Duration::ZERO);
    assert!(plan.steps.is_empty(), "{:?}", plan.steps);
    assert_eq!(plan.failures.len(), 2, "{:?}", plan.failures);
}

/// A container that publishes other ports than its spec does not wait for those of the spec.
#[test]
fn outdated_container_is_started_with_its_own_ports() {
    let old = desired([service("a").port("8001:80"), service("b").port("8002:80")]);
    let new = desired([service("a").port("8002:80"), service("b").port("8001:80")]);
    let mut observed = agreeing(&old);
    by_name(&mut observed, "shop-a").state = State::Exited { code: Some(0) };
    add(&mut observed, foreign("shop-a.new"));
    let memory = drillmaster::plan::Memory { watching: true, ..Default::default() };
    let plan = drillmaster::plan::plan(&new, &observed, &memory, Duration::ZERO);
    let lines: Vec<String> = plan.steps.iter().map(step_line).collect();
    assert_eq!(lines, ["a: start shop-a   # exited with code 0", "b: create shop-b.new   # ports changed"]);
}

#[test]
fn port_moves_to_a_dependency() {
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
fn port_of_an_orphan_is_taken_over() {
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
