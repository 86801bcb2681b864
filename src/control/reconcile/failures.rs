//! What becomes of what did not succeed: looked at again, tried again, given up, left alone. Part of the controller's mind;
//! for how long a failure holds is said by `plan::restart`.

use std::collections::BTreeMap;
use std::time::Duration;

use super::core::{Core, RETRY_PAUSE, TRIES, key};
use crate::control::error::StepError;
use crate::control::event::{Failed, Reaction, Report};
use crate::desired::LifecycleEvent;
use crate::engine::EngineError;
use crate::observed::State;
use crate::plan;
use crate::plan::backoff::{
    BACKOFF_INITIAL, BACKOFF_MAX, Backoff, RetryPolicy, backoff_delay, requires_replacement, retry_policy,
};
use crate::plan::step::{Action, Failure, Plan, Reason, Step, Subject, Verb};

/// How often a difference may be put right before it counts as a fight, rule 8 of the loop.
const MAX_CORRECTIONS: u32 = 3;
/// A difference that stayed away for so long was no fight.
const DRIFT_WINDOW: Duration = Duration::from_secs(60);

/// A difference that was put right, while watching.
#[derive(Debug, Clone, Copy)]
pub(super) struct DriftCount {
    times: u32,
    last: Duration,
}

/// A step on something else than a service that was refused, while watching.
#[derive(Debug, Clone, Copy)]
pub(super) struct Refusal {
    times: u32,
    /// When it is tried again; `None`: it is being tried.
    retry: Option<Duration>,
}

impl Core {
    /// A step failed.
    pub(super) fn refused(&mut self, step: &Step, error: &StepError, now: Duration, reaction: &mut Reaction) {
        if let Verb::Hook { moment, .. } = step.verb {
            self.hook_failed(step, moment, error, now, reaction);
            return;
        }
        match error {
            StepError::Engine(error) => self.engine_refused(step, error, now, reaction),
            StepError::Hook(_) | StepError::Output(_) => {
                let message = format!("it has succeeded, but {error}");
                self.fail_step(step.subject.name(), Reason::OutputInvalid, message, step, now, reaction);
            }
            StepError::Obsolete => {
                self.dirty = true;
                self.begun.remove(&key(step));
            }
        }
    }

    /// The engine did not execute a step, as far as is known: the reply may be lost. Resync, and retry up to [`TRIES`]
    /// times while the step is still needed.
    fn engine_refused(&mut self, step: &Step, error: &EngineError, now: Duration, reaction: &mut Reaction) {
        self.dirty = true;
        if step.verb == Verb::Build && !self.wants_built(step.subject.name()) {
            // Its sources have changed meanwhile.
            self.begun.remove(&key(step));
            return;
        }
        self.not_before.insert(step.subject.clone(), now + RETRY_PAUSE);
        if self.watching.is_some() && matches!(error, EngineError::Unreachable { .. }) {
            // The engine went away, which the list will tell. That is nobody's failure.
            self.begun.remove(&key(step));
            return;
        }
        let tries = self.begun.get(&key(step)).copied().unwrap_or_default();
        let again = match error {
            EngineError::Refused { .. } => matches!(step.verb, Verb::Stop(_) | Verb::Remove { .. }) && tries < TRIES,
            // It has taken a minute, and will be tried again in any case.
            EngineError::TimedOut { .. } if self.watching.is_some() => false,
            _ => tries < TRIES,
        };
        if again {
            tracing::debug!(%error, %step, "refused, looking again");
            return;
        }
        let said = error.to_string();
        match &step.subject {
            Subject::Service(service) => {
                let reason = match (&step.verb, error) {
                    (_, EngineError::TimedOut { .. } | EngineError::Unreachable { .. }) => Reason::EngineHangs,
                    (Verb::Create { .. }, _) => Reason::CreateFailed,
                    _ => Reason::StartFailed,
                };
                // For people a container's name says more than its id.
                let message = match (error, step.to_string().split_once(": ")) {
                    (EngineError::TimedOut { .. } | EngineError::Unreachable { .. }, _) | (_, None) => said,
                    (_, Some((_, attempted))) => format!("cannot {attempted}: {}", message_of(error)),
                };
                self.fail_step(service, reason, message, step, now, reaction);
            }
            Subject::Image(_) if step.verb == Verb::RemoveImage => self.is_stuck(step, said, now, reaction),
            Subject::Image(image) => {
                reaction.reports.push(Report::StepFailed(step.clone(), said));
                self.memory.unavailable.insert(image.clone(), message_of(error));
                // The same sources would fail again.
                if step.verb != Verb::Build {
                    self.try_later(&step.subject, now);
                }
            }
            Subject::Network(_) if step.verb == Verb::CreateNetwork => {
                self.memory.no_network = Some(message_of(error));
                self.try_later(&step.subject, now);
            }
            Subject::Network(_) | Subject::Volume(_) => self.is_stuck(step, said, now, reaction),
        }
    }

    /// The engine keeps something that was to go.
    fn is_stuck(&mut self, step: &Step, said: String, now: Duration, reaction: &mut Reaction) {
        self.memory.stuck.insert(step.subject.clone());
        reaction.reports.push(Report::StepFailed(step.clone(), said.clone()));
        self.outcome.stuck.insert(step.subject.clone(), said);
        self.try_later(&step.subject, now);
    }

    /// Whether a service wants an image that is built.
    pub(super) fn wants_built(&self, image: &str) -> bool {
        self.desired.services.values().any(|service| service.build.is_some() && service.config.image == image)
    }

    pub(super) fn give_up(&mut self, step: &Step, message: String, now: Duration, reaction: &mut Reaction) {
        match &step.subject {
            Subject::Service(service) => {
                self.fail_step(service, Reason::NonConvergent, message, step, now, reaction);
            }
            Subject::Image(image) if step.verb != Verb::RemoveImage => {
                self.memory.unavailable.insert(image.clone(), message);
                self.try_later(&step.subject, now);
            }
            subject => {
                self.memory.stuck.insert(subject.clone());
                self.memory.no_network = Some(message.clone());
                self.outcome.stuck.insert(subject.clone(), message);
                self.try_later(subject, now);
            }
        }
    }

    pub(super) fn fail_step(
        &mut self,
        service: &str,
        reason: Reason,
        message: String,
        step: &Step,
        now: Duration,
        reaction: &mut Reaction,
    ) {
        let Some(observed) = &self.observed else { return };
        let container = step.verb.container().cloned();
        let failure = plan::failure(&self.desired, observed, service, reason, message, container);
        self.fail(failure, Vec::new(), now, reaction);
    }

    /// Remembers a failure for as long as it holds, and tells it.
    pub(super) fn fail(
        &mut self,
        mut failure: Failure,
        mut output: Vec<String>,
        now: Duration,
        reaction: &mut Reaction,
    ) {
        if failure.reason == Reason::BuildFailed {
            // Below why it failed stands what it said last.
            let mut lines = failure.message.lines().map(str::to_owned);
            let why = lines.next().unwrap_or_default();
            output.extend(lines);
            failure.message = why;
        }
        let why = failure.container.as_ref().and_then(|container| self.unanswered.get(&container.id));
        if let (Some(why), Reason::NotReady) = (why, failure.reason) {
            failure.message = format!("{} ({why})", failure.message);
        }
        let mut failed = Failed { failure: failure.clone(), output, count: 1, retry: None };
        let service = failure.service.clone();
        let before = self.memory.backoffs.get(&service);
        let retry_policy = retry_policy(&failure, self.desired.services.get(&service), before, self.watching.is_some());
        match retry_policy {
            RetryPolicy::OnSpecChange => {
                self.memory.failed.insert(service.clone(), failure);
            }
            RetryPolicy::AfterBackoff => {
                if let (Reason::Exited, Some(container)) = (failure.reason, &failure.container) {
                    // That it ended is taken in; what ends next is another time.
                    self.memory.started.remove(&container.id);
                }
                // What was begun for it counts from here again.
                self.begun.retain(|(subject, _), _| subject.name() != service);
                let setback = Backoff::after(self.memory.backoffs.get(&service), failure, now);
                (failed.count, failed.retry) = (setback.count, Some(setback.retry - now));
                self.memory.backoffs.insert(service.clone(), setback);
            }
            RetryPolicy::WhileObserved => {}
        }
        if self.watching.is_some() {
            self.note_exit(&failed.failure);
            self.begun.retain(|(subject, _), _| subject.name() != service);
            self.clear_forced_replacement(&service);
            let requires_replacement =
                self.desired.services.get(&service).is_some_and(|it| requires_replacement(&failed.failure, it));
            if let Some(container) = failed.failure.container.as_ref().filter(|_| requires_replacement) {
                self.memory.forced_replacements.insert(container.id.clone(), "health");
            }
        }
        self.reporter.news(&Subject::Service(service.clone()));
        self.reporter.failed.insert(service.clone());
        let event =
            if failed.failure.reason == Reason::Unhealthy { LifecycleEvent::Unhealthy } else { LifecycleEvent::Failed };
        self.dispatch_hooks(&service, event, None, reaction);
        self.outcome.failed.insert(service, failed.clone());
        reaction.reports.push(Report::Failed(failed));
    }

    /// Nothing of it is condemned any longer: to replace it was tried.
    fn clear_forced_replacement(&mut self, service: &str) {
        let Some(observed) = &self.observed else { return };
        self.memory.forced_replacements.retain(|id, _| {
            let container = observed.containers.get(id);
            container.and_then(|container| plan::instance_of(&self.desired, container)).as_deref() != Some(service)
        });
    }

    /// Failures that hold as long as they are seen: new ones are told, old ones forgotten.
    pub(super) fn record_failures(&mut self, seen: BTreeMap<String, Failure>, now: Duration, reaction: &mut Reaction) {
        let gone: Vec<String> =
            self.reporter.seen.keys().filter(|service| !seen.contains_key(*service)).cloned().collect();
        for service in gone {
            self.reporter.seen.remove(&service);
            self.outcome.failed.remove(&service);
        }
        for (service, failure) in seen {
            let text = (failure.reason, failure.message.clone());
            if self.reporter.seen.insert(service, text.clone()) != Some(text) {
                self.fail(failure, Vec::new(), now, reaction);
            }
        }
    }

    /// While watching, what was refused to something else than a service is tried again later.
    fn try_later(&mut self, subject: &Subject, now: Duration) {
        let Some(watching) = &mut self.watching else { return };
        let times = watching.refused.get(subject).map_or(0, |refusal| refusal.times) + 1;
        let retry = Some(now + backoff_delay(BACKOFF_INITIAL, BACKOFF_MAX, times));
        watching.refused.insert(subject.clone(), Refusal { times, retry });
        self.begun.retain(|(other, _), _| other != subject);
    }

    pub(super) fn try_refused_again(&mut self, now: Duration) {
        let Some(watching) = &mut self.watching else { return };
        for (subject, refusal) in &mut watching.refused {
            if refusal.retry.is_some_and(|retry| now >= retry) {
                refusal.retry = None;
                self.memory.unavailable.remove(subject.name());
                self.memory.stuck.remove(subject);
                self.outcome.stuck.remove(subject);
                self.memory.no_network = None;
            }
        }
    }

    pub(super) fn next_refused(&self) -> Option<Duration> {
        self.watching.as_ref()?.refused.values().filter_map(|refusal| refusal.retry).min()
    }

    /// A step succeeded: what it is about is not refused, and the difference that it was for is put right.
    pub(super) fn record_correction(&mut self, step: &Step, now: Duration) {
        let Some(watching) = &mut self.watching else { return };
        watching.refused.remove(&step.subject);
        if !matches!(step.verb, Verb::Update { .. } | Verb::Rename { .. } | Verb::Connect { .. }) {
            return;
        }
        // Who is replaced may be attached anew on the way, which is not what was told of it.
        let attaches = matches!(step.verb, Verb::Connect { .. });
        for field in self.reporter.differing(&step.subject).into_iter().filter(|field| !attaches || field == "network")
        {
            let fight =
                watching.drift.entry((step.subject.clone(), field)).or_insert(DriftCount { times: 0, last: now });
            fight.times = if now > fight.last + DRIFT_WINDOW { 1 } else { fight.times + 1 };
            fight.last = now;
        }
    }

    /// Whether a difference is there again that was put right too often: it is left alone from now on.
    pub(super) fn is_flapping(&mut self, plan: &Plan, now: Duration, reaction: &mut Reaction) -> bool {
        let Some(watching) = &mut self.watching else { return false };
        watching.drift.retain(|_, fight| now <= fight.last + DRIFT_WINDOW);
        let fought = |subject: &Subject, field: &str| {
            let fight = watching.drift.get(&(subject.clone(), field.to_owned()));
            fight.is_some_and(|fight| fight.times >= MAX_CORRECTIONS)
        };
        let found = plan.changes.iter().find_map(|change| {
            let Subject::Service(service) = &change.subject else { return None };
            let is_new = self.reporter.differing(&change.subject).is_empty();
            let cause = change.causes.iter().find(|cause| fought(&change.subject, &cause.field))?;
            let drift = matches!(change.action, Action::Update | Action::Replace);
            (drift && is_new).then(|| (service.clone(), cause.field.clone()))
        });
        let (Some((service, field)), Some(observed)) = (found, &self.observed) else { return false };
        let message = format!(
            "`{field}` was put right {MAX_CORRECTIONS} times, and each time somebody changed it back; it is left alone until the \
             spec changes"
        );
        let failure = plan::failure(&self.desired, observed, &service, Reason::NonConvergent, message, None);
        let failed = Failed { failure, output: Vec::new(), count: MAX_CORRECTIONS, retry: None };
        self.memory.contested.entry(service.clone()).or_default().insert(field);
        self.outcome.failed.insert(service, failed.clone());
        reaction.reports.push(Report::Failed(failed));
        true
    }

    /// What a container exited with, for whoever asks later.
    fn note_exit(&mut self, failure: &Failure) {
        let state = failure.container.as_ref().and_then(|container| {
            self.observed.as_ref()?.containers.get(&container.id).map(|container| container.state)
        });
        if let (Some(watching), Some(State::Exited { code: Some(code) })) = (&mut self.watching, state) {
            watching.exits.insert(failure.service.clone(), code);
        }
    }
}

/// What the engine said, without what was attempted: that is in the sentence around it.
pub(super) fn message_of(error: &EngineError) -> String {
    match error {
        EngineError::NotFound { message, .. }
        | EngineError::Conflict { message, .. }
        | EngineError::Refused { message, .. } => message.clone(),
        error => error.to_string(),
    }
}
