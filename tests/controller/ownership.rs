//! Ownership: labels make a container managed only if the request that created it has set them.

use std::collections::BTreeMap;

use drillmaster::control::event::Report;
use drillmaster::plan::step::Reason;
use drillmaster_sim::Image;
use tokio::time::{Instant, sleep};

use crate::builders::*;
use crate::harness::*;
use crate::watcher::*;

const NOTE: &str = "container mine has the labels of api from its image debug:1; drillmaster does not manage it";

/// The id of a container that runs from a committed image of `shop-api`.
fn run_committed(sim: &Harness, name: &str) -> String {
    sim.docker_commit("shop-api", "debug:1");
    sim.docker_run(name, "debug:1")
}

fn notes(reports: &[Report]) -> Vec<&str> {
    let mut notes = Vec::new();
    for report in reports {
        if let Report::Note(text) = report {
            notes.push(text.as_str());
        }
    }
    notes
}

#[tokio::test(start_paused = true)]
async fn container_of_a_committed_image_is_left_alone() {
    let wanted = desired([service("api"), service("web").needs("api")]);
    let sim = Harness::of(&wanted);
    assert_agrees(&sim.up(&wanted).await, &sim, &wanted);
    let mine = run_committed(&sim, "mine");
    let (outcome, reports) = sim.up_reporting(&wanted).await;
    assert_agrees(&outcome, &sim, &wanted);
    assert!(outcome.changes.is_empty(), "{:?}", outcome.changes);
    assert_eq!(notes(&reports), [NOTE]);
    let changed = desired([service("api").env("A", "2"), service("web").needs("api")]);
    assert_agrees(&sim.up(&changed).await, &sim, &changed);
    assert!(sim.up(&nothing()).await.is_good());
    assert_eq!(sim.id_of("mine"), Some(mine));
    assert_eq!(sim.snapshot().containers.len(), 1, "{:#?}", sim.history());
    assert!(sim.calls().iter().all(|call| !call.contains("mine")), "{:#?}", sim.calls());
}

#[tokio::test(start_paused = true)]
async fn watch_leaves_a_container_of_a_committed_image_alone() {
    let wanted = desired([service("api")]);
    let sim = Harness::of(&wanted);
    let watcher = sim.watch_settled(&wanted).await;
    let ids = sim.ids();
    let mine = run_committed(&sim, "mine");
    watcher
        .until("the note", |watcher| watcher.has(|report| matches!(report, Report::Note(text) if text == NOTE)))
        .await;
    sim.kill("mine", 1);
    sleep(s(600)).await;
    assert_eq!(sim.id_of("mine"), Some(mine));
    assert_eq!(sim.ids(), ids);
    assert_eq!(mutations(&sim), Vec::<String>::new());
    let noted = watcher.count(|report| matches!(report, Report::Note(_)));
    assert_eq!(noted, 1, "once");
}

#[tokio::test(start_paused = true)]
async fn container_of_a_committed_image_under_our_name_is_a_conflict() {
    let wanted = desired([service("api")]);
    let sim = Harness::of(&wanted);
    assert_agrees(&sim.up(&wanted).await, &sim, &wanted);
    sim.docker_commit("shop-api", "debug:1");
    sim.remove("shop-api");
    let restored = sim.docker_run("shop-api", "debug:1");
    let outcome = sim.up(&wanted).await;
    assert_eq!(failure(&outcome, "api").0, Reason::Conflict);
    assert_eq!(sim.id_of("shop-api"), Some(restored));
}

#[tokio::test(start_paused = true)]
async fn service_of_a_committed_image_is_managed() {
    let wanted = desired([service("api")]);
    let sim = Harness::of(&wanted);
    assert_agrees(&sim.up(&wanted).await, &sim, &wanted);
    sim.docker_commit("shop-api", "debug:1");
    let wanted = desired([service("api").image("debug:1"), service("copy").image("debug:1")]);
    assert_agrees(&sim.up(&wanted).await, &sim, &wanted);
}

#[tokio::test(start_paused = true)]
async fn renamed_container_stays_managed() {
    let wanted = desired([service("api")]);
    let sim = Harness::of(&wanted);
    assert_agrees(&sim.up(&wanted).await, &sim, &wanted);
    let id = sim.id_of("shop-api");
    assert!(sim.rename("shop-api", "mine"));
    assert_agrees(&sim.up(&wanted).await, &sim, &wanted);
    assert_eq!(sim.id_of("shop-api"), id);
}

#[tokio::test(start_paused = true)]
async fn container_created_while_its_tag_moved_is_managed() {
    let wanted = desired([service("api")]);
    let sim = Harness::of(&wanted);
    assert_agrees(&sim.up(&wanted).await, &sim, &wanted);
    // As if the tag had moved between the list and the request: the label has the id of another image.
    sim.relabel("shop-api", "drillmaster.image-id", "sha256:earlier");
    assert!(sim.up(&nothing()).await.is_good());
    assert!(sim.snapshot().containers.is_empty(), "{:#?}", sim.history());
}

#[tokio::test(start_paused = true)]
async fn labels_of_the_image_do_not_reach_a_service() {
    let wanted = desired([service("api")]);
    let sim = Harness::new();
    let labels = [("drillmaster.replica", "9"), ("drillmaster.named", "ready")];
    let labels: BTreeMap<String, String> = labels.map(|(key, value)| (key.to_owned(), value.to_owned())).into();
    sim.add_image("api:1", Image { labels, ..Image::new("api") });
    assert_agrees(&sim.up(&wanted).await, &sim, &wanted);
    assert!(sim.up(&wanted).await.changes.is_empty());
}

#[tokio::test(start_paused = true)]
async fn exits_of_a_committed_image_do_not_delay_the_service() {
    let wanted = desired([service("api")]);
    let sim = Harness::of(&wanted);
    assert_agrees(&sim.up(&wanted).await, &sim, &wanted);
    run_committed(&sim, "mine");
    for _ in 0..5 {
        sim.kill("mine", 1);
        sim.docker_restart("mine");
    }
    let watcher = sim.watch_settled(&wanted).await;
    let begin = Instant::now();
    sim.kill("shop-api", 1);
    watcher.agrees(&wanted).await;
    assert!(begin.elapsed() < s(3), "restarted after {:?}", begin.elapsed());
}
