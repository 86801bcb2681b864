//! Shared helpers for tests on a real engine.

// Each test binary uses only some of the helpers.
#![allow(dead_code)]

pub mod engine;
pub mod events;
pub mod process;
pub mod project;
pub mod proxy;
pub mod registry;
pub mod test_group;
pub mod watcher;

use std::time::{Duration, Instant};

/// Timeout for operations that normally take a moment. Generous, because test machines are often busy.
pub const WAIT_TIMEOUT: Duration = Duration::from_secs(20);

/// Polls `check` until it returns a value. Panics with `what` if the timeout expires.
#[track_caller]
pub fn wait_for<T>(what: &str, limit: Duration, mut check: impl FnMut() -> Option<T>) -> T {
    let start = Instant::now();
    loop {
        if let Some(found) = check() {
            return found;
        }
        assert!(start.elapsed() < limit, "timed out after {} s waiting for {what}", limit.as_secs_f32());
        std::thread::sleep(Duration::from_millis(20));
    }
}
