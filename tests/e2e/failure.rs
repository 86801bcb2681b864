//! A service that fails is its own problem.

use crate::support::engine;
use crate::support::project::{Project, port, script, sleeper};

const MISSING: &str = "drillmaster/there-is-no-such-image:1";

#[test]
fn a_missing_image_fails_alone() {
    let project = Project::new("noimage");
    let missing = sleeper("missing", "").replace("drillmaster/busybox:1", MISSING);
    let never = sleeper("never", "pull: never").replace("drillmaster/busybox:1", MISSING);
    let needs = sleeper("needs", "dependencies: [missing]") + &sleeper("further", "dependencies: [needs]");
    project
        .write("all.yaml", &(missing + &never + &needs + &sleeper("api", "") + &sleeper("web", "dependencies: [api]")));
    let run = project.run(&["up"]).exits(1);
    let run = run
        .says("missing: failed (ImageMissing)")
        .says(MISSING)
        .says("never: failed (ImageMissing)")
        .says("pull: never");
    let run = run.says("needs: pending: waiting for missing, which has failed");
    let run = run
        .says("further: pending: waiting for needs")
        .prints("2 services ready, 2 failed: missing, never, 2 waiting: needs, further");
    run.never_says("panicked");
    assert_eq!(project.names(), ["api", "web"]);
    // Nobody is the worse for it when it is tried again.
    let ids = (project.id("api"), project.id("web"));
    project.run(&["up"]).exits(1).prints("2 services ready, 2 failed: missing, never, 2 waiting: needs, further");
    assert_eq!((project.id("api"), project.id("web")), ids);
}

#[test]
fn an_image_that_is_there_is_not_pulled() {
    let mut project = Project::new("pull");
    let tag = project.tag("drillmaster/busybox:1");
    let spec = |name: &str, pull: &str| sleeper(name, &format!("pull: {pull}")).replace("drillmaster/busybox:1", &tag);
    project.write("all.yaml", &(spec("missing", "missing") + &spec("never", "never")));
    project.up().never_says("pulling");
    project.is_settled(&["missing", "never"]);
    // One that must be pulled each time cannot be, without a registry; a container that runs is not touched for it.
    project.write("all.yaml", &(spec("missing", "always") + &spec("never", "never")));
    project.up().prints("nothing to do");
}

#[test]
fn refused_service_fails_alone_with_the_engines_message() {
    let project = Project::new("refused");
    let taken = port();
    let _somebody = std::net::TcpListener::bind(("127.0.0.1", taken)).unwrap();
    let specs = [
        "---\nname: program\nimage: drillmaster/busybox:1\ncommand: [no-such-program]\n".to_owned(),
        sleeper("port", &format!("ports: ['{taken}:80']")),
        sleeper("user", "user: nobody-knows"),
        sleeper("mount", "volumes: ['./not/there:/data:ro']"),
        sleeper("good", ""),
    ];
    project.write("all.yaml", &specs.concat());
    let run = project.run(&["up"]).exits(1);
    let run = run.says("program: failed (StartFailed)").says("no-such-program");
    let run = run.says("port: failed (StartFailed)").says(&taken.to_string());
    let run = run.says("user: failed").says("nobody-knows");
    let run = run.says("mount: failed").says("not/there");
    assert!(run.stdout.contains("1 service ready, 4 failed"), "{run}");
    let containers = project.containers();
    assert!(containers.iter().any(|c| c.name == project.name("good") && c.state == "running"), "{containers:#?}");
    assert!(!project.specs().join("not").exists(), "a directory that is not there is not made, by root");
    // Each is put right by a better spec.
    project.write("all.yaml", &["program", "port", "user", "mount", "good"].map(|name| sleeper(name, "")).concat());
    project.up();
    project.is_settled(&["program", "port", "user", "mount", "good"]);
}

#[test]
fn two_services_fail_and_each_says_its_own() {
    let project = Project::new("twofail");
    let one = script("one", "echo first words; exit 1", "ping: {tcp: 80}");
    let two = script("two", "i=0; while [ $i -lt 30 ]; do i=$((i+1)); echo line $i.; done; exit 2", "ping: {tcp: 80}");
    project.write("all.yaml", &(one + &two));
    let run = project.run(&["up"]).exits(1);
    let run = run.says("one: failed (Exited): exited with code 1").says("| first words");
    let run = run.says("two: failed (Exited): exited with code 2").says("| line 30.").never_says("| line 2.");
    assert_eq!(run.stderr.matches("failed (").count(), 2, "each once: {run}");
}

#[test]
fn a_container_killed_for_its_memory_says_so() {
    let project = Project::new("oom");
    // tail keeps a line in memory until it ends, and this one never does.
    let hungry = script("hungry", "tail /dev/zero", "resources: {memory: 8m}\nping: {tcp: 80, timeout: 30s}");
    project.write("all.yaml", &hungry);
    project.run(&["up"]).exits(1).says("hungry: failed (Exited)").says("137");
    // The engine may find out only after the end, or not at all.
    let status = project.status("hungry");
    if project.inspect("hungry.new")["State"]["OOMKilled"] == true && status["reason"] != "OOMKilled" {
        assert_eq!(project.status("hungry")["reason"], "OOMKilled", "{status:#}");
    }
}

#[test]
fn networks_and_volumes_carry_ownership_labels() {
    let project = Project::new("labels");
    project.write("all.yaml", &sleeper("api", "volumes: ['data:/data']\nlabels: {team: core}"));
    project.up();
    let directory = project.specs().canonicalize().unwrap().display().to_string();
    let network = engine::must("GET", &format!("/networks/{}", project.group), None);
    let volume = engine::must("GET", &format!("/volumes/{}", project.name("data")), None);
    for labels in [&network["Labels"], &volume["Labels"]] {
        assert_eq!(labels["drillmaster.group"], project.group);
        assert_eq!(labels["drillmaster.source"], directory);
    }
    let labels = &project.inspect("api")["Config"]["Labels"];
    for (label, value) in [("group", project.group.as_str()), ("service", "api"), ("kind", "Service")] {
        assert_eq!(labels[format!("drillmaster.{label}")], value, "{labels:#}");
    }
    assert_eq!(labels["drillmaster.source"], directory);
    assert_eq!(labels["team"], "core");
    for hash in ["env-hash", "spec-hash"] {
        assert!(engine::text(&labels[format!("drillmaster.{hash}")]).starts_with("v1:"), "{labels:#}");
    }
    assert_eq!(project.inspect("api")["Config"]["Hostname"], "api");
}
