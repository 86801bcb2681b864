//! Volumes with settings: external ones, and those that may exist from before.

use std::collections::BTreeMap;

use drillmaster::desired::{DeclaredVolume, Desired, Mode};
use drillmaster::observed::Volume;

use crate::builders::*;

fn declared(wanted: &mut Desired, name: &str, volume: DeclaredVolume) {
    let location = "group.yaml:4".to_owned();
    wanted.volumes.insert(name.into(), DeclaredVolume { location, ..volume });
}

fn volume(name: &str, group: Option<&str>) -> Volume {
    let (name, group) = (name.to_owned(), group.map(str::to_owned));
    let source = group.as_ref().map(|_| SOURCE.to_owned());
    Volume { name, group, source, driver: "local".into(), options: BTreeMap::new() }
}

fn external() -> DeclaredVolume {
    DeclaredVolume { external: true, ..Default::default() }
}

fn fixed() -> DeclaredVolume {
    DeclaredVolume { is_fixed: true, ..Default::default() }
}

#[test]
fn missing_external_volume_is_a_conflict_and_nothing_is_created() {
    let mut wanted = desired([service("api"), service("db").fixed_volume("pg", "/data")]);
    declared(&mut wanted, "pg", external());
    let mut observed = empty(&wanted);
    let message = "external volume pg does not exist (group.yaml:4); create it with `docker volume create pg`";
    check(&wanted, &observed, &format!("FAILS api: Conflict: {message}\nFAILS db: Conflict: {message}\n--"));
    observed.volumes.insert("pg".into(), volume("pg", None));
    assert!(plan_text(&wanted, &observed).contains("db: create shop-db.new"));
    // One that no service mounts need not exist.
    let mut unused = desired([service("api")]);
    declared(&mut unused, "pg", external());
    assert!(plan_text(&unused, &empty(&unused)).contains("api: create shop-api.new"));
}

#[test]
fn volume_with_other_options_is_a_conflict_without_their_values() {
    let mut wanted = desired([service("db").fixed_volume("pg", "/data")]);
    let option = |value: &str| BTreeMap::from([("o".to_owned(), value.to_owned())]);
    declared(&mut wanted, "pg", DeclaredVolume { driver_opts: option("password=secret"), ..fixed() });
    let mut observed = empty(&wanted);
    observed.volumes.insert("pg".into(), Volume { options: option("password=old"), ..volume("pg", None) });
    check(&wanted, &observed, "
        FAILS db: Conflict: volume pg has other driver options than the specs: o (group.yaml:4); change the specs, or remove it and its data with `docker volume rm pg`
        --
    ");
    observed.volumes.insert("pg".into(), Volume { options: option("password=secret"), ..volume("pg", None) });
    assert!(plan_text(&wanted, &observed).contains("db: create shop-db.new"));
    declared(&mut wanted, "pg", DeclaredVolume { driver: Some("nfs".into()), ..fixed() });
    assert!(plan_text(&wanted, &observed).contains("volume pg has the driver local, the specs say nfs"));
}

#[test]
fn fixed_volume_that_does_not_exist_is_noted() {
    let mut wanted = desired([service("db").fixed_volume("pg", "/data")]);
    declared(&mut wanted, "pg", fixed());
    let mut observed = empty(&wanted);
    let note = "volume pg does not exist yet: it is created, and empty";
    assert_eq!(notes(&wanted, &observed), [note]);
    observed.volumes.insert("pg".into(), volume("pg", None));
    assert_eq!(notes(&wanted, &observed), [""; 0]);
}

#[test]
fn down_removes_only_volumes_that_were_created_for_the_group() {
    let mut wanted = nothing();
    wanted.mode = Mode::Reconcile { purge_volumes: true, purge_images: false };
    let mut observed = empty(&wanted);
    for (name, group, settings) in [
        ("mine", Some(GROUP), fixed()),
        ("compose_data", None, fixed()),
        ("theirs", Some("other"), fixed()),
        ("outside", Some(GROUP), external()),
    ] {
        declared(&mut wanted, name, settings);
        observed.volumes.insert(name.into(), volume(name, group));
    }
    observed.volumes.insert("unknown".into(), volume("unknown", None));
    check(
        &wanted,
        &observed,
        "
        remove mine []
        --
        volume mine: remove   # --volumes
    ",
    );
    assert_eq!(
        notes(&wanted, &observed),
        [
            "volume compose_data stays: it was not created by this group; `docker volume rm compose_data` removes it",
            "volume outside stays: it is external",
            "volume theirs stays: it was not created by this group; `docker volume rm theirs` removes it",
        ]
    );
}
