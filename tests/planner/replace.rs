//! Replacement of containers, and candidates left by an interrupted one.

use std::time::Duration;

use drillmaster::identity::Identity;
use drillmaster::observed::{ImageFacts, Observed, State};
use drillmaster::plan::Memory;
use drillmaster::plan::step::{Query, Step, Verb};
use drillmaster::spec::model::{Condition, Pull, RestartPolicy};
use drillmaster::spec::value::Period;

use crate::builders::*;

fn identity_of<'a>(observed: &'a mut drillmaster::observed::Observed, name: &str) -> &'a mut Identity {
    by_name(observed, name).identity.as_mut().unwrap()
}

#[test]
fn changed_env_value_replaces_its_container() {
    let old = desired([service("api").env("LOG", "info").env("SAME", "x"), service("db")]);
    let new = desired([service("api").env("LOG", "debug").env("SAME", "x"), service("db")]);
    let mut observed = agreeing(&old);
    inspect(&mut observed, &old.services["api"]);
    check(
        &new,
        &observed,
        "
        replace api [env.LOG]
        --
        api: create shop-api.new   # env.LOG changed
        api: start shop-api.new   # env.LOG changed
        api: stop shop-api   # replacement is ready
        api: remove shop-api   # replacement is ready
        api: rename shop-api.new to shop-api   # candidate is ready
    ",
    );
}

#[test]
fn env_change_is_inspected_before_replacing() {
    let old = desired([service("api").env("LOG", "info")]);
    let new = desired([service("api").env("LOG", "debug")]);
    check(
        &new,
        &agreeing(&old),
        r#"
        look at Container("id-api")
        --
        api: create shop-api.new   # env.LOG changed
        api: start shop-api.new   # env.LOG changed
        api: stop shop-api   # replacement is ready
        api: remove shop-api   # replacement is ready
        api: rename shop-api.new to shop-api   # candidate is ready
    "#,
    );
}

#[test]
fn unchanged_port_stops_the_old_container_first() {
    let old = desired([service("api").port("8080:80").command(&["one"])]);
    let new = desired([service("api").port("8080:80").command(&["two"])]);
    check(
        &new,
        &agreeing(&old),
        "
        replace api [command]
        --
        api: create shop-api.new   # command changed
        api: stop shop-api   # replacement needs its ports or volumes
        api: start shop-api.new   # command changed
        api: remove shop-api   # replacement is ready
        api: rename shop-api.new to shop-api   # candidate is ready
    ",
    );
}

#[test]
fn changed_port_keeps_old_container_until_new_is_ready() {
    let old = desired([service("api").port("8080:80")]);
    let new = desired([service("api").port("8081:80")]);
    check(
        &new,
        &agreeing(&old),
        "
        replace api [ports]
        --
        api: create shop-api.new   # ports changed
        api: start shop-api.new   # ports changed
        api: stop shop-api   # replacement is ready
        api: remove shop-api   # replacement is ready
        api: rename shop-api.new to shop-api   # candidate is ready
    ",
    );
}

#[test]
fn shared_volume_stops_the_old_container_first() {
    let old = desired([service("db").volume("data", "/data").env("A", "1")]);
    let new = desired([service("db").volume("data", "/data").env("A", "2")]);
    let mut observed = agreeing(&old);
    inspect(&mut observed, &old.services["db"]);
    check(
        &new,
        &observed,
        "
        replace db [env.A]
        --
        db: create shop-db.new   # env.A changed
        db: stop shop-db   # replacement needs its ports or volumes
        db: start shop-db.new   # env.A changed
        db: remove shop-db   # replacement is ready
        db: rename shop-db.new to shop-db   # candidate is ready
    ",
    );
}

#[test]
fn anonymous_volumes_move_to_the_replacement() {
    let old = desired([service("db").anonymous_volume("/data").command(&["one"])]);
    let new = desired([service("db").anonymous_volume("/data").command(&["two"])]);
    check(
        &new,
        &agreeing(&old),
        "
        replace db [command]
        --
        db: create shop-db.new taking 1 volumes   # command changed
        db: stop shop-db   # replacement needs its ports or volumes
        db: start shop-db.new   # command changed
        db: remove shop-db   # replacement is ready
        db: rename shop-db.new to shop-db   # candidate is ready
    ",
    );
}

#[test]
fn moved_image_tag_replaces_the_container() {
    let wanted = desired([service("api")]);
    let mut observed = agreeing(&wanted);
    observed.images.insert("api:1".into(), "sha256:newer".into());
    observed.image_facts.insert("sha256:newer".into(), ImageFacts::default());
    check(
        &wanted,
        &observed,
        "
        replace api [image]
        --
        api: create shop-api.new   # image changed
        api: start shop-api.new   # image changed
        api: stop shop-api   # replacement is ready
        api: remove shop-api   # replacement is ready
        api: rename shop-api.new to shop-api   # candidate is ready
    ",
    );
}

#[test]
fn tag_of_an_equal_image_replaces_nothing() {
    let wanted = desired([service("api")]);
    let mut observed = agreeing(&wanted);
    let before = observed.images.insert("api:1".into(), "sha256:newer".into()).unwrap();
    observed.equal_images.insert(before, ["sha256:newer".to_owned()].into());
    check(&wanted, &observed, "--");
}

#[test]
fn missing_image_is_pulled_once() {
    let wanted = desired([service("a").image("app:1"), service("b").image("app:1")]);
    let mut observed = empty(&wanted);
    observed.images.clear();
    check(
        &wanted,
        &observed,
        "
        create a [container]
        create b [container]
        --
        network shop: create   # missing
        image app:1: pull   # image not present locally
        a: create shop-a.new   # no container
        b: create shop-b.new   # no container
        a: start shop-a.new   # no container
        b: start shop-b.new   # no container
        a: rename shop-a.new to shop-a   # candidate is ready
        b: rename shop-b.new to shop-b   # candidate is ready
    ",
    );
}

#[test]
fn missing_image_with_pull_never_fails() {
    let wanted = desired([service("a").pull(Pull::Never), service("b")]);
    let mut observed = empty(&wanted);
    observed.images.remove("a:1");
    check(
        &wanted,
        &observed,
        "
        create a [container]
        create b [container]
        FAILS a: ImageMissing: image a:1 is not present locally, and `pull: never` is set
        --
        network shop: create   # missing
        b: create shop-b.new   # no container
        b: start shop-b.new   # no container
        b: rename shop-b.new to shop-b   # candidate is ready
    ",
    );
}

#[test]
fn image_of_another_platform_is_pulled_once() {
    let facts = |platform: &str| ImageFacts { platform: platform.into(), ..ImageFacts::default() };
    let wanted = desired([service("a").platform("linux/arm64")]);
    let mut observed = empty(&wanted);
    add_image(&mut observed, "a:1", facts("linux/amd64"));
    check(
        &wanted,
        &observed,
        "
        create a [container]
        --
        network shop: create   # missing
        image a:1: pull   # the image that is present is for another platform
        a: create shop-a.new   # no container
        a: start shop-a.new   # no container
        a: rename shop-a.new to shop-a   # candidate is ready
    ",
    );
    // The registry has it for that platform only.
    let network = agreeing(&wanted).networks;
    let with_network = Observed { networks: network, ..observed.clone() };
    let mut memory = Memory::default();
    memory.images.pulled.insert("a:1".into(), Duration::ZERO);
    let plan = drillmaster::plan::plan(&wanted, &with_network, &memory, Duration::ZERO);
    assert_eq!(plan.steps, []);
    let message =
        "image a:1 is present for linux/amd64, not for linux/arm64 (`platform`), and the pull did not change that";
    assert_eq!(plan.failures[0].message, message);
    // containerd's store tells the platforms in the list.
    let mut listed = with_network.clone();
    listed.image_facts.clear();
    listed.image_platforms.insert("sha256:a:1".into(), ["linux/amd64".into()].into());
    let plan = drillmaster::plan::plan(&wanted, &listed, &memory, Duration::ZERO);
    assert_eq!(plan.failures[0].message, message);
    // One image for several platforms, in containerd's store.
    observed.image_platforms.insert("sha256:a:1".into(), ["linux/amd64".into(), "linux/arm64".into()].into());
    assert!(!plan_text(&wanted, &observed).contains("pull"));
    add_image(&mut observed, "a:1", facts("linux/arm64"));
    observed.image_platforms.clear();
    assert!(!plan_text(&wanted, &observed).contains("pull"));
}

#[test]
fn tag_that_moves_to_another_platform_is_no_change() {
    let wanted = desired([service("a").platform("linux/arm64")]);
    let mut observed = agreeing(&wanted);
    observed.images.insert("a:1".into(), "sha256:other".into());
    let plan = drillmaster::plan::plan(&wanted, &observed, &Memory::default(), Duration::ZERO);
    assert_eq!(plan.queries, [Query::Image("sha256:other".into())].into(), "its platform matters");
    let facts = ImageFacts { platform: "linux/amd64".into(), ..ImageFacts::default() };
    observed.image_facts.insert("sha256:other".into(), facts);
    check(&wanted, &observed, "--");
    let facts = ImageFacts { platform: "linux/arm64".into(), ..ImageFacts::default() };
    observed.image_facts.insert("sha256:other".into(), facts);
    assert!(plan_text(&wanted, &observed).contains("replace a [image]"));
}

#[test]
fn two_containers_never_have_one_mac_address() {
    let with_mac =
        |command: &str| service("a").ping(Duration::from_secs(60)).mac_address("02:42:ac:11:00:02").command(&[command]);
    let (old, new) = (desired([with_mac("one")]), desired([with_mac("two")]));
    // Aliases are not deferred: both containers would run at once.
    check(
        &new,
        &agreeing(&old),
        "
        replace a [command]
        --
        a: create shop-a.new   # command changed
        a: stop shop-a   # replacement needs its ports or volumes
        a: start shop-a.new   # command changed
        a: remove shop-a   # replacement is ready
        a: rename shop-a.new to shop-a   # candidate is ready
    ",
    );
}

#[test]
fn pull_always_pulls_once_in_a_run_and_every_again() {
    let step_of = |pull: Pull, pulled: Option<Duration>, now: Duration| {
        let wanted = desired([service("a").pull(pull)]);
        let mut memory = Memory { watching: true, ..Memory::default() };
        memory.images.pulled.extend(pulled.map(|pulled| ("a:1".to_owned(), pulled)));
        let mut observed = agreeing(&wanted);
        by_name(&mut observed, "shop-a").details = Some(Default::default());
        let plan = drillmaster::plan::plan(&wanted, &observed, &memory, now);
        assert!(plan.ready.contains("a"), "{plan:?}");
        (plan.steps.first().map(step_line), plan.wake)
    };
    let (seconds, hour) = (Duration::from_secs, Pull::Every(Period::new(Duration::from_secs(3600))));
    let pull = |cause: &str| Some(format!("image a:1: pull   # {cause}"));
    assert_eq!(step_of(Pull::Missing, None, seconds(0)).0, None);
    assert_eq!(step_of(Pull::Always, None, seconds(0)).0, pull("pull: always"));
    assert_eq!(step_of(Pull::Always, Some(seconds(1)), seconds(9999)).0, None);
    assert_eq!(step_of(hour, None, seconds(0)).0, pull("pull: every"));
    assert_eq!(step_of(hour, Some(seconds(1)), seconds(3600)), (None, Some(seconds(3601))));
    assert_eq!(step_of(hour, Some(seconds(1)), seconds(3601)).0, pull("pull: every"));
}

#[test]
fn failed_pull_does_not_stop_dependents() {
    let built = |image: &str| {
        desired([service("api").needs_that("db", Condition::Ready, true), service("db").image(image).pull(Pull::Never)])
    };
    let old = built("db:1");
    check(
        &built("db:2"),
        &agreeing(&old),
        "
        replace db [image]
        FAILS db: ImageMissing: image db:2 is not present locally, and `pull: never` is set
        --
    ",
    );
}

#[test]
fn dependents_are_not_stopped_before_the_pull_ends() {
    let built =
        |image: &str| desired([service("api").needs_that("db", Condition::Ready, true), service("db").image(image)]);
    let old = built("db:1");
    check(
        &built("db:2"),
        &agreeing(&old),
        "
        replace db [image]
        restart api [dependencies.db]
        --
        image db:2: pull   # image not present locally
        api: stop shop-api   # dependency db restarted (`restart: true`)
        db: create shop-db.new   # image changed
        db: start shop-db.new   # image changed
        db: stop shop-db   # replacement is ready
        db: remove shop-db   # replacement is ready
        db: rename shop-db.new to shop-db   # candidate is ready
        api: start shop-api   # exited
    ",
    );
}

#[test]
fn dependent_with_restart_follows_replaced_dependency() {
    let build = |word| {
        desired([
            service("db").command(&[word]),
            service("api").needs_that("db", Condition::Ready, true),
            service("web").needs("db"),
        ])
    };
    check(
        &build("two"),
        &agreeing(&build("one")),
        "
        replace db [command]
        restart api [dependencies.db]
        --
        api: stop shop-api   # dependency db restarted (`restart: true`)
        db: create shop-db.new   # command changed
        db: start shop-db.new   # command changed
        db: stop shop-db   # replacement is ready
        db: remove shop-db   # replacement is ready
        db: rename shop-db.new to shop-db   # candidate is ready
        api: start shop-api   # exited
    ",
    );
}

#[test]
fn other_hash_version_is_compared_by_applied_spec() {
    let wanted = desired([service("api").command(&["serve"]).env("A", "1").port("8080:80")]);
    let mut observed = agreeing(&wanted);
    identity_of(&mut observed, "shop-api").spec_hash = "v0:abc".into();
    identity_of(&mut observed, "shop-api").env_hash = "v0:abc".into();
    inspect(&mut observed, &wanted.services["api"]);
    check(
        &wanted,
        &observed,
        "
        --
    ",
    );
    let changed = desired([service("api").command(&["serve", "more"]).env("A", "1").port("8080:80")]);
    check(
        &changed,
        &observed,
        "
        replace api [command]
        --
        api: create shop-api.new   # command changed
        api: stop shop-api   # replacement needs its ports or volumes
        api: start shop-api.new   # command changed
        api: remove shop-api   # replacement is ready
        api: rename shop-api.new to shop-api   # candidate is ready
    ",
    );
}

#[test]
fn replacement_has_its_limits_from_the_start() {
    let spec = |word: &str| desired([service("api").command(&[word]).memory("64m").restart(RestartPolicy::Always)]);
    check(
        &spec("two"),
        &agreeing(&spec("one")),
        "
        replace api [command]
        --
        api: create shop-api.new   # command changed
        api: start shop-api.new   # command changed
        api: stop shop-api   # replacement is ready
        api: remove shop-api   # replacement is ready
        api: rename shop-api.new to shop-api   # candidate is ready
    ",
    );
}

#[test]
fn candidate_with_earlier_limits_is_removed_before_it_starts() {
    // Its limits may be why it did not start: an update in place comes too late.
    let old = desired([service("api").command(&["one"]).memory("64m")]);
    let middle = desired([service("api").command(&["two"]).memory("6m")]);
    let new = desired([service("api").command(&["two"]).memory("64m")]);
    let mut observed = agreeing(&old);
    let mut of_middle = agreeing(&middle);
    inspect(&mut of_middle, &middle.services["api"]);
    let mut candidate = copy(by_name(&mut of_middle, "shop-api"), "candidate", "shop-api.new");
    candidate.state = State::Created;
    add(&mut observed, candidate);
    check(
        &new,
        &observed,
        "
        replace api [command]
        --
        api: remove shop-api.new   # outdated spec revision
        api: create shop-api.new   # command changed
        api: start shop-api.new   # command changed
        api: stop shop-api   # replacement is ready
        api: remove shop-api   # replacement is ready
        api: rename shop-api.new to shop-api   # candidate is ready
    ",
    );
}

#[test]
fn candidate_of_an_earlier_spec_is_removed() {
    let old = desired([service("api").command(&["one"])]);
    let middle = desired([service("api").command(&["two"])]);
    let new = desired([service("api").command(&["three"])]);
    let mut observed = agreeing(&old);
    let mut candidate = copy(by_name(&mut agreeing(&middle), "shop-api"), "candidate", "shop-api.new");
    candidate.state = State::Created;
    add(&mut observed, candidate);
    check(
        &new,
        &observed,
        "
        replace api [command]
        --
        api: remove shop-api.new   # outdated spec revision
        api: create shop-api.new   # command changed
        api: start shop-api.new   # command changed
        api: stop shop-api   # replacement is ready
        api: remove shop-api   # replacement is ready
        api: rename shop-api.new to shop-api   # candidate is ready
    ",
    );
}

#[test]
fn unneeded_candidate_is_removed() {
    let wanted = desired([service("api")]);
    let mut observed = agreeing(&wanted);
    let candidate = copy(by_name(&mut observed, "shop-api"), "candidate", "shop-api.new");
    add(&mut observed, candidate);
    check(
        &wanted,
        &observed,
        "
        update api [name]
        --
        api: stop shop-api.new   # replacement no longer needed
        api: remove shop-api.new   # replacement no longer needed
    ",
    );
}

#[test]
fn unfinished_candidate_is_promoted() {
    let old = desired([service("api").command(&["one"])]);
    let new = desired([service("api").command(&["two"])]);
    let mut observed = agreeing(&old);
    let candidate = copy(by_name(&mut agreeing(&new), "shop-api"), "candidate", "shop-api.new");
    add(&mut observed, candidate);
    check(
        &new,
        &observed,
        "
        replace api [command]
        --
        api: stop shop-api   # replacement is ready
        api: remove shop-api   # replacement is ready
        api: rename shop-api.new to shop-api   # candidate is ready
    ",
    );
}

#[test]
fn candidate_without_current_container_takes_the_name() {
    let wanted = desired([service("api")]);
    let mut observed = agreeing(&wanted);
    by_name(&mut observed, "shop-api").name = "shop-api.new".into();
    check(
        &wanted,
        &observed,
        "
        create api [container]
        --
        api: rename shop-api.new to shop-api   # candidate is ready
    ",
    );
}

/// Names of the steps without their causes, and whether the candidate is created without aliases.
fn replacement(build: impl Fn(&str) -> Build) -> (bool, Vec<String>, Option<String>) {
    let (old, new) = (desired([build("api:1")]), desired([build("api:2")]));
    let mut observed = agreeing(&old);
    add_image(&mut observed, "api:2", ImageFacts::default());
    let forecast = drillmaster::plan::forecast(&new, &observed, &Memory::default());
    let is_late =
        |step: &Step| matches!(&step.verb, Verb::Create { joins, .. } if drillmaster::desired::defers_names(joins));
    let steps = forecast.steps.iter().map(|step| step.to_string().replace("api: ", "")).collect();
    (forecast.steps.iter().any(is_late), steps, forecast.changes[0].interrupts.clone())
}

#[test]
fn candidate_beside_the_old_container_is_named_when_it_is_ready() {
    let api = |image: &str| service("api").image(image).ping(Duration::from_secs(3));
    let (late, steps, interrupts) = replacement(api);
    assert_eq!(
        steps,
        [
            "create shop-api.new",
            "start shop-api.new",
            "disconnect shop-api.new from shop",
            "connect shop-api.new to shop",
            "stop shop-api",
            "remove shop-api",
            "rename shop-api.new to shop-api",
        ]
    );
    assert!(late && interrupts.is_none());
    // The first container serves nobody's clients before it is ready either, and there is no other one.
    let first =
        drillmaster::plan::forecast(&desired([api("api:1")]), &empty(&desired([api("api:1")])), &Memory::default());
    assert!(first.steps.iter().all(|step| !matches!(step.verb, Verb::Disconnect { .. })), "{:?}", first.steps);
    assert_eq!(desired([api("api:1")]).services["api"].hostname(), "");
}

#[test]
fn replacement_that_interrupts_says_why() {
    let ready = |image: &str| service("api").image(image).ping(Duration::from_secs(3));
    let (late, steps, why) = replacement(|image| ready(image).port("8080:80"));
    assert_eq!((late, steps[1].as_str()), (false, "stop shop-api"));
    assert_eq!(why.as_deref(), Some("both containers need host port 8080"));
    let (late, _, why) = replacement(|image| ready(image).volume("data", "/data"));
    assert_eq!((late, why.as_deref()), (false, Some("both containers would write to /data")));
    // Nothing says when it is ready.
    let (late, _, why) = replacement(|image| service("api").image(image));
    assert_eq!((late, why), (false, None));
}
