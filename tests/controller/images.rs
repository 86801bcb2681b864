//! `build` and `pull`: plans of images alone, and runs on the simulated engine in paused time.

use std::collections::BTreeSet;
use std::time::Duration;

use drillmaster::desired::{Desired, HookPoint, LifecycleEvent, Mode, Scope};
use drillmaster::observed::Observed;
use drillmaster::plan::step::{Action, Reason, Step, Subject, Verb};
use drillmaster::plan::{Memory, check, plan};
use drillmaster::spec::model::Pull;
use drillmaster_sim::Image;

use crate::builders::*;
use crate::harness::*;

fn only(mode: Mode, services: impl IntoIterator<Item = Build>) -> Desired {
    Desired { mode, ..desired(services) }
}

/// Returns the steps and notes of the first plan.
fn planned(wanted: &Desired, observed: &Observed) -> (Vec<String>, Vec<String>) {
    let plan = plan(wanted, observed, &Memory::default(), Duration::ZERO);
    (plan.steps.iter().map(step_line).collect(), plan.notes.into_iter().collect())
}

fn shop() -> [Build; 4] {
    let app = |name: &str| service(name).built("two").image("shop/app:two");
    [app("api"), app("worker"), service("db").needs("api"), service("web").built("one")]
}

#[test]
fn build_builds_each_missing_image_once_and_nothing_else() {
    let wanted = only(Mode::BuildImages, shop());
    let mut observed = agreeing(&desired([service("orphan"), service("web").built("one")]));
    assert_eq!(
        planned(&wanted, &observed),
        (vec!["image shop/app:two: build   # image not present locally".into()], vec![])
    );
    add_image(&mut observed, "shop/app:two", Default::default());
    assert_eq!(planned(&wanted, &observed), (vec![], vec![]));
    let named = Desired { scope: Scope::Only(["db".to_owned()].into()), ..wanted };
    let note = "db: not built: it has no `build`; `drillmaster pull` pulls its image";
    assert_eq!(planned(&named, &observed), (vec![], vec![note.to_owned()]));
}

#[test]
fn pull_pulls_present_images_but_no_pinned_built_or_local_ones() {
    let pinned = "cache@sha256:0000000000000000000000000000000000000000000000000000000000000000";
    let services = || {
        let other = [service("cache").image(pinned), service("local").pull(Pull::Never), service("two").image("db:1")];
        shop().into_iter().chain(other)
    };
    let wanted = only(Mode::PullImages, services());
    let mut observed = empty(&wanted);
    let notes = [
        "api: not pulled: its image is built (`drillmaster build`)",
        "local: not pulled: `pull: never` is set",
        "web: not pulled: its image is built (`drillmaster build`)",
        "worker: not pulled: its image is built (`drillmaster build`)",
    ];
    let notes: Vec<String> = notes.map(str::to_owned).into();
    assert_eq!(planned(&wanted, &observed), (vec!["image db:1: pull   # requested".into()], notes.clone()));
    observed.images.remove(pinned);
    let steps = vec![format!("image {pinned}: pull   # requested"), "image db:1: pull   # requested".into()];
    assert_eq!(planned(&wanted, &observed), (steps, notes));
}

#[test]
fn build_and_pull_touch_no_container() {
    let observed = agreeing(&desired(shop()));
    let step = |verb| Step { subject: Subject::Network("shop".into()), verb, cause: String::new() };
    for mode in [Mode::BuildImages, Mode::PullImages] {
        let wanted = only(mode, shop());
        for verb in [Verb::CreateNetwork, Verb::RemoveVolume, Verb::RemoveImage] {
            assert!(check::violation(&step(verb), &wanted, &observed).is_some());
        }
        let allowed = mode == Mode::BuildImages;
        assert_eq!(check::violation(&step(Verb::Build), &wanted, &observed).is_none(), allowed);
    }
}

#[tokio::test(start_paused = true)]
async fn build_reports_failures_and_leaves_containers_alone() {
    let on_failed = || {
        let hook = HookPoint::On(LifecycleEvent::Failed);
        [service("api").built("two").hook(hook, &["tell"]), service("web").built("two"), service("db")]
    };
    let sim = Harness::of(&desired([service("api").built("one"), service("db")]));
    assert!(sim.up(&desired([service("api").built("one"), service("db")])).await.is_good());
    sim.set_unbuildable("shop-api:two", Some("no rule to make it"));
    sim.clear_calls();
    let outcome = sim.up(&only(Mode::BuildImages, on_failed())).await;
    assert_eq!(outcome.failed["api"].failure.reason, Reason::BuildFailed);
    assert_eq!(outcome.failed["api"].failure.message, "cannot build image: no rule to make it");
    assert!(sim.snapshot().built.contains_key("shop-web:two"), "others go on");
    let verbs: BTreeSet<String> =
        sim.calls().iter().filter_map(|call| Some(call.split_once(' ')?.0.to_owned())).collect();
    assert_eq!(verbs, BTreeSet::from(["build".to_owned()]));
    sim.set_unbuildable("shop-api:two", None);
    assert!(sim.up(&only(Mode::BuildImages, on_failed())).await.is_good());
    let outcome = sim.up(&only(Mode::BuildImages, on_failed())).await;
    assert!(outcome.is_good() && outcome.steps.is_empty());
}

#[tokio::test(start_paused = true)]
async fn pull_fails_for_an_image_that_does_not_exist() {
    let wanted = only(Mode::PullImages, [service("api"), service("db")]);
    let sim = Harness::with_images(&["api:1"]);
    sim.add_to_registry("db:1", Image::new("db:1"));
    let outcome = sim.up(&wanted).await;
    let failed = &outcome.failed["api"].failure;
    assert_eq!(failed.reason, Reason::ImageMissing);
    assert!(failed.message.starts_with("cannot pull image api:1: pull access denied"), "{}", failed.message);
    assert_eq!(outcome.failed.len(), 1);
    assert!(sim.snapshot().images.contains_key("db:1") && sim.snapshot().containers.is_empty());
}

#[tokio::test(start_paused = true)]
async fn replacement_for_a_pulled_image_is_a_change() {
    let wanted = desired([service("api").pull(Pull::Always), service("db")]);
    let sim = Harness::with_images(&["api:1", "db:1"]);
    sim.add_to_registry("api:1", Image::new("api:1"));
    assert!(sim.up(&wanted).await.is_good());
    assert!(sim.up(&wanted).await.changes.is_empty());
    sim.add_to_registry("api:1", Image::new("api:2"));
    let outcome = sim.up(&wanted).await;
    let changes: Vec<_> = outcome.changes.iter().map(|change| (change.subject.name(), change.action)).collect();
    assert_eq!(changes, [("api", Action::Replace)]);
}
