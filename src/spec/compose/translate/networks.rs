//! Ports, networks, namespaces and aliases.

use super::super::super::model::DEFAULT_NETWORK;
use super::super::super::node::{Entry, Node};
use super::super::values::{printed, text};
use super::nodes::{entry, is_empty, is_extension, list, map, retext, set_field, text_at, text_of};
use super::{Document, Translator};

/// Modes of the network in which nothing is published.
const WITHOUT_PORTS: [&str; 2] = ["host", "none"];

impl<'a> Translator<'a> {
    pub(super) fn ports(&mut self, ports: &'a Node, document: &mut Document<'a>) {
        let mode = set_field(document.service, "network_mode").and_then(text);
        if let Some(mode) = mode.filter(|mode| WITHOUT_PORTS.contains(mode)) {
            let message =
                format!("`ports` have no effect with `network_mode: {mode}`: docker compose ignores them too");
            self.note(&ports.span, message);
            return;
        }
        let mut items = Vec::new();
        for port in ports.items() {
            let Some(container) = port.get("target") else { continue };
            let mut fields = vec![entry("container", container.clone())];
            let published = set_field(port, "published").filter(|port| port.text() != Some("0"));
            fields.extend(published.map(|published| entry("host", published.clone())));
            match set_field(port, "host_ip") {
                Some(address) => fields.push(entry("address", address.clone())),
                None => {
                    self.note_all_addresses(port);
                    fields.push(entry("address", text_at(&port.span, "all")));
                }
            }
            let protocol = text_of(port, "protocol").filter(|protocol| protocol != "tcp");
            let place = port.get("protocol").unwrap_or(port);
            fields.extend(protocol.map(|word| entry("protocol", text_at(&place.span, word.to_lowercase()))));
            items.push(map(&port.span, fields));
        }
        document.add_list("ports", &ports.span, items);
    }

    fn note_all_addresses(&mut self, port: &Node) {
        if self.tips.is_empty() {
            let message = "ports without an address listen on all addresses of the machine, as under docker compose";
            let hint = "write for example \"127.0.0.1:8080:80\" for this machine only";
            self.tips.push(super::Problem::new(&port.span, message).hint(hint));
        }
    }

    pub(super) fn service_networks(&mut self, networks: &'a Node, document: &mut Document<'a>) {
        let mut entries = Vec::new();
        for Entry { key, value } in networks.entries() {
            self.used.insert(("networks", key.text.clone()));
            let settings = value.entries().filter(|entry| !is_empty(&entry.value) && !is_extension(entry));
            let settings = settings.cloned().collect();
            let settings = map(if value.is_null() { &key.span } else { &value.span }, settings);
            let mut network = entry(&self.networks.of(&key.text), settings);
            network.key.span = key.span.clone();
            entries.push(network);
        }
        // A service without networks is on this one.
        let is_default =
            |network: &Entry| network.key.text == DEFAULT_NETWORK && super::nodes::is_empty(&network.value);
        if !matches!(entries.as_slice(), [] | [_]) || entries.first().is_some_and(|network| !is_default(network)) {
            document.add("networks", map(&networks.span, entries));
        }
    }

    pub(super) fn network_mode(&mut self, mode: &'a Node, document: &mut Document<'a>) {
        let word = text(mode).unwrap_or_default();
        match word {
            "" | "default" => {}
            "none" | "host" | "bridge" => document.add("network_mode", mode.clone()),
            _ if word.starts_with("container:") => document.add("network_mode", mode.clone()),
            _ if word.starts_with("service:") => self.namespace("network_mode", mode, document),
            _ => self.error(
                &mode.span,
                "the name of a network as `network_mode` cannot be translated",
                "define the network with `external: true`, and name it in `networks`",
            ),
        }
    }

    pub(super) fn pid(&mut self, mode: &'a Node, document: &mut Document<'a>) {
        self.namespace("pid", mode, document);
    }

    pub(super) fn ipc(&mut self, mode: &'a Node, document: &mut Document<'a>) {
        self.namespace("ipc", mode, document);
    }

    /// Adds a namespace, with our name of the service that it is shared with.
    fn namespace(&mut self, field: &str, mode: &Node, document: &mut Document<'a>) {
        let Some(word) = printed(mode).filter(|word| !word.is_empty()) else { return };
        let shared = word.strip_prefix("service:").map(|name| format!("service:{}", self.services.of(name)));
        document.add(field, shared.map_or_else(|| mode.clone(), |shared| retext(mode, shared)));
    }

    /// Adds the names by which compose makes a service known, beside its own.
    pub(super) fn aliases(&mut self, document: &mut Document<'a>) {
        if set_field(document.service, "network_mode").is_some() {
            return;
        }
        let key = document.key;
        let renamed = (document.name != key.text).then(|| text_at(&key.span, key.text.clone()));
        let container = set_field(document.service, "container_name").cloned();
        let links = self.links.get(key.text.as_str()).into_iter().flatten().cloned();
        let mut aliases: Vec<Node> = Vec::new();
        for alias in renamed.into_iter().chain(container).chain(links) {
            let is_known = |text: &str| text == document.name || aliases.iter().any(|it| it.text() == Some(text));
            if !alias.text().is_none_or(is_known) {
                aliases.push(alias);
            }
        }
        if let Some(first) = aliases.first() {
            let span = first.span.clone();
            document.add("aliases", list(&span, aliases));
        }
    }
}
