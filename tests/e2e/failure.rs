//! Failures: a failed service affects only its dependents.

use std::os::unix::fs::PermissionsExt;
use std::path::Path;

use crate::support::engine::{self, Capability};
use crate::support::project::{Project, free_port, script, sleeper};
use crate::support::{WAIT_TIMEOUT, process};

const MISSING: &str = "drillmaster/there-is-no-such-image:1";

#[test]
fn missing_image_fails_only_its_service() {
    let project = Project::new("noimage");
    let missing = sleeper("missing", "").replace("drillmaster/busybox:1", MISSING);
    let never = sleeper("never", "pull: never").replace("drillmaster/busybox:1", MISSING);
    let dependents = sleeper("needs", "dependencies: [missing]") + &sleeper("further", "dependencies: [needs]");
    project.write(
        "all.yaml",
        &(missing + &never + &dependents + &sleeper("api", "") + &sleeper("web", "dependencies: [api]")),
    );
    let run = project.run(&["up"]).exits(1);
    let run = run
        .stderr_contains("missing: failed (ImageMissing)")
        .stderr_contains(MISSING)
        .stderr_contains("never: failed (ImageMissing)")
        .stderr_contains("pull: never");
    let run = run.stderr_contains("needs: pending: waiting for missing, which has failed");
    let run = run
        .stderr_contains("further: pending: waiting for needs")
        .stdout_contains("2 services ready, 2 failed: missing, never, 2 waiting: further, needs");
    run.output_lacks("panicked");
    assert_eq!(project.names(), ["api", "web"]);
    // A retry does not affect other services.
    let ids = (project.id("api"), project.id("web"));
    project
        .run(&["up"])
        .exits(1)
        .stdout_contains("2 services ready, 2 failed: missing, never, 2 waiting: further, needs");
    assert_eq!((project.id("api"), project.id("web")), ids);
}

#[test]
fn pull_goes_on_without_a_credential_helper_that_misbehaves() {
    let project = Project::new("helper");
    project.write("all.yaml", &sleeper("api", "").replace("drillmaster/busybox:1", "localhost:1/nothing:1"));
    let home = project.home.path();
    std::fs::write(home.join("config.json"), r#"{"credHelpers": {"localhost:1": "odd"}}"#).unwrap();
    let helper = home.join("docker-credential-odd");
    let path = format!("{}:{}", home.display(), std::env::var("PATH").unwrap());
    for (script, reason) in [
        ("exec yes", "docker-credential-odd: its output is larger than 1 MiB"),
        ("echo $$ > ../hung; exec sleep 1000", "the credential helper did not answer within 10 s"),
    ] {
        std::fs::write(&helper, format!("#!/bin/sh\ncd {}/specs\n{script}\n", home.display())).unwrap();
        std::fs::set_permissions(&helper, std::fs::Permissions::from_mode(0o755)).unwrap();
        let mut up = project.command(&["up"]);
        up.env("DOCKER_CONFIG", home).env("PATH", &path);
        let run = process::run(up, WAIT_TIMEOUT * 3).exits(1);
        run.stderr_contains("cannot be reached").stderr_contains(&format!("no credentials were sent: {reason}"));
    }
    let hung = std::fs::read_to_string(home.join("hung")).unwrap();
    let stat = Path::new("/proc").join(hung.trim()).join("stat");
    assert!(std::fs::read_to_string(stat).map_or(true, |stat| stat.contains(") Z ")), "it is killed");
}

#[test]
fn local_image_is_not_pulled() {
    let mut project = Project::new("pull");
    let tag = project.tag("drillmaster/busybox:1");
    let spec = |name: &str, pull: &str| sleeper(name, &format!("pull: {pull}")).replace("drillmaster/busybox:1", &tag);
    project.write("all.yaml", &(spec("missing", "missing") + &spec("never", "never")));
    project.up().output_lacks("pulling");
    project.assert_settled(&["missing", "never"]);
}

#[test]
fn refused_service_fails_alone_with_the_engines_message() {
    let project = Project::new("refused");
    let taken = free_port();
    let _listener = std::net::TcpListener::bind(("127.0.0.1", taken)).unwrap();
    let specs = [
        "---\nname: program\nimage: drillmaster/busybox:1\ncommand: [no-such-program]\n".to_owned(),
        sleeper("port", &format!("ports: ['{taken}:80']")),
        sleeper("user", "user: no-such-user"),
        sleeper("mount", "volumes: ['./not/there:/data:ro']"),
        sleeper("good", ""),
    ];
    project.write("all.yaml", &specs.concat());
    let run = project.run(&["up"]).exits(1);
    let run = run.stderr_contains("program: failed (StartFailed)").stderr_contains("no-such-program");
    let run = run.stderr_contains("port: failed (StartFailed)").stderr_contains(&taken.to_string());
    let run = run.stderr_contains("user: failed").stderr_contains("no-such-user");
    // Podman creates it, if it may.
    let creates = engine::is_podman() && !engine::lacks(Capability::Files);
    let run = if creates { run } else { run.stderr_contains("mount: failed").stderr_contains("not/there") };
    let expected = if creates { "2 services ready, 3 failed" } else { "1 service ready, 4 failed" };
    assert!(run.stdout.contains(expected), "{run}");
    let containers = project.containers();
    assert!(containers.iter().any(|c| c.name == project.name("good") && c.state == "running"), "{containers:#?}");
    assert_eq!(project.specs().join("not").exists(), creates, "a missing bind source is not created");
    // A valid spec fixes each of them.
    project.write("all.yaml", &["program", "port", "user", "mount", "good"].map(|name| sleeper(name, "")).concat());
    project.up();
    project.assert_settled(&["program", "port", "user", "mount", "good"]);
}

#[test]
fn each_failed_service_reports_its_own_output() {
    let project = Project::new("twofail");
    let one = script("one", "echo first line; exit 1", "ping: {tcp: 80}");
    let two = script("two", "i=0; while [ $i -lt 30 ]; do i=$((i+1)); echo line $i.; done; exit 2", "ping: {tcp: 80}");
    project.write("all.yaml", &(one + &two));
    let run = project.run(&["up"]).exits(1);
    let run = run.stderr_contains("one: failed (Exited): exited with code 1").stderr_contains("| first line");
    let run = run
        .stderr_contains("two: failed (Exited): exited with code 2")
        .stderr_contains("| line 30.")
        .output_lacks("| line 2.");
    assert_eq!(run.stderr.matches("failed (").count(), 2, "each failure is reported once: {run}");
}

#[test]
fn oom_killed_container_is_reported() {
    if engine::lacks(Capability::Limits) {
        return;
    }
    let project = Project::new("oom");
    // tail buffers the endless last line in memory.
    let hungry = script("hungry", "tail /dev/zero", "resources: {memory: 8m}\nping: {tcp: 80, timeout: 30s}");
    project.write("all.yaml", &hungry);
    project.run(&["up"]).exits(1).stderr_contains("hungry: failed (Exited)").stderr_contains("137");
    // The engine may set OOMKilled after the exit, or never.
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
    let network = engine::request("GET", &format!("/networks/{}", project.group), None);
    let volume = engine::request("GET", &format!("/volumes/{}", project.name("data")), None);
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

/// `up`, `status` and `diff` agree about a service that the engine alone shows as running.
#[test]
fn status_shows_why_the_last_up_failed() {
    let project = Project::new("last");
    project.write("api.yaml", &sleeper("api", "env: {A: '1'}"));
    project.up();
    // The container stays, but does not answer the new ping.
    project.write("api.yaml", &sleeper("api", "env: {A: '1'}\nping: {tcp: 81, timeout: 1s}"));
    project.run(&["up"]).exits(1).stdout_contains("1 failed: api");
    let status = project.status("api");
    assert_eq!((&status["phase"], &status["reason"]), (&"Unhealthy".into(), &"NotReady".into()), "{status}");
    assert!(status["message"].as_str().unwrap().contains("timed out after 1 s"), "{status}");
    project.run(&["diff"]).exits(0).stderr_contains("api: failed in the last run (NotReady): timed out after 1 s");
    // Another spec has not failed yet.
    project.write("api.yaml", &sleeper("api", "env: {A: '1'}"));
    assert_eq!(project.status("api")["phase"], "Ready");
    // A replacement that fails leaves the old container.
    let broken = sleeper("api", "env: {A: '2'}").replace("[sleep, infinity]", "[sh, -c, 'exit 3']");
    project.write("api.yaml", &broken);
    project.run(&["up"]).exits(1).stdout_contains("1 failed: api (the previous container serves)");
    let status = project.status("api");
    assert_eq!((&status["phase"], &status["reason"]), (&"Ready".into(), &"Exited".into()), "{status}");
    let message = "replacement failed, the previous container serves: exited with code 3 before becoming ready";
    assert_eq!(status["message"], message, "{status}");
    project.write("api.yaml", &sleeper("api", "env: {A: '2'}"));
    project.up();
    assert_eq!(project.status("api")["reason"], serde_json::Value::Null);
    // A stopped service did not fail.
    project.run(&["stop"]).exits(0);
    let status = project.status("api");
    assert_eq!((&status["phase"], &status["reason"]), (&"Exited".into(), &"Stopped".into()), "{status}");
    project.run(&["start"]).exits(0);
    assert_eq!(project.status("api")["phase"], "Ready");
    project.run(&["down"]).exits(0);
}
