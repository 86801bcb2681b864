//! One run: a controller (or one after another), the simulated engine, and whatever happens to both.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use drillmaster::control::event::{Limits, Outcome, Reading, Report, Request, RequestKind};
use drillmaster::control::execute::context::ExecContext;
use drillmaster::control::local_state::LocalState;
use drillmaster::control::{self, RunOptions, WatchOptions};
use drillmaster::desired::Desired;
use drillmaster::engine::deadline::{self, Bounded};
use drillmaster::observed::{Health, Observed, State};
use drillmaster::plan::backoff;
use drillmaster::plan::cause::Cause;
use drillmaster::plan::{Memory, forecast};
use drillmaster::spec::Diagnostic;
use drillmaster::spec::model::{Resources, RestartPolicy};
use drillmaster::types::ContainerId;
use drillmaster_sim::faulty::{Faults, Faulty, Stop};
use drillmaster_sim::{Image, Latency, Script, Sim};
use futures_util::FutureExt;
use tempfile::TempDir;
use tokio::sync::mpsc;
use tokio::task::JoinHandle;

use crate::builders::{GROUP, SOURCE, nothing};
use crate::invariants::{InvariantChecker, Invariants};
use crate::schedule::{Found, Hand, Happening, Schedule, Specs, wanted};

const LIMITS: Limits = Limits { setups: 4, teardowns: 8, deadline: None };
/// How long it may take until everything agrees, once nothing goes wrong any longer: the longest pause after crashes,
/// and what the services need to come up one after another.
const AGREES_WITHIN: Duration = Duration::from_secs(15 * 60);
/// How long it may take once somebody has asked to try everything again.
const AT_ONCE: Duration = Duration::from_secs(3 * 60);
/// How long it may take where nobody may wait for the next look.
const RUN_TIMEOUT: Duration = Duration::from_secs(12);
/// How long nothing may happen afterwards.
const QUIET: Duration = Duration::from_secs(120);

/// For how long specs are half saved.
const HALF_SAVED: Duration = Duration::from_millis(300);
/// After how long without an event the controller looks anyway, and a bit more.
const RESYNC: Duration = Duration::from_secs(45);

/// A run.
pub struct World {
    pub sim: Sim,
    laws: Arc<Mutex<Invariants>>,
    schedule: Schedule,
    seed: u64,
    state: TempDir,
    reading: Arc<Mutex<Reading>>,
    /// What the specs asked for when they last were good.
    good: Desired,
    faulty: bool,
    controller: Option<Controller>,
    controllers: u64,
    /// At which call the first one is killed.
    stop: Option<Stop>,
    /// What goes wrong in place of what the seed would draw.
    faults: Option<Faults>,
    /// It is to be started as soon as the specs allow it.
    awaits_specs: bool,
}

/// A controller that watches.
struct Controller {
    task: JoinHandle<Outcome>,
    faulty: Arc<Faulty>,
    changes: mpsc::Sender<()>,
    requests: mpsc::Sender<Request>,
    interrupt: mpsc::Sender<()>,
}

impl World {
    pub fn new(seed: u64, schedule: Schedule) -> World {
        let sim = Sim::new();
        sim.set_stale(schedule.stale);
        if schedule.quick {
            let ms = Duration::from_millis;
            sim.set_latency(Latency {
                start: ms(20),
                list: ms(30),
                stop: ms(5),
                network: ms(10),
                ..Latency::default()
            });
        }
        let good = wanted(&schedule.first);
        let mut answers = BTreeMap::new();
        for (reference, image) in &schedule.images {
            sim.add_image(reference, image.clone());
            if let Script::Answers(time) = image.behaviour.exec {
                answers.insert(reference.clone(), time);
            }
        }
        let laws = Arc::new(Mutex::new(Invariants::new(&good, answers)));
        let told = laws.clone();
        sim.witness(move |line, observed| {
            told.lock().unwrap_or_else(PoisonError::into_inner).sees(line, observed);
        });
        World {
            sim,
            laws,
            schedule,
            seed,
            state: tempfile::tempdir().unwrap(),
            reading: Arc::new(Mutex::new(Reading::Valid(Box::new(good.clone())))),
            good,
            faulty: false,
            controller: None,
            controllers: 0,
            stop: None,
            faults: None,
            awaits_specs: false,
        }
    }

    /// A run in which nothing happens but what is done to it by hand, and the first controller is killed at a call.
    pub fn stopping(schedule: Schedule, stop: Stop) -> World {
        World { stop: Some(stop), ..World::new(0, schedule) }
    }

    /// A run in which nothing happens but what is done to it by hand, and this goes wrong.
    pub fn failing(schedule: Schedule, faults: Faults) -> World {
        World { faults: Some(faults), faulty: true, ..World::new(0, schedule) }
    }

    /// The engine is started again so many times, with this pause; each time everything has to be back soon: that is no
    /// crash of anybody.
    pub async fn restarts(&mut self, times: u32, away: Duration) -> Result<(), String> {
        self.start();
        self.come_through(AT_ONCE).await?;
        for _ in 0..times {
            tokio::time::sleep(Duration::from_secs(30)).await;
            self.laws().tell("** the engine is started again");
            self.laws().blinded(AT_ONCE);
            self.sim.go_away(true);
            tokio::time::sleep(away).await;
            self.sim.come_back();
            self.come_through(away / 2 + Duration::from_secs(14)).await?;
        }
        self.rest().await
    }

    /// Specs are saved; each time the controller has to come to agree before it would have looked again anyway.
    pub async fn saves(&mut self, versions: &[Specs]) -> Result<(), String> {
        self.start();
        self.come_through(RUN_TIMEOUT).await?;
        for specs in versions {
            self.laws().tell("** specs");
            self.saved(&Found::Specs(specs.clone()));
            self.come_through(RUN_TIMEOUT).await?;
        }
        self.rest().await
    }

    /// Specs are saved, a service crashes; after each the controller, or the next one, comes to agree. Whether the first
    /// one was killed on the way.
    pub async fn sweep(&mut self, versions: &[Specs], crashes: &str) -> Result<bool, String> {
        self.start();
        self.come_through(AT_ONCE).await?;
        for specs in versions {
            self.laws().tell("** specs");
            self.saved(&Found::Specs(specs.clone()));
            self.come_through(AT_ONCE).await?;
            self.laws().tell("** crash");
            self.sim.kill(crashes, 1);
            self.come_through(AT_ONCE).await?;
        }
        self.rest().await?;
        Ok(self.controllers > 1)
    }

    /// Waits for agreement; a controller that is killed meanwhile is followed by another.
    async fn come_through(&mut self, bound: Duration) -> Result<(), String> {
        let began = tokio::time::Instant::now();
        while self.difference().is_some() {
            let killed = |controller: &Controller| self.stop.is_some_and(|stop| controller.faulty.calls() >= stop.at);
            if self.controllers == 1 && self.controller.as_ref().is_some_and(killed) {
                self.laws().tell("** the controller is killed");
                self.kill_controller().await;
                self.start();
            }
            tokio::time::sleep(Duration::from_millis(20)).await;
            self.check().await?;
            if began.elapsed() > bound {
                return Err(format!("it does not come to agree: {}", self.difference().unwrap_or_default()));
            }
        }
        Ok(())
    }

    pub fn laws(&self) -> MutexGuard<'_, Invariants> {
        self.laws.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Lets everything happen, and then waits for agreement. The error says what was wrong.
    pub async fn run(&mut self) -> Result<(), String> {
        self.start();
        for (pause, happening) in std::mem::take(&mut self.schedule.happenings) {
            tokio::time::sleep(pause).await;
            self.laws().judge_due();
            self.laws().tell(&format!("** {happening}"));
            self.laws().due.clear();
            self.happen(happening).await?;
            self.check().await?;
        }
        self.calm_down().await?;
        self.agree().await?;
        self.rest().await
    }

    /// Whether everything was right so far.
    async fn check(&mut self) -> Result<(), String> {
        self.laws().judge_due();
        if let Some(broken) = self.laws().broken.first() {
            return Err(broken.clone());
        }
        if let Some(controller) = self.controller.as_mut().filter(|controller| controller.task.is_finished()) {
            return Err(match (&mut controller.task).await {
                Ok(outcome) => format!("the controller ended by itself: {:?}", outcome.engine),
                Err(error) => format!("the controller panicked: {error}"),
            });
        }
        Ok(())
    }

    fn read(&self) -> Reading {
        self.reading.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }

    /// Starts a controller, where the specs are such that one starts.
    fn start(&mut self) {
        let desired = match self.read() {
            Reading::Valid(desired) if !desired.services.is_empty() => *desired,
            _ => {
                self.awaits_specs = true;
                return;
            }
        };
        self.awaits_specs = false;
        self.controllers += 1;
        // What it knows, it has to find out.
        self.laws().blinded(Duration::from_secs(10));
        let checker = InvariantChecker { sim: self.sim.clone(), laws: self.laws.clone() };
        let rate = self.schedule.fault_rate;
        let faults = Faults {
            seed: self.seed.wrapping_mul(31).wrapping_add(self.controllers),
            broken: rate,
            lost: rate,
            hung: rate / 10,
            refused: rate / 10,
            dropped: rate,
            cut: rate / 4,
            limit: Duration::from_secs(30),
            ..Faults::default()
        };
        let bounded = Arc::new(Bounded::new(checker, deadline::Limits::default()));
        let faulty = Arc::new(match self.stop.filter(|_| self.controllers == 1) {
            Some(stop) => Faulty::stopping(bounded, stop),
            None => Faulty::new(bounded, self.faults.clone().unwrap_or(faults)),
        });
        if !self.faulty {
            faulty.heal();
        }
        let context = ExecContext {
            group: GROUP.into(),
            directory: SOURCE.into(),
            reaches_containers: true,
            outputs: Default::default(),
        };
        let local_state = LocalState::new(self.state.path());
        let reload = BTreeSet::new();
        let options = RunOptions { limits: LIMITS, context, local_state, read: None, reload };
        let (changes, changed) = mpsc::channel(1);
        let (requests, requested) = mpsc::channel(16);
        let (interrupt, interrupts) = mpsc::channel(1);
        let reading = self.reading.clone();
        let read = Arc::new(move || {
            let found = reading.lock().unwrap_or_else(PoisonError::into_inner).clone();
            std::future::ready(found).boxed()
        });
        let watch = WatchOptions { read, changes: changed, requests: requested, may_empty: false };
        let engine = faulty.clone();
        let told = self.laws.clone();
        let task = tokio::spawn(async move {
            let report = |report: Report| {
                let mut laws = told.lock().unwrap_or_else(PoisonError::into_inner);
                laws.tell(&format!("      {}", brief(&report)));
                if let Report::Failed(failed) = &report {
                    laws.fails(&failed.failure.service);
                }
                if let Report::Failed(failed) = &report
                    && failed.retry.is_none()
                    && !backoff::heals(failed.failure.reason)
                {
                    laws.given_up.insert(failed.failure.service.to_string());
                }
            };
            control::watch(engine, desired, options, watch, interrupts, report).await
        });
        self.controller = Some(Controller { task, faulty, changes, requests, interrupt });
    }

    fn saved(&mut self, found: &Found) {
        let reading = match found {
            Found::Specs(specs) => {
                self.good = wanted(specs);
                Reading::Valid(Box::new(self.good.clone()))
            }
            Found::Broken(number) => Reading::Invalid(vec![Diagnostic::new(format!("it is broken ({number})"))]),
            Found::Empty => Reading::Valid(Box::new(nothing())),
        };
        let believed = match found {
            Found::Specs(_) => Some(self.good.clone()),
            // Without an explicit yes, nothing follows from nothing.
            Found::Broken(_) | Found::Empty => None,
        };
        self.laws().reads(believed);
        self.reads(reading);
    }

    /// This is what is found in the specs from now on.
    fn reads(&mut self, reading: Reading) {
        *self.reading.lock().unwrap_or_else(PoisonError::into_inner) = reading;
        self.touched();
    }

    fn touched(&mut self) {
        if self.awaits_specs {
            self.start();
        } else if let Some(controller) = &self.controller {
            // Where a message waits already, this one is not needed.
            let _ = controller.changes.try_send(());
        }
    }

    fn ask(&mut self, ask: RequestKind) {
        let Some(controller) = &self.controller else { return };
        let (reply, mut replies) = mpsc::unbounded_channel();
        let _ = controller.requests.try_send(Request { kind: ask, reply });
        let told = self.laws.clone();
        tokio::spawn(async move {
            while let Some(report) = replies.recv().await {
                if matches!(report, Report::Settled(_) | Report::Status(_) | Report::Stopping(_)) {
                    let line = format!("      answered: {}", brief(&report));
                    told.lock().unwrap_or_else(PoisonError::into_inner).tell(&line);
                }
            }
        });
    }

    async fn kill_controller(&mut self) {
        self.laws().forgets();
        if let Some(controller) = self.controller.take() {
            controller.task.abort();
            let _ = controller.task.await;
        }
        self.awaits_specs = false;
    }

    async fn happen(&mut self, happening: Happening) -> Result<(), String> {
        match happening {
            Happening::Saved(found, _) => {
                self.laws().meddles();
                self.saved(&found);
            }
            Happening::Touched => self.touched(),
            Happening::HalfSaved(half) => {
                let whole = self.read();
                if matches!(whole, Reading::Valid(_)) && self.controller.is_some() {
                    self.reads(Reading::Valid(Box::new(wanted(&half))));
                    tokio::time::sleep(HALF_SAVED).await;
                    self.reads(whole);
                }
            }
            Happening::Hand(hand, name) => {
                self.laws().meddles();
                self.hand(hand, &name);
            }
            Happening::NetworkGone => {
                self.laws().meddles();
                self.sim.remove_network_by_force(GROUP);
            }
            Happening::Rebuilt(reference) => {
                self.laws().meddles();
                if let Some(image) = self.schedule.images.get(&reference) {
                    let mut image = image.clone();
                    image.id = format!("{}-rebuilt{}", image.id, self.laws().story.len());
                    self.sim.add_image(&reference, image);
                    self.laws().blinded(Duration::from_secs(40));
                }
            }
            Happening::Foreign(name, port) => {
                if self.sim.id_of(&name).is_none() {
                    let observed = self.sim.snapshot();
                    let free = observed.containers.values().flat_map(|c| &c.ports).all(|held| held.host != port);
                    let ports = [port];
                    self.sim.create_foreign(&name, if free { &ports } else { &[] });
                }
            }
            Happening::ForeignGone(name) => {
                self.laws().meddles();
                self.foreign_gone(|foreign| foreign.starts_with(&name));
            }
            Happening::EventsCut => {
                self.laws().blinded(Duration::from_secs(15));
                self.sim.cut_events();
            }
            Happening::FaultsBegin => self.faults(true),
            Happening::FaultsEnd => self.faults(false),
            Happening::EngineRestarts => {
                self.laws().meddles();
                self.laws().blinded(Duration::from_secs(40));
                self.sim.restart();
            }
            Happening::EngineGoes { containers_end } => {
                self.laws().meddles();
                self.laws().engine_goes();
                self.sim.go_away(containers_end);
            }
            Happening::EngineComes => {
                self.laws().meddles();
                self.laws().engine_answers();
                self.sim.come_back();
            }
            Happening::EngineHangs => {
                self.laws().engine_hangs();
                self.sim.hang();
            }
            Happening::EngineGoesOn => {
                self.laws().meddles();
                self.laws().engine_answers();
                self.sim.resume();
            }
            Happening::ControllerKilled => self.kill_controller().await,
            Happening::ControllerInterrupted => {
                self.laws().forgets();
                if let Some(controller) = self.controller.take() {
                    let _ = controller.interrupt.try_send(());
                    // A step that hangs is waited for, at most a pull.
                    let ended = tokio::time::timeout(Duration::from_secs(200), controller.task).await;
                    match ended {
                        Err(_) => return Err("the controller does not end although it was interrupted".into()),
                        Ok(Err(error)) => return Err(format!("the controller panicked: {error}")),
                        Ok(Ok(_)) => {}
                    }
                }
                self.awaits_specs = false;
            }
            Happening::ControllerStarts => {
                self.laws().meddles();
                if self.controller.is_none() {
                    self.start();
                }
            }
            Happening::AsksToReconcile => {
                self.laws().meddles();
                self.ask(RequestKind::Reconcile);
            }
            Happening::AsksToReload(service) => {
                self.laws().meddles();
                let current = self.sim.id_of(&format!("{GROUP}-{service}"));
                self.laws().reload(&service, current.filter(|_| self.controller.is_some()));
                self.ask(RequestKind::Reload(BTreeSet::from([service])));
            }
            Happening::AsksForStatus => self.ask(RequestKind::Status),
        }
        Ok(())
    }

    fn hand(&mut self, hand: Hand, name: &str) {
        let sim = &self.sim;
        let drifts = !matches!(hand, Hand::Restart | Hand::Unpause | Hand::MakeIll);
        if drifts && self.controller.is_some() {
            self.laws().drifts(name, hand == Hand::Crash, &sim.snapshot());
        }
        match hand {
            Hand::Crash => sim.kill(name, 1),
            Hand::Stop => sim.stop_by_hand(name),
            Hand::Kill => sim.kill_by_hand(name),
            Hand::Restart => sim.restart_by_hand(name),
            Hand::Pause => sim.pause(name),
            Hand::Unpause => sim.unpause(name),
            Hand::Rename => drop(sim.rename(name, &format!("{name}-mine"))),
            Hand::Disconnect => sim.disconnect(name),
            Hand::Remove => sim.remove(name),
            Hand::Update => {
                let resources = Resources { memory: "512m".parse().ok(), ..Resources::default() };
                sim.update_by_hand(name, resources, RestartPolicy::No);
            }
            Hand::MakeIll => {
                let observed = sim.snapshot();
                let checked = observed.containers.values().any(|c| c.name == name && c.health != Health::None);
                if checked {
                    sim.turn(name, Health::Unhealthy);
                }
            }
        }
    }

    fn foreign_gone(&mut self, which: impl Fn(&str) -> bool) {
        let foreign = |observed: &Observed| -> Vec<String> {
            let theirs = observed.containers.values().filter(|container| container.identity.is_none());
            theirs.map(|container| container.name.clone()).collect()
        };
        for name in foreign(&self.sim.snapshot()).iter().filter(|name| which(name)) {
            self.sim.remove(name);
        }
    }

    fn faults(&mut self, faulty: bool) {
        self.faulty = faulty;
        self.laws().blinded(Duration::from_secs(100));
        if faulty {
            // As long as they last, and for a while.
            self.laws().blinded(Duration::from_secs(1_000_000));
        } else {
            self.laws().sees_again();
        }
        if let Some(controller) = &self.controller {
            if faulty { controller.faulty.relapse() } else { controller.faulty.heal() }
        }
    }

    /// From here on nothing goes wrong any longer.
    async fn calm_down(&mut self) -> Result<(), String> {
        self.laws().tell("** from here on nothing goes wrong");
        self.faults(false);
        self.laws().engine_answers();
        self.laws().meddles();
        self.sim.resume();
        self.foreign_gone(|_| true);
        self.heal_images();
        self.saved(&Found::Specs(self.schedule.last.clone()));
        if self.controller.is_none() {
            self.start();
        }
        self.check().await
    }

    /// Every image is as it should be from now on, so that those who failed with it may try again. Who fell ill is well.
    fn heal_images(&mut self) {
        for service in self.good.services.values() {
            let reference = &service.config.image;
            let is_good = reference.ends_with(":1") || reference.ends_with(":2");
            if !is_good {
                let healed = self.schedule.images.get(reference).cloned().unwrap_or_else(|| Image::new(reference));
                let mut good = Image::new(&format!("{reference}-healed"));
                good.facts.volumes = healed.facts.volumes;
                self.sim.add_image(reference, good);
                self.laws().answers_at_once(reference);
            }
        }
        for container in self.sim.snapshot().containers.values() {
            if container.health == Health::Unhealthy {
                self.sim.turn(&container.name, Health::Healthy);
            }
        }
    }

    /// Waits until everything agrees. What has failed for good, as far as the controller could tell, may need somebody
    /// to ask.
    async fn agree(&mut self) -> Result<(), String> {
        if self.agrees_within(AGREES_WITHIN).await? {
            return Ok(());
        }
        let left = self.difference().unwrap_or_default();
        if self.laws().given_up.is_empty() {
            return Err(format!("it does not come to agree, and has given up nobody: {left}"));
        }
        self.laws().tell(&format!("** still different: {left}; asking"));
        self.laws().meddles();
        self.ask(RequestKind::Reconcile);
        if self.agrees_within(AT_ONCE).await? {
            self.laws().asked += 1;
            return Ok(());
        }
        Err(format!("it does not come to agree: {}", self.difference().unwrap_or_default()))
    }

    async fn agrees_within(&mut self, bound: Duration) -> Result<bool, String> {
        let began = tokio::time::Instant::now();
        while began.elapsed() < bound {
            // Whoever agrees does so for a while.
            if self.difference().is_none() {
                tokio::time::sleep(Duration::from_secs(5)).await;
                if self.difference().is_none() {
                    self.check().await?;
                    return Ok(true);
                }
            }
            tokio::time::sleep(Duration::from_secs(1)).await;
            self.check().await?;
        }
        Ok(false)
    }

    /// Nothing is done any longer.
    async fn rest(&mut self) -> Result<(), String> {
        // What no event told, the next list did.
        tokio::time::sleep(RESYNC).await;
        let before = self.sim.calls().len();
        tokio::time::sleep(QUIET).await;
        self.check().await?;
        let calls = self.sim.calls().split_off(before);
        let busy: Vec<String> = calls.into_iter().filter(|call| call != "list" && !call.starts_with("exec ")).collect();
        if !busy.is_empty() {
            return Err(format!("it agrees, and goes on with {busy:?}"));
        }
        match self.difference() {
            None => Ok(()),
            Some(difference) => Err(format!("it agreed, and no longer does: {difference}")),
        }
    }

    /// What differs from what is wanted, if anything does.
    fn difference(&self) -> Option<String> {
        let observed = self.sim.snapshot();
        let names: BTreeSet<String> = observed.of_group(GROUP).map(|container| container.name.clone()).collect();
        let expected: BTreeSet<String> = self.good.services.keys().map(|name| format!("shop-{name}")).collect();
        if names != expected {
            return Some(format!("there are {names:?} instead of {expected:?}"));
        }
        if let Some(kept) = self.laws().not_reloaded(&observed) {
            return Some(format!("{kept} was to be replaced"));
        }
        let networks: Vec<&String> =
            observed.networks.values().filter(|network| network.name == GROUP).map(|network| &network.id).collect();
        let [network] = networks.as_slice() else { return Some(format!("{} networks", networks.len())) };
        for container in observed.of_group(GROUP) {
            let name = &container.name;
            let service = container.service_of(GROUP).and_then(|name| self.good.services.get(name))?;
            let identity = container.identity.as_ref()?;
            if container.state != State::Running || !matches!(container.health, Health::None | Health::Healthy) {
                return Some(format!("{name} is {} ({:?})", container.state, container.health));
            }
            let same = identity.spec_hash == service.fingerprint.spec_hash
                && identity.env_hash == service.fingerprint.env_hash
                && observed.images.get(&service.config.image) == Some(&identity.image_id);
            if !same {
                return Some(format!("{name} is not what its spec asks for"));
            }
            if container.networks.iter().map(|attachment| &attachment.network_id).collect::<Vec<_>>() != [*network] {
                return Some(format!("{name} is not on the network"));
            }
            let names = container.details.as_ref().and_then(|details| details.names.get(*network));
            if !names.is_some_and(|names| names.contains(&service.service)) {
                return Some(format!("nobody finds {name}"));
            }
        }
        let again = forecast(&self.good, &observed, &Memory::new(self.updated()));
        (!again.steps.is_empty())
            .then(|| format!("{:?}", again.steps.iter().map(ToString::to_string).collect::<Vec<_>>()))
    }

    fn updated(&self) -> BTreeSet<ContainerId> {
        LocalState::new(self.state.path()).updated()
    }
}

/// A report in a line.
fn brief(report: &Report) -> String {
    match report {
        Report::StepStarted(step) => format!("begins {step} # {}", step.cause),
        Report::StepDone(step) => format!("did {step}"),
        Report::Planned(changes) => format!("planned {} changes", changes.len()),
        Report::Failed(failed) => format!(
            "failed {}: {:?} {} (count {}, retry {:?})",
            failed.failure.service, failed.failure.reason, failed.failure.message, failed.count, failed.retry
        ),
        Report::Reconciling { change, spec } => {
            let fields: Vec<_> = change.causes.iter().map(Cause::path).collect();
            format!("differs {} {:?} {fields:?} (spec {spec})", change.subject.name(), change.action)
        }
        Report::Settled(outcome) => format!(
            "settled: ready {:?} failed {:?} waits {:?}",
            outcome.ready,
            outcome.failed.keys().collect::<Vec<_>>(),
            outcome.waits.iter().map(|wait| format!("{} {}", wait.service, wait.reason)).collect::<Vec<_>>()
        ),
        other => format!("{other:?}"),
    }
}
