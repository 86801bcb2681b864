//! Runs that end early: interrupt, deadline, or a kill at any call.

use std::collections::BTreeSet;
use std::sync::Arc;
use std::time::Duration;

use drillmaster::control::event::{Limits, Request, RequestKind};
use drillmaster::control::{self, RunOptions};
use drillmaster::engine::Engine;
use drillmaster_sim::faulty::Stop;
use drillmaster_sim::{Image, Script};
use tokio::sync::mpsc;
use tokio::time::Instant;

use crate::builders::*;
use crate::harness::*;

#[tokio::test(start_paused = true)]
async fn next_run_completes_after_an_interrupt() {
    let wanted = diamond();
    for after in (0..3000).step_by(97) {
        let sim = Harness::of(&wanted);
        let (interrupt, interrupts) = mpsc::channel(1);
        let engine: Arc<dyn Engine> = Arc::new(sim.clone());
        tokio::spawn(async move {
            tokio::time::sleep(ms(after)).await;
            // The run may have ended already.
            let _ = interrupt.send(()).await;
            std::future::pending::<()>().await;
        });
        let outcome = control::run(engine, wanted.clone(), sim.options(), interrupts, |_| {}).await;
        let calls = sim.calls().len();
        if outcome.interrupted {
            assert!(!outcome.is_good());
            tokio::time::sleep(Duration::from_secs(60)).await;
            assert_eq!(sim.calls().len(), calls, "after {after}: calls after the end");
        }
        let outcome = sim.up(&wanted).await;
        assert_agrees(&outcome, &sim, &wanted);
    }
}

#[tokio::test(start_paused = true)]
async fn run_ends_at_its_deadline() {
    let wanted = desired([service("db").ping(Duration::from_secs(300)), service("api").needs("db"), service("other")]);
    let sim = Harness::of(&wanted);
    sim.add_image("db:1", Image::new("db").behaving(|db| db.exec = Script::Exits(1, "no".into())));
    let began = Instant::now();
    let limits = Limits { deadline: Some(Duration::from_secs(10)), ..LIMITS };
    let options = RunOptions { limits, ..sim.options() };
    let (outcome, _) = sim.run(Arc::new(sim.clone()), &wanted, options).await;
    assert!(outcome.timed_out && !outcome.is_good());
    assert!(began.elapsed() <= ms(10_500), "{:?}", began.elapsed());
    assert_eq!(outcome.ready, BTreeSet::from(["other".into()]));
    let reasons: Vec<&str> = outcome.waits.iter().map(|wait| wait.reason.as_str()).collect();
    assert_eq!(reasons, ["waiting for readiness probe (exec ping)", "waiting for db, which is not ready yet"]);
}

#[tokio::test(start_paused = true)]
async fn run_ends_on_request() {
    let wanted = desired([service("db").ping(Duration::from_secs(300))]);
    let sim = Harness::of(&wanted);
    sim.add_image("db:1", Image::new("db").behaving(|db| db.exec = Script::Exits(1, "no".into())));
    let began = Instant::now();
    let ((sender, requests), (_interrupt, interrupts)) = (mpsc::channel(1), mpsc::channel(1));
    let engine: Arc<dyn Engine> = Arc::new(sim.clone());
    let run = control::run_serving(engine, wanted.clone(), sim.options(), requests, interrupts, |_| {});
    let request = async {
        tokio::time::sleep(Duration::from_secs(10)).await;
        let (reply, mut reports) = mpsc::channel(1);
        sender.send(Request { kind: RequestKind::Shutdown { by: "me".into() }, reply }).await.unwrap();
        assert_eq!(reports.recv().await, None, "answered by its end");
    };
    let (outcome, ()) = tokio::join!(run, request);
    assert!(outcome.interrupted && !outcome.is_good());
    assert_eq!(outcome.ended_by.as_deref(), Some("me"));
    assert!(began.elapsed() <= ms(10_500), "{:?}", began.elapsed());
}

#[tokio::test(start_paused = true)]
async fn next_run_completes_after_a_kill_at_any_call() {
    let build = |value: &str| {
        [
            service("db")
                .volume("data", "/data")
                .anonymous_volume("/scratch")
                .env("LOG", value)
                .secret("/run/secrets/token", value)
                .ping(PING),
            service("api").needs("db").port("8080:80").ping(PING),
        ]
    };
    let mut old: Vec<Build> = build("info").into();
    old.push(service("gone").needs("db"));
    let (old, new) = (desired(old), desired(build("debug").into_iter().chain([service("web").needs("api")])));
    let prepare = || {
        let sim = Harness::of(&old);
        sim.set_stale(ms(70));
        sim.add_images(&new);
        sim
    };
    let mut expected: Option<String> = None;
    for (scenario, from) in [("cold", None), ("replacement", Some(&old))] {
        for executed in [false, true] {
            let mut volumes: Option<usize> = None;
            for at in 1.. {
                let sim = prepare();
                if let Some(from) = from {
                    assert_agrees(&sim.up(from).await, &sim, from);
                }
                let done = sim.up_killed(Stop { at, executed }, &new).await;
                if let Some(outcome) = &done {
                    assert_agrees(outcome, &sim, &new);
                }
                let outcome = sim.up(&new).await;
                assert!(outcome.is_good(), "{scenario}, killed at {at}: {}\n{:#?}", describe(&outcome), sim.calls());
                assert_agrees(&outcome, &sim, &new);
                let files = [("/run/secrets/token".to_owned(), "debug".to_owned())];
                assert_eq!(sim.files("shop-db"), files.into(), "{scenario}, killed at {at}");
                let found = picture(&sim.snapshot());
                assert_eq!(&found, expected.get_or_insert(found.clone()), "{scenario}, killed at {at}");
                assert!(!sim.calls().iter().any(|call| call.ends_with("by force")), "{scenario}, killed at {at}");
                let count = sim.volumes().len();
                // A candidate that never started may leave at most an empty anonymous volume.
                assert!(count <= *volumes.get_or_insert(2), "{scenario}, killed at {at}: {count} volumes");
                if done.is_some() {
                    assert!(at >= 20, "{scenario}: only {at} calls");
                    break;
                }
            }
        }
    }
}
