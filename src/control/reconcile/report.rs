//! What is worth telling, once: differences, waits, who is ready. Part of the controller's mind; changes nothing.

use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;

use super::core::Core;
use crate::control::event::{Reaction, Report};
use crate::desired::{LifecycleEvent, Service};
use crate::plan::instance_of;
use crate::plan::step::{Action, Cause, Change, Plan, Reason, Subject, Wait};

/// What was reported already.
#[derive(Debug, Default)]
pub(super) struct Reporter {
    planned: bool,
    waits: BTreeMap<String, String>,
    ready: BTreeSet<String>,
    /// Services of which something was told since they were ready last.
    news: BTreeSet<String>,
    /// Services of which the last that was told is that they failed.
    pub(super) failed: BTreeSet<String>,
    /// Differences that are there now.
    differs: BTreeMap<Subject, Change>,
    /// Services that are not healthy.
    unhealthy: BTreeMap<String, String>,
    /// Failures that hold as long as they are seen.
    pub(super) seen: BTreeMap<String, (Reason, String)>,
}

impl Reporter {
    /// Something was told of it: that it is ready again is worth telling too.
    pub(super) fn news(&mut self, subject: &Subject) {
        if let Subject::Service(service) = subject {
            self.news.insert(service.clone());
        }
    }

    /// Fields in which a subject differs, as was told.
    pub(super) fn differing(&self, subject: &Subject) -> Vec<String> {
        let causes = self.differs.get(subject).map(|change| change.causes.as_slice()).unwrap_or_default();
        causes.iter().map(|cause| cause.field.clone()).collect()
    }
}

impl Core {
    pub(super) fn report(&mut self, plan: &Plan, now: Duration, reaction: &mut Reaction) {
        if self.watching.is_none() {
            self.report_plan(plan, reaction);
        } else {
            self.report_differences(plan, reaction);
            self.report_health(plan, reaction);
        }
        self.report_ready(plan, now, reaction);
        for wait in plan.waits.iter().filter(|wait| !wait.quiet) {
            self.report_wait(wait, reaction);
        }
        if self.watching.is_some() {
            let waits = |service: &String| plan.waits.iter().any(|wait| wait.service == *service && !wait.quiet);
            self.reporter.waits.retain(|service, _| waits(service));
        }
    }

    fn report_plan(&mut self, plan: &Plan, reaction: &mut Reaction) {
        if !self.reporter.planned && plan.queries.is_empty() {
            self.reporter.planned = true;
            self.outcome.changes.clone_from(&plan.changes);
            reaction.reports.push(Report::Planned(plan.changes.clone()));
        }
    }

    fn report_ready(&mut self, plan: &Plan, now: Duration, reaction: &mut Reaction) {
        for name in &plan.ready {
            // What was ready all along is no news, unless something was to be put right meanwhile.
            let anew = match self.watching {
                None => !self.reporter.ready.contains(name),
                Some(_) => !self.reporter.differs.contains_key(&Subject::Service(name.clone())),
            };
            if anew && self.reporter.news.remove(name) {
                self.reporter.failed.remove(name);
                let is_job = self.desired.services.get(name).is_some_and(Service::is_job);
                let (done, event): (fn(String) -> Report, _) = if is_job {
                    (Report::Succeeded, LifecycleEvent::Succeeded)
                } else {
                    (Report::Ready, LifecycleEvent::Ready)
                };
                reaction.reports.push(done(name.clone()));
                self.dispatch_hooks(name, event, None, reaction);
            }
        }
        self.reporter.ready.clone_from(&plan.ready);
        for name in &plan.serves {
            let settled = !self.reporter.differs.contains_key(&Subject::Service(name.clone()));
            if self.watching.is_some() && settled && self.reporter.news.remove(name) {
                self.reporter.failed.remove(name);
                reaction.reports.push(Report::RolledBack(name.clone()));
            }
        }
        let Some(watching) = &mut self.watching else {
            // A job that was tried again.
            self.outcome.failed.retain(|name, _| self.memory.failed.contains_key(name) || !plan.ready.contains(name));
            return;
        };
        watching.edited.retain(|name| !plan.ready.contains(name) && !plan.serves.contains(name));
        watching.removed.retain(|name| !plan.ready.contains(name));
        for name in &plan.ready {
            // It has come through: what was begun for it, and what it failed with, is past.
            self.begun.retain(|(subject, _), _| subject.name() != name);
            let holds = self.memory.failed.contains_key(name)
                || self.memory.contested.contains_key(name)
                || self.reporter.seen.contains_key(name);
            if !holds && self.memory.backoffs.get(name).is_none_or(|setback| !setback.is_backing_off(now)) {
                self.outcome.failed.remove(name);
            }
        }
    }

    /// `waits for appdb, which is starting`: for whom is worth a line, how far that one is has lines of its own.
    fn report_wait(&mut self, wait: &Wait, reaction: &mut Reaction) {
        let whom = wait.reason.split(", which").next().unwrap_or_default();
        // While watching, a ping that is asked again because the engine was away is no news.
        let silent =
            self.watching.is_some() && wait.awaited.is_some() && !self.reporter.news.contains(wait.service.as_str());
        let before = self.reporter.waits.insert(wait.service.clone(), whom.to_owned());
        if before.as_deref() != Some(whom) && !silent {
            if self.watching.is_some() {
                self.reporter.news.insert(wait.service.clone());
            }
            reaction.reports.push(Report::Waiting { service: wait.service.clone(), reason: whom.to_owned() });
        }
    }

    /// Each difference once; what follows from one that was told, until its service is ready, goes without saying.
    fn report_differences(&mut self, plan: &Plan, reaction: &mut Reaction) {
        // What is not known yet may still differ.
        let complete = plan.queries.is_empty();
        // A replacement that has failed is not going to be tried: it was told when it was.
        let given_up = |change: &&Change| {
            change.action == Action::Replace && self.memory.failed.contains_key(change.subject.name())
        };
        let open = plan.changes.iter().filter(|change| !given_up(change));
        let now: BTreeMap<&Subject, &Change> = open.map(|change| (&change.subject, change)).collect();
        let gone: Vec<Subject> =
            self.reporter.differs.keys().filter(|subject| complete && !now.contains_key(subject)).cloned().collect();
        for subject in gone {
            self.reporter.differs.remove(&subject);
            let Subject::Service(service) = subject else { continue };
            let exists = self.observed.as_ref().is_some_and(|observed| {
                observed
                    .of_group(&self.desired.group)
                    .any(|container| instance_of(&self.desired, container).as_deref() == Some(&service))
            });
            if !exists && !self.desired.services.contains_key(&service) {
                self.reporter.news.remove(&service);
                self.outcome.failed.remove(&service);
                reaction.reports.push(Report::Removed(service));
            }
        }
        for (subject, change) in now {
            let change = &self.original_change(change);
            let before = self.reporter.differs.insert(subject.clone(), change.clone());
            let known = before.is_some_and(|before| before.action == change.action && before.causes == change.causes);
            let follows = matches!(change.action, Action::Start | Action::Create)
                && matches!(subject, Subject::Service(service) if self.reporter.news.contains(service))
                && !self.reporter.failed.contains(subject.name());
            if known || follows {
                continue;
            }
            let spec = self.watching.as_ref().is_some_and(|watching| watching.edited.contains(subject.name()));
            self.reporter.news(subject);
            self.reporter.failed.remove(subject.name());
            if self.is_kept() {
                self.outcome.changes.push(change.clone());
            }
            reaction.reports.push(Report::Reconciling { change: change.clone(), spec });
        }
    }

    /// That there is no container says less than that somebody removed it.
    fn original_change(&self, change: &Change) -> Change {
        let mut change = change.clone();
        let service = change.subject.name();
        let removed = self.watching.as_ref().is_some_and(|watching| watching.removed.contains(service));
        if removed && change.action == Action::Create && change.causes.iter().all(|cause| cause.field == "container") {
            change.causes = vec![Cause::of("state", Some("removed"), Some("running"))];
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
        let well: Vec<String> = plan
            .ready
            .iter()
            .filter(|name| !plan.unhealthy.contains_key(*name) && self.reporter.unhealthy.contains_key(*name))
            .cloned()
            .collect();
        for service in well {
            self.reporter.unhealthy.remove(&service);
            // Another container may have told it by being ready.
            if !self.reporter.news.contains(&service) {
                reaction.reports.push(Report::Healthy(service));
            }
        }
        self.reporter.unhealthy.retain(|service, _| self.desired.services.contains_key(service));
    }

    /// What a service waits for now, as it was told.
    pub(super) fn waits_for(&self, service: &str) -> Option<&String> {
        self.reporter.waits.get(service)
    }

    pub(super) fn is_unhealthy(&self, service: &str) -> bool {
        self.reporter.unhealthy.contains_key(service)
    }
}
