//! State and behaviour of a watch: spec changes, a lost engine, external stops, liveness, requests of other processes.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;
use std::time::Duration;

use super::core::{Core, RunPhase};
use super::failures::{DriftCount, FailedSubject};
use super::snapshot::Subscription;
use crate::control::event::{Command, Reaction, Reading, Report, RequestId, RequestKind};
use crate::desired::fingerprint::Fingerprint;
use crate::desired::{Desired, GroupEvent, HookPoint, Service};
use crate::engine::{ContainerExit, EngineError, Result};
use crate::identity::{Identity, candidate_name};
use crate::observed::State;
use crate::plan::backoff::{BACKOFF_RESET_AFTER, Backoff};
use crate::plan::memory::{ContainerLife, ForceReason, ImageMemory, ServiceMemory};
use crate::plan::step::{Plan, Probe, Reason, Subject, Verb};
use crate::plan::{self, instance_of};
use crate::status::{ControllerStatus, ServiceActivity};
use crate::types::{ContainerId, ServiceName};

/// A container that exits within this time after an external `docker stop` or `docker kill` was stopped by it.
const EXTERNAL_STOP_TIMEOUT: Duration = Duration::from_secs(60);
/// How long an engine that restarted may still be ending the containers that ran before.
const ENGINE_RECOVERY: Duration = Duration::from_secs(15);

/// The state of a watch.
#[derive(Debug, Default)]
pub(super) struct Watching {
    history: History,
    /// Why the engine is unreachable.
    engine_error: Option<EngineError>,
    /// When the engine was reached again.
    reconnected_at: Option<Duration>,
    /// Containers that received a signal externally, and when.
    signalled: BTreeMap<ContainerId, Duration>,
    /// Images, networks and volumes whose step failed and is retried.
    pub(super) failed_subjects: BTreeMap<Subject, FailedSubject>,
    /// Corrections of drift, by subject and field.
    pub(super) drift: BTreeMap<(Subject, String), DriftCount>,
    /// Services whose container was removed externally.
    pub(super) removed: BTreeSet<ServiceName>,
    /// Exit codes of the last crashes.
    pub(super) exits: BTreeMap<ServiceName, i64>,
    /// Services whose specs changed and that have not become ready since.
    pub(super) edited: BTreeSet<ServiceName>,
    /// Requests that are answered once everything is settled.
    requests: BTreeSet<RequestId>,
    /// Everything was settled once.
    settled: bool,
}

/// The engine's record of exits before the watch started.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
enum History {
    #[default]
    Unknown,
    Requested,
    Known,
}

impl Watching {
    /// Returns true if a report of what was done is still due.
    pub(super) fn is_awaited(&self) -> bool {
        !self.settled || !self.requests.is_empty()
    }
}

impl Core {
    pub(super) fn specs_changed(&mut self, reaction: &mut Reaction) {
        if self.intake.on_change() {
            reaction.commands.push(Command::ReadSpecs);
        }
    }

    /// Reads specs again that were held back.
    pub(super) fn reread_pending_specs(&mut self, now: Duration, reaction: &mut Reaction) {
        if self.intake.confirm_is_due(now) {
            reaction.commands.push(Command::ReadSpecs);
        }
    }

    pub(super) fn specs_read(&mut self, reading: Reading, now: Duration, reaction: &mut Reaction) {
        let outputs_changed = self.outputs_changed;
        let (desired, report) = self.intake.accept(reading, &self.desired, now);
        match self.intake.is_stale() {
            true => reaction.commands.push(Command::ReadSpecs),
            false => self.outputs_changed = false,
        }
        reaction.reports.extend(report);
        if let Some(desired) = desired {
            self.adopt(desired, outputs_changed);
            self.end_obsolete_builds(reaction);
        }
    }

    /// Adopts a new desired state. What is remembered of a service holds until its spec changes. `outputs_changed`: the
    /// specs are the same, with other outputs.
    fn adopt(&mut self, desired: Desired, outputs_changed: bool) {
        let names: BTreeSet<&ServiceName> = desired.services.keys().chain(self.desired.services.keys()).collect();
        let is_changed = |name: &&&ServiceName| match (self.desired.services.get(**name), desired.services.get(**name))
        {
            (Some(old), Some(new)) => !is_same(old, new),
            _ => true,
        };
        for name in names.iter().filter(is_changed) {
            let (old, new) = (self.desired.services.get(*name), desired.services.get(*name));
            let same_spec = old.zip(new).is_some_and(|(old, new)| has_same_spec(old, new));
            if let Some(memory) = self.memory.services.get_mut(*name) {
                let rebuilds = memory.rebuilds.take().filter(|_| same_spec);
                let mut hooks = std::mem::take(&mut memory.hooks);
                hooks.retain(|point, progress| {
                    progress.done = progress.done.min(hooks_still_done(*point, old, new, outputs_changed));
                    progress.done > 0
                });
                *memory = ServiceMemory { hooks, rebuilds, ..ServiceMemory::default() };
            }
            // Its container may change the sources again and again: that is reported once.
            if !(same_spec && self.reporter.is_rebuild_stopped(name)) {
                self.outcome.failed.remove(*name);
                self.reporter.observed_failures.remove(*name);
            }
            self.steps.forget_subject(name);
            if let Some(watching) = &mut self.watching {
                watching.drift.retain(|(subject, _), _| subject.name() != &***name);
                watching.exits.remove(*name);
                watching.edited.insert((*name).clone());
            }
        }
        if let Some(watching) = &mut self.watching {
            watching.edited.retain(|name| desired.services.contains_key(name));
        }
        // A service that leaves the specs is stopped as they specified it last.
        let retired = self.desired.services.iter().chain(&self.desired.retired);
        let retired = retired.filter(|(name, _)| !desired.services.contains_key(*name));
        let retired = retired.chain(&desired.retired).map(|(name, service)| (name.clone(), service.clone())).collect();
        self.desired = Arc::new(Desired { retired, ..desired });
        self.memory.note_sources(&self.desired, self.snapshot.observed.as_ref());
    }

    /// Ends builds of images that are no longer in the specs, and forgets the failures of others.
    fn end_obsolete_builds(&mut self, reaction: &mut Reaction) {
        let wanted: BTreeSet<&String> = self.desired.services.values().map(|service| &service.config.image).collect();
        self.memory.images.unavailable.retain(|image, _| wanted.contains(image));
        let builds = self.steps.running.values().filter(|running| running.step.verb == Verb::Build);
        let images = builds.map(|running| running.step.subject.name()).filter(|image| !self.is_built(image));
        reaction.commands.extend(images.map(|image| Command::EndBuild(image.to_owned())));
    }

    /// The engine is unreachable; reported once.
    pub(super) fn engine_lost(&mut self, error: EngineError, reaction: &mut Reaction) {
        let Some(watching) = &mut self.watching else { return };
        if watching.engine_error.replace(error.clone()).is_none() {
            reaction.reports.push(Report::EngineLost(error));
        }
    }

    pub(super) fn engine_reconnected(&mut self, now: Duration, reaction: &mut Reaction) {
        if self.snapshot.subscription == Subscription::Active
            && let Some(watching) = &mut self.watching
            && watching.engine_error.take().is_some()
        {
            watching.reconnected_at = Some(now);
            // Without an engine, containers could neither become ready nor answer.
            for container in self.memory.containers.values_mut() {
                container.waiting_since = None;
                let life = &mut container.life;
                *life = ContainerLife { probe_succeeded: life.probe_succeeded, ..ContainerLife::default() };
            }
            reaction.reports.push(Report::EngineReconnected);
        }
    }

    /// Events were missed: every container is inspected again and has to become ready again. What exited meanwhile did
    /// not crash.
    pub(super) fn resync(&mut self) {
        if self.watching.is_none() {
            return;
        }
        for container in self.memory.containers.values_mut() {
            container.started_at = None;
            container.waiting_since = None;
            container.life = ContainerLife::default();
        }
        for work in self.containers.values_mut() {
            work.probe_error = None;
        }
        for container in self.snapshot.observed.iter_mut().flat_map(|observed| observed.containers.values_mut()) {
            container.details = None;
        }
    }

    /// Forgets containers and services that are gone, so that a watch does not grow.
    pub(super) fn prune(&mut self) {
        let (Some(watching), Some(observed)) = (&mut self.watching, &self.snapshot.observed) else { return };
        let exists = |id: &ContainerId| observed.containers.contains_key(id);
        self.memory.containers.retain(|id, _| exists(id));
        self.containers.retain(|id, work| exists(id) || work.inspecting || work.liveness_probe || work.probe.is_some());
        watching.signalled.retain(|id, _| exists(id));
        let is_desired = |name: &ServiceName| self.desired.services.contains_key(name);
        self.steps.not_before.retain(|subject, _| match subject {
            Subject::Service(name) => is_desired(name),
            _ => true,
        });
        let containers = observed.of_group(&self.desired.group);
        let owners: BTreeSet<_> = containers.filter_map(|container| instance_of(&self.desired, container)).collect();
        self.memory.services.retain(|name, _| is_desired(name) || owners.contains(name.as_str()));
        self.services.retain(|name, work| is_desired(name) || work.diagnosing);
        watching.exits.retain(|name, _| is_desired(name));
    }

    /// A container received a signal externally.
    pub(super) fn killed(&mut self, id: &ContainerId, now: Duration) {
        if let Some(watching) = &mut self.watching {
            watching.signalled.insert(id.clone(), now);
        }
    }

    /// Returns true if a container received a signal externally that is meant to end it, and may have caused its exit.
    pub(super) fn was_signalled(&self, id: &ContainerId, now: Duration) -> bool {
        let signalled = self.watching.as_ref().and_then(|watching| watching.signalled.get(id));
        signalled.is_some_and(|at| now < *at + EXTERNAL_STOP_TIMEOUT)
    }

    /// A container exited, and not by a step: it crashed, unless it was stopped externally or the engine restarted.
    pub(super) fn died(&mut self, id: &ContainerId, now: Duration) {
        let owner = self.owner_of(id).unwrap_or_default();
        let (exists, stopped) = (self.snapshot.container(id).is_some(), self.was_signalled(id, now));
        let Some(watching) = self.watching.as_mut().filter(|_| exists) else { return };
        watching.signalled.remove(id);
        if self.steps.running.contains_key(&Subject::Service(owner)) {
            return;
        }
        let started_at = self.memory.started_at(id);
        // What was started since is not among the containers that the restart of the engine ended.
        let in_recovery = |reconnected: Duration| {
            now < reconnected + ENGINE_RECOVERY && started_at.is_none_or(|started| started < reconnected)
        };
        let engine_restarted = watching.engine_error.is_some() || watching.reconnected_at.is_some_and(in_recovery);
        if stopped || engine_restarted {
            self.memory.forget(id);
        } else if !self.containers.get(id).is_some_and(|work| work.exit_noticed) {
            // Also one that was started before the watch.
            self.memory.container_mut(id).started_at.get_or_insert(now);
        }
    }

    /// Returns true until the engine has reported the exits before the watch started.
    pub(super) fn awaits_recent_exits(&mut self, reaction: &mut Reaction) -> bool {
        let Some(watching) = &mut self.watching else { return false };
        if watching.history == History::Unknown {
            watching.history = History::Requested;
            reaction.commands.push(Command::RecentExits);
        }
        watching.history == History::Requested
    }

    /// Crashes before the watch started count: restarting the controller does not reset a crash loop.
    pub(super) fn recent_exits(&mut self, exits: Result<Vec<ContainerExit>>, now: Duration) {
        let Some(watching) = &mut self.watching else { return };
        watching.history = History::Known;
        let Some(observed) = &self.snapshot.observed else { return };
        // The times lie before the start of the run, so they are counted from `BACKOFF_RESET_AFTER` before now.
        let mut backoffs: BTreeMap<ServiceName, Backoff> = BTreeMap::new();
        // Events carry labels, but do not show whether a container has only inherited them from its image.
        let is_managed =
            |exit: &ContainerExit| observed.containers.get(exit.id.as_str()).is_none_or(|it| it.identity.is_some());
        for exit in exits.unwrap_or_default().into_iter().filter(|exit| !exit.asked && is_managed(exit)) {
            let (group, replica) = (self.desired.group.clone(), exit.replica);
            let identity = Identity { group, service: exit.service, replica, ..Identity::default() };
            let name = self.desired.instance_of(&identity).map(|name| ServiceName::from(name.into_owned()));
            let Some(name) = name.filter(|name| self.desired.services.contains_key(name)) else { continue };
            let how = exit.code.map_or_else(|| "exited".to_owned(), |code| format!("exited with code {code}"));
            watching.exits.extend(exit.code.map(|code| (name.clone(), code)));
            let failure = plan::failure(&self.desired, observed, &name, Reason::Exited, how, None);
            let at = BACKOFF_RESET_AFTER.saturating_sub(exit.ago);
            let backoff = Backoff::after(backoffs.get(&name), failure, at);
            backoffs.insert(name, backoff);
        }
        for (service, mut backoff) in backoffs {
            let shift = |at: Duration| (now + at).saturating_sub(BACKOFF_RESET_AFTER);
            (backoff.at, backoff.retry) = (shift(backoff.at), shift(backoff.retry));
            self.memory.service_mut(&service).backoff.get_or_insert(backoff);
        }
    }

    pub(super) fn probe_liveness(&mut self, probes: Vec<Probe>, reaction: &mut Reaction) {
        if self.phase != RunPhase::Running {
            return;
        }
        for probe in probes {
            let work = self.containers.entry(probe.container.id.clone()).or_default();
            if !std::mem::replace(&mut work.liveness_probe, true) {
                reaction.commands.push(Command::ProbeLiveness(probe));
            }
        }
    }

    pub(super) fn liveness_probed(&mut self, id: &ContainerId, result: std::result::Result<(), String>, now: Duration) {
        if let Some(work) = self.containers.get_mut(id) {
            work.liveness_probe = false;
        }
        let engine_lost = self.watching.as_ref().is_some_and(|watching| watching.engine_error.is_some());
        // A probe of an earlier life says nothing about this one, and without an engine no probe can succeed.
        if !self.memory.probe_succeeded(id) || (result.is_err() && engine_lost) {
            return;
        }
        let liveness = self.memory.container_mut(id).life.liveness.get_or_insert_default();
        liveness.last = now;
        match result {
            Ok(()) => (liveness.failures, liveness.error) = (0, String::new()),
            Err(error) => (liveness.failures, liveness.error) = (liveness.failures + 1, error),
        }
    }

    /// Another process requests something.
    pub(super) fn requested(&mut self, id: RequestId, request: RequestKind, now: Duration, reaction: &mut Reaction) {
        if self.watching.is_none() {
            if let RequestKind::Shutdown { by } = request {
                reaction.reports.push(Report::Note(format!("stopping after the current step: requested by {by}")));
                self.outcome.ended_by = Some(by);
                self.outcome.interrupted = true;
                self.phase = RunPhase::Stopping;
            }
            return;
        }
        match request {
            RequestKind::Status => {
                let status = Report::Status(Box::new(self.controller_status(now)));
                reaction.commands.push(Command::Reply(id, Box::new(status)));
                return;
            }
            RequestKind::Shutdown { by } => {
                self.outcome.ended_by = Some(by);
                self.phase = RunPhase::Stopping;
            }
            RequestKind::Reconcile => self.retry_everything(reaction),
            RequestKind::Reload(reload) => {
                let renew = reload.renew_volumes;
                self.reload.pending.extend(reload.services.into_iter().map(|service| (service, renew)));
                self.reload.requested = true;
                self.retry_everything(reaction);
            }
        }
        if let Some(watching) = &mut self.watching {
            watching.requests.insert(id);
        }
    }

    /// Forgets failures, and reads the specs and the engine's state again.
    fn retry_everything(&mut self, reaction: &mut Reaction) {
        let memory = &mut self.memory;
        for service in memory.services.values_mut() {
            *service = ServiceMemory { hooks: std::mem::take(&mut service.hooks), ..ServiceMemory::default() };
        }
        memory.images = ImageMemory::default();
        memory.removal_failed.clear();
        memory.network_errors.clear();
        self.steps.attempts.clear();
        self.outcome.failed.clear();
        self.outcome.stuck.clear();
        self.reporter.observed_failures.clear();
        if let Some(watching) = &mut self.watching {
            watching.failed_subjects.clear();
            watching.drift.clear();
        }
        self.snapshot.dirty = true;
        self.resync();
        self.specs_changed(reaction);
    }

    /// Marks the containers of services to reload, as soon as they are known.
    pub(super) fn force_reloads(&mut self) {
        // Specs that are being read may ask for another container anyway: it is replaced once.
        if self.watching.is_some() && self.intake.is_open() {
            return;
        }
        let Some(observed) = &self.snapshot.observed else { return };
        let reload = std::mem::take(&mut self.reload.pending);
        for service in self.desired.services.values() {
            let Some(renew_volumes) = reload.get(&*service.service).copied() else { continue };
            let candidate = candidate_name(&self.desired.group, &service.name);
            // The current container may have lost its name a moment ago.
            let current = observed.of_group(&self.desired.group).filter(|container| {
                container.name != candidate && instance_of(&self.desired, container).as_deref() == Some(&*service.name)
            });
            for container in current {
                self.memory.container_mut(&container.id).force_replace = Some(ForceReason::Reload { renew_volumes });
            }
        }
    }

    /// Everything that can be done is done: reported the first time, and to the processes that wait for it.
    pub(super) fn settle(&mut self, plan: &Plan, reaction: &mut Reaction) {
        let Some(watching) = &mut self.watching else { return };
        if self.intake.is_open() || !watching.is_awaited() {
            return;
        }
        let mut outcome = self.outcome.clone();
        outcome.waits.clone_from(&plan.waits);
        outcome.ready.clone_from(&plan.ready);
        let report = Report::Settled(Box::new(outcome));
        if !std::mem::replace(&mut watching.settled, true) {
            reaction.reports.push(report.clone());
        }
        let group_event = if std::mem::take(&mut self.reload.requested) { GroupEvent::Reload } else { GroupEvent::Up };
        for id in std::mem::take(&mut watching.requests) {
            reaction.commands.push(Command::Reply(id, Box::new(report.clone())));
        }
        self.outcome.changes.clear();
        self.outcome.steps.clear();
        self.dispatch_group_hooks(Some(group_event), plan, reaction);
    }

    /// The watch is over: answers the processes that wait.
    pub(super) fn dismiss(&mut self, reaction: &mut Reaction) {
        let Some(watching) = &mut self.watching else { return };
        let report = Report::Stopping(match (&self.outcome.ended_by, &self.outcome.lease_lost) {
            (Some(by), _) => format!("requested by {by}"),
            (None, Some(lease)) => format!("{lease} has taken over the group"),
            (None, None) => "interrupted".into(),
        });
        for id in std::mem::take(&mut watching.requests) {
            reaction.commands.push(Command::Reply(id, Box::new(report.clone())));
        }
        reaction.reports.push(report);
    }

    /// What the controller knows beside the engine.
    fn controller_status(&self, now: Duration) -> ControllerStatus {
        let Some(watching) = &self.watching else { return ControllerStatus::default() };
        let names = self.desired.services.keys();
        let services = names.map(|name| (name.to_string(), self.service_activity(watching, name, now)));
        ControllerStatus {
            services: services.filter(|(_, activity)| *activity != ServiceActivity::default()).collect(),
            specs: self.intake.rejection(),
            engine: watching.engine_error.as_ref().map(ToString::to_string),
        }
    }

    fn service_activity(&self, watching: &Watching, name: &str, now: Duration) -> ServiceActivity {
        let failed = self.outcome.failed.get(name).map(|failed| &failed.failure);
        // After this time without a failure it is as if it had never failed.
        let backoff = self.memory.backoff(name).filter(|backoff| now < backoff.retry + BACKOFF_RESET_AFTER);
        let waiting = self.waiting_for(name).map(|reason| ("Waiting".to_owned(), reason));
        let failed = failed.map(|failure| (failure.reason.word().to_owned(), failure.message.clone()));
        let (reason, message) = failed.or(waiting).unzip();
        let next_try = self.memory.pending_backoff(name, now).map(|backoff| backoff.retry - now);
        ServiceActivity {
            restarts: backoff.map_or(0, |backoff| backoff.count),
            last_exit: watching.exits.get(name).copied(),
            reason,
            message,
            next_try_ms: next_try.map(|next| u64::try_from(next.as_millis()).unwrap_or(u64::MAX)),
            unhealthy: self.is_unhealthy(name) || self.is_restarting_unhealthy(name),
        }
    }

    /// Returns true if it became unhealthy and is about to be restarted for that.
    fn is_restarting_unhealthy(&self, service: &str) -> bool {
        let failure = self.memory.backoff(service).map(|backoff| &backoff.failure);
        let failure = failure.filter(|failure| failure.reason == Reason::Unhealthy);
        let container = failure.and_then(|failure| self.snapshot.container(&failure.container.as_ref()?.id));
        container.is_some_and(|container| container.state == State::Running)
            && self.outcome.failed.contains_key(service)
    }
}

/// How many of the hooks that have run count for another spec of the service: as far as they are the same; `pre_start`
/// hooks only for the same container, or for one that differs by the outputs they have set themselves.
fn hooks_still_done(point: HookPoint, old: Option<&Service>, new: Option<&Service>, outputs_changed: bool) -> usize {
    let (Some(old), Some(new)) = (old, new) else { return 0 };
    if point == HookPoint::PreStart && !outputs_changed && !old.fingerprint.same_container(&new.fingerprint) {
        return 0;
    }
    old.hooks_at(point).iter().zip(new.hooks_at(point)).take_while(|(old, new)| old == new).count()
}

/// Returns true if two specs of a service are the same, wherever they are written.
fn is_same(old: &Service, new: &Service) -> bool {
    Service { location: String::new(), ..old.clone() } == Service { location: String::new(), ..new.clone() }
}

/// Returns true if two specs of a service differ in the files of its image at most.
fn has_same_spec(old: &Service, new: &Service) -> bool {
    let without_files = |service: &Service| {
        let mut service = Service { location: String::new(), fingerprint: Fingerprint::default(), ..service.clone() };
        if let Some(build) = &mut service.build {
            (build.tree.digest, build.tree.files) = Default::default();
            let tag = service.config.image.rfind(':').unwrap_or_default();
            service.config.image.truncate(tag);
        }
        service
    };
    without_files(old) == without_files(new)
}
