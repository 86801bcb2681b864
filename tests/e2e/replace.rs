//! A replacement that does not get ready is undone: the container that served before serves on. Volumes stay.

use std::io::{Read, Write};
use std::net::TcpStream;
use std::time::Duration;

use crate::support::engine;
use crate::support::events::Events;
use crate::support::process::Run;
use crate::support::project::{Project, port, script, sleeper};

/// Brings `good` up beside another service, then tries `bad`, which has to fail: the old container runs under its old
/// id and name, and nothing of the replacement is left.
#[track_caller]
fn undone(project: &Project, good: &str, bad: &str) -> Run {
    let other = sleeper("other", "");
    project.write("all.yaml", &format!("{good}{other}"));
    project.up();
    let (api, other_id) = (project.id("api"), project.id("other"));
    project.write("all.yaml", &format!("{bad}{other}"));
    let run = project.run(&["up"]).exits(1);
    assert_eq!(project.names(), ["api", "other"], "no .new is left: {run}");
    assert_eq!(project.id("api"), api, "the old one serves: {run}");
    assert_eq!(project.id("other"), other_id);
    let containers = project.containers();
    assert!(containers.iter().all(|container| container.state == "running"), "{containers:#?}");
    // It is still not what the spec asks for.
    assert!(project.differences()[0].starts_with("api replace"), "{:#?}", project.differences());
    let status = project.status("api");
    assert_eq!((&status["phase"], &status["reason"]), (&"Ready".into(), &"Outdated".into()), "{status:#}");
    assert!(run.stdout.contains("1 failed"), "{run}");
    run
}

#[test]
fn whose_ping_never_answers() {
    let project = Project::new("badping");
    let bad = script("api", "echo I listen nowhere; sleep infinity", "ping: {tcp: 80, timeout: 1s}");
    let run = undone(&project, &sleeper("api", ""), &bad).says("failed (NotReady)").says("| I listen nowhere");
    run.says("timed out after 1 s waiting for readiness probe (tcp 80)").says("connection refused");
    // Going back to what runs is no change at all.
    let id = project.id("api");
    project.write("all.yaml", &(sleeper("api", "") + &sleeper("other", "")));
    project.up().prints("nothing to do");
    assert_eq!(project.id("api"), id);
}

#[test]
fn which_ends_at_once() {
    let project = Project::new("badexit");
    let bad = script("api", "echo no configuration; echo giving up >&2; exit 3", "ping: {tcp: 80, timeout: 60s}");
    let run = undone(&project, &sleeper("api", ""), &bad).says("failed (Exited)").says("exited with code 3");
    let run = run.says("| no configuration").says("| giving up");
    assert!(run.took < Duration::from_secs(20), "it does not wait for the ping's deadline: {run}");
}

#[test]
fn which_ends_at_once_without_a_ping() {
    let project = Project::new("badexit2");
    let bad = script("api", "echo no configuration; sleep 0.2; exit 3", "");
    undone(&project, &sleeper("api", ""), &bad)
        .says("failed (Exited)")
        .says("exited with code 3")
        .says("| no configuration");
}

#[test]
fn whose_program_does_not_exist() {
    let project = Project::new("badprog");
    let bad = "---\nname: api\nimage: drillmaster/busybox:1\ncommand: [no-such-program]\n";
    undone(&project, &sleeper("api", ""), bad).says("failed (StartFailed)").says("no-such-program");
}

#[test]
fn replacement_with_a_taken_port_rolls_back() {
    let project = Project::new("badport");
    let (good, bad) = (port(), port());
    let _somebody = std::net::TcpListener::bind(("127.0.0.1", bad)).unwrap();
    let spec = |port: u16| script("api", "httpd -f -p 80 -h /etc", &format!("ports: ['{port}:80']"));
    undone(&project, &spec(good), &spec(bad)).says("failed (StartFailed)").says(&bad.to_string());
    assert!(get(good, "/passwd").contains("root"), "it serves on its old port");
}

#[test]
fn whose_new_port_is_taken_by_another_container() {
    let project = Project::new("heldport");
    let taken = port();
    let holder = Project::new("holder");
    holder.write("all.yaml", &sleeper("holder", &format!("ports: ['{taken}:80']")));
    holder.up();
    let bad = sleeper("api", &format!("ports: ['{taken}:80']"));
    let run = undone(&project, &sleeper("api", ""), &bad).says("failed (Conflict)");
    run.says(&format!("{taken}")).says(&holder.name("holder"));
    holder.is_settled(&["holder"]);
}

#[test]
fn whose_image_is_missing() {
    let project = Project::new("badimage");
    let bad = sleeper("api", "").replace("drillmaster/busybox:1", "drillmaster/there-is-no-such-image:1");
    undone(&project, &sleeper("api", ""), &bad).says("failed (ImageMissing)").says("there-is-no-such-image:1");
}

#[test]
fn which_keeps_its_port_and_serves_on_it_again() {
    let project = Project::new("sameport");
    let port = port();
    let spec = |path: &str, more: &str| {
        let more = format!("ports: ['{port}:80']\nvolumes: ['data:/data', '/cache']\n{more}");
        script("api", &format!("httpd -f -p 80 -h {path}"), &more)
    };
    let bad = spec("/tmp", "ping: {http: {port: 80, path: /passwd}, timeout: 1s}");
    let run = undone(&project, &spec("/etc", "ping: {tcp: 80}"), &bad);
    run.says("GET /passwd returned status 404");
    assert!(get(port, "/passwd").contains("root"), "it serves again");
}

#[test]
fn a_service_without_a_predecessor_that_fails_can_be_looked_at() {
    let project = Project::new("firstbad");
    let bad = script("api", "echo hello; exit 7", "");
    project.write("all.yaml", &(bad + &sleeper("dependent", "dependencies: [api]") + &sleeper("other", "")));
    let run = project.run(&["up"]).exits(1);
    let run = run.says("api: failed (Exited): exited with code 7 before becoming ready").says("| hello");
    let run = run.says("dependent: pending: waiting for api, which has failed");
    run.prints("1 service ready, 1 failed: api, 1 waiting: dependent");
    let status = project.status("api");
    assert_eq!((&status["phase"], &status["ready"]), (&"Failed".into(), &false.into()), "{status:#}");
    assert_eq!(status["message"], "exited with code 7");
    assert_eq!(project.names(), ["api.new", "other"]);
    // The next run tries anew, and with another spec it goes well.
    project.write(
        "all.yaml",
        &(sleeper("api", "") + &sleeper("dependent", "dependencies: [api]") + &sleeper("other", "")),
    );
    project.up();
    project.is_settled(&["api", "dependent", "other"]);
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
    let events = Events::of(&project.group);
    project.up();
    let name = project.name("api");
    let seen = events.seen();
    events.in_order(("start", &format!("{name}.new")), ("die", &name));
    events.in_order(("exec_die", &format!("{name}.new")), ("die", &name));
    events.in_order(("destroy", &name), ("rename", &name));
    assert!(seen.len() < 200, "it does not busy itself: {}", seen.len());
    project.is_settled(&["api"]);
}

#[test]
fn volumes_survive_a_replacement_with_all_that_is_in_them() {
    let project = Project::new("volumes");
    let spec = |value: &str| {
        let more = format!("env: {{A: {value}}}\nvolumes: ['named:/named', '/nameless']");
        // The image has a volume at /data.
        sleeper("api", &more).replace("drillmaster/busybox:1", "drillmaster/volume:1")
    };
    project.write("api.yaml", &spec("one"));
    project.up();
    for path in ["/named", "/nameless", "/data"] {
        project.exec("api", &["sh", "-c", &format!("echo kept > {path}/file")]);
    }
    let id = project.id("api");
    let nameless = mounts(&project);
    project.write("api.yaml", &spec("two"));
    project.up();
    assert_ne!(project.id("api"), id);
    for path in ["/named", "/nameless", "/data"] {
        assert_eq!(project.exec("api", &["cat", &format!("{path}/file")]), "kept\n");
    }
    assert_eq!(mounts(&project), nameless, "no volume was left behind");
    assert!(engine::volumes(&project.group).contains(&project.name("named")));
    project.is_settled(&["api"]);
    project.run(&["down", "--volumes"]).exits(0);
    for (_, volume) in nameless {
        assert!(engine::look(&format!("/volumes/{volume}")).is_none(), "{volume} was left behind");
    }
}

/// The volumes of `api`, and where they are.
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

/// The answer to a GET on a port of this machine.
pub fn get(port: u16, path: &str) -> String {
    let mut stream = TcpStream::connect(("127.0.0.1", port)).unwrap();
    stream.set_read_timeout(Some(Duration::from_secs(10))).unwrap();
    write!(stream, "GET {path} HTTP/1.0\r\n\r\n").unwrap();
    let mut answer = Vec::new();
    let _ = stream.read_to_end(&mut answer);
    String::from_utf8_lossy(&answer).into_owned()
}
