//! Networks of the group, and the place of a container on them.

use std::collections::{BTreeMap, BTreeSet};
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

use serde::ser::SerializeMap;
use serde::{Serialize, Serializer};

use super::config::{is_default, texts};
use crate::spec::Loaded;
use crate::spec::model::{self, ContainerNetworks, DEFAULT_NETWORK, Group, NetworkMode};

/// The driver of a network, unless the specs set it.
pub const BRIDGE: &str = "bridge";

/// A network of the group.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Network {
    /// It must exist, and is neither created nor removed.
    pub external: bool,
    /// Driver; `None`: [`BRIDGE`].
    pub driver: Option<String>,
    /// Options of the driver.
    pub driver_opts: BTreeMap<String, String>,
    /// Without a way out.
    pub internal: bool,
    /// Containers outside of a Swarm service may join.
    pub attachable: bool,
    /// IPv4 addresses; `None`: the engine's default.
    pub enable_ipv4: Option<bool>,
    /// IPv6 addresses; `None`: if there is an IPv6 range.
    pub enable_ipv6: Option<bool>,
    /// The user's labels.
    pub labels: BTreeMap<String, String>,
    /// Driver of the addresses; `None`: the engine's.
    pub ipam_driver: Option<String>,
    /// Options of that driver.
    pub ipam_options: BTreeMap<String, String>,
    /// Address ranges; empty: chosen by the engine.
    pub ranges: Vec<AddressRange>,
    /// Location of its entry, e.g. `specs/group.yaml:4:9`; empty: it has none.
    pub location: String,
}

/// An address range of a network.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct AddressRange {
    /// The range in CIDR notation.
    pub subnet: Option<String>,
    /// Address of the gateway.
    pub gateway: Option<IpAddr>,
    /// Part from which containers get addresses.
    pub ip_range: Option<String>,
    /// Addresses of other hosts, by name.
    pub aux_addresses: BTreeMap<String, IpAddr>,
}

impl Network {
    /// A network with this address range.
    pub fn with_subnet(subnet: impl Into<String>) -> Network {
        let range = AddressRange { subnet: Some(subnet.into()), ..AddressRange::default() };
        Network { ranges: vec![range], ..Network::default() }
    }

    /// Addresses that containers do not get, by name.
    pub fn aux_addresses(&self) -> BTreeMap<String, String> {
        let all = self.ranges.iter().flat_map(|range| &range.aux_addresses);
        all.map(|(name, address)| (name.clone(), address.to_string())).collect()
    }

    /// Its driver.
    pub fn driver(&self) -> &str {
        self.driver.as_deref().unwrap_or(BRIDGE)
    }

    /// Whether it has IPv6 addresses: as the specs say, otherwise if there is an IPv6 range. `None`: the engine's default.
    pub fn ipv6(&self) -> Option<bool> {
        self.enable_ipv6.or(self.subnets().any(|subnet| subnet.contains(':')).then_some(true))
    }

    /// Its address ranges in CIDR notation.
    pub fn subnets(&self) -> impl Iterator<Item = &str> {
        self.ranges.iter().filter_map(|range| range.subnet.as_deref())
    }
}

/// Names on the engine of the networks that services may name, and the networks by those names.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub(super) struct Declared {
    pub names: BTreeMap<String, String>,
    pub networks: BTreeMap<String, Network>,
}

/// The networks of a group. `default`: name of the group's network, unless the specs set it.
pub(super) fn declared(loaded: Option<&Loaded<Group>>, group: &str, default: &str) -> Declared {
    let mut declared = Declared::default();
    let spec = loaded.map(|loaded| &loaded.spec);
    let no_entry = spec.is_none_or(|spec| !spec.networks.contains_key(DEFAULT_NETWORK));
    let default = spec.and_then(|spec| spec.network.as_ref()).map_or(default, |name| name.as_str());
    if no_entry {
        let subnet = spec.and_then(|spec| spec.subnet.as_ref());
        let network = subnet.map_or_else(Network::default, |subnet| Network::with_subnet(subnet.as_str()));
        declared.names.insert(DEFAULT_NETWORK.to_owned(), default.to_owned());
        declared.networks.insert(default.to_owned(), network);
    }
    for (loaded, (name, entry)) in
        loaded.into_iter().flat_map(|loaded| loaded.spec.networks.iter().map(move |it| (loaded, it)))
    {
        let entry = entry.clone().unwrap_or_default();
        let on_engine = match &entry.name {
            Some(fixed) => fixed.to_string(),
            None if entry.external => name.to_string(),
            None if *name == DEFAULT_NETWORK => default.to_owned(),
            None => format!("{group}_{name}"),
        };
        let mut network = network(&entry);
        if *name == DEFAULT_NETWORK && network.ranges.is_empty() {
            let subnet = loaded.spec.subnet.as_ref().map(|subnet| Network::with_subnet(subnet.as_str()));
            network.ranges = subnet.map(|subnet| subnet.ranges).unwrap_or_default();
        }
        network.location = loaded.place(&format!("networks.{name}"));
        declared.names.insert(name.to_string(), on_engine.clone());
        declared.networks.insert(on_engine, network);
    }
    declared
}

fn network(entry: &model::GroupNetwork) -> Network {
    // Without `..`: a new field of the spec must be handled here.
    let model::GroupNetwork {
        name: _,
        external,
        driver,
        driver_opts,
        internal,
        attachable,
        enable_ipv4,
        enable_ipv6,
        labels,
        ipam: model::Ipam { driver: ipam_driver, options, config },
    } = entry;
    let range = |range: &model::IpamRange| AddressRange {
        subnet: range.subnet.as_ref().map(ToString::to_string),
        gateway: range.gateway,
        ip_range: range.ip_range.as_ref().map(ToString::to_string),
        aux_addresses: range.aux_addresses.clone(),
    };
    Network {
        external: *external,
        driver: driver.as_ref().map(ToString::to_string),
        driver_opts: texts(driver_opts),
        internal: *internal,
        attachable: *attachable,
        enable_ipv4: *enable_ipv4,
        enable_ipv6: *enable_ipv6,
        labels: texts(labels),
        ipam_driver: ipam_driver.as_ref().map(ToString::to_string),
        ipam_options: texts(options),
        ranges: config.iter().map(range).collect(),
        location: String::new(),
    }
}

/// Where a container is on the network.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Placement {
    /// On these networks, by their names on the engine.
    Networks(BTreeMap<String, Endpoint>),
    /// On no network of the group.
    Mode(NetworkMode),
}

/// A container on a network, beside its names that hold on all of its networks.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize)]
pub struct Endpoint {
    /// Aliases on this network, sorted.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub aliases: Vec<String>,
    /// Fixed address.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub ipv4_address: Option<Ipv4Addr>,
    /// Fixed address.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub ipv6_address: Option<Ipv6Addr>,
    /// Link-local addresses, sorted.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub link_local_ips: Vec<IpAddr>,
    /// MAC address.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub mac_address: Option<String>,
    /// Options of the network driver.
    #[serde(skip_serializing_if = "BTreeMap::is_empty")]
    pub driver_opts: BTreeMap<String, String>,
    /// The highest is the first network.
    #[serde(skip_serializing_if = "is_default")]
    pub priority: i64,
    /// The highest has the default gateway.
    #[serde(skip_serializing_if = "is_default")]
    pub gw_priority: i64,
    /// Name of the interface.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub interface_name: Option<String>,
}

impl Endpoint {
    /// Returns true if it has an address that no other container can have at the same time.
    pub fn is_static(&self) -> bool {
        self.ipv4_address.is_some() || self.ipv6_address.is_some() || self.mac_address.is_some()
    }
}

/// How a container joins a network.
#[derive(Debug, Clone, PartialEq)]
pub struct Join {
    /// Id of the network.
    pub network: String,
    /// Name of the network.
    pub name: String,
    /// Aliases; empty if the container should not be found by name.
    pub names: Vec<String>,
    /// Addresses and options.
    pub endpoint: Endpoint,
}

/// Returns true if the names of a container that joins these networks are deferred until it is ready.
pub fn defers_names(joins: &[Join]) -> bool {
    !joins.is_empty() && joins.iter().all(|join| join.names.is_empty())
}

impl Placement {
    /// The place of a container. `names`: the names of the networks on the engine.
    pub(super) fn of(
        networks: &ContainerNetworks,
        mode: Option<&NetworkMode>,
        names: &BTreeMap<String, String>,
    ) -> Placement {
        if let Some(mode) = mode {
            return Placement::Mode(mode.clone());
        }
        let on_engine = |name: &str| names.get(name).cloned().unwrap_or_else(|| name.to_owned());
        if networks.0.is_empty() {
            return on_engine(DEFAULT_NETWORK).into();
        }
        let of = |(name, settings): (&crate::spec::value::Name, &Option<model::Endpoint>)| {
            (on_engine(name.as_str()), settings.as_ref().map(endpoint).unwrap_or_default())
        };
        Placement::Networks(networks.0.iter().map(of).collect())
    }

    /// Its networks by name, the first one first: by priority, then by name.
    pub fn endpoints(&self) -> Vec<(&str, &Endpoint)> {
        let Placement::Networks(networks) = self else { return Vec::new() };
        let mut endpoints: Vec<(&str, &Endpoint)> = networks.iter().map(|(name, it)| (name.as_str(), it)).collect();
        endpoints.sort_by_key(|(_, endpoint)| std::cmp::Reverse(endpoint.priority));
        endpoints
    }

    /// The place on one of its networks, by the network's name.
    pub fn endpoint(&self, network: &str) -> Option<&Endpoint> {
        match self {
            Placement::Networks(networks) => networks.get(network),
            Placement::Mode(_) => None,
        }
    }

    /// The mode of a container that is on no network of the group.
    pub fn mode(&self) -> Option<&NetworkMode> {
        match self {
            Placement::Networks(_) => None,
            Placement::Mode(mode) => Some(mode),
        }
    }
}

fn endpoint(settings: &model::Endpoint) -> Endpoint {
    let sorted = |aliases: &[String]| aliases.iter().cloned().collect::<BTreeSet<_>>().into_iter().collect();
    let mut link_local_ips = settings.link_local_ips.clone();
    link_local_ips.sort();
    Endpoint {
        aliases: sorted(&settings.aliases),
        ipv4_address: settings.ipv4_address,
        ipv6_address: settings.ipv6_address,
        link_local_ips,
        mac_address: settings.mac_address.as_ref().map(ToString::to_string),
        driver_opts: texts(&settings.driver_opts),
        priority: settings.priority,
        gw_priority: settings.gw_priority,
        interface_name: settings.interface_name.as_ref().map(ToString::to_string),
    }
}

impl Default for Placement {
    fn default() -> Self {
        Placement::Networks(BTreeMap::new())
    }
}

impl<T: Into<String>> From<T> for Placement {
    /// On one network, with nothing to say about it.
    fn from(network: T) -> Self {
        Placement::Networks(BTreeMap::from([(network.into(), Endpoint::default())]))
    }
}

impl Serialize for Placement {
    /// As one field of a container: `network: shop` for one network, which is the form of every container from before there
    /// were several; otherwise `networks` or `network_mode`.
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        let mut map = serializer.serialize_map(None)?;
        match self {
            Placement::Mode(mode) => map.serialize_entry("network_mode", mode)?,
            Placement::Networks(networks) => match networks.first_key_value() {
                Some((name, endpoint)) if networks.len() == 1 && *endpoint == Endpoint::default() => {
                    map.serialize_entry("network", name)?;
                }
                _ => map.serialize_entry("networks", networks)?,
            },
        }
        map.end()
    }
}
