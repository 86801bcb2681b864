//! Local state files: ids of containers that were updated in place, versions of the files that containers mounted,
//! directories that were moved, the failures of the last run, and hashes of the files from which images were built.
//!
//! Labels of a container cannot be changed, so after an update in place they describe the container as it was created.
//! Such a container is therefore inspected from then on. If the file is lost, only a change back to the first values
//! is missed. Without the versions of mounted files, the times of the files decide. Without the hashes, a later run cannot
//! tell which sources have changed.

use std::collections::{BTreeMap, BTreeSet};
use std::fs;
use std::io::{self, ErrorKind, Write};
use std::path::Path;

use serde::de::DeserializeOwned;
use serde::{Deserialize, Serialize};

use super::state_directory::{ADOPTED, LAST_RUN, MOUNTED, SOURCES, StateDirectory, TOLD, UPDATED};
use crate::plan::Memory;
use crate::plan::memory::MountedVersions;
use crate::spec::SourceFiles;
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

/// Number of files up to which the hashes of all build contexts together are stored.
const MAX_STORED_FILES: usize = 20_000;

/// Hashes of files by path, by image.
type StoredSources = BTreeMap<String, BTreeMap<String, u64>>;

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
        self.read(MOUNTED)
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
        self.write(MOUNTED, &all)
    }

    /// The last adoption. Directories that do not give way any more are left out. Empty if the file does not exist or cannot be read.
    pub fn adoption(&self) -> Adoption {
        let mut adoption: Adoption = self.read(ADOPTED);
        adoption.from.retain(|source| gives_way(source, &adoption.by));
        adoption
    }

    /// Replaces the adoption.
    ///
    /// # Errors
    ///
    /// If the file cannot be written.
    pub fn record_adoption(&self, adoption: &Adoption) -> io::Result<()> {
        self.write(ADOPTED, adoption)
    }

    /// Removes the record of the adoption.
    ///
    /// # Errors
    ///
    /// If the file exists and cannot be removed.
    pub fn forget_adoption(&self) -> io::Result<()> {
        self.directory.remove(ADOPTED)
    }

    /// The memory of earlier runs.
    pub fn memory(&self) -> Memory {
        Memory { sources: self.sources(), ..Memory::new(self.updated(), self.mounted()) }
    }

    /// Files from which images were built, by reference. Empty if there is no such record or it cannot be read.
    pub fn sources(&self) -> BTreeMap<String, SourceFiles> {
        let stored: StoredSources = self.read(SOURCES);
        stored.into_iter().map(|(image, files)| (image, SourceFiles::new(files))).collect()
    }

    /// Records the files from which an image is about to be built, and removes images that no longer exist.
    ///
    /// # Errors
    ///
    /// If the record cannot be written.
    pub fn record_sources(&self, image: &str, files: &SourceFiles, exists: impl Fn(&str) -> bool) -> io::Result<()> {
        let mut stored: StoredSources = self.read(SOURCES);
        stored.retain(|image, _| exists(image));
        let others: usize = stored.values().map(BTreeMap::len).sum();
        match others + files.hashes().len() <= MAX_STORED_FILES {
            true => stored.insert(image.to_owned(), files.hashes().clone()),
            false => stored.remove(image),
        };
        self.write(SOURCES, &stored)
    }

    /// Returns true if the user has not been told this before, and records that it is told now. A record that cannot be
    /// written only means that it is told again.
    pub fn is_first(&self, message: &str) -> bool {
        let mut told: BTreeSet<String> = self.read(TOLD);
        let is_first = told.insert(message.to_owned());
        if is_first && let Err(error) = self.write(TOLD, &told) {
            tracing::debug!(%error, "cannot record what the user was told");
        }
        is_first
    }

    /// Failures of the last run. Empty if the file does not exist or cannot be read.
    pub fn last_run(&self) -> LastRun {
        self.read(LAST_RUN)
    }

    /// Replaces the failures of the last run.
    ///
    /// # Errors
    ///
    /// If the file cannot be written.
    pub fn record_last_run(&self, last_run: &LastRun) -> io::Result<()> {
        match last_run.is_empty() {
            true => self.directory.remove(LAST_RUN),
            false => self.write(LAST_RUN, last_run),
        }
    }

    /// Reads a JSON file; the default if it does not exist or cannot be read.
    fn read<T: Default + DeserializeOwned>(&self, name: &str) -> T {
        let bytes = self.directory.read(name).ok().flatten().unwrap_or_default();
        serde_json::from_slice(&bytes).unwrap_or_default()
    }

    fn write(&self, name: &str, value: &impl Serialize) -> io::Result<()> {
        self.directory.write(name, |file| Ok(serde_json::to_writer(file, value)?))
    }
}

/// Returns true if a directory certainly does not exist. One that cannot be accessed may be another user's.
pub fn is_gone(directory: &str) -> bool {
    fs::metadata(directory).is_err_and(|error| matches!(error.kind(), ErrorKind::NotFound | ErrorKind::NotADirectory))
}

/// Returns true if a spec directory may take over what belongs to a directory: it is gone, or it contains the spec
/// directory, so that it is that of the compose files from which the specs were imported.
pub fn gives_way(directory: &str, by: &str) -> bool {
    is_gone(directory) || Path::new(by).parent() == Some(Path::new(directory))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn sources_of_existing_images_are_kept_up_to_a_limit() {
        let directory = tempfile::tempdir().unwrap();
        let state = LocalState::new(StateDirectory::at(directory.path()));
        let files = |number: usize| SourceFiles::new((0..number).map(|n| (format!("file-{n}"), u64::MAX)).collect());
        let images = || state.sources().into_keys().collect::<Vec<_>>();
        assert_eq!(images(), [""; 0]);
        state.record_sources("api:1", &files(3), |_| true).unwrap();
        state.record_sources("api:2", &files(2), |_| true).unwrap();
        assert_eq!(state.sources()["api:1"], files(3));
        state.record_sources("api:3", &files(MAX_STORED_FILES), |image| image == "api:2").unwrap();
        assert_eq!(images(), ["api:2"]);
    }
}
