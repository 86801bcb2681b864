//! Changed specs and drift.

use std::collections::BTreeSet;
use std::time::Duration;

use drillmaster::control::event::Report;
use drillmaster::desired::Scope;
use drillmaster::plan::cause::Cause;
use drillmaster::plan::step::{Action, Reason};
use drillmaster::spec::model::RestartPolicy;
use drillmaster_sim::{Image, Latency, Script, Sim};

use crate::builders::*;
use crate::harness::*;

#[tokio::test(start_paused = true)]
async fn changed_value_replaces_only_its_container() {
    let build = |value| {
        desired([service("api").needs("db").env("LOG", value), service("db").ping(PING), service("web").needs("api")])
    };
    let sim = Harness::of(&build("info"));
    assert_agrees(&sim.up(&build("info")).await, &sim, &build("info"));
    let before = ["shop-api", "shop-db", "shop-web"].map(|name| sim.id_of(name));
    let outcome = sim.up(&build("debug")).await;
    assert_agrees(&outcome, &sim, &build("debug"));
    let after = ["shop-api", "shop-db", "shop-web"].map(|name| sim.id_of(name));
    assert_ne!(before[0], after[0]);
    assert_eq!(before[1..], after[1..]);
    let causes: Vec<_> = outcome.changes[0].causes.iter().map(Cause::path).collect();
    assert_eq!((outcome.changes.len(), causes), (1, vec!["env.LOG".into()]));
}

#[tokio::test(start_paused = true)]
async fn services_can_swap_ports() {
    let build = |a: &str, b: &str| desired([service("a").port(a), service("b").port(b).needs("a")]);
    let (old, new) = (build("8001:80", "8002:80"), build("8002:80", "8001:80"));
    let sim = Harness::of(&old);
    assert_agrees(&sim.up(&old).await, &sim, &old);
    let outcome = sim.up(&new).await;
    assert_agrees(&outcome, &sim, &new);
}

#[tokio::test(start_paused = true)]
async fn limits_are_updated_in_place() {
    let (old, new) = (desired([service("api").memory("64m")]), desired([service("api").memory("128m")]));
    let sim = Harness::of(&old);
    assert_agrees(&sim.up(&old).await, &sim, &old);
    let id = sim.id_of("shop-api");
    let outcome = sim.up(&new).await;
    assert!(outcome.is_good());
    assert_eq!(sim.id_of("shop-api"), id);
    assert_eq!(sim.count("update"), 1);
    let outcome = sim.up(&new).await;
    assert!(outcome.changes.is_empty() && outcome.is_good(), "{:?}", outcome.changes);
    assert_eq!(sim.count("update"), 1);
}

#[tokio::test(start_paused = true)]
async fn removal_is_announced_before_it_begins() {
    let (old, new) = (desired([service("api"), service("web")]), desired([service("api").image("api:2")]));
    let sim = Harness::of(&old);
    assert_agrees(&sim.up(&old).await, &sim, &old);
    // The new image is inspected, which takes longer than everything else.
    sim.add_images(&new);
    sim.set_latency(Latency { inspect: Duration::from_secs(5), ..Latency::default() });
    let (outcome, reports) = sim.up_reporting(&new).await;
    assert_agrees(&outcome, &sim, &new);
    let removes = |report: &Report| matches!(report, Report::Planned(changes) if changes.iter().any(|change| change.action == Action::Remove));
    let begins = |report: &Report| matches!(report, Report::StepStarted(step) if step.subject.name() == "web");
    let (announced, begun) = (reports.iter().position(removes), reports.iter().position(begins));
    assert!(announced.is_some() && announced < begun, "{announced:?} {begun:?}: {reports:#?}");
}

#[tokio::test(start_paused = true)]
async fn external_changes_are_corrected() {
    let wanted = desired([service("api").needs("db"), service("db").ping(PING), service("web")]);
    type ExternalChange = fn(&Sim);
    let changes: Vec<(&str, ExternalChange)> = vec![
        ("paused", |sim| sim.pause("shop-db")),
        ("renamed", |sim| assert!(sim.rename("shop-api", "precious"))),
        ("disconnected", |sim| sim.disconnect("shop-api")),
        ("killed", |sim| sim.kill("shop-db", 137)),
        ("removed", |sim| sim.remove("shop-web")),
        ("dead", |sim| sim.mark_dead("shop-web")),
        ("swapped", |sim| {
            assert!(sim.rename("shop-api", "x") && sim.rename("shop-db", "shop-api") && sim.rename("x", "shop-db"));
        }),
        ("engine restarted", Sim::restart),
        ("network removed", |sim| {
            sim.restart();
            assert!(sim.remove_network(GROUP));
        }),
        ("a second network", |sim| {
            let labels = drillmaster::identity::group_labels(GROUP, SOURCE);
            sim.create_network(GROUP, &labels);
        }),
        ("all at once", |sim| {
            sim.pause("shop-db");
            assert!(sim.rename("shop-api", "precious"));
            sim.disconnect("precious");
            sim.kill("shop-web", 1);
        }),
    ];
    for (what, change) in changes {
        let sim = Harness::of(&wanted);
        sim.set_stale(ms(70));
        assert_agrees(&sim.up(&wanted).await, &sim, &wanted);
        change(&sim);
        // While the first list is stale, the change is invisible.
        tokio::time::sleep(ms(70)).await;
        let outcome = sim.up(&wanted).await;
        assert!(!outcome.changes.is_empty(), "{what}: no change reported");
        assert!(outcome.is_good(), "{what}: {}\n{:#?}", describe(&outcome), sim.calls());
        assert_agrees(&outcome, &sim, &wanted);
    }
}

#[tokio::test(start_paused = true)]
async fn foreign_container_with_our_name_is_not_touched() {
    let wanted = desired([service("api"), service("other")]);
    let sim = Harness::of(&wanted);
    let id = sim.create_foreign("shop-api", &[]);
    let outcome = sim.up(&wanted).await;
    assert_eq!(failure(&outcome, "api").0, Reason::Conflict);
    assert_eq!(outcome.ready, BTreeSet::from(["other".into()]));
    assert_eq!(sim.id_of("shop-api"), Some(id));
    assert!(sim.calls().iter().all(|call| !call.contains("shop-api")), "{:#?}", sim.calls());
}

#[tokio::test(start_paused = true)]
async fn restart_policy_is_left_to_the_engine() {
    let wanted = desired([service("api").restart(RestartPolicy::OnFailure(3)).ping(PING)]);
    let sim = Harness::of(&wanted);
    sim.add_image(
        "api:1",
        Image::new("api").behaving(|api| {
            api.exits = Some((ms(50), 1));
            api.exec = Script::Exits(1, String::new());
        }),
    );
    let outcome = sim.up(&wanted).await;
    assert_eq!(failure(&outcome, "api").0, Reason::Exited);
    assert_eq!(sim.count("start"), 1);
    assert_eq!(sim.history().iter().filter(|line| line.starts_with("started")).count(), 4);
}

#[tokio::test(start_paused = true)]
async fn ready_timeout_limits_the_wait_for_a_health_check() {
    let wanted = desired([service("db").ready_timeout(s(20)), service("api").needs("db")]);
    let sim = Harness::of(&wanted);
    sim.add_image("db:1", Image::new("db").healthcheck(None));
    let start = tokio::time::Instant::now();
    let outcome = sim.up(&wanted).await;
    let message = "timed out after 20 s waiting for the container to become healthy";
    assert_eq!(failure(&outcome, "db"), (Reason::NotReady, message.to_owned()));
    assert!(start.elapsed() < s(25), "{:?}", start.elapsed());
    assert_eq!(sim.id_of("shop-api"), None);
}

#[tokio::test(start_paused = true)]
async fn each_difference_is_reported_once_before_its_first_step() {
    let before = desired([service("api").needs("db").env("LOG", "info"), service("db").ping(PING), service("old")]);
    let after = desired([service("api").needs("db").env("LOG", "debug"), service("db").ping(PING)]);
    let sim = Harness::of(&before);
    let expected: [(_, [&[Action]; 3]); 2] =
        [(&before, [&[Action::Create]; 3]), (&after, [&[Action::Replace], &[], &[Action::Remove]])];
    for (wanted, expected) in expected {
        let (outcome, reports) = sim.up_reporting(wanted).await;
        assert!(outcome.is_good(), "{outcome:#?}");
        assert_eq!(["api", "db", "old"].map(|service| begun(&reports, service)), expected.map(<[_]>::to_vec));
        let is_begun =
            |report: &Report| matches!(report, Report::Reconciling { change, .. } if change.subject.name() == "api");
        let is_step = |report: &Report| matches!(report, Report::StepStarted(step) if step.subject.name() == "api");
        assert!(reports.iter().position(is_begun) < reports.iter().position(is_step), "{reports:#?}");
        let removed = reports.iter().filter(|report| **report == Report::Removed("old".into())).count();
        assert_eq!(removed, usize::from(!wanted.services.contains_key("old")));
    }
}

/// Each restart by the engine is another life of the container, but the time counts from the first start.
#[tokio::test(start_paused = true)]
async fn restarts_by_the_engine_do_not_extend_the_ping_timeout() {
    let wanted = desired([service("api").restart(RestartPolicy::Always).ping(PING)]);
    let sim = Harness::of(&wanted);
    sim.add_image(
        "api:1",
        Image::new("api").behaving(|api| {
            api.exits = Some((s(2), 3));
            api.exec = Script::Exits(1, String::new());
            api.output = vec![(s(1), "cannot read the settings".to_owned())];
        }),
    );
    let start = tokio::time::Instant::now();
    let (outcome, reports) = sim.up_reporting(&wanted).await;
    assert_eq!(failure(&outcome, "api").0, Reason::NotReady);
    assert!(start.elapsed() < PING + s(5), "{:?}", start.elapsed());
    let notes: Vec<&String> =
        reports.iter().filter_map(|report| if let Report::Note(note) = report { Some(note) } else { None }).collect();
    let note = "api: exited with code 3 before becoming ready; the engine restarts it (`restart: always`)";
    assert_eq!(notes, [note], "reported once");
    let line = Report::Output {
        service: Some("api".into()),
        event: "exited".into(),
        line: "cannot read the settings".into(),
        build: None,
    };
    assert_eq!(reports.iter().filter(|report| **report == line).count(), 1, "{reports:#?}");
}

#[tokio::test(start_paused = true)]
async fn services_out_of_scope_stay_unchanged() {
    let build = |value| desired([service("api").env("A", value), service("db").env("A", value), service("old")]);
    let sim = Harness::of(&build("1"));
    assert_agrees(&sim.up(&build("1")).await, &sim, &build("1"));
    let before = ["shop-db", "shop-old"].map(|name| sim.id_of(name));
    let api = sim.id_of("shop-api");
    let mut wanted = build("2");
    wanted.services.remove("old");
    wanted.scope = Scope::Only(["api".to_owned()].into());
    let outcome = sim.up(&wanted).await;
    assert!(outcome.is_good(), "{}", describe(&outcome));
    assert_ne!(sim.id_of("shop-api"), api);
    assert_eq!(before, ["shop-db", "shop-old"].map(|name| sim.id_of(name)));
}
