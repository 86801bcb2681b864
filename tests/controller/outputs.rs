//! Outputs: who is made of one waits for it, is told apart in a plan, and is replaced when it changes; on the simulated
//! engine, in paused time.

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

/// What the specs ask for while these outputs are known: `db` creates a user whose id `api` is told; `web` has nothing to
/// do with it; `schema` is a job, of whose output `report` is made.
fn wanted(image: &str, known: &OutputMap) -> Desired {
    let value = |key: &str| known.get(key).map(String::as_str);
    desired([
        service("db")
            .image(image)
            .ping(PING)
            .hook(HookPoint::PostStart, &["init"])
            .captured(HookPoint::PostStart, "user"),
        service("api").env_of("USER", Some(("db", Condition::Ready)), "user", value("user")),
        service("schema").job(0, Rerun::Never),
        service("report").env_of("SCHEMA", None, "schema", value("schema")),
        service("web"),
    ])
}

/// An engine on which `db:1` calls the user 7, `db:2` calls it 8, and `db:3` calls it 7 as well.
fn engine() -> Harness {
    let sim = Harness::with_images(&["api:1", "report:1", "web:1"]);
    for (image, user) in [("db:1", "7\n"), ("db:2", "8\n"), ("db:3", "7\n")] {
        let init = Script::Ends(0, user.into());
        sim.add_image(image, Image::new(image).behaving(|it| _ = it.programs.insert("init".into(), init)));
    }
    let job = Image::new("schema:1").behaving(|it| {
        it.exits = Some((Duration::from_secs(2), 0));
        it.gives = "schema=v1\n".into();
    });
    sim.add_image("schema:1", job);
    sim
}

/// Runs with specs that are read again whenever an output changes.
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

fn given(pairs: &[(&str, &str)]) -> OutputMap {
    pairs.iter().map(|(key, value)| ((*key).to_owned(), (*value).to_owned())).collect()
}

fn count(sim: &Sim, call: &str) -> usize {
    sim.calls().iter().filter(|it| *it == call).count()
}

/// Ids of the containers that serve, by service.
fn ids(sim: &Sim) -> BTreeMap<String, String> {
    let snapshot = sim.snapshot();
    let services = snapshot.of_group(GROUP).map(|it| (it.service_of(GROUP).unwrap().to_owned(), it.id.to_string()));
    services.collect()
}

#[test]
fn plan_shows_known_after_apply() {
    let desired = wanted("db:1", &OutputMap::new());
    insta::assert_snapshot!("outputs_first", plan_text(&desired, &empty(&desired)));
    // Who runs already and whose output was lost is not touched; a job gives its outputs again.
    let mut observed = agreeing(&wanted("db:1", &given(&[("user", "7"), ("schema", "v1")])));
    by_name(&mut observed, "shop-schema").state = State::Exited { code: Some(0) };
    insta::assert_snapshot!("outputs_lost", plan_text(&desired, &observed));
    let known = wanted("db:1", &given(&[("user", "8"), ("schema", "v1")]));
    insta::assert_snapshot!("outputs_changed", plan_text(&known, &observed));
}

#[tokio::test(start_paused = true)]
async fn consumer_of_an_output_is_created_once_with_its_value() {
    let sim = engine();
    let outcome = up(&sim, "db:1").await;
    assert!(outcome.is_good(), "{outcome:#?}");
    assert_eq!(known(&sim), given(&[("user", "7"), ("schema", "v1")]));
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
    sim.forget_calls();
    assert!(up(&sim, "db:1").await.is_good());
    assert!(sim.calls().iter().all(|call| !call.starts_with("create") && !call.ends_with("init")), "{:?}", sim.calls());
}

#[tokio::test(start_paused = true)]
async fn changed_output_replaces_only_its_consumers() {
    let sim = engine();
    assert!(up(&sim, "db:1").await.is_good());
    let before = ids(&sim);
    assert!(up(&sim, "db:3").await.is_good(), "another container, and the same output");
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
async fn lost_output_is_collected_from_job_or_needs_reload() {
    let mut sim = engine();
    assert!(up(&sim, "db:1").await.is_good());
    let before = ids(&sim);
    sim.lose_state();
    let outcome = up(&sim, "db:1").await;
    assert_eq!(known(&sim), given(&[("schema", "v1")]));
    assert_eq!(ids(&sim), before, "what runs goes on");
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
async fn outputs_that_cannot_be_used_fail_the_job() {
    let sim = engine();
    let job = Image::new("schema:1").behaving(|it| {
        it.exits = Some((Duration::from_secs(2), 0));
        it.gives = "schema\n".into();
    });
    sim.add_image("schema:1", job);
    let outcome = up(&sim, "db:1").await;
    let failure = &outcome.failed["schema"].failure;
    assert_eq!(failure.reason, Reason::OutputInvalid);
    assert_eq!(failure.message, "succeeded, but line 1 of the output file is not `key=value`");
    assert!(outcome.ready.contains("api"), "{outcome:#?}");
}

#[tokio::test(start_paused = true)]
async fn whenever_the_run_is_killed_the_next_one_comes_to_the_same() {
    let calls = {
        let sim = engine();
        up(&sim, "db:1").await;
        sim.calls().len() as u64
    };
    for at in 1..=calls {
        for carried_out in [false, true] {
            let sim = engine();
            let faulty = Arc::new(Faulty::stopping(Arc::new(sim.clone()), Stop { at, carried_out }));
            tokio::select! {
                _ = run_on(&sim, faulty.clone(), |known| wanted("db:1", known)) => {}
                () = faulty.stopped() => {}
            }
            let outcome = up(&sim, "db:1").await;
            assert!(outcome.is_good(), "killed at call {at}: {outcome:#?}");
            assert_eq!(known(&sim), given(&[("user", "7"), ("schema", "v1")]), "killed at call {at}");
            let made: Vec<String> = sim.calls().into_iter().filter(|call| call == "create shop-api.new").collect();
            assert!(made.len() <= 2, "killed at call {at}: {:#?}", sim.calls());
            assert_eq!(sim.snapshot().of_group(GROUP).count(), 5);
        }
    }
}
