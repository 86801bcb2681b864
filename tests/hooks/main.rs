//! Hooks with real processes and a real server.

// The setting in clippy.toml does not cover helpers outside test functions.
#![allow(clippy::unwrap_used)]

#[path = "../support/mod.rs"]
mod support;

mod commands;
mod functions;
mod probes;
mod stage;
