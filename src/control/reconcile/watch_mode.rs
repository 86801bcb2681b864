//! What only a watch has: specs that change, an engine that goes away and comes back, containers that crash, other
//! processes that ask. Part of the controller's mind.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;
use std::time::Duration;

use super::core::{Core, Subscription};
use super::failures::{DriftCount, Refusal};
use crate::control::event::{Command, Reaction, Reading, Report, RequestId, RequestKind};
use crate::desired::{Desired, GroupEvent, HookPoint, Service};
use crate::engine::{ContainerExit, EngineError, Result};
use crate::identity::{Identity, candidate_name};
use crate::observed::State;
use crate::plan::backoff::{BACKOFF_RESET_AFTER, Backoff};
use crate::plan::step::{Plan, Probe, Reason, Subject, Verb};
use crate::plan::{self, instance_of};
use crate::status::{ControllerStatus, ServiceActivity};

/// A container that somebody asked the engine to end ends within this time, or for another reason.
const EXTERNAL_STOP_TIMEOUT: Duration = Duration::from_secs(60);
/// For so long an engine that has come back may still be ending what ran when it went.
const COMING_BACK: Duration = Duration::from_secs(15);

/// The state of a watch beside that of any run.
#[derive(Debug)]
pub(super) struct Watching {
    past: Past,
    /// Why the engine does not answer.
    gone: Option<EngineError>,
    /// When it came back.
    back: Option<Duration>,
    /// Containers that somebody asked the engine to end, and when.
    killed: BTreeMap<String, Duration>,
    /// What was refused to images, networks and volumes.
    pub(super) refused: BTreeMap<Subject, Refusal>,
    /// Differences that were put right.
    pub(super) drift: BTreeMap<(Subject, String), DriftCount>,
    /// Services whose containers somebody removed.
    pub(super) removed: BTreeSet<String>,
    /// Exit codes of the last crashes, by service.
    pub(super) exits: BTreeMap<String, i64>,
    /// Services whose specs were changed and that were not ready since.
    pub(super) edited: BTreeSet<String>,
    /// Who waits until everything is settled.
    tickets: BTreeSet<RequestId>,
    /// Everything was settled once.
    settled: bool,
}

/// What the engine remembers of the time before.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Past {
    Unknown,
    Asked,
    Known,
}

impl Watching {
    pub(super) fn new() -> Watching {
        Watching {
            past: Past::Unknown,
            gone: None,
            back: None,
            killed: BTreeMap::new(),
            refused: BTreeMap::new(),
            drift: BTreeMap::new(),
            removed: BTreeSet::new(),
            exits: BTreeMap::new(),
            edited: BTreeSet::new(),
            tickets: BTreeSet::new(),
            settled: false,
        }
    }

    /// Whether somebody will want to know what was done until now.
    pub(super) fn is_awaited(&self) -> bool {
        !self.settled || !self.tickets.is_empty()
    }
}

impl Core {
    // The specs.

    pub(super) fn specs_changed(&mut self, reaction: &mut Reaction) {
        if self.intake.on_change() {
            reaction.commands.push(Command::ReadSpecs);
        }
    }

    /// Reads once more what was doubted.
    pub(super) fn look_up_specs(&mut self, now: Duration, reaction: &mut Reaction) {
        if self.intake.confirm_is_due(now) {
            reaction.commands.push(Command::ReadSpecs);
        }
    }

    pub(super) fn specs(&mut self, reading: Reading, now: Duration, reaction: &mut Reaction) {
        let outputs = self.rereading;
        let (desired, report) = self.intake.accept(reading, &self.desired, now);
        match self.intake.is_stale() {
            true => reaction.commands.push(Command::ReadSpecs),
            false => self.rereading = false,
        }
        reaction.reports.extend(report);
        if let Some(desired) = desired {
            self.adopt(desired, outputs);
            self.end_builds(reaction);
        }
    }

    /// Takes up a new desired state. What was remembered of a service holds as long as its spec does. `outputs`: the
    /// specs are those from before, made of other outputs.
    fn adopt(&mut self, desired: Desired, outputs: bool) {
        let names: BTreeSet<&String> = desired.services.keys().chain(self.desired.services.keys()).collect();
        let changed = |name: &&&String| match (self.desired.services.get(**name), desired.services.get(**name)) {
            (Some(old), Some(new)) => !same(old, new),
            _ => true,
        };
        for name in names.iter().filter(changed) {
            let (old, new) = (self.desired.services.get(*name), desired.services.get(*name));
            self.memory.hooks_run.retain(|(service, moment), hooks_run| {
                if service == *name {
                    hooks_run.done = hooks_run.done.min(still_done(*moment, old, new, outputs));
                }
                hooks_run.done > 0
            });
            self.memory.failed.remove(*name);
            self.memory.backoffs.remove(*name);
            self.memory.contested.remove(*name);
            self.memory.ran.remove(*name);
            self.outcome.failed.remove(*name);
            self.reporter.seen.remove(*name);
            self.begun.retain(|(subject, _), _| subject.name() != *name);
            if let Some(watching) = &mut self.watching {
                watching.drift.retain(|(subject, _), _| subject.name() != *name);
                watching.exits.remove(*name);
                watching.edited.insert((*name).clone());
            }
        }
        if let Some(watching) = &mut self.watching {
            watching.edited.retain(|name| desired.services.contains_key(name));
        }
        // What is no longer desired wants to be parted from as it was specified.
        let parting = self.desired.services.iter().chain(&self.desired.parting);
        let parting = parting.filter(|(name, _)| !desired.services.contains_key(*name));
        let parting = parting.map(|(name, service)| (name.clone(), service.clone())).collect();
        self.desired = Arc::new(Desired { parting, ..desired });
    }

    /// Ends builds of what nobody wants any longer, and forgets what became of others.
    fn end_builds(&mut self, reaction: &mut Reaction) {
        let wanted: BTreeSet<&String> = self.desired.services.values().map(|service| &service.config.image).collect();
        self.memory.unavailable.retain(|image, _| wanted.contains(image));
        let builds = self.busy.values().filter(|begun| begun.step.verb == Verb::Build);
        let images = builds.map(|begun| begun.step.subject.name()).filter(|image| !self.wants_built(image));
        reaction.commands.extend(images.map(|image| Command::EndBuild(image.to_owned())));
    }

    // The engine.

    /// It does not answer; told once.
    pub(super) fn engine_is_gone(&mut self, error: EngineError, reaction: &mut Reaction) {
        let Some(watching) = &mut self.watching else { return };
        if watching.gone.replace(error.clone()).is_none() {
            reaction.reports.push(Report::EngineLost(error));
        }
    }

    pub(super) fn engine_is_back(&mut self, now: Duration, reaction: &mut Reaction) {
        if self.subscription == Subscription::Stands
            && let Some(watching) = &mut self.watching
            && watching.gone.take().is_some()
        {
            watching.back = Some(now);
            // What was late or silent meanwhile had a reason.
            self.memory.awaited.clear();
            self.memory.lasting.clear();
            self.memory.pings.clear();
            reaction.reports.push(Report::EngineReconnected);
        }
    }

    /// Whatever happened while nobody listened: every container is looked at again and has to prove itself. What ended
    /// meanwhile is no crash of its own.
    pub(super) fn resync(&mut self) {
        if self.watching.is_none() {
            return;
        }
        self.memory.started.clear();
        self.memory.answered.clear();
        self.memory.awaited.clear();
        self.memory.lasting.clear();
        self.memory.pings.clear();
        self.unanswered.clear();
        for container in self.observed.iter_mut().flat_map(|observed| observed.containers.values_mut()) {
            container.details = None;
        }
    }

    /// Forgets what is about containers that are gone, so that a watch does not grow.
    pub(super) fn prune(&mut self) {
        let (Some(watching), Some(observed)) = (&mut self.watching, &self.observed) else { return };
        let exists = |id: &String| observed.containers.contains_key(id);
        self.memory.started.retain(|id, _| exists(id));
        self.memory.answered.retain(exists);
        self.memory.pings.retain(|id, _| exists(id));
        self.memory.forced_replacements.retain(|id, _| exists(id));
        self.memory.updated.retain(exists);
        self.memory.collected.retain(exists);
        self.unanswered.retain(|id, _| exists(id));
        watching.killed.retain(|id, _| exists(id));
        self.not_before.retain(|subject, _| match subject {
            Subject::Service(name) => self.desired.services.contains_key(name),
            _ => true,
        });
        let known = |name: &String| self.desired.services.contains_key(name);
        self.memory.backoffs.retain(|name, _| {
            known(name)
                || observed
                    .of_group(&self.desired.group)
                    .any(|c| instance_of(&self.desired, c).as_deref() == Some(name))
        });
        watching.exits.retain(|name, _| known(name));
    }

    // Containers that end.

    /// Somebody asked the engine to end a container.
    pub(super) fn killed(&mut self, id: &str, now: Duration) {
        if let Some(watching) = &mut self.watching {
            watching.killed.insert(id.to_owned(), now);
        }
    }

    /// A container ended, and not by a step of ours: it crashed, unless somebody asked for it, or the engine went away
    /// and took it along.
    pub(super) fn died(&mut self, id: &str, now: Duration) {
        let (Some(watching), Some(observed)) = (&mut self.watching, &self.observed) else { return };
        let Some(container) = observed.containers.get(id) else { return };
        let owner = instance_of(&self.desired, container).unwrap_or_default();
        let asked = watching.killed.remove(id).is_some_and(|at| now < at + EXTERNAL_STOP_TIMEOUT);
        if self.busy.contains_key(&Subject::Service(owner.into_owned())) {
            return;
        }
        let coming_back = watching.gone.is_some() || watching.back.is_some_and(|back| now < back + COMING_BACK);
        if asked || coming_back {
            self.memory.forget(id);
        } else {
            // Also one that ran before the watch began.
            self.memory.started.entry(id.to_owned()).or_insert(now);
        }
    }

    /// Whether the engine has yet to say what ended before the watch began.
    pub(super) fn awaits_past(&mut self, reaction: &mut Reaction) -> bool {
        let Some(watching) = &mut self.watching else { return false };
        if watching.past == Past::Unknown {
            watching.past = Past::Asked;
            reaction.commands.push(Command::RecentExits);
        }
        watching.past == Past::Asked
    }

    /// Crashes before the watch began count: a controller that is started again does not begin a loop anew.
    pub(super) fn past(&mut self, ends: Result<Vec<ContainerExit>>, now: Duration) {
        let Some(watching) = &mut self.watching else { return };
        watching.past = Past::Known;
        let Some(observed) = &self.observed else { return };
        // The times lie before the run began, so they are counted from `BACKOFF_RESET_AFTER` before now.
        let mut backoffs: BTreeMap<String, Backoff> = BTreeMap::new();
        for end in ends.unwrap_or_default().into_iter().filter(|end| !end.asked) {
            let (group, replica) = (self.desired.group.clone(), end.replica);
            let identity = Identity { group, service: end.service, replica, ..Identity::default() };
            let Some(name) =
                self.desired.instance_of(&identity).filter(|name| self.desired.services.contains_key(&**name))
            else {
                continue;
            };
            let name = name.into_owned();
            let how = end.code.map_or_else(|| "it ended".to_owned(), |code| format!("it exited with {code}"));
            watching.exits.extend(end.code.map(|code| (name.clone(), code)));
            let failure = plan::failure(&self.desired, observed, &name, Reason::Exited, how, None);
            let at = BACKOFF_RESET_AFTER.saturating_sub(end.ago);
            let setback = Backoff::after(backoffs.get(&name), failure, at);
            backoffs.insert(name, setback);
        }
        for (service, mut setback) in backoffs {
            let shift = |at: Duration| (now + at).saturating_sub(BACKOFF_RESET_AFTER);
            (setback.at, setback.retry) = (shift(setback.at), shift(setback.retry));
            self.memory.backoffs.entry(service).or_insert(setback);
        }
    }

    // Pings of running services.

    pub(super) fn check(&mut self, checks: Vec<Probe>, reaction: &mut Reaction) {
        for probe in checks {
            if !self.closing && self.checking.insert(probe.container.id.clone()) {
                reaction.commands.push(Command::ProbeLiveness(probe));
            }
        }
    }

    pub(super) fn checked(&mut self, id: &str, said: std::result::Result<(), String>, now: Duration) {
        self.checking.remove(id);
        let gone = self.watching.as_ref().is_some_and(|watching| watching.gone.is_some());
        // What was asked in a life that is over says nothing of the next, and without an engine nobody can answer.
        if !self.memory.answered.contains(id) || (said.is_err() && gone) {
            return;
        }
        let pings = self.memory.pings.entry(id.to_owned()).or_default();
        pings.last = now;
        match said {
            Ok(()) => (pings.failures, pings.why) = (0, String::new()),
            Err(why) => (pings.failures, pings.why) = (pings.failures + 1, why),
        }
    }

    // Other processes.

    pub(super) fn asked(&mut self, ticket: RequestId, ask: RequestKind, now: Duration, reaction: &mut Reaction) {
        if self.watching.is_none() {
            return;
        }
        match ask {
            RequestKind::Status => {
                reaction.commands.push(Command::Reply(ticket, Box::new(Report::Status(Box::new(self.live(now))))));
                return;
            }
            RequestKind::Shutdown { by } => {
                self.outcome.ended_by = Some(by);
                self.closing = true;
            }
            RequestKind::Reconcile => self.reconcile(reaction),
            RequestKind::Reload(services) => {
                self.reload.extend(services);
                self.reloads = true;
                self.reconcile(reaction);
            }
        }
        if let Some(watching) = &mut self.watching {
            watching.tickets.insert(ticket);
        }
    }

    /// Somebody wants everything to be tried again now.
    fn reconcile(&mut self, reaction: &mut Reaction) {
        let memory = &mut self.memory;
        memory.failed.clear();
        memory.backoffs.clear();
        memory.contested.clear();
        memory.unavailable.clear();
        memory.pulled.clear();
        memory.ran.clear();
        memory.stuck.clear();
        memory.no_network = None;
        self.begun.clear();
        self.outcome.failed.clear();
        self.outcome.stuck.clear();
        self.reporter.seen.clear();
        if let Some(watching) = &mut self.watching {
            watching.refused.clear();
            watching.drift.clear();
        }
        self.dirty = true;
        self.resync();
        self.specs_changed(reaction);
    }

    /// Containers of the services to reload, as soon as they are known.
    pub(super) fn condemn(&mut self) {
        // What is being read may ask for another container anyway, and is to be replaced once.
        if self.watching.is_some() && self.intake.is_open() {
            return;
        }
        let Some(observed) = &self.observed else { return };
        let reload = std::mem::take(&mut self.reload);
        for service in self.desired.services.values().filter(|service| reload.contains(&service.service)) {
            let candidate = candidate_name(&self.desired.group, &service.name);
            // What serves may have lost its name a moment ago.
            let serving = observed.of_group(&self.desired.group).filter(|container| {
                container.name != candidate && instance_of(&self.desired, container).as_deref() == Some(&service.name)
            });
            self.memory.forced_replacements.extend(serving.map(|container| (container.id.clone(), "reload")));
        }
    }

    /// Everything that can be done is done: told the first time, and to whoever waits for it.
    pub(super) fn settle(&mut self, plan: &Plan, reaction: &mut Reaction) {
        let Some(watching) = &mut self.watching else { return };
        if self.intake.is_open() || !watching.is_awaited() {
            return;
        }
        let mut outcome = self.outcome.clone();
        outcome.waits.clone_from(&plan.waits);
        outcome.ready.clone_from(&plan.ready);
        outcome.observed = self.observed.clone().unwrap_or_default();
        let report = Report::Settled(Box::new(outcome));
        if !std::mem::replace(&mut watching.settled, true) {
            reaction.reports.push(report.clone());
        }
        let group_event = if std::mem::take(&mut self.reloads) { GroupEvent::Reload } else { GroupEvent::Up };
        for ticket in std::mem::take(&mut watching.tickets) {
            reaction.commands.push(Command::Reply(ticket, Box::new(report.clone())));
        }
        self.outcome.changes.clear();
        self.outcome.steps.clear();
        self.dispatch_group_hooks(Some(group_event), plan, reaction);
    }

    /// The watch is over, and whoever waits is told so.
    pub(super) fn dismiss(&mut self, reaction: &mut Reaction) {
        let Some(watching) = &mut self.watching else { return };
        let report = Report::Stopping(match &self.outcome.ended_by {
            Some(by) => format!("{by} asked for it"),
            None => "interrupted".into(),
        });
        for ticket in std::mem::take(&mut watching.tickets) {
            reaction.commands.push(Command::Reply(ticket, Box::new(report.clone())));
        }
        reaction.reports.push(report);
    }

    /// What is known beside the engine.
    fn live(&self, now: Duration) -> ControllerStatus {
        let Some(watching) = &self.watching else { return ControllerStatus::default() };
        let services = self.desired.services.keys().map(|name| (name.clone(), self.live_service(watching, name, now)));
        ControllerStatus {
            services: services.filter(|(_, live)| *live != ServiceActivity::default()).collect(),
            specs: self.intake.rejection(),
            engine: watching.gone.as_ref().map(ToString::to_string),
        }
    }

    fn live_service(&self, watching: &Watching, name: &str, now: Duration) -> ServiceActivity {
        let failed = self.outcome.failed.get(name).map(|failed| &failed.failure);
        // After ten quiet minutes it is as if it had never failed.
        let setback = self.memory.backoffs.get(name).filter(|setback| now < setback.retry + BACKOFF_RESET_AFTER);
        let waits = self.waits_for(name).map(|whom| ("Waiting".to_owned(), whom.clone()));
        let said = failed.map(|failure| (failure.reason.word().to_owned(), failure.message.clone())).or(waits);
        let (reason, message) = said.unzip();
        let next_try = setback.filter(|setback| setback.is_backing_off(now)).map(|setback| setback.retry - now);
        ServiceActivity {
            restarts: setback.map_or(0, |setback| setback.count),
            last_exit: watching.exits.get(name).copied(),
            reason,
            message,
            next_try_ms: next_try.map(|next| u64::try_from(next.as_millis()).unwrap_or(u64::MAX)),
            unhealthy: self.is_unhealthy(name) || self.is_restarting_unhealthy(name),
        }
    }

    /// Whether it became unhealthy and is about to be restarted for it.
    fn is_restarting_unhealthy(&self, service: &str) -> bool {
        let setback = self.memory.backoffs.get(service);
        let running = setback.and_then(|setback| setback.failure.container.as_ref()).and_then(|container| {
            self.observed.as_ref()?.containers.get(&container.id).map(|container| container.state == State::Running)
        });
        setback.is_some_and(|setback| setback.failure.reason == Reason::Unhealthy)
            && running == Some(true)
            && self.outcome.failed.contains_key(service)
    }
}

/// How many of the hooks that have been run need not be run again for another spec: those of a container that exists, as
/// far as they are the same; those before one is created, while that is the same, or another one only for what they
/// have given themselves.
fn still_done(moment: HookPoint, old: Option<&Service>, new: Option<&Service>, outputs: bool) -> usize {
    let (Some(old), Some(new)) = (old, new) else { return 0 };
    if moment == HookPoint::PreStart && !outputs && !old.fingerprint.same_container(&new.fingerprint) {
        return 0;
    }
    old.hooks_at(moment).iter().zip(new.hooks_at(moment)).take_while(|(old, new)| old == new).count()
}

/// Whether two specs of a service ask for the same; where they are written does not matter.
fn same(old: &Service, new: &Service) -> bool {
    Service { place: String::new(), ..old.clone() } == Service { place: String::new(), ..new.clone() }
}
