//! The state as clients see it.

use std::net::{IpAddr, Ipv4Addr};
use std::time::{Duration, UNIX_EPOCH};

use tokio::time::Instant;

use super::state::{EPOCH, SimContainer, World};
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
            let Some(owner) = labels.get(GROUP).filter(|owner| group.is_none_or(|group| group == *owner)) else {
                continue;
            };
            let source = labels.get(SOURCE).cloned();
            observed.volumes.insert(name.clone(), Volume { name: name.clone(), group: owner.clone(), source });
        }
        observed
    }

    pub(crate) fn view_of(&self, container: &SimContainer) -> Container {
        let address = |n: usize| IpAddr::from(Ipv4Addr::new(10, 0, 0, u8::try_from(n % 250).unwrap_or(0) + 2));
        let number = self.containers.keys().position(|id| *id == container.id).unwrap_or(0);
        let networks = container.networks.iter().map(|(name, id)| Attachment {
            network_id: id.clone(),
            network: name.clone(),
            address: container.is_running().then(|| address(number)),
            prefix: Some(24),
        });
        Container {
            id: container.id.as_str().into(),
            name: container.name.clone(),
            identity: Identity::from_labels(&container.labels),
            inherited: None,
            image_id: container.image.id.clone(),
            image: container.config.image.clone(),
            state: container.state,
            health: container.health,
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
