//! Networks of services, and namespaces that they share.

use std::collections::BTreeSet;

use super::super::Profiles;
use super::super::document::{Document, Documents};
use super::super::locate::{Diagnostic, closest};
use super::super::model::{
    Check, DEFAULT_NETWORK, IpcMode, Kind, NetworkMode, Order, Service, Target, shared_namespaces,
};
use super::super::node::{Node, Value};
use super::super::value::quoted;
use super::{Edge, Edges, Services, inactive_dependency, name};

/// Checks the networks of each service against those of the group.
pub(super) fn networks(documents: &Documents, diagnostics: &mut Vec<Diagnostic>) {
    let declared = documents.groups.iter().flat_map(|group| group.spec.networks.keys().map(|name| name.as_str()));
    let declared: BTreeSet<&str> = declared.chain([DEFAULT_NETWORK]).collect();
    for service in &documents.services {
        for (network, node) in named_networks(service) {
            if !declared.contains(network) && !documents.incomplete {
                let message =
                    format!("`{}` is on the network {}, which the group does not have", name(service), quoted(network));
                let hint = match closest(network, declared.iter().copied()) {
                    Some(close) => format!("did you mean `{close}`?"),
                    None => format!("declare it in the `kind: Group` document: `networks: {{{network}: {{}}}}`"),
                };
                diagnostics.push(Diagnostic::at(service.location(&node.span), message).hint(hint));
            }
        }
        fixed_addresses(documents, service, diagnostics);
        mode(service, diagnostics);
    }
}

/// The networks that a service names, with their nodes.
fn named_networks(service: &Document<Service>) -> Vec<(&str, &Node)> {
    let Some(node) = service.root.get("networks") else { return Vec::new() };
    match &node.value {
        Value::Map(entries) => {
            let known = |name: &str| service.spec.container.networks.0.keys().any(|known| known == name);
            entries.iter().filter(|it| known(&it.key.text)).map(|it| (it.key.text.as_str(), &it.value)).collect()
        }
        Value::Seq(items) => items.iter().filter_map(|item| Some((item.text()?, item))).collect(),
        _ => node.text().map(|text| (text, node)).into_iter().collect(),
    }
}

/// Only a network with a range of its own has fixed addresses, and only one container can have one.
fn fixed_addresses(documents: &Documents, service: &Document<Service>, diagnostics: &mut Vec<Diagnostic>) {
    let spec = &service.spec;
    for (network, endpoint) in &spec.container.networks.0 {
        let Some(endpoint) = endpoint else { continue };
        let fixed = [
            ("ipv4_address", endpoint.ipv4_address.map(|address| address.to_string())),
            ("ipv6_address", endpoint.ipv6_address.map(|address| address.to_string())),
            ("mac_address", endpoint.mac_address.as_ref().map(ToString::to_string)),
        ];
        for (field, address) in fixed {
            let Some(address) = address else { continue };
            let node =
                service.root.get("networks").and_then(|it| it.get(network.as_str())).and_then(|it| it.get(field));
            let location = service.location(node.map_or(&service.root.span, |node| &node.span));
            let group = documents.groups.first().map(|group| &group.spec);
            let entry = group.and_then(|group| group.networks.get(network.as_str())).and_then(Option::as_ref);
            let has_range = entry.is_some_and(|entry| entry.external || !entry.ipam.config.is_empty())
                || network == DEFAULT_NETWORK && group.is_some_and(|group| group.subnet.is_some());
            if field != "mac_address" && !has_range && !documents.incomplete {
                let message = format!(
                    "the network {} has no address range, so {address} cannot be fixed",
                    quoted(network.as_str())
                );
                let hint =
                    format!("write `networks: {{{network}: {{ipam: {{config: [{{subnet: ...}}]}}}}}}` in the group");
                diagnostics.push(Diagnostic::at(location.clone(), message).hint(hint));
            }
            let why = match (spec.replicas.unwrap_or(1), spec.update.order) {
                (replicas @ 2.., _) => format!("{replicas} replicas run"),
                (_, Order::StartFirst) => "with `order: start-first` the old and the new container run".to_owned(),
                _ => continue,
            };
            let message = format!("{why} at the same time, and only one can have the address {address}");
            diagnostics.push(Diagnostic::at(location, message).hint(format!("remove `{field}`")));
        }
    }
}

/// Rejects what a container without a network of the group cannot have.
fn mode(service: &Document<Service>, diagnostics: &mut Vec<Diagnostic>) {
    let spec = &service.spec;
    let container = &spec.container;
    let Some(mode) = &container.network_mode else { return };
    let mut report = |field: &str, message: String, hint: &str| {
        let related = service.location_of("network_mode");
        let diagnostic = Diagnostic::at(service.location_of(field), message).related(related, "set here");
        diagnostics.push(diagnostic.hint(hint.to_owned()));
    };
    let of_group = "a container is either on networks of the group or has a `network_mode`";
    if !container.networks.0.is_empty() {
        report("networks", format!("`networks` and `network_mode: {mode}` exclude each other"), of_group);
    }
    if !container.aliases.is_empty() {
        report("aliases", format!("`aliases` have no effect with `network_mode: {mode}`"), of_group);
    }
    let shares = matches!(mode, NetworkMode::Shared(_));
    let target = match mode {
        NetworkMode::Shared(Target::Service(target)) => format!("`{target}`"),
        _ => "that container".to_owned(),
    };
    if !container.ports.is_empty() && *mode != NetworkMode::Bridge {
        let hint = match mode {
            NetworkMode::Host => "it listens on the host's ports itself: remove `ports`".to_owned(),
            NetworkMode::Shared(_) => format!("publish the ports of {target}, whose network it has"),
            _ => "it has no network: remove `ports`".to_owned(),
        };
        report("ports", format!("`ports` have no effect with `network_mode: {mode}`"), &hint);
    }
    let of_target = [
        ("hostname", container.hostname.is_some()),
        ("extra_hosts", !container.extra_hosts.is_empty()),
        ("dns", !container.dns.is_empty()),
        ("expose", !container.expose.is_empty()),
        ("mac_address", container.mac_address.is_some()),
    ];
    for (field, _) in of_target.into_iter().filter(|(_, is_set)| shares && *is_set) {
        report(field, format!("`{field}` has no effect with `network_mode: {mode}`"), &format!("set it in {target}"));
    }
    if *mode == NetworkMode::Host && container.mac_address.is_some() {
        report("mac_address", format!("`mac_address` has no effect with `network_mode: {mode}`"), "remove it");
    }
    let connects = |check: &Check| matches!(check, Check::Tcp(_) | Check::Http(_));
    if *mode == NetworkMode::None && spec.ping.as_ref().is_some_and(|ping| connects(&ping.check)) {
        report("ping", "a container without a network cannot be connected to".into(), "use an `exec` or `log` ping");
    }
    if (shares || *mode == NetworkMode::Host) && spec.update.order == Order::StartFirst {
        let message =
            format!("with `network_mode: {mode}`, the old and the new container would listen on the same ports");
        report("update", message, "write `order: auto`");
    }
}

/// Checks the services whose namespaces others share; each is a dependency.
pub(super) fn shared<'d>(
    documents: &Documents,
    services: &Services<'d>,
    profiles: &Profiles,
    edges: &mut Edges<'d>,
    diagnostics: &mut Vec<Diagnostic>,
) {
    for service in services.values() {
        for (field, target) in shared_namespaces(&service.spec.container) {
            let to = target.as_str();
            let location = service.location_of(field);
            if to == name(service) {
                diagnostics.push(Diagnostic::at(location, format!("`{to}` cannot share its own namespace")));
                continue;
            }
            let Some(needed) = services.get(to) else {
                if !documents.incomplete && !documents.other_names.contains(to) {
                    let message =
                        format!("`{}` shares a namespace of `{to}`, but there is no such service", name(service));
                    let others = services.keys().copied().filter(|other| *other != name(service));
                    let hint = closest(to, others).map(|close| format!("did you mean `service:{close}`?"));
                    diagnostics.push(Diagnostic::at(location, message).label("no such service").hint(hint));
                }
                continue;
            };
            edges.entry(name(service)).or_default().push(Edge { to, location: location.clone(), output: None });
            if profiles.activate(&service.spec) && !profiles.activate(&needed.spec) {
                let inactive = inactive_dependency(service, needed, location.clone());
                diagnostics.push(inactive.hint(format!("give `{}` the profiles of `{to}`", name(service))));
            }
            let mut report = |message: String, there: &str, hint: String| {
                let related = needed.location_of(there);
                diagnostics.push(Diagnostic::at(location.clone(), message).related(related, "here").hint(hint));
            };
            if needed.spec.kind != Kind::Service {
                report(
                    format!("`{to}` is a job, whose namespaces end with it"),
                    "name",
                    "share those of a service".to_owned(),
                );
            } else if needed.spec.replicas.is_some() {
                let message = format!("`{to}` has `replicas`, so it is not clear whose namespace is shared");
                report(message, "replicas", format!("remove `replicas` of `{to}`"));
            } else if field == "ipc" && needed.spec.container.ipc != Some(IpcMode::Shareable) {
                let message = format!("the shared memory of `{to}` cannot be shared");
                report(message, "name", format!("write `ipc: shareable` in `{to}`"));
            }
        }
    }
}
