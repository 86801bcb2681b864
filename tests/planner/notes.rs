//! Notes: what may surprise.

use drillmaster::capabilities::{EngineKind, HealthChecks};
use drillmaster::observed::{Observed, State};
use drillmaster::plan::{Memory, forecast};
use drillmaster::spec::model::OnChange;

use crate::builders::*;

fn notes(wanted: &drillmaster::desired::Desired, observed: &Observed) -> Vec<String> {
    forecast(wanted, observed, &Memory::default()).notes.into_iter().collect()
}

/// Adds the container of a service of the group `other` on the network of `shop`.
fn add_other(observed: &mut Observed, service: &str, spec: &str) {
    let mut container = by_name(observed, "shop-db").clone();
    let identity = container.identity.as_mut().unwrap();
    identity.group = "other".into();
    identity.service = service.into();
    identity.spec = spec.into();
    add(observed, copy(&container, &format!("other-{service}"), &format!("other-{service}")));
}

#[test]
fn alias_of_two_groups_on_one_network_is_noted() {
    let wanted = desired([service("db"), service("api")]);
    let mut observed = agreeing(&wanted);
    add_other(&mut observed, "web", "{}");
    assert_eq!(notes(&wanted, &observed), [""; 0]);
    add_other(&mut observed, "db", "{}");
    add_other(&mut observed, "backend", r#"{"aliases": ["api"]}"#);
    let note = |name: &str, other: &str| {
        format!(
            "warning: on network shop, `{name}` is {name} of group shop and {other} of group other, and resolves to either; \
             use `{name}.shop` and `{other}.other`, or another network"
        )
    };
    assert_eq!(notes(&wanted, &observed), [note("api", "backend"), note("db", "db")]);
    // Names of stopped containers do not resolve.
    for name in ["other-db", "other-backend"] {
        by_name(&mut observed, name).state = State::Exited { code: Some(0) };
    }
    assert_eq!(notes(&wanted, &observed), [""; 0]);
}

#[test]
fn ignored_start_interval_is_noted() {
    let mut wanted = desired([service("db"), service("api")]);
    let check = r#"{"test": "true", "start_period": "10s", "start_interval": "100ms"}"#;
    wanted.services.get_mut("db").unwrap().config.healthcheck = serde_json::from_str(check).unwrap();
    let mut observed = empty(&wanted);
    assert_eq!(notes(&wanted, &observed), [""; 0]);
    observed.capabilities.health_checks = HealthChecks::WithoutStartInterval;
    let note = "warning: the engine ignores `healthcheck.start_interval` of db: it needs Docker 25.0 (API 1.44)";
    assert_eq!(notes(&wanted, &observed), [note]);
}

#[test]
fn health_check_without_a_test_is_noted_if_the_image_has_none() {
    let mut wanted = desired([service("db")]);
    wanted.services.get_mut("db").unwrap().config.healthcheck = serde_json::from_str(r#"{"interval": "1s"}"#).unwrap();
    let mut observed = empty(&wanted);
    let note = "warning: the `healthcheck` of db has no `test`, and its image has no health check";
    assert_eq!(notes(&wanted, &observed), [note]);
    observed.image_facts.values_mut().for_each(|facts| facts.healthcheck = true);
    assert_eq!(notes(&wanted, &observed), [""; 0]);
}

#[test]
fn health_check_that_never_runs_is_noted() {
    let mut wanted = desired([service("db"), service("api")]);
    wanted.services.get_mut("db").unwrap().config.healthcheck = serde_json::from_str(r#"{"test": "true"}"#).unwrap();
    let mut observed = empty(&wanted);
    assert_eq!(notes(&wanted, &observed), [""; 0]);
    observed.capabilities.health_checks = HealthChecks::Never;
    let note = "warning: the engine does not run the health check of db (Podman needs systemd for it); add a `ping` so \
                that dependents wait until it is ready";
    assert_eq!(notes(&wanted, &observed), [note]);
}

#[test]
fn ignored_limits_are_noted_and_do_not_differ() {
    let wanted = desired([service("db").memory("64m"), service("api")]);
    let mut observed = agreeing(&wanted);
    inspect(&mut observed, &wanted.services["db"]);
    by_name(&mut observed, "shop-db").details.as_mut().unwrap().resources.memory = None;
    let changes = |observed: &Observed| forecast(&wanted, observed, &Memory::default()).changes.len();
    assert_eq!((changes(&observed), notes(&wanted, &observed)), (1, Vec::new()));
    observed.capabilities.limits.memory = false;
    let note = "warning: the engine ignores the limits of db: its control groups do not support memory";
    assert_eq!((changes(&observed), notes(&wanted, &observed)), (0, vec![note.to_owned()]));
}

#[test]
fn signals_that_end_a_restart_policy_are_noted() {
    let of = |policy: &str, stop_signal: Option<&str>, kind: EngineKind, image_has_one: bool| {
        let on_change = OnChange::Signal("HUP".parse().unwrap());
        let mut wanted = desired([service("db").file("/db.conf", on_change, "a", 1)]);
        let config = &mut wanted.services.get_mut("db").unwrap().config;
        config.restart = policy.parse().unwrap();
        config.stop_signal = stop_signal.map(str::to_owned);
        let mut observed = empty(&wanted);
        observed.capabilities.kind = kind;
        observed.image_facts.values_mut().for_each(|facts| facts.stop_signal = image_has_one);
        notes(&wanted, &observed)
            .into_iter()
            .map(|note| note.split_once(", ").unwrap().1.to_owned())
            .collect::<Vec<_>>()
    };
    use EngineKind::{Docker, Podman};
    let crash = |policy: &str| format!("`restart: {policy}` does not restart it after a crash");
    let table = [
        (of("no", None, Docker, false), vec![]),
        (of("always", None, Docker, false), vec![crash("always") + "; set `stop_signal`"]),
        (of("on-failure", None, Docker, false), vec![crash("on-failure") + "; set `stop_signal`"]),
        (of("always", Some("SIGHUP"), Docker, false), vec![crash("always") + "; set `stop_signal` to another one"]),
        (of("always", Some("SIGTERM"), Docker, false), vec![]),
        (of("always", None, Docker, true), vec![]),
        (
            of("unless-stopped", Some("SIGTERM"), Docker, false),
            vec!["`restart: unless-stopped` does not start it with the engine; write `restart: always`".into()],
        ),
        (
            of("unless-stopped", None, Docker, false),
            vec![
                crash("unless-stopped") + "; set `stop_signal`",
                "`restart: unless-stopped` does not start it with the engine; write `restart: always`".into(),
            ],
        ),
        (of("always", Some("SIGTERM"), Podman, true), vec![crash("always") + "; `up --watch` does"]),
    ];
    for (index, (seen, expected)) in table.into_iter().enumerate() {
        assert_eq!(seen, expected, "row {index}");
    }
}

#[test]
fn what_podman_ignores_is_noted() {
    let mut wanted = desired([service("db")]);
    let db = wanted.services.get_mut("db").unwrap();
    db.config.domainname = Some("example.org".into());
    db.env.insert("LEVEL".into(), None);
    let options = [("com.docker.network.bridge.enable_icc", "false"), ("com.docker.network.driver.mtu", "1400")];
    let network = wanted.networks.get_mut("shop").unwrap();
    network.driver_opts = options.map(|(name, value)| (name.to_owned(), value.to_owned())).into();
    let mut observed = agreeing(&wanted);
    assert_eq!(notes(&wanted, &observed), [""; 0]);
    observed.capabilities.kind = EngineKind::Podman;
    let expected = [
        "warning: Podman does not remove variables: LEVEL of db keeps its value if its image has one",
        "warning: Podman ignores `domainname` of db",
        "warning: Podman ignores the driver option com.docker.network.bridge.enable_icc of network shop",
    ];
    assert_eq!(notes(&wanted, &observed), expected);
    // It shows none of these options.
    observed.networks.values_mut().for_each(|network| network.settings.options.clear());
    let planned = forecast(&wanted, &observed, &Memory::default());
    assert!(planned.failures.is_empty() && planned.steps.is_empty(), "{planned:#?}");
}

#[test]
fn endpoints_without_the_name_of_the_group_are_kept() {
    let wanted = desired([service("db"), service("web").start_first()]);
    let mut observed = agreeing(&wanted);
    for service in wanted.services.values() {
        inspect(&mut observed, service);
    }
    for container in observed.containers.values_mut() {
        // As earlier versions have created them.
        let service = container.identity.as_ref().unwrap().service.clone();
        let names = container.networks.iter().map(|attachment| (attachment.network_id.clone(), vec![service.clone()]));
        container.details.as_mut().unwrap().names = names.collect();
    }
    let planned = forecast(&wanted, &observed, &Memory::default());
    assert!(planned.steps.is_empty() && planned.changes.is_empty(), "{planned:#?}");
}
