//! Files for a container, as the archive that the API takes.

use std::collections::BTreeMap;
use std::io;

use crate::desired::CopiedFile;

/// A tar archive of files, by absolute path. The engine creates missing directories.
///
/// # Errors
///
/// If a path is too long for a tar header.
pub fn archive(files: &BTreeMap<String, CopiedFile>) -> io::Result<Vec<u8>> {
    let mut archive = tar::Builder::new(Vec::new());
    for (path, file) in files {
        let mut header = tar::Header::new_gnu();
        header.set_size(file.content.len() as u64);
        header.set_mode(file.mode);
        header.set_uid(u64::from(file.uid));
        header.set_gid(u64::from(file.gid));
        header.set_entry_type(tar::EntryType::Regular);
        archive.append_data(&mut header, path.trim_start_matches('/'), file.content.as_bytes())?;
    }
    archive.into_inner()
}

#[cfg(test)]
mod tests {
    use std::io::Read as _;

    use super::*;

    #[test]
    fn files_have_owner_and_permissions() {
        let file = CopiedFile { content: "hunter2\n".into(), uid: 1000, gid: 5, mode: 0o440 };
        let bytes = archive(&BTreeMap::from([("/run/secrets/token".to_owned(), file)])).unwrap();
        let mut archive = tar::Archive::new(&bytes[..]);
        let mut entry = archive.entries().unwrap().next().unwrap().unwrap();
        assert_eq!(entry.path().unwrap().to_str(), Some("run/secrets/token"));
        let header = entry.header();
        assert_eq!((header.uid().unwrap(), header.gid().unwrap(), header.mode().unwrap()), (1000, 5, 0o440));
        let mut content = String::new();
        entry.read_to_string(&mut content).unwrap();
        assert_eq!(content, "hunter2\n");
    }
}
