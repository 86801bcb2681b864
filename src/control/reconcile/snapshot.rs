//! Keeping the snapshot true: lists, inspections, events that say that it is not. Part of the controller's mind.

use std::collections::BTreeMap;
use std::time::Duration;

use super::core::{Core, LIST, LIST_TRIES, RETRY_PAUSE, SUBSCRIBE, Subscription};
use crate::control::event::{Answer, Command, Report};
use crate::engine::{EngineError, Happened, Hint, Result};
use crate::observed::{Container, Observed, State};
use crate::plan::backoff::pause;
use crate::plan::step::{Subject, Verb};
use crate::plan::{effect, instance_of};

/// The first pause after the engine has not answered while watching, and the longest.
const GONE: (Duration, Duration) = (Duration::from_millis(500), Duration::from_secs(10));

/// What an event says of a container.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Suspicion {
    /// It no longer runs.
    Ended,
    /// It no longer exists.
    Removed,
    /// It runs again.
    Back,
    /// Its health changed, or anything else.
    Other,
}

impl Suspicion {
    /// Whether the snapshot says so already.
    fn is_known(self, container: &Container) -> bool {
        match self {
            Suspicion::Ended => !container.is_up(),
            Suspicion::Back => container.state == State::Running,
            Suspicion::Removed | Suspicion::Other => false,
        }
    }
}

/// Whether a container that ran and runs has ended and was started again meanwhile, by the engine or by somebody else.
fn lives_again(before: &Container, now: &Container) -> bool {
    let (Some(earlier), Some(later)) = (&before.details, &now.details) else { return false };
    // When it was started is not known between a start of ours and the next look.
    let another = !earlier.started_at.is_empty() && earlier.started_at != later.started_at;
    before.state == State::Running && now.state == State::Running && (another || later.restarts > earlier.restarts)
}

impl Core {
    pub(super) fn listed(&mut self, mut observed: Observed, now: Duration, answer: &mut Answer) {
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
                    self.suspects.insert(id, Suspicion::Other);
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
        self.engine_is_back(now, answer);
        self.prune();
    }

    pub(super) fn list_failed(&mut self, error: EngineError, now: Duration, answer: &mut Answer) {
        self.listing = false;
        self.list_failures += 1;
        self.dirty = true;
        if self.watching.is_some() {
            self.not_before.insert(LIST, now + pause(GONE.0, GONE.1, self.list_failures));
            self.engine_is_gone(error, answer);
        } else if self.list_failures >= LIST_TRIES || self.observed.is_none() {
            self.outcome.engine = Some(error);
            self.over = true;
        } else {
            answer.reports.push(Report::Note(format!("{error}; asking again")));
            self.not_before.insert(LIST, now + RETRY_PAUSE);
        }
    }

    /// The list will tell whether it is still needed; but what is asked for again and again without an answer means
    /// that the engine is gone.
    pub(super) fn look_failed(&mut self, error: EngineError, now: Duration) {
        self.dirty = true;
        self.look_failures += 1;
        self.not_before.insert(LIST, now + pause(RETRY_PAUSE, GONE.1, self.look_failures));
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
        answer: &mut Answer,
    ) {
        self.inspecting.remove(id);
        // A step on it is under way or has just ended: what was seen may be older than what was done.
        if self.is_busy(id) {
            self.suspects.insert(id.to_owned(), Suspicion::Other);
            return;
        }
        let Some(observed) = &mut self.observed else { return };
        match result {
            Ok(Some(container)) => {
                self.look_failures = 0;
                let before = observed.containers.get(id);
                let relived = before.is_some_and(|before| lives_again(before, &container));
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
                    self.came_back(id, answer);
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
                self.suspects.insert(id.to_owned(), Suspicion::Other);
                self.look_failed(error, now);
            }
        }
    }

    /// A container has ended and was started again before anybody looked.
    fn came_back(&mut self, id: &str, answer: &mut Answer) {
        let owner = self.owner_of(id).filter(|owner| self.desired.services.contains_key(owner));
        if let Some(service) = owner.filter(|_| self.watching.is_some()) {
            answer.reports.push(Report::Note(format!(
                "{service}: its container ended and was started again, not by drillmaster"
            )));
            self.told.news(&Subject::Service(service));
        }
    }

    pub(super) fn hint(&mut self, hint: Hint, now: Duration, answer: &mut Answer) {
        // A stream that brings events works, however often it has to be opened again.
        if hint != Hint::Subscribed {
            self.hint_failures = 0;
        }
        let watching = self.watching.is_some();
        match hint {
            Hint::Subscribed => {
                self.subscription = Subscription::Stands;
                self.dirty = true;
                self.look_anew();
            }
            Hint::Container { id, what } => {
                if let Happened::Died { code } = what {
                    self.died(&id, now);
                    self.exited(&id, code, answer);
                }
                let Some(observed) = &mut self.observed else { return };
                let Some(container) = observed.containers.get_mut(&id) else {
                    // Somebody made it; a step of ours that is under way tells by itself.
                    let creating = self.busy.values().any(|begun| matches!(begun.step.verb, Verb::Create { .. }));
                    self.dirty |= watching && what == Happened::Created && !creating;
                    return;
                };
                let owner = instance_of(&self.desired, container).unwrap_or_default().into_owned();
                let busy = self.busy.contains_key(&Subject::Service(owner));
                let suspicion = match what {
                    Happened::Health(health) if !busy => {
                        container.health = health;
                        // What is being asked for may be older than this, and would take its place.
                        if !self.listing && !self.inspecting.contains(&id) {
                            return;
                        }
                        Suspicion::Other
                    }
                    Happened::Health(_) => Suspicion::Other,
                    Happened::Killed => return self.killed(&id, now),
                    Happened::Died { .. } => Suspicion::Ended,
                    Happened::Destroyed => Suspicion::Removed,
                    Happened::Started => Suspicion::Back,
                    Happened::Changed if watching => Suspicion::Other,
                    // A run meets everything else in its next list.
                    Happened::Created | Happened::Changed => return,
                };
                // While a step on it is under way the event may be that step's own.
                if busy || !suspicion.is_known(container) {
                    // What only an inspection tells is not settled by what the snapshot comes to say.
                    let kept = self.suspects.entry(id).or_insert(suspicion);
                    if *kept != Suspicion::Other {
                        *kept = suspicion;
                    }
                }
            }
            Hint::Network { id, container } if watching => self.network_changed(&id, container),
            Hint::Network { .. } => {}
        }
    }

    /// Somebody attached or detached a container, or made or removed a network.
    fn network_changed(&mut self, id: &str, container: Option<String>) {
        let Some(observed) = &self.observed else { return };
        match container {
            Some(container) => {
                if observed.containers.get(&container).is_some_and(|c| c.service_of(&self.desired.group).is_some()) {
                    self.suspects.insert(container, Suspicion::Other);
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
    pub(super) fn hints_ended(&mut self, error: EngineError, now: Duration, answer: &mut Answer) {
        let stood = std::mem::replace(&mut self.subscription, Subscription::None) == Subscription::Stands;
        self.dirty = true;
        self.hint_failures += 1;
        if self.watching.is_some() {
            self.not_before.insert(SUBSCRIBE, now + pause(GONE.0 / 5, GONE.1, self.hint_failures));
            // A stream that breaks may be all that broke: the next try tells.
            if !stood {
                self.engine_is_gone(error, answer);
            }
            return;
        }
        self.not_before.insert(LIST, now + RETRY_PAUSE);
        if self.hint_failures > LIST_TRIES {
            self.outcome.engine = Some(error);
            self.over = true;
        }
    }

    pub(super) fn inspect_suspects(&mut self, answer: &mut Answer) {
        let (ready, later): (BTreeMap<_, _>, BTreeMap<_, _>) = std::mem::take(&mut self.suspects)
            .into_iter()
            .partition(|(id, _)| !self.inspecting.contains(id) && !self.is_busy(id));
        self.suspects = later;
        let Some(observed) = &self.observed else { return };
        for (id, suspicion) in ready {
            let open = observed.containers.get(&id).is_some_and(|container| !suspicion.is_known(container));
            if open && self.inspecting.insert(id.clone()) {
                answer.commands.push(Command::Inspect(id));
            }
        }
    }
}
