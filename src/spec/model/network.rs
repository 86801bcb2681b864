//! Networks of the group, and the place of a container on them.

use std::collections::BTreeMap;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

use schemars::JsonSchema;
use serde::Deserialize;

use super::Entries;
use crate::spec::value::{EngineName, Subnet, Text};

/// The name by which services refer to the network of the group.
pub const DEFAULT_NETWORK: &str = "default";

/// A network of the group.
#[derive(Debug, Clone, PartialEq, Eq, Default, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct GroupNetwork {
    /// Name on the engine. Defaults to `<group>_<name>`, of an external network to its own name.
    #[serde(default)]
    pub name: Option<EngineName>,
    /// The network exists: it is neither created nor removed.
    #[serde(default)]
    pub external: bool,
    /// Network driver. Defaults to `bridge`.
    #[serde(default)]
    pub driver: Option<Text>,
    /// Options of the driver.
    #[serde(default)]
    pub driver_opts: BTreeMap<String, Text>,
    /// Without a way out of the engine.
    #[serde(default)]
    pub internal: bool,
    /// Containers that are not part of a Swarm service may join.
    #[serde(default)]
    pub attachable: bool,
    /// IPv4 addresses. Defaults to true.
    #[serde(default)]
    pub enable_ipv4: Option<bool>,
    /// IPv6 addresses. Defaults to true if `ipam` has an IPv6 range.
    #[serde(default)]
    pub enable_ipv6: Option<bool>,
    /// Labels of the network.
    #[serde(default)]
    pub labels: BTreeMap<String, Text>,
    /// Addresses of the network. Default: chosen by the engine.
    #[serde(default)]
    pub ipam: Ipam,
}

/// Addresses of a network.
#[derive(Debug, Clone, PartialEq, Eq, Default, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct Ipam {
    /// Driver of the addresses. Defaults to `default`.
    #[serde(default)]
    pub driver: Option<Text>,
    /// Options of the driver.
    #[serde(default)]
    pub options: BTreeMap<String, Text>,
    /// Address ranges.
    #[serde(default)]
    pub config: Vec<IpamRange>,
}

/// An address range of a network.
#[derive(Debug, Clone, PartialEq, Eq, Default, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct IpamRange {
    /// The range, e.g. `10.1.0.0/24`.
    #[serde(default)]
    pub subnet: Option<Subnet>,
    /// Address of the gateway.
    #[serde(default)]
    pub gateway: Option<IpAddr>,
    /// Part of the range from which containers get addresses.
    #[serde(default)]
    pub ip_range: Option<Subnet>,
    /// Addresses of other hosts, by name; no container gets them.
    #[serde(default)]
    pub aux_addresses: BTreeMap<String, IpAddr>,
}

/// The networks of a container: a list of names, or a map of names to settings. Empty: the network of the group.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct ContainerNetworks(pub Entries<Endpoint>);

/// Settings of a container on a network.
#[derive(Debug, Clone, PartialEq, Eq, Default, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct Endpoint {
    /// Additional aliases on this network.
    #[serde(default)]
    pub aliases: Vec<String>,
    /// Fixed IPv4 address. The network needs a range of its own (`ipam`).
    #[serde(default)]
    pub ipv4_address: Option<Ipv4Addr>,
    /// Fixed IPv6 address. The network needs a range of its own (`ipam`).
    #[serde(default)]
    pub ipv6_address: Option<Ipv6Addr>,
    /// Link-local addresses.
    #[serde(default)]
    pub link_local_ips: Vec<IpAddr>,
    /// MAC address. Docker 25.0 (API 1.44) and later.
    #[serde(default)]
    pub mac_address: Option<Text>,
    /// Options of the network driver.
    #[serde(default)]
    pub driver_opts: BTreeMap<String, Text>,
    /// The network with the highest priority is the first, whose address pings connect to. Of equal ones, the first by
    /// name. Defaults to 0.
    #[serde(default)]
    pub priority: i64,
    /// The network with the highest priority has the default gateway. Docker 28.0 (API 1.48) and later. Defaults to 0.
    #[serde(default)]
    pub gw_priority: i64,
    /// Name of the interface in the container. Docker 28.1 (API 1.49) and later.
    #[serde(default)]
    pub interface_name: Option<Text>,
}
