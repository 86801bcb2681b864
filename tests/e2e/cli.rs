//! Exit codes, output streams, and commands that need no engine.

use std::io::Read;
use std::process::Stdio;
use std::time::Duration;

use serde_json::{Value, json};

use crate::support::engine;
use crate::support::process;
use crate::support::project::{Project, repository, script, sleeper};

const NOWHERE: &str = "unix:///nowhere/docker.sock";

fn keys(value: &Value) -> Vec<String> {
    value.as_object().map(|fields| fields.keys().cloned().collect()).unwrap_or_default()
}

#[test]
fn result_that_cannot_be_written_is_an_error() {
    let project = Project::new("full");
    project.write("all.yaml", &sleeper("api", ""));
    for command in ["validate", "render", "schema", "graph"] {
        let full = std::fs::File::options().write(true).open("/dev/full").unwrap();
        let output = project.command(&[command]).stdout(full).stderr(Stdio::piped()).output().unwrap();
        let stderr = String::from_utf8_lossy(&output.stderr);
        assert_eq!(output.status.code(), Some(1), "{command}: {stderr}");
        assert!(stderr.contains("cannot write the result to stdout: no space left on device"), "{command}: {stderr}");
    }
}

#[test]
fn unreachable_engine_error_suggests_a_fix() {
    let mut project = Project::new("noengine");
    project.write("all.yaml", &sleeper("api", ""));
    let cases = [(NOWHERE, "/nowhere/docker.sock"), ("tcp://127.0.0.1:1", "127.0.0.1:1")];
    for (host, shown) in cases {
        project.set_host(host);
        for command in ["up", "down", "diff", "status", "start", "stop", "logs"] {
            let run = project
                .run(&[command])
                .exits(3)
                .stderr_contains(shown)
                .stderr_contains("--host")
                .stderr_contains("systemctl start docker");
            assert_eq!(run.stdout, "", "{run}");
            run.output_lacks("os error").output_lacks("panicked");
        }
    }
    // These commands need no engine.
    project.run(&["validate"]).exits(0).stdout_contains("1 service, no errors");
    project.run(&["schema"]).exits(0);
    project.run(&["--help"]).exits(0);
}

#[test]
fn doctor_describes_the_engine_without_specs() {
    let mut project = Project::new("doctor");
    let described = project.run(&["doctor", "--output", "json"]).exits(0).json();
    let version = engine::request("GET", "/version", None);
    assert_eq!(described["version"], version["Version"]);
    let podman =
        version["Components"].as_array().is_some_and(|parts| parts.iter().any(|part| part["Name"] == "Podman Engine"));
    assert_eq!(described["engine"], if podman { "podman" } else { "docker" });
    assert_eq!(described["images"]["driver"], engine::request("GET", "/info", None)["Driver"]);
    let text = project.run(&["doctor"]).exits(0).stdout_contains(described["version"].as_str().unwrap());
    for warning in described["warnings"].as_array().unwrap() {
        assert!(text.stderr.contains(warning.as_str().unwrap()), "{text}");
    }
    project.set_host(NOWHERE);
    project.run(&["doctor"]).exits(3).stderr_contains(&format!("the engine is {NOWHERE} (DOCKER_HOST)"));
}

#[test]
fn invalid_engine_address_is_a_usage_error() {
    let mut project = Project::new("badhost");
    project.write("all.yaml", &sleeper("api", ""));
    for host in ["nonsense", "tcp://", "ssh://-somewhere", "https://somewhere:2376"] {
        project.set_host(host);
        project.run(&["status"]).exits(2).stderr_contains("DOCKER_HOST").stderr_contains(host);
        project.run(&["status", "--host", host]).exits(2).stderr_contains("--host").stderr_contains(host);
        // These commands need no engine.
        for command in ["graph", "validate", "render"] {
            project.run(&[command]).exits(0);
        }
    }
}

#[test]
fn invalid_specs_touch_nothing_and_report_all_errors() {
    let project = Project::new("invalid");
    project.write("all.yaml", &sleeper("api", ""));
    project.up();
    let before = project.containers();
    project.write("all.yaml", "name: api\nimage: drillmaster/busybox:1\nprots: ['80:80']\ndependencies: [wbe]\n");
    project.write("web.yaml", "name: web\nimage: [1]\nports: ['99999:80']\n");
    for command in ["up", "diff", "start", "validate"] {
        let run = project.run(&[command]).exits(2);
        let run = run
            .stderr_contains("all.yaml:3")
            .stderr_contains("prots")
            .stderr_contains("`ports`")
            .stderr_contains("`web`")
            .stderr_contains("web.yaml:2")
            .stderr_contains("web.yaml:3");
        assert_eq!(run.stdout, "", "{run}");
        assert_eq!(project.containers(), before);
    }
    let run = project.run(&["validate", "--output", "json"]).exits(2);
    let errors = run.json();
    let errors = errors["diagnostics"].as_array().unwrap_or_else(|| panic!("{run}")).clone();
    assert!(errors.len() >= 4, "{run}");
}

#[test]
fn malformed_spec_files_are_rejected_quickly() {
    let project = Project::new("malformed");
    project.write("all.yaml", &sleeper("api", ""));
    let assert_rejected = |content: &[u8], message: &str| {
        std::fs::write(project.specs().join("malformed.yaml"), content).unwrap();
        for command in ["validate", "up"] {
            let run = project.run(&[command]).exits(2).stderr_contains("malformed.yaml").stderr_contains(message);
            assert!(run.took < Duration::from_secs(10), "{run}");
            assert!(run.stderr.len() < 4000, "at most one screen: {} bytes", run.stderr.len());
        }
        assert!(project.containers().is_empty());
    };
    assert_rejected(b"name: \xff\xfe\n", "UTF-8");
    assert_rejected(b"name: web\nimage: a:1\nname: again\n", "name");
    assert_rejected(b"\0\0\0", "");
    let bomb: String = ('b'..='j').fold("a: &a [x, x, x, x, x, x, x, x, x]\n".to_owned(), |text, name| {
        let before = char::from(name as u8 - 1);
        let aliases = vec![format!("*{before}"); 9].join(", ");
        text + &format!("{name}: &{name} [{aliases}]\n")
    });
    assert_rejected(bomb.as_bytes(), "");
    assert_rejected(&vec![b'['; 100_000], "");
    let file = std::fs::File::create(project.specs().join("malformed.yaml")).unwrap();
    file.set_len(50 * 1024 * 1024).unwrap();
    let run = project.run(&["validate"]).exits(2).stderr_contains("malformed.yaml").stderr_contains("too large");
    assert!(run.took < Duration::from_secs(10), "{run}");
}

#[test]
fn wrong_arguments_exit_2_and_help_exits_0() {
    let project = Project::new("usage");
    project.write("all.yaml", &sleeper("api", ""));
    for wrong in [
        &["upp"][..],
        &["up", "--no-such-option"],
        &["status", "--output", "xml"],
        &["up", "-q", "-v"],
        &["up", "--group", "No Good"],
        &["up", "--specs", "no/such/directory"],
        &[],
    ] {
        let run = project.run(wrong).exits(2);
        assert!(!run.stderr.is_empty() && run.stdout.is_empty(), "{run}");
    }
    project.run(&["upp"]).stderr_contains("'up'");
    project.run(&["up", "--specs", "no/such/directory"]).exits(2).stderr_contains("no/such/directory");
    project.run(&["--version"]).exits(0).stdout_contains(env!("CARGO_PKG_VERSION"));
    project
        .run(&["--help"])
        .exits(0)
        .stdout_contains("Exit codes")
        .stdout_contains("--specs")
        .stdout_contains("validate");
    for command in ["up", "down", "start", "stop", "diff", "status", "logs", "validate", "schema"] {
        project.run(&[command, "--help"]).exits(0).stdout_contains("Usage: drillmaster");
    }
}

#[test]
fn printed_schema_matches_the_repository() {
    let project = Project::new("schema");
    let printed = project.run(&["schema"]).exits(0).json();
    let text = std::fs::read_to_string(repository("schema/drillmaster.schema.json")).unwrap();
    assert_eq!(printed, serde_json::from_str::<Value>(&text).unwrap(), "run: drillmaster schema > schema/…");
}

#[test]
fn results_go_to_stdout_and_progress_to_stderr() {
    let project = Project::new("streams");
    project.write("all.yaml", &(sleeper("api", "") + &sleeper("web", "dependencies: [api]")));
    let run = project.up();
    assert_eq!(run.stdout, format!("{}: 2 services ready (2 created)\n", project.group));
    for line in ["api: starting\n", "api: ready (", "web: starting\n", "web: ready ("] {
        assert!(run.stderr.contains(line), "{line}: {run}");
    }
    assert!(
        !run.stderr.contains('\u{1b}') && !run.stderr.contains('\r'),
        "no escape sequences without a terminal: {run}"
    );
    let run = project.run(&["status"]).exits(0);
    assert_eq!(run.stderr, "", "{run}");
    let lines: Vec<Vec<&str>> = run.stdout.lines().map(|line| line.split_whitespace().collect()).collect();
    assert_eq!(lines[0], ["SERVICE", "PHASE", "SINCE", "PORTS", "MESSAGE"], "{run}");
    assert_eq!(lines[1][..2], ["api", "Ready"], "{run}");
    assert_eq!(lines[2][..2], ["web", "Ready"], "{run}");
    project.run(&["status", "--color", "always"]).exits(0).stdout_contains("\u{1b}[32m");
    // --quiet prints only results and errors.
    project.write("all.yaml", &(sleeper("api", "env: {A: b}") + &script("web", "echo oh; exit 3", "ping: {tcp: 1}")));
    let run = project.run(&["up", "-q"]).exits(1).stderr_contains("web: failed (Exited)").stderr_contains("| oh");
    assert!(!run.stderr.contains("starting") && !run.stderr.contains("api"), "{run}");
    let run = project.run(&["down", "-q"]).exits(0);
    assert_eq!(run.stderr, "", "{run}");
}

#[test]
fn progress_has_two_lines_per_service_and_its_steps_with_verbose() {
    let project = Project::new("progress");
    let job = "---\nkind: Job\nname: job\nimage: drillmaster/busybox:1\ncommand: ['true']\ndependencies: [api]\n";
    project.write("all.yaml", &(sleeper("api", "volumes: ['./app.conf:/app.conf:ro']") + job));
    project.write("app.conf", "one");
    // Without the times, which differ, and waits, which may last or not.
    let up = |args: &[&str]| -> Vec<String> {
        let untimed = |line: &str| match line.split_once(" (") {
            Some((text, time)) if time.ends_with(" s)") => text.to_owned(),
            _ => line.to_owned(),
        };
        let stderr = project.run(args).exits(0).stderr;
        stderr.lines().filter(|line| !line.contains("waiting for")).map(untimed).collect()
    };
    assert_eq!(up(&["up"]), ["api: starting", "api: ready", "job: running", "job: succeeded"]);
    assert_eq!(up(&["up"]), [""; 0], "nothing is said about what is unchanged");
    project.write("app.conf", "two");
    assert_eq!(up(&["up"]), ["api: restarting (mounted file ./app.conf changed)", "api: ready"]);
    assert_eq!(up(&["reload", "api"]), ["api: replacing (requested)", "api: ready"]);
    assert_eq!(up(&["stop"]), ["api: stopping", "api: stopped"]);
    assert_eq!(up(&["start"]), ["api: starting (container exited with code 137)", "api: ready"]);
    project.write("all.yaml", &sleeper("api", "env: {A: b}\nstop_timeout: 5s"));
    let expected = [
        "removes 1 container: job",
        "api: replacing (env.A, stop_timeout, volumes changed)",
        "api: ready",
        "job: removed",
        "job: removing (removed from the specs)",
    ];
    let mut found = up(&["up"]);
    found.sort();
    let mut expected = expected.map(str::to_owned);
    expected.sort();
    assert_eq!(found, expected);
    project.write("all.yaml", &sleeper("api", "env: {A: c}"));
    let run = project.run(&["up", "-v"]).exits(0).stderr_contains("api: replacing (");
    let (new, name) = (project.name("api.new"), project.name("api"));
    run.stderr_contains(&format!("api: creating {new} ("))
        .stderr_contains(&format!("api: starting {new} ("))
        .stderr_contains(&format!("api: renaming {new} to {name} (candidate is ready)"))
        .stderr_contains("api: ready (");
    let removed = ["removes 1 container: api", "api: removing", "api: removed"].map(str::to_owned);
    let down = up(&["down"]);
    assert!(removed.iter().all(|line| down.contains(line)), "{down:?}");
}

#[test]
fn up_and_down_json_lists_changes_and_failures() {
    let project = Project::new("upjson");
    let bad = script("bad", "echo oh no; exit 3", "ping: {tcp: 80}");
    project.write("all.yaml", &(sleeper("api", "") + &bad + &sleeper("web", "dependencies: [bad]")));
    let run = project.run(&["up", "--output", "json"]).exits(1);
    let result = run.json();
    assert_eq!(keys(&result), ["changes", "failures", "group", "outcome", "services", "stuck", "waiting"]);
    assert_eq!((&result["group"], &result["outcome"]), (&json!(project.group), &json!("failed")));
    assert!(result["changes"].as_array().unwrap().len() >= 3, "{run}");
    let failure = &result["failures"][0];
    assert_eq!(keys(failure), ["message", "output", "reason", "service"]);
    assert_eq!((&failure["service"], &failure["reason"]), (&json!("bad"), &json!("Exited")));
    assert_eq!(failure["output"], json!(["oh no"]));
    assert_eq!(result["waiting"][0]["service"], "web");
    assert!(engine::text(&result["waiting"][0]["message"]).contains("bad"), "{run}");
    let phases: Vec<&Value> = result["services"].as_array().unwrap().iter().map(|service| &service["phase"]).collect();
    assert_eq!(phases, ["Ready", "Failed", "Pending"]);

    let run = project.run(&["down", "--output", "json"]).exits(0);
    let result = run.json();
    assert_eq!(result["outcome"], "done", "{run}");
    let actions: Vec<&Value> = result["changes"].as_array().unwrap().iter().map(|change| &change["action"]).collect();
    assert!(actions.iter().all(|action| **action == "remove"), "{run}");
    assert!(result["services"].as_array().unwrap().iter().all(|service| service["container"].is_null()), "{run}");
}

#[test]
fn closed_stdout_does_not_panic() {
    let project = Project::new("pipe");
    let text =
        "i=0; while [ $i -lt 20000 ]; do echo a line that fills the pipe number $i; i=$((i+1)); done; sleep infinity";
    project.write("all.yaml", &script("api", text, "ping: {log: 'number 19999'}"));
    // stdout is closed before the first write.
    let mut command = project.command(&["up"]);
    command.stdin(Stdio::null()).stdout(Stdio::piped()).stderr(Stdio::piped());
    let mut child = command.spawn().unwrap();
    drop(child.stdout.take());
    let mut stderr = String::new();
    child.stderr.take().unwrap().read_to_string(&mut stderr).unwrap();
    assert!(child.wait().unwrap().success(), "{stderr}");
    assert!(!stderr.contains("panicked"), "{stderr}");
    // More output than a pipe buffers, and a reader that closes the pipe halfway.
    for arguments in [&["logs"][..], &["logs", "--follow"], &["logs", "--output", "json"], &["schema"], &["status"]] {
        let mut command = project.command(arguments);
        command.stdin(Stdio::null()).stdout(Stdio::piped()).stderr(Stdio::piped());
        let mut child = command.spawn().unwrap();
        let mut first = [0; 10];
        child.stdout.take().unwrap().read_exact(&mut first).unwrap();
        let mut pipe = child.stderr.take().unwrap();
        let status = crate::support::wait_for(&format!("{arguments:?} to exit"), crate::support::WAIT_TIMEOUT, || {
            child.try_wait().unwrap()
        });
        let mut stderr = String::new();
        pipe.read_to_string(&mut stderr).unwrap();
        assert!(!stderr.contains("panicked") && status.code() != Some(101), "{arguments:?}: {stderr}");
    }
}

#[test]
fn log_lines_are_prefixed_with_their_service() {
    let project = Project::new("logs");
    let api =
        script("api", "echo one; sleep 0.2; echo two >&2; sleep 0.2; echo three; sleep infinity", "ping: {log: three}");
    project.write("all.yaml", &(api + &script("worker", "echo four; sleep infinity", "ping: {log: four}")));
    project.up();
    let run = project.run(&["logs"]).exits(0);
    for line in ["api    | one\n", "api    | two\n", "api    | three\n", "worker | four\n"] {
        assert!(run.stdout.contains(line), "{line:?}: {run}");
    }
    let run = project.run(&["logs", "api", "--tail", "1"]).exits(0);
    assert_eq!(run.stdout, "api | three\n", "{run}");
    let run = project.run(&["logs", "worker", "--output", "json"]).exits(0);
    let (line, id) = (run.json(), project.id("worker"));
    let time = engine::text(&line["time"]);
    let expected = json!({ "service": "worker", "stderr": false, "line": "four", "time": time, "container": id });
    assert_eq!(line, expected);
    project.run(&["logs", "wroker"]).exits(2).stderr_contains("did you mean `worker`?");
    // SIGTERM stops `logs -f`. Not SIGINT, which background processes of a script ignore.
    let following = project.spawn(&["logs", "-f", "api"]);
    crate::support::wait_for("the log lines", crate::support::WAIT_TIMEOUT, || {
        following.stdout().contains("three").then_some(())
    });
    following.signal(rustix::process::Signal::TERM);
    let run = following.wait_for_exit(Duration::from_secs(30));
    assert!(run.code != Some(101), "{run}");
}

#[test]
fn unwritable_state_directory_is_named() {
    let project = Project::new("state");
    project.write("all.yaml", &sleeper("api", ""));
    let file = project.home.path().join("a-file");
    std::fs::write(&file, "").unwrap();
    let mut command = project.command(&["up"]);
    command.env("XDG_STATE_HOME", &file);
    let run = process::run(command, Duration::from_secs(30)).exits(1).stderr_contains("a-file");
    assert!(project.containers().is_empty(), "{run}");
}
