//! Reading of compose files: facts that are easily remembered wrongly, located errors, mutated files, and a
//! comparison with docker compose itself (`dev/compose-compare.sh`).

#![allow(clippy::unwrap_used)] // a panic fails the test

mod compare;
mod config;
mod disk;
mod errors;
mod facts;
mod imported;
mod inspect;
#[path = "../fuzz/mutate.rs"]
mod mutate;
mod mutated;
mod places;
#[path = "../simulation/rng.rs"]
#[allow(dead_code, reason = "the simulation uses the rest")]
mod rng;
mod translated;
