//! Whole directories: what is read of them, and what is told when it is wrong.

#![allow(clippy::unwrap_used, reason = "a test that cannot go on fails")]

mod errors;
mod fields;
mod limits;
mod loading;
mod schema;
