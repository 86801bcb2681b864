//! Types of configs and secrets: files that the group defines and containers get.

use std::collections::BTreeMap;

use super::{ContainerFields, Group};
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
    /// Returns the path in the container.
    pub fn path(&self, field: FileField) -> String {
        let target = self.target.as_deref().unwrap_or(self.source.as_str());
        if target.starts_with('/') { target.to_owned() } else { format!("{}{target}", field.directory()) }
    }

    /// Returns true if it sets the owner or the permissions of the file.
    pub fn has_permissions(&self) -> bool {
        self.uid.is_some() || self.gid.is_some() || self.mode.is_some()
    }
}

/// A field for files: of the group, which defines them, and of services and jobs, which use them.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum FileField {
    Configs,
    Secrets,
}

impl FileField {
    pub const ALL: [FileField; 2] = [FileField::Configs, FileField::Secrets];

    /// Name of the field in specs.
    pub fn name(self) -> &'static str {
        match self {
            FileField::Configs => "configs",
            FileField::Secrets => "secrets",
        }
    }

    /// Directory of relative paths in a container.
    pub fn directory(self) -> &'static str {
        match self {
            FileField::Configs => "/",
            FileField::Secrets => "/run/secrets/",
        }
    }

    /// The files that a container uses.
    pub fn uses(self, container: &ContainerFields) -> &[FileUse] {
        match self {
            FileField::Configs => &container.configs,
            FileField::Secrets => &container.secrets,
        }
    }

    /// The files that a group defines.
    pub fn defined(self, group: &Group) -> &BTreeMap<FileName, FileSource> {
        match self {
            FileField::Configs => &group.configs,
            FileField::Secrets => &group.secrets,
        }
    }
}
