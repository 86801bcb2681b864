//! What differs between two desired states that should be the same, whatever their specs look like.

use std::collections::{BTreeMap, BTreeSet};

use super::fingerprint::canonical;
use super::{DeclaredVolume, Desired, Network, Service};

/// Returns the differences as texts such as "`web`: `env`, `ports`". Where specs are written, and how, is none.
pub fn differences(one: &Desired, other: &Desired) -> Vec<String> {
    let group = [
        ("name", one.group != other.group),
        ("networks", networks(one) != networks(other)),
        ("volumes", volumes(one) != volumes(other)),
    ];
    let group: Vec<&str> = group.into_iter().filter(|(_, differs)| *differs).map(|(field, _)| field).collect();
    let mut found = Vec::new();
    if !group.is_empty() {
        found.push(format!("the group: {}", named(&group)));
    }
    let names: BTreeSet<&str> = one.services.keys().chain(other.services.keys()).map(|name| &**name).collect();
    for name in names {
        match (one.services.get(name), other.services.get(name)) {
            (Some(one), Some(other)) => {
                let fields = fields(one, other);
                if !fields.is_empty() {
                    found.push(format!("`{name}`: {}", named(&fields)));
                }
            }
            _ => found.push(format!("`{name}` is only in one of them")),
        }
    }
    found
}

fn networks(desired: &Desired) -> BTreeMap<&String, Network> {
    let unplaced = |network: &Network| Network { location: String::new(), ..network.clone() };
    desired.networks.iter().map(|(name, network)| (name, unplaced(network))).collect()
}

fn volumes(desired: &Desired) -> BTreeMap<&String, DeclaredVolume> {
    let unplaced = |volume: &DeclaredVolume| DeclaredVolume { location: String::new(), ..volume.clone() };
    desired.volumes.iter().map(|(name, volume)| (name, unplaced(volume))).collect()
}

fn named(fields: &[impl AsRef<str>]) -> String {
    fields.iter().map(|field| format!("`{}`", field.as_ref())).collect::<Vec<_>>().join(", ")
}

/// The fields in which a service differs.
fn fields(one: &Service, other: &Service) -> Vec<String> {
    let (left, right) = (canonical(one.kind, &one.config), canonical(other.kind, &other.config));
    let keys: BTreeSet<&String> = left.keys().chain(right.keys()).collect();
    let differ = keys.into_iter().filter(|key| left.get(*key) != right.get(*key)).cloned();
    let others = [
        ("kind", one.kind != other.kind),
        ("env", one.env != other.env),
        ("dependencies", one.dependencies != other.dependencies),
        ("ping", one.ping != other.ping),
        ("ready_timeout", one.ready_timeout != other.ready_timeout),
        ("health", one.health != other.health),
        ("hooks", one.hooks != other.hooks),
        ("pull", one.pull != other.pull),
        ("build", one.build != other.build),
        ("update", one.update != other.update),
    ];
    let others = others.into_iter().filter(|(_, differs)| *differs).map(|(field, _)| field.to_owned());
    differ.chain(others).collect()
}
