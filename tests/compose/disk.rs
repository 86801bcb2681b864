//! File access for compose projects: in memory and on the disk.

use std::collections::BTreeMap;
use std::fs;
use std::path::Path;

use drillmaster::spec::compose::{FileKind, Files, Loaded, Request, load};

/// The file system.
pub struct Disk;

impl Files for Disk {
    fn kind(&self, path: &str) -> FileKind {
        match fs::metadata(path) {
            Ok(metadata) if metadata.is_dir() => FileKind::Directory,
            Ok(_) => FileKind::File,
            Err(_) => FileKind::Missing,
        }
    }

    fn read(&self, path: &str) -> Result<Vec<u8>, String> {
        fs::read(path).map_err(|error| error.to_string())
    }
}

/// Files by their absolute paths.
#[derive(Default)]
pub struct Memory(pub BTreeMap<String, String>);

impl Files for Memory {
    fn kind(&self, path: &str) -> FileKind {
        match self.0.contains_key(path) {
            true => FileKind::File,
            false if self.0.keys().any(|known| Path::new(known).starts_with(path)) => FileKind::Directory,
            false => FileKind::Missing,
        }
    }

    fn read(&self, path: &str) -> Result<Vec<u8>, String> {
        self.0.get(path).map(|text| text.clone().into_bytes()).ok_or_else(|| "no such file".to_owned())
    }
}

/// Reads the project of a directory on the disk.
pub fn load_from_disk(directory: &Path, files: &[String], environment: &BTreeMap<String, String>) -> Loaded {
    load(&Request {
        files,
        env_files: &[],
        profiles: &[],
        services: &[],
        name: None,
        directory: None,
        working_directory: directory.to_str().unwrap(),
        home: environment.get("HOME").map(String::as_str),
        environment,
        lenient: false,
        access: &Disk,
    })
}
