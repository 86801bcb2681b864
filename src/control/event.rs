//! What goes into the controller's mind and what comes out: events, commands, reports, how a run ended. Data only.

use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;

use serde::{Deserialize, Serialize};
use tokio::sync::mpsc;

use super::error::{HookError, StepError};
use crate::desired::{Desired, Hook};
use crate::engine::{ContainerExit, EngineError, EngineEvent, PullProgress, Result};
use crate::observed::{Container, ImageFacts, Observed};
use crate::plan::step::{Change, ContainerRef, Failure, Probe, Step, Subject, Wait};
use crate::spec::Diagnostic;
use crate::status::ControllerStatus;
use crate::types::{ContainerId, ServiceName};

/// Something that happened.
#[derive(Debug)]
pub enum Event {
    /// The run begins.
    Begin,
    /// A list came.
    Listed(Result<Observed>),
    /// An inspection came.
    Inspected(ContainerId, Result<Option<Box<Container>>>),
    /// Facts about an image came.
    Image(String, Result<Option<ImageFacts>>),
    /// A step ended.
    StepDone(Step, std::result::Result<Option<String>, StepError>),
    /// The engine says that something happened.
    Engine(Result<EngineEvent>),
    /// The engine's event stream ended.
    EngineEventsEnded,
    /// A ping has answered.
    ProbeSucceeded(ContainerId),
    /// A ping has not answered, and why.
    ProbeFailed(ContainerId, String),
    /// A pull gets on.
    Pulling(String, PullProgress),
    /// The last output of a failed container.
    Diagnosed(Failure, Vec<String>),
    /// A hook wrote a line: of which service (the group: `None`), at which event.
    HookOutput(Option<String>, String, String),
    /// The hooks of something that happened have ended; why one of them failed.
    HooksDone(HookEvent, std::result::Result<(), HookError>),
    /// One try of the ping of a container that is ready: why it was not answered.
    LivenessProbed(ContainerId, std::result::Result<(), String>),
    /// What the engine remembers of containers that ended before the run began.
    RecentExits(Result<Vec<ContainerExit>>),
    /// Something in the specs may have changed.
    SpecsChanged,
    /// Outputs have changed, of which the specs may be made.
    OutputsChanged,
    /// The specs were read.
    SpecsRead(Reading),
    /// Another process asks for something.
    Request(RequestId, RequestKind),
    /// It is time that the handler asked for.
    Tick,
    /// A person wants the run to end.
    Interrupt,
}

/// Something to do.
#[derive(Debug, PartialEq)]
pub enum Command {
    /// Subscribe to the engine's events.
    Subscribe,
    /// List everything.
    List,
    /// Inspect a container.
    Inspect(ContainerId),
    /// Look up an image.
    Image(String),
    /// Carry out a step.
    RunStep(Step),
    /// Try a ping until it answers.
    Probe(Probe),
    /// Stop trying the ping of this container.
    EndProbe(ContainerId),
    /// Fetch the last output of a failed container.
    Diagnose(Failure),
    /// Try the ping of a container that is ready, once.
    ProbeLiveness(Probe),
    /// End every hook that is under way: the run is to end.
    EndHooks,
    /// End the build of this image: nobody wants it any longer.
    EndBuild(String),
    /// Run the hooks of something that has happened, one after another.
    RunHooks(HookEvent),
    /// Ask the engine which containers ended lately.
    RecentExits,
    /// Read the specs.
    ReadSpecs,
    /// Answer whoever holds this ticket, and let it go.
    Reply(RequestId, Box<Report>),
}

/// Something that has happened, and that hooks are to be told.
#[derive(Debug, Clone, PartialEq)]
pub struct HookEvent {
    /// To which service; `None`: to the group.
    pub service: Option<String>,
    /// To which replica of it; `None`: it has no replicas.
    pub replica: Option<u32>,
    /// What, as it is written below `on`.
    pub event: String,
    /// Who is told.
    pub hooks: Vec<Hook>,
    /// Its container, where there is one.
    pub container: Option<ContainerRef>,
    /// Further variables for them.
    pub variables: BTreeMap<String, String>,
}

/// What reading the specs gave.
#[derive(Debug, Clone, PartialEq)]
pub enum Reading {
    /// They are valid, and this is what they ask for.
    Valid(Box<Desired>),
    /// They are not, or the directory is gone.
    Invalid(Vec<Diagnostic>),
}

/// Which of the processes that asked for something is meant; numbered as they come.
pub type RequestId = u64;

/// What another process may ask a watching controller for.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum RequestKind {
    /// What it knows beside the engine: answered with [`Report::Status`].
    Status,
    /// To read the specs and to try everything again now, also what has failed: every report until all of it is
    /// settled, then [`Report::Settled`].
    Reconcile,
    /// To replace these services although they match: answered as [`RequestKind::Reconcile`].
    Reload(BTreeSet<String>),
    /// To end: answered with [`Report::Stopping`], once the steps under way have ended. Containers stay.
    Shutdown {
        /// Who wants it: `drillmaster down (pid 123)`.
        by: String,
    },
}

/// What another process asks for, and where the answer goes. The sender is dropped after the last report.
#[derive(Debug)]
pub struct Request {
    pub kind: RequestKind,
    /// Receives the reports of the answer.
    pub reply: mpsc::UnboundedSender<Report>,
}

/// What people may want to know while it happens.
#[derive(Debug, Clone, PartialEq)]
pub enum Report {
    /// What is going to be done, told once.
    Planned(Vec<Change>),
    /// A step begins.
    StepStarted(Step),
    /// A step succeeded.
    StepDone(Step),
    /// A step was refused.
    StepFailed(Step, String),
    /// An image gets on, by reference.
    Pulling(String, PullProgress),
    /// A service waits.
    Waiting {
        /// Which.
        service: ServiceName,
        /// For what.
        reason: String,
    },
    /// A service is ready.
    Ready(ServiceName),
    /// A job has succeeded.
    Succeeded(ServiceName),
    /// A hook wrote a line.
    Output {
        /// Of which service; `None`: the group's.
        service: Option<String>,
        /// At which event.
        event: String,
        /// What.
        line: String,
    },
    /// While watching: a service whose replacement has failed is served by the container that it had before.
    RolledBack(ServiceName),
    /// A service has failed.
    Failed(Failed),
    /// Anything else that a person should know.
    Note(String),
    /// While watching: a difference that was not there before, and is going to be mended.
    Reconciling {
        /// What differs, and what is done about it.
        change: Change,
        /// The spec of the service was changed; else the engine's side was.
        spec: bool,
    },
    /// A service that no spec names any longer is gone.
    Removed(ServiceName),
    /// A running service does not answer its pings, or the engine does not call it healthy any longer.
    Unhealthy {
        /// Which.
        service: ServiceName,
        /// Why, in a sentence.
        why: String,
    },
    /// It does again.
    Healthy(ServiceName),
    /// The specs are invalid; the last good ones hold.
    SpecsInvalid(Vec<Diagnostic>),
    /// They are valid again, and ask for nothing new.
    SpecsValid,
    /// The specs suddenly name no service; what runs is kept.
    SpecsEmpty,
    /// The engine does not answer; it is asked again until it does.
    EngineLost(EngineError),
    /// It answers again.
    EngineReconnected,
    /// Everything that can be done is done. While watching: for the first time, and for whoever asked.
    Settled(Box<Outcome>),
    /// What the controller knows beside the engine; for whoever asked.
    Status(Box<ControllerStatus>),
    /// The watch ends, because of this.
    Stopping(String),
}

/// A failure, with what its container said last.
#[derive(Debug, Clone, PartialEq)]
pub struct Failed {
    /// What failed and why.
    pub failure: Failure,
    /// The last lines of output of its container.
    pub output: Vec<String>,
    /// How often it has failed so in a row.
    pub count: u32,
    /// In how long it is tried again; `None`: not until its spec changes.
    pub retry: Option<Duration>,
}

/// How a run may go.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Limits {
    /// How many steps that build up may run at once. Creating and starting saturates two cores from four on.
    pub setups: usize,
    /// How many steps that tear down may run at once.
    pub teardowns: usize,
    /// When the whole run has to be over.
    pub deadline: Option<Duration>,
}

/// Why a network, volume or image is still there.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct RemovalError {
    /// What the engine said, with what was attempted.
    pub error: String,
    /// The network has endpoints although no container of the group is attached: the engine has leaked one.
    pub active_endpoints: bool,
}

/// How a run ended.
#[derive(Debug, Clone, PartialEq, Default)]
pub struct Outcome {
    /// What differed at the beginning.
    pub changes: Vec<Change>,
    /// Steps that were carried out.
    pub steps: Vec<Step>,
    /// Services that failed, by name.
    pub failed: BTreeMap<ServiceName, Failed>,
    /// Services that still wait, and why.
    pub waits: Vec<Wait>,
    /// Services that are ready.
    pub ready: BTreeSet<ServiceName>,
    /// Networks, volumes and images that the engine refused to remove, and what it said.
    pub stuck: BTreeMap<Subject, RemovalError>,
    /// A person ended it.
    pub interrupted: bool,
    /// A watch was ended by another process: which, as it named itself.
    pub ended_by: Option<String>,
    /// The run's own time was over.
    pub timed_out: bool,
    /// The engine went away.
    pub engine: Option<EngineError>,
    /// The last snapshot.
    pub observed: Observed,
}

impl Outcome {
    /// Whether everything is as it was wanted.
    pub fn is_good(&self) -> bool {
        self.failed.is_empty()
            && self.waits.is_empty()
            && self.stuck.is_empty()
            && !self.interrupted
            && !self.timed_out
            && self.engine.is_none()
    }
}

/// What the handler answers.
#[derive(Debug, Default)]
pub struct Reaction {
    /// What to do now.
    pub commands: Vec<Command>,
    /// What to tell.
    pub reports: Vec<Report>,
    /// When to call again at the latest, in time since the start of the run.
    pub wake: Option<Duration>,
    /// The run is over.
    pub over: bool,
}
