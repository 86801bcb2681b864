//! Replacement: if the candidate fails, drillmaster rolls back to the current container. Volumes are kept.

use std::io::{Read, Write};
use std::net::TcpStream;
use std::time::Duration;

use crate::support::engine;
use crate::support::events::Events;
use crate::support::process::Run;
use crate::support::project::{Project, free_port, script, sleeper};

/// Starts `good` and another service, then applies `bad`. Asserts that `up` fails, that the old container keeps its id and
/// name, and that the candidate is removed.
#[track_caller]
fn assert_rolls_back(project: &Project, good: &str, bad: &str) -> Run {
    let other = sleeper("other", "");
    project.write("all.yaml", &format!("{good}{other}"));
    project.up();
    let (api, other_id) = (project.id("api"), project.id("other"));
    project.write("all.yaml", &format!("{bad}{other}"));
    let run = project.run(&["up"]).exits(1);
    assert_eq!(project.names(), ["api", "other"], "no .new is left: {run}");
    assert_eq!(project.id("api"), api, "the old container is current: {run}");
    assert_eq!(project.id("other"), other_id);
    let containers = project.containers();
    assert!(containers.iter().all(|container| container.state == "running"), "{containers:#?}");
    // The container still differs from the spec.
    assert!(project.differences()[0].starts_with("api replace"), "{:#?}", project.differences());
    let status = project.status("api");
    assert_eq!(status["phase"], "Ready", "{status:#}");
    let message = status["message"].as_str().unwrap();
    assert!(message.starts_with("replacement failed, the previous container serves: "), "{status:#}");
    assert!(run.stdout.contains("1 failed: api (the previous container serves)"), "{run}");
    run
}

#[test]
fn ping_timeout_rolls_back() {
    let project = Project::new("badping");
    let bad = script("api", "echo no listener; sleep infinity", "ping: {tcp: 80, timeout: 1s}");
    let run = assert_rolls_back(&project, &sleeper("api", ""), &bad)
        .stderr_contains("failed (NotReady)")
        .stderr_contains("| no listener");
    run.stderr_contains("timed out after 1 s waiting for readiness probe (tcp 80)")
        .stderr_contains(engine::not_listening());
    // Reverting the spec is no change.
    let id = project.id("api");
    project.write("all.yaml", &(sleeper("api", "") + &sleeper("other", "")));
    project.up().stdout_contains("nothing to do");
    assert_eq!(project.id("api"), id);
}

#[test]
fn early_exit_rolls_back() {
    let project = Project::new("badexit");
    let bad = script("api", "echo no configuration; echo giving up >&2; exit 3", "ping: {tcp: 80, timeout: 60s}");
    let run = assert_rolls_back(&project, &sleeper("api", ""), &bad)
        .stderr_contains("failed (Exited)")
        .stderr_contains("exited with code 3");
    let run = run.stderr_contains("| no configuration").stderr_contains("| giving up");
    assert!(run.took < Duration::from_secs(20), "fails before the ping timeout: {run}");
}

#[test]
fn early_exit_without_a_ping_rolls_back() {
    let project = Project::new("badexit2");
    let bad = script("api", "echo no configuration; sleep 0.2; exit 3", "");
    assert_rolls_back(&project, &sleeper("api", ""), &bad)
        .stderr_contains("failed (Exited)")
        .stderr_contains("exited with code 3")
        .stderr_contains("| no configuration");
}

#[test]
fn missing_program_rolls_back() {
    let project = Project::new("badprog");
    let bad = "---\nname: api\nimage: drillmaster/busybox:1\ncommand: [no-such-program]\n";
    assert_rolls_back(&project, &sleeper("api", ""), bad)
        .stderr_contains("failed (StartFailed)")
        .stderr_contains("no-such-program");
}

#[test]
fn replacement_with_a_taken_port_rolls_back() {
    let project = Project::new("badport");
    let (good, bad) = (free_port(), free_port());
    let _listener = std::net::TcpListener::bind(("127.0.0.1", bad)).unwrap();
    let spec = |port: u16| script("api", "httpd -f -p 80 -h /etc", &format!("ports: ['{port}:80']"));
    assert_rolls_back(&project, &spec(good), &spec(bad))
        .stderr_contains("failed (StartFailed)")
        .stderr_contains(&bad.to_string());
    assert!(get(good, "/passwd").contains("root"), "still published on the old port");
}

#[test]
fn port_conflict_with_another_container_rolls_back() {
    let project = Project::new("heldport");
    let taken = free_port();
    let holder = Project::new("holder");
    holder.write("all.yaml", &sleeper("holder", &format!("ports: ['{taken}:80']")));
    holder.up();
    let bad = sleeper("api", &format!("ports: ['{taken}:80']"));
    let run = assert_rolls_back(&project, &sleeper("api", ""), &bad).stderr_contains("failed (Conflict)");
    run.stderr_contains(&format!("{taken}")).stderr_contains(&holder.name("holder"));
    holder.assert_settled(&["holder"]);
}

#[test]
fn missing_image_rolls_back() {
    let project = Project::new("badimage");
    let bad = sleeper("api", "").replace("drillmaster/busybox:1", "drillmaster/there-is-no-such-image:1");
    assert_rolls_back(&project, &sleeper("api", ""), &bad)
        .stderr_contains("failed (ImageMissing)")
        .stderr_contains("there-is-no-such-image:1");
}

#[test]
fn rollback_serves_on_the_same_port() {
    let project = Project::new("sameport");
    let port = free_port();
    let spec = |path: &str, more: &str| {
        let more = format!("ports: ['{port}:80']\nvolumes: ['data:/data', '/cache']\n{more}");
        script("api", &format!("httpd -f -p 80 -h {path}"), &more)
    };
    let bad = spec("/tmp", "ping: {http: {port: 80, path: /passwd}, timeout: 1s}");
    let run = assert_rolls_back(&project, &spec("/etc", "ping: {tcp: 80}"), &bad);
    run.stderr_contains("GET /passwd returned status 404");
    assert!(get(port, "/passwd").contains("root"), "the old container serves again");
}

#[test]
fn failed_first_container_is_kept_for_inspection() {
    let project = Project::new("firstbad");
    let bad = script("api", "echo hello; exit 7", "");
    project.write("all.yaml", &(bad + &sleeper("dependent", "dependencies: [api]") + &sleeper("other", "")));
    let run = project.run(&["up"]).exits(1);
    let run = run
        .stderr_contains("api: failed (Exited): exited with code 7 before becoming ready")
        .stderr_contains("| hello");
    let run = run.stderr_contains("dependent: pending: waiting for api, which has failed");
    run.stdout_contains("1 service ready, 1 failed: api, 1 waiting: dependent");
    let status = project.status("api");
    assert_eq!((&status["phase"], &status["ready"]), (&"Failed".into(), &false.into()), "{status:#}");
    assert_eq!(status["message"], "exited with code 7");
    assert_eq!(project.names(), ["api.new", "other"]);
    // A fixed spec succeeds in the next run.
    project.write(
        "all.yaml",
        &(sleeper("api", "") + &sleeper("dependent", "dependencies: [api]") + &sleeper("other", "")),
    );
    project.up();
    project.assert_settled(&["api", "dependent", "other"]);
}

#[test]
fn without_conflict_old_container_serves_until_new_is_ready() {
    let project = Project::new("overlap");
    let spec = |value: &str| {
        let more = format!("env: {{A: {value}}}\nping: {{exec: [test, -f, /tmp/ready]}}");
        script("api", "sleep 0.5; touch /tmp/ready; sleep infinity", &more)
    };
    project.write("api.yaml", &spec("one"));
    project.up();
    project.write("api.yaml", &spec("two"));
    let events = Events::subscribe(&project.group);
    project.up();
    let name = project.name("api");
    let seen = events.seen();
    events.assert_order(("start", &format!("{name}.new")), ("die", &name));
    events.assert_order(("exec_die", &format!("{name}.new")), ("die", &name));
    events.assert_order(("destroy", &name), ("rename", &name));
    assert!(seen.len() < 200, "no busy loop: {}", seen.len());
    project.assert_settled(&["api"]);
}

#[test]
fn replacement_keeps_volumes_and_their_data() {
    let project = Project::new("volumes");
    let spec = |value: &str| {
        let more = format!("env: {{A: {value}}}\nvolumes: ['named:/named', '/nameless']");
        // The image declares a volume at /data.
        sleeper("api", &more).replace("drillmaster/busybox:1", "drillmaster/volume:1")
    };
    project.write("api.yaml", &spec("one"));
    project.up();
    for path in ["/named", "/nameless", "/data"] {
        project.exec("api", &["sh", "-c", &format!("echo kept > {path}/file")]);
    }
    let id = project.id("api");
    let before = mounts(&project);
    project.write("api.yaml", &spec("two"));
    project.up();
    assert_ne!(project.id("api"), id);
    for path in ["/named", "/nameless", "/data"] {
        assert_eq!(project.exec("api", &["cat", &format!("{path}/file")]), "kept\n");
    }
    assert_eq!(mounts(&project), before, "the same volumes");
    assert!(engine::volumes(&project.group).contains(&project.name("named")));
    project.assert_settled(&["api"]);
    project.run(&["down", "--volumes"]).exits(0);
    for (_, volume) in before {
        assert!(engine::try_get(&format!("/volumes/{volume}")).is_none(), "{volume} was not removed");
    }
}

/// Returns the mount points and volume names of `api`, sorted.
fn mounts(project: &Project) -> Vec<(String, String)> {
    let inspected = project.inspect("api");
    let mut mounts: Vec<(String, String)> = inspected["Mounts"]
        .as_array()
        .unwrap()
        .iter()
        .map(|mount| (engine::text(&mount["Destination"]), engine::text(&mount["Name"])))
        .collect();
    mounts.sort();
    mounts
}

/// Sends a GET request to a local port and returns the response.
pub fn get(port: u16, path: &str) -> String {
    let mut stream = TcpStream::connect(("127.0.0.1", port)).unwrap();
    stream.set_read_timeout(Some(Duration::from_secs(10))).unwrap();
    write!(stream, "GET {path} HTTP/1.0\r\n\r\n").unwrap();
    let mut response = Vec::new();
    let _ = stream.read_to_end(&mut response);
    String::from_utf8_lossy(&response).into_owned()
}
