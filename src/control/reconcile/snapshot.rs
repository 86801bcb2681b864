//! The snapshot of the engine, and how it is kept true: lists, inspections, and events that mark it as stale.

use std::collections::BTreeSet;
use std::sync::Arc;
use std::time::Duration;

use super::core::{Core, RunPhase};
use crate::control::event::{Command, Reaction, Report};
use crate::desired::Desired;
use crate::engine::{ContainerEvent, EngineError, EngineEvent, Result};
use crate::observed::{Container, Observed, State};
use crate::plan::backoff::backoff_delay;
use crate::plan::step::{Step, Subject, Verb};
use crate::plan::{effect, files, instance_of};
use crate::types::{ContainerId, ServiceName};

/// Pause before a failed request or step is retried.
pub(super) const RETRY_PAUSE: Duration = Duration::from_millis(500);
/// Consecutive failures after which a one-shot run takes the engine for unreachable.
const MAX_FAILURES: u32 = 3;
/// First and longest pause between attempts to reach the engine, while watching.
const RECONNECT: (Duration, Duration) = (Duration::from_millis(500), Duration::from_secs(10));

/// What is known of the engine, and the requests that keep it up to date.
#[derive(Debug)]
pub(super) struct Snapshot {
    /// The engine's objects; `None` before the first list.
    pub(super) observed: Option<Observed>,
    /// A list is needed before the next decision.
    pub(super) dirty: bool,
    /// A step was completed after the last list.
    pub(super) unverified: bool,
    /// A list is under way.
    pub(super) listing: bool,
    /// When the last list was requested.
    pub(super) last_list: Duration,
    /// Images being inspected, by id.
    pub(super) inspecting_images: BTreeSet<String>,
    /// Consecutive failures of inspections.
    pub(super) query_failures: u32,
    pub(super) subscription: Subscription,
    /// Steps completed since the list under way was requested: it may not show them yet.
    completed: Vec<CompletedStep>,
    list_failures: u32,
    subscribe_failures: u32,
    list_not_before: Duration,
    subscribe_not_before: Duration,
}

/// The subscription to the engine's events.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Subscription {
    None,
    Requested,
    Active,
}

/// A step that succeeded: from which desired state, with which id as its result, and when.
#[derive(Debug)]
struct CompletedStep {
    step: Step,
    desired: Arc<Desired>,
    id: Option<String>,
    at: Duration,
}

impl Default for Snapshot {
    fn default() -> Snapshot {
        Snapshot {
            observed: None,
            dirty: true,
            unverified: false,
            listing: false,
            last_list: Duration::ZERO,
            inspecting_images: BTreeSet::new(),
            query_failures: 0,
            subscription: Subscription::None,
            completed: Vec::new(),
            list_failures: 0,
            subscribe_failures: 0,
            list_not_before: Duration::ZERO,
            subscribe_not_before: Duration::ZERO,
        }
    }
}

impl Snapshot {
    /// A container, as far as it is known.
    pub(super) fn container(&self, id: &ContainerId) -> Option<&Container> {
        self.observed.as_ref()?.containers.get(id)
    }

    /// Records a step that succeeded, until a list shows it.
    pub(super) fn completed(&mut self, step: Step, desired: Arc<Desired>, id: Option<String>, at: Duration) {
        self.completed.push(CompletedStep { step, desired, id, at });
    }

    /// When paused requests may be repeated.
    pub(super) fn pauses(&self) -> [Duration; 2] {
        [self.list_not_before, self.subscribe_not_before]
    }
}

/// Why the snapshot of a container is stale.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum StaleReason {
    /// It exited.
    Ended,
    /// It was removed.
    Removed,
    /// It was started.
    Started,
    /// Its health or anything else changed.
    Other,
}

impl StaleReason {
    /// Returns true if the snapshot already shows it.
    fn is_known(self, container: &Container) -> bool {
        match self {
            StaleReason::Ended => !container.is_up(),
            StaleReason::Started => container.state == State::Running,
            StaleReason::Removed | StaleReason::Other => false,
        }
    }
}

/// The code of a container that has exited, as far as it is known.
fn exit_of(container: &Container) -> Option<Option<i64>> {
    match container.state {
        State::Exited { code } => Some(code),
        _ => None,
    }
}

/// Returns true if a container was running (or paused) before and is now, but exited and was started again in between, by
/// the engine or externally.
fn was_restarted(before: &Container, now: &Container) -> bool {
    let Some(later) = &now.details else { return false };
    // The start time is unknown between a start of ours and the next inspection.
    let (started_at, restarts) =
        before.details.as_ref().map_or(("", 0), |earlier| (earlier.started_at.as_str(), earlier.restarts));
    let another = !started_at.is_empty() && started_at != later.started_at;
    let runs = |container: &Container| matches!(container.state, State::Running | State::Paused);
    runs(before) && runs(now) && (another || later.restarts > restarts)
}

impl Core {
    pub(super) fn listed(&mut self, mut observed: Observed, now: Duration, reaction: &mut Reaction) {
        self.snapshot.listing = false;
        self.snapshot.list_failures = 0;
        let completed = std::mem::take(&mut self.snapshot.completed);
        self.snapshot.unverified = !completed.is_empty();
        for step in completed {
            effect::apply(&step.step, step.id.as_deref(), step.at, &step.desired, &mut observed, &mut self.memory);
        }
        let mut exits = Vec::new();
        if let Some(before) = self.snapshot.observed.take() {
            observed.image_facts = before.image_facts;
            for (id, container) in before.containers {
                let Some(listed) = observed.containers.get_mut(&id) else {
                    continue;
                };
                // Its start is under way: it counts as running once that has succeeded.
                let starting = self.steps.running.values().any(|running| {
                    matches!(&running.step.verb, Verb::Start(target) if target.id == id) && !container.is_up()
                });
                if starting {
                    *listed = container;
                    continue;
                }
                // For a moment after a container has exited, a list still shows it as running. An inspection does not.
                if listed.is_up() && !container.is_up() {
                    self.containers.entry(id.clone()).or_default().stale = Some(StaleReason::Other);
                }
                if listed.state == State::Running && container.state == State::Restarting {
                    self.memory.started_again(&id, now);
                }
                let exit = exit_of(listed).filter(|_| container.is_up());
                exits.extend(exit.map(|code| (id.clone(), code)));
                // Details do not become stale by themselves: only a step or an event changes them.
                if let Some(details) = container.details {
                    listed.details = Some(details);
                }
            }
        }
        for container in observed.containers.values().filter(|container| !container.is_up()) {
            self.memory.exited(&container.id);
        }
        self.snapshot.observed = Some(observed);
        for (id, code) in exits {
            self.exited(&id, code, reaction);
        }
        self.engine_reconnected(now, reaction);
        self.prune();
    }

    pub(super) fn list_failed(&mut self, error: EngineError, now: Duration, reaction: &mut Reaction) {
        let snapshot = &mut self.snapshot;
        snapshot.listing = false;
        snapshot.list_failures += 1;
        snapshot.dirty = true;
        if self.watching.is_some() {
            snapshot.list_not_before = now + backoff_delay(RECONNECT.0, RECONNECT.1, snapshot.list_failures);
            self.engine_lost(error, reaction);
        } else if snapshot.list_failures >= MAX_FAILURES || snapshot.observed.is_none() {
            self.outcome.engine = Some(error);
            self.phase = RunPhase::Over;
        } else {
            snapshot.list_not_before = now + RETRY_PAUSE;
            reaction.reports.push(Report::Note(format!("{error}; retrying")));
        }
    }

    /// An inspection failed. The next list shows whether it is still needed; an engine that fails to answer again and
    /// again is unreachable.
    pub(super) fn query_failed(&mut self, error: EngineError, now: Duration) {
        let snapshot = &mut self.snapshot;
        snapshot.dirty = true;
        snapshot.query_failures += 1;
        snapshot.list_not_before = now + backoff_delay(RETRY_PAUSE, RECONNECT.1, snapshot.query_failures);
        if snapshot.query_failures >= MAX_FAILURES && self.watching.is_none() {
            self.outcome.engine = Some(error);
            self.phase = RunPhase::Over;
        }
    }

    pub(super) fn inspected(
        &mut self,
        id: &ContainerId,
        result: Result<Option<Box<Container>>>,
        now: Duration,
        reaction: &mut Reaction,
    ) {
        let (is_busy, signalled) = (self.is_busy(id), self.was_signalled(id, now));
        let work = self.containers.entry(id.clone()).or_default();
        work.inspecting = false;
        // A step on it is under way or has just ended: the result may be older than the step.
        if is_busy {
            work.stale = Some(StaleReason::Other);
            return;
        }
        let Some(observed) = &mut self.snapshot.observed else { return };
        match result {
            Ok(Some(container)) => {
                self.snapshot.query_failures = 0;
                let before = observed.containers.get(id);
                let restarted = before.is_some_and(|before| was_restarted(before, &container));
                let back = container.state == State::Running && before.is_some_and(|it| it.state != State::Running);
                let ended = !container.is_up() && before.is_some_and(Container::is_up);
                if back || restarted {
                    self.memory.started_again(id, now);
                }
                if !container.is_up() {
                    self.memory.exited(id);
                } else if container.state != State::Restarting {
                    self.memory.container_mut(id).life.inspected_at = Some(now);
                }
                // Docker 28 reports the exit with an event of its own, after the events of what caused it.
                if ended && signalled {
                    self.memory.forget(id);
                }
                if let Some(mounted) = files::learn_start(&container, &mut self.memory) {
                    reaction.commands.push(Command::RecordMounted(id.clone(), mounted));
                }
                let exit = exit_of(&container).filter(|_| ended);
                observed.insert(*container);
                if let Some(code) = exit {
                    self.exited(id, code, reaction);
                }
                if restarted {
                    self.report_external_restart(id, reaction);
                }
            }
            Ok(None) => {
                let gone = observed.containers.remove(id);
                let owner = gone.as_ref().and_then(|gone| instance_of(&self.desired, gone));
                if let (Some(watching), Some(owner)) = (&mut self.watching, owner) {
                    watching.removed.insert(owner.into_owned().into());
                }
            }
            Err(error) => {
                work.stale = Some(StaleReason::Other);
                self.query_failed(error, now);
            }
        }
    }

    fn report_external_restart(&mut self, id: &ContainerId, reaction: &mut Reaction) {
        let owner = self.owner_of(id).filter(|owner| self.desired.services.contains_key(owner));
        if let Some(service) = owner.filter(|_| self.watching.is_some()) {
            reaction.reports.push(Report::Note(format!("{service}: container restarted externally")));
            self.reporter.mark(&Subject::Service(service));
        }
    }

    pub(super) fn engine_event(&mut self, event: EngineEvent, now: Duration, reaction: &mut Reaction) {
        // A stream that delivers events works, however often it has to be opened again.
        if event != EngineEvent::Subscribed {
            self.snapshot.subscribe_failures = 0;
        }
        match event {
            EngineEvent::Subscribed => {
                // Events of starts may have been lost.
                for work in self.containers.values_mut() {
                    (work.exit_noticed, work.start_expected) = (false, false);
                }
                self.snapshot.subscription = Subscription::Active;
                self.snapshot.dirty = true;
                self.resync();
            }
            EngineEvent::Container { id, what } => self.container_event(id.into(), what, now, reaction),
            EngineEvent::Network { id, container } if self.watching.is_some() => {
                self.network_changed(&id, container.map(ContainerId::from));
            }
            EngineEvent::Network { .. } => {}
        }
    }

    fn container_event(&mut self, id: ContainerId, what: ContainerEvent, now: Duration, reaction: &mut Reaction) {
        match what {
            ContainerEvent::Died { code } => {
                self.died(&id, now);
                self.report_early_exit(&id, code, reaction);
                self.exited(&id, code, reaction);
                // The event of a start precedes this one, unless there is none.
                self.containers.entry(id.clone()).or_default().start_expected = false;
            }
            ContainerEvent::Started => {
                let work = self.containers.entry(id.clone()).or_default();
                // The event of a step's start may follow an inspection that has already shown the next exit.
                if !std::mem::take(&mut work.start_expected) {
                    work.exit_noticed = false;
                }
            }
            _ => {}
        }
        let watching = self.watching.is_some();
        let Some(observed) = &mut self.snapshot.observed else { return };
        let Some(container) = observed.containers.get_mut(&id) else {
            // It was created externally; the result of a step of ours arrives by itself.
            let creating = self.steps.running.values().any(|running| matches!(running.step.verb, Verb::Create { .. }));
            self.snapshot.dirty |= watching && what == ContainerEvent::Created && !creating;
            return;
        };
        let owner = ServiceName::from(instance_of(&self.desired, container).unwrap_or_default().into_owned());
        let busy = self.steps.running.contains_key(&Subject::Service(owner));
        let work = self.containers.entry(id.clone()).or_default();
        let reason = match what {
            ContainerEvent::Health(health) if !busy => {
                container.health = health;
                // A list or inspection under way may be older than this event, and would overwrite it.
                if !self.snapshot.listing && !work.inspecting {
                    return;
                }
                StaleReason::Other
            }
            ContainerEvent::Health(_) => StaleReason::Other,
            // A step has sent it.
            ContainerEvent::Killed if busy => return,
            ContainerEvent::Killed => return self.killed(&id, now),
            ContainerEvent::Died { .. } => StaleReason::Ended,
            ContainerEvent::Destroyed => StaleReason::Removed,
            ContainerEvent::Started => StaleReason::Started,
            ContainerEvent::Changed if watching => StaleReason::Other,
            // A one-shot run meets everything else in its next list.
            ContainerEvent::Created | ContainerEvent::Changed => return,
        };
        // While a step is under way the event may be caused by it.
        if busy || !reason.is_known(container) {
            // What only an inspection shows is not settled by a later list.
            let kept = work.stale.get_or_insert(reason);
            if *kept != StaleReason::Other {
                *kept = reason;
            }
        }
    }

    /// A container was attached or detached, or a network was created or removed.
    fn network_changed(&mut self, id: &str, container: Option<ContainerId>) {
        let Some(observed) = &self.snapshot.observed else { return };
        match container {
            Some(id) => {
                let group = &self.desired.group;
                if observed.containers.get(&id).is_some_and(|container| container.service_of(group).is_some()) {
                    self.containers.entry(id).or_default().stale = Some(StaleReason::Other);
                }
            }
            None => {
                let known = observed.networks.get(id);
                let concerns = known.is_none_or(|network| {
                    self.desired.networks.contains_key(&network.name)
                        || network.group.as_ref() == Some(&self.desired.group)
                });
                let mut names = self.desired.networks.keys();
                let busy = names.any(|name| self.steps.running.contains_key(&Subject::Network(name.clone())));
                self.snapshot.dirty |= concerns && !busy;
            }
        }
    }

    /// The event stream broke. What happens until the next subscription is found by a list.
    pub(super) fn events_ended(&mut self, error: EngineError, now: Duration, reaction: &mut Reaction) {
        let snapshot = &mut self.snapshot;
        let was_active = std::mem::replace(&mut snapshot.subscription, Subscription::None) == Subscription::Active;
        snapshot.dirty = true;
        snapshot.subscribe_failures += 1;
        if self.watching.is_some() {
            let delay = backoff_delay(RECONNECT.0 / 5, RECONNECT.1, snapshot.subscribe_failures);
            snapshot.subscribe_not_before = now + delay;
            // Maybe only the stream broke: the next attempt shows.
            if !was_active {
                self.engine_lost(error, reaction);
            }
            return;
        }
        snapshot.list_not_before = now + RETRY_PAUSE;
        if snapshot.subscribe_failures > MAX_FAILURES {
            self.outcome.engine = Some(error);
            self.phase = RunPhase::Over;
        }
    }

    /// Requests a list, unless it has to pause.
    pub(super) fn list(&mut self, now: Duration, reaction: &mut Reaction) {
        let snapshot = &mut self.snapshot;
        if now < snapshot.list_not_before {
            return;
        }
        snapshot.dirty = false;
        snapshot.listing = true;
        snapshot.last_list = now;
        snapshot.completed.clear();
        reaction.commands.push(Command::List);
    }

    /// Subscribes to the engine's events, unless it has to pause.
    pub(super) fn subscribe(&mut self, now: Duration, reaction: &mut Reaction) {
        let snapshot = &mut self.snapshot;
        if snapshot.subscription == Subscription::None && now >= snapshot.subscribe_not_before {
            snapshot.subscription = Subscription::Requested;
            reaction.commands.push(Command::Subscribe);
        }
    }

    /// Inspects stale containers, except those with a step or an inspection under way.
    pub(super) fn inspect_stale(&mut self, reaction: &mut Reaction) {
        let stale = self.containers.iter().filter(|(_, work)| work.stale.is_some() && !work.inspecting);
        let ids: Vec<ContainerId> = stale.map(|(id, _)| id.clone()).collect();
        for id in ids.into_iter().filter(|id| !self.is_busy(id)).collect::<Vec<_>>() {
            let reason = self.containers.get_mut(&id).and_then(|work| work.stale.take());
            let is_open = |reason: StaleReason| self.snapshot.container(&id).is_some_and(|it| !reason.is_known(it));
            if reason.is_some_and(is_open) {
                self.inspect(&id, reaction);
            }
        }
    }
}
