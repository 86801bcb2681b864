//! Failure policy: recheck, retry, give up or ignore. `plan::backoff` defines how long a failure holds.

use std::collections::BTreeMap;
use std::time::Duration;

use super::core::Core;
use super::snapshot::RETRY_PAUSE;
use super::steps::MAX_ATTEMPTS;
use crate::control::error::StepError;
use crate::control::event::{Failed, Reaction, RemovalError, Report};
use crate::desired::{Kind, LifecycleEvent};
use crate::engine::EngineError;
use crate::observed::{GroupSummary, Observed, State};
use crate::plan;
use crate::plan::backoff::{
    BACKOFF_INITIAL, BACKOFF_MAX, Backoff, RetryPolicy, backoff_delay, requires_replacement, retry_policy,
};
use crate::plan::memory::ForceReason;
use crate::plan::step::{Action, Failure, Plan, Reason, Step, Subject, Verb};
use crate::types::ServiceName;

/// How often drift in a field is corrected before it is ignored.
const MAX_CORRECTIONS: u32 = 3;
/// Drift that stays away for this long is counted from the start.
const DRIFT_WINDOW: Duration = Duration::from_secs(60);

/// What to do if the engine allocates a port twice; the planner has found no container that publishes it.
const PORT_RESERVED: &str = "if `docker ps` shows no container with this port, the engine still reserves it after it was killed: restart the engine";

/// What the engine says if it has no address range left for a network: until 27, and since 28.
const NO_ADDRESSES: [&str; 2] =
    ["non-overlapping IPv4 address pool", "all predefined address pools have been fully subnetted"];

/// How addresses can be freed.
fn free_addresses(observed: &Observed) -> String {
    let groups = observed.groups();
    let is_idle = |group: &&GroupSummary| group.running == 0 && !group.networks.is_empty();
    let idle: Vec<&str> = groups.iter().filter(|(_, group)| is_idle(group)).map(|(name, _)| *name).collect();
    let subnet = "or set `subnet` in the Group document";
    match idle.first() {
        None => format!("; no address range is left: remove networks (`docker network prune`), {subnet}"),
        Some(first) => format!(
            "; groups without running containers hold networks: {}; `drillmaster ls` shows their directories, and \
             `drillmaster down --group {first} --specs DIRECTORY` (or `drillmaster prune`, if the directory is gone) \
             removes them; {subnet}",
            idle.join(", ")
        ),
    }
}

/// Failure of a step of a service.
#[derive(Debug)]
pub(super) struct StepFailure {
    pub(super) reason: Reason,
    pub(super) message: String,
    /// The container failed by itself while the engine was well: it would fail again.
    pub(super) own_fault: bool,
}

/// Corrections of a field, while watching.
#[derive(Debug, Clone, Copy)]
pub(super) struct DriftCount {
    times: u32,
    last: Duration,
}

/// An image, network or volume whose step failed, while watching.
#[derive(Debug, Clone, Copy)]
pub(super) struct FailedSubject {
    times: u32,
    /// When the step is retried; `None`: it is being retried.
    retry: Option<Duration>,
}

impl Core {
    /// A step failed.
    pub(super) fn step_failed(&mut self, step: &Step, error: &StepError, now: Duration, reaction: &mut Reaction) {
        if let Verb::Hook { point, .. } = step.verb {
            self.hook_failed(step, point, error, now, reaction);
            return;
        }
        match error {
            StepError::Engine(error) => self.engine_failed(step, error, now, reaction),
            StepError::Hook(_) | StepError::Output(_) => {
                let message = format!("succeeded, but {error}");
                self.fail_step(
                    step,
                    StepFailure { reason: Reason::OutputInvalid, message, own_fault: true },
                    now,
                    reaction,
                );
            }
            StepError::Obsolete => {
                self.snapshot.dirty = true;
                self.steps.forget(step);
            }
        }
    }

    /// The engine did not carry out a step, as far as is known: its reply may be lost. So list again, and retry the step
    /// if it is still needed, but not without end.
    fn engine_failed(&mut self, step: &Step, error: &EngineError, now: Duration, reaction: &mut Reaction) {
        self.snapshot.dirty = true;
        if step.verb == Verb::Build && !self.is_built(step.subject.name()) {
            // Its sources have changed meanwhile.
            self.steps.forget(step);
            return;
        }
        self.steps.not_before.insert(step.subject.clone(), now + RETRY_PAUSE);
        if self.watching.is_some() && matches!(error, EngineError::Unreachable { .. }) {
            // The engine was lost, which the next list reports; the step did not fail.
            self.steps.forget(step);
            return;
        }
        let may_retry = self.steps.attempts_of(step) < MAX_ATTEMPTS;
        let again = match error {
            EngineError::Refused { .. } | EngineError::Invalid { .. } | EngineError::PortAllocated { .. } => {
                matches!(step.verb, Verb::Stop(_) | Verb::Remove { .. }) && may_retry
            }
            // It took a minute, and is retried with backoff in any case.
            EngineError::TimedOut { .. } if self.watching.is_some() => false,
            _ => may_retry,
        };
        if again {
            tracing::debug!(%error, %step, "step failed, listing again");
            return;
        }
        let said = error.to_string();
        match &step.subject {
            Subject::Service(_) => {
                let reason = match (&step.verb, error) {
                    (_, EngineError::TimedOut { .. } | EngineError::Unreachable { .. }) => Reason::EngineHangs,
                    (Verb::Create { .. }, _) => Reason::CreateFailed,
                    _ => Reason::StartFailed,
                };
                // The text of the step has the name of the container, the error only its id.
                let message = match (error, step.to_string().split_once(": ")) {
                    (EngineError::TimedOut { .. } | EngineError::Unreachable { .. }, _) | (_, None) => said,
                    (_, Some((_, attempted))) => format!("cannot {attempted}: {}", message_of(error)),
                };
                let message = match error {
                    EngineError::PortAllocated { .. } => format!("{message}; {PORT_RESERVED}"),
                    _ => message,
                };
                // A container that cannot be started as its spec says fails by itself.
                let own_fault = reason == Reason::StartFailed && matches!(error, EngineError::Invalid { .. });
                self.fail_step(step, StepFailure { reason, message, own_fault }, now, reaction);
            }
            Subject::Image(_) if step.verb == Verb::RemoveImage => self.removal_failed(step, error, now, reaction),
            Subject::Image(image) => {
                reaction.reports.push(Report::StepFailed(step.clone(), said));
                self.memory.images.unavailable.insert(image.clone(), message_of(error));
                let same_again = step.verb == Verb::Build && matches!(error, EngineError::Invalid { .. });
                if !same_again {
                    self.retry_later(&step.subject, now);
                }
            }
            Subject::Network(_) if step.verb == Verb::CreateNetwork => {
                let message = message_of(error);
                let is_exhausted = NO_ADDRESSES.iter().any(|text| message.contains(text));
                let hint = self.snapshot.observed.as_ref().filter(|_| is_exhausted).map(free_addresses);
                let message = message + &hint.unwrap_or_default();
                self.memory.network_errors.insert(step.subject.name().to_owned(), message);
                self.retry_later(&step.subject, now);
            }
            Subject::Network(_) | Subject::Volume(_) | Subject::Container(_) => {
                self.removal_failed(step, error, now, reaction)
            }
        }
    }

    fn removal_failed(&mut self, step: &Step, error: &EngineError, now: Duration, reaction: &mut Reaction) {
        let active_endpoints = matches!(error, EngineError::ActiveEndpoints { .. });
        let error = error.to_string();
        self.memory.removal_failed.insert(step.subject.clone());
        if self.is_cleanup(step) {
            // Nothing depends on it: it is tried again by the next run, or on request.
            reaction.reports.push(Report::StepFailed(step.clone(), format!("{error}; the image stays")));
            return;
        }
        reaction.reports.push(Report::StepFailed(step.clone(), error.clone()));
        self.outcome.stuck.insert(step.subject.clone(), RemovalError { error, active_endpoints });
        self.retry_later(&step.subject, now);
    }

    /// Returns true if a step only removes an image of an earlier build, which nobody has requested.
    fn is_cleanup(&self, step: &Step) -> bool {
        step.verb == Verb::RemoveImage && !self.desired.mode.purges_images()
    }

    /// Returns true if the image is built for a service in the specs.
    pub(super) fn is_built(&self, image: &str) -> bool {
        self.desired.services.values().any(|service| service.build.is_some() && service.config.image == image)
    }

    pub(super) fn give_up(&mut self, step: &Step, message: String, now: Duration, reaction: &mut Reaction) {
        match &step.subject {
            Subject::Service(_) => {
                let failure = StepFailure { reason: Reason::NonConvergent, message, own_fault: false };
                self.fail_step(step, failure, now, reaction);
            }
            Subject::Image(image) if step.verb != Verb::RemoveImage => {
                self.memory.images.unavailable.insert(image.clone(), message);
                self.retry_later(&step.subject, now);
            }
            subject if self.is_cleanup(step) => {
                self.memory.removal_failed.insert(subject.clone());
                reaction.reports.push(Report::StepFailed(step.clone(), message));
            }
            subject => {
                self.memory.removal_failed.insert(subject.clone());
                self.memory.network_errors.insert(subject.name().to_owned(), message.clone());
                let stuck = RemovalError { error: message, active_endpoints: false };
                self.outcome.stuck.insert(subject.clone(), stuck);
                self.retry_later(subject, now);
            }
        }
    }

    pub(super) fn fail_step(&mut self, step: &Step, failure: StepFailure, now: Duration, reaction: &mut Reaction) {
        let StepFailure { reason, message, own_fault } = failure;
        let Some(observed) = &self.snapshot.observed else { return };
        let container = step.verb.container().cloned();
        let failure = plan::failure(&self.desired, observed, step.subject.name(), reason, message, container);
        self.fail(Failure { own_fault, ..failure }, Vec::new(), now, reaction);
    }

    /// Remembers a failure for as long as it holds, and reports it.
    pub(super) fn fail(
        &mut self,
        mut failure: Failure,
        mut output: Vec<String>,
        now: Duration,
        reaction: &mut Reaction,
    ) {
        if failure.reason == Reason::BuildFailed {
            // The first line is the error, the rest is the end of the build's output.
            let mut lines = failure.message.lines().map(str::to_owned);
            let error = lines.next().unwrap_or_default();
            output.extend(lines);
            failure.message = error;
        }
        let work = failure.container.as_ref().and_then(|container| self.containers.get(&container.id));
        if let (Some(error), Reason::NotReady) = (work.and_then(|work| work.probe_error.as_ref()), failure.reason) {
            failure.message = format!("{} ({error})", failure.message);
        }
        let (count, retry) = self.remember(&failure, now);
        let service = failure.service.clone();
        let retries = match self.desired.services.get(&service).map(|service| service.kind) {
            Some(Kind::Job(job)) => Some(job.retries),
            _ => None,
        };
        let failed = Failed { failure, output, count, retry, retries };
        if self.watching.is_some() {
            self.note_exit(&failed.failure);
            self.steps.forget_subject(&service);
            self.clear_forced_replacement(&service);
            let spec = self.desired.services.get(&service);
            if let Some(container) = &failed.failure.container
                && spec.is_some_and(|spec| requires_replacement(&failed.failure, spec))
            {
                self.memory.container_mut(&container.id).force_replace = Some(ForceReason::Unhealthy);
            }
        }
        self.reporter.mark(&Subject::Service(service.clone()));
        self.reporter.failed.insert(service.clone());
        let is_unhealthy = failed.failure.reason == Reason::Unhealthy;
        let event = if is_unhealthy { LifecycleEvent::Unhealthy } else { LifecycleEvent::Failed };
        self.dispatch_hooks(&service, event, None, reaction);
        self.outcome.failed.insert(service, failed.clone());
        reaction.reports.push(Report::Failed(failed));
    }

    /// Remembers a failure. Returns how often in a row it has happened, and in how long it is retried.
    fn remember(&mut self, failure: &Failure, now: Duration) -> (u32, Option<Duration>) {
        let spec = self.desired.services.get(&failure.service);
        let before = self.memory.backoff(&failure.service);
        match retry_policy(failure, spec, before, self.watching.is_some()) {
            RetryPolicy::OnSpecChange => {
                self.memory.service_mut(&failure.service).failure = Some(failure.clone());
                (1, None)
            }
            RetryPolicy::AfterBackoff => {
                let backoff = Backoff::after(before, failure.clone(), now);
                let result = (backoff.count, Some(backoff.retry - now));
                if let (Reason::Exited, Some(container)) = (failure.reason, &failure.container) {
                    // This exit is counted; the next one belongs to another start.
                    self.memory.container_mut(&container.id).started_at = None;
                }
                self.steps.forget_subject(&failure.service);
                self.memory.service_mut(&failure.service).backoff = Some(backoff);
                result
            }
            RetryPolicy::WhileObserved => (1, None),
        }
    }

    /// A forced replacement is tried once.
    fn clear_forced_replacement(&mut self, service: &str) {
        let Some(observed) = &self.snapshot.observed else { return };
        for (id, memory) in &mut self.memory.containers {
            let container = observed.containers.get(id);
            if container.and_then(|container| plan::instance_of(&self.desired, container)).as_deref() == Some(service) {
                memory.force_replace = None;
            }
        }
    }

    /// Reports new failures among those that hold only while they are observed, and forgets those that are gone.
    pub(super) fn record_failures(
        &mut self,
        failures: BTreeMap<ServiceName, Failure>,
        now: Duration,
        reaction: &mut Reaction,
    ) {
        let known = self.reporter.observed_failures.keys();
        let gone: Vec<ServiceName> = known.filter(|service| !failures.contains_key(*service)).cloned().collect();
        for service in gone {
            self.reporter.observed_failures.remove(&service);
            self.outcome.failed.remove(&service);
        }
        for (service, failure) in failures {
            let text = (failure.reason, failure.message.clone());
            if self.reporter.observed_failures.insert(service, text.clone()) != Some(text) {
                self.fail(failure, Vec::new(), now, reaction);
            }
        }
    }

    /// While watching, a failed step on an image, network or volume is retried with backoff.
    fn retry_later(&mut self, subject: &Subject, now: Duration) {
        let Some(watching) = &mut self.watching else { return };
        let times = watching.failed_subjects.get(subject).map_or(0, |failed| failed.times) + 1;
        let retry = Some(now + backoff_delay(BACKOFF_INITIAL, BACKOFF_MAX, times));
        watching.failed_subjects.insert(subject.clone(), FailedSubject { times, retry });
        self.steps.attempts.retain(|(other, _), _| other != subject);
    }

    /// Forgets the failures of images, networks and volumes whose retry is due.
    pub(super) fn retry_failed_subjects(&mut self, now: Duration) {
        let Some(watching) = &mut self.watching else { return };
        for (subject, failed) in &mut watching.failed_subjects {
            if failed.retry.is_some_and(|retry| now >= retry) {
                failed.retry = None;
                self.memory.images.unavailable.remove(subject.name());
                self.memory.removal_failed.remove(subject);
                self.outcome.stuck.remove(subject);
                self.memory.network_errors.remove(subject.name());
            }
        }
    }

    /// When the next image, network or volume is retried.
    pub(super) fn next_retry(&self) -> Option<Duration> {
        self.watching.as_ref()?.failed_subjects.values().filter_map(|failed| failed.retry).min()
    }

    /// A step succeeded: its subject no longer fails, and drift that it corrects is counted.
    pub(super) fn record_correction(&mut self, step: &Step, now: Duration) {
        let Some(watching) = &mut self.watching else { return };
        watching.failed_subjects.remove(&step.subject);
        if !matches!(step.verb, Verb::Update { .. } | Verb::Rename { .. } | Verb::Connect { .. }) {
            return;
        }
        // A replacement also connects a container, without correcting drift.
        let connects = matches!(step.verb, Verb::Connect { .. });
        let fields = self.reporter.differing_fields(&step.subject);
        for field in fields.into_iter().filter(|field| !connects || field == "network") {
            let key = (step.subject.clone(), field);
            let count = watching.drift.entry(key).or_insert(DriftCount { times: 0, last: now });
            count.times = if now > count.last + DRIFT_WINDOW { 1 } else { count.times + 1 };
            count.last = now;
        }
    }

    /// Returns true if drift has returned that was corrected too often: it is ignored from now on.
    pub(super) fn is_flapping(&mut self, plan: &Plan, now: Duration, reaction: &mut Reaction) -> bool {
        let Some(watching) = &mut self.watching else { return false };
        watching.drift.retain(|_, count| now <= count.last + DRIFT_WINDOW);
        let is_flapping = |subject: &Subject, field: &str| {
            let count = watching.drift.get(&(subject.clone(), field.to_owned()));
            count.is_some_and(|count| count.times >= MAX_CORRECTIONS)
        };
        let found = plan.changes.iter().find_map(|change| {
            let Subject::Service(service) = &change.subject else { return None };
            let is_new = self.reporter.differing_fields(&change.subject).is_empty();
            let cause = change.causes.iter().find(|cause| is_flapping(&change.subject, &cause.path()))?;
            let corrects = matches!(change.action, Action::Update | Action::Replace);
            (corrects && is_new).then(|| (service.clone(), cause.path().into_owned()))
        });
        let (Some((service, field)), Some(observed)) = (found, &self.snapshot.observed) else { return false };
        let message = format!(
            "drift in `{field}` corrected {MAX_CORRECTIONS} times and reverted externally; ignoring it until the spec \
             changes"
        );
        let failure = plan::failure(&self.desired, observed, &service, Reason::NonConvergent, message, None);
        let failed = Failed { failure, output: Vec::new(), count: MAX_CORRECTIONS, retry: None, retries: None };
        self.memory.service_mut(&service).ignored_drift.insert(field);
        self.outcome.failed.insert(service, failed.clone());
        reaction.reports.push(Report::Failed(failed));
        true
    }

    /// Records the exit code of a container that crashed, for `status`.
    fn note_exit(&mut self, failure: &Failure) {
        let container = failure.container.as_ref().and_then(|container| self.snapshot.container(&container.id));
        let state = container.map(|container| container.state);
        if let (Some(watching), Some(State::Exited { code: Some(code) })) = (&mut self.watching, state) {
            watching.exits.insert(failure.service.clone(), code);
        }
    }
}

/// The engine's message, without what was attempted: that is in the sentence around it.
fn message_of(error: &EngineError) -> String {
    error.clone().message_mut().map_or_else(|| error.to_string(), std::mem::take)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::observed::Network;

    #[test]
    fn exhausted_addresses_name_the_idle_groups() {
        let mut observed = Observed::default();
        assert!(free_addresses(&observed).contains("`docker network prune`"));
        for name in ["blog", "shop"] {
            let network = Network {
                id: name.into(),
                name: name.into(),
                group: Some(name.into()),
                source: Some(format!("/{name}/specs")),
                compose_project: None,
                subnets: Vec::new(),
                settings: Default::default(),
            };
            observed.networks.insert(name.into(), network);
        }
        let hint = free_addresses(&observed);
        assert!(hint.contains("hold networks: blog, shop; "), "{hint}");
        assert!(hint.contains("`drillmaster down --group blog --specs DIRECTORY`"), "{hint}");
    }
}
