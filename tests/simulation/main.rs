//! The whole watching controller on the simulated engine, in paused time: whatever happens, in whatever order, it keeps
//! the laws of [`checker`], and when nothing goes wrong any longer everything agrees again.
//!
//! A failing seed is printed with its story. `DRILLMASTER_SEED=123 cargo test --test simulation` runs it again, exactly;
//! `DRILLMASTER_SEEDS=20000` runs more of them.

#![allow(clippy::unwrap_used, reason = "a test that cannot go on fails")]

#[path = "../builders/mod.rs"]
mod builders;
mod engine;
mod invariants;
mod rng;
mod schedule;
mod world;

use std::sync::atomic::{AtomicU64, Ordering};
use std::thread;
use std::time::Duration;

use builders::{on_paused_time, seeds};
use drillmaster_sim::faulty::{Faults, Stop};
use schedule::{Schedule, diamond};
use world::World;

/// How many seeds are run where nobody says otherwise.
const SEEDS: u64 = 2_000;

/// What one seed comes to.
struct Run {
    story: Vec<String>,
    broken: Option<String>,
    most_calls: usize,
    asked: usize,
}

fn run(seed: u64) -> Run {
    on_paused_time(async {
        let schedule = Schedule::draw(seed);
        let mut world = World::new(seed, schedule);
        let broken = world.run().await.err();
        let laws = world.laws();
        Run { story: laws.story.clone(), broken, most_calls: laws.most_calls, asked: laws.asked }
    })
}

#[test]
fn controller_converges_under_faults() {
    let seeds = seeds(SEEDS);
    let (next, end) = (AtomicU64::new(seeds.start), seeds.end);
    let threads = thread::available_parallelism().map_or(2, std::num::NonZero::get);
    let work = || {
        let (mut failures, mut most_calls, mut asked) = (Vec::new(), 0, 0);
        loop {
            let seed = next.fetch_add(1, Ordering::Relaxed);
            if seed >= end {
                return (failures, most_calls, asked);
            }
            let run = run(seed);
            most_calls = most_calls.max(run.most_calls);
            asked += run.asked;
            if let Some(broken) = run.broken {
                failures.push((seed, broken, run.story));
            }
        }
    };
    let (mut failures, mut most_calls, mut asked) = (Vec::new(), 0, 0);
    thread::scope(|scope| {
        let workers: Vec<_> = (0..threads).map(|_| scope.spawn(work)).collect();
        for worker in workers {
            let (failed, calls, asks) = worker.join().unwrap();
            failures.extend(failed);
            most_calls = most_calls.max(calls);
            asked += asks;
        }
    });
    println!("at most {most_calls} calls in a minute; {asked} seeds came to agree only when somebody asked");
    failures.sort();
    if let Some((seed, broken, story)) = failures.first() {
        for (seed, broken, _) in &failures {
            println!("seed {seed}: {broken}");
        }
        panic!(
            "seed {seed} (again with DRILLMASTER_SEED={seed}): {broken}\n{}\n{} of {end} seeds failed",
            story.join("\n"),
            failures.len()
        );
    }
}

#[test]
fn next_controller_converges_after_a_kill_at_any_call() {
    for carried_out in [true, false] {
        for at in 1.. {
            let (killed, story) = on_paused_time(async {
                let (schedule, versions) = diamond();
                let mut world = World::stopping(schedule, Stop { at, carried_out });
                let killed = world.sweep(&versions, "shop-s1").await;
                (killed, world.laws().story.join("\n"))
            });
            match killed {
                Ok(true) => {}
                Ok(false) => {
                    assert!(at > 50, "killed at {at} calls, and that was all");
                    break;
                }
                Err(broken) => panic!("killed at call {at}, carried out: {carried_out}: {broken}\n{story}"),
            }
        }
    }
}

#[test]
fn an_engine_that_is_started_again_and_again_is_nobodys_crash() {
    for away in [0, 2, 20] {
        let (done, story) = on_paused_time(async {
            let mut world = World::new(0, diamond().0);
            let done = world.restarts(7, Duration::from_secs(away)).await;
            (done, world.laws().story.join("\n"))
        });
        assert_eq!(done, Ok(()), "away for {away} s\n{story}");
    }
}

#[test]
fn a_lost_reply_costs_no_time() {
    for verb in ["create-network", "create", "start", "rename", "stop", "remove"] {
        let (done, story) = on_paused_time(async {
            let (schedule, versions) = diamond();
            let faults = Faults { lost: 1000, verbs: vec![verb], at_most: 1, ..Faults::default() };
            let mut world = World::failing(schedule, faults);
            let done = world.saves(&versions).await;
            (done, world.laws().story.join("\n"))
        });
        assert_eq!(done, Ok(()), "the first reply to {verb} is lost\n{story}");
    }
}

#[test]
fn a_seed_gives_the_same_run_again() {
    for seed in [3, 14, 159] {
        let (one, other) = (run(seed), run(seed));
        let differs = one.story.iter().zip(&other.story).find(|(one, other)| one != other);
        assert_eq!(differs, None, "seed {seed}");
        assert_eq!(one.story.len(), other.story.len(), "seed {seed}");
    }
}
