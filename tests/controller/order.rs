//! Order of steps and number of engine calls of an `up`.

use std::time::Duration;

use drillmaster::control::{self};
use drillmaster::desired::Mode;
use drillmaster::observed::Health;
use drillmaster::plan::Memory;
use drillmaster::plan::step::Verb;
use drillmaster::spec::model::Condition;
use drillmaster_sim::{Image, Script};
use tokio::time::Instant;

use crate::builders::*;
use crate::harness::*;

#[tokio::test(start_paused = true)]
async fn chain_starts_in_order() {
    let wanted = desired([service("c").needs("b"), service("b").needs("a").ping(PING), service("a").ping(PING)]);
    let sim = Harness::of(&wanted);
    sim.add_image("a:1", Image::new("a").behaving(|a| a.exec = Script::SucceedsAfter(Duration::from_secs(3))));
    let outcome = sim.up(&wanted).await;
    assert_agrees(&outcome, &sim, &wanted);
    // Calls are recorded on arrival: dependents were not even requested earlier.
    let calls = sim.calls();
    assert_before(&calls, "rename shop-a.new to shop-a", "create shop-b.new");
    assert_before(&calls, "rename shop-b.new to shop-b", "create shop-c.new");
    let asked: Vec<&String> = calls.iter().filter(|call| call.starts_with("exec shop-a.new")).collect();
    assert!(asked.len() > 20, "expected a probe every 100 ms: {}", asked.len());
}

#[tokio::test(start_paused = true)]
async fn diamond_starts_in_order_with_parallel_branches() {
    let wanted = diamond();
    let sim = Harness::of(&wanted);
    let outcome = sim.up(&wanted).await;
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
    let sim = Harness::of(&wanted);
    sim.add_image(
        "slow:1",
        Image::new("slow").behaving(|slow| slow.exec = Script::SucceedsAfter(Duration::from_secs(10))),
    );
    let outcome = sim.up(&wanted).await;
    assert_agrees(&outcome, &sim, &wanted);
    assert_before(&sim.history(), "renamed shop-after.new to shop-after", "renamed shop-slow.new to shop-slow");
}

#[tokio::test(start_paused = true)]
async fn condition_started_does_not_wait_for_ping() {
    let wanted = desired([service("db").ping(PING), service("api").needs_that("db", Condition::Started, false)]);
    let sim = Harness::of(&wanted);
    sim.add_image("db:1", Image::new("db").behaving(|db| db.exec = Script::SucceedsAfter(Duration::from_secs(10))));
    let outcome = sim.up(&wanted).await;
    assert_agrees(&outcome, &sim, &wanted);
    assert_before(&sim.history(), "started shop-db.new", "created shop-api.new");
    assert_before(&sim.history(), "renamed shop-api.new to shop-api", "renamed shop-db.new to shop-db");
}

#[tokio::test(start_paused = true)]
async fn concurrent_steps_are_limited() {
    let wanted = desired((0..20).map(|n| service(&format!("s{n:02}")).image("app:1")));
    let sim = Harness::of(&wanted);
    let outcome = sim.up(&wanted).await;
    assert_agrees(&outcome, &sim, &wanted);
    assert_eq!(sim.max_concurrent(), 4);
    sim.clear_calls();
    let began = Instant::now();
    assert!(sim.up(&nothing()).await.is_good());
    assert_eq!(sim.max_concurrent(), 8);
    assert!(began.elapsed() < Duration::from_secs(2), "teardown is not parallel: {:?}", began.elapsed());
    assert_tidy(&sim, &nothing());
}

#[tokio::test(start_paused = true)]
async fn down_removes_dependents_first_and_keeps_volumes() {
    let wanted =
        desired([service("api").needs("db"), service("db").volume("data", "/data").anonymous_volume("/scratch")]);
    let sim = Harness::of(&wanted);
    assert_agrees(&sim.up(&wanted).await, &sim, &wanted);
    let volumes = sim.volumes();
    assert_eq!(volumes.len(), 2);
    let outcome = sim.up(&nothing()).await;
    assert!(outcome.is_good(), "{}", describe(&outcome));
    assert_before(&sim.calls(), "remove shop-api", "stop shop-db");
    assert_before(&sim.calls(), "remove shop-db", "remove network shop");
    assert_eq!(sim.volumes(), volumes);
    let mut purge = nothing();
    purge.mode = Mode::Reconcile { purge_volumes: true, purge_images: false };
    let outcome = sim.up(&purge).await;
    assert!(outcome.is_good(), "{}", describe(&outcome));
    assert_eq!(sim.volumes(), Vec::<String>::new());
}

#[tokio::test(start_paused = true)]
async fn down_with_volumes_removes_all_after_a_replacement() {
    let build = |value| desired([service("db").volume("data", "/data").env("A", value)]);
    let sim = Harness::of(&build("1"));
    sim.add_image("db:1", Image::new("db").volume("/var/lib/db"));
    assert_agrees(&sim.up(&build("1")).await, &sim, &build("1"));
    let volumes = sim.volumes();
    assert_agrees(&sim.up(&build("2")).await, &sim, &build("2"));
    assert_eq!(sim.volumes(), volumes, "the anonymous volume moves to the replacement");
    sim.create_volume("unmanaged");
    let mut purge = nothing();
    purge.mode = Mode::Reconcile { purge_volumes: true, purge_images: false };
    let outcome = sim.up(&purge).await;
    assert!(outcome.is_good(), "{}", describe(&outcome));
    assert!(sim.volumes().contains(&"unmanaged".to_owned()));
    assert!(!sim.volumes().contains(&"shop-data".to_owned()));
}

#[tokio::test(start_paused = true)]
async fn stop_and_start_follow_the_order_of_dependencies() {
    let wanted = desired([service("api").needs("db"), service("db").ping(PING)]);
    let sim = Harness::of(&wanted);
    assert_agrees(&sim.up(&wanted).await, &sim, &wanted);
    let ids = (sim.id_of("shop-api"), sim.id_of("shop-db"));
    let mut rest = nothing();
    rest.mode = Mode::StopOnly;
    sim.clear_calls();
    assert!(sim.up(&rest).await.is_good());
    assert_before(&sim.history(), "died shop-api (0)", "died shop-db (0)");
    assert!(sim.snapshot().of_group(GROUP).all(|container| !container.is_up()));
    let mut start = wanted.clone();
    start.mode = Mode::StartOnly;
    let outcome = sim.up(&start).await;
    assert_agrees(&outcome, &sim, &wanted);
    assert_before(&sim.history(), "started shop-db", "started shop-api");
    assert_eq!(ids, (sim.id_of("shop-api"), sim.id_of("shop-db")));
}

#[tokio::test(start_paused = true)]
async fn cold_up_takes_three_calls_per_service_and_no_op_one_list() {
    let wanted = desired((0..100).map(|n| service(&format!("s{n:03}")).image("app:1")));
    let sim = Harness::of(&wanted);
    let outcome = sim.up(&wanted).await;
    assert_agrees(&outcome, &sim, &wanted);
    let calls = sim.calls().len();
    assert!(calls <= 3 * 100 + 8, "{calls} calls");
    assert_eq!(["create", "start", "rename"].map(|verb| sim.count(verb)), [101, 100, 100]);
    sim.clear_calls();
    let outcome = sim.up(&wanted).await;
    assert_agrees(&outcome, &sim, &wanted);
    assert!(outcome.steps.is_empty() && outcome.changes.is_empty());
    assert_eq!(sim.calls(), ["list"]);
    let observed = control::observe(&*sim, &wanted, &Memory::default()).await.unwrap();
    assert!(drillmaster::plan::forecast(&wanted, &observed, &Memory::default()).changes.is_empty());
    assert_eq!(sim.calls(), ["list", "list"]);
}

#[tokio::test(start_paused = true)]
async fn running_unhealthy_service_is_not_ready() {
    let wanted = desired([service("db"), service("other")]);
    let sim = Harness::of(&wanted);
    sim.add_image("db:1", Image::new("db").healthcheck(Some(ms(100))));
    assert_agrees(&sim.up(&wanted).await, &sim, &wanted);
    sim.set_health("shop-db", Health::Unhealthy);
    let user = sim.clone();
    tokio::spawn(async move {
        tokio::time::sleep(Duration::from_secs(40)).await;
        user.set_health("shop-db", Health::Healthy);
    });
    let began = Instant::now();
    let outcome = sim.up(&wanted).await;
    assert!(outcome.is_good(), "{}", describe(&outcome));
    assert!(began.elapsed() >= Duration::from_secs(40) && began.elapsed() < Duration::from_secs(42));
    assert!(outcome.steps.iter().all(|step| !matches!(step.verb, Verb::Start(_))));
}
