//! The controller on the simulated engine in paused time: simulated hours pass in milliseconds.

#![allow(clippy::unwrap_used, reason = "a panic fails the test")]

#[path = "../builders/mod.rs"]
mod builders;
mod builds;
mod changes;
mod failures;
mod faults;
mod harness;
mod hooks;
mod images;
mod interruption;
mod jobs;
mod lease;
mod order;
mod outputs;
mod ownership;
mod rebuilds;
mod update;
mod watch_drift;
mod watch_faults;
mod watch_requests;
mod watch_specs;
mod watcher;
