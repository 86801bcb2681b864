//! `up --adopt`: what docker compose has for the project is removed first.

use drillmaster::desired::{Desired, Network};
use drillmaster::observed::{Attachment, ComposeService, Container, MountPoint, Observed, State};
use drillmaster::plan::step::Subject;
use drillmaster::plan::takeover::Takeover;
use drillmaster::plan::{Memory, check, forecast, plan};

use crate::builders::*;

/// A container of docker compose on `shop_default`.
fn of_compose(name: &str, service: &str, dependencies: &[&str]) -> Container {
    let dependencies = dependencies.iter().map(|name| (*name).to_owned()).collect();
    let attachment =
        Attachment { network_id: "old".into(), network: "shop_default".into(), address: None, prefix: None };
    Container {
        compose: Some(ComposeService { project: "shop".into(), service: service.into(), dependencies }),
        networks: vec![attachment],
        ..foreign(name)
    }
}

/// A project that docker compose runs, and the same files as specs.
fn running() -> (Desired, Observed) {
    let mut wanted = desired([service("api").needs("db"), service("db")]);
    wanted.project = Some("shop".into());
    let mut observed = empty(&wanted);
    add(&mut observed, of_compose("shop-api-1", "api", &["db"]));
    add(&mut observed, of_compose("shop-db-1", "db", &[]));
    add(&mut observed, Container { state: State::Exited { code: Some(0) }, ..of_compose("shop-seed-1", "seed", &[]) });
    let other = ComposeService { project: "other".into(), ..ComposeService::default() };
    add(&mut observed, Container { compose: Some(other), ..foreign("other-db-1") });
    let network = drillmaster::observed::Network {
        compose_project: Some("shop".into()),
        group: None,
        source: None,
        ..network("old", "shop_default", true)
    };
    observed.networks.insert("old".into(), network);
    wanted.takeover = Takeover::of_project(&wanted, &observed).ids();
    (wanted, observed)
}

#[test]
fn containers_of_docker_compose_are_removed_first_dependents_before_dependencies() {
    let (wanted, observed) = running();
    check(
        &wanted,
        &observed,
        "
        remove shop-api-1 []
        remove shop-db-1 []
        remove shop-seed-1 []
        remove shop_default []
        create db [container]
        create api [container]
        --
        container shop-api-1: stop   # of docker compose
        container shop-seed-1: remove   # of docker compose
        container shop-api-1: remove   # of docker compose
        container shop-db-1: stop   # of docker compose
        container shop-db-1: remove   # of docker compose
        network shop_default: remove old   # of docker compose
        network shop: create   # missing
        db: create shop-db.new   # no container
        db: start shop-db.new   # no container
        db: rename shop-db.new to shop-db   # candidate is ready
        api: create shop-api.new   # no container
        api: start shop-api.new   # no container
        api: rename shop-api.new to shop-api   # candidate is ready
    ",
    );
}

#[test]
fn only_what_was_confirmed_is_removed() {
    let (wanted, mut observed) = running();
    add(&mut observed, of_compose("shop-late-1", "late", &[]));
    let text = plan_text(&wanted, &observed);
    assert!(text.contains("FAILS api: Conflict: docker compose runs this project: shop-late-1;"), "{text}");
    assert!(!text.contains("stop"), "nothing is removed, because nothing could start: {text}");

    let (mut wanted, observed) = running();
    let steps = forecast(&wanted, &observed, &Memory::default()).steps;
    assert_eq!(check::violation(&steps[0], &wanted, &observed), None);
    wanted.takeover.clear();
    let violation = check::violation(&steps[0], &wanted, &observed).unwrap();
    assert_eq!(violation, "`container shop-api-1: stop` would touch a container that is not of this group");
}

#[test]
fn images_come_first() {
    let (wanted, mut observed) = running();
    observed.images.clear();
    let steps = |memory: &Memory| -> Vec<String> {
        plan(&wanted, &observed, memory, std::time::Duration::ZERO).steps.iter().map(step_line).collect()
    };
    assert_eq!(
        steps(&Memory::default()),
        ["image api:1: pull   # image not present locally", "image db:1: pull   # image not present locally"]
    );
    let mut failed = Memory::default();
    failed.images.unavailable.insert("api:1".into(), "not found".into());
    assert_eq!(steps(&failed), [""; 0]);
    let failures = plan(&wanted, &observed, &failed, std::time::Duration::ZERO).failures;
    let failures: Vec<String> = failures.iter().map(|it| format!("{}: {}", it.service, it.message)).collect();
    assert_eq!(failures.len(), 2, "{failures:?}");
    assert!(failures.iter().any(|it| it.starts_with("db: docker compose keeps running this project")), "{failures:?}");
}

#[test]
fn a_problem_that_remains_keeps_docker_compose_running() {
    let (mut wanted, observed) = running();
    let external = Network { external: true, location: "compose.yaml:9".into(), ..Network::default() };
    wanted.networks.insert("proxy".into(), external);
    let mut on_two = desired([service("api").networks(&[GROUP, "proxy"])]);
    wanted.services.append(&mut on_two.services);
    let text = plan_text(&wanted, &observed);
    assert!(text.contains("FAILS api: Conflict: ") && text.contains("proxy"), "{text}");
    assert!(!text.contains(": stop"), "{text}");
}

#[test]
fn network_with_other_containers_stays() {
    let (mut wanted, mut observed) = running();
    add(&mut observed, Container { compose: None, ..of_compose("guest", "", &[]) });
    wanted.takeover = Takeover::of_project(&wanted, &observed).ids();
    let text = plan_text(&wanted, &observed);
    assert!(text.contains("container shop-db-1: remove") && !text.contains("network shop_default: remove"), "{text}");
}

#[test]
fn container_that_cannot_be_removed_is_a_conflict() {
    let (wanted, observed) = running();
    let mut memory = Memory::default();
    memory.removal_failed.insert(Subject::Container("shop-db-1".into()));
    let plan = plan(&wanted, &observed, &memory, std::time::Duration::ZERO);
    assert!(plan.steps.is_empty(), "{:?}", plan.steps);
    assert!(
        plan.failures[0].message.starts_with("docker compose runs this project: shop-db-1;"),
        "{:?}",
        plan.failures
    );
}

#[test]
fn anonymous_volumes_are_named() {
    let (wanted, mut observed) = running();
    let mount = |volume: String, target: &str| MountPoint {
        volume: Some(volume),
        bind: None,
        target: target.to_owned(),
        writable: true,
    };
    let mounts = vec![mount("ab".repeat(32), "/var/lib/postgresql/data"), mount("shop_data".into(), "/data")];
    by_name(&mut observed, "shop-db-1").mounts = mounts;
    assert_eq!(
        notes(&wanted, &observed),
        [
            "what shop-db-1 (/var/lib/postgresql/data) has in anonymous volumes stays there, and is not mounted by its new \
          container"
        ]
    );
}
