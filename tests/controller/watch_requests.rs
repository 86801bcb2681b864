//! Watch mode: health checks and requests of other processes.

use std::collections::BTreeSet;

use drillmaster::control::event::{Report, RequestKind};
use drillmaster::desired::Desired;
use drillmaster::observed::Health;
use drillmaster::plan::step::Action;
use drillmaster::spec::model::{Condition, HealthAction};
use drillmaster_sim::{Image, Script};
use tokio::time::{sleep, timeout};

use crate::builders::*;
use crate::harness::*;
use crate::watcher::*;

/// Sets the health settings of a service, which are not part of its fingerprint.
fn with_health(mut wanted: Desired, name: &str, action: HealthAction) -> Desired {
    wanted.services.get_mut(name).unwrap().health =
        Some(drillmaster::spec::model::Health { interval: Some("10s".parse().unwrap()), retries: Some(3), action });
    wanted
}

#[tokio::test(start_paused = true)]
async fn unhealthy_service_is_restarted_replaced_or_reported() {
    for then in [HealthAction::Restart, HealthAction::Replace, HealthAction::Ignore] {
        let wanted = with_health(desired([service("api").ping(PING), service("web").needs("api")]), "api", then);
        let sim = Harness::of(&wanted);
        sim.add_image("api:1", Image::new("api:1").behaving(|it| it.exec = Script::SucceedsUntil(s(120))));
        let watcher = sim.watch_settled(&wanted).await;
        let before = sim.ids();
        sleep(s(115)).await;
        assert_eq!(watcher.report_lines(), Vec::<String>::new(), "{then:?}");
        sleep(s(55)).await;
        watcher.agrees(&wanted).await;
        let lines = watcher.report_lines();
        match then {
            HealthAction::Restart => {
                assert_eq!(lines, ["api Unhealthy 1 next 1 s", "api restart [health]", "api ready"]);
                assert_eq!(sim.ids(), before);
                assert_eq!(mutations(&sim), ["stop shop-api", "start shop-api"]);
            }
            HealthAction::Replace => {
                assert_eq!(lines, ["api Unhealthy 1 next 1 s", "api replace [health]", "api ready"]);
                assert_ne!(sim.ids()["shop-api"], before["shop-api"]);
            }
            HealthAction::Ignore => {
                assert_eq!(lines, ["api unhealthy"]);
                assert_eq!(mutations(&sim), Vec::<String>::new());
            }
        }
        assert_eq!(sim.ids()["shop-web"], before["shop-web"]);
    }
}

#[tokio::test(start_paused = true)]
async fn engine_health_check_is_honoured() {
    for (health, expected) in [
        (None, vec!["api unhealthy", "api healthy"]),
        (Some(HealthAction::Restart), vec!["api Unhealthy 1 next 1 s", "api restart [health]", "api ready"]),
    ] {
        let wanted = desired([service("api")]);
        let wanted = match health {
            Some(then) => with_health(wanted, "api", then),
            None => wanted,
        };
        let sim = Harness::of(&wanted);
        sim.add_image("api:1", Image::new("api:1").healthcheck(Some(s(1))));
        let watcher = sim.watch_settled(&wanted).await;
        sim.set_health("shop-api", Health::Unhealthy);
        sleep(s(5)).await;
        if health.is_none() {
            sim.set_health("shop-api", Health::Healthy);
        }
        sleep(s(5)).await;
        assert_eq!(watcher.report_lines(), expected);
    }
}

// Requests of other processes.

#[tokio::test(start_paused = true)]
async fn reconcile_request_retries_failures() {
    let build = |image: &str| desired([service("api").image(image).ping(PING)]);
    let sim = Harness::of(&build("api:1"));
    sim.add_image("api:2", Image::new("api:2").behaving(|it| it.exits = Some((s(0), 1))));
    let watcher = sim.watch_settled(&build("api:1")).await;
    watcher.edit(&build("api:2"));
    watcher.until("failed", |it| it.has(|report| matches!(report, Report::Failed(_)))).await;
    watcher.agrees(&build("api:1")).await;
    let reports = watcher.request(RequestKind::Reconcile).await;
    assert!(reports.iter().any(|report| matches!(report, Report::Failed(_))), "retried");
    let Some(Report::Settled(outcome)) = reports.last() else { panic!("{reports:#?}") };
    assert!(outcome.failed.contains_key("api") && !outcome.is_good());
    watcher.edit(&build("api:1"));
    let reports = watcher.request(RequestKind::Reconcile).await;
    let Some(Report::Settled(outcome)) = reports.last() else { panic!("{reports:#?}") };
    assert!(outcome.is_good() && outcome.ready.contains("api"), "{outcome:#?}");
}

#[tokio::test(start_paused = true)]
async fn reload_replaces_and_restarts_dependents() {
    let wanted = desired([
        service("db").ping(PING),
        service("api").needs_that("db", Condition::Ready, true),
        service("web").needs("db"),
    ]);
    let sim = Harness::of(&wanted);
    let watcher = sim.watch_settled(&wanted).await;
    let before = sim.ids();
    let reports = watcher.request(RequestKind::Reload(BTreeSet::from(["db".to_owned()]).into())).await;
    let Some(Report::Settled(outcome)) = reports.last() else { panic!("{reports:#?}") };
    assert!(outcome.is_good(), "{outcome:#?}");
    let actions: Vec<_> =
        outcome.changes.iter().map(|change| (change.subject.name().to_owned(), change.action)).collect();
    assert_eq!(actions, [("api".to_owned(), Action::Restart), ("db".to_owned(), Action::Replace)]);
    let after = sim.ids();
    assert_ne!(before["shop-db"], after["shop-db"]);
    assert_eq!((&before["shop-api"], &before["shop-web"]), (&after["shop-api"], &after["shop-web"]));
    assert!(sim.history().iter().any(|line| line == "started shop-api"));
    assert!(!sim.history().iter().any(|line| line.contains("shop-web")));
    assert!(agree(&sim, &wanted));
}

#[tokio::test(start_paused = true)]
async fn blocked_replacement_keeps_old_container_supervised() {
    let old = desired([service("api")]);
    let sim = Harness::of(&old);
    let watcher = sim.watch_settled(&old).await;
    let before = sim.ids()["shop-api"].clone();
    sim.create_foreign("shop-api.new", &[]);
    let new = desired([service("api").port("8080:80")]);
    watcher.edit(&new);
    watcher.until("barred", |it| it.has(|report| matches!(report, Report::Failed(_)))).await;
    sim.docker_kill("shop-api");
    watcher.until("started again", |it| it.sim.history().iter().any(|line| line == "started shop-api")).await;
    assert_eq!(sim.ids()["shop-api"], before);
    sim.remove("shop-api.new");
    watcher.agrees(&new).await;
    assert_ne!(sim.ids()["shop-api"], before);
}

#[tokio::test(start_paused = true)]
async fn externally_restarted_container_must_become_ready_again() {
    let wanted = desired([service("api").ping(PING)]);
    let sim = Harness::of(&wanted);
    let watcher = sim.watch_settled(&wanted).await;
    let asked = sim.count("exec");
    watcher.reports.lock().unwrap().clear();
    sim.docker_restart("shop-api");
    watcher.until("ready again", |it| it.has(|report| *report == Report::Ready("api".into()))).await;
    assert!(sim.count("exec") > asked, "probed again");
    let reports = watcher.reports.lock().unwrap();
    let [Report::Note(why), Report::Ready(_)] = reports.as_slice() else { panic!("{reports:#?}") };
    assert_eq!(why, "api: container restarted externally");
}

/// A step on its replacement is under way meanwhile, and the first inspection after the restart finds it paused.
#[tokio::test(start_paused = true)]
async fn container_that_is_paused_right_after_a_restart_must_become_ready_again() {
    let wanted = desired([service("api").ping(PING)]);
    let sim = Harness::of(&wanted);
    sim.add_image("api:2", Image::new("api:2").behaving(|it| it.slow_start = s(5)));
    let watcher = sim.watch_settled(&wanted).await;
    let probes = |it: &Watcher| it.sim.calls().iter().filter(|call| *call == "exec shop-api ping").count();
    let before = probes(&watcher);
    watcher.edit(&desired([service("api").ping(PING).image("api:2")]));
    watcher.until("is starting", |it| it.sim.count("start") == 1).await;
    sim.docker_restart("shop-api");
    sim.pause("shop-api");
    watcher.reports.lock().unwrap().clear();
    watcher.edit(&wanted);
    watcher.until("ready again", |it| it.has(|report| *report == Report::Ready("api".into()))).await;
    assert_eq!(probes(&watcher), before + 1);
}

#[tokio::test(start_paused = true)]
async fn reload_replaces_a_container_renamed_just_before() {
    let wanted = desired([service("api")]);
    let sim = Harness::of(&wanted);
    let watcher = sim.watch_settled(&wanted).await;
    let before = sim.ids();
    assert!(sim.rename("shop-api", "aside"));
    watcher.request(RequestKind::Reload(BTreeSet::from(["api".to_owned()]).into())).await;
    assert!(agree(&sim, &wanted));
    assert_ne!(before["shop-api"], sim.ids()["shop-api"]);
}

#[tokio::test(start_paused = true)]
async fn down_request_ends_the_watch() {
    let wanted = chain();
    let sim = Harness::of(&wanted);
    let mut watcher = sim.watch_settled(&wanted).await;
    let reports = watcher.request(RequestKind::Shutdown { by: "drillmaster down (pid 7)".into() }).await;
    assert_eq!(reports, [Report::Stopping("requested by drillmaster down (pid 7)".into())]);
    let outcome = timeout(READ_TIMEOUT, &mut watcher.task).await.unwrap().unwrap();
    assert_eq!(outcome.ended_by.as_deref(), Some("drillmaster down (pid 7)"));
    assert!(agree(&sim, &wanted), "the watch removes nothing");
}

// The next controller.

#[tokio::test(start_paused = true)]
async fn crash_loop_backoff_survives_the_controller() {
    let wanted = desired([service("api"), service("other")]);
    let sim = Harness::of(&wanted);
    sim.add_image("api:1", Image::new("api:1").behaving(|it| it.exits = Some((s(2), 3))));
    let watcher = sim.watch(&wanted);
    sleep(s(50)).await;
    drop(watcher);
    let watcher = sim.watch(&wanted);
    watcher.until("failed", |it| it.has(|report| matches!(report, Report::Failed(_)))).await;
    let count = watcher.reports.lock().unwrap().iter().find_map(|report| match report {
        Report::Failed(failed) => Some(failed.count),
        _ => None,
    });
    assert!(count >= Some(4), "{count:?}");
}
