//! Controller state machine: every event goes through one synchronous handler, [`Core::handle`], which returns what to do.
//!
//! No files, no clock, no engine: time comes in with the event, work goes out as commands.

mod core;
mod failures;
mod lifecycle;
mod report;
mod snapshot;
mod steps;
mod watch_mode;

pub use self::core::{Core, RunMode};
