//! The lease of a group: two controllers on one engine, with paused time.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use drillmaster::control::RunOptions;
use drillmaster::control::event::Report;
use drillmaster::control::lease::{Attempt, HeldLease, acquire, holder};
use drillmaster::engine::layer::{Call, Layer};
use drillmaster::engine::{Engine, EngineError, EngineFuture, EngineStream, Mutation};
use drillmaster::lease::{EXPIRES_AFTER, RENEW_INTERVAL, VALID_FOR, labels, volume_name};
use drillmaster_sim::Sim;
use drillmaster_sim::faulty::{Faults, Faulty};
use tokio::time::{Instant, advance, sleep, timeout};

use crate::builders::*;
use crate::harness::*;
use crate::watcher::*;

fn engine(sim: &Sim) -> Arc<dyn Engine> {
    Arc::new(sim.clone())
}

/// Takes the lease, and waits for any other controller.
async fn take(engine: Arc<dyn Engine>, watches: bool) -> HeldLease {
    match acquire(engine, GROUP, holder("up", watches), |_| true).await.unwrap() {
        Attempt::Acquired(lease, None) => lease,
        other => panic!("{other:?}"),
    }
}

fn leases(sim: &Sim) -> Vec<String> {
    sim.volumes().into_iter().filter(|name| name.contains(".lease.")).collect()
}

#[tokio::test(start_paused = true)]
async fn lease_is_renewed_and_released() {
    let sim = Sim::new();
    let lease = take(engine(&sim), true).await;
    assert_eq!(leases(&sim), ["shop.lease.1"]);
    sleep(RENEW_INTERVAL * 5 / 2).await;
    assert_eq!(leases(&sim), ["shop.lease.3"], "the previous ones are removed");
    lease.release().await;
    assert_eq!(leases(&sim), Vec::<String>::new());
    assert_eq!(sim.snapshot().volumes.len(), 0);
}

#[tokio::test(start_paused = true)]
async fn one_of_many_takes_the_lease() {
    let sim = Sim::new();
    let attempts = (0..8).map(|_| acquire(engine(&sim), GROUP, holder("up", false), |_| false));
    let attempts = futures_util::future::join_all(attempts).await;
    let acquired = attempts.iter().filter(|attempt| matches!(attempt, Ok(Attempt::Acquired(_, None)))).count();
    let held = attempts.iter().filter(|attempt| matches!(attempt, Ok(Attempt::Held(_)))).count();
    assert_eq!((acquired, held), (1, 7), "{attempts:?}");
}

#[tokio::test(start_paused = true)]
async fn next_controller_waits_for_the_release() {
    let sim = Sim::new();
    let first = take(engine(&sim), false).await;
    let other = sim.clone();
    let second = tokio::spawn(async move { take(engine(&other), false).await });
    sleep(EXPIRES_AFTER * 5).await;
    assert!(!second.is_finished(), "a lease that is renewed does not end");
    first.release().await;
    timeout(s(2), second).await.expect("it takes the lease at once").unwrap();
}

#[tokio::test(start_paused = true)]
async fn lease_that_is_not_renewed_ends() {
    let sim = Sim::new();
    // As if its process had been killed on another host.
    drop(take(engine(&sim), true).await);
    let start = Instant::now();
    let second = take(engine(&sim), true).await;
    assert!(start.elapsed() >= EXPIRES_AFTER, "{:?}", start.elapsed());
    assert!(start.elapsed() < EXPIRES_AFTER + s(2), "{:?}", start.elapsed());
    sleep(s(1)).await;
    assert_eq!(leases(&sim), ["shop.lease.2"]);
    second.release().await;
}

/// The process is suspended while it creates the first volume.
struct SuspendedOnce {
    sim: Sim,
    done: AtomicBool,
}

impl Layer for SuspendedOnce {
    fn inner(&self) -> &dyn Engine {
        &self.sim
    }

    fn call<'a, T: Send + 'static>(&'a self, call: Call<'a>, result: EngineFuture<'a, T>) -> EngineFuture<'a, T> {
        let suspends = matches!(call, Call::CreateVolume(_)) && !self.done.swap(true, Ordering::Relaxed);
        Box::pin(async move {
            let result = result.await;
            if suspends {
                advance(RENEW_INTERVAL).await;
            }
            result
        })
    }

    fn stream<'a, T: Send + 'static>(
        &'a self,
        _: Call<'a>,
        open: impl FnOnce() -> EngineStream<'a, T> + Send + 'a,
    ) -> EngineStream<'a, T> {
        open()
    }
}

#[tokio::test(start_paused = true)]
async fn response_that_is_seen_too_late_does_not_count() {
    let sim = Sim::new();
    let engine = Arc::new(SuspendedOnce { sim: sim.clone(), done: AtomicBool::new(false) });
    let lease = take(engine, false).await;
    let call = |verb: &str| format!("{verb} volume shop.lease.1");
    assert_eq!(sim.calls(), ["volumes".to_owned(), call("create"), call("remove"), "volumes".into(), call("create")]);
    lease.release().await;
}

#[tokio::test(start_paused = true)]
async fn recent_lease_of_a_watch_is_recognized() {
    let sim = Sim::new();
    let recent = async |lease: HeldLease| {
        let attempt = acquire(engine(&sim), GROUP, holder("up", false), |_| false).await.unwrap();
        let Attempt::Held(held) = attempt else { panic!("{attempt:?}") };
        drop(lease);
        (held.is_of_watch(), held.is_recent())
    };
    let lease = take(engine(&sim), true).await;
    sleep(EXPIRES_AFTER * 3).await;
    assert_eq!(recent(lease).await, (true, true));
    sleep(EXPIRES_AFTER).await;
    assert_eq!(recent(take(engine(&sim), true).await).await, (true, true));
}

#[tokio::test(start_paused = true)]
async fn two_watches_do_not_act_together() {
    let wanted = desired([service("api").ping(PING)]);
    let sim = Harness::of(&wanted);
    let faults = Faults { broken: 1000, verbs: vec!["volumes"], ..Faults::default() };
    let cut_off = Arc::new(Faulty::new(engine(&sim), faults));
    cut_off.disable();
    let lease = take(cut_off.clone(), true).await;
    let options = RunOptions { lease: Some(lease.monitor()), ..sim.options() };
    let mut first = sim.watch_with(cut_off.clone(), &wanted, false, options);
    first.agrees(&wanted).await;

    // The first one cannot renew its lease, and the second one takes it after a while.
    cut_off.enable();
    let second = take(engine(&sim), true).await;
    assert!(!first.task.is_finished());
    cut_off.disable();
    let outcome = timeout(s(5), &mut first.task).await.expect("the first watch ends").unwrap();
    let lost = outcome.lease_lost.unwrap();
    assert!(lost.is_of_watch() && !outcome.interrupted, "{lost:?}");
    assert!(first.has(|report| matches!(report, Report::Stopping(why) if why.contains("has taken over the group"))));
    sleep(RENEW_INTERVAL * 2).await;
    assert_eq!(leases(&sim).len(), 1, "the second one renews its lease");
    assert!(agree(&sim, &wanted), "containers keep running");
    second.release().await;
}

#[tokio::test(start_paused = true)]
async fn suspended_watch_checks_its_lease_before_it_acts() {
    let wanted = desired([service("api").ping(PING)]);
    let sim = Harness::of(&wanted);
    let lease = take(engine(&sim), true).await;
    let options = RunOptions { lease: Some(lease.monitor()), ..sim.options() };
    let mut watcher = sim.watch_with(engine(&sim), &wanted, false, options);
    watcher.agrees(&wanted).await;
    // As while the process is suspended: another controller takes over, and changes something.
    let name = volume_name(GROUP, 100);
    let other = labels(GROUP, &holder("up --watch", true));
    Engine::create_volume(&*sim, &name, &other).await.unwrap();
    watcher.clear();
    sim.docker_kill("shop-api");
    advance(VALID_FOR).await;
    let outcome = timeout(s(5), &mut watcher.task).await.expect("the watch ends").unwrap();
    assert!(outcome.lease_lost.is_some());
    assert_eq!(sim.calls(), ["volumes"]);
}

#[tokio::test(start_paused = true)]
async fn pruned_lease_is_created_again() {
    let sim = Sim::new();
    let lease = take(engine(&sim), true).await;
    sim.apply(&Mutation::RemoveVolume("shop.lease.1".into())).await.unwrap();
    sleep(RENEW_INTERVAL * 3 / 2).await;
    assert_eq!(leases(&sim), ["shop.lease.1"]);
    lease.release().await;
}

#[tokio::test(start_paused = true)]
async fn engine_without_lease_does_not_stop_a_run() {
    let wanted = desired([service("api").ping(PING)]);
    let sim = Harness::of(&wanted);
    sim.set_disk_full(true);
    let attempt = acquire(engine(&sim), GROUP, holder("up", true), |_| true).await.unwrap();
    let Attempt::Acquired(lease, Some(error)) = attempt else { panic!("{attempt:?}") };
    assert!(error.to_string().contains("no space left on device"), "{error}");
    let options = RunOptions { lease: Some(lease.monitor()), ..sim.options() };
    let watcher = sim.watch_with(engine(&sim), &wanted, false, options);
    sim.set_disk_full(false);
    watcher.agrees(&wanted).await;
    sleep(s(5)).await;
    assert_eq!(leases(&sim).len(), 1, "it is taken when the engine can have it");
    // A lease that can no longer be renewed is reported once, and does not end the watch.
    watcher.clear();
    sim.set_disk_full(true);
    sleep(VALID_FOR * 5).await;
    let notes = watcher.count(|report| matches!(report, Report::Note(note) if note.contains("cannot renew the lease")));
    assert_eq!(notes, 1, "{:#?}", watcher.reports);
    assert!(!watcher.task.is_finished());
    lease.release().await;
}

#[tokio::test(start_paused = true)]
async fn foreign_volume_with_the_name_of_a_lease_is_not_removed() {
    let sim = Sim::new();
    sim.create_volume("shop.lease.1");
    let attempt = acquire(engine(&sim), GROUP, holder("up", true), |_| true).await.unwrap();
    assert!(matches!(&attempt, Attempt::Acquired(_, Some(EngineError::Conflict { .. }))), "{attempt:?}");
    assert_eq!(sim.volumes(), ["shop.lease.1"]);
}
