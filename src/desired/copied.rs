//! Files that are copied into a container before its first start: configs and secrets whose content is no file.

use std::fmt;

use serde::{Serialize, Serializer};

use super::fingerprint::sha256;

/// A file to copy. Its content is in no label, text or log: printed and serialized, it is a digest.
#[derive(Clone, PartialEq, Eq)]
pub struct CopiedFile {
    /// Content, UTF-8.
    pub content: String,
    /// Numeric owner.
    pub uid: u32,
    /// Numeric group.
    pub gid: u32,
    /// Permission bits.
    pub mode: u32,
}

impl fmt::Display for CopiedFile {
    /// Digest, permissions and owner: `sha256:9f86… 0444 0:0`.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { content, uid, gid, mode } = self;
        write!(f, "sha256:{} {mode:04o} {uid}:{gid}", sha256(content.as_bytes()))
    }
}

impl fmt::Debug for CopiedFile {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "CopiedFile({self})")
    }
}

impl Serialize for CopiedFile {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_str(self)
    }
}
