//! Runs recursive work on a thread with a large stack.
//!
//! Starlark programs may nest calls and values, and both the evaluator and the destructors of values are recursive. The
//! limits of programs are set so that this stack suffices.

use std::io;
use std::thread::{Builder, scope};

/// Stack size in bytes. Only the used part takes memory.
const STACK: usize = 256 << 20;

/// Runs `work` on a thread with a large stack and waits for it.
///
/// # Errors
///
/// If the thread cannot be spawned.
pub fn with_large_stack<T: Send>(work: impl FnOnce() -> T + Send) -> io::Result<T> {
    scope(|threads| {
        let thread = Builder::new().name("programs".into()).stack_size(STACK).spawn_scoped(threads, work)?;
        Ok(thread.join().unwrap_or_else(|panic| std::panic::resume_unwind(panic)))
    })
}

/// Runs `work` on a thread with a large stack without waiting for it.
///
/// # Errors
///
/// If the thread cannot be spawned.
pub fn spawn_large_stack(work: impl FnOnce() + Send + 'static) -> io::Result<()> {
    Builder::new().name("function".into()).stack_size(STACK).spawn(work).map(drop)
}
