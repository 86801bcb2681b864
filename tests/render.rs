//! Output of plans, status and events as text and JSON. Snapshots are in tests/snapshots; INSTA_UPDATE=always rewrites
//! them.

#![allow(clippy::unwrap_used)] // a panic fails the test

mod builders;

use std::time::{Duration, UNIX_EPOCH};

use builders::{agreeing, by_name, desired, service};
use drillmaster::control::event::{Failed, Outcome, Report};
use drillmaster::desired::fingerprint::Fingerprint;
use drillmaster::engine::EngineError;
use drillmaster::observed::{Details, State};
use drillmaster::plan::cause::{Cause, WantedState};
use drillmaster::plan::step::{Action, Change, Failure, Reason, Step, Subject, Verb, Wait};
use drillmaster::plan::{Memory, forecast};
use drillmaster::render;
use drillmaster::render::event_log::{self, event_line};
use drillmaster::spec::Diagnostic;
use drillmaster::status::last_run::LastRun;
use drillmaster::status::{ControllerStatus, ServiceActivity, View, overview};

use insta::assert_snapshot;

/// Returns a group with every kind of change.
fn example() -> (drillmaster::desired::Desired, drillmaster::observed::Observed) {
    let before = desired([
        service("appdb").image("appdb:1").env("PASSWORD", "old secret"),
        service("api").image("api:1").needs("appdb").port("8080:80"),
        service("gone").needs("api"),
        service("sleeper"),
    ]);
    let wanted = desired([
        service("appdb").image("appdb:1").env("PASSWORD", "new secret"),
        service("api").image("api:2").needs("appdb").port("8081:80"),
        service("sleeper"),
        service("fresh").needs("api"),
    ]);
    let mut observed = agreeing(&before);
    builders::add_image(&mut observed, "api:2", drillmaster::observed::ImageFacts::default());
    by_name(&mut observed, "shop-sleeper").state = State::Exited { code: Some(137) };
    for container in observed.containers.values_mut() {
        let env = [("PASSWORD".to_owned(), "old secret".to_owned())].into();
        let started_at = "2026-11-23T05:00:00Z".to_owned();
        let finished_at = "2026-11-23T05:10:00Z".to_owned();
        container.details = Some(Details { env, started_at, finished_at, ..Details::default() });
    }
    (wanted, observed)
}

#[test]
fn plan_as_text() {
    let (wanted, observed) = example();
    let forecast = forecast(&wanted, &observed, &Memory::default());
    let text = render::plan::forecast(&forecast, false).to_string();
    assert!(!text.contains("secret"), "values of the environment are hidden");
    assert_snapshot!("plan", text);
    let shown = render::plan::forecast(&forecast, true).to_string();
    assert!(shown.contains("env.PASSWORD: old secret -> new secret"), "unless --show-values is given: {shown}");
    assert!(render::plan::forecast(&forecast, false).print(true).contains("\u{1b}["));
}

#[test]
fn plan_as_json() {
    let (wanted, observed) = example();
    let forecast = forecast(&wanted, &observed, &Memory::default());
    assert_snapshot!("plan.json", format!("{:#}", render::json::diff(&wanted, &forecast, false)));
}

#[test]
fn status_as_text_and_json() {
    let (wanted, observed) = example();
    let now = UNIX_EPOCH + Duration::from_secs(1_795_412_700); // 2026-11-23T05:45:00Z
    let overview = overview(&View {
        desired: &wanted,
        readable: true,
        observed: &observed,
        live: None,
        last_run: &LastRun::default(),
        mounted: &Default::default(),
        now,
    });
    assert_snapshot!("status", render::status::table(&overview, now));
    assert_snapshot!("status.json", format!("{:#}", render::json::status(&overview)));
}

fn reconciling(action: Action, spec: bool, causes: Vec<Cause>) -> Report {
    let subject = Subject::Service("api".into());
    let change = Change {
        subject,
        kind: "Service".into(),
        action,
        replica: None,
        causes,
        interrupts: None,
        source: "app.yaml:12".into(),
    };
    Report::Reconciling { change, spec }
}

fn secret(path: &str) -> Cause {
    Cause::Field { path: path.into(), old: Some("old secret".into()), new: Some("new secret".into()), secret: true }
}

fn failed(reason: Reason, message: &str, count: u32, retry: Option<u64>) -> Report {
    let failure = Failure {
        own_fault: reason.is_own_fault(),
        service: "api".into(),
        reason,
        message: message.into(),
        container: None,
        fingerprint: Fingerprint::default(),
        image: None,
        replaces: retry.is_none(),
    };
    Report::Failed(Failed {
        failure,
        output: vec!["oh".into()],
        count,
        retry: retry.map(Duration::from_millis),
        retries: None,
    })
}

/// Returns one report of each kind.
fn reports() -> Vec<Report> {
    let gone =
        EngineError::Unreachable { endpoint: "/var/run/docker.sock".into(), reason: "connection refused".into() };
    let state = |found: Option<State>| vec![Cause::State { found, wanted: WantedState::Running }];
    let network = |found: Option<&str>| Cause::Network { found: found.map(str::to_owned), wanted: "shop".into() };
    let pull =
        Step { subject: Subject::Image("api:2".into()), verb: Verb::Pull, cause: "image not present locally".into() };
    let build = Step {
        subject: Subject::Image("shop-api:2".into()),
        verb: Verb::Build,
        cause: "image not present locally".into(),
    };
    let settled = Outcome {
        ready: ["web".into()].into(),
        waits: vec![Wait::new("x".into(), "waiting for api".into(), None)],
        ..Outcome::default()
    };
    vec![
        reconciling(Action::Create, true, vec![Cause::NoContainer { candidate: None, wanted: "shop-api".into() }]),
        reconciling(
            Action::Replace,
            true,
            vec![secret("env.LOG_LEVEL"), Cause::field("image", Some("a:1"), Some("a:2"))],
        ),
        reconciling(Action::Replace, false, vec![Cause::field("image", Some("sha256:1"), Some("sha256:2"))]),
        reconciling(Action::Replace, false, vec![Cause::Reload]),
        reconciling(Action::Replace, false, vec![Cause::field("rerun", None, Some("always"))]),
        reconciling(Action::Replace, true, vec![Cause::field("build", Some("shop-api:1"), Some("shop-api:2"))]),
        Report::StepStarted(build.clone()),
        Report::Output {
            service: Some("api".into()),
            event: "build".into(),
            line: "Step 1/1 : FROM debian".into(),
            build: None,
        },
        Report::StepDone(build),
        failed(Reason::BuildFailed, "image build failed: no", 1, None),
        reconciling(Action::Update, true, vec![Cause::field("resources.memory", Some("64m"), Some("128m"))]),
        reconciling(Action::Update, false, vec![Cause::field("resources.memory", Some("64m"), Some("128m"))]),
        reconciling(Action::Update, false, vec![Cause::field("resources.pids", None, Some("10"))]),
        reconciling(
            Action::Update,
            false,
            vec![Cause::Name { found: Some("shop-other".into()), wanted: Some("shop-api".into()) }],
        ),
        reconciling(Action::Update, false, vec![network(None)]),
        reconciling(Action::Update, false, vec![network(Some("id"))]),
        reconciling(Action::Start, false, state(Some(State::Exited { code: Some(137) }))),
        reconciling(Action::Start, false, state(Some(State::Exited { code: None }))),
        reconciling(Action::Start, false, state(Some(State::Created))),
        reconciling(Action::Start, false, state(Some(State::Paused))),
        reconciling(Action::Create, false, state(Some(State::Dead))),
        reconciling(Action::Create, false, state(None)),
        reconciling(Action::Restart, false, vec![Cause::Dependency("appdb".into())]),
        reconciling(Action::Restart, false, vec![Cause::Unhealthy]),
        reconciling(Action::Remove, true, Vec::new()),
        Report::Removed("api".into()),
        Report::Ready("api".into()),
        failed(Reason::Exited, "exited with code 1", 1, Some(1000)),
        failed(Reason::Exited, "exited with code 1", 12, Some(299_100)),
        failed(Reason::NotReady, "readiness probe failed", 1, None),
        failed(Reason::Conflict, "a container named shop-api exists", 1, None),
        Report::Unhealthy { service: "api".into(), why: "connection refused".into() },
        Report::Healthy("api".into()),
        Report::StepStarted(pull.clone()),
        Report::StepDone(pull.clone()),
        Report::StepFailed(Step { verb: Verb::CreateNetwork, ..pull }, "no".into()),
        Report::SpecsInvalid(vec![Diagnostic::new("the directory `specs` is gone"), Diagnostic::new("two")]),
        Report::SpecsValid,
        Report::SpecsEmpty,
        Report::EngineLost(gone),
        Report::EngineReconnected,
        Report::Note("by the way".into()),
        Report::Settled(Box::new(settled)),
    ]
}

#[test]
fn event_lines_as_text_and_json() {
    let lines: Vec<_> = reports().iter().map(|report| event_line(report).expect("an event")).collect();
    let text: String = lines.iter().map(|line| line.message() + "\n").collect();
    assert!(!text.contains("secret"), "values of the environment are hidden");
    assert_snapshot!("watch", text);
    let json: String = lines.iter().map(|line| format!("{}\n", line.to_json(UNIX_EPOCH))).collect();
    assert!(!json.contains("secret"), "values of the environment are hidden");
    assert_snapshot!("watch.json", json);
}

#[test]
fn stopped_watch_names_the_requester() {
    let by = Outcome { ended_by: Some("drillmaster down (pid 7)".into()), ..Outcome::default() };
    assert_eq!(event_log::stopped(&by).message(), "watch stopped: requested by drillmaster down (pid 7)");
    assert_eq!(event_log::stopped(&Outcome::default()).message(), "watch stopped; containers keep running");
}

#[test]
fn steps_and_waits_are_not_events() {
    let step = Step { subject: Subject::Service("api".into()), verb: Verb::CreateNetwork, cause: String::new() };
    let waits = Report::Waiting { service: "api".into(), reason: "waiting for appdb".into(), blocked: false };
    for report in [Report::StepStarted(step.clone()), Report::StepDone(step), waits, Report::Planned(Vec::new())] {
        assert_eq!(event_line(&report), None, "{report:?}");
    }
}

#[test]
fn status_contains_the_state_of_the_controller() {
    let wanted = desired([service("broken"), service("resting"), service("sick"), service("waits"), service("well")]);
    let mut observed = agreeing(&wanted);
    by_name(&mut observed, "shop-resting").state = State::Exited { code: Some(137) };
    by_name(&mut observed, "shop-resting").details =
        Some(Details { oom_killed: true, finished_at: "2026-11-23T05:10:00Z".into(), ..Details::default() });
    observed.containers.retain(|_, container| container.name != "shop-broken" && container.name != "shop-waits");
    let known = |reason: &str, message: &str| ServiceActivity {
        reason: Some(reason.into()),
        message: Some(message.into()),
        ..ServiceActivity::default()
    };
    let resting = ServiceActivity {
        restarts: 4,
        last_exit: Some(137),
        next_try_ms: Some(7_900),
        ..known("Exited", "exited with code 137")
    };
    let sick = ServiceActivity { unhealthy: true, ..known("Unhealthy", "connection refused") };
    let services = [
        ("broken", known("ImageMissing", "no such image")),
        ("resting", resting),
        ("sick", sick),
        ("waits", known("Waiting", "waiting for broken")),
    ];
    let live = ControllerStatus {
        services: services.map(|(name, live)| (name.to_owned(), live)).into(),
        specs: Some("specs/app.yaml:3:1: unknown field `prots`".into()),
        engine: None,
    };
    let now = UNIX_EPOCH + Duration::from_secs(1_795_412_700); // 2026-11-23T05:45:00Z
    let view = View {
        desired: &wanted,
        readable: true,
        observed: &observed,
        live: Some(&live),
        last_run: &LastRun::default(),
        mounted: &Default::default(),
        now,
    };
    assert_snapshot!("watched", render::status::table(&overview(&view), now));
    assert_snapshot!("watched.json", format!("{:#}", render::json::status(&overview(&view))));
    // If the specs are invalid, no service is an orphan.
    let none = desired([]);
    let overview = overview(&View { desired: &none, readable: false, live: None, ..view });
    assert!(overview.services.iter().all(|service| service.reason.as_deref() != Some("NotInSpecs")), "{overview:#?}");
}
