//! Hooks with real processes and a real server.

// The lint of clippy.toml does not see that helpers of tests are tests.
#![allow(clippy::unwrap_used)]

#[path = "../support/mod.rs"]
mod support;

mod commands;
mod functions;
mod stage;
