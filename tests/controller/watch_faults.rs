//! Watch mode: faults of the engine during a replacement. Only what a new container does by itself holds until its spec
//! changes; everything else is retried with backoff, and the previous container runs meanwhile.

use drillmaster::control::event::Report;
use drillmaster::desired::{Desired, HookPoint};
use drillmaster_sim::{Image, Script};
use tokio::time::sleep;

use crate::builders::*;
use crate::harness::*;
use crate::watcher::*;

/// Two services; with a port, the replacement of `api` cannot run beside the previous container.
fn build(image: &str, with_port: bool) -> Desired {
    let api = service("api").image(image);
    desired([if with_port { api.port("8080:80") } else { api }, service("web").needs("api")])
}

fn has_failed(watcher: &Watcher) -> bool {
    watcher.has(|report| matches!(report, Report::Failed(_)))
}

#[tokio::test(start_paused = true)]
async fn replacement_is_retried_once_the_disk_is_freed() {
    for with_port in [false, true] {
        let sim = Harness::of(&build("api:1", with_port));
        sim.add_image("api:2", Image::new("api:2"));
        let watcher = sim.watch_settled(&build("api:1", with_port)).await;
        let before = sim.ids();
        sim.set_disk_full(true);
        watcher.edit(&build("api:2", with_port));
        watcher.until("failed", has_failed).await;
        sleep(s(600)).await;
        assert_eq!(sim.ids(), before, "the previous containers run meanwhile");
        assert!(agree(&sim, &build("api:1", with_port)), "{:#?}", sim.history());
        sim.set_disk_full(false);
        watcher.agrees(&build("api:2", with_port)).await;
    }
}

#[tokio::test(start_paused = true)]
async fn previous_container_runs_while_a_start_backs_off() {
    let sim = Harness::of(&build("api:1", true));
    sim.add_image("api:2", Image::new("api:2"));
    let watcher = sim.watch_settled(&build("api:1", true)).await;
    watcher.clear();
    watcher.edit(&build("api:2", true));
    // The replacement is created, the previous container is stopped, and then the disk is full.
    watcher.until("stopped", |_| sim.count("stop") == 1).await;
    sim.set_disk_full(true);
    watcher.until("failed", has_failed).await;
    sim.set_disk_full(false);
    watcher.until("started again", |_| sim.history().iter().any(|change| change == "started shop-api")).await;
    watcher.agrees(&build("api:2", true)).await;
    let lines = watcher.report_lines();
    assert!(lines.iter().any(|line| line.starts_with("api StartFailed") && line.ends_with("next 1 s")), "{lines:#?}");
}

#[tokio::test(start_paused = true)]
async fn hook_that_cannot_run_is_retried_and_one_that_fails_is_not() {
    for (script, is_retried) in [(Script::Hangs, true), (Script::Exits(3, String::new()), false)] {
        let wanted = |image: &str| desired([service("api").image(image).hook(HookPoint::PostStart, &["init"])]);
        let sim = Harness::of(&wanted("api:1"));
        sim.add_image("api:2", Image::new("api:2").behaving(|it| it.exec = script.clone()));
        let watcher = sim.watch_settled(&wanted("api:1")).await;
        let before = sim.ids();
        watcher.edit(&wanted("api:2"));
        watcher.until("failed", has_failed).await;
        sleep(s(1200)).await;
        assert_eq!(sim.ids(), before);
        assert_eq!(sim.count("create") > 2, is_retried, "{script:?}: {:#?}", mutations(&sim));
    }
}

#[tokio::test(start_paused = true)]
async fn engine_that_stops_during_a_replacement_does_not_end_it() {
    for containers_end in [false, true] {
        for after in [0, 100, 300, 400, 500, 700, 1_000] {
            let sim = Harness::of(&build("api:1", true));
            sim.add_image("api:2", Image::new("api:2"));
            let watcher = sim.watch_settled(&build("api:1", true)).await;
            watcher.edit(&build("api:2", true));
            sleep(ms(500 + after)).await;
            sim.shut_down(containers_end);
            sleep(s(5)).await;
            sim.start_up();
            watcher.agrees(&build("api:2", true)).await;
        }
    }
}

/// The service is down, although its failure was reported before.
#[tokio::test(start_paused = true)]
async fn loss_of_a_service_that_cannot_be_replaced_is_reported() {
    let wanted = desired([service("api")]);
    let sim = Harness::of(&wanted);
    let watcher = sim.watch_settled(&wanted).await;
    watcher.edit(&desired([service("api").image("nowhere:1")]));
    watcher.until("failed", |it| it.has(|report| matches!(report, Report::Failed(_)))).await;
    watcher.clear();
    sim.remove("shop-api");
    watcher.until("reported", |it| it.report_lines().iter().any(|line| line == "api create [state]")).await;
}
