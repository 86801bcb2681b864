//! Observed state: a snapshot of the engine, in engine-independent types.
//!
//! Created by `engine`, read by `plan` and `status`. Contains facts only.

use std::collections::{BTreeMap, BTreeSet};
use std::fmt;
use std::net::IpAddr;

use serde::{Deserialize, Serialize};

use crate::capabilities::Capabilities;
use crate::identity::Identity;
use crate::spec::model::{Protocol, Resources, RestartPolicy};
use crate::types::ContainerId;

/// A snapshot, from a constant number of list calls.
#[derive(Debug, Clone, Default, PartialEq)]
pub struct Observed {
    /// All containers of the engine, managed or not, by id.
    pub containers: BTreeMap<ContainerId, Container>,
    /// All networks of the engine, by id.
    pub networks: BTreeMap<String, Network>,
    /// Ids of the images by reference, in the engine's familiar form (`debian:12`, `name@sha256:…`), and by id.
    pub images: BTreeMap<String, String>,
    /// Ids of other images with the same content for the engine's platform, by the id of a container's image.
    pub equal_images: BTreeMap<String, BTreeSet<String>>,
    /// Platforms whose content is present, by image id: of images that may have several.
    pub image_platforms: BTreeMap<String, BTreeSet<String>>,
    /// Images that drillmaster built for the group, by the reference they were built under.
    pub built: BTreeMap<String, BuiltImage>,
    /// Ids of images with the label of a group: `docker commit` copies the labels of a container to the image.
    pub labeled_images: BTreeSet<String>,
    /// Facts from inspections of images, by image id. Kept from one snapshot to the next.
    pub image_facts: BTreeMap<String, ImageFacts>,
    /// Volumes, managed or not, by name; only if requested.
    pub volumes: BTreeMap<String, Volume>,
    /// What the engine can do.
    pub capabilities: Capabilities,
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
    /// Identity in labels that it has only inherited from its image: it is not managed.
    pub inherited: Option<Identity>,
    /// What docker compose created it for; `None`: it did not.
    pub compose: Option<ComposeService>,
    /// Image as the engine shows it.
    pub image: String,
    /// Id of the image that it was created from.
    pub image_id: String,
    pub state: State,
    pub health: Health,
    /// Whose network it has, in the engine's words: `host`, `none`, `container:<id>`, or the name of its first network.
    pub network_mode: String,
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

/// The service of docker compose that a container was created for.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct ComposeService {
    pub project: String,
    pub service: String,
    /// Services that it depends on.
    pub dependencies: Vec<String>,
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
    /// Length of the network's part of the address, in bits.
    pub prefix: Option<u8>,
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
    /// Environment, including that of the image.
    pub env: BTreeMap<String, String>,
    /// Limits in force.
    pub resources: Resources,
    /// Restart policy in force.
    pub restart: RestartPolicy,
    /// RFC 3339; empty: never started.
    pub started_at: String,
    /// RFC 3339; empty: never exited.
    pub finished_at: String,
    /// Number of restarts by the engine.
    pub restarts: u64,
    /// Killed by the kernel because of its memory limit.
    pub oom_killed: bool,
    /// Error of the last start; empty: none.
    pub error: String,
    /// Network aliases, by network id.
    pub names: BTreeMap<String, Vec<String>>,
    /// Failure of the last health check: `exited with code 1: connection refused`; empty: it succeeded.
    pub health_failure: String,
}

/// A network.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Network {
    /// Full id. Names of networks are not unique.
    pub id: String,
    /// Name.
    pub name: String,
    /// Group label; `None`: not managed.
    pub group: Option<String>,
    /// Source label.
    pub source: Option<String>,
    /// Project of docker compose that it was created for.
    pub compose_project: Option<String>,
    /// Address ranges.
    pub subnets: Vec<String>,
    /// How it was created.
    pub settings: NetworkSettings,
}

/// How a network was created.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct NetworkSettings {
    /// Driver.
    pub driver: String,
    /// Without a way out.
    pub internal: bool,
    /// Containers outside of a Swarm service may join.
    pub attachable: bool,
    pub enable_ipv4: bool,
    pub enable_ipv6: bool,
    /// Options of the driver.
    pub options: BTreeMap<String, String>,
    /// Addresses of its gateways.
    pub gateways: Vec<String>,
    /// Parts of its address ranges from which containers get addresses.
    pub ip_ranges: Vec<String>,
    /// Addresses that containers do not get, by name.
    pub aux_addresses: BTreeMap<String, String>,
    /// Driver of its addresses.
    pub ipam_driver: String,
    /// Options of that driver.
    pub ipam_options: BTreeMap<String, String>,
    /// Labels, ours among them.
    pub labels: BTreeMap<String, String>,
}

impl Default for NetworkSettings {
    fn default() -> Self {
        NetworkSettings {
            driver: "bridge".to_owned(),
            internal: false,
            attachable: false,
            enable_ipv4: true,
            enable_ipv6: false,
            options: BTreeMap::new(),
            gateways: Vec::new(),
            ip_ranges: Vec::new(),
            aux_addresses: BTreeMap::new(),
            ipam_driver: "default".to_owned(),
            ipam_options: BTreeMap::new(),
            labels: BTreeMap::new(),
        }
    }
}

/// A volume.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Volume {
    /// Name on the engine.
    pub name: String,
    /// Group label; `None`: not managed.
    pub group: Option<String>,
    /// Source label.
    pub source: Option<String>,
    /// Driver.
    pub driver: String,
    /// Options of the driver.
    pub options: BTreeMap<String, String>,
}

/// An image built by drillmaster.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct BuiltImage {
    pub id: String,
    /// Group label.
    pub group: String,
    /// Source label.
    pub source: Option<String>,
    /// Seconds since 1970 at which it was created.
    pub created: i64,
}

/// Facts from the inspection of an image.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct ImageFacts {
    /// Whether it has a health check.
    pub healthcheck: bool,
    /// Whether it sets the signal that stops a container.
    pub stop_signal: bool,
    /// Paths of its declared volumes.
    pub volumes: Vec<String>,
    /// Its platform: `linux/arm64`; empty: not known.
    pub platform: String,
}

impl Container {
    /// Returns true if it has processes, also when paused.
    pub fn is_up(&self) -> bool {
        matches!(self.state, State::Running | State::Paused | State::Restarting)
    }

    /// The id of the container whose network it has; `None`: it has its own, or none.
    pub fn network_owner(&self) -> Option<&str> {
        self.network_mode.strip_prefix("container:")
    }

    /// Returns true if it has the network of the engine's host.
    pub fn has_network_of_host(&self) -> bool {
        self.network_mode == "host"
    }

    /// Name of its service, without the replica number; `None`: not managed, or in another group.
    pub fn service_of(&self, group: &str) -> Option<&str> {
        self.identity.as_ref().filter(|identity| identity.group == group).map(|identity| identity.service.as_str())
    }
}

/// What the engine has of a group.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct GroupSummary {
    /// Spec directories that own it; more than one only if two have used its name.
    pub sources: BTreeSet<String>,
    /// Number of containers.
    pub containers: usize,
    /// Number of containers that run.
    pub running: usize,
    /// Names of its networks.
    pub networks: BTreeSet<String>,
}

impl Observed {
    /// All groups that have containers or networks, by name.
    pub fn groups(&self) -> BTreeMap<&str, GroupSummary> {
        let mut groups: BTreeMap<&str, GroupSummary> = BTreeMap::new();
        let owned = self.containers.values().filter_map(|container| Some((container, container.identity.as_ref()?)));
        for (container, identity) in owned {
            let group = groups.entry(&identity.group).or_default();
            group.sources.insert(identity.source.clone());
            group.containers += 1;
            group.running += usize::from(container.is_up());
        }
        for network in self.networks.values() {
            let Some(name) = &network.group else { continue };
            let group = groups.entry(name).or_default();
            group.sources.extend(network.source.clone());
            group.networks.insert(network.name.clone());
        }
        groups
    }

    /// Adds a container, or replaces it. Its labels make it managed unless it has inherited them from its image.
    pub fn insert(&mut self, mut container: Container) {
        container.inherited = container.identity.take_if(|identity| self.is_inherited(identity, &container.image_id));
        self.containers.insert(container.id.clone(), container);
    }

    /// Returns true if a container has this identity from its image, not from the request that created it.
    ///
    /// No image contains its own id, so a label with the id of the image comes from the request. Another id is that of an
    /// image whose tag moved before the request arrived, if the image has no such labels.
    fn is_inherited(&self, identity: &Identity, image_id: &str) -> bool {
        let is_unlabeled = self.images.contains_key(image_id) && !self.labeled_images.contains(image_id);
        identity.image_id != image_id && !image_id.is_empty() && !is_unlabeled
    }

    /// Id of the image with this reference. An image for another platform is none; one whose platform is not known is.
    pub fn image(&self, reference: &str, platform: Option<&str>) -> Option<&String> {
        let id = self.images.get(reference)?;
        let Some(platform) = platform else { return Some(id) };
        let is_right = match (self.image_platforms.get(id), self.image_facts.get(id)) {
            (Some(platforms), _) => platforms.contains(platform),
            (None, Some(facts)) => facts.platform.is_empty() || facts.platform == platform,
            (None, None) => true,
        };
        is_right.then_some(id)
    }

    /// Returns true if a container of the image with one id is the same as one of the image with the other id.
    pub fn is_same_image(&self, of_container: &str, now: &str) -> bool {
        of_container == now || self.equal_images.get(of_container).is_some_and(|equal| equal.contains(now))
    }

    /// Containers that have labels of this group from their image: not managed, and never changed.
    pub fn lookalikes<'a>(&'a self, group: &'a str) -> impl Iterator<Item = &'a Container> {
        let of_group = move |container: &&Container| container.inherited.as_ref().is_some_and(|it| it.group == group);
        self.containers.values().filter(of_group)
    }

    /// Managed volumes of this group.
    pub fn volumes_of<'a>(&'a self, group: &'a str) -> impl Iterator<Item = &'a Volume> {
        self.volumes.values().filter(move |volume| volume.group.as_deref() == Some(group))
    }

    /// Managed containers of this group.
    pub fn of_group<'a>(&'a self, group: &'a str) -> impl Iterator<Item = &'a Container> {
        self.containers.values().filter(move |container| container.service_of(group).is_some())
    }
}
