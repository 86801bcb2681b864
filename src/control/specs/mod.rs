//! The spec directory: read, watched for changes, and compared with the specs that are in force.

pub mod intake;
pub mod sources;
pub mod watcher;
