//! The controller on the simulated engine, in paused time: hours pass in milliseconds and nothing sleeps for luck.

#![allow(clippy::unwrap_used, reason = "a test that cannot go on fails")]

#[path = "../builders/mod.rs"]
mod builders;
mod builds;
mod changes;
mod failures;
mod faults;
mod harness;
mod hooks;
mod interruption;
mod jobs;
mod order;
mod outputs;
mod update;
mod watch_drift;
mod watch_requests;
mod watch_specs;
mod watcher;
