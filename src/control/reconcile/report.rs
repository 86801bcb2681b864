//! Reports for the user: each difference, wait, failure and ready service once. Decides nothing.

use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;

use super::core::Core;
use crate::control::event::{Reaction, Report};
use crate::desired::{LifecycleEvent, Service};
use crate::plan::cause::{Cause, WantedState};
use crate::plan::instance_of;
use crate::plan::step::{Action, Change, Plan, Reason, Step, Subject, Wait};
use crate::spec::model::Check;
use crate::types::{ContainerId, ServiceName};

/// What was reported already.
#[derive(Debug, Default)]
pub(super) struct Reporter {
    pub(super) plan_reported: bool,
    notes: BTreeSet<String>,
    waits: BTreeMap<ServiceName, ReportedWait>,
    ready: BTreeSet<ServiceName>,
    /// Services with a report since they were last reported ready: that they are ready again is reported too.
    marked: BTreeSet<ServiceName>,
    /// Services whose last report is a failure.
    pub(super) failed: BTreeSet<ServiceName>,
    /// In a one-shot run, the services that are being removed.
    removing: BTreeSet<ServiceName>,
    /// Differences that exist now.
    changes: BTreeMap<Subject, Change>,
    /// Services that are unhealthy, with the reason.
    unhealthy: BTreeMap<ServiceName, String>,
    /// Failures that hold only while they are observed.
    pub(super) observed_failures: BTreeMap<ServiceName, (Reason, String)>,
}

/// A wait as it was reported.
#[derive(Debug)]
struct ReportedWait {
    reason: String,
    /// Error of a function, with the time of the report.
    error: Option<(String, Duration)>,
    /// The awaited container.
    container: Option<ContainerId>,
}

/// Minimum time between two reports of errors of one function.
const ERROR_INTERVAL: Duration = Duration::from_secs(5);

impl Reporter {
    /// Marks a service as reported about: that it is ready is reported next.
    pub(super) fn mark(&mut self, subject: &Subject) {
        if let Subject::Service(service) = subject {
            self.marked.insert(service.clone());
        }
    }

    /// Fields in which a subject differs, as reported.
    pub(super) fn differing_fields(&self, subject: &Subject) -> Vec<String> {
        let causes = self.changes.get(subject).map(|change| change.causes.as_slice()).unwrap_or_default();
        causes.iter().map(|cause| cause.path().into_owned()).collect()
    }

    /// Returns true if it is reported that the service is not rebuilt, because its container changes its sources.
    pub(super) fn is_rebuild_stopped(&self, service: &str) -> bool {
        self.observed_failures.get(service).is_some_and(|(reason, _)| *reason == Reason::RebuildLoop)
    }

    /// Returns true if a difference of the service is reported and not resolved yet.
    fn has_change(&self, service: &ServiceName) -> bool {
        self.changes.contains_key(&Subject::Service(service.clone()))
    }
}

impl Core {
    pub(super) fn report(&mut self, plan: &Plan, now: Duration, reaction: &mut Reaction) {
        if self.watching.is_none() {
            self.report_plan(plan, reaction);
        } else {
            self.report_differences(plan, now, reaction);
            self.report_health(plan, reaction);
        }
        self.report_ready(plan, now, reaction);
        let notes = plan.notes.difference(&self.reporter.notes);
        reaction.reports.extend(notes.cloned().map(Report::Note));
        self.reporter.notes.clone_from(&plan.notes);
        for wait in plan.waits.iter().filter(|wait| !wait.quiet) {
            self.report_wait(wait, now, reaction);
        }
        if self.watching.is_some() {
            let waits = |service: &ServiceName| plan.waits.iter().any(|wait| wait.service == *service && !wait.quiet);
            self.reporter.waits.retain(|service, _| waits(service));
        }
    }

    fn report_plan(&mut self, plan: &Plan, reaction: &mut Reaction) {
        if !self.reporter.plan_reported && plan.queries.is_empty() {
            self.reporter.plan_reported = true;
            self.outcome.changes.clone_from(&plan.changes);
            reaction.reports.push(Report::Planned(plan.changes.clone()));
        }
        if plan.queries.is_empty() {
            let is_open = |service: &ServiceName| plan.changes.iter().any(|change| change.subject.name() == &**service);
            let removing = std::mem::take(&mut self.reporter.removing);
            let (open, gone) = removing.into_iter().partition(is_open);
            self.reporter.removing = open;
            reaction.reports.extend(BTreeSet::into_iter(gone).map(Report::Removed));
        }
    }

    /// One-shot run: reports the difference that the first step of a service begins to resolve, and again when a job is
    /// retried. Steps after a failure of a service only undo what was done.
    pub(super) fn report_begin(&mut self, step: &Step, changes: &[Change], reaction: &mut Reaction) {
        let Subject::Service(service) = &step.subject else { return };
        let is_job = self.desired.services.get(service).is_some_and(Service::is_job);
        let is_retry = is_job && self.reporter.failed.contains(service);
        let is_known = self.reporter.marked.contains(service) && !is_retry;
        let change = changes.iter().rfind(|change| change.subject == step.subject);
        let Some(change) = change.filter(|_| self.watching.is_none() && !is_known) else { return };
        self.reporter.failed.remove(service);
        let removes = change.action == Action::Remove;
        if removes {
            self.reporter.removing.insert(service.clone());
        }
        // The spec of an orphan is gone; `down` removes services that have specs.
        let spec = removes && !self.desired.is_empty();
        // A pull that found a newer image: the first plan did not know of it.
        if self.outcome.changes.iter().all(|known| known.subject != change.subject) {
            self.outcome.changes.push(change.clone());
        }
        reaction.reports.push(Report::Reconciling { change: change.clone(), spec });
    }

    fn report_ready(&mut self, plan: &Plan, now: Duration, reaction: &mut Reaction) {
        for name in &plan.ready {
            // A service that was ready all along is reported only if it had to be corrected meanwhile.
            let is_new = match self.watching {
                None => !self.reporter.ready.contains(name),
                Some(_) => !self.reporter.has_change(name),
            };
            if is_new && self.reporter.marked.remove(name) {
                self.reporter.failed.remove(name);
                let is_job = self.desired.services.get(name).is_some_and(Service::is_job);
                let (done, event): (fn(ServiceName) -> Report, _) = if is_job {
                    (Report::Succeeded, LifecycleEvent::Succeeded)
                } else {
                    (Report::Ready, LifecycleEvent::Ready)
                };
                reaction.reports.push(done(name.clone()));
                self.dispatch_hooks(name, event, None, reaction);
            }
        }
        self.reporter.ready.clone_from(&plan.ready);
        for name in &plan.rolled_back {
            let settled = !self.reporter.has_change(name) && !self.reporter.is_rebuild_stopped(name);
            if settled && self.reporter.marked.remove(name) {
                self.reporter.failed.remove(name);
                reaction.reports.push(Report::RolledBack(name.clone()));
            }
        }
        let Some(watching) = &mut self.watching else {
            // A job may have succeeded after a retry.
            self.outcome.failed.retain(|name, _| self.memory.has_failed(name) || !plan.ready.contains(name));
            return;
        };
        watching.edited.retain(|name| !plan.ready.contains(name) && !plan.rolled_back.contains(name));
        watching.removed.retain(|name| !plan.ready.contains(name));
        for name in &plan.ready {
            // Its attempts and earlier failures no longer count.
            self.steps.forget_subject(name);
            let memory = self.memory.services.get(name);
            let holds = self.reporter.observed_failures.contains_key(name)
                || self.memory.pending_backoff(name, now).is_some()
                || memory.is_some_and(|service| service.failure.is_some() || !service.ignored_drift.is_empty());
            if !holds {
                self.outcome.failed.remove(name);
            }
        }
    }

    /// Reports what a service waits for, without how far that is: `waiting for appdb, which is starting` ends before the
    /// comma.
    fn report_wait(&mut self, wait: &Wait, now: Duration, reaction: &mut Reaction) {
        let reason = match wait.blocked {
            true => &wait.reason,
            false => wait.reason.split(", which").next().unwrap_or_default(),
        };
        let container = wait.awaited.as_ref().map(|awaited| awaited.container.clone());
        let error = container.as_ref().and_then(|id| self.function_error(id)).cloned();
        let before = self.reporter.waits.get(&wait.service);
        let is_known = before.is_some_and(|before| before.reason == reason);
        let last = before.and_then(|before| before.error.as_ref()).filter(|_| is_known);
        let error = match (error, last) {
            // Errors of a function may change with every attempt.
            (Some(error), Some((text, at))) if *text == error || now < *at + ERROR_INTERVAL => {
                Some((text.clone(), *at))
            }
            (error, _) => error.map(|error| (error, now)),
        };
        let shown = match &error {
            Some((error, _)) => format!("{reason} ({error})"),
            None => reason.to_owned(),
        };
        let is_new = !is_known || error.is_some() && error.as_ref() != last;
        let reported = ReportedWait { reason: reason.to_owned(), error, container };
        // While watching, a probe that is repeated because the engine was lost is not reported.
        let silent = self.watching.is_some() && wait.awaited.is_some() && !self.reporter.marked.contains(&wait.service);
        self.reporter.waits.insert(wait.service.clone(), reported);
        if is_new && !silent {
            if self.watching.is_some() {
                self.reporter.marked.insert(wait.service.clone());
            }
            let (service, blocked) = (wait.service.clone(), wait.blocked);
            reaction.reports.push(Report::Waiting { service, reason: shown, blocked });
        }
    }

    /// Error of the last call of a function that is the ping of a container.
    fn function_error(&self, container: &ContainerId) -> Option<&String> {
        let work = self.containers.get(container)?;
        let is_function = matches!(work.probe.as_ref()?.ping.check, Check::Function(_));
        work.probe_error.as_ref().filter(|_| is_function)
    }

    /// Reports each difference once. What follows from a reported difference is not reported until its service is ready.
    fn report_differences(&mut self, plan: &Plan, now: Duration, reaction: &mut Reaction) {
        // A container that is not inspected yet may still differ.
        let complete = plan.queries.is_empty();
        // A replacement that failed was reported; it is reported again when it is retried.
        let has_failed = |change: &&Change| {
            let service = change.subject.name();
            let backoff = self.memory.pending_backoff(service, now);
            change.action == Action::Replace
                && (self.memory.has_failed(service)
                    || self.reporter.is_rebuild_stopped(service)
                    || backoff.is_some_and(|backoff| backoff.failure.replaces))
        };
        let open = plan.changes.iter().filter(|change| !has_failed(change));
        let open: BTreeMap<&Subject, &Change> = open.map(|change| (&change.subject, change)).collect();
        let gone: Vec<Subject> =
            self.reporter.changes.keys().filter(|subject| complete && !open.contains_key(subject)).cloned().collect();
        for subject in gone {
            self.reporter.changes.remove(&subject);
            let Subject::Service(service) = subject else { continue };
            let exists = self.snapshot.observed.as_ref().is_some_and(|observed| {
                observed
                    .of_group(&self.desired.group)
                    .any(|container| instance_of(&self.desired, container).as_deref() == Some(&*service))
            });
            if !exists && !self.desired.services.contains_key(&service) {
                self.reporter.marked.remove(&service);
                self.outcome.failed.remove(&service);
                reaction.reports.push(Report::Removed(service));
            }
        }
        for (subject, change) in open {
            let change = &self.original_change(change);
            let before = self.reporter.changes.insert(subject.clone(), change.clone());
            let known = before.is_some_and(|before| before.action == change.action && before.causes == change.causes);
            let follows = matches!(change.action, Action::Start | Action::Create)
                && matches!(subject, Subject::Service(service) if self.reporter.marked.contains(service))
                && !self.reporter.failed.contains(subject.name());
            // The last rebuild is being completed.
            let completes = |cause: &Cause| matches!(cause, Cause::NoContainer { candidate: Some(_), .. });
            let follows =
                follows || self.reporter.is_rebuild_stopped(subject.name()) && change.causes.iter().all(completes);
            if known || follows {
                continue;
            }
            let spec = self.watching.as_ref().is_some_and(|watching| watching.edited.contains(subject.name()));
            self.reporter.mark(subject);
            self.reporter.failed.remove(subject.name());
            if self.is_recording() {
                self.outcome.changes.push(change.clone());
            }
            reaction.reports.push(Report::Reconciling { change: change.clone(), spec });
        }
    }

    /// A container that was removed externally is reported as removed, not as missing.
    fn original_change(&self, change: &Change) -> Change {
        let mut change = change.clone();
        let service = change.subject.name();
        let removed = self.watching.as_ref().is_some_and(|watching| watching.removed.contains(service));
        if removed
            && change.action == Action::Create
            && change.causes.iter().all(|cause| matches!(cause, Cause::NoContainer { .. }))
        {
            change.causes = vec![Cause::State { found: None, wanted: WantedState::Running }];
        }
        change
    }

    fn report_health(&mut self, plan: &Plan, reaction: &mut Reaction) {
        for (service, why) in &plan.unhealthy {
            if self.reporter.unhealthy.insert(service.clone(), why.clone()).is_none() {
                reaction.reports.push(Report::Unhealthy { service: service.clone(), why: why.clone() });
                self.dispatch_hooks(service, LifecycleEvent::Unhealthy, None, reaction);
            }
        }
        let well: Vec<ServiceName> = plan
            .ready
            .iter()
            .filter(|name| !plan.unhealthy.contains_key(*name) && self.reporter.unhealthy.contains_key(*name))
            .cloned()
            .collect();
        for service in well {
            self.reporter.unhealthy.remove(&service);
            // Otherwise it is reported as ready.
            if !self.reporter.marked.contains(&service) {
                reaction.reports.push(Report::Healthy(service));
            }
        }
        self.reporter.unhealthy.retain(|service, _| self.desired.services.contains_key(service));
    }

    /// What a service waits for, with the error of the last readiness probe.
    pub(super) fn waiting_for(&self, service: &str) -> Option<String> {
        let ReportedWait { reason, container, .. } = self.reporter.waits.get(service)?;
        let work = container.as_ref().and_then(|container| self.containers.get(container));
        Some(match work.and_then(|work| work.probe_error.as_ref()) {
            Some(error) => format!("{reason} ({error})"),
            None => reason.clone(),
        })
    }

    pub(super) fn is_unhealthy(&self, service: &str) -> bool {
        self.reporter.unhealthy.contains_key(service)
    }
}
