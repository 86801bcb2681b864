//! The adapter on a real engine: what it asks, what it understands, what it says when something goes wrong.

// The lint of clippy.toml does not see that helpers of tests are tests.
#![allow(clippy::unwrap_used)]

#[path = "../support/mod.rs"]
mod support;

mod commands;
mod containers;
mod events;
mod field;
