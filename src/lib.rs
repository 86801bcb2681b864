//! drillmaster reconciles a Docker engine with a directory of service specs.
//!
//! # Data flow
//!
//! ```text
//! spec files ──► spec ──► desired ──┐
//!                                   ├──► plan ──► control::execute ──► engine
//! engine ──► observed ──────────────┘      │
//!    ▲                                     └────► diff, status (printed by render)
//!    └── events and timers: each one triggers an inspection, none changes state by itself
//! ```
//!
//! - [`spec`]: specs as written by the user, parsed and validated; every error has a file, line and column.
//! - [`desired`]: desired state: the specs fully resolved to names, defaults, fingerprints and order. Immutable.
//! - [`observed`]: observed state: a snapshot of the engine from a constant number of list calls.
//! - [`plan`](mod@plan): a pure function of desired state, observed state, memory and time. `diff` prints its steps, `up`
//!   executes them, `down` plans with an empty desired state. There is no second code path that decides.
//! - [`engine`]: the Docker Engine API behind a trait: reads, one mutation at a time, a stream of events.
//! - [`control`]: the controller. `control::reconcile` is its event loop, `control::execute` runs steps and hooks,
//!   `control::specs` reads and watches the spec directory, `control::ipc` holds the lock and serves other processes.
//! - [`status`](mod@status): status of each service, derived from desired and observed state.
//! - [`identity`]: names and labels by which drillmaster recognizes its containers.
//! - [`lease`]: rules of the lease that keeps a second controller away from a group.
//! - [`export`]: specs as files of other programs.
//! - [`render`]: all output.
//! - [`cli`]: the commands.
//!
//! `spec`, `desired`, `observed`, `identity`, `lease`, `plan`, `status` and `export` are pure: no files, no clock, no environment, no
//! engine; they receive text and time as arguments. `engine` may import `desired` and `observed`; `control` may import everything
//! but `cli` and `render`. `tests/layering.rs` checks these rules.

pub mod capabilities;
pub mod cli;
pub mod control;
pub mod desired;
pub mod engine;
pub mod export;
pub mod identity;
pub mod lease;
pub mod observed;
pub mod plan;
pub mod render;
pub mod spec;
pub mod status;
pub mod types;
