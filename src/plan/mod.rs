//! The planner: a pure function of desired state, observed state, memory and time.
//!
//! Level-triggered: [`plan`] returns the steps that may start *now* and is called again after each. So any later run
//! continues one that was killed, from the state of the engine. [`forecast`] applies the effects of its own steps until
//! nothing is left, which is what `diff` prints: there is no second code path that decides.

pub mod backoff;
pub mod cause;
pub mod check;
mod create;
pub mod diff;
pub mod effect;
pub mod files;
pub mod hook;
mod images;
mod job;
pub mod memory;
mod namespaces;
mod networks;
mod notes;
mod outputs;
mod placement;
mod readiness;
mod replacement;
mod requirements;
mod service;
pub mod sources;
pub mod step;
pub mod takeover;
mod teardown;
mod volumes;

use std::borrow::Cow;
use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;

use crate::desired::{Desired, Mode, OnFailure, Service};
use crate::identity::{Identity, candidate_name, container_name, instance_name};
use crate::observed::{Container, Network, Observed};
use crate::spec::model::Protocol;
use cause::Cause;
pub use memory::Memory;
use readiness::DependencyState;
use step::{Action, Change, ContainerRef, Failure, Plan, Query, Reason, Step, Subject, Verb};
use takeover::Takeover;

/// Time a service has to become ready, unless its ping sets one.
pub const DEFAULT_READY_TIMEOUT: Duration = Duration::from_secs(300);

/// Uptime after which a service without ping and health check counts as ready: a container that exits at once must not
/// replace one that was ready.
pub const MIN_UPTIME: Duration = Duration::from_millis(500);

/// Time between removing a container's network aliases and stopping it: clients that resolved its name before can still
/// connect, also with one retry after a second.
pub const DRAIN_PERIOD: Duration = Duration::from_secs(2);

/// Plans the steps that may start now.
pub fn plan(desired: &Desired, observed: &Observed, memory: &Memory, now: Duration) -> Plan {
    let takeover = Takeover::pending(desired, observed, memory);
    if takeover.is_empty() {
        return plan_group(desired, observed, memory, now);
    }
    let rest = takeover.without(observed);
    let plan = plan_group(desired, &rest, memory, now);
    let mut images = Planner::new(desired, &rest, memory, now);
    desired.in_scope().for_each(|service| images.prefetch(service));
    takeover.before(plan, images.plan, desired, observed, memory)
}

fn plan_group(desired: &Desired, observed: &Observed, memory: &Memory, now: Duration) -> Plan {
    let mut planner = Planner::new(desired, observed, memory, now);
    planner.notes();
    if planner.conflict_of_group() || planner.conflict_of_surroundings() {
        return planner.plan;
    }
    planner.services();
    planner.remove_orphans();
    planner.surplus_networks();
    planner.purged_volumes();
    planner.purged_images();
    planner.earlier_images();
    planner.plan
}

/// A complete plan.
#[derive(Debug, Clone, PartialEq, Default)]
pub struct Forecast {
    /// Differences.
    pub changes: Vec<Change>,
    /// All steps in order, if every step succeeds.
    pub steps: Vec<Step>,
    /// Inspections without which the forecast is not exact.
    pub queries: BTreeSet<Query>,
    /// Services that cannot succeed.
    pub failures: Vec<Failure>,
    /// Remarks about what the plan leaves alone.
    pub notes: BTreeSet<String>,
}

/// Plans everything, assuming that every step and every ping succeeds.
pub fn forecast(desired: &Desired, observed: &Observed, memory: &Memory) -> Forecast {
    let mut observed = observed.clone();
    let mut memory = memory.clone();
    let first = plan(desired, &observed, &memory, Duration::ZERO);
    let mut forecast = Forecast {
        changes: first.changes,
        queries: first.queries,
        failures: first.failures.clone(),
        notes: first.notes,
        steps: Vec::new(),
    };
    // Each round plans at least one step, and no service takes more than a dozen.
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
        // A restart with a dependency may only show once the dependency's image is present, and an image may only become
        // unused by these steps.
        let shows_late =
            |change: &Change| change.action == Action::Restart || matches!(change.subject, Subject::Image(_));
        for change in next.changes.into_iter().filter(shows_late) {
            if forecast.changes.iter().all(|known| known.subject != change.subject) {
                forecast.changes.push(change);
            }
        }
        for look in &next.queries {
            effect::assume(look, desired, &mut observed, &mut memory);
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
            // What is left may wait for outputs; every producer has run by now.
            let awaited = outputs::awaited(desired);
            if awaited.is_subset(&memory.assumed_outputs) {
                break;
            }
            memory.assumed_outputs.extend(awaited);
        }
    }
    forecast
}

/// The containers of one service, by role.
#[derive(Debug, Clone, Default)]
struct Slots<'a> {
    /// Holds the service name: it was ready once.
    current: Option<&'a Container>,
    /// Named `<group>-<service>.new`: not ready yet.
    candidate: Option<&'a Container>,
    /// Managed, but renamed externally.
    strays: Vec<&'a Container>,
}

impl<'a> Slots<'a> {
    fn all(&self) -> impl Iterator<Item = &'a Container> {
        self.current.into_iter().chain(self.candidate).chain(self.strays.iter().copied())
    }

    fn identity(&self) -> Option<&'a Identity> {
        self.all().find_map(|container| container.identity.as_ref())
    }

    /// The service, without the number of a replica.
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
    /// Containers by the host ports they hold.
    ports: BTreeMap<(Protocol, u16), Vec<&'a Container>>,
    /// The networks of the group, or unmanaged ones of their names, by name.
    networks: BTreeMap<&'a str, &'a Network>,
    /// The replicas of each service, by number.
    replicas: BTreeMap<&'a str, Vec<&'a Service>>,
    /// Services that others depend on.
    dependencies: BTreeSet<&'a str>,
    dependency_states: BTreeMap<&'a str, DependencyState>,
    /// Services about to be started or replaced: dependents with `restart: true` are stopped first.
    about_to_start: BTreeSet<&'a str>,
    /// Services that wait for one that has failed and is not retried by itself.
    blocked: BTreeSet<&'a str>,
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
        let dependencies = desired.services.values().flat_map(|service| &service.dependencies);
        Planner {
            desired,
            observed,
            memory,
            now,
            slots,
            ports,
            networks: networks::chosen_networks(desired, observed),
            replicas,
            dependencies: dependencies.map(|dependency| dependency.name.as_str()).collect(),
            dependency_states: BTreeMap::new(),
            about_to_start: BTreeSet::new(),
            blocked: BTreeSet::new(),
            plan: Plan::default(),
        }
    }

    /// The group belongs to another spec directory: every requested service fails, and nothing is touched.
    fn conflict_of_group(&mut self) -> bool {
        let foreign = self
            .observed
            .of_group(&self.desired.group)
            .filter_map(|container| container.identity.as_ref())
            .find(|identity| !self.desired.owns(&identity.source));
        let Some(owner) = foreign else { return false };
        let message = format!(
            "group {0} belongs to {1}, which has containers on this engine; if that directory was moved here, run \
             `drillmaster up --adopt`; otherwise use another --group, or run `drillmaster down --group {0} --specs {1}` \
             first, which keeps volumes",
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

    /// The containers, networks or volumes that are there prevent what the specs say: every service that is to run fails, and
    /// nothing is touched.
    fn conflict_of_surroundings(&mut self) -> bool {
        if self.desired.is_empty() || !matches!(self.desired.mode, Mode::Reconcile { .. }) {
            return false;
        }
        let mut problems: Vec<String> = self.project_problem().into_iter().collect();
        if problems.is_empty() {
            problems = self.network_problems();
        }
        if problems.is_empty() {
            problems = self.volume_problems();
        }
        if problems.is_empty() {
            self.note_new_volumes();
            return false;
        }
        let message = problems.join("; ");
        for service in self.desired.in_scope() {
            self.fail(&service.name, Reason::Conflict, message.clone(), None);
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

    /// Returns true if the network was created for this group by this spec directory.
    fn is_ours(&self, network: &Network) -> bool {
        network.group.as_deref() == Some(self.desired.group.as_str())
            && network.source.as_deref().is_some_and(|source| self.desired.owns(source))
    }

    fn step(&mut self, subject: Subject, verb: Verb, cause: impl Into<String>) {
        self.plan.steps.push(Step { subject, verb, cause: cause.into() });
    }

    /// Plans a step unless its subject has one.
    fn step_once(&mut self, subject: Subject, verb: Verb, cause: &str) {
        if self.plan.steps.iter().all(|step| step.subject != subject) {
            self.step(subject, verb, cause);
        }
    }

    fn change(&mut self, subject: Subject, action: Action, causes: Vec<Cause>) {
        let Subject::Service(name) = &subject else {
            let source = self.desired.source.clone();
            let kind = subject.kind().to_owned();
            self.plan.changes.push(Change { subject, kind, action, replica: None, causes, interrupts: None, source });
            return;
        };
        let (kind, replica, source) = match self.desired.services.get(name) {
            Some(service) => (service.kind.word().to_owned(), service.replica, service.location.clone()),
            None => {
                let identity = self.slots.get(&name[..]).and_then(Slots::identity);
                let kind = identity.map(|identity| identity.kind.clone()).unwrap_or_default();
                (kind, identity.and_then(|identity| identity.replica), self.desired.source.clone())
            }
        };
        self.plan.changes.push(Change { subject, kind, action, replica, causes, interrupts: None, source });
    }

    /// Reports a failure. A one-shot run keeps the first of a service.
    fn fail(&mut self, service: &str, reason: Reason, message: String, container: Option<ContainerRef>) {
        if self.memory.has_failed(service) && !self.memory.watching {
            return;
        }
        self.plan.failures.push(failure(self.desired, self.observed, service, reason, message, container));
    }

    /// Notes that the plan may change at this time without an event.
    fn wake(&mut self, at: Duration) {
        self.plan.wake = Some(self.plan.wake.map_or(at, |wake| wake.min(at)));
    }

    /// Returns true until the service's next retry is due.
    fn is_backing_off(&mut self, service: &str) -> bool {
        self.backoff(service).is_some()
    }

    /// Returns true until the next attempt to replace the current container is due.
    fn is_replacement_backing_off(&mut self, service: &str) -> bool {
        self.backoff(service).is_some_and(|failure| failure.replaces)
    }

    /// The failure of a service whose retry is not due yet.
    fn backoff(&mut self, service: &str) -> Option<&'a Failure> {
        let backoff = self.memory.pending_backoff(service, self.now)?;
        self.wake(backoff.retry);
        Some(&backoff.failure)
    }

    /// Returns true if drift in this field is ignored because it keeps returning.
    fn is_drift_ignored(&self, service: &str, field: &str) -> bool {
        self.memory.services.get(service).is_some_and(|service| service.ignored_drift.contains(field))
    }
}

/// Returns true for a candidate name from before the service had `replicas`, or from when it had them.
fn was_candidate(group: &str, container: &Container) -> bool {
    container.identity.as_ref().is_some_and(|identity| {
        let numbered = instance_name(&identity.service, Some(identity.replica.unwrap_or(1)));
        [&identity.service, &numbered].into_iter().any(|name| container.name == candidate_name(group, name))
    })
}

/// The service that owns a container, with the number of the replica; `None` if it is not in the group.
pub fn instance_of<'c>(desired: &Desired, container: &'c Container) -> Option<Cow<'c, str>> {
    desired.instance_of(container.identity.as_ref()?)
}

/// The container that holds the name of a service.
pub fn current_container<'o>(desired: &Desired, observed: &'o Observed, service: &str) -> Option<&'o Container> {
    let name = container_name(&desired.group, service);
    let is_current =
        |container: &&Container| container.name == name && instance_of(desired, container).as_deref() == Some(service);
    observed.containers.values().find(is_current)
}

/// A failure with the fingerprint that was tried, and whether a current container is still there.
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
    let image = wanted.and_then(|wanted| images::wanted_image(wanted, observed)).cloned();
    let replaces = current_container(desired, observed, service)
        .filter(|current| container.as_ref().is_none_or(|failed| failed.id != current.id))
        .and_then(|current| current.identity.as_ref())
        .is_some_and(|identity| {
            let same_image = image.as_ref().is_none_or(|image| observed.is_same_image(&identity.image_id, image));
            !same_image || identity.env_hash != fingerprint.env_hash || identity.spec_hash != fingerprint.spec_hash
        });
    let keeps = wanted.is_some_and(|wanted| wanted.update.on_failure == OnFailure::Keep) && replaces;
    let message = match &container {
        Some(failed) if keeps => format!("{message}; kept as {}", failed.name),
        _ => message,
    };
    let own_fault = reason.is_own_fault();
    Failure { service: service.into(), reason, message, container, fingerprint, image, replaces, own_fault }
}
