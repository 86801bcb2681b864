//! Watch mode: idle behaviour and correction of crashes, drift and engine restarts.

use std::sync::Arc;
use std::time::Duration;

use drillmaster::control::event::{Report, RequestKind};
use drillmaster::desired::{HookPoint, LifecycleEvent};
use drillmaster::observed::State;
use drillmaster::plan::step::Reason;
use drillmaster::spec::model::{Condition, Resources, RestartPolicy};
use drillmaster_sim::{Image, Sim};
use tokio::time::{Instant, sleep, timeout};

use crate::builders::*;
use crate::harness::*;
use crate::watcher::*;

#[tokio::test(start_paused = true)]
async fn watch_starts_in_order_and_is_idle_afterwards() {
    let wanted = chain();
    let sim = Harness::of(&wanted);
    let watcher = sim.watch_settled(&wanted).await;
    sleep(s(3600)).await;
    assert_eq!(mutations(&sim), Vec::<String>::new());
    assert!(sim.calls().len() <= 125, "more than one list per half minute: {}", sim.calls().len());
    assert_eq!(watcher.report_lines(), Vec::<String>::new(), "no reports without a change");
}

#[tokio::test(start_paused = true)]
async fn interrupt_ends_watch_and_keeps_containers() {
    let wanted = chain();
    let sim = Harness::of(&wanted);
    let mut watcher = sim.watch_settled(&wanted).await;
    watcher.interrupts.send(()).await.unwrap();
    let outcome = timeout(READ_TIMEOUT, &mut watcher.task).await.unwrap().unwrap();
    assert!(outcome.interrupted);
    assert!(agree(&sim, &wanted));
    assert_eq!(mutations(&sim), Vec::<String>::new());
}

// Crashes and external changes.

#[tokio::test(start_paused = true)]
async fn crashed_container_restarts_with_backoff() {
    let wanted = desired([service("api"), service("other")]);
    let sim = Harness::of(&wanted);
    let watcher = sim.watch_settled(&wanted).await;
    let before = sim.ids();
    let mut pauses = Vec::new();
    for _ in 0..4 {
        let begin = Instant::now();
        sim.kill("shop-api", 1);
        watcher.agrees(&wanted).await;
        pauses.push((begin.elapsed() - s(1)).as_secs());
    }
    assert_eq!(pauses, [1, 2, 4, 8]);
    assert_eq!(sim.ids(), before, "same containers");
    assert_eq!(watcher.report_lines()[..3], ["api Exited 1 next 1 s", "api start [state]", "api ready"]);
    sleep(s(620)).await;
    watcher.clear();
    sim.kill("shop-api", 1);
    watcher.agrees(&wanted).await;
    assert_eq!(watcher.report_lines()[0], "api Exited 1 next 1 s", "backoff is reset after ten minutes");
    assert!(mutations(&sim).iter().all(|call| call == "start shop-api"), "{:?}", mutations(&sim));
}

#[tokio::test(start_paused = true)]
async fn crash_loop_is_slow_and_reset_by_a_new_spec() {
    let build = |image: &str| desired([service("api").image(image), service("web").needs("api"), service("other")]);
    let sim = Harness::of(&build("api:2"));
    sim.add_image("api:1", Image::new("api:1").behaving(|it| it.exits = Some((s(2), 3))));
    let watcher = sim.watch(&build("api:1"));
    sleep(s(3600)).await;
    let starts = sim.calls().iter().filter(|call| call.starts_with("start shop-api")).count();
    assert!((14..22).contains(&starts), "{starts} starts in an hour");
    let live = watcher.request(RequestKind::Status).await;
    let [Report::Status(live)] = live.as_slice() else { panic!("{live:?}") };
    let api = &live.services["api"];
    assert_eq!((api.last_exit, api.reason.as_deref()), (Some(3), Some("Exited")), "{api:?}");
    assert!(api.restarts >= 13 && api.next_try_ms.is_none_or(|next| next <= 300_000), "{api:?}");
    watcher.edit(&build("api:2"));
    let begin = Instant::now();
    watcher.agrees(&build("api:2")).await;
    assert!(begin.elapsed() < s(10), "{:?}", begin.elapsed());
}

#[tokio::test(start_paused = true)]
async fn hooks_for_an_exit_run_once_however_late_its_event_comes() {
    type ExternalChange = fn(&Sim);
    let changes: [(&str, ExternalChange); 3] = [
        ("killed", |sim| sim.docker_kill("shop-api")),
        ("stopped", |sim| sim.docker_stop("shop-api")),
        ("crashed", |sim| sim.kill("shop-api", 1)),
    ];
    let wanted = desired([service("api").hook(HookPoint::On(LifecycleEvent::Exited), &["told"])]);
    for ((what, change), die_delay) in changes.into_iter().flat_map(|it| [0, 25, 200].map(|delay| (it, ms(delay)))) {
        let sim = Harness::of(&wanted);
        sim.set_die_delay(die_delay);
        let watcher = sim.watch_settled(&wanted).await;
        let told =
            || sim.calls().iter().filter(|call| call.starts_with("exec shop-api") && call.ends_with("told")).count();
        for times in 1..4 {
            sleep(s(60)).await;
            change(&sim);
            watcher.agrees(&wanted).await;
            sleep(s(2)).await;
            assert_eq!(told(), times, "{what}, {die_delay:?}: {:#?}", sim.calls());
        }
    }
}

#[tokio::test(start_paused = true)]
async fn each_crash_counts_once_however_late_its_events_come() {
    let build =
        |image: &str| desired([service("api").image(image).hook(HookPoint::On(LifecycleEvent::Exited), &["told"])]);
    for (delay, exits) in
        [0, 5, 60, 400].into_iter().flat_map(|delay| [1, 30, 3000].map(|exits| (ms(delay), ms(exits))))
    {
        let sim = Harness::of(&build("api:1"));
        sim.set_latency(drillmaster_sim::Latency { start: ms(10), event: delay, ..Default::default() });
        sim.add_image("api:1", Image::new("api:1").behaving(|it| it.exits = Some((exits, 3))));
        let watcher = sim.watch(&build("api:1"));
        sleep(s(120)).await;
        let starts = sim.calls().iter().filter(|call| call.starts_with("start shop-api")).count();
        let crashes =
            watcher.count(|report| matches!(report, Report::Failed(failed) if failed.failure.reason == Reason::Exited));
        let what = format!("events after {delay:?}, exits after {exits:?}");
        assert!((5..9).contains(&starts), "{what}: {starts} starts");
        assert_eq!(crashes, starts, "{what}: {:#?}", watcher.report_lines());
    }
}

#[tokio::test(start_paused = true)]
async fn stopped_or_removed_container_is_back_immediately() {
    type ExternalChange = fn(&Sim);
    let changes: [(&str, ExternalChange); 4] = [
        ("killed", |sim| sim.docker_kill("shop-api")),
        ("stopped", |sim| sim.docker_stop("shop-api")),
        ("removed", |sim| sim.remove("shop-api")),
        ("paused", |sim| sim.pause("shop-api")),
    ];
    let wanted = chain();
    // Docker 28 reports `stop` before `die`.
    for ((what, change), die_delay) in changes.into_iter().flat_map(|it| [(it, ms(0)), (it, ms(25))]) {
        let sim = Harness::of(&wanted);
        sim.set_die_delay(die_delay);
        let watcher = sim.watch_settled(&wanted).await;
        sleep(s(60)).await;
        watcher.clear();
        let before = sim.ids();
        for _ in 0..5 {
            let begin = Instant::now();
            change(&sim);
            watcher.agrees(&wanted).await;
            let took = begin.elapsed() - s(1);
            assert!(took < Duration::from_millis(1800), "{what}: {took:?} {:#?}", sim.history());
            sleep(s(15)).await;
        }
        let after = sim.ids();
        let expected = if what == "removed" { "api create [state]" } else { "api start [state]" };
        assert_eq!(watcher.report_lines()[..2], [expected, "api ready"], "{what}");
        for name in ["shop-db", "shop-web", "shop-other"] {
            assert_eq!(before[name], after[name], "{what}: {name} changed");
        }
        assert!(!watcher.has(|report| matches!(report, Report::Failed(_))), "{what}: {:?}", watcher.report_lines());
        assert_eq!(
            watcher.count(|report| matches!(report, Report::Reconciling { .. })),
            5,
            "{what}: {:?}",
            watcher.report_lines()
        );
        assert_eq!(watcher.count(|it| *it == Report::Ready("api".into())), 5, "{what}: {:?}", watcher.report_lines());
        assert!(mutations(&sim).iter().all(|call| call.contains("shop-api")), "{what}: {:?}", mutations(&sim));
    }
}

#[tokio::test(start_paused = true)]
async fn other_drift_is_corrected_without_a_restart() {
    type ExternalChange = fn(&Sim);
    let changes: [(&str, ExternalChange, &str); 3] = [
        ("renamed", |sim| assert!(sim.rename("shop-api", "renamed-api")), "api update [name]"),
        ("disconnected", |sim| sim.disconnect("shop-api"), "api update [network]"),
        (
            "limited",
            |sim| {
                let memory = Some("64m".parse().unwrap());
                sim.docker_update("shop-api", Resources { memory, ..Resources::default() }, RestartPolicy::default());
            },
            "api update [resources.memory]",
        ),
    ];
    let wanted = desired([service("api").memory("128m"), service("web").needs("api")]);
    for (what, change, expected) in changes {
        let sim = Harness::of(&wanted);
        let watcher = sim.watch_settled(&wanted).await;
        let before = sim.ids();
        change(&sim);
        watcher.until("mended", |watcher| watcher.count(|it| matches!(it, Report::StepDone(_))) >= 1).await;
        watcher.agrees(&wanted).await;
        assert_eq!(sim.ids(), before, "{what}");
        assert_eq!(watcher.report_lines(), [expected, "api ready"], "{what}");
        let api = sim.snapshot().containers.remove(before["shop-api"].as_str()).unwrap();
        assert_eq!(api.state, State::Running, "{what}");
        assert!(!sim.history().iter().any(|line| line.starts_with("died")), "{what}");
    }
}

#[tokio::test(start_paused = true)]
async fn removed_network_is_created_again() {
    let wanted = chain();
    let sim = Harness::of(&wanted);
    let watcher = sim.watch_settled(&wanted).await;
    let before = sim.ids();
    sim.remove_network_by_force(GROUP);
    watcher.agrees(&wanted).await;
    assert_eq!(sim.ids(), before);
}

#[tokio::test(start_paused = true)]
async fn flapping_drift_is_ignored() {
    let wanted = desired([service("api").memory("128m"), service("other")]);
    let sim = Harness::of(&wanted);
    let watcher = sim.watch_settled(&wanted).await;
    let fought = |report: &Report| matches!(report, Report::Failed(it) if it.failure.reason == Reason::NonConvergent);
    let mut rounds = 0;
    while !watcher.has(fought) {
        rounds += 1;
        assert!(rounds < 10, "still correcting: {:?}", watcher.report_lines());
        let memory = Some("64m".parse().unwrap());
        sim.docker_update("shop-api", Resources { memory, ..Resources::default() }, RestartPolicy::default());
        sleep(s(5)).await;
    }
    assert_eq!(sim.count("update"), 3, "{:?}", sim.calls());
    sim.clear_calls();
    sleep(s(300)).await;
    assert_eq!(sim.count("update"), 0);
    sim.docker_kill("shop-api");
    watcher.agrees(&wanted).await;
    assert_eq!(sim.count("update"), 0, "restarted without another correction");
    let edited = desired([service("api").memory("256m"), service("other")]);
    watcher.edit(&edited);
    watcher.until("updated", |watcher| watcher.sim.count("update") == 1).await;
}

// Dependencies.

#[tokio::test(start_paused = true)]
async fn dependents_restart_only_if_requested() {
    let wanted = desired([
        service("db").ping(PING),
        service("api").needs_that("db", Condition::Ready, true),
        service("web").needs("db"),
    ]);
    for removed in [false, true] {
        let sim = Harness::of(&wanted);
        let watcher = sim.watch_settled(&wanted).await;
        let before = sim.ids();
        if removed {
            sim.remove("shop-db")
        } else {
            sim.kill("shop-db", 1)
        };
        watcher.agrees(&wanted).await;
        watcher.until("api restarted", |it| it.has(|report| *report == Report::Ready("api".into()))).await;
        let history = sim.history();
        let at = |line: &str| history.iter().position(|it| it == line).unwrap_or_else(|| panic!("{line} {history:#?}"));
        let started = if removed { "renamed shop-db.new to shop-db" } else { "started shop-db" };
        assert!(at("died shop-api (0)") < at(started) && at(started) < at("started shop-api"), "{history:#?}");
        assert!(!history.iter().any(|line| line.contains("shop-web")), "{history:#?}");
        assert_eq!(sim.ids()["shop-api"], before["shop-api"]);
    }
}

#[tokio::test(start_paused = true)]
async fn services_restart_in_order_after_an_engine_restart() {
    let wanted = chain();
    let sim = Harness::of(&wanted);
    let watcher = sim.watch_settled(&wanted).await;
    let before = sim.ids();
    sim.shut_down(true);
    sleep(s(20)).await;
    assert!(watcher.has(|it| matches!(it, Report::EngineLost(_))));
    assert_eq!(mutations(&sim), Vec::<String>::new(), "no mutations while the engine is down");
    let tries = sim.calls().len();
    assert!(tries < 40, "{tries} connection attempts in 20 s");
    sim.start_up();
    watcher.agrees(&wanted).await;
    assert_eq!(sim.ids(), before);
    let history = sim.history();
    let at = |line: &str| history.iter().rposition(|it| it == line).unwrap_or_else(|| panic!("{line} {history:#?}"));
    assert!(at("started shop-db") < at("started shop-api") && at("started shop-api") < at("started shop-web"));
    let lines = watcher.report_lines();
    assert_eq!(lines[..2], ["engine lost", "engine reconnected"]);
    assert!(!watcher.has(|it| matches!(it, Report::Failed(_))), "no crash reported: {lines:?}");
}

#[tokio::test(start_paused = true)]
async fn crash_loop_after_an_engine_restart_backs_off() {
    let wanted = desired([service("api")]);
    let sim = Harness::of(&wanted);
    sim.add_image("api:1", Image::new("api:1").behaving(|api| api.exits = Some((ms(300), 1))));
    let watcher = sim.watch(&wanted);
    watcher.until("crash loop", |it| it.count(|report| matches!(report, Report::Failed(_))) == 2).await;
    sim.restart();
    watcher.until("back", |it| it.has(|report| *report == Report::EngineReconnected)).await;
    sim.clear_calls();
    sleep(s(15)).await;
    // Each of these exits is of a container that was started after the engine was back.
    let starts = mutations(&sim).iter().filter(|line| line.starts_with("start ")).count();
    let lines = watcher.report_lines();
    assert!((2..=5).contains(&starts), "{starts} starts within 15 s: {lines:?}");
    assert!(lines.iter().all(|line| !line.contains("NonConvergent")), "{lines:?}");
}

#[tokio::test(start_paused = true)]
async fn watch_waits_for_a_hung_engine() {
    let wanted = chain();
    let sim = Harness::of(&wanted);
    let bounded = drillmaster::engine::deadline::Bounded::new(sim.clone(), Default::default());
    let watcher = sim.watch_on(Arc::new(bounded), &wanted, false);
    watcher.agrees(&wanted).await;
    sim.hang();
    sleep(s(100)).await;
    sim.clear_calls();
    sleep(s(300)).await;
    let calls = sim.calls().len();
    assert!((5..20).contains(&calls), "{calls} calls in five minutes");
    assert_eq!(watcher.count(|it| matches!(it, Report::EngineLost(_))), 1);
    sim.resume();
    watcher.until("back", |it| it.has(|report| *report == Report::EngineReconnected)).await;
    watcher.agrees(&wanted).await;
}

#[tokio::test(start_paused = true)]
async fn broken_event_stream_is_not_reported() {
    let wanted = chain();
    let sim = Harness::of(&wanted);
    let watcher = sim.watch_settled(&wanted).await;
    for _ in 0..10 {
        sim.cut_events();
        sleep(s(20)).await;
    }
    assert_eq!(watcher.report_lines(), Vec::<String>::new());
    assert_eq!(mutations(&sim), Vec::<String>::new());
    sim.cut_events();
    sim.remove("shop-other");
    watcher.agrees(&wanted).await;
}
