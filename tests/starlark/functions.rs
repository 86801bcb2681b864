//! Program functions: hooks and pings.

use std::collections::BTreeMap;
use std::sync::Mutex;
use std::time::Duration;

use drillmaster::control::programs::worker::with_large_stack;
use drillmaster::spec::Diagnostic;
use drillmaster::spec::model;
use drillmaster::spec::starlark::{
    CallContext, CallResult, Function, Host, HttpTarget, ProgramError, Programs, Ran, Response, Trace, evaluate,
};

use crate::programs::*;

/// A function context that records its calls.
#[derive(Default)]
struct Stage {
    calls: Mutex<Vec<String>>,
}

impl Stage {
    fn record(&self, call: String) {
        self.calls.lock().unwrap().push(call);
    }
}

impl Host for Stage {
    fn exec(&self, command: &[String], limit: Option<Duration>) -> Result<Ran, String> {
        self.record(format!("exec {} {limit:?}", command.join(" ")));
        let failed = (command[0] == "false").then(|| "false exited with code 3".to_owned());
        Ok(Ran {
            output: vec!["one".into(), "two".into()],
            exit_code: Some(if failed.is_some() { 3 } else { 0 }),
            failed,
        })
    }

    fn run(&self, command: &[String], limit: Option<Duration>) -> Result<Ran, String> {
        self.record(format!("run {} {limit:?}", command.join(" ")));
        Ok(Ran { output: vec!["ann".into()], failed: None, exit_code: Some(0) })
    }

    fn get(&self, target: &HttpTarget, _: Option<Duration>) -> Result<Response, String> {
        self.record(format!("get {target:?}"));
        Ok(Response { status: 404, body: "none".into() })
    }

    fn tcp(&self, port: u16) -> Result<bool, String> {
        Ok(port == 80)
    }

    fn logs(&self, lines: u32) -> Result<Vec<String>, String> {
        Ok(vec!["line".into(); lines as usize])
    }

    fn sleep(&self, time: Duration) -> Result<(), String> {
        self.record(format!("sleep {time:?}"));
        Err("the run was interrupted".into())
    }

    fn say(&self, line: &str) {
        self.record(format!("say {line}"));
    }
}

struct NoTrace;

impl Trace for NoTrace {
    fn statement(&self, _: usize, _: std::ops::Range<usize>) {}
}

/// Returns the ping of a program's only service.
#[track_caller]
fn ping(program: &str) -> Function {
    let service = specs(&[("app.star", program)]).services.swap_remove(0).spec;
    match service.ping.unwrap().check {
        model::Check::Function(function) => function,
        other => panic!("{other:?}"),
    }
}

fn call(function: &Function, stage: &Stage) -> Result<CallResult, Diagnostic> {
    call_in_worker(function, stage).map_err(|error| function.snapshot().programs.diagnostic(error))
}

fn call_in_worker(function: &Function, stage: &Stage) -> Result<CallResult, ProgramError> {
    let about = CallContext {
        group: "shop".into(),
        service: "a".into(),
        event: "ping".into(),
        context: BTreeMap::from([("user".to_owned(), "ann".to_owned())]),
        ..CallContext::default()
    };
    let programs = &function.snapshot().programs;
    // As a worker receives them.
    let received: Programs = serde_json::from_value(serde_json::to_value(programs).unwrap()).unwrap();
    let result = with_large_stack(|| {
        let (_, session) = evaluate(&received, &Directory::default(), &NoTrace);
        session.call(function.index(), &about, stage, &NoTrace)
    });
    result.unwrap()
}

/// Runs a ping with this body and returns its result.
#[track_caller]
fn result_of(body: &str, stage: &Stage) -> Result<CallResult, String> {
    let body = body.replace('\n', "\n    ");
    let program = format!("def ready(ctx):\n    {body}\nservice(name=\"a\", image=\"x\", ping=ready)\n");
    call(&ping(&program), stage).map_err(|error| error.to_string())
}

#[test]
fn functions_are_used_as_hooks_and_pings() {
    let program = r#"
load("lib.star", "answers")

def greet(ctx):
    ctx.run(["./greet.sh", ctx.service])

service(
    name="a",
    image="x",
    ping=call(answers(80), interval="1s", timeout="9s"),
    pre_start=greet,
    post_start=[greet, exec(["b"]), {"function": greet, "timeout": "2s"}],
    on={"ready": lambda ctx: None, "failed": [greet]},
)
job(name="j", image="x", on={"succeeded": greet})
group(on={"up": greet})
"#;
    let lib = "def answers(port):\n    def answers(ctx):\n        return ctx.tcp(port)\n    return answers\n";
    let desired = desired(&[("app.star", program), ("lib.star", lib)]);
    let service = &desired.services["a"];
    let ping = service.ping.as_ref().unwrap();
    assert_eq!((ping.interval, ping.timeout), (Duration::from_secs(1), Duration::from_secs(9)));
    assert_eq!(ping.check.to_string(), "function answers (app.star:7)");
    let hooks: Vec<String> = service
        .hooks
        .iter()
        .flat_map(|(point, hooks)| hooks.iter().map(move |hook| format!("{point} {} {:?}", hook.action, hook.timeout)))
        .collect();
    assert_eq!(
        hooks,
        [
            "pre_start function greet (app.star:7) 60s",
            "post_start function greet (app.star:7) 60s",
            "post_start exec b 60s",
            "post_start function greet (app.star:7) 2s",
            "ready function lambda (app.star:7) 60s",
            "failed function greet (app.star:7) 60s",
        ]
    );
    let model::Check::Function(answers) = &ping.check else { panic!() };
    assert_eq!(call(answers, &Stage::default()).unwrap().returned, Ok(true));
    let stage = Stage::default();
    for (_, hooks) in desired.services["j"].hooks.iter().chain(&service.hooks).filter(|(_, hooks)| hooks.len() == 1) {
        let model::HookAction::Function(function) = &hooks[0].action else { panic!() };
        call(function, &stage).unwrap();
    }
    assert_eq!(*stage.calls.lock().unwrap(), ["run ./greet.sh a None"; 3]);
    assert_eq!(desired.on.len(), 1);
}

#[test]
fn changed_function_does_not_replace_its_service() {
    let of = |body: &str| {
        let program = format!(
            "def ready(ctx):\n    return {body}\nservice(name=\"a\", image=\"x\", ping=ready, post_start=ready)\n"
        );
        desired(&[("app.star", &program)]).services["a"].clone()
    };
    let (one, other) = (of("True"), of("False"));
    assert_eq!(one.fingerprint, other.fingerprint);
    assert_eq!(one, of("True"));
    assert_ne!(one, other, "the new function is used");
}

#[test]
fn defects_of_a_program_are_told_from_failures() {
    for (statement, is_defect) in [
        ("return ctx.exec(\"x\").okk", true),
        ("return ctx.exce(\"x\")", true),
        ("return ctx.exec(\"x\", chekc=False)", true),
        ("return 1 + \"a\"", true),
        ("return len()", true),
        ("return ctx.exec(\"false\").ok", false),
        ("return ctx.exec(\"x\").output.split(\"\\n\")[7]", false),
        ("return {}[\"x\"]", false),
        ("return int(\"\") == 1", false),
        ("return json.decode(\"\")", false),
        ("return ctx.context.get(\"none\").strip() == \"\"", false),
        ("fail(\"not yet\")", false),
    ] {
        let program = format!("def ready(ctx):\n    {statement}\nservice(name=\"a\", image=\"x\", ping=ready)\n");
        let error = call_in_worker(&ping(&program), &Stage::default()).unwrap_err();
        assert_eq!(error.is_defect, is_defect, "{statement}: {error:?}");
    }
}

#[test]
fn functions_use_all_methods_of_their_context() {
    let stage = Stage::default();
    let body = r#"if ctx.service != "a" or ctx.group != "shop" or ctx.event != "ping" or ctx.container:
    fail("about")
out = ctx.exec(["cat", 1], timeout="2s")
if out.output != "one\ntwo" or not out.ok or out.error or out.exit_code != 0:
    fail("exec")
bad = ctx.exec("false", check=False)
if bad.ok or bad.error != "false exited with code 3" or bad.exit_code != 3:
    fail("exec")
got = ctx.http_get("/x", port=81)
if got.status != 404 or got.ok or got.body != "none" or ctx.http_get("http://h:1/y").ok:
    fail("get")
if ctx.context["user"] != "ann" or ctx.context.get("none", "x") != "x" or "none" in ctx.context:
    fail("context")
ctx.context["id"] = 7
ctx.context["user"] = ctx.context["id"] + "b"
print("said", len(ctx.logs(tail=3)))
return ctx.tcp(80) and not ctx.tcp(81)"#;
    let ended = result_of(body, &stage).unwrap();
    assert_eq!(ended.returned, Ok(true));
    assert_eq!(ended.outputs, [("id".to_owned(), "7".to_owned()), ("user".to_owned(), "7b".to_owned())]);
    assert_eq!(
        *stage.calls.lock().unwrap(),
        [
            "exec cat 1 Some(2s)",
            "exec false None",
            "get Container(81, \"/x\")",
            "get Url(HttpUrl(\"http://h:1/y\"))",
            "say said 3",
        ]
    );
    assert_eq!(result_of("pass", &stage).unwrap().returned, Err("NoneType".to_owned()));
}

#[test]
fn failed_functions_report_their_location() {
    let stage = Stage::default();
    for (body, message) in [
        ("return 1 + \"a\"", "specs/app.star:2:12: operation `+` not supported for types `int` and `string`"),
        ("ctx.exec([\"false\"])", "specs/app.star:2:5: false exited with code 3: two"),
        ("ctx.exec([])", "specs/app.star:2:5: the command is empty"),
        ("ctx.exec([\"a\"], timout=1)", "specs/app.star:2:5: `exec` has no argument `timout`"),
        ("ctx.sleep(0.5)", "specs/app.star:2:5: the run was interrupted"),
        ("ctx.sleep(\"soon\")", "specs/app.star:2:5: invalid duration `soon`"),
        ("ctx.context[\"none\"]", "specs/app.star:2:5: output `none` is not set"),
        (
            "ctx.http_get(\"ftp://x\")",
            "specs/app.star:2:5: invalid URL `ftp://x`: it must begin with `http://` or `https://`",
        ),
        ("service(name=\"b\")", "specs/app.star:2:5: `service` is not available in hooks and pings"),
        ("env(\"A\")", "specs/app.star:2:5: `env` is not available in hooks and pings"),
        (
            "for n in range(1000000):\n    for m in range(1000000):\n        pass",
            "specs/app.star:3:9: the program takes more than 1000000 steps",
        ),
        ("def f():\n    return f()\nf()", "specs/app.star:3:16: calls are nested more than 100 levels deep"),
    ] {
        let error = result_of(body, &stage);
        assert!(error.as_ref().is_err_and(|error| error.starts_with(message)), "{body}: {error:?}, expected {message}");
    }
    let nested = "def inner(ctx):\n    fail(\"deep\")\n\ndef ready(ctx):\n    inner(ctx)\n\nservice(name=\"a\", image=\"x\", ping=ready)\n";
    let error = call(&ping(nested), &Stage::default()).unwrap_err();
    assert_eq!(error.to_string(), "specs/app.star:2:5: deep");
    let frames: Vec<String> =
        error.related.iter().map(|(place, label)| format!("{}:{} {label}", place.line(), place.column())).collect();
    assert_eq!(frames, ["5:5 in the call to `inner`"]);
}

#[test]
fn functions_require_a_program() {
    let errors = errors(&[("app.yaml", "name: a\nimage: x\nping: {function: ready}\npost_start: {functon: x}\n")]);
    assert!(errors.contains("expected a function of a `*.star` file, found the text `ready`"), "{errors}");
}

/// Refresh with `UPDATE_REFERENCE=1 cargo test --test starlark reference`.
#[test]
fn reference_is_up_to_date() {
    let path = concat!(env!("CARGO_MANIFEST_DIR"), "/docs/programs-reference.md");
    let reference = drillmaster::spec::starlark::reference();
    if std::env::var_os("UPDATE_REFERENCE").is_some() {
        std::fs::write(path, &reference).unwrap();
    }
    assert_eq!(std::fs::read_to_string(path).unwrap_or_default(), reference, "outdated; see the comment of this test");
}
