//! Local state file: ids of containers that were updated in place.
//!
//! Labels of a container cannot be changed, so after an update in place they describe the container as it was created.
//! Such a container is therefore inspected from then on. If the file is lost, only a change back to the first values
//! is missed.

use std::collections::BTreeSet;
use std::fs;
use std::io::{self, Write};
use std::path::{Path, PathBuf};

use super::state_file;
use crate::types::ContainerId;

/// Local state of a group, in its state directory.
#[derive(Debug, Clone)]
pub struct LocalState {
    path: PathBuf,
}

impl LocalState {
    pub fn new(state_directory: &Path) -> LocalState {
        LocalState { path: state_directory.join("updated") }
    }

    /// Ids of the containers that were updated in place. Empty if the file does not exist or cannot be read.
    pub fn updated(&self) -> BTreeSet<ContainerId> {
        let text = fs::read_to_string(&self.path).unwrap_or_default();
        text.lines().map(ContainerId::from).collect()
    }

    /// Records that a container is about to be updated, and removes containers that no longer exist.
    ///
    /// # Errors
    ///
    /// If the file cannot be written.
    pub fn record_update(&self, id: &ContainerId, exists: impl Fn(&ContainerId) -> bool) -> io::Result<()> {
        let mut ids = self.updated();
        ids.retain(|id| exists(id));
        ids.insert(id.clone());
        state_file::write(&self.path, |file| ids.iter().try_for_each(|id| writeln!(file, "{id}")))
    }
}
