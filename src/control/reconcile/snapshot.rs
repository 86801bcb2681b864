//! Keeping the snapshot true: lists, inspections, events that say that it is not. Part of the controller's mind.

use std::collections::BTreeMap;
use std::time::Duration;

use super::core::{Core, LIST, LIST_TRIES, RETRY_PAUSE, SUBSCRIBE, Subscription};
use crate::control::event::{Command, Reaction, Report};
use crate::engine::{ContainerEvent, EngineError, EngineEvent, Result};
use crate::observed::{Container, Observed, State};
use crate::plan::backoff::backoff_delay;
use crate::plan::step::{Subject, Verb};
use crate::plan::{effect, instance_of};

/// The first pause after the engine has not answered while watching, and the longest.
const GONE: (Duration, Duration) = (Duration::from_millis(500), Duration::from_secs(10));

/// What an event says of a container.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum StaleReason {
    /// It no longer runs.
    CompletedStep,
    /// It no longer exists.
    Removed,
    /// It runs again.
    Back,
    /// Its health changed, or anything else.
    Other,
}

impl StaleReason {
    /// Whether the snapshot says so already.
    fn is_known(self, container: &Container) -> bool {
        match self {
            StaleReason::CompletedStep => !container.is_up(),
            StaleReason::Back => container.state == State::Running,
            StaleReason::Removed | StaleReason::Other => false,
        }
    }
}

/// Whether a container that ran and runs has ended and was started again meanwhile, by the engine or by somebody else.
fn was_restarted(before: &Container, now: &Container) -> bool {
    let (Some(earlier), Some(later)) = (&before.details, &now.details) else { return false };
    // When it was started is not known between a start of ours and the next look.
    let another = !earlier.started_at.is_empty() && earlier.started_at != later.started_at;
    before.state == State::Running && now.state == State::Running && (another || later.restarts > earlier.restarts)
}

impl Core {
    pub(super) fn listed(&mut self, mut observed: Observed, now: Duration, reaction: &mut Reaction) {
        self.listing = false;
        self.list_failures = 0;
        self.unverified = !self.since_list.is_empty();
        for ended in std::mem::take(&mut self.since_list) {
            let (begun, id) = (&ended.begun, ended.id.as_deref());
            effect::apply(&begun.step, id, ended.at, &begun.desired, &mut observed, &mut self.memory);
        }
        if let Some(before) = self.observed.take() {
            observed.image_facts = before.image_facts;
            for (id, container) in before.containers {
                let Some(listed) = observed.containers.get_mut(&id) else {
                    continue;
                };
                // Its start is under way: it runs when that has been answered.
                let starting = self.busy.values().any(|begun| {
                    matches!(&begun.step.verb, Verb::Start(target) if target.id == id) && !container.is_up()
                });
                if starting {
                    *listed = container;
                    continue;
                }
                // For a moment after a container has ended, a list still calls it running. An inspection does not.
                if listed.is_up() && !container.is_up() {
                    self.stale.insert(id, StaleReason::Other);
                }
                // Details do not go stale by themselves: what changes them is a step of ours, or an event.
                if let Some(details) = container.details {
                    listed.details = Some(details);
                }
            }
        }
        for container in observed.containers.values().filter(|container| !container.is_up()) {
            self.memory.ended(&container.id);
        }
        self.observed = Some(observed);
        self.engine_is_back(now, reaction);
        self.prune();
    }

    pub(super) fn list_failed(&mut self, error: EngineError, now: Duration, reaction: &mut Reaction) {
        self.listing = false;
        self.list_failures += 1;
        self.dirty = true;
        if self.watching.is_some() {
            self.not_before.insert(LIST, now + backoff_delay(GONE.0, GONE.1, self.list_failures));
            self.engine_is_gone(error, reaction);
        } else if self.list_failures >= LIST_TRIES || self.observed.is_none() {
            self.outcome.engine = Some(error);
            self.over = true;
        } else {
            reaction.reports.push(Report::Note(format!("{error}; asking again")));
            self.not_before.insert(LIST, now + RETRY_PAUSE);
        }
    }

    /// The list will tell whether it is still needed; but what is asked for again and again without an answer means
    /// that the engine is gone.
    pub(super) fn look_failed(&mut self, error: EngineError, now: Duration) {
        self.dirty = true;
        self.look_failures += 1;
        self.not_before.insert(LIST, now + backoff_delay(RETRY_PAUSE, GONE.1, self.look_failures));
        if self.look_failures >= LIST_TRIES && self.watching.is_none() {
            self.outcome.engine = Some(error);
            self.over = true;
        }
    }

    pub(super) fn inspected(
        &mut self,
        id: &str,
        result: Result<Option<Box<Container>>>,
        now: Duration,
        reaction: &mut Reaction,
    ) {
        self.inspecting.remove(id);
        // A step on it is under way or has just ended: what was seen may be older than what was done.
        if self.is_busy(id) {
            self.stale.insert(id.to_owned(), StaleReason::Other);
            return;
        }
        let Some(observed) = &mut self.observed else { return };
        match result {
            Ok(Some(container)) => {
                self.look_failures = 0;
                let before = observed.containers.get(id);
                let relived = before.is_some_and(|before| was_restarted(before, &container));
                // What was brought back has to prove itself anew.
                let back = container.state == State::Running
                    && before.is_some_and(|before| before.state != State::Running || relived);
                if back && self.memory.started.contains_key(id) {
                    self.memory.forget(id);
                    self.memory.started.insert(id.to_owned(), now);
                } else if back && self.memory.watching {
                    self.memory.forget(id);
                }
                if !container.is_up() {
                    self.memory.ended(id);
                }
                observed.containers.insert(id.to_owned(), *container);
                if relived {
                    self.came_back(id, reaction);
                }
            }
            Ok(None) => {
                let gone = observed.containers.remove(id);
                let owner = gone.as_ref().and_then(|gone| instance_of(&self.desired, gone));
                if let (Some(watching), Some(owner)) = (&mut self.watching, owner) {
                    watching.removed.insert(owner.into_owned());
                }
            }
            Err(error) => {
                // It was suspected for a reason.
                self.stale.insert(id.to_owned(), StaleReason::Other);
                self.look_failed(error, now);
            }
        }
    }

    /// A container has ended and was started again before anybody looked.
    fn came_back(&mut self, id: &str, reaction: &mut Reaction) {
        let owner = self.owner_of(id).filter(|owner| self.desired.services.contains_key(owner));
        if let Some(service) = owner.filter(|_| self.watching.is_some()) {
            reaction.reports.push(Report::Note(format!(
                "{service}: its container ended and was started again, not by drillmaster"
            )));
            self.reporter.news(&Subject::Service(service));
        }
    }

    pub(super) fn engine_event(&mut self, event: EngineEvent, now: Duration, reaction: &mut Reaction) {
        // A stream that brings events works, however often it has to be opened again.
        if event != EngineEvent::Subscribed {
            self.subscribe_failures = 0;
        }
        let watching = self.watching.is_some();
        match event {
            EngineEvent::Subscribed => {
                self.subscription = Subscription::Stands;
                self.dirty = true;
                self.resync();
            }
            EngineEvent::Container { id, what } => {
                if let ContainerEvent::Died { code } = what {
                    self.died(&id, now);
                    self.exited(&id, code, reaction);
                }
                let Some(observed) = &mut self.observed else { return };
                let Some(container) = observed.containers.get_mut(&id) else {
                    // Somebody made it; a step of ours that is under way tells by itself.
                    let creating = self.busy.values().any(|begun| matches!(begun.step.verb, Verb::Create { .. }));
                    self.dirty |= watching && what == ContainerEvent::Created && !creating;
                    return;
                };
                let owner = instance_of(&self.desired, container).unwrap_or_default().into_owned();
                let busy = self.busy.contains_key(&Subject::Service(owner));
                let suspicion = match what {
                    ContainerEvent::Health(health) if !busy => {
                        container.health = health;
                        // What is being asked for may be older than this, and would take its place.
                        if !self.listing && !self.inspecting.contains(&id) {
                            return;
                        }
                        StaleReason::Other
                    }
                    ContainerEvent::Health(_) => StaleReason::Other,
                    ContainerEvent::Killed => return self.killed(&id, now),
                    ContainerEvent::Died { .. } => StaleReason::CompletedStep,
                    ContainerEvent::Destroyed => StaleReason::Removed,
                    ContainerEvent::Started => StaleReason::Back,
                    ContainerEvent::Changed if watching => StaleReason::Other,
                    // A run meets everything else in its next list.
                    ContainerEvent::Created | ContainerEvent::Changed => return,
                };
                // While a step on it is under way the event may be that step's own.
                if busy || !suspicion.is_known(container) {
                    // What only an inspection tells is not settled by what the snapshot comes to say.
                    let kept = self.stale.entry(id).or_insert(suspicion);
                    if *kept != StaleReason::Other {
                        *kept = suspicion;
                    }
                }
            }
            EngineEvent::Network { id, container } if watching => self.network_changed(&id, container),
            EngineEvent::Network { .. } => {}
        }
    }

    /// Somebody attached or detached a container, or made or removed a network.
    fn network_changed(&mut self, id: &str, container: Option<String>) {
        let Some(observed) = &self.observed else { return };
        match container {
            Some(container) => {
                if observed.containers.get(&container).is_some_and(|c| c.service_of(&self.desired.group).is_some()) {
                    self.stale.insert(container, StaleReason::Other);
                }
            }
            None => {
                let known = observed.networks.get(id);
                let concerns = known.is_none_or(|network| {
                    network.name == self.desired.network || network.group.as_ref() == Some(&self.desired.group)
                });
                self.dirty |= concerns && !self.busy.contains_key(&Subject::Network(self.desired.network.clone()));
            }
        }
    }

    /// Without events nothing can be awaited: ask again, but not without end. What happened meanwhile, a list tells.
    pub(super) fn events_ended(&mut self, error: EngineError, now: Duration, reaction: &mut Reaction) {
        let stood = std::mem::replace(&mut self.subscription, Subscription::None) == Subscription::Stands;
        self.dirty = true;
        self.subscribe_failures += 1;
        if self.watching.is_some() {
            self.not_before.insert(SUBSCRIBE, now + backoff_delay(GONE.0 / 5, GONE.1, self.subscribe_failures));
            // A stream that breaks may be all that broke: the next try tells.
            if !stood {
                self.engine_is_gone(error, reaction);
            }
            return;
        }
        self.not_before.insert(LIST, now + RETRY_PAUSE);
        if self.subscribe_failures > LIST_TRIES {
            self.outcome.engine = Some(error);
            self.over = true;
        }
    }

    pub(super) fn inspect_suspects(&mut self, reaction: &mut Reaction) {
        let (ready, later): (BTreeMap<_, _>, BTreeMap<_, _>) = std::mem::take(&mut self.stale)
            .into_iter()
            .partition(|(id, _)| !self.inspecting.contains(id) && !self.is_busy(id));
        self.stale = later;
        let Some(observed) = &self.observed else { return };
        for (id, suspicion) in ready {
            let open = observed.containers.get(&id).is_some_and(|container| !suspicion.is_known(container));
            if open && self.inspecting.insert(id.clone()) {
                reaction.commands.push(Command::Inspect(id));
            }
        }
    }
}
