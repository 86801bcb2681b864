//! What is told to the hooks of services and of the group when something has happened to them. Part of the controller's
//! mind. Nothing waits for these hooks but the end of a run; those that something waits for are steps of the plan.

use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;

use super::core::Core;
use crate::control::error::StepError;
use crate::control::event::{Command, HookEvent, Reaction, Report};
use crate::desired::{GroupEvent, HookPoint, LifecycleEvent, Mode};
use crate::identity::container_name;
use crate::observed::State;
use crate::plan::step::{ContainerRef, Plan, Reason, Step, Verb};
use crate::plan::{effect, instance_of};

impl Core {
    /// Something has happened to a service.
    pub(super) fn dispatch_hooks(
        &mut self,
        service: &str,
        event: LifecycleEvent,
        code: Option<i64>,
        reaction: &mut Reaction,
    ) {
        let Some(spec) = self.desired.spec_of(service) else { return };
        let hooks = spec.hooks_at(HookPoint::On(event));
        if hooks.is_empty() {
            return;
        }
        let name = container_name(&self.desired.group, service);
        let all = self.observed.iter().flat_map(|observed| observed.containers.values());
        let ours = all.filter(|container| instance_of(&self.desired, container).as_deref() == Some(service));
        let container = ours.max_by_key(|container| container.name == name);
        let variables = code.map(|code| ("DRILLMASTER_EXIT_CODE".to_owned(), code.to_string()));
        let occurrence = HookEvent {
            service: Some(spec.service.clone()),
            replica: spec.replica,
            event: event.to_string(),
            hooks: hooks.to_vec(),
            container: container.map(ContainerRef::of),
            variables: variables.into_iter().collect(),
        };
        self.hooks_running += 1;
        reaction.commands.push(Command::RunHooks(occurrence));
    }

    /// A container has ended, and not by a step of ours.
    pub(super) fn exited(&mut self, id: &str, code: Option<i64>, reaction: &mut Reaction) {
        if let Some(owner) = self.owner_of(id).filter(|_| !self.is_busy(id)) {
            self.dispatch_hooks(&owner, LifecycleEvent::Exited, code, reaction);
        }
    }

    /// A run has come to its end, as far as the group is concerned; whether its hooks are still to be run.
    pub(super) fn dispatch_group_hooks(
        &mut self,
        event: Option<GroupEvent>,
        plan: &Plan,
        reaction: &mut Reaction,
    ) -> bool {
        let Some(event) = event else { return false };
        let Some(hooks) = self.desired.on.get(&event).filter(|hooks| !hooks.is_empty()) else { return false };
        let names = |names: BTreeSet<&str>| names.into_iter().collect::<Vec<_>>().join(" ");
        let failed = self.outcome.failed.keys();
        let failed =
            failed.map(|name| self.desired.spec_of(name).map_or(&name[..], |spec| &spec.service[..])).collect();
        let services = match event {
            GroupEvent::Down => self.desired.parting.values().map(|service| &service.service[..]).collect(),
            GroupEvent::Up | GroupEvent::Reload => self.desired.ready(&plan.ready),
        };
        let variables = BTreeMap::from([
            ("DRILLMASTER_SERVICES".to_owned(), names(services)),
            ("DRILLMASTER_FAILED".to_owned(), names(failed)),
        ]);
        let occurrence = HookEvent {
            service: None,
            replica: None,
            event: event.to_string(),
            hooks: hooks.clone(),
            container: None,
            variables,
        };
        self.hooks_running += 1;
        reaction.commands.push(Command::RunHooks(occurrence));
        true
    }

    /// A run is about to end: whether the hooks of the group are still to be told, or to end.
    pub(super) fn has_group_hooks(&mut self, plan: &Plan, reaction: &mut Reaction) -> bool {
        let reporter = std::mem::replace(&mut self.group_notified, true);
        (!reporter && self.dispatch_group_hooks(self.group_event(), plan, reaction)) || self.hooks_running > 0
    }

    /// Whether a step starts a container that has run before.
    pub(super) fn is_restart(&self, step: &Step) -> bool {
        let Verb::Start(target) = &step.verb else { return false };
        let container = self.observed.as_ref().and_then(|observed| observed.containers.get(&target.id));
        container.is_some_and(|container| matches!(container.state, State::Exited { .. }))
    }

    /// A step succeeded: what that means for its service.
    pub(super) fn on_step_done(&mut self, step: &Step, restarted: bool, reaction: &mut Reaction) {
        let service = step.subject.name();
        let serves = container_name(&self.desired.group, service);
        match &step.verb {
            Verb::Start(_) if restarted => self.dispatch_hooks(service, LifecycleEvent::Restarted, None, reaction),
            Verb::Remove { container, .. }
                if container.name == serves && self.desired.services.contains_key(service) =>
            {
                self.replaced.insert(service.to_owned());
            }
            Verb::Rename { to, .. } if *to == serves && self.replaced.remove(service) => {
                self.dispatch_hooks(service, LifecycleEvent::Replaced, None, reaction);
            }
            Verb::Stop(container) if container.name == serves && !self.desired.services.contains_key(service) => {
                self.dispatch_hooks(service, LifecycleEvent::Stopped, None, reaction);
            }
            _ => {}
        }
    }

    /// What a run that ends is to its group.
    pub(super) fn group_event(&self) -> Option<GroupEvent> {
        match self.desired.mode {
            Mode::StartOnly | Mode::StopOnly => None,
            Mode::Reconcile { .. } if self.desired.is_empty() => Some(GroupEvent::Down),
            Mode::Reconcile { .. } if self.reloads => Some(GroupEvent::Reload),
            Mode::Reconcile { .. } => Some(GroupEvent::Up),
        }
    }

    /// A hook that is a step did not succeed. What comes before a service serves fails it; what comes after does not
    /// hold anything up.
    pub(super) fn hook_failed(
        &mut self,
        step: &Step,
        moment: HookPoint,
        error: &StepError,
        now: Duration,
        reaction: &mut Reaction,
    ) {
        if self.closing {
            // It was ended with the run, and will be run by the next.
            return;
        }
        let message = format!("its {moment} failed: {error}");
        let service = step.subject.name();
        match moment {
            HookPoint::PreStart | HookPoint::PostStart => {
                self.fail_step(service, Reason::HookFailed, message, step, now, reaction);
            }
            HookPoint::PreStop | HookPoint::PostStop | HookPoint::On(_) => {
                reaction.reports.push(Report::Note(format!("{service}: {message}")));
                let desired = self.desired.clone();
                if let Some(observed) = &mut self.observed {
                    effect::apply(step, None, now, &desired, observed, &mut self.memory);
                }
            }
        }
    }
}
