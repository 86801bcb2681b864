//! When hooks are run, on the simulated engine, in paused time. How one is run is `hooks.rs`' business.

use drillmaster::desired::{Desired, HookPoint, Mode, Scope};
use drillmaster::plan::step::Reason;
use drillmaster::spec::model::Condition;
use drillmaster_sim::faulty::Stop;
use drillmaster_sim::{Image, Script, Sim};

use crate::builders::*;
use crate::harness::*;

/// `db` is initialised once it answers, and says goodbye before it is stopped; `api` needs it.
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

/// How often a hook of `db` was run.
fn count(sim: &Sim, hook: &str) -> usize {
    sim.calls().iter().filter(|call| call.starts_with("exec shop-db") && call.ends_with(hook)).count()
}

#[tokio::test(start_paused = true)]
async fn hooks_stand_between_what_they_are_named_after() {
    let wanted = hooks_run("db:1");
    let sim = engine();
    assert!(sim.up(&wanted).await.is_good());
    assert!(sim.call_index("exec shop-db.new ping") < sim.call_index("exec shop-db.new init"));
    assert!(sim.call_index("exec shop-db.new init") < sim.call_index("exec shop-db.new fill"));
    assert!(sim.call_index("exec shop-db.new fill") < sim.call_index("rename shop-db.new to shop-db"));
    assert!(sim.call_index("rename shop-db.new to shop-db") < sim.call_index("create shop-api.new"));
    assert_eq!((count(&sim, "init"), count(&sim, "fill"), count(&sim, "bye")), (1, 1, 0));
    assert!(sim.up(&wanted).await.is_good());
    assert_eq!(count(&sim, "init"), 1, "what is as it should be is left alone");
    sim.stop_by_hand("shop-db");
    assert!(sim.up(&wanted).await.is_good());
    assert_eq!(count(&sim, "init"), 1, "a restart is no creation");
    sim.forget_calls();
    let down = wanted.without_services(Scope::All, Mode::Reconcile { purge_volumes: false, purge_images: false });
    assert!(sim.up(&down).await.is_good());
    assert!(sim.call_index("exec shop-db bye") < sim.call_index("stop shop-db"));
}

#[tokio::test(start_paused = true)]
async fn replacement_is_initialised_before_old_one_is_removed() {
    let sim = engine();
    assert!(sim.up(&hooks_run("db:1")).await.is_good());
    sim.forget_calls();
    assert!(sim.up(&hooks_run("db:2")).await.is_good());
    assert!(sim.call_index("exec shop-db.new fill") < sim.call_index("exec shop-db bye"));
    assert!(sim.call_index("exec shop-db bye") < sim.call_index("stop shop-db"));
}

#[tokio::test(start_paused = true)]
async fn failed_initialisation_fails_service_and_rolls_back() {
    let fails = |image: &str| {
        Image::new(image).behaving(|it| {
            it.programs.insert("fill".into(), Script::Ends(3, "no room".into()));
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
    assert_eq!(sim.id_of("shop-db"), before, "the old one serves on");
    assert_eq!(sim.id_of("shop-db.new"), None);
}

#[tokio::test(start_paused = true)]
async fn a_goodbye_that_fails_holds_nothing_up() {
    let sim = engine();
    sim.add_image(
        "db:1",
        Image::new("db:1").behaving(|it| {
            it.programs.insert("bye".into(), Script::Ends(1, String::new()));
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
async fn whenever_the_run_is_killed_each_hook_has_run_in_the_end() {
    let wanted = hooks_run("db:1");
    let calls = {
        let sim = engine();
        sim.up(&wanted).await;
        sim.calls().len() as u64
    };
    for at in 1..=calls {
        for carried_out in [false, true] {
            let sim = engine();
            sim.up_killed(Stop { at, carried_out }, &wanted).await;
            let outcome = sim.up(&wanted).await;
            assert!(outcome.is_good(), "killed at call {at}: {outcome:#?}");
            assert!(count(&sim, "init") >= 1 && count(&sim, "fill") >= 1, "killed at call {at}: {:#?}", sim.calls());
            assert_eq!(sim.snapshot().of_group(GROUP).count(), 2);
        }
    }
}
