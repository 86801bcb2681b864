//! Types of the fields that give a container devices of the host, and settings of its runtime.

use std::collections::BTreeMap;

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use crate::spec::value::{ByteSize, Text};

/// A device.
///
/// Short: `/dev/fuse`, `/dev/ttyUSB0:/dev/modem`, `/dev/sda:/dev/xvda:r`, or the name of a CDI device,
/// `vendor.com/class=name`. Long: `{source, target, permissions}`.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub enum Device {
    /// A device node of the host.
    Node {
        /// Path on the host.
        source: String,
        /// Path in the container.
        target: String,
        /// Letters of `rwm`, in this order: read, write, create with mknod.
        permissions: String,
    },
    /// A device that the engine looks up in its CDI specifications.
    Cdi(String),
}

/// GPUs: `all`, a number, or a list of requests.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Gpus(pub Vec<DeviceRequest>);

/// A request for devices of a driver.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct DeviceRequest {
    /// Name of the driver, e.g. `nvidia`. Default: one that has the capabilities.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub driver: Option<Text>,
    /// Number of devices, or `all`. Defaults to `all`, without `device_ids`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub count: Option<DeviceCount>,
    /// Ids of devices, instead of `count`.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub device_ids: Vec<Text>,
    /// Capabilities that a device must have, all of them. Defaults to `[gpu]`.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub capabilities: Vec<Text>,
    /// Options of the driver.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    pub options: BTreeMap<String, Text>,
}

/// A number of devices.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum DeviceCount {
    /// All that there are.
    All,
    Number(u32),
}

/// Log driver of a container.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct Logging {
    /// Name of the driver, e.g. `local`, `journald`, `none`. Defaults to the engine's.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub driver: Option<Text>,
    /// Options of the driver, e.g. `{max-size: 10m}`.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    pub options: BTreeMap<String, Text>,
}

impl Logging {
    /// Returns true if the engine cannot read the output back: the driver keeps none, and the engine's own copy, which
    /// it makes for drivers that only send, is off.
    pub fn is_unreadable(&self) -> bool {
        let driver = self.driver.as_ref().map(Text::as_str);
        driver == Some("none")
            || driver.is_some_and(|driver| !["json-file", "local", "journald"].contains(&driver))
                && self.options.get("cache-disabled").is_some_and(|option| *option == "true")
    }
}

/// Block I/O: weights and limits of devices.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct BlkioConfig {
    /// Weight relative to other containers, from 10 to 1000.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(range(min = 10, max = 1000))]
    pub weight: Option<u16>,
    /// Weights by device.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub weight_device: Vec<DeviceWeight>,
    /// Bytes per second that are read from a device.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub device_read_bps: Vec<ByteRate>,
    /// Bytes per second that are written to a device.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub device_write_bps: Vec<ByteRate>,
    /// Reads from a device per second.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub device_read_iops: Vec<OperationRate>,
    /// Writes to a device per second.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub device_write_iops: Vec<OperationRate>,
}

/// Weight of a block device.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct DeviceWeight {
    /// Path of the device, e.g. `/dev/sda`.
    pub path: String,
    /// Weight, from 10 to 1000.
    #[schemars(range(min = 10, max = 1000))]
    pub weight: u16,
}

/// Limit of a block device in bytes per second.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct ByteRate {
    /// Path of the device, e.g. `/dev/sda`.
    pub path: String,
    /// Bytes per second: `12m`.
    pub rate: ByteSize,
}

/// Limit of a block device in operations per second.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct OperationRate {
    /// Path of the device, e.g. `/dev/sda`.
    pub path: String,
    /// Operations per second.
    pub rate: u32,
}

/// A security option.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum SecurityOpt {
    /// As the engine takes it: `no-new-privileges`, `label=disable`, `seccomp=unconfined`.
    Text(String),
    /// `seccomp=<JSON>`: a profile, in its shortest form.
    Seccomp(String),
    /// `seccomp=<path>`: a file with a profile, relative to the spec directory.
    SeccompFile(String),
}

/// Ports that a container listens on: `80`, `80/udp`, `3000-3010`.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub struct ExposedPorts {
    pub first: u16,
    pub last: u16,
    pub protocol: super::Protocol,
}

/// A namespace that can only be shared with the host.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "lowercase")]
pub enum HostNamespace {
    /// That of the host.
    Host,
}

/// Control group namespace.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "lowercase")]
pub enum CgroupNamespace {
    /// That of the host.
    Host,
    /// One of its own.
    Private,
}

/// Memory and swap together.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum MemorySwap {
    /// As much swap as the host has.
    Unlimited,
    /// Memory and swap.
    Size(ByteSize),
}

impl MemorySwap {
    /// What the engine sets for a memory limit: as much swap as memory.
    pub fn default_for(memory: ByteSize) -> MemorySwap {
        MemorySwap::Size(ByteSize::new(memory.bytes().saturating_mul(2)))
    }
}
