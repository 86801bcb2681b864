//! Limits on steps and memory of programs.
//!
//! The Starlark library counts loop iterations and calls, and invokes the [`Meter`] once per thousand of them. A single
//! operation that takes long or much memory, such as comparing values that contain each other many times, is not checked
//! here: the process in which programs run has a time limit and a memory limit.

use std::cell::Cell;

use starlark::values::Heap;

use crate::spec::value::Invalid;

/// Maximum number of loop iterations and calls: of all programs of a spec directory together, and of each function call.
pub(super) const MAX_STEPS: u64 = 1_000_000;
/// Maximum memory for the values of one file in bytes, checked every [`CHECK_INTERVAL`] steps.
pub(super) const MAX_MEMORY: usize = 64 << 20;
/// Maximum depth of the call stack.
pub(super) const MAX_CALLS: usize = 100;
/// Number of steps between two checks by the library.
const CHECK_INTERVAL: u64 = 1000;

/// Returns the rows of the table of limits in the reference.
pub(super) fn table() -> [(&'static str, String); 5] {
    [
        (
            "steps (loop iterations and calls), for all programs together and for each function call",
            MAX_STEPS.to_string(),
        ),
        ("memory for the values of a file, checked every 1000 steps", format!("{} MiB", MAX_MEMORY >> 20)),
        ("memory of all programs together, at any time", "1 GiB".to_owned()),
        ("call depth", MAX_CALLS.to_string()),
        ("time for all programs together; function calls have their own `timeout`", "10 s".to_owned()),
    ]
}

/// Resource usage of a program, compared with the limits.
#[derive(Default)]
pub(super) struct Meter {
    steps: Cell<u64>,
    exceeded: Cell<Option<Limit>>,
}

/// A limit on a program as a whole.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Limit {
    Steps,
    Memory,
}

impl Limit {
    /// Returns the error message and hint.
    pub fn to_diagnostic(self) -> Invalid {
        match self {
            Limit::Steps => Invalid::new(format!("the program takes more than {MAX_STEPS} steps"))
                .hint("loop iterations and calls are steps; check for an endless loop"),
            Limit::Memory => Invalid::new(format!("the program uses more than {} MiB of memory", MAX_MEMORY >> 20))
                .hint("check for a list or string that grows without bound"),
        }
    }
}

impl Meter {
    /// Returns the exceeded limit, if any.
    pub fn exceeded(&self) -> Option<Limit> {
        self.exceeded.get()
    }

    /// Returns true if the library must stop the program. Called every [`CHECK_INTERVAL`] steps. Returns true only once: a
    /// further stop, in the library's last check, would replace the location of the first.
    pub fn should_stop(&self, heap: Heap<'_>) -> bool {
        if self.exceeded.get().is_some() {
            return false;
        }
        self.steps.set(self.steps.get() + CHECK_INTERVAL);
        let limit = if self.steps.get() > MAX_STEPS {
            Some(Limit::Steps)
        } else if heap.allocated_bytes() > MAX_MEMORY {
            Some(Limit::Memory)
        } else {
            None
        };
        self.exceeded.set(limit);
        limit.is_some()
    }
}
