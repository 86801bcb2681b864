//! Specs as programs: equivalence to YAML, error locations, limits.

#![allow(clippy::unwrap_used, reason = "a panic fails the test")]

mod functions;
mod language;
mod limits;
mod programs;
