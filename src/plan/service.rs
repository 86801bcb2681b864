//! Services: the next step to create, start, replace, correct or await a container.

use super::cause::{Cause, fields};
use super::diff::{Comparison, compare};
use super::images::wanted_image;
use super::memory::ForceReason;
use super::outputs::open_fields;
use super::readiness::DependencyState;
use super::step::{Action, Awaited, ContainerRef, Query, Reason, Subject, Verb, Wait};
use super::{Planner, Slots, instance_of};
use crate::desired::{Kind, Mode, Service};
use crate::identity::{candidate_name, container_name};
use crate::observed::{Container, State};

impl<'a> Planner<'a> {
    /// Plans one service in scope.
    pub(super) fn service(&mut self, service: &'a Service) -> DependencyState {
        if self.desired.mode.is_about_images() {
            return self.image_alone(service);
        }
        let name = container_name(&self.desired.group, &service.name);
        if let Some(state) = self.conflict_of_name(service, &name) {
            return state;
        }
        let slots = self.slots.get(service.name.as_str()).cloned().unwrap_or_default();
        if !self.post_stop_done(&service.name, slots.all()) {
            return DependencyState::Pending("is being stopped");
        }
        match self.desired.mode {
            Mode::StartOnly => self.run(service, &slots),
            // `stop` and `down` desire no services; a desired service should run.
            _ => self.agree(service, slots),
        }
    }

    /// A service out of scope stays as it is.
    pub(super) fn state_out_of_scope(&mut self, service: &'a Service) -> DependencyState {
        match self.slots.get(service.name.as_str()).and_then(|slots| slots.current) {
            Some(current) if service.is_job() && current.has_succeeded() => DependencyState::Succeeded,
            Some(current) if current.state == State::Running => DependencyState::Ready,
            _ => DependencyState::Pending("is not running and was left out"),
        }
    }

    /// A container of another owner that holds a name of the service.
    pub(super) fn holder_of_name(&self, service: &Service, name: &str) -> Option<&'a Container> {
        self.observed.containers.values().find(|container| {
            container.name == name && instance_of(self.desired, container).as_deref() != Some(&service.name)
        })
    }

    /// Handles a container of another owner that holds a name the service needs now.
    pub(super) fn conflict_of_name(&mut self, service: &Service, name: &str) -> Option<DependencyState> {
        let foreign = self.holder_of_name(service, name)?;
        if let Some(owner) = instance_of(self.desired, foreign) {
            // A container of the group was renamed externally; it gets its own name back or is removed.
            if self.desired.mode == Mode::StartOnly {
                let message = format!("name is in use by a container of {owner}; run `drillmaster up`");
                self.fail(&service.name, Reason::NoContainer, message, None);
                return Some(DependencyState::Failed);
            }
            self.release_name(service);
            self.wait(service, format!("waiting for {owner} to release the container name"), None);
            return Some(DependencyState::Pending("has its name taken by another service's container"));
        }
        let message = format!(
            "container {} exists and is not managed by drillmaster; rename or remove it (docker rename {} …)",
            foreign.name, foreign.name
        );
        self.fail(&service.name, Reason::Conflict, message, None);
        Some(DependencyState::Failed)
    }

    /// The service name is taken by another service's container. If the two were swapped, this service's container moves to
    /// its candidate name first.
    fn release_name(&mut self, service: &Service) {
        let subject = Subject::of(service);
        let name = container_name(&self.desired.group, &service.name);
        let slots = self.slots.get(service.name.as_str()).cloned().unwrap_or_default();
        let here = slots.all().next();
        let action = if here.is_some() { Action::Update } else { Action::Create };
        let found = here.map(|container| container.name.clone());
        self.change(subject.clone(), action, vec![Cause::Name { found, wanted: Some(name) }]);
        if slots.current.is_some() || slots.candidate.is_some() {
            return;
        }
        let in_the_way = |stray: &&&Container| {
            stray.state != State::Removing
                && self.desired.services.keys().any(|other| stray.name == container_name(&self.desired.group, other))
        };
        if let Some(stray) = slots.strays.iter().find(in_the_way).copied() {
            let to = candidate_name(&self.desired.group, &service.name);
            let cause = format!("renamed externally to {}", stray.name);
            self.step(subject, Verb::Rename { container: ContainerRef::of(stray), to }, cause);
        }
    }

    /// `start`: existing containers run.
    fn run(&mut self, service: &'a Service, slots: &Slots<'a>) -> DependencyState {
        match slots.current {
            Some(current) if service.is_job() && current.has_succeeded() => DependencyState::Succeeded,
            Some(current) if !service.is_job() => self.keep_running(service, current, &Comparison::default(), false),
            Some(_) => {
                let message = "job has not succeeded; run `drillmaster up`".to_owned();
                self.fail(&service.name, Reason::NoContainer, message, None);
                DependencyState::Failed
            }
            None => {
                let message = "no container; run `drillmaster up`".to_owned();
                self.fail(&service.name, Reason::NoContainer, message, None);
                DependencyState::Failed
            }
        }
    }

    /// `up`: the container exists, matches its spec and runs.
    fn agree(&mut self, service: &'a Service, mut slots: Slots<'a>) -> DependencyState {
        let subject = Subject::of(service);
        let renamed = match self.find_stray(service, &mut slots) {
            Ok(renamed) => renamed,
            Err(state) => return state,
        };
        if let Some(state) = self.unsupported(service) {
            return state;
        }
        if let Some(state) = self.await_outputs(service, &slots) {
            return state;
        }
        if self.must_inspect_image(service) {
            return DependencyState::Pending("is being inspected");
        }
        let mut comparison = slots.current.map(|current| self.compare_with_files(service, current));
        if let (Some(current), Some(comparison)) = (slots.current, &mut comparison) {
            self.compare_starts(service, current, comparison);
        }
        let candidate = slots.candidate.map(|candidate| (candidate, self.compare(service, candidate)));
        let current = slots.current.zip(comparison.as_ref());
        if self.must_inspect(current.into_iter().chain(candidate.as_ref().map(|(it, comparison)| (*it, comparison)))) {
            return DependencyState::Pending("is being inspected");
        }
        self.unknown(&slots);
        if slots.current.is_some() {
            self.refresh_image(service);
        }
        let image = wanted_image(service, self.observed);
        let failed =
            self.memory.failure(&service.name).is_some_and(|failure| failure.is_about(&service.fingerprint, image));
        if let (Some(current), Some(comparison)) = (slots.current, &mut comparison) {
            match self.forced_replacements(service, current) {
                Ok(cause) => comparison.replace.extend(cause),
                Err(state) => return state,
            }
        }
        if let Kind::Job(job) = service.kind {
            return self.job(service, job, slots.current.zip(comparison), candidate, failed);
        }
        match (slots.current, comparison) {
            (Some(current), Some(comparison)) if comparison.replace.is_empty() => {
                if let Some((candidate, _)) = candidate {
                    let cause = vec![Cause::Name { found: Some(candidate.name.clone()), wanted: None }];
                    self.change(subject, Action::Update, cause);
                    self.remove_surplus(service, candidate, "replacement no longer needed");
                    return if failed {
                        DependencyState::Failed
                    } else {
                        DependencyState::Pending("has a surplus replacement")
                    };
                }
                if renamed {
                    let wanted = Some(container_name(&self.desired.group, &service.name));
                    self.change(
                        subject,
                        Action::Update,
                        vec![Cause::Name { found: Some(current.name.clone()), wanted }],
                    );
                }
                self.keep_running(service, current, &comparison, failed && !self.memory.watching)
            }
            (current, comparison) => {
                let causes = comparison.map(|c| c.replace).unwrap_or_default();
                self.create_or_replace(service, current, causes, candidate, failed)
            }
        }
    }

    /// Takes a container that was renamed externally as the current one, and renames it back unless that is ignored.
    /// Returns true if it is renamed; fails if there is a current one, so that it is surplus.
    fn find_stray(&mut self, service: &'a Service, slots: &mut Slots<'a>) -> Result<bool, DependencyState> {
        let Some(stray) = self.stray(service, slots) else { return Ok(false) };
        let subject = Subject::of(service);
        if slots.current.is_some() {
            let cause = Cause::Name { found: Some(stray.name.clone()), wanted: None };
            self.change(subject, Action::Update, vec![cause]);
            self.remove_surplus(service, stray, "surplus container: another one holds the service name");
            return Err(DependencyState::Pending("has a surplus container"));
        }
        slots.current = Some(stray);
        if self.is_drift_ignored(&service.name, "name") {
            return Ok(false);
        }
        let name = container_name(&self.desired.group, &service.name);
        let verb = Verb::Rename { container: ContainerRef::of(stray), to: name };
        self.step(subject, verb, format!("renamed externally to {}", stray.name));
        Ok(true)
    }

    /// Asks for the details of containers that cannot be compared without.
    fn must_inspect<'c>(&mut self, compared: impl Iterator<Item = (&'c Container, &'c Comparison)>) -> bool {
        let unclear = compared.filter(|(_, comparison)| comparison.unclear);
        let queries: Vec<_> = unclear.map(|(container, _)| Query::Container(container.id.clone())).collect();
        let must = !queries.is_empty();
        self.plan.queries.extend(queries);
        must
    }

    /// While watching, every container is inspected once: external changes do not show in labels.
    fn unknown(&mut self, slots: &Slots<'a>) {
        if self.memory.watching {
            let unknown = slots.all().filter(|container| container.is_up() && container.details.is_none());
            self.plan.queries.extend(unknown.map(|container| Query::Container(container.id.clone())));
        }
    }

    /// Why a matching container is replaced. An unhealthy one is reported first, then restarted in a later plan.
    fn forced_replacements(
        &mut self,
        service: &'a Service,
        current: &'a Container,
    ) -> Result<Option<Cause>, DependencyState> {
        match self.memory.containers.get(&current.id).and_then(|memory| memory.force_replace) {
            Some(ForceReason::Reload { .. }) => return Ok(Some(Cause::Reload)),
            Some(ForceReason::Unhealthy) => return Ok(Some(Cause::Unhealthy)),
            None => {}
        }
        let Some(why) = self.check_liveness(service, current) else { return Ok(None) };
        if !self.unhealthy_already_reported(service, current) {
            self.fail(&service.name, Reason::Unhealthy, why, Some(ContainerRef::of(current)));
            return Err(DependencyState::Pending("is unhealthy"));
        }
        self.change(Subject::of(service), Action::Restart, vec![Cause::Unhealthy]);
        if self.dependents_rest(service) {
            self.stop(&service.name, current, "unhealthy");
        }
        Err(DependencyState::Pending("is being restarted"))
    }

    /// A container that was renamed externally.
    fn stray(&self, service: &Service, slots: &mut Slots<'a>) -> Option<&'a Container> {
        // Of several, the one that matches becomes current, else the youngest; the name decides between equals, so that the
        // order of the list does not matter.
        let mut strays = std::mem::take(&mut slots.strays);
        // A container being removed does not block.
        strays.retain(|stray| stray.state != State::Removing);
        let best = |container: &&&Container| {
            let same = container.identity.as_ref().is_some_and(|identity| {
                identity.spec_hash == service.fingerprint.spec_hash && identity.env_hash == service.fingerprint.env_hash
            });
            (same, container.created, container.name.clone())
        };
        if slots.current.is_some() { strays.first().copied() } else { strays.iter().max_by_key(best).copied() }
    }

    pub(super) fn compare(&self, service: &Service, container: &Container) -> Comparison {
        let Some(identity) = &container.identity else {
            return Comparison::default();
        };
        if service.outputs.is_self_referencing() {
            // Its outputs are gone; `pre_start` sets them again for another container.
            return Comparison { replace: open_fields(service), ..Comparison::default() };
        }
        let updated = self.memory.containers.get(&container.id).is_some_and(|memory| memory.updated_in_place);
        let mut found = compare(service, container, identity, self.observed, updated);
        found.replace.retain(|cause| !self.is_drift_ignored(&service.name, &cause.path()));
        found.update.retain(|cause| !self.is_drift_ignored(&service.name, &cause.path()));
        self.name_changed_files(service, &mut found.replace);
        found
    }

    /// The right container holds the name: it should be attached, running, within its limits, ready.
    pub(super) fn keep_running(
        &mut self,
        service: &'a Service,
        current: &'a Container,
        comparison: &Comparison,
        failed: bool,
    ) -> DependencyState {
        let subject = Subject::of(service);
        if failed {
            return DependencyState::Failed;
        }
        match current.state {
            State::Created | State::Exited { .. } => {
                if self.memory.started_at(&current.id).is_some() {
                    self.fail_exited(service, current);
                    return DependencyState::Failed;
                }
                if self.backoff(&service.name).is_some_and(|failure| !failure.replaces) {
                    return DependencyState::Failed;
                }
                self.change(subject.clone(), Action::Start, vec![Cause::not_running(current.state)]);
                if self.ensure_networks(service, current) {
                    return DependencyState::Pending("is being attached to its network");
                }
                if self.ready_to_start(service, current) && self.dependents_rest(service) && self.knows_image(current) {
                    let cause = match current.state {
                        State::Exited { code: Some(code) } => format!("exited with code {code}"),
                        State::Exited { code: None } => "exited".to_owned(),
                        _ => "never started".to_owned(),
                    };
                    self.step(subject, Verb::Start(ContainerRef::of(current)), cause);
                }
                DependencyState::Pending("is not running")
            }
            State::Paused => {
                self.change(subject.clone(), Action::Start, vec![Cause::not_running(current.state)]);
                self.step(subject, Verb::Unpause(ContainerRef::of(current)), "paused");
                DependencyState::Pending("is paused")
            }
            State::Restarting => self.await_engine(service, current, "is being restarted"),
            State::Removing => self.await_engine(service, current, "is being removed"),
            State::Dead if self.desired.mode == Mode::StartOnly => {
                let message = "container is dead; run `drillmaster up`".to_owned();
                self.fail(&service.name, Reason::NoContainer, message, None);
                DependencyState::Failed
            }
            State::Dead => {
                self.change(subject.clone(), Action::Create, vec![Cause::not_running(current.state)]);
                self.remove(subject, current, "dead: cannot be started");
                DependencyState::Pending("is dead")
            }
            State::Running => {
                if let Some(other) = self.restarted_dependency(service) {
                    self.change(subject.clone(), Action::Restart, vec![Cause::Dependency(other.to_owned())]);
                    let cause = format!("dependency {other} restarted (`restart: true`)");
                    self.stop(&service.name, current, &cause);
                    return DependencyState::Pending("is being restarted");
                }
                if self.ensure_networks(service, current) {
                    return DependencyState::Pending("is being attached to its network");
                }
                if self.follow_files(service, current, comparison) {
                    return DependencyState::Pending("is being restarted");
                }
                if !comparison.update.is_empty() {
                    self.change(subject.clone(), Action::Update, comparison.update.clone());
                    let verb = Verb::Update {
                        container: ContainerRef::of(current),
                        resources: service.config.resources.clone(),
                        restart: service.config.restart,
                    };
                    self.step(subject, verb, fields(&comparison.update));
                    return DependencyState::Started;
                }
                self.readiness(service, current)
            }
        }
    }

    /// Returns true if no dependent with `restart: true` is running; otherwise waits until they are stopped.
    pub(super) fn dependents_rest(&mut self, service: &'a Service) -> bool {
        if self.is_one_more(service) {
            return true;
        }
        self.about_to_start.insert(&service.service);
        let running = self.desired.services.values().find(|dependent| {
            dependent.dependencies.iter().any(|d| d.name == service.service && d.restart)
                && self.desired.scope.contains(&dependent.service)
                && self
                    .slots
                    .get(dependent.name.as_str())
                    .and_then(|slots| slots.current)
                    .is_some_and(|current| current.state == State::Running)
                && !self.memory.has_failed(&dependent.name)
                && !self.differs(dependent)
        });
        if let Some(dependent) = running {
            let reason = format!("waiting for dependent {} to stop", dependent.name);
            self.wait(service, reason, None);
        }
        running.is_none()
    }

    /// Scale-out: does not affect dependents.
    fn is_one_more(&self, service: &Service) -> bool {
        let is_there = |name: &str| self.slots.get(name).is_some_and(|slots| slots.current.is_some());
        let others = self.replicas.get(service.service.as_str()).into_iter().flatten();
        !is_there(&service.name) && others.into_iter().any(|other| is_there(&other.name))
    }

    /// Returns true if the service's current container differs from its spec.
    fn differs(&self, service: &Service) -> bool {
        let current = self.slots.get(service.name.as_str()).and_then(|slots| slots.current);
        current.is_some_and(|current| {
            let comparison = self.compare(service, current);
            comparison.unclear
                || !comparison.replace.is_empty()
                || self.memory.containers.get(&current.id).is_some_and(|memory| memory.force_replace.is_some())
        })
    }

    /// Returns true if an existing container may be started now; otherwise waits.
    fn ready_to_start(&mut self, service: &'a Service, container: &'a Container) -> bool {
        self.dependencies(service, true).is_ok() && self.ports_are_free(service, container)
    }

    /// A dependency with `restart: true` that is about to be started or replaced.
    fn restarted_dependency(&self, service: &'a Service) -> Option<&'a str> {
        service
            .dependencies
            .iter()
            .find(|d| d.restart && self.about_to_start.contains(d.name.as_str()))
            .map(|d| d.name.as_str())
    }

    /// Stops, then removes a surplus container.
    pub(super) fn remove_surplus(&mut self, service: &Service, container: &Container, cause: &str) {
        if container.state == State::Removing {
            self.await_engine(service, container, "is being removed");
        } else if container.is_up() {
            self.stop(&service.name, container, cause);
        } else {
            self.remove(Subject::of(service), container, cause);
        }
    }

    /// Removes a container, unless the engine is already removing it.
    pub(super) fn remove(&mut self, subject: Subject, container: &Container, cause: &str) {
        if container.state == State::Removing {
            return;
        }
        self.step(subject, Verb::Remove { container: ContainerRef::of(container), volumes: false }, cause);
    }

    pub(super) fn wait(&mut self, service: &Service, reason: String, awaited: Option<Awaited>) {
        self.plan.waits.push(Wait::new(service.name.clone(), reason, awaited));
    }

    /// Waits for something that reports its own progress.
    pub(super) fn wait_quietly(&mut self, service: &Service, reason: String, awaited: Option<Awaited>) {
        self.plan.waits.push(Wait { quiet: true, ..Wait::new(service.name.clone(), reason, awaited) });
    }
}
