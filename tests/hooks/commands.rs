//! Hooks with real processes and a real server: their input, their results and the cleanup of processes.

use std::collections::BTreeMap;
use std::future::Future;
use std::io::{BufRead, BufReader, Read, Write};
use std::net::{TcpListener, TcpStream};
use std::path::Path;
use std::pin::pin;

use drillmaster::control::error::HookError;
use drillmaster::control::execute::context::ExecContext;
use drillmaster::control::execute::hooks::{self, HookCall};
use drillmaster::control::execute::outputs::OutputMap;
use drillmaster::desired::{Config, Join};
use drillmaster::engine::{ContainerSpec, Engine, LogLine, Mutation};
use drillmaster::plan::step::ContainerRef;
use drillmaster_sim::{Behaviour, Image, Script, Sim};
use serde_json::{Value, json};
use tokio_util::sync::CancellationToken;

use crate::stage::*;

#[tokio::test]
async fn command_starts_in_spec_directory_with_its_variables() {
    let stage = Stage::new();
    stage.program("variables.sh", "#!/bin/sh\npwd\nenv | grep ^DRILLMASTER_ | grep -v _OUTPUT= | sort\ncat\n");
    let (lines, ended) = stage.run(json!({"run": ["./variables.sh"]})).await;
    assert_eq!(ended, Ok(OutputMap::new()));
    let directory = stage.surroundings.directory.to_str().unwrap();
    let expected = [
        directory,
        "DRILLMASTER_CONTAINER=0123",
        "DRILLMASTER_CONTAINER_NAME=shop-api.new",
        "DRILLMASTER_EVENT=post_start",
        "DRILLMASTER_GROUP=shop",
        "DRILLMASTER_SERVICE=api",
    ];
    assert_eq!(texts(&lines), expected, "stdin is empty");

    let variables = [("DRILLMASTER_SERVICES", "api db web"), ("DRILLMASTER_GROUP", "mine")];
    let of_group = HookCall {
        service: None,
        container: None,
        event: "up".into(),
        variables: variables.map(|(name, value)| (name.to_owned(), value.to_owned())).into(),
        ..call(json!({"run": ["./variables.sh"]}))
    };
    let mut lines = Vec::new();
    let ended = stage.run_with(&of_group, &CancellationToken::new(), &mut |line| lines.push(line)).await;
    assert_eq!(ended, Ok(OutputMap::new()));
    let expected = [directory, "DRILLMASTER_EVENT=up", "DRILLMASTER_GROUP=shop", "DRILLMASTER_SERVICES=api db web"];
    assert_eq!(texts(&lines), expected);
}

#[tokio::test]
async fn command_fails_with_its_exit_code_and_last_lines() {
    let stage = Stage::new();
    let (lines, ended) = stage.shell("echo out; echo err >&2; exit 3").await;
    let of = |stderr: bool| lines.iter().filter(move |line| line.stderr == stderr).map(|line| line.text.as_str());
    assert_eq!((of(false).collect::<Vec<_>>(), of(true).collect::<Vec<_>>()), (vec!["out"], vec!["err"]));
    assert_eq!(error_message(ended), "sh exited with code 3");

    let (lines, ended) = stage.shell("seq 1 100; echo; exit 4").await;
    assert_eq!(lines.len(), 101);
    assert_eq!((lines[99].text.as_str(), lines[100].text.as_str()), ("100", ""));
    assert_eq!(error_message(ended), "sh exited with code 4");
    let (lines, ended) = stage.shell("echo no such user; exit 1").await;
    assert_eq!((texts(&lines), error_message(ended)), (vec!["no such user"], "sh exited with code 1".to_owned()));
    let (_, ended) = stage.shell("kill -SEGV $$").await;
    assert_eq!(ended.unwrap_err().to_string(), "sh was killed by signal 11");
}

#[tokio::test]
async fn missing_program_is_reported_with_a_hint() {
    let stage = Stage::new();
    let error_of = async |program: &str| error_message(stage.run(json!({"run": [program]})).await.1);
    let directory = stage.surroundings.directory.display();
    assert_eq!(
        error_of("./no-such.sh").await,
        format!("cannot run ./no-such.sh: no such file or directory (relative to {directory})")
    );
    assert_eq!(
        error_of("no-such-program").await,
        "cannot run no-such-program: no such file or directory (not in PATH; for a program in the spec \
         directory, write ./)"
    );
    stage.program("odd.sh", "#!/no/such/interpreter\n");
    assert_eq!(
        error_of("./odd.sh").await,
        "cannot run ./odd.sh: no such file or directory (the file exists; check the interpreter in its first \
         line)"
    );
    std::fs::write(stage.path("plain.sh"), "#!/bin/sh\n").unwrap();
    assert_eq!(error_of("./plain.sh").await, "cannot run ./plain.sh: permission denied (is it executable?)");
}

#[tokio::test]
async fn output_is_streamed_while_the_command_runs() {
    let stage = Stage::new();
    let script = "echo ready; until test -e go; do sleep 0.02; done; echo gone >&2; printf unfinished";
    let mut lines = Vec::new();
    let mut heard = |line: LogLine| {
        std::fs::write(stage.path("go"), "").unwrap();
        lines.push(line);
    };
    let waiting = call(json!({"run": ["sh", "-c", script]}));
    assert_eq!(stage.run_with(&waiting, &CancellationToken::new(), &mut heard).await, Ok(OutputMap::new()));
    lines.sort_by_key(|line| line.text.len());
    assert_eq!(texts(&lines), ["gone", "ready", "unfinished"]);
}

#[tokio::test]
async fn captured_lines_and_secret_requests_are_not_shown() {
    let stage = Stage::new();
    let script = "echo s3cret; echo note >&2";
    let (lines, ended) = stage.run(json!({"run": ["sh", "-c", script], "capture": "key"})).await;
    assert_eq!(ended, Ok([("key".to_owned(), "s3cret".to_owned())].into()));
    let mut texts = texts(&lines);
    texts.sort_unstable();
    assert_eq!(texts, ["(hidden)", "note"]);

    let mut request = call(json!({"http": {"url": "http://127.0.0.1:1/?token=s3cret"}}));
    let run = async |call: &HookCall| error_message(stage.run_with(call, &CancellationToken::new(), &mut |_| {}).await);
    assert_eq!(run(&request).await, "GET http://127.0.0.1:1/?token=s3cret: connection refused");
    request.hook.secret = true;
    assert_eq!(run(&request).await, "GET (hidden): connection refused");
    assert_eq!(request.hook.to_string(), "http GET (hidden)");
}

#[tokio::test]
async fn output_file_that_was_replaced_is_an_error() {
    let stage = Stage::new();
    let replace = r#"rm "$DRILLMASTER_OUTPUT"; mkfifo "$DRILLMASTER_OUTPUT""#;
    let (_, ended) = stage.shell(replace).await;
    assert_eq!(error_message(ended), "cannot read the output file: the file was replaced; append to it instead");
    let (_, ended) = stage.shell(r#"truncate -s 2G "$DRILLMASTER_OUTPUT""#).await;
    assert_eq!(error_message(ended), "output file is larger than 1024 KiB");
}

#[tokio::test]
async fn large_output_is_streamed_without_being_kept() {
    let stage = Stage::new();
    let output_of = async |script: &str| {
        let (mut lines, mut bytes, mut longest) = (0_usize, 0_usize, 0_usize);
        let mut count = |line: LogLine| {
            (lines, bytes, longest) = (lines + 1, bytes + line.text.len() + 1, longest.max(line.text.len()));
        };
        let call = call(json!({"run": ["sh", "-c", script]}));
        let ended = stage.run_with(&call, &CancellationToken::new(), &mut count).await;
        (lines, bytes, longest, ended)
    };
    let (lines, bytes, _, ended) = output_of("yes | head -c 10000000").await;
    assert_eq!((lines, bytes, ended), (5_000_000, 10_000_000, Ok(OutputMap::new())));

    let (lines, _, longest, ended) = output_of("head -c 10000000 /dev/zero | tr '\\0' x; exit 1").await;
    assert!(lines < 100, "{lines}");
    assert_eq!(longest, 8 * 1024 + '…'.len_utf8(), "long lines are truncated");
    assert_eq!(error_message(ended), "sh exited with code 1");

    let (_, bytes, _, ended) = output_of("head -c 1000000 /dev/urandom >&2").await;
    assert_eq!(ended, Ok(OutputMap::new()));
    assert!(bytes > 0, "invalid UTF-8 is replaced");
}

#[tokio::test]
async fn long_lines_are_truncated_between_characters() {
    let stage = Stage::new();
    let (lines, ended) = stage.shell("printf x; for i in $(seq 1 5000); do printf 'é'; done; echo; echo next").await;
    assert_eq!(ended, Ok(OutputMap::new()));
    let expected = format!("x{}…", "é".repeat(4095));
    assert_eq!(texts(&lines), [expected.as_str(), "next"]);
}

#[tokio::test]
async fn leftover_children_do_not_delay_the_hook_and_are_killed() {
    let stage = Stage::new();
    // The children outlive the hook timeout: waiting for them would fail the test.
    let quiet = "sleep 1000 & echo $! >> pids; echo done";
    let loud = "yes >&2 & echo $! >> pids; echo done";
    let closed = "sleep 1000 > /dev/null 2>&1 & echo $! >> pids; echo done";
    for (script, code) in [(quiet, 0), (loud, 0), (closed, 0), (quiet, 7)] {
        let _ = std::fs::remove_file(stage.path("pids"));
        let (lines, ended) = stage.shell(&format!("{script}; exit {code}")).await;
        assert!(texts(&lines).contains(&"done"), "{script}");
        match code {
            0 => assert_eq!(ended, Ok(OutputMap::new()), "{script}"),
            _ => assert_eq!(error_message(ended), "sh exited with code 7"),
        }
        stage.all_end(1);
    }
}

/// Starts processes that leave the process group: in a session of their own, without environment, as daemons.
const DAEMONS: &str = "
    setsid sh -c 'trap \"\" TERM; echo $$ >> pids; sleep 1000; sleep 1000' &
    env -i PATH=$PATH setsid sh -c 'echo $$ >> pids; exec sleep 1000' > /dev/null 2>&1 &
    (setsid sh -c '(setsid sh -c \"echo \\$\\$ >> pids; exec sleep 1000\") &' &)
    while test $(wc -l < pids) -lt 3; do sleep 0.01; done
    echo up
";

#[tokio::test]
async fn processes_in_other_sessions_are_killed_with_the_command() {
    for (rest, message) in [("", None), ("exit 7", Some("sh exited with code 7")), ("kill -KILL $$", Some("signal 9"))]
    {
        let stage = Stage::new();
        std::fs::write(stage.path("pids"), "").unwrap();
        let (lines, ended) = stage.shell(&format!("{DAEMONS}{rest}")).await;
        assert_eq!(texts(&lines), ["up"]);
        match message {
            None => assert_eq!(ended, Ok(OutputMap::new())),
            Some(message) => assert!(error_message(ended).contains(message), "{message}"),
        }
        assert_eq!(stage.pids(3).into_iter().filter(|pid| runs(*pid)).count(), 0, "they have ended before the hook");
    }
    let stage = Stage::new();
    std::fs::write(stage.path("pids"), "").unwrap();
    let script = format!("{DAEMONS}sleep 1000");
    let (_, ended) = stage.run(json!({"run": ["sh", "-c", script], "timeout": "4s"})).await;
    assert_eq!(error_message(ended), "sh timed out after 4 s and was killed");
    assert_eq!(stage.pids(3).into_iter().filter(|pid| runs(*pid)).count(), 0);
}

#[tokio::test]
async fn concurrent_commands_end_their_own_processes_only() {
    let (long, short) = (Stage::new(), Stage::new());
    let go = long.path("go");
    let script = format!(
        "(setsid sh -c 'echo $$ >> pids; exec sleep 1000' &); while ! test -s pids || ! test -e {0}; do sleep 0.01; done
        kill -0 $(cat pids) && echo runs",
        go.display()
    );
    let first = long.shell(&script);
    let second = async {
        assert_eq!(short.shell("setsid sleep 1000 & true").await.1, Ok(OutputMap::new()));
        let pid = long.pids(1)[0];
        assert!(runs(pid), "it belongs to the other command");
        std::fs::write(&go, "").unwrap();
    };
    let ((lines, ended), ()) = tokio::join!(first, second);
    assert_eq!((texts(&lines), ended), (vec!["runs"], Ok(OutputMap::new())));
    long.all_end(1);
}

#[tokio::test]
async fn command_without_its_supervisor_fails() {
    let stage = Stage::new();
    let (_, ended) = stage.shell("kill -KILL $PPID; sleep 1").await;
    assert_eq!(error_message(ended), "cannot wait for sh: its supervisor was killed");
}

/// Two children and a grandchild that ignore SIGTERM.
const IGNORES_SIGTERM: &str = "
    trap '' TERM
    echo $$ >> pids
    sleep 1000 & echo $! >> pids
    (sleep 1000 & echo $! >> pids; wait) &
    while test $(wc -l < pids) -lt 3; do sleep 0.01; done
    echo up
    sleep 1000; sleep 1000
";

#[tokio::test]
async fn command_is_killed_with_its_children_on_timeout() {
    let stage = Stage::new();
    let (lines, ended) = stage.run(json!({"run": ["sh", "-c", IGNORES_SIGTERM], "timeout": "4s"})).await;
    assert_eq!(texts(&lines), ["up"]);
    assert_eq!(error_message(ended), "sh timed out after 4 s and was killed");
    stage.all_end(3);
}

#[tokio::test]
async fn command_can_clean_up_on_timeout() {
    let stage = Stage::new();
    let script = "trap 'echo bye; exit 0' TERM; echo up; while :; do sleep 0.02; done";
    let (lines, ended) = stage.run(json!({"run": ["sh", "-c", script], "timeout": "2s"})).await;
    assert!(texts(&lines).contains(&"bye"), "{lines:?}");
    assert_eq!(error_message(ended), "sh timed out after 2 s and was killed");
}

#[tokio::test]
async fn endless_output_ends_with_the_timeout() {
    let stage = Stage::new();
    let mut count = 0_u64;
    let endless = call(json!({"run": ["yes"], "timeout": "500ms"}));
    let ended = stage.run_with(&endless, &CancellationToken::new(), &mut |_| count += 1).await;
    assert_eq!(error_message(ended), "yes timed out after 0.5 s and was killed");
    assert!(count > 10);
}

#[tokio::test]
async fn interrupt_kills_the_command_and_its_children() {
    let stage = Stage::new();
    let interrupted = CancellationToken::new();
    let stubborn = call(json!({"run": ["sh", "-c", IGNORES_SIGTERM]}));
    let ended = stage.run_with(&stubborn, &interrupted, &mut |_| interrupted.cancel()).await;
    assert_eq!(error_message(ended), "sh was interrupted and was killed");
    stage.all_end(3);
}

#[tokio::test]
async fn dropped_call_kills_the_command_and_its_children() {
    let stage = Stage::new();
    let up = CancellationToken::new();
    {
        let stubborn = call(json!({"run": ["sh", "-c", IGNORES_SIGTERM]}));
        let never = CancellationToken::new();
        let mut heard = |_| up.cancel();
        let run = pin!(stage.run_with(&stubborn, &never, &mut heard));
        assert_eq!(up.run_until_cancelled(run).await, None, "the hook does not end by itself");
    }
    stage.all_end(3);
}

#[test]
fn hook_calls_can_be_spawned_as_tasks() {
    fn task<T: Future + Send>(_: &T) {}
    let (stage, call, token) = (Stage::new(), call(json!({"run": "true"})), CancellationToken::new());
    task(&stage.run_with(&call, &token, &mut |_| {}));
}

/// A request received by the server.
struct ReceivedRequest {
    /// Request line and headers, in lower case.
    head: Vec<String>,
    body: String,
}

/// Starts a server that always sends the same response. Returns its port.
fn server(answer: &'static str) -> (u16, std::thread::JoinHandle<ReceivedRequest>) {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let port = listener.local_addr().unwrap().port();
    let received = std::thread::spawn(move || {
        let (mut stream, _) = listener.accept().unwrap();
        let received = read_request(&stream);
        stream.write_all(answer.as_bytes()).unwrap();
        received
    });
    (port, received)
}

fn read_request(stream: &TcpStream) -> ReceivedRequest {
    let mut reader = BufReader::new(stream);
    let mut head = Vec::new();
    loop {
        let mut line = String::new();
        reader.read_line(&mut line).unwrap();
        match line.trim_end() {
            "" => break,
            line => head.push(line.to_lowercase()),
        }
    }
    let length = head.iter().find_map(|line| line.strip_prefix("content-length: ")).map_or(0, |n| n.parse().unwrap());
    let mut body = vec![0; length];
    reader.read_exact(&mut body).unwrap();
    ReceivedRequest { head, body: String::from_utf8(body).unwrap() }
}

const NO_CONTENT: &str = "HTTP/1.1 204 No Content\r\nConnection: close\r\n\r\n";
const UNAVAILABLE: &str = "HTTP/1.1 503 Service Unavailable\r\nContent-Length: 2\r\n\r\nno";
const MOVED: &str = "HTTP/1.1 301 Moved Permanently\r\nLocation: /\r\nContent-Length: 0\r\n\r\n";

fn output_map(pairs: &[(&str, &str)]) -> OutputMap {
    pairs.iter().map(|(key, value)| ((*key).to_owned(), (*value).to_owned())).collect()
}

#[tokio::test]
async fn command_sets_outputs_by_file_and_by_capture() {
    let stage = Stage::new();
    let run = async |script: &str, capture: Option<&str>| {
        let mut hook = json!({"run": ["sh", "-c", script]});
        if let Some(key) = capture {
            hook["capture"] = key.into();
        }
        stage.run(hook).await.1.map_err(|failed| failed.to_string())
    };
    assert_eq!(run("echo a=1 > $DRILLMASTER_OUTPUT; echo said", None).await, Ok(output_map(&[("a", "1")])));
    assert_eq!(run("echo one; echo no >&2; printf 'two\\n\\n'", Some("k")).await, Ok(output_map(&[("k", "one\ntwo")])));
    let both = run("echo a=1 > $DRILLMASTER_OUTPUT; echo b", Some("k")).await;
    assert_eq!(both, Ok(output_map(&[("a", "1"), ("k", "b")])));
    assert_eq!(run("true", Some("k")).await, Ok(output_map(&[("k", "")])));
    // Lines too long for display are captured completely.
    let long = run("head -c 20000 /dev/zero | tr '\\0' x", Some("k")).await;
    assert_eq!(long.unwrap()["k"].len(), 20_000);
    assert!(run("echo a=1 > $DRILLMASTER_OUTPUT; exit 3", None).await.is_err(), "a failed hook sets no output");
    let wrong = run("echo; echo a > $DRILLMASTER_OUTPUT; echo last", None).await;
    assert_eq!(wrong, Err("line 1 of the output file is not `key=value`".into()));
    let large = run("yes | head -c 100000", Some("k")).await;
    assert_eq!(large, Err("output `k` is larger than 64 KiB".into()));
    let left = run("ls $DRILLMASTER_OUTPUT; stat -c %a $DRILLMASTER_OUTPUT", Some("k")).await.unwrap()["k"].clone();
    let (path, mode) = left.split_once('\n').unwrap();
    assert_eq!((mode, Path::new(path).exists()), ("600", false), "readable by the owner only, removed with the hook");
}

#[tokio::test]
async fn response_body_can_be_captured_as_output() {
    let stage = Stage::new();
    let send = async |answer: &'static str| {
        let (port, received) = server(answer);
        let (_, ended) = stage.run(json!({"http": format!("http://127.0.0.1:{port}/"), "capture": "token"})).await;
        received.join().unwrap();
        ended.map_err(|failed| failed.to_string().replace(&port.to_string(), "PORT"))
    };
    let body = send("HTTP/1.1 200 OK\r\nContent-Length: 4\r\nConnection: close\r\n\r\nabc\n").await;
    assert_eq!(body, Ok(output_map(&[("token", "abc")])));
    let chunked = "HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n3\r\nabc\r\n1\r\nd\r\n0\r\n\r\n";
    assert_eq!(send(chunked).await, Ok(output_map(&[("token", "abcd")])));
    assert_eq!(send(NO_CONTENT).await, Ok(output_map(&[("token", "")])));
    assert!(send(UNAVAILABLE).await.is_err());
    let cut = send("HTTP/1.1 200 OK\r\nContent-Length: 40\r\n\r\nabc").await;
    assert_eq!(cut, Err("GET http://127.0.0.1:PORT/: end of file before message length reached".into()));
}

#[tokio::test]
async fn request_is_sent_as_specified() {
    let stage = Stage::new();
    let (port, received) = server(NO_CONTENT);
    let url = format!("http://localhost:{port}/alert?user=ann");
    let (_, ended) = stage.run(json!({"http": url})).await;
    assert_eq!(ended, Ok(OutputMap::new()));
    let received = received.join().unwrap();
    assert_eq!(received.head[0], "get /alert?user=ann http/1.1");
    assert_eq!(received.body, "");
    let mut headers = received.head[1..].to_vec();
    headers.sort();
    assert_eq!(headers, [format!("host: localhost:{port}"), "user-agent: drillmaster".to_owned()]);

    let (port, received) = server(NO_CONTENT);
    let headers = json!({"content-type": "application/json", "host": "shop.example", "x-name": "é"});
    let url = format!("http://127.0.0.1:{port}");
    let http = json!({"url": url, "method": "PUT", "headers": headers, "body": "{\"a\": 1}"});
    assert_eq!(stage.run(json!({"http": http})).await.1, Ok(OutputMap::new()));
    let received = received.join().unwrap();
    assert_eq!(received.head[0], "put / http/1.1");
    for header in ["content-type: application/json", "host: shop.example", "x-name: é", "content-length: 8"] {
        assert!(received.head.contains(&header.to_owned()), "{header}: {:?}", received.head);
    }
    assert_eq!(received.head.iter().filter(|line| line.starts_with("host:")).count(), 1);
    assert_eq!(received.body, "{\"a\": 1}");
}

#[tokio::test]
async fn response_status_decides_the_result() {
    let stage = Stage::new();
    let send = async |answer: &'static str, status: Option<u16>| {
        let (port, received) = server(answer);
        let mut http = json!({"url": format!("http://127.0.0.1:{port}/alert"), "method": "POST"});
        if let Some(status) = status {
            http["status"] = status.into();
        }
        let (_, ended) = stage.run(json!({"http": http})).await;
        received.join().unwrap();
        ended.map_err(|failed| failed.to_string().replace(&port.to_string(), "PORT"))
    };
    let failed = |text: &str| Err(format!("POST http://127.0.0.1:PORT/alert {text}"));
    assert_eq!(send(NO_CONTENT, None).await, Ok(OutputMap::new()));
    assert_eq!(send(NO_CONTENT, Some(204)).await, Ok(OutputMap::new()));
    assert_eq!(send(NO_CONTENT, Some(200)).await, failed("returned status 204 No Content, expected 200"));
    assert_eq!(send(UNAVAILABLE, None).await, failed("returned status 503 Service Unavailable: no"));
    assert_eq!(send(UNAVAILABLE, Some(503)).await, Ok(OutputMap::new()));
    assert_eq!(send(MOVED, None).await, failed("returned status 301 Moved Permanently"));
}

#[tokio::test]
async fn request_without_a_response_fails_with_its_cause() {
    let stage = Stage::new();
    let (port, received) = server("");
    let (_, ended) = stage.run(json!({"http": format!("http://127.0.0.1:{port}/")})).await;
    assert_eq!(error_message(ended), format!("GET http://127.0.0.1:{port}/: connection closed without a response"));
    received.join().unwrap();

    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let port = listener.local_addr().unwrap().port();
    let url = format!("http://127.0.0.1:{port}/");
    let (_, ended) = stage.run(json!({"http": url, "timeout": "200ms"})).await;
    assert_eq!(error_message(ended), format!("GET {url} timed out after 0.2 s"));
    let interrupted = CancellationToken::new();
    interrupted.cancel();
    let ended = stage.run_with(&call(json!({"http": url})), &interrupted, &mut |_| {}).await;
    assert_eq!(error_message(ended), format!("GET {url} was interrupted"));
    drop(listener);
    let (_, ended) = stage.run(json!({"http": url})).await;
    assert_eq!(error_message(ended), format!("GET {url}: connection refused"));
}

/// Returns a simulated engine with a running container, and its id.
async fn simulated(change: impl FnOnce(&mut Behaviour)) -> (Sim, String) {
    let sim = Sim::new();
    sim.add_image("api:1", Image::new("api").behaving(change));
    let network = sim.create_network("shop", &BTreeMap::new());
    let create = Mutation::Create(Box::new(ContainerSpec {
        name: "shop-api".into(),
        labels: BTreeMap::new(),
        volume_labels: BTreeMap::new(),
        volumes: Default::default(),
        config: Config { image: "api:1".into(), ..Default::default() },
        env: BTreeMap::new(),
        joins: vec![Join { network, name: "shop".into(), names: Vec::new(), endpoint: Default::default() }],
        targets: BTreeMap::new(),
        hostname: "api".into(),
        inherited: Vec::new(),
    }));
    let id = sim.apply(&create).await.unwrap().unwrap();
    sim.apply(&Mutation::Start(id.clone())).await.unwrap();
    sim.clear_calls();
    (sim, id)
}

async fn in_container(sim: &Sim, id: &str, hook: Value) -> (Vec<LogLine>, Result<OutputMap, HookError>) {
    let call = HookCall { container: Some(ContainerRef { id: id.into(), name: "shop-api".into() }), ..call(hook) };
    let surroundings = ExecContext {
        group: "shop".into(),
        directory: Path::new("/").into(),
        executable: env!("CARGO_BIN_EXE_drillmaster").into(),
        routes: Default::default(),
        outputs: Default::default(),
        workers: Default::default(),
    };
    let mut lines = Vec::new();
    let heard = &mut |line| lines.push(line);
    let ended = hooks::run(sim, &call, &surroundings, &CancellationToken::new(), heard).await;
    (lines, ended)
}

#[tokio::test(start_paused = true)]
async fn command_in_container_streams_lines_and_fails_with_its_code() {
    let (sim, id) = simulated(|it| it.exec = Script::Exits(3, "one\ntwo\n".into())).await;
    let (lines, ended) = in_container(&sim, &id, json!({"exec": ["create-user", "ann"]})).await;
    assert_eq!(sim.calls(), ["exec shop-api create-user ann"]);
    assert_eq!(texts(&lines), ["one", "two"]);
    assert_eq!(error_message(ended), "create-user exited with code 3");
    sim.kill("shop-api", 1);
    let (_, ended) = in_container(&sim, &id, json!({"exec": ["create-user", "ann"]})).await;
    assert!(error_message(ended).contains("is not running"));
    let nowhere = HookCall { container: None, ..call(json!({"exec": "create-user"})) };
    let ended = Stage::new().run_with(&nowhere, &CancellationToken::new(), &mut |_| {}).await;
    assert_eq!(error_message(ended), "cannot run create-user: the service has no container");
}

#[tokio::test(start_paused = true)]
async fn hanging_command_in_container_is_killed_where_possible() {
    let hook = json!({"exec": ["slow"], "timeout": "30s"});
    let hangs = BTreeMap::from([("slow".to_owned(), Script::Hangs)]);
    let (sim, id) = simulated(|it| it.programs = hangs.clone()).await;
    let (_, ended) = in_container(&sim, &id, hook.clone()).await;
    assert_eq!(error_message(ended), "slow timed out after 30 s and was killed");
    assert!(sim.calls()[1].starts_with("exec shop-api sh -c"), "{:?}", sim.calls());

    for shell in [Script::Exits(126, "no shell".into()), Script::Hangs] {
        let mut programs = hangs.clone();
        programs.insert("sh".into(), shell);
        let (sim, id) = simulated(|it| it.programs = programs).await;
        let (_, ended) = in_container(&sim, &id, hook.clone()).await;
        assert_eq!(
            error_message(ended),
            "slow timed out after 30 s and could not be killed; it may still run in its container"
        );
    }
}
