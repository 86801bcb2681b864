//! Outputs on the simulated engine in paused time: consumers wait for them, are marked in plans, and are replaced when
//! they change.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use drillmaster::control::event::{Outcome, Reading};
use drillmaster::control::execute::outputs::OutputMap;
use drillmaster::desired::{Desired, HookPoint, Rerun};
use drillmaster::engine::Engine;
use drillmaster::observed::State;
use drillmaster::plan::step::Reason;
use drillmaster::spec::model::Condition;
use drillmaster_sim::faulty::{Faulty, Stop};
use drillmaster_sim::{Image, Script, Sim};

use crate::builders::*;
use crate::harness::*;

/// The desired state for known outputs: `db` outputs a user id for `api`; `web` is unrelated; `report` consumes an
/// output of the job `schema`.
fn wanted(image: &str, known: &OutputMap) -> Desired {
    let value = |key: &str| known.get(key).map(String::as_str);
    desired([
        service("db")
            .image(image)
            .ping(PING)
            .hook(HookPoint::PostStart, &["init"])
            .with_capture(HookPoint::PostStart, "user"),
        service("api").env_of("USER", Some(("db", Condition::Ready)), "user", value("user")),
        service("schema").job(0, Rerun::Never),
        service("report").env_of("SCHEMA", None, "schema", value("schema")),
        service("web"),
    ])
}

/// An engine on which `db:1` and `db:3` output user 7 and `db:2` outputs user 8.
fn engine() -> Harness {
    let sim = Harness::with_images(&["api:1", "report:1", "web:1"]);
    for (image, user) in [("db:1", "7\n"), ("db:2", "8\n"), ("db:3", "7\n")] {
        let init = Script::Exits(0, user.into());
        sim.add_image(image, Image::new(image).behaving(|it| _ = it.programs.insert("init".into(), init)));
    }
    let job = Image::new("schema:1").behaving(|it| {
        it.exits = Some((Duration::from_secs(2), 0));
        it.output_file = "schema=v1\n".into();
    });
    sim.add_image("schema:1", job);
    sim
}

/// Runs with specs that are reloaded when an output changes.
async fn run_on(
    sim: &Harness,
    engine: Arc<dyn Engine>,
    wanted: impl Fn(&OutputMap) -> Desired + Send + Sync + 'static,
) -> Outcome {
    let mut options = sim.options();
    let outputs = options.context.outputs.clone();
    let first = wanted(&outputs.values());
    options.read = Some(Arc::new(move || {
        let reading = Reading::Valid(Box::new(wanted(&outputs.values())));
        Box::pin(std::future::ready(reading))
    }));
    sim.run(engine, &first, options).await.0
}

async fn up(sim: &Harness, image: &'static str) -> Outcome {
    run_on(sim, Arc::new((**sim).clone()), move |known| wanted(image, known)).await
}

fn known(sim: &Harness) -> OutputMap {
    sim.outputs().values()
}

fn output_map(pairs: &[(&str, &str)]) -> OutputMap {
    pairs.iter().map(|(key, value)| ((*key).to_owned(), (*value).to_owned())).collect()
}

fn count(sim: &Sim, call: &str) -> usize {
    sim.calls().iter().filter(|it| *it == call).count()
}

/// Returns the ids of current containers by service.
fn ids(sim: &Sim) -> BTreeMap<String, String> {
    let snapshot = sim.snapshot();
    let services = snapshot.of_group(GROUP).map(|it| (it.service_of(GROUP).unwrap().to_owned(), it.id.to_string()));
    services.collect()
}

#[test]
fn plan_shows_outputs_known_after_apply() {
    let desired = wanted("db:1", &OutputMap::new());
    insta::assert_snapshot!("outputs_first", plan_text(&desired, &empty(&desired)));
    // A running service with a lost output is not touched; a job reruns to set its outputs.
    let mut observed = agreeing(&wanted("db:1", &output_map(&[("user", "7"), ("schema", "v1")])));
    by_name(&mut observed, "shop-schema").state = State::Exited { code: Some(0) };
    insta::assert_snapshot!("outputs_lost", plan_text(&desired, &observed));
    let known = wanted("db:1", &output_map(&[("user", "8"), ("schema", "v1")]));
    insta::assert_snapshot!("outputs_changed", plan_text(&known, &observed));
}

#[tokio::test(start_paused = true)]
async fn consumer_is_created_once_with_the_output_value() {
    let sim = engine();
    let outcome = up(&sim, "db:1").await;
    assert!(outcome.is_good(), "{outcome:#?}");
    assert_eq!(known(&sim), output_map(&[("user", "7"), ("schema", "v1")]));
    assert_eq!(count(&sim, "exec shop-db.new init"), 1);
    assert!(sim.call_index("exec shop-db.new init") < sim.call_index("create shop-api.new"));
    assert!(sim.call_index("rename shop-db.new to shop-db") < sim.call_index("create shop-api.new"));
    for service in ["api", "report", "web", "db", "schema"] {
        assert_eq!(count(&sim, &format!("create shop-{service}.new")), 1);
    }
    let wanted = wanted("db:1", &known(&sim));
    for container in sim.snapshot().of_group(GROUP) {
        let service = &wanted.services[container.service_of(GROUP).unwrap()];
        assert_eq!(container.identity.as_ref().unwrap().env_hash, service.fingerprint.env_hash, "{}", service.name);
    }
    sim.clear_calls();
    assert!(up(&sim, "db:1").await.is_good());
    assert!(sim.calls().iter().all(|call| !call.starts_with("create") && !call.ends_with("init")), "{:?}", sim.calls());
}

#[tokio::test(start_paused = true)]
async fn changed_output_replaces_only_its_consumers() {
    let sim = engine();
    assert!(up(&sim, "db:1").await.is_good());
    let before = ids(&sim);
    assert!(up(&sim, "db:3").await.is_good(), "new container, same output");
    let same = ids(&sim);
    let changed: Vec<&String> = before.keys().filter(|name| before[*name] != same[*name]).collect();
    assert_eq!(changed, ["db"]);
    assert!(up(&sim, "db:2").await.is_good());
    let after = ids(&sim);
    let changed: Vec<&String> = after.keys().filter(|name| after[*name] != same[*name]).collect();
    assert_eq!(changed, ["api", "db"]);
    assert_eq!(known(&sim)["user"], "8");
}

#[tokio::test(start_paused = true)]
async fn lost_output_is_restored_by_job_or_reload() {
    let mut sim = engine();
    assert!(up(&sim, "db:1").await.is_good());
    let before = ids(&sim);
    sim.clear_state();
    let outcome = up(&sim, "db:1").await;
    assert_eq!(known(&sim), output_map(&[("schema", "v1")]));
    assert_eq!(ids(&sim), before, "running containers are not touched");
    let waits: Vec<&str> = outcome.waits.iter().map(|wait| wait.reason.as_str()).collect();
    let reason = "waiting for output `user` of db, which did not set it; `drillmaster reload db` runs it again";
    assert_eq!(waits, [reason]);
}

#[tokio::test(start_paused = true)]
async fn missing_output_leaves_consumer_pending() {
    let sim = engine();
    sim.add_image("api:1", Image::new("api:1"));
    let wanted = |known: &OutputMap| {
        let value = known.get("user").map(String::as_str);
        desired([service("api").env_of("USER", None, "user", value), service("web")])
    };
    let outcome = run_on(&sim, Arc::new(sim.clone()), wanted).await;
    assert!(!outcome.is_good() && outcome.ready.contains("web"));
    assert_eq!(outcome.waits[0].reason, "waiting for output `user` (not set yet)");
    assert_eq!(sim.id_of("shop-api.new"), None);
}

#[tokio::test(start_paused = true)]
async fn invalid_outputs_fail_the_job() {
    let sim = engine();
    let job = Image::new("schema:1").behaving(|it| {
        it.exits = Some((Duration::from_secs(2), 0));
        it.output_file = "schema\n".into();
    });
    sim.add_image("schema:1", job);
    let outcome = up(&sim, "db:1").await;
    let failure = &outcome.failed["schema"].failure;
    assert_eq!(failure.reason, Reason::OutputInvalid);
    assert_eq!(failure.message, "succeeded, but line 1 of the output file is not `key=value`");
    assert!(outcome.ready.contains("api"), "{outcome:#?}");
}

#[tokio::test(start_paused = true)]
async fn next_run_sets_the_same_outputs_after_a_kill() {
    let calls = {
        let sim = engine();
        up(&sim, "db:1").await;
        sim.calls().len() as u64
    };
    for at in 1..=calls {
        for executed in [false, true] {
            let sim = engine();
            let faulty = Arc::new(Faulty::stopping(Arc::new(sim.clone()), Stop { at, executed }));
            tokio::select! {
                _ = run_on(&sim, faulty.clone(), |known| wanted("db:1", known)) => {}
                () = faulty.stopped() => {}
            }
            let outcome = up(&sim, "db:1").await;
            assert!(outcome.is_good(), "killed at call {at}: {outcome:#?}");
            assert_eq!(known(&sim), output_map(&[("user", "7"), ("schema", "v1")]), "killed at call {at}");
            let made: Vec<String> = sim.calls().into_iter().filter(|call| call == "create shop-api.new").collect();
            assert!(made.len() <= 2, "killed at call {at}: {:#?}", sim.calls());
            assert_eq!(sim.snapshot().of_group(GROUP).count(), 5);
        }
    }
}
