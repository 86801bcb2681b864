//! How a service is replaced: with the new one first nobody is refused, a new one has to prove itself, and one that has
//! failed may be kept to be looked at.

use std::time::Duration;

use rustix::process::Signal;

use crate::support::events::Events;
use crate::support::project::{Project, script, sleeper};
use crate::support::watcher::Watcher;
use crate::support::{SOON, engine, wait_for};

const START_FIRST: &str = "ping: {tcp: 80}\nupdate: {order: start-first}";

/// A service that takes its time to listen, and then tells its version.
fn api(version: u32, more: &str) -> String {
    let serve = "mkdir -p /w; echo version=$$VERSION= > /w/index.html; sleep 1; exec httpd -f -p 80 -h /w";
    script("api", serve, &format!("env: {{VERSION: {version}}}\n{more}"))
}

/// Asks `api` without end, each time by its name: what was answered, a line each.
fn client() -> String {
    let ask = r#"while :; do
        ip=$(nslookup api 127.0.0.11 2>/dev/null | awk '/^Name/ {getline; print $2; exit}')
        if [ -z "$ip" ]; then echo unresolved; continue; fi
        answer=$(printf 'GET / HTTP/1.0\r\n\r\n' | nc -w 10 $ip 80 2>&1 | tr -d '\r' | tail -n 1)
        echo "$answer from $ip"
    done >> /tmp/answers"#;
    script("client", &ask.replace('$', "$$"), "dependencies: [api]")
}

/// What the client was answered so far.
fn answers(project: &Project) -> Vec<String> {
    project.exec("client", &["cat", "/tmp/answers"]).lines().map(str::to_owned).collect()
}

/// Waits until the client has met this version, so that it sees what comes next.
#[track_caller]
fn meets(project: &Project, version: u32) {
    let wanted = format!("version={version}=");
    let met = || answers(project).iter().any(|answer| answer.starts_with(&wanted));
    wait_for(&format!("the client to meet {wanted}"), SOON, || met().then_some(()));
}

/// Answers that are none.
fn refusals(project: &Project) -> Vec<String> {
    answers(project).into_iter().filter(|answer| !answer.starts_with("version=")).collect()
}

#[track_caller]
fn write(project: &Project, version: u32, more: &str) {
    project.write("all.yaml", &(api(version, more) + &client()));
}

#[test]
fn with_the_new_one_first_no_client_is_refused() {
    let project = Project::new("first");
    write(&project, 1, START_FIRST);
    project.up();
    meets(&project, 1);
    let client = project.id("client");
    for version in 2..=5 {
        write(&project, version, START_FIRST);
        project.up().prints("1 replaced");
        meets(&project, version);
    }
    project.run(&["reload", "api"]).exits(0).prints("1 replaced");
    let before = answers(&project).len();
    wait_for("the client to go on", SOON, || (answers(&project).len() > before + 5).then_some(()));
    let all = answers(&project).len();
    assert_eq!(refusals(&project), Vec::<String>::new(), "of {all} answers");
    project.is_settled(&["api", "client"]);
    assert_eq!(project.id("client"), client);

    // The same client sees the difference: without that, the new one is found before it listens.
    write(&project, 6, "ping: {tcp: 80}");
    project.up();
    write(&project, 7, "ping: {tcp: 80}");
    project.up();
    assert!(!refusals(&project).is_empty(), "the test is blind: {:?}", answers(&project));
}

#[test]
fn run_killed_during_promotion_refuses_no_connection() {
    let project = Project::new("firstkill");
    write(&project, 1, START_FIRST);
    project.up();
    meets(&project, 1);
    let names = |service: &str| {
        let found = engine::look(&format!("/containers/{}/json", project.name(service)))?;
        Some(found["NetworkSettings"]["Networks"][&project.group]["Aliases"].to_string())
    };
    let is_found = |service: &str| names(service).is_some_and(|names| names.contains("\"api\""));
    let moments: [(&str, &dyn Fn() -> bool); 3] = [
        ("the new one to be there", &|| names("api.new").is_some()),
        ("the new one to be found", &|| is_found("api.new")),
        ("the old one not to be found", &|| is_found("api.new") && !is_found("api")),
    ];
    for (version, (what, has_come)) in (2..).zip(moments) {
        write(&project, version, START_FIRST);
        let mut run = project.spawn(&["up"]);
        wait_for(what, SOON, || (has_come() || !run.is_running()).then_some(()));
        run.signal(Signal::KILL);
        run.ends(SOON);
        project.up();
        meets(&project, version);
        assert_eq!(refusals(&project), Vec::<String>::new(), "killed when it waited for {what}");
        project.is_settled(&["api", "client"]);
    }
}

#[test]
fn watch_refuses_no_connection_with_ephemeral_host_port() {
    let project = Project::new("firstwatch");
    let more = format!("{START_FIRST}\nports: ['80']");
    write(&project, 1, &more);
    let mut watch = Watcher::start(&project);
    meets(&project, 1);
    for version in 2..=3 {
        write(&project, version, &more);
        meets(&project, version);
        watch.agrees(&project);
    }
    assert_eq!(refusals(&project), Vec::<String>::new(), "{:?}", watch.messages(0));
    let published = project.status("api")["ports"][0].as_str().unwrap().to_owned();
    let port = published.split("->").next().unwrap();
    wait_for(&format!("{published} to accept"), SOON, || std::net::TcpStream::connect(port).ok());
    watch.interrupt().exits(130);
    project.is_settled(&["api", "client"]);
}

#[test]
fn a_new_one_that_does_not_stay_ready_is_undone_or_kept() {
    let project = Project::new("minready");
    let spec = |seconds: u32, on_failure: &str| {
        let serve = format!("echo serving for {seconds}; timeout {seconds} httpd -f -p 80 -h /etc; sleep infinity");
        script("api", &serve, &format!("ping: {{tcp: 80}}\nupdate: {{min_ready: 3s, on_failure: {on_failure}}}"))
    };
    project.write("api.yaml", &spec(1000, "rollback"));
    project.up();
    let old = project.id("api");
    project.write("api.yaml", &spec(1, "rollback"));
    let run = project.run(&["up"]).exits(1).says("failed (NotReady)").says("did not stay ready for min_ready (3 s)");
    run.says("| serving for 1").says("connection refused");
    assert_eq!((project.id("api"), project.names()), (old.clone(), vec!["api".to_owned()]));

    project.write("api.yaml", &spec(1, "keep"));
    project.run(&["up"]).exits(1).says("did not stay ready for min_ready (3 s)");
    assert_eq!((project.id("api"), project.names()), (old.clone(), vec!["api".to_owned(), "api.new".to_owned()]));
    let state = |service: &str| project.inspect(service)["State"]["Status"].clone();
    assert_eq!((state("api"), state("api.new")), ("running".into(), "exited".into()));
    assert_eq!(project.status("api")["ready"], true);

    project.write("api.yaml", &spec(1001, "keep"));
    let run = project.up().prints("1 replaced");
    assert!(run.took > Duration::from_secs(3), "{run}");
    project.is_settled(&["api"]);
    assert_ne!(project.id("api"), old);
}

#[test]
fn the_old_one_says_goodbye_before_it_is_withdrawn() {
    let project = Project::new("firsthooks");
    let names = "pre_stop: {exec: [sh, -c, 'nslookup api 127.0.0.11 > /tmp/found']}";
    let spec =
        |version: u32| sleeper("api", &format!("env: {{VERSION: {version}}}\nupdate: {{order: start-first}}\n{names}"));
    project.write("api.yaml", &spec(1));
    project.up();
    let events = Events::of(&project.group);
    project.write("api.yaml", &spec(2));
    project.up();
    let (old, new) = (project.name("api"), project.name("api.new"));
    let at = |action: &str, name: &str| events.position(action, name);
    let goodbye = wait_for("the goodbye", SOON, || {
        events.seen().iter().position(|event| event.action.starts_with("exec_create") && event.name == old)
    });
    assert!(at("start", &new) < goodbye && goodbye < at("die", &old), "{:#?}", events.seen());
}
