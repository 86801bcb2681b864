//! The engine adapter on a real engine: its requests, parsed responses and errors.

// The exemption for tests in clippy.toml does not cover test helpers.
#![allow(clippy::unwrap_used)]

#[path = "../support/mod.rs"]
mod support;

mod commands;
mod containers;
mod events;
mod fixture;
mod volumes;
