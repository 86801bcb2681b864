//! Files that containers mount: the engine binds the file itself, not its path, so a file that an editor has replaced is
//! stale in the container until it is restarted.

use jiff::Timestamp;
use serde::{Deserialize, Serialize};

use super::{Desired, Service};
use crate::spec::Diagnostic;
use crate::spec::model::OnChange;

/// A bind mount that is followed if its source is a regular file.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct MountedFile {
    /// Source as written in the spec.
    pub written: String,
    /// Absolute path on the host.
    pub source: String,
    /// Path in the container.
    pub target: String,
    /// What a change means.
    pub on_change: OnChange,
    /// Whether `on_change` is set in the spec.
    pub explicit: bool,
    /// Whether the content is compared, or only which file it is. A container may change a file that it can write, but
    /// cannot replace it.
    pub by_content: bool,
    /// The file; `None`: not known, not a regular file, or missing at the moment.
    pub state: Option<FileState>,
}

/// A regular file on the host.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct FileState {
    pub version: FileVersion,
    /// Time of the last change of its content.
    pub modified: Timestamp,
}

/// Identifies a file and its content.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct FileVersion {
    /// Inode number.
    pub inode: u64,
    /// SHA-256 of the content in hexadecimal digits; `None`: the content is not compared.
    pub digest: Option<String>,
}

impl FileVersion {
    /// Returns true if the container must be told about the other version.
    pub fn differs(&self, other: &FileVersion) -> bool {
        match (&self.digest, &other.digest) {
            (Some(one), Some(other)) => one != other,
            _ => self.inode != other.inode,
        }
    }
}

/// What a bind mount's source is on the host.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum MountSourceState {
    File(FileState),
    /// A directory, a socket, a device.
    NoFile,
    /// Missing or not accessible: an editor may be about to replace it.
    Unknown,
}

/// Looks at the source of a bind mount, an absolute path. True: with a digest of its content.
pub type Look<'a> = &'a dyn Fn(&str, bool) -> MountSourceState;

impl Desired {
    /// Fills in the mounted files.
    ///
    /// # Errors
    ///
    /// If `on_change` is set for something other than a regular file.
    pub fn look_at_files(&mut self, look: Look<'_>) -> Result<(), Vec<Diagnostic>> {
        let mut errors = Vec::new();
        for service in self.services.values_mut() {
            let no_file = service.look_at_files(look);
            errors.extend(no_file.into_iter().filter(|_| service.replica.is_none_or(|replica| replica == 1)));
        }
        if errors.is_empty() { Ok(()) } else { Err(errors) }
    }
}

impl Service {
    fn look_at_files(&mut self, look: Look<'_>) -> Vec<Diagnostic> {
        let mut errors = Vec::new();
        for file in &mut self.files {
            file.state = match look(&file.source, file.by_content) {
                MountSourceState::File(state) => Some(state),
                MountSourceState::NoFile if file.explicit => {
                    let message = format!(
                        "service {} ({}): `on_change` of {} applies to files, and {} is not a regular file",
                        self.service, self.location, file.target, file.written
                    );
                    let hint = "containers see what changes in a mounted directory; remove `on_change`".to_owned();
                    errors.push(Diagnostic::new(message).hint(hint));
                    None
                }
                MountSourceState::NoFile | MountSourceState::Unknown => None,
            };
        }
        errors
    }
}
