//! Dispatches lifecycle events to hooks (`on`). No step waits for these hooks, only the end of a run does; hooks that a
//! step waits for are steps themselves.

use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;

use super::core::{Core, RunPhase};
use super::failures::StepFailure;
use crate::control::error::{HookError, StepError};
use crate::control::event::{Command, HookEvent, Reaction, Report};
use crate::desired::{GroupEvent, HookPoint, LifecycleEvent, Mode};
use crate::identity::container_name;
use crate::observed::State;
use crate::plan::step::{ContainerRef, Plan, Reason, Step, Verb};
use crate::plan::{effect, instance_of};
use crate::spec::model::RestartPolicy;
use crate::types::ContainerId;

impl Core {
    /// Runs the hooks of a service for an event. `code`: the exit code, where the event is an exit.
    pub(super) fn dispatch_hooks(
        &mut self,
        service: &str,
        event: LifecycleEvent,
        code: Option<i64>,
        reaction: &mut Reaction,
    ) {
        let Some(spec) = self.desired.spec_of(service) else { return };
        let hooks = spec.hooks_at(HookPoint::On(event));
        // `build` and `pull` say nothing about containers.
        if hooks.is_empty() || self.desired.mode.is_about_images() {
            return;
        }
        let name = container_name(&self.desired.group, service);
        let all = self.snapshot.observed.iter().flat_map(|observed| observed.containers.values());
        let ours = all.filter(|container| instance_of(&self.desired, container).as_deref() == Some(service));
        let container = ours.max_by_key(|container| container.name == name);
        let variables = code.map(|code| ("DRILLMASTER_EXIT_CODE".to_owned(), code.to_string()));
        let hook_event = HookEvent {
            service: Some(spec.service.clone()),
            replica: spec.replica,
            event: event.to_string(),
            hooks: hooks.to_vec(),
            container: container.map(ContainerRef::of),
            variables: variables.into_iter().collect(),
        };
        self.hooks.running += 1;
        reaction.commands.push(Command::RunHooks(hook_event));
    }

    /// A container exited, as an event, an inspection or a list says first: Docker 28 sends the event after others that
    /// cause an inspection. If no step did it, the hooks for that run, once.
    pub(super) fn exited(&mut self, id: &ContainerId, code: Option<i64>, reaction: &mut Reaction) {
        let Some(owner) = self.owner_of(id) else { return };
        let is_busy = self.is_busy(id);
        let work = self.containers.entry(id.clone()).or_default();
        let is_known = std::mem::replace(&mut work.exit_noticed, true);
        if !is_known && !is_busy {
            self.dispatch_hooks(&owner, LifecycleEvent::Exited, code, reaction);
        }
    }

    /// A container exited before it was ready, and the engine restarts it: reported once, with its last output.
    pub(super) fn report_early_exit(&mut self, id: &ContainerId, code: Option<i64>, reaction: &mut Reaction) {
        let Some(service) = self.owner_of(id).filter(|_| !self.is_busy(id)) else { return };
        let (Some(spec), Some(container)) = (self.desired.services.get(&service), self.snapshot.container(id)) else {
            return;
        };
        let restart = spec.config.restart;
        let restarts = match restart {
            RestartPolicy::No => false,
            RestartPolicy::Always | RestartPolicy::UnlessStopped => true,
            RestartPolicy::OnFailure(_) => code != Some(0),
        };
        let awaited = self.memory.containers.get(id).is_some_and(|memory| memory.waiting_since.is_some());
        let container = ContainerRef::of(container);
        let work = self.containers.entry(id.clone()).or_default();
        if restarts && awaited && !std::mem::replace(&mut work.exit_reported, true) {
            let how = code.map_or_else(|| "exited".to_owned(), |code| format!("exited with code {code}"));
            let note = format!("{service}: {how} before becoming ready; the engine restarts it (`restart: {restart}`)");
            reaction.reports.push(Report::Note(note));
            reaction.commands.push(Command::ReadExit(service, container));
        }
    }

    /// Runs the hooks of the group for an event. Returns true if there are any.
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
            failed.map(|name| self.desired.spec_of(name).map_or(name.as_str(), |spec| &spec.service[..])).collect();
        let services = match event {
            GroupEvent::Down => self.desired.retired.values().map(|service| &service.service[..]).collect(),
            GroupEvent::Up | GroupEvent::Reload => self.desired.ready(&plan.ready),
        };
        let variables = BTreeMap::from([
            ("DRILLMASTER_SERVICES".to_owned(), names(services)),
            ("DRILLMASTER_FAILED".to_owned(), names(failed)),
        ]);
        let hook_event = HookEvent {
            service: None,
            replica: None,
            event: event.to_string(),
            hooks: hooks.clone(),
            container: None,
            variables,
        };
        self.hooks.running += 1;
        reaction.commands.push(Command::RunHooks(hook_event));
        true
    }

    /// A run is about to end: runs the hooks of the group once. Returns true while hooks are running.
    pub(super) fn has_group_hooks(&mut self, plan: &Plan, reaction: &mut Reaction) -> bool {
        let notified = std::mem::replace(&mut self.hooks.group_notified, true);
        (!notified && self.dispatch_group_hooks(self.group_event(), plan, reaction)) || self.hooks.running > 0
    }

    /// Returns true if a step starts a container that has run before.
    pub(super) fn is_restart(&self, step: &Step) -> bool {
        let Verb::Start(target) = &step.verb else { return false };
        let container = self.snapshot.container(&target.id);
        container.is_some_and(|container| matches!(container.state, State::Exited { .. }))
    }

    /// A step succeeded: dispatches the lifecycle event that it completes.
    pub(super) fn on_step_done(&mut self, step: &Step, restarted: bool, reaction: &mut Reaction) {
        let service = step.subject.name();
        let current = container_name(&self.desired.group, service);
        match &step.verb {
            Verb::Start(_) if restarted => self.dispatch_hooks(service, LifecycleEvent::Restarted, None, reaction),
            Verb::Remove { container, .. }
                if container.name == current && self.desired.services.contains_key(service) =>
            {
                self.services.entry(service.into()).or_default().replaced = true;
            }
            Verb::Rename { to, .. } if *to == current => {
                let work = self.services.get_mut(service);
                if work.is_some_and(|work| std::mem::take(&mut work.replaced)) {
                    self.dispatch_hooks(service, LifecycleEvent::Replaced, None, reaction);
                }
            }
            Verb::Stop(container) if container.name == current && !self.desired.services.contains_key(service) => {
                self.dispatch_hooks(service, LifecycleEvent::Stopped, None, reaction);
            }
            _ => {}
        }
    }

    /// The event that the end of this run is for the group.
    fn group_event(&self) -> Option<GroupEvent> {
        match self.desired.mode {
            Mode::StartOnly | Mode::StopOnly | Mode::BuildImages | Mode::PullImages => None,
            Mode::Reconcile { .. } if self.desired.is_empty() => Some(GroupEvent::Down),
            Mode::Reconcile { .. } if self.reload.requested => Some(GroupEvent::Reload),
            Mode::Reconcile { .. } => Some(GroupEvent::Up),
        }
    }

    /// A hook that is a step failed. `pre_start` and `post_start` fail the service; failures of others do not block.
    pub(super) fn hook_failed(
        &mut self,
        step: &Step,
        point: HookPoint,
        error: &StepError,
        now: Duration,
        reaction: &mut Reaction,
    ) {
        if self.phase == RunPhase::Stopping {
            // It was ended with the run; the next run runs it again.
            return;
        }
        let message = match error {
            StepError::Hook(HookError::MissingVariable(_)) => format!("{point} hook skipped: {error}"),
            _ => format!("{point} hook failed: {error}"),
        };
        let service = step.subject.name();
        match point {
            HookPoint::PreStart | HookPoint::PostStart => {
                let own_fault = matches!(error, StepError::Hook(error) if error.is_result());
                self.fail_step(step, StepFailure { reason: Reason::HookFailed, message, own_fault }, now, reaction);
            }
            HookPoint::PreStop | HookPoint::PostStop | HookPoint::On(_) => {
                reaction.reports.push(Report::Note(format!("{service}: {message}")));
                let desired = self.desired.clone();
                if let Some(observed) = &mut self.snapshot.observed {
                    effect::apply(step, None, now, &desired, observed, &mut self.memory);
                }
            }
        }
    }
}
