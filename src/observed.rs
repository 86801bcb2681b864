//! Observed state: a snapshot of the engine, in engine-independent types.
//!
//! Created by `engine`, read by `plan` and `status`. Contains facts only.

use std::collections::BTreeMap;
use std::fmt;
use std::net::IpAddr;

use serde::{Deserialize, Serialize};

use crate::identity::Identity;
use crate::spec::model::{Protocol, Resources, RestartPolicy};
use crate::types::ContainerId;

/// A snapshot, from a constant number of list calls.
#[derive(Debug, Clone, Default, PartialEq)]
pub struct Observed {
    /// All containers of the engine, managed or not, by id.
    pub containers: BTreeMap<ContainerId, Container>,
    /// Every network, by id.
    pub networks: BTreeMap<String, Network>,
    /// Ids of the images by each reference that names them, in the engine's familiar form (`debian:12`,
    /// `name@sha256:…`).
    pub images: BTreeMap<String, String>,
    /// Images that drillmaster built for the group, by the reference that they were given then.
    pub built: BTreeMap<String, BuiltImage>,
    /// What was looked up about an image, by image id. Kept from one snapshot to the next.
    pub image_facts: BTreeMap<String, ImageFacts>,
    /// Volumes that carry our group label, by name; filled only where it was asked for.
    pub volumes: BTreeMap<String, Volume>,
}

/// An observed container.
#[derive(Debug, Clone, PartialEq)]
pub struct Container {
    /// Full id.
    pub id: ContainerId,
    /// Name without the leading slash.
    pub name: String,
    /// Identity from its labels; `None`: not managed.
    pub identity: Option<Identity>,
    /// Image as the engine shows it.
    pub image: String,
    pub state: State,
    pub health: Health,
    /// Networks it is attached to, also while it is stopped.
    pub networks: Vec<Attachment>,
    /// Ports that are published now; empty while it does not run.
    pub ports: Vec<PublishedPort>,
    /// Mounts.
    pub mounts: Vec<MountPoint>,
    /// Seconds since 1970 at which it was created.
    pub created: i64,
    /// Details from an inspection; `None`: not inspected.
    pub details: Option<Details>,
}

/// State of a container, as in the Docker API.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub enum State {
    /// Created and never started.
    Created,
    /// Running.
    Running,
    /// Frozen.
    Paused,
    /// The engine's restart policy is bringing it back.
    Restarting,
    /// Ended.
    Exited {
        /// Exit code, where known.
        code: Option<i64>,
    },
    /// Being removed.
    Removing,
    /// Could not be removed, or was left by an engine that crashed; it cannot be started.
    Dead,
}

impl fmt::Display for State {
    /// For people: `exited (137)`.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            State::Created => f.write_str("created"),
            State::Running => f.write_str("running"),
            State::Paused => f.write_str("paused"),
            State::Restarting => f.write_str("restarting"),
            State::Exited { code: Some(code) } => write!(f, "exited ({code})"),
            State::Exited { code: None } => f.write_str("exited"),
            State::Removing => f.write_str("being removed"),
            State::Dead => f.write_str("dead"),
        }
    }
}

/// Result of the Docker health check.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum Health {
    /// There is no check.
    #[default]
    None,
    /// No verdict yet.
    Starting,
    /// The check succeeded.
    Healthy,
    /// The check failed as often as it may.
    Unhealthy,
}

/// A container on a network.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Attachment {
    /// Id of the network; of a stopped container it may name a network that is gone.
    pub network_id: String,
    /// Name of the network.
    pub network: String,
    /// Address of the container on it, while it runs.
    pub address: Option<IpAddr>,
}

/// A port that the engine has published.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub struct PublishedPort {
    /// Address on the host.
    pub address: IpAddr,
    /// Port on the host.
    pub host: u16,
    /// Port in the container.
    pub container: u16,
    /// Transport protocol.
    pub protocol: Protocol,
}

/// A mount of a container.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct MountPoint {
    /// Name of the volume, where it is one.
    pub volume: Option<String>,
    /// Path on the host, where it is a bind mount.
    pub bind: Option<String>,
    /// Path in the container.
    pub target: String,
    /// Whether the container may write.
    pub writable: bool,
}

/// Details from an inspection.
#[derive(Debug, Clone, PartialEq, Default)]
pub struct Details {
    /// Environment, the image's included.
    pub env: BTreeMap<String, String>,
    /// Limits in force.
    pub resources: Resources,
    /// Restart policy in force.
    pub restart: RestartPolicy,
    /// RFC 3339; empty: never started.
    pub started_at: String,
    /// RFC 3339; empty: never ended.
    pub finished_at: String,
    /// Number of restarts by the engine.
    pub restarts: u64,
    /// Killed by the kernel: out of memory.
    pub oom_killed: bool,
    /// What the engine says went wrong at the last start; empty: nothing.
    pub error: String,
    /// Its names on each network, by the network's id.
    pub names: BTreeMap<String, Vec<String>>,
    /// What the last health check said where it failed: `exited with code 1: no tooth`; empty: nothing.
    pub health_failure: String,
}

/// A network.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Network {
    /// Full id. Networks are referred to by it: two may have one name.
    pub id: String,
    /// Name.
    pub name: String,
    /// Our group label; `None`: not ours.
    pub group: Option<String>,
    /// Our source label.
    pub source: Option<String>,
}

/// A volume that carries our group label.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Volume {
    /// Name on the engine.
    pub name: String,
    /// Our group label.
    pub group: String,
    /// Our source label.
    pub source: Option<String>,
}

/// An image that drillmaster has built.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct BuiltImage {
    /// Its id.
    pub id: String,
    /// The group that it was built for.
    pub group: String,
    /// The spec directory that said how.
    pub source: Option<String>,
}

/// What was looked up about an image.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct ImageFacts {
    /// Whether it brings a health check.
    pub healthcheck: bool,
    /// Paths that it declares as volumes.
    pub volumes: Vec<String>,
}

impl Container {
    /// Returns true if it has processes, also when paused.
    pub fn is_up(&self) -> bool {
        matches!(self.state, State::Running | State::Paused | State::Restarting)
    }

    /// The service it belongs to in this group, whichever replica it is; `None`: not of the group.
    pub fn service_of(&self, group: &str) -> Option<&str> {
        self.identity.as_ref().filter(|identity| identity.group == group).map(|identity| identity.service.as_str())
    }
}

impl Observed {
    /// Containers that carry the label of this group.
    pub fn of_group<'a>(&'a self, group: &'a str) -> impl Iterator<Item = &'a Container> {
        self.containers.values().filter(move |container| container.service_of(group).is_some())
    }
}
