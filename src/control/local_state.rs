//! Local state files: ids of containers that were updated in place, versions of the files that containers mounted,
//! directories that were moved, and the failures of the last run.
//!
//! Labels of a container cannot be changed, so after an update in place they describe the container as it was created.
//! Such a container is therefore inspected from then on. If the file is lost, only a change back to the first values
//! is missed. Without the versions of mounted files, the times of the files decide.

use std::collections::{BTreeMap, BTreeSet};
use std::fs;
use std::io::{self, ErrorKind, Write};

use serde::{Deserialize, Serialize};

use super::state_directory::{ADOPTED, LAST_RUN, MOUNTED, StateDirectory, UPDATED};
use crate::plan::Memory;
use crate::plan::memory::MountedVersions;
use crate::status::last_run::LastRun;
use crate::types::ContainerId;

/// A spec directory that has taken over what belongs to others, which no longer exist.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Adoption {
    /// The spec directory.
    pub by: String,
    /// The directories that it has taken over.
    pub from: BTreeSet<String>,
}

impl Adoption {
    /// The directory to which something with this source label belongs.
    pub fn owner<'a>(&'a self, source: &'a String) -> &'a String {
        if self.from.contains(source) { &self.by } else { source }
    }
}

/// Local state of a group, in its state directory.
#[derive(Debug, Clone)]
pub struct LocalState {
    directory: StateDirectory,
}

impl LocalState {
    pub fn new(directory: StateDirectory) -> LocalState {
        LocalState { directory }
    }

    /// Ids of the containers that were updated in place. Empty if the file does not exist or cannot be read.
    pub fn updated(&self) -> BTreeSet<ContainerId> {
        let bytes = self.directory.read(UPDATED).ok().flatten().unwrap_or_default();
        String::from_utf8_lossy(&bytes).lines().map(ContainerId::from).collect()
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
        self.directory.write(UPDATED, |file| ids.iter().try_for_each(|id| writeln!(file, "{id}")))
    }

    /// Versions of the files that containers mounted at their last start by a step. Empty if the file does not exist or
    /// cannot be read.
    pub fn mounted(&self) -> BTreeMap<ContainerId, MountedVersions> {
        let bytes = self.directory.read(MOUNTED).ok().flatten().unwrap_or_default();
        serde_json::from_slice(&bytes).unwrap_or_default()
    }

    /// Records the versions of the files that a container mounted, and removes containers that no longer exist.
    ///
    /// # Errors
    ///
    /// If the file cannot be written.
    pub fn record_mounted(
        &self,
        id: &ContainerId,
        versions: MountedVersions,
        exists: impl Fn(&ContainerId) -> bool,
    ) -> io::Result<()> {
        let mut all = self.mounted();
        all.retain(|id, _| exists(id));
        all.insert(id.clone(), versions);
        self.directory.write(MOUNTED, |file| Ok(serde_json::to_writer(file, &all)?))
    }

    /// The last adoption. Directories that exist again are left out. Empty if the file does not exist or cannot be read.
    pub fn adoption(&self) -> Adoption {
        let bytes = self.directory.read(ADOPTED).ok().flatten().unwrap_or_default();
        let mut adoption: Adoption = serde_json::from_slice(&bytes).unwrap_or_default();
        adoption.from.retain(|source| is_gone(source));
        adoption
    }

    /// Replaces the adoption.
    ///
    /// # Errors
    ///
    /// If the file cannot be written.
    pub fn record_adoption(&self, adoption: &Adoption) -> io::Result<()> {
        self.directory.write(ADOPTED, |file| Ok(serde_json::to_writer(file, adoption)?))
    }

    /// The memory of earlier runs.
    pub fn memory(&self) -> Memory {
        Memory::new(self.updated(), self.mounted())
    }

    /// Failures of the last run. Empty if the file does not exist or cannot be read.
    pub fn last_run(&self) -> LastRun {
        let bytes = self.directory.read(LAST_RUN).ok().flatten().unwrap_or_default();
        serde_json::from_slice(&bytes).unwrap_or_default()
    }

    /// Replaces the failures of the last run.
    ///
    /// # Errors
    ///
    /// If the file cannot be written.
    pub fn record_last_run(&self, last_run: &LastRun) -> io::Result<()> {
        match last_run.is_empty() {
            true => self.directory.remove(LAST_RUN),
            false => self.directory.write(LAST_RUN, |file| Ok(serde_json::to_writer(file, last_run)?)),
        }
    }
}

/// Returns true if a directory certainly does not exist. One that cannot be accessed may be another user's.
pub fn is_gone(directory: &str) -> bool {
    fs::metadata(directory).is_err_and(|error| matches!(error.kind(), ErrorKind::NotFound | ErrorKind::NotADirectory))
}
