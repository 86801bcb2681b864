//! The document of the group: networks, volumes, configs and secrets that services use.

use super::super::super::node::{Entry, Node, Value};
use super::super::values::printed;
use super::nodes::{entry, flag_at, is_empty, is_true, map, merge_over, set_field, text_at};
use super::{EXTENSION, Translator};

impl Translator<'_> {
    pub(super) fn group(&mut self) -> Node {
        let root = &self.project.root;
        let start = root.entries().next().map_or(root.span.clone(), |entry| entry.key.span.clone());
        let name = root.get("name").map_or(&start, |name| &name.span);
        let name = if name.is_empty() { &start } else { name };
        let mut fields =
            vec![entry("kind", text_at(name, "Group")), entry("name", text_at(name, self.project.name.clone()))];
        for section in ["networks", "volumes", "configs", "secrets"] {
            let entries = self.section(section);
            if let Some(first) = entries.first() {
                fields.push(entry(section, map(&first.key.span.clone(), entries)));
            }
        }
        if let Some(Value::Map(over)) = root.get(EXTENSION).map(|own| &own.value) {
            merge_over(&mut fields, over);
        }
        map(&start, fields)
    }

    /// Translates the definitions of a section that are used.
    fn section(&self, section: &'static str) -> Vec<Entry> {
        let defined = self.project.root.get(section).into_iter().flat_map(Node::entries);
        let used = defined.filter(|entry| self.used.contains(&(section, entry.key.text.clone())));
        let translated = used.map(|Entry { key, value }| {
            let (name, fields) = match section {
                "networks" => (self.networks.of(&key.text), network(value)),
                "volumes" => (self.volumes.of(&key.text), volume(value)),
                _ => (key.text.clone(), file(value)),
            };
            let span = if is_empty(value) { &key.span } else { &value.span };
            Entry { key: super::Key { span: key.span.clone(), text: name }, value: map(span, fields) }
        });
        translated.collect()
    }
}

/// The fields of a definition with these names that are set.
fn fields(definition: &Node, keys: &[&str]) -> Vec<Entry> {
    keys.iter().filter_map(|key| set_field(definition, key).map(|value| entry(key, value.clone()))).collect()
}

fn network(network: &Node) -> Vec<Entry> {
    if is_true(network, "external") {
        return external(network);
    }
    let keys = ["name", "driver_opts", "labels", "internal", "attachable", "enable_ipv4", "enable_ipv6"];
    let mut fields = fields(network, &keys);
    let driver = set_field(network, "driver").filter(|driver| driver.text() != Some("default"));
    fields.extend(driver.map(|driver| entry("driver", driver.clone())));
    if let Some(ipam) = set_field(network, "ipam") {
        fields.push(entry("ipam", ipam_of(ipam)));
    }
    fields
}

fn ipam_of(ipam: &Node) -> Node {
    let mut known = fields(ipam, &["options"]);
    let driver = set_field(ipam, "driver").filter(|driver| driver.text() != Some("default"));
    known.extend(driver.map(|driver| entry("driver", driver.clone())));
    if let Some(config) = set_field(ipam, "config") {
        let ranges = config
            .items()
            .map(|range| map(&range.span, fields(range, &["subnet", "gateway", "ip_range", "aux_addresses"])));
        known.push(entry("config", super::list(&config.span, ranges.collect())));
    }
    map(&ipam.span, known)
}

fn volume(volume: &Node) -> Vec<Entry> {
    if is_true(volume, "external") {
        return external(volume);
    }
    let mut fields = fields(volume, &["name", "driver_opts", "labels"]);
    let is_usual = |driver: &&Node| printed(driver).is_some_and(|driver| ["local", "default"].contains(&&*driver));
    let driver = set_field(volume, "driver").filter(|driver| !is_usual(driver));
    fields.extend(driver.map(|driver| entry("driver", driver.clone())));
    fields
}

/// A network or volume that exists.
fn external(definition: &Node) -> Vec<Entry> {
    let mut fields = fields(definition, &["name"]);
    let span = definition.get("external").map_or(&definition.span, |external| &external.span);
    fields.push(entry("external", flag_at(span, true)));
    fields
}

fn file(definition: &Node) -> Vec<Entry> {
    let content = definition.get("content").filter(|content| !content.is_null());
    let content = content.map(|content| entry("content", content.clone()));
    fields(definition, &["file", "environment"]).into_iter().chain(content).collect()
}
