//! Files in the state directory of a group: only the owner can read them, and each is replaced as a whole.

use std::fs;
use std::io;
use std::path::Path;

use tempfile::NamedTempFile;

/// Prefix of the names of temporary files.
const TEMPORARY: &str = "scratch-";

/// Replaces the file at `path` with what `content` writes. A crash leaves the old file or the new one.
///
/// # Errors
///
/// If the file cannot be written.
pub(super) fn write(path: &Path, content: impl FnOnce(&mut NamedTempFile) -> io::Result<()>) -> io::Result<()> {
    let mut file = temporary(path.parent().unwrap_or(Path::new("/")))?;
    content(&mut file)?;
    file.as_file().sync_all()?;
    file.persist(path)?;
    Ok(())
}

/// Creates a file that is removed when the value is dropped.
///
/// # Errors
///
/// If it cannot be created.
pub(super) fn temporary(directory: &Path) -> io::Result<NamedTempFile> {
    fs::create_dir_all(directory)?;
    NamedTempFile::with_prefix_in(TEMPORARY, directory)
}

/// Removes the temporary files of runs that were killed.
///
/// # Errors
///
/// If the directory cannot be read, or a file cannot be removed.
pub(super) fn remove_temporary(directory: &Path) -> io::Result<()> {
    for entry in fs::read_dir(directory)? {
        let entry = entry?;
        if entry.file_name().to_string_lossy().starts_with(TEMPORARY) {
            fs::remove_file(entry.path())?;
        }
    }
    Ok(())
}
