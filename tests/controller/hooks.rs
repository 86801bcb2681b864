//! When hooks run, on the simulated engine in paused time. Their execution is tested in `tests/hooks`.

use drillmaster::desired::{Desired, HookPoint, Mode, Scope};
use drillmaster::plan::step::Reason;
use drillmaster::spec::model::Condition;
use drillmaster_sim::faulty::Stop;
use drillmaster_sim::{Image, Script, Sim};

use crate::builders::*;
use crate::harness::*;

/// `db` is initialised by hooks once ready and runs a hook before its stop; `api` depends on it.
fn hooks_run(image: &str) -> Desired {
    desired([
        service("db")
            .image(image)
            .ping(PING)
            .hook(HookPoint::PostStart, &["init"])
            .hook(HookPoint::PostStart, &["fill"])
            .hook(HookPoint::PreStop, &["bye"]),
        service("api").needs_that("db", Condition::Ready, false),
    ])
}

fn engine() -> Harness {
    Harness::with_images(&["db:1", "db:2", "api:1"])
}

/// Returns how often a hook of `db` ran.
fn count(sim: &Sim, hook: &str) -> usize {
    sim.calls().iter().filter(|call| call.starts_with("exec shop-db") && call.ends_with(hook)).count()
}

#[tokio::test(start_paused = true)]
async fn hooks_run_at_their_hook_points() {
    let wanted = hooks_run("db:1");
    let sim = engine();
    assert!(sim.up(&wanted).await.is_good());
    assert!(sim.call_index("exec shop-db.new ping") < sim.call_index("exec shop-db.new init"));
    assert!(sim.call_index("exec shop-db.new init") < sim.call_index("exec shop-db.new fill"));
    assert!(sim.call_index("exec shop-db.new fill") < sim.call_index("rename shop-db.new to shop-db"));
    assert!(sim.call_index("rename shop-db.new to shop-db") < sim.call_index("create shop-api.new"));
    assert_eq!((count(&sim, "init"), count(&sim, "fill"), count(&sim, "bye")), (1, 1, 0));
    assert!(sim.up(&wanted).await.is_good());
    assert_eq!(count(&sim, "init"), 1, "an unchanged service is not touched");
    sim.docker_stop("shop-db");
    assert!(sim.up(&wanted).await.is_good());
    assert_eq!(count(&sim, "init"), 1, "no post_start after a restart");
    sim.clear_calls();
    let down = wanted.without_services(Scope::All, Mode::Reconcile { purge_volumes: false, purge_images: false });
    assert!(sim.up(&down).await.is_good());
    assert!(sim.call_index("exec shop-db bye") < sim.call_index("stop shop-db"));
}

#[tokio::test(start_paused = true)]
async fn post_start_of_replacement_runs_before_pre_stop_of_old() {
    let sim = engine();
    assert!(sim.up(&hooks_run("db:1")).await.is_good());
    sim.clear_calls();
    assert!(sim.up(&hooks_run("db:2")).await.is_good());
    assert!(sim.call_index("exec shop-db.new fill") < sim.call_index("exec shop-db bye"));
    assert!(sim.call_index("exec shop-db bye") < sim.call_index("stop shop-db"));
}

#[tokio::test(start_paused = true)]
async fn failed_post_start_fails_service_and_rolls_back() {
    let fails = |image: &str| {
        Image::new(image).behaving(|it| {
            it.programs.insert("fill".into(), Script::Exits(3, "no room".into()));
        })
    };
    let sim = engine();
    sim.add_image("db:1", fails("db:1"));
    let outcome = sim.up(&hooks_run("db:1")).await;
    let failure = &outcome.failed["db"].failure;
    assert_eq!(failure.reason, Reason::HookFailed);
    assert_eq!(failure.message, "post_start hook failed: fill exited with code 3");
    assert!(outcome.waits.iter().any(|wait| wait.service == "api"), "{:?}", outcome.waits);
    assert_eq!((count(&sim, "init"), count(&sim, "fill")), (1, 1));

    let sim = engine();
    sim.add_image("db:2", fails("db:2"));
    assert!(sim.up(&hooks_run("db:1")).await.is_good());
    let before = sim.id_of("shop-db");
    let outcome = sim.up(&hooks_run("db:2")).await;
    assert_eq!(outcome.failed["db"].failure.reason, Reason::HookFailed);
    assert_eq!(sim.id_of("shop-db"), before, "the current container keeps running");
    assert_eq!(sim.id_of("shop-db.new"), None);
}

#[tokio::test(start_paused = true)]
async fn failed_pre_stop_does_not_block_removal() {
    let sim = engine();
    sim.add_image(
        "db:1",
        Image::new("db:1").behaving(|it| {
            it.programs.insert("bye".into(), Script::Exits(1, String::new()));
        }),
    );
    let wanted = hooks_run("db:1");
    assert!(sim.up(&wanted).await.is_good());
    assert!(
        sim.up(&wanted.without_services(Scope::All, Mode::Reconcile { purge_volumes: false, purge_images: false }))
            .await
            .is_good()
    );
    assert_eq!((count(&sim, "bye"), sim.snapshot().of_group(GROUP).count()), (1, 0));
}

#[tokio::test(start_paused = true)]
async fn hooks_have_run_after_a_kill_at_any_call() {
    let wanted = hooks_run("db:1");
    let calls = {
        let sim = engine();
        sim.up(&wanted).await;
        sim.calls().len() as u64
    };
    for at in 1..=calls {
        for executed in [false, true] {
            let sim = engine();
            sim.up_killed(Stop { at, executed }, &wanted).await;
            let outcome = sim.up(&wanted).await;
            assert!(outcome.is_good(), "killed at call {at}: {outcome:#?}");
            assert!(count(&sim, "init") >= 1 && count(&sim, "fill") >= 1, "killed at call {at}: {:#?}", sim.calls());
            assert_eq!(sim.snapshot().of_group(GROUP).count(), 2);
        }
    }
}
