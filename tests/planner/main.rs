//! Planner examples: plans as text, one step with its cause per line.

#![allow(clippy::unwrap_used, reason = "a panic fails the test")]

#[path = "../builders/mod.rs"]
mod builders;
mod conflicts;
mod create;
mod drift;
mod files;
mod networks;
mod notes;
mod readiness;
mod removal;
mod replace;
mod selection;
mod takeover;
mod volumes;
