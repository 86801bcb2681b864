//! Specs as programs: the same as in YAML, with errors at their places, and within bounds.

#![allow(clippy::unwrap_used, reason = "a test that cannot go on fails")]

mod functions;
mod language;
mod limits;
mod programs;
