//! One run: successive controllers, the simulated engine, and the events of a schedule.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use drillmaster::control::event::{Limits, Outcome, Reading, Report, Request, RequestKind};
use drillmaster::control::execute::context::ExecContext;
use drillmaster::control::local_state::LocalState;
use drillmaster::control::state_directory::StateDirectory;
use drillmaster::control::{self, RunOptions, WatchOptions};
use drillmaster::desired::{Desired, Service};
use drillmaster::engine::deadline::{self, Bounded};
use drillmaster::observed::{Container, Health, Observed, State};
use drillmaster::plan::backoff;
use drillmaster::plan::cause::Cause;
use drillmaster::plan::forecast;
use drillmaster::plan::step::Reason;
use drillmaster::spec::Diagnostic;
use drillmaster::spec::model::{Resources, RestartPolicy};
use drillmaster_sim::faulty::{Faults, Faulty, Stop};
use drillmaster_sim::{Image, Latency, Personality, Script, Sim};
use futures_util::FutureExt;
use tempfile::TempDir;
use tokio::sync::mpsc;
use tokio::task::JoinHandle;

mod convergence;

use crate::builders::{GROUP, SOURCE, nothing};
use crate::invariants::{InvariantChecker, Invariants};
use crate::schedule::{Event, ExternalChange, Schedule, SpecState, Specs, wanted};

const LIMITS: Limits = Limits { setups: 4, teardowns: 8, deadline: None };
/// Time in which the state converges once the faults have ended: the maximum backoff, and the sequential start of the
/// services.
const CONVERGES_WITHIN: Duration = Duration::from_secs(15 * 60);
/// Time in which the state converges after a reconcile request.
const AFTER_REQUEST: Duration = Duration::from_secs(3 * 60);
/// Time in which a change must take effect without waiting for the next resync.
const RUN_TIMEOUT: Duration = Duration::from_secs(12);
/// Time without mutations after the state has converged.
const QUIET: Duration = Duration::from_secs(120);

/// Time during which specs are half saved.
const HALF_SAVED: Duration = Duration::from_millis(300);
/// Resync interval without events, with a margin.
const RESYNC: Duration = Duration::from_secs(45);

/// The state of a run.
pub struct World {
    pub sim: Sim,
    invariants: Arc<Mutex<Invariants>>,
    schedule: Schedule,
    seed: u64,
    state: TempDir,
    reading: Arc<Mutex<Reading>>,
    /// The last valid specs.
    good: Desired,
    faulty: bool,
    controller: Option<Controller>,
    controllers: u64,
    /// Call at which the first controller is killed.
    stop: Option<Stop>,
    /// Faults that replace those drawn from the seed.
    faults: Option<Faults>,
    /// True if the controller starts as soon as the specs are valid.
    awaits_specs: bool,
}

/// A controller in watch mode.
struct Controller {
    task: JoinHandle<Outcome>,
    faulty: Arc<Faulty>,
    changes: mpsc::Sender<()>,
    requests: mpsc::Sender<Request>,
    interrupt: mpsc::Sender<()>,
}

impl World {
    pub fn new(seed: u64, schedule: Schedule) -> World {
        World::on(Personality::default(), seed, schedule)
    }

    /// Creates a run on an engine that behaves like this one.
    pub fn on(personality: Personality, seed: u64, schedule: Schedule) -> World {
        let sim = Sim::imitating(personality);
        sim.set_stale(schedule.stale);
        if schedule.quick {
            let ms = Duration::from_millis;
            sim.set_latency(Latency {
                start: ms(20),
                list: ms(30),
                stop: ms(5),
                network: ms(10),
                ..personality.latency()
            });
        }
        let good = wanted(&schedule.first);
        let mut answers = BTreeMap::new();
        for (reference, image) in &schedule.images {
            sim.add_image(reference, image.clone());
            if let Script::SucceedsAfter(time) = image.behaviour.exec {
                answers.insert(reference.clone(), time);
            }
        }
        let invariants = Arc::new(Mutex::new(Invariants::new(&good, answers)));
        let recorder = invariants.clone();
        sim.on_change(move |line, observed| {
            recorder.lock().unwrap_or_else(PoisonError::into_inner).engine_changed(line, observed);
        });
        World {
            sim,
            invariants,
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

    /// Creates a run without a schedule, in which the first controller is killed at a call.
    pub fn stopping(schedule: Schedule, stop: Stop) -> World {
        World { stop: Some(stop), ..World::new(0, schedule) }
    }

    /// Creates a run without a schedule, with the given faults.
    pub fn failing(schedule: Schedule, faults: Faults) -> World {
        World { faults: Some(faults), faulty: true, ..World::new(0, schedule) }
    }

    /// Restarts the engine repeatedly with a pause. Each time all services must be back soon: an engine restart does
    /// not count as a crash.
    pub async fn restarts(&mut self, times: u32, pause: Duration) -> Result<(), String> {
        self.start();
        self.converge(AFTER_REQUEST).await?;
        for _ in 0..times {
            tokio::time::sleep(Duration::from_secs(30)).await;
            self.invariants().log("** engine restart");
            self.invariants().allow_missed_changes(AFTER_REQUEST);
            self.sim.shut_down(true);
            tokio::time::sleep(pause).await;
            self.sim.start_up();
            self.converge(pause / 2 + Duration::from_secs(14)).await?;
        }
        self.stays_converged().await
    }

    /// Saves specs. Each version must be applied before the next resync.
    pub async fn saves(&mut self, versions: &[Specs]) -> Result<(), String> {
        self.start();
        self.converge(RUN_TIMEOUT).await?;
        for specs in versions {
            self.invariants().log("** specs");
            self.saved(&SpecState::Specs(specs.clone()));
            self.converge(RUN_TIMEOUT).await?;
        }
        self.stays_converged().await
    }

    /// Saves specs and crashes a service; after each, the controller or its successor converges. Returns true if the
    /// first controller was killed.
    pub async fn sweep(&mut self, versions: &[Specs], crashes: &str) -> Result<bool, String> {
        self.start();
        self.converge(AFTER_REQUEST).await?;
        for specs in versions {
            self.invariants().log("** specs");
            self.saved(&SpecState::Specs(specs.clone()));
            self.converge(AFTER_REQUEST).await?;
            self.invariants().log("** crash");
            self.sim.kill(crashes, 1);
            self.converge(AFTER_REQUEST).await?;
        }
        self.stays_converged().await?;
        Ok(self.controllers > 1)
    }

    /// Waits until the state has converged. If the controller is killed meanwhile, starts another.
    async fn converge(&mut self, bound: Duration) -> Result<(), String> {
        let began = tokio::time::Instant::now();
        while self.difference().is_some() {
            let killed = |controller: &Controller| self.stop.is_some_and(|stop| controller.faulty.calls() >= stop.at);
            if self.controllers == 1 && self.controller.as_ref().is_some_and(killed) {
                self.invariants().log("** controller killed");
                self.kill_controller().await;
                self.start();
            }
            tokio::time::sleep(Duration::from_millis(20)).await;
            self.check().await?;
            if began.elapsed() > bound {
                return Err(format!("does not converge: {}", self.difference().unwrap_or_default()));
            }
        }
        Ok(())
    }

    pub fn invariants(&self) -> MutexGuard<'_, Invariants> {
        self.invariants.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Executes the schedule and waits until the state has converged. Returns the first violation.
    pub async fn run(&mut self) -> Result<(), String> {
        self.start();
        for (pause, event) in std::mem::take(&mut self.schedule.events) {
            tokio::time::sleep(pause).await;
            self.invariants().check_deadlines();
            self.invariants().log(&format!("** {event}"));
            self.invariants().due.clear();
            self.apply_event(event).await?;
            self.check().await?;
        }
        self.end_faults().await?;
        self.await_convergence().await?;
        self.stays_converged().await
    }

    /// Returns the first violation, or an error if the controller has ended.
    async fn check(&mut self) -> Result<(), String> {
        self.invariants().check_deadlines();
        if let Some(broken) = self.invariants().violations.first() {
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

    /// Starts a controller if the specs are valid and not empty.
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
        // A new controller has to list everything first.
        self.invariants().allow_missed_changes(Duration::from_secs(10));
        let checker = InvariantChecker { sim: self.sim.clone(), invariants: self.invariants.clone() };
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
            faulty.disable();
        }
        let context = ExecContext {
            group: GROUP.into(),
            directory: SOURCE.into(),
            executable: env!("CARGO_BIN_EXE_drillmaster").into(),
            routes: Default::default(),
            outputs: Default::default(),
            workers: Default::default(),
        };
        let local_state = LocalState::new(StateDirectory::at(self.state.path()));
        let reload = BTreeSet::new();
        let options =
            RunOptions { limits: LIMITS, context, local_state, read: None, reload: reload.into(), lease: None };
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
        let recorder = self.invariants.clone();
        let task = tokio::spawn(async move {
            let report = |report: Report| {
                let mut invariants = recorder.lock().unwrap_or_else(PoisonError::into_inner);
                invariants.log(&format!("      {}", brief(&report)));
                if let Report::Failed(failed) = &report {
                    invariants.failed(&failed.failure.service, failed.retry.is_some());
                }
                if let Report::Failed(failed) = &report
                    && failed.retry.is_none()
                    && !backoff::heals(failed.failure.reason)
                {
                    if !failed.failure.own_fault && failed.failure.reason != Reason::NonConvergent {
                        invariants
                            .violated(format!("{} is given up, but did not fail by itself", failed.failure.service));
                    }
                    invariants.given_up.insert(failed.failure.service.to_string());
                }
            };
            control::watch(engine, desired, options, watch, interrupts, report).await
        });
        self.controller = Some(Controller { task, faulty, changes, requests, interrupt });
    }

    fn saved(&mut self, found: &SpecState) {
        let reading = match found {
            SpecState::Specs(specs) => {
                self.good = wanted(specs);
                Reading::Valid(Box::new(self.good.clone()))
            }
            SpecState::Invalid(number) => Reading::Invalid(vec![Diagnostic::new(format!("invalid ({number})"))]),
            SpecState::Empty => Reading::Valid(Box::new(nothing())),
        };
        let specs = match found {
            SpecState::Specs(_) => Some(self.good.clone()),
            // Empty specs remove nothing without `--prune-all`.
            SpecState::Invalid(_) | SpecState::Empty => None,
        };
        self.invariants().specs_changed(specs);
        self.set_specs(reading);
    }

    /// Replaces the specs.
    fn set_specs(&mut self, reading: Reading) {
        *self.reading.lock().unwrap_or_else(PoisonError::into_inner) = reading;
        self.touched();
    }

    fn touched(&mut self) {
        if self.awaits_specs {
            self.start();
        } else if let Some(controller) = &self.controller {
            // If a notification is already pending, another one is not needed.
            let _ = controller.changes.try_send(());
        }
    }

    fn ask(&mut self, ask: RequestKind) {
        let Some(controller) = &self.controller else { return };
        let (reply, mut replies) = mpsc::channel(1024);
        let _ = controller.requests.try_send(Request { kind: ask, reply });
        let recorder = self.invariants.clone();
        tokio::spawn(async move {
            while let Some(report) = replies.recv().await {
                if matches!(report, Report::Settled(_) | Report::Status(_) | Report::Stopping(_)) {
                    let line = format!("      answered: {}", brief(&report));
                    recorder.lock().unwrap_or_else(PoisonError::into_inner).log(&line);
                }
            }
        });
    }

    async fn kill_controller(&mut self) {
        self.invariants().clear_reloads();
        if let Some(controller) = self.controller.take() {
            controller.task.abort();
            let _ = controller.task.await;
        }
        self.awaits_specs = false;
    }

    async fn apply_event(&mut self, event: Event) -> Result<(), String> {
        match event {
            Event::Saved(found, _) => {
                self.invariants().record_external_change();
                self.saved(&found);
            }
            Event::Touched => self.touched(),
            Event::HalfSaved(half) => {
                let whole = self.read();
                if matches!(whole, Reading::Valid(_)) && self.controller.is_some() {
                    self.set_specs(Reading::Valid(Box::new(wanted(&half))));
                    tokio::time::sleep(HALF_SAVED).await;
                    self.set_specs(whole);
                }
            }
            Event::ExternalChange(change, name) => {
                self.invariants().record_external_change();
                self.apply_external_change(change, &name);
            }
            Event::NetworkRemoved(name) => {
                self.invariants().record_external_change();
                self.sim.remove_network_by_force(name);
            }
            Event::Rebuilt(reference) => {
                self.invariants().record_external_change();
                if let Some(image) = self.schedule.images.get(&reference) {
                    let mut image = image.clone();
                    image.id = format!("{}-rebuilt{}", image.id, self.invariants().trace.len());
                    self.sim.add_image(&reference, image);
                    self.invariants().allow_missed_changes(Duration::from_secs(40));
                }
            }
            Event::Foreign(name, port) => {
                if self.sim.id_of(&name).is_none() {
                    let observed = self.sim.snapshot();
                    let free = observed.containers.values().flat_map(|c| &c.ports).all(|held| held.host != port);
                    let ports = [port];
                    self.sim.create_foreign(&name, if free { &ports } else { &[] });
                }
            }
            Event::ForeignRemoved(name) => {
                self.invariants().record_external_change();
                // Events of other containers are not received: only the next list shows that a name is free.
                self.invariants().allow_missed_changes(Duration::from_secs(40));
                self.remove_foreign(|foreign| foreign.starts_with(&name));
            }
            Event::EventsCut => {
                self.invariants().allow_missed_changes(Duration::from_secs(15));
                self.sim.cut_events();
            }
            Event::FaultsBegin => {
                // Events under way are not lost.
                tokio::time::sleep(Duration::from_millis(200)).await;
                self.faults(true);
            }
            Event::FaultsEnd => self.faults(false),
            Event::DiskFull => self.disk_full(true),
            Event::DiskFreed => self.disk_full(false),
            Event::EngineRestarts => {
                self.invariants().record_external_change();
                self.invariants().allow_missed_changes(Duration::from_secs(40));
                self.sim.restart();
            }
            Event::EngineStops { containers_end } => {
                self.invariants().record_external_change();
                self.invariants().engine_stopped();
                self.sim.shut_down(containers_end);
            }
            Event::EngineStarts => {
                self.invariants().record_external_change();
                self.invariants().engine_available();
                self.sim.start_up();
            }
            Event::EngineHangs => {
                self.invariants().engine_hung();
                self.sim.hang();
            }
            Event::EngineResumes => {
                self.invariants().record_external_change();
                self.invariants().engine_available();
                self.sim.resume();
            }
            Event::ControllerKilled => self.kill_controller().await,
            Event::ControllerInterrupted => {
                self.invariants().clear_reloads();
                if let Some(controller) = self.controller.take() {
                    let _ = controller.interrupt.try_send(());
                    // The controller waits for running steps, a pull at most.
                    let ended = tokio::time::timeout(Duration::from_secs(200), controller.task).await;
                    match ended {
                        Err(_) => return Err("the controller does not end after an interrupt".into()),
                        Ok(Err(error)) => return Err(format!("the controller panicked: {error}")),
                        Ok(Ok(_)) => {}
                    }
                }
                self.awaits_specs = false;
            }
            Event::ControllerStarts => {
                self.invariants().record_external_change();
                if self.controller.is_none() {
                    self.start();
                }
            }
            Event::ReconcileRequest => {
                self.invariants().record_external_change();
                self.ask(RequestKind::Reconcile);
            }
            Event::ReloadRequest(service) => {
                self.invariants().record_external_change();
                let current = self.sim.id_of(&format!("{GROUP}-{service}"));
                self.invariants().reload(&service, current.filter(|_| self.controller.is_some()));
                self.ask(RequestKind::Reload(BTreeSet::from([service]).into()));
            }
            Event::StatusRequest => self.ask(RequestKind::Status),
        }
        Ok(())
    }

    fn apply_external_change(&mut self, change: ExternalChange, name: &str) {
        if change == ExternalChange::Rename && self.sim.id_of(&format!("{name}-mine")).is_some() {
            return;
        }
        let sim = &self.sim;
        let is_drift =
            !matches!(change, ExternalChange::Restart | ExternalChange::Unpause | ExternalChange::BecomeUnhealthy);
        if is_drift && self.controller.is_some() {
            self.invariants().expect_correction(name, change == ExternalChange::Crash, &sim.snapshot());
        }
        match change {
            ExternalChange::Crash => sim.kill(name, 1),
            ExternalChange::Stop => sim.docker_stop(name),
            ExternalChange::Kill => sim.docker_kill(name),
            ExternalChange::Restart => sim.docker_restart(name),
            ExternalChange::Pause => sim.pause(name),
            ExternalChange::Unpause => sim.unpause(name),
            ExternalChange::Rename => self.rename(name),
            ExternalChange::Disconnect => sim.disconnect(name),
            ExternalChange::Remove => sim.remove(name),
            // Only its event shows an update, and no engine drops single events.
            ExternalChange::Update if self.faulty => {}
            ExternalChange::Update => {
                let resources = Resources { memory: "512m".parse().ok(), ..Resources::default() };
                sim.docker_update(name, resources, RestartPolicy::No);
            }
            ExternalChange::BecomeUnhealthy => {
                let observed = sim.snapshot();
                let checked = observed.containers.values().any(|c| c.name == name && c.health != Health::None);
                if checked {
                    sim.set_health(name, Health::Unhealthy);
                }
            }
        }
    }

    fn rename(&mut self, name: &str) {
        let Some(id) = self.sim.id_of(name) else { return };
        let managed = self.sim.snapshot().containers.get(id.as_str()).is_some_and(|it| it.identity.is_some());
        if managed {
            self.invariants().renamed(&id);
        } else {
            self.invariants().allow_missed_changes(Duration::from_secs(40));
        }
        self.sim.rename(name, &format!("{name}-mine"));
    }

    fn remove_foreign(&mut self, which: impl Fn(&str) -> bool) {
        let foreign = |observed: &Observed| -> Vec<String> {
            let theirs = observed.containers.values().filter(|container| container.identity.is_none());
            theirs.map(|container| container.name.clone()).collect()
        };
        for name in foreign(&self.sim.snapshot()).iter().filter(|name| which(name)) {
            self.sim.remove(name);
        }
    }

    fn disk_full(&mut self, full: bool) {
        self.sim.set_disk_full(full);
        if full {
            // Nothing can be corrected.
            self.invariants().allow_missed_changes(Duration::from_secs(1_000_000));
        } else {
            self.invariants().faults_ended();
        }
    }

    fn faults(&mut self, faulty: bool) {
        self.faulty = faulty;
        self.invariants().allow_missed_changes(Duration::from_secs(100));
        if faulty {
            // The duration is unknown: no limit until the faults end.
            self.invariants().allow_missed_changes(Duration::from_secs(1_000_000));
        } else {
            self.invariants().faults_ended();
        }
        if let Some(controller) = &self.controller {
            if faulty { controller.faulty.enable() } else { controller.faulty.disable() }
        }
    }

    /// Ends all faults.
    async fn end_faults(&mut self) -> Result<(), String> {
        self.invariants().log("** faults ended");
        self.faults(false);
        self.invariants().engine_available();
        self.invariants().record_external_change();
        self.sim.resume();
        self.disk_full(false);
        self.remove_foreign(|_| true);
        self.heal_images();
        self.saved(&SpecState::Specs(self.schedule.last.clone()));
        if self.controller.is_none() {
            self.start();
        }
        self.check().await
    }

    /// Replaces faulty images and makes unhealthy containers healthy, so that retries succeed.
    fn heal_images(&mut self) {
        for service in self.good.services.values() {
            let reference = &service.config.image;
            let is_good = reference.ends_with(":1") || reference.ends_with(":2");
            if !is_good {
                let healed = self.schedule.images.get(reference).cloned().unwrap_or_else(|| Image::new(reference));
                let mut good = Image::new(&format!("{reference}-healed"));
                good.facts.volumes = healed.facts.volumes;
                self.sim.add_image(reference, good);
                self.invariants().answers_immediately(reference);
            }
        }
        for container in self.sim.snapshot().containers.values() {
            if container.health == Health::Unhealthy {
                self.sim.set_health(&container.name, Health::Healthy);
            }
        }
    }
}

/// Formats a report as one line.
fn brief(report: &Report) -> String {
    match report {
        Report::StepStarted(step) => format!("started {step} # {}", step.cause),
        Report::StepDone(step) => format!("finished {step}"),
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
