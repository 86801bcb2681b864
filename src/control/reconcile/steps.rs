//! Steps under way: which may start, how often each was attempted, and how long a subject pauses after a failure.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use super::core::{Core, RunPhase};
use crate::control::event::{Command, Reaction, Report};
use crate::desired::Desired;
use crate::plan::check;
use crate::plan::sources::count_rebuild;
use crate::plan::step::{Action, Change, Step, Subject, Verb, VerbKind};
use crate::types::ContainerId;

/// How often a step may be attempted before the run gives its subject up.
pub(super) const MAX_ATTEMPTS: u32 = 3;

/// The steps of a run.
#[derive(Debug, Default)]
pub(super) struct Steps {
    /// Steps under way, by subject.
    pub(super) running: BTreeMap<Subject, RunningStep>,
    /// How often each step was attempted since its subject was last settled.
    pub(super) attempts: BTreeMap<(Subject, VerbKind), u32>,
    /// When the next step of a subject may start, after one that failed.
    pub(super) not_before: BTreeMap<Subject, Duration>,
}

/// A step under way, with the desired state that it started from.
#[derive(Debug, Clone)]
pub(super) struct RunningStep {
    pub(super) step: Step,
    pub(super) desired: Arc<Desired>,
}

/// Steps that share a limit. An image may take long to pull, and must not keep containers from being started.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Pool {
    Images,
    Teardown,
    Default,
}

fn pool(verb: &Verb) -> Pool {
    match verb {
        Verb::Pull | Verb::Build => Pool::Images,
        verb if verb.is_teardown() => Pool::Teardown,
        _ => Pool::Default,
    }
}

impl Steps {
    /// Number of attempts of a step.
    pub(super) fn attempts_of(&self, step: &Step) -> u32 {
        self.attempts.get(&(step.subject.clone(), step.verb.kind())).copied().unwrap_or_default()
    }

    /// Counts an attempt. Returns false if there were too many.
    fn attempt(&mut self, step: &Step) -> bool {
        let attempts = self.attempts.entry((step.subject.clone(), step.verb.kind())).or_default();
        *attempts += 1;
        *attempts <= MAX_ATTEMPTS
    }

    /// Forgets the attempts of one step.
    pub(super) fn forget(&mut self, step: &Step) {
        self.attempts.remove(&(step.subject.clone(), step.verb.kind()));
    }

    /// Forgets the attempts of everything with this name.
    pub(super) fn forget_subject(&mut self, name: &str) {
        self.attempts.retain(|(subject, _), _| subject.name() != name);
    }

    /// Returns true if a step on this container is under way, whatever its service was called when it started.
    pub(super) fn is_working_on(&self, id: &ContainerId) -> bool {
        self.running.values().any(|running| running.step.verb.container().is_some_and(|target| target.id == *id))
    }
}

impl Core {
    /// Returns true if a step on a container or its service is under way.
    pub(super) fn is_busy(&self, id: &ContainerId) -> bool {
        self.owner_of(id).is_some_and(|owner| self.steps.running.contains_key(&Subject::Service(owner)))
            || self.steps.is_working_on(id)
    }

    /// Starts the steps that may start now, within the limits.
    pub(super) fn start_steps(&mut self, steps: Vec<Step>, changes: &[Change], now: Duration, reaction: &mut Reaction) {
        if self.phase != RunPhase::Running {
            return;
        }
        for step in steps {
            if !self.may_start(&step, now) || !self.is_announced(&step, changes) {
                continue;
            }
            let Some(observed) = &self.snapshot.observed else { return };
            if let Some(rule) = check::violation(&step, &self.desired, observed) {
                let message = format!("step refused: {rule}; this is a bug in drillmaster");
                self.give_up(&step, message, now, reaction);
                continue;
            }
            if !self.steps.attempt(&step) {
                let message = format!(
                    "`{step}` applied {MAX_ATTEMPTS} times without converging; check for another process changing it"
                );
                self.give_up(&step, message, now, reaction);
                continue;
            }
            count_rebuild(&step, &self.desired, observed, &mut self.memory);
            let running = RunningStep { step: step.clone(), desired: self.desired.clone() };
            self.steps.running.insert(step.subject.clone(), running);
            if let Verb::Start(container) = &step.verb {
                self.containers.entry(container.id.clone()).or_default().start_expected = true;
            }
            self.report_begin(&step, changes, reaction);
            self.reporter.mark(&step.subject);
            reaction.reports.push(Report::StepStarted(step.clone()));
            reaction.commands.push(Command::RunStep(step));
        }
    }

    /// A one-shot run announces what it removes before, all at once: by its first plan that needs no inspection.
    fn is_announced(&self, step: &Step, changes: &[Change]) -> bool {
        let removes = |change: &Change| change.action == Action::Remove && change.subject == step.subject;
        self.watching.is_some() || self.reporter.plan_reported || !changes.iter().any(removes)
    }

    fn may_start(&self, step: &Step, now: Duration) -> bool {
        let free = !self.steps.running.contains_key(&step.subject)
            && self.services.get(step.subject.name()).is_none_or(|work| !work.diagnosing)
            && self.steps.not_before.get(&step.subject).is_none_or(|at| now >= *at)
            && !self.is_being_inspected(step)
            && step.verb.container().is_none_or(|container| !self.steps.is_working_on(&container.id));
        let pool = pool(&step.verb);
        let in_pool = self.steps.running.values().filter(|other| self::pool(&other.step.verb) == pool);
        let limit = if pool == Pool::Teardown { self.limits.teardowns } else { self.limits.setups };
        free && in_pool.count() < limit
    }

    fn is_being_inspected(&self, step: &Step) -> bool {
        let inspecting = self.containers.iter().filter(|(_, work)| work.inspecting);
        inspecting.filter_map(|(id, _)| self.owner_of(id)).any(|owner| *owner == *step.subject.name())
    }
}
