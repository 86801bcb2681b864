//! Status of the services: phase, reason and message, derived from a snapshot. Pure; changes nothing.

pub mod last_run;

use std::borrow::Cow;
use std::collections::{BTreeMap, BTreeSet};
use std::time::{Duration, SystemTime};

use serde::{Deserialize, Serialize};

use crate::desired::{Desired, Service};
use crate::identity::{candidate_name, container_name, instance_name, service_of_instance};
use crate::observed::{Container, Health, Observed, State};
use crate::plan::cause::Cause;
use crate::plan::diff::compare;
use crate::plan::memory::MountedVersions;
use crate::plan::{files, instance_of};
use crate::spec::model::Protocol;
use crate::types::ContainerId;
use last_run::{LastFailure, LastRun};

/// Reason of a service that waits for a dependency.
pub const WAITING: &str = "Waiting";

/// Kind of a job in its container's label.
const JOB: &str = "Job";

/// Summary state of a service.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Phase {
    /// There is no container, or it was never started.
    Pending,
    /// The container runs and is not ready yet.
    Starting,
    /// The container runs, became ready, and is not unhealthy.
    Ready,
    /// The job is running.
    Running,
    /// The job has succeeded.
    Succeeded,
    /// The health check of the engine or the liveness probe fails.
    Unhealthy,
    /// The container is paused.
    Paused,
    /// The engine restarts the container, or the next retry is due later.
    Restarting,
    /// The container exited after it was ready.
    Exited,
    /// The container exited before it was ready, cannot be used, or could not be created.
    Failed,
    /// The container name belongs to another owner.
    Conflict,
}

impl Phase {
    /// Returns true if dependents may start.
    fn is_ready(self) -> bool {
        matches!(self, Phase::Ready | Phase::Succeeded)
    }

    /// Name in the JSON contract.
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

/// State of a watching controller that the engine does not know.
#[derive(Debug, Clone, PartialEq, Default, Serialize, Deserialize)]
pub struct ControllerStatus {
    /// By service name; services without activity are absent.
    pub services: BTreeMap<String, ServiceActivity>,
    /// Error of the specs, as printed; `None`: they are valid.
    pub specs: Option<String>,
    /// Error of the connection to the engine; `None`: it is connected.
    pub engine: Option<String>,
}

impl ControllerStatus {
    /// Visits every text that may quote a secret value.
    pub fn for_each_text(&mut self, visit: &mut dyn FnMut(&mut String)) {
        let messages = self.services.values_mut().filter_map(|service| service.message.as_mut());
        messages.chain(&mut self.specs).chain(&mut self.engine).for_each(visit);
    }
}

/// State of a service that only the controller knows.
#[derive(Debug, Clone, PartialEq, Default, Serialize, Deserialize)]
pub struct ServiceActivity {
    /// Consecutive restarts by the controller after crashes or failed probes.
    pub restarts: u32,
    /// Last exit code, if known.
    pub last_exit: Option<i64>,
    /// Reason of a failure or wait, a CamelCase word.
    pub reason: Option<String>,
    /// Message that belongs to the reason.
    pub message: Option<String>,
    /// Time until the next retry, in milliseconds.
    pub next_try_ms: Option<u64>,
    /// The liveness probe fails.
    pub unhealthy: bool,
}

/// Status of a service, as `status` prints it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ServiceStatus {
    /// Name of the service.
    pub name: String,
    /// Replica index; `None`: the service has no replicas.
    pub replica: Option<u32>,
    /// `Service` or `Job`.
    pub kind: String,
    /// Summary state.
    pub phase: Phase,
    /// Whether its dependents may start.
    pub ready: bool,
    /// The current container, otherwise the candidate.
    pub container: Option<ContainerStatus>,
    /// Restarts by the engine plus consecutive restarts by a watching controller.
    pub restarts: u64,
    /// Reason of the phase, a CamelCase word.
    pub reason: Option<String>,
    /// Message that belongs to the reason.
    pub message: Option<String>,
    /// Published ports: `127.0.0.1:8080->80/tcp`.
    pub ports: Vec<String>,
    /// Start of the container's current state, RFC 3339; `None`: there is no container.
    pub since: Option<String>,
    /// Last exit of the container, if known.
    pub last_exit: Option<LastExit>,
    /// Time of the next retry, RFC 3339; `None`: no retry is planned.
    pub next_try: Option<String>,
}

impl ServiceStatus {
    /// Name with the replica index.
    pub fn shown_name(&self) -> String {
        instance_name(&self.name, self.replica)
    }
}

/// Exit of a container.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct LastExit {
    /// Exit code.
    pub code: i64,
    /// `Completed`, `Error` or `OOMKilled`.
    pub reason: &'static str,
    /// Time of the exit, RFC 3339, if known.
    pub at: Option<String>,
}

/// A mounted file that the container has not got yet.
fn stale_file(service: &Service, container: &Container, view: &View<'_>) -> Option<(&'static str, String)> {
    let changed = files::changed(service, container, view.mounted.get(&container.id));
    let (file, _) = changed.first()?;
    let next = if view.live.is_some() { "" } else { "; `drillmaster up` applies it" };
    Some(("Outdated", format!("mounted file {} changed{next}", file.written)))
}

/// Container of a service, as `status` prints it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ContainerStatus {
    /// Full id.
    pub id: String,
    /// Name.
    pub name: String,
    /// Image.
    pub image: String,
}

/// Input of the status.
#[derive(Debug, Clone, Copy)]
pub struct View<'a> {
    /// Desired state.
    pub desired: &'a Desired,
    /// Whether the specs are valid; if not, a service missing in `desired` is not an orphan.
    pub readable: bool,
    /// Observed state, preferably with details of the group's containers: start times, restarts and errors come from
    /// them.
    pub observed: &'a Observed,
    /// Status of the watching controller, if there is one.
    pub live: Option<&'a ControllerStatus>,
    /// Failures of the last run, where no controller is watching.
    pub last_run: &'a LastRun,
    /// Versions of the files that containers mounted.
    pub mounted: &'a BTreeMap<ContainerId, MountedVersions>,
    /// Time of the snapshot.
    pub now: SystemTime,
}

/// Status of a group.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Overview {
    /// Name of the group.
    pub group: String,
    /// Every service that is desired or has a container, sorted by name.
    pub services: Vec<ServiceStatus>,
    /// Whether a controller is watching the group.
    pub watched: bool,
    /// Error of the specs, as the controller printed it.
    pub specs: Option<String>,
    /// Error of the connection to the engine.
    pub engine: Option<String>,
}

/// Derives the status of a group.
pub fn overview(view: &View<'_>) -> Overview {
    Overview {
        group: view.desired.group.clone(),
        services: status(view),
        watched: view.live.is_some(),
        specs: view.live.and_then(|live| live.specs.clone()),
        engine: view.live.and_then(|live| live.engine.clone()),
    }
}

/// Derives the status of every service that is desired or has a container, sorted by name.
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
            let known = view.live.and_then(|live| live.services.get(&*name));
            let unwatched = desired.services.get(&*name).filter(|_| view.live.is_none());
            let failed = unwatched.and_then(|service| view.last_run.failure(desired, observed, service));
            match (known, failed) {
                (Some(known), _) => with_live(status, known, view.now),
                (None, Some(failure)) => with_failure(status, failure),
                (None, None) => status,
            }
        })
        .collect();
    all.sort_by(|one, other| (&one.name, one.replica).cmp(&(&other.name, other.replica)));
    all
}

/// Adds the controller's state of a service: backoff, failed liveness probe, failure.
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
        // In other phases the current container still runs, and the failure is that of its replacement.
        if matches!(status.phase, Phase::Pending | Phase::Exited | Phase::Starting) {
            status.phase = Phase::Failed;
        }
    }
    status.ready = status.phase.is_ready();
    status
}

/// Adds the failure of the last run.
fn with_failure(mut status: ServiceStatus, failure: &LastFailure) -> ServiceStatus {
    status.phase = match status.phase {
        Phase::Ready if failure.replaces => Phase::Ready,
        Phase::Ready => Phase::Unhealthy,
        Phase::Pending | Phase::Starting => Phase::Failed,
        // It shows more than the last run knew.
        _ => return status,
    };
    let message = match failure.replaces {
        true => format!("replacement failed, the previous container serves: {}", failure.message),
        false => failure.message.clone(),
    };
    status.reason = Some(failure.reason.clone());
    status.message = Some(message);
    status.ready = status.phase.is_ready();
    status
}

/// `retrying in 4 s (3rd in a row)`.
pub fn next_try(pause: Duration, count: u32) -> String {
    // Rounded up, so that the retry is never later than announced.
    let seconds = pause.as_millis().div_ceil(1000);
    let pause = format!("{seconds} s");
    let suffix = match (count % 10, count % 100) {
        (_, 11..=13) => "th",
        (1, _) => "st",
        (2, _) => "nd",
        (3, _) => "rd",
        _ => "th",
    };
    match count {
        0 | 1 => format!("retrying in {pause}"),
        count => format!("retrying in {pause} ({count}{suffix} in a row)"),
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
            let message =
                format!("container name {} is in use by a container that drillmaster does not manage", foreign.name);
            Verdict::new(Phase::Conflict, Some("Conflict"), Some(message))
        }
        (None, None) => Verdict::new(Phase::Pending, Some("NoContainer"), None),
        (Some(container), _) => match surplus_profiles(container, view) {
            Some(message) => Verdict { message: Some(message), ..judge(service, container, current.is_some(), view) },
            None => judge(service, container, current.is_some(), view),
        },
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
            .unwrap_or_else(|| service.map_or("Service", |service| service.kind.word()).to_owned()),
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

/// Why a container is surplus although the specs define its service.
fn surplus_profiles(container: &Container, view: &View<'_>) -> Option<String> {
    let service = container.service_of(&view.desired.group)?;
    let profiles = view.desired.inactive.get(service).filter(|_| view.live.is_none())?;
    let profiles = profiles.iter().map(String::as_str).collect::<Vec<_>>().join(", ");
    Some(format!("profile not active: {profiles}; `drillmaster up` removes it"))
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
    if !view.desired.owns(source) {
        let message = format!("container belongs to the specs in {source}");
        return Verdict::new(Phase::Conflict, Some("Conflict"), Some(message));
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
            let message = format!("container was renamed to {}", container.name);
            Verdict::new(Phase::Starting, Some("Renamed"), Some(message))
        }
        (State::Running, _) => Verdict::new(Phase::Starting, Some("NotReadyYet"), None),
        (State::Paused, _) => Verdict::new(Phase::Paused, None, None),
        (State::Restarting, _) => Verdict::new(Phase::Restarting, None, None),
        (State::Created, _) => Verdict::new(Phase::Pending, Some("NeverStarted"), start_error(container)),
        (State::Removing | State::Dead, _) => Verdict::new(Phase::Failed, Some("Dead"), None),
        (State::Exited { .. }, _) if view.last_run.is_stopped(container) => {
            Verdict::new(Phase::Exited, Some("Stopped"), None)
        }
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
    let message = start_error(container).or_else(|| Some(format!("exited with code {}", code?)));
    Verdict::new(if was_ready { Phase::Exited } else { Phase::Failed }, Some(reason), message)
}

/// `oom_killed`: some process in the container was killed for lack of memory, not necessarily its program.
fn exit_reason(code: Option<i64>, oom_killed: bool) -> &'static str {
    match code {
        Some(0) => "Completed",
        _ if oom_killed => "OOMKilled",
        _ => "Error",
    }
}

/// The last exit of a stopped container. For a running one, the engine does not report its previous exit.
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
    let failure = container.details.as_ref().map(|details| details.health_failure.as_str()).unwrap_or_default();
    (!failure.is_empty()).then(|| format!("last health check {failure}"))
}

fn start_error(container: &Container) -> Option<String> {
    container.details.as_ref().map(|details| details.error.clone()).filter(|error| !error.is_empty())
}

/// Reason and message of a ready container whose spec has changed or was removed.
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
        let is_scaled_down = container.identity.as_ref().is_some_and(|identity| names.contains(&identity.service[..]));
        let reason = if is_scaled_down { "scaled down" } else { "not in the specs" };
        return (Some("NotInSpecs"), Some(format!("{reason}{next}")));
    };
    let Some(identity) = &container.identity else {
        return (None, None);
    };
    let comparison = compare(service, container, identity, view.observed, false);
    let name = |cause: &Cause| match &*cause.path() {
        "build" => "sources".to_owned(),
        path => path.to_owned(),
    };
    let fields: Vec<String> = comparison.replace.iter().chain(&comparison.update).map(name).collect();
    if fields.is_empty() {
        return stale_file(service, container, view).unzip();
    }
    let next = if watched { "" } else { "; `drillmaster up` applies it" };
    (Some("Outdated"), Some(format!("{} changed{next}", fields.join(", "))))
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

/// Start of the container's current state.
fn since(container: &Container) -> String {
    let created = || {
        let seconds = u64::try_from(container.created).unwrap_or_default();
        rfc3339(SystemTime::UNIX_EPOCH + Duration::from_secs(seconds))
    };
    let time = container.details.as_ref().map(|details| match container.state {
        State::Exited { .. } | State::Dead | State::Removing => details.finished_at.clone(),
        State::Created => String::new(),
        _ => details.started_at.clone(),
    });
    time.filter(|time| !time.is_empty()).unwrap_or_else(created)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn program_that_ended_by_itself_was_not_killed() {
        let reasons = [(Some(0), true), (Some(0), false), (Some(137), true), (None, true), (Some(137), false)];
        let reasons = reasons.map(|(code, oom_killed)| exit_reason(code, oom_killed));
        assert_eq!(reasons, ["Completed", "Completed", "OOMKilled", "OOMKilled", "Error"]);
    }
}
