//! What a group remembers beside what is on the engine: which containers were changed while they ran.
//!
//! Labels of a container cannot be changed, so after an update in place they say what held before it. Who was updated
//! has to be inspected from then on. A note that is lost costs only that: a change back to the first values is missed.

use std::collections::BTreeSet;
use std::fs;
use std::io::{self, Write};
use std::path::{Path, PathBuf};

use crate::types::ContainerId;

/// The notes of a group, in its state directory.
#[derive(Debug, Clone)]
pub struct Notes {
    path: PathBuf,
}

impl Notes {
    /// Notes in this directory.
    pub fn new(state_directory: &Path) -> Notes {
        Notes { path: state_directory.join("updated") }
    }

    /// Ids of the containers that were updated; none where there are no notes yet, or they cannot be read.
    pub fn updated(&self) -> BTreeSet<ContainerId> {
        let text = fs::read_to_string(&self.path).unwrap_or_default();
        text.lines().map(ContainerId::from).collect()
    }

    /// Notes that a container is about to be updated, and forgets those that are gone.
    ///
    /// # Errors
    ///
    /// When the file cannot be written. It is replaced as a whole, so it is never half written.
    pub fn note(&self, id: &ContainerId, exists: impl Fn(&ContainerId) -> bool) -> io::Result<()> {
        let mut ids = self.updated();
        ids.retain(|id| exists(id));
        ids.insert(id.clone());
        if let Some(directory) = self.path.parent() {
            fs::create_dir_all(directory)?;
        }
        let new = self.path.with_extension("new");
        let mut file = fs::File::create(&new)?;
        for id in ids {
            writeln!(file, "{id}")?;
        }
        file.sync_all()?;
        fs::rename(new, &self.path)
    }
}
