//! Functions of programs with real processes: how they end, what ends with them, and what they hand on.

#![allow(clippy::unwrap_used)]

mod support;

use std::collections::BTreeMap;
use std::path::Path;
use std::time::{Duration, Instant};

use drillmaster::control::error::HookError;
use drillmaster::control::execute::context::ExecContext;
use drillmaster::control::execute::hooks::{self, HookCall};
use drillmaster::control::execute::outputs::{OutputMap, OutputStore};
use drillmaster::control::execute::stack::with_large_stack;
use drillmaster::engine::LogLine;
use drillmaster::spec::model::{Build, Hook};
use drillmaster::spec::{Content, Input, Nowhere, SourceFile, TreeError, load};
use drillmaster_sim::Sim;
use tempfile::TempDir;
use tokio_util::sync::CancellationToken;

use support::{SOON, wait_for};

/// A function with this body as a hook, given by what stands for it: `f`, `call(f, timeout="1s")`.
#[track_caller]
fn hook(body: &str, given: &str) -> Hook {
    let body = body.replace('\n', "\n    ");
    let program = format!("def f(ctx):\n    {body}\n\nservice(name=\"api\", image=\"x\", post_start={given})\n");
    let files = [SourceFile { path: "app.star".into(), content: Content::Bytes(program.into_bytes()) }];
    let input = Input {
        dir: "specs",
        files: &files,
        dotenv: None,
        environment: &BTreeMap::new(),
        context: &BTreeMap::new(),
        read: &|_| Err("there is none".into()),
        tree: &|_: &Build| Err(TreeError::Context("there is none".into())),
        reach: &Nowhere,
    };
    let mut specs = with_large_stack(|| load(&input)).unwrap().unwrap();
    specs.services.remove(0).spec.post_start.0.remove(0)
}

struct Stage {
    directory: TempDir,
    surroundings: ExecContext,
}

impl Stage {
    fn new() -> Stage {
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().canonicalize().unwrap();
        let outputs = OutputStore::default();
        outputs.save(OutputMap::from([("known".to_owned(), "1".to_owned())])).unwrap();
        let surroundings = ExecContext { group: "shop".into(), directory: path, reaches_containers: true, outputs };
        Stage { directory, surroundings }
    }

    async fn run(&self, hook: Hook, interrupted: &CancellationToken) -> (Vec<String>, Result<OutputMap, HookError>) {
        let call = HookCall {
            service: Some("api".into()),
            replica: Some(2),
            container: None,
            event: "pre_start".into(),
            hook,
            variables: BTreeMap::new(),
        };
        let mut lines = Vec::new();
        let mut heard = |line: LogLine| lines.push(line.text);
        let ended = hooks::run(&Sim::new(), &call, &self.surroundings, interrupted, &mut heard).await;
        (lines, ended)
    }

    /// The process that a script wrote to a file.
    fn process(&self) -> String {
        let file = self.directory.path().join("pid");
        wait_for("a process that says its id", SOON, || {
            let text = std::fs::read_to_string(&file).ok()?;
            text.ends_with('\n').then(|| text.trim().to_owned())
        })
    }
}

fn runs(pid: &str) -> bool {
    let stat = std::fs::read_to_string(Path::new("/proc").join(pid).join("stat")).unwrap_or_default();
    stat.rsplit_once(") ").is_some_and(|(_, rest)| !rest.starts_with(['Z', 'X']))
}

/// Writes down its id, and goes on.
const GOES_ON: &str = "ctx.run([\"sh\", \"-c\", \"echo $$ > pid; exec sleep 1000\"])";

#[tokio::test]
async fn outputs_are_read_and_given() {
    let body = "ran = ctx.run(\"sh -c 'echo $DRILLMASTER_SERVICE-$DRILLMASTER_REPLICA $DRILLMASTER_EVENT'\")\n\
                print(ran.output, ctx.replica)\n\
                ctx.context[\"next\"] = int(ctx.context[\"known\"]) + 1";
    let stage = Stage::new();
    let (lines, ended) = stage.run(hook(body, "f"), &CancellationToken::new()).await;
    assert_eq!(lines, ["api-2 pre_start 2"]);
    assert_eq!(ended, Ok(OutputMap::from([("next".to_owned(), "2".to_owned())])));
    let (_, ended) = stage.run(hook("print(\"one\")", "call(f, capture=\"said\")"), &CancellationToken::new()).await;
    assert_eq!(ended, Ok(OutputMap::from([("said".to_owned(), "one".to_owned())])));
    let (_, ended) = stage.run(hook("ctx.context[\"a-b\"] = 1", "f"), &CancellationToken::new()).await;
    assert!(ended.unwrap_err().to_string().contains("has an invalid key"));
}

#[tokio::test]
async fn calls_end_with_the_function_timeout() {
    let stage = Stage::new();
    let (_, ended) = stage.run(hook(GOES_ON, "call(f, timeout=\"500ms\")"), &CancellationToken::new()).await;
    assert_eq!(ended.unwrap_err().to_string(), "f timed out after 0.5 s");
    assert!(!runs(&stage.process()));
    let start = Instant::now();
    let (_, ended) = stage.run(hook("ctx.sleep(1000)", "call(f, timeout=\"500ms\")"), &CancellationToken::new()).await;
    assert_eq!(ended.unwrap_err().to_string(), "f timed out after 0.5 s");
    assert!(start.elapsed() < Duration::from_secs(20));
}

#[tokio::test]
async fn calls_end_with_the_run() {
    let stage = Stage::new();
    let interrupted = CancellationToken::new();
    let running = stage.run(hook(GOES_ON, "f"), &interrupted);
    let interrupt = async {
        let file = stage.directory.path().join("pid");
        let began = Instant::now();
        while !file.exists() && began.elapsed() < SOON {
            tokio::time::sleep(Duration::from_millis(10)).await;
        }
        interrupted.cancel();
    };
    let ((_, ended), ()) = tokio::join!(running, interrupt);
    assert_eq!(ended.unwrap_err().to_string(), "f was interrupted");
    assert!(!runs(&stage.process()));
}

#[tokio::test]
async fn where_there_is_no_container_nothing_can_be_done_in_one() {
    let stage = Stage::new();
    let (_, ended) = stage.run(hook("ctx.exec([\"true\"])", "f"), &CancellationToken::new()).await;
    assert_eq!(ended.unwrap_err().to_string(), "specs/app.star:2:5: the service has no container");
    let body = "def inner():\n    fail(\"no\")\ninner()";
    let (lines, ended) = stage.run(hook(body, "f"), &CancellationToken::new()).await;
    assert_eq!(ended.unwrap_err().to_string(), "specs/app.star:3:9: no");
    assert_eq!(lines, ["fail(\"no\")", "specs/app.star:4:5: in the call of `inner`"]);
}
