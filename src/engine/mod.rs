//! The engine as the controller sees it: a few reads, one mutation at a time, a stream of events.
//!
//! An engine executes calls and decides nothing. Only `docker` and `convert` use bollard; `build` talks to the engine
//! itself, because bollard cannot decode BuildKit's progress.

pub mod build;
pub mod convert;
pub mod deadline;
pub mod docker;
pub mod layer;
pub mod lines;
mod registry;
pub mod target;
mod transport;

use std::collections::BTreeMap;
use std::pin::Pin;
use std::time::Duration;

use futures_util::future::BoxFuture;
use futures_util::stream::BoxStream;
use tokio::io::AsyncWrite;

use crate::desired::{Build, Config, Inherited};
use crate::observed::{Container, ImageFacts, Observed};
use crate::spec::model::{Resources, RestartPolicy};

/// Result of an engine call.
pub type Result<T> = std::result::Result<T, EngineError>;

/// A call that is under way.
pub type EngineFuture<'a, T> = BoxFuture<'a, Result<T>>;

/// Items as they arrive; an error ends the stream.
pub type EngineStream<'a, T> = BoxStream<'a, Result<T>>;

/// An engine. Every call may fail, hang (see [`deadline`]) or lose its reply after it was carried out.
pub trait Engine: Send + Sync {
    /// Which engine this is.
    fn about(&self) -> EngineFuture<'_, EngineInfo>;

    /// Everything it has: containers, networks, images, and volumes of the group where they are asked for.
    fn list<'a>(&'a self, group: &'a str, volumes: bool) -> EngineFuture<'a, Observed>;

    /// One container with its [`crate::observed::Details`]; `None`: there is none of that id.
    fn inspect<'a>(&'a self, id: &'a str) -> EngineFuture<'a, Option<Container>>;

    /// Facts about an image by id or reference; `None`: there is none.
    fn image<'a>(&'a self, reference: &'a str) -> EngineFuture<'a, Option<ImageFacts>>;

    /// Carries out one mutation. A created container or network gives its id.
    fn apply<'a>(&'a self, mutation: &'a Mutation) -> EngineFuture<'a, Option<String>>;

    /// Pulls an image, with progress.
    fn pull<'a>(&'a self, image: &'a str, progress: &'a (dyn Fn(PullProgress) + Send + Sync)) -> EngineFuture<'a, ()>;

    /// The content of a file in a container, running or not, cut off after `most` bytes; `None`: there is no such file. A
    /// file in memory (below a `tmpfs`) is not seen.
    fn read<'a>(&'a self, id: &'a str, path: &'a str, most: usize) -> EngineFuture<'a, Option<Vec<u8>>>;

    /// Builds an image, with progress. A build whose caller goes away ends.
    fn build<'a>(
        &'a self,
        request: &'a BuildRequest,
        progress: &'a (dyn Fn(BuildProgress) + Send + Sync),
    ) -> EngineFuture<'a, ()>;

    /// Runs a command in a container and returns its exit code. Output is passed on line by line. A
    /// command whose caller goes away goes on: no engine has a call that ends one.
    fn exec<'a>(
        &'a self,
        id: &'a str,
        exec: &'a Exec,
        heard: &'a mut (dyn FnMut(LogLine) + Send),
    ) -> EngineFuture<'a, i64>;

    /// Output of a container: the last `tail` lines (all: `None`) since `since` (seconds since 1970, 0: the start),
    /// and what follows where `follow`.
    fn logs<'a>(&'a self, id: &'a str, options: LogOptions) -> EngineStream<'a, LogLine>;

    /// Containers of the group that ended within the last `span`, oldest first, as far as the engine remembers: the last
    /// few hundred events of everything.
    fn recent_exits<'a>(&'a self, group: &'a str, span: Duration) -> EngineFuture<'a, Vec<ContainerExit>>;

    /// Events of containers and networks of the group from now on. The stream is subscribed when its first item is
    /// [`EngineEvent::Subscribed`]; it ends or fails when the engine goes away.
    fn events<'a>(&'a self, group: &'a str) -> EngineStream<'a, EngineEvent>;
}

/// Which engine this is.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct EngineInfo {
    /// Id that the engine gave itself.
    pub id: String,
    /// Version of the engine, e.g. `20.10.24`.
    pub version: String,
    /// Version of the API that was agreed on, e.g. `1.41`.
    pub api: String,
    /// Whether addresses of containers can be reached from here: a local engine on Linux that is neither rootless nor
    /// in a virtual machine.
    pub reaches_containers: bool,
}

impl EngineInfo {
    /// Whether containers must stop one after another. Before 20.10.27, two that leave one network at the same moment
    /// can deadlock the engine's networks for good (moby/moby#46661): one holds the network's lock and wants the
    /// controller's, the other the reverse. With both windows widened, every way of stopping in parallel hung within
    /// three teardowns; one at a time never did in 47. A version that cannot be read counts as an old one.
    pub fn stops_one_at_a_time(&self) -> bool {
        let mut parts = self.version.split(['.', '+', '-', '~']).map(|part| part.parse::<u32>().ok());
        let mut next = || parts.next().flatten();
        match (next(), next(), next()) {
            (Some(major), Some(minor), patch) => (major, minor, patch.unwrap_or_default()) < (20, 10, 27),
            _ => true,
        }
    }
}

/// One mutation.
#[derive(Debug, Clone, PartialEq)]
pub enum Mutation {
    /// Create a container; it is not started.
    Create(Box<ContainerSpec>),
    /// Start it.
    Start(String),
    /// Ask it to stop, and kill it when the time is over.
    Stop {
        /// Id of the container.
        id: String,
        /// Time it has; `None`: as the container itself says.
        timeout: Option<Duration>,
    },
    /// Thaw it.
    Unpause(String),
    /// Give it another name.
    Rename {
        /// Id of the container.
        id: String,
        /// New name.
        name: String,
    },
    /// Change its limits and restart policy while it runs.
    Update {
        /// Id of the container.
        id: String,
        /// Limits; what is `None` becomes unlimited.
        resources: Resources,
        /// Restart policy.
        restart: RestartPolicy,
    },
    /// Remove it; by force where it still runs.
    Remove {
        /// Id of the container.
        id: String,
        /// Its anonymous volumes too.
        volumes: bool,
    },
    /// Create a bridge network.
    CreateNetwork {
        /// Name.
        name: String,
        /// Labels.
        labels: BTreeMap<String, String>,
    },
    /// Remove a network by id.
    RemoveNetwork(String),
    /// Attach a container to a network.
    Connect {
        /// Id of the network.
        network: String,
        /// Id of the container.
        container: String,
        /// Names of the container on it.
        aliases: Vec<String>,
    },
    /// Detach a container from a network.
    Disconnect {
        /// Id of the network, or its name where the id is gone.
        network: String,
        /// Id of the container.
        container: String,
    },
    /// Remove a volume by name.
    RemoveVolume(String),
    /// Remove an image by reference, unless something uses it; where it has other names, this name.
    RemoveImage(String),
}

impl Mutation {
    /// What it does, for people: `start container 3f2a91bc77d0`.
    pub fn describe(&self) -> String {
        match self {
            Mutation::Create(spec) => format!("create container {}", spec.name),
            Mutation::Start(id) => format!("start container {}", short(id)),
            Mutation::Stop { id, .. } => format!("stop container {}", short(id)),
            Mutation::Unpause(id) => format!("unpause container {}", short(id)),
            Mutation::Rename { id, name } => format!("rename container {} to {name}", short(id)),
            Mutation::Update { id, .. } => format!("update container {}", short(id)),
            Mutation::Remove { id, .. } => format!("remove container {}", short(id)),
            Mutation::CreateNetwork { name, .. } => format!("create network {name}"),
            Mutation::RemoveNetwork(id) => format!("remove network {}", short(id)),
            Mutation::Connect { network, container, .. } => {
                format!("connect container {} to network {}", short(container), short(network))
            }
            Mutation::Disconnect { network, container } => {
                format!("disconnect container {} from network {}", short(container), short(network))
            }
            Mutation::RemoveVolume(name) => format!("remove volume {}", short(name)),
            Mutation::RemoveImage(reference) => format!("remove image {reference}"),
        }
    }
}

/// The first twelve characters of an id, as Docker shows it; a name stays as it is.
pub fn short(id: &str) -> &str {
    let is_id = id.len() == 64 && id.bytes().all(|byte| byte.is_ascii_hexdigit());
    if is_id { &id[..12] } else { id }
}

/// A container to create.
#[derive(Debug, Clone, PartialEq)]
pub struct ContainerSpec {
    /// Name of the container.
    pub name: String,
    /// All labels, ours and the user's.
    pub labels: BTreeMap<String, String>,
    /// Labels for volumes that are created with it.
    pub volume_labels: BTreeMap<String, String>,
    /// What it is made of.
    pub config: Config,
    /// Environment.
    pub env: BTreeMap<String, String>,
    /// Id of the network.
    pub network: String,
    /// Names on the network.
    pub aliases: Vec<String>,
    /// Host name inside it; empty: the engine's own.
    pub hostname: String,
    /// Anonymous volumes taken over from the container that it replaces.
    pub inherited: Vec<Inherited>,
}

/// An image to build.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct BuildRequest {
    /// The reference that it gets.
    pub image: String,
    /// What it is made from.
    pub build: Build,
    /// All labels that it gets beside those of its Dockerfile, ours and the user's.
    pub labels: BTreeMap<String, String>,
}

/// Progress of a build.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum BuildProgress {
    /// It gets on: something was sent or came.
    Alive,
    /// A line of its output.
    Line(String),
}

/// A command in a container with attached input and output.
pub struct Attached {
    /// Id by which the engine knows it.
    pub exec: String,
    /// What it writes, and whether to its error stream, as it comes. Of a terminal there is one stream.
    pub output: EngineStream<'static, (bool, Vec<u8>)>,
    /// What it reads.
    pub input: Pin<Box<dyn AsyncWrite + Send>>,
}

/// A command to run in a container.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Exec {
    /// Program and arguments.
    pub command: Vec<String>,
    /// Variables, beside those of the container.
    pub env: BTreeMap<String, String>,
    /// How long its caller waits for its end. It knows nothing of that itself.
    pub limit: Duration,
}

/// Which output to give.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct LogOptions {
    /// Only the last so many lines; `None`: all.
    pub tail: Option<u32>,
    /// Only since then, in seconds since 1970; 0: since the first start.
    pub since: i64,
    /// Go on until the container ends.
    pub follow: bool,
    /// With the engine's time stamps in front.
    pub timestamps: bool,
}

/// A line of output, without its newline.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct LogLine {
    /// From the error stream.
    pub stderr: bool,
    /// Text; bytes that are not UTF-8 are replaced.
    pub text: String,
}

/// Progress of a pull.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct PullProgress {
    /// Layers that are done.
    pub done: usize,
    /// Layers that are known.
    pub total: usize,
    /// Bytes that have come, over all layers.
    pub bytes: u64,
}

/// What an event says. A hint to look again, never the truth by itself.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum EngineEvent {
    /// The subscription stands: nothing after this is missed.
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
        /// Container that was attached or detached, where that is what happened.
        container: Option<String>,
    },
}

/// A container that ended.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ContainerExit {
    /// Its service, as its label says.
    pub service: String,
    /// Number of the replica, as its label says.
    pub replica: Option<u32>,
    /// How long ago.
    pub ago: Duration,
    /// Exit code, where known.
    pub code: Option<i64>,
    /// It was stopped by a request to the engine: it did not crash.
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
    /// Its main process ended.
    Died {
        /// Exit code, where the event says it.
        code: Option<i64>,
    },
    /// It was removed.
    Destroyed,
    /// The health check changed its verdict.
    Health(crate::observed::Health),
    /// Its name, limits or anything else changed.
    Changed,
}

/// What can go wrong with a call.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum EngineError {
    /// No engine answers there.
    #[error("no Docker engine answers at {endpoint}: {reason}")]
    Unreachable {
        /// Where it was looked for.
        endpoint: String,
        /// What the connection said.
        reason: String,
    },
    /// The engine took longer than the call may take.
    #[error("the engine did not answer within {} s while asked to {attempted}", limit.as_secs())]
    TimedOut {
        /// What was attempted.
        attempted: String,
        /// How long it was waited for.
        limit: Duration,
    },
    /// What the call names does not exist.
    #[error("cannot {attempted}: {message}")]
    NotFound {
        /// What was attempted.
        attempted: String,
        /// What the engine said.
        message: String,
    },
    /// The engine's state does not allow it (409, or 403).
    #[error("cannot {attempted}: {message}")]
    Conflict {
        /// What was attempted.
        attempted: String,
        /// What the engine said.
        message: String,
    },
    /// The network still has endpoints (403). If no container is attached, the engine has leaked one, and only its
    /// restart releases it (moby/moby#42119).
    #[error("cannot {attempted}: {message}")]
    ActiveEndpoints {
        /// What was attempted.
        attempted: String,
        /// What the engine said.
        message: String,
    },
    /// Anything else that the engine said.
    #[error("cannot {attempted}: {message}")]
    Refused {
        /// What was attempted.
        attempted: String,
        /// What the engine said.
        message: String,
    },
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_old_engines_stop_one_container_after_another() {
        let table = [
            ("20.10.24+dfsg1", true),
            ("20.10.26", true),
            ("20.10.27", false),
            ("19.03.15", true),
            ("23.0.0", false),
            ("26.1.5+dfsg1", false),
            ("28.0.0-rc.1", false),
            ("29", true),
            ("dev", true),
        ];
        for (version, expected) in table {
            let about =
                EngineInfo { id: String::new(), version: version.into(), api: "1.41".into(), reaches_containers: true };
            assert_eq!(about.stops_one_at_a_time(), expected, "{version}");
        }
    }
}
