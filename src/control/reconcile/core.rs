//! `Core`: the state of a run and its event handler.
//!
//! [`Core::handle`] applies the event to the snapshot, asks the planner, and starts what the plan allows within the
//! limits. It neither blocks nor performs I/O. A one-shot run and a watch share it: a run is over when nothing is left to
//! do, a watch when it is stopped. `plan::backoff` defines how they differ in retrying failures.

use std::borrow::Cow;
use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;
use std::time::Duration;

use super::report::Reporter;
use super::snapshot::{Snapshot, StaleReason, Subscription};
use super::steps::Steps;
use super::watch_mode::Watching;
use crate::control::error::StepError;
use crate::control::event::{Command, Event, Limits, Outcome, Reaction, Reload, Report};
use crate::control::specs::intake::Intake;
use crate::desired::{Desired, LifecycleEvent};
use crate::engine::{EngineError, Result};
use crate::identity::instance_name;
use crate::observed::{Container, Health, ImageFacts, Observed};
use crate::plan::backoff::heals;
use crate::plan::step::{Failure, Plan, Probe, Query, Reason, Step, Verb};
use crate::plan::{self, Memory, effect};
use crate::types::{ContainerId, ServiceName};

/// Interval of full lists while anything is awaited: an event may have been lost.
const RESYNC: Duration = Duration::from_secs(30);

/// When a run ends.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum RunMode {
    /// When everything that can be done is done.
    Once,
    /// When it is stopped.
    Watch {
        /// Specs without any service remove everything.
        may_empty: bool,
    },
}

/// The state of a run.
#[derive(Debug)]
pub struct Core {
    pub(super) desired: Arc<Desired>,
    pub(super) limits: Limits,
    pub(super) memory: Memory,
    pub(super) outcome: Outcome,
    /// Decides what becomes of reloaded specs.
    pub(super) intake: Intake,
    /// Outputs have changed: no step starts until the specs that use them are read again.
    pub(super) outputs_changed: bool,
    /// The engine's state as far as it is known.
    pub(super) snapshot: Snapshot,
    /// Work on containers besides steps.
    pub(super) containers: BTreeMap<ContainerId, ContainerWork>,
    /// Work on services besides steps.
    pub(super) services: BTreeMap<ServiceName, ServiceWork>,
    /// Steps under way, attempts and pauses.
    pub(super) steps: Steps,
    /// Lifecycle hooks, which no step waits for.
    pub(super) hooks: LifecycleHooks,
    pub(super) reload: ReloadRequest,
    /// State that only a watch has.
    pub(super) watching: Option<Watching>,
    pub(super) phase: RunPhase,
    pub(super) reporter: Reporter,
}

/// Work on a container besides steps.
#[derive(Debug, Default)]
pub(super) struct ContainerWork {
    /// The snapshot of it is out of date: it needs an inspection.
    pub(super) stale: Option<StaleReason>,
    /// An inspection is under way.
    pub(super) inspecting: bool,
    /// The readiness probe that is running.
    pub(super) probe: Option<Probe>,
    /// A liveness probe is running.
    pub(super) liveness_probe: bool,
    /// Error of the last readiness probe.
    pub(super) probe_error: Option<String>,
    /// Its first exit before it was ready was reported; the engine restarts it.
    pub(super) exit_reported: bool,
    /// Its exit has been counted and its hooks have been run, or a step caused it; until it is started again.
    pub(super) exit_noticed: bool,
    /// The event of its last start by a step is still to come.
    pub(super) start_expected: bool,
}

/// Work on a service besides steps.
#[derive(Debug, Default)]
pub(super) struct ServiceWork {
    /// The last output of a failed container is being fetched.
    pub(super) diagnosing: bool,
    /// Its current container was removed for a candidate.
    pub(super) replaced: bool,
}

/// Lifecycle hooks (`on`) under way.
#[derive(Debug, Default)]
pub(super) struct LifecycleHooks {
    /// Number of dispatched events whose hooks are running.
    pub(super) running: usize,
    /// The hooks for the end of the run were dispatched.
    pub(super) group_notified: bool,
}

/// Services to replace although they match their specs.
#[derive(Debug, Default)]
pub(super) struct ReloadRequest {
    /// The services whose containers are not marked yet.
    /// The value is true if their replacements get new anonymous volumes.
    pub(super) pending: BTreeMap<String, bool>,
    /// Something was reloaded since the group's hooks ran last.
    pub(super) requested: bool,
}

impl ReloadRequest {
    fn of(reload: Reload) -> ReloadRequest {
        let Reload { services, renew_volumes } = reload;
        let requested = !services.is_empty();
        ReloadRequest { pending: services.into_iter().map(|service| (service, renew_volumes)).collect(), requested }
    }
}

/// How far the end of a run is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum RunPhase {
    /// Steps start as planned.
    Running,
    /// No step starts any more; those under way are awaited.
    Stopping,
    /// The run is over.
    Over,
}

impl Core {
    /// A run for this desired state, with what earlier runs remembered. Services in `reload` are replaced although they
    /// match.
    pub fn new(desired: Desired, limits: Limits, mode: RunMode, memory: Memory, reload: Reload) -> Core {
        let (watching, intake) = match mode {
            // A one-shot run reads the same specs again, with other outputs: they lose no service.
            RunMode::Once => (None, Intake::new(true)),
            RunMode::Watch { may_empty } => (Some(Watching::default()), Intake::new(may_empty)),
        };
        let mut memory = Memory { watching: watching.is_some(), ..memory };
        memory.note_sources(&desired, None);
        Core {
            desired: Arc::new(desired),
            limits,
            memory,
            outcome: Outcome::default(),
            intake,
            outputs_changed: false,
            snapshot: Snapshot::default(),
            containers: BTreeMap::new(),
            services: BTreeMap::new(),
            steps: Steps::default(),
            hooks: LifecycleHooks::default(),
            reload: ReloadRequest::of(reload),
            watching,
            phase: RunPhase::Running,
            reporter: Reporter::default(),
        }
    }

    /// How the run ended.
    pub fn into_outcome(mut self) -> Outcome {
        self.outcome.observed = self.snapshot.observed.unwrap_or_default();
        self.outcome
    }

    /// The desired state, and the observed one as far as it is known: what a step is translated with.
    pub fn view(&self) -> (&Desired, Option<&Observed>) {
        (&self.desired, self.snapshot.observed.as_ref())
    }

    /// Handles an event. `now` is the time since the start of the run.
    pub fn handle(&mut self, event: Event, now: Duration) -> Reaction {
        let mut reaction = Reaction::default();
        self.apply_event(event, now, &mut reaction);
        if self.phase != RunPhase::Over {
            self.decide(now, &mut reaction);
        }
        if self.phase == RunPhase::Over {
            self.dismiss(&mut reaction);
        }
        reaction.over = self.phase == RunPhase::Over;
        reaction
    }

    fn apply_event(&mut self, event: Event, now: Duration, reaction: &mut Reaction) {
        match event {
            Event::Begin | Event::Tick => {}
            Event::Listed(Ok(observed)) => self.listed(observed, now, reaction),
            Event::Listed(Err(error)) => self.list_failed(error, now, reaction),
            Event::Inspected(id, result) => self.inspected(&id, result, now, reaction),
            Event::Image(id, facts) => self.image_inspected(id, facts, now),
            Event::StepDone(step, result) => self.step_done(step, result, now, reaction),
            Event::Engine(Ok(event)) => self.engine_event(event, now, reaction),
            Event::Engine(Err(error)) => self.events_ended(error, now, reaction),
            Event::EngineEventsEnded => {
                let reason = "the event stream ended".to_owned();
                let error = EngineError::Unreachable { endpoint: "the same place".into(), reason };
                self.events_ended(error, now, reaction);
            }
            Event::ProbeSucceeded(id) => {
                let work = self.containers.entry(id.clone()).or_default();
                (work.probe, work.probe_error, work.exit_reported) = (None, None, false);
                let life = &mut self.memory.container_mut(&id).life;
                (life.probe_succeeded, life.probe_is_hopeless) = (true, false);
            }
            Event::ProbeFailed { container, error, permanent } => self.probe_failed(container, error, permanent),
            Event::Pulling(image, progress) => reaction.reports.push(Report::Pulling(image, progress)),
            Event::Diagnosed(failure, output) => {
                self.services.entry(failure.service.clone()).or_default().diagnosing = false;
                self.fail(failure, output, now, reaction);
            }
            Event::ExitRead(service, output) => {
                let (service, event) = (Some(service.to_string()), LifecycleEvent::Exited.to_string());
                let report =
                    |line| Report::Output { service: service.clone(), event: event.clone(), line, build: None };
                reaction.reports.extend(output.into_iter().map(report));
            }
            Event::HookOutput { service, event, line, build, .. } => {
                reaction.reports.push(Report::Output { service, event, line, build });
            }
            Event::HooksDone(event, result) => {
                self.hooks.running -= 1;
                if let Err(error) = result {
                    let service = event.service.map(|service| instance_name(&service, event.replica));
                    let subject = service.as_ref().unwrap_or(&self.desired.group);
                    reaction.reports.push(Report::Note(format!("{subject}: on {}: {error}", event.event)));
                }
            }
            Event::LivenessProbed(id, result) => self.liveness_probed(&id, result, now),
            Event::RecentExits(exits) => self.recent_exits(exits, now),
            Event::SpecsChanged => self.specs_changed(reaction),
            Event::OutputsChanged => {
                self.outputs_changed = true;
                self.specs_changed(reaction);
            }
            Event::SpecsRead(reading) => self.specs_read(reading, now, reaction),
            Event::Request(id, request) => self.requested(id, request, now, reaction),
            Event::Interrupt => {
                self.outcome.interrupted = true;
                self.phase = RunPhase::Stopping;
            }
            Event::LeaseLost(lease) => {
                self.outcome.lease_lost = Some(lease);
                self.phase = RunPhase::Stopping;
            }
            // A run without an engine says so itself.
            Event::LeaseFailed(EngineError::Unreachable { .. }) => {}
            Event::LeaseFailed(error) => {
                let note = format!(
                    "cannot renew the lease of the group: {error}; nothing keeps controllers of other users away"
                );
                reaction.reports.push(Report::Note(note));
            }
        }
    }

    fn image_inspected(&mut self, id: String, facts: Result<Option<ImageFacts>>, now: Duration) {
        self.snapshot.inspecting_images.remove(&id);
        let facts = match facts {
            Ok(Some(facts)) => {
                self.snapshot.query_failures = 0;
                facts
            }
            // It was removed, which the list will show. Containers of it may still run.
            Ok(None) => {
                self.snapshot.dirty = true;
                ImageFacts::default()
            }
            Err(error) => return self.query_failed(error, now),
        };
        if let Some(observed) = &mut self.snapshot.observed {
            observed.image_facts.insert(id, facts);
        }
    }

    /// The first list may have been stale and an event may be lost: a container that this run did not start, or about
    /// which an event came, is inspected once.
    fn probe_failed(&mut self, id: ContainerId, error: String, permanent: bool) {
        self.memory.container_mut(&id).life.probe_is_hopeless |= permanent;
        let started = self.memory.started_at(&id).is_some();
        let work = self.containers.entry(id).or_default();
        if !started || work.probe_error.is_some() {
            work.stale = Some(StaleReason::Other);
        }
        work.probe_error = Some(error);
    }

    fn decide(&mut self, now: Duration, reaction: &mut Reaction) {
        if self.limits.deadline.is_some_and(|deadline| now >= deadline) && self.phase == RunPhase::Running {
            self.outcome.timed_out = true;
            self.phase = RunPhase::Stopping;
        }
        if self.phase == RunPhase::Stopping {
            reaction.commands.push(Command::EndHooks);
            // The next run starts a pull or a build again, and nothing is lost; anything else is awaited.
            if self.steps.running.values().all(|running| matches!(running.step.verb, Verb::Pull | Verb::Build)) {
                self.abort(now);
                return;
            }
        }
        if now >= self.snapshot.last_list + RESYNC {
            self.snapshot.dirty = true;
        }
        self.reread_pending_specs(now, reaction);
        self.retry_failed_subjects(now);
        if !self.is_informed(now, reaction) {
            self.wake(now, reaction, None);
            return;
        }
        self.force_reloads();
        let Some(mut plan) = self.plan(now, reaction) else { return };
        self.note_waiting(&plan, now);
        self.note_holds(&plan, now);
        self.report(&plan, now, reaction);
        if self.watching.is_none() {
            if plan.is_settled() && self.outcome.steps.is_empty() && self.steps.running.is_empty() {
                if !self.has_group_hooks(&plan, reaction) {
                    self.finish(&mut plan);
                }
                return;
            }
            if self.snapshot.subscription != Subscription::Active {
                // What follows may wait for events, so subscribe before that; then list again.
                self.subscribe(now, reaction);
                self.wake(now, reaction, None);
                return;
            }
        }
        self.execute(plan, now, reaction);
    }

    /// Returns true if there is a snapshot to plan with. Otherwise asks for what is missing.
    fn is_informed(&mut self, now: Duration, reaction: &mut Reaction) -> bool {
        // A watch waits for events in any case: it subscribes before it lists, and does nothing without events.
        if self.watching.is_some() && self.snapshot.subscription != Subscription::Active {
            self.probe(&[], reaction);
            self.subscribe(now, reaction);
            return false;
        }
        if self.snapshot.listing {
            return false;
        }
        if self.snapshot.dirty {
            self.list(now, reaction);
            return false;
        }
        !self.awaits_recent_exits(reaction) && !self.outputs_changed
    }

    fn execute(&mut self, mut plan: Plan, now: Duration, reaction: &mut Reaction) {
        self.run_queries(&plan.queries, reaction);
        self.diagnose(std::mem::take(&mut plan.failures), reaction);
        self.start_steps(std::mem::take(&mut plan.steps), &plan.changes, now, reaction);
        self.probe(&plan.probes, reaction);
        self.probe_liveness(std::mem::take(&mut plan.checks), reaction);
        if self.is_idle(&plan, now) {
            if self.snapshot.unverified {
                self.snapshot.dirty = true;
                self.list(now, reaction);
                self.wake(now, reaction, None);
                return;
            }
            if self.watching.is_none() {
                if !self.has_group_hooks(&plan, reaction) {
                    self.finish(&mut plan);
                }
                return;
            }
            // The attempts have come to an end; what starts from now on is counted again.
            self.steps.attempts.clear();
            self.settle(&plan, reaction);
        }
        self.wake(now, reaction, plan.wake);
    }

    /// Records since when containers are awaited.
    fn note_waiting(&mut self, plan: &Plan, now: Duration) {
        let awaited: BTreeSet<&ContainerId> =
            plan.waits.iter().filter_map(|wait| Some(&wait.awaited.as_ref()?.container)).collect();
        if self.watching.is_some() {
            // A container may be awaited again in a later life.
            for (id, container) in &mut self.memory.containers {
                if !awaited.contains(id) {
                    container.waiting_since = None;
                }
            }
        }
        for id in awaited {
            let memory = self.memory.container_mut(id);
            if memory.waiting_since.is_some() {
                continue;
            }
            memory.waiting_since = Some(now);
            // The first list may have been stale, and no event tells of what ended before it.
            let has_healthcheck = |container: &Container| container.health != Health::None;
            let observed = self.snapshot.container(id);
            if memory.started_at.is_none() && observed.is_some_and(has_healthcheck) {
                self.containers.entry(id.clone()).or_default().stale = Some(StaleReason::Other);
            }
        }
    }

    /// Records until when containers must stay as they are. A container that does not starts again.
    fn note_holds(&mut self, plan: &Plan, now: Duration) {
        for (id, container) in &mut self.memory.containers {
            if !plan.hold.contains_key(id) {
                container.life.hold_until = None;
            }
        }
        for (id, period) in &plan.hold {
            self.memory.container_mut(id).life.hold_until.get_or_insert(now + *period);
        }
    }

    /// Asks the planner, after stale containers were queued for inspection.
    fn plan(&mut self, now: Duration, reaction: &mut Reaction) -> Option<Plan> {
        self.inspect_stale(reaction);
        loop {
            let observed = self.snapshot.observed.as_ref()?;
            let mut plan = plan::plan(&self.desired, observed, &self.memory, now);
            // A failure without a container has no output to fetch; it may change the plan at once.
            let (immediate, with_container) = plan.failures.drain(..).partition(|failure| failure.container.is_none());
            plan.failures = with_container;
            let immediate: Vec<Failure> = immediate;
            // While watching, some hold only while they are observed: the plan already takes them into account.
            let is_observed = |failure: &Failure| self.memory.watching && heals(failure.reason);
            let (observed, new): (Vec<Failure>, Vec<Failure>) = immediate.into_iter().partition(is_observed);
            let mut again = !new.is_empty();
            for failure in new {
                self.fail(failure, Vec::new(), now, reaction);
            }
            again |= self.is_flapping(&plan, now, reaction);
            if !again {
                let observed = observed.into_iter().map(|failure| (failure.service.clone(), failure)).collect();
                self.record_failures(observed, now, reaction);
                return Some(plan);
            }
        }
    }

    fn run_queries(&mut self, queries: &BTreeSet<Query>, reaction: &mut Reaction) {
        for query in queries {
            match query {
                // The result for a container with a step under way would be discarded.
                Query::Container(id) if !self.is_busy(id) => self.inspect(id, reaction),
                Query::Image(id) if self.snapshot.inspecting_images.insert(id.clone()) => {
                    reaction.commands.push(Command::Image(id.clone()));
                }
                _ => {}
            }
        }
    }

    /// Starts an inspection unless one is under way.
    pub(super) fn inspect(&mut self, id: &ContainerId, reaction: &mut Reaction) {
        let work = self.containers.entry(id.clone()).or_default();
        if !std::mem::replace(&mut work.inspecting, true) {
            reaction.commands.push(Command::Inspect(id.clone()));
        }
    }

    /// The service that owns a container.
    pub(super) fn owner_of(&self, id: &ContainerId) -> Option<ServiceName> {
        plan::instance_of(&self.desired, self.snapshot.container(id)?)
            .map(|name| ServiceName::from(Cow::into_owned(name)))
    }

    fn diagnose(&mut self, failures: Vec<Failure>, reaction: &mut Reaction) {
        for failure in failures {
            let work = self.services.entry(failure.service.clone()).or_default();
            if !std::mem::replace(&mut work.diagnosing, true) {
                reaction.commands.push(Command::Diagnose(failure));
            }
        }
    }

    /// Starts and stops readiness probes, so that exactly these run.
    fn probe(&mut self, probes: &[Probe], reaction: &mut Reaction) {
        let is_running = self.phase == RunPhase::Running;
        let wanted: BTreeMap<&ContainerId, &Probe> =
            probes.iter().filter(|_| is_running).map(|probe| (&probe.container.id, probe)).collect();
        for (id, work) in &mut self.containers {
            let same = |probe: &Probe| wanted.get(id).is_some_and(|wanted| wanted.ping == probe.ping);
            if work.probe.as_ref().is_some_and(|probe| !same(probe)) {
                work.probe = None;
                reaction.commands.push(Command::EndProbe(id.clone()));
            }
        }
        for (id, probe) in wanted {
            let work = self.containers.entry(id.clone()).or_default();
            if work.probe.is_none() {
                work.probe = Some(probe.clone());
                reaction.commands.push(Command::Probe(probe.clone()));
            }
        }
    }

    /// Returns true if nothing is under way and nothing that is awaited can happen by itself.
    fn is_idle(&self, plan: &Plan, now: Duration) -> bool {
        // While watching, a service that is late is probed without end.
        let is_late = |service: &ServiceName, container: &ContainerId| {
            self.memory.backoff(service).is_some_and(|backoff| {
                backoff.failure.reason == Reason::NotReady
                    && backoff.failure.container.as_ref().is_some_and(|failed| failed.id == *container)
            })
        };
        let is_quiet = |work: &ContainerWork| {
            work.probe.as_ref().is_none_or(|probe| is_late(&probe.service, &probe.container.id))
                && !work.inspecting
                && work.stale.is_none()
        };
        let backs_off = |backoff: &plan::backoff::Backoff| backoff.is_backing_off(now);
        let mut backoffs = self.memory.services.values().filter_map(|service| service.backoff.as_ref());
        self.steps.running.is_empty()
            && self.containers.values().all(is_quiet)
            && self.snapshot.inspecting_images.is_empty()
            && self.services.values().all(|work| !work.diagnosing)
            && self.hooks.running == 0
            && (self.watching.is_some() || !backoffs.any(backs_off))
            && plan
                .waits
                .iter()
                .all(|wait| wait.awaited.as_ref().is_none_or(|awaited| is_late(&wait.service, &awaited.container)))
            && self.steps.not_before.values().all(|at| now >= *at)
    }

    fn wake(&self, now: Duration, reaction: &mut Reaction, at: Option<Duration>) {
        let resync = (!self.snapshot.listing && self.is_listening()).then_some(self.snapshot.last_list + RESYNC);
        let times = self.steps.not_before.values().copied().chain(self.snapshot.pauses()).chain(at);
        let times = times.chain(self.limits.deadline).chain(resync).chain(self.intake.wake()).chain(self.next_retry());
        reaction.wake = times.filter(|at| *at > now).min();
    }

    /// Returns true if a list would be requested now: a watch without a subscription requests none.
    fn is_listening(&self) -> bool {
        self.watching.is_none() || self.snapshot.subscription == Subscription::Active
    }

    fn finish(&mut self, plan: &mut Plan) {
        self.outcome.waits = std::mem::take(&mut plan.waits);
        self.outcome.ready = std::mem::take(&mut plan.ready);
        self.phase = RunPhase::Over;
    }

    /// Ends a run that was interrupted or timed out, with what is still pending.
    fn abort(&mut self, now: Duration) {
        if let Some(observed) = &self.snapshot.observed {
            let mut plan = plan::plan(&self.desired, observed, &self.memory, now);
            self.finish(&mut plan);
        }
        self.phase = RunPhase::Over;
    }

    /// Returns true if completed steps are kept for the outcome: a watch would keep them without end.
    pub(super) fn is_recording(&self) -> bool {
        self.watching.as_ref().is_none_or(Watching::is_awaited)
    }

    fn step_done(
        &mut self,
        step: Step,
        result: std::result::Result<Option<String>, StepError>,
        now: Duration,
        reaction: &mut Reaction,
    ) {
        let running = self.steps.running.remove(&step.subject);
        let id = match result {
            Ok(id) => id,
            Err(error) => return self.step_failed(&step, &error, now, reaction),
        };
        let desired = running.map_or_else(|| self.desired.clone(), |running| running.desired);
        let restarted = self.is_restart(&step);
        if let Some(observed) = &mut self.snapshot.observed {
            effect::apply(&step, id.as_deref(), now, &desired, observed, &mut self.memory);
        }
        self.snapshot.dirty |= matches!(step.verb, Verb::Pull | Verb::Build);
        if let Verb::Stop(container) | Verb::Start(container) = &step.verb {
            self.containers.entry(container.id.clone()).or_default().exit_noticed = matches!(step.verb, Verb::Stop(_));
        }
        self.snapshot.unverified = true;
        if let (Verb::Start(target), Some(_)) = (&step.verb, &self.watching) {
            // Only by its start time is a later restart told from this start.
            self.containers.entry(target.id.clone()).or_default().stale = Some(StaleReason::Other);
        }
        if let Verb::Signal { container, .. } = &step.verb
            && let Some(mounted) = self.memory.containers.get(&container.id).and_then(|memory| memory.mounted.clone())
        {
            reaction.commands.push(Command::RecordMounted(container.id.clone(), mounted));
        }
        self.on_step_done(&step, restarted, reaction);
        self.record_correction(&step, now);
        self.snapshot.completed(step.clone(), desired, id, now);
        reaction.reports.push(Report::StepDone(step.clone()));
        if self.is_recording() {
            self.outcome.steps.push(step);
        }
    }
}
