//! What goes into the controller's mind and what comes out: events, commands, reports, how a run ended. Data only.

use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;

use crate::engine::{EngineError, Hint, PullProgress, Result};
use crate::observed::{Container, ImageFacts, Observed};
use crate::plan::step::{Change, Failure, Probe, Step, Subject, Wait};

/// Something that happened.
#[derive(Debug)]
pub enum Event {
    /// The run begins.
    Begin,
    /// A list came.
    Listed(Result<Observed>),
    /// An inspection came.
    Inspected(String, Result<Option<Box<Container>>>),
    /// Facts about an image came.
    Image(String, Result<Option<ImageFacts>>),
    /// A step ended.
    Done(Step, Result<Option<String>>),
    /// The engine says that something happened.
    Hint(Result<Hint>),
    /// The engine's event stream ended.
    HintsEnded,
    /// A ping has answered.
    Answered(String),
    /// A ping has not answered, and why.
    Unanswered(String, String),
    /// A pull gets on.
    Pulling(String, PullProgress),
    /// The last output of a failed container.
    Diagnosed(Failure, Vec<String>),
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
    Inspect(String),
    /// Look up an image.
    Image(String),
    /// Carry out a step.
    Carry(Step),
    /// Try a ping until it answers.
    Probe(Probe),
    /// Stop trying the ping of this container.
    EndProbe(String),
    /// Fetch the last output of a failed container.
    Diagnose(Failure),
}

/// What people may want to know while it happens.
#[derive(Debug, Clone, PartialEq)]
pub enum Report {
    /// What is going to be done, told once.
    Planned(Vec<Change>),
    /// A step begins.
    Begun(Step),
    /// A step succeeded.
    Done(Step),
    /// A step was refused.
    Refused(Step, String),
    /// An image gets on, by reference.
    Pulling(String, PullProgress),
    /// A service waits.
    Waits {
        /// Which.
        service: String,
        /// For what.
        reason: String,
    },
    /// A service is ready.
    Ready(String),
    /// A service has failed.
    Failed(Failed),
    /// Anything else that a person should know.
    Note(String),
}

/// A failure, with what its container said last.
#[derive(Debug, Clone, PartialEq)]
pub struct Failed {
    /// What failed and why.
    pub failure: Failure,
    /// The last lines of output of its container.
    pub output: Vec<String>,
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

/// How a run ended.
#[derive(Debug, Clone, PartialEq, Default)]
pub struct Outcome {
    /// What differed at the beginning.
    pub changes: Vec<Change>,
    /// Steps that were carried out.
    pub steps: Vec<Step>,
    /// Services that failed, by name.
    pub failed: BTreeMap<String, Failed>,
    /// Services that still wait, and why.
    pub waits: Vec<Wait>,
    /// Services that are ready.
    pub ready: BTreeSet<String>,
    /// Networks and volumes that the engine refused to remove, and what it said.
    pub stuck: BTreeMap<Subject, String>,
    /// A person ended it.
    pub interrupted: bool,
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
pub struct Answer {
    /// What to do now.
    pub commands: Vec<Command>,
    /// What to tell.
    pub reports: Vec<Report>,
    /// When to call again at the latest, in time since the start of the run.
    pub wake: Option<Duration>,
    /// The run is over.
    pub over: bool,
}
