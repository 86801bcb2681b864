//! What follows from a project: networks, dependencies, names, and variables that are passed through.

use super::super::node::{Entry, Key, Node, Style, Value};
use super::Templates;
use super::loader::{Context, set};
use super::paths::{children_mut, clean, items_mut, set_text};
use super::values::{Kind, kind, text};

/// Adds to a unified tree what follows from it.
pub(super) fn normalize(root: &mut Node, project: &str, context: &Context, templates: &mut Templates) {
    add_default_network(root);
    for service in children_mut(root, "services") {
        let service = &mut service.value;
        if let Some(policy) = service.get_mut("pull_policy")
            && text(policy) == Some("if_not_present")
        {
            set_text(policy, "missing".to_owned());
        }
        normalize_build(service, context, templates);
        pass_through(service, "environment", true, context, templates);
        add_dependencies(service);
        for volume in items_mut(service, "volumes") {
            if let Some(target) = volume.get_mut("target")
                && let Some(path) = text(target).map(clean)
            {
                set_text(target, path);
            }
        }
        if let Some(image) = service.get("image").cloned() {
            for hook in items_mut(service, "pre_start") {
                if hook.get("image").is_none() {
                    set(hook, "image", image.clone());
                }
            }
        }
    }
    set_names(root, project);
}

fn normalize_build(service: &mut Node, context: &Context, templates: &mut Templates) {
    let Some(build) = service.get_mut("build") else { return };
    let span = build.span.clone();
    if build.get("context").is_none_or(Node::is_null) {
        set(build, "context", Node::scalar(span.clone(), context.directory.clone(), Style::Text));
    }
    if build.get("dockerfile").is_none() && build.get("dockerfile_inline").is_none() {
        set(build, "dockerfile", Node::scalar(span, "Dockerfile", Style::Text));
    }
    pass_through(build, "args", false, context, templates);
}

/// Gives the keys without a value that of the variable of this name. Without it they stay or are removed.
fn pass_through(parent: &mut Node, key: &str, keep: bool, context: &Context, templates: &mut Templates) {
    let Some(Node { value: Value::Map(entries), .. }) = parent.get_mut(key) else { return };
    entries.retain_mut(|Entry { key, value }| {
        if !value.is_null() {
            return true;
        }
        let Some(variable) = context.environment.get(&key.text) else { return keep };
        value.span = key.span.clone();
        templates.insert((value.span.start, value.span.end), format!("${{{}}}", key.text));
        *value = Node::scalar(value.span.clone(), variable.clone(), Style::Substituted);
        true
    });
}

/// Puts services that name no network on the network `default`.
fn add_default_network(root: &mut Node) {
    let mut uses_default = None;
    for service in children_mut(root, "services") {
        let (span, service) = (service.key.span.clone(), &mut service.value);
        if service.get("provider").is_some() || service.get("network_mode").is_some() {
            continue;
        }
        let names_none = service.get("networks").is_none_or(|networks| networks.entries().next().is_none());
        if names_none {
            let key = Key { span: span.clone(), text: "default".to_owned() };
            let entry = Entry { key, value: Node::scalar(span.clone(), "", Style::Plain) };
            set(service, "networks", Node { span: span.clone(), value: Value::Map(vec![entry]) });
        }
        if service.get("networks").is_some_and(|networks| networks.get("default").is_some()) {
            uses_default.get_or_insert(span);
        }
    }
    let Some(span) = uses_default else { return };
    if root.get("networks").is_none_or(Node::is_null) {
        set(root, "networks", Node { span: span.clone(), value: Value::Map(Vec::new()) });
    }
    if let Some(networks) = root.get_mut("networks")
        && networks.get("default").is_none()
    {
        set(networks, "default", Node::scalar(span, "", Style::Plain));
    }
}

/// Adds the dependencies of a service that follow from its other keys.
fn add_dependencies(service: &mut Node) {
    let mut implied: Vec<(Node, String, bool)> = Vec::new();
    for link in service.get("links").into_iter().flat_map(Node::items) {
        let parts: Vec<&str> = text(link).unwrap_or_default().split(':').collect();
        let name = if parts.len() == 2 { parts[0].to_owned() } else { parts.join(":") };
        implied.push((link.clone(), name, true));
    }
    for key in ["network_mode", "ipc", "pid", "uts", "cgroup"] {
        if let Some(node) = service.get(key)
            && let Some(name) = text(node).and_then(|mode| mode.strip_prefix("service:"))
        {
            implied.push((node.clone(), name.to_owned(), true));
        }
    }
    for node in service.get("volumes_from").into_iter().flat_map(Node::items) {
        let from = text(node).unwrap_or_default();
        if !from.starts_with("container:") {
            implied.push((node.clone(), from.split(':').next().unwrap_or_default().to_owned(), false));
        }
    }
    for (node, name, restart) in implied {
        if service.get("depends_on").is_none_or(Node::is_null) {
            let span = node.span.clone();
            set(service, "depends_on", Node { span, value: Value::Map(Vec::new()) });
        }
        let Some(dependencies) = service.get_mut("depends_on") else { continue };
        if dependencies.get(&name).is_some() {
            continue;
        }
        let restart = restart.to_string();
        let fields = [
            ("condition", "service_started", Style::Text),
            ("restart", restart.as_str(), Style::Plain),
            ("required", "true", Style::Plain),
        ];
        let fields = fields.into_iter().map(|(key, text, style)| super::short::scalar(&node.span, key, text, style));
        set(dependencies, &name, Node { span: node.span.clone(), value: Value::Map(fields.collect()) });
    }
}

/// Names networks, volumes, configs and secrets as they are called on the engine.
fn set_names(root: &mut Node, project: &str) {
    for section in ["networks", "volumes", "configs", "secrets"] {
        for Entry { key, value } in children_mut(root, section) {
            if value.is_null() {
                *value = Node { span: key.span.clone(), value: Value::Map(Vec::new()) };
            }
            if value.get("name").is_some_and(|name| !name.is_null()) {
                continue;
            }
            let is_external = value.get("external").is_some_and(|external| kind(external) == Kind::Bool(true));
            let name = if is_external { key.text.clone() } else { format!("{project}_{}", key.text) };
            set(value, "name", Node::scalar(key.span.clone(), name, Style::Text));
        }
    }
}
