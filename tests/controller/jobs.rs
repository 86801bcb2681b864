//! Jobs on the simulated engine in paused time: run once before their dependents, and again on request.

use drillmaster::control::event::Report;
use drillmaster::desired::{Desired, Rerun};
use drillmaster::observed::State;
use drillmaster::plan::step::{Action, Reason};
use drillmaster::plan::{Memory, forecast};
use drillmaster::spec::model::Condition;
use drillmaster_sim::faulty::Stop;
use drillmaster_sim::{Image, Sim};

use crate::builders::*;
use crate::harness::*;

/// A database, a job that depends on it, and a service that depends on the job.
fn migrated(retries: u32, rerun: Rerun) -> Desired {
    desired([
        service("db").ping(s(20)),
        service("migrate").needs("db").job(retries, rerun),
        service("api").needs_that("migrate", Condition::Succeeded, false),
    ])
}

/// An engine on which the job exits with this code after two seconds.
fn engine(wanted: &Desired, code: i64) -> Harness {
    let sim = Harness::new();
    for service in wanted.services.values() {
        let image = Image::new(&service.config.image);
        let image = if service.is_job() { image.behaving(|it| it.exits = Some((s(2), code))) } else { image };
        sim.add_image(&service.config.image, image);
    }
    sim
}

fn runs(sim: &Sim) -> usize {
    sim.history().iter().filter(|line| line.starts_with("started shop-migrate")).count()
}

#[tokio::test(start_paused = true)]
async fn job_runs_once_between_dependencies_and_dependents() {
    let wanted = migrated(0, Rerun::Never);
    let sim = engine(&wanted, 0);
    let outcome = sim.up(&wanted).await;
    assert!(outcome.is_good(), "{outcome:#?}");
    assert_eq!(outcome.ready, wanted.services.keys().cloned().collect());
    assert!(sim.change_index("renamed shop-db.new to shop-db") < sim.change_index("created shop-migrate.new"));
    assert!(
        sim.change_index("died shop-migrate.new (0)") < sim.change_index("renamed shop-migrate.new to shop-migrate")
    );
    assert!(sim.change_index("renamed shop-migrate.new to shop-migrate") < sim.change_index("created shop-api.new"));
    let observed = sim.snapshot();
    let job = observed.containers.values().find(|it| it.name == "shop-migrate").unwrap();
    assert_eq!(job.state, State::Exited { code: Some(0) });
    assert_eq!(job.identity.as_ref().unwrap().kind, "Job");
    sim.clear_calls();
    assert!(sim.up(&wanted).await.is_good());
    assert_eq!(runs(&sim), 0, "a succeeded job does not run again");
    assert_eq!(forecast(&wanted, &sim.snapshot(), &Memory::default()).changes, []);
}

#[tokio::test(start_paused = true)]
async fn failed_job_is_retried_with_backoff() {
    for retries in [0, 3] {
        let wanted = migrated(retries, Rerun::Never);
        let sim = engine(&wanted, 7);
        let begin = tokio::time::Instant::now();
        let (outcome, reports) = sim.up_reporting(&wanted).await;
        let failure = &outcome.failed["migrate"].failure;
        assert_eq!((failure.reason, failure.message.as_str()), (Reason::Exited, "exited with code 7"));
        assert_eq!(runs(&sim), 1 + retries as usize);
        let failures = reports.iter().filter(|report| matches!(report, Report::Failed(_))).count();
        assert_eq!(failures, 1 + retries as usize, "each failure is reported");
        assert_eq!(begun(&reports, "migrate"), [Action::Create].repeat(1 + retries as usize), "and each attempt");
        assert!(outcome.waits.iter().any(|wait| wait.service == "api"), "{:?}", outcome.waits);
        assert!(sim.id_of("shop-api.new").is_none() && sim.id_of("shop-migrate.new").is_some());
        if retries == 3 {
            assert!(begin.elapsed() > s(4 * 2 + 1 + 2 + 4), "{:?}", begin.elapsed());
        }
    }
}

#[tokio::test(start_paused = true)]
async fn job_that_succeeds_on_retry_is_done() {
    let wanted = migrated(3, Rerun::Never);
    let sim = engine(&wanted, 0);
    // The job fails at its first two starts.
    sim.add_image(
        "migrate:1",
        Image::new("migrate:1").behaving(|it| {
            it.exits = Some((s(2), 0));
            it.failing_starts = 2;
        }),
    );
    let outcome = sim.up(&wanted).await;
    assert!(outcome.is_good(), "{outcome:#?}");
    assert_eq!(runs(&sim), 3);
}

#[tokio::test(start_paused = true)]
async fn changed_job_reruns_and_keeps_last_success_until_then() {
    let build = |value: &str| {
        desired([service("migrate").env("TO", value).job(0, Rerun::Never), service("api").needs("migrate")])
    };
    let sim = engine(&build("1"), 0);
    assert!(sim.up(&build("1")).await.is_good());
    let (job, api) = (sim.id_of("shop-migrate"), sim.id_of("shop-api"));
    sim.clear_calls();
    assert!(sim.up(&build("2")).await.is_good());
    assert_eq!(runs(&sim), 1);
    assert_ne!(sim.id_of("shop-migrate"), job);
    assert_eq!(sim.id_of("shop-api"), api, "a running dependent is not touched");
    assert!(sim.change_index("died shop-migrate.new (0)") < sim.change_index("removed shop-migrate"));
}

#[tokio::test(start_paused = true)]
async fn job_reruns_according_to_its_spec() {
    let always = migrated(0, Rerun::Always);
    let sim = engine(&always, 0);
    for _ in 0..3 {
        sim.clear_calls();
        assert!(sim.up(&always).await.is_good());
        assert_eq!(runs(&sim), 1, "{:#?}", sim.history());
    }
    let with = migrated(0, Rerun::WithDependencies);
    sim.clear_calls();
    assert!(sim.up(&with).await.is_good());
    assert_eq!(runs(&sim), 0);
    sim.remove("shop-db");
    sim.clear_calls();
    assert!(sim.up(&with).await.is_good());
    assert_eq!(runs(&sim), 1, "its dependency was replaced");
}

#[tokio::test(start_paused = true)]
async fn job_reruns_on_request() {
    let wanted = migrated(0, Rerun::Never);
    let sim = engine(&wanted, 0);
    assert!(sim.up(&wanted).await.is_good());
    sim.clear_calls();
    assert!(sim.reload(&wanted, &["migrate"]).await.is_good());
    assert_eq!(runs(&sim), 1);
}

#[tokio::test(start_paused = true)]
async fn succeeded_jobs_do_not_rerun_after_a_kill() {
    let wanted = migrated(0, Rerun::Never);
    let calls = {
        let sim = engine(&wanted, 0);
        sim.up(&wanted).await;
        sim.calls().len() as u64
    };
    for at in 1..=calls {
        for executed in [false, true] {
            let sim = engine(&wanted, 0);
            sim.up_killed(Stop { at, executed }, &wanted).await;
            let succeeded = sim.id_of("shop-migrate");
            let outcome = sim.up(&wanted).await;
            assert!(outcome.is_good(), "killed at call {at}: {outcome:#?}\n{:#?}", sim.history());
            if succeeded.is_some() {
                assert_eq!(sim.id_of("shop-migrate"), succeeded, "killed at call {at}");
            }
            assert_eq!(sim.snapshot().of_group(GROUP).count(), 3);
        }
    }
}
