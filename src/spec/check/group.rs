//! Networks and volumes of the group: settings that exclude each other, and names on the engine.

use std::collections::HashMap;

use super::super::RESERVED_NETWORKS;
use super::super::document::{Document, Documents};
use super::super::locate::Diagnostic;
use super::super::model::{DEFAULT_NETWORK, Group};
use super::super::node::{Entry, Node};
use super::super::value::quoted;
use super::limits::own_labels;

/// Checks the entries of `networks`.
pub(super) fn networks(documents: &Documents, diagnostics: &mut Vec<Diagnostic>) {
    for group in &documents.groups {
        let mut fixed: HashMap<&str, &Entry> = HashMap::new();
        for entry in entries(group, "networks") {
            let Some(network) = group.spec.networks.get(entry.key.text.as_str()) else { continue };
            let default = network.clone().unwrap_or_default();
            let is_default = entry.key.text == DEFAULT_NETWORK;
            if is_default {
                twice(group, entry, "network", default.name.is_some(), "name", diagnostics);
                twice(group, entry, "subnet", !default.ipam.config.is_empty() || default.external, "ipam", diagnostics);
            }
            let Some(network) = network else { continue };
            if network.external {
                only_a_name(group, "network", entry, diagnostics);
            }
            own_labels(group, &entry.value, "something", diagnostics);
            if let Some(name) = &network.name {
                reserved(group, entry, name.as_str(), diagnostics);
                same_name(group, "network", name.as_str(), entry, &mut fixed, diagnostics);
            } else if network.external {
                reserved(group, entry, &entry.key.text, diagnostics);
            }
        }
    }
}

/// The group's network has a short form and an entry: both must not say the same.
fn twice(
    group: &Document<Group>,
    entry: &Entry,
    short: &str,
    is_set: bool,
    long: &str,
    diagnostics: &mut Vec<Diagnostic>,
) {
    let Some(node) = group.root.get(short).filter(|_| is_set) else { return };
    let location = group.location(entry.value.get(long).map_or(&entry.key.span, |node| &node.span));
    diagnostics.push(
        Diagnostic::at(location, format!("`{short}` of the group says this too"))
            .label("again here")
            .related(group.location(&node.span), "first here"),
    );
}

/// Networks of the engine itself.
fn reserved(group: &Document<Group>, entry: &Entry, name: &str, diagnostics: &mut Vec<Diagnostic>) {
    if RESERVED_NETWORKS.contains(&name) {
        let location = group.location(entry.value.get("name").map_or(&entry.key.span, |node| &node.span));
        let message = format!("the network name `{name}` is reserved by the engine");
        let hint = "services use such a network with `network_mode`".to_owned();
        diagnostics.push(Diagnostic::at(location, message).hint(hint));
    }
}

/// Checks the entries of `volumes`.
pub(super) fn volumes(documents: &Documents, diagnostics: &mut Vec<Diagnostic>) {
    for group in &documents.groups {
        let mut fixed: HashMap<&str, &Entry> = HashMap::new();
        for entry in entries(group, "volumes") {
            let Some(Some(volume)) = group.spec.volumes.get(entry.key.text.as_str()) else { continue };
            if volume.external {
                only_a_name(group, "volume", entry, diagnostics);
            }
            own_labels(group, &entry.value, "something", diagnostics);
            if let Some(name) = &volume.name {
                same_name(group, "volume", name.as_str(), entry, &mut fixed, diagnostics);
            }
        }
    }
}

/// The entries of a map of the group.
fn entries<'d>(group: &'d Document<Group>, field: &str) -> impl Iterator<Item = &'d Entry> {
    group.root.get(field).into_iter().flat_map(Node::entries)
}

/// What is external has the settings that it was created with.
fn only_a_name(group: &Document<Group>, noun: &str, entry: &Entry, diagnostics: &mut Vec<Diagnostic>) {
    let is_setting = |setting: &&Entry| !matches!(setting.key.text.as_str(), "external" | "name");
    for setting in entry.value.entries().filter(is_setting) {
        let message = format!("`{}` has no effect on an external {noun}", setting.key.text);
        let hint = format!("an external {noun} stays as it was created: remove `{}` or `external`", setting.key.text);
        diagnostics.push(Diagnostic::at(group.location(&setting.key.span), message).hint(hint));
    }
}

/// Two entries must not have one name on the engine.
fn same_name<'d>(
    group: &Document<Group>,
    noun: &str,
    name: &'d str,
    entry: &'d Entry,
    known: &mut HashMap<&'d str, &'d Entry>,
    diagnostics: &mut Vec<Diagnostic>,
) {
    if let Some(earlier) = known.insert(name, entry) {
        diagnostics.push(
            Diagnostic::at(
                group.location(&entry.key.span),
                format!("two {noun}s are called {} on the engine", quoted(name)),
            )
            .label("again here")
            .related(group.location(&earlier.key.span), "first here"),
        );
    }
}
