//! Update settings: `order: start-first` refuses no connection, `min_ready` delays promotion, and `on_failure: keep` keeps
//! a failed candidate for inspection.

use std::time::Duration;

use rustix::process::Signal;

use crate::support::events::Events;
use crate::support::project::{Project, script, sleeper};
use crate::support::watcher::Watcher;
use crate::support::{WAIT_TIMEOUT, engine, wait_for};

const START_FIRST: &str = "ping: {tcp: 80}\nupdate: {order: start-first}";

/// Returns the spec of an HTTP server that starts to listen after a second and returns its version.
fn api(version: u32, more: &str) -> String {
    let serve = "mkdir -p /w; echo version=$$VERSION= > /w/index.html; sleep 1; exec httpd -f -p 80 -h /w";
    script("api", serve, &format!("env: {{VERSION: {version}}}\n{more}"))
}

/// Returns the spec of a client that resolves and requests `api` in a loop, with one line per response.
fn client() -> String {
    let text = r#"dns=$(awk '/^nameserver/ {print $2; exit}' /etc/resolv.conf)
    while :; do
        ip=$(nslookup api $dns 2>/dev/null | awk '/^Name/ {getline; print $2; exit}')
        if [ -z "$ip" ]; then echo unresolved; continue; fi
        response=$(printf 'GET / HTTP/1.0\r\n\r\n' | nc -w 10 $ip 80 2>&1 | tr -d '\r' | tail -n 1)
        echo "$response from $ip"
    done >> /tmp/responses"#;
    script("client", &text.replace('$', "$$"), "dependencies: [api]")
}

/// Returns the responses received by the client so far.
fn responses(project: &Project) -> Vec<String> {
    project.exec("client", &["cat", "/tmp/responses"]).lines().map(str::to_owned).collect()
}

/// Waits until the client has received a response of this version.
#[track_caller]
fn wait_for_version(project: &Project, version: u32) {
    let expected = format!("version={version}=");
    let received = || responses(project).iter().any(|response| response.starts_with(&expected));
    wait_for(&format!("a response with {expected}"), WAIT_TIMEOUT, || received().then_some(()));
}

/// Returns the client's failed requests.
fn failed_requests(project: &Project) -> Vec<String> {
    responses(project).into_iter().filter(|response| !response.starts_with("version=")).collect()
}

/// Writes the specs of `api` and the client.
#[track_caller]
fn write(project: &Project, version: u32, more: &str) {
    project.write("all.yaml", &(api(version, more) + &client()));
}

#[test]
fn start_first_update_refuses_no_connection() {
    let project = Project::new("first");
    write(&project, 1, START_FIRST);
    project.up();
    wait_for_version(&project, 1);
    let client = project.id("client");
    for version in 2..=5 {
        write(&project, version, START_FIRST);
        project.up().stdout_contains("1 replaced");
        wait_for_version(&project, version);
    }
    project.run(&["reload", "api"]).exits(0).stdout_contains("1 replaced");
    let before = responses(&project).len();
    wait_for("further responses", WAIT_TIMEOUT, || (responses(&project).len() > before + 5).then_some(()));
    let all = responses(&project).len();
    assert_eq!(failed_requests(&project), Vec::<String>::new(), "of {all} responses");
    project.assert_settled(&["api", "client"]);
    assert_eq!(project.id("client"), client);

    // Cross-check: without a ping, the client resolves the new container before it listens.
    write(&project, 6, "");
    project.up();
    write(&project, 7, "");
    project.up();
    assert!(!failed_requests(&project).is_empty(), "the client detects no failed request: {:?}", responses(&project));
}

#[test]
fn clients_do_not_reach_a_candidate_before_it_is_ready() {
    let project = Project::new("late");
    let ping = "ping: {tcp: 80, timeout: 3s}";
    write(&project, 1, ping);
    project.up();
    wait_for_version(&project, 1);
    // It never listens; the old container serves all the time.
    let broken = script("api", "sleep 1000", &format!("env: {{VERSION: 2}}\n{ping}"));
    project.write("all.yaml", &(broken + &client()));
    project.run(&["up"]).exits(1);
    let before = responses(&project).len();
    wait_for("further responses", WAIT_TIMEOUT, || (responses(&project).len() > before + 5).then_some(()));
    assert_eq!(failed_requests(&project), Vec::<String>::new());
    write(&project, 3, ping);
    let change = &project.diff()[0];
    assert_eq!((&change["action"], change.get("interrupts")), (&"replace".into(), None), "{change:#}");
    project.up().stdout_contains("1 replaced");
    wait_for_version(&project, 3);
    project.assert_settled(&["api", "client"]);

    // A volume that both would write to interrupts the service, and `diff` says so.
    write(&project, 3, &format!("{ping}\nvolumes: ['data:/data']"));
    project.up();
    write(&project, 4, &format!("{ping}\nvolumes: ['data:/data']"));
    assert_eq!(project.diff()[0]["interrupts"], "both containers would write to /data");
    project.run(&["diff"]).exits(1).stdout_contains("    interrupts the service: both containers would write to /data");
}

#[test]
fn run_killed_during_promotion_refuses_no_connection() {
    let project = Project::new("firstkill");
    write(&project, 1, START_FIRST);
    project.up();
    wait_for_version(&project, 1);
    let aliases = |service: &str| {
        let found = engine::try_get(&format!("/containers/{}/json", project.name(service)))?;
        Some(found["NetworkSettings"]["Networks"][&project.group]["Aliases"].to_string())
    };
    let is_resolvable = |service: &str| aliases(service).is_some_and(|aliases| aliases.contains("\"api\""));
    let points: [(&str, &dyn Fn() -> bool); 3] = [
        ("the candidate to be created", &|| aliases("api.new").is_some()),
        ("the candidate to be resolvable", &|| is_resolvable("api.new")),
        ("the old container not to be resolvable", &|| is_resolvable("api.new") && !is_resolvable("api")),
    ];
    for (version, (what, reached)) in (2..).zip(points) {
        write(&project, version, START_FIRST);
        let mut run = project.spawn(&["up"]);
        wait_for(what, WAIT_TIMEOUT, || (reached() || !run.is_running()).then_some(()));
        run.signal(Signal::KILL);
        run.wait_for_exit(WAIT_TIMEOUT);
        project.up();
        wait_for_version(&project, version);
        assert_eq!(failed_requests(&project), Vec::<String>::new(), "killed after waiting for {what}");
        project.assert_settled(&["api", "client"]);
    }
}

#[test]
fn watch_refuses_no_connection_with_ephemeral_host_port() {
    let project = Project::new("firstwatch");
    let more = format!("{START_FIRST}\nports: ['80']");
    write(&project, 1, &more);
    let mut watch = Watcher::start(&project);
    wait_for_version(&project, 1);
    for version in 2..=3 {
        write(&project, version, &more);
        wait_for_version(&project, version);
        watch.wait_until_settled(&project);
    }
    assert_eq!(failed_requests(&project), Vec::<String>::new(), "{:?}", watch.messages(0));
    let published = project.status("api")["ports"][0].as_str().unwrap().to_owned();
    let port = published.split("->").next().unwrap();
    wait_for(&format!("{published} to accept connections"), WAIT_TIMEOUT, || std::net::TcpStream::connect(port).ok());
    watch.interrupt().exits(130);
    project.assert_settled(&["api", "client"]);
}

#[test]
fn candidate_failing_min_ready_is_removed_or_kept() {
    let project = Project::new("minready");
    let spec = |seconds: u32, on_failure: &str| {
        let serve = format!("echo serving for {seconds}; timeout {seconds} httpd -f -p 80 -h /etc; sleep infinity");
        script("api", &serve, &format!("ping: {{tcp: 80}}\nupdate: {{min_ready: 3s, on_failure: {on_failure}}}"))
    };
    project.write("api.yaml", &spec(1000, "rollback"));
    project.up();
    let old = project.id("api");
    project.write("api.yaml", &spec(1, "rollback"));
    let run = project
        .run(&["up"])
        .exits(1)
        .stderr_contains("failed (NotReady)")
        .stderr_contains("did not stay ready for min_ready (3 s)");
    run.stderr_contains("| serving for 1").stderr_contains(engine::not_listening());
    assert_eq!((project.id("api"), project.names()), (old.clone(), vec!["api".to_owned()]));

    project.write("api.yaml", &spec(1, "keep"));
    project.run(&["up"]).exits(1).stderr_contains("did not stay ready for min_ready (3 s)");
    assert_eq!((project.id("api"), project.names()), (old.clone(), vec!["api".to_owned(), "api.new".to_owned()]));
    let state = |service: &str| project.inspect(service)["State"]["Status"].clone();
    assert_eq!((state("api"), state("api.new")), ("running".into(), "exited".into()));
    assert_eq!(project.status("api")["ready"], true);

    project.write("api.yaml", &spec(1001, "keep"));
    let run = project.up().stdout_contains("1 replaced");
    assert!(run.took > Duration::from_secs(3), "{run}");
    project.assert_settled(&["api"]);
    assert_ne!(project.id("api"), old);
}

#[test]
fn pre_stop_runs_after_new_start_and_before_old_exit() {
    let project = Project::new("firsthooks");
    let hook = "pre_stop: {exec: [sh, -c, 'nslookup api > /tmp/found']}";
    let spec =
        |version: u32| sleeper("api", &format!("env: {{VERSION: {version}}}\nupdate: {{order: start-first}}\n{hook}"));
    project.write("api.yaml", &spec(1));
    project.up();
    let events = Events::subscribe(&project.group);
    project.write("api.yaml", &spec(2));
    project.up();
    let (old, new) = (project.name("api"), project.name("api.new"));
    let at = |action: &str, name: &str| events.position(action, name);
    let pre_stop = wait_for("the pre_stop hook", WAIT_TIMEOUT, || {
        events.seen().iter().position(|event| event.action.starts_with("exec_create") && event.name == old)
    });
    assert!(at("start", &new) < pre_stop && pre_stop < at("die", &old), "{:#?}", events.seen());
}
