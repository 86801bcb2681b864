//! Readiness: all kinds of ping, and the engine's health check.

use std::time::Duration;

use crate::support::engine::{self, Capability};
use crate::support::project::{Project, script, sleeper};
use crate::support::wait_for;
use crate::support::watcher::Watcher;

/// Returns a shell script that runs `then` after a second.
fn after_a_second(then: &str) -> String {
    format!("echo starting; sleep 1; {then}")
}

/// Starts a service that becomes ready after a second, and a dependent. Asserts that the dependent waits for readiness.
#[track_caller]
fn assert_becomes_ready(purpose: &str, then: &str, ping: &str) {
    let project = Project::new(purpose);
    project.write("wait.sh", "#!/bin/sh\ntest -e go\n");
    project.write("all.yaml", &(script("api", &after_a_second(then), ping) + &sleeper("web", "dependencies: [api]")));
    let run = project
        .run(&["up", "-v"])
        .exits(0)
        .stdout_contains("2 services ready")
        .stderr_contains("api: waiting for")
        .stderr_contains("api: ready");
    assert!(run.took > Duration::from_secs(1), "{run}");
    let order: Vec<usize> = ["api: ready", "web: creating"].iter().map(|text| run.stderr.find(text).unwrap()).collect();
    assert!(order[0] < order[1], "{run}");
    // The next run probes again.
    let again = project.up().stdout_contains("nothing to do");
    assert!(again.took < Duration::from_secs(10), "{again}");
}

/// Starts a service that never becomes ready, and a dependent. Asserts that the service fails at its timeout with this
/// message, and that the dependent waits for the service.
#[track_caller]
fn assert_times_out(purpose: &str, command: &str, ping: &str, message: &str) {
    let project = Project::new(purpose);
    let api = script("api", &format!("echo here I am; {command}"), ping);
    project.write("all.yaml", &(api + &sleeper("web", "dependencies: [api]")));
    let run = project
        .run(&["up"])
        .exits(1)
        .stderr_contains("api: failed (NotReady)")
        .stderr_contains(message)
        .stderr_contains("| here I am");
    let run = run
        .stderr_contains("web: pending: waiting for api, which has failed")
        .stdout_contains("1 failed: api, 1 waiting: web");
    assert!(run.took >= Duration::from_secs(1) && run.took < Duration::from_secs(15), "{run}");
    assert_eq!(project.names(), ["api.new"], "the failed container is kept; the dependent is not created");
}

#[test]
fn tcp_ping_makes_service_ready() {
    assert_becomes_ready("tcp", "httpd -f -p 81", "ping: {tcp: 81}");
}

#[test]
fn tcp_ping_times_out() {
    assert_times_out("notcp", "httpd -f -p 80", "ping: {tcp: 81, timeout: 1s}", engine::not_listening());
}

#[test]
fn http_ping_makes_service_ready() {
    if engine::lacks(Capability::Addresses) {
        return;
    }
    let serve = "mkdir /tmp/www; httpd -f -p 80 -h /tmp/www & sleep 0.3; echo ok > /tmp/www/healthz; wait";
    assert_becomes_ready("http", serve, "ping: {http: {path: /healthz}}");
}

#[test]
fn http_ping_times_out() {
    if engine::lacks(Capability::Addresses) {
        return;
    }
    let ping = "ping: {http: {port: 80, path: /healthz}, timeout: 1s}";
    assert_times_out("nohttp", "httpd -f -p 80 -h /tmp", ping, "GET /healthz returned status 404");
}

#[test]
fn http_ping_accepts_the_expected_status() {
    if engine::lacks(Capability::Addresses) {
        return;
    }
    let ping = "ping: {http: {port: 80, path: /nothing, status: 404}}";
    assert_becomes_ready("status", "httpd -f -p 80 -h /tmp", ping);
}

#[test]
fn exec_ping_makes_service_ready() {
    assert_becomes_ready("exec", "touch /tmp/ready; sleep infinity", "ping: {exec: [test, -f, /tmp/ready]}");
}

#[test]
fn exec_ping_times_out() {
    let ping = "ping: {exec: [sh, -c, 'echo not yet; exit 4'], timeout: 1s}";
    assert_times_out("noexec", "sleep infinity", ping, "exited with code 4: not yet");
}

#[test]
fn exec_ping_with_missing_program_fails_at_once() {
    let project = Project::new("noprog");
    project.write("api.yaml", &sleeper("api", "ping: {exec: [no-such-program, x], timeout: 300s}"));
    let run = project.run(&["up"]).exits(1).stderr_contains(
        "api: failed (NotReady): readiness probe (exec no-such-program x) cannot succeed \
         (no-such-program not found in $PATH of the container)",
    );
    assert!(run.took < Duration::from_secs(30), "{run}");
    // A file with a path may be created by the container.
    let late = "sleep 1; printf '#!/bin/sh\n' > /tmp/check; chmod +x /tmp/check; sleep infinity";
    project.write("api.yaml", &script("api", late, "ping: {exec: [/tmp/check], timeout: 60s}"));
    project.up();
}

#[test]
fn watch_tries_a_missing_program_again_and_shows_errors() {
    if engine::lacks(Capability::Addresses) {
        return;
    }
    let project = Project::new("latetool");
    let late = "while ! test -e /go; do sleep 0.1; done; printf '#!/bin/sh\\n' > /bin/late-tool; chmod +x /bin/late-tool; sleep infinity";
    let api = script("api", late, "ping: {exec: [late-tool], timeout: 300s}");
    project.write("all.yaml", &(api + &script("web", "sleep infinity", "ping: {http: {port: 80}, timeout: 300s}")));
    let mut watcher = Watcher::spawn(&project);
    watcher.wait_for_line("the failure", |line| line["event"] == "failed" && line["service"] == "api");
    let message = wait_for("an error in the status", Duration::from_secs(30), || {
        let message = project.status("web")["message"].as_str().unwrap_or_default().to_owned();
        message.contains('(').then_some(message)
    });
    assert!(
        message.starts_with("waiting for readiness probe (http 80/) (") && message.contains("refused"),
        "{message}"
    );
    project.exec("api.new", &["touch", "/go"]);
    watcher.wait_for_line("the recovery", |line| line["event"] == "ready" && line["service"] == "api");
    watcher.interrupt().exits(130);
}

#[test]
fn run_ping_gets_group_service_and_container() {
    // The ping runs on the host, in the spec directory, with the context in its environment.
    let project = Project::new("run");
    let check = "#!/bin/sh\nprintf '%s ' \"$DRILLMASTER_GROUP\" \"$DRILLMASTER_SERVICE\" \"$DRILLMASTER_CONTAINER\" > context\n\
                 n=$(cat tries 2>/dev/null); echo $((n + 1)) > tries\ntest \"$n\" = 3\n";
    project.write("check.sh", check);
    project.write("all.yaml", &sleeper("api", "ping: {run: [sh, ./check.sh]}"));
    project.up();
    let context = std::fs::read_to_string(project.specs().join("context")).unwrap();
    let words: Vec<&str> = context.split_whitespace().collect();
    assert_eq!(words, [project.group.as_str(), "api", project.id("api").as_str()]);
}

#[test]
fn run_ping_times_out() {
    let ping = "ping: {run: [sh, -c, 'echo not at home >&2; exit 1'], timeout: 1s}";
    assert_times_out("norun", "sleep infinity", ping, "not at home");
}

#[test]
fn log_ping_makes_service_ready() {
    assert_becomes_ready(
        "log",
        "echo ready to accept connections; sleep infinity",
        "ping: {log: 'ready to \\w+ conn'}",
    );
}

#[test]
fn log_ping_times_out() {
    assert_times_out("nolog", "sleep infinity", "ping: {log: 'ready to serve', timeout: 1s}", "ready to serve");
}

#[test]
fn log_ping_ignores_lines_from_before_a_restart() {
    let project = Project::new("oldlog");
    let text = "test -e /tmp/again && { sleep 1.5; echo ready; sleep infinity; }; touch /tmp/again; \
                while true; do echo ready; sleep 0.05; done";
    project.write("all.yaml", &script("api", text, "ping: {log: ready}"));
    project.up();
    // Restart early in a second with a few lines, so that old and new lines have the same timestamp.
    crate::support::wait_for("a new second", crate::support::WAIT_TIMEOUT, || {
        let now = std::time::SystemTime::now().duration_since(std::time::UNIX_EPOCH).unwrap();
        (200..300).contains(&now.subsec_millis()).then_some(())
    });
    crate::support::engine::container_action(&project.name("api"), "kill");
    let run = project.up();
    assert!(run.took > Duration::from_secs(1), "an old line made the service ready: {run}");
}

#[test]
fn image_healthcheck_decides_readiness() {
    if engine::lacks(Capability::HealthChecks) {
        return;
    }
    let project = Project::new("health");
    let api = script("api", &after_a_second("touch /tmp/healthy; sleep infinity"), "");
    let api = api.replace("drillmaster/busybox:1", "drillmaster/healthcheck:1");
    project.write("all.yaml", &(api + &sleeper("web", "dependencies: [api]")));
    let run = project.run(&["up", "-v"]).exits(0).stderr_contains("api: waiting for the container to become healthy");
    assert!(run.took > Duration::from_secs(1), "{run}");
    project.assert_settled(&["api", "web"]);
    project.exec("api", &["rm", "/tmp/healthy"]);
    crate::support::wait_for("the health status to be unhealthy", crate::support::WAIT_TIMEOUT, || {
        (project.inspect("api")["State"]["Health"]["Status"] == "unhealthy").then_some(())
    });
    let status = project.status("api");
    assert_eq!((&status["phase"], &status["ready"]), (&"Unhealthy".into(), &false.into()), "{status:#}");
}

#[test]
fn healthcheck_and_ping_must_both_succeed() {
    if engine::lacks(Capability::HealthChecks) {
        return;
    }
    let project = Project::new("both");
    let more = "healthcheck: {test: [CMD, test, -f, /tmp/healthy], interval: 500ms, retries: 100}\nping: {tcp: 80}";
    let text = "httpd -p 80; sleep 1.2; touch /tmp/healthy; sleep infinity";
    project.write("all.yaml", &script("api", text, more));
    let run = project.up();
    assert!(run.took > Duration::from_secs(1), "{run}");
    assert_eq!(project.inspect("api")["State"]["Health"]["Status"], "healthy");
}

#[test]
fn failed_healthcheck_output_is_reported() {
    if engine::lacks(Capability::HealthChecks) {
        return;
    }
    let project = Project::new("unhealthy");
    let more =
        "healthcheck: {test: echo disk is full; exit 1, interval: 300ms, retries: 1}\nping: {tcp: 80, timeout: 2s}";
    project.write("all.yaml", &script("api", "httpd -f -p 80", more));
    let run = project.run(&["up"]).exits(1);
    run.stderr_contains("api: failed (NotReady)").stderr_contains("healthy").stderr_contains("disk is full");
}

#[test]
fn exit_before_ready_fails_with_logs() {
    let project = Project::new("ends");
    let api = script("api", &after_a_second("echo out of memory, or so; exit 9"), "ping: {tcp: 80, timeout: 60s}");
    let unhealthy = script("unhealthy", &after_a_second("echo also; exit 8"), "")
        .replace("drillmaster/busybox:1", "drillmaster/healthcheck:1");
    project.write("all.yaml", &(api + &unhealthy + &sleeper("web", "dependencies: [api]")));
    let run = project.run(&["up"]).exits(1);
    let run = run.stderr_contains("api: failed (Exited): exited with code 9").stderr_contains("| out of memory, or so");
    let run = run.stderr_contains("unhealthy: failed (Exited): exited with code 8").stderr_contains("| also");
    let run = run.stderr_contains("web: pending: waiting for api, which has failed");
    assert!(run.took < Duration::from_secs(20), "fails before the ping timeout: {run}");
}

#[test]
fn restarts_by_the_engine_do_not_fail_readiness() {
    let project = Project::new("flaky");
    // Exits twice, then keeps running. The file survives restarts.
    let text = "echo x >> /tmp/tries; test $(wc -l < /tmp/tries) -ge 3 && exec httpd -f -p 80; exit 1";
    project.write("all.yaml", &script("api", text, "restart: on-failure\nping: {tcp: 80, timeout: 30s}"));
    project.up();
    let status = project.status("api");
    assert_eq!((&status["restarts"], &status["ready"]), (&2.into(), &true.into()), "{status:#}");
}

#[test]
fn container_in_a_restart_loop_is_not_ready() {
    let project = Project::new("loop");
    let api = script("api", "echo I crash; sleep 0.2; exit 1", "restart: always");
    project.write("all.yaml", &(api + &sleeper("web", "dependencies: [api]")));
    let run = project.run(&["up", "--timeout", "8s"]).exits(1).stderr_contains("web: pending: waiting for api");
    assert!(!run.stderr.contains("api: ready"), "{run}");
    assert_eq!(project.names(), ["api.new"]);
}

#[test]
fn container_output_sends_no_escapes_to_the_terminal() {
    let project = Project::new("escape");
    project.write("all.yaml", &script("api", "printf 'red \\033[31malert\\n'; printf 'bin \\001\\377\\n'; exit 1", ""));
    let run = project.run(&["up"]).exits(1).stderr_contains("red").stderr_contains("alert");
    assert!(!run.stderr.contains('\u{1b}'), "{run}");
    let run = project.run(&["logs"]).exits(0).stdout_contains("alert");
    assert!(!run.stdout.contains('\u{1b}'), "{run}");
}
