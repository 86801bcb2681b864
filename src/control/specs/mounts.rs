//! Looks at the sources of bind mounts.

use std::fs::{self, File};
use std::io::{self, Read};
use std::os::unix::fs::MetadataExt;
use std::path::Path;

use jiff::Timestamp;

use crate::desired::files::{FileState, FileVersion, MountSourceState};
use crate::desired::fingerprint::sha256;

/// Size in bytes up to which the content of a file is read. Larger files are compared by size and time.
const MAX_READ: u64 = 16 * 1024 * 1024;

/// Looks at the source of a bind mount; links are followed, as the engine does. `content`: with a digest of its content.
pub fn look(path: &str, content: bool) -> MountSourceState {
    let path = Path::new(path);
    match fs::metadata(path) {
        Ok(found) if !found.is_file() => MountSourceState::NoFile,
        Ok(found) => file_state(path, &found, content).map_or(MountSourceState::Unknown, MountSourceState::File),
        Err(_) => MountSourceState::Unknown,
    }
}

fn file_state(path: &Path, found: &fs::Metadata, content: bool) -> io::Result<FileState> {
    let digest = match content {
        false => None,
        true if found.len() > MAX_READ => {
            Some(format!("{} bytes, {}.{}", found.len(), found.mtime(), found.mtime_nsec()))
        }
        true => Some(digest(path)?),
    };
    // The time of a file whose content is not compared says nothing: its container may write to it at any time.
    let modified = match content {
        true => Timestamp::try_from(found.modified()?).unwrap_or_default(),
        false => Timestamp::default(),
    };
    Ok(FileState { version: FileVersion { inode: found.ino(), digest }, modified })
}

fn digest(path: &Path) -> io::Result<String> {
    let mut bytes = Vec::new();
    File::open(path)?.take(MAX_READ + 1).read_to_end(&mut bytes)?;
    Ok(sha256(&bytes))
}
