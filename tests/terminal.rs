//! Foreign text cannot control the terminal: every source of text is given control characters, and the output is
//! searched for them. A new source is one more entry of [`reports`], [`COMMANDS`] or [`RESULTS`].

#![allow(clippy::unwrap_used)] // a panic fails the test

mod builders;

use std::collections::BTreeMap;
use std::io::{Read, Write};
use std::os::unix::net::UnixListener;
use std::path::Path;
use std::process::Command;
use std::time::{Duration, UNIX_EPOCH};

use builders::{agreeing, by_name, desired, service};
use drillmaster::control::event::{Failed, Outcome, Report};
use drillmaster::desired::HookPoint;
use drillmaster::desired::fingerprint::Fingerprint;
use drillmaster::engine::{EngineError, PullProgress};
use drillmaster::observed::State;
use drillmaster::plan::cause::{Cause, WantedState};
use drillmaster::plan::step::{Action, Change, Failure, Reason, Step, Subject, Verb, Wait};
use drillmaster::plan::{Memory, forecast};
use drillmaster::render::progress::Progress;
use drillmaster::render::watch::{WatchPrinter, event};
use drillmaster::render::{self, Style, Text, diagnostics};
use drillmaster::spec::locate::{Location, SourceText};
use drillmaster::spec::{Diagnostic, Specs};
use drillmaster::status::last_run::LastRun;
use drillmaster::status::{ControllerStatus, ServiceActivity, View, overview};

/// Text that clears the screen, sets the title, rings, overwrites its line, forges a line and reverses the direction.
const HOSTILE: &str = "x\u{1b}[2J\u{1b}]0;t\u{7}\ry\nforged: line\u{8}\u{7f}\u{9b}31m\u{85}\u{61c}\u{200b}\u{200f}\
                       \u{2028}\u{202e}z\u{2060}\u{2066}\u{2069}\u{feff}.";

/// Hostile text for specs: what YAML and Starlark can write in double quotes.
const ESCAPED: &str = "x\\u001b[2J\\u001b]0;t\\u0007\\ry\\nforged: line\\u0008\\u007f\\u009b31m\\u0085\\u061c\\u200b\
                       \\u200f\\u2028\\u202ez\\u2060\\u2066\\u2069\\ufeff.";

/// Returns true for a character that may not reach the terminal; line breaks are ours.
fn is_dangerous(c: char) -> bool {
    let ours = c == '\n' || c == '\t';
    let invisible = ('\u{200b}'..='\u{200f}').contains(&c) || ('\u{2028}'..='\u{202e}').contains(&c);
    (c.is_control() && !ours)
        || invisible
        || ('\u{2060}'..='\u{2069}').contains(&c)
        || matches!(c, '\u{61c}' | '\u{feff}')
}

/// Checks that the text of a source was printed, and nothing in it as it was.
#[track_caller]
fn assert_safe(source: &str, printed: &str) {
    assert!(printed.contains("forged: line"), "{source}: not printed: {printed:?}");
    let dangerous: Vec<char> = printed.chars().filter(|c| is_dangerous(*c)).collect();
    assert!(dangerous.is_empty(), "{source}: {dangerous:?} in {printed:?}");
    assert!(printed.lines().all(|line| !line.starts_with("forged")), "{source}: a forged line in {printed:?}");
}

fn hostile() -> String {
    HOSTILE.to_owned()
}

fn diagnostic() -> Diagnostic {
    let file = SourceText::new(HOSTILE, format!("{HOSTILE}\n{HOSTILE}"));
    let end = file.text().len();
    Diagnostic::at(Location::new(&file, 3..end), HOSTILE)
        .label(HOSTILE)
        .related(Location::new(&file, 0..1), HOSTILE)
        .hint(hostile())
}

fn change() -> Change {
    let field =
        Cause::Field { path: hostile(), old: Some(HOSTILE.into()), new: Some(vec![HOSTILE].into()), secret: false };
    let name = Cause::Name { found: Some(hostile()), wanted: Some(hostile()) };
    let network = Cause::Network { found: Some(hostile()), wanted: hostile() };
    let state = Cause::State { found: Some(State::Dead), wanted: WantedState::Running };
    Change {
        subject: Subject::Image(hostile()),
        kind: hostile(),
        action: Action::Update,
        replica: None,
        causes: vec![field, name, network, state, Cause::Dependency(hostile())],
        interrupts: None,
        source: hostile(),
    }
}

fn failure() -> Failure {
    Failure {
        service: HOSTILE.into(),
        reason: Reason::Exited,
        message: hostile(),
        container: None,
        fingerprint: Fingerprint::default(),
        image: None,
        replaces: false,
        own_fault: true,
    }
}

fn step(verb: Verb) -> Step {
    Step { subject: Subject::Image(hostile()), verb, cause: hostile() }
}

fn outcome() -> Outcome {
    let engine = EngineError::Refused { attempted: hostile(), message: hostile() };
    let wait = Wait::new(HOSTILE.into(), hostile(), None);
    let ended_by = Some(hostile());
    Outcome { waits: vec![wait], engine: Some(engine), ended_by, ..Outcome::default() }
}

/// Reports with hostile text in every field.
fn reports() -> Vec<Report> {
    let hook = Verb::Hook { point: HookPoint::PostStart, index: 0, action: hostile(), container: None };
    let failed =
        Failed { failure: failure(), output: vec![hostile(), hostile()], count: 2, retry: None, retries: None };
    vec![
        Report::Planned(vec![Change { action: Action::Remove, ..change() }]),
        Report::StepStarted(step(hook)),
        Report::StepStarted(step(Verb::Pull)),
        Report::StepDone(step(Verb::Pull)),
        Report::StepFailed(step(Verb::CreateNetwork), hostile()),
        Report::Pulling(hostile(), PullProgress { done: 1, total: 2, bytes: 3 }),
        Report::Waiting { service: HOSTILE.into(), reason: hostile(), blocked: false },
        Report::Ready(HOSTILE.into()),
        Report::Succeeded(HOSTILE.into()),
        Report::Output { service: Some(hostile()), event: hostile(), line: hostile(), build: None },
        Report::RolledBack(HOSTILE.into()),
        Report::Failed(failed),
        Report::Note(hostile()),
        Report::Reconciling { change: change(), spec: true },
        Report::Reconciling { change: change(), spec: false },
        Report::Removed(HOSTILE.into()),
        Report::Unhealthy { service: HOSTILE.into(), why: hostile() },
        Report::Healthy(HOSTILE.into()),
        Report::SpecsInvalid(vec![diagnostic()]),
        Report::EngineLost(EngineError::Unreachable { endpoint: hostile(), reason: hostile() }),
        // No text of others.
        Report::SpecsValid,
        Report::SpecsEmpty,
        Report::EngineReconnected,
        Report::Settled(Box::default()),
        Report::Status(Box::default()),
        Report::Stopping(hostile()),
    ]
}

/// Which reports a display prints. Without a wildcard: a new report must be decided, and belongs in [`reports`].
fn is_printed(report: &Report, watch: bool) -> bool {
    match report {
        Report::Planned(_) => !watch,
        Report::StepStarted(step) => !watch || step.verb == Verb::Pull,
        Report::Waiting { .. } => !watch,
        Report::StepDone(_)
        | Report::Ready(_)
        | Report::Succeeded(_)
        | Report::Output { .. }
        | Report::RolledBack(_)
        | Report::Failed(_)
        | Report::Note(_)
        | Report::StepFailed(..)
        | Report::Reconciling { .. }
        | Report::Removed(_)
        | Report::SpecsInvalid(_) => true,
        Report::Unhealthy { .. } | Report::Healthy(_) | Report::EngineLost(_) => watch,
        Report::Pulling(..)
        | Report::SpecsValid
        | Report::SpecsEmpty
        | Report::EngineReconnected
        | Report::Settled(_)
        | Report::Status(_)
        | Report::Stopping(_) => false,
    }
}

fn style(color: bool, json: bool) -> Style {
    // Without -v, waits are not printed at once.
    Style { verbose: true, ..Style::new(Some(color), false, false, json) }
}

/// Separates the output of two sources.
const END: &str = "=== end\n";

/// Prints every report to stderr as `up` and `up --watch` do. Started by the test below as a process of its own, whose
/// streams can be read.
#[test]
#[ignore = "prints what reports_are_safe checks"]
fn print_reports() {
    for (watch, json) in [(false, false), (true, false), (true, true)] {
        for report in reports().into_iter().filter(|report| is_printed(report, watch)) {
            let style = style(false, json);
            match watch {
                false => Progress::new(style).show(report),
                true => WatchPrinter::new(style, "specs".into()).show(report),
            }
            style.eprintln(END.trim());
        }
    }
    let mut printer = WatchPrinter::new(style(false, false), "specs".into());
    printer.stopped(&outcome());
}

#[test]
fn reports_are_safe() {
    let output = Command::new(std::env::current_exe().unwrap())
        .args(["--exact", "print_reports", "--ignored", "--nocapture", "--quiet"])
        .output()
        .unwrap();
    assert!(output.status.success(), "{output:?}");
    let text = String::from_utf8(output.stderr).unwrap();
    let printed: Vec<&str> = text.split(END).collect();
    let of = |watch| reports().into_iter().filter(move |report| is_printed(report, watch));
    let sources: Vec<Report> = of(false).chain(of(true)).collect();
    assert!(printed.len() > sources.len(), "{text}");
    for (report, printed) in sources.iter().zip(&printed) {
        assert_safe(&format!("{report:?}"), printed);
    }
    assert_safe("end of a watch", printed.last().unwrap());
    let text = String::from_utf8(output.stdout).unwrap();
    let events: Vec<&str> = text.lines().filter(|line| line.starts_with('{')).collect();
    assert_eq!(events.len(), of(true).count(), "{text}");
    for event in events {
        assert_safe("event", event);
        let json: serde_json::Value = serde_json::from_str(event).unwrap();
        assert!(json["message"].as_str().unwrap().contains(HOSTILE), "{event}");
    }
}

#[test]
fn events_for_other_processes_are_shown_safely() {
    for report in reports().into_iter().filter(|report| is_printed(report, true)) {
        let event = event(&report).unwrap();
        assert_safe(&format!("{report:?}"), &Text::from(event["message"].as_str().unwrap()).to_string());
    }
}

/// A source of text, and what is printed of it.
type Source = (&'static str, fn() -> String);

/// What commands print as a result.
const RESULTS: &[Source] = &[
    ("error message", || Text::from(HOSTILE).to_string()),
    ("diagnostics", || diagnostics::render(&[diagnostic()], false)),
    ("plan", || {
        let mut forecast = forecast(&desired([]), &foreign(false), &Memory::default());
        assert!(!forecast.changes.is_empty());
        forecast.changes.push(change());
        forecast.failures.push(failure());
        forecast.steps.push(step(Verb::Build));
        render::plan::forecast(&forecast, true).to_string()
    }),
    ("notes of a plan", || {
        let forecast = forecast(&desired([]), &foreign(false), &Memory::default());
        forecast.notes.iter().map(|note| Text::from(note).to_string()).collect()
    }),
    ("conflicts", || {
        let forecast = forecast(&desired([service("api")]), &foreign(true), &Memory::default());
        assert!(!forecast.failures.is_empty());
        render::plan::forecast(&forecast, true).to_string()
    }),
    ("status", || {
        let activity = ServiceActivity { reason: Some(hostile()), message: Some(hostile()), ..Default::default() };
        let live = ControllerStatus {
            services: [("api".to_owned(), activity)].into(),
            specs: Some(hostile()),
            engine: Some(hostile()),
        };
        let wanted = desired([service("api")]);
        let observed = foreign(false);
        let view = View {
            desired: &wanted,
            readable: true,
            observed: &observed,
            live: Some(&live),
            last_run: &LastRun::default(),
            mounted: &Default::default(),
            now: UNIX_EPOCH,
        };
        render::status::table(&overview(&view), UNIX_EPOCH).to_string()
    }),
];

/// Containers whose labels, name and image somebody else wrote; `elsewhere`: of another spec directory.
fn foreign(elsewhere: bool) -> drillmaster::observed::Observed {
    let mut observed = agreeing(&desired([service("api"), service("old"), service("copy")]));
    for name in ["shop-api", "shop-old", "shop-copy"] {
        let container = by_name(&mut observed, name);
        let identity = container.identity.as_mut().unwrap();
        identity.spec = hostile();
        identity.spec_hash = hostile();
        identity.service = hostile();
        container.image = hostile();
    }
    if elsewhere {
        by_name(&mut observed, "shop-api").identity.as_mut().unwrap().source = hostile();
    }
    let copy = by_name(&mut observed, "shop-copy");
    copy.inherited = copy.identity.take();
    copy.name = hostile();
    observed
}

#[test]
fn results_are_safe() {
    for (source, print) in RESULTS {
        assert_safe(source, &print());
    }
}

/// Commands with specs that print hostile text: name, file name, content, arguments.
const COMMANDS: &[(&str, &str, &str, &[&str])] = &[
    ("print of a program", "app.star", "print(\"HOSTILE\")\nservice(name=\"a\", image=\"b\")", &["validate"]),
    ("failing program", "app.star", "fail(\"HOSTILE\")", &["validate"]),
    ("invalid value", "app.yaml", "name: \"HOSTILE\"\nimage: b", &["validate"]),
    ("unknown field", "app.yaml", "name: a\nimage: b\n\"HOSTILE\": 1", &["validate"]),
    ("variable with an error", "app.yaml", "name: a\nimage: \"${NO:?HOSTILE}\"", &["validate"]),
    ("file name", "RAW.yaml", "name: a\nimage: b\nnonsense: 1", &["validate"]),
    ("file name in a comment", "RAW.yaml", "name: a\nimage: b", &["render"]),
    ("rendered specs", "app.yaml", "name: a\nimage: b\ncommand: [\"HOSTILE\"]", &["render"]),
    ("rendered specs as JSON", "app.yaml", "name: a\nimage: b\ncommand: [\"HOSTILE\"]", &["render", "-o", "json"]),
    ("service that is unknown", "app.yaml", "name: a\nimage: b", &["render", HOSTILE]),
    ("answer of the engine", "app.yaml", "name: a\nimage: b", &["status"]),
    ("log of the answer", "app.yaml", "name: a\nimage: b", &["status", "-vv"]),
];

/// Runs a command on an engine that answers every request with a hostile message.
fn run(directory: &Path, arguments: &[&str]) -> String {
    let socket = directory.join("engine.sock");
    let listener = UnixListener::bind(&socket).unwrap();
    let message = serde_json::json!({ "message": HOSTILE }).to_string();
    let length = message.len();
    let head = format!("HTTP/1.1 500 no\r\nContent-Type: application/json\r\nContent-Length: {length}\r\n\r\n");
    std::thread::spawn(move || {
        for stream in listener.incoming() {
            let mut stream = stream.unwrap();
            let _ = stream.read(&mut [0; 4096]);
            let _ = stream.write_all((head.clone() + &message).as_bytes());
        }
    });
    let output = Command::new(env!("CARGO_BIN_EXE_drillmaster"))
        .args(arguments)
        .current_dir(directory)
        .env("DOCKER_HOST", format!("unix://{}", socket.display()))
        .env("XDG_STATE_HOME", directory.join("state"))
        .env("NO_COLOR", "1")
        .output()
        .unwrap();
    String::from_utf8(output.stdout).unwrap() + &String::from_utf8(output.stderr).unwrap()
}

#[test]
fn commands_are_safe() {
    for (source, file, content, arguments) in COMMANDS {
        let home = tempfile::tempdir().unwrap();
        let file = home.path().join("specs").join(file.replace("RAW", &HOSTILE.replace('/', "")));
        std::fs::create_dir(home.path().join("specs")).unwrap();
        std::fs::write(file, content.replace("HOSTILE", ESCAPED)).unwrap();
        assert_safe(source, &run(home.path(), arguments));
    }
}

fn specs(text: &str) -> Specs {
    let content = drillmaster::spec::Content::Bytes(text.into());
    let files = [drillmaster::spec::SourceFile { path: "app.yaml".into(), content }];
    let none = BTreeMap::new();
    let input = drillmaster::spec::Input {
        dir: "specs",
        files: &files,
        dotenv: &[],
        environment: &none,
        lenient: false,
        profiles: &Default::default(),
        context: &none,
        read: &|_| Err(String::new()),
        tree: &|_| unreachable!("nothing is built"),
        interpreter: &drillmaster::spec::starlark::NoPrograms,
    };
    drillmaster::spec::load(&input).unwrap_or_else(|errors| panic!("{errors:#?}"))
}

/// Nothing is lost in what other programs read.
#[test]
fn rendered_specs_keep_unusual_characters() {
    let first = specs(&format!("name: a\nimage: b\ncommand: [\"{ESCAPED}\"]\nlabels: {{\"{ESCAPED}\": x}}\n"));
    let words = |specs: &Specs| specs.services[0].spec.container.command.as_ref().unwrap().to_vec();
    assert_eq!(words(&first), [HOSTILE]);
    let yaml = render::specs::yaml(&first, &[], true);
    assert_safe("YAML", &yaml);
    assert_eq!(words(&specs(&yaml)), [HOSTILE], "{yaml}");
    assert_eq!(specs(&yaml).services[0].spec.container.labels, first.services[0].spec.container.labels, "{yaml}");
}

#[test]
fn json_keeps_unusual_characters() {
    let home = tempfile::tempdir().unwrap();
    std::fs::create_dir(home.path().join("specs")).unwrap();
    std::fs::write(home.path().join("specs/app.yaml"), format!("name: a\nimage: b\ncommand: [\"{ESCAPED}\"]\n"))
        .unwrap();
    let printed = run(home.path(), &["render", "-o", "json"]);
    let json: serde_json::Value = serde_json::from_str(&printed).unwrap();
    assert_eq!(json[0]["spec"]["command"][0], HOSTILE);
}

#[test]
fn our_own_colors_and_line_breaks_are_kept() {
    let failed = Failed {
        failure: failure(),
        output: vec!["one".into()],
        count: 1,
        retry: Some(Duration::from_secs(1)),
        retries: None,
    };
    assert_eq!(render::progress::last_lines(&failed).to_string(), "\n  last lines of its container:\n  | one");
    let text = Text::painted(render::Paint::Red, "a\u{1b}b") + render::LineBreak + "c\td\n";
    assert_eq!(text.print(true), "\u{1b}[1;31ma\\u{1b}b\u{1b}[0m\nc\td\\n");
    assert_eq!(text.trim_end().print(false), "a\\u{1b}b\nc\td");
}
