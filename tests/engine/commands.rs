//! Commands in containers, their output, and the output of containers.

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

use crate::field::*;
use crate::support::ground::{docker, socket};
use crate::support::proxy::Proxy;
use crate::support::{SOON, wait_for};

#[tokio::test]
async fn a_command_tells_its_output_and_its_code() {
    let field = Field::new("exec").await;
    let id = field.run(field.blueprint("a", sleeper())).await;
    let proxy = Proxy::start(&socket());
    let engine = Docker::connect(&target(proxy.socket())).await.unwrap();
    proxy.take();
    let run = async |script: &str| exec(&engine, &id, &["sh", "-c", script]).await.unwrap();
    let (code, lines) = run("echo out; echo err >&2; printf 'no newline'; exit 3").await;
    assert_eq!(code, 3);
    let of = |wanted: bool| -> Vec<&str> {
        lines.iter().filter(|line| line.stderr == wanted).map(|line| line.text.as_str()).collect()
    };
    assert_eq!((of(false), of(true)), (vec!["out", "no newline"], vec!["err"]));
    let asked = proxy.take();
    assert!((3..=6).contains(&asked.len()), "{asked:?}");

    let (_, long) = run("seq 1 200000").await;
    assert_eq!((long.len(), long[199_999].text.as_str()), (200_000, "200000"));
    let (_, binary) = run("head -c 100000 /dev/urandom").await;
    assert!(!binary.is_empty());
    assert_eq!(run("exec >&- 2>&-; sleep 1; exit 4").await.0, 4, "its output ended before it did");
    let (code, lines) = run("sleep 1000 & echo done").await;
    assert_eq!((code, lines[0].text.as_str()), (0, "done"), "a child that was left behind is not waited for");
    let none = exec(&engine, &id, &["no-such-program"]).await;
    assert!(none.as_ref().map_or(true, |(code, _)| *code != 0), "{none:?}");

    let env = [("GREETING", "a b=c\nd"), ("HOSTNAME", "other")].map(|(name, value)| (name.into(), value.into()));
    let command = ["sh", "-c", "echo \"$GREETING\" $HOSTNAME"].map(str::to_owned).to_vec();
    let with_env = Exec { command, env: env.into(), limit: Duration::from_secs(30) };
    let mut heard = String::new();
    engine.exec(&id, &with_env, &mut |line| heard += &format!("{}|", line.text)).await.unwrap();
    assert_eq!(heard, "a b=c|d other|");

    field.done(Mutation::Stop { id: id.clone(), timeout: Some(Duration::from_secs(5)) }).await;
    let stopped = exec(&engine, &id, &["true"]).await.unwrap_err();
    assert!(matches!(stopped, EngineError::Conflict { .. }), "{stopped:?}");
}

#[tokio::test]
async fn command_output_is_streamed() {
    let field = Field::new("execflow").await;
    let id = field.run(field.blueprint("a", sleeper())).await;
    // It ends when somebody has reacted to its first line.
    let command = ["sh", "-c", "echo ready; until test -e /tmp/go; do sleep 0.05; done; echo gone"];
    let (first, told) = tokio::sync::oneshot::channel();
    let mut first = Some(first);
    let mut lines = Vec::new();
    let mut heard = |line: LogLine| {
        lines.push(line.text);
        first.take().map(|first| first.send(()));
    };
    let command =
        Exec { command: command.map(str::to_owned).to_vec(), env: BTreeMap::new(), limit: Duration::from_secs(30) };
    let react = async {
        told.await.unwrap();
        exec(&field.engine, &id, &["touch", "/tmp/go"]).await.unwrap();
    };
    let (code, ()) = tokio::join!(field.engine.exec(&id, &command, &mut heard), react);
    assert_eq!((code, lines), (Ok(0), vec!["ready".to_owned(), "gone".to_owned()]));
}

#[tokio::test]
async fn a_hook_in_a_container_knows_what_it_is_about() {
    let field = Field::new("hook").await;
    let id = field.run(field.blueprint("a", sleeper())).await;
    let surroundings = ExecContext {
        group: "shop".into(),
        directory: "/".into(),
        reaches_containers: true,
        outputs: Default::default(),
    };
    let run = async |script: &str, heard: &mut (dyn FnMut(LogLine) + Send)| {
        let call = HookCall {
            service: Some("a".into()),
            replica: None,
            container: Some(Container { id: id.as_str().into(), name: "shop-a.new".into() }),
            event: "post_start".into(),
            hook: serde_json::from_value(serde_json::json!({"exec": ["sh", "-c", script]})).unwrap(),
            variables: BTreeMap::from([("MORE".into(), "1 2".into())]),
        };
        hooks::run(&field.engine, &call, &surroundings, &CancellationToken::new(), heard).await
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
    let ended = run("seq 1 2000000 | head -c 10000000; echo", &mut |line| bytes += line.text.len() + 1).await;
    assert_eq!((ended, bytes), (Ok(OutputMap::new()), 10_000_001));

    let given = run("echo user=7 > $DRILLMASTER_OUTPUT; echo name=ann b >> $DRILLMASTER_OUTPUT", &mut drop).await;
    assert_eq!(given, Ok(OutputMap::from([("name".into(), "ann b".into()), ("user".into(), "7".into())])));
    let failed = run("echo user >> $DRILLMASTER_OUTPUT", &mut drop).await.unwrap_err();
    assert_eq!(failed.to_string(), "line 1 of the output file is not `key=value`", "the file is another one each time");
}

#[tokio::test]
async fn a_file_is_read_from_a_container_whether_or_not_it_runs() {
    let field = Field::new("read").await;
    let sleeper = field.run(field.blueprint("a", sleeper())).await;
    let script = "echo 0123456789 > /tmp/file; ln -s file /tmp/link";
    let ended = field.run(field.blueprint("b", script)).await;
    field.ended(&ended).await;
    let read = async |id: &str, path: &str, most: usize| {
        field.engine.read(id, path, most).await.map(|found| found.map(|bytes| String::from_utf8(bytes).unwrap()))
    };
    assert_eq!(read(&ended, "/tmp/file", 100).await, Ok(Some("0123456789\n".into())));
    assert_eq!(read(&ended, "/tmp/file", 4).await, Ok(Some("0123".into())));
    assert_eq!(read(&sleeper, "/tmp/file", 100).await, Ok(None));
    assert_eq!(read(&sleeper, "/nowhere/file", 100).await, Ok(None));
    assert!(matches!(read(&sleeper, "/tmp", 100).await, Err(EngineError::Refused { .. })));
    let none = read("no-such-container", "/tmp/file", 100).await;
    assert!(matches!(none, Err(EngineError::NotFound { .. })), "{none:?}");
}

/// What `docker top` shows of a container.
fn processes(id: &str) -> String {
    docker(&["top", id, "-o", "pid,stat,args"]).unwrap()
}

fn running(id: &str, what: &str) -> usize {
    processes(id).lines().filter(|line| line.contains(what) && !line.contains("defunct")).count()
}

#[tokio::test]
async fn timed_out_command_is_killed_with_its_children() {
    let field = Field::new("execkill").await;
    for (name, interrupt) in [("late", false), ("interrupted", true)] {
        let mut blueprint = field.blueprint(name, sleeper());
        blueprint.config.init = true;
        let id = field.run(blueprint).await;
        let words = ["sh", "-c", "sleep 4321 & (sleep 4322; true) & trap '' TERM; echo up; sleep 4323; true"];
        let words = words.map(str::to_owned);
        let interrupted = CancellationToken::new();
        let limit = Duration::from_secs(if interrupt { 60 } else { 2 });
        let command = Command { words: &words, target: ExecTarget::Container(&id), variables: BTreeMap::new(), limit };
        let mut heard = |line: LogLine| {
            assert_eq!(line.text, "up");
            if interrupt {
                interrupted.cancel();
            }
        };
        // Another of the same name, which is nobody's business.
        exec(&field.engine, &id, &["sh", "-c", "sleep 4324 >/dev/null 2>&1 &"]).await.unwrap();
        let said = command::run(&field.engine, &command, &interrupted, &mut heard).await.unwrap_err();
        let wanted =
            if interrupt { "sh was interrupted and was killed" } else { "sh timed out after 2 s and was killed" };
        assert_eq!(said.to_string(), wanted);
        for child in ["4321", "4322", "4323"] {
            wait_for("its end", SOON, || (running(&id, child) == 0).then_some(()));
        }
        assert_eq!(running(&id, "4324"), 1, "{}", processes(&id));
    }
}

#[tokio::test]
async fn where_there_is_no_shell_a_command_is_left_to_its_container() {
    let field = Field::new("noshell").await;
    let id = field.run(field.blueprint("a", sleeper())).await;
    // Whoever needs no shell can go on without one.
    exec(&field.engine, &id, &["rm", "/bin/sh"]).await.unwrap();
    let words = ["sleep", "4321"].map(str::to_owned);
    let limit = Duration::from_secs(1);
    let command = Command { words: &words, target: ExecTarget::Container(&id), variables: BTreeMap::new(), limit };
    let said = command::run(&field.engine, &command, &CancellationToken::new(), &mut drop).await.unwrap_err();
    assert_eq!(
        said.to_string(),
        "sleep timed out after 1 s and could not be killed; it may still run in its container"
    );
    assert_eq!(running(&id, "sleep 4321"), 1);
}

#[tokio::test]
async fn output_comes_in_lines() {
    let field = Field::new("logs").await;
    let script = "echo one; echo two >&2; head -c 40000 /dev/zero | tr '\\0' x; echo; printf unfinished";
    let id = field.run(field.blueprint("a", script)).await;
    field.ended(&id).await;
    let lines = field.lines(&id, LogOptions::default()).await;
    let text = |stderr: bool| -> Vec<&str> {
        lines.iter().filter(|line| line.stderr == stderr).map(|line| line.text.as_str()).collect()
    };
    assert_eq!(text(true), ["two"]);
    assert_eq!(text(false)[0], "one");
    assert_eq!(text(false)[1].len(), 40_000);
    assert_eq!(text(false)[2..], ["unfinished"]);
    assert_eq!(field.lines(&id, LogOptions { tail: Some(1), ..Default::default() }).await.len(), 1);
    assert_eq!(field.lines(&id, LogOptions { since: 4_000_000_000, ..Default::default() }).await, []);
    let stamped = field.lines(&id, LogOptions { timestamps: true, ..Default::default() }).await;
    assert!(stamped[0].text.starts_with("20"), "{:?}", stamped[0]);

    let missing = field.engine.logs(&"0".repeat(64), LogOptions::default()).next().await;
    assert!(matches!(missing, Some(Err(EngineError::NotFound { .. }))), "{missing:?}");
}

#[tokio::test]
async fn output_is_followed_to_the_end_of_the_container() {
    let field = Field::new("follow").await;
    let id = field.create(field.blueprint("a", "for i in 1 2 3; do echo $i; sleep 0.2; done")).await;
    field.done(Mutation::Start(id.clone())).await;
    let followed = field.lines(&id, LogOptions { follow: true, ..Default::default() });
    let lines = tokio::time::timeout(Duration::from_secs(30), followed).await.unwrap();
    assert_eq!(lines.iter().map(|line| line.text.as_str()).collect::<Vec<_>>(), ["1", "2", "3"]);
}
