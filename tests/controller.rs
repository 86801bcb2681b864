//! The controller on the simulated engine, in paused time: hours pass in milliseconds and nothing sleeps for luck.

#![allow(clippy::unwrap_used, reason = "a test that cannot go on fails")]

mod builders;

use std::cell::RefCell;
use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;
use std::time::Duration;

use builders::*;
use drillmaster::control::event::{Limits, Outcome, Report};
use drillmaster::control::execute::context::ExecContext;
use drillmaster::control::local_state::LocalState;
use drillmaster::control::{self, RunOptions};
use drillmaster::desired::{Desired, Mode, Scope};
use drillmaster::engine::{Engine, EngineError};
use drillmaster::observed::{Health, State};
use drillmaster::plan::Memory;
use drillmaster::plan::cause::Cause;
use drillmaster::plan::step::{Reason, Verb};
use drillmaster::spec::model::{Condition, RestartPolicy};
use drillmaster_sim::faulty::{Faults, Faulty, Stop};
use drillmaster_sim::{Image, Latency, Script, Sim};
use tempfile::TempDir;
use tokio::sync::mpsc;
use tokio::time::Instant;

const LIMITS: Limits = Limits { setups: 4, teardowns: 8, deadline: None };
const PING: Duration = Duration::from_secs(20);

fn ms(ms: u64) -> Duration {
    Duration::from_millis(ms)
}

thread_local! {
    /// The state directory of the engine under test: ids of containers are the same on every simulated engine.
    static STATE: RefCell<TempDir> = RefCell::new(tempfile::tempdir().unwrap());
}

/// A new engine, and nothing noted about it.
fn new_engine() -> Sim {
    STATE.replace(tempfile::tempdir().unwrap());
    Sim::new()
}

fn run_options(limits: Limits) -> RunOptions {
    let context = ExecContext {
        group: GROUP.into(),
        directory: SOURCE.into(),
        reaches_containers: true,
        outputs: Default::default(),
    };
    STATE.with_borrow(|state| RunOptions {
        limits,
        context,
        local_state: LocalState::new(state.path()),
        read: None,
        reload: BTreeSet::new(),
    })
}

async fn run_on(engine: Arc<dyn Engine>, wanted: &Desired, limits: Limits) -> (Outcome, Vec<Report>) {
    let (_interrupt, interrupts) = mpsc::channel(1);
    let mut reports = Vec::new();
    let run = control::run(engine, wanted.clone(), run_options(limits), interrupts, |report| reports.push(report));
    // What takes a day of simulated time does not end.
    let outcome = tokio::time::timeout(Duration::from_secs(86_400), run).await.expect("the run does not end");
    (outcome, reports)
}

async fn up(sim: &Sim, wanted: &Desired) -> Outcome {
    run_on(Arc::new(sim.clone()), wanted, LIMITS).await.0
}

/// An `up` that has to end well, and leaves one container for each service.
#[track_caller]
fn assert_agrees(outcome: &Outcome, sim: &Sim, wanted: &Desired) {
    assert!(outcome.is_good(), "{}\n{:#?}", describe(outcome), sim.history());
    assert_eq!(outcome.ready, wanted.services.keys().cloned().collect::<BTreeSet<_>>());
    assert_tidy(sim, wanted);
}

/// One container for each service, running under its name; one network; nothing else of the group.
#[track_caller]
fn assert_tidy(sim: &Sim, wanted: &Desired) {
    let observed = sim.snapshot();
    let names: BTreeSet<String> = observed.of_group(GROUP).map(|container| container.name.clone()).collect();
    let expected: BTreeSet<String> = wanted.services.keys().map(|name| format!("shop-{name}")).collect();
    assert_eq!(names, expected, "{:#?}", sim.history());
    for container in observed.of_group(GROUP) {
        let service = &wanted.services[container.service_of(GROUP).unwrap()];
        let identity = container.identity.as_ref().unwrap();
        assert_eq!(container.state, State::Running, "{}", container.name);
        assert_eq!(identity.spec_hash, service.fingerprint.spec_hash, "{}", container.name);
        assert_eq!(identity.env_hash, service.fingerprint.env_hash, "{}", container.name);
    }
    let networks: Vec<_> = observed.networks.values().filter(|network| network.name == GROUP).collect();
    assert_eq!(networks.len(), usize::from(!wanted.services.is_empty()));
    let again = drillmaster::plan::forecast(wanted, &observed, &Memory::default());
    assert!(again.steps.is_empty(), "{:?}", again.steps);
}

fn describe(outcome: &Outcome) -> String {
    let failed: Vec<String> = outcome
        .failed
        .values()
        .map(|failed| format!("{}: {:?}: {}", failed.failure.service, failed.failure.reason, failed.failure.message))
        .collect();
    let waits: Vec<String> = outcome.waits.iter().map(|wait| format!("{} {}", wait.service, wait.reason)).collect();
    format!(
        "failed {failed:#?}\nwaits {waits:#?}\nstuck {:?}\ninterrupted {} timed out {} engine {:?}",
        outcome.stuck, outcome.interrupted, outcome.timed_out, outcome.engine
    )
}

/// An engine with an image for each service, which behaves well.
fn engine(wanted: &Desired) -> Sim {
    let sim = new_engine();
    add_images(&sim, wanted);
    sim
}

fn add_images(sim: &Sim, wanted: &Desired) {
    for service in wanted.services.values() {
        sim.add_image(&service.config.image, Image::new(&service.config.image));
    }
}

fn position(history: &[String], line: &str) -> usize {
    history.iter().position(|happened| happened == line).unwrap_or_else(|| panic!("no `{line}` in {history:#?}"))
}

#[track_caller]
fn assert_before(lines: &[String], first: &str, then: &str) {
    assert!(position(lines, first) < position(lines, then), "`{first}` comes after `{then}`: {lines:#?}");
}

fn failure(outcome: &Outcome, service: &str) -> (Reason, String) {
    let failed = outcome.failed.get(service).unwrap_or_else(|| panic!("{service} did not fail: {}", describe(outcome)));
    (failed.failure.reason, failed.failure.message.clone())
}

fn diamond() -> Desired {
    desired([
        service("top").needs("left").needs("right"),
        service("left").needs("base").ping(PING),
        service("right").needs("base").ping(PING),
        service("base").ping(PING),
    ])
}

// Order.

#[tokio::test(start_paused = true)]
async fn a_chain_comes_up_in_order() {
    let wanted = desired([service("c").needs("b"), service("b").needs("a").ping(PING), service("a").ping(PING)]);
    let sim = engine(&wanted);
    sim.add_image("a:1", Image::new("a").behaving(|a| a.exec = Script::Answers(Duration::from_secs(3))));
    let outcome = up(&sim, &wanted).await;
    assert_agrees(&outcome, &sim, &wanted);
    // Calls are noted when they arrive, so this says that they were not even asked for.
    let calls = sim.calls();
    assert_before(&calls, "rename shop-a.new to shop-a", "create shop-b.new");
    assert_before(&calls, "rename shop-b.new to shop-b", "create shop-c.new");
    let asked: Vec<&String> = calls.iter().filter(|call| call.starts_with("exec shop-a.new")).collect();
    assert!(asked.len() > 20, "it was to be asked every 100 ms: {}", asked.len());
}

#[tokio::test(start_paused = true)]
async fn a_diamond_comes_up_in_order_and_its_branches_at_once() {
    let wanted = diamond();
    let sim = engine(&wanted);
    let outcome = up(&sim, &wanted).await;
    assert_agrees(&outcome, &sim, &wanted);
    let calls = sim.calls();
    for side in ["left", "right"] {
        assert_before(&calls, "rename shop-base.new to shop-base", &format!("create shop-{side}.new"));
        assert_before(&calls, &format!("rename shop-{side}.new to shop-{side}"), "create shop-top.new");
    }
    assert_before(&calls, "create shop-right.new", "start shop-left.new");
    assert_before(&calls, "start shop-right.new", "rename shop-left.new to shop-left");
}

#[tokio::test(start_paused = true)]
async fn independent_services_do_not_wait_for_each_other() {
    let wanted = desired([service("slow").ping(PING), service("quick"), service("after").needs("quick")]);
    let sim = engine(&wanted);
    sim.add_image("slow:1", Image::new("slow").behaving(|slow| slow.exec = Script::Answers(Duration::from_secs(10))));
    let outcome = up(&sim, &wanted).await;
    assert_agrees(&outcome, &sim, &wanted);
    assert_before(&sim.history(), "renamed shop-after.new to shop-after", "renamed shop-slow.new to shop-slow");
}

#[tokio::test(start_paused = true)]
async fn a_condition_of_started_does_not_wait_for_the_ping() {
    let wanted = desired([service("db").ping(PING), service("api").needs_that("db", Condition::Started, false)]);
    let sim = engine(&wanted);
    sim.add_image("db:1", Image::new("db").behaving(|db| db.exec = Script::Answers(Duration::from_secs(10))));
    let outcome = up(&sim, &wanted).await;
    assert_agrees(&outcome, &sim, &wanted);
    assert_before(&sim.history(), "started shop-db.new", "created shop-api.new");
    assert_before(&sim.history(), "renamed shop-api.new to shop-api", "renamed shop-db.new to shop-db");
}

#[tokio::test(start_paused = true)]
async fn no_more_steps_run_at_once_than_allowed() {
    let wanted = desired((0..20).map(|n| service(&format!("s{n:02}")).image("app:1")));
    let sim = engine(&wanted);
    let outcome = up(&sim, &wanted).await;
    assert_agrees(&outcome, &sim, &wanted);
    assert_eq!(sim.most_at_once(), 4);
    sim.forget_calls();
    let began = Instant::now();
    assert!(up(&sim, &nothing()).await.is_good());
    assert_eq!(sim.most_at_once(), 8);
    assert!(began.elapsed() < Duration::from_secs(2), "teardown is not parallel: {:?}", began.elapsed());
    assert_tidy(&sim, &nothing());
}

#[tokio::test(start_paused = true)]
async fn down_goes_in_reverse_and_leaves_volumes() {
    let wanted =
        desired([service("api").needs("db"), service("db").volume("data", "/data").anonymous_volume("/scratch")]);
    let sim = engine(&wanted);
    assert_agrees(&up(&sim, &wanted).await, &sim, &wanted);
    let volumes = sim.volumes();
    assert_eq!(volumes.len(), 2);
    let outcome = up(&sim, &nothing()).await;
    assert!(outcome.is_good(), "{}", describe(&outcome));
    assert_before(&sim.calls(), "remove shop-api", "stop shop-db");
    assert_before(&sim.calls(), "remove shop-db", "remove network shop");
    assert_eq!(sim.volumes(), volumes);
    let mut purge = nothing();
    purge.mode = Mode::Reconcile { purge_volumes: true, purge_images: false };
    let outcome = up(&sim, &purge).await;
    assert!(outcome.is_good(), "{}", describe(&outcome));
    assert_eq!(sim.volumes(), Vec::<String>::new());
}

#[tokio::test(start_paused = true)]
async fn down_with_volumes_leaves_none_also_after_a_replacement() {
    let build = |value| desired([service("db").volume("data", "/data").env("A", value)]);
    let sim = engine(&build("1"));
    sim.add_image("db:1", Image::new("db").volume("/var/lib/db"));
    assert_agrees(&up(&sim, &build("1")).await, &sim, &build("1"));
    let volumes = sim.volumes();
    assert_agrees(&up(&sim, &build("2")).await, &sim, &build("2"));
    assert_eq!(sim.volumes(), volumes, "the anonymous volume moves to the replacement");
    sim.create_volume("somebody-elses");
    let mut purge = nothing();
    purge.mode = Mode::Reconcile { purge_volumes: true, purge_images: false };
    let outcome = up(&sim, &purge).await;
    assert!(outcome.is_good(), "{}", describe(&outcome));
    assert!(sim.volumes().contains(&"somebody-elses".to_owned()));
    assert!(!sim.volumes().contains(&"shop-data".to_owned()));
}

#[tokio::test(start_paused = true)]
async fn stop_and_start() {
    let wanted = desired([service("api").needs("db"), service("db").ping(PING)]);
    let sim = engine(&wanted);
    assert_agrees(&up(&sim, &wanted).await, &sim, &wanted);
    let ids = (sim.id_of("shop-api"), sim.id_of("shop-db"));
    let mut rest = nothing();
    rest.mode = Mode::StopOnly;
    sim.forget_calls();
    assert!(up(&sim, &rest).await.is_good());
    assert_before(&sim.history(), "died shop-api (0)", "died shop-db (0)");
    assert!(sim.snapshot().of_group(GROUP).all(|container| !container.is_up()));
    let mut start = wanted.clone();
    start.mode = Mode::StartOnly;
    let outcome = up(&sim, &start).await;
    assert_agrees(&outcome, &sim, &wanted);
    assert_before(&sim.history(), "started shop-db", "started shop-api");
    assert_eq!(ids, (sim.id_of("shop-api"), sim.id_of("shop-db")));
}

// Failures.

#[tokio::test(start_paused = true)]
async fn exit_while_awaited_fails_at_once_with_last_lines() {
    for after in [0, 30, 450, 3000] {
        let wanted = desired([
            service("db").ping(Duration::from_secs(300)),
            service("api").needs("db"),
            service("web").needs("api"),
            service("other"),
        ]);
        let sim = engine(&wanted);
        sim.add_image(
            "db:1",
            Image::new("db").behaving(|db| {
                db.exec = Script::Ends(1, String::new());
                db.exits = Some((ms(after), 3));
                db.output = (0..15).map(|n| (ms(0), format!("line {n}"))).collect();
            }),
        );
        let began = Instant::now();
        let outcome = up(&sim, &wanted).await;
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
        assert!(sim.id_of("shop-db.new").is_some(), "what failed stays to be looked at");
    }
}

#[tokio::test(start_paused = true)]
async fn a_container_without_a_ping_that_exits_at_once_fails() {
    for after in [0, 30, 300] {
        let wanted = desired([service("api")]);
        let sim = engine(&wanted);
        sim.add_image("api:1", Image::new("api").behaving(|api| api.exits = Some((ms(after), 1))));
        let outcome = up(&sim, &wanted).await;
        assert_eq!(failure(&outcome, "api").0, Reason::Exited, "after {after}");
        assert!(outcome.ready.is_empty());
    }
}

#[tokio::test(start_paused = true)]
async fn an_exit_is_noticed_although_lists_are_stale() {
    for after in [0, 5, 150, 170, 200, 335, 400, 1000] {
        let wanted = desired([service("db").ping(Duration::from_secs(300)), service("other")]);
        let sim = engine(&wanted);
        sim.set_stale(ms(70));
        sim.add_image(
            "db:1",
            Image::new("db").behaving(|db| {
                db.exec = Script::Ends(1, String::new());
                db.exits = Some((ms(after), 3));
            }),
        );
        let began = Instant::now();
        let outcome = up(&sim, &wanted).await;
        assert_eq!(failure(&outcome, "db").0, Reason::Exited, "after {after}");
        assert!(began.elapsed() < Duration::from_secs(8), "after {after}: {:?}", began.elapsed());
    }
}

/// Ways for a replacement to fail: a name, its image, and the reason that is given.
fn failing_replacements() -> Vec<(&'static str, Image, Reason)> {
    let exits = |after| {
        Image::new("new").behaving(|it| {
            it.exec = Script::Ends(1, "no".into());
            it.exits = Some((ms(after), 1));
        })
    };
    vec![
        ("exits at once", exits(0), Reason::Exited),
        ("exits soon", exits(100), Reason::Exited),
        ("exits later", exits(2000), Reason::Exited),
        ("never answers", Image::new("new").behaving(|it| it.exec = Script::Ends(1, "no".into())), Reason::NotReady),
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
async fn a_replacement_that_fails_gives_the_same_old_container_back() {
    for with_port in [false, true] {
        for (what, image, reason) in failing_replacements() {
            let build = |image: &str| {
                let api = service("api").image(image).ping(PING);
                let api = if with_port { api.port("8080:80").volume("data", "/data") } else { api };
                desired([api, service("web").needs("api"), service("other")])
            };
            let (old, new) = (build("api:1"), build("api:2"));
            let sim = engine(&old);
            sim.add_image("api:2", image);
            assert_agrees(&up(&sim, &old).await, &sim, &old);
            let id = sim.id_of("shop-api");
            sim.forget_calls();
            let outcome = up(&sim, &new).await;
            assert_eq!(failure(&outcome, "api").0, reason, "{what}: {}", describe(&outcome));
            assert_eq!(sim.id_of("shop-api"), id, "{what}");
            assert_tidy(&sim, &old);
            let created = sim.calls().iter().filter(|call| call.starts_with("create")).count();
            assert_eq!(created, 1, "{what}: it was tried again");
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
            let sim = engine(&build("api:1"));
            sim.add_image("api:2", Image::new("new").behaving(|it| it.exits = Some((ms(after), 1))));
            assert_agrees(&up(&sim, &build("api:1")).await, &sim, &build("api:1"));
            let id = sim.id_of("shop-api");
            let outcome = up(&sim, &build("api:2")).await;
            assert_eq!(failure(&outcome, "api").0, Reason::Exited, "after {after}");
            assert_eq!(sim.id_of("shop-api"), id, "after {after}, port {with_port}: the old one is gone");
            assert_tidy(&sim, &build("api:1"));
        }
    }
}

#[tokio::test(start_paused = true)]
async fn dependent_restarts_after_failed_replacement() {
    let build = |image: &str| {
        desired([service("db").image(image).ping(PING), service("api").needs_that("db", Condition::Ready, true)])
    };
    let sim = engine(&build("db:1"));
    sim.add_image("db:2", Image::new("new").behaving(|it| it.exits = Some((ms(0), 1))));
    assert_agrees(&up(&sim, &build("db:1")).await, &sim, &build("db:1"));
    let outcome = up(&sim, &build("db:2")).await;
    assert_eq!(failure(&outcome, "db").0, Reason::Exited);
    assert!(sim.history().iter().any(|line| line == "died shop-api (0)"), "it was to be stopped");
    assert!(outcome.waits.is_empty(), "{:?}", outcome.waits);
    let api = sim.snapshot().containers.into_values().find(|container| container.name == "shop-api");
    assert_eq!(api.map(|api| api.state), Some(State::Running), "what it needs serves again, and so does it");
    assert_agrees(&up(&sim, &build("db:1")).await, &sim, &build("db:1"));
}

#[tokio::test(start_paused = true)]
async fn a_health_check_that_never_succeeds_ends_at_the_deadline() {
    let wanted = desired([service("db").ping(PING), service("other")]);
    let sim = engine(&wanted);
    sim.add_image("db:1", Image::new("db").healthcheck(None));
    let began = Instant::now();
    let outcome = up(&sim, &wanted).await;
    let (reason, message) = failure(&outcome, "db");
    assert_eq!(
        (reason, message.as_str()),
        (Reason::NotReady, "timed out after 20 s waiting for the container to become healthy")
    );
    assert!(began.elapsed() < Duration::from_secs(22));
}

#[tokio::test(start_paused = true)]
async fn a_health_check_that_succeeds_is_waited_for_whenever_it_does() {
    // Whatever is under way at that moment (a list above all), its event is not lost.
    for after in 0..1500 {
        let wanted = desired([service("db"), service("other").needs("db")]);
        let sim = engine(&wanted);
        sim.add_image("db:1", Image::new("db").healthcheck(Some(ms(after))));
        let hand = sim.clone();
        tokio::spawn(async move {
            hand.until_happened("started shop-db.new").await;
            tokio::time::sleep(ms(300)).await;
            hand.cut_events();
        });
        let began = Instant::now();
        let outcome = up(&sim, &wanted).await;
        assert_agrees(&outcome, &sim, &wanted);
        assert!(began.elapsed() < Duration::from_secs(6), "after {after}: {:?}", began.elapsed());
    }
}

#[tokio::test(start_paused = true)]
async fn a_log_ping_waits_for_its_line() {
    let wanted = desired([service("db").ping_log("ready to accept", PING), service("api").needs("db")]);
    let sim = engine(&wanted);
    sim.add_image(
        "db:1",
        Image::new("db").behaving(|db| {
            db.output = vec![(ms(10), "hello".into()), (ms(4000), "ready to accept connections".into())];
        }),
    );
    let outcome = up(&sim, &wanted).await;
    assert_agrees(&outcome, &sim, &wanted);
    assert!(sim.count("logs") <= 2, "it follows, and does not ask again and again");
}

#[tokio::test(start_paused = true)]
async fn a_ping_says_why_it_was_not_answered() {
    let wanted = desired([service("db").ping(PING)]);
    let sim = engine(&wanted);
    sim.add_image("db:1", Image::new("db").behaving(|db| db.exec = Script::Ends(2, "no route\n".into())));
    let outcome = up(&sim, &wanted).await;
    let message = failure(&outcome, "db").1;
    assert_eq!(
        message,
        "timed out after 20 s waiting for readiness probe (exec ping) (ping exited with code 2: no route)"
    );
}

#[tokio::test(start_paused = true)]
async fn a_missing_image_fails_alone() {
    let wanted = desired([service("bad"), service("after").needs("bad"), service("good")]);
    let sim = new_engine();
    sim.add_image("good:1", Image::new("good"));
    sim.add_image("after:1", Image::new("after"));
    let outcome = up(&sim, &wanted).await;
    let (reason, message) = failure(&outcome, "bad");
    assert_eq!(reason, Reason::ImageMissing);
    assert!(message.contains("cannot pull image bad:1: pull access denied"), "{message}");
    assert_eq!(outcome.ready, BTreeSet::from(["good".into()]));
    assert_eq!(outcome.waits[0].reason, "waiting for bad, which has failed");
}

#[tokio::test(start_paused = true)]
async fn a_missing_image_is_pulled_with_progress() {
    let wanted = desired([service("a").image("app:1"), service("b").image("app:1")]);
    let sim = new_engine();
    sim.add_to_registry("app:1", Image::new("app"));
    let (outcome, reports) = run_on(Arc::new(sim.clone()), &wanted, LIMITS).await;
    assert_agrees(&outcome, &sim, &wanted);
    assert_eq!(sim.count("pull"), 1);
    assert!(reports.iter().any(|report| matches!(report, Report::Pulling(image, _) if image == "app:1")));
}

#[tokio::test(start_paused = true)]
async fn taken_port_fails_alone_and_keeps_old_container() {
    let build = |port: &str| desired([service("api").port(port), service("other")]);
    let sim = engine(&build("8080:80"));
    assert_agrees(&up(&sim, &build("8080:80")).await, &sim, &build("8080:80"));
    let id = sim.id_of("shop-api");
    sim.create_foreign("somebody", &[9090]);
    let outcome = up(&sim, &build("9090:80")).await;
    let (reason, message) = failure(&outcome, "api");
    assert_eq!(reason, Reason::Conflict, "{message}");
    assert_eq!(sim.id_of("shop-api"), id);
    assert_eq!(outcome.ready, BTreeSet::from(["other".into()]));
    assert_tidy(&sim, &build("8080:80"));
}

// Changes.

#[tokio::test(start_paused = true)]
async fn a_changed_value_replaces_exactly_that_container() {
    let build = |value| {
        desired([service("api").needs("db").env("LOG", value), service("db").ping(PING), service("web").needs("api")])
    };
    let sim = engine(&build("info"));
    assert_agrees(&up(&sim, &build("info")).await, &sim, &build("info"));
    let before = ["shop-api", "shop-db", "shop-web"].map(|name| sim.id_of(name));
    let outcome = up(&sim, &build("debug")).await;
    assert_agrees(&outcome, &sim, &build("debug"));
    let after = ["shop-api", "shop-db", "shop-web"].map(|name| sim.id_of(name));
    assert_ne!(before[0], after[0]);
    assert_eq!(before[1..], after[1..]);
    let causes: Vec<_> = outcome.changes[0].causes.iter().map(Cause::path).collect();
    assert_eq!((outcome.changes.len(), causes), (1, vec!["env.LOG".into()]));
}

#[tokio::test(start_paused = true)]
async fn swapped_ports_are_swapped() {
    let build = |a: &str, b: &str| desired([service("a").port(a), service("b").port(b).needs("a")]);
    let (old, new) = (build("8001:80", "8002:80"), build("8002:80", "8001:80"));
    let sim = engine(&old);
    assert_agrees(&up(&sim, &old).await, &sim, &old);
    let outcome = up(&sim, &new).await;
    assert_agrees(&outcome, &sim, &new);
}

#[tokio::test(start_paused = true)]
async fn limits_are_changed_in_place() {
    let (old, new) = (desired([service("api").memory("64m")]), desired([service("api").memory("128m")]));
    let sim = engine(&old);
    assert_agrees(&up(&sim, &old).await, &sim, &old);
    let id = sim.id_of("shop-api");
    let outcome = up(&sim, &new).await;
    assert!(outcome.is_good());
    assert_eq!(sim.id_of("shop-api"), id);
    assert_eq!(sim.count("update"), 1);
    let outcome = up(&sim, &new).await;
    assert!(outcome.changes.is_empty() && outcome.is_good(), "{:?}", outcome.changes);
    assert_eq!(sim.count("update"), 1);
}

#[tokio::test(start_paused = true)]
async fn external_changes_are_corrected() {
    let wanted = desired([service("api").needs("db"), service("db").ping(PING), service("web")]);
    type Hand = fn(&Sim);
    let hands: Vec<(&str, Hand)> = vec![
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
    for (what, by_hand) in hands {
        let sim = engine(&wanted);
        sim.set_stale(ms(70));
        assert_agrees(&up(&sim, &wanted).await, &sim, &wanted);
        by_hand(&sim);
        // A first list that is still stale cannot be told from the truth.
        tokio::time::sleep(ms(70)).await;
        let outcome = up(&sim, &wanted).await;
        assert!(!outcome.changes.is_empty(), "{what}: nothing was told");
        assert!(outcome.is_good(), "{what}: {}\n{:#?}", describe(&outcome), sim.calls());
        assert_agrees(&outcome, &sim, &wanted);
    }
}

#[tokio::test(start_paused = true)]
async fn a_foreign_container_with_our_name_is_left_alone() {
    let wanted = desired([service("api"), service("other")]);
    let sim = engine(&wanted);
    let id = sim.create_foreign("shop-api", &[]);
    let outcome = up(&sim, &wanted).await;
    assert_eq!(failure(&outcome, "api").0, Reason::Conflict);
    assert_eq!(outcome.ready, BTreeSet::from(["other".into()]));
    assert_eq!(sim.id_of("shop-api"), Some(id));
    assert!(sim.calls().iter().all(|call| !call.contains("shop-api")), "{:#?}", sim.calls());
}

#[tokio::test(start_paused = true)]
async fn a_container_that_the_engine_restarts_is_left_to_the_engine() {
    let wanted = desired([service("api").restart(RestartPolicy::OnFailure(3)).ping(PING)]);
    let sim = engine(&wanted);
    sim.add_image(
        "api:1",
        Image::new("api").behaving(|api| {
            api.exits = Some((ms(50), 1));
            api.exec = Script::Ends(1, String::new());
        }),
    );
    let outcome = up(&sim, &wanted).await;
    assert_eq!(failure(&outcome, "api").0, Reason::Exited);
    assert_eq!(sim.count("start"), 1);
    assert_eq!(sim.history().iter().filter(|line| line.starts_with("started")).count(), 4);
}

#[tokio::test(start_paused = true)]
async fn services_out_of_scope_stay_unchanged() {
    let build = |value| desired([service("api").env("A", value), service("db").env("A", value), service("old")]);
    let sim = engine(&build("1"));
    assert_agrees(&up(&sim, &build("1")).await, &sim, &build("1"));
    let before = ["shop-db", "shop-old"].map(|name| sim.id_of(name));
    let api = sim.id_of("shop-api");
    let mut wanted = build("2");
    wanted.services.remove("old");
    wanted.scope = Scope::Only(["api".to_owned()].into());
    let outcome = up(&sim, &wanted).await;
    assert!(outcome.is_good(), "{}", describe(&outcome));
    assert_ne!(sim.id_of("shop-api"), api);
    assert_eq!(before, ["shop-db", "shop-old"].map(|name| sim.id_of(name)));
}

// Being stopped.

#[tokio::test(start_paused = true)]
async fn interrupt_ends_after_current_step_and_next_run_completes() {
    let wanted = diamond();
    for after in (0..3000).step_by(97) {
        let sim = engine(&wanted);
        let (interrupt, interrupts) = mpsc::channel(1);
        let engine: Arc<dyn Engine> = Arc::new(sim.clone());
        tokio::spawn(async move {
            tokio::time::sleep(ms(after)).await;
            // The run may be over.
            let _ = interrupt.send(()).await;
            std::future::pending::<()>().await;
        });
        let outcome = control::run(engine, wanted.clone(), run_options(LIMITS), interrupts, |_| {}).await;
        let calls = sim.calls().len();
        if outcome.interrupted {
            assert!(!outcome.is_good());
            tokio::time::sleep(Duration::from_secs(60)).await;
            assert_eq!(sim.calls().len(), calls, "after {after}: it went on");
        }
        let outcome = up(&sim, &wanted).await;
        assert_agrees(&outcome, &sim, &wanted);
    }
}

#[tokio::test(start_paused = true)]
async fn a_run_ends_at_its_deadline() {
    let wanted = desired([service("db").ping(Duration::from_secs(300)), service("api").needs("db"), service("other")]);
    let sim = engine(&wanted);
    sim.add_image("db:1", Image::new("db").behaving(|db| db.exec = Script::Ends(1, "no".into())));
    let began = Instant::now();
    let limits = Limits { deadline: Some(Duration::from_secs(10)), ..LIMITS };
    let (outcome, _) = run_on(Arc::new(sim.clone()), &wanted, limits).await;
    assert!(outcome.timed_out && !outcome.is_good());
    assert!(began.elapsed() <= ms(10_500), "{:?}", began.elapsed());
    assert_eq!(outcome.ready, BTreeSet::from(["other".into()]));
    let reasons: Vec<&str> = outcome.waits.iter().map(|wait| wait.reason.as_str()).collect();
    assert_eq!(reasons, ["waiting for readiness probe (exec ping)", "waiting for db, which is not ready yet"]);
}

#[tokio::test(start_paused = true)]
async fn a_run_that_is_stopped_at_any_call_is_completed_by_the_next() {
    let build = |value: &str| {
        [
            service("db").volume("data", "/data").anonymous_volume("/scratch").env("LOG", value).ping(PING),
            service("api").needs("db").port("8080:80").ping(PING),
        ]
    };
    let mut old: Vec<Build> = build("info").into();
    old.push(service("gone").needs("db"));
    let (old, new) = (desired(old), desired(build("debug").into_iter().chain([service("web").needs("api")])));
    let prepare = || {
        let sim = engine(&old);
        sim.set_stale(ms(70));
        add_images(&sim, &new);
        sim
    };
    let mut expected: Option<String> = None;
    for (scenario, from) in [("cold", None), ("replacement", Some(&old))] {
        for carried_out in [false, true] {
            let mut volumes: Option<usize> = None;
            for at in 1.. {
                let sim = prepare();
                if let Some(from) = from {
                    assert_agrees(&up(&sim, from).await, &sim, from);
                }
                let faulty = Arc::new(Faulty::stopping(Arc::new(sim.clone()), Stop { at, carried_out }));
                let (_interrupt, interrupts) = mpsc::channel(1);
                let engine: Arc<dyn Engine> = faulty.clone();
                let run = control::run(engine, new.clone(), run_options(LIMITS), interrupts, |_| {});
                let done = tokio::select! {
                    outcome = run => Some(outcome),
                    () = faulty.stopped() => None,
                };
                if let Some(outcome) = &done {
                    assert_agrees(outcome, &sim, &new);
                }
                let outcome = up(&sim, &new).await;
                assert!(outcome.is_good(), "{scenario}, stopped at {at}: {}\n{:#?}", describe(&outcome), sim.calls());
                assert_agrees(&outcome, &sim, &new);
                let found = picture(&sim.snapshot());
                assert_eq!(&found, expected.get_or_insert(found.clone()), "{scenario}, stopped at {at}");
                assert!(!sim.calls().iter().any(|call| call.ends_with("by force")), "{scenario}, stopped at {at}");
                let count = sim.volumes().len();
                // A candidate that was never started may have left an empty anonymous volume behind, never more.
                assert!(count <= *volumes.get_or_insert(2), "{scenario}, stopped at {at}: {count} volumes");
                if done.is_some() {
                    assert!(at >= 20, "{scenario}: only {at} calls");
                    break;
                }
            }
        }
    }
}

// A bad engine.

#[tokio::test(start_paused = true)]
async fn an_engine_that_hangs_ends_the_run_and_is_named() {
    let wanted = diamond();
    for verb in ["list", "events", "start", "create", "create-network", "image", "inspect", "rename"] {
        let sim = engine(&wanted);
        let faults = Faults { hung: 1000, verbs: vec![verb], limit: Duration::from_secs(30), ..Faults::default() };
        let faulty = Arc::new(Faulty::new(Arc::new(sim.clone()), faults));
        let began = Instant::now();
        let (outcome, _) = run_on(faulty.clone(), &wanted, LIMITS).await;
        if verb == "inspect" {
            assert!(outcome.is_good(), "nothing is inspected when all goes well");
            continue;
        }
        // What hung may have been carried out all the same, and that is good enough.
        if faulty.journal().iter().any(|line| line.contains("carried_out: true")) && outcome.is_good() {
            continue;
        }
        assert!(!outcome.is_good(), "{verb}");
        let hung = matches!(outcome.engine, Some(EngineError::TimedOut { .. }))
            || outcome.failed.values().any(|failed| {
                failed.failure.message.contains("did not answer within 30 s")
                    || failed.failure.reason == Reason::EngineHangs
            });
        assert!(hung, "{verb}: {}", describe(&outcome));
        assert!(began.elapsed() < Duration::from_secs(600), "{verb}: {:?}", began.elapsed());
        assert_agrees(&up(&sim, &wanted).await, &sim, &wanted);
    }
}

/// The scenario of the fault tests: two services are replaced, one is new, one goes; with everything that may clash.
fn before_and_after() -> (Desired, Desired) {
    let build = |value: &str, port: &str| {
        vec![
            service("db").volume("data", "/data").env("LOG", value).ping(PING),
            service("api").needs("db").port(port).ping(PING).memory(if value == "info" { "64m" } else { "65m" }),
            service("cache").memory(if value == "info" { "64m" } else { "65m" }),
        ]
    };
    let (mut old, mut new) = (build("info", "8080:80"), build("debug", "8081:80"));
    old.push(service("gone").port("8082:80").needs("db"));
    new.push(service("web").port("8082:80").needs_that("api", Condition::Ready, true));
    (desired(old), desired(new))
}

#[tokio::test(start_paused = true)]
async fn a_lost_reply_or_a_broken_call_of_any_verb_does_no_harm() {
    let (old, new) = before_and_after();
    let verbs = [
        "list",
        "image",
        "inspect",
        "create-network",
        "create",
        "start",
        "stop",
        "rename",
        "update",
        "remove",
        "exec",
        "events",
    ];
    for verb in verbs {
        for (broken, lost, hung) in [(1000, 0, 0), (0, 1000, 0), (0, 0, 1000)] {
            for at_most in [1, 2] {
                let sim = new_engine();
                sim.set_stale(ms(70));
                add_images(&sim, &old);
                add_images(&sim, &new);
                let limit = Duration::from_secs(5);
                let faults = || Faults { broken, lost, hung, at_most, limit, verbs: vec![verb], ..Faults::default() };
                for wanted in [&old, &new] {
                    let faulty = Arc::new(Faulty::new(Arc::new(sim.clone()), faults()));
                    let (outcome, _) = run_on(faulty.clone(), wanted, LIMITS).await;
                    // The first list tells whether there is an engine at all; only later ones are asked for again.
                    if verb == "list" && !outcome.is_good() && outcome.steps.is_empty() {
                        assert!(outcome.engine.is_some());
                        assert_agrees(&up(&sim, wanted).await, &sim, wanted);
                        continue;
                    }
                    let what = format!("{verb} {:?}", faulty.journal());
                    assert!(outcome.is_good(), "{what}: {}\n{:#?}", describe(&outcome), sim.calls());
                    assert_agrees(&outcome, &sim, wanted);
                }
            }
        }
    }
}

#[tokio::test(start_paused = true)]
async fn events_that_are_cut_again_and_again_do_not_end_a_run() {
    let wanted = desired((0..8).map(|n| {
        let service = service(&format!("s{n}")).image("app:1").ping(PING);
        if n > 0 { service.needs(&format!("s{}", n - 1)) } else { service }
    }));
    let sim = engine(&wanted);
    let cutter = sim.clone();
    let cuts = tokio::spawn(async move {
        for n in 0..8 {
            cutter.until_happened(&format!("started shop-s{n}.new")).await;
            cutter.cut_events();
        }
    });
    let outcome = up(&sim, &wanted).await;
    assert_agrees(&outcome, &sim, &wanted);
    cuts.await.unwrap();
}

#[tokio::test(start_paused = true)]
async fn a_death_in_the_gap_between_two_streams_of_events_is_noticed() {
    let wanted = desired([service("db").ping(Duration::from_secs(300)), service("other")]);
    let sim = engine(&wanted);
    sim.add_image("db:1", Image::new("db").behaving(|db| db.exec = Script::Ends(1, String::new())));
    let hand = sim.clone();
    tokio::spawn(async move {
        hand.until_happened("renamed shop-other.new to shop-other").await;
        hand.cut_events();
        hand.kill("shop-db.new", 137);
    });
    let began = Instant::now();
    let outcome = up(&sim, &wanted).await;
    assert_eq!(failure(&outcome, "db").0, Reason::Exited);
    assert!(began.elapsed() < Duration::from_secs(10), "{:?}", began.elapsed());
}

#[tokio::test(start_paused = true)]
async fn container_removed_while_awaited_is_created_again() {
    let wanted = desired([service("db").ping(Duration::from_secs(300))]);
    let sim = engine(&wanted);
    sim.add_image("db:1", Image::new("db").behaving(|db| db.exec = Script::Answers(Duration::from_secs(5))));
    let hand = sim.clone();
    tokio::spawn(async move {
        hand.until_happened("started shop-db.new").await;
        tokio::time::sleep(Duration::from_secs(1)).await;
        hand.remove("shop-db.new");
    });
    let began = Instant::now();
    let outcome = up(&sim, &wanted).await;
    assert_agrees(&outcome, &sim, &wanted);
    assert!(began.elapsed() < Duration::from_secs(15), "{:?}", began.elapsed());
}

#[tokio::test(start_paused = true)]
async fn external_interference_is_reported() {
    let wanted = desired([service("db").ping(Duration::from_secs(30))]);
    let sim = engine(&wanted);
    sim.add_image("db:1", Image::new("db").behaving(|db| db.exec = Script::Ends(1, String::new())));
    let hand = sim.clone();
    tokio::spawn(async move {
        loop {
            hand.until(|observed| observed.containers.values().any(|c| c.state == State::Running)).await;
            hand.remove("shop-db.new");
        }
    });
    let outcome = up(&sim, &wanted).await;
    let (reason, message) = failure(&outcome, "db");
    assert_eq!(reason, Reason::NonConvergent, "{message}");
}

/// What one seed makes of the scenario: under faults, in as many runs as it takes, then once without.
async fn survive(seed: u64) -> Result<Vec<String>, String> {
    let (old, new) = before_and_after();
    let draw = |n: u64, below: u64| drillmaster_sim::faulty::random(seed ^ 0xD811, n) % below;
    let sim = new_engine();
    sim.set_stale(ms(if draw(0, 2) == 0 { 70 } else { 0 }));
    if draw(1, 3) == 0 {
        let short = Latency { start: ms(20), list: ms(30), stop: ms(5), network: ms(10), ..Latency::default() };
        sim.set_latency(short);
    }
    for (n, service) in old.services.values().chain(new.services.values()).enumerate() {
        let n = n as u64;
        let image = Image::new(&service.config.image).behaving(|it| {
            it.exec = Script::Answers(ms(draw(10 + n, 400)));
            it.stops = ms(draw(40 + n, 300));
            it.slow_start = ms(draw(70 + n, 200));
        });
        let image = if draw(100 + n, 4) == 0 { image.healthcheck(Some(ms(draw(130 + n, 600)))) } else { image };
        sim.add_image(&service.config.image, image);
    }
    for (n, wanted) in [&old, &new, &nothing(), &old].into_iter().enumerate() {
        let mut tries = 0;
        let outcome = loop {
            tries += 1;
            let rate = if tries > 4 { 0 } else { 40 };
            let faults = Faults {
                seed: seed.wrapping_mul(31).wrapping_add(tries * 7 + n as u64),
                broken: rate,
                lost: rate,
                hung: rate / 8,
                refused: rate / 8,
                dropped: rate,
                cut: rate / 4,
                limit: Duration::from_secs(30),
                ..Faults::default()
            };
            let faulty = Arc::new(Faulty::new(Arc::new(sim.clone()), faults));
            // Somebody meddles in some runs, too.
            let meddler = (draw(200 + tries, 3) == 0 && rate > 0).then(|| {
                let (sim, pause) = (sim.clone(), ms(draw(300 + tries, 3000)));
                let hand = draw(400 + tries, 6);
                tokio::spawn(async move {
                    tokio::time::sleep(pause).await;
                    match hand {
                        0 => sim.kill("shop-db", 137),
                        1 => sim.pause("shop-api"),
                        2 => drop(sim.rename("shop-cache", "renamed")),
                        3 => sim.remove("shop-api.new"),
                        4 => sim.disconnect("shop-cache"),
                        _ => sim.restart(),
                    }
                })
            });
            let (_interrupt, interrupts) = mpsc::channel(1);
            let engine: Arc<dyn Engine> = faulty.clone();
            let run = control::run(engine, wanted.clone(), run_options(LIMITS), interrupts, |_| {});
            let killed_after = if draw(500 + tries, 3) == 0 && rate > 0 {
                ms(draw(600 + tries, 4000))
            } else {
                Duration::from_secs(86_400)
            };
            let outcome = tokio::time::timeout(killed_after, run).await;
            if let Some(meddler) = meddler {
                meddler.await.map_err(|error| error.to_string())?;
            }
            match outcome {
                Ok(outcome) if rate == 0 => break outcome,
                Err(_) if rate == 0 => return Err("the run does not end".into()),
                Ok(outcome) => {
                    // Dropped events may cost time, and the engine may be taken for gone: never more than that.
                    if outcome.is_good() && draw(700 + tries, 2) == 0 {
                        tries = 4;
                    }
                }
                Err(_) => {}
            }
        };
        let problem = |what: &str| format!("run {n}: {what}: {}\n{:#?}", describe(&outcome), sim.calls());
        if !outcome.is_good() {
            return Err(problem("it does not end well without faults"));
        }
        let observed = sim.snapshot();
        let names: BTreeSet<String> = observed.of_group(GROUP).map(|container| container.name.clone()).collect();
        let expected: BTreeSet<String> = wanted.services.keys().map(|name| format!("shop-{name}")).collect();
        if names != expected {
            return Err(problem(&format!("{names:?}")));
        }
        let left = drillmaster::plan::forecast(wanted, &observed, &Memory::default()).steps;
        if !left.is_empty() {
            return Err(problem(&format!("{left:?}")));
        }
        if sim.calls().iter().any(|call| call.ends_with("by force")) {
            return Err(problem("something was removed while it ran"));
        }
        if !sim.volumes().iter().any(|volume| volume == "shop-data") {
            return Err(problem("the volume is gone"));
        }
    }
    Ok(sim.calls())
}

#[test]
fn random_faults_never_keep_the_next_run_from_agreement() {
    let seeds = match std::env::var("DRILLMASTER_SEED") {
        Ok(seed) => {
            let seed = seed.parse().expect("DRILLMASTER_SEED is a number");
            seed..seed + 1
        }
        Err(_) => {
            0..std::env::var("DRILLMASTER_SEEDS")
                .map_or(500, |seeds| seeds.parse().expect("DRILLMASTER_SEEDS is a number"))
        }
    };
    for seed in seeds {
        if let Err(problem) = on_paused_time(survive(seed)) {
            panic!("seed {seed} (again with DRILLMASTER_SEED={seed}): {problem}");
        }
    }
}

#[test]
fn a_seed_gives_the_same_run_again() {
    for seed in [3, 14, 159] {
        assert_eq!(on_paused_time(survive(seed)), on_paused_time(survive(seed)), "seed {seed}");
    }
}

fn on_paused_time<T>(future: impl Future<Output = T>) -> T {
    tokio::runtime::Builder::new_current_thread().enable_all().start_paused(true).build().unwrap().block_on(future)
}

// Costs.

#[tokio::test(start_paused = true)]
async fn cold_up_sends_three_calls_per_service_and_no_op_one_list() {
    let wanted = desired((0..100).map(|n| service(&format!("s{n:03}")).image("app:1")));
    let sim = engine(&wanted);
    let outcome = up(&sim, &wanted).await;
    assert_agrees(&outcome, &sim, &wanted);
    let calls = sim.calls().len();
    assert!(calls <= 3 * 100 + 8, "{calls} calls");
    assert_eq!(["create", "start", "rename"].map(|verb| sim.count(verb)), [101, 100, 100]);
    sim.forget_calls();
    let outcome = up(&sim, &wanted).await;
    assert_agrees(&outcome, &sim, &wanted);
    assert!(outcome.steps.is_empty() && outcome.changes.is_empty());
    assert_eq!(sim.calls(), ["list"]);
    let observed = control::observe(&sim, &wanted, &Memory::default()).await.unwrap();
    assert!(drillmaster::plan::forecast(&wanted, &observed, &Memory::default()).changes.is_empty());
    assert_eq!(sim.calls(), ["list", "list"]);
}

#[tokio::test(start_paused = true)]
async fn an_unhealthy_service_that_runs_is_not_ready() {
    let wanted = desired([service("db"), service("other")]);
    let sim = engine(&wanted);
    sim.add_image("db:1", Image::new("db").healthcheck(Some(ms(100))));
    assert_agrees(&up(&sim, &wanted).await, &sim, &wanted);
    sim.turn("shop-db", Health::Unhealthy);
    let hand = sim.clone();
    tokio::spawn(async move {
        tokio::time::sleep(Duration::from_secs(40)).await;
        hand.turn("shop-db", Health::Healthy);
    });
    let began = Instant::now();
    let outcome = up(&sim, &wanted).await;
    assert!(outcome.is_good(), "{}", describe(&outcome));
    assert!(began.elapsed() >= Duration::from_secs(40) && began.elapsed() < Duration::from_secs(42));
    assert!(outcome.steps.iter().all(|step| !matches!(step.verb, Verb::Start(_))));
}
