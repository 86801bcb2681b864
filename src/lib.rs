//! drillmaster keeps a directory of service definitions (*specs*) and a Docker engine in agreement.
//!
//! # The way of the data
//!
//! ```text
//! files ──► spec ──► desired ─┐
//!                             ├─► plan ──► act ──► engine
//! engine ──► observed ────────┘     │
//!    ▲                              └────► status, diff (printed)
//!    └── events, timers: each only says "look again"
//! ```
//!
//! - [`spec`]: what people write, parsed and checked, every error with its place.
//! - [`desired`]: the specs fully resolved: names, defaults, fingerprints, order. Immutable, one value.
//! - [`observed`]: a snapshot of what the engine has, from a constant number of list calls.
//! - [`plan`](mod@plan): a pure function of desired, observed, memory and time. `diff` prints it, `up` carries it out,
//!   `down` is the same function with nothing desired. There is no second code path that decides.
//! - [`engine`]: the engine behind a trait: a few reads, one mutation at a time, a stream of events.
//! - [`control`]: one loop, one event type, one synchronous handler that says what to do.
//! - [`status`](mod@status): what there is to say about each service, derived.
//! - [`render`]: the only place that prints.
//! - [`cli`]: the commands.
//!
//! `spec`, `desired`, `observed`, `identity`, `plan` and `status` are pure: no files, no clock, no environment, no
//! engine; text and time come in as arguments. `engine` knows `desired` and `observed`; `control` knows everything but
//! `cli` and `render`. A test reads the `use` lines and fails on a wrong arrow.

pub mod cli;
pub mod control;
pub mod desired;
pub mod engine;
pub mod identity;
pub mod observed;
pub mod plan;
pub mod render;
pub mod spec;
pub mod status;
pub mod types;
