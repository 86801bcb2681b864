//! Outputs: which service waits for one, and when a job's outputs are collected. Known outputs are in the desired state.

use std::collections::BTreeSet;

use super::cause::{Cause, KNOWN_AFTER_APPLY};
use super::diff::Comparison;
use super::readiness::DependencyState;
use super::step::{Action, ContainerRef, Subject, Verb};
use super::{Planner, Slots};
use crate::desired::{Hook, HookPoint, Scope, Service};
use crate::observed::Container;

impl<'a> Planner<'a> {
    /// Handles a service that uses unknown outputs: no container is created, a running one keeps running. `None`: nothing is
    /// missing.
    pub(super) fn await_outputs(&mut self, service: &'a Service, slots: &Slots<'a>) -> Option<DependencyState> {
        let missing =
            |key: &&String| !self.memory.assumed_outputs.contains(*key) && !service.outputs.gives_first.contains(*key);
        let key = service.outputs.awaited().flat_map(|(_, keys)| keys).find(missing)?.clone();
        let subject = Subject::of(service);
        let causes = open_fields(service);
        let Some(current) = slots.current else {
            self.change(subject, Action::Create, causes);
            return Some(match self.dependencies(service, false) {
                Ok(()) => self.wait_for_output(service, &key),
                Err(state) => state,
            });
        };
        self.change(subject, Action::Replace, causes);
        let state = match service.is_job() {
            true => DependencyState::Pending("is waiting for an output"),
            false => self.keep_running(service, current, &Comparison::default(), false),
        };
        if self.dependencies(service, true).is_ok() {
            self.wait_for_output(service, &key);
        }
        Some(if state == DependencyState::Ready { DependencyState::RolledBack } else { state })
    }

    /// Returns true if every output that the container uses is known after `pre_start`; otherwise waits.
    pub(super) fn is_made_known(&mut self, service: &Service) -> bool {
        let open = service
            .outputs
            .awaited()
            .flat_map(|(_, keys)| keys)
            .find(|key| !self.memory.assumed_outputs.contains(*key));
        let open = open.cloned();
        open.map(|key| self.wait_for_output(service, &key)).is_none()
    }

    /// Waits for an output and names its producer.
    pub(super) fn wait_for_output(&mut self, service: &Service, key: &str) -> DependencyState {
        let in_scope =
            |other: &&Service| self.desired.scope.contains(&other.service) && other.service != service.service;
        // All its hooks have run.
        let is_ready = |giver: &Service| {
            let state = self.dependency_states.get(giver.name.as_str());
            matches!(state, Some(DependencyState::Ready | DependencyState::Succeeded))
        };
        let setters = || self.desired.setters_of(key).filter(in_scope);
        let giver = self.desired.producer_of(key);
        let giver = giver.or_else(|| setters().find(|setter| !is_ready(setter))).or_else(|| setters().next());
        let ready = giver.is_some_and(is_ready);
        let reason = match giver.map(|giver| &giver.service) {
            Some(giver) if ready => format!(
                "waiting for output `{key}` of {giver}, which did not set it; `drillmaster reload {giver}` runs it \
                 again"
            ),
            Some(giver) => format!("waiting for output `{key}` of {giver}"),
            None => format!("waiting for output `{key}` (not set yet){}", self.producer_hint(service, key)),
        };
        self.wait(service, reason, None);
        DependencyState::Pending("is waiting for an output")
    }

    /// Names the services out of scope that may set an output, and how to include them.
    fn producer_hint(&self, service: &Service, key: &str) -> String {
        let is_excluded = |other: &&Service| !self.desired.scope.contains(&other.service);
        let setters: BTreeSet<&str> =
            self.desired.setters_of(key).filter(is_excluded).map(|other| &*other.service).collect();
        let names = match setters.is_empty() {
            true => self.excluded_producers(),
            false => setters,
        };
        let names: Vec<&str> = names.into_iter().collect();
        if names.is_empty() {
            return String::new();
        }
        let are = if names.len() == 1 { "is" } else { "are" };
        let state = match self.desired.scope {
            Scope::Only(_) => format!("not selected: `drillmaster up {} {}`", names.join(" "), service.service),
            _ => "excluded".to_owned(),
        };
        format!("; {} may set it and {are} {state}", names.join(", "))
    }

    /// Services out of scope that may set outputs whose keys are known only when they have run.
    fn excluded_producers(&self) -> BTreeSet<&'a str> {
        let excluded = self.desired.services.values().filter(|other| !self.desired.scope.contains(&other.service));
        let sets_outputs =
            |other: &&Service| other.is_job() || other.hooks.values().flatten().any(Hook::may_write_outputs);
        excluded.filter(sets_outputs).map(|other| &*other.service).collect()
    }

    /// Returns true if every output that the hook uses is known; otherwise waits.
    pub(super) fn is_hook_known(&mut self, service: &Service, point: HookPoint, index: usize) -> bool {
        let unknown = service.outputs.unknown_of_hook(&point.field(), index);
        let unknown = unknown.filter(|key| !self.memory.assumed_outputs.contains(*key)).map(str::to_owned);
        unknown.map(|key| self.wait_for_output(service, &key)).is_none()
    }

    /// Returns true if the outputs of a succeeded job are collected; otherwise plans it.
    pub(super) fn is_collected(&mut self, service: &Service, container: &Container) -> bool {
        let wanted = service.outputs.capture.is_some() || self.desired.uses_outputs();
        if !wanted || self.memory.containers.get(&container.id).is_some_and(|memory| memory.outputs_collected) {
            return true;
        }
        self.step(Subject::of(service), Verb::Collect(ContainerRef::of(container)), "job succeeded");
        false
    }

    /// Returns true if any service waits for an output: that of a job that succeeded in an earlier run may have been lost.
    pub(super) fn has_pending_outputs(&self) -> bool {
        self.desired.in_scope().any(|service| {
            service.outputs.awaited().flat_map(|(_, keys)| keys).any(|key| !self.memory.assumed_outputs.contains(key))
        })
    }
}

/// Fields of a service that are known only after apply.
pub(super) fn open_fields(service: &Service) -> Vec<Cause> {
    service.outputs.awaited().map(|(field, _)| Cause::field(&field, None, Some(KNOWN_AFTER_APPLY))).collect()
}

/// Outputs that services in scope wait for; a forecast assumes them.
pub(super) fn awaited(desired: &crate::desired::Desired) -> BTreeSet<String> {
    let unknown = desired.in_scope().flat_map(|service| service.outputs.unknown.values());
    unknown.flatten().cloned().collect()
}
