//! Options of mounts, published ports, variables, health checks, configs and secrets, as the engine shows them.

use std::fs;

use serde_json::{Value, json};

use crate::support::engine::{self, Capability};
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
    if engine::lacks(Capability::Files) {
        return;
    }
    let project = with("mount-create", "volumes: [{source: ./made/here, target: /data}]\n");
    if !engine::is_podman() {
        // Podman creates it always.
        let failed = project.run(&["up"]).exits(1);
        assert!(failed.stderr.contains("made/here"), "{}", failed.stderr);
        assert!(!project.specs().join("made").exists());
    }

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
    let failed = failed.stderr_contains("`volumes.subpath` (specs/web.yaml:");
    failed.stderr_contains(") needs API 1.45 (Docker 26.0); the engine is");
    assert!(project.containers().is_empty());
    assert!(engine::volumes(&project.group).is_empty());
}

#[test]
fn ranges_and_all_addresses_are_published() {
    let fields = "ports: ['38200-38201:80-81', '38210-38215:90', '3000-3001', '*:38220:85']\n";
    let project = with("port-ranges", fields);
    if engine::is_podman() {
        let run = project.run(&["up"]).exits(1);
        run.stderr_contains("`ports` (specs/web.yaml:5:8) needs Docker; the engine is Podman ");
        assert!(project.containers().is_empty());
        return;
    }
    project.up();
    assert!(project.differences().is_empty());
    let container = project.inspect("web");
    let bindings = &container["HostConfig"]["PortBindings"];
    let of = |port: &str| bindings[port][0].clone();
    assert_eq!(of("80/tcp"), json!({"HostIp": "127.0.0.1", "HostPort": "38200"}));
    assert_eq!(of("81/tcp"), json!({"HostIp": "127.0.0.1", "HostPort": "38201"}));
    let published = |port: &str| -> Vec<(String, u16)> {
        let found = container["NetworkSettings"]["Ports"][port].as_array().cloned().unwrap_or_default();
        let one = |port: &Value| (engine::text(&port["HostIp"]), engine::text(&port["HostPort"]).parse().unwrap());
        found.iter().map(one).collect()
    };
    let [(_, of_range)] = &published("90/tcp")[..] else { panic!("{container:#}") };
    assert!((38210..=38215).contains(of_range));
    assert_eq!((published("3000/tcp").len(), published("3001/tcp").len()), (1, 1));
    assert!(published("85/tcp").iter().any(|(address, port)| address != "127.0.0.1" && *port == 38220));
    let shown = project.run(&["status"]).stdout;
    assert!(shown.contains("0.0.0.0:38220->85/tcp"), "{shown}");

    replaces(&project, "ports: ['38200-38201:80-81', '*:38220:85']\n", "ports");
    // The old container has to release its ports to another service of the group.
    project.write("other.yaml", &format!("name: other\n{SLEEP}ports: ['127.0.0.1:38220:1']\n"));
    project.run(&["validate"]).exits(2).stderr_contains("both publish host port 38220/tcp");
}

#[test]
fn null_removes_a_variable_of_the_image() {
    let project = Project::new("env-null");
    fs::create_dir(project.specs().join("app")).unwrap();
    fs::write(project.specs().join("app/Dockerfile"), "FROM drillmaster/busybox:1\nENV EXTRA=1\n").unwrap();
    let set = |env: &str| {
        let command = "command: [sleep, '3600']\nstop_signal: KILL\n";
        project.write("web.yaml", &format!("name: web\nbuild: ./app\n{command}env: {env}\n"));
    };
    let extra = || project.exec("web", &["sh", "-c", "echo ${EXTRA-unset}"]).trim().to_owned();
    set("{EXTRA: null, A: '1'}");
    let run = project.up();
    if engine::is_podman() {
        run.stderr_contains(
            "warning: Podman does not remove variables: EXTRA of web keeps its value if its image has one",
        );
        assert_eq!((extra(), project.differences()), ("1".into(), Vec::new()));
        return;
    }
    assert!(project.differences().is_empty());
    assert_eq!(extra(), "unset");
    let replaces = |env: &str, path: &str| {
        let id = project.id("web");
        set(env);
        assert_eq!(project.differences(), [format!("web replace {path}")]);
        project.up();
        assert!(project.id("web") != id && project.differences().is_empty());
    };
    replaces("{A: '1'}", "env.EXTRA");
    assert_eq!(extra(), "1");
    replaces("{A: '1', EXTRA: null}", "env.EXTRA");
    assert_eq!(extra(), "unset");
    replaces("{A: '1', EXTRA: null, UNKNOWN: null}", "env.UNKNOWN");
    replaces("{A: null, EXTRA: null, UNKNOWN: null}", "env.A");
    let rendered = project.run(&["render"]).exits(0).stdout;
    assert!(rendered.contains("EXTRA: null") && !rendered.contains("hidden"), "{rendered}");
}

#[test]
fn healthcheck_without_a_test_tunes_that_of_the_image() {
    let project = Project::new("health-tuned");
    fs::create_dir(project.specs().join("app")).unwrap();
    let dockerfile = "FROM drillmaster/busybox:1\nHEALTHCHECK --interval=1h --retries=7 CMD test -e /etc/passwd\n";
    fs::write(project.specs().join("app/Dockerfile"), dockerfile).unwrap();
    let spec = |check: &str| format!("name: web\nbuild: ./app\ncommand: [sleep, '3600']\nstop_signal: KILL\n{check}");
    project.write("web.yaml", &spec("healthcheck: {interval: 1s}\n"));
    project.up();
    let container = project.inspect("web");
    let found = &container["Config"]["Healthcheck"];
    assert_eq!(found["Test"], json!(["CMD-SHELL", "test -e /etc/passwd"]), "{found:#}");
    assert_eq!((&found["Interval"], &found["Retries"]), (&json!(1_000_000_000), &json!(7)), "{found:#}");
    if !engine::lacks(Capability::HealthChecks) {
        assert_eq!(container["State"]["Health"]["Status"], "healthy", "`up` waited for it");
    }
    assert!(project.differences().is_empty());
    let id = project.id("web");
    project.write("web.yaml", &spec("healthcheck: {interval: 2s}\n"));
    assert_eq!(project.differences(), ["web replace healthcheck.interval"]);
    project.up();
    assert!(project.id("web") != id);
    project.write("web.yaml", &spec("healthcheck: {}\n"));
    project.run(&["validate"]).exits(2).stderr_contains("the `healthcheck` is empty");
    project.write("web.yaml", &format!("name: web\n{SLEEP}healthcheck: {{interval: 1s}}\n"));
    project.up().stderr_contains("has no `test`, and its image has no health check");
}

/// A project whose service prints its configs and secrets again and again.
fn with_files(purpose: &str, definitions: &str, fields: &str) -> Project {
    let project = with(purpose, fields);
    define(&project, definitions);
    project
}

fn define(project: &Project, definitions: &str) {
    project.write("group.yaml", &format!("kind: Group\nname: {}\n{definitions}", project.group));
}

const DEFINITIONS: &str = "configs: {motd: {content: \"hello ${NAME:-world}\\n\"}, conf: {file: ./app.conf}}\n\
                           secrets: {token: {environment: TOKEN}, key: {file: ./app.key}}\n";
const FILES: &str = "configs: [motd, {source: conf, target: /etc/app/app.conf}]\n\
                     secrets: [{source: token, target: api/token, uid: 1000, gid: '5', mode: '0440'}, key]\n";

#[test]
fn configs_and_secrets_arrive_and_their_changes_too() {
    let project = with_files("files", DEFINITIONS, FILES);
    fs::write(project.specs().join("app.conf"), "one").unwrap();
    fs::write(project.specs().join("app.key"), "key").unwrap();
    fs::write(project.specs().join(".env"), "TOKEN=hunter2-and-more\n").unwrap();
    project.up().output_lacks("hunter2");
    assert!(project.differences().is_empty());
    let shown = |path: &str| project.exec("web", &["cat", path]);
    assert_eq!(shown("/motd"), "hello world\n");
    assert_eq!(shown("/run/secrets/api/token"), "hunter2-and-more");
    assert_eq!((shown("/etc/app/app.conf"), shown("/run/secrets/key")), ("one".into(), "key".into()));
    let permissions = |path: &str| project.exec("web", &["stat", "-c", "%a %u:%g", path]).trim().to_owned();
    assert_eq!(permissions("/motd"), "444 0:0");
    assert_eq!(permissions("/run/secrets/api/token"), "440 1000:5");
    assert_eq!(
        (&mount(&project, "/run/secrets/key")["RW"], &mount(&project, "/etc/app/app.conf")["RW"]),
        (&json!(false), &json!(false))
    );
    // Nothing but the container has the content.
    let container = project.inspect("web");
    assert!(!container.to_string().contains("hunter2") && !container.to_string().contains("hello"), "{container:#}");
    let rendered = project.run(&["render"]).exits(0).output_lacks("hunter2").output_lacks("hello").stdout;
    assert!(rendered.contains("environment: TOKEN") && rendered.contains("(hidden)"), "{rendered}");
    project.run(&["render", "--show-values"]).exits(0).stdout_contains("hello world");

    // It is in the container's layer: a restart keeps it.
    project.run(&["stop"]).exits(0);
    project.run(&["start"]).exits(0);
    assert_eq!(shown("/run/secrets/api/token"), "hunter2-and-more");

    let id = project.id("web");
    fs::write(project.specs().join(".env"), "TOKEN=hunter3-and-more\n").unwrap();
    assert_eq!(project.differences(), ["web replace secrets./run/secrets/api/token"]);
    let diff = project.run(&["diff"]).exits(1).output_lacks("hunter").output_lacks("sha256:").stdout;
    assert!(diff.contains("secrets./run/secrets/api/token"), "{diff}");
    project.up().output_lacks("hunter");
    assert!(project.id("web") != id);
    assert_eq!(shown("/run/secrets/api/token"), "hunter3-and-more");

    let id = project.id("web");
    define(&project, &DEFINITIONS.replace("hello", "goodbye"));
    assert_eq!(project.differences(), ["web replace configs./motd"]);
    project.up();
    assert!(project.id("web") != id);
    assert_eq!(shown("/motd"), "goodbye world\n");
    // A file is mounted: the container is restarted.
    let id = project.id("web");
    fs::write(project.specs().join("app.conf"), "two").unwrap();
    assert_eq!(project.differences(), ["web restart volumes./etc/app/app.conf"]);
    project.up();
    assert_eq!((project.id("web"), shown("/etc/app/app.conf")), (id, "two".into()));
    project.assert_settled(&["web"]);
}

#[test]
fn invalid_configs_and_secrets_have_a_place() {
    let project =
        with_files("files-invalid", "secrets: {token: {environment: NOT_SET_ANYWHERE}}\n", "secrets: [token]\n");
    project.run(&["validate"]).exits(2).stderr_contains("the variable `NOT_SET_ANYWHERE` is not set");
    project.run(&["validate"]).exits(2).stderr_contains("group.yaml:3:32");
    define(&project, "configs: {motd: {content: hello}}\n");
    project.run(&["validate"]).exits(2).stderr_contains("`web` uses the secret `token`, which is not defined");
    let invalid = |fields: &str, message: &str| {
        set(&project, fields);
        project.run(&["validate"]).exits(2).stderr_contains(message).stderr_contains("web.yaml:");
    };
    invalid("configs: [mtd]\n", "did you mean `motd`?");
    invalid("configs: [motd]\nread_only: true\n", "whose root file system is read-only");
    invalid("configs: [{source: motd, target: /data/motd}]\nvolumes: ['data:/data']\n", "below the mount at `/data`");
    define(&project, "secrets: {token: {content: hello}}\n");
    project.run(&["validate"]).exits(2).stderr_contains("the secret `token` is written down");
    define(&project, "secrets: {token: {external: true}}\n");
    project.run(&["validate"]).exits(2).stderr_contains("are those of Docker Swarm");
}

#[test]
fn job_gets_its_secret_before_it_runs() {
    let project = Project::new("files-job");
    define(&project, "configs: {sql: {content: \"select 1;\\n\"}}\n");
    project.write(
        "job.yaml",
        "kind: Job\nname: seed\nimage: drillmaster/busybox:1\ncommand: [cat, /tmp/seed.sql]\n\
         configs: [{source: sql, target: /tmp/seed.sql}]\n",
    );
    project.run(&["run", "seed"]).exits(0).stdout_contains("select 1;");
    assert!(project.differences().is_empty());
}
