//! The controller's mind: every event goes through one synchronous handler, which says what to do next.
//!
//! It keeps the snapshot true (lists, inspections, effects of its own steps), asks the planner, and hands out what the
//! planner allows as far as the limits permit. It waits for nothing and touches nothing; time comes in with the event.

use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;

use super::event::{Answer, Command, Event, Failed, Limits, Outcome, Report};
use crate::desired::Desired;
use crate::engine::{EngineError, Happened, Hint, Result};
use crate::observed::{Container, Health, Observed, State};
use crate::plan::step::{Failure, Look, Probe, Reason, Step, Subject, Verb};
use crate::plan::{self, Memory, check, effect};

/// Pause before a step that was refused is tried again.
const RETRY_PAUSE: Duration = Duration::from_millis(500);
/// How often a step may be begun before the run gives its subject up.
const TRIES: u32 = 3;
/// When everything is listed again while something is awaited: an event may have been lost.
const RESYNC: Duration = Duration::from_secs(30);
/// How often a list may fail in a row before the engine counts as gone.
const LIST_TRIES: u32 = 3;

/// The state of a run.
#[derive(Debug)]
pub struct Core {
    desired: Desired,
    limits: Limits,
    observed: Option<Observed>,
    memory: Memory,
    outcome: Outcome,
    /// Steps under way, by subject.
    busy: BTreeMap<Subject, Step>,
    /// Steps that ended since the list under way was asked for: it may not show them yet.
    since_list: Vec<(Step, Option<String>, Duration)>,
    /// Containers that an event says something else of than the snapshot: to be inspected.
    suspects: BTreeMap<String, Suspicion>,
    inspecting: BTreeSet<String>,
    images: BTreeSet<String>,
    probing: BTreeMap<String, Probe>,
    /// Why pings do not answer, by container.
    unanswered: BTreeMap<String, String>,
    diagnosing: BTreeSet<String>,
    begun: BTreeMap<(Subject, String), u32>,
    not_before: BTreeMap<Subject, Duration>,
    listing: bool,
    last_list: Duration,
    list_failures: u32,
    look_failures: u32,
    hint_failures: u32,
    /// The snapshot is not to be trusted until the next list.
    dirty: bool,
    subscription: Subscription,
    /// A step ended after the last list.
    unverified: bool,
    closing: bool,
    over: bool,
    told: Told,
}

/// How long a run goes on.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Course {
    /// Until everything that can be done is done.
    Once,
    /// Until somebody ends it.
    Watch {
        /// The specs may come to name no service, and then everything is removed.
        may_empty: bool,
    },
}

/// What was reported already.
#[derive(Debug, Default)]
struct Told {
    planned: bool,
    waits: BTreeMap<String, String>,
    ready: BTreeSet<String>,
}

/// What an event says of a container.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Suspicion {
    /// It no longer runs.
    Ended,
    /// It no longer exists.
    Removed,
    /// It runs again.
    Back,
    /// Its health changed.
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

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Subscription {
    None,
    Asked,
    Stands,
}

impl Core {
    /// A run for this desired state, with what earlier runs remembered. Services of `reload` are replaced although they
    /// match.
    pub fn new(desired: Desired, limits: Limits, course: Course, memory: Memory, reload: BTreeSet<String>) -> Core {
        let _ = (course, reload);
        Core {
            desired,
            limits,
            observed: None,
            memory,
            outcome: Outcome::default(),
            busy: BTreeMap::new(),
            since_list: Vec::new(),
            suspects: BTreeMap::new(),
            inspecting: BTreeSet::new(),
            images: BTreeSet::new(),
            probing: BTreeMap::new(),
            unanswered: BTreeMap::new(),
            diagnosing: BTreeSet::new(),
            begun: BTreeMap::new(),
            not_before: BTreeMap::new(),
            listing: false,
            last_list: Duration::ZERO,
            list_failures: 0,
            look_failures: 0,
            hint_failures: 0,
            dirty: true,
            subscription: Subscription::None,
            unverified: false,
            closing: false,
            over: false,
            told: Told::default(),
        }
    }

    /// How it ended.
    pub fn into_outcome(mut self) -> Outcome {
        self.outcome.observed = self.observed.unwrap_or_default();
        self.outcome
    }

    /// What should exist, and what does as far as is known: what a step is translated with.
    pub fn view(&self) -> (&Desired, Option<&Observed>) {
        (&self.desired, self.observed.as_ref())
    }

    /// The handler.
    pub fn handle(&mut self, event: Event, now: Duration) -> Answer {
        let mut answer = Answer::default();
        self.take_in(event, now, &mut answer);
        if !self.over {
            self.decide(now, &mut answer);
        }
        answer.over = self.over;
        answer
    }

    fn take_in(&mut self, event: Event, now: Duration, answer: &mut Answer) {
        match event {
            Event::Begin | Event::Tick => {}
            Event::Listed(Ok(observed)) => self.listed(observed),
            Event::Listed(Err(error)) => self.list_failed(error, now, answer),
            Event::Inspected(id, result) => self.inspected(&id, result, now),
            Event::Image(id, facts) => {
                self.images.remove(&id);
                match facts {
                    Ok(Some(facts)) => {
                        self.look_failures = 0;
                        if let Some(observed) = &mut self.observed {
                            observed.image_facts.insert(id, facts);
                        }
                    }
                    // It went away: the list will tell.
                    Ok(None) => self.dirty = true,
                    Err(error) => self.look_failed(error, now),
                }
            }
            Event::Done(step, result) => self.done(step, result, now, answer),
            Event::Hint(Ok(hint)) => self.hint(hint),
            Event::Hint(Err(error)) => self.hints_ended(error, now),
            Event::HintsEnded => {
                let reason = "its event stream ended".to_owned();
                self.hints_ended(EngineError::Unreachable { endpoint: "the same place".into(), reason }, now);
            }
            Event::Answered(id) => {
                self.probing.remove(&id);
                self.unanswered.remove(&id);
                self.memory.answered.insert(id);
            }
            Event::Unanswered(id, why) => {
                // The first list may have been stale and an event may get lost: a container that this run did not start
                // itself, or of which there are news, is looked at.
                let known = self.memory.started.contains_key(&id) && !self.unanswered.contains_key(&id);
                if !known {
                    self.suspects.insert(id.clone(), Suspicion::Other);
                }
                self.unanswered.insert(id, why);
            }
            Event::Pulling(image, progress) => answer.reports.push(Report::Pulling(image, progress)),
            Event::Diagnosed(failure, output) => {
                self.diagnosing.remove(&failure.service);
                self.fail(failure, output, answer);
            }
            Event::Checked(..) | Event::Past(_) | Event::SpecsChanged | Event::Specs(_) | Event::Asked(..) => {}
            Event::Interrupt => {
                self.outcome.interrupted = true;
                self.closing = true;
            }
        }
    }

    fn listed(&mut self, mut observed: Observed) {
        self.listing = false;
        self.list_failures = 0;
        self.unverified = !self.since_list.is_empty();
        for (step, id, at) in std::mem::take(&mut self.since_list) {
            effect::apply(&step, id.as_deref(), at, &self.desired, &mut observed, &mut self.memory);
        }
        if let Some(before) = self.observed.take() {
            observed.image_facts = before.image_facts;
            for (id, container) in before.containers {
                let Some(listed) = observed.containers.get_mut(&id) else {
                    continue;
                };
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
        self.observed = Some(observed);
    }

    fn list_failed(&mut self, error: EngineError, now: Duration, answer: &mut Answer) {
        self.listing = false;
        self.list_failures += 1;
        self.dirty = true;
        if self.list_failures >= LIST_TRIES || self.observed.is_none() {
            self.outcome.engine = Some(error);
            self.over = true;
        } else {
            answer.reports.push(Report::Note(format!("{error}; asking again")));
            self.not_before.insert(LIST, now + RETRY_PAUSE);
        }
    }

    /// The list will tell whether it is still needed; but what is asked for again and again without an answer means
    /// that the engine is gone.
    fn look_failed(&mut self, error: EngineError, now: Duration) {
        self.dirty = true;
        self.not_before.insert(LIST, now + RETRY_PAUSE);
        self.look_failures += 1;
        if self.look_failures >= LIST_TRIES {
            self.outcome.engine = Some(error);
            self.over = true;
        }
    }

    fn inspected(&mut self, id: &str, result: Result<Option<Box<Container>>>, now: Duration) {
        self.inspecting.remove(id);
        let Some(observed) = &mut self.observed else { return };
        // A step on it is under way or has just ended: what was seen may be older than what was done.
        let owner = observed.containers.get(id).and_then(|c| c.service_of(&self.desired.group)).map(str::to_owned);
        if owner.is_some_and(|owner| self.busy.contains_key(&Subject::Service(owner))) {
            self.suspects.insert(id.to_owned(), Suspicion::Other);
            return;
        }
        match result {
            Ok(Some(container)) => {
                self.look_failures = 0;
                let restarts = |container: &Container| container.details.as_ref().map_or(0, |details| details.restarts);
                let before = observed.containers.get(id);
                // The engine brought back what this run had started: it has to prove itself anew. It may have done so
                // between the event and this look.
                let back = container.state == State::Running
                    && before.is_some_and(|before| {
                        before.state != State::Running || restarts(&container) > restarts(before)
                    });
                if let Some(started) = self.memory.started.get_mut(id).filter(|_| back) {
                    *started = now;
                    self.memory.answered.remove(id);
                }
                observed.containers.insert(id.to_owned(), *container);
            }
            Ok(None) => {
                observed.containers.remove(id);
            }
            Err(error) => {
                // It was suspected for a reason.
                self.suspects.insert(id.to_owned(), Suspicion::Other);
                self.look_failed(error, now);
            }
        }
    }

    fn done(&mut self, step: Step, result: Result<Option<String>>, now: Duration, answer: &mut Answer) {
        self.busy.remove(&step.subject);
        match result {
            Ok(id) => {
                if let Some(observed) = &mut self.observed {
                    effect::apply(&step, id.as_deref(), now, &self.desired, observed, &mut self.memory);
                }
                if step.verb == Verb::Pull {
                    self.dirty = true;
                }
                self.unverified = true;
                self.since_list.push((step.clone(), id, now));
                answer.reports.push(Report::Done(step.clone()));
                self.outcome.steps.push(step);
            }
            Err(error) => self.refused(&step, &error, now, answer),
        }
    }

    /// A step did not succeed, as far as is known: its reply may be lost. So look, and try again if it is still needed;
    /// but not without end.
    fn refused(&mut self, step: &Step, error: &EngineError, now: Duration, answer: &mut Answer) {
        self.dirty = true;
        self.not_before.insert(step.subject.clone(), now + RETRY_PAUSE);
        let tries = self.begun.get(&key(step)).copied().unwrap_or_default();
        let again = match error {
            EngineError::Refused { .. } => matches!(step.verb, Verb::Stop(_) | Verb::Remove { .. }) && tries < TRIES,
            _ => tries < TRIES,
        };
        if again {
            tracing::debug!(%error, %step, "refused, looking again");
            return;
        }
        let said = error.to_string();
        match &step.subject {
            Subject::Service(service) => {
                let reason = match (&step.verb, error) {
                    (_, EngineError::TimedOut { .. } | EngineError::Unreachable { .. }) => Reason::EngineHangs,
                    (Verb::Create { .. }, _) => Reason::CreateFailed,
                    _ => Reason::StartFailed,
                };
                let fingerprint = self.desired.services.get(service).map(|s| s.fingerprint.clone()).unwrap_or_default();
                // For people a container's name says more than its id.
                let message = match (error, step.to_string().split_once(": ")) {
                    (EngineError::TimedOut { .. } | EngineError::Unreachable { .. }, _) | (_, None) => said,
                    (_, Some((_, attempted))) => format!("cannot {attempted}: {}", message_of(error)),
                };
                let failure = Failure { service: service.clone(), reason, message, container: None, fingerprint };
                self.fail(failure, Vec::new(), answer);
            }
            Subject::Image(image) => {
                answer.reports.push(Report::Refused(step.clone(), said));
                self.memory.unavailable.insert(image.clone(), message_of(error));
            }
            Subject::Network(_) if step.verb == Verb::CreateNetwork => {
                self.memory.no_network = Some(message_of(error));
            }
            Subject::Network(_) | Subject::Volume(_) => {
                self.memory.stuck.insert(step.subject.clone());
                answer.reports.push(Report::Refused(step.clone(), said.clone()));
                self.outcome.stuck.insert(step.subject.clone(), said);
            }
        }
    }

    fn fail(&mut self, mut failure: Failure, output: Vec<String>, answer: &mut Answer) {
        let why = failure.container.as_ref().and_then(|container| self.unanswered.get(&container.id));
        if let (Some(why), Reason::NotReady) = (why, failure.reason) {
            failure.message = format!("{} ({why})", failure.message);
        }
        let failed = Failed { failure: failure.clone(), output, count: 1, retry: None };
        answer.reports.push(Report::Failed(failed.clone()));
        self.outcome.failed.insert(failure.service.clone(), failed);
        self.memory.failed.insert(failure.service.clone(), failure);
    }

    fn hint(&mut self, hint: Hint) {
        // A stream that brings events works, however often it has to be opened again.
        if hint != Hint::Subscribed {
            self.hint_failures = 0;
        }
        match hint {
            Hint::Subscribed => {
                self.subscription = Subscription::Stands;
                self.dirty = true;
            }
            Hint::Container { id, what } => {
                let Some(observed) = &mut self.observed else { return };
                let Some(container) = observed.containers.get_mut(&id) else {
                    return;
                };
                let owner = container.service_of(&self.desired.group).unwrap_or_default();
                let busy = self.busy.contains_key(&Subject::Service(owner.to_owned()));
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
                    Happened::Died { .. } => Suspicion::Ended,
                    Happened::Destroyed => Suspicion::Removed,
                    Happened::Started => Suspicion::Back,
                    // A run meets everything else in its next list.
                    Happened::Created | Happened::Changed | Happened::Killed => return,
                };
                // While a step on it is under way the event may be that step's own.
                if busy || !suspicion.is_known(container) {
                    self.suspects.insert(id, suspicion);
                }
            }
            Hint::Network { .. } => {}
        }
    }

    /// Without events nothing can be awaited: ask again, but not without end. What happened meanwhile, a list tells.
    fn hints_ended(&mut self, error: EngineError, now: Duration) {
        self.subscription = Subscription::None;
        self.dirty = true;
        self.not_before.insert(LIST, now + RETRY_PAUSE);
        self.hint_failures += 1;
        if self.hint_failures > LIST_TRIES {
            self.outcome.engine = Some(error);
            self.over = true;
        }
    }

    fn decide(&mut self, now: Duration, answer: &mut Answer) {
        if self.limits.deadline.is_some_and(|deadline| now >= deadline) && !self.closing {
            self.outcome.timed_out = true;
            self.closing = true;
        }
        if self.closing && self.busy.is_empty() {
            self.finish(now);
            return;
        }
        if now >= self.last_list + RESYNC {
            self.dirty = true;
        }
        if self.listing || (self.dirty && self.list(now, answer)) {
            self.wake(now, answer, None);
            return;
        }
        let Some(mut plan) = self.plan(now, answer) else { return };
        for wait in &plan.waits {
            let Some(awaited) = &wait.awaited else { continue };
            let id = &awaited.container;
            if !self.memory.awaited.contains_key(id) {
                self.memory.awaited.insert(id.clone(), now);
                // The first list may have been stale, and of what ended before it no event comes.
                let checked = |container: &Container| container.health != Health::None;
                let observed = self.observed.as_ref().and_then(|observed| observed.containers.get(id));
                if !self.memory.started.contains_key(id) && observed.is_some_and(checked) {
                    self.suspects.insert(id.clone(), Suspicion::Other);
                }
            }
        }
        self.tell(&plan, answer);
        if plan.is_settled() && self.outcome.steps.is_empty() && self.busy.is_empty() {
            self.conclude(&mut plan);
            return;
        }
        if self.subscription != Subscription::Stands {
            // Everything from here on may wait for events, so they come first; then the list again.
            if self.subscription == Subscription::None {
                self.subscription = Subscription::Asked;
                answer.commands.push(Command::Subscribe);
            }
            self.wake(now, answer, None);
            return;
        }
        self.look(&plan.looks, answer);
        self.diagnose(std::mem::take(&mut plan.failures), answer);
        self.carry(std::mem::take(&mut plan.steps), now, answer);
        self.probe(&plan.probes, answer);
        if self.is_idle(&plan, now) {
            if self.unverified {
                self.dirty = true;
                self.list(now, answer);
                self.wake(now, answer, None);
                return;
            }
            self.conclude(&mut plan);
            return;
        }
        self.wake(now, answer, self.next_deadline(&plan));
    }

    /// Asks the planner, after looking after containers that are under suspicion.
    fn plan(&mut self, now: Duration, answer: &mut Answer) -> Option<plan::step::Plan> {
        self.inspect_suspects(answer);
        loop {
            let observed = self.observed.as_ref()?;
            let mut plan = plan::plan(&self.desired, observed, &self.memory, now);
            // A failure without a container has nothing to say beside itself; it may change the plan at once.
            let (silent, loud) = plan.failures.drain(..).partition(|failure| failure.container.is_none());
            plan.failures = loud;
            let silent: Vec<Failure> = silent;
            if silent.is_empty() {
                return Some(plan);
            }
            for failure in silent {
                self.fail(failure, Vec::new(), answer);
            }
        }
    }

    fn inspect_suspects(&mut self, answer: &mut Answer) {
        let Some(observed) = &self.observed else { return };
        let busy = |container: &Container| {
            let owner = container.service_of(&self.desired.group).unwrap_or_default();
            self.busy.contains_key(&Subject::Service(owner.to_owned()))
        };
        let (ready, later): (BTreeMap<_, _>, BTreeMap<_, _>) = std::mem::take(&mut self.suspects)
            .into_iter()
            .partition(|(id, _)| !self.inspecting.contains(id) && !observed.containers.get(id).is_some_and(busy));
        self.suspects = later;
        for (id, suspicion) in ready {
            let open = observed.containers.get(&id).is_some_and(|container| !suspicion.is_known(container));
            if open && self.inspecting.insert(id.clone()) {
                answer.commands.push(Command::Inspect(id));
            }
        }
    }

    /// Asks for a list, unless it has to wait; whether the handler is done for now.
    fn list(&mut self, now: Duration, answer: &mut Answer) -> bool {
        if self.not_before.get(&LIST).is_some_and(|at| now < *at) {
            return true;
        }
        self.dirty = false;
        self.listing = true;
        self.last_list = now;
        self.since_list.clear();
        answer.commands.push(Command::List);
        true
    }

    fn look(&mut self, looks: &BTreeSet<Look>, answer: &mut Answer) {
        for look in looks {
            match look {
                Look::Container(id) if self.inspecting.insert(id.clone()) => {
                    answer.commands.push(Command::Inspect(id.clone()));
                }
                Look::Image(id) if self.images.insert(id.clone()) => answer.commands.push(Command::Image(id.clone())),
                _ => {}
            }
        }
    }

    fn diagnose(&mut self, failures: Vec<Failure>, answer: &mut Answer) {
        for failure in failures {
            if self.diagnosing.insert(failure.service.clone()) {
                answer.commands.push(Command::Diagnose(failure));
            }
        }
    }

    fn carry(&mut self, steps: Vec<Step>, now: Duration, answer: &mut Answer) {
        if self.closing {
            return;
        }
        for step in steps {
            let free = !self.busy.contains_key(&step.subject)
                && !self.diagnosing.contains(step.subject.name())
                && self.not_before.get(&step.subject).is_none_or(|at| now >= *at)
                && !self.is_under_inspection(&step);
            let under_way = self.busy.values().filter(|other| other.verb.is_teardown() == step.verb.is_teardown());
            let limit = if step.verb.is_teardown() { self.limits.teardowns } else { self.limits.setups };
            if !free || under_way.count() >= limit {
                continue;
            }
            let Some(observed) = &self.observed else { return };
            if let Some(rule) = check::violation(&step, &self.desired, observed) {
                let message =
                    format!("refused to carry out a step that breaks a rule: {rule}. This is a bug in drillmaster");
                self.give_up(&step, message, answer);
                continue;
            }
            let tries = self.begun.entry(key(&step)).or_default();
            *tries += 1;
            if *tries > TRIES {
                let message =
                    format!("`{step}` was carried out {TRIES} times and is still needed: something works against it");
                self.give_up(&step, message, answer);
                continue;
            }
            self.busy.insert(step.subject.clone(), step.clone());
            answer.reports.push(Report::Begun(step.clone()));
            answer.commands.push(Command::Carry(step));
        }
    }

    fn is_under_inspection(&self, step: &Step) -> bool {
        let Some(observed) = &self.observed else { return false };
        self.inspecting.iter().any(|id| {
            observed.containers.get(id).and_then(|c| c.service_of(&self.desired.group)) == Some(step.subject.name())
        })
    }

    fn give_up(&mut self, step: &Step, message: String, answer: &mut Answer) {
        match &step.subject {
            Subject::Service(service) => {
                let fingerprint = self.desired.services.get(service).map(|s| s.fingerprint.clone()).unwrap_or_default();
                let reason = Reason::NonConvergent;
                let failure = Failure { service: service.clone(), reason, message, container: None, fingerprint };
                self.fail(failure, Vec::new(), answer);
            }
            Subject::Image(image) => {
                self.memory.unavailable.insert(image.clone(), message);
            }
            subject => {
                self.memory.stuck.insert(subject.clone());
                self.memory.no_network = Some(message.clone());
                self.outcome.stuck.insert(subject.clone(), message);
            }
        }
    }

    fn probe(&mut self, probes: &[Probe], answer: &mut Answer) {
        let wanted: BTreeMap<&str, &Probe> = probes.iter().map(|probe| (probe.container.id.as_str(), probe)).collect();
        self.probing.retain(|id, _| {
            let keep = wanted.contains_key(id.as_str()) && !self.closing;
            if !keep {
                answer.commands.push(Command::EndProbe(id.clone()));
            }
            keep
        });
        for (id, probe) in wanted {
            if !self.closing && !self.probing.contains_key(id) {
                self.probing.insert(id.to_owned(), probe.clone());
                answer.commands.push(Command::Probe(probe.clone()));
            }
        }
    }

    /// Nothing is under way, and nothing that is awaited can come by itself.
    fn is_idle(&self, plan: &plan::step::Plan, now: Duration) -> bool {
        self.busy.is_empty()
            && self.probing.is_empty()
            && self.inspecting.is_empty()
            && self.images.is_empty()
            && self.diagnosing.is_empty()
            && self.suspects.is_empty()
            && plan.waits.iter().all(|wait| wait.awaited.is_none())
            && self.not_before.iter().all(|(subject, at)| *subject == LIST || now >= *at)
    }

    fn next_deadline(&self, plan: &plan::step::Plan) -> Option<Duration> {
        plan.waits
            .iter()
            .filter_map(|wait| wait.awaited.as_ref())
            .filter_map(|awaited| Some(*self.memory.awaited.get(&awaited.container)? + awaited.limit))
            .min()
    }

    fn wake(&self, now: Duration, answer: &mut Answer, at: Option<Duration>) {
        let pauses = self.not_before.values().copied();
        let resync = (!self.listing).then_some(self.last_list + RESYNC);
        answer.wake = pauses.chain(at).chain(self.limits.deadline).chain(resync).filter(|at| *at > now).min();
    }

    fn tell(&mut self, plan: &plan::step::Plan, answer: &mut Answer) {
        if !self.told.planned && plan.looks.is_empty() {
            self.told.planned = true;
            self.outcome.changes.clone_from(&plan.changes);
            answer.reports.push(Report::Planned(plan.changes.clone()));
        }
        for name in plan.ready.difference(&self.told.ready) {
            // What was ready all along is no news.
            if self.begun.keys().any(|(subject, _)| *subject == Subject::Service(name.clone())) {
                answer.reports.push(Report::Ready(name.clone()));
            }
        }
        self.told.ready.clone_from(&plan.ready);
        for wait in plan.waits.iter().filter(|wait| !wait.quiet) {
            // `waits for appdb, which is starting`: for whom is worth a line, how far that one is has lines of its own.
            let whom = wait.reason.split(", which").next().unwrap_or_default();
            let before = self.told.waits.insert(wait.service.clone(), whom.to_owned());
            if before.as_deref() != Some(whom) {
                answer.reports.push(Report::Waits { service: wait.service.clone(), reason: whom.to_owned() });
            }
        }
    }

    fn conclude(&mut self, plan: &mut plan::step::Plan) {
        self.outcome.waits = std::mem::take(&mut plan.waits);
        self.outcome.ready = std::mem::take(&mut plan.ready);
        self.over = true;
    }

    /// Ends a run that was interrupted or whose time is over: what is not done is told.
    fn finish(&mut self, now: Duration) {
        if let Some(observed) = &self.observed {
            let mut plan = plan::plan(&self.desired, observed, &self.memory, now);
            self.conclude(&mut plan);
        }
        self.over = true;
    }
}

/// The pause between lists that fail is kept under a subject that no step has.
const LIST: Subject = Subject::Image(String::new());

fn key(step: &Step) -> (Subject, String) {
    (step.subject.clone(), step.to_string())
}

/// What the engine said, without what was attempted: that is in the sentence around it.
fn message_of(error: &EngineError) -> String {
    match error {
        EngineError::NotFound { message, .. }
        | EngineError::Conflict { message, .. }
        | EngineError::Refused { message, .. } => message.clone(),
        error => error.to_string(),
    }
}
