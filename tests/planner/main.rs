//! The planner, by example: whole plans as text, one step a line with its cause.

#![allow(clippy::unwrap_used, reason = "a test that cannot go on fails")]

#[path = "../builders/mod.rs"]
mod builders;
mod conflicts;
mod create;
mod drift;
mod removal;
mod replace;
mod selection;
