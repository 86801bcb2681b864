//! Fields that need a newer engine than the oldest one that is supported, or another one.

use super::{Config, Endpoint, Volume, VolumeSource};
use crate::capabilities::ApiVersion;
use crate::spec::Loaded;
use crate::spec::model::{self, HostPort, Recursive};

/// A field that a service uses, and the engine that it needs.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Requirement {
    /// Name of the field: `annotations`, `volumes.subpath`.
    pub field: &'static str,
    /// Where it is written, e.g. `specs/app.yaml:12:16`.
    pub place: String,
    pub need: Need,
}

/// What an engine needs to be.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Need {
    /// It speaks this version of the API.
    Api(ApiVersion),
    /// It is Docker, because Podman does this with the field.
    Docker(&'static str),
}

/// A field with what it needs, and whether a container uses it. The part of the name behind a dot is a key of the field,
/// or of an item of its list or a value of its map; it only narrows the place.
type Row = (&'static str, Need, fn(&Config) -> bool);

const ROWS: &[Row] = &[
    ("annotations", Need::Api(ApiVersion(1, 43)), |config| !config.annotations.is_empty()),
    // Without the older field of the request, which cannot say `recursive`.
    ("volumes.create", Need::Api(ApiVersion(1, 42)), |config| {
        has_volume(config, |volume| volume.options.create && volume.options.recursive.is_some())
    }),
    ("volumes.recursive", Need::Api(ApiVersion(1, 44)), |config| {
        let of_read_only = [Some(Recursive::Writable), Some(Recursive::Readonly)];
        has_volume(config, |volume| of_read_only.contains(&volume.options.recursive))
    }),
    ("volumes.subpath", Need::Api(ApiVersion(1, 45)), |config| {
        has_volume(config, |volume| volume.options.subpath.is_some())
    }),
    ("volumes.type", Need::Api(ApiVersion(1, 48)), |config| {
        has_volume(config, |volume| matches!(volume.source, VolumeSource::Image(_)))
    }),
    ("networks.mac_address", Need::Api(ApiVersion(1, 44)), |config| {
        has_endpoint(config, |endpoint| endpoint.mac_address.is_some())
    }),
    ("networks.gw_priority", Need::Api(ApiVersion(1, 48)), |config| {
        has_endpoint(config, |endpoint| endpoint.gw_priority != 0)
    }),
    ("networks.interface_name", Need::Api(ApiVersion(1, 49)), |config| {
        has_endpoint(config, |endpoint| endpoint.interface_name.is_some())
    }),
    ("gpus", Need::Docker("ignores it; name CDI devices: `devices: [nvidia.com/gpu=all]`"), |config| {
        !config.gpus.is_empty()
    }),
    ("ports", Need::Docker("takes no range of host ports for a port of the container"), |config| {
        config.ports.iter().any(|port| matches!(port.host, HostPort::Range(..)))
    }),
];

fn has_endpoint(config: &Config, found: impl Fn(&Endpoint) -> bool) -> bool {
    config.network.endpoints().into_iter().any(|(_, endpoint)| found(endpoint))
}

fn has_volume(config: &Config, found: impl Fn(&Volume) -> bool) -> bool {
    config.volumes.iter().any(found)
}

/// The fields of a service that some supported engines do not know.
pub(super) fn requirements(loaded: &Loaded<model::Service>, config: &Config) -> Vec<Requirement> {
    let used = ROWS.iter().filter(|(_, _, is_used)| is_used(config));
    used.map(|(field, need, _)| Requirement { field, place: loaded.place(field), need: *need }).collect()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::desired::Placement;

    #[test]
    fn settings_on_a_network_are_looked_up_on_each() {
        let used = |endpoint: Endpoint| {
            let networks = [("shop".to_owned(), Endpoint::default()), ("shop_back".to_owned(), endpoint)];
            let config = Config { network: Placement::Networks(networks.into()), ..Config::default() };
            ROWS.iter().filter(|(_, _, is_used)| is_used(&config)).map(|(field, ..)| *field).collect::<Vec<_>>()
        };
        assert_eq!(used(Endpoint { ipv4_address: Some([10, 1, 0, 5].into()), ..Endpoint::default() }), [""; 0]);
        let endpoint = Endpoint { mac_address: Some(String::new()), gw_priority: -1, ..Endpoint::default() };
        assert_eq!(used(endpoint), ["networks.mac_address", "networks.gw_priority"]);
        let endpoint = Endpoint { interface_name: Some("eth5".to_owned()), ..Endpoint::default() };
        assert_eq!(used(endpoint), ["networks.interface_name"]);
    }

    #[test]
    fn fields_exist_and_versions_belong_to_an_engine() {
        let schema = schemars::schema_for!(model::ServiceDocument);
        let fields = schema.get("properties").unwrap().as_object().unwrap();
        for (field, need, _) in ROWS {
            assert!(fields.contains_key(field.split('.').next().unwrap()), "{field}");
            assert!(!matches!(need, Need::Api(api) if api.docker().is_none()), "{need:?}");
        }
    }
}
