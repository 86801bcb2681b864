//! Execution of plans in random order, with a check of each step.

use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;

use drillmaster::desired::{Desired, Mode, Order, Scope, Service};
use drillmaster::identity::{candidate_name, container_name};
use drillmaster::observed::{Attachment, Container, Details, ImageFacts, Observed, PublishedPort, State};
use drillmaster::plan::step::{Query, Step, Subject, Verb};
use drillmaster::plan::{Memory, check, effect, forecast, instance_of, plan};
use drillmaster::spec::model::Condition;
use drillmaster::types::{ContainerId, ServiceName};
use proptest::prelude::*;

use crate::builders::*;
use crate::case::*;

/// A minimal simulated engine, and a planner that is called until no steps are left.
pub struct Run<'a> {
    pub desired: &'a Desired,
    pub observed: Observed,
    pub memory: Memory,
    /// Results of inspections, by container.
    pub details: BTreeMap<ContainerId, Details>,
    pub needs_at_start: BTreeMap<String, BTreeSet<String>>,
    pub order: u64,
    pub random: u64,
    pub steps: usize,
    pub created: usize,
    pub now: Duration,
    pub trace: Vec<String>,
}

impl<'a> Run<'a> {
    pub fn new(case: &Case, desired: &'a Desired, observed: Observed, order: u64) -> Run<'a> {
        let details = case.remnants.iter().enumerate().filter_map(|(n, remnant)| {
            let id = ContainerId::from(format!("id-{n}"));
            let details = remnant.details(observed.containers.get(&id)?);
            Some((id, details))
        });
        let details = details.collect();
        let needs_at_start = remembered(&observed);
        Run {
            desired,
            observed,
            memory: Memory::default(),
            details,
            needs_at_start,
            order,
            random: order,
            steps: 0,
            created: 0,
            now: Duration::ZERO,
            trace: Vec::new(),
        }
    }

    pub fn draw(&mut self, below: usize) -> usize {
        self.random = drillmaster_sim::faulty::random(self.random, 1);
        usize::try_from(self.random % (below as u64)).unwrap()
    }

    /// Runs until nothing changes any more, or until the given number of steps.
    pub fn go(&mut self, most: Option<usize>) -> Result<(), TestCaseError> {
        let mut quiet = 0;
        for _ in 0..2000 {
            if most.is_some_and(|most| self.steps >= most) {
                return Ok(());
            }
            let happened = self.round(quiet > 0)?;
            quiet = if happened { 0 } else { quiet + 1 };
            if quiet > 3 {
                return Ok(());
            }
        }
        Err(TestCaseError::fail(format!("the plan never becomes empty: {:?}", self.plan().steps)))
    }

    pub fn plan(&self) -> drillmaster::plan::step::Plan {
        plan(self.desired, &self.observed, &self.memory, self.now)
    }

    /// Executes some of the planned steps in random order. If `eager`, everything pending happens as well.
    pub fn round(&mut self, eager: bool) -> Result<bool, TestCaseError> {
        let plan = self.plan();
        let mut happened = false;
        if eager {
            let lasting = plan.hold.values().max().copied().unwrap_or_default();
            self.now += lasting.max(Duration::from_millis(300));
        }
        for (_, container) in self.memory.containers.iter_mut().filter(|(id, _)| !plan.hold.contains_key(*id)) {
            container.life.hold_until = None;
        }
        for (id, period) in plan.hold {
            let hold = &mut self.memory.container_mut(&id).life.hold_until;
            happened |= hold.is_none();
            hold.get_or_insert(self.now + period);
        }
        for check in plan.checks {
            self.memory.container_mut(&check.container.id).life.liveness.get_or_insert_default().last = self.now;
        }
        for failure in plan.failures {
            let memory = self.memory.service_mut(&failure.service);
            happened |= memory.failure.replace(failure.clone()).is_none();
        }
        for look in plan.queries {
            happened = true;
            match look {
                Query::Container(id) => {
                    let details = self.details.get(&id).cloned().unwrap_or_default();
                    self.observed.containers.get_mut(&id).unwrap().details = Some(details);
                    self.memory.container_mut(&id).life.inspected_at = Some(self.now);
                }
                Query::Image(id) => {
                    self.observed.image_facts.insert(id, ImageFacts::default());
                }
            }
        }
        for probe in plan.probes {
            if eager || self.draw(2) == 0 {
                let life = &mut self.memory.container_mut(&probe.container.id).life;
                happened |= !std::mem::replace(&mut life.probe_succeeded, true);
            }
        }
        for id in self.observed.containers.keys().cloned().collect::<Vec<_>>() {
            let moves = eager || self.draw(3) == 0;
            let container = self.observed.containers.get_mut(&id).unwrap();
            match container.state {
                State::Removing if moves => {
                    self.observed.containers.remove(&id);
                    happened = true;
                }
                State::Restarting if moves => {
                    container.state = State::Running;
                    happened = true;
                }
                _ => {}
            }
        }
        let mut first: BTreeMap<Subject, Step> = BTreeMap::new();
        for step in plan.steps {
            first.entry(step.subject.clone()).or_insert(step);
        }
        let mut steps: Vec<Step> = first.into_values().collect();
        let keep = if steps.is_empty() { 0 } else { 1 + self.draw(steps.len()) };
        while steps.len() > keep {
            let n = self.draw(steps.len());
            steps.swap_remove(n);
        }
        while !steps.is_empty() {
            let n = self.draw(steps.len());
            let step = steps.swap_remove(n);
            self.trace.push(step_line(&step));
            self.check_step(&step).map_err(|error| TestCaseError::fail(format!("{error}\nafter {:#?}", self.trace)))?;
            self.created += 1;
            let id = matches!(step.verb, Verb::Create { .. } | Verb::CreateNetwork)
                .then(|| format!("made-{:x}-{}", self.order, self.created));
            effect::apply(&step, id.as_deref(), self.now, self.desired, &mut self.observed, &mut self.memory);
            match (&step.verb, id, service_of(&step)) {
                (Verb::Create { joins, .. }, Some(id), Some(name)) => {
                    let env = drillmaster::desired::set_variables(&self.desired.services[name].env);
                    let names = joins.iter().map(|join| (join.network.clone(), join.names.clone())).collect();
                    self.details.insert(id.into(), Details { env, names, ..Details::default() });
                }
                (Verb::Connect { container, join }, ..) => {
                    let names = &mut self.details.entry(container.id.clone()).or_default().names;
                    names.insert(join.network.clone(), join.names.clone());
                }
                (Verb::Disconnect { container, network, .. }, ..) => {
                    self.details.entry(container.id.clone()).or_default().names.remove(network);
                }
                _ => {}
            }
            self.steps += 1;
            happened = true;
        }
        Ok(happened)
    }

    /// Checks a step against the engine's rules and the planner's invariants.
    pub fn check_step(&self, step: &Step) -> Result<(), TestCaseError> {
        prop_assert_eq!(check::violation(step, self.desired, &self.observed), None);
        let taken = |name: &str| self.observed.containers.values().any(|container| container.name == name);
        match &step.verb {
            Verb::Create { name, joins, .. } => {
                prop_assert!(!taken(name), "`{}`: the name is taken", step);
                let exists = joins.iter().all(|join| self.observed.networks.contains_key(&join.network));
                prop_assert!(exists, "`{}`: no network", step);
                self.dependencies_are_available(step)?;
                self.other_replicas_are_complete(step)?;
            }
            Verb::Rename { to, .. } => prop_assert!(!taken(to), "`{}`: the name is taken", step),
            Verb::Start(target) => {
                let container = &self.observed.containers[&target.id];
                prop_assert!(
                    matches!(container.state, State::Created | State::Exited { .. }),
                    "`{}`: it is {:?}",
                    step,
                    container.state
                );
                for attachment in &container.networks {
                    let known = self.observed.networks.contains_key(&attachment.network_id);
                    prop_assert!(known, "`{}`: its network does not exist", step);
                }
                self.ports_are_available(step, container)?;
                self.dependencies_are_available(step)?;
            }
            Verb::Unpause(target) => prop_assert_eq!(self.observed.containers[&target.id].state, State::Paused),
            Verb::Remove { container, .. } => {
                let container = &self.observed.containers[&container.id];
                prop_assert!(!container.is_up(), "`{}`: the container is running", step);
                self.dependents_are_removed(step, container)?;
            }
            Verb::Stop(target) => {
                self.dependents_are_removed(step, &self.observed.containers[&target.id])?;
                self.old_container_has_no_dns_names(step, &self.observed.containers[&target.id])?;
            }
            Verb::Connect { container, join } => {
                let (network, names) = (&join.network, &join.names);
                prop_assert!(self.observed.networks.contains_key(network));
                let container = &self.observed.containers[&container.id];
                let spec = &self.desired.services[service_of(step).unwrap()];
                let late = container.identity.as_ref().unwrap().named_when_ready;
                let new = container.name.ends_with(".new") && late && container.state == State::Running;
                let ready = spec.ping.is_none() || self.memory.probe_succeeded(&container.id);
                prop_assert!(!new || names.is_empty() || ready, "`{}`: the container is not ready", step);
            }
            Verb::RemoveNetwork { id } => {
                let attached = |c: &&Container| c.networks.iter().any(|a| a.network_id == *id);
                let user = self.observed.containers.values().find(attached);
                prop_assert!(user.is_none(), "`{}`: {} is attached", step, user.map_or("", |c| &c.name));
            }
            _ => {}
        }
        Ok(())
    }

    pub fn has_failures(&self) -> bool {
        self.memory.services.values().any(|service| service.failure.is_some())
    }

    /// A container is on every network of its spec, and on no other one of the group.
    fn is_on_its_networks(&self, container: &Container) -> Result<(), TestCaseError> {
        let service = instance_of(self.desired, container).and_then(|name| self.desired.services.get(&*name));
        let Some(service) = service else { return Ok(()) };
        let wanted: BTreeSet<&str> = service.config.network.endpoints().into_iter().map(|(name, _)| name).collect();
        let ours = |attached: &&Attachment| {
            let network = self.observed.networks.get(&attached.network_id);
            network.is_some_and(|network| network.group.is_some()) || wanted.contains(attached.network.as_str())
        };
        let on: BTreeSet<&str> = container.networks.iter().filter(ours).map(|it| it.network.as_str()).collect();
        prop_assert_eq!(on, wanted, "networks of {}", container.name);
        Ok(())
    }

    pub fn has_dns_name(&self, container: &Container) -> bool {
        let names = self.details.get(&container.id).map(|details| &details.names);
        let service = container.service_of(GROUP).unwrap();
        container.networks.iter().any(|attached| {
            names
                .and_then(|names| names.get(&attached.network_id))
                .is_some_and(|names| names.iter().any(|n| n == service))
        })
    }

    /// With `start_first`, the service name resolves to the new container only when the old one is stopped.
    pub fn old_container_has_no_dns_names(&self, step: &Step, old: &Container) -> Result<(), TestCaseError> {
        let name = service_of(step).unwrap();
        let first = self.desired.services.get(name).is_some_and(|service| service.update.order == Order::StartFirst);
        let new = self.observed.containers.values().find(|other| other.name == candidate_name(GROUP, name));
        let running = |container: &Container| container.state == State::Running;
        let Some(new) =
            new.filter(|new| first && running(new) && running(old) && old.name == container_name(GROUP, name))
        else {
            return Ok(());
        };
        // The port may be needed by another service.
        let frees_port = step.cause.contains("needs its port");
        if frees_port || self.desired.scope != Scope::All || self.memory.has_failed(name) {
            return Ok(());
        }
        // A network that the new container does not share keeps its aliases until the stop.
        let shared = |attached: &Attachment| new.networks.iter().any(|a| a.network_id == attached.network_id);
        let networks = old.networks.iter().filter(|attached| shared(attached)).cloned().collect();
        let found = self.has_dns_name(&Container { networks, ..old.clone() });
        prop_assert!(!found, "`{}`: the old container still has DNS names", step);
        prop_assert!(self.has_dns_name(new), "`{}`: the new container has no DNS name", step);
        Ok(())
    }

    /// Only one running replica is replaced at a time.
    pub fn other_replicas_are_complete(&self, step: &Step) -> Result<(), TestCaseError> {
        let name = service_of(step).unwrap();
        let service = &self.desired.services[name];
        let of = |name: String| self.observed.containers.values().find(|container| container.name == name);
        let serves = |name: &str| of(container_name(GROUP, name)).is_some_and(|it| it.state == State::Running);
        if service.replica.is_none() || !serves(name) {
            return Ok(());
        }
        let is_other = |other: &&Service| other.service == service.service && other.name != name;
        for other in self.desired.services.values().filter(is_other) {
            let replaced =
                of(container_name(GROUP, &other.name)).is_some() && of(candidate_name(GROUP, &other.name)).is_some();
            prop_assert!(!replaced, "`{}`: {} is being replaced", step, other.name);
        }
        Ok(())
    }

    /// Ports are not held by another container of the group that the planner could have stopped.
    pub fn ports_are_available(&self, step: &Step, container: &Container) -> Result<(), TestCaseError> {
        let spec = &self.desired.services[service_of(step).unwrap()];
        let wanted = |port: &PublishedPort| spec.config.ports.iter().any(|p| p.host.fixed() == Some(port.host));
        let holder = self.observed.containers.values().find(|other| {
            let movable = instance_of(self.desired, other).is_some_and(|name| !self.memory.has_failed(&name))
                && other.service_of(GROUP).is_some_and(|service| self.desired.scope.contains(service));
            movable && other.id != container.id && other.is_up() && other.ports.iter().any(wanted)
        });
        let agree = matches!(self.desired.mode, Mode::Reconcile { .. });
        prop_assert!(!agree || holder.is_none(), "`{}`: {} holds its port", step, holder.map_or("", |c| &c.name));
        Ok(())
    }

    /// The dependencies of a service are available, except after a failure.
    pub fn dependencies_are_available(&self, step: &Step) -> Result<(), TestCaseError> {
        let name = service_of(step).unwrap();
        if self.memory.has_failed(name) {
            return Ok(());
        }
        let needed = self.desired.services[name].dependencies.iter().flat_map(|dependency| {
            let replicas = self.desired.services.values().filter(|service| service.service == dependency.name);
            replicas.map(move |replica| (dependency, replica))
        });
        for (dependency, needed) in needed {
            // A rename may have produced two matching containers; one ready container is enough.
            let right = self.observed.containers.values().filter(|container| {
                let identity = container.identity.clone().unwrap_or_default();
                let same = identity.spec_hash == needed.fingerprint.spec_hash
                    && identity.env_hash == needed.fingerprint.env_hash
                    || identity.spec_hash.starts_with("v0:")
                    || !self.desired.scope.contains(&dependency.name)
                    || self.desired.mode == Mode::StartOnly
                    // After a failed replacement, the current container is good enough for existing dependents.
                    || self.memory.has_failed(&needed.name);
                // A renamed container was ready before.
                let named =
                    dependency.condition == Condition::Started || container.name != candidate_name(GROUP, &needed.name);
                instance_of(self.desired, container).as_deref() == Some(&needed.name)
                    && same
                    && named
                    && container.state == State::Running
            });
            let right: Vec<&Container> = right.collect();
            prop_assert!(!right.is_empty(), "`{}`: {} is not running", step, needed.name);
            let must_answer = dependency.condition == Condition::Ready
                && needed.ping.is_some()
                && self.desired.scope.contains(&dependency.name)
                && !self.memory.has_failed(&needed.name);
            let answered = right.iter().any(|container| self.memory.probe_succeeded(&container.id));
            prop_assert!(!must_answer || answered, "`{}`: {} is not ready", step, needed.name);
        }
        Ok(())
    }

    /// A removed container has no remaining dependents that are to be removed too, except in a cycle.
    pub fn dependents_are_removed(&self, step: &Step, container: &Container) -> Result<(), TestCaseError> {
        let name = service_of(step).unwrap();
        if self.desired.services.contains_key(name) || self.has_cycle() {
            return Ok(());
        }
        let rest = self.desired.mode == Mode::StopOnly;
        for other in self.observed.of_group(GROUP).filter(|other| other.id != container.id) {
            let owner = instance_of(self.desired, other).unwrap();
            let remove_orphans = !self.desired.services.contains_key(&*owner)
                && other.service_of(GROUP).is_some_and(|service| self.desired.scope.contains(service));
            let needs = remembered_by(other).contains(container.service_of(GROUP).unwrap());
            let there = !rest || other.is_up();
            prop_assert!(
                !(remove_orphans && needs && there && owner != name),
                "`{}`: {} depends on it",
                step,
                other.name
            );
        }
        Ok(())
    }

    pub fn has_cycle(&self) -> bool {
        self.needs_at_start.keys().any(|start| {
            let mut open: Vec<&String> = self.needs_at_start[start].iter().collect();
            let mut seen = BTreeSet::new();
            while let Some(next) = open.pop() {
                if next == start {
                    return true;
                }
                if seen.insert(next) {
                    open.extend(self.needs_at_start.get(next).into_iter().flatten());
                }
            }
            false
        })
    }

    /// Checks that the state has converged, unless there were failures or a limited scope.
    pub fn has_converged(&self) -> Result<(), TestCaseError> {
        let left = self.plan();
        prop_assert!(left.steps.is_empty(), "remaining steps: {:?}", left.steps);
        if self.has_failures() || self.desired.scope != Scope::All {
            return Ok(());
        }
        prop_assert!(left.waits.is_empty(), "remaining waits: {:?}", left.waits);
        prop_assert!(left.changes.is_empty(), "remaining changes: {:?}", left.changes);
        let names: BTreeSet<ServiceName> = self.desired.services.keys().cloned().collect();
        prop_assert_eq!(&left.ready, &names);
        if matches!(self.desired.mode, Mode::Reconcile { .. }) {
            let there: Vec<&str> = self.observed.of_group(GROUP).map(|container| container.name.as_str()).collect();
            let there_sorted: BTreeSet<String> = there.iter().map(|name| (*name).to_owned()).collect();
            let expected: BTreeSet<String> = names.iter().map(|name| container_name(GROUP, name)).collect();
            prop_assert_eq!(there.len(), expected.len());
            prop_assert_eq!(there_sorted, expected);
        }
        for container in self.observed.of_group(GROUP).filter(|_| matches!(self.desired.mode, Mode::Reconcile { .. })) {
            let late = container.identity.as_ref().unwrap().named_when_ready;
            prop_assert!(!late || self.has_dns_name(container), "{} has no DNS name", container.name);
            self.is_on_its_networks(container)?;
        }
        let again = forecast(self.desired, &self.observed, &Memory::default());
        prop_assert!(
            again.steps.is_empty() && again.changes.is_empty(),
            "converged, but steps remain: {:?}",
            again.steps
        );
        Ok(())
    }
}

pub fn remembered(observed: &Observed) -> BTreeMap<String, BTreeSet<String>> {
    let mut needs: BTreeMap<String, BTreeSet<String>> = BTreeMap::new();
    for container in observed.of_group(GROUP) {
        needs.entry(container.service_of(GROUP).unwrap().to_owned()).or_default().extend(remembered_by(container));
    }
    needs
}

pub fn remembered_by(container: &Container) -> BTreeSet<String> {
    let spec: serde_json::Value = serde_json::from_str(&container.identity.as_ref().unwrap().spec).unwrap();
    let names = spec.get("dependencies").and_then(|d| d.as_array()).into_iter().flatten();
    names.filter_map(|d| Some(d.get("name")?.as_str()?.to_owned())).collect()
}
