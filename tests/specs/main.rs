//! Loading of spec directories, and reported errors.

#![allow(clippy::unwrap_used, reason = "a panic fails the test")]

mod errors;
mod fields;
mod limits;
mod loading;
mod schema;
