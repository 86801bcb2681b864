//! Program functions with real processes: results, timeouts and outputs.

use std::collections::BTreeMap;
use std::path::Path;
use std::time::{Duration, Instant};

use drillmaster::control::error::HookError;
use drillmaster::control::execute::hooks::HookCall;
use drillmaster::control::execute::outputs::OutputMap;
use drillmaster::control::specs::sources::ProgramFileAccess;
use drillmaster::spec::model::{Build, Hook};
use drillmaster::spec::{Content, Input, SourceFile, TreeError, load};
use tokio_util::sync::CancellationToken;

use crate::stage::*;
use crate::support::WAIT_TIMEOUT;

/// Returns a hook for a function `f` with this body, used as `f` or `call(f, timeout="1s")`.
#[track_caller]
fn hook(body: &str, usage: &str) -> Hook {
    let body = body.replace('\n', "\n    ");
    let program = format!("def f(ctx):\n    {body}\n\nservice(name=\"api\", image=\"x\", post_start={usage})\n");
    let files = [SourceFile { path: "app.star".into(), content: Content::Bytes(program.into_bytes()) }];
    let (workers, access) = (workers(), ProgramFileAccess(Path::new("/nonexistent")));
    let interpreter = workers.interpreter(&access);
    let input = Input {
        dir: "specs",
        files: &files,
        dotenv: &[],
        environment: &BTreeMap::new(),
        lenient: false,
        profiles: &Default::default(),
        context: &BTreeMap::new(),
        read: &|_| Err("no such file".into()),
        tree: &|_: &Build| Err(TreeError::Context("no such directory".into())),
        interpreter: &interpreter,
    };
    let mut specs = load(&input).unwrap();
    specs.services.remove(0).spec.post_start.0.remove(0)
}

/// Creates a stage with the output `known`.
fn stage() -> Stage {
    let stage = Stage::new();
    stage.surroundings.outputs.save(OutputMap::from([("known".to_owned(), "1".to_owned())])).unwrap();
    stage
}

async fn run(
    stage: &Stage,
    hook: Hook,
    interrupted: &CancellationToken,
) -> (Vec<String>, Result<OutputMap, HookError>) {
    let call = HookCall {
        service: Some("api".into()),
        replica: Some(2),
        container: None,
        event: "pre_start".into(),
        hook,
        variables: BTreeMap::new(),
    };
    let mut lines = Vec::new();
    let ended = stage.run_with(&call, interrupted, &mut |line| lines.push(line.text)).await;
    (lines, ended)
}

/// Writes its process id and does not end.
const ENDLESS: &str = "ctx.run([\"sh\", \"-c\", \"echo $$ > pids; exec sleep 1000\"])";

#[tokio::test]
async fn functions_read_and_set_outputs() {
    let body = "ran = ctx.run(\"sh -c 'echo $DRILLMASTER_SERVICE-$DRILLMASTER_REPLICA $DRILLMASTER_EVENT'\")\n\
                print(ran.output, ctx.replica)\n\
                ctx.context[\"next\"] = int(ctx.context[\"known\"]) + 1";
    let stage = stage();
    let (lines, ended) = run(&stage, hook(body, "f"), &CancellationToken::new()).await;
    assert_eq!(lines, ["api-2 pre_start 2"]);
    assert_eq!(ended, Ok(OutputMap::from([("next".to_owned(), "2".to_owned())])));
    let (_, ended) = run(&stage, hook("print(\"one\")", "call(f, capture=\"said\")"), &CancellationToken::new()).await;
    assert_eq!(ended, Ok(OutputMap::from([("said".to_owned(), "one".to_owned())])));
    let (_, ended) = run(&stage, hook("ctx.context[\"a-b\"] = 1", "f"), &CancellationToken::new()).await;
    assert!(ended.unwrap_err().to_string().contains("has an invalid key"));
}

#[tokio::test]
async fn calls_are_cancelled_by_the_function_timeout() {
    let stage = stage();
    let (_, ended) = run(&stage, hook(ENDLESS, "call(f, timeout=\"500ms\")"), &CancellationToken::new()).await;
    assert_eq!(ended.unwrap_err().to_string(), "f timed out after 0.5 s");
    assert!(!runs(stage.pids(1)[0]));
    let start = Instant::now();
    let (_, ended) =
        run(&stage, hook("ctx.sleep(1000)", "call(f, timeout=\"500ms\")"), &CancellationToken::new()).await;
    assert_eq!(ended.unwrap_err().to_string(), "f timed out after 0.5 s");
    assert!(start.elapsed() < Duration::from_secs(20));
}

#[tokio::test]
async fn a_function_that_computes_forever_is_killed() {
    let body = "x, y = (1,), (1,)\nfor n in range(60):\n    x, y = (x, x), (y, y)\nreturn x == y";
    let stage = stage();
    let (lines, ended) = run(&stage, hook(body, "call(f, timeout=\"2s\")"), &CancellationToken::new()).await;
    assert_eq!(ended.unwrap_err().to_string(), "f timed out after 2 s");
    assert_eq!(lines, ["specs/app.star:5:5: return x == y"]);
}

#[tokio::test]
async fn a_worker_serves_several_calls() {
    let stage = stage();
    let failing = hook("print(ctx.group)\nfail(\"no\")", "f");
    for _ in 0..3 {
        let (lines, ended) = run(&stage, failing.clone(), &CancellationToken::new()).await;
        assert_eq!(ended.unwrap_err().to_string(), "specs/app.star:3:5: no");
        assert_eq!(lines, ["shop", "fail(\"no\")"]);
    }
}

#[tokio::test]
async fn calls_are_cancelled_by_an_interrupt() {
    let stage = stage();
    let interrupted = CancellationToken::new();
    let running = run(&stage, hook(ENDLESS, "f"), &interrupted);
    let interrupt = async {
        let file = stage.path("pids");
        let began = Instant::now();
        while !file.exists() && began.elapsed() < WAIT_TIMEOUT {
            tokio::time::sleep(Duration::from_millis(10)).await;
        }
        interrupted.cancel();
    };
    let ((_, ended), ()) = tokio::join!(running, interrupt);
    assert_eq!(ended.unwrap_err().to_string(), "f was interrupted");
    assert!(!runs(stage.pids(1)[0]));
}

#[tokio::test]
async fn exec_without_a_container_fails() {
    let stage = stage();
    let (_, ended) = run(&stage, hook("ctx.exec([\"true\"])", "f"), &CancellationToken::new()).await;
    assert_eq!(ended.unwrap_err().to_string(), "specs/app.star:2:5: the service has no container");
    let body = "def inner():\n    fail(\"no\")\ninner()";
    let (lines, ended) = run(&stage, hook(body, "f"), &CancellationToken::new()).await;
    assert_eq!(ended.unwrap_err().to_string(), "specs/app.star:3:9: no");
    assert_eq!(lines, ["fail(\"no\")", "specs/app.star:4:5: in the call to `inner`"]);
}
