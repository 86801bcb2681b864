//! Reading of compose files: facts that are easily remembered wrongly, located errors, mutated files, and a comparison with
//! docker compose itself (`dev/compose-compare.sh`).

#![allow(clippy::unwrap_used)] // a panic fails the test

mod compare;
mod config;
mod disk;
mod facts;
