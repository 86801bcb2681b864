//! What is told to the hooks of services and of the group when something has happened to them. Part of the controller's
//! mind. Nothing waits for these hooks but the end of a run; those that something waits for are steps of the plan.

use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;

use super::core::Core;
use crate::control::event::{Answer, Command, Occurrence, Report};
use crate::desired::{Aim, GroupOccasion, Moment, Occasion};
use crate::engine::EngineError;
use crate::identity::container_name;
use crate::observed::State;
use crate::plan::step::{Plan, Reason, Step, Target, Verb};
use crate::plan::{effect, instance_of};

impl Core {
    /// Something has happened to a service.
    pub(super) fn occurred(&mut self, service: &str, occasion: Occasion, code: Option<i64>, answer: &mut Answer) {
        let Some(spec) = self.desired.spec_of(service) else { return };
        let hooks = spec.hooks_at(Moment::On(occasion));
        if hooks.is_empty() {
            return;
        }
        let name = container_name(&self.desired.group, service);
        let all = self.observed.iter().flat_map(|observed| observed.containers.values());
        let ours = all.filter(|container| instance_of(&self.desired, container).as_deref() == Some(service));
        let container = ours.max_by_key(|container| container.name == name);
        let variables = code.map(|code| ("DRILLMASTER_EXIT_CODE".to_owned(), code.to_string()));
        let occurrence = Occurrence {
            service: Some(spec.service.clone()),
            replica: spec.replica,
            event: occasion.to_string(),
            hooks: hooks.to_vec(),
            container: container.map(Target::of),
            variables: variables.into_iter().collect(),
        };
        self.occurring += 1;
        answer.commands.push(Command::Occur(occurrence));
    }

    /// A container has ended, and not by a step of ours.
    pub(super) fn exited(&mut self, id: &str, code: Option<i64>, answer: &mut Answer) {
        if let Some(owner) = self.owner_of(id).filter(|_| !self.is_busy(id)) {
            self.occurred(&owner, Occasion::Exited, code, answer);
        }
    }

    /// A run has come to its end, as far as the group is concerned; whether its hooks are still to be run.
    pub(super) fn group_occurs(&mut self, occasion: Option<GroupOccasion>, plan: &Plan, answer: &mut Answer) -> bool {
        let Some(occasion) = occasion else { return false };
        let Some(hooks) = self.desired.on.get(&occasion).filter(|hooks| !hooks.is_empty()) else { return false };
        let names = |names: BTreeSet<&str>| names.into_iter().collect::<Vec<_>>().join(" ");
        let failed = self.outcome.failed.keys();
        let failed =
            failed.map(|name| self.desired.spec_of(name).map_or(&name[..], |spec| &spec.service[..])).collect();
        let services = match occasion {
            GroupOccasion::Down => self.desired.parting.values().map(|service| &service.service[..]).collect(),
            GroupOccasion::Up | GroupOccasion::Reload => self.desired.ready(&plan.ready),
        };
        let variables = BTreeMap::from([
            ("DRILLMASTER_SERVICES".to_owned(), names(services)),
            ("DRILLMASTER_FAILED".to_owned(), names(failed)),
        ]);
        let occurrence = Occurrence {
            service: None,
            replica: None,
            event: occasion.to_string(),
            hooks: hooks.clone(),
            container: None,
            variables,
        };
        self.occurring += 1;
        answer.commands.push(Command::Occur(occurrence));
        true
    }

    /// A run is about to end: whether the hooks of the group are still to be told, or to end.
    pub(super) fn has_group_to_tell(&mut self, plan: &Plan, answer: &mut Answer) -> bool {
        let told = std::mem::replace(&mut self.group_told, true);
        (!told && self.group_occurs(self.purpose(), plan, answer)) || self.occurring > 0
    }

    /// Whether a step starts a container that has run before.
    pub(super) fn is_restart(&self, step: &Step) -> bool {
        let Verb::Start(target) = &step.verb else { return false };
        let container = self.observed.as_ref().and_then(|observed| observed.containers.get(&target.id));
        container.is_some_and(|container| matches!(container.state, State::Exited { .. }))
    }

    /// A step succeeded: what that means for its service.
    pub(super) fn stepped(&mut self, step: &Step, restarted: bool, answer: &mut Answer) {
        let service = step.subject.name();
        let serves = container_name(&self.desired.group, service);
        match &step.verb {
            Verb::Start(_) if restarted => self.occurred(service, Occasion::Restarted, None, answer),
            Verb::Remove { container, .. }
                if container.name == serves && self.desired.services.contains_key(service) =>
            {
                self.replaced.insert(service.to_owned());
            }
            Verb::Rename { to, .. } if *to == serves && self.replaced.remove(service) => {
                self.occurred(service, Occasion::Replaced, None, answer);
            }
            Verb::Stop(container) if container.name == serves && !self.desired.services.contains_key(service) => {
                self.occurred(service, Occasion::Stopped, None, answer);
            }
            _ => {}
        }
    }

    /// What a run that ends is to its group.
    pub(super) fn purpose(&self) -> Option<GroupOccasion> {
        match self.desired.aim {
            Aim::Run | Aim::Rest => None,
            Aim::Agree { .. } if self.desired.is_empty() => Some(GroupOccasion::Down),
            Aim::Agree { .. } if self.reloads => Some(GroupOccasion::Reload),
            Aim::Agree { .. } => Some(GroupOccasion::Up),
        }
    }

    /// A hook that is a step did not succeed. What comes before a service serves fails it; what comes after does not
    /// hold anything up.
    pub(super) fn hook_failed(
        &mut self,
        step: &Step,
        moment: Moment,
        error: &EngineError,
        now: Duration,
        answer: &mut Answer,
    ) {
        if self.closing {
            // It was ended with the run, and will be run by the next.
            return;
        }
        let message = format!("its {moment} failed: {}", super::failures::message_of(error));
        let service = step.subject.name();
        match moment {
            Moment::PreStart | Moment::PostStart => {
                self.fail_step(service, Reason::HookFailed, message, step, now, answer);
            }
            Moment::PreStop | Moment::PostStop | Moment::On(_) => {
                answer.reports.push(Report::Note(format!("{service}: {message}")));
                let desired = self.desired.clone();
                if let Some(observed) = &mut self.observed {
                    effect::apply(step, None, now, &desired, observed, &mut self.memory);
                }
            }
        }
    }
}
