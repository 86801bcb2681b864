//! Mounted files that change.

use drillmaster::desired::{Desired, Mode};
use drillmaster::observed::{Observed, State};
use drillmaster::plan::memory::MountedVersions;
use drillmaster::plan::{Memory, forecast};
use drillmaster::spec::model::{OnChange, RestartPolicy};
use jiff::Timestamp;

use crate::builders::*;

const STARTED: &str = "2026-11-30T08:00:00Z";
const FILE: &str = "/app.conf";

/// The group with one file, of this content and inode number.
fn with_file(on_change: &OnChange, content: &str, inode: u64) -> Desired {
    desired([service("api").file(FILE, on_change.clone(), content, inode)])
}

/// An engine that agrees with `old` and has started the container at [`STARTED`].
fn started(old: &Desired) -> Observed {
    let mut observed = agreeing(old);
    inspect(&mut observed, &old.services["api"]);
    by_name(&mut observed, "shop-api").details.as_mut().unwrap().started_at = STARTED.into();
    observed
}

/// What an earlier run recorded when it started the container at `started_at`.
fn recorded(old: &Desired, started_at: &str) -> Memory {
    let files = old.services["api"].files.iter();
    let files = files.map(|file| (file.target.clone(), file.state.clone().unwrap().version)).collect();
    Memory::new([], [("id-api".into(), MountedVersions { started_at: started_at.into(), files })])
}

/// The steps of `up` after `old` was started.
fn steps(old: &Desired, new: &Desired) -> Vec<String> {
    steps_with(&started(old), new, &recorded(old, STARTED))
}

fn steps_with(observed: &Observed, new: &Desired, memory: &Memory) -> Vec<String> {
    let forecast = forecast(new, observed, memory);
    assert!(forecast.failures.is_empty(), "{forecast:?}");
    assert_eq!(forecast.changes.is_empty(), forecast.steps.is_empty(), "{forecast:?}");
    forecast.steps.iter().map(step_line).collect()
}

const RESTART: [&str; 2] = ["api: stop shop-api   # mounted file ./app.conf changed", "api: start shop-api   # exited"];

#[test]
fn changed_file_restarts_the_container_once() {
    let (old, new) = (with_file(&OnChange::Restart, "a", 1), with_file(&OnChange::Restart, "b", 1));
    assert_eq!(steps(&old, &new), RESTART);
    // The same after it was replaced by rename; not if the content is the same.
    assert_eq!(steps(&old, &with_file(&OnChange::Restart, "b", 2)), RESTART);
    assert!(steps(&old, &with_file(&OnChange::Restart, "a", 2)).is_empty());
    assert!(steps(&new, &new).is_empty());
}

#[test]
fn changed_file_replaces_the_container_if_the_spec_says_so() {
    let (old, new) = (with_file(&OnChange::Replace, "a", 1), with_file(&OnChange::Replace, "b", 1));
    let found = steps(&old, &new);
    assert_eq!(found[0], "api: create shop-api.new   # mounted file ./app.conf changed");
    assert!(found.iter().any(|step| step.starts_with("api: remove shop-api ")), "{found:?}");
    assert!(steps(&old, &old).is_empty());
}

#[test]
fn changed_file_is_signalled_unless_it_was_replaced() {
    let hup = OnChange::Signal("HUP".parse().unwrap());
    let (old, new) = (with_file(&hup, "a", 1), with_file(&hup, "b", 1));
    assert_eq!(steps(&old, &new), ["api: signal shop-api (SIGHUP)   # mounted file ./app.conf changed"]);
    // The mount shows the old file: only a restart mounts the new one.
    assert_eq!(steps(&old, &with_file(&hup, "b", 2)), RESTART);
}

#[test]
fn times_decide_if_someone_else_started_the_container() {
    let (old, mut new) = (with_file(&OnChange::Restart, "a", 1), with_file(&OnChange::Restart, "b", 1));
    let modified = |new: &mut Desired, at: &str| {
        let file = &mut new.services.get_mut("api").unwrap().files[0];
        file.state.as_mut().unwrap().modified = at.parse::<Timestamp>().unwrap();
    };
    let (observed, before) = (started(&old), "2026-11-30T07:00:00Z");
    modified(&mut new, "2026-11-30T07:59:59Z");
    for memory in [Memory::default(), recorded(&old, before)] {
        assert!(steps_with(&observed, &new, &memory).is_empty(), "{memory:?}");
    }
    modified(&mut new, "2026-11-30T08:00:01Z");
    for memory in [Memory::default(), recorded(&old, before)] {
        assert_eq!(steps_with(&observed, &new, &memory), RESTART, "{memory:?}");
    }
    // A file that has the content which an earlier start mounted was only touched.
    assert!(steps_with(&observed, &new, &recorded(&new, before)).is_empty());
}

#[test]
fn running_container_with_files_is_inspected_once() {
    let wanted = with_file(&OnChange::Restart, "a", 1);
    let mut observed = started(&wanted);
    let queries = |observed: &Observed| {
        drillmaster::plan::plan(&wanted, observed, &recorded(&wanted, STARTED), std::time::Duration::ZERO).queries.len()
    };
    assert_eq!(queries(&observed), 0);
    by_name(&mut observed, "shop-api").details = None;
    assert_eq!(queries(&observed), 1);
    // A container that does not run mounts the file when it starts.
    by_name(&mut observed, "shop-api").state = State::Exited { code: Some(0) };
    assert_eq!(queries(&observed), 0);
}

#[test]
fn start_of_a_stopped_container_with_files_is_one_step() {
    let api = service("api").restart(RestartPolicy::Always).memory("64m");
    let wanted = desired([api.file(FILE, OnChange::Restart, "a", 1)]);
    let mut observed = agreeing(&wanted);
    by_name(&mut observed, "shop-api").state = State::Exited { code: Some(0) };
    let start = ["api: start shop-api   # exited with code 0"];
    // Neither the list nor an inspection before the start says what is true after it.
    assert_eq!(steps_with(&observed, &wanted, &Memory::default()), start);
    inspect(&mut observed, &wanted.services["api"]);
    assert_eq!(steps_with(&observed, &wanted, &Memory::default()), start);
}

#[test]
fn start_and_missing_files_change_nothing() {
    let (old, mut new) = (with_file(&OnChange::Restart, "a", 1), with_file(&OnChange::Restart, "b", 1));
    let memory = recorded(&old, STARTED);
    new.mode = Mode::StartOnly;
    assert!(forecast(&new, &started(&old), &memory).steps.is_empty());
    let mut new = old.clone();
    new.services.get_mut("api").unwrap().files[0].state = None;
    assert!(steps(&old, &new).is_empty());
}

#[test]
fn dependents_that_restart_with_it_stop_first() {
    let condition = drillmaster::spec::model::Condition::Ready;
    let group = |content: &str| {
        let web = service("web").needs_that("api", condition, true);
        desired([web, service("api").file(FILE, OnChange::Restart, content, 1)])
    };
    let (old, new) = (group("a"), group("b"));
    let found = steps(&old, &new);
    assert_eq!(
        found.iter().map(|step| step.split("   ").next().unwrap()).collect::<Vec<_>>(),
        ["web: stop shop-web", "api: stop shop-api", "api: start shop-api", "web: start shop-web",]
    );
}
