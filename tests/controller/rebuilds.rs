//! Changed sources: which files a cause names, and the brake for a service that changes its own sources.

use std::collections::BTreeSet;
use std::time::Duration;

use drillmaster::control::event::{Report, RequestKind};
use drillmaster::desired::{Desired, Rerun};
use drillmaster::plan::step::{Action, Reason};
use drillmaster::plan::{Memory, plan};
use drillmaster_sim::Image;
use tokio::time::sleep;

use crate::builders::*;
use crate::harness::*;
use crate::watcher::*;

/// The build context of `api`.
const CONTEXT: &str = "/home/ann/shop/api";

/// A service with `log` in a directory that it has mounted, and `main`, which is in the context only.
fn api(log: u64, main: u64) -> Build {
    let digest = format!("{log}-{main}");
    let files = [("Dockerfile", 1), ("data/", 0), ("data/log", log), ("main", main)];
    service("api").built(&digest).files(&files).bind(&format!("{CONTEXT}/data"), "/data", false)
}

fn shop(log: u64, main: u64) -> Desired {
    desired([api(log, main), service("db")])
}

/// Returns the causes of the steps that create a container for the second desired state.
fn causes(old: Build, new: Build) -> Vec<String> {
    let (old, new) = (desired([old]), desired([new]));
    let mut memory = Memory::default();
    memory.note_sources(&old, None);
    let mut observed = agreeing(&old);
    for service in new.services.values() {
        add_image(&mut observed, &service.config.image, Default::default());
    }
    let plan = plan(&new, &observed, &memory, Duration::ZERO);
    plan.steps.into_iter().map(|step| step.cause).collect()
}

#[test]
fn cause_of_a_rebuild_names_the_first_files() {
    let sources = |digest: &str, files: &[(&str, u64)]| service("api").built(digest).files(files);
    let old = || sources("one", &[("a", 1), ("b", 1), ("src/", 0), ("src/main.py", 1)]);
    let new = |files: &[(&str, u64)]| sources("two", files);
    let same = [("a", 1), ("b", 1), ("src/", 0), ("src/main.py", 1)];
    for (files, expected) in [
        (&[("a", 1), ("b", 1), ("src/", 0), ("src/main.py", 2)][..], "sources changed: src/main.py"),
        (&[("a", 2), ("c/", 0), ("c/new", 1), ("src/", 0), ("src/main.py", 1)], "sources changed: a, b, c/new"),
        (&[("a", 2), ("c", 1), ("d/", 0)], "sources changed: a, b and 3 more"),
        (&same, "sources changed"),
    ] {
        assert_eq!(causes(old(), new(files)), [expected], "{files:?}");
    }
    assert_eq!(causes(old(), new(&same).command(&["serve"])), ["build, command changed"]);
}

fn stops(watcher: &Watcher) -> Vec<String> {
    let reports = watcher.reports.lock().unwrap();
    let stops = reports.iter().filter_map(|report| match report {
        Report::Failed(failed) if failed.failure.reason == Reason::RebuildLoop => Some(failed.failure.message.clone()),
        _ => None,
    });
    stops.collect()
}

fn image(watcher: &Watcher) -> String {
    let observed = watcher.sim.snapshot();
    let api = observed.containers.values().find(|container| container.name == "shop-api");
    api.map(|container| container.image.clone()).unwrap_or_default()
}

/// Changes the sources, and waits until `api` runs the new image.
async fn rebuilds(watcher: &Watcher, wanted: &Desired) {
    watcher.edit(wanted);
    let expected = &wanted.services["api"].config.image;
    watcher.until("rebuilt", |it| image(it) == *expected).await;
    sleep(Duration::from_secs(5)).await;
}

/// Changes the sources, which must not replace `api`.
async fn stays(watcher: &Watcher, wanted: &Desired) {
    let (before, builds) = (image(watcher), watcher.sim.count("build"));
    watcher.edit(wanted);
    sleep(Duration::from_secs(1200)).await;
    assert_eq!((image(watcher), watcher.sim.count("build")), (before, builds));
}

#[tokio::test(start_paused = true)]
async fn third_rebuild_by_a_mounted_file_is_not_started() {
    let sim = Harness::of(&shop(0, 0));
    let watcher = sim.watch(&shop(0, 0));
    watcher.until_settled().await;
    rebuilds(&watcher, &shop(1, 0)).await;
    rebuilds(&watcher, &shop(2, 0)).await;
    for log in 3..6 {
        stays(&watcher, &shop(log, 0)).await;
    }
    let message = "rebuild not started: the last 2 rebuilds were caused by data/log (/home/ann/shop/api/data is mounted at \
                   /data); add the path to .dockerignore, or mount a directory outside of the build context; a change of \
                   other files or of the spec, or `drillmaster reload api`, rebuilds it";
    assert_eq!(stops(&watcher), [message], "reported once");
    let replacing =
        |report: &Report| matches!(report, Report::Reconciling { change, .. } if change.action == Action::Replace);
    assert_eq!(watcher.count(replacing), 2);
    assert_eq!(watcher.count(|report| matches!(report, Report::RolledBack(_))), 0);
    // The container is supervised.
    sim.kill("shop-api", 1);
    let runs = |it: &Watcher| it.sim.snapshot().containers.values().any(|it| it.name == "shop-api" && it.is_up());
    watcher.until("started again", runs).await;
    // Another file lifts the brake.
    rebuilds(&watcher, &shop(6, 1)).await;
    rebuilds(&watcher, &shop(7, 1)).await;
    rebuilds(&watcher, &shop(8, 1)).await;
    stays(&watcher, &shop(9, 1)).await;
    assert_eq!(stops(&watcher).len(), 2);
    // So does a change of the spec,
    let changed = |log: u64| desired([api(log, 1).env("A", "1"), service("db")]);
    rebuilds(&watcher, &changed(9)).await;
    rebuilds(&watcher, &changed(10)).await;
    stays(&watcher, &changed(11)).await;
    // and a request.
    watcher.request(RequestKind::Reload(BTreeSet::from(["api".to_owned()]).into())).await;
    assert_eq!(image(&watcher), "shop-api:11-1");
    assert_eq!(stops(&watcher).len(), 3);
}

#[tokio::test(start_paused = true)]
async fn rebuilds_by_other_files_are_not_stopped() {
    let read_only = |n: u64| {
        let files = [("data/log", n)];
        let service = service("api").built(&n.to_string()).files(&files);
        desired([service.bind(&format!("{CONTEXT}/data"), "/data", true)])
    };
    let beside = |n: u64| {
        let service = service("api").built(&n.to_string()).files(&[("data/log", n)]);
        desired([service.bind(&format!("{CONTEXT}/dat"), "/data", false)])
    };
    let ignore_file = |n: u64| {
        let service = service("api").built(&n.to_string()).files(&[(".dockerignore", n)]);
        desired([service.bind(CONTEXT, "/srv", false)])
    };
    let both = |n: u64| shop(n, n);
    for sources in [&read_only as &dyn Fn(u64) -> Desired, &beside, &ignore_file, &both] {
        let sim = Harness::of(&sources(0));
        let watcher = sim.watch(&sources(0));
        watcher.until_settled().await;
        for n in 1..5 {
            rebuilds(&watcher, &sources(n)).await;
        }
        assert_eq!(stops(&watcher), [""; 0]);
    }
}

#[tokio::test(start_paused = true)]
async fn file_that_changes_during_builds_stops_them_too() {
    let sim = Harness::of(&shop(0, 0));
    let watcher = sim.watch(&shop(0, 0));
    watcher.until_settled().await;
    sim.set_latency(drillmaster_sim::Latency { build: Duration::from_secs(60), ..Default::default() });
    for log in 1..10 {
        watcher.edit(&shop(log, 0));
        sleep(Duration::from_secs(5)).await;
    }
    assert_eq!(sim.count("build"), 3, "the first, and two that were cancelled");
    assert_eq!((stops(&watcher).len(), image(&watcher)), (1, "shop-api:0-0".to_owned()));
    // The parent of the context and the file itself count as well.
    for source in ["/home/ann", "/home/ann/shop/api/data/log"] {
        let mounts = |log: u64| {
            let files = [("data/log", log)];
            desired([service("api").built(&log.to_string()).files(&files).bind(source, "/data", false)])
        };
        let sim = Harness::of(&mounts(0));
        let watcher = sim.watch(&mounts(0));
        watcher.until_settled().await;
        rebuilds(&watcher, &mounts(1)).await;
        rebuilds(&watcher, &mounts(2)).await;
        stays(&watcher, &mounts(3)).await;
    }
}

#[tokio::test(start_paused = true)]
async fn job_that_changes_its_sources_is_not_run_for_ever() {
    let job = |log: u64| desired([api(log, 0).job(0, Rerun::Never)]);
    let sim = Harness::of(&job(0));
    for log in 0..4 {
        sim.add_image(&format!("shop-api:{log}-0"), Image::new("job").behaving(|it| it.exits = Some((ms(100), 0))));
    }
    let watcher = sim.watch(&job(0));
    watcher.until_settled().await;
    rebuilds(&watcher, &job(1)).await;
    rebuilds(&watcher, &job(2)).await;
    stays(&watcher, &job(3)).await;
    assert_eq!(stops(&watcher).len(), 1);
}

#[tokio::test(start_paused = true)]
async fn candidate_of_the_last_rebuild_is_completed() {
    let slow = |log: u64| desired([api(log, 0).ping(Duration::from_secs(60))]);
    let sim = Harness::of(&slow(0));
    let watcher = sim.watch(&slow(0));
    watcher.until_settled().await;
    rebuilds(&watcher, &slow(1)).await;
    watcher.edit(&slow(2));
    watcher.until("candidate", |it| it.sim.snapshot().containers.values().any(|it| it.name == "shop-api.new")).await;
    watcher.edit(&slow(3));
    watcher.until("rebuilt", |it| image(it) == "shop-api:2-0").await;
    stays(&watcher, &slow(4)).await;
    assert_eq!(stops(&watcher).len(), 1);
}
