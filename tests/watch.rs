//! The watching controller on the simulated engine, in paused time: one story each of what a watch has to mend, to
//! survive and to leave alone. What happens by chance, and all at once, is the simulation's business.

#![allow(clippy::unwrap_used, reason = "a test that cannot go on fails")]

mod builders;

use std::collections::{BTreeMap, BTreeSet};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use builders::*;
use drillmaster::control::event::{Limits, Outcome, Reading, Report, Request, RequestKind};
use drillmaster::control::execute::context::ExecContext;
use drillmaster::control::local_state::LocalState;
use drillmaster::control::{self, RunOptions, WatchOptions};
use drillmaster::desired::Desired;
use drillmaster::engine::Engine;
use drillmaster::observed::{Health, State};
use drillmaster::plan::cause::Cause;
use drillmaster::plan::step::{Action, Reason};
use drillmaster::spec::Diagnostic;
use drillmaster::spec::model::{Condition, HealthAction, Resources, RestartPolicy};
use drillmaster_sim::{Image, Script, Sim};
use tempfile::TempDir;
use tokio::sync::mpsc;
use tokio::task::JoinHandle;
use tokio::time::{Instant, sleep, timeout};

const LIMITS: Limits = Limits { setups: 4, teardowns: 8, deadline: None };
const PING: Duration = Duration::from_secs(20);
/// More than anything here takes, in simulated time.
const READ_TIMEOUT: Duration = Duration::from_secs(900);

fn s(seconds: u64) -> Duration {
    Duration::from_secs(seconds)
}

/// A watch under way.
struct Watcher {
    sim: Sim,
    specs: Arc<Mutex<Reading>>,
    reports: Arc<Mutex<Vec<Report>>>,
    changes: mpsc::Sender<()>,
    requests: mpsc::Sender<Request>,
    interrupts: mpsc::Sender<()>,
    task: JoinHandle<Outcome>,
    _state: TempDir,
}

impl Drop for Watcher {
    fn drop(&mut self) {
        self.task.abort();
    }
}

impl Watcher {
    /// Begins to watch.
    fn begin(sim: &Sim, wanted: &Desired) -> Watcher {
        Watcher::on(Arc::new(sim.clone()), sim, wanted, false)
    }

    fn on(engine: Arc<dyn Engine>, sim: &Sim, wanted: &Desired, may_empty: bool) -> Watcher {
        let state = tempfile::tempdir().unwrap();
        let specs = Arc::new(Mutex::new(Reading::Valid(Box::new(wanted.clone()))));
        let reports = Arc::new(Mutex::new(Vec::new()));
        let (changes, changed) = mpsc::channel(1);
        let (requests, asked) = mpsc::channel(1);
        let (interrupts, interrupted) = mpsc::channel(1);
        let read = specs.clone();
        let watch = WatchOptions {
            read: Arc::new(move || {
                let reading = read.lock().unwrap().clone();
                Box::pin(async { reading })
            }),
            changes: changed,
            requests: asked,
            may_empty,
        };
        let context = ExecContext {
            group: GROUP.into(),
            directory: SOURCE.into(),
            reaches_containers: true,
            outputs: Default::default(),
        };
        let options = RunOptions {
            limits: LIMITS,
            context,
            local_state: LocalState::new(state.path()),
            read: None,
            reload: BTreeSet::new(),
        };
        let told = reports.clone();
        let report = move |report| told.lock().unwrap().push(report);
        let task = tokio::spawn(control::watch(engine, wanted.clone(), options, watch, interrupted, report));
        Watcher { sim: sim.clone(), specs, reports, changes, requests, interrupts, task, _state: state }
    }

    /// Saves other specs.
    fn save(&self, reading: Reading) {
        *self.specs.lock().unwrap() = reading;
        let _ = self.changes.try_send(());
    }

    fn edit(&self, wanted: &Desired) {
        self.save(Reading::Valid(Box::new(wanted.clone())));
    }

    /// Waits until something is so.
    #[track_caller]
    fn until(&self, what: &str, holds: impl Fn(&Watcher) -> bool) -> impl Future<Output = ()> {
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

    /// Waits until the engine agrees, and for as long again as a list may be late.
    async fn agrees(&self, wanted: &Desired) {
        self.until("in agreement", |watcher| agree(&watcher.sim, wanted)).await;
        sleep(s(1)).await;
        assert!(agree(&self.sim, wanted), "it does not stay so: {:#?}", self.sim.history());
    }

    async fn settled(sim: &Sim, wanted: &Desired) -> Watcher {
        let watcher = Watcher::begin(sim, wanted);
        watcher.agrees(wanted).await;
        watcher.until("settled", |watcher| watcher.count(|report| matches!(report, Report::Settled(_))) == 1).await;
        watcher.forget();
        watcher
    }

    /// Forgets what was told and done.
    fn forget(&self) {
        self.reports.lock().unwrap().clear();
        self.sim.forget_calls();
    }

    fn count(&self, is: impl Fn(&Report) -> bool) -> usize {
        self.reports.lock().unwrap().iter().filter(|report| is(report)).count()
    }

    fn has(&self, is: impl Fn(&Report) -> bool) -> bool {
        self.count(is) > 0
    }

    /// What was told, a word each, steps and waits left out.
    fn told(&self) -> Vec<String> {
        self.reports.lock().unwrap().iter().filter_map(word).collect()
    }

    async fn ask(&self, ask: RequestKind) -> Vec<Report> {
        let (reply, mut replies) = mpsc::unbounded_channel();
        self.requests.send(Request { kind: ask, reply }).await.unwrap();
        let mut all = Vec::new();
        while let Some(report) = timeout(READ_TIMEOUT, replies.recv()).await.expect("the answer does not end") {
            all.push(report);
        }
        all
    }
}

fn word(report: &Report) -> Option<String> {
    Some(match report {
        Report::Reconciling { change, spec } => {
            let fields: Vec<_> = change.causes.iter().map(Cause::path).collect();
            let spec = if *spec { " (spec)" } else { "" };
            format!("{} {} [{}]{spec}", change.subject.name(), change.action.word(), fields.join(" "))
        }
        Report::Ready(service) => format!("{service} ready"),
        Report::RolledBack(service) => format!("{service} serves"),
        Report::Succeeded(job) => format!("{job} succeeded"),
        Report::Output { event, line, .. } => format!("{event} | {line}"),
        Report::Failed(failed) => {
            let retry = failed.retry.map_or("never".into(), |retry| format!("{} s", retry.as_secs()));
            format!("{} {:?} {} next {retry}", failed.failure.service, failed.failure.reason, failed.count)
        }
        Report::Removed(service) => format!("{service} gone"),
        Report::Unhealthy { service, .. } => format!("{service} unhealthy"),
        Report::Healthy(service) => format!("{service} healthy"),
        Report::SpecsInvalid(_) => "specs invalid".into(),
        Report::SpecsValid => "specs valid".into(),
        Report::SpecsEmpty => "specs empty".into(),
        Report::EngineLost(_) => "engine gone".into(),
        Report::EngineReconnected => "engine back".into(),
        Report::Settled(_) => "settled".into(),
        Report::Stopping(why) => format!("ending: {why}"),
        Report::Note(text) => text.clone(),
        Report::StepFailed(step, _) => format!("refused {step}"),
        Report::Planned(_)
        | Report::StepStarted(_)
        | Report::StepDone(_)
        | Report::Pulling(..)
        | Report::Waiting { .. }
        | Report::Status(_) => return None,
    })
}

/// One container for each service, running under its name with its spec; one network; nothing else of the group.
fn agree(sim: &Sim, wanted: &Desired) -> bool {
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

fn engine(wanted: &Desired) -> Sim {
    let sim = Sim::new();
    for service in wanted.services.values() {
        sim.add_image(&service.config.image, Image::new(&service.config.image));
    }
    sim
}

fn chain() -> Desired {
    desired([
        service("db").ping(PING).volume("data", "/data"),
        service("api").needs("db").ping(PING),
        service("web").needs("api"),
        service("other"),
    ])
}

fn ids(sim: &Sim) -> BTreeMap<String, String> {
    sim.snapshot().of_group(GROUP).map(|container| (container.name.clone(), container.id.to_string())).collect()
}

fn mutations(sim: &Sim) -> Vec<String> {
    let reads = ["list", "inspect", "image", "events", "exec", "logs", "about", "ended"];
    sim.calls().into_iter().filter(|call| !reads.iter().any(|read| call.starts_with(read))).collect()
}

// At rest.

#[tokio::test(start_paused = true)]
async fn a_watch_comes_up_in_order_and_then_rests() {
    let wanted = chain();
    let sim = engine(&wanted);
    let watcher = Watcher::settled(&sim, &wanted).await;
    sleep(s(3600)).await;
    assert_eq!(mutations(&sim), Vec::<String>::new());
    assert!(sim.calls().len() <= 125, "one list each half minute is enough: {}", sim.calls().len());
    assert_eq!(watcher.told(), Vec::<String>::new(), "never a line for nothing");
}

#[tokio::test(start_paused = true)]
async fn an_interrupt_ends_it_and_containers_stay() {
    let wanted = chain();
    let sim = engine(&wanted);
    let mut watcher = Watcher::settled(&sim, &wanted).await;
    watcher.interrupts.send(()).await.unwrap();
    let outcome = timeout(READ_TIMEOUT, &mut watcher.task).await.unwrap().unwrap();
    assert!(outcome.interrupted);
    assert!(agree(&sim, &wanted));
    assert_eq!(mutations(&sim), Vec::<String>::new());
}

// Crashes and hands.

#[tokio::test(start_paused = true)]
async fn a_crash_is_brought_back_with_growing_pauses() {
    let wanted = desired([service("api"), service("other")]);
    let sim = engine(&wanted);
    let watcher = Watcher::settled(&sim, &wanted).await;
    let before = ids(&sim);
    let mut pauses = Vec::new();
    for _ in 0..4 {
        let begin = Instant::now();
        sim.kill("shop-api", 1);
        watcher.agrees(&wanted).await;
        pauses.push((begin.elapsed() - s(1)).as_secs());
    }
    assert_eq!(pauses, [1, 2, 4, 8]);
    assert_eq!(ids(&sim), before, "the same containers");
    assert_eq!(watcher.told()[..3], ["api Exited 1 next 1 s", "api start [state]", "api ready"]);
    sleep(s(620)).await;
    watcher.forget();
    sim.kill("shop-api", 1);
    watcher.agrees(&wanted).await;
    assert_eq!(watcher.told()[0], "api Exited 1 next 1 s", "ten minutes of running are enough");
    assert!(mutations(&sim).iter().all(|call| call == "start shop-api"), "{:?}", mutations(&sim));
}

#[tokio::test(start_paused = true)]
async fn a_crash_loop_does_not_hurry_and_a_new_spec_ends_it() {
    let build = |image: &str| desired([service("api").image(image), service("web").needs("api"), service("other")]);
    let sim = engine(&build("api:2"));
    sim.add_image("api:1", Image::new("api:1").behaving(|it| it.exits = Some((s(2), 3))));
    let watcher = Watcher::begin(&sim, &build("api:1"));
    sleep(s(3600)).await;
    let starts = sim.calls().iter().filter(|call| call.starts_with("start shop-api")).count();
    assert!((14..22).contains(&starts), "{starts} tries in an hour");
    let live = watcher.ask(RequestKind::Status).await;
    let [Report::Status(live)] = live.as_slice() else { panic!("{live:?}") };
    let api = &live.services["api"];
    assert_eq!((api.last_exit, api.reason.as_deref()), (Some(3), Some("Exited")), "{api:?}");
    assert!(api.restarts >= 13 && api.next_try_ms.is_none_or(|next| next <= 300_000), "{api:?}");
    watcher.edit(&build("api:2"));
    let begin = Instant::now();
    watcher.agrees(&build("api:2")).await;
    assert!(begin.elapsed() < s(10), "{:?}", begin.elapsed());
}

#[tokio::test(start_paused = true)]
async fn stopped_or_removed_container_is_back_at_once() {
    type Hand = fn(&Sim);
    let hands: [(&str, Hand); 4] = [
        ("killed", |sim| sim.kill_by_hand("shop-api")),
        ("stopped", |sim| sim.stop_by_hand("shop-api")),
        ("removed", |sim| sim.remove("shop-api")),
        ("paused", |sim| sim.pause("shop-api")),
    ];
    let wanted = chain();
    for (what, hand) in hands {
        let sim = engine(&wanted);
        let watcher = Watcher::settled(&sim, &wanted).await;
        sleep(s(60)).await;
        watcher.forget();
        let before = ids(&sim);
        for _ in 0..5 {
            let begin = Instant::now();
            hand(&sim);
            watcher.agrees(&wanted).await;
            let took = begin.elapsed() - s(1);
            assert!(took < Duration::from_millis(1800), "{what}: {took:?} {:#?}", sim.history());
            sleep(s(15)).await;
        }
        let after = ids(&sim);
        let told = if what == "removed" { "api create [state]" } else { "api start [state]" };
        assert_eq!(watcher.told()[..2], [told, "api ready"], "{what}");
        for name in ["shop-db", "shop-web", "shop-other"] {
            assert_eq!(before[name], after[name], "{what}: {name} is none of its business");
        }
        assert!(!watcher.has(|report| matches!(report, Report::Failed(_))), "{what}: {:?}", watcher.told());
        assert_eq!(
            watcher.count(|report| matches!(report, Report::Reconciling { .. })),
            5,
            "{what}: {:?}",
            watcher.told()
        );
        assert_eq!(watcher.count(|it| *it == Report::Ready("api".into())), 5, "{what}: {:?}", watcher.told());
        assert!(mutations(&sim).iter().all(|call| call.contains("shop-api")), "{what}: {:?}", mutations(&sim));
    }
}

#[tokio::test(start_paused = true)]
async fn other_drift_is_corrected_without_a_restart() {
    type Hand = fn(&Sim);
    let hands: [(&str, Hand, &str); 3] = [
        ("renamed", |sim| assert!(sim.rename("shop-api", "somebody")), "api update [name]"),
        ("disconnected", |sim| sim.disconnect("shop-api"), "api update [network]"),
        (
            "limited",
            |sim| {
                let memory = Some("64m".parse().unwrap());
                sim.update_by_hand("shop-api", Resources { memory, ..Resources::default() }, RestartPolicy::default());
            },
            "api update [resources.memory]",
        ),
    ];
    let wanted = desired([service("api").memory("128m"), service("web").needs("api")]);
    for (what, hand, told) in hands {
        let sim = engine(&wanted);
        let watcher = Watcher::settled(&sim, &wanted).await;
        let before = ids(&sim);
        hand(&sim);
        watcher.until("mended", |watcher| watcher.count(|it| matches!(it, Report::StepDone(_))) >= 1).await;
        watcher.agrees(&wanted).await;
        assert_eq!(ids(&sim), before, "{what}");
        assert_eq!(watcher.told(), [told, "api ready"], "{what}");
        let api = sim.snapshot().containers.remove(before["shop-api"].as_str()).unwrap();
        assert_eq!(api.state, State::Running, "{what}");
        assert!(!sim.history().iter().any(|line| line.starts_with("died")), "{what}");
    }
}

#[tokio::test(start_paused = true)]
async fn a_network_that_was_removed_is_made_again() {
    let wanted = chain();
    let sim = engine(&wanted);
    let watcher = Watcher::settled(&sim, &wanted).await;
    let before = ids(&sim);
    sim.remove_network_by_force(GROUP);
    watcher.agrees(&wanted).await;
    assert_eq!(ids(&sim), before);
}

#[tokio::test(start_paused = true)]
async fn flapping_drift_is_ignored() {
    let wanted = desired([service("api").memory("128m"), service("other")]);
    let sim = engine(&wanted);
    let watcher = Watcher::settled(&sim, &wanted).await;
    let fought = |report: &Report| matches!(report, Report::Failed(it) if it.failure.reason == Reason::NonConvergent);
    let mut rounds = 0;
    while !watcher.has(fought) {
        rounds += 1;
        assert!(rounds < 10, "it fights on: {:?}", watcher.told());
        let memory = Some("64m".parse().unwrap());
        sim.update_by_hand("shop-api", Resources { memory, ..Resources::default() }, RestartPolicy::default());
        sleep(s(5)).await;
    }
    assert_eq!(sim.count("update"), 3, "{:?}", sim.calls());
    sim.forget_calls();
    sleep(s(300)).await;
    assert_eq!(sim.count("update"), 0);
    sim.kill_by_hand("shop-api");
    watcher.agrees(&wanted).await;
    assert_eq!(sim.count("update"), 0, "it is kept running, and that is left alone");
    let edited = desired([service("api").memory("256m"), service("other")]);
    watcher.edit(&edited);
    watcher.until("updated", |watcher| watcher.sim.count("update") == 1).await;
}

// Dependencies.

#[tokio::test(start_paused = true)]
async fn dependents_go_on_unless_they_asked_to_be_restarted() {
    let wanted = desired([
        service("db").ping(PING),
        service("api").needs_that("db", Condition::Ready, true),
        service("web").needs("db"),
    ]);
    for removed in [false, true] {
        let sim = engine(&wanted);
        let watcher = Watcher::settled(&sim, &wanted).await;
        let before = ids(&sim);
        if removed {
            sim.remove("shop-db")
        } else {
            sim.kill("shop-db", 1)
        };
        watcher.agrees(&wanted).await;
        watcher.until("api restarted", |it| it.has(|report| *report == Report::Ready("api".into()))).await;
        let history = sim.history();
        let at = |line: &str| history.iter().position(|it| it == line).unwrap_or_else(|| panic!("{line} {history:#?}"));
        let started = if removed { "renamed shop-db.new to shop-db" } else { "started shop-db" };
        assert!(at("died shop-api (0)") < at(started) && at(started) < at("started shop-api"), "{history:#?}");
        assert!(!history.iter().any(|line| line.contains("shop-web")), "{history:#?}");
        assert_eq!(ids(&sim)["shop-api"], before["shop-api"]);
    }
}

#[tokio::test(start_paused = true)]
async fn everything_comes_up_again_in_order_after_an_engine_restart() {
    let wanted = chain();
    let sim = engine(&wanted);
    let watcher = Watcher::settled(&sim, &wanted).await;
    let before = ids(&sim);
    sim.go_away(true);
    sleep(s(20)).await;
    assert!(watcher.has(|it| matches!(it, Report::EngineLost(_))));
    assert_eq!(mutations(&sim), Vec::<String>::new(), "nothing is done meanwhile");
    let tries = sim.calls().len();
    assert!(tries < 40, "{tries} tries in 20 s");
    sim.come_back();
    watcher.agrees(&wanted).await;
    assert_eq!(ids(&sim), before);
    let history = sim.history();
    let at = |line: &str| history.iter().rposition(|it| it == line).unwrap_or_else(|| panic!("{line} {history:#?}"));
    assert!(at("started shop-db") < at("started shop-api") && at("started shop-api") < at("started shop-web"));
    let told = watcher.told();
    assert_eq!(told[..2], ["engine gone", "engine back"]);
    assert!(!watcher.has(|it| matches!(it, Report::Failed(_))), "nothing has crashed: {told:?}");
}

#[tokio::test(start_paused = true)]
async fn a_hung_engine_is_waited_for() {
    let wanted = chain();
    let sim = engine(&wanted);
    let bounded = drillmaster::engine::deadline::Bounded::new(sim.clone(), Default::default());
    let watcher = Watcher::on(Arc::new(bounded), &sim, &wanted, false);
    watcher.agrees(&wanted).await;
    sim.hang();
    sleep(s(100)).await;
    sim.forget_calls();
    sleep(s(300)).await;
    let calls = sim.calls().len();
    assert!((5..20).contains(&calls), "{calls} calls in five minutes");
    assert_eq!(watcher.count(|it| matches!(it, Report::EngineLost(_))), 1);
    sim.resume();
    watcher.until("back", |it| it.has(|report| *report == Report::EngineReconnected)).await;
    watcher.agrees(&wanted).await;
}

#[tokio::test(start_paused = true)]
async fn a_cut_stream_is_no_news() {
    let wanted = chain();
    let sim = engine(&wanted);
    let watcher = Watcher::settled(&sim, &wanted).await;
    for _ in 0..10 {
        sim.cut_events();
        sleep(s(20)).await;
    }
    assert_eq!(watcher.told(), Vec::<String>::new());
    assert_eq!(mutations(&sim), Vec::<String>::new());
    sim.cut_events();
    sim.remove("shop-other");
    watcher.agrees(&wanted).await;
}

// Specs.

#[tokio::test(start_paused = true)]
async fn a_changed_spec_replaces_exactly_what_changed() {
    let build = |env: &str| {
        desired([
            service("db").ping(PING),
            service("api").needs("db").env("LOG_LEVEL", env),
            service("web").needs("api"),
        ])
    };
    let sim = engine(&build("info"));
    let watcher = Watcher::settled(&sim, &build("info")).await;
    let before = ids(&sim);
    for _ in 0..50 {
        watcher.edit(&build("info"));
    }
    sleep(s(60)).await;
    assert_eq!((watcher.told(), mutations(&sim)), (Vec::new(), Vec::new()), "the same is nothing");
    watcher.edit(&build("debug"));
    watcher.agrees(&build("debug")).await;
    let after = ids(&sim);
    assert_eq!((&before["shop-db"], &before["shop-web"]), (&after["shop-db"], &after["shop-web"]));
    assert_ne!(before["shop-api"], after["shop-api"]);
    assert_eq!(watcher.told(), ["api replace [env.LOG_LEVEL] (spec)", "api ready"]);
}

#[tokio::test(start_paused = true)]
async fn invalid_specs_change_nothing_and_are_reported_once() {
    let wanted = chain();
    let sim = engine(&wanted);
    let watcher = Watcher::settled(&sim, &wanted).await;
    let invalid = Reading::Invalid(vec![Diagnostic::new("it makes no sense")]);
    for _ in 0..3 {
        watcher.save(invalid.clone());
        sleep(s(5)).await;
    }
    let live = watcher.ask(RequestKind::Status).await;
    assert!(
        matches!(&live[..], [Report::Status(live)] if live.specs.as_deref() == Some("it makes no sense")),
        "{live:?}"
    );
    sim.kill_by_hand("shop-other");
    watcher.agrees(&wanted).await;
    watcher.edit(&wanted);
    sleep(s(5)).await;
    let told = watcher.told();
    assert_eq!(told, ["specs invalid", "other start [state]", "other ready", "specs valid"]);
}

#[tokio::test(start_paused = true)]
async fn a_service_that_leaves_the_specs_goes_when_that_is_certain() {
    let wanted = chain();
    let mut less = wanted.clone();
    less.services.remove("web");
    let sim = engine(&wanted);
    let watcher = Watcher::settled(&sim, &wanted).await;
    // An editor that empties the file before it writes it.
    watcher.edit(&less);
    sleep(Duration::from_millis(300)).await;
    watcher.edit(&wanted);
    sleep(s(60)).await;
    assert_eq!((watcher.told(), mutations(&sim)), (Vec::new(), Vec::new()));
    watcher.edit(&less);
    watcher.agrees(&less).await;
    assert_eq!(watcher.told(), ["web remove []", "web gone"]);
}

#[tokio::test(start_paused = true)]
async fn empty_specs_remove_nothing_unless_allowed() {
    for may_empty in [false, true] {
        let wanted = chain();
        let sim = engine(&wanted);
        let watcher = Watcher::on(Arc::new(sim.clone()), &sim, &wanted, may_empty);
        watcher.agrees(&wanted).await;
        watcher.forget();
        watcher.edit(&nothing());
        if may_empty {
            watcher.agrees(&nothing()).await;
            continue;
        }
        sleep(s(120)).await;
        assert!(agree(&sim, &wanted));
        assert_eq!(watcher.told(), ["specs empty"]);
        watcher.edit(&wanted);
        sleep(s(5)).await;
        assert_eq!(watcher.told(), ["specs empty", "specs valid"]);
    }
}

#[tokio::test(start_paused = true)]
async fn a_group_is_not_renamed_under_its_watch() {
    let wanted = chain();
    let sim = engine(&wanted);
    let watcher = Watcher::settled(&sim, &wanted).await;
    watcher.edit(&Desired { group: "other".into(), ..wanted.clone() });
    sleep(s(60)).await;
    assert!(agree(&sim, &wanted));
    assert_eq!(watcher.told().len(), 1, "{:?}", watcher.told());
}

// Failed changes.

#[tokio::test(start_paused = true)]
async fn failed_replacement_rolls_back_until_spec_changes() {
    let build =
        |image: &str| desired([service("api").image(image).port("8080:80").ping(PING), service("web").needs("api")]);
    for starts in [true, false] {
        let sim = engine(&build("api:1"));
        sim.add_image("api:3", Image::new("api:3"));
        let bad = |it: &mut drillmaster_sim::Behaviour| match starts {
            true => it.exits = Some((s(0), 1)),
            false => it.unstartable = Some("no such file".into()),
        };
        sim.add_image("api:2", Image::new("api:2").behaving(bad));
        let watcher = Watcher::settled(&sim, &build("api:1")).await;
        let before = ids(&sim);
        watcher.edit(&build("api:2"));
        watcher.until("failed", |it| it.has(|report| matches!(report, Report::Failed(_)))).await;
        watcher.agrees(&build("api:1")).await;
        assert_eq!(ids(&sim), before, "the same container serves again");
        sleep(s(3600)).await;
        assert_eq!(sim.count("create"), 1, "{:?}", mutations(&sim));
        // The old one is kept alive meanwhile.
        watcher.forget();
        sim.kill("shop-api", 1);
        watcher.agrees(&build("api:1")).await;
        assert_eq!(watcher.told(), ["api Exited 1 next 1 s", "api start [state]", "api serves"]);
        assert_eq!(ids(&sim), before);
        assert_eq!(sim.count("create"), 0);
        watcher.edit(&build("api:3"));
        watcher.agrees(&build("api:3")).await;
    }
}

#[tokio::test(start_paused = true)]
async fn service_that_never_answers_is_reported_once() {
    let wanted = desired([service("db").ping(PING), service("api").needs("db")]);
    let sim = engine(&wanted);
    sim.add_image("db:1", Image::new("db:1").behaving(|it| it.exec = Script::Answers(s(600))));
    let watcher = Watcher::begin(&sim, &wanted);
    sleep(s(300)).await;
    let failed: Vec<String> = watcher.told().into_iter().filter(|line| line.starts_with("db NotReady")).collect();
    assert_eq!(failed.len(), 1, "{:?}", watcher.told());
    assert!(watcher.has(|report| matches!(report, Report::Settled(_))), "what can be done is done");
    watcher.agrees(&wanted).await;
    assert_eq!(sim.count("start"), 2, "it is not started again: {:?}", mutations(&sim));
}

#[tokio::test(start_paused = true)]
async fn conflict_resolves_when_its_cause_is_gone() {
    let wanted = desired([service("api").port("8080:80"), service("db").image("late:1"), service("other")]);
    let sim = engine(&desired([service("api"), service("other")]));
    let squatter = sim.create_foreign("squatter", &[8080]);
    sim.create_foreign("shop-other", &[]);
    let watcher = Watcher::begin(&sim, &wanted);
    watcher.until("settled", |it| it.has(|report| matches!(report, Report::Settled(_)))).await;
    let mut failed: Vec<(String, Reason)> = watcher
        .reports
        .lock()
        .unwrap()
        .iter()
        .filter_map(|report| match report {
            Report::Failed(failed) => Some((failed.failure.service.to_string(), failed.failure.reason)),
            _ => None,
        })
        .collect();
    failed.sort_by(|a, b| a.0.cmp(&b.0));
    let expected = [("api", Reason::Conflict), ("db", Reason::ImageMissing), ("other", Reason::Conflict)];
    assert_eq!(failed, expected.map(|(name, reason)| (name.to_owned(), reason)));
    sleep(s(40)).await;
    assert!(sim.id_of("squatter").is_some_and(|id| id == squatter), "it is not ours to remove");
    sim.remove("squatter");
    sim.remove("shop-other");
    sim.add_image("late:1", Image::new("late:1"));
    watcher.agrees(&wanted).await;
}

// Health.

/// The health of a service, which is not part of its fingerprint.
fn with_health(mut wanted: Desired, name: &str, action: HealthAction) -> Desired {
    wanted.services.get_mut(name).unwrap().health =
        Some(drillmaster::spec::model::Health { interval: Some("10s".parse().unwrap()), retries: Some(3), action });
    wanted
}

#[tokio::test(start_paused = true)]
async fn unhealthy_service_is_restarted_replaced_or_shown() {
    for then in [HealthAction::Restart, HealthAction::Replace, HealthAction::Ignore] {
        let wanted = with_health(desired([service("api").ping(PING), service("web").needs("api")]), "api", then);
        let sim = engine(&wanted);
        sim.add_image("api:1", Image::new("api:1").behaving(|it| it.exec = Script::AnswersUntil(s(120))));
        let watcher = Watcher::settled(&sim, &wanted).await;
        let before = ids(&sim);
        sleep(s(115)).await;
        assert_eq!(watcher.told(), Vec::<String>::new(), "{then:?}");
        sleep(s(55)).await;
        watcher.agrees(&wanted).await;
        let told = watcher.told();
        match then {
            HealthAction::Restart => {
                assert_eq!(told, ["api Unhealthy 1 next 1 s", "api restart [health]", "api ready"]);
                assert_eq!(ids(&sim), before);
                assert_eq!(mutations(&sim), ["stop shop-api", "start shop-api"]);
            }
            HealthAction::Replace => {
                assert_eq!(told, ["api Unhealthy 1 next 1 s", "api replace [health]", "api ready"]);
                assert_ne!(ids(&sim)["shop-api"], before["shop-api"]);
            }
            HealthAction::Ignore => {
                assert_eq!(told, ["api unhealthy"]);
                assert_eq!(mutations(&sim), Vec::<String>::new());
            }
        }
        assert_eq!(ids(&sim)["shop-web"], before["shop-web"]);
    }
}

#[tokio::test(start_paused = true)]
async fn the_engines_health_check_counts_as_well() {
    for (health, expected) in [
        (None, vec!["api unhealthy", "api healthy"]),
        (Some(HealthAction::Restart), vec!["api Unhealthy 1 next 1 s", "api restart [health]", "api ready"]),
    ] {
        let wanted = desired([service("api")]);
        let wanted = match health {
            Some(then) => with_health(wanted, "api", then),
            None => wanted,
        };
        let sim = engine(&wanted);
        sim.add_image("api:1", Image::new("api:1").healthcheck(Some(s(1))));
        let watcher = Watcher::settled(&sim, &wanted).await;
        sim.turn("shop-api", Health::Unhealthy);
        sleep(s(5)).await;
        if health.is_none() {
            sim.turn("shop-api", Health::Healthy);
        }
        sleep(s(5)).await;
        assert_eq!(watcher.told(), expected);
    }
}

// Other processes.

#[tokio::test(start_paused = true)]
async fn reconcile_request_retries_failures() {
    let build = |image: &str| desired([service("api").image(image).ping(PING)]);
    let sim = engine(&build("api:1"));
    sim.add_image("api:2", Image::new("api:2").behaving(|it| it.exits = Some((s(0), 1))));
    let watcher = Watcher::settled(&sim, &build("api:1")).await;
    watcher.edit(&build("api:2"));
    watcher.until("failed", |it| it.has(|report| matches!(report, Report::Failed(_)))).await;
    watcher.agrees(&build("api:1")).await;
    let reports = watcher.ask(RequestKind::Reconcile).await;
    assert!(reports.iter().any(|report| matches!(report, Report::Failed(_))), "it was tried again");
    let Some(Report::Settled(outcome)) = reports.last() else { panic!("{reports:#?}") };
    assert!(outcome.failed.contains_key("api") && !outcome.is_good());
    watcher.edit(&build("api:1"));
    let reports = watcher.ask(RequestKind::Reconcile).await;
    let Some(Report::Settled(outcome)) = reports.last() else { panic!("{reports:#?}") };
    assert!(outcome.is_good() && outcome.ready.contains("api"), "{outcome:#?}");
}

#[tokio::test(start_paused = true)]
async fn reload_replaces_and_restarts_dependents() {
    let wanted = desired([
        service("db").ping(PING),
        service("api").needs_that("db", Condition::Ready, true),
        service("web").needs("db"),
    ]);
    let sim = engine(&wanted);
    let watcher = Watcher::settled(&sim, &wanted).await;
    let before = ids(&sim);
    let reports = watcher.ask(RequestKind::Reload(BTreeSet::from(["db".to_owned()]))).await;
    let Some(Report::Settled(outcome)) = reports.last() else { panic!("{reports:#?}") };
    assert!(outcome.is_good(), "{outcome:#?}");
    let actions: Vec<_> =
        outcome.changes.iter().map(|change| (change.subject.name().to_owned(), change.action)).collect();
    assert_eq!(actions, [("api".to_owned(), Action::Restart), ("db".to_owned(), Action::Replace)]);
    let after = ids(&sim);
    assert_ne!(before["shop-db"], after["shop-db"]);
    assert_eq!((&before["shop-api"], &before["shop-web"]), (&after["shop-api"], &after["shop-web"]));
    assert!(sim.history().iter().any(|line| line == "started shop-api"));
    assert!(!sim.history().iter().any(|line| line.contains("shop-web")));
    assert!(agree(&sim, &wanted));
}

#[tokio::test(start_paused = true)]
async fn blocked_replacement_keeps_old_container_supervised() {
    let old = desired([service("api")]);
    let sim = engine(&old);
    let watcher = Watcher::settled(&sim, &old).await;
    let before = ids(&sim)["shop-api"].clone();
    sim.create_foreign("shop-api.new", &[]);
    let new = desired([service("api").port("8080:80")]);
    watcher.edit(&new);
    watcher.until("barred", |it| it.has(|report| matches!(report, Report::Failed(_)))).await;
    sim.kill_by_hand("shop-api");
    watcher.until("it to serve again", |it| it.sim.history().iter().any(|line| line == "started shop-api")).await;
    assert_eq!(ids(&sim)["shop-api"], before);
    sim.remove("shop-api.new");
    watcher.agrees(&new).await;
    assert_ne!(ids(&sim)["shop-api"], before);
}

#[tokio::test(start_paused = true)]
async fn externally_restarted_container_must_become_ready_again() {
    let wanted = desired([service("api").ping(PING)]);
    let sim = engine(&wanted);
    let watcher = Watcher::settled(&sim, &wanted).await;
    let asked = sim.count("exec");
    watcher.reports.lock().unwrap().clear();
    sim.restart_by_hand("shop-api");
    watcher.until("ready again", |it| it.has(|report| *report == Report::Ready("api".into()))).await;
    assert!(sim.count("exec") > asked, "it was asked");
    let told = watcher.reports.lock().unwrap();
    let [Report::Note(why), Report::Ready(_)] = told.as_slice() else { panic!("{told:#?}") };
    assert_eq!(why, "api: container restarted externally");
}

#[tokio::test(start_paused = true)]
async fn reload_replaces_what_has_just_lost_its_name() {
    let wanted = desired([service("api")]);
    let sim = engine(&wanted);
    let watcher = Watcher::settled(&sim, &wanted).await;
    let before = ids(&sim);
    assert!(sim.rename("shop-api", "aside"));
    watcher.ask(RequestKind::Reload(BTreeSet::from(["api".to_owned()]))).await;
    assert!(agree(&sim, &wanted));
    assert_ne!(before["shop-api"], ids(&sim)["shop-api"]);
}

#[tokio::test(start_paused = true)]
async fn down_ends_the_watch() {
    let wanted = chain();
    let sim = engine(&wanted);
    let mut watcher = Watcher::settled(&sim, &wanted).await;
    let reports = watcher.ask(RequestKind::Shutdown { by: "drillmaster down (pid 7)".into() }).await;
    assert_eq!(reports, [Report::Stopping("requested by drillmaster down (pid 7)".into())]);
    let outcome = timeout(READ_TIMEOUT, &mut watcher.task).await.unwrap().unwrap();
    assert_eq!(outcome.ended_by.as_deref(), Some("drillmaster down (pid 7)"));
    assert!(agree(&sim, &wanted), "removing is not its business");
}

// The next controller.

#[tokio::test(start_paused = true)]
async fn a_crash_loop_survives_the_controller() {
    let wanted = desired([service("api"), service("other")]);
    let sim = engine(&wanted);
    sim.add_image("api:1", Image::new("api:1").behaving(|it| it.exits = Some((s(2), 3))));
    let watcher = Watcher::begin(&sim, &wanted);
    sleep(s(50)).await;
    drop(watcher);
    let watcher = Watcher::begin(&sim, &wanted);
    watcher.until("failed", |it| it.has(|report| matches!(report, Report::Failed(_)))).await;
    let count = watcher.reports.lock().unwrap().iter().find_map(|report| match report {
        Report::Failed(failed) => Some(failed.count),
        _ => None,
    });
    assert!(count >= Some(4), "{count:?}");
}
