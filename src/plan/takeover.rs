//! Containers that docker compose has for the project whose compose files are the specs.
//!
//! While they run, nothing is done. `up --adopt` removes them first, with the project's networks, as `docker compose down`
//! does: once every image is there, and only if nothing fails until then.

use std::collections::BTreeSet;

use super::step::{Action, Awaited, Change, ContainerRef, Plan, Reason, Step, Subject, Verb, Wait};
use super::{DEFAULT_READY_TIMEOUT, Memory, Planner, failure};
use crate::desired::Desired;
use crate::observed::{Container, Network, Observed, State};

/// What docker compose has for the project: what `docker compose down` would remove.
#[derive(Debug, Default)]
pub struct Takeover<'a> {
    pub containers: Vec<&'a Container>,
    pub networks: Vec<&'a Network>,
}

impl<'a> Takeover<'a> {
    /// Everything that docker compose has for the project.
    pub fn of_project(desired: &'a Desired, observed: &'a Observed) -> Takeover<'a> {
        let containers: Vec<&Container> = containers(desired, observed).collect();
        Takeover { networks: networks(desired, observed, &containers), containers }
    }

    /// What is still to be removed. What could not be removed stays.
    pub(super) fn pending(desired: &'a Desired, observed: &'a Observed, memory: &Memory) -> Takeover<'a> {
        if desired.takeover.is_empty() {
            return Takeover::default();
        }
        let is_pending =
            |id: &str, subject: Subject| desired.takeover.contains(id) && !memory.removal_failed.contains(&subject);
        let containers: Vec<&Container> = containers(desired, observed)
            .filter(|container| is_pending(container.id.as_str(), subject(container)))
            .collect();
        let mut networks = networks(desired, observed, &containers);
        networks.retain(|network| is_pending(&network.id, Subject::Network(network.name.clone())));
        Takeover { networks, containers }
    }

    pub fn is_empty(&self) -> bool {
        self.containers.is_empty() && self.networks.is_empty()
    }

    /// The ids of the containers and networks.
    pub fn ids(&self) -> BTreeSet<String> {
        let containers = self.containers.iter().map(|container| container.id.to_string());
        containers.chain(self.networks.iter().map(|network| network.id.clone())).collect()
    }

    /// Data that stays in volumes which no new container mounts: `shop-db-1 (/var/lib/postgresql/data)`.
    pub fn left_behind(&self) -> Vec<String> {
        let is_anonymous = |name: &String| name.len() == 64 && name.chars().all(|c| c.is_ascii_hexdigit());
        let paths = |container: &Container| -> Vec<String> {
            let mounts = container.mounts.iter().filter(|mount| mount.volume.as_ref().is_some_and(is_anonymous));
            mounts.map(|mount| mount.target.clone()).collect()
        };
        let left = self.containers.iter().map(|container| (&container.name, paths(container)));
        left.filter(|(_, paths)| !paths.is_empty())
            .map(|(name, paths)| format!("{name} ({})", paths.join(", ")))
            .collect()
    }

    /// The snapshot once all of it is removed.
    pub(super) fn without(&self, observed: &Observed) -> Observed {
        let mut rest = observed.clone();
        for container in &self.containers {
            rest.containers.remove(&container.id);
        }
        for network in &self.networks {
            rest.networks.remove(&network.id);
        }
        rest
    }

    /// What may begin now of a plan that is made as if all of it were removed. `images` is the plan of the images.
    pub(super) fn before(
        &self,
        plan: Plan,
        images: Plan,
        desired: &Desired,
        observed: &Observed,
        memory: &Memory,
    ) -> Plan {
        let mut plan = Plan {
            changes: self.changes(desired).into_iter().chain(plan.changes).collect(),
            steps: images.steps,
            queries: images.queries,
            waits: images.waits,
            failures: plan.failures,
            notes: plan.notes,
            wake: plan.wake,
            ..Plan::default()
        };
        plan.notes.extend(self.left_behind().into_iter().map(|left| {
            format!("what {left} has in anonymous volumes stays there, and is not mounted by its new container")
        }));
        for failure in images.failures {
            if plan.failures.iter().all(|known| known.service != failure.service) {
                plan.failures.push(failure);
            }
        }
        if !plan.failures.is_empty() || desired.in_scope().any(|service| memory.has_failed(&service.name)) {
            refrain(&mut plan, desired, observed, memory);
        } else if plan.steps.is_empty() && plan.queries.is_empty() {
            self.remove(&mut plan);
        }
        plan
    }

    fn changes(&self, desired: &Desired) -> Vec<Change> {
        let containers = self.containers.iter().map(|container| subject(container));
        let networks = self.networks.iter().map(|network| Subject::Network(network.name.clone()));
        let change = |subject: Subject| Change {
            kind: subject.kind().to_owned(),
            subject,
            action: Action::Remove,
            replica: None,
            causes: Vec::new(),
            interrupts: None,
            source: desired.source.clone(),
        };
        containers.chain(networks).map(change).collect()
    }

    /// Stops and removes the containers, dependents first, and then the networks. Volumes stay, anonymous ones too.
    fn remove(&self, plan: &mut Plan) {
        let cause = "of docker compose";
        for container in &self.containers {
            let (subject, reference) = (subject(container), ContainerRef::of(container));
            let service = container.compose.as_ref().map(|compose| compose.service.as_str());
            let is_needed = self.containers.iter().filter(|other| other.is_up()).any(|other| {
                let dependencies = other.compose.iter().flat_map(|compose| &compose.dependencies);
                other.id != container.id && dependencies.map(String::as_str).any(|needed| Some(needed) == service)
            });
            let verb = match container.state {
                _ if is_needed => continue,
                State::Removing => {
                    let awaited = Awaited { container: container.id.clone(), limit: DEFAULT_READY_TIMEOUT };
                    let reason = "is being removed by the engine".to_owned();
                    plan.waits.push(Wait::new(container.name.as_str().into(), reason, Some(awaited)));
                    continue;
                }
                _ if container.is_up() => Verb::Stop(reference),
                _ => Verb::Remove { container: reference, volumes: false },
            };
            plan.steps.push(Step { subject, verb, cause: cause.to_owned() });
        }
        for network in self.networks.iter().filter(|_| self.containers.is_empty()) {
            let (subject, verb) =
                (Subject::Network(network.name.clone()), Verb::RemoveNetwork { id: network.id.clone() });
            plan.steps.push(Step { subject, verb, cause: cause.to_owned() });
        }
    }
}

/// Some service cannot run: nothing is removed, and the others fail as well.
fn refrain(plan: &mut Plan, desired: &Desired, observed: &Observed, memory: &Memory) {
    plan.steps.clear();
    plan.queries.clear();
    plan.waits.clear();
    let message = "docker compose keeps running this project, because other services have failed";
    for service in desired.in_scope() {
        let is_known = plan.failures.iter().any(|failure| failure.service == service.name);
        if !is_known && !memory.has_failed(&service.name) {
            let reason = Reason::Conflict;
            plan.failures.push(failure(desired, observed, &service.name, reason, message.to_owned(), None));
        }
    }
}

fn subject(container: &Container) -> Subject {
    Subject::Container(container.name.clone())
}

/// The containers of docker compose for the project, whatever their state.
fn containers<'a>(desired: &'a Desired, observed: &'a Observed) -> impl Iterator<Item = &'a Container> {
    let wanted = desired.compose_project();
    observed.containers.values().filter(move |container| {
        let project = container.compose.as_ref().map(|compose| compose.project.as_str());
        container.identity.is_none() && project.is_some() && project == wanted
    })
}

/// The networks of docker compose for the project on which no other container is.
fn networks<'a>(desired: &Desired, observed: &'a Observed, containers: &[&Container]) -> Vec<&'a Network> {
    let is_removed = |container: &Container| containers.iter().any(|removed| removed.id == container.id);
    let is_free = |network: &Network| {
        observed
            .containers
            .values()
            .filter(|container| !is_removed(container))
            .all(|container| container.networks.iter().all(|attachment| attachment.network_id != network.id))
    };
    let is_external = |name: &str| desired.networks.get(name).is_some_and(|network| network.external);
    let wanted = desired.compose_project();
    let of_project = observed.networks.values().filter(|network| {
        let project = network.compose_project.as_deref();
        network.group.is_none() && project.is_some() && project == wanted
    });
    of_project.filter(|network| is_free(network) && !is_external(&network.name)).collect()
}

impl Planner<'_> {
    /// Containers of docker compose that run: they hold ports and write to the volumes.
    pub(super) fn project_problem(&self) -> Option<String> {
        let project = self.desired.compose_project()?;
        let running = containers(self.desired, self.observed).filter(|container| container.is_up());
        let mut names: Vec<&str> = running.map(|container| container.name.as_str()).collect();
        names.sort_unstable();
        let message = || {
            format!(
                "docker compose runs this project: {}; `drillmaster up --adopt` removes these containers and keeps the \
                 volumes, as `docker compose -p {project} down` does",
                names.join(", ")
            )
        };
        (!names.is_empty()).then(message)
    }
}
