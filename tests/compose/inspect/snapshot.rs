//! What `docker inspect` says about a project, without what differs between any two runs.

use std::collections::{BTreeMap, BTreeSet};
use std::process::Command;

use serde_json::{Map, Value, json};

use super::output;
use crate::config::pruned;

/// Whose objects to look at.
pub enum Owner {
    Compose,
    /// With the keys of services by their names here.
    Drillmaster(BTreeMap<String, String>),
}

impl Owner {
    fn filter(&self, project: &str) -> String {
        match self {
            Owner::Compose => format!("label=com.docker.compose.project={project}"),
            Owner::Drillmaster(_) => format!("label=drillmaster.group={project}"),
        }
    }

    /// `web-1` from the labels of a container.
    fn service(&self, labels: &Value) -> String {
        let label = |name: &str| labels[name].as_str().filter(|text| !text.is_empty());
        match self {
            Owner::Compose => {
                let [service, number] = ["service", "container-number"].map(|name| {
                    label(&format!("com.docker.compose.{name}")).unwrap_or_else(|| panic!("{name}: {labels}"))
                });
                format!("{service}-{number}")
            }
            Owner::Drillmaster(keys) => {
                let service = &keys[label("drillmaster.service").unwrap()];
                format!("{service}-{}", label("drillmaster.replica").unwrap_or("1"))
            }
        }
    }
}

pub fn docker(arguments: &[&str]) -> String {
    try_docker(arguments).unwrap()
}

pub fn try_docker(arguments: &[&str]) -> Result<String, String> {
    output(Command::new("timeout").args(["60", "docker"]).args(arguments))
}

/// Inspects all objects that a listing names.
fn inspect(kind: &str, list: &[&str], owner: &Owner, project: &str) -> Vec<Value> {
    let filter = owner.filter(project);
    let names = docker(&[&[kind], list, &["--quiet", "--filter", &filter]].concat());
    let names: Vec<&str> = names.split_whitespace().collect();
    if names.is_empty() {
        return Vec::new();
    }
    serde_json::from_str(&docker(&[&[kind, "inspect"], names.as_slice()].concat())).unwrap()
}

/// Returns the containers, networks and volumes of a project. `ranges` are the networks whose addresses the project
/// sets: the engine chooses those of the others.
pub fn snapshot(owner: &Owner, project: &str, ranges: &BTreeSet<String>) -> Value {
    let containers = inspect("container", &["ls", "--all"], owner, project);
    let ids: Vec<(String, String)> = containers
        .iter()
        .map(|container| (container["Id"].as_str().unwrap().to_owned(), owner.service(&container["Config"]["Labels"])))
        .collect();
    let containers = containers.into_iter().map(|container| {
        let name = owner.service(&container["Config"]["Labels"]);
        (name, replaced(self::container(&container), &ids))
    });
    let containers: Map<String, Value> = containers.collect();
    let networks = inspect("network", &["ls"], owner, project);
    let networks: Map<String, Value> =
        networks.iter().map(|network| (name(network), self::network(network, ranges))).collect();
    let volumes = inspect("volume", &["ls"], owner, project);
    let volumes = volumes.iter().filter(|volume| !is_anonymous(&volume["Name"]));
    let volumes: Map<String, Value> = volumes.map(|volume| (name(volume), self::volume(volume))).collect();
    json!({"containers": containers, "networks": networks, "volumes": volumes})
}

fn name(object: &Value) -> String {
    object["Name"].as_str().unwrap().to_owned()
}

fn container(container: &Value) -> Value {
    let mut config = container["Config"].clone();
    own_labels_removed(&mut config);
    let networks = container["NetworkSettings"]["Networks"].as_object().unwrap();
    let networks: Map<String, Value> = networks
        .iter()
        .map(|(name, endpoint)| {
            let mut endpoint = endpoint.clone();
            // These are of the run.
            for key in [
                "NetworkID",
                "EndpointID",
                "Gateway",
                "IPAddress",
                "IPPrefixLen",
                "IPv6Gateway",
                "GlobalIPv6Address",
                "GlobalIPv6PrefixLen",
                "MacAddress",
                "DNSNames",
            ] {
                endpoint.as_object_mut().unwrap().remove(key);
            }
            (name.clone(), json!({"joined": true, "settings": endpoint}))
        })
        .collect();
    let mut mounts: Map<String, Value> = Map::new();
    for mount in container["Mounts"].as_array().unwrap() {
        let mut mount = mount.clone();
        if is_anonymous(&mount["Name"]) {
            mount["Name"] = "anonymous".into();
            mount["Source"] = Value::Null;
        }
        mounts.insert(mount["Destination"].as_str().unwrap().to_owned(), mount);
    }
    let all = json!({
        "Config": config,
        "HostConfig": container["HostConfig"],
        "Networks": networks,
        "Mounts": mounts,
        "Path": container["Path"],
        "Args": container["Args"],
        "Platform": container["Platform"],
    });
    pruned(with_sets(all, ""), "")
}

/// Returns true for the name of a volume that the engine has named.
fn is_anonymous(name: &Value) -> bool {
    name.as_str().is_some_and(|name| name.len() == 64 && name.chars().all(|c| c.is_ascii_hexdigit()))
}

fn network(network: &Value, ranges: &BTreeSet<String>) -> Value {
    let mut network = network.clone();
    own_labels_removed(&mut network);
    let has_range = ranges.contains(network["Name"].as_str().unwrap());
    let fields = network.as_object_mut().unwrap();
    for key in ["Id", "Created", "Containers", "Name", "Status"] {
        fields.remove(key);
    }
    if !has_range {
        fields["IPAM"]["Config"] = Value::Null;
    }
    pruned(network, "")
}

fn volume(volume: &Value) -> Value {
    let mut volume = volume.clone();
    own_labels_removed(&mut volume);
    for key in ["CreatedAt", "Mountpoint", "Name"] {
        volume.as_object_mut().unwrap().remove(key);
    }
    pruned(volume, "")
}

/// Removes the labels of docker compose and drillmaster.
fn own_labels_removed(object: &mut Value) {
    if let Some(labels) = object["Labels"].as_object_mut() {
        labels.retain(|name, _| !name.starts_with("com.docker.compose.") && !name.starts_with("drillmaster."));
    }
}

/// Lists whose order means nothing.
const SETS: [&str; 8] = ["Env", "Aliases", "Binds", "CapAdd", "CapDrop", "GroupAdd", "SecurityOpt", "ExtraHosts"];

fn with_sets(value: Value, key: &str) -> Value {
    match value {
        Value::Object(map) => map.into_iter().map(|(key, value)| (key.clone(), with_sets(value, &key))).collect(),
        Value::Array(mut items) if SETS.contains(&key) => {
            // As keys, so that each difference is found by itself.
            let text = |item: Value| item.as_str().unwrap().trim_start_matches("CAP_").to_owned();
            items.drain(..).map(|item| (text(item), json!(true))).collect()
        }
        Value::Array(items) => Value::Array(items.into_iter().map(|item| with_sets(item, "")).collect()),
        value => value,
    }
}

/// Replaces ids of containers, long and short, by their services.
fn replaced(value: Value, ids: &[(String, String)]) -> Value {
    let mut text = value.to_string();
    for (id, service) in ids {
        text = text.replace(id.as_str(), &format!("<{service}>")).replace(&id[..12], &format!("<{service}>"));
    }
    serde_json::from_str(&text).unwrap()
}
