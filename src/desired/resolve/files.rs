//! Resolution of configs and secrets: mounted files, and files to copy.

use std::collections::BTreeMap;

use super::ResolveContext;
use super::config::absolute;
use crate::desired::{CopiedFile, Volume, VolumeSource};
use crate::spec::Specs;
use crate::spec::model::{FILE_FIELDS, FileSource, FileUse, Group, MountOptions};
use crate::spec::value::FileName;

/// Permissions of a copied file, unless set.
const MODE: u32 = 0o444;

/// The configs and secrets of a group.
#[derive(Clone, Copy)]
pub(super) struct Definitions<'a> {
    group: Option<&'a Group>,
    /// Values of the variables that they name.
    environment: &'a BTreeMap<String, String>,
}

/// Configs or secrets of a container.
#[derive(Default)]
pub(super) struct Files {
    /// Mounts, with the path as it is written.
    pub mounted: Vec<(String, Volume)>,
    /// By path in the container.
    pub copied: BTreeMap<String, CopiedFile>,
}

impl<'a> Definitions<'a> {
    pub(super) fn of(specs: &'a Specs) -> Definitions<'a> {
        Definitions { group: specs.group.as_ref().map(|group| &group.spec), environment: &specs.environment }
    }

    pub(super) fn configs(&self, uses: &[FileUse], context: ResolveContext<'_>) -> Files {
        self.files(uses, self.group.map(|group| &group.configs), FILE_FIELDS[0].1, context)
    }

    pub(super) fn secrets(&self, uses: &[FileUse], context: ResolveContext<'_>) -> Files {
        self.files(uses, self.group.map(|group| &group.secrets), FILE_FIELDS[1].1, context)
    }

    fn files(
        &self,
        uses: &[FileUse],
        defined: Option<&BTreeMap<FileName, FileSource>>,
        directory: &str,
        context: ResolveContext<'_>,
    ) -> Files {
        let mut files = Files::default();
        for used in uses {
            let target = used.path(directory);
            let content = match defined.and_then(|defined| defined.get(&used.source)) {
                Some(FileSource::File(path)) => {
                    let (source, options) = (VolumeSource::Bind(absolute(path, context)), MountOptions::default());
                    files.mounted.push((path.clone(), Volume { source, target, read_only: true, options }));
                    continue;
                }
                Some(FileSource::Content(text)) => text.to_string(),
                Some(FileSource::Environment(name)) => self.environment.get(name.as_str()).cloned().unwrap_or_default(),
                None => continue,
            };
            let (uid, gid) = (used.uid.unwrap_or_default(), used.gid.unwrap_or_default());
            let mode = used.mode.map_or(MODE, |mode| mode.bits());
            files.copied.insert(target, CopiedFile { content, uid, gid, mode });
        }
        files
    }
}
