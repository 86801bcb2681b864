//! Data of a plan: steps with causes, waits with reasons, changes and failures.

use std::collections::{BTreeMap, BTreeSet};
use std::fmt;
use std::net::IpAddr;
use std::time::Duration;

use serde::{Deserialize, Serialize};

use super::cause::Cause;
use crate::desired::fingerprint::Fingerprint;
use crate::desired::{HookPoint, Inherited, Join, Service};
use crate::observed::Container;
use crate::spec::model::{Ping, Resources, RestartPolicy};
use crate::spec::value::Signal;
use crate::types::{ContainerId, ServiceName};

/// Result of the planner.
#[derive(Debug, Clone, PartialEq, Default)]
pub struct Plan {
    /// Differences; empty if desired and observed state agree.
    pub changes: Vec<Change>,
    /// Steps that may start now; of one subject, one at a time in this order.
    pub steps: Vec<Step>,
    /// Readiness probes that should be running.
    pub probes: Vec<Probe>,
    /// Liveness probes that are due.
    pub checks: Vec<Probe>,
    /// Services that are unhealthy without consequences, with the reason.
    pub unhealthy: BTreeMap<ServiceName, String>,
    /// Containers that must stay unchanged before the next step, and for how long.
    pub hold: BTreeMap<ContainerId, Duration>,
    /// When the plan may change without an event; time since the start of the run.
    pub wake: Option<Duration>,
    /// What cannot start yet, and why.
    pub waits: Vec<Wait>,
    /// Inspections that are needed first.
    pub queries: BTreeSet<Query>,
    pub ready: BTreeSet<ServiceName>,
    /// Services whose replacement failed and whose previous container is ready.
    pub rolled_back: BTreeSet<ServiceName>,
    /// New failures.
    pub failures: Vec<Failure>,
    /// Remarks about what the plan leaves alone.
    pub notes: BTreeSet<String>,
}

impl Plan {
    /// Returns true if there is nothing to do, wait for or inspect.
    pub fn is_settled(&self) -> bool {
        self.steps.is_empty()
            && self.probes.is_empty()
            && self.waits.is_empty()
            && self.queries.is_empty()
            && self.failures.is_empty()
    }
}

/// Subject of a step. Steps of one subject run one after another.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
pub enum Subject {
    Service(ServiceName),
    Network(String),
    /// A volume, by its name on the engine.
    Volume(String),
    /// An image, by reference.
    Image(String),
    /// A container outside of the group, by name.
    Container(String),
}

impl Subject {
    /// The subject of all steps of a service.
    pub fn of(service: &Service) -> Subject {
        Subject::Service(service.name.clone())
    }

    pub fn name(&self) -> &str {
        match self {
            Subject::Service(name) => name,
            Subject::Network(name) | Subject::Volume(name) | Subject::Image(name) | Subject::Container(name) => name,
        }
    }

    /// The kind, as in JSON and labels.
    pub fn kind(&self) -> &'static str {
        match self {
            Subject::Service(_) => "Service",
            Subject::Network(_) => "Network",
            Subject::Volume(_) => "Volume",
            Subject::Image(_) => "Image",
            Subject::Container(_) => "Container",
        }
    }
}

/// One operation on a subject, with its cause.
#[derive(Debug, Clone, PartialEq)]
pub struct Step {
    pub subject: Subject,
    pub verb: Verb,
    /// Short text for people.
    pub cause: String,
}

/// The operation of a step.
#[derive(Debug, Clone, PartialEq)]
pub enum Verb {
    Pull,
    Build,
    CreateNetwork,
    /// Create the service's container under its `.new` name.
    Create {
        name: String,
        /// Its networks; without names if those are deferred until it is ready.
        joins: Vec<Join>,
        /// The containers whose namespaces it shares, by their names in the spec (`service:db`).
        targets: BTreeMap<String, ContainerId>,
        image_id: String,
        /// Anonymous volumes taken over from the current container.
        inherited: Vec<Inherited>,
    },
    Start(ContainerRef),
    Unpause(ContainerRef),
    /// Send a signal, because mounted files changed.
    Signal {
        container: ContainerRef,
        signal: Signal,
    },
    Stop(ContainerRef),
    Rename {
        container: ContainerRef,
        /// New name.
        to: String,
    },
    /// Update limits and restart policy in place.
    Update {
        container: ContainerRef,
        resources: Resources,
        restart: RestartPolicy,
    },
    /// Attach a container to a network.
    Connect {
        container: ContainerRef,
        join: Join,
    },
    /// Detach a container from a surplus network, or to attach it with other aliases.
    Disconnect {
        container: ContainerRef,
        /// Id of the network, or its name if the network is gone.
        network: String,
        /// Name of the network.
        name: String,
    },
    Remove {
        container: ContainerRef,
        /// Also remove its anonymous volumes.
        volumes: bool,
    },
    RemoveNetwork {
        id: String,
    },
    RemoveVolume,
    /// Collect the outputs of a succeeded job.
    Collect(ContainerRef),
    /// Remove an image reference, and the image with its last one.
    RemoveImage,
    Hook {
        point: HookPoint,
        /// Index among the hooks of the hook point.
        index: usize,
        /// What the hook does, for people.
        action: String,
        /// The container it runs for.
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
    /// A verb on a container and a network, by their names.
    Network(&'static str, String, String),
    /// A rename, from and to.
    Rename(String, String),
    /// A signal, by container and signal.
    Signal(String, Signal),
    /// A hook, by hook point and index.
    Hook(HookPoint, usize),
}

/// Reference to an existing container: id for the engine, name for people.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub struct ContainerRef {
    pub id: ContainerId,
    /// Name at the time of planning.
    pub name: String,
}

impl ContainerRef {
    pub fn of(container: &Container) -> ContainerRef {
        ContainerRef { id: container.id.clone(), name: container.name.clone() }
    }
}

impl Verb {
    /// The container that the verb acts on.
    pub fn container(&self) -> Option<&ContainerRef> {
        match self {
            Verb::Start(container) | Verb::Unpause(container) | Verb::Stop(container) | Verb::Collect(container) => {
                Some(container)
            }
            Verb::Rename { container, .. }
            | Verb::Signal { container, .. }
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
            Verb::Signal { container, signal } => VerbKind::Signal(container.name.clone(), signal.clone()),
            Verb::Stop(container) => of("stop", container),
            Verb::Update { container, .. } => of("update", container),
            Verb::Connect { container, join } => {
                let kind = if join.names.is_empty() { "connect without names" } else { "connect" };
                VerbKind::Network(kind, container.name.clone(), join.name.clone())
            }
            Verb::Disconnect { container, name, .. } => {
                VerbKind::Network("disconnect", container.name.clone(), name.clone())
            }
            Verb::Remove { container, .. } => of("remove", container),
            Verb::Collect(container) => of("collect", container),
            Verb::Rename { container, to } => VerbKind::Rename(container.name.clone(), to.clone()),
            Verb::Hook { point, index, .. } => VerbKind::Hook(*point, *index),
        }
    }

    /// Returns true for verbs that are limited where the engine's teardown is fragile.
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
            Verb::Stop(_) if matches!(self.subject, Subject::Container(_)) => write!(f, "container {subject}: stop"),
            Verb::Remove { .. } if matches!(self.subject, Subject::Container(_)) => {
                write!(f, "container {subject}: remove")
            }
            Verb::Pull => write!(f, "image {subject}: pull"),
            Verb::Build => write!(f, "image {subject}: build"),
            Verb::RemoveImage => write!(f, "image {subject}: remove"),
            Verb::CreateNetwork => write!(f, "network {subject}: create"),
            Verb::RemoveNetwork { .. } => write!(f, "network {subject}: remove"),
            Verb::RemoveVolume => write!(f, "volume {subject}: remove"),
            Verb::Create { name, joins, .. } if joins.len() > 1 => {
                let networks: Vec<&str> = joins.iter().map(|join| join.name.as_str()).collect();
                write!(f, "{subject}: create {name} on {}", networks.join(", "))
            }
            Verb::Create { name, .. } => write!(f, "{subject}: create {name}"),
            Verb::Start(container) => write!(f, "{subject}: start {}", container.name),
            Verb::Unpause(container) => write!(f, "{subject}: unpause {}", container.name),
            Verb::Signal { container, signal } => write!(f, "{subject}: signal {} ({signal})", container.name),
            Verb::Stop(container) => write!(f, "{subject}: stop {}", container.name),
            Verb::Rename { container, to } => write!(f, "{subject}: rename {} to {to}", container.name),
            Verb::Update { container, .. } => write!(f, "{subject}: update {}", container.name),
            Verb::Connect { container, join } => {
                let how = if join.names.is_empty() { " without names" } else { "" };
                write!(f, "{subject}: connect {} to {}{how}", container.name, join.name)
            }
            Verb::Disconnect { container, name, .. } => {
                write!(f, "{subject}: disconnect {} from {name}", container.name)
            }
            Verb::Remove { container, .. } => write!(f, "{subject}: remove {}", container.name),
            Verb::Collect(container) => write!(f, "{subject}: collect outputs of {}", container.name),
            Verb::Hook { point, action, .. } => write!(f, "{subject}: {point}: {action}"),
        }
    }
}

/// Difference between desired and observed state of one subject.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Change {
    pub subject: Subject,
    /// `Service`, `Job`, `Network`, `Volume`, `Image` or `Container`.
    #[serde(default)]
    pub kind: String,
    /// What is done about it.
    pub action: Action,
    /// Number of the replica, for services with replicas.
    #[serde(default)]
    pub replica: Option<u32>,
    pub causes: Vec<Cause>,
    /// Why the service is interrupted while its container is replaced; `None`: it is not, or not replaced.
    #[serde(default)]
    pub interrupts: Option<String>,
    /// Where the spec is written (`app.yaml:12`), or the spec directory if it was removed.
    pub source: String,
}

/// What is to be done about a difference.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
pub enum Action {
    /// Create a first container.
    Create,
    /// Replace the container.
    Replace,
    /// Change it in place.
    Update,
    /// Stop and start it.
    Restart,
    /// Start or unpause it.
    Start,
    /// Stop it and keep the container.
    Stop,
    Remove,
    /// Build an image.
    Build,
    /// Pull an image.
    Pull,
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
            Action::Build => "build",
            Action::Pull => "pull",
        }
    }
}

/// A probe of a container: its ping, repeated until it succeeds (readiness) or once (liveness).
#[derive(Debug, Clone, PartialEq)]
pub struct Probe {
    pub service: ServiceName,
    /// Number of the replica, for services with replicas.
    pub replica: Option<u32>,
    pub container: ContainerRef,
    /// Address from the list, so that a running container need not be inspected.
    pub address: Option<IpAddr>,
    pub ping: Ping,
    /// It has a secret field: errors do not quote it.
    pub secret: bool,
}

/// A service that cannot continue yet.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Wait {
    pub service: ServiceName,
    /// Reason: `waiting for appdb, which is starting`.
    pub reason: String,
    /// The awaited container with its deadline; without one, the wait ends with what it waits for.
    pub awaited: Option<Awaited>,
    /// What it waits for is reported by itself.
    pub quiet: bool,
    /// It waits for a service that has failed and is not retried by itself.
    pub blocked: bool,
}

impl Wait {
    /// A wait that is reported, and may end by itself.
    pub fn new(service: ServiceName, reason: String, awaited: Option<Awaited>) -> Wait {
        Wait { service, reason, awaited, quiet: false, blocked: false }
    }
}

/// A container that must become ready in time.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Awaited {
    pub container: ContainerId,
    /// Time from the moment it was first awaited.
    pub limit: Duration,
}

/// An inspection: what a list does not show.
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
    pub service: ServiceName,
    pub reason: Reason,
    /// The reason in a sentence.
    pub message: String,
    /// The container whose last output explains it.
    pub container: Option<ContainerRef>,
    /// Fingerprint of the spec that failed.
    pub fingerprint: Fingerprint,
    /// Id of the image that failed, if it was present.
    pub image: Option<String>,
    /// A replacement failed: a current container with another spec is still there.
    pub replaces: bool,
    /// The container failed by itself while the engine was well: it would fail again.
    pub own_fault: bool,
}

impl Failure {
    /// Returns true if a retry would use the same spec and image.
    pub fn is_about(&self, fingerprint: &Fingerprint, image: Option<&String>) -> bool {
        self.fingerprint.same_container(fingerprint) && (self.image.is_none() || self.image.as_ref() == image)
    }
}

/// Why a service failed: a CamelCase word, as in Kubernetes.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub enum Reason {
    /// An unmanaged container, or another spec directory, holds what the service needs.
    Conflict,
    /// The engine is too old for a field.
    Unsupported,
    /// The image is missing and could not be pulled.
    ImageMissing,
    /// The image could not be built.
    BuildFailed,
    /// The container changes the sources of its own image: it is not rebuilt any more.
    RebuildLoop,
    /// The engine refused to create the container.
    CreateFailed,
    /// The engine refused to start it, or to do another step.
    StartFailed,
    /// It exited before it was ready.
    Exited,
    /// It did not become ready in time.
    NotReady,
    /// A step or correction had no lasting effect.
    NonConvergent,
    /// `start` found no container.
    NoContainer,
    /// The engine did not answer in time.
    EngineHangs,
    /// It was ready, and its liveness probes fail.
    Unhealthy,
    /// A `pre_start` or `post_start` hook failed.
    HookFailed,
    /// The job succeeded, but its outputs are invalid.
    OutputInvalid,
}

impl Reason {
    /// Returns true if the container failed by itself, not a request to the engine.
    pub fn is_own_fault(self) -> bool {
        matches!(self, Reason::Exited | Reason::NotReady | Reason::HookFailed | Reason::OutputInvalid)
    }

    /// The word.
    pub fn word(self) -> &'static str {
        match self {
            Reason::Conflict => "Conflict",
            Reason::Unsupported => "Unsupported",
            Reason::ImageMissing => "ImageMissing",
            Reason::BuildFailed => "BuildFailed",
            Reason::RebuildLoop => "RebuildLoop",
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
