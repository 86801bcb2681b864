//! The state as clients see it.

use std::collections::BTreeMap;
use std::net::{IpAddr, Ipv4Addr};
use std::time::{Duration, UNIX_EPOCH};

use tokio::time::Instant;

use super::state::{EPOCH, SimContainer, World};
use drillmaster::desired::Join;
use drillmaster::identity::{GROUP, Identity, SOURCE};
use drillmaster::observed::{Attachment, Container, Details, Observed, State, Volume};

impl World {
    /// Returns the state as a list shows it.
    pub(crate) fn view(&self, group: Option<&str>, volumes: bool, stale: bool) -> Observed {
        let mut observed = Observed { capabilities: self.personality.capabilities(), ..Observed::default() };
        let now = Instant::now();
        observed.images = self.images.iter().map(|(name, image)| (name.clone(), image.id.clone())).collect();
        // As on a real engine, an image that has lost its name stays as long as a container uses it.
        let images = self.images.values().chain(self.containers.values().map(|container| &container.image));
        for image in images {
            observed.images.insert(image.id.clone(), image.id.clone());
            if image.labels.contains_key(GROUP) {
                observed.labeled_images.insert(image.id.clone());
            }
        }
        for container in self.containers.values() {
            let mut view = self.view_of(container);
            // Details are only part of inspections.
            if group.is_some() {
                view.details = None;
            }
            if stale && container.stale_until.is_some_and(|until| now < until) {
                view.state = State::Running;
                view.ports = container.ports();
            }
            observed.insert(view);
        }
        observed.networks.clone_from(&self.networks);
        let of_group = self.built.iter().filter(|(_, built)| group.is_none_or(|group| group == built.group));
        observed.built = of_group.map(|(name, built)| (name.clone(), built.clone())).collect();
        for (name, labels) in self.volumes.iter().filter(|_| volumes) {
            let (group, source) = (labels.get(GROUP).cloned(), labels.get(SOURCE).cloned());
            let volume = Volume { name: name.clone(), group, source, driver: "local".into(), ..Volume::default() };
            observed.volumes.insert(name.clone(), volume);
        }
        observed
    }

    pub(crate) fn view_of(&self, container: &SimContainer) -> Container {
        let address = |n: usize| IpAddr::from(Ipv4Addr::new(10, 0, 0, u8::try_from(n % 250).unwrap_or(0) + 2));
        let number = self.containers.keys().position(|id| *id == container.id).unwrap_or(0);
        let networks = container.networks.iter().map(|(name, id)| Attachment {
            network_id: id.clone(),
            network: name.clone(),
            address: container
                .is_running()
                .then(|| container.addresses.get(id).map_or_else(|| address(number), |fixed| IpAddr::V4(*fixed))),
            prefix: Some(24),
        });
        Container {
            id: container.id.as_str().into(),
            name: container.name.clone(),
            identity: Identity::from_labels(&container.labels),
            inherited: None,
            compose: None,
            image_id: container.image.id.clone(),
            image: container.config.image.clone(),
            state: container.state,
            health: container.health,
            network_mode: network_mode(container),
            networks: networks.collect(),
            ports: if container.is_running() { container.ports() } else { Vec::new() },
            mounts: container.mounts.iter().map(|mount| mount.point.clone()).collect(),
            created: i64::try_from(container.created).unwrap_or(i64::MAX),
            details: Some(Details {
                env: container.env.clone(),
                resources: container.resources.clone(),
                restart: container.restart,
                started_at: self.rfc3339(container.started),
                finished_at: self.rfc3339(container.finished),
                restarts: container.restarts,
                oom_killed: false,
                error: container.error.clone(),
                names: container.names.clone(),
                health_failure: String::new(),
            }),
        }
    }

    fn rfc3339(&self, at: Option<Instant>) -> String {
        at.map(|at| UNIX_EPOCH + Duration::from_secs(EPOCH) + at.duration_since(self.began))
            .and_then(|at| jiff::Timestamp::try_from(at).ok())
            .map(|at| format!("{at:.9}"))
            .unwrap_or_default()
    }
}

/// The network of a container in the engine's words.
fn network_mode(container: &SimContainer) -> String {
    match container.config.network.mode().map(ToString::to_string) {
        Some(mode) => container.targets.get(&mode).map_or(mode, |id| format!("container:{id}")),
        None => container.networks.keys().next().cloned().unwrap_or_default(),
    }
}

/// Fixed addresses by network id.
pub(crate) fn addresses(joins: &[Join]) -> BTreeMap<String, Ipv4Addr> {
    joins.iter().filter_map(|join| Some((join.network.clone(), join.endpoint.ipv4_address?))).collect()
}
