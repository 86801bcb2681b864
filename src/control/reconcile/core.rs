//! The controller's mind: every event goes through one synchronous handler, which says what to do next.
//!
//! It keeps the snapshot true (lists, inspections, effects of its own steps), asks the planner, and hands out what the
//! planner allows as far as the limits permit. It waits for nothing and touches nothing; time comes in with the event.
//!
//! A run that ends and a watch are the same loop: a run is over when nothing is left to do, a watch when somebody ends
//! it. What they do about failures differs, and is said by `plan` (`restart.rs`).

use std::borrow::Cow;
use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;
use std::time::Duration;

use super::report::Reporter;
use super::snapshot::StaleReason;
use super::watch_mode::Watching;
use crate::control::error::StepError;
use crate::control::event::{Command, Event, Limits, Outcome, Reaction, Report};
use crate::control::specs::intake::Intake;
use crate::desired::Desired;
use crate::engine::EngineError;
use crate::identity::instance_name;
use crate::observed::{Container, Health, ImageFacts, Observed};
use crate::plan::backoff::heals;
use crate::plan::step::{Failure, Plan, Probe, Query, Reason, Step, Subject, Verb};
use crate::plan::{self, Memory, check, effect};

/// Pause before a step that was refused is tried again.
pub(super) const RETRY_PAUSE: Duration = Duration::from_millis(500);
/// How often a step may be begun before the run gives its subject up.
pub(super) const TRIES: u32 = 3;
/// When everything is listed again while something is awaited: an event may have been lost.
pub(super) const RESYNC: Duration = Duration::from_secs(30);
/// How often a list may fail in a row before the engine counts as gone.
pub(super) const LIST_TRIES: u32 = 3;

/// How long a run goes on.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum RunMode {
    /// Until everything that can be done is done.
    Once,
    /// Until somebody ends it.
    Watch {
        /// The specs may come to name no service, and then everything is removed.
        may_empty: bool,
    },
}

/// The state of a run.
#[derive(Debug)]
pub struct Core {
    pub(super) desired: Arc<Desired>,
    pub(super) limits: Limits,
    pub(super) observed: Option<Observed>,
    pub(super) memory: Memory,
    pub(super) outcome: Outcome,
    /// What becomes of specs that are read again.
    pub(super) intake: Intake,
    /// Outputs have changed: nothing new is begun until the specs are read that are made of them.
    pub(super) rereading: bool,
    /// What only a watch has.
    pub(super) watching: Option<Watching>,
    /// The run began with services to reload.
    pub(super) reloads: bool,
    /// The hooks of the group are told of its end.
    pub(super) group_notified: bool,
    /// How many hooks that nothing waits for are under way.
    pub(super) hooks_running: usize,
    /// Services whose old container has gone for a new one.
    pub(super) replaced: BTreeSet<String>,
    /// Services whose containers are to be replaced although they match, once they are known.
    pub(super) reload: BTreeSet<String>,
    /// Steps under way, by subject.
    pub(super) busy: BTreeMap<Subject, RunningStep>,
    /// Steps that ended since the list under way was asked for: it may not show them yet.
    pub(super) since_list: Vec<CompletedStep>,
    /// Containers that an event says something else of than the snapshot: to be inspected.
    pub(super) stale: BTreeMap<String, StaleReason>,
    pub(super) inspecting: BTreeSet<String>,
    pub(super) images: BTreeSet<String>,
    pub(super) probing: BTreeMap<String, Probe>,
    /// Pings of containers that are ready that are under way, by container.
    pub(super) checking: BTreeSet<String>,
    /// Why pings do not answer, by container.
    pub(super) unanswered: BTreeMap<String, String>,
    pub(super) diagnosing: BTreeSet<String>,
    pub(super) begun: BTreeMap<(Subject, String), u32>,
    pub(super) not_before: BTreeMap<Subject, Duration>,
    pub(super) listing: bool,
    pub(super) last_list: Duration,
    pub(super) list_failures: u32,
    pub(super) look_failures: u32,
    pub(super) subscribe_failures: u32,
    /// The snapshot is not to be trusted until the next list.
    pub(super) dirty: bool,
    pub(super) subscription: Subscription,
    /// A step ended after the last list.
    pub(super) unverified: bool,
    pub(super) closing: bool,
    pub(super) over: bool,
    pub(super) reporter: Reporter,
}

/// A step under way, and what was desired when it began: what it makes is made from that.
#[derive(Debug, Clone)]
pub(super) struct RunningStep {
    pub(super) step: Step,
    pub(super) desired: Arc<Desired>,
}

/// A step that succeeded, what it made, and when.
#[derive(Debug)]
pub(super) struct CompletedStep {
    pub(super) begun: RunningStep,
    pub(super) id: Option<String>,
    pub(super) at: Duration,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Subscription {
    None,
    Asked,
    Stands,
}

impl Core {
    /// A run for this desired state, with what earlier runs remembered. Services of `reload` are replaced although they
    /// match.
    pub fn new(desired: Desired, limits: Limits, course: RunMode, memory: Memory, reload: BTreeSet<String>) -> Core {
        let (watching, intake) = match course {
            // The same specs, with other outputs: they lose nothing.
            RunMode::Once => (None, Intake::new(true)),
            RunMode::Watch { may_empty } => (Some(Watching::new()), Intake::new(may_empty)),
        };
        Core {
            desired: Arc::new(desired),
            limits,
            observed: None,
            memory: Memory { watching: watching.is_some(), ..memory },
            outcome: Outcome::default(),
            intake,
            rereading: false,
            watching,
            reloads: !reload.is_empty(),
            group_notified: false,
            hooks_running: 0,
            replaced: BTreeSet::new(),
            reload,
            busy: BTreeMap::new(),
            since_list: Vec::new(),
            stale: BTreeMap::new(),
            inspecting: BTreeSet::new(),
            images: BTreeSet::new(),
            probing: BTreeMap::new(),
            checking: BTreeSet::new(),
            unanswered: BTreeMap::new(),
            diagnosing: BTreeSet::new(),
            begun: BTreeMap::new(),
            not_before: BTreeMap::new(),
            listing: false,
            last_list: Duration::ZERO,
            list_failures: 0,
            look_failures: 0,
            subscribe_failures: 0,
            dirty: true,
            subscription: Subscription::None,
            unverified: false,
            closing: false,
            over: false,
            reporter: Reporter::default(),
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
    pub fn handle(&mut self, event: Event, now: Duration) -> Reaction {
        let mut reaction = Reaction::default();
        self.apply_event(event, now, &mut reaction);
        if !self.over {
            self.decide(now, &mut reaction);
        }
        if self.over {
            self.dismiss(&mut reaction);
        }
        reaction.over = self.over;
        reaction
    }

    pub(super) fn apply_event(&mut self, event: Event, now: Duration, reaction: &mut Reaction) {
        match event {
            Event::Begin | Event::Tick => {}
            Event::Listed(Ok(observed)) => self.listed(observed, now, reaction),
            Event::Listed(Err(error)) => self.list_failed(error, now, reaction),
            Event::Inspected(id, result) => self.inspected(&id, result, now, reaction),
            Event::Image(id, facts) => {
                self.images.remove(&id);
                match facts {
                    Ok(Some(facts)) => {
                        self.look_failures = 0;
                        if let Some(observed) = &mut self.observed {
                            observed.image_facts.insert(id, facts);
                        }
                    }
                    // It went away: the list will tell. A container of it may live on, about which nobody can be asked.
                    Ok(None) => {
                        self.dirty = true;
                        if let Some(observed) = &mut self.observed {
                            observed.image_facts.insert(id, ImageFacts::default());
                        }
                    }
                    Err(error) => self.look_failed(error, now),
                }
            }
            Event::StepDone(step, result) => self.done(step, result, now, reaction),
            Event::Engine(Ok(event)) => self.engine_event(event, now, reaction),
            Event::Engine(Err(error)) => self.events_ended(error, now, reaction),
            Event::EngineEventsEnded => {
                let reason = "its event stream ended".to_owned();
                self.events_ended(
                    EngineError::Unreachable { endpoint: "the same place".into(), reason },
                    now,
                    reaction,
                );
            }
            Event::ProbeSucceeded(id) => {
                self.probing.remove(&id);
                self.unanswered.remove(&id);
                self.memory.answered.insert(id);
            }
            Event::ProbeFailed(id, why) => {
                // The first list may have been stale and an event may get lost: a container that this run did not start
                // itself, or of which there are news, is looked at.
                let known = self.memory.started.contains_key(&id) && !self.unanswered.contains_key(&id);
                if !known {
                    self.stale.insert(id.clone(), StaleReason::Other);
                }
                self.unanswered.insert(id, why);
            }
            Event::Pulling(image, progress) => reaction.reports.push(Report::Pulling(image, progress)),
            Event::Diagnosed(failure, output) => {
                self.diagnosing.remove(&failure.service);
                self.fail(failure, output, now, reaction);
            }
            Event::HookOutput(service, event, line) => reaction.reports.push(Report::Output { service, event, line }),
            Event::HooksDone(occurrence, result) => {
                self.hooks_running -= 1;
                if let Err(why) = result {
                    let service = occurrence.service.map(|service| instance_name(&service, occurrence.replica));
                    let whom = service.as_ref().unwrap_or(&self.desired.group);
                    reaction.reports.push(Report::Note(format!("{whom}: on {}: {why}", occurrence.event)));
                }
            }
            Event::LivenessProbed(id, said) => self.checked(&id, said, now),
            Event::RecentExits(ends) => self.past(ends, now),
            Event::SpecsChanged => self.specs_changed(reaction),
            Event::OutputsChanged => {
                self.rereading = true;
                self.specs_changed(reaction);
            }
            Event::SpecsRead(reading) => self.specs(reading, now, reaction),
            Event::Request(ticket, ask) => self.asked(ticket, ask, now, reaction),
            Event::Interrupt => {
                self.outcome.interrupted = true;
                self.closing = true;
            }
        }
    }

    pub(super) fn done(
        &mut self,
        step: Step,
        result: std::result::Result<Option<String>, StepError>,
        now: Duration,
        reaction: &mut Reaction,
    ) {
        let begun = self.busy.remove(&step.subject);
        match result {
            Ok(id) => {
                let desired = begun.map_or_else(|| self.desired.clone(), |begun| begun.desired);
                let restarted = self.is_restart(&step);
                if let Some(observed) = &mut self.observed {
                    effect::apply(&step, id.as_deref(), now, &desired, observed, &mut self.memory);
                }
                if matches!(step.verb, Verb::Pull | Verb::Build) {
                    self.dirty = true;
                }
                self.unverified = true;
                self.on_step_done(&step, restarted, reaction);
                self.record_correction(&step, now);
                self.since_list.push(CompletedStep { begun: RunningStep { step: step.clone(), desired }, id, at: now });
                reaction.reports.push(Report::StepDone(step.clone()));
                if self.is_kept() {
                    self.outcome.steps.push(step);
                }
            }
            Err(error) => self.refused(&step, &error, now, reaction),
        }
    }

    pub(super) fn decide(&mut self, now: Duration, reaction: &mut Reaction) {
        if self.limits.deadline.is_some_and(|deadline| now >= deadline) && !self.closing {
            self.outcome.timed_out = true;
            self.closing = true;
        }
        if self.closing {
            reaction.commands.push(Command::EndHooks);
        }
        // A pull or a build is begun anew by the next run, and nothing is lost; anything else is waited for.
        let can_be_dropped = |begun: &RunningStep| matches!(begun.step.verb, Verb::Pull | Verb::Build);
        if self.closing && self.busy.values().all(can_be_dropped) {
            self.abort(now);
            return;
        }
        if now >= self.last_list + RESYNC {
            self.dirty = true;
        }
        self.look_up_specs(now, reaction);
        self.try_refused_again(now);
        // A watch will wait for events in any case, so they come first, then the list. Without them nothing is done.
        if self.watching.is_some() && self.subscription != Subscription::Stands {
            self.probe(&[], reaction);
            self.subscribe(now, reaction);
            self.wake(now, reaction, None);
            return;
        }
        if self.listing || (self.dirty && self.list(now, reaction)) {
            self.wake(now, reaction, None);
            return;
        }
        if self.awaits_past(reaction) {
            return;
        }
        if self.rereading {
            self.wake(now, reaction, None);
            return;
        }
        self.condemn();
        let Some(mut plan) = self.plan(now, reaction) else { return };
        self.await_containers(&plan, now);
        self.time(&plan, now);
        self.report(&plan, now, reaction);
        if self.watching.is_none() {
            if plan.is_settled() && self.outcome.steps.is_empty() && self.busy.is_empty() {
                if !self.has_group_hooks(&plan, reaction) {
                    self.finish(&mut plan);
                }
                return;
            }
            if self.subscription != Subscription::Stands {
                // Everything from here on may wait for events, so they come first; then the list again.
                self.subscribe(now, reaction);
                self.wake(now, reaction, None);
                return;
            }
        }
        self.look(&plan.queries, reaction);
        self.diagnose(std::mem::take(&mut plan.failures), reaction);
        self.start_steps(std::mem::take(&mut plan.steps), now, reaction);
        self.probe(&plan.probes, reaction);
        self.check(std::mem::take(&mut plan.checks), reaction);
        if self.is_idle(&plan, now) {
            if self.unverified {
                self.dirty = true;
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
            // What was begun has come to an end; what begins now is another story.
            self.begun.clear();
            self.settle(&plan, reaction);
        }
        self.wake(now, reaction, plan.wake);
    }

    pub(super) fn subscribe(&mut self, now: Duration, reaction: &mut Reaction) {
        let may = self.not_before.get(&SUBSCRIBE).is_none_or(|at| now >= *at);
        if self.subscription == Subscription::None && may {
            self.subscription = Subscription::Asked;
            reaction.commands.push(Command::Subscribe);
        }
    }

    /// Notes since when containers are awaited.
    pub(super) fn await_containers(&mut self, plan: &Plan, now: Duration) {
        let awaited: BTreeSet<&str> =
            plan.waits.iter().filter_map(|wait| Some(wait.awaited.as_ref()?.container.as_str())).collect();
        if self.watching.is_some() {
            // What was awaited once may be awaited again, in another life.
            self.memory.awaited.retain(|id, _| awaited.contains(id.as_str()));
        }
        for id in awaited {
            if !self.memory.awaited.contains_key(id) {
                self.memory.awaited.insert(id.to_owned(), now);
                // The first list may have been stale, and of what ended before it no event comes.
                let checked = |container: &Container| container.health != Health::None;
                let observed = self.observed.as_ref().and_then(|observed| observed.containers.get(id));
                if !self.memory.started.contains_key(id) && observed.is_some_and(checked) {
                    self.stale.insert(id.to_owned(), StaleReason::Other);
                }
            }
        }
    }

    /// Notes until when containers have to stay as they are. One that does not begins anew.
    pub(super) fn time(&mut self, plan: &Plan, now: Duration) {
        self.memory.lasting.retain(|id, _| plan.lasting.contains_key(id));
        for (id, period) in &plan.lasting {
            self.memory.lasting.entry(id.clone()).or_insert(now + *period);
        }
    }

    /// Asks the planner, after looking after containers that are under suspicion.
    pub(super) fn plan(&mut self, now: Duration, reaction: &mut Reaction) -> Option<Plan> {
        self.inspect_suspects(reaction);
        loop {
            let observed = self.observed.as_ref()?;
            let mut plan = plan::plan(&self.desired, observed, &self.memory, now);
            // A failure without a container has nothing to say beside itself; it may change the plan at once.
            let (silent, loud) = plan.failures.drain(..).partition(|failure| failure.container.is_none());
            plan.failures = loud;
            let silent: Vec<Failure> = silent;
            // While watching, some hold as long as they are seen: the plan is made with them already.
            let seen = |failure: &Failure| self.memory.watching && heals(failure.reason);
            let (seen, new): (Vec<Failure>, Vec<Failure>) = silent.into_iter().partition(seen);
            let mut again = !new.is_empty();
            for failure in new {
                self.fail(failure, Vec::new(), now, reaction);
            }
            again |= self.is_flapping(&plan, now, reaction);
            if !again {
                self.record_failures(
                    seen.into_iter().map(|failure| (failure.service.clone(), failure)).collect(),
                    now,
                    reaction,
                );
                return Some(plan);
            }
        }
    }

    /// Asks for a list, unless it has to wait; whether the handler is done for now.
    pub(super) fn list(&mut self, now: Duration, reaction: &mut Reaction) -> bool {
        if self.not_before.get(&LIST).is_some_and(|at| now < *at) {
            return true;
        }
        self.dirty = false;
        self.listing = true;
        self.last_list = now;
        self.since_list.clear();
        reaction.commands.push(Command::List);
        true
    }

    pub(super) fn look(&mut self, queries: &BTreeSet<Query>, reaction: &mut Reaction) {
        for look in queries {
            match look {
                // What is seen of a container on which a step is under way is thrown away.
                Query::Container(id) if !self.is_busy(id) && self.inspecting.insert(id.clone()) => {
                    reaction.commands.push(Command::Inspect(id.clone()));
                }
                Query::Image(id) if self.images.insert(id.clone()) => {
                    reaction.commands.push(Command::Image(id.clone()))
                }
                _ => {}
            }
        }
    }

    /// The service whose container this is.
    pub(super) fn owner_of(&self, id: &str) -> Option<String> {
        let container = self.observed.as_ref()?.containers.get(id)?;
        plan::instance_of(&self.desired, container).map(Cow::into_owned)
    }

    /// Whether a step on a container's service is under way.
    pub(super) fn is_busy(&self, id: &str) -> bool {
        self.owner_of(id).is_some_and(|owner| self.busy.contains_key(&Subject::Service(owner))) || self.is_worked_on(id)
    }

    /// Whether a step on a container is under way, whatever its service was called when it began.
    pub(super) fn is_worked_on(&self, id: &str) -> bool {
        self.busy.values().any(|begun| begun.step.verb.container().is_some_and(|container| container.id == id))
    }

    pub(super) fn diagnose(&mut self, failures: Vec<Failure>, reaction: &mut Reaction) {
        for failure in failures {
            if self.diagnosing.insert(failure.service.clone()) {
                reaction.commands.push(Command::Diagnose(failure));
            }
        }
    }

    pub(super) fn start_steps(&mut self, steps: Vec<Step>, now: Duration, reaction: &mut Reaction) {
        if self.closing {
            return;
        }
        for step in steps {
            let free = !self.busy.contains_key(&step.subject)
                && !self.diagnosing.contains(step.subject.name())
                && self.not_before.get(&step.subject).is_none_or(|at| now >= *at)
                && !self.is_under_inspection(&step)
                && step.verb.container().is_none_or(|container| !self.is_worked_on(&container.id));
            let under_way = self.busy.values().filter(|other| pool(&other.step.verb) == pool(&step.verb));
            let limit = if step.verb.is_teardown() { self.limits.teardowns } else { self.limits.setups };
            if !free || under_way.count() >= limit {
                continue;
            }
            let Some(observed) = &self.observed else { return };
            if let Some(rule) = check::violation(&step, &self.desired, observed) {
                let message =
                    format!("refused to carry out a step that breaks a rule: {rule}. This is a bug in drillmaster");
                self.give_up(&step, message, now, reaction);
                continue;
            }
            let tries = self.begun.entry(key(&step)).or_default();
            *tries += 1;
            if *tries > TRIES {
                let message =
                    format!("`{step}` was carried out {TRIES} times and is still needed: something works against it");
                self.give_up(&step, message, now, reaction);
                continue;
            }
            let begun = RunningStep { step: step.clone(), desired: self.desired.clone() };
            self.busy.insert(step.subject.clone(), begun);
            self.reporter.news(&step.subject);
            reaction.reports.push(Report::StepStarted(step.clone()));
            reaction.commands.push(Command::RunStep(step));
        }
    }

    pub(super) fn is_under_inspection(&self, step: &Step) -> bool {
        self.inspecting.iter().any(|id| self.owner_of(id).as_deref() == Some(step.subject.name()))
    }

    pub(super) fn probe(&mut self, probes: &[Probe], reaction: &mut Reaction) {
        let wanted: BTreeMap<&str, &Probe> = probes.iter().map(|probe| (probe.container.id.as_str(), probe)).collect();
        self.probing.retain(|id, before| {
            let keep = wanted.get(id.as_str()).is_some_and(|probe| probe.ping == before.ping) && !self.closing;
            if !keep {
                reaction.commands.push(Command::EndProbe(id.clone()));
            }
            keep
        });
        for (id, probe) in wanted {
            if !self.closing && !self.probing.contains_key(id) {
                self.probing.insert(id.to_owned(), probe.clone());
                reaction.commands.push(Command::Probe(probe.clone()));
            }
        }
    }

    /// Nothing is under way, and nothing that is awaited can come by itself.
    pub(super) fn is_idle(&self, plan: &Plan, now: Duration) -> bool {
        // While watching, what is late is asked for without end.
        let late = |service: &str, container: &str| {
            self.memory.backoffs.get(service).is_some_and(|setback| {
                setback.failure.reason == Reason::NotReady
                    && setback.failure.container.as_ref().is_some_and(|failed| failed.id == container)
            })
        };
        self.busy.is_empty()
            && self.probing.values().all(|probe| late(&probe.service, &probe.container.id))
            && self.inspecting.is_empty()
            && self.images.is_empty()
            && self.diagnosing.is_empty()
            && self.stale.is_empty()
            && self.hooks_running == 0
            && (self.watching.is_some() || self.memory.backoffs.values().all(|setback| !setback.is_backing_off(now)))
            && plan
                .waits
                .iter()
                .all(|wait| wait.awaited.as_ref().is_none_or(|awaited| late(&wait.service, &awaited.container)))
            && self.not_before.iter().all(|(subject, at)| *subject == LIST || *subject == SUBSCRIBE || now >= *at)
    }

    pub(super) fn wake(&self, now: Duration, reaction: &mut Reaction, at: Option<Duration>) {
        let pauses = self.not_before.values().copied();
        let resync = (!self.listing && self.is_listening()).then_some(self.last_list + RESYNC);
        let specs = self.intake.wake();
        let all = pauses.chain(at).chain(self.limits.deadline).chain(resync).chain(specs).chain(self.next_refused());
        reaction.wake = all.filter(|at| *at > now).min();
    }

    /// Whether a list would be asked for now: without a subscription, a watch asks for none.
    pub(super) fn is_listening(&self) -> bool {
        self.watching.is_none() || self.subscription == Subscription::Stands
    }

    pub(super) fn finish(&mut self, plan: &mut Plan) {
        self.outcome.waits = std::mem::take(&mut plan.waits);
        self.outcome.ready = std::mem::take(&mut plan.ready);
        self.over = true;
    }

    /// Ends a run that was interrupted or whose time is over: what is not done is told.
    pub(super) fn abort(&mut self, now: Duration) {
        if let Some(observed) = &self.observed {
            let mut plan = plan::plan(&self.desired, observed, &self.memory, now);
            self.finish(&mut plan);
        }
        self.over = true;
    }

    /// Whether what is done is kept for whoever wants to know in the end: a watch would keep it without end.
    pub(super) fn is_kept(&self) -> bool {
        self.watching.as_ref().is_none_or(Watching::is_awaited)
    }
}

/// The pause between lists that fail is kept under a subject that no step has.
pub(super) const LIST: Subject = Subject::Image(String::new());
/// As is that between subscriptions.
pub(super) const SUBSCRIBE: Subject = Subject::Volume(String::new());

/// What shares a limit: an image may take long to be had, and must not keep containers from being started.
fn pool(verb: &Verb) -> (bool, bool) {
    (verb.is_teardown(), matches!(verb, Verb::Pull | Verb::Build))
}

pub(super) fn key(step: &Step) -> (Subject, String) {
    (step.subject.clone(), step.to_string())
}
