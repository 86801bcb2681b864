//! End-to-end tests of every command on a real engine. Fails if the engine is unreachable.
//!
//! Each test uses a separate group and removes it afterwards; see `support/project.rs`.

#![allow(clippy::unwrap_used, clippy::print_stderr)]

#[path = "../support/mod.rs"]
mod support;

mod budget;
mod builds;
mod change;
mod cli;
mod compose;
mod crash;
mod demo;
mod drift;
mod edit;
mod examples;
mod exec;
mod export;
mod failure;
mod fields;
mod files;
mod groups;
mod habits;
mod hooks;
mod host;
mod images;
mod jobs;
mod logs;
mod missing;
mod mounts;
mod networks;
mod order;
mod outage;
mod outputs;
mod owner;
mod profiles;
mod pulls;
mod reach;
mod ready;
mod remote;
mod replace;
mod replicas;
mod secrets;
mod select;
mod starlark;
mod talk;
mod time;
mod together;
mod update;
mod users;
mod volumes_named;
mod watch;
