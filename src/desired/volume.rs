//! Volumes of the group that have settings of their own.

use std::collections::BTreeMap;

use super::config::texts;
use crate::identity;
use crate::spec::Loaded;
use crate::spec::model::{Group, GroupVolume};

/// A volume that the group declares.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct DeclaredVolume {
    /// It has a name of its own, so it may exist from before.
    pub is_fixed: bool,
    /// It must exist, and is neither created nor removed.
    pub external: bool,
    /// Driver; `None`: the engine's default.
    pub driver: Option<String>,
    /// Options of the driver.
    pub driver_opts: BTreeMap<String, String>,
    /// The user's labels.
    pub labels: BTreeMap<String, String>,
    /// Location of its entry, e.g. `specs/group.yaml:4:9`.
    pub location: String,
}

/// The declared volumes by their names on the engine.
pub(super) fn declared(loaded: &Loaded<Group>, group: &str) -> BTreeMap<String, DeclaredVolume> {
    let declared = loaded.spec.volumes.iter().map(|(name, entry)| {
        let spec = entry.clone().unwrap_or_default();
        let volume = DeclaredVolume {
            is_fixed: spec.name.is_some(),
            external: spec.external,
            driver: spec.driver.as_ref().map(ToString::to_string),
            driver_opts: texts(&spec.driver_opts),
            labels: texts(&spec.labels),
            location: loaded.place(&format!("volumes.{name}")),
        };
        (engine_name(name.as_str(), &spec, group), volume)
    });
    declared.collect()
}

/// The name on the engine of a volume that a mount names. `entry`: its entry in the group, if it has one.
pub(super) fn engine_name(name: &str, entry: &GroupVolume, group: &str) -> String {
    match &entry.name {
        Some(fixed) => fixed.to_string(),
        None if entry.external => name.to_owned(),
        None => identity::volume_name(group, name),
    }
}
