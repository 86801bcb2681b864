//! Types of the fields that describe a container.

use std::net::IpAddr;

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use super::MemorySwap;
use crate::spec::value::{ByteSize, CpuCount, CpuSet, FileMode, ImageRef, Microseconds, Name, Period, Signal};

/// Published ports: one, or consecutive ones.
///
/// Short: `"80"` (any free host port), `"8080:80"`, `"0.0.0.0:8080:80"`, `"[::1]:8080:80"`, `"*:8080:80"`, ranges such
/// as `"8000-8010:9000-9010"`, each with `/udp`, `/tcp` or `/sctp`. Long:
/// `{container: 80, host: 8080, address: 0.0.0.0, protocol: udp}`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Ports {
    pub first: Port,
    /// Number of consecutive container ports, at least 1; as many host ports, if they are fixed.
    pub count: u16,
}

impl Ports {
    /// Returns each port.
    pub fn each(&self) -> impl Iterator<Item = Port> {
        (0..self.count).map(|offset| {
            let host = match self.first.host {
                HostPort::Fixed(first) => HostPort::Fixed(first.saturating_add(offset)),
                host => host,
            };
            Port { host, container: self.first.container.saturating_add(offset), ..self.first.clone() }
        })
    }
}

/// A published port.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub struct Port {
    /// Address on the host. `None`: all addresses, IPv4 and IPv6.
    pub address: Option<IpAddr>,
    /// Port on the host.
    pub host: HostPort,
    /// Port in the container.
    pub container: u16,
    /// Transport protocol.
    pub protocol: Protocol,
}

impl Port {
    /// Returns true if both bind the same host port. 0.0.0.0 covers all IPv4 addresses, `::` all IPv6 addresses.
    pub fn clashes_with(&self, other: &Self) -> bool {
        let host = self.host.fixed();
        host.is_some()
            && host == other.host.fixed()
            && self.protocol == other.protocol
            && self.address.is_none_or(|address| overlaps(address, other.address))
    }
}

/// Returns true if an address is covered by another one, or covers it. `None` is every address.
pub fn overlaps(one: IpAddr, other: Option<IpAddr>) -> bool {
    other.is_none_or(|other| {
        one.is_ipv4() == other.is_ipv4() && (one == other || one.is_unspecified() || other.is_unspecified())
    })
}

/// Port on the host.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum HostPort {
    /// Any free port.
    Free,
    /// This port.
    Fixed(u16),
    /// Any free port of this range, both ends included.
    Range(u16, u16),
}

impl HostPort {
    /// Returns the port, if it is certain.
    pub fn fixed(self) -> Option<u16> {
        match self {
            Self::Fixed(port) => Some(port),
            Self::Free | Self::Range(..) => None,
        }
    }
}

/// Transport protocol of a published port.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Default, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "lowercase")]
pub enum Protocol {
    /// TCP, the default.
    #[default]
    Tcp,
    /// UDP.
    Udp,
    /// SCTP.
    Sctp,
}

/// A mount.
///
/// Short: `data:/data`, `./conf:/conf:ro`, `/data` (an anonymous volume). Long:
/// `{type: volume|bind|tmpfs|image, source: data, target: /data, read_only: true, on_change: restart}` and the options.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub struct Mount {
    pub source: MountSource,
    /// Absolute path in the container.
    pub target: String,
    /// Mounted read-only.
    pub read_only: bool,
    /// What a change of the mounted file means; bind mounts only.
    pub on_change: Option<OnChange>,
    pub options: MountOptions,
}

/// Options of a mount that few mounts need; the default is the engine's.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Default)]
pub struct MountOptions {
    /// A missing directory is created on the engine's host, owned by root; bind mounts only.
    pub create: bool,
    /// SELinux label; bind mounts only.
    pub selinux: Option<Selinux>,
    /// Propagation of mounts below it; bind mounts only.
    pub propagation: Option<Propagation>,
    /// What happens to mounts below the source; bind mounts only.
    pub recursive: Option<Recursive>,
    /// An empty volume is not filled with what the image has at the target; volumes only.
    pub nocopy: bool,
    /// Path in the volume or image that is mounted instead of all of it.
    pub subpath: Option<String>,
}

/// SELinux label that the engine gives the source of a bind mount.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Deserialize, JsonSchema)]
#[serde(rename_all = "lowercase")]
pub enum Selinux {
    /// Any container may use it: `z`.
    Shared,
    /// Only this container may use it: `Z`.
    Private,
}

/// Propagation of mounts that are made below a bind mount.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Deserialize, JsonSchema)]
#[serde(rename_all = "lowercase")]
pub enum Propagation {
    /// Neither side sees later mounts of the other, also in submounts. The default.
    Rprivate,
    /// Neither side sees later mounts of the other.
    Private,
    /// Both sides see later mounts, also in submounts.
    Rshared,
    /// Both sides see later mounts.
    Shared,
    /// The container sees later mounts of the host, also in submounts.
    Rslave,
    /// The container sees later mounts of the host.
    Slave,
}

/// Mounts below the source of a bind mount.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Deserialize, JsonSchema)]
#[serde(rename_all = "lowercase")]
pub enum Recursive {
    /// They are not mounted.
    Disabled,
    /// Of a read-only mount: they stay writable.
    Writable,
    /// Of a read-only mount: they are read-only, or the container is not started.
    Readonly,
}

/// What a change of a mounted file means for the container.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub enum OnChange {
    /// The container is restarted: it mounts the new file then.
    Restart,
    /// The container is replaced.
    Replace,
    /// The container gets this signal.
    Signal(Signal),
    /// Nothing.
    Ignore,
}

/// Source of a mount.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub enum MountSource {
    /// An anonymous volume; it moves to the replacement of the container.
    Anonymous,
    /// A volume of the group, `<group>-<name>` on the engine.
    Volume(Name),
    /// Host path: absolute, relative to the spec directory (`./conf`, `../conf`), or below the home directory (`~/…`).
    Bind(String),
    /// Memory: the same as an entry of `tmpfs`.
    Tmpfs { size: Option<ByteSize>, mode: Option<FileMode> },
    /// The files of an image.
    Image(ImageRef),
}

impl MountSource {
    /// Returns true if containers that mount it see the same files.
    pub fn is_shared(&self) -> bool {
        !matches!(self, Self::Tmpfs { .. } | Self::Image(_))
    }
}

/// An in-memory file system: a path in the container and mount options.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Tmpfs {
    /// Absolute path in the container.
    pub target: String,
    /// Mount options as in mount(8), e.g. `size=64m,mode=1777`; may be empty.
    pub options: String,
}

/// Docker restart policy: `no`, `always`, `unless-stopped`, `on-failure`, `on-failure:5`.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum RestartPolicy {
    /// The engine never restarts it. With `--watch`, drillmaster restarts exited containers.
    #[default]
    No,
    /// Whenever it exits, and when the engine starts.
    Always,
    /// Like `always`, unless it was stopped.
    UnlessStopped,
    /// When it exits with a non-zero code, at most this many times (0: unlimited).
    OnFailure(u32),
}

/// Resource limits of a container.
#[derive(Debug, Clone, PartialEq, Default, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct Resources {
    /// Memory: `256m`, `1g`. At least 6m.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub memory: Option<ByteSize>,
    /// CPUs, e.g. 0.5.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub cpus: Option<CpuCount>,
    /// Number of processes and threads.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub pids: Option<u32>,
    /// Memory that the kernel tries to leave to the container when memory is short. At most `memory`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub memory_reservation: Option<ByteSize>,
    /// Memory and swap together, or -1 for unlimited swap. Needs `memory`; defaults to twice that.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub memory_swap: Option<MemorySwap>,
    /// Weight for CPU time relative to other containers. The engine's default is 1024.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(range(min = 2))]
    pub cpu_shares: Option<u32>,
    /// Processors that may be used: `0-3`, `0,2`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub cpuset: Option<CpuSet>,
    /// Memory nodes that may be used: `0-1`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub cpuset_mems: Option<CpuSet>,
    /// Period of `cpu_quota`: microseconds, or a duration such as `100ms`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub cpu_period: Option<Microseconds>,
    /// CPU time in each period: microseconds, or a duration such as `50ms`. Not together with `cpus`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub cpu_quota: Option<Microseconds>,
    /// Period of `cpu_rt_runtime`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub cpu_rt_period: Option<Microseconds>,
    /// Time for real-time scheduling in each period.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub cpu_rt_runtime: Option<Microseconds>,
}

/// Entry for /etc/hosts.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub struct ExtraHost {
    /// Host name.
    pub name: String,
    /// IP address or `host-gateway`.
    pub address: String,
}

/// Ulimit; `-1` is unlimited.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Ulimit {
    /// Soft limit.
    pub soft: i64,
    /// Hard limit.
    pub hard: i64,
}

/// When to pull an image.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum Pull {
    /// When the image is not present locally.
    #[default]
    Missing,
    /// In every `up`; while watching, at its start.
    Always,
    /// Never: a missing image is an error.
    Never,
    /// In every `up`; while watching, again each time this period has passed: `{every: 1h}`.
    Every(Period),
}
