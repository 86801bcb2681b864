//! Common setup: the controller on a simulated engine, with a temporary state directory.

use std::collections::{BTreeMap, BTreeSet};
use std::ops::Deref;
use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use drillmaster::control::event::{Limits, Outcome, Report};
use drillmaster::control::execute::context::ExecContext;
use drillmaster::control::execute::outputs::OutputStore;
use drillmaster::control::local_state::LocalState;
use drillmaster::control::state_directory::StateDirectory;
use drillmaster::control::{self, RunOptions};
use drillmaster::desired::Desired;
use drillmaster::engine::Engine;
use drillmaster::observed::State;
use drillmaster::plan::step::{Action, Reason};
use drillmaster::plan::{Memory, forecast};
use drillmaster_sim::faulty::{Faulty, Stop};
use drillmaster_sim::{Image, Personality, Sim};
use tempfile::TempDir;
use tokio::sync::mpsc;
use tokio::time::timeout;

use crate::builders::{GROUP, SOURCE, desired, service};

pub const LIMITS: Limits = Limits { setups: 4, teardowns: 8, deadline: None };
pub const PING: Duration = Duration::from_secs(20);
/// Maximum simulated duration of a run.
const RUN_TIMEOUT: Duration = Duration::from_secs(86_400);

pub fn ms(ms: u64) -> Duration {
    Duration::from_millis(ms)
}

pub fn s(seconds: u64) -> Duration {
    Duration::from_secs(seconds)
}

/// A simulated engine and the state directory of its group. Container ids repeat on every simulated engine, so engines
/// must not share a state directory.
pub struct Harness {
    sim: Sim,
    state: TempDir,
    /// Time a watch takes to read the specs.
    pub read_delay: Duration,
}

impl Deref for Harness {
    type Target = Sim;

    fn deref(&self) -> &Sim {
        &self.sim
    }
}

impl Harness {
    /// Creates an engine without images.
    pub fn new() -> Harness {
        Harness::imitating(Personality::default())
    }

    /// Creates an engine without images that behaves like this one.
    pub fn imitating(personality: Personality) -> Harness {
        let sim = Sim::imitating(personality);
        Harness { sim, state: tempfile::tempdir().unwrap(), read_delay: Duration::ZERO }
    }

    /// Creates an engine with these images.
    pub fn with_images(images: &[&str]) -> Harness {
        let harness = Harness::new();
        for image in images {
            harness.add_image(image, Image::new(image));
        }
        harness
    }

    /// Creates an engine with the images of these services, except those to build.
    pub fn of(wanted: &Desired) -> Harness {
        let harness = Harness::new();
        harness.add_images(wanted);
        harness
    }

    pub fn add_images(&self, wanted: &Desired) {
        for service in wanted.services.values().filter(|service| service.build.is_none()) {
            self.add_image(&service.config.image, Image::new(&service.config.image));
        }
    }

    /// Clears the state directory.
    pub fn clear_state(&mut self) {
        self.state = tempfile::tempdir().unwrap();
    }

    pub fn state(&self) -> &Path {
        self.state.path()
    }

    /// Returns the outputs in the state directory.
    pub fn outputs(&self) -> OutputStore {
        let outputs = OutputStore::default();
        outputs.open(&StateDirectory::at(self.state())).unwrap();
        outputs
    }

    pub fn options(&self) -> RunOptions {
        let context = ExecContext {
            group: GROUP.into(),
            directory: SOURCE.into(),
            executable: env!("CARGO_BIN_EXE_drillmaster").into(),
            routes: Default::default(),
            outputs: self.outputs(),
            workers: Default::default(),
        };
        let local_state = LocalState::new(StateDirectory::at(self.state()));
        RunOptions { limits: LIMITS, context, local_state, read: None, reload: Default::default(), lease: None }
    }

    /// Runs to completion. Panics after one simulated day.
    pub async fn run(&self, engine: Arc<dyn Engine>, wanted: &Desired, options: RunOptions) -> (Outcome, Vec<Report>) {
        let (_interrupt, interrupts) = mpsc::channel(1);
        let mut reports = Vec::new();
        let run = control::run(engine, wanted.clone(), options, interrupts, |report| reports.push(report));
        let outcome = timeout(RUN_TIMEOUT, run).await.expect("the run did not end");
        (outcome, reports)
    }

    pub async fn up(&self, wanted: &Desired) -> Outcome {
        self.up_reporting(wanted).await.0
    }

    pub async fn up_reporting(&self, wanted: &Desired) -> (Outcome, Vec<Report>) {
        self.run(Arc::new(self.sim.clone()), wanted, self.options()).await
    }

    pub async fn up_on(&self, engine: Arc<dyn Engine>, wanted: &Desired) -> Outcome {
        self.run(engine, wanted, self.options()).await.0
    }

    /// Runs an `up` that replaces or reruns these services.
    pub async fn reload(&self, wanted: &Desired, services: &[&str]) -> Outcome {
        let reload = services.iter().map(|name| (*name).to_owned()).collect::<BTreeSet<String>>().into();
        let options = RunOptions { reload, ..self.options() };
        self.run(Arc::new(self.sim.clone()), wanted, options).await.0
    }

    /// Runs an `up` that is killed at an engine call. Returns the outcome if it ends earlier.
    pub async fn up_killed(&self, stop: Stop, wanted: &Desired) -> Option<Outcome> {
        let faulty = Arc::new(Faulty::stopping(Arc::new(self.sim.clone()), stop));
        tokio::select! {
            outcome = self.up_on(faulty.clone(), wanted) => Some(outcome),
            () = faulty.stopped() => None,
        }
    }

    /// Returns the ids of the group's containers by name.
    pub fn ids(&self) -> BTreeMap<String, String> {
        let snapshot = self.snapshot();
        snapshot.of_group(GROUP).map(|container| (container.name.clone(), container.id.to_string())).collect()
    }

    /// Returns the index of an engine call.
    #[track_caller]
    pub fn call_index(&self, call: &str) -> usize {
        position(&self.calls(), call)
    }

    /// Returns the index of a change on the engine.
    #[track_caller]
    pub fn change_index(&self, change: &str) -> usize {
        position(&self.history(), change)
    }
}

#[track_caller]
pub fn position(lines: &[String], line: &str) -> usize {
    lines.iter().position(|it| it == line).unwrap_or_else(|| panic!("no `{line}` in {lines:#?}"))
}

#[track_caller]
pub fn assert_before(lines: &[String], first: &str, then: &str) {
    assert!(position(lines, first) < position(lines, then), "`{first}` is not before `{then}`: {lines:#?}");
}

/// What was begun with a service, in order.
pub fn begun(reports: &[Report], service: &str) -> Vec<Action> {
    let action = |report: &Report| match report {
        Report::Reconciling { change, .. } if change.subject.name() == service => Some(change.action),
        _ => None,
    };
    reports.iter().filter_map(action).collect()
}

/// Checks that an `up` succeeded and left one container per service.
#[track_caller]
pub fn assert_agrees(outcome: &Outcome, sim: &Sim, wanted: &Desired) {
    assert!(outcome.is_good(), "{}\n{:#?}", describe(outcome), sim.history());
    assert_eq!(outcome.ready, wanted.services.keys().cloned().collect::<BTreeSet<_>>());
    assert_tidy(sim, wanted);
}

/// Checks that there is one running container per service, one network, and nothing else in the group.
#[track_caller]
pub fn assert_tidy(sim: &Sim, wanted: &Desired) {
    let observed = sim.snapshot();
    let names: BTreeSet<String> = observed.of_group(GROUP).map(|container| container.name.clone()).collect();
    let expected: BTreeSet<String> = wanted.services.keys().map(|name| format!("shop-{name}")).collect();
    assert_eq!(names, expected, "{:#?}", sim.history());
    for container in observed.of_group(GROUP) {
        let service = &wanted.services[container.service_of(GROUP).unwrap()];
        let identity = container.identity.as_ref().unwrap();
        assert_eq!(container.state, State::Running, "{}", container.name);
        assert_eq!(identity.spec_hash, service.fingerprint.spec_hash, "{}", container.name);
        assert_eq!(identity.env_hash, service.fingerprint.env_hash, "{}", container.name);
    }
    let networks: Vec<_> = observed.networks.values().filter(|network| network.name == GROUP).collect();
    assert_eq!(networks.len(), usize::from(!wanted.services.is_empty()));
    let again = forecast(wanted, &observed, &Memory::default());
    assert!(again.steps.is_empty(), "{:?}", again.steps);
}

pub fn describe(outcome: &Outcome) -> String {
    let failed: Vec<String> = outcome
        .failed
        .values()
        .map(|failed| format!("{}: {:?}: {}", failed.failure.service, failed.failure.reason, failed.failure.message))
        .collect();
    let waits: Vec<String> = outcome.waits.iter().map(|wait| format!("{} {}", wait.service, wait.reason)).collect();
    format!(
        "failed {failed:#?}\nwaits {waits:#?}\nstuck {:?}\ninterrupted {} timed out {} engine {:?}",
        outcome.stuck, outcome.interrupted, outcome.timed_out, outcome.engine
    )
}

pub fn failure(outcome: &Outcome, service: &str) -> (Reason, String) {
    let failed = outcome.failed.get(service).unwrap_or_else(|| panic!("{service} did not fail: {}", describe(outcome)));
    (failed.failure.reason, failed.failure.message.clone())
}

pub fn diamond() -> Desired {
    desired([
        service("top").needs("left").needs("right"),
        service("left").needs("base").ping(PING),
        service("right").needs("base").ping(PING),
        service("base").ping(PING),
    ])
}
