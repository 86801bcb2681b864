//! A running watch on a simulated engine.

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex};
use std::time::Duration;

use drillmaster::control::event::{Outcome, Reading, Report, Request, RequestKind};
use drillmaster::control::{self, RunOptions, WatchOptions};
use drillmaster::desired::Desired;
use drillmaster::engine::Engine;
use drillmaster::observed::State;
use drillmaster::plan::cause::Cause;
use drillmaster_sim::Sim;
use tokio::sync::mpsc;
use tokio::task::JoinHandle;
use tokio::time::{Instant, sleep, timeout};

use crate::builders::*;
use crate::harness::*;

/// Upper bound for all waits, in simulated time.
pub const READ_TIMEOUT: Duration = Duration::from_secs(900);

/// A running watch.
pub struct Watcher {
    pub sim: Sim,
    pub specs: Arc<Mutex<Reading>>,
    pub reports: Arc<Mutex<Vec<Report>>>,
    pub changes: mpsc::Sender<()>,
    pub requests: mpsc::Sender<Request>,
    pub interrupts: mpsc::Sender<()>,
    pub task: JoinHandle<Outcome>,
}

impl Drop for Watcher {
    fn drop(&mut self) {
        self.task.abort();
    }
}

impl Harness {
    /// Starts a watch.
    pub fn watch(&self, wanted: &Desired) -> Watcher {
        self.watch_on(Arc::new((**self).clone()), wanted, false)
    }

    /// Starts a watch and waits until it has settled.
    pub async fn watch_settled(&self, wanted: &Desired) -> Watcher {
        let watcher = self.watch(wanted);
        watcher.agrees(wanted).await;
        watcher.until_settled().await;
        watcher.clear();
        watcher
    }

    pub fn watch_on(&self, engine: Arc<dyn Engine>, wanted: &Desired, may_empty: bool) -> Watcher {
        self.watch_with(engine, wanted, may_empty, self.options())
    }

    pub fn watch_with(
        &self,
        engine: Arc<dyn Engine>,
        wanted: &Desired,
        may_empty: bool,
        options: RunOptions,
    ) -> Watcher {
        let specs = Arc::new(Mutex::new(Reading::Valid(Box::new(wanted.clone()))));
        let reports = Arc::new(Mutex::new(Vec::new()));
        let (changes, changed) = mpsc::channel(1);
        let (requests, asked) = mpsc::channel(1);
        let (interrupts, interrupted) = mpsc::channel(1);
        let (read, delay) = (specs.clone(), self.read_delay);
        let watch = WatchOptions {
            read: Arc::new(move || {
                let reading = read.lock().unwrap().clone();
                Box::pin(async move {
                    if !delay.is_zero() {
                        sleep(delay).await;
                    }
                    reading
                })
            }),
            changes: changed,
            requests: asked,
            may_empty,
        };
        let recorder = reports.clone();
        let report = move |report| recorder.lock().unwrap().push(report);
        let task = tokio::spawn(control::watch(engine, wanted.clone(), options, watch, interrupted, report));
        Watcher { sim: (**self).clone(), specs, reports, changes, requests, interrupts, task }
    }
}

impl Watcher {
    /// Replaces the specs.
    pub fn save(&self, reading: Reading) {
        *self.specs.lock().unwrap() = reading;
        let _ = self.changes.try_send(());
    }

    pub fn edit(&self, wanted: &Desired) {
        self.save(Reading::Valid(Box::new(wanted.clone())));
    }

    /// Waits until a condition holds.
    #[track_caller]
    pub fn until(&self, what: &str, holds: impl Fn(&Watcher) -> bool) -> impl Future<Output = ()> {
        let (caller, what) = (std::panic::Location::caller(), what.to_owned());
        async move {
            let begin = Instant::now();
            while !holds(self) {
                let (reports, history) = (self.reports.lock().unwrap(), self.sim.history());
                assert!(!self.task.is_finished(), "{caller}: the watch ended: {reports:#?}");
                assert!(begin.elapsed() < READ_TIMEOUT, "{caller}: never {what}\n{reports:#?}\n{history:#?}");
                drop(reports);
                sleep(Duration::from_millis(50)).await;
            }
        }
    }

    /// Waits until the state has converged and remains so for the staleness of lists.
    pub async fn agrees(&self, wanted: &Desired) {
        self.until("in agreement", |watcher| agree(&watcher.sim, wanted)).await;
        sleep(s(1)).await;
        assert!(agree(&self.sim, wanted), "no longer converged: {:#?}", self.sim.history());
    }

    /// Waits for the first settled report.
    pub async fn until_settled(&self) {
        self.until("settled", |watcher| watcher.count(|report| matches!(report, Report::Settled(_))) == 1).await;
    }

    /// Clears recorded reports and calls.
    pub fn clear(&self) {
        self.reports.lock().unwrap().clear();
        self.sim.clear_calls();
    }

    pub fn count(&self, is: impl Fn(&Report) -> bool) -> usize {
        self.reports.lock().unwrap().iter().filter(|report| is(report)).count()
    }

    pub fn has(&self, is: impl Fn(&Report) -> bool) -> bool {
        self.count(is) > 0
    }

    /// Returns the reports as short texts, without steps and waits.
    pub fn report_lines(&self) -> Vec<String> {
        self.reports.lock().unwrap().iter().filter_map(short_text).collect()
    }

    pub async fn request(&self, kind: RequestKind) -> Vec<Report> {
        let (reply, mut replies) = mpsc::channel(1024);
        self.requests.send(Request { kind, reply }).await.unwrap();
        let mut all = Vec::new();
        while let Some(report) = timeout(READ_TIMEOUT, replies.recv()).await.expect("the response did not end") {
            all.push(report);
        }
        all
    }
}

pub fn short_text(report: &Report) -> Option<String> {
    Some(match report {
        Report::Reconciling { change, spec } => {
            let fields: Vec<_> = change.causes.iter().map(Cause::path).collect();
            let spec = if *spec { " (spec)" } else { "" };
            format!("{} {} [{}]{spec}", change.subject.name(), change.action.word(), fields.join(" "))
        }
        Report::Ready(service) => format!("{service} ready"),
        Report::RolledBack(service) => format!("{service} rolled back"),
        Report::Succeeded(job) => format!("{job} succeeded"),
        Report::Output { event, line, .. } => format!("{event} | {line}"),
        Report::Failed(failed) => {
            let retry = failed.retry.map_or("never".into(), |retry| format!("{} s", retry.as_secs()));
            format!("{} {:?} {} next {retry}", failed.failure.service, failed.failure.reason, failed.count)
        }
        Report::Removed(service) => format!("{service} removed"),
        Report::Unhealthy { service, .. } => format!("{service} unhealthy"),
        Report::Healthy(service) => format!("{service} healthy"),
        Report::SpecsInvalid(_) => "specs invalid".into(),
        Report::SpecsValid => "specs valid".into(),
        Report::SpecsEmpty => "specs empty".into(),
        Report::EngineLost(_) => "engine lost".into(),
        Report::EngineReconnected => "engine reconnected".into(),
        Report::Settled(_) => "settled".into(),
        Report::Stopping(why) => format!("stopping: {why}"),
        Report::Note(text) => text.clone(),
        Report::StepFailed(step, _) => format!("failed {step}"),
        Report::Planned(_)
        | Report::StepStarted(_)
        | Report::StepDone(_)
        | Report::Pulling(..)
        | Report::Waiting { .. }
        | Report::Status(_) => return None,
    })
}

/// Returns true if there is one running container with its spec per service, one network, and nothing else in the
/// group.
pub fn agree(sim: &Sim, wanted: &Desired) -> bool {
    let observed = sim.snapshot();
    let ours: BTreeMap<String, _> = observed.of_group(GROUP).map(|it| (it.name.clone(), it)).collect();
    let networks = observed.networks.values().filter(|network| network.name == GROUP).count();
    ours.len() == wanted.services.len()
        && networks == usize::from(!wanted.services.is_empty())
        && wanted.services.values().all(|service| {
            ours.get(&format!("{GROUP}-{}", service.name)).is_some_and(|container| {
                let identity = container.identity.as_ref().unwrap();
                container.state == State::Running
                    && identity.spec_hash == service.fingerprint.spec_hash
                    && identity.env_hash == service.fingerprint.env_hash
                    && container.networks.len() == 1
                    && container.networks.iter().all(|a| observed.networks.contains_key(&a.network_id))
            })
        })
}

pub fn chain() -> Desired {
    desired([
        service("db").ping(PING).volume("data", "/data"),
        service("api").needs("db").ping(PING),
        service("web").needs("api"),
        service("other"),
    ])
}

pub fn mutations(sim: &Sim) -> Vec<String> {
    let reads = ["list", "inspect", "image", "events", "exec", "logs", "about", "ended"];
    sim.calls().into_iter().filter(|call| !reads.iter().any(|read| call.starts_with(read))).collect()
}
