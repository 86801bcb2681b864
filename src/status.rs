//! What there is to say about each service: phase, reason, message. Derived from a snapshot; pure, decides nothing.

use std::borrow::Cow;
use std::collections::{BTreeMap, BTreeSet};
use std::time::{Duration, SystemTime};

use serde::{Deserialize, Serialize};

use crate::desired::{Desired, Service};
use crate::identity::{candidate_name, container_name, instance_name, service_of_instance};
use crate::observed::{Container, Health, Observed, State};
use crate::plan::cause::Cause;
use crate::plan::diff::compare;
use crate::plan::instance_of;
use crate::spec::model::Protocol;

/// The reason of a service that waits for another.
pub const WAITING: &str = "Waiting";

/// What the label of a job's container calls its kind.
const JOB: &str = "Job";

/// What a service is doing, in one word.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Phase {
    /// It has no container, or one that was never started.
    Pending,
    /// Its container runs and is not ready yet.
    Starting,
    /// Its container runs, was ready, and the engine does not call it unhealthy.
    Ready,
    /// Its job is under way.
    Running,
    /// Its job has succeeded.
    Succeeded,
    /// The engine's health check says so.
    Unhealthy,
    /// Its container is frozen.
    Paused,
    /// The engine is bringing it back.
    Restarting,
    /// Its container has ended.
    Exited,
    /// Its container ended before it was ever ready, or cannot be used.
    Failed,
    /// Something that is not ours is in the way.
    Conflict,
}

impl Phase {
    /// Whether dependents may count on it.
    fn is_ready(self) -> bool {
        matches!(self, Phase::Ready | Phase::Succeeded)
    }

    /// The word of the JSON contract.
    pub fn word(self) -> &'static str {
        match self {
            Phase::Pending => "Pending",
            Phase::Starting => "Starting",
            Phase::Ready => "Ready",
            Phase::Running => "Running",
            Phase::Succeeded => "Succeeded",
            Phase::Unhealthy => "Unhealthy",
            Phase::Paused => "Paused",
            Phase::Restarting => "Restarting",
            Phase::Exited => "Exited",
            Phase::Failed => "Failed",
            Phase::Conflict => "Conflict",
        }
    }
}

/// What a watching controller knows beside the engine.
#[derive(Debug, Clone, PartialEq, Default, Serialize, Deserialize)]
pub struct ControllerStatus {
    /// What it knows of services, by name; of those of which there is nothing to say, nothing.
    pub services: BTreeMap<String, ServiceActivity>,
    /// Why the specs could not be taken up, as it was shown; `None`: they hold.
    pub specs: Option<String>,
    /// Why the engine does not answer; `None`: it does.
    pub engine: Option<String>,
}

/// What a watching controller knows of a service.
#[derive(Debug, Clone, PartialEq, Default, Serialize, Deserialize)]
pub struct ServiceActivity {
    /// How often the controller has brought it back after it crashed or became unhealthy, in a row.
    pub restarts: u32,
    /// Exit code of the last end, where known.
    pub last_exit: Option<i64>,
    /// Why it has failed or waits, in one word.
    pub reason: Option<String>,
    /// Why, in a sentence.
    pub message: Option<String>,
    /// In how long it is tried again, in milliseconds.
    pub next_try_ms: Option<u64>,
    /// Its pings are not answered.
    pub unhealthy: bool,
}

/// A service as people and programs are told of it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ServiceStatus {
    /// Name of the service.
    pub name: String,
    /// Number of the replica; `None`: the service has no replicas.
    pub replica: Option<u32>,
    /// Kind of its document.
    pub kind: String,
    /// What it is doing.
    pub phase: Phase,
    /// Whether its dependents may count on it.
    pub ready: bool,
    /// Its container.
    pub container: Option<ContainerStatus>,
    /// How often the engine restarted it, and a watching controller in a row.
    pub restarts: u64,
    /// Why it is in this phase, in one word.
    pub reason: Option<String>,
    /// Why, in a sentence.
    pub message: Option<String>,
    /// Ports that are published now: `127.0.0.1:8080->80/tcp`.
    pub ports: Vec<String>,
    /// Since when, RFC 3339; `None`: there is no container.
    pub since: Option<String>,
    /// How its container last ended, as far as is known.
    pub last_exit: Option<LastExit>,
    /// When it is tried again, RFC 3339; `None`: nothing waits for that.
    pub next_try: Option<String>,
}

impl ServiceStatus {
    /// The name that people are told: with the number of the replica.
    pub fn shown_name(&self) -> String {
        instance_name(&self.name, self.replica)
    }
}

/// How a container ended.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct LastExit {
    /// Exit code.
    pub code: i64,
    /// `Completed`, `Error` or `OOMKilled`.
    pub reason: &'static str,
    /// When, RFC 3339, where the engine tells.
    pub at: Option<String>,
}

/// A container as people and programs are told of it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ContainerStatus {
    /// Full id.
    pub id: String,
    /// Name.
    pub name: String,
    /// Image.
    pub image: String,
}

/// What there is to judge by.
#[derive(Debug, Clone, Copy)]
pub struct View<'a> {
    /// What should exist.
    pub desired: &'a Desired,
    /// Whether the specs could be read; where not, that a service is not desired says nothing.
    pub readable: bool,
    /// What exists. Should hold details of the group's containers; without them there is less to say.
    pub observed: &'a Observed,
    /// What a watching controller said at this moment.
    pub live: Option<&'a ControllerStatus>,
    /// When that was.
    pub now: SystemTime,
}

/// The whole answer to how things are.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Overview {
    /// Name of the group.
    pub group: String,
    /// Every service that is desired or has a container, by name.
    pub services: Vec<ServiceStatus>,
    /// Whether a controller watches the group.
    pub watched: bool,
    /// Why it could not take up the specs, as it was shown.
    pub specs: Option<String>,
    /// Why the engine does not answer.
    pub engine: Option<String>,
}

/// Judges all of it.
pub fn overview(view: &View<'_>) -> Overview {
    Overview {
        group: view.desired.group.clone(),
        services: status(view),
        watched: view.live.is_some(),
        specs: view.live.and_then(|live| live.specs.clone()),
        engine: view.live.and_then(|live| live.engine.clone()),
    }
}

/// The status of every service that is desired or has a container, by name.
pub fn status(view: &View<'_>) -> Vec<ServiceStatus> {
    let View { desired, observed, .. } = view;
    let names: BTreeSet<Cow<'_, str>> = desired
        .services
        .keys()
        .map(|name| Cow::Borrowed(name.as_str()))
        .chain(observed.of_group(&desired.group).filter_map(|c| instance_of(desired, c)))
        .collect();
    let mut all: Vec<ServiceStatus> = names
        .into_iter()
        .map(|name| {
            let status = service_status(&name, view);
            match view.live.and_then(|live| live.services.get(&*name)) {
                Some(known) => with_live(status, known, view.now),
                None => status,
            }
        })
        .collect();
    all.sort_by(|one, other| (&one.name, one.replica).cmp(&(&other.name, other.replica)));
    all
}

/// Adds what a watching controller knows of a service: that it waits for its next try, that its pings are not answered,
/// why it has failed.
fn with_live(mut status: ServiceStatus, known: &ServiceActivity, now: SystemTime) -> ServiceStatus {
    status.restarts += u64::from(known.restarts);
    if let Some(code) = known.last_exit
        && status.last_exit.as_ref().is_none_or(|last| last.code != code)
    {
        status.last_exit = Some(LastExit { code, reason: exit_reason(Some(code), false), at: None });
    }
    if let Some(pause) = known.next_try_ms.map(Duration::from_millis) {
        let why = known.message.clone().or(status.message);
        let next = next_try(pause, known.restarts);
        status.phase = Phase::Restarting;
        status.reason = Some("CrashLoopBackOff".into());
        status.message = Some(why.map_or_else(|| next.clone(), |why| format!("{why}; {next}")));
        status.next_try = now.checked_add(pause).map(rfc3339);
    } else if known.unhealthy && status.phase == Phase::Ready {
        status.phase = Phase::Unhealthy;
        status.reason = Some("Unhealthy".into());
        status.message.clone_from(&known.message);
    } else if known.reason.as_deref() == Some(WAITING) {
        if status.phase != Phase::Ready {
            (status.reason, status.message) = (known.reason.clone(), known.message.clone());
        }
    } else if known.reason.is_some() {
        (status.reason, status.message) = (known.reason.clone(), known.message.clone());
        // Where another container serves meanwhile, what failed is its replacement.
        if matches!(status.phase, Phase::Pending | Phase::Exited | Phase::Starting) {
            status.phase = Phase::Failed;
        }
    }
    status.ready = status.phase.is_ready();
    status
}

/// `next try in 4 s (3rd in a row)`.
pub fn next_try(pause: Duration, count: u32) -> String {
    // Rounded up: nobody who waits so long waits in vain.
    let seconds = pause.as_millis().div_ceil(1000);
    let pause = format!("{seconds} s");
    let end = match (count % 10, count % 100) {
        (_, 11..=13) => "th",
        (1, _) => "st",
        (2, _) => "nd",
        (3, _) => "rd",
        _ => "th",
    };
    match count {
        0 | 1 => format!("next try in {pause}"),
        count => format!("next try in {pause} ({count}{end} in a row)"),
    }
}

fn service_status(name: &str, view: &View<'_>) -> ServiceStatus {
    let View { desired, observed, .. } = view;
    let service = desired.services.get(name);
    let final_name = container_name(&desired.group, name);
    let new_name = candidate_name(&desired.group, name);
    let ours: Vec<&Container> =
        observed.of_group(&desired.group).filter(|c| instance_of(desired, c).as_deref() == Some(name)).collect();
    let current = ours.iter().find(|c| c.name == final_name);
    let candidate = ours.iter().find(|c| c.name == new_name);
    let container = current.or(candidate).or(ours.first()).copied();
    let foreign = observed
        .containers
        .values()
        .find(|c| c.service_of(&desired.group).is_none() && (c.name == final_name || c.name == new_name));
    let verdict = match (container, foreign) {
        (None, Some(foreign)) => {
            let message = format!("a container named {} exists and is not drillmaster's", foreign.name);
            Verdict::new(Phase::Conflict, Some("NameTaken"), Some(message))
        }
        (None, None) => Verdict::new(Phase::Pending, Some("NoContainer"), None),
        (Some(container), _) => judge(service, container, current.is_some(), view),
    };
    let replica = match (service, container.and_then(|c| c.identity.as_ref())) {
        (Some(service), _) => service.replica,
        (None, identity) => identity.and_then(|identity| identity.replica),
    };
    ServiceStatus {
        name: service_of_instance(name, replica).to_owned(),
        replica,
        kind: container
            .and_then(|c| c.identity.as_ref())
            .map(|identity| identity.kind.clone())
            .filter(|kind| !kind.is_empty())
            .unwrap_or_else(|| "Service".into()),
        ready: verdict.phase.is_ready(),
        phase: verdict.phase,
        restarts: container.and_then(|c| c.details.as_ref()).map_or(0, |details| details.restarts),
        reason: verdict.reason.map(str::to_owned),
        message: verdict.message,
        ports: container.map(ports).unwrap_or_default(),
        since: container.map(since),
        last_exit: container.and_then(last_exit),
        next_try: None,
        container: container.map(|c| ContainerStatus {
            id: c.id.to_string(),
            name: c.name.clone(),
            image: c.image.clone(),
        }),
    }
}

struct Verdict {
    phase: Phase,
    reason: Option<&'static str>,
    message: Option<String>,
}

impl Verdict {
    fn new(phase: Phase, reason: Option<&'static str>, message: Option<String>) -> Verdict {
        Verdict { phase, reason, message }
    }
}

fn judge(service: Option<&Service>, container: &Container, was_ready: bool, view: &View<'_>) -> Verdict {
    let source = container.identity.as_ref().map(|identity| identity.source.as_str()).unwrap_or_default();
    if source != view.desired.source {
        let message = format!("the container belongs to {source}");
        return Verdict::new(Phase::Conflict, Some("OtherSource"), Some(message));
    }
    if container.identity.as_ref().is_some_and(|identity| identity.kind == JOB) {
        return judge_job(service, container, was_ready, view);
    }
    match (container.state, container.health) {
        (State::Running, Health::Unhealthy) => {
            Verdict::new(Phase::Unhealthy, Some("Unhealthy"), health_failure(container))
        }
        (State::Running, Health::Starting) => {
            Verdict::new(Phase::Starting, Some("HealthStarting"), health_failure(container))
        }
        (State::Running, _) if was_ready => {
            let (reason, message) = outdated(service, container, view);
            Verdict::new(Phase::Ready, reason, message)
        }
        (State::Running, _) if !container.name.ends_with(crate::identity::CANDIDATE_SUFFIX) => {
            let message = format!("its container was renamed to {}", container.name);
            Verdict::new(Phase::Starting, Some("Renamed"), Some(message))
        }
        (State::Running, _) => Verdict::new(Phase::Starting, Some("NotReadyYet"), None),
        (State::Paused, _) => Verdict::new(Phase::Paused, None, None),
        (State::Restarting, _) => Verdict::new(Phase::Restarting, None, None),
        (State::Created, _) => Verdict::new(Phase::Pending, Some("NeverStarted"), start_error(container)),
        (State::Removing | State::Dead, _) => Verdict::new(Phase::Failed, Some("Dead"), None),
        (State::Exited { code }, _) => exited(container, code, was_ready),
    }
}

fn judge_job(service: Option<&Service>, container: &Container, has_name: bool, view: &View<'_>) -> Verdict {
    match container.state {
        State::Running => Verdict::new(Phase::Running, None, None),
        State::Exited { code: Some(0) } if has_name => {
            let (reason, message) = outdated(service, container, view);
            Verdict::new(Phase::Succeeded, reason, message)
        }
        State::Exited { code: Some(0) } => Verdict::new(Phase::Running, Some("Completed"), None),
        State::Exited { code } => Verdict { phase: Phase::Failed, ..exited(container, code, has_name) },
        State::Created => Verdict::new(Phase::Pending, Some("NeverStarted"), start_error(container)),
        State::Paused => Verdict::new(Phase::Paused, None, None),
        State::Restarting => Verdict::new(Phase::Restarting, None, None),
        State::Removing | State::Dead => Verdict::new(Phase::Failed, Some("Dead"), None),
    }
}

fn exited(container: &Container, code: Option<i64>, was_ready: bool) -> Verdict {
    let oom = container.details.as_ref().is_some_and(|details| details.oom_killed);
    let reason = exit_reason(code, oom);
    let message = start_error(container).or_else(|| Some(format!("exited with {}", code?)));
    Verdict::new(if was_ready { Phase::Exited } else { Phase::Failed }, Some(reason), message)
}

fn exit_reason(code: Option<i64>, oom_killed: bool) -> &'static str {
    match code {
        _ if oom_killed => "OOMKilled",
        Some(0) => "Completed",
        _ => "Error",
    }
}

/// Of a container that runs the engine does not say with what it ended before.
fn last_exit(container: &Container) -> Option<LastExit> {
    let State::Exited { code: Some(code) } = container.state else {
        return None;
    };
    let details = container.details.as_ref();
    let at = details.map(|details| details.finished_at.clone()).filter(|at| !at.is_empty());
    let oom_killed = details.is_some_and(|details| details.oom_killed);
    Some(LastExit { code, reason: exit_reason(Some(code), oom_killed), at })
}

fn health_failure(container: &Container) -> Option<String> {
    let said = container.details.as_ref().map(|details| details.health_failure.as_str()).unwrap_or_default();
    (!said.is_empty()).then(|| format!("its last health check {said}"))
}

fn start_error(container: &Container) -> Option<String> {
    container.details.as_ref().map(|details| details.error.clone()).filter(|error| !error.is_empty())
}

/// A container that serves although its spec has changed or is gone.
fn outdated(
    service: Option<&Service>,
    container: &Container,
    view: &View<'_>,
) -> (Option<&'static str>, Option<String>) {
    let watched = view.live.is_some();
    let Some(service) = service else {
        if !view.readable {
            return (None, None);
        }
        let next = if watched { "" } else { "; `drillmaster up` removes it" };
        let names = view.desired.names();
        let is_fewer = container.identity.as_ref().is_some_and(|identity| names.contains(&identity.service[..]));
        let why = if is_fewer { "its service has fewer replicas now" } else { "no spec names it" };
        return (Some("NotInSpecs"), Some(format!("{why}{next}")));
    };
    let Some(identity) = &container.identity else {
        return (None, None);
    };
    let comparison = compare(service, container, identity, view.observed, false);
    let word = |cause: &Cause| match &*cause.path() {
        "build" => "its sources".to_owned(),
        path => path.to_owned(),
    };
    let fields: Vec<String> = comparison.replace.iter().chain(&comparison.update).map(word).collect();
    if fields.is_empty() {
        return (None, None);
    }
    let next = if watched { "" } else { "; `drillmaster up` applies it" };
    (Some("Outdated"), Some(format!("{} changed since{next}", fields.join(", "))))
}

fn ports(container: &Container) -> Vec<String> {
    let mut ports: Vec<String> = container
        .ports
        .iter()
        .map(|port| {
            let protocol = match port.protocol {
                Protocol::Tcp => "tcp",
                Protocol::Udp => "udp",
                Protocol::Sctp => "sctp",
            };
            format!("{}->{}/{protocol}", std::net::SocketAddr::new(port.address, port.host), port.container)
        })
        .collect();
    ports.sort();
    ports
}

/// A time in RFC 3339, in whole seconds.
fn rfc3339(time: SystemTime) -> String {
    format!("{:.0}", jiff::Timestamp::try_from(time).unwrap_or_default())
}

/// Since when it is in its state.
fn since(container: &Container) -> String {
    let created = || {
        let seconds = u64::try_from(container.created).unwrap_or_default();
        rfc3339(SystemTime::UNIX_EPOCH + Duration::from_secs(seconds))
    };
    let told = container.details.as_ref().map(|details| match container.state {
        State::Exited { .. } | State::Dead | State::Removing => details.finished_at.clone(),
        State::Created => String::new(),
        _ => details.started_at.clone(),
    });
    told.filter(|time| !time.is_empty()).unwrap_or_else(created)
}
