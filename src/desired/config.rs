//! What a container is made of, resolved.

use std::collections::BTreeMap;
use std::time::Duration;

use serde::Serialize;

use super::CopiedFile;
use super::fingerprint::sha256;
use super::network::Placement;
use crate::spec::model::{
    BlkioConfig, CgroupNamespace, Device, DeviceRequest, ExposedPorts, ExtraHost, Healthcheck, HostNamespace, IpcMode,
    Logging, MountOptions, NetworkMode, PidMode, Port, Resources, RestartPolicy, Target, Ulimit,
};

/// What a container is made of, in canonical form: the order in which a set was written does not show, and what is at
/// its default is left out of the JSON, so that a field which a later version adds changes no hash of today.
#[derive(Debug, Clone, PartialEq, Default, Serialize)]
pub struct Config {
    /// Image, as written.
    pub image: String,
    /// Arguments.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub command: Option<Vec<String>>,
    /// Program.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub entrypoint: Option<Vec<String>>,
    /// User.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub user: Option<String>,
    /// Working directory.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub working_dir: Option<String>,
    /// Published ports, sorted.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub ports: Vec<Port>,
    /// Mounts, sorted.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub volumes: Vec<Volume>,
    /// In-memory mounts: path to options.
    #[serde(skip_serializing_if = "BTreeMap::is_empty")]
    pub tmpfs: BTreeMap<String, String>,
    /// Configs that are copied into it, by path. Others are mounts.
    #[serde(skip_serializing_if = "BTreeMap::is_empty")]
    pub configs: BTreeMap<String, CopiedFile>,
    /// Secrets that are copied into it, by path. Others are mounts.
    #[serde(skip_serializing_if = "BTreeMap::is_empty")]
    pub secrets: BTreeMap<String, CopiedFile>,
    /// The engine's health check.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub healthcheck: Option<Healthcheck>,
    /// Signal that asks it to stop.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub stop_signal: Option<String>,
    /// Time between that signal and SIGKILL.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub stop_timeout: Option<Seconds>,
    /// The engine's restart policy.
    #[serde(skip_serializing_if = "is_default")]
    pub restart: RestartPolicy,
    /// Limits.
    #[serde(skip_serializing_if = "is_default")]
    pub resources: Resources,
    /// The user's labels.
    #[serde(skip_serializing_if = "BTreeMap::is_empty")]
    pub labels: BTreeMap<String, String>,
    /// Host name, where it is not the service's name.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub hostname: Option<String>,
    /// Further names on the network, sorted.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub aliases: Vec<String>,
    /// Lines for /etc/hosts, sorted.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub extra_hosts: Vec<ExtraHost>,
    /// Capabilities to add, sorted.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub cap_add: Vec<String>,
    /// Capabilities to drop, sorted.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub cap_drop: Vec<String>,
    /// All capabilities and devices.
    #[serde(skip_serializing_if = "is_default")]
    pub privileged: bool,
    /// Root file system read-only.
    #[serde(skip_serializing_if = "is_default")]
    pub read_only: bool,
    /// An init process.
    #[serde(skip_serializing_if = "is_default")]
    pub init: bool,
    /// Bytes of /dev/shm.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub shm_size: Option<u64>,
    /// Process limits.
    #[serde(skip_serializing_if = "BTreeMap::is_empty")]
    pub ulimits: BTreeMap<String, Ulimit>,
    /// Its networks.
    #[serde(flatten)]
    pub network: Placement,
    /// Annotations for the runtime.
    #[serde(skip_serializing_if = "BTreeMap::is_empty")]
    pub annotations: BTreeMap<String, String>,
    /// A terminal for the main process.
    #[serde(skip_serializing_if = "is_default")]
    pub tty: bool,
    /// Its standard input stays open.
    #[serde(skip_serializing_if = "is_default")]
    pub stdin_open: bool,
    /// Security options, sorted.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub security_opt: Vec<SecurityOption>,
    /// Kernel parameters.
    #[serde(skip_serializing_if = "BTreeMap::is_empty")]
    pub sysctls: BTreeMap<String, String>,
    /// Devices, sorted.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub devices: Vec<Device>,
    /// Rules for device nodes.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub device_cgroup_rules: Vec<String>,
    /// GPUs, with their defaults.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub gpus: Vec<DeviceRequest>,
    /// Additional groups, sorted.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub group_add: Vec<String>,
    /// DNS servers.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub dns: Vec<String>,
    /// Domains that are searched.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub dns_search: Vec<String>,
    /// Options of the resolver.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub dns_opt: Vec<String>,
    /// The processes that it sees.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub pid: Option<PidMode>,
    /// Its shared memory.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub ipc: Option<IpcMode>,
    /// UTS namespace.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub uts: Option<HostNamespace>,
    /// User namespace.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub userns_mode: Option<HostNamespace>,
    /// Control group namespace.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub cgroup: Option<CgroupNamespace>,
    /// Parent of its control group.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub cgroup_parent: Option<String>,
    /// Runtime.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub runtime: Option<String>,
    /// Platform of the image.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub platform: Option<String>,
    /// Log driver.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub logging: Option<Logging>,
    /// Domain name.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub domainname: Option<String>,
    /// Hardware address on the first network.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub mac_address: Option<String>,
    /// Ports it listens on, sorted.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub expose: Vec<ExposedPorts>,
    /// Options of the storage driver.
    #[serde(skip_serializing_if = "BTreeMap::is_empty")]
    pub storage_opt: BTreeMap<String, String>,
    /// Inclination to swap.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub mem_swappiness: Option<u8>,
    /// No process is killed when memory runs out.
    #[serde(skip_serializing_if = "is_default")]
    pub oom_kill_disable: bool,
    /// Preference for being killed, where it is not 0.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub oom_score_adj: Option<i16>,
    /// Block I/O.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub blkio_config: Option<BlkioConfig>,
}

/// A security option, with the content of its file.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub enum SecurityOption {
    /// As the engine takes it.
    Text(String),
    /// A seccomp profile: JSON in its shortest form.
    Seccomp(String),
}

impl Config {
    /// Files that are copied into the container before its first start, by path.
    pub fn copied_files(&self) -> BTreeMap<String, CopiedFile> {
        self.configs.iter().chain(&self.secrets).map(|(path, file)| (path.clone(), file.clone())).collect()
    }

    /// The containers whose namespaces it shares, each once, with the first field that says so.
    pub fn targets(&self) -> BTreeMap<&Target, &'static str> {
        let ipc = match &self.ipc {
            Some(IpcMode::Shared(target)) => Some((target, "ipc")),
            _ => None,
        };
        let pid = match &self.pid {
            Some(PidMode::Shared(target)) => Some((target, "pid")),
            _ => None,
        };
        let network = match self.network.mode() {
            Some(NetworkMode::Shared(target)) => Some((target, "network_mode")),
            _ => None,
        };
        // The last of two entries counts.
        ipc.into_iter().chain(pid).chain(network).collect()
    }
}

/// A mount, resolved: the name of the volume on the engine, or an absolute path.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub struct Volume {
    /// What is mounted.
    pub source: VolumeSource,
    /// Path in the container.
    pub target: String,
    /// Not writable.
    pub read_only: bool,
    pub options: MountOptions,
}

impl Volume {
    /// Its options in the short form of a bind mount: `ro`, `z`, `rslave`.
    pub fn short_options(&self) -> Vec<String> {
        let options = [
            self.read_only.then(|| "ro".to_owned()),
            self.options.selinux.map(|selinux| selinux.option().to_owned()),
            self.options.propagation.map(|propagation| propagation.to_string()),
        ];
        options.into_iter().flatten().collect()
    }

    /// Returns true if two containers with this mount would write to the same files.
    pub fn is_shared_writable(&self) -> bool {
        !self.read_only && !matches!(self.source, VolumeSource::Image(_))
    }
}

/// What a mount shows.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub enum VolumeSource {
    /// A volume without a name of ours.
    Anonymous,
    /// A volume, by its name on the engine.
    Named(String),
    /// An absolute path of the host.
    Bind(String),
    /// The files of an image, by its reference in the engine's form.
    Image(String),
}

/// An anonymous volume that moves to the replacement.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub struct Inherited {
    /// Name of the volume on the engine.
    pub volume: String,
    /// Path in the container.
    pub target: String,
}

/// A time in whole seconds, as the engine takes it; rounded up.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
#[serde(transparent)]
pub struct Seconds(pub u64);

impl From<Duration> for Seconds {
    fn from(duration: Duration) -> Self {
        Seconds(duration.as_secs() + u64::from(duration.subsec_nanos() > 0))
    }
}

impl serde::Serialize for Volume {
    /// As one writes it: `shop-data:/data`, `/srv/conf:/conf:ro,z`, `/data`; long-form options follow: `create`.
    fn serialize<S: serde::Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        let source = match &self.source {
            VolumeSource::Anonymous => String::new(),
            VolumeSource::Named(name) | VolumeSource::Bind(name) => format!("{name}:"),
            VolumeSource::Image(image) => format!("image={image}:"),
        };
        let MountOptions { create, selinux: _, propagation: _, recursive, nocopy, subpath } = &self.options;
        let more = [
            nocopy.then(|| "nocopy".to_owned()),
            create.then(|| "create".to_owned()),
            recursive.map(|recursive| format!("recursive={recursive}")),
            subpath.as_ref().map(|subpath| format!("subpath={subpath}")),
        ];
        let options: Vec<String> = self.short_options().into_iter().chain(more.into_iter().flatten()).collect();
        let colon = if options.is_empty() { "" } else { ":" };
        serializer.collect_str(&format_args!("{source}{}{colon}{}", self.target, options.join(",")))
    }
}

impl serde::Serialize for SecurityOption {
    /// As one writes it; a hash stands for a profile, which is long.
    fn serialize<S: serde::Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        match self {
            SecurityOption::Text(text) => serializer.serialize_str(text),
            SecurityOption::Seccomp(profile) => {
                serializer.collect_str(&format_args!("seccomp=sha256:{}", sha256(profile.as_bytes())))
            }
        }
    }
}

pub(super) fn is_default<T: Default + PartialEq>(value: &T) -> bool {
    *value == T::default()
}

pub(super) fn texts<T: ToString>(map: &BTreeMap<String, T>) -> BTreeMap<String, String> {
    map.iter().map(|(key, value)| (key.clone(), value.to_string())).collect()
}
