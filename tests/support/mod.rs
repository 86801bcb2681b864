//! What tests on a real engine share.

// Each test program uses its own part of it.
#![allow(dead_code)]

pub mod engine;
pub mod events;
pub mod ground;
pub mod process;
pub mod project;
pub mod proxy;
pub mod watcher;

use std::time::{Duration, Instant};

/// How long something may take that usually takes a moment: machines that run tests are often busy.
pub const SOON: Duration = Duration::from_secs(20);

/// Looks again and again until there is something to see, at most so long; then fails, saying what it waited for.
#[track_caller]
pub fn wait_for<T>(what: &str, limit: Duration, mut look: impl FnMut() -> Option<T>) -> T {
    let start = Instant::now();
    loop {
        if let Some(found) = look() {
            return found;
        }
        assert!(start.elapsed() < limit, "waited {} s in vain for {what}", limit.as_secs_f32());
        std::thread::sleep(Duration::from_millis(20));
    }
}
