//! Pulls from a registry.

use crate::support::project::{Project, sleeper};
use crate::support::registry::Registry;
use crate::support::test_group::docker;

const OLD: &str = "drillmaster/busybox:1";
const NEW: &str = "drillmaster/busybox:2";

fn spec(image: &str, more: &str) -> String {
    sleeper("app", more).replace(OLD, image)
}

#[test]
fn digest_decides_beside_a_tag() {
    let registry = Registry::start();
    let project = Project::new("digest");
    let (reference, digest) = registry.push(OLD, "app:1");
    docker(&["image", "rm", &reference]).unwrap();
    // The tag in front of the digest does not even exist.
    let pinned = format!("{}:7@{digest}", reference.trim_end_matches(":1"));
    project.write("app.yaml", &spec(&pinned, ""));
    project.up();
    project.assert_settled(&["app"]);
    // The image is present now.
    project.write("app.yaml", &spec(&pinned, "pull: never"));
    project.up().stdout_contains("nothing to do");
    project.run(&["down"]).exits(0);
    drop(registry);
}

#[test]
fn pull_always_looks_for_a_newer_image() {
    let registry = Registry::start();
    let project = Project::new("always");
    let (reference, _) = registry.push(NEW, "app:1");
    docker(&["tag", OLD, &reference]).unwrap();
    project.write("app.yaml", &spec(&reference, ""));
    project.up();
    let old = project.id("app");
    // A changed `pull` replaces nothing.
    project.write("app.yaml", &spec(&reference, "pull: always"));
    assert_eq!(project.differences(), Vec::<String>::new());
    project.up().stdout_contains("(1 replaced)");
    assert_ne!(project.id("app"), old);
    project.assert_settled(&["app"]);
    let newer = project.id("app");
    project.up();
    assert_eq!(project.id("app"), newer, "the same image replaces nothing");
    // The container stays if the registry is gone.
    drop(registry);
    docker(&["tag", NEW, &reference]).unwrap();
    let run = project.run(&["up"]).exits(1).stderr_contains("cannot pull image");
    assert_eq!(project.id("app"), newer, "{run}");
    project.run(&["down"]).exits(0);
    docker(&["image", "rm", &reference]).unwrap();
}

#[test]
fn pull_pulls_without_touching_containers() {
    let registry = Registry::start();
    let project = Project::new("pullonly");
    let (moving, _) = registry.push(NEW, "moving:1");
    let (pinned, digest) = registry.push(OLD, "pinned:1");
    docker(&["image", "rm", &pinned]).unwrap();
    docker(&["tag", OLD, &moving]).unwrap();
    let pinned = format!("{}@{digest}", pinned.trim_end_matches(":1"));
    let specs = sleeper("a", "").replace(OLD, &moving) + &sleeper("b", "").replace(OLD, &pinned);
    project.write("app.yaml", &(specs + &sleeper("c", "pull: never")));
    let run = project.run(&["pull"]).exits(0).stdout_contains(": 2 images pulled, 1 skipped");
    run.stderr_contains("c: not pulled: `pull: never` is set").stderr_contains("pulling (requested)");
    assert_eq!(project.names(), [""; 0]);
    let id = |image: &str| docker(&["image", "inspect", "-f", "{{.Id}}", image]).unwrap();
    assert_eq!((id(&moving), id(&pinned)), (id(NEW), id(OLD)));
    // A digest always names the same image.
    project.run(&["pull"]).exits(0).stdout_contains(": 1 image pulled, 2 skipped");
    drop(registry);
    let run = project.run(&["pull", "a"]).exits(1).stderr_contains("a: failed (ImageMissing)");
    run.stderr_contains("cannot pull image").stdout_contains(": 0 images pulled, failed: a");
}
