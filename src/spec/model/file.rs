//! Types of configs and secrets: files that the group defines and containers get.

use crate::spec::value::{EnvName, FileMode, FileName, Text};

/// A config or secret of the group: `{file: ./app.conf}`, `{environment: TOKEN}`, `{content: "a=1"}`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum FileSource {
    /// Host path, relative to the spec directory. Mounted read-only.
    File(String),
    /// Value of a variable, from the environment or `.env`. Copied into the container.
    Environment(EnvName),
    /// Text. Copied into the container. Configs only.
    Content(Text),
}

/// A config or secret in a container: `app`, or `{source: app, target: /etc/app.conf, uid: 1000, gid: 1000, mode: 0440}`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct FileUse {
    /// Name in the `Group` document.
    pub source: FileName,
    /// Path in the container. Defaults to `/<source>`, for secrets to `/run/secrets/<source>`; a relative path is below
    /// that directory.
    pub target: Option<String>,
    /// Owner; of a copied file only. Defaults to 0.
    pub uid: Option<u32>,
    /// Group; of a copied file only. Defaults to 0.
    pub gid: Option<u32>,
    /// Permissions; of a copied file only. Defaults to 0444.
    pub mode: Option<FileMode>,
}

impl FileUse {
    /// Returns the path in the container; relative ones are below `directory`, which ends with a slash.
    pub fn path(&self, directory: &str) -> String {
        let target = self.target.as_deref().unwrap_or(self.source.as_str());
        if target.starts_with('/') { target.to_owned() } else { format!("{directory}{target}") }
    }

    /// Returns true if it sets the owner or the permissions of the file.
    pub fn has_permissions(&self) -> bool {
        self.uid.is_some() || self.gid.is_some() || self.mode.is_some()
    }
}

/// Fields of configs and of secrets, with the directory of relative paths in a container.
pub const FILE_FIELDS: [(&str, &str); 2] = [("configs", "/"), ("secrets", "/run/secrets/")];
