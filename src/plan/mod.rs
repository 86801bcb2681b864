//! The decision: a pure function of what should exist, what exists, what this run remembers, and the time.
//!
//! Level-triggered: [`plan`] says which steps may begin *now*; when one is done, it is asked again. So a run that was
//! killed is continued by any later one, from what the engine shows. [`forecast`] folds the same function over the
//! effects of its own steps, which is the whole plan that `diff` prints: there is no second code path that decides.

pub mod backoff;
pub mod cause;
pub mod check;
pub mod diff;
pub mod effect;
pub mod hook;
mod job;
pub mod memory;
mod outputs;
mod placement;
mod readiness;
mod service;
pub mod step;
mod teardown;

use std::borrow::Cow;
use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;

use crate::desired::{Desired, OnFailure, Service};
use crate::identity::{Identity, candidate_name, container_name, instance_name};
use crate::observed::{Container, Network, Observed};
use crate::spec::model::Protocol;
use cause::Cause;
pub use memory::Memory;
use readiness::DependencyState;
use step::{Action, Change, ContainerRef, Failure, Plan, Query, Reason, Step, Subject, Verb};

/// Time that a service without a ping has to become healthy, and a ping's own unless it says otherwise.
pub const DEFAULT_READY_TIMEOUT: Duration = Duration::from_secs(300);

/// How long a service that nothing tells to be ready must have run since this run started it: one that ends at once was
/// never ready, and must not take the place of one that was.
pub const MIN_UPTIME: Duration = Duration::from_millis(500);

/// How long a container is still there after it is no longer found by its names. Whoever looked it up before, and tried
/// to connect in the moment in which it was attached anew, tries again after a second.
pub const DRAIN_PERIOD: Duration = Duration::from_secs(2);

/// Says what may be done now.
pub fn plan(desired: &Desired, observed: &Observed, memory: &Memory, now: Duration) -> Plan {
    let mut planner = Planner::new(desired, observed, memory, now);
    if planner.conflict_of_group() {
        return planner.plan;
    }
    planner.services();
    planner.remove_orphans();
    planner.surplus_networks();
    planner.purged_volumes();
    planner.purged_images();
    planner.plan
}

/// A whole plan.
#[derive(Debug, Clone, PartialEq, Default)]
pub struct Forecast {
    /// What differs now.
    pub changes: Vec<Change>,
    /// Every step to agreement, in order, if all goes well.
    pub steps: Vec<Step>,
    /// What has to be looked up before the forecast is exact.
    pub queries: BTreeSet<Query>,
    /// What cannot succeed.
    pub failures: Vec<Failure>,
}

/// The whole plan, if all goes well: every ping answers, every step succeeds.
pub fn forecast(desired: &Desired, observed: &Observed, memory: &Memory) -> Forecast {
    let mut observed = observed.clone();
    let mut memory = memory.clone();
    let first = plan(desired, &observed, &memory, Duration::ZERO);
    let mut forecast = Forecast {
        changes: first.changes,
        queries: first.queries,
        failures: first.failures.clone(),
        steps: Vec::new(),
    };
    // Each round carries out at least one step, and no service takes more than a dozen.
    let bound = 32 * (2 + desired.services.len() + observed.containers.len());
    for _ in 0..bound {
        let next = plan(desired, &observed, &memory, MIN_UPTIME);
        let mut learned = !next.queries.is_empty();
        for probe in next.probes {
            let life = &mut memory.container_mut(&probe.container.id).life;
            learned |= !std::mem::replace(&mut life.probe_succeeded, true);
        }
        for id in next.hold.into_keys() {
            let life = &mut memory.container_mut(&id).life;
            learned |= life.hold_until.replace(Duration::ZERO).is_none();
        }
        for failure in next.failures {
            let known = memory.service_mut(&failure.service).failure.replace(failure.clone());
            if known.is_none() && !forecast.failures.contains(&failure) {
                forecast.failures.push(failure);
            }
        }
        // Who is restarted with another may come to it only when the image of that one is there.
        for change in next.changes.into_iter().filter(|change| change.action == Action::Restart) {
            if forecast.changes.iter().all(|known| known.subject != change.subject) {
                forecast.changes.push(change);
            }
        }
        for look in &next.queries {
            effect::assume(look, &mut observed);
        }
        let mut busy = BTreeSet::new();
        for step in next.steps {
            if busy.insert(step.subject.clone()) {
                effect::apply(&step, None, Duration::ZERO, desired, &mut observed, &mut memory);
                forecast.steps.push(step);
            }
        }
        effect::settle(desired, &mut observed);
        if busy.is_empty() && !learned && plan(desired, &observed, &memory, MIN_UPTIME).steps.is_empty() {
            // What is left may wait for outputs; whoever gives them is through by now.
            let awaited = outputs::awaited(desired);
            if awaited.is_subset(&memory.assumed_outputs) {
                break;
            }
            memory.assumed_outputs.extend(awaited);
        }
    }
    forecast
}

/// The containers of one service, sorted by what their names say.
#[derive(Debug, Clone, Default)]
struct Slots<'a> {
    /// `<group>-<service>`: it was ready once.
    current: Option<&'a Container>,
    /// `<group>-<service>.new`: not ready yet.
    candidate: Option<&'a Container>,
    /// Ours by label, renamed by somebody.
    strays: Vec<&'a Container>,
}

impl<'a> Slots<'a> {
    fn all(&self) -> impl Iterator<Item = &'a Container> {
        self.current.into_iter().chain(self.candidate).chain(self.strays.iter().copied())
    }

    fn identity(&self) -> Option<&'a Identity> {
        self.all().find_map(|container| container.identity.as_ref())
    }

    /// The service, whichever replica they are.
    fn service(&self) -> Option<&'a str> {
        self.identity().map(|identity| identity.service.as_str())
    }
}

struct Planner<'a> {
    desired: &'a Desired,
    observed: &'a Observed,
    memory: &'a Memory,
    now: Duration,
    slots: BTreeMap<Cow<'a, str>, Slots<'a>>,
    /// Containers by the host ports that they hold now.
    ports: BTreeMap<(Protocol, u16), Vec<&'a Container>>,
    /// The network that the group uses: its own of that name, else anybody's.
    network: Option<&'a Network>,
    /// The containers that each service should have, by number.
    replicas: BTreeMap<&'a str, Vec<&'a Service>>,
    dependency_states: BTreeMap<&'a str, DependencyState>,
    /// Services that are about to be started or replaced: who asked to be restarted then rests first.
    about_to_start: BTreeSet<&'a str>,
    plan: Plan,
}

impl<'a> Planner<'a> {
    fn new(desired: &'a Desired, observed: &'a Observed, memory: &'a Memory, now: Duration) -> Planner<'a> {
        let mut slots: BTreeMap<Cow<'_, str>, Slots<'_>> = BTreeMap::new();
        for container in observed.of_group(&desired.group) {
            let Some(service) = instance_of(desired, container) else {
                continue;
            };
            let is_current = container.name == container_name(&desired.group, &service);
            let is_candidate = container.name == candidate_name(&desired.group, &service)
                || (!is_current && was_candidate(&desired.group, container));
            let slots = slots.entry(service).or_default();
            if is_current {
                slots.current = Some(container);
            } else if is_candidate && slots.candidate.is_none_or(|other| other.created < container.created) {
                slots.strays.extend(slots.candidate.replace(container));
            } else {
                slots.strays.push(container);
            }
        }
        let mut replicas: BTreeMap<&str, Vec<&Service>> = BTreeMap::new();
        for service in desired.services.values() {
            replicas.entry(&service.service).or_default().push(service);
        }
        for replicas in replicas.values_mut() {
            replicas.sort_by_key(|service| service.replica);
        }
        let mut ports: BTreeMap<_, Vec<&Container>> = BTreeMap::new();
        for container in observed.containers.values() {
            for port in &container.ports {
                ports.entry((port.protocol, port.host)).or_default().push(container);
            }
        }
        Planner {
            desired,
            observed,
            memory,
            now,
            slots,
            ports,
            network: chosen_network(desired, observed),
            replicas,
            dependency_states: BTreeMap::new(),
            about_to_start: BTreeSet::new(),
            plan: Plan::default(),
        }
    }

    /// The same group from another directory: nothing of it is touched, everything that was asked for has failed.
    fn conflict_of_group(&mut self) -> bool {
        let foreign = self
            .observed
            .of_group(&self.desired.group)
            .filter_map(|container| container.identity.as_ref())
            .find(|identity| identity.source != self.desired.source);
        let Some(owner) = foreign else { return false };
        let message = format!(
            "group {} belongs to {}, which has containers on this engine; use another --group, or run \
             `drillmaster down` there",
            self.desired.group, owner.source
        );
        let wanted = self.desired.services.values().map(|service| (&service.name[..], &service.service[..]));
        let there = self.slots.iter().filter_map(|(name, slots)| Some((&**name, slots.service()?)));
        let asked_for: BTreeSet<String> = wanted
            .chain(there)
            .filter(|(_, service)| self.desired.scope.contains(service))
            .map(|(name, _)| name.to_owned())
            .collect();
        for name in asked_for {
            self.fail(&name, Reason::Conflict, message.clone(), None);
        }
        true
    }

    fn services(&mut self) {
        let order = crate::desired::order::dependencies_first(&self.desired.needs());
        let replicas = order.iter().flat_map(|name| self.replicas.get(&name[..]).cloned().unwrap_or_default());
        for service in replicas.collect::<Vec<_>>() {
            let name = &service.name;
            if !self.desired.scope.contains(&service.service) {
                let state = self.state_out_of_scope(service);
                self.dependency_states.insert(name, state);
                continue;
            }
            let state = self.service(service);
            match state {
                DependencyState::Ready | DependencyState::Succeeded => self.plan.ready.insert(name.clone()),
                DependencyState::RolledBack => self.plan.rolled_back.insert(name.clone()),
                _ => false,
            };
            self.dependency_states.insert(name, state);
        }
    }

    /// Whether a network was made for this group by this spec directory.
    fn is_ours(&self, network: &Network) -> bool {
        network.group.as_deref() == Some(self.desired.group.as_str())
            && network.source.as_deref() == Some(self.desired.source.as_str())
    }

    fn step(&mut self, subject: Subject, verb: Verb, cause: impl Into<String>) {
        self.plan.steps.push(Step { subject, verb, cause: cause.into() });
    }

    fn change(&mut self, subject: Subject, action: Action, causes: Vec<Cause>) {
        let Subject::Service(name) = &subject else {
            let source = self.desired.source.clone();
            self.plan.changes.push(Change { subject, action, replica: None, causes, source });
            return;
        };
        let (replica, source) = match self.desired.services.get(name) {
            Some(service) => (service.replica, service.place.clone()),
            None => {
                let identity = self.slots.get(&name[..]).and_then(Slots::identity);
                (identity.and_then(|identity| identity.replica), self.desired.source.clone())
            }
        };
        self.plan.changes.push(Change { subject, action, replica, causes, source });
    }

    /// Remembers a failure. A run that ends remembers the first.
    fn fail(&mut self, service: &str, reason: Reason, message: String, container: Option<ContainerRef>) {
        if self.memory.has_failed(service) && !self.memory.watching {
            return;
        }
        self.plan.failures.push(failure(self.desired, self.observed, service, reason, message, container));
    }

    /// The plan may be another one at this time, by time alone.
    fn wake(&mut self, at: Duration) {
        self.plan.wake = Some(self.plan.wake.map_or(at, |wake| wake.min(at)));
    }

    /// Whether a service waits for its next try.
    fn is_backing_off(&mut self, service: &str) -> bool {
        let backoff = self.memory.backoff(service).filter(|backoff| backoff.is_backing_off(self.now));
        let retry = backoff.map(|backoff| backoff.retry);
        if let Some(retry) = retry {
            self.wake(retry);
        }
        retry.is_some()
    }

    /// Whether somebody works against this field of a service.
    fn is_drift_ignored(&self, service: &str, field: &str) -> bool {
        self.memory.services.get(service).is_some_and(|service| service.ignored_drift.contains(field))
    }
}

/// Whether a container has the name of one that is not ready yet, from when its service had `replicas` or had none.
fn was_candidate(group: &str, container: &Container) -> bool {
    container.identity.as_ref().is_some_and(|identity| {
        let numbered = instance_name(&identity.service, Some(identity.replica.unwrap_or(1)));
        [&identity.service, &numbered].into_iter().any(|name| container.name == candidate_name(group, name))
    })
}

/// What a container is called among the services: which one it is of, and which replica. `None`: it is not of the group.
pub fn instance_of<'c>(desired: &Desired, container: &'c Container) -> Option<Cow<'c, str>> {
    desired.instance_of(container.identity.as_ref()?)
}

/// A failure as it is remembered: with what was tried, and whether something that served before is still there.
pub fn failure(
    desired: &Desired,
    observed: &Observed,
    service: &str,
    reason: Reason,
    message: String,
    container: Option<ContainerRef>,
) -> Failure {
    let wanted = desired.services.get(service);
    let fingerprint = wanted.map(|wanted| wanted.fingerprint.clone()).unwrap_or_default();
    let image = wanted.and_then(|wanted| observed.images.get(&wanted.config.image)).cloned();
    let name = container_name(&desired.group, service);
    let replaces = observed
        .of_group(&desired.group)
        .filter(|current| current.name == name && instance_of(desired, current).as_deref() == Some(service))
        .filter(|current| container.as_ref().is_none_or(|failed| failed.id != current.id))
        .filter_map(|current| current.identity.as_ref())
        .any(|identity| {
            let same_image = image.as_ref().is_none_or(|image| *image == identity.image_id);
            !same_image || identity.env_hash != fingerprint.env_hash || identity.spec_hash != fingerprint.spec_hash
        });
    let keeps = wanted.is_some_and(|wanted| wanted.update.on_failure == OnFailure::Keep) && replaces;
    let message = match &container {
        Some(failed) if keeps => format!("{message}; kept as {}", failed.name),
        _ => message,
    };
    Failure { service: service.into(), reason, message, container, fingerprint, image, replaces }
}

/// The group's own network of that name; where there are several (two clients created it at once), the oldest in
/// use, by the number of containers attached and then by id, so that everybody chooses the same. Else a network of
/// that name which is not ours: it is used, and never removed.
fn chosen_network<'a>(desired: &Desired, observed: &'a Observed) -> Option<&'a Network> {
    let attached = |network: &Network| {
        observed.of_group(&desired.group).filter(|c| c.networks.iter().any(|a| a.network_id == network.id)).count()
    };
    observed.networks.values().filter(|network| network.name == desired.network).max_by_key(|network| {
        (
            network.group.as_deref() == Some(desired.group.as_str()),
            attached(network),
            std::cmp::Reverse(network.id.clone()),
        )
    })
}
