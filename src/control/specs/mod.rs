//! The spec directory: reads it, watches it for changes, and decides whether changed specs are applied.

pub mod intake;
pub mod mounts;
pub mod sources;
pub mod watcher;
