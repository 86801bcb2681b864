//! Reads what people wrote: the spec directory, `.env`, and files that specs name. Parses nothing.

use std::collections::BTreeSet;
use std::fs;
use std::io;
use std::path::{Path, PathBuf};

use crate::spec::{Content, MAX_FILE_SIZE, SourceFile};

/// How deep directories may be nested.
const MAX_DEPTH: usize = 32;

/// What lies in a spec directory.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Sources {
    /// The spec files, sorted by path.
    pub files: Vec<SourceFile>,
    /// The file `.env`, where there is one.
    pub dotenv: Option<SourceFile>,
}

/// Reads a spec directory, recursively. Hidden files and directories are left out: editors and git keep theirs so.
///
/// # Errors
///
/// When the directory itself cannot be read; what is wrong with a file in it is in its [`Content`].
pub fn read(directory: &Path) -> io::Result<Sources> {
    let mut sources = Sources::default();
    let mut seen = BTreeSet::new();
    walk(directory, "", 0, &mut seen, &mut sources.files)?;
    sources.files.sort_by(|a, b| a.path.cmp(&b.path));
    let dotenv = directory.join(".env");
    if dotenv.exists() {
        sources.dotenv = Some(SourceFile { path: ".env".into(), content: content(&dotenv) });
    }
    Ok(sources)
}

/// Reads a file that a spec names, relative to the spec directory. The error is a text for people.
///
/// # Errors
///
/// When it cannot be read, or is larger than a spec may be.
pub fn read_further(directory: &Path, path: &str) -> Result<Vec<u8>, String> {
    match content(&directory.join(path)) {
        Content::Bytes(bytes) => Ok(bytes),
        Content::TooLarge(size) => Err(format!("it has {size} bytes; at most {MAX_FILE_SIZE} are read")),
        Content::Unreadable(why) => Err(why),
    }
}

fn walk(
    directory: &Path,
    prefix: &str,
    depth: usize,
    seen: &mut BTreeSet<PathBuf>,
    files: &mut Vec<SourceFile>,
) -> io::Result<()> {
    // Links may lead back up.
    if depth > MAX_DEPTH || !seen.insert(directory.canonicalize()?) {
        return Ok(());
    }
    for entry in fs::read_dir(directory)? {
        let entry = entry?;
        let name = entry.file_name();
        let Some(name) = name.to_str() else { continue };
        if name.starts_with('.') {
            continue;
        }
        let path = format!("{prefix}{name}");
        let is_spec = name.ends_with(".yaml") || name.ends_with(".yml");
        match fs::metadata(entry.path()) {
            Ok(found) if found.is_dir() => {
                if let Err(error) = walk(&entry.path(), &format!("{path}/"), depth + 1, seen, files) {
                    files.push(SourceFile { path, content: Content::Unreadable(words(&error)) })
                }
            }
            _ if is_spec => files.push(SourceFile { path, content: content(&entry.path()) }),
            // Left out in silence, its services would be taken for deleted.
            _ if name.ends_with(".star") => {
                let why = "specs in Starlark are not supported by this version".to_owned();
                files.push(SourceFile { path, content: Content::Unreadable(why) });
            }
            _ => {}
        }
    }
    Ok(())
}

fn content(path: &Path) -> Content {
    match fs::metadata(path) {
        Err(error) => Content::Unreadable(words(&error)),
        Ok(found) if !found.is_file() => Content::Unreadable("it is not a regular file".into()),
        Ok(found) if found.len() > MAX_FILE_SIZE => Content::TooLarge(found.len()),
        Ok(_) => match fs::read(path) {
            Ok(bytes) => Content::Bytes(bytes),
            Err(error) => Content::Unreadable(words(&error)),
        },
    }
}

fn words(error: &io::Error) -> String {
    match error.kind() {
        io::ErrorKind::NotFound => "there is no such file".into(),
        io::ErrorKind::PermissionDenied => "you may not read it".into(),
        _ => error.to_string(),
    }
}
