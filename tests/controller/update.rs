//! Replacement strategies and replicas: plans as text, and runs on the simulated engine in paused time. The end-to-end
//! tests check that clients on a real network get no errors.

use std::sync::{Arc, Mutex};
use std::time::Duration;

use drillmaster::desired::{Desired, HookPoint, Mode, Rerun, Scope};
use drillmaster::observed::{Container, Observed, State};
use drillmaster::plan::step::Reason;
use drillmaster::spec::model::Condition;
use drillmaster_sim::faulty::Stop;
use drillmaster_sim::{Image, Script, Sim};

use crate::builders::*;
use crate::harness::*;

/// `api` with this number of replicas, and a dependent `web`.
fn scaled(number: Option<u32>, image: &str) -> Desired {
    let api = service("api").image(image);
    let api = if let Some(number) = number { api.replicas(number) } else { api };
    desired([api, service("web").needs("api")])
}

fn with_image(mut observed: Observed, image: &str) -> Observed {
    add_image(&mut observed, image, drillmaster::observed::ImageFacts::default());
    observed
}

#[test]
fn replicas_start_in_parallel_and_dependents_wait() {
    let wanted = scaled(Some(2), "api:1");
    check(
        &wanted,
        &empty(&wanted),
        "
        create api-1 [container]
        create api-2 [container]
        create web [container]
        --
        network shop: create   # missing
        api-1: create shop-api-1.new   # no container
        api-2: create shop-api-2.new   # no container
        api-1: start shop-api-1.new   # no container
        api-2: start shop-api-2.new   # no container
        api-1: rename shop-api-1.new to shop-api-1   # candidate is ready
        api-2: rename shop-api-2.new to shop-api-2   # candidate is ready
        web: create shop-web.new   # no container
        web: start shop-web.new   # no container
        web: rename shop-web.new to shop-web   # candidate is ready
    ",
    );
}

#[test]
fn scaling_touches_only_the_difference() {
    let observed = agreeing(&scaled(Some(2), "api:1"));
    check(&scaled(Some(2), "api:1"), &observed, "--");
    check(
        &scaled(Some(3), "api:1"),
        &observed,
        "
        create api-3 [container]
        --
        api-3: create shop-api-3.new   # no container
        api-3: start shop-api-3.new   # no container
        api-3: rename shop-api-3.new to shop-api-3   # candidate is ready
    ",
    );
    check(
        &scaled(Some(1), "api:1"),
        &observed,
        "
        remove api-2 [replicas]
        --
        api-2: stop shop-api-2   # scaled down
        api-2: remove shop-api-2   # scaled down
    ",
    );
}

#[test]
fn enabling_replicas_renames_the_container() {
    check(
        &scaled(Some(2), "api:1"),
        &agreeing(&scaled(None, "api:1")),
        "
        update api-1 [name]
        create api-2 [container]
        --
        api-1: rename shop-api to shop-api-1   # renamed externally to shop-api
        api-2: create shop-api-2.new   # no container
        api-2: start shop-api-2.new   # no container
        api-2: rename shop-api-2.new to shop-api-2   # candidate is ready
    ",
    );
    check(
        &scaled(None, "api:1"),
        &agreeing(&scaled(Some(2), "api:1")),
        "
        update api [name]
        remove api-2 [replicas]
        --
        api: rename shop-api-1 to shop-api   # renamed externally to shop-api-1
        api-2: stop shop-api-2   # scaled down
        api-2: remove shop-api-2   # scaled down
    ",
    );
}

#[test]
fn service_scaled_to_zero_does_not_block_dependents() {
    let observed = agreeing(&scaled(Some(1), "api:1"));
    let none = scaled(Some(0), "api:1");
    check(
        &none,
        &observed,
        "
        remove api-1 [replicas]
        --
        api-1: stop shop-api-1   # scaled down
        api-1: remove shop-api-1   # scaled down
    ",
    );
    check(
        &none,
        &with_image(empty(&none), "api:1"),
        "
        create web [container]
        --
        network shop: create   # missing
        web: create shop-web.new   # no container
        web: start shop-web.new   # no container
        web: rename shop-web.new to shop-web   # candidate is ready
    ",
    );
}

#[test]
fn service_can_take_the_name_of_a_former_replica() {
    let observed = agreeing(&desired([service("api").image("x:1").replicas(1)]));
    let wanted = desired([service("api-1").image("x:1")]);
    check(
        &wanted,
        &observed,
        "
        replace api-1 [name]
        --
        api-1: create shop-api-1.new   # name changed
        api-1: start shop-api-1.new   # name changed
        api-1: stop shop-api-1   # replacement is ready
        api-1: remove shop-api-1   # replacement is ready
        api-1: rename shop-api-1.new to shop-api-1   # candidate is ready
    ",
    );
}

#[test]
fn replicas_are_replaced_one_at_a_time() {
    let observed = with_image(agreeing(&scaled(Some(2), "api:1")), "api:2");
    check(
        &scaled(Some(2), "api:2"),
        &observed,
        "
        replace api-1 [image]
        replace api-2 [image]
        --
        api-1: create shop-api-1.new   # image changed
        api-1: start shop-api-1.new   # image changed
        api-1: stop shop-api-1   # replacement is ready
        api-1: remove shop-api-1   # replacement is ready
        api-1: rename shop-api-1.new to shop-api-1   # candidate is ready
        api-2: create shop-api-2.new   # image changed
        api-2: start shop-api-2.new   # image changed
        api-2: stop shop-api-2   # replacement is ready
        api-2: remove shop-api-2   # replacement is ready
        api-2: rename shop-api-2.new to shop-api-2   # candidate is ready
    ",
    );
    // A stopped replica does not serve requests, so it is replaced first.
    let mut broken = observed;
    by_name(&mut broken, "shop-api-2").state = State::Exited { code: Some(1) };
    let plan = plan_text(&scaled(Some(2), "api:2"), &broken);
    let at = |step: &str| plan.find(step).unwrap_or_else(|| panic!("{plan}"));
    assert!(at("rename shop-api-2.new") < at("create shop-api-1.new"), "{plan}");
}

#[test]
fn scale_out_does_not_affect_dependents() {
    let wanted = |number| {
        let api = service("api").replicas(number);
        let web = service("web").needs_that("api", Condition::Ready, true);
        let job = service("job").needs("api").job(0, Rerun::WithDependencies);
        desired([api, web, job])
    };
    let mut observed = agreeing(&wanted(1));
    by_name(&mut observed, "shop-job").state = State::Exited { code: Some(0) };
    let plan = plan_text(&wanted(2), &observed);
    assert!(!plan.contains("web") && !plan.contains("job"), "{plan}");
}

fn start_first(image: &str) -> Build {
    service("api").image(image).ping(PING).start_first()
}

#[test]
fn start_first_moves_dns_names_while_both_run() {
    let wanted = desired([start_first("api:1")]);
    check(
        &wanted,
        &empty(&wanted),
        "
        create api [container]
        --
        network shop: create   # missing
        api: create shop-api.new   # no container
        api: start shop-api.new   # no container
        api: disconnect shop-api.new from shop (new:shop)   # network alias api not set
        api: connect shop-api.new to shop (new:shop)   # not attached to network shop
        api: rename shop-api.new to shop-api   # candidate is ready
    ",
    );
    let observed = with_image(agreeing(&wanted), "api:2");
    check(&wanted, &observed, "look at Container(\"id-api\")\n--");
    check(
        &desired([start_first("api:2").hook(HookPoint::PreStop, &["bye"])]),
        &observed,
        "
        replace api [image]
        --
        api: create shop-api.new   # image changed
        api: start shop-api.new   # image changed
        api: disconnect shop-api.new from shop (net-1)   # network alias api not set
        api: connect shop-api.new to shop (net-1)   # not attached to network shop
        api: pre_stop: exec bye   # replacement is ready
        api: disconnect shop-api from shop (net-1)   # replacement is ready
        api: connect shop-api to shop without names (net-1)   # replacement is ready
        api: stop shop-api   # replacement is ready
        api: remove shop-api   # replacement is ready
        api: rename shop-api.new to shop-api   # candidate is ready
    ",
    );
    // The old container was created with its aliases, and its host name is one of them: disconnect it.
    let observed = with_image(agreeing(&desired([service("api").ping(PING)])), "api:2");
    let plan = plan_text(&desired([start_first("api:2")]), &observed);
    assert!(
        plan.contains("api: disconnect shop-api from shop (net-1)   # replacement is ready\napi: stop shop-api "),
        "{plan}"
    );
}

// Runs on the simulated engine in paused time.

/// Returns true if the container is running and the service name resolves to it.
fn has_dns_name(container: &Container, service: &str) -> bool {
    let names = container.details.as_ref().map(|details| &details.names);
    container.state == State::Running
        && container.networks.iter().any(|attached| {
            names
                .and_then(|names| names.get(&attached.network_id))
                .is_some_and(|names| names.iter().any(|n| n == service))
        })
}

/// Watches the DNS name of a service from now on. Counts the changes after which it does not resolve, and records
/// containers to which it resolves as soon as they start.
fn watch_dns_name(sim: &Sim, service: &'static str) -> Arc<Mutex<(u32, Vec<String>)>> {
    let seen = Arc::new(Mutex::new((0, Vec::new())));
    let noted = seen.clone();
    sim.on_change(move |change, observed| {
        let mut seen = noted.lock().unwrap();
        let found: Vec<&Container> = observed.containers.values().filter(|it| has_dns_name(it, service)).collect();
        seen.0 += u32::from(found.is_empty());
        let early = found.iter().any(|it| change == format!("started {}", it.name));
        seen.1.extend(early.then(|| change.to_owned()));
    });
    seen
}

#[tokio::test(start_paused = true)]
async fn service_name_always_resolves_during_replacement() {
    for number in [None, Some(3)] {
        let wanted = |image: &str| {
            let api = start_first(image).hook(HookPoint::PostStart, &["fill"]);
            desired([if let Some(number) = number { api.replicas(number) } else { api }])
        };
        let sim = Harness::with_images(&["api:1", "api:2"]);
        sim.add_image(
            "api:2",
            Image::new("api:2").behaving(|it| it.exec = Script::SucceedsAfter(Duration::from_secs(3))),
        );
        assert!(sim.up(&wanted("api:1")).await.is_good());
        let seen = watch_dns_name(&sim, "api");
        let outcome = sim.up(&wanted("api:2")).await;
        assert!(outcome.is_good(), "{outcome:#?}");
        assert_eq!(*seen.lock().unwrap(), (0, Vec::new()), "{:#?}", sim.history());
        let reload = sim.reload(&wanted("api:2"), &["api"]).await;
        assert!(reload.is_good(), "{reload:#?}");
        assert_eq!(*seen.lock().unwrap(), (0, Vec::new()), "{:#?}", sim.history());
        // The next `up` changes nothing.
        sim.clear_calls();
        assert!(sim.up(&wanted("api:2")).await.is_good());
        let calls = sim.calls();
        assert!(calls.iter().all(|call| !call.starts_with("connect") && !call.starts_with("create")), "{calls:?}");
    }
}

#[tokio::test(start_paused = true)]
async fn service_name_resolves_after_a_kill_at_any_call() {
    let wanted =
        |image: &str| desired([start_first(image).min_ready("1s"), service("web").image("web:1").needs("api")]);
    let prepared = async || {
        let sim = Harness::with_images(&["api:1", "api:2", "web:1"]);
        assert!(sim.up(&wanted("api:1")).await.is_good());
        sim.clear_calls();
        sim
    };
    let calls = {
        let sim = prepared().await;
        sim.up(&wanted("api:2")).await;
        sim.calls().len() as u64
    };
    for at in 1..=calls {
        for executed in [false, true] {
            let sim = prepared().await;
            let seen = watch_dns_name(&sim, "api");
            let second = wanted("api:2");
            sim.up_killed(Stop { at, executed }, &second).await;
            let outcome = sim.up(&second).await;
            assert!(outcome.is_good(), "killed at call {at}: {outcome:#?}");
            assert_eq!(*seen.lock().unwrap(), (0, Vec::new()), "killed at call {at}: {:#?}", sim.history());
            let snapshot = sim.snapshot();
            let there: Vec<&str> = snapshot.of_group(GROUP).map(|it| it.name.as_str()).collect();
            assert_eq!(there.len(), 2, "killed at call {at}: {there:?}");
            assert!(snapshot.containers.values().any(|it| it.name == "shop-api" && it.image == "api:2"));
        }
    }
}

#[tokio::test(start_paused = true)]
async fn replacement_must_stay_ready_for_min_ready() {
    let wanted = |image: &str| desired([service("api").image(image).ping(PING).min_ready("5s")]);
    let sim = Harness::with_images(&["api:1", "api:2", "api:3", "api:4"]);
    let after = Duration::from_secs(2);
    sim.add_image("api:3", Image::new("api:3").behaving(|it| it.exec = Script::SucceedsUntil(after)));
    sim.add_image("api:4", Image::new("api:4").behaving(|it| it.exits = Some((after, 3))));
    let begun = tokio::time::Instant::now();
    assert!(sim.up(&wanted("api:1")).await.is_good());
    assert!(begun.elapsed() < Duration::from_secs(5), "no delay for the first container");
    let begun = tokio::time::Instant::now();
    assert!(sim.up(&wanted("api:2")).await.is_good());
    assert!(begun.elapsed() >= Duration::from_secs(5) && begun.elapsed() < Duration::from_secs(8));

    let second = sim.id_of("shop-api");
    let outcome = sim.up(&wanted("api:3")).await;
    let failure = &outcome.failed["api"].failure;
    assert_eq!(failure.reason, Reason::NotReady);
    assert!(failure.message.starts_with("did not stay ready for min_ready (5 s): liveness probe failed 3 times"));
    assert_eq!((sim.id_of("shop-api"), sim.id_of("shop-api.new")), (second.clone(), None));

    let outcome = sim.up(&wanted("api:4")).await;
    assert_eq!(outcome.failed["api"].failure.message, "exited with code 3 before becoming ready");
    assert_eq!((sim.id_of("shop-api"), sim.id_of("shop-api.new")), (second, None));
}

#[tokio::test(start_paused = true)]
async fn failed_replacement_can_be_kept() {
    for first in [false, true] {
        let wanted = |image: &str| {
            let api = service("api").image(image).ping(Duration::from_secs(3)).keep();
            desired([if first { api.start_first() } else { api }])
        };
        let sim = Harness::with_images(&["api:1", "api:2", "api:3"]);
        sim.add_image("api:2", Image::new("api:2").behaving(|it| it.exec = Script::Hangs));
        assert!(sim.up(&wanted("api:1")).await.is_good());
        let before = sim.id_of("shop-api");
        let outcome = sim.up(&wanted("api:2")).await;
        assert_eq!(outcome.failed["api"].failure.reason, Reason::NotReady);
        assert_eq!(sim.id_of("shop-api"), before, "the current container keeps running");
        let snapshot = sim.snapshot();
        let kept =
            snapshot.containers.values().find(|it| it.name == "shop-api.new").expect("the failed container is kept");
        assert!(matches!(kept.state, State::Exited { .. }), "{:?}", kept.state);
        assert!(snapshot.containers.values().any(|it| it.name == "shop-api" && has_dns_name(it, "api")));
        // Another spec discards the kept container, the previous spec too.
        assert!(sim.up(&wanted("api:3")).await.is_good());
        assert_eq!((sim.id_of("shop-api.new"), sim.snapshot().of_group(GROUP).count()), (None, 1));
        sim.up(&wanted("api:2")).await;
        assert!(sim.up(&wanted("api:3")).await.is_good());
        assert_eq!(sim.id_of("shop-api.new"), None);
    }
}

#[tokio::test(start_paused = true)]
async fn failed_replica_stops_the_rollout() {
    let wanted = |image: &str| {
        let api = service("api").image(image).ping(Duration::from_secs(3)).start_first().replicas(3);
        desired([api, service("web").image("web:1").needs("api")])
    };
    let sim = Harness::with_images(&["api:1", "api:2", "api:3", "web:1"]);
    sim.add_image("api:2", Image::new("api:2").behaving(|it| it.exec = Script::Hangs));
    assert!(sim.up(&wanted("api:1")).await.is_good());
    let before: Vec<_> = (1..=3).map(|n| sim.id_of(&format!("shop-api-{n}"))).collect();
    let outcome = sim.up(&wanted("api:2")).await;
    assert_eq!(outcome.failed.keys().collect::<Vec<_>>(), ["api-1"]);
    let waits: Vec<String> = outcome.waits.iter().map(|wait| format!("{}: {}", wait.service, wait.reason)).collect();
    let why = "waiting for api-1, which failed with this spec";
    assert_eq!(waits, [format!("api-2: {why}"), format!("api-3: {why}")]);
    let after: Vec<_> = (1..=3).map(|n| sim.id_of(&format!("shop-api-{n}"))).collect();
    assert_eq!(before, after, "no replica changed");
    assert_eq!(sim.snapshot().of_group(GROUP).filter(|it| has_dns_name(it, "api")).count(), 3);
    assert!(sim.up(&wanted("api:3")).await.is_good());
    assert_eq!(sim.snapshot().of_group(GROUP).filter(|it| it.image == "api:3").count(), 3);
}

#[tokio::test(start_paused = true)]
async fn selection_includes_all_replicas() {
    let wanted = |number| desired([service("api").replicas(number), service("web")]);
    let sim = Harness::with_images(&["api:1", "web:1"]);
    assert!(sim.up(&wanted(3)).await.is_good());
    let only = |name: &str| Scope::Only([name.to_owned()].into());
    let fewer = Desired { scope: only("api"), ..wanted(1) };
    assert!(sim.up(&fewer).await.is_good());
    assert_eq!(sim.snapshot().of_group(GROUP).count(), 2);
    let down = wanted(1).without_services(
        Scope::AllBut(["api".to_owned()].into()),
        Mode::Reconcile { purge_volumes: false, purge_images: false },
    );
    assert!(sim.up(&down).await.is_good());
    let there: Vec<String> = sim.snapshot().of_group(GROUP).map(|it| it.name.clone()).collect();
    assert_eq!(there, ["shop-api-1"]);
}
