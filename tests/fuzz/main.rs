//! Mutated inputs of every kind: whatever is read, drillmaster ends within seconds with a result, or with an error that
//! has its place.
//!
//! Runs for a minute, or as long as FUZZ_SECONDS says. A failure prints its seed; `FUZZ_SEED=<seed> FUZZ_SECONDS=0` runs
//! that input alone.

#![allow(clippy::unwrap_used, reason = "a panic fails the test")]

#[path = "../builders/mod.rs"]
mod builders;
mod inputs;
mod mutate;
#[path = "../simulation/rng.rs"]
#[allow(dead_code, reason = "the simulation uses the rest")]
mod rng;

use std::panic::{AssertUnwindSafe, catch_unwind};
use std::time::{Duration, Instant};

use inputs::{Inputs, Kind};
use rng::Rng;

/// No input may take longer. A build without optimization, on a busy machine, only looks for hangs.
const TOO_LONG: Duration = Duration::from_secs(if cfg!(debug_assertions) { 30 } else { 5 });

fn number(variable: &str) -> Option<u64> {
    std::env::var(variable).ok().map(|text| text.parse().unwrap())
}

#[test]
fn mutated_inputs_end_with_a_result_or_an_error_with_its_place() {
    let first = number("FUZZ_SEED").unwrap_or(1);
    let limit = Duration::from_secs(number("FUZZ_SECONDS").unwrap_or(60));
    let inputs = Inputs::new();
    let (start, mut wrong) = (Instant::now(), Vec::new());
    let mut seed = first;
    while seed == first || start.elapsed() < limit && wrong.len() < 10 {
        let began = Instant::now();
        let mut rng = Rng::new(seed);
        let kind = Kind::draw(&mut rng);
        let result = catch_unwind(AssertUnwindSafe(|| inputs.check(kind, &mut rng)));
        let took = began.elapsed();
        match result {
            Err(_) => wrong.push(format!("seed {seed}: {kind:?}: panicked")),
            Ok(Err(what)) => wrong.push(format!("seed {seed}: {kind:?}: {what}")),
            Ok(Ok(())) if took > TOO_LONG => {
                wrong.push(format!("seed {seed}: {kind:?}: took {} s", took.as_secs_f32()))
            }
            Ok(Ok(())) => {}
        }
        seed += 1;
    }
    println!("{} inputs in {} s", seed - first, start.elapsed().as_secs());
    assert!(wrong.is_empty(), "{}", wrong.join("\n"));
}
