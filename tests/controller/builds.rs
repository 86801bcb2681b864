//! Images built from specs: plans, and runs on the simulated engine in paused time.

use std::collections::BTreeSet;
use std::sync::Arc;
use std::time::Duration;

use drillmaster::control::event::{Outcome, Reading, Report, RequestKind};
use drillmaster::control::{self};
use drillmaster::desired::{Desired, Mode, Rerun, Scope};
use drillmaster::observed::{BuiltImage, Container, ImageFacts, Observed, State};
use drillmaster::plan::step::{Reason, Step, Subject, Verb};
use drillmaster::plan::{Memory, check, plan};
use drillmaster_sim::faulty::{Faults, Faulty, Stop};
use drillmaster_sim::{Latency, Sim};
use tokio::sync::mpsc;
use tokio::time::{Instant, sleep, timeout};

use crate::builders::*;
use crate::harness::*;
use crate::watcher::*;

/// An engine without the images to build.
fn unbuilt(wanted: &Desired) -> Observed {
    let mut observed = empty(wanted);
    for service in wanted.services.values().filter(|service| service.build.is_some()) {
        observed.images.remove(&service.config.image);
    }
    observed
}

#[test]
fn image_is_built_before_service_is_created() {
    let wanted = desired([service("api").built("one"), service("db")]);
    check(
        &wanted,
        &unbuilt(&wanted),
        "
        create api [container]
        create db [container]
        --
        image shop-api:one: build   # image not present locally
        network shop: create   # missing
        db: create shop-db.new   # no container
        api: create shop-api.new   # no container
        db: start shop-db.new   # no container
        api: start shop-api.new   # no container
        db: rename shop-db.new to shop-db   # candidate is ready
        api: rename shop-api.new to shop-api   # candidate is ready
    ",
    );
    assert_eq!(plan_text(&wanted, &agreeing(&wanted)), "--");
}

#[test]
fn rebuilt_or_foreign_image_is_not_a_source_change() {
    let old = desired([service("api")]);
    let new = desired([service("api").built("one")]);
    assert!(plan_text(&new, &agreeing(&old)).starts_with("replace api [image]"));
    let mut observed = agreeing(&new);
    observed.images.insert("shop-api:one".into(), "sha256:other".into());
    assert!(plan_text(&new, &observed).starts_with("replace api [image]"));
}

#[test]
fn identical_builds_run_once_also_for_jobs() {
    let image = |name: &str| service(name).built("one").image("shop/app:one");
    let wanted = desired([image("migrate").job(0, Rerun::Never), image("api").needs("migrate")]);
    check(
        &wanted,
        &unbuilt(&wanted),
        "
        create migrate [container]
        create api [container]
        --
        image shop/app:one: build   # image not present locally
        network shop: create   # missing
        migrate: create shop-migrate.new   # not run yet
        migrate: start shop-migrate.new   # not run yet
        migrate: rename shop-migrate.new to shop-migrate   # candidate has succeeded
        api: create shop-api.new   # no container
        api: start shop-api.new   # no container
        api: rename shop-api.new to shop-api   # candidate is ready
    ",
    );
}

#[test]
fn changed_sources_replace_only_their_service() {
    let old = desired([service("api").built("one"), service("web").needs("api").built("one")]);
    let new = desired([service("api").built("two"), service("web").needs("api").built("one")]);
    check(
        &new,
        &agreeing(&old),
        "
        replace api [build]
        --
        image shop-api:two: build   # image not present locally
        api: create shop-api.new   # sources changed
        api: start shop-api.new   # sources changed
        api: stop shop-api   # replacement is ready
        api: remove shop-api   # replacement is ready
        api: rename shop-api.new to shop-api   # candidate is ready
    ",
    );
}

/// Returns the steps that may start now.
fn steps_now(wanted: &Desired, observed: &Observed, memory: &Memory) -> Vec<String> {
    plan(wanted, observed, memory, Duration::ZERO).steps.iter().map(ToString::to_string).collect()
}

#[test]
fn build_does_not_wait_for_or_stop_other_services() {
    let db = |digest: &str| service("db").built(digest);
    let web = || service("web").needs_that("db", drillmaster::spec::model::Condition::Ready, true);
    let wanted = desired([db("two"), web()]);
    let observed = agreeing(&desired([db("one"), web()]));
    assert_eq!(steps_now(&wanted, &observed, &Memory::default()), ["image shop-db:two: build"], "web still running");
    let wanted = desired([service("db").ping(Duration::from_secs(9)), service("api").needs("db").built("one")]);
    let steps = steps_now(&wanted, &unbuilt(&wanted), &Memory::default());
    assert_eq!(steps, ["network shop: create", "image shop-api:one: build"], "db is not ready yet");
}

#[test]
fn failed_build_keeps_old_container_supervised() {
    let old = desired([service("api").built("one")]);
    let new = desired([service("api").built("two")]);
    for watching in [false, true] {
        let mut observed = agreeing(&old);
        let mut memory = Memory { watching, ..Memory::default() };
        memory.images.unavailable.insert("shop-api:two".into(), "no rule to make it".into());
        let planned = plan(&new, &observed, &memory, Duration::ZERO);
        let [failure] = planned.failures.as_slice() else { panic!("{planned:#?}") };
        assert_eq!((failure.reason, failure.replaces), (Reason::BuildFailed, true));
        assert_eq!(failure.message, "cannot build image: no rule to make it");
        by_name(&mut observed, "shop-api").state = State::Exited { code: Some(1) };
        assert_eq!(steps_now(&new, &observed, &memory), ["api: start shop-api"], "watching: {watching}");
    }
}

fn built(observed: &mut Observed, reference: &str, group: &str, source: &str) {
    let created = i64::try_from(observed.built.len()).unwrap();
    let (id, source) = (format!("sha256:{reference}"), Some(source.into()));
    let image = BuiltImage { id, group: group.into(), source, created };
    observed.built.insert(reference.into(), image);
}

#[test]
fn down_with_images_removes_unused_built_images() {
    let mut observed = agreeing(&desired([service("api").built("one"), service("db")]));
    built(&mut observed, "shop-api:one", GROUP, SOURCE);
    built(&mut observed, "shop-api:old", GROUP, SOURCE);
    built(&mut observed, "shop-api:foreign", GROUP, "/elsewhere/specs");
    built(&mut observed, "used:old", GROUP, SOURCE);
    let mut user = foreign("other-app");
    user.image = "used:old".into();
    add(&mut observed, user);
    check(
        &Desired { mode: Mode::Reconcile { purge_volumes: false, purge_images: true }, ..nothing() },
        &observed,
        "
        remove db []
        remove api []
        remove shop []
        remove shop-api:old []
        remove shop-api:one []
        --
        db: stop shop-db   # requested
        api: stop shop-api   # requested
        image shop-api:old: remove   # --images
        db: remove shop-db   # requested
        api: remove shop-api   # requested
        network shop: remove net-1   # unused
        image shop-api:one: remove   # --images
    ",
    );
    assert!(!plan_text(&nothing(), &observed).contains("image"), "`down` keeps images");
    let scope = Scope::AllBut(["api".to_owned()].into());
    let mut rest = nothing();
    rest.scope = scope;
    rest.mode = Mode::Reconcile { purge_volumes: false, purge_images: true };
    let text = plan_text(&rest, &observed);
    assert!(text.contains("image shop-api:old: remove") && !text.contains("shop-api:one"), "{text}");
}

/// Returns an engine where `api` runs the last of these builds, in order of creation.
fn with_builds(digests: &[&str]) -> (Desired, Observed) {
    let last = digests.last().unwrap();
    let wanted = desired([service("api").built(last)]);
    let mut observed = agreeing(&wanted);
    observed.built.clear();
    for digest in digests {
        let reference = format!("shop-api:{digest}");
        add_image(&mut observed, &reference, ImageFacts::default());
        built(&mut observed, &reference, GROUP, SOURCE);
    }
    (wanted, observed)
}

#[test]
fn earlier_builds_are_removed_except_the_last_three() {
    let (wanted, mut observed) = with_builds(&["z1", "a2", "y3", "b4", "x5"]);
    let expected = "
        remove shop-api:a2 [builds]
        remove shop-api:z1 [builds]
        --
        image shop-api:a2: remove   # earlier build: the last 3 stay
        image shop-api:z1: remove   # earlier build: the last 3 stay
    ";
    check(&wanted, &observed, expected);
    // Images of others and of other services stay.
    for (reference, group, source) in [
        ("shop-api:foreign", "other", SOURCE),
        ("shop-api:elsewhere", GROUP, "/elsewhere/specs"),
        ("shop-old:1", GROUP, SOURCE),
    ] {
        built(&mut observed, reference, group, source);
        observed.built.get_mut(reference).unwrap().created = -1;
    }
    check(&wanted, &observed, expected);
    // So do images of containers, stopped ones and those of other groups included.
    let stopped = Container { image: "shop-api:z1".into(), state: State::Exited { code: Some(0) }, ..foreign("a") };
    add(&mut observed, stopped);
    add(&mut observed, Container { image_id: "sha256:shop-api:a2".into(), ..foreign("b") });
    check(&wanted, &observed, "--");
}

#[test]
fn earlier_builds_stay_until_the_service_is_ready() {
    let (_, observed) = with_builds(&["one", "two", "three"]);
    let wanted = desired([service("api").built("four").ping(Duration::from_secs(9))]);
    let text = plan_text(&wanted, &observed);
    assert!(text.contains("remove shop-api:one [builds]"), "{text}");
    assert_eq!(text.lines().last(), Some("image shop-api:one: remove   # earlier build: the last 3 stay"));
    let mut memory = Memory::default();
    memory.images.unavailable.insert("shop-api:four".into(), "no".into());
    assert_eq!(steps_now(&wanted, &observed, &memory), [""; 0]);
    // Neither `start` nor a run of other services removes images.
    let (wanted, observed) = with_builds(&["one", "two", "three", "four"]);
    let start = Desired { mode: Mode::StartOnly, ..wanted.clone() };
    let other = Desired { scope: Scope::AllBut(["api".to_owned()].into()), ..wanted.clone() };
    for wanted in [start, other] {
        check(&wanted, &observed, "--");
    }
    let mut memory = Memory::default();
    assert_eq!(steps_now(&wanted, &observed, &memory), ["image shop-api:one: remove"]);
    memory.removal_failed.insert(Subject::Image("shop-api:one".into()));
    assert_eq!(steps_now(&wanted, &observed, &memory), [""; 0], "not retried");
}

#[test]
fn sources_of_an_earlier_build_keep_its_image() {
    let (_, observed) = with_builds(&["one", "two", "three", "four"]);
    let wanted = desired([service("api").built("one")]);
    let text = plan_text(&wanted, &observed);
    assert!(!text.contains("image shop-api"), "{text}");
}

#[test]
fn services_with_one_repository_keep_three_images_each() {
    let app = |name: &str, digest: &str| service(name).built(digest).image(&format!("shop/app:{digest}"));
    let wanted = desired([app("api", "one"), app("web", "two")]);
    let mut observed = agreeing(&wanted);
    for old in 3..10 {
        built(&mut observed, &format!("shop/app:{old}"), GROUP, SOURCE);
    }
    let expected = "
        remove shop/app:3 [builds]
        --
        image shop/app:3: remove   # earlier build: the last 3 stay
    ";
    observed.built.get_mut("shop/app:3").unwrap().created = -1;
    check(&wanted, &observed, expected);
}

#[test]
fn image_in_use_is_never_removed() {
    let (wanted, observed) = with_builds(&["one", "two", "three", "four"]);
    let purge = Desired { mode: Mode::Reconcile { purge_volumes: false, purge_images: true }, ..nothing() };
    let start = Desired { mode: Mode::StartOnly, ..wanted.clone() };
    let step = |image: &str| Step {
        subject: Subject::Image(format!("shop-api:{image}")),
        verb: Verb::RemoveImage,
        cause: String::new(),
    };
    let violation = |image: &str, wanted: &Desired| check::violation(&step(image), wanted, &observed);
    assert_eq!(violation("one", &wanted), None);
    for (image, wanted) in [("four", &wanted), ("four", &purge), ("one", &start), ("unknown", &purge)] {
        assert!(violation(image, wanted).is_some(), "{image}");
    }
    let unused = Observed { containers: Default::default(), ..observed.clone() };
    assert!(check::violation(&step("four"), &wanted, &unused).is_some(), "it is in the specs");
}

// Runs on the simulated engine.

#[track_caller]
fn assert_good(outcome: &Outcome, sim: &Sim) {
    assert!(outcome.is_good(), "{:#?}\n{:#?}", outcome.failed, sim.calls());
}

fn shop(digest: &str) -> Desired {
    desired([service("api").built(digest), service("db")])
}

#[tokio::test(start_paused = true)]
async fn unchanged_sources_are_not_built_and_output_is_reported() {
    let sim = Harness::of(&shop("one"));
    let (outcome, reports) = sim.up_reporting(&shop("one")).await;
    assert_good(&outcome, &sim);
    let is_output = |report: &Report| {
        matches!(report, Report::Output { service: Some(service), event, line, build: Some(build) }
        if service == "api" && event == "build" && line.starts_with("Step 1/1") && build.is_step)
    };
    assert!(reports.iter().any(is_output), "{reports:#?}");
    let (api, db) = (sim.id_of("shop-api"), sim.id_of("shop-db"));
    assert_good(&sim.up(&shop("one")).await, &sim);
    assert_eq!((sim.count("build"), sim.id_of("shop-api")), (1, api.clone()));
    assert_good(&sim.up(&shop("two")).await, &sim);
    assert_eq!(sim.count("build"), 2);
    assert_ne!(sim.id_of("shop-api"), api);
    assert_eq!(sim.id_of("shop-db"), db);
    // The image of the first version still exists.
    assert_good(&sim.up(&shop("one")).await, &sim);
    assert_eq!(sim.count("build"), 2);
}

#[tokio::test(start_paused = true)]
async fn failed_build_is_isolated_and_not_retried_in_a_run() {
    let sim = Harness::of(&shop("one"));
    assert_good(&sim.up(&shop("one")).await, &sim);
    let api = sim.id_of("shop-api");
    sim.set_unbuildable("shop-api:two", Some("step 1/1 `FROM nothing` failed: no such image"));
    sim.clear_calls();
    let outcome = sim.up(&shop("two")).await;
    let failure = &outcome.failed["api"].failure;
    assert_eq!(failure.reason, Reason::BuildFailed);
    assert_eq!(failure.message, "cannot build image: step 1/1 `FROM nothing` failed: no such image");
    assert_eq!((sim.id_of("shop-api"), sim.count("build")), (api, 1));
    assert!(outcome.ready.contains("db"));
    sim.set_unbuildable("shop-api:two", None);
    assert_good(&sim.up(&shop("two")).await, &sim);
}

#[tokio::test(start_paused = true)]
async fn down_with_images_removes_all_built_images() {
    let sim = Harness::of(&shop("one"));
    for digest in ["one", "two"] {
        assert_good(&sim.up(&shop(digest)).await, &sim);
    }
    assert_eq!(sim.snapshot().built.len(), 2);
    assert_good(&sim.up(&nothing()).await, &sim);
    assert_eq!(sim.snapshot().built.len(), 2);
    let purge = Desired { mode: Mode::Reconcile { purge_volumes: false, purge_images: true }, ..nothing() };
    assert_good(&sim.up(&purge).await, &sim);
    assert_eq!(sim.snapshot().built.len(), 0);
}

#[tokio::test(start_paused = true)]
async fn up_removes_earlier_builds_and_goes_on_if_it_cannot() {
    let sim = Harness::of(&shop("one"));
    for digest in ["one", "two", "three", "four"] {
        assert_good(&sim.up(&shop(digest)).await, &sim);
    }
    let images = || sim.snapshot().built.into_keys().collect::<Vec<_>>();
    assert_eq!(images(), ["shop-api:four", "shop-api:three", "shop-api:two"]);
    let refused = Faults { refused: 1000, verbs: vec!["remove-image"], ..Faults::default() };
    let faulty = Arc::new(Faulty::new(Arc::new(sim.clone()), refused));
    assert_good(&sim.up_on(faulty, &shop("five")).await, &sim);
    assert_eq!(images().len(), 4);
    assert_good(&sim.up(&shop("five")).await, &sim);
    assert_eq!(images(), ["shop-api:five", "shop-api:four", "shop-api:three"]);
}

#[tokio::test(start_paused = true)]
async fn watch_removes_earlier_builds_and_does_not_insist() {
    let mut sim = Harness::of(&shop("one"));
    let faults = Faults { refused: 1000, verbs: vec!["remove-image"], ..Faults::default() };
    let faulty = Arc::new(Faulty::new(Arc::new((*sim).clone()), faults));
    sim.read_delay = ms(50);
    let watcher = sim.watch_on(faulty, &shop("one"), false);
    watcher.until_settled().await;
    for digest in ["two", "three", "four"] {
        watcher.edit(&shop(digest));
        watcher.until("rebuilt", |it| runs_image(it, &format!("shop-api:{digest}"))).await;
    }
    let is_refused = |report: &Report| matches!(report, Report::StepFailed(step, _) if step.verb == Verb::RemoveImage);
    watcher.until("refused", |it| it.count(is_refused) == 1).await;
    sleep(Duration::from_secs(1200)).await;
    assert_eq!(watcher.count(is_refused), 1, "not tried endlessly");
    assert_eq!(sim.snapshot().built.len(), 4);
}

#[tokio::test(start_paused = true)]
async fn interrupt_cancels_build_immediately() {
    let sim = Harness::of(&shop("one"));
    let (interrupt, interrupts) = mpsc::channel(1);
    let run = control::run(Arc::new(sim.clone()), shop("one"), sim.options(), interrupts, |_| {});
    let run = tokio::spawn(run);
    while sim.count("build") == 0 {
        sleep(Duration::from_millis(10)).await;
    }
    let begun = Instant::now();
    interrupt.send(()).await.unwrap();
    let outcome = timeout(Duration::from_secs(60), run).await.unwrap().unwrap();
    // Running steps are waited for, builds are cancelled.
    assert!(outcome.interrupted && begun.elapsed() < Duration::from_millis(1000), "{:?}", begun.elapsed());
    assert_good(&sim.up(&shop("one")).await, &sim);
}

#[tokio::test(start_paused = true)]
async fn next_run_completes_after_a_kill_at_any_call() {
    for executed in [false, true] {
        for at in 1.. {
            let sim = Harness::of(&shop("two"));
            assert_good(&sim.up(&shop("one")).await, &sim);
            let over = sim.up_killed(Stop { at, executed }, &shop("two")).await;
            assert_good(&sim.up(&shop("two")).await, &sim);
            assert_eq!(sim.snapshot().built.len(), 2, "killed at call {at}");
            if over.is_some() {
                assert!(at > 8, "the run has only {at} calls");
                break;
            }
        }
    }
}

#[tokio::test(start_paused = true)]
async fn build_is_not_repeated_after_a_lost_response() {
    let sim = Harness::of(&shop("one"));
    let faults = Faults { lost: 1000, verbs: vec!["build"], at_most: 1, ..Faults::default() };
    let faulty = Arc::new(Faulty::new(Arc::new(sim.clone()), faults));
    let outcome = sim.up_on(faulty, &shop("one")).await;
    assert_good(&outcome, &sim);
    assert_eq!(sim.count("build"), 1);
}

#[test]
fn next_run_converges_after_any_failure() {
    for seed in seeds(150) {
        on_paused_time(async {
            let sim = Harness::of(&shop("one"));
            assert_good(&sim.up(&shop("one")).await, &sim);
            let faults = Faults { seed, broken: 80, lost: 80, hung: 30, refused: 40, dropped: 50, ..Faults::default() };
            let faulty = Arc::new(Faulty::new(Arc::new(sim.clone()), faults));
            sim.up_on(faulty.clone(), &shop("two")).await;
            let outcome = sim.up(&shop("two")).await;
            assert!(outcome.is_good(), "seed {seed}: {:#?}\n{:#?}", outcome.failed, faulty.journal());
            let observed = sim.snapshot();
            let images: BTreeSet<&str> = observed.containers.values().map(|found| found.image.as_str()).collect();
            assert_eq!(images, BTreeSet::from(["shop-api:two", "db:1"]), "seed {seed}");
        });
    }
}

// Watch mode.

/// Starts a settled watch. As in practice, reading specs takes longer than a list.
async fn watch(sim: &mut Harness, wanted: &Desired) -> Watcher {
    sim.read_delay = ms(50);
    let watcher = sim.watch(wanted);
    watcher.until_settled().await;
    watcher
}

fn failures(watcher: &Watcher) -> usize {
    let is = |report: &Report| matches!(report, Report::Failed(it) if it.failure.reason == Reason::BuildFailed);
    watcher.count(is)
}

/// Returns true if the container of `api` runs this image.
fn runs_image(watcher: &Watcher, image: &str) -> bool {
    let observed = watcher.sim.snapshot();
    observed
        .containers
        .values()
        .any(|container| container.name == "shop-api" && container.image == image && container.state == State::Running)
}

#[tokio::test(start_paused = true)]
async fn watch_builds_saved_sources_and_keeps_old_on_failure() {
    let mut sim = Harness::of(&shop("one"));
    let watcher = watch(&mut sim, &shop("one")).await;
    let db = sim.id_of("shop-db");
    watcher.edit(&shop("two"));
    watcher.until("rebuilt", |it| runs_image(it, "shop-api:two")).await;
    assert_eq!(sim.id_of("shop-db"), db);

    sim.set_unbuildable("shop-api:bad", Some("no"));
    let builds = sim.count("build");
    watcher.edit(&shop("bad"));
    watcher.until("failed", |it| failures(it) == 1).await;
    let serving = sim.id_of("shop-api").unwrap();
    // The current container is still supervised.
    sim.kill("shop-api", 1);
    watcher.until("started again", |it| runs_image(it, "shop-api:two")).await;
    sleep(Duration::from_secs(1200)).await;
    assert_eq!((sim.count("build"), failures(&watcher)), (builds + 1, 1), "the same sources are built once");
    assert_eq!(sim.id_of("shop-api"), Some(serving));
    // A reload request retries the build.
    watcher.request(RequestKind::Reload(BTreeSet::from(["api".to_owned()]).into())).await;
    assert_eq!((sim.count("build"), failures(&watcher)), (builds + 2, 2));
    assert!(runs_image(&watcher, "shop-api:two"));

    watcher.edit(&shop("good"));
    watcher.until("healed", |it| runs_image(it, "shop-api:good")).await;
    assert_eq!(sim.count("build"), builds + 3);
}

#[tokio::test(start_paused = true)]
async fn build_that_failed_because_of_the_engine_is_retried() {
    let mut sim = Harness::of(&shop("one"));
    let watcher = watch(&mut sim, &shop("one")).await;
    let serving = sim.id_of("shop-api").unwrap();
    sim.set_disk_full(true);
    watcher.edit(&shop("two"));
    watcher.until("failed twice", |it| it.sim.count("build") >= 3).await;
    assert_eq!(sim.id_of("shop-api"), Some(serving), "the current container stays");
    sim.set_disk_full(false);
    watcher.until("rebuilt", |it| runs_image(it, "shop-api:two")).await;
}

#[tokio::test(start_paused = true)]
async fn current_container_is_supervised_during_a_build() {
    let mut sim = Harness::of(&shop("one"));
    let watcher = watch(&mut sim, &shop("one")).await;
    sim.set_latency(Latency { build: Duration::from_secs(300), ..Latency::default() });
    watcher.edit(&shop("two"));
    watcher.until("build started", |it| it.sim.count("build") == 2).await;
    sim.kill("shop-api", 1);
    let killed = Instant::now();
    watcher.until("started again", |it| runs_image(it, "shop-api:one")).await;
    assert!(killed.elapsed() < Duration::from_secs(10));
    watcher.until("rebuilt", |it| runs_image(it, "shop-api:two")).await;
    assert_eq!(sim.count("build"), 2);
}

#[tokio::test(start_paused = true)]
async fn build_of_outdated_sources_is_cancelled_without_failure() {
    let mut sim = Harness::of(&shop("one"));
    let watcher = watch(&mut sim, &shop("one")).await;
    watcher.edit(&shop("two"));
    watcher.until("build started", |it| it.sim.count("build") == 2).await;
    sleep(Duration::from_millis(500)).await;
    watcher.edit(&shop("three"));
    watcher.until("rebuilt", |it| runs_image(it, "shop-api:three")).await;
    assert!(!sim.snapshot().built.contains_key("shop-api:two"), "its build was cancelled");
    assert_eq!(watcher.count(|report| matches!(report, Report::Failed(_) | Report::StepFailed(..))), 0);
    let done = |report: &Report| matches!(report, Report::StepDone(step) if step.verb == Verb::Build);
    assert_eq!(watcher.count(done), 2, "first and last build");
}

#[tokio::test(start_paused = true)]
async fn reload_builds_saved_sources_and_replaces_once() {
    let mut sim = Harness::of(&shop("one"));
    let watcher = watch(&mut sim, &shop("one")).await;
    // The change has not been noticed yet.
    *watcher.specs.lock().unwrap() = Reading::Valid(Box::new(shop("two")));
    let created = sim.count("create");
    watcher.request(RequestKind::Reload(BTreeSet::from(["api".to_owned()]).into())).await;
    assert!(runs_image(&watcher, "shop-api:two"));
    assert_eq!((sim.count("create"), sim.count("build")), (created + 1, 2));
    // Unchanged sources are not rebuilt.
    let before = sim.id_of("shop-api");
    watcher.request(RequestKind::Reload(BTreeSet::from(["api".to_owned()]).into())).await;
    assert_ne!(sim.id_of("shop-api"), before);
    assert_eq!(sim.count("build"), 2);
}
