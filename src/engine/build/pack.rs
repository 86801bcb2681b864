//! Sends a build context as a tar archive, packed while it is sent so that only a chunk of it is in memory.
//!
//! Files are digested as they are sent. The image is named after the digest computed before; if the two differ, the end
//! of the archive is not sent and nothing is built.

use std::fs::{self, File};
use std::io::{self, Read, Write};
use std::path::{Path, PathBuf};
use std::time::UNIX_EPOCH;

use futures_util::stream;
use hyper::body::{Bytes, Frame};
use sha2::{Digest, Sha256};
use tar::{Builder, EntryType, Header};
use tokio::sync::mpsc;
use tokio::task::JoinHandle;

use super::tree::{ContextPaths, Digesting, Files, IGNORE, Kind, Watched, find, is_executable};
use crate::engine::transport::Stream;
use crate::spec::TreeError;

/// Size of a chunk in bytes, and the number of chunks that may be queued.
const PIECE: usize = 64 * 1024;
const WAITING: usize = 8;
/// Name in the archive for a Dockerfile that is outside the context or ignored there.
const FOREIGN: &str = ".dockerfile.drillmaster";

/// A context being packed.
pub(super) struct Packing {
    /// The archive, in chunks.
    pub body: Stream,
    /// The result.
    pub task: JoinHandle<Result<(), Why>>,
}

/// Why a context was not sent completely.
#[derive(Debug)]
pub(super) enum Why {
    /// The receiver was dropped; its error is reported elsewhere.
    Refused,
    /// A file changed or cannot be read; a message for the user.
    Files(String),
}

/// Path of the Dockerfile in the archive.
pub(super) fn dockerfile_name(files: &Files) -> String {
    files.inside.as_deref().map_or_else(|| FOREIGN.into(), |path| path.to_string_lossy().into_owned())
}

/// Finds the files to send; blocks.
pub(super) fn files(paths: &ContextPaths) -> Result<Files, String> {
    find(paths, &mut Watched::default()).map_err(|error| match error {
        TreeError::Context(why) | TreeError::Dockerfile(why) => why,
    })
}

/// Starts packing. With `hides`, the engine removes files that are not part of the context, by the `.dockerignore` in
/// the archive.
pub(super) fn pack(
    paths: ContextPaths,
    files: Files,
    digest: String,
    hides: bool,
    sent: impl Fn() + Send + 'static,
) -> Packing {
    let (pieces, inbox) = mpsc::channel::<io::Result<Frame<Bytes>>>(WAITING);
    let task = tokio::task::spawn_blocking(move || {
        let out = Pieces { pieces: pieces.clone(), sent };
        let packed = pack_all(&paths, &files, &digest, hides, io::BufWriter::with_capacity(PIECE, out));
        packed.map_err(|error| {
            // The reader must not mistake the archive for complete.
            let _ = pieces.blocking_send(Err(io::Error::other("the context cannot be sent")));
            match error.kind() {
                io::ErrorKind::BrokenPipe => Why::Refused,
                _ => Why::Files(error.to_string()),
            }
        })
    });
    let next = |mut inbox: mpsc::Receiver<_>| async move { inbox.recv().await.map(|piece| (piece, inbox)) };
    Packing { body: Box::pin(stream::unfold(inbox, next)), task }
}

/// Passes chunks to the sender.
struct Pieces<S> {
    pieces: mpsc::Sender<io::Result<Frame<Bytes>>>,
    sent: S,
}

impl<S: Fn()> Write for Pieces<S> {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        let piece = Ok(Frame::data(Bytes::copy_from_slice(bytes)));
        self.pieces.blocking_send(piece).map_err(|_| io::Error::from(io::ErrorKind::BrokenPipe))?;
        (self.sent)();
        Ok(bytes.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

fn pack_all(paths: &ContextPaths, files: &Files, digest: &str, hides: bool, out: impl Write) -> io::Result<()> {
    let mut archive = Builder::new(out);
    let mut digesting = Digesting::new(&files.dockerfile);
    let foreign = files.inside.is_none();
    for (path, kind) in &files.entries {
        let at = paths.context.join(path);
        let told = |error: io::Error| named(path, error);
        match kind {
            Kind::Directory => {
                let mut header = header(EntryType::Directory, 0o755, &fs::symlink_metadata(&at).map_err(told)?);
                archive.append_data(&mut header, path, io::empty())?;
                digesting.directory(path);
            }
            Kind::Link(target) => {
                let mut header = header(EntryType::Symlink, 0o777, &fs::symlink_metadata(&at).map_err(told)?);
                archive.append_link(&mut header, path, target)?;
                digesting.link(path, target);
            }
            Kind::File => {
                let file = File::open(&at).map_err(told)?;
                let found = file.metadata().map_err(told)?;
                let mode = if is_executable(&found) { 0o755 } else { 0o644 };
                let mut header = header(EntryType::Regular, mode, &found);
                let hidden = if foreign && hides && path == Path::new(IGNORE) { hidden("\n") } else { String::new() };
                header.set_size(found.len() + hidden.len() as u64);
                let mut content = Summed { file: file.take(found.len()), sum: Sha256::new(), left: found.len() };
                archive.append_data(&mut header, path, (&mut content).chain(hidden.as_bytes())).map_err(told)?;
                digesting.file(path, is_executable(&found), &content.sum.finalize().into());
            }
        }
    }
    if foreign {
        append(&mut archive, FOREIGN.into(), &files.dockerfile)?;
        if hides && !files.entries.contains_key(Path::new(IGNORE)) {
            append(&mut archive, IGNORE.into(), hidden(&format!("{IGNORE}\n")).as_bytes())?;
        }
    }
    if digesting.finish() != digest {
        return Err(io::Error::other("its sources have changed since they were read; run it again"));
    }
    archive.into_inner()?.flush()
}

/// The `.dockerignore` with which the engine removes the Dockerfile from the context.
fn hidden(before: &str) -> String {
    format!("{before}{FOREIGN}\n")
}

fn append(archive: &mut Builder<impl Write>, path: PathBuf, bytes: &[u8]) -> io::Result<()> {
    let mut header = Header::new_gnu();
    header.set_uid(0);
    header.set_gid(0);
    header.set_mode(0o644);
    header.set_size(bytes.len() as u64);
    archive.append_data(&mut header, path, bytes)
}

/// Everything belongs to root; only permissions covered by the digest are sent.
fn header(kind: EntryType, mode: u32, found: &fs::Metadata) -> Header {
    let mut header = Header::new_gnu();
    header.set_entry_type(kind);
    header.set_uid(0);
    header.set_gid(0);
    header.set_mode(mode);
    header.set_size(0);
    let modified = found.modified().ok().and_then(|time| time.duration_since(UNIX_EPOCH).ok());
    header.set_mtime(modified.unwrap_or_default().as_secs());
    header
}

fn named(path: &Path, error: io::Error) -> io::Error {
    match error.kind() {
        io::ErrorKind::BrokenPipe => error,
        kind => io::Error::new(kind, format!("{}: {error}", path.display())),
    }
}

/// A file digested while it is read. A file that has shrunk is an error: its size was already sent.
struct Summed {
    file: io::Take<File>,
    sum: Sha256,
    left: u64,
}

impl Read for Summed {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        let length = self.file.read(buffer)?;
        if length == 0 && self.left > 0 && !buffer.is_empty() {
            return Err(io::Error::other("it has changed since it was read; run it again"));
        }
        self.left = self.left.saturating_sub(length as u64);
        self.sum.update(&buffer[..length]);
        Ok(length)
    }
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeMap;
    use std::os::unix::fs::{PermissionsExt, symlink};

    use super::super::tree::{Sums, look};
    use super::*;
    use crate::spec::build::Dockerfile;

    fn ground(files: &[(&str, &str)]) -> tempfile::TempDir {
        let home = tempfile::tempdir().unwrap();
        for (path, text) in files {
            let path = home.path().join(path);
            fs::create_dir_all(path.parent().unwrap()).unwrap();
            fs::write(path, text).unwrap();
        }
        home
    }

    /// Returns what is sent of a context by path: mode, owner, and content or target.
    fn sent(paths: &ContextPaths, hides: bool) -> BTreeMap<String, (u32, u64, String)> {
        let digest = look(paths, &Sums::default()).0.unwrap().digest;
        let mut archive = Vec::new();
        pack_all(paths, &files(paths).unwrap(), &digest, hides, &mut archive).unwrap();
        let mut archive = tar::Archive::new(archive.as_slice());
        let mut sent = BTreeMap::new();
        for entry in archive.entries().unwrap() {
            let mut entry = entry.unwrap();
            let mut content = String::new();
            entry.read_to_string(&mut content).unwrap();
            if let Some(target) = entry.link_name().unwrap() {
                content = target.to_str().unwrap().to_owned();
            }
            let header = entry.header();
            let (mode, owner) = (header.mode().unwrap(), header.uid().unwrap() + header.gid().unwrap());
            let path = entry.path().unwrap().to_str().unwrap().to_owned();
            assert!(sent.insert(path.clone(), (mode, owner, content)).is_none(), "{path} is sent twice");
        }
        sent
    }

    fn context_paths(home: &tempfile::TempDir, dockerfile: Option<&str>) -> ContextPaths {
        let dockerfile = dockerfile.map(|path| Dockerfile::File(path.to_owned())).unwrap_or_default();
        ContextPaths::new(home.path(), "api", &dockerfile)
    }

    #[test]
    fn files_are_sent_unchanged_and_owned_by_root() {
        let long = format!("api/{}/{}", "d".repeat(90), "f".repeat(90));
        let home = ground(&[("api/Dockerfile", "FROM x\n"), ("api/run.sh", "hi"), (&long, "deep")]);
        fs::set_permissions(home.path().join("api/run.sh"), fs::Permissions::from_mode(0o700)).unwrap();
        symlink("x".repeat(150), home.path().join("api/link")).unwrap();
        let file = |text: &str| (0o644, 0, text.to_owned());
        let expected = [
            ("Dockerfile".to_owned(), file("FROM x\n")),
            ("d".repeat(90), (0o755, 0, String::new())),
            (long.trim_start_matches("api/").to_owned(), file("deep")),
            ("link".to_owned(), (0o777, 0, "x".repeat(150))),
            ("run.sh".to_owned(), (0o755, 0, "hi".to_owned())),
        ];
        let mut seen = sent(&context_paths(&home, None), true);
        // Directories have a trailing slash in some tar implementations.
        seen = seen.into_iter().map(|(path, entry)| (path.trim_end_matches('/').to_owned(), entry)).collect();
        assert_eq!(seen, expected.into());
    }

    #[test]
    fn external_dockerfile_is_sent_and_removed_where_possible() {
        let home = ground(&[("api/a", "1"), ("docker/api", "FROM x\n")]);
        let outside = context_paths(&home, Some("../docker/api"));
        assert_eq!(dockerfile_name(&files(&outside).unwrap()), FOREIGN);
        let seen = sent(&outside, true);
        assert_eq!(seen.keys().collect::<Vec<_>>(), [FOREIGN, IGNORE, "a"]);
        assert_eq!(seen[FOREIGN].2, "FROM x\n");
        assert_eq!(seen[IGNORE].2, ".dockerignore\n.dockerfile.drillmaster\n");
        assert_eq!(sent(&outside, false).keys().collect::<Vec<_>>(), [FOREIGN, "a"]);
        fs::write(home.path().join("api/.dockerignore"), "b").unwrap();
        assert_eq!(sent(&outside, true)[IGNORE].2, "b\n.dockerfile.drillmaster\n");
        assert_eq!(sent(&outside, false)[IGNORE].2, "b");
    }

    #[test]
    fn text_of_a_dockerfile_is_sent_beside_the_one_of_the_context() {
        let home = ground(&[("api/Dockerfile", "FROM y\n"), ("api/a", "1")]);
        let inline = ContextPaths::new(home.path(), "api", &Dockerfile::Inline("FROM x\n".to_owned()));
        let seen = sent(&inline, false);
        assert_eq!(seen.keys().collect::<Vec<_>>(), [FOREIGN, "Dockerfile", "a"]);
        assert_eq!(seen[FOREIGN].2, "FROM x\n");
    }

    #[test]
    fn changed_files_abort_the_upload() {
        let home = ground(&[("api/Dockerfile", "FROM x\n"), ("api/a", "1")]);
        let paths = context_paths(&home, None);
        let digest = look(&paths, &Sums::default()).0.unwrap().digest;
        let files = files(&paths).unwrap();
        fs::write(home.path().join("api/a"), "2").unwrap();
        let mut archive = Vec::new();
        let error = pack_all(&paths, &files, &digest, true, &mut archive).unwrap_err().to_string();
        assert_eq!(error, "its sources have changed since they were read; run it again");
        fs::remove_file(home.path().join("api/a")).unwrap();
        let error = pack_all(&paths, &files, &digest, true, io::sink()).unwrap_err().to_string();
        assert_eq!(error, "a: No such file or directory (os error 2)");
    }

    #[tokio::test]
    async fn packing_stops_when_the_receiver_is_gone() {
        let home = ground(&[("api/Dockerfile", "FROM x\n"), ("api/large", &"x".repeat(8 << 20))]);
        let paths = context_paths(&home, None);
        let files = files(&paths).unwrap();
        let Packing { body, task } = pack(paths, files, String::new(), true, || {});
        drop(body);
        assert!(matches!(task.await.unwrap(), Err(Why::Refused)));
    }
}
