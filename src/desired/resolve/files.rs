//! Resolution of configs and secrets: mounted files, and files to copy.

use std::collections::BTreeMap;

use super::ResolveContext;
use super::config::absolute;
use crate::desired::{CopiedFile, Volume, VolumeSource};
use crate::spec::Specs;
use crate::spec::model::{ContainerFields, FileField, FileSource, FileUse, Group, MountOptions};

/// Permissions of a copied file, unless set.
const MODE: u32 = 0o444;

/// The configs and secrets of a group.
#[derive(Clone, Copy)]
pub(super) struct Definitions<'a> {
    group: Option<&'a Group>,
    /// Values of the variables that they name.
    environment: &'a BTreeMap<String, String>,
}

/// The configs and secrets of a container.
#[derive(Default)]
pub(super) struct Files {
    /// Mounts, with the path as it is written.
    pub mounted: Vec<(String, Volume)>,
    /// Copied configs by path in the container.
    pub configs: BTreeMap<String, CopiedFile>,
    /// Copied secrets by path in the container.
    pub secrets: BTreeMap<String, CopiedFile>,
}

impl<'a> Definitions<'a> {
    pub(super) fn of(specs: &'a Specs) -> Definitions<'a> {
        Definitions { group: specs.group.as_ref().map(|group| &group.spec), environment: &specs.environment }
    }

    pub(super) fn files(&self, container: &ContainerFields, context: ResolveContext<'_>) -> Files {
        let mut files = Files::default();
        for field in FileField::ALL {
            for used in field.uses(container) {
                self.file(field, used, context, &mut files);
            }
        }
        files
    }

    fn file(&self, field: FileField, used: &FileUse, context: ResolveContext<'_>, files: &mut Files) {
        let target = used.path(field);
        let content = match self.group.and_then(|group| field.defined(group).get(&used.source)) {
            Some(FileSource::File(path)) => {
                let (source, options) = (VolumeSource::Bind(absolute(path, context)), MountOptions::default());
                files.mounted.push((path.clone(), Volume { source, target, read_only: true, options }));
                return;
            }
            Some(FileSource::Content(text)) => text.to_string(),
            Some(FileSource::Environment(name)) => self.environment.get(name.as_str()).cloned().unwrap_or_default(),
            None => return,
        };
        let (uid, gid) = (used.uid.unwrap_or_default(), used.gid.unwrap_or_default());
        let mode = used.mode.map_or(MODE, |mode| mode.bits());
        let copied = match field {
            FileField::Configs => &mut files.configs,
            FileField::Secrets => &mut files.secrets,
        };
        copied.insert(target, CopiedFile { content, uid, gid, mode });
    }
}
