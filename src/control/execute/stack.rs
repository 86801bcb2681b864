//! Room for what is recursive: a thread with a deep stack.
//!
//! Programs may nest calls and values, and what evaluates them is recursive, as is what keeps their values. Its own
//! limits are set such that this much is enough.

use std::io;
use std::thread::{Builder, scope};

/// Only what is used of it takes memory.
const STACK: usize = 256 << 20;

/// Does something on a thread with a deep stack, and waits for it.
///
/// # Errors
///
/// When the system gives no such thread.
pub fn with_large_stack<T: Send>(work: impl FnOnce() -> T + Send) -> io::Result<T> {
    scope(|threads| {
        let thread = Builder::new().name("programs".into()).stack_size(STACK).spawn_scoped(threads, work)?;
        Ok(thread.join().unwrap_or_else(|panic| std::panic::resume_unwind(panic)))
    })
}

/// Does something on a thread with a deep stack, and does not wait for it.
///
/// # Errors
///
/// When the system gives no such thread.
pub fn spawn_large_stack(work: impl FnOnce() + Send + 'static) -> io::Result<()> {
    Builder::new().name("function".into()).stack_size(STACK).spawn(work).map(drop)
}
