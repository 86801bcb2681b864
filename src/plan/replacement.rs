//! Replacements: a candidate is created, started, proved and promoted, or removed if it fails.

use super::Planner;
use super::cause::{Cause, fields};
use super::diff::Comparison;
use super::images::wanted_image;
use super::networks::aliases_deferred;
use super::readiness::DependencyState;
use super::step::{Action, ContainerRef, Subject, Verb};
use crate::desired::{HookPoint, OnFailure, Order, Service};
use crate::identity::container_name;
use crate::observed::{Container, State};

impl<'a> Planner<'a> {
    /// No container holds the name, or the wrong one.
    pub(super) fn create_or_replace(
        &mut self,
        service: &'a Service,
        current: Option<&'a Container>,
        causes: Vec<Cause>,
        candidate: Option<(&'a Container, Comparison)>,
        failed: bool,
    ) -> DependencyState {
        let cause = match current {
            None => "no container".to_owned(),
            Some(_) => fields(&causes),
        };
        match current {
            None => {
                let wanted = container_name(&self.desired.group, &service.name);
                let candidate = candidate.as_ref().map(|(candidate, _)| candidate.name.clone());
                self.change(Subject::of(service), Action::Create, vec![Cause::NoContainer { candidate, wanted }]);
            }
            Some(current) => {
                self.note_kept_volumes(service, current, &causes);
                self.change(Subject::of(service), Action::Replace, causes);
                let interrupts = self.clash(service, current).filter(|_| current.is_up());
                if let Some(change) = self.plan.changes.last_mut() {
                    change.interrupts = interrupts;
                }
            }
        }
        let retries_later = current.is_some() && self.is_replacement_backing_off(&service.name);
        let stopped = candidate.is_none() && current.is_some() && self.is_rebuild_stopped(service, current);
        if failed || retries_later || stopped || self.build_has_failed(service) {
            return self.undo(service, current, candidate.map(|(candidate, _)| candidate));
        }
        if let (Some(current), None) = (current, &candidate)
            && let Some(state) = self.await_rolling_turn(service, current)
        {
            return state;
        }
        if let (Some(current), None, true) = (current, &candidate, self.memory.watching) {
            if let Some(state) = self.build(service) {
                // A build may take long; the current container is supervised meanwhile.
                self.keep_running(service, current, &Comparison::default(), false);
                return state;
            }
            return match self.create_replacement(service, Some(current), None, &cause) {
                // The replacement is blocked. Failures of the old container must not extend its backoff.
                DependencyState::Failed if !self.is_backing_off(&service.name) => self.roll_back(service, current),
                state => state,
            };
        }
        self.create_replacement(service, current, candidate, &cause)
    }

    /// Replicas are replaced one at a time, and none after one that failed. A replica that is not running waits only for
    /// that.
    fn await_rolling_turn(&mut self, service: &'a Service, current: &'a Container) -> Option<DependencyState> {
        let others: Vec<&Service> = self.replicas.get(service.service.as_str())?.clone();
        let mut others = others.into_iter().filter(|other| other.name != service.name);
        let image = wanted_image(service, self.observed);
        let failed = |other: &&Service| {
            self.memory.failure(&other.name).is_some_and(|failure| failure.is_about(&service.fingerprint, image))
        };
        if let Some(failed) = others.clone().find(failed) {
            self.wait(service, format!("waiting for {}, which failed with this spec", failed.name), None);
            return Some(self.roll_back(service, current));
        }
        if current.state != State::Running {
            return None;
        }
        let first = others.find(|other| {
            let slots = self.slots.get(other.name.as_str()).cloned().unwrap_or_default();
            match other.replica < service.replica {
                true => self.dependency_states.get(other.name.as_str()) != Some(&DependencyState::Ready),
                false => {
                    slots.candidate.is_some() || slots.current.is_some_and(|current| current.state != State::Running)
                }
            }
        })?;
        self.wait_quietly(service, format!("waiting for {}, which is replaced first", first.name), None);
        Some(DependencyState::Pending("is being replaced"))
    }

    /// Creates a container with this spec and brings it to the service name.
    pub(super) fn create_replacement(
        &mut self,
        service: &'a Service,
        current: Option<&'a Container>,
        candidate: Option<(&'a Container, Comparison)>,
        cause: &str,
    ) -> DependencyState {
        let may_stop = current.is_some() || candidate.is_some();
        if may_stop && self.is_rebuild_stopped(service, current) {
            let last = candidate.map(|(candidate, _)| self.progress_replacement(service, current, candidate, cause));
            return last.unwrap_or(DependencyState::Failed);
        }
        match candidate {
            Some((candidate, comparison)) if !is_outdated(service, candidate, &comparison) => {
                self.progress_replacement(service, current, candidate, cause)
            }
            Some((candidate, _)) => {
                self.remove_surplus(service, candidate, "outdated spec revision");
                DependencyState::Pending("is being replaced")
            }
            None => {
                if self.is_backing_off(&service.name) {
                    return DependencyState::Failed;
                }
                if let Some(failed) = self.may_create(service) {
                    return failed;
                }
                if let Some(current) = current.filter(|current| current.state == State::Removing) {
                    return self.await_engine(service, current, "is being removed");
                }
                if self.hooks_are_done(service, HookPoint::PreStart, None, cause) && self.is_made_known(service) {
                    self.create(service, current, cause);
                }
                DependencyState::Pending("is being created")
            }
        }
    }

    /// A replacement failed: remove it and return to the current container. A first container that failed is kept for
    /// inspection.
    fn undo(
        &mut self,
        service: &'a Service,
        current: Option<&'a Container>,
        candidate: Option<&'a Container>,
    ) -> DependencyState {
        let Some(current) = current else { return DependencyState::Failed };
        match (candidate, service.update.on_failure) {
            (Some(candidate), OnFailure::Rollback) => {
                self.remove_surplus(service, candidate, "replacement failed");
                DependencyState::Failed
            }
            (Some(candidate), OnFailure::Keep) if candidate.is_up() => {
                self.stop(&service.name, candidate, "replacement failed; kept for inspection");
                DependencyState::Failed
            }
            _ => self.roll_back(service, current),
        }
    }

    /// Keeps the current container although its spec has changed.
    fn roll_back(&mut self, service: &'a Service, current: &'a Container) -> DependencyState {
        if self.memory.watching {
            return match self.keep_running(service, current, &Comparison::default(), false) {
                DependencyState::Ready => DependencyState::RolledBack,
                state => state,
            };
        }
        if matches!(current.state, State::Created | State::Exited { .. })
            && self.memory.started_at(&current.id).is_none()
            && !self.ensure_networks(service, current)
        {
            self.step(Subject::of(service), Verb::Start(ContainerRef::of(current)), "rolling back: replacement failed");
        }
        match current.state {
            // It may have lost its aliases to the candidate.
            State::Running if self.ensure_networks(service, current) => DependencyState::Failed,
            State::Running => DependencyState::RolledBack,
            _ => DependencyState::Failed,
        }
    }

    /// Brings a candidate one step further.
    fn progress_replacement(
        &mut self,
        service: &'a Service,
        current: Option<&'a Container>,
        candidate: &'a Container,
        cause: &str,
    ) -> DependencyState {
        match candidate.state {
            State::Exited { code: Some(0) } if service.is_job() => {
                if self.is_collected(service, candidate) {
                    self.take_over(service, current, candidate, "has succeeded");
                }
                DependencyState::Started
            }
            State::Exited { .. } if self.memory.started_at(&candidate.id).is_some() => {
                self.fail_exited(service, candidate);
                DependencyState::Failed
            }
            State::Created | State::Exited { .. } if self.is_backing_off(&service.name) => DependencyState::Failed,
            State::Exited { .. } if self.memory.backoff(&service.name).is_none() => {
                self.remove(Subject::of(service), candidate, "it ended before becoming ready");
                DependencyState::Pending("is being created again")
            }
            State::Created | State::Exited { .. } => {
                if let Err(state) = self.dependencies(service, false) {
                    return state;
                }
                if self.has_port_conflict(service) {
                    return DependencyState::Failed;
                }
                if self.attach(service, candidate, false) {
                    return DependencyState::Pending("is being attached to its network");
                }
                if let Some(current) =
                    current.filter(|current| current.is_up() && self.clash(service, current).is_some())
                {
                    let cause = "replacement needs its ports or volumes";
                    self.stop(&service.name, current, cause);
                } else if self.ports_are_free(service, candidate) && self.knows_image(candidate) {
                    self.step(Subject::of(service), Verb::Start(ContainerRef::of(candidate)), cause);
                }
                DependencyState::Pending("is being started")
            }
            State::Paused => {
                self.step(Subject::of(service), Verb::Unpause(ContainerRef::of(candidate)), "paused");
                DependencyState::Pending("is paused")
            }
            State::Restarting => self.await_engine(service, candidate, "is being restarted"),
            State::Removing => self.await_engine(service, candidate, "is being removed"),
            State::Dead => {
                self.remove(Subject::of(service), candidate, "it ended before becoming ready");
                DependencyState::Pending("is being created again")
            }
            State::Running if service.is_job() => self.await_end(service, candidate),
            State::Running => self.prove(service, current, candidate),
        }
    }

    /// Promotes a running candidate once it is ready, initialised, and has stayed ready for `min_ready`.
    fn prove(
        &mut self,
        service: &'a Service,
        current: Option<&'a Container>,
        candidate: &'a Container,
    ) -> DependencyState {
        let is_late = aliases_deferred(candidate);
        // An earlier run may have been killed while it set the aliases.
        let unknown = is_late && !self.memory.probe_succeeded(&candidate.id);
        if unknown && service.ping.is_some() && self.attach(service, candidate, false) {
            return DependencyState::Pending("is being attached to its network");
        }
        let state = self.readiness(service, candidate);
        if state != DependencyState::Ready {
            if self.memory.life(&candidate.id).is_some_and(|life| life.hold_until.is_some()) {
                return self.fail_min_ready(service, candidate, "no longer healthy");
            }
            return state;
        }
        if self.is_backing_off(&service.name) {
            return DependencyState::Failed;
        }
        // Dependents with `condition: started` may start; `ready` needs the service name.
        if !self.hooks_are_done(service, HookPoint::PostStart, Some(candidate), "readiness probe succeeded") {
            return DependencyState::Started;
        }
        if current.is_some()
            && let Some(state) = self.check_min_ready(service, candidate)
        {
            return state;
        }
        if !self.ensure_networks(service, candidate) {
            self.take_over(service, current, candidate, "is ready");
        }
        DependencyState::Started
    }

    /// Promotes a candidate: stops and removes the current container, then renames the candidate.
    fn take_over(&mut self, service: &Service, current: Option<&'a Container>, candidate: &Container, how_far: &str) {
        let subject = Subject::of(service);
        match current {
            Some(current) if current.is_up() => {
                let cause = format!("replacement {how_far}");
                if service.update.order == Order::Auto || self.is_drained(service, current, &cause) {
                    self.stop(&service.name, current, &cause);
                }
            }
            Some(current) => {
                if self.sharers_are_gone(current) {
                    self.remove(subject, current, &format!("replacement {how_far}"));
                }
            }
            None => {
                let to = container_name(&self.desired.group, &service.name);
                let verb = Verb::Rename { container: ContainerRef::of(candidate), to };
                self.step(subject, verb, format!("candidate {how_far}"));
            }
        }
    }
}

/// Returns true if a candidate cannot become what the spec describes. Other limits are updated in place, but not if it
/// does not run: they may be why.
fn is_outdated(service: &Service, candidate: &Container, comparison: &Comparison) -> bool {
    let ended = match candidate.state {
        State::Created => true,
        State::Exited { code } => !(service.is_job() && code == Some(0)),
        _ => false,
    };
    !comparison.replace.is_empty() || ended && !comparison.update.is_empty()
}
