//! Ready means ready: every kind of ping, and the engine's own health check.

use std::time::Duration;

use crate::support::project::{Project, script, sleeper};

/// Shell: is not ready for a second, then does what makes it so.
fn after_a_second(then: &str) -> String {
    format!("echo starting; sleep 1; {then}")
}

/// Brings up a service that gets ready after a second, and a dependent: neither is called ready before.
#[track_caller]
fn gets_ready(purpose: &str, then: &str, ping: &str) {
    let project = Project::new(purpose);
    project.write("wait.sh", "#!/bin/sh\ntest -e go\n");
    project.write("all.yaml", &(script("api", &after_a_second(then), ping) + &sleeper("web", "dependencies: [api]")));
    let run = project.up().prints("2 services ready").says("api: waiting for").says("api: ready");
    assert!(run.took > Duration::from_secs(1), "{run}");
    let order: Vec<usize> = ["api: ready", "web: creating"].iter().map(|text| run.stderr.find(text).unwrap()).collect();
    assert!(order[0] < order[1], "{run}");
    // It is asked again when it is looked at again.
    let again = project.up().prints("nothing to do");
    assert!(again.took < Duration::from_secs(10), "{again}");
}

/// A service that never gets ready fails when its time is over, and says why; its dependent says for whom it waits.
#[track_caller]
fn times_out(purpose: &str, command: &str, ping: &str, why: &str) {
    let project = Project::new(purpose);
    let api = script("api", &format!("echo here I am; {command}"), ping);
    project.write("all.yaml", &(api + &sleeper("web", "dependencies: [api]")));
    let run = project.run(&["up"]).exits(1).says("api: failed (NotReady)").says(why).says("| here I am");
    let run = run.says("web: pending: waiting for api, which has failed").prints("1 failed: api, 1 waiting: web");
    assert!(run.took >= Duration::from_secs(1) && run.took < Duration::from_secs(15), "{run}");
    assert_eq!(project.names(), ["api.new"], "it can be looked at; its dependent was not created");
}

#[test]
fn by_tcp() {
    gets_ready("tcp", "httpd -f -p 81", "ping: {tcp: 81}");
}

#[test]
fn by_tcp_in_vain() {
    times_out("notcp", "httpd -f -p 80", "ping: {tcp: 81, timeout: 1s}", "connection refused");
}

#[test]
fn by_http() {
    let serve = "mkdir /tmp/www; httpd -f -p 80 -h /tmp/www & sleep 0.3; echo ok > /tmp/www/healthz; wait";
    gets_ready("http", serve, "ping: {http: {path: /healthz}}");
}

#[test]
fn by_http_in_vain() {
    let ping = "ping: {http: {port: 80, path: /healthz}, timeout: 1s}";
    times_out("nohttp", "httpd -f -p 80 -h /tmp", ping, "GET /healthz returned status 404");
}

#[test]
fn by_http_with_the_status_that_is_wanted() {
    let ping = "ping: {http: {port: 80, path: /nothing, status: 404}}";
    gets_ready("status", "httpd -f -p 80 -h /tmp", ping);
}

#[test]
fn by_exec() {
    gets_ready("exec", "touch /tmp/ready; sleep infinity", "ping: {exec: [test, -f, /tmp/ready]}");
}

#[test]
fn by_exec_in_vain() {
    let ping = "ping: {exec: [sh, -c, 'echo not yet; exit 4'], timeout: 1s}";
    times_out("noexec", "sleep infinity", ping, "exited with code 4: not yet");
}

#[test]
fn by_exec_of_a_program_that_does_not_exist() {
    times_out("noprog", "sleep infinity", "ping: {exec: [no-such-program], timeout: 1s}", "no-such-program");
}

#[test]
fn by_run() {
    // On the host, in the spec directory, knowing whom it is about.
    let project = Project::new("run");
    let check = "#!/bin/sh\nprintf '%s ' \"$DRILLMASTER_GROUP\" \"$DRILLMASTER_SERVICE\" \"$DRILLMASTER_CONTAINER\" > said\n\
                 n=$(cat tries 2>/dev/null); echo $((n + 1)) > tries\ntest \"$n\" = 3\n";
    project.write("check.sh", check);
    project.write("all.yaml", &sleeper("api", "ping: {run: [sh, ./check.sh]}"));
    project.up();
    let said = std::fs::read_to_string(project.specs().join("said")).unwrap();
    let words: Vec<&str> = said.split_whitespace().collect();
    assert_eq!(words, [project.group.as_str(), "api", project.id("api").as_str()]);
}

#[test]
fn by_run_in_vain() {
    let ping = "ping: {run: [sh, -c, 'echo nobody home >&2; exit 1'], timeout: 1s}";
    times_out("norun", "sleep infinity", ping, "nobody home");
}

#[test]
fn by_a_line_of_its_log() {
    gets_ready("log", "echo ready to accept connections; sleep infinity", "ping: {log: 'ready to \\w+ conn'}");
}

#[test]
fn by_a_line_of_its_log_in_vain() {
    times_out("nolog", "sleep infinity", "ping: {log: 'ready to serve', timeout: 1s}", "ready to serve");
}

#[test]
fn an_old_line_of_the_log_does_not_count_after_a_restart() {
    let project = Project::new("oldlog");
    let text = "test -e /tmp/again && { sleep 1.5; echo ready; sleep infinity; }; touch /tmp/again; \
                while true; do echo ready; sleep 0.05; done";
    project.write("all.yaml", &script("api", text, "ping: {log: ready}"));
    project.up();
    // Early in a second that has seen a few lines, so that old and new ones are of the same.
    crate::support::wait_for("a new second", crate::support::SOON, || {
        let now = std::time::SystemTime::now().duration_since(std::time::UNIX_EPOCH).unwrap();
        (200..300).contains(&now.subsec_millis()).then_some(())
    });
    crate::support::engine::act(&project.name("api"), "kill");
    let run = project.up();
    assert!(run.took > Duration::from_secs(1), "the line is of the last time: {run}");
}

#[test]
fn by_the_health_check_of_its_image() {
    let project = Project::new("health");
    let api = script("api", &after_a_second("touch /tmp/healthy; sleep infinity"), "");
    let api = api.replace("drillmaster/busybox:1", "drillmaster/healthcheck:1");
    project.write("all.yaml", &(api + &sleeper("web", "dependencies: [api]")));
    let run = project.up().says("api: waiting for the container to become healthy");
    assert!(run.took > Duration::from_secs(1), "{run}");
    project.is_settled(&["api", "web"]);
    project.exec("api", &["rm", "/tmp/healthy"]);
    crate::support::wait_for("the engine to see that it is ill", crate::support::SOON, || {
        (project.inspect("api")["State"]["Health"]["Status"] == "unhealthy").then_some(())
    });
    let status = project.status("api");
    assert_eq!((&status["phase"], &status["ready"]), (&"Unhealthy".into(), &false.into()), "{status:#}");
}

#[test]
fn by_the_health_check_of_its_spec_and_its_ping() {
    let project = Project::new("both");
    let more = "healthcheck: {test: [CMD, test, -f, /tmp/healthy], interval: 500ms, retries: 100}\nping: {tcp: 80}";
    let text = "httpd -p 80; sleep 1.2; touch /tmp/healthy; sleep infinity";
    project.write("all.yaml", &script("api", text, more));
    let run = project.up();
    assert!(run.took > Duration::from_secs(1), "{run}");
    assert_eq!(project.inspect("api")["State"]["Health"]["Status"], "healthy");
}

#[test]
fn a_health_check_that_fails_for_good_says_what_it_said() {
    let project = Project::new("ill");
    let more =
        "healthcheck: {test: echo my tooth hurts; exit 1, interval: 300ms, retries: 1}\nping: {tcp: 80, timeout: 2s}";
    project.write("all.yaml", &script("api", "httpd -f -p 80", more));
    let run = project.run(&["up"]).exits(1);
    run.says("api: failed (NotReady)").says("healthy").says("my tooth hurts");
}

#[test]
fn exit_before_ready_fails_with_logs() {
    let project = Project::new("ends");
    let api = script("api", &after_a_second("echo out of memory, or so; exit 9"), "ping: {tcp: 80, timeout: 60s}");
    let ill = script("ill", &after_a_second("echo also; exit 8"), "")
        .replace("drillmaster/busybox:1", "drillmaster/healthcheck:1");
    project.write("all.yaml", &(api + &ill + &sleeper("web", "dependencies: [api]")));
    let run = project.run(&["up"]).exits(1);
    let run = run.says("api: failed (Exited): exited with code 9").says("| out of memory, or so");
    let run = run.says("ill: failed (Exited): exited with code 8").says("| also");
    let run = run.says("web: pending: waiting for api, which has failed");
    assert!(run.took < Duration::from_secs(20), "not at the deadline of its ping: {run}");
}

#[test]
fn one_that_the_engine_restarts_is_given_its_time() {
    let project = Project::new("flaky");
    // Ends twice, then stays. The file outlives the restarts.
    let text = "echo x >> /tmp/tries; test $(wc -l < /tmp/tries) -ge 3 && exec httpd -f -p 80; exit 1";
    project.write("all.yaml", &script("api", text, "restart: on-failure\nping: {tcp: 80, timeout: 30s}"));
    project.up();
    let status = project.status("api");
    assert_eq!((&status["restarts"], &status["ready"]), (&2.into(), &true.into()), "{status:#}");
}

#[test]
fn one_that_the_engine_restarts_again_and_again_is_not_ready() {
    let project = Project::new("loop");
    let api = script("api", "echo I crash; sleep 0.2; exit 1", "restart: always");
    project.write("all.yaml", &(api + &sleeper("web", "dependencies: [api]")));
    let run = project.run(&["up", "--timeout", "8s"]).exits(1).says("web: pending: waiting for api");
    assert!(!run.stderr.contains("api: ready"), "{run}");
    assert_eq!(project.names(), ["api.new"]);
}

#[test]
fn what_a_container_prints_does_not_steer_the_terminal() {
    let project = Project::new("escape");
    project.write("all.yaml", &script("api", "printf 'red \\033[31malert\\n'; printf 'bin \\001\\377\\n'; exit 1", ""));
    let run = project.run(&["up"]).exits(1).says("red").says("alert");
    assert!(!run.stderr.contains('\u{1b}'), "{run}");
    let run = project.run(&["logs"]).exits(0).prints("alert");
    assert!(!run.stdout.contains('\u{1b}'), "{run}");
}
