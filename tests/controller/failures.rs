//! Failures of containers, replacements, images and ports.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;
use std::time::Duration;

use drillmaster::control::RunOptions;
use drillmaster::control::event::{Limits, Report};
use drillmaster::observed::State;
use drillmaster::plan::step::Reason;
use drillmaster::spec::model::{Condition, RestartPolicy};
use drillmaster_sim::faulty::{Faults, Faulty};
use drillmaster_sim::{Image, Personality, Script, Sim};
use tokio::time::Instant;

use crate::builders::*;
use crate::harness::*;

#[tokio::test(start_paused = true)]
async fn exit_before_ready_fails_with_logs() {
    for after in [0, 30, 450, 3000] {
        let wanted = desired([
            service("db").ping(Duration::from_secs(300)),
            service("api").needs("db"),
            service("web").needs("api"),
            service("other"),
        ]);
        let sim = Harness::of(&wanted);
        sim.add_image(
            "db:1",
            Image::new("db").behaving(|db| {
                db.exec = Script::Exits(1, String::new());
                db.exits = Some((ms(after), 3));
                db.output = (0..15).map(|n| (ms(0), format!("line {n}"))).collect();
            }),
        );
        let began = Instant::now();
        let outcome = sim.up(&wanted).await;
        assert!(began.elapsed() < Duration::from_secs(8), "after {after}: not at once, but {:?}", began.elapsed());
        let (reason, message) = failure(&outcome, "db");
        assert_eq!(reason, Reason::Exited, "after {after}: {message}");
        assert_eq!(message, "exited with code 3 before becoming ready");
        let lines: Vec<String> = (5..15).map(|n| format!("line {n}")).collect();
        assert_eq!(outcome.failed["db"].output, lines, "after {after}");
        assert!(!outcome.is_good());
        assert_eq!(outcome.ready, BTreeSet::from(["other".into()]));
        let waits: BTreeMap<&str, &str> =
            outcome.waits.iter().map(|wait| (wait.service.as_str(), wait.reason.as_str())).collect();
        assert_eq!(waits["api"], "waiting for db, which has failed");
        assert!(waits["web"].starts_with("waiting for api"), "{waits:?}");
        assert_eq!(sim.id_of("shop-api.new"), None, "dependents are not created");
        assert!(sim.id_of("shop-db.new").is_some(), "the failed container is kept");
    }
}

#[tokio::test(start_paused = true)]
async fn dependents_of_a_failed_service_are_blocked() {
    let wanted = desired([service("db"), service("api").needs("db"), service("web").needs("api")]);
    let sim = Harness::of(&wanted);
    sim.add_image("db:1", Image::new("db").behaving(|db| db.exits = Some((ms(100), 1))));
    let (_, reports) = sim.up_reporting(&wanted).await;
    let blocked = |report: &Report| match report {
        Report::Waiting { service, reason, blocked: true } => Some(format!("{service}: {reason}")),
        _ => None,
    };
    let blocked: Vec<String> = reports.iter().filter_map(blocked).collect();
    assert_eq!(blocked, ["api: waiting for db, which has failed", "web: waiting for api, which is waiting for db"]);
}

#[tokio::test(start_paused = true)]
async fn early_exit_without_ping_fails() {
    for after in [0, 30, 300] {
        let wanted = desired([service("api")]);
        let sim = Harness::of(&wanted);
        sim.add_image("api:1", Image::new("api").behaving(|api| api.exits = Some((ms(after), 1))));
        let outcome = sim.up(&wanted).await;
        assert_eq!(failure(&outcome, "api").0, Reason::Exited, "after {after}");
        assert!(outcome.ready.is_empty());
    }
}

#[tokio::test(start_paused = true)]
async fn exit_is_noticed_despite_stale_lists() {
    for after in [0, 5, 150, 170, 200, 335, 400, 1000] {
        let wanted = desired([service("db").ping(Duration::from_secs(300)), service("other")]);
        let sim = Harness::of(&wanted);
        sim.set_stale(ms(70));
        sim.add_image(
            "db:1",
            Image::new("db").behaving(|db| {
                db.exec = Script::Exits(1, String::new());
                db.exits = Some((ms(after), 3));
            }),
        );
        let began = Instant::now();
        let outcome = sim.up(&wanted).await;
        assert_eq!(failure(&outcome, "db").0, Reason::Exited, "after {after}");
        assert!(began.elapsed() < Duration::from_secs(8), "after {after}: {:?}", began.elapsed());
    }
}

/// An engine under load: lists are stale and events are late.
fn with_late_exits(sim: &Harness) -> Arc<Faulty> {
    sim.set_stale(ms(800));
    Arc::new(Faulty::new(Arc::new(Sim::clone(sim)), Faults { dropped: 1000, ..Faults::default() }))
}

#[tokio::test(start_paused = true)]
async fn late_exit_of_a_dependency_blocks_dependents() {
    let wanted = desired([service("api"), service("web").needs("api")]);
    let sim = Harness::of(&wanted);
    sim.add_image("api:1", Image::new("api").behaving(|api| api.exits = Some((ms(200), 1))));
    let outcome = sim.up_on(with_late_exits(&sim), &wanted).await;
    assert_eq!(failure(&outcome, "api").0, Reason::Exited, "{}", describe(&outcome));
    assert!(!sim.history().iter().any(|change| change.contains("shop-web")), "{:#?}", sim.history());
}

#[tokio::test(start_paused = true)]
async fn restart_loop_by_the_engine_is_not_ready() {
    let wanted = desired([service("api").restart(RestartPolicy::Always), service("web").needs("api")]);
    let personalities = [Personality::Docker20, Personality::Docker28, Personality::Podman];
    let cases = personalities.into_iter().flat_map(|it| [0, 1000].map(|dropped| (it, dropped)));
    for ((personality, dropped), exits) in cases.flat_map(|it| [1, 30, 120, 220, 300, 400].map(|exits| (it, exits))) {
        let sim = Harness::imitating(personality);
        sim.add_images(&wanted);
        sim.add_image("api:1", Image::new("api").behaving(|api| api.exits = Some((ms(exits), 1))));
        let engine = Faulty::new(Arc::new(Sim::clone(&sim)), Faults { dropped, ..Faults::default() });
        let limits = Limits { deadline: Some(s(60)), ..LIMITS };
        let (outcome, reports) = sim.run(Arc::new(engine), &wanted, RunOptions { limits, ..sim.options() }).await;
        let what = format!("{personality:?}, {dropped} of 1000 events dropped, exits after {exits} ms");
        assert!(!outcome.is_good(), "{what}");
        assert!(!reports.contains(&Report::Ready("api".into())), "{what}: {reports:#?}");
        assert!(!sim.history().iter().any(|change| change.contains("shop-web")), "{what}: {:#?}", sim.history());
    }
}

#[tokio::test(start_paused = true)]
async fn late_exit_of_a_replacement_rolls_back() {
    let build = |image: &str| desired([service("api").image(image)]);
    let sim = Harness::of(&build("api:1"));
    sim.add_image("api:2", Image::new("new").behaving(|it| it.exits = Some((ms(200), 1))));
    assert_agrees(&sim.up(&build("api:1")).await, &sim, &build("api:1"));
    let id = sim.id_of("shop-api");
    let outcome = sim.up_on(with_late_exits(&sim), &build("api:2")).await;
    assert_eq!(failure(&outcome, "api").0, Reason::Exited, "{}", describe(&outcome));
    assert_eq!(sim.id_of("shop-api"), id, "the current container was removed");
    assert_tidy(&sim, &build("api:1"));
}

/// Failing replacements: name, image and expected reason.
fn failing_replacements() -> Vec<(&'static str, Image, Reason)> {
    let exits = |after| {
        Image::new("new").behaving(|it| {
            it.exec = Script::Exits(1, "no".into());
            it.exits = Some((ms(after), 1));
        })
    };
    vec![
        ("exits at once", exits(0), Reason::Exited),
        ("exits soon", exits(100), Reason::Exited),
        ("exits later", exits(2000), Reason::Exited),
        ("never answers", Image::new("new").behaving(|it| it.exec = Script::Exits(1, "no".into())), Reason::NotReady),
        ("its ping hangs", Image::new("new").behaving(|it| it.exec = Script::Hangs), Reason::NotReady),
        ("is never healthy", Image::new("new").healthcheck(None), Reason::NotReady),
        (
            "cannot start",
            Image::new("new").behaving(|it| it.unstartable = Some("no such file".into())),
            Reason::StartFailed,
        ),
    ]
}

#[tokio::test(start_paused = true)]
async fn failed_replacement_keeps_current_container() {
    for with_port in [false, true] {
        for (what, image, reason) in failing_replacements() {
            let build = |image: &str| {
                let api = service("api").image(image).ping(PING);
                let api = if with_port { api.port("8080:80").volume("data", "/data") } else { api };
                desired([api, service("web").needs("api"), service("other")])
            };
            let (old, new) = (build("api:1"), build("api:2"));
            let sim = Harness::of(&old);
            sim.add_image("api:2", image);
            assert_agrees(&sim.up(&old).await, &sim, &old);
            let id = sim.id_of("shop-api");
            sim.clear_calls();
            let outcome = sim.up(&new).await;
            assert_eq!(failure(&outcome, "api").0, reason, "{what}: {}", describe(&outcome));
            assert_eq!(sim.id_of("shop-api"), id, "{what}");
            assert_tidy(&sim, &old);
            let created = sim.calls().iter().filter(|call| call.starts_with("create")).count();
            assert_eq!(created, 1, "{what}: retried");
            assert!(!sim.calls().iter().any(|call| call.ends_with("by force")), "{what}");
        }
    }
}

#[tokio::test(start_paused = true)]
async fn early_exit_of_replacement_without_ping_rolls_back() {
    for with_port in [false, true] {
        for after in [0, 30, 300] {
            let build = |image: &str| {
                let api = service("api").image(image);
                desired([if with_port { api.port("8080:80") } else { api }])
            };
            let sim = Harness::of(&build("api:1"));
            sim.add_image("api:2", Image::new("new").behaving(|it| it.exits = Some((ms(after), 1))));
            assert_agrees(&sim.up(&build("api:1")).await, &sim, &build("api:1"));
            let id = sim.id_of("shop-api");
            let outcome = sim.up(&build("api:2")).await;
            assert_eq!(failure(&outcome, "api").0, Reason::Exited, "after {after}");
            assert_eq!(sim.id_of("shop-api"), id, "after {after}, port {with_port}: the current container was removed");
            assert_tidy(&sim, &build("api:1"));
        }
    }
}

#[tokio::test(start_paused = true)]
async fn dependent_restarts_after_failed_replacement() {
    let build = |image: &str| {
        desired([service("db").image(image).ping(PING), service("api").needs_that("db", Condition::Ready, true)])
    };
    let sim = Harness::of(&build("db:1"));
    sim.add_image("db:2", Image::new("new").behaving(|it| it.exits = Some((ms(0), 1))));
    assert_agrees(&sim.up(&build("db:1")).await, &sim, &build("db:1"));
    let outcome = sim.up(&build("db:2")).await;
    assert_eq!(failure(&outcome, "db").0, Reason::Exited);
    assert!(sim.history().iter().any(|line| line == "died shop-api (0)"), "it has been stopped");
    assert!(outcome.waits.is_empty(), "{:?}", outcome.waits);
    let api = sim.snapshot().containers.into_values().find(|container| container.name == "shop-api");
    assert_eq!(api.map(|api| api.state), Some(State::Running), "started again after the rollback of its dependency");
    assert_agrees(&sim.up(&build("db:1")).await, &sim, &build("db:1"));
}

#[tokio::test(start_paused = true)]
async fn failing_health_check_times_out() {
    let wanted = desired([service("db").ping(PING), service("other")]);
    let sim = Harness::of(&wanted);
    sim.add_image("db:1", Image::new("db").healthcheck(None));
    let began = Instant::now();
    let outcome = sim.up(&wanted).await;
    let (reason, message) = failure(&outcome, "db");
    assert_eq!(
        (reason, message.as_str()),
        (Reason::NotReady, "timed out after 20 s waiting for the container to become healthy")
    );
    assert!(began.elapsed() < Duration::from_secs(22));
}

#[tokio::test(start_paused = true)]
async fn healthy_event_is_never_missed() {
    // No event is lost, whatever call is in flight at that time.
    for after in 0..1500 {
        let wanted = desired([service("db"), service("other").needs("db")]);
        let sim = Harness::of(&wanted);
        sim.add_image("db:1", Image::new("db").healthcheck(Some(ms(after))));
        let user = sim.clone();
        tokio::spawn(async move {
            user.until_recorded("started shop-db.new").await;
            tokio::time::sleep(ms(300)).await;
            user.cut_events();
        });
        let began = Instant::now();
        let outcome = sim.up(&wanted).await;
        assert_agrees(&outcome, &sim, &wanted);
        assert!(began.elapsed() < Duration::from_secs(6), "after {after}: {:?}", began.elapsed());
    }
}

#[tokio::test(start_paused = true)]
async fn log_ping_waits_for_its_line() {
    let wanted = desired([service("db").ping_log("ready to accept", PING), service("api").needs("db")]);
    let sim = Harness::of(&wanted);
    sim.add_image(
        "db:1",
        Image::new("db").behaving(|db| {
            db.output = vec![(ms(10), "hello".into()), (ms(4000), "ready to accept connections".into())];
        }),
    );
    let outcome = sim.up(&wanted).await;
    assert_agrees(&outcome, &sim, &wanted);
    assert!(sim.count("logs") <= 2, "the log is followed, not polled");
}

#[tokio::test(start_paused = true)]
async fn failed_ping_is_reported_with_its_output() {
    let wanted = desired([service("db").ping(PING)]);
    let sim = Harness::of(&wanted);
    sim.add_image("db:1", Image::new("db").behaving(|db| db.exec = Script::Exits(2, "no route\n".into())));
    let outcome = sim.up(&wanted).await;
    let message = failure(&outcome, "db").1;
    assert_eq!(
        message,
        "timed out after 20 s waiting for readiness probe (exec ping) (ping exited with code 2: no route)"
    );
}

#[tokio::test(start_paused = true)]
async fn missing_image_fails_only_its_service() {
    let wanted = desired([service("bad"), service("after").needs("bad"), service("good")]);
    let sim = Harness::new();
    sim.add_image("good:1", Image::new("good"));
    sim.add_image("after:1", Image::new("after"));
    let outcome = sim.up(&wanted).await;
    let (reason, message) = failure(&outcome, "bad");
    assert_eq!(reason, Reason::ImageMissing);
    assert!(message.contains("cannot pull image bad:1: pull access denied"), "{message}");
    assert_eq!(outcome.ready, BTreeSet::from(["good".into()]));
    assert_eq!(outcome.waits[0].reason, "waiting for bad, which has failed");
}

#[tokio::test(start_paused = true)]
async fn missing_image_is_pulled_with_progress() {
    let wanted = desired([service("a").image("app:1"), service("b").image("app:1")]);
    let sim = Harness::new();
    sim.add_to_registry("app:1", Image::new("app"));
    let (outcome, reports) = sim.up_reporting(&wanted).await;
    assert_agrees(&outcome, &sim, &wanted);
    assert_eq!(sim.count("pull"), 1);
    assert!(reports.iter().any(|report| matches!(report, Report::Pulling(image, _) if image == "app:1")));
}

#[tokio::test(start_paused = true)]
async fn port_conflict_keeps_current_container() {
    let build = |port: &str| desired([service("api").port(port), service("other")]);
    let sim = Harness::of(&build("8080:80"));
    assert_agrees(&sim.up(&build("8080:80")).await, &sim, &build("8080:80"));
    let id = sim.id_of("shop-api");
    sim.create_foreign("other-app", &[9090]);
    let outcome = sim.up(&build("9090:80")).await;
    let (reason, message) = failure(&outcome, "api");
    assert_eq!(reason, Reason::Conflict, "{message}");
    assert_eq!(sim.id_of("shop-api"), id);
    assert_eq!(outcome.ready, BTreeSet::from(["other".into()]));
    assert_tidy(&sim, &build("8080:80"));
}
