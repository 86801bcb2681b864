//! The interface to the engine: reads, mutations, and a stream of events.
//!
//! An engine executes calls and decides nothing. Only `docker` and `convert` use bollard; `build` talks to the engine
//! itself, because bollard cannot decode BuildKit's progress.

pub mod build;
pub mod convert;
pub mod deadline;
pub mod docker;
pub mod layer;
pub mod lines;
mod location;
mod registry;
pub mod ssh;
pub mod target;
pub mod tls;
mod transport;

use std::collections::BTreeMap;
use std::io;
use std::pin::Pin;
use std::time::Duration;

use futures_util::future::BoxFuture;
use futures_util::stream::BoxStream;
use tokio::io::AsyncWrite;

use crate::capabilities::Capabilities;
use crate::desired::{Build, Config, CopiedFile, DeclaredVolume, Env, Inherited, Join, Network};
use crate::observed::{Container, ImageFacts, Observed};
use crate::spec::model::{Resources, RestartPolicy};
use crate::types::ContainerId;

/// Result of an engine call.
pub type Result<T> = std::result::Result<T, EngineError>;

/// A call in progress.
pub type EngineFuture<'a, T> = BoxFuture<'a, Result<T>>;

/// Items as they arrive; an error ends the stream.
pub type EngineStream<'a, T> = BoxStream<'a, Result<T>>;

/// A Docker engine. Every call may fail, hang (see [`deadline`]), or lose its response after it took effect.
pub trait Engine: Send + Sync {
    /// The engine, as it describes itself. Asked once.
    fn about(&self) -> EngineFuture<'_, EngineInfo>;

    /// Lists containers, networks, images, and on request volumes.
    fn list<'a>(&'a self, group: &'a str, volumes: bool) -> EngineFuture<'a, Observed>;

    /// Inspects a container, with its [`crate::observed::Details`]; `None` if it does not exist.
    fn inspect<'a>(&'a self, id: &'a str) -> EngineFuture<'a, Option<Container>>;

    /// Inspects an image by id or reference; `None` if it does not exist.
    fn image<'a>(&'a self, reference: &'a str) -> EngineFuture<'a, Option<ImageFacts>>;

    /// Applies a mutation. Returns the id of a created container or network.
    fn apply<'a>(&'a self, mutation: &'a Mutation) -> EngineFuture<'a, Option<String>>;

    /// Lists the volumes with this value of a label.
    fn volumes<'a>(&'a self, label: &'a str, value: &'a str) -> EngineFuture<'a, Vec<LabeledVolume>>;

    /// Creates a volume and returns its labels. An existing volume of this name stays as it is: the labels are its own.
    fn create_volume<'a>(
        &'a self,
        name: &'a str,
        labels: &'a BTreeMap<String, String>,
    ) -> EngineFuture<'a, BTreeMap<String, String>>;

    /// Pulls an image for a platform, by default the engine's, with progress.
    fn pull<'a>(
        &'a self,
        image: &'a str,
        platform: Option<&'a str>,
        progress: &'a (dyn Fn(PullProgress) + Send + Sync),
    ) -> EngineFuture<'a, ()>;

    /// Reads a file in a container, running or not, at most `most` bytes; `None` if it does not exist. Files on a
    /// `tmpfs` are not visible.
    fn read<'a>(&'a self, id: &'a str, path: &'a str, most: usize) -> EngineFuture<'a, Option<Vec<u8>>>;

    /// Builds an image, with progress. Dropping the call cancels the build.
    fn build<'a>(
        &'a self,
        request: &'a BuildRequest,
        progress: &'a (dyn Fn(BuildProgress) + Send + Sync),
    ) -> EngineFuture<'a, ()>;

    /// Runs a command in a container and returns its exit code. Output is delivered line by line. Dropping the call
    /// does not end the command: the API has no call for that.
    fn exec<'a>(
        &'a self,
        id: &'a str,
        exec: &'a Exec,
        heard: &'a mut (dyn FnMut(LogLine) + Send),
    ) -> EngineFuture<'a, i64>;

    /// Lists the processes of a running container.
    fn top<'a>(&'a self, id: &'a str) -> EngineFuture<'a, Processes>;

    /// Output of a container: the last `tail` lines (`None`: all) since `since` (seconds since the Unix epoch; 0: the
    /// start), and new lines if `follow`.
    fn logs<'a>(&'a self, id: &'a str, options: LogOptions) -> EngineStream<'a, LogLine>;

    /// Containers of the group that exited within the last `span`, oldest first. The engine remembers only its last few
    /// hundred events.
    fn recent_exits<'a>(&'a self, group: &'a str, span: Duration) -> EngineFuture<'a, Vec<ContainerExit>>;

    /// Events of the group's containers and of networks. The first item is [`EngineEvent::Subscribed`]; the stream ends
    /// or fails when the engine stops.
    fn events<'a>(&'a self, group: &'a str) -> EngineStream<'a, EngineEvent>;
}

/// An engine, as it describes itself.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct EngineInfo {
    /// Its id.
    pub id: String,
    /// What it is and can do.
    pub capabilities: Capabilities,
    /// Its own warnings, e.g. of limits that the kernel does not support.
    pub warnings: Vec<String>,
}

/// A volume with its labels.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct LabeledVolume {
    /// Name.
    pub name: String,
    /// All labels.
    pub labels: BTreeMap<String, String>,
    /// Time since its creation by the engine's clock, if known.
    pub age: Option<Duration>,
}

/// One mutation.
#[derive(Debug, Clone, PartialEq)]
pub enum Mutation {
    /// Create a container without starting it.
    Create(Box<ContainerSpec>),
    /// Start a container.
    Start(String),
    /// Copy files into a container that has never run, and start it.
    FirstStart {
        /// Id of the container.
        id: String,
        /// Files by path.
        files: BTreeMap<String, CopiedFile>,
    },
    /// Stop a container; the engine kills it after the timeout.
    Stop {
        /// Id of the container.
        id: String,
        /// Stop timeout; `None`: the container's own.
        timeout: Option<Duration>,
    },
    /// Unpause a container.
    Unpause(String),
    /// Send a signal to a running container.
    Signal {
        /// Id of the container.
        id: String,
        /// Name of the signal, e.g. `SIGHUP`.
        signal: String,
    },
    /// Rename a container.
    Rename {
        /// Id of the container.
        id: String,
        /// New name.
        name: String,
    },
    /// Update resource limits and restart policy of a running container.
    Update {
        /// Id of the container.
        id: String,
        /// Resource limits; `None` means unlimited.
        resources: Resources,
        /// Restart policy.
        restart: RestartPolicy,
    },
    /// Remove a container, by force if it is running.
    Remove {
        /// Id of the container.
        id: String,
        /// Also remove its anonymous volumes.
        volumes: bool,
    },
    /// Create a network.
    CreateNetwork {
        /// Name.
        name: String,
        /// Labels.
        labels: BTreeMap<String, String>,
        /// Driver, addresses and options, with the user's labels.
        network: Box<Network>,
    },
    /// Remove a network by id.
    RemoveNetwork(String),
    /// Attach a container to a network.
    Connect {
        /// Id of the container.
        container: String,
        /// The network, with names and addresses on it.
        join: Box<Join>,
    },
    /// Detach a container from a network.
    Disconnect {
        /// Id of the network, or its name if the id no longer exists.
        network: String,
        /// Id of the container.
        container: String,
    },
    /// Remove a volume by name.
    RemoveVolume(String),
    /// Remove an image by reference, unless it is in use; an image with further tags loses this one.
    RemoveImage(String),
}

impl Mutation {
    /// The mutation in words: `start container 3f2a91bc77d0`.
    pub fn describe(&self) -> String {
        match self {
            Mutation::Create(spec) => format!("create container {}", spec.name),
            Mutation::Start(id) | Mutation::FirstStart { id, .. } => format!("start container {}", short(id)),
            Mutation::Stop { id, .. } => format!("stop container {}", short(id)),
            Mutation::Unpause(id) => format!("unpause container {}", short(id)),
            Mutation::Signal { id, signal } => format!("send {signal} to container {}", short(id)),
            Mutation::Rename { id, name } => format!("rename container {} to {name}", short(id)),
            Mutation::Update { id, .. } => format!("update container {}", short(id)),
            Mutation::Remove { id, .. } => format!("remove container {}", short(id)),
            Mutation::CreateNetwork { name, .. } => format!("create network {name}"),
            Mutation::RemoveNetwork(id) => format!("remove network {}", short(id)),
            Mutation::Connect { container, join } => {
                format!("connect container {} to network {}", short(container), short(&join.network))
            }
            Mutation::Disconnect { network, container } => {
                format!("disconnect container {} from network {}", short(container), short(network))
            }
            Mutation::RemoveVolume(name) => format!("remove volume {}", short(name)),
            Mutation::RemoveImage(reference) => format!("remove image {reference}"),
        }
    }
}

/// The first twelve characters of an id, as Docker shows it; a name is unchanged.
pub fn short(id: &str) -> &str {
    let is_id = id.len() == 64 && id.bytes().all(|byte| byte.is_ascii_hexdigit());
    if is_id { &id[..12] } else { id }
}

/// A container to create.
#[derive(Debug, Clone, PartialEq, Default)]
pub struct ContainerSpec {
    /// Name of the container.
    pub name: String,
    /// All labels, ours and the user's.
    pub labels: BTreeMap<String, String>,
    /// Labels for volumes created with the container.
    pub volume_labels: BTreeMap<String, String>,
    /// Volumes with settings, by name.
    pub volumes: BTreeMap<String, DeclaredVolume>,
    /// Container configuration.
    pub config: Config,
    /// Environment variables.
    pub env: Env,
    /// Networks that it joins, the first one first.
    pub joins: Vec<Join>,
    /// Containers whose namespaces it shares, by their names in the spec.
    pub targets: BTreeMap<String, ContainerId>,
    /// Host name; empty: chosen by the engine.
    pub hostname: String,
    /// Anonymous volumes inherited from the replaced container.
    pub inherited: Vec<Inherited>,
}

/// An image to build.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct BuildRequest {
    /// Reference of the image.
    pub image: String,
    /// Context, Dockerfile and build arguments.
    pub build: Build,
    /// All labels beside those of the Dockerfile, ours and the user's.
    pub labels: BTreeMap<String, String>,
}

/// Progress of a build.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum BuildProgress {
    /// Data was sent or received.
    Alive,
    /// A line that names a step of the build, whose output follows.
    Step(String),
    /// A line of output.
    Line(String),
}

/// A command in a container with attached input and output.
pub struct Attached {
    /// Exec id.
    pub exec: String,
    /// Output in chunks; true for stderr. A terminal has one stream.
    pub output: EngineStream<'static, (bool, Vec<u8>)>,
    /// Standard input.
    pub input: Pin<Box<dyn AsyncWrite + Send>>,
}

/// A command to run in a container.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Exec {
    /// Program and arguments.
    pub command: Vec<String>,
    /// Environment variables beside those of the container.
    pub env: BTreeMap<String, String>,
    /// How long the caller waits. The command itself is not limited.
    pub limit: Duration,
}

/// The processes of a container, as `ps` on the engine's host lists them.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Processes {
    /// Titles of the columns.
    pub titles: Vec<String>,
    /// One row for each process.
    pub rows: Vec<Vec<String>>,
}

/// Options of [`Engine::logs`].
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct LogOptions {
    /// Number of lines from the end; `None`: all.
    pub tail: Option<u32>,
    /// Start time in seconds since the Unix epoch; 0: the first start.
    pub since: i64,
    /// Follow until the container exits.
    pub follow: bool,
    /// Prefix each line with the engine's timestamp.
    pub timestamps: bool,
}

/// A line of output, without its newline.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct LogLine {
    /// Written to stderr.
    pub stderr: bool,
    /// Text; bytes that are not UTF-8 are replaced.
    pub text: String,
}

/// Progress of a pull.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct PullProgress {
    /// Completed layers.
    pub done: usize,
    /// Known layers.
    pub total: usize,
    /// Bytes downloaded over all layers.
    pub bytes: u64,
}

/// An engine event. A hint to observe again; it never changes the observed state by itself.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum EngineEvent {
    /// The subscription is active: no later event is missed.
    Subscribed,
    /// Something happened to a container of the group.
    Container {
        /// Id of the container.
        id: String,
        /// What happened.
        what: ContainerEvent,
    },
    /// Something happened to a network.
    Network {
        /// Id of the network.
        id: String,
        /// Container that was attached or detached, if any.
        container: Option<String>,
    },
}

/// A container that exited.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ContainerExit {
    /// Id of the container.
    pub id: String,
    /// Its service, from the label.
    pub service: String,
    /// Its replica number, from the label.
    pub replica: Option<u32>,
    /// Time since the exit.
    pub ago: Duration,
    /// Exit code, if known.
    pub code: Option<i64>,
    /// Whether it was stopped by an API request rather than crashed.
    pub asked: bool,
}

/// What happened to a container.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum ContainerEvent {
    /// It was created.
    Created,
    /// It was started.
    Started,
    /// A signal was sent through the engine, as `docker stop` and `docker kill` do.
    Killed,
    /// Its main process exited.
    Died {
        /// Exit code, if reported.
        code: Option<i64>,
    },
    /// It was removed.
    Destroyed,
    /// Its health status changed.
    Health(crate::observed::Health),
    /// Its name, limits or anything else changed.
    Changed,
}

/// Message of an I/O error: `connection refused`, not `Connection refused (os error 111)`.
pub fn io_message(error: &io::Error) -> String {
    let text = error.to_string();
    let text = text.split(" (os error").next().unwrap_or_default();
    let mut characters = text.chars();
    characters.next().map(|first| first.to_lowercase().chain(characters).collect()).unwrap_or_default()
}

/// Error of an engine call.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum EngineError {
    /// Cannot connect to the engine.
    #[error("cannot connect to the Docker engine at {endpoint}: {reason}")]
    Unreachable {
        /// Endpoint.
        endpoint: String,
        /// Error of the connection.
        reason: String,
    },
    /// The call exceeded its deadline.
    #[error("the engine did not answer within {} s while asked to {attempted}", limit.as_secs())]
    TimedOut {
        /// The attempted call.
        attempted: String,
        /// The deadline.
        limit: Duration,
    },
    /// The object does not exist (404).
    #[error("cannot {attempted}: {message}")]
    NotFound {
        /// The attempted call.
        attempted: String,
        /// The engine's message.
        message: String,
    },
    /// The call conflicts with the state of the engine (409 or 403).
    #[error("cannot {attempted}: {message}")]
    Conflict {
        /// The attempted call.
        attempted: String,
        /// The engine's message.
        message: String,
    },
    /// The network still has endpoints (403). If no container is attached, the engine has leaked one, and only its
    /// restart releases it (moby/moby#42119).
    #[error("cannot {attempted}: {message}")]
    ActiveEndpoints {
        /// The attempted call.
        attempted: String,
        /// The engine's message.
        message: String,
    },
    /// A host port is allocated to another container. If none publishes it, the engine was killed and still reserves the
    /// port, and only its restart releases it (seen with 20.10.24).
    #[error("cannot {attempted}: {message}")]
    PortAllocated {
        /// The attempted call.
        attempted: String,
        /// The engine's message.
        message: String,
    },
    /// The engine rejected the call as invalid (400): it would do so again.
    #[error("cannot {attempted}: {message}")]
    Invalid {
        /// The attempted call.
        attempted: String,
        /// The engine's message.
        message: String,
    },
    /// Any other error response.
    #[error("cannot {attempted}: {message}")]
    Refused {
        /// The attempted call.
        attempted: String,
        /// The engine's message.
        message: String,
    },
}

impl EngineError {
    /// The engine's message, to change it; `None`: there was no response.
    pub fn message_mut(&mut self) -> Option<&mut String> {
        match self {
            EngineError::NotFound { message, .. }
            | EngineError::Conflict { message, .. }
            | EngineError::ActiveEndpoints { message, .. }
            | EngineError::PortAllocated { message, .. }
            | EngineError::Invalid { message, .. }
            | EngineError::Refused { message, .. } => Some(message),
            EngineError::Unreachable { .. } | EngineError::TimedOut { .. } => None,
        }
    }
}
