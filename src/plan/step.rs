//! The words of a plan: steps with causes, waits with reasons, changes as people and programs read them. Data only.

use std::collections::{BTreeMap, BTreeSet};
use std::fmt;
use std::net::IpAddr;
use std::time::Duration;

use serde::{Deserialize, Serialize};

use super::cause::Cause;
use crate::desired::fingerprint::Fingerprint;
use crate::desired::{HookPoint, Inherited, Service};
use crate::observed::Container;
use crate::spec::model::{Ping, Resources, RestartPolicy};
use crate::types::{ContainerId, ServiceName};

/// What the planner found.
#[derive(Debug, Clone, PartialEq, Default)]
pub struct Plan {
    /// What differs, a line for each thing. Empty: desired and observed agree.
    pub changes: Vec<Change>,
    /// Steps that may begin now. One subject may have several; one at a time is carried out, the first first.
    pub steps: Vec<Step>,
    /// Containers whose ping should be tried now.
    pub probes: Vec<Probe>,
    /// Containers that are ready and whose ping should be tried once now.
    pub checks: Vec<Probe>,
    /// Services that are not healthy, and for which nothing is done about it; with the reason.
    pub unhealthy: BTreeMap<ServiceName, String>,
    /// Containers that have to stay as they are before the next step, by id, and for how long.
    pub hold: BTreeMap<ContainerId, Duration>,
    /// When the plan may be another one by time alone; time since the start of the run.
    pub wake: Option<Duration>,
    /// What cannot begin yet, and why.
    pub waits: Vec<Wait>,
    /// What has to be looked up before more can be said.
    pub queries: BTreeSet<Query>,
    /// Services that are ready.
    pub ready: BTreeSet<ServiceName>,
    /// Services whose replacement has failed, and whose earlier container is ready instead.
    pub rolled_back: BTreeSet<ServiceName>,
    /// Services that have failed, seen now for the first time.
    pub failures: Vec<Failure>,
}

impl Plan {
    /// Nothing to do, to wait for or to look up.
    pub fn is_settled(&self) -> bool {
        self.steps.is_empty()
            && self.probes.is_empty()
            && self.waits.is_empty()
            && self.queries.is_empty()
            && self.failures.is_empty()
    }
}

/// What a step is about. Steps of one subject are carried out one after another.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
pub enum Subject {
    /// A service, by name.
    Service(ServiceName),
    /// A network, by name.
    Network(String),
    /// A volume, by its name on the engine.
    Volume(String),
    /// An image, by reference.
    Image(String),
}

impl Subject {
    /// The subject of everything that is done for a service.
    pub fn of(service: &Service) -> Subject {
        Subject::Service(service.name.clone())
    }

    /// Its name.
    pub fn name(&self) -> &str {
        match self {
            Subject::Service(name) => name,
            Subject::Network(name) | Subject::Volume(name) | Subject::Image(name) => name,
        }
    }

    /// Its kind, as in `kind:` and in labels.
    pub fn kind(&self) -> &'static str {
        match self {
            Subject::Service(_) => "Service",
            Subject::Network(_) => "Network",
            Subject::Volume(_) => "Volume",
            Subject::Image(_) => "Image",
        }
    }
}

/// One verb of the engine, and why.
#[derive(Debug, Clone, PartialEq)]
pub struct Step {
    /// What it is about.
    pub subject: Subject,
    /// What is done.
    pub verb: Verb,
    /// Why, in a few words.
    pub cause: String,
}

/// What is done to a container, network, volume or image.
#[derive(Debug, Clone, PartialEq)]
pub enum Verb {
    /// Pull the image.
    Pull,
    /// Build the image.
    Build,
    /// Create the network.
    CreateNetwork,
    /// Create the service's container, under its `.new` name.
    Create {
        /// Name of the container.
        name: String,
        /// Id of the network.
        network: String,
        /// Its names on the network; none where it gets them once it is ready.
        names: Vec<String>,
        /// Id of the image now.
        image_id: String,
        /// Anonymous volumes that it takes over.
        inherited: Vec<Inherited>,
    },
    /// Start a container.
    Start(ContainerRef),
    /// Thaw a container.
    Unpause(ContainerRef),
    /// Stop a container.
    Stop(ContainerRef),
    /// Give a container another name.
    Rename {
        /// The container.
        container: ContainerRef,
        /// Its new name.
        to: String,
    },
    /// Change limits and restart policy of a running container.
    Update {
        /// The container.
        container: ContainerRef,
        /// Limits.
        resources: Resources,
        /// Restart policy.
        restart: RestartPolicy,
    },
    /// Attach a container to the group's network.
    Connect {
        /// The container.
        container: ContainerRef,
        /// Id of the network.
        network: String,
        /// Its names there; none where it is not, or no longer, to be found by them.
        names: Vec<String>,
    },
    /// Detach a container from a network: that is not the group's any longer, or on which it is to have other names.
    Disconnect {
        /// The container.
        container: ContainerRef,
        /// Id of the network, or its name where the id is gone.
        network: String,
    },
    /// Remove a container.
    Remove {
        /// The container.
        container: ContainerRef,
        /// Its anonymous volumes too.
        volumes: bool,
    },
    /// Remove a network.
    RemoveNetwork {
        /// Its id.
        id: String,
    },
    /// Remove a volume.
    RemoveVolume,
    /// Collect the outputs of a job that has succeeded.
    Collect(ContainerRef),
    /// Take an image's name away, and with its last one the image.
    RemoveImage,
    /// Run a hook.
    Hook {
        /// Of which moment.
        moment: HookPoint,
        /// Which of its hooks, from 0.
        index: usize,
        /// What it does, for people.
        action: String,
        /// The container that it is about, where there is one.
        container: Option<ContainerRef>,
    },
}

/// The kind of a verb, with what keeps two steps of one subject apart. Attempts are counted by it.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub enum VerbKind {
    /// A verb that needs no further detail.
    Plain(&'static str),
    /// A verb on a container, by the container's name.
    Container(&'static str, String),
    /// A rename, from and to.
    Rename(String, String),
    /// A hook, by hook point and index.
    Hook(HookPoint, usize),
}

/// A container that exists: the id for the engine, the name for people.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub struct ContainerRef {
    /// Full id.
    pub id: ContainerId,
    /// Name at the time of planning.
    pub name: String,
}

impl ContainerRef {
    /// A container as it is seen now.
    pub fn of(container: &Container) -> ContainerRef {
        ContainerRef { id: container.id.clone(), name: container.name.clone() }
    }
}

impl Verb {
    /// The container that it is done to; `None`: it is done to something else, or makes one.
    pub fn container(&self) -> Option<&ContainerRef> {
        match self {
            Verb::Start(container) | Verb::Unpause(container) | Verb::Stop(container) | Verb::Collect(container) => {
                Some(container)
            }
            Verb::Rename { container, .. }
            | Verb::Update { container, .. }
            | Verb::Connect { container, .. }
            | Verb::Disconnect { container, .. }
            | Verb::Remove { container, .. } => Some(container),
            Verb::Hook { container, .. } => container.as_ref(),
            Verb::Pull
            | Verb::Build
            | Verb::CreateNetwork
            | Verb::Create { .. }
            | Verb::RemoveNetwork { .. }
            | Verb::RemoveVolume
            | Verb::RemoveImage => None,
        }
    }

    /// The kind of this verb.
    pub fn kind(&self) -> VerbKind {
        let of = |kind, container: &ContainerRef| VerbKind::Container(kind, container.name.clone());
        match self {
            Verb::Pull => VerbKind::Plain("pull"),
            Verb::Build => VerbKind::Plain("build"),
            Verb::CreateNetwork => VerbKind::Plain("create"),
            Verb::RemoveNetwork { .. } | Verb::RemoveVolume | Verb::RemoveImage => VerbKind::Plain("remove"),
            Verb::Create { name, .. } => VerbKind::Container("create", name.clone()),
            Verb::Start(container) => of("start", container),
            Verb::Unpause(container) => of("unpause", container),
            Verb::Stop(container) => of("stop", container),
            Verb::Update { container, .. } => of("update", container),
            Verb::Connect { container, names, .. } if names.is_empty() => of("connect without names", container),
            Verb::Connect { container, .. } => of("connect", container),
            Verb::Disconnect { container, .. } => of("disconnect", container),
            Verb::Remove { container, .. } => of("remove", container),
            Verb::Collect(container) => of("collect", container),
            Verb::Rename { container, to } => VerbKind::Rename(container.name.clone(), to.clone()),
            Verb::Hook { moment, index, .. } => VerbKind::Hook(*moment, *index),
        }
    }

    /// Whether it takes something away, so that it is limited where the engine's teardown is fragile.
    pub fn is_teardown(&self) -> bool {
        matches!(
            self,
            Verb::Stop(_)
                | Verb::Remove { .. }
                | Verb::Disconnect { .. }
                | Verb::RemoveNetwork { .. }
                | Verb::RemoveVolume
                | Verb::RemoveImage
        )
    }
}

impl fmt::Display for Step {
    /// One line without the cause: `api: create shop-api.new`.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let subject = self.subject.name();
        match &self.verb {
            Verb::Pull => write!(f, "image {subject}: pull"),
            Verb::Build => write!(f, "image {subject}: build"),
            Verb::RemoveImage => write!(f, "image {subject}: remove"),
            Verb::CreateNetwork => write!(f, "network {subject}: create"),
            Verb::RemoveNetwork { .. } => write!(f, "network {subject}: remove"),
            Verb::RemoveVolume => write!(f, "volume {subject}: remove"),
            Verb::Create { name, .. } => write!(f, "{subject}: create {name}"),
            Verb::Start(container) => write!(f, "{subject}: start {}", container.name),
            Verb::Unpause(container) => write!(f, "{subject}: unpause {}", container.name),
            Verb::Stop(container) => write!(f, "{subject}: stop {}", container.name),
            Verb::Rename { container, to } => write!(f, "{subject}: rename {} to {to}", container.name),
            Verb::Update { container, .. } => write!(f, "{subject}: update {}", container.name),
            Verb::Connect { container, names, .. } if names.is_empty() => {
                write!(f, "{subject}: connect {} without names", container.name)
            }
            Verb::Connect { container, .. } => write!(f, "{subject}: connect {}", container.name),
            Verb::Disconnect { container, .. } => write!(f, "{subject}: disconnect {}", container.name),
            Verb::Remove { container, .. } => write!(f, "{subject}: remove {}", container.name),
            Verb::Collect(container) => write!(f, "{subject}: collect outputs of {}", container.name),
            Verb::Hook { moment, action, .. } => write!(f, "{subject}: {moment}: {action}"),
        }
    }
}

/// A difference between desired and observed, of one thing.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Change {
    /// What differs.
    pub subject: Subject,
    /// What is to be done about it.
    pub action: Action,
    /// Of a service with replicas, which one of them the subject is.
    #[serde(default)]
    pub replica: Option<u32>,
    /// The fields that differ.
    pub causes: Vec<Cause>,
    /// Where it is written (`app.yaml:12`), or the spec directory where it is no longer written.
    pub source: String,
}

/// What is to be done about a difference.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
pub enum Action {
    /// There is no container yet.
    Create,
    /// Another container takes its place.
    Replace,
    /// It is changed while it runs.
    Update,
    /// It is stopped and started again.
    Restart,
    /// It is started, or thawed.
    Start,
    /// It is stopped, and kept.
    Stop,
    /// It is removed.
    Remove,
}

impl Action {
    /// The word of the JSON contract.
    pub fn word(self) -> &'static str {
        match self {
            Action::Create => "create",
            Action::Replace => "replace",
            Action::Update => "update",
            Action::Restart => "restart",
            Action::Start => "start",
            Action::Stop => "stop",
            Action::Remove => "remove",
        }
    }
}

/// A ping to try until it answers.
#[derive(Debug, Clone, PartialEq)]
pub struct Probe {
    /// Service that is awaited.
    pub service: ServiceName,
    /// Which replica it is; `None`: the service has none.
    pub replica: Option<u32>,
    /// Its container.
    pub container: ContainerRef,
    /// Where it is, as far as a list has told: so a container that has long been running need not be inspected.
    pub address: Option<IpAddr>,
    /// What to try, and how often.
    pub ping: Ping,
}

/// Something that cannot begin yet.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Wait {
    /// Service that waits.
    pub service: ServiceName,
    /// Why: `waiting for appdb, which is starting`.
    pub reason: String,
    /// Where it is a container that is awaited: which, and for how long at most. Without: the wait ends with whatever
    /// it waits for.
    pub awaited: Option<Awaited>,
    /// What it waits for is told anyway, once for all who wait.
    pub quiet: bool,
}

/// A container that should get ready within a time.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Awaited {
    /// Id of the container.
    pub container: ContainerId,
    /// Time that it has from the moment it was first awaited.
    pub limit: Duration,
}

/// Something that a list does not tell.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub enum Query {
    /// Details of a container, by id.
    Container(ContainerId),
    /// Facts about an image, by id.
    Image(String),
}

/// A service that has failed.
#[derive(Debug, Clone, PartialEq)]
pub struct Failure {
    /// Service.
    pub service: ServiceName,
    /// Why, in one word.
    pub reason: Reason,
    /// Why, in a sentence.
    pub message: String,
    /// Container whose last output explains it.
    pub container: Option<ContainerRef>,
    /// What was tried.
    pub fingerprint: Fingerprint,
    /// Id that the image had then, where there was one.
    pub image: Option<String>,
    /// It is about a replacement: a container with another spec, which served before, is still there.
    pub replaces: bool,
}

impl Failure {
    /// Whether the same would be tried again.
    pub fn is_about(&self, fingerprint: &Fingerprint, image: Option<&String>) -> bool {
        self.fingerprint.same_container(fingerprint) && (self.image.is_none() || self.image.as_ref() == image)
    }
}

/// Why a service failed, in one word, as Kubernetes writes its reasons.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub enum Reason {
    /// A container or directory that is not ours has what we would need.
    Conflict,
    /// The image is not there and could not be had.
    ImageMissing,
    /// The image could not be built.
    BuildFailed,
    /// The engine refused to create the container.
    CreateFailed,
    /// The engine refused to start it, or another step on it.
    StartFailed,
    /// It ended before it was ready.
    Exited,
    /// It was not ready in time.
    NotReady,
    /// The same step was needed again and again.
    NonConvergent,
    /// `start` found no container.
    NoContainer,
    /// The engine does not answer.
    EngineHangs,
    /// It was ready, and does not answer its pings any longer.
    Unhealthy,
    /// A hook of it did not succeed.
    HookFailed,
    /// It has succeeded, and what it gives cannot be used.
    OutputInvalid,
}

impl Reason {
    /// The word.
    pub fn word(self) -> &'static str {
        match self {
            Reason::Conflict => "Conflict",
            Reason::ImageMissing => "ImageMissing",
            Reason::BuildFailed => "BuildFailed",
            Reason::CreateFailed => "CreateFailed",
            Reason::StartFailed => "StartFailed",
            Reason::Exited => "Exited",
            Reason::NotReady => "NotReady",
            Reason::NonConvergent => "NonConvergent",
            Reason::NoContainer => "NoContainer",
            Reason::EngineHangs => "EngineHangs",
            Reason::Unhealthy => "Unhealthy",
            Reason::HookFailed => "HookFailed",
            Reason::OutputInvalid => "OutputInvalid",
        }
    }
}
