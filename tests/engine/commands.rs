//! Commands in containers and container logs.

use std::collections::BTreeMap;
use std::time::Duration;

use drillmaster::control::execute::command::{self, Command, ExecTarget};
use drillmaster::control::execute::context::ExecContext;
use drillmaster::control::execute::hooks::{self, HookCall};
use drillmaster::control::execute::outputs::OutputMap;
use drillmaster::engine::docker::Docker;
use drillmaster::engine::{Engine, EngineError, Exec, LogLine, LogOptions, Mutation};
use drillmaster::plan::step::ContainerRef as Container;
use futures_util::StreamExt;
use tokio_util::sync::CancellationToken;

use crate::fixture::*;
use crate::support::proxy::Proxy;
use crate::support::test_group::{docker, socket};
use crate::support::{WAIT_TIMEOUT, wait_for};

#[tokio::test]
async fn exec_returns_output_and_exit_code() {
    let fixture = Fixture::new("exec").await;
    let id = fixture.run(fixture.spec("a", sleeper())).await;
    let proxy = Proxy::start(&socket());
    let engine = Docker::connect(&engine_config(proxy.socket())).await.unwrap();
    proxy.take_requests();
    let run = async |script: &str| exec(&engine, &id, &["sh", "-c", script]).await.unwrap();
    let (code, lines) = run("echo out; echo err >&2; printf 'no newline'; exit 3").await;
    assert_eq!(code, 3);
    let of = |wanted: bool| -> Vec<&str> {
        lines.iter().filter(|line| line.stderr == wanted).map(|line| line.text.as_str()).collect()
    };
    assert_eq!((of(false), of(true)), (vec!["out", "no newline"], vec!["err"]));
    let requests = proxy.take_requests();
    assert!((3..=6).contains(&requests.len()), "{requests:?}");

    let (_, long) = run("seq 1 200000").await;
    assert_eq!((long.len(), long[199_999].text.as_str()), (200_000, "200000"));
    let (_, binary) = run("head -c 100000 /dev/urandom").await;
    assert!(!binary.is_empty());
    assert_eq!(run("exec >&- 2>&-; sleep 1; exit 4").await.0, 4, "stdout and stderr were closed before the exit");
    let (code, lines) = run("sleep 1000 & echo done").await;
    assert_eq!((code, lines[0].text.as_str()), (0, "done"), "a background child is not waited for");
    let none = exec(&engine, &id, &["no-such-program"]).await;
    assert!(none.as_ref().map_or(true, |(code, _)| *code != 0), "{none:?}");

    let env = [("GREETING", "a b=c\nd"), ("HOSTNAME", "other")].map(|(name, value)| (name.into(), value.into()));
    let command = ["sh", "-c", "echo \"$GREETING\" $HOSTNAME"].map(str::to_owned).to_vec();
    let with_env = Exec { command, env: env.into(), limit: Duration::from_secs(30) };
    let mut output = String::new();
    engine.exec(&id, &with_env, &mut |line| output += &format!("{}|", line.text)).await.unwrap();
    assert_eq!(output, "a b=c|d other|");

    fixture.apply(Mutation::Stop { id: id.clone(), timeout: Some(Duration::from_secs(5)) }).await;
    let stopped = exec(&engine, &id, &["true"]).await.unwrap_err();
    assert!(matches!(stopped, EngineError::Conflict { .. }), "{stopped:?}");
}

#[tokio::test]
async fn command_output_is_streamed() {
    let fixture = Fixture::new("execflow").await;
    let id = fixture.run(fixture.spec("a", sleeper())).await;
    // The command exits only after the first line was received.
    let command = ["sh", "-c", "echo ready; until test -e /tmp/go; do sleep 0.05; done; echo gone"];
    let (first, first_received) = tokio::sync::oneshot::channel();
    let mut first = Some(first);
    let mut lines = Vec::new();
    let mut on_line = |line: LogLine| {
        lines.push(line.text);
        first.take().map(|first| first.send(()));
    };
    let command =
        Exec { command: command.map(str::to_owned).to_vec(), env: BTreeMap::new(), limit: Duration::from_secs(30) };
    let react = async {
        first_received.await.unwrap();
        exec(&fixture.engine, &id, &["touch", "/tmp/go"]).await.unwrap();
    };
    let (code, ()) = tokio::join!(fixture.engine.exec(&id, &command, &mut on_line), react);
    assert_eq!((code, lines), (Ok(0), vec!["ready".to_owned(), "gone".to_owned()]));
}

#[tokio::test]
async fn container_hook_gets_its_variables() {
    let fixture = Fixture::new("hook").await;
    let id = fixture.run(fixture.spec("a", sleeper())).await;
    let context = ExecContext {
        group: "shop".into(),
        directory: "/".into(),
        executable: env!("CARGO_BIN_EXE_drillmaster").into(),
        routes: Default::default(),
        outputs: Default::default(),
        workers: Default::default(),
    };
    let run = async |script: &str, on_line: &mut (dyn FnMut(LogLine) + Send)| {
        let call = HookCall {
            service: Some("a".into()),
            replica: None,
            container: Some(Container { id: id.as_str().into(), name: "shop-a.new".into() }),
            event: "post_start".into(),
            hook: serde_json::from_value(serde_json::json!({"exec": ["sh", "-c", script]})).unwrap(),
            variables: BTreeMap::from([("MORE".into(), "1 2".into())]),
        };
        hooks::run(&fixture.engine, &call, &context, &CancellationToken::new(), on_line).await
    };
    let mut lines = Vec::new();
    let script = "env | grep -e ^DRILLMASTER_ -e ^MORE | grep -v -e _CALL= -e _OUTPUT= | sort; exit 3";
    let failed = run(script, &mut |line| lines.push(line.text)).await.unwrap_err();
    let container = format!("DRILLMASTER_CONTAINER={id}");
    let expected = [
        &container,
        "DRILLMASTER_CONTAINER_NAME=shop-a.new",
        "DRILLMASTER_EVENT=post_start",
        "DRILLMASTER_GROUP=shop",
        "DRILLMASTER_SERVICE=a",
        "MORE=1 2",
    ];
    assert_eq!(lines, expected);
    assert_eq!(failed.to_string(), "sh exited with code 3");

    let mut bytes = 0;
    let result = run("seq 1 2000000 | head -c 10000000; echo", &mut |line| bytes += line.text.len() + 1).await;
    assert_eq!((result, bytes), (Ok(OutputMap::new()), 10_000_001));

    let outputs = run("echo user=7 > $DRILLMASTER_OUTPUT; echo name=ann b >> $DRILLMASTER_OUTPUT", &mut drop).await;
    assert_eq!(outputs, Ok(OutputMap::from([("name".into(), "ann b".into()), ("user".into(), "7".into())])));
    let failed = run("echo user >> $DRILLMASTER_OUTPUT", &mut drop).await.unwrap_err();
    assert_eq!(failed.to_string(), "line 1 of the output file is not `key=value`", "each call has a new output file");
}

#[tokio::test]
async fn file_is_read_from_running_and_stopped_containers() {
    let fixture = Fixture::new("read").await;
    let sleeper = fixture.run(fixture.spec("a", sleeper())).await;
    let script = "echo 0123456789 > /tmp/file; ln -s file /tmp/link";
    let stopped = fixture.run(fixture.spec("b", script)).await;
    fixture.wait_for_exit(&stopped).await;
    let read = async |id: &str, path: &str, limit: usize| {
        fixture.engine.read(id, path, limit).await.map(|found| found.map(|bytes| String::from_utf8(bytes).unwrap()))
    };
    assert_eq!(read(&stopped, "/tmp/file", 100).await, Ok(Some("0123456789\n".into())));
    assert_eq!(read(&stopped, "/tmp/file", 4).await, Ok(Some("0123".into())));
    assert_eq!(read(&sleeper, "/tmp/file", 100).await, Ok(None));
    assert_eq!(read(&sleeper, "/nowhere/file", 100).await, Ok(None));
    assert!(matches!(read(&sleeper, "/tmp", 100).await, Err(EngineError::Refused { .. })));
    let none = read("no-such-container", "/tmp/file", 100).await;
    assert!(matches!(none, Err(EngineError::NotFound { .. })), "{none:?}");
}

/// Returns the output of `docker top` for a container.
fn processes(id: &str) -> String {
    docker(&["top", id, "-o", "pid,stat,args"]).unwrap()
}

/// Counts the running processes whose `docker top` line contains a text.
fn running(id: &str, text: &str) -> usize {
    processes(id).lines().filter(|line| line.contains(text) && !line.contains("defunct")).count()
}

#[tokio::test]
async fn timed_out_command_is_killed_with_its_children() {
    let fixture = Fixture::new("execkill").await;
    for (name, interrupt) in [("timeout", false), ("interrupted", true)] {
        let mut spec = fixture.spec(name, sleeper());
        spec.config.init = true;
        let id = fixture.run(spec).await;
        let words = ["sh", "-c", "sleep 4321 & (sleep 4322; true) & trap '' TERM; echo up; sleep 4323; true"];
        let words = words.map(str::to_owned);
        let interrupted = CancellationToken::new();
        let limit = Duration::from_secs(if interrupt { 60 } else { 2 });
        let command = Command { words: &words, target: ExecTarget::Container(&id), variables: BTreeMap::new(), limit };
        let mut on_line = |line: LogLine| {
            assert_eq!(line.text, "up");
            if interrupt {
                interrupted.cancel();
            }
        };
        // An unrelated process with the same program name must survive.
        exec(&fixture.engine, &id, &["sh", "-c", "sleep 4324 >/dev/null 2>&1 &"]).await.unwrap();
        let error = command::run(&fixture.engine, &command, &interrupted, &mut on_line).await.unwrap_err();
        let expected =
            if interrupt { "sh was interrupted and was killed" } else { "sh timed out after 2 s and was killed" };
        assert_eq!(error.to_string(), expected);
        for child in ["4321", "4322", "4323"] {
            wait_for("the process to exit", WAIT_TIMEOUT, || (running(&id, child) == 0).then_some(()));
        }
        assert_eq!(running(&id, "4324"), 1, "{}", processes(&id));
    }
}

#[tokio::test]
async fn timed_out_command_without_a_shell_is_not_killed() {
    let fixture = Fixture::new("noshell").await;
    let id = fixture.run(fixture.spec("a", sleeper())).await;
    // Without a shell, drillmaster cannot kill processes in the container.
    exec(&fixture.engine, &id, &["rm", "/bin/sh"]).await.unwrap();
    let words = ["sleep", "4321"].map(str::to_owned);
    let limit = Duration::from_secs(1);
    let command = Command { words: &words, target: ExecTarget::Container(&id), variables: BTreeMap::new(), limit };
    let error = command::run(&fixture.engine, &command, &CancellationToken::new(), &mut drop).await.unwrap_err();
    assert_eq!(
        error.to_string(),
        "sleep timed out after 1 s and could not be killed; it may still run in its container"
    );
    assert_eq!(running(&id, "sleep 4321"), 1);
}

#[tokio::test]
async fn logs_are_split_into_lines() {
    let fixture = Fixture::new("logs").await;
    let script = "echo one; echo two >&2; head -c 40000 /dev/zero | tr '\\0' x; echo; printf unfinished";
    let id = fixture.run(fixture.spec("a", script)).await;
    fixture.wait_for_exit(&id).await;
    let lines = fixture.lines(&id, LogOptions::default()).await;
    let text = |stderr: bool| -> Vec<&str> {
        lines.iter().filter(|line| line.stderr == stderr).map(|line| line.text.as_str()).collect()
    };
    assert_eq!(text(true), ["two"]);
    assert_eq!(text(false)[0], "one");
    assert_eq!(text(false)[1].len(), 40_000);
    assert_eq!(text(false)[2..], ["unfinished"]);
    assert_eq!(fixture.lines(&id, LogOptions { tail: Some(1), ..Default::default() }).await.len(), 1);
    assert_eq!(fixture.lines(&id, LogOptions { since: 4_000_000_000, ..Default::default() }).await, []);
    let stamped = fixture.lines(&id, LogOptions { timestamps: true, ..Default::default() }).await;
    assert!(stamped[0].text.starts_with("20"), "{:?}", stamped[0]);

    let missing = fixture.engine.logs(&"0".repeat(64), LogOptions::default()).next().await;
    assert!(matches!(missing, Some(Err(EngineError::NotFound { .. }))), "{missing:?}");
}

#[tokio::test]
async fn logs_are_followed_until_the_container_exits() {
    let fixture = Fixture::new("follow").await;
    let id = fixture.create(fixture.spec("a", "for i in 1 2 3; do echo $i; sleep 0.2; done")).await;
    fixture.apply(Mutation::Start(id.clone())).await;
    let followed = fixture.lines(&id, LogOptions { follow: true, ..Default::default() });
    let lines = tokio::time::timeout(Duration::from_secs(30), followed).await.unwrap();
    assert_eq!(lines.iter().map(|line| line.text.as_str()).collect::<Vec<_>>(), ["1", "2", "3"]);
}
