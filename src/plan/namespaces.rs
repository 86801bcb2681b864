//! Namespaces of other containers: `network_mode`, `pid` and `ipc` of `service:NAME` and `container:NAME`.

use std::collections::BTreeMap;

use jiff::Timestamp;

use super::cause::Cause;
use super::diff::Comparison;
use super::step::{Query, Reason, Subject};
use super::{Planner, instance_of};
use crate::capabilities::EngineKind;
use crate::desired::Service;
use crate::identity::{Identity, container_name};
use crate::observed::{Container, Observed, State};
use crate::spec::model::{NetworkMode, Target};
use crate::types::ContainerId;

impl<'a> Planner<'a> {
    /// The containers whose namespaces a new container of the service shares, by their names in the spec. `None` if one is
    /// missing: a service waits for it, another container is an error.
    pub(super) fn targets(&mut self, service: &'a Service) -> Option<BTreeMap<String, ContainerId>> {
        let mut targets = BTreeMap::new();
        for (target, field) in service.config.targets() {
            let Some(container) = target_container(target, &self.desired.group, self.observed) else {
                match target {
                    Target::Service(name) => self.wait(service, format!("waiting for a container of {name}"), None),
                    Target::Container(name) => {
                        let place = &service.location;
                        let message = format!("container {name} of `{field}` does not exist ({place}); start it first");
                        self.fail(&service.name, Reason::Conflict, message, None);
                    }
                }
                return None;
            };
            targets.insert(target.to_string(), container.id.clone());
        }
        Some(targets)
    }

    /// Compares when a container and the one whose network it shares were started. The engine gives the latter another
    /// network namespace at each start, and leaves the former in one without interfaces until it is started as well.
    pub(super) fn compare_starts(
        &mut self,
        service: &'a Service,
        container: &'a Container,
        comparison: &mut Comparison,
    ) {
        let Some(NetworkMode::Shared(target)) = service.config.network.mode() else { return };
        let owner = target_container(target, &self.desired.group, self.observed);
        let Some(owner) = owner.filter(|owner| Some(owner.id.as_str()) == container.network_owner()) else { return };
        if container.state != State::Running || owner.state != State::Running {
            return;
        }
        let started = |container: &Container| -> Option<Timestamp> {
            container.details.as_ref().and_then(|details| details.started_at.parse().ok())
        };
        for unknown in [container, owner].into_iter().filter(|container| container.details.is_none()) {
            self.plan.queries.insert(Query::Container(unknown.id.clone()));
            comparison.unclear = true;
        }
        if let (Some(joined), Some(renewed)) = (started(container), started(owner))
            && joined < renewed
        {
            let (old, new) = (format!("{target} before {renewed}"), target.to_string());
            comparison.restart.push(Cause::field("network_mode", Some(&old), Some(&new)));
        }
    }

    /// Removes the containers that share a namespace of a container that is about to be removed, as far as they are in scope:
    /// Podman does not remove it before them. They are created again with the namespaces of the replacement. Returns true
    /// if nothing is left to do.
    pub(super) fn sharers_are_gone(&mut self, container: &Container) -> bool {
        if self.observed.capabilities.kind != EngineKind::Podman {
            return true;
        }
        let shares = |other: &&Container| {
            let identity = other.identity.as_ref().filter(|identity| self.desired.scope.contains(&identity.service));
            identity.is_some_and(|identity| identity.targets.values().any(|id| *id == container.id.as_str()))
        };
        let sharers: Vec<&Container> = self.observed.of_group(&self.desired.group).filter(shares).collect();
        for sharer in &sharers {
            let Some(name) = instance_of(self.desired, sharer) else { continue };
            let cause = format!("it shares a namespace of {}, which is removed", container.name);
            match sharer.is_up() {
                true => self.stop(&name, sharer, &cause),
                false => self.remove(Subject::Service((&*name).into()), sharer, &cause),
            }
        }
        sharers.is_empty()
    }
}

/// The container whose namespace is shared.
fn target_container<'o>(target: &Target, group: &str, observed: &'o Observed) -> Option<&'o Container> {
    match target {
        Target::Service(service) => {
            let name = container_name(group, service.as_str());
            let mut all = observed.containers.values();
            all.find(|container| container.name == name && container.service_of(group).is_some())
        }
        Target::Container(name) => {
            let mut all = observed.containers.values();
            all.find(|container| container.name == name.as_str() || container.id.as_str() == name.as_str())
        }
    }
}

/// Differences of shared namespaces: the container that the namespace is of was replaced, so it is gone. One that is missing
/// is no difference: it may come back.
pub(super) fn replaced_targets(service: &Service, identity: &Identity, observed: &Observed) -> Vec<Cause> {
    let replaced = |(target, field): (&Target, &str)| {
        let old = identity.targets.get(&target.to_string())?;
        let now = target_container(target, &identity.group, observed)?;
        let short = |id: &str| id.chars().take(12).collect::<String>();
        let (was, is) = (short(old), short(now.id.as_str()));
        (old != now.id.as_str())
            .then(|| Cause::field(field, Some(&format!("{target} ({was})")), Some(&format!("{target} ({is})"))))
    };
    service.config.targets().into_iter().filter_map(replaced).collect()
}
