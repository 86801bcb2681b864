//! Volumes of the simulated engine.

use std::collections::BTreeMap;

use drillmaster::engine::{EngineError, LabeledVolume, Result};
use tokio::time::Instant;

use crate::state::{NO_SPACE, SimContainer, World};

impl World {
    /// Creates a volume, or returns the labels of the existing one.
    pub(crate) fn create_volume(
        &mut self,
        name: &str,
        labels: &BTreeMap<String, String>,
    ) -> Result<BTreeMap<String, String>> {
        if let Some(labels) = self.volumes.get(name) {
            return Ok(labels.clone());
        }
        if self.disk_full {
            return Err(EngineError::Refused { attempted: format!("create volume {name}"), message: NO_SPACE.into() });
        }
        self.volumes.insert(name.to_owned(), labels.clone());
        self.volume_times.insert(name.to_owned(), Instant::now());
        self.history.push(format!("created volume {name}"));
        Ok(labels.clone())
    }

    /// The volumes with this value of a label.
    pub(crate) fn labeled_volumes(&self, label: &str, value: &str) -> Vec<LabeledVolume> {
        let has_label =
            |(_, labels): &(&String, &BTreeMap<String, String>)| labels.get(label).is_some_and(|found| found == value);
        let age = |name: &String| self.volume_times.get(name).map(Instant::elapsed);
        let labeled = self.volumes.iter().filter(has_label);
        labeled
            .map(|(name, labels)| LabeledVolume { name: name.clone(), labels: labels.clone(), age: age(name) })
            .collect()
    }

    pub(crate) fn remove_volume(&mut self, name: &str) -> Result<()> {
        let attempted = format!("remove the volume {name}");
        if !self.volumes.contains_key(name) {
            return Ok(());
        }
        let uses = |container: &&SimContainer| container.mounts.iter().any(|m| m.point.volume.as_deref() == Some(name));
        if let Some(user) = self.containers.values().find(uses) {
            let message = format!("remove {name}: volume is in use - [{}]", user.id);
            return Err(EngineError::Conflict { attempted, message });
        }
        self.volumes.remove(name);
        self.volume_times.remove(name);
        self.history.push(format!("removed volume {name}"));
        Ok(())
    }
}
