//! Watch mode on the simulated engine in paused time: the controller keeps the [`invariants`] under any sequence of
//! changes and faults, and converges once the faults have ended.
//!
//! A failing seed is printed with its trace. `DRILLMASTER_SEED=123 cargo test --test simulation` repeats exactly this
//! run; `DRILLMASTER_SEEDS=20000` sets the number of seeds.

#![allow(clippy::unwrap_used, reason = "a panic fails the test")]

#[path = "../builders/mod.rs"]
mod builders;
mod engine;
mod invariants;
mod rng;
mod schedule;
mod world;

use std::ops::Range;
use std::sync::atomic::{AtomicU64, Ordering};
use std::thread;
use std::time::Duration;

use builders::{on_paused_time, seeds};
use drillmaster_sim::Personality;
use drillmaster_sim::faulty::{Faults, Stop};
use schedule::{Schedule, diamond};
use world::World;

/// Default number of seeds.
const SEEDS: u64 = 400;
/// Default number of seeds for engines other than Docker 20.10.
const SEEDS_OF_OTHERS: u64 = 100;

/// The result of one seed.
struct Run {
    trace: Vec<String>,
    violation: Option<String>,
    max_calls: usize,
    requests_needed: usize,
}

fn run(personality: Personality, seed: u64) -> Run {
    on_paused_time(async {
        let schedule = Schedule::draw(seed);
        let mut world = World::on(personality, seed, schedule);
        let violation = world.run().await.err();
        let invariants = world.invariants();
        Run {
            trace: invariants.trace.clone(),
            violation,
            max_calls: invariants.max_calls,
            requests_needed: invariants.requests_needed,
        }
    })
}

#[test]
fn controller_converges_under_faults() {
    converges(Personality::Docker20, seeds(SEEDS));
}

#[test]
fn controller_converges_on_docker_28() {
    converges(Personality::Docker28, seeds(SEEDS_OF_OTHERS));
}

#[test]
fn controller_converges_on_podman() {
    converges(Personality::Podman, seeds(SEEDS_OF_OTHERS));
}

#[allow(clippy::print_stdout, reason = "shown if a seed fails")]
fn converges(personality: Personality, seeds: Range<u64>) {
    let (next, end) = (AtomicU64::new(seeds.start), seeds.end);
    let threads = thread::available_parallelism().map_or(2, std::num::NonZero::get);
    let work = || {
        let (mut failures, mut max_calls, mut requests_needed) = (Vec::new(), 0, 0);
        loop {
            let seed = next.fetch_add(1, Ordering::Relaxed);
            if seed >= end {
                return (failures, max_calls, requests_needed);
            }
            let run = run(personality, seed);
            max_calls = max_calls.max(run.max_calls);
            requests_needed += run.requests_needed;
            if let Some(violation) = run.violation {
                failures.push((seed, violation, run.trace));
            }
        }
    };
    let (mut failures, mut max_calls, mut requests_needed) = (Vec::new(), 0, 0);
    thread::scope(|scope| {
        let workers: Vec<_> = (0..threads).map(|_| scope.spawn(work)).collect();
        for worker in workers {
            let (failed, calls, asks) = worker.join().unwrap();
            failures.extend(failed);
            max_calls = max_calls.max(calls);
            requests_needed += asks;
        }
    });
    println!("at most {max_calls} calls in a minute; {requests_needed} seeds converged only after a reconcile request");
    failures.sort();
    if let Some((seed, violation, trace)) = failures.first() {
        for (seed, violation, _) in &failures {
            println!("seed {seed}: {violation}");
        }
        panic!(
            "seed {seed} (repeat with DRILLMASTER_SEED={seed}): {violation}\n{}\n{} of {end} seeds failed",
            trace.join("\n"),
            failures.len()
        );
    }
}

#[test]
fn next_controller_converges_after_a_kill_at_any_call() {
    for executed in [true, false] {
        for at in 1.. {
            let (killed, trace) = on_paused_time(async {
                let (schedule, versions) = diamond();
                let mut world = World::stopping(schedule, Stop { at, executed });
                let killed = world.sweep(&versions, "shop-s1").await;
                (killed, world.invariants().trace.join("\n"))
            });
            match killed {
                Ok(true) => {}
                Ok(false) => {
                    assert!(at > 50, "the run has only {at} calls");
                    break;
                }
                Err(violation) => panic!("killed at call {at}, executed: {executed}: {violation}\n{trace}"),
            }
        }
    }
}

#[test]
fn engine_restarts_do_not_count_as_crashes() {
    for pause in [0, 2, 20] {
        let (done, trace) = on_paused_time(async {
            let mut world = World::new(0, diamond().0);
            let done = world.restarts(7, Duration::from_secs(pause)).await;
            (done, world.invariants().trace.join("\n"))
        });
        assert_eq!(done, Ok(()), "stopped for {pause} s\n{trace}");
    }
}

#[test]
fn lost_response_does_not_delay_convergence() {
    for verb in ["create-network", "create", "start", "rename", "stop", "remove"] {
        let (done, trace) = on_paused_time(async {
            let (schedule, versions) = diamond();
            let faults = Faults { lost: 1000, verbs: vec![verb], at_most: 1, ..Faults::default() };
            let mut world = World::failing(schedule, faults);
            let done = world.saves(&versions).await;
            (done, world.invariants().trace.join("\n"))
        });
        assert_eq!(done, Ok(()), "the first response to {verb} is lost\n{trace}");
    }
}

#[test]
fn runs_of_the_same_seed_are_identical() {
    for seed in [3, 14, 159] {
        let (one, other) = (run(Personality::Docker20, seed), run(Personality::Docker20, seed));
        let differs = one.trace.iter().zip(&other.trace).find(|(one, other)| one != other);
        assert_eq!(differs, None, "seed {seed}");
        assert_eq!(one.trace.len(), other.trace.len(), "seed {seed}");
    }
}
