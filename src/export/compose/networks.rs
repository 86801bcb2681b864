//! Networks of a service.

use serde_yaml::{Mapping, Value as Yaml};

use super::output::{mapping, yaml};
use super::service::Writer;
use super::written::Unsaid;
use crate::spec::model::{DEFAULT_NETWORK, Endpoint};

impl Writer<'_> {
    pub fn networks(&mut self) {
        let container = &self.spec.container;
        if container.network_mode.is_some() {
            return;
        }
        let networks = match self.written.value("aliases", &container.aliases) {
            Ok(Yaml::Sequence(aliases)) => self.networks_with(&aliases),
            Ok(_) => Ok(Yaml::Null),
            Err(unsaid) => Err(unsaid),
        };
        let names = container.networks.0.keys().map(|name| name.as_str()).filter(|_| networks.is_ok());
        self.used.extend(names.map(|name| ("networks", name.to_owned())));
        self.add("networks", "networks", networks);
    }

    /// The networks, each with the aliases that hold on all of them; nothing for the network of the group alone.
    fn networks_with(&self, aliases: &[Yaml]) -> Result<Yaml, Unsaid> {
        let networks = &self.spec.container.networks.0;
        if networks.is_empty() {
            if aliases.is_empty() {
                return Ok(Yaml::Null);
            }
            let endpoint = Mapping::from_iter([(Yaml::from("aliases"), aliases.to_vec().into())]);
            return Ok(Mapping::from_iter([(Yaml::from(DEFAULT_NETWORK), endpoint.into())]).into());
        }
        let networks = networks.iter().map(|(name, endpoint)| {
            let endpoint = endpoint.clone().unwrap_or_default();
            Ok((name.as_str(), self.endpoint(&format!("networks.{name}"), &endpoint, aliases)?))
        });
        let networks = networks.collect::<Result<Vec<(&str, Mapping)>, Unsaid>>()?;
        if networks.iter().all(|(_, endpoint)| endpoint.is_empty()) {
            return Ok(networks.into_iter().map(|(name, _)| Yaml::from(name)).collect());
        }
        Ok(networks.into_iter().map(|(name, endpoint)| (Yaml::from(name), endpoint.into())).collect::<Mapping>().into())
    }

    fn endpoint(&self, path: &str, endpoint: &Endpoint, aliases: &[Yaml]) -> Result<Mapping, Unsaid> {
        let Endpoint {
            aliases: own,
            ipv4_address,
            ipv6_address,
            link_local_ips,
            mac_address,
            driver_opts,
            priority,
            gw_priority,
            interface_name,
        } = endpoint;
        let value = |key, value: Yaml| Ok((key, self.written.value(&format!("{path}.{key}"), value)?));
        let mut fields = [
            value("aliases", yaml(own))?,
            value("ipv4_address", yaml(ipv4_address))?,
            value("ipv6_address", yaml(ipv6_address))?,
            value("link_local_ips", yaml(link_local_ips))?,
            value("mac_address", yaml(mac_address))?,
            value("driver_opts", yaml(driver_opts))?,
            value("priority", yaml((*priority != 0).then_some(priority)))?,
            value("gw_priority", yaml((*gw_priority != 0).then_some(gw_priority)))?,
            value("interface_name", yaml(interface_name))?,
        ];
        if let Yaml::Sequence(own) = &mut fields[0].1 {
            own.splice(0..0, aliases.iter().cloned());
        }
        Ok(mapping(fields))
    }
}
