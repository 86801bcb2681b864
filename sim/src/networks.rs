//! Networks of the simulated engine.

use std::collections::BTreeMap;

use super::state::{SimContainer, World, names};
use super::view::addresses;
use drillmaster::desired::Join;
use drillmaster::engine::{EngineError, Result};
use drillmaster::identity::{GROUP, SOURCE};
use drillmaster::observed::{Network, NetworkSettings};

impl World {
    pub(crate) fn create_network(
        &mut self,
        name: &str,
        labels: &BTreeMap<String, String>,
        wanted: &drillmaster::desired::Network,
    ) -> Result<String> {
        if !self.personality.allows_equal_networks() && self.networks.values().any(|network| network.name == name) {
            let message = format!("network with name {name} already exists");
            return Err(EngineError::Conflict { attempted: format!("create the network {name}"), message });
        }
        let network = Network {
            id: self.fresh_id(),
            name: name.to_owned(),
            group: labels.get(GROUP).cloned(),
            source: labels.get(SOURCE).cloned(),
            compose_project: None,
            subnets: wanted.subnets().map(str::to_owned).collect(),
            settings: NetworkSettings {
                driver: wanted.driver.clone().unwrap_or_else(|| "bridge".to_owned()),
                internal: wanted.internal,
                options: wanted.driver_opts.clone(),
                aux_addresses: wanted.aux_addresses(),
                ipam_driver: wanted.ipam_driver.clone().unwrap_or_else(|| "default".to_owned()),
                ipam_options: wanted.ipam_options.clone(),
                labels: wanted.labels.clone(),
                ..NetworkSettings::default()
            },
        };
        let id = network.id.clone();
        self.networks.insert(id.clone(), network);
        self.history.push(format!("created network {name}"));
        self.emit_network_event(&id, None);
        Ok(id)
    }

    pub(crate) fn remove_network(&mut self, id: &str, attempted: &str) -> Result<()> {
        let Some(network) = self.networks.get(id).cloned() else { return Ok(()) };
        let attached = |container: &SimContainer| container.networks.values().any(|attached| attached == id);
        if self.personality.is_podman() && self.containers.values().any(attached) {
            let message = format!("\"{}\" has associated containers with it: network is being used", network.name);
            return Err(EngineError::Refused { attempted: attempted.to_owned(), message });
        }
        // Stopped containers have no endpoints.
        if self.containers.values().any(|container| container.is_up() && attached(container)) {
            let message = format!("error while removing network: network {} has active endpoints", network.name);
            return Err(EngineError::ActiveEndpoints { attempted: attempted.to_owned(), message });
        }
        self.networks.remove(id);
        self.history.push(format!("removed network {}", network.name));
        self.emit_network_event(id, None);
        Ok(())
    }

    pub(crate) fn connect(&mut self, join: &Join, id: &str) -> Result<()> {
        let network = &join.network;
        let attempted = format!("connect the container {}", self.name_of(id));
        let Some(found) = self.networks.get(network).cloned() else {
            let message = format!("network {network} not found");
            return Err(EngineError::NotFound { attempted, message });
        };
        let container = self.container(id, &attempted)?;
        if container.networks.contains_key(&found.name) {
            let message = format!("endpoint with name {} already exists in network {}", container.name, found.name);
            return Err(EngineError::Conflict { attempted, message });
        }
        container.networks.insert(found.name.clone(), found.id.clone());
        container.names.insert(found.id.clone(), names(&join.names, &container.hostname));
        container.addresses.extend(addresses(std::slice::from_ref(join)));
        let name = container.name.clone();
        self.history.push(format!("connected {name} to {}", found.name));
        self.emit_network_event(&found.id, Some(id));
        Ok(())
    }

    /// Disconnects a container from a network, given by id or name. For a stopped container, the network may be missing if
    /// given by name.
    pub(crate) fn disconnect(&mut self, network: &str, id: &str) -> Result<()> {
        let attempted = format!("disconnect the container {}", self.name_of(id));
        let named: Vec<&Network> =
            self.networks.values().filter(|known| known.id == network || known.name == network).collect();
        if named.len() > 1 {
            let message = format!("network {network} is ambiguous ({} matches found on name)", named.len());
            return Err(EngineError::Refused { attempted, message });
        }
        let found = named.first().map(|known| known.name.clone());
        let container = self.container(id, &attempted)?;
        let key = match found {
            Some(name) => name,
            None if container.is_up() => {
                return Err(EngineError::NotFound { attempted, message: format!("network {network} not found") });
            }
            None => network.to_owned(),
        };
        let Some(left) = container.networks.remove(&key) else {
            // An unknown id may belong to a removed network that the container still references by name.
            let unknown = key == network && network.len() == 64;
            if !unknown {
                return Ok(());
            }
            let message = format!("container {id} is not connected to the network {key}");
            return Err(EngineError::Refused { attempted, message });
        };
        let name = container.name.clone();
        self.history.push(format!("disconnected {name} from {key}"));
        self.emit_network_event(&left, Some(id));
        Ok(())
    }
}
