//! Volumes with names of their own: what must exist, what differs, and what `down --volumes` removes.

use std::collections::{BTreeMap, BTreeSet};

use super::Planner;
use super::step::{Action, Subject, Verb};
use crate::desired::{DeclaredVolume, Scope, VolumeSource};
use crate::observed::{Container, Volume};

impl<'a> Planner<'a> {
    /// Declared volumes that services in scope mount: missing ones that are external, and those that differ from their
    /// entries.
    pub(super) fn volume_problems(&self) -> Vec<String> {
        let used = self.used_volumes().into_iter();
        used.filter_map(|(name, declared)| problem(name, declared, self.observed.volumes.get(name))).collect()
    }

    /// Volumes with names of their own that are about to be created, and not taken over.
    pub(super) fn note_new_volumes(&mut self) {
        let is_new = |(name, declared): &(&str, &DeclaredVolume)| {
            declared.is_fixed && !self.observed.volumes.contains_key(*name)
        };
        let new: Vec<&str> = self.used_volumes().into_iter().filter(is_new).map(|(name, _)| name).collect();
        let note = |name: &str| format!("volume {name} does not exist yet: it is created, and empty");
        self.plan.notes.extend(new.into_iter().map(note));
    }

    /// The declared volumes that a service in scope mounts.
    fn used_volumes(&self) -> BTreeMap<&'a str, &'a DeclaredVolume> {
        let mounted = self.desired.in_scope().flat_map(|service| &service.config.volumes).filter_map(|mount| {
            match &mount.source {
                VolumeSource::Named(name) => Some(name.as_str()),
                VolumeSource::Anonymous | VolumeSource::Bind(_) | VolumeSource::Image(_) => None,
            }
        });
        let mounted: BTreeSet<&str> = mounted.collect();
        mounted.into_iter().filter_map(|name| Some((name, self.desired.volumes.get(name)?))).collect()
    }

    /// `down --volumes`: removes unused volumes that were created for the group.
    pub(super) fn purged_volumes(&mut self) {
        if !self.desired.mode.purges_volumes() {
            return;
        }
        for volume in self.observed.volumes.values() {
            let subject = Subject::Volume(volume.name.clone());
            let declared = self.desired.volumes.get(&volume.name);
            if let Some(note) = self.kept(volume, declared) {
                self.plan.notes.insert(note);
                continue;
            }
            if !self.is_own_volume(volume) || self.memory.removal_failed.contains(&subject) {
                continue;
            }
            let mounted = |container: &Container| {
                container.mounts.iter().any(|mount| mount.volume.as_deref() == Some(volume.name.as_str()))
            };
            let used = self.observed.containers.values().any(mounted);
            let stays = used && self.desired.scope != Scope::All;
            if !stays {
                self.change(subject.clone(), Action::Remove, Vec::new());
            }
            if !used {
                self.step(subject, Verb::RemoveVolume, "--volumes");
            }
        }
    }

    fn is_own_volume(&self, volume: &Volume) -> bool {
        volume.group.as_ref() == Some(&self.desired.group)
            && volume.source.as_deref().is_none_or(|source| self.desired.owns(source))
    }

    /// Why a declared volume is kept by `down --volumes`; `None`: it is not.
    fn kept(&self, volume: &Volume, declared: Option<&DeclaredVolume>) -> Option<String> {
        let name = &volume.name;
        match declared? {
            DeclaredVolume { external: true, .. } => Some(format!("volume {name} stays: it is external")),
            _ if self.is_own_volume(volume) => None,
            _ => Some(format!(
                "volume {name} stays: it was not created by this group; `docker volume rm {name}` removes it"
            )),
        }
    }
}

/// Why a volume cannot be used as its entry says.
fn problem(name: &str, declared: &DeclaredVolume, found: Option<&Volume>) -> Option<String> {
    let place = &declared.location;
    let Some(found) = found else {
        let missing =
            || format!("external volume {name} does not exist ({place}); create it with `docker volume create {name}`");
        return declared.external.then(missing);
    };
    // The values may be secret: `o` holds the password of a network share.
    let differs = |(option, value): &(&String, &String)| found.options.get(*option) != Some(*value);
    let options: Vec<&str> = declared.driver_opts.iter().filter(differs).map(|(option, _)| option.as_str()).collect();
    let difference = match declared.driver.as_ref().filter(|driver| **driver != found.driver) {
        Some(driver) => format!("the driver {}, the specs say {driver}", found.driver),
        None if !options.is_empty() => format!("other driver options than the specs: {}", options.join(", ")),
        None => return None,
    };
    Some(format!(
        "volume {name} has {difference} ({place}); change the specs, or remove it and its data with `docker volume rm {name}`"
    ))
}
