//! What people and programs read: plans, status, results. The snapshots lie in tests/snapshots; INSTA_UPDATE=always
//! writes them anew.

#![allow(clippy::unwrap_used)] // a test that cannot make its input fails

mod builders;

use std::time::{Duration, UNIX_EPOCH};

use builders::{agreeing, by_name, desired, service};
use drillmaster::observed::{Details, State};
use drillmaster::plan::{Memory, forecast};
use drillmaster::render;
use drillmaster::status::{View, overview};

use insta::assert_snapshot;

/// A group in which something of every kind differs.
fn example() -> (drillmaster::desired::Desired, drillmaster::observed::Observed) {
    let before = desired([
        service("appdb").image("appdb:1").env("PASSWORD", "old secret"),
        service("api").image("api:1").needs("appdb").port("8080:80"),
        service("gone").needs("api"),
        service("sleeper"),
    ]);
    let wanted = desired([
        service("appdb").image("appdb:1").env("PASSWORD", "new secret"),
        service("api").image("api:2").needs("appdb").port("8081:80"),
        service("sleeper"),
        service("fresh").needs("api"),
    ]);
    let mut observed = agreeing(&before);
    builders::add_image(&mut observed, "api:2", drillmaster::observed::ImageFacts::default());
    by_name(&mut observed, "shop-sleeper").state = State::Exited { code: Some(137) };
    for container in observed.containers.values_mut() {
        let env = [("PASSWORD".to_owned(), "old secret".to_owned())].into();
        let started_at = "2026-11-23T05:00:00Z".to_owned();
        let finished_at = "2026-11-23T05:10:00Z".to_owned();
        container.details = Some(Details { env, started_at, finished_at, ..Details::default() });
    }
    (wanted, observed)
}

#[test]
fn a_plan_for_people() {
    let (wanted, observed) = example();
    let forecast = forecast(&wanted, &observed, &Memory::default());
    let text = render::plan::forecast(&forecast, false, false);
    assert!(!text.contains("secret"), "values of the environment are hidden");
    assert_snapshot!("plan", text);
    let shown = render::plan::forecast(&forecast, true, false);
    assert!(shown.contains("env.PASSWORD: old secret -> new secret"), "unless they are asked for: {shown}");
    assert!(render::plan::forecast(&forecast, false, true).contains("\u{1b}["));
}

#[test]
fn a_plan_for_programs() {
    let (wanted, observed) = example();
    let forecast = forecast(&wanted, &observed, &Memory::default());
    assert_snapshot!("plan.json", format!("{:#}", render::json::diff("shop", &forecast, false)));
}

#[test]
fn how_services_are() {
    let (wanted, observed) = example();
    let now = UNIX_EPOCH + Duration::from_secs(1_795_412_700); // 2026-11-23T05:45:00Z
    let overview = overview(&View { desired: &wanted, readable: true, observed: &observed, live: None, now });
    assert_snapshot!("status", render::status::table(&overview, now, false));
    assert_snapshot!("status.json", format!("{:#}", render::json::status(&overview)));
}

#[test]
fn what_a_container_prints_does_not_steer_the_terminal() {
    assert_eq!(render::progress::printable("a\u{1b}[2Jb\tc\u{7}"), "a\u{fffd}[2Jb\tc\u{fffd}");
}
