//! Watch mode: valid and invalid changes of specs.

use std::sync::Arc;
use std::time::Duration;

use drillmaster::control::event::{Reading, Report, RequestKind};
use drillmaster::desired::Desired;
use drillmaster::plan::step::Reason;
use drillmaster::spec::Diagnostic;
use drillmaster_sim::{Image, Script};
use tokio::time::sleep;

use crate::builders::*;
use crate::harness::*;
use crate::watcher::*;

#[tokio::test(start_paused = true)]
async fn changed_spec_replaces_only_changed_services() {
    let build = |env: &str| {
        desired([
            service("db").ping(PING),
            service("api").needs("db").env("LOG_LEVEL", env),
            service("web").needs("api"),
        ])
    };
    let sim = Harness::of(&build("info"));
    let watcher = sim.watch_settled(&build("info")).await;
    let before = sim.ids();
    for _ in 0..50 {
        watcher.edit(&build("info"));
    }
    sleep(s(60)).await;
    assert_eq!((watcher.report_lines(), mutations(&sim)), (Vec::new(), Vec::new()), "unchanged specs have no effect");
    watcher.edit(&build("debug"));
    watcher.agrees(&build("debug")).await;
    let after = sim.ids();
    assert_eq!((&before["shop-db"], &before["shop-web"]), (&after["shop-db"], &after["shop-web"]));
    assert_ne!(before["shop-api"], after["shop-api"]);
    assert_eq!(watcher.report_lines(), ["api replace [env.LOG_LEVEL] (spec)", "api ready"]);
}

#[tokio::test(start_paused = true)]
async fn invalid_specs_change_nothing_and_are_reported_once() {
    let wanted = chain();
    let sim = Harness::of(&wanted);
    let watcher = sim.watch_settled(&wanted).await;
    let invalid = Reading::Invalid(vec![Diagnostic::new("unknown field")]);
    for _ in 0..3 {
        watcher.save(invalid.clone());
        sleep(s(5)).await;
    }
    let live = watcher.request(RequestKind::Status).await;
    assert!(matches!(&live[..], [Report::Status(live)] if live.specs.as_deref() == Some("unknown field")), "{live:?}");
    sim.docker_kill("shop-other");
    watcher.agrees(&wanted).await;
    watcher.edit(&wanted);
    sleep(s(5)).await;
    let lines = watcher.report_lines();
    assert_eq!(lines, ["specs invalid", "other start [state]", "other ready", "specs valid"]);
}

#[tokio::test(start_paused = true)]
async fn removed_spec_removes_service_after_a_delay() {
    let wanted = chain();
    let mut less = wanted.clone();
    less.services.remove("web");
    let sim = Harness::of(&wanted);
    let watcher = sim.watch_settled(&wanted).await;
    // Some editors truncate the file before writing.
    watcher.edit(&less);
    sleep(Duration::from_millis(300)).await;
    watcher.edit(&wanted);
    sleep(s(60)).await;
    assert_eq!((watcher.report_lines(), mutations(&sim)), (Vec::new(), Vec::new()));
    watcher.edit(&less);
    watcher.agrees(&less).await;
    assert_eq!(watcher.report_lines(), ["web remove []", "web removed"]);
}

#[tokio::test(start_paused = true)]
async fn empty_specs_remove_nothing_unless_allowed() {
    for may_empty in [false, true] {
        let wanted = chain();
        let sim = Harness::of(&wanted);
        let watcher = sim.watch_on(Arc::new(sim.clone()), &wanted, may_empty);
        watcher.agrees(&wanted).await;
        watcher.clear();
        watcher.edit(&nothing());
        if may_empty {
            watcher.agrees(&nothing()).await;
            continue;
        }
        sleep(s(120)).await;
        assert!(agree(&sim, &wanted));
        assert_eq!(watcher.report_lines(), ["specs empty"]);
        watcher.edit(&wanted);
        sleep(s(5)).await;
        assert_eq!(watcher.report_lines(), ["specs empty", "specs valid"]);
    }
}

#[tokio::test(start_paused = true)]
async fn group_cannot_be_renamed_during_a_watch() {
    let wanted = chain();
    let sim = Harness::of(&wanted);
    let watcher = sim.watch_settled(&wanted).await;
    watcher.edit(&Desired { group: "other".into(), ..wanted.clone() });
    sleep(s(60)).await;
    assert!(agree(&sim, &wanted));
    assert_eq!(watcher.report_lines().len(), 1, "{:?}", watcher.report_lines());
}

// Failed changes.

#[tokio::test(start_paused = true)]
async fn failed_replacement_rolls_back_until_spec_changes() {
    let build =
        |image: &str| desired([service("api").image(image).port("8080:80").ping(PING), service("web").needs("api")]);
    for starts in [true, false] {
        let sim = Harness::of(&build("api:1"));
        sim.add_image("api:3", Image::new("api:3"));
        let bad = |it: &mut drillmaster_sim::Behaviour| match starts {
            true => it.exits = Some((s(0), 1)),
            false => it.unstartable = Some("no such file".into()),
        };
        sim.add_image("api:2", Image::new("api:2").behaving(bad));
        let watcher = sim.watch_settled(&build("api:1")).await;
        let before = sim.ids();
        watcher.edit(&build("api:2"));
        watcher.until("failed", |it| it.has(|report| matches!(report, Report::Failed(_)))).await;
        watcher.agrees(&build("api:1")).await;
        assert_eq!(sim.ids(), before, "same container");
        sleep(s(3600)).await;
        assert_eq!(sim.count("create"), 1, "{:?}", mutations(&sim));
        // The current container is still supervised.
        watcher.clear();
        sim.kill("shop-api", 1);
        watcher.agrees(&build("api:1")).await;
        assert_eq!(watcher.report_lines(), ["api Exited 1 next 1 s", "api start [state]", "api rolled back"]);
        assert_eq!(sim.ids(), before);
        assert_eq!(sim.count("create"), 0);
        watcher.edit(&build("api:3"));
        watcher.agrees(&build("api:3")).await;
    }
}

#[tokio::test(start_paused = true)]
async fn service_that_never_becomes_ready_is_reported_once() {
    let wanted = desired([service("db").ping(PING), service("api").needs("db")]);
    let sim = Harness::of(&wanted);
    sim.add_image("db:1", Image::new("db:1").behaving(|it| it.exec = Script::SucceedsAfter(s(600))));
    let watcher = sim.watch(&wanted);
    sleep(s(300)).await;
    let failed: Vec<String> =
        watcher.report_lines().into_iter().filter(|line| line.starts_with("db NotReady")).collect();
    assert_eq!(failed.len(), 1, "{:?}", watcher.report_lines());
    assert!(watcher.has(|report| matches!(report, Report::Settled(_))), "settled despite the failure");
    watcher.agrees(&wanted).await;
    assert_eq!(sim.count("start"), 2, "not restarted: {:?}", mutations(&sim));
}

#[tokio::test(start_paused = true)]
async fn conflict_is_resolved_when_its_cause_is_removed() {
    let wanted = desired([service("api").port("8080:80"), service("db").image("late:1"), service("other")]);
    let sim = Harness::of(&desired([service("api"), service("other")]));
    let squatter = sim.create_foreign("squatter", &[8080]);
    sim.create_foreign("shop-other", &[]);
    let watcher = sim.watch(&wanted);
    watcher.until("settled", |it| it.has(|report| matches!(report, Report::Settled(_)))).await;
    let mut failed: Vec<(String, Reason)> = watcher
        .reports
        .lock()
        .unwrap()
        .iter()
        .filter_map(|report| match report {
            Report::Failed(failed) => Some((failed.failure.service.to_string(), failed.failure.reason)),
            _ => None,
        })
        .collect();
    failed.sort_by(|a, b| a.0.cmp(&b.0));
    let expected = [("api", Reason::Conflict), ("db", Reason::ImageMissing), ("other", Reason::Conflict)];
    assert_eq!(failed, expected.map(|(name, reason)| (name.to_owned(), reason)));
    sleep(s(40)).await;
    assert!(sim.id_of("squatter").is_some_and(|id| id == squatter), "foreign containers are not removed");
    sim.remove("squatter");
    sim.remove("shop-other");
    sim.add_image("late:1", Image::new("late:1"));
    watcher.agrees(&wanted).await;
}
