//! Controller events, commands, reports and the outcome of a run. Data only.

use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;

use serde::{Deserialize, Serialize};
use tokio::sync::{OwnedSemaphorePermit, mpsc};

use super::error::{HookError, StepError};
use crate::desired::{Desired, Hook};
use crate::engine::{ContainerExit, EngineError, EngineEvent, PullProgress, Result};
use crate::lease::Lease;
use crate::observed::{Container, ImageFacts, Observed};
use crate::plan::memory::MountedVersions;
use crate::plan::step::{Change, ContainerRef, Failure, Probe, Step, Subject, Wait};
use crate::spec::Diagnostic;
use crate::status::ControllerStatus;
use crate::types::{ContainerId, ServiceName};

/// Input of the state machine.
#[derive(Debug)]
pub enum Event {
    Begin,
    /// Result of [`Command::List`].
    Listed(Result<Observed>),
    /// Result of [`Command::Inspect`]; `None`: no such container.
    Inspected(ContainerId, Result<Option<Box<Container>>>),
    /// Result of [`Command::Image`]; `None`: no such image.
    Image(String, Result<Option<ImageFacts>>),
    /// Result of [`Command::RunStep`]: the id of what was created.
    StepDone(Step, std::result::Result<Option<String>, StepError>),
    /// An event of the engine.
    Engine(Result<EngineEvent>),
    EngineEventsEnded,
    /// The readiness probe succeeded and ends.
    ProbeSucceeded(ContainerId),
    /// The readiness probe failed once, with the error.
    ProbeFailed {
        container: ContainerId,
        error: String,
        /// Another attempt would fail too.
        permanent: bool,
    },
    /// Progress of a pull, by image reference.
    Pulling(String, PullProgress),
    /// Result of [`Command::Diagnose`]: the last lines of the container's output.
    Diagnosed(Failure, Vec<String>),
    /// Result of [`Command::ReadExit`]: the last lines of the container's output.
    ExitRead(ServiceName, Vec<String>),
    /// A line printed by a hook or a build: service (`None` for the group), event, line.
    HookOutput {
        /// `None` for the group.
        service: Option<String>,
        event: String,
        line: String,
        /// The build that printed it; `None` for a hook.
        build: Option<BuildOutput>,
        /// Counts against the limit of lines that are not handled yet.
        permit: Option<OwnedSemaphorePermit>,
    },
    /// Result of [`Command::RunHooks`]: the first error.
    HooksDone(HookEvent, std::result::Result<(), HookError>),
    /// Result of [`Command::ProbeLiveness`].
    LivenessProbed(ContainerId, std::result::Result<(), String>),
    /// Result of [`Command::RecentExits`].
    RecentExits(Result<Vec<ContainerExit>>),
    /// The specs may have changed.
    SpecsChanged,
    /// Outputs have changed that specs may use.
    OutputsChanged,
    /// Result of [`Command::ReadSpecs`].
    SpecsRead(Reading),
    /// A request of another process.
    Request(RequestId, RequestKind),
    /// The wake-up that the last reaction asked for.
    Tick,
    /// SIGINT or SIGTERM.
    Interrupt,
    /// Another controller has taken the lease of the group.
    LeaseLost(Box<Lease>),
    /// The lease of the group cannot be renewed.
    LeaseFailed(EngineError),
}

/// Work for the executor.
#[derive(Debug, PartialEq)]
pub enum Command {
    /// Subscribe to the engine's events.
    Subscribe,
    /// List the engine's objects.
    List,
    Inspect(ContainerId),
    /// Inspect an image, by id.
    Image(String),
    RunStep(Step),
    /// Repeat a readiness probe until it succeeds.
    Probe(Probe),
    /// Stop the readiness probe of a container.
    EndProbe(ContainerId),
    /// Record the files that a container mounted.
    RecordMounted(ContainerId, MountedVersions),
    /// Read the last output of a failed container.
    Diagnose(Failure),
    /// Read the last output of a container that the engine restarts.
    ReadExit(ServiceName, ContainerRef),
    /// Run a liveness probe once.
    ProbeLiveness(Probe),
    /// Abort all hooks: the run is stopping.
    EndHooks,
    /// Abort the build of an image that is no longer in the specs.
    EndBuild(String),
    /// Run the hooks of a lifecycle event, one after another.
    RunHooks(HookEvent),
    /// List the containers that exited recently.
    RecentExits,
    ReadSpecs,
    /// Send the last report of a request.
    Reply(RequestId, Box<Report>),
}

/// A lifecycle event with the hooks to run.
#[derive(Debug, Clone, PartialEq)]
pub struct HookEvent {
    /// `None` for the group.
    pub service: Option<String>,
    /// Number of the replica, for services with replicas.
    pub replica: Option<u32>,
    /// Name of the event, as below `on`.
    pub event: String,
    pub hooks: Vec<Hook>,
    pub container: Option<ContainerRef>,
    /// Additional environment variables.
    pub variables: BTreeMap<String, String>,
}

/// Result of reading the specs.
#[derive(Debug, Clone, PartialEq)]
pub enum Reading {
    Valid(Box<Desired>),
    /// Invalid specs, or the directory is missing.
    Invalid(Vec<Diagnostic>),
}

/// Services to replace although they match.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Reload {
    pub services: BTreeSet<String>,
    /// Their replacements get new anonymous volumes.
    pub renew_volumes: bool,
}

impl From<BTreeSet<String>> for Reload {
    fn from(services: BTreeSet<String>) -> Reload {
        Reload { services, renew_volumes: false }
    }
}

/// Number of a request, in order of arrival.
pub type RequestId = u64;

/// Request to a watching controller.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum RequestKind {
    /// State that is not on the engine; answered by [`Report::Status`].
    Status,
    /// Read the specs and retry everything now, also what has failed. Answered by all reports until everything is
    /// settled, then by [`Report::Settled`].
    Reconcile,
    /// Replace services although they match; answered as [`RequestKind::Reconcile`].
    Reload(Reload),
    /// Stop after the steps under way; containers keep running. Answered by [`Report::Stopping`], or by the end of a
    /// one-shot run, which has no other requests.
    Shutdown {
        /// The requester: `drillmaster down (pid 123)`.
        by: String,
    },
}

/// A request with the channel for its answer. The sender is dropped after the last report.
#[derive(Debug)]
pub struct Request {
    pub kind: RequestKind,
    /// Receives the reports of the answer.
    pub reply: mpsc::Sender<Report>,
}

/// Notification for the user; rendered by `render/`.
#[derive(Debug, Clone, PartialEq)]
pub enum Report {
    /// The differences to resolve, once.
    Planned(Vec<Change>),
    StepStarted(Step),
    StepDone(Step),
    /// A step on an image, network or volume failed, with the error.
    StepFailed(Step, String),
    /// Progress of a pull, by image reference.
    Pulling(String, PullProgress),
    /// A service waits.
    Waiting {
        service: ServiceName,
        reason: String,
        /// It waits for a service that has failed and is not retried by itself.
        blocked: bool,
    },
    Ready(ServiceName),
    /// A job succeeded.
    Succeeded(ServiceName),
    /// A line printed by a hook or a build.
    Output {
        /// `None` for the group.
        service: Option<String>,
        event: String,
        line: String,
        /// The build that printed it; `None` for a hook.
        build: Option<BuildOutput>,
    },
    /// A replacement failed, and the previous container serves.
    RolledBack(ServiceName),
    Failed(Failed),
    /// Anything else.
    Note(String),
    /// A new difference that is about to be resolved. In a one-shot run, one of a service with its first step.
    Reconciling {
        change: Change,
        /// The spec changed; otherwise the engine's side did.
        spec: bool,
    },
    /// An orphan was removed; in a one-shot run, any service.
    Removed(ServiceName),
    /// A running service became unhealthy.
    Unhealthy {
        service: ServiceName,
        why: String,
    },
    /// It recovered.
    Healthy(ServiceName),
    /// The specs are invalid; the last valid ones are kept.
    SpecsInvalid(Vec<Diagnostic>),
    /// The specs are valid again, and unchanged.
    SpecsValid,
    /// No services are left in the specs; running containers are kept.
    SpecsEmpty,
    /// The engine is unreachable; it is retried.
    EngineLost(EngineError),
    EngineReconnected,
    /// Everything that can be done is done. While watching: the first time, and as the answer to a request.
    Settled(Box<Outcome>),
    /// Answer to [`RequestKind::Status`].
    Status(Box<ControllerStatus>),
    /// The watch stops, with the reason.
    Stopping(String),
}

/// What a line of output is to a build.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct BuildOutput {
    /// Reference of the image.
    pub image: String,
    /// The line names a step of the build, whose output follows.
    pub is_step: bool,
}

/// A failure with the last output of its container.
#[derive(Debug, Clone, PartialEq)]
pub struct Failed {
    pub failure: Failure,
    /// Last lines of the container's output.
    pub output: Vec<String>,
    /// Consecutive failures.
    pub count: u32,
    /// Time until the retry; `None`: not before the spec changes.
    pub retry: Option<Duration>,
    /// Number of retries of a job; `None`: a service, which is retried without a limit.
    pub retries: Option<u32>,
}

/// Limits of a run.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Limits {
    /// Concurrent steps that create or start. Four saturate two cores.
    pub setups: usize,
    /// Concurrent steps that stop or remove.
    pub teardowns: usize,
    /// When the run is stopped (`--timeout`); time since its start.
    pub deadline: Option<Duration>,
}

/// Why a network, volume or image could not be removed.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct RemovalError {
    /// Error of the engine.
    pub error: String,
    /// The network has endpoints although no container of the group is attached: the engine has leaked one.
    pub active_endpoints: bool,
}

/// How a run ended.
#[derive(Debug, Clone, PartialEq, Default)]
pub struct Outcome {
    /// Differences at the start.
    pub changes: Vec<Change>,
    /// Completed steps.
    pub steps: Vec<Step>,
    pub failed: BTreeMap<ServiceName, Failed>,
    pub waits: Vec<Wait>,
    pub ready: BTreeSet<ServiceName>,
    /// Networks, volumes and images that could not be removed.
    pub stuck: BTreeMap<Subject, RemovalError>,
    /// Stopped by SIGINT or SIGTERM, or a one-shot run by a request.
    pub interrupted: bool,
    /// The lease of another controller that has taken over the group.
    pub lease_lost: Option<Box<Lease>>,
    /// The process that requested the end.
    pub ended_by: Option<String>,
    /// Stopped by `--timeout`.
    pub timed_out: bool,
    /// The engine became unreachable.
    pub engine: Option<EngineError>,
    /// Last snapshot of a run that is over.
    pub observed: Observed,
}

impl Outcome {
    /// Returns true if everything is as desired.
    pub fn is_good(&self) -> bool {
        self.failed.is_empty()
            && self.waits.is_empty()
            && self.stuck.is_empty()
            && !self.interrupted
            && self.lease_lost.is_none()
            && !self.timed_out
            && self.engine.is_none()
    }
}

/// Output of the state machine.
#[derive(Debug, Default)]
pub struct Reaction {
    pub commands: Vec<Command>,
    pub reports: Vec<Report>,
    /// When to call again at the latest; time since the start of the run.
    pub wake: Option<Duration>,
    pub over: bool,
}
