//! Options of mounts, published ports, variables, health checks, configs and secrets, as the engine shows them.

use std::fs;

use serde_json::{Value, json};

use crate::support::engine;
use crate::support::project::Project;

const SLEEP: &str = "image: drillmaster/busybox:1\ncommand: [sleep, '3600']\nstop_signal: KILL\n";

/// A project with the service `web`, which sleeps and has these fields.
fn with(purpose: &str, fields: &str) -> Project {
    let project = Project::new(purpose);
    set(&project, fields);
    project
}

fn set(project: &Project, fields: &str) {
    project.write("web.yaml", &format!("name: web\n{SLEEP}{fields}"));
}

/// Applies changed fields, which must replace the container once and for a difference at this path.
fn replaces(project: &Project, fields: &str, path: &str) {
    let id = project.id("web");
    set(project, fields);
    assert_eq!(project.differences(), [format!("web replace {path}")]);
    project.up();
    assert!(project.id("web") != id);
    assert!(project.differences().is_empty(), "{:?}", project.differences());
}

/// The mount at a path, as the engine shows it.
fn mount(project: &Project, target: &str) -> Value {
    let mounts = project.inspect("web")["Mounts"].as_array().cloned().unwrap_or_default();
    let found = mounts.into_iter().find(|mount| mount["Destination"] == target);
    found.unwrap_or_else(|| panic!("nothing is mounted at {target}"))
}

#[test]
fn missing_directory_is_created_on_request() {
    let project = with("mount-create", "volumes: [{source: ./made/here, target: /data}]\n");
    let failed = project.run(&["up"]).exits(1);
    assert!(failed.stderr.contains("made/here"), "{}", failed.stderr);
    assert!(!project.specs().join("made").exists() || engine::is_podman());

    set(&project, "volumes: [{source: ./made/here, target: /data, create: true, read_only: true}]\n");
    project.up();
    assert!(project.specs().join("made/here").is_dir());
    let found = mount(&project, "/data");
    assert_eq!((&found["Type"], &found["RW"]), (&json!("bind"), &json!(false)), "{found:#}");
    assert!(project.differences().is_empty());
    replaces(&project, "volumes: [{source: ./made/here, target: /data, create: true}]\n", "volumes");
    assert_eq!(mount(&project, "/data")["RW"], json!(true));
}

#[test]
fn options_of_mounts_arrive() {
    let fields = "volumes: ['./a:/a:z', './b:/b:ro,Z,private', {source: ./c, target: /c, propagation: private}, \
                  {source: ./d, target: /d, recursive: disabled}, 'data:/etc:nocopy', \
                  {type: tmpfs, target: /t, size: 1m, mode: '0750'}]\n";
    let project = with("mount-options", fields);
    ["a", "b", "c", "d"].iter().for_each(|name| fs::create_dir(project.specs().join(name)).unwrap());
    project.up();
    assert!(project.differences().is_empty());
    let host = project.inspect("web")["HostConfig"].clone();
    let directory = project.specs().canonicalize().unwrap();
    let path = |name: &str| directory.join(name).display().to_string();
    if !engine::is_podman() {
        assert_eq!(host["Binds"], json!([format!("{}:/a:z", path("a")), format!("{}:/b:ro,Z,private", path("b"))]));
        let mounts = host["Mounts"].as_array().unwrap();
        let at = |target: &str| mounts.iter().find(|mount| mount["Target"] == target).unwrap();
        assert_eq!(at("/c")["BindOptions"]["Propagation"], "private");
        assert_eq!(at("/d")["BindOptions"]["NonRecursive"], true);
        assert_eq!(at("/etc")["VolumeOptions"]["NoCopy"], true);
        assert_eq!(host["Tmpfs"], json!({"/t": "size=1048576,mode=750"}));
    }
    // Not filled from the image.
    let passwd = "test -e /etc/passwd && echo filled || echo empty";
    assert_eq!(project.exec("web", &["sh", "-c", passwd]).trim(), "empty");
    assert_eq!(project.exec("web", &["stat", "-c", "%a", "/t"]).trim(), "750");
    replaces(&project, &fields.replace("data:/etc:nocopy", "data:/data"), "volumes");
}

#[test]
fn option_that_needs_a_newer_engine_fails_before_anything_is_created() {
    let project = with("mount-old", "volumes: [{source: data, target: /data, subpath: x}]\n");
    let version = engine::request("GET", "/version", None)["ApiVersion"].as_str().unwrap_or_default().to_owned();
    let minor: u32 = version.split('.').nth(1).and_then(|minor| minor.parse().ok()).unwrap_or_default();
    if minor >= 45 {
        return;
    }
    let failed = project.run(&["up"]).exits(1);
    let expected = "web.yaml:1: `volumes: subpath` needs API 1.45 (Docker 26.0); the engine is";
    assert!(failed.stderr.contains(expected), "{}", failed.stderr);
    assert!(project.containers().is_empty());
    assert!(engine::volumes(&project.group).is_empty());
}
