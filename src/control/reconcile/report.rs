//! What is worth telling, once: differences, waits, who is ready. Part of the controller's mind; changes nothing.

use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;

use super::core::Core;
use crate::control::event::{Answer, Report};
use crate::desired::{Occasion, Service};
use crate::plan::instance_of;
use crate::plan::step::{Action, Cause, Change, Plan, Reason, Subject, Wait};

/// What was reported already.
#[derive(Debug, Default)]
pub(super) struct Told {
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

impl Told {
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
    pub(super) fn tell(&mut self, plan: &Plan, now: Duration, answer: &mut Answer) {
        if self.watching.is_none() {
            self.tell_plan(plan, answer);
        } else {
            self.tell_differences(plan, answer);
            self.tell_health(plan, answer);
        }
        self.tell_ready(plan, now, answer);
        for wait in plan.waits.iter().filter(|wait| !wait.quiet) {
            self.tell_wait(wait, answer);
        }
        if self.watching.is_some() {
            let waits = |service: &String| plan.waits.iter().any(|wait| wait.service == *service && !wait.quiet);
            self.told.waits.retain(|service, _| waits(service));
        }
    }

    fn tell_plan(&mut self, plan: &Plan, answer: &mut Answer) {
        if !self.told.planned && plan.looks.is_empty() {
            self.told.planned = true;
            self.outcome.changes.clone_from(&plan.changes);
            answer.reports.push(Report::Planned(plan.changes.clone()));
        }
    }

    fn tell_ready(&mut self, plan: &Plan, now: Duration, answer: &mut Answer) {
        for name in &plan.ready {
            // What was ready all along is no news, unless something was to be put right meanwhile.
            let anew = match self.watching {
                None => !self.told.ready.contains(name),
                Some(_) => !self.told.differs.contains_key(&Subject::Service(name.clone())),
            };
            if anew && self.told.news.remove(name) {
                self.told.failed.remove(name);
                let is_job = self.desired.services.get(name).is_some_and(Service::is_job);
                let (done, occasion): (fn(String) -> Report, _) =
                    if is_job { (Report::Succeeded, Occasion::Succeeded) } else { (Report::Ready, Occasion::Ready) };
                answer.reports.push(done(name.clone()));
                self.occurred(name, occasion, None, answer);
            }
        }
        self.told.ready.clone_from(&plan.ready);
        for name in &plan.serves {
            let settled = !self.told.differs.contains_key(&Subject::Service(name.clone()));
            if self.watching.is_some() && settled && self.told.news.remove(name) {
                self.told.failed.remove(name);
                answer.reports.push(Report::Serves(name.clone()));
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
                || self.told.seen.contains_key(name);
            if !holds && self.memory.setbacks.get(name).is_none_or(|setback| !setback.rests(now)) {
                self.outcome.failed.remove(name);
            }
        }
    }

    /// `waits for appdb, which is starting`: for whom is worth a line, how far that one is has lines of its own.
    fn tell_wait(&mut self, wait: &Wait, answer: &mut Answer) {
        let whom = wait.reason.split(", which").next().unwrap_or_default();
        // While watching, a ping that is asked again because the engine was away is no news.
        let silent =
            self.watching.is_some() && wait.awaited.is_some() && !self.told.news.contains(wait.service.as_str());
        let before = self.told.waits.insert(wait.service.clone(), whom.to_owned());
        if before.as_deref() != Some(whom) && !silent {
            if self.watching.is_some() {
                self.told.news.insert(wait.service.clone());
            }
            answer.reports.push(Report::Waits { service: wait.service.clone(), reason: whom.to_owned() });
        }
    }

    /// Each difference once; what follows from one that was told, until its service is ready, goes without saying.
    fn tell_differences(&mut self, plan: &Plan, answer: &mut Answer) {
        // What is not known yet may still differ.
        let complete = plan.looks.is_empty();
        // A replacement that has failed is not going to be tried: it was told when it was.
        let given_up = |change: &&Change| {
            change.action == Action::Replace && self.memory.failed.contains_key(change.subject.name())
        };
        let open = plan.changes.iter().filter(|change| !given_up(change));
        let now: BTreeMap<&Subject, &Change> = open.map(|change| (&change.subject, change)).collect();
        let gone: Vec<Subject> =
            self.told.differs.keys().filter(|subject| complete && !now.contains_key(subject)).cloned().collect();
        for subject in gone {
            self.told.differs.remove(&subject);
            let Subject::Service(service) = subject else { continue };
            let exists = self.observed.as_ref().is_some_and(|observed| {
                observed
                    .of_group(&self.desired.group)
                    .any(|container| instance_of(&self.desired, container).as_deref() == Some(&service))
            });
            if !exists && !self.desired.services.contains_key(&service) {
                self.told.news.remove(&service);
                self.outcome.failed.remove(&service);
                answer.reports.push(Report::Gone(service));
            }
        }
        for (subject, change) in now {
            let change = &self.as_it_came(change);
            let before = self.told.differs.insert(subject.clone(), change.clone());
            let known = before.is_some_and(|before| before.action == change.action && before.causes == change.causes);
            let follows = matches!(change.action, Action::Start | Action::Create)
                && matches!(subject, Subject::Service(service) if self.told.news.contains(service))
                && !self.told.failed.contains(subject.name());
            if known || follows {
                continue;
            }
            let spec = self.watching.as_ref().is_some_and(|watching| watching.edited.contains(subject.name()));
            self.told.news(subject);
            self.told.failed.remove(subject.name());
            if self.is_kept() {
                self.outcome.changes.push(change.clone());
            }
            answer.reports.push(Report::Differs { change: change.clone(), spec });
        }
    }

    /// That there is no container says less than that somebody removed it.
    fn as_it_came(&self, change: &Change) -> Change {
        let mut change = change.clone();
        let service = change.subject.name();
        let removed = self.watching.as_ref().is_some_and(|watching| watching.removed.contains(service));
        if removed && change.action == Action::Create && change.causes.iter().all(|cause| cause.field == "container") {
            change.causes = vec![Cause::of("state", Some("removed"), Some("running"))];
        }
        change
    }

    fn tell_health(&mut self, plan: &Plan, answer: &mut Answer) {
        for (service, why) in &plan.unhealthy {
            if self.told.unhealthy.insert(service.clone(), why.clone()).is_none() {
                answer.reports.push(Report::Unhealthy { service: service.clone(), why: why.clone() });
                self.occurred(service, Occasion::Unhealthy, None, answer);
            }
        }
        let well: Vec<String> = plan
            .ready
            .iter()
            .filter(|name| !plan.unhealthy.contains_key(*name) && self.told.unhealthy.contains_key(*name))
            .cloned()
            .collect();
        for service in well {
            self.told.unhealthy.remove(&service);
            // Another container may have told it by being ready.
            if !self.told.news.contains(&service) {
                answer.reports.push(Report::Healthy(service));
            }
        }
        self.told.unhealthy.retain(|service, _| self.desired.services.contains_key(service));
    }

    /// What a service waits for now, as it was told.
    pub(super) fn waits_for(&self, service: &str) -> Option<&String> {
        self.told.waits.get(service)
    }

    pub(super) fn is_unhealthy(&self, service: &str) -> bool {
        self.told.unhealthy.contains_key(service)
    }
}
