//! Short forms become long forms, and defaults that compose writes out.

use super::super::node::{Entry, Key, Node, Style, Value};
use super::super::value::quoted;
use super::merge::{dependency, named, nothing};
use super::paths::{children_mut, items_mut};
use super::short::{entry, port, retext, scalar, style_of, volume};
use super::values::{Kind, kind, printed, text};
use super::{Problem, loader::set};

/// Expands the short forms of merged documents. Shapes that are none are left for the schema to report. Returns
/// errors and notes.
pub(super) fn expand(root: &mut Node) -> (Vec<Problem>, Vec<Problem>) {
    let (mut problems, mut notes) = (Vec::new(), Vec::new());
    for service in children_mut(root, "services") {
        expand_service(&mut service.value, &mut problems);
    }
    for section in ["volumes", "networks", "secrets", "configs"] {
        for resource in children_mut(root, section) {
            expand_external(&mut resource.value, &mut problems, &mut notes);
        }
    }
    (problems, notes)
}

fn expand_service(service: &mut Node, problems: &mut Vec<Problem>) {
    if let Some(build) = service.get_mut("build") {
        wrap(build, "context");
        expand_build(build, problems);
    }
    if let Some(node) = service.get_mut("depends_on") {
        expand_dependencies(node, problems);
    }
    for key in ["env_file", "label_file", "dns"] {
        if let Some(node) = service.get_mut(key) {
            listed(node);
        }
    }
    for file in items_mut(service, "env_file") {
        wrap(file, "path");
        if matches!(file.value, Value::Map(_)) && file.get("required").is_none() {
            let required = Node::scalar(file.span.clone(), "true", Style::Plain);
            set(file, "required", required);
        }
    }
    if let Some(node) = service.get_mut("dns")
        && let Value::Seq(items) = &mut node.value
    {
        items.retain(|item| !item.is_null() && text(item) != Some(""));
    }
    if let Some(node) = service.get_mut("extends") {
        wrap(node, "service");
    }
    if let Some(gpus) = service.get_mut("gpus")
        && text(gpus).is_some()
    {
        let span = gpus.span.clone();
        let request = entry(&span, "count", Node::scalar(span.clone(), "all", Style::Text).value);
        gpus.value = Value::Seq(vec![Node { span, value: Value::Map(vec![request]) }]);
    }
    for key in ["networks", "models"] {
        if let Some(node) = service.get_mut(key) {
            replace(node, |node| named(node, nothing));
        }
    }
    for key in ["secrets", "configs"] {
        items_mut(service, key).iter_mut().for_each(|item| wrap(item, "source"));
    }
    for item in items_mut(service, "volumes") {
        expand_with(item, volume::expand, problems);
    }
    for item in items_mut(service, "devices") {
        expand_with(item, expand_device, problems);
    }
    expand_ports(service, problems);
    check_ulimits(service, problems);
    if let Some(develop) = service.get_mut("develop") {
        for watch in items_mut(develop, "watch") {
            for key in ["ignore", "include"] {
                if let Some(node) = watch.get_mut(key) {
                    listed(node);
                }
            }
        }
    }
}

fn expand_build(build: &mut Node, problems: &mut Vec<Problem>) {
    items_mut(build, "secrets").iter_mut().for_each(|item| wrap(item, "source"));
    for key in ["provenance", "sbom"] {
        if let Some(node) = build.get_mut(key)
            && let Some(text) = printed(node)
        {
            *node = retext(node, text);
        }
    }
    for key in ["additional_contexts", "ssh"] {
        let Some(node) = build.get_mut(key) else { continue };
        let Value::Seq(items) = &node.value else { continue };
        let mut entries: Vec<Entry> = Vec::new();
        for item in items {
            let pair = text(item).unwrap_or_default();
            let (name, value) = match pair.split_once('=') {
                Some((name, value)) => (name, retext(item, value)),
                None if key == "ssh" && pair == "default" => (pair, Node::scalar(item.span.clone(), "", Style::Plain)),
                None => {
                    let message = format!("expected `name=value`, found {}", quoted(pair));
                    problems.push(Problem::new(&item.span, message));
                    continue;
                }
            };
            let key = Key { span: item.span.clone(), text: name.to_owned() };
            entries.retain(|known| known.key.text != key.text);
            entries.push(Entry { key, value });
        }
        node.value = Value::Map(entries);
    }
    check_ulimits(build, problems);
}

/// A map with one entry instead of a text.
fn wrap(node: &mut Node, key: &str) {
    if text(node).is_some() {
        let span = node.span.clone();
        replace(node, |inner| {
            let entry = Entry { key: Key { span: span.clone(), text: key.to_owned() }, value: inner };
            Node { span, value: Value::Map(vec![entry]) }
        });
    }
}

/// A list with one item instead of a text.
fn listed(node: &mut Node) {
    if text(node).is_some() {
        let span = node.span.clone();
        replace(node, |inner| Node { span, value: Value::Seq(vec![inner]) });
    }
}

fn replace(node: &mut Node, change: impl FnOnce(Node) -> Node) {
    let empty = Node { span: node.span.clone(), value: Value::Pruned };
    *node = change(std::mem::replace(node, empty));
}

fn expand_with(node: &mut Node, expand: fn(&Node, &str) -> Result<Node, String>, problems: &mut Vec<Problem>) {
    let Some(short) = text(node) else { return };
    match expand(node, short) {
        Ok(long) => *node = long,
        Err(message) => problems.push(invalid(node, short, &message)),
    }
}

fn invalid(node: &Node, short: &str, message: &str) -> Problem {
    Problem::new(&node.span, format!("invalid value {}: {message}", quoted(short)))
}

fn expand_device(node: &Node, short: &str) -> Result<Node, String> {
    let (source, target, permissions) = match short.split(':').collect::<Vec<_>>().as_slice() {
        [source] => (*source, "", "rwm"),
        [source, target] => (*source, *target, "rwm"),
        [source, target, permissions] => (*source, *target, *permissions),
        _ => return Err("too many colons".to_owned()),
    };
    let target = if target.is_empty() { source } else { target };
    let (span, style) = (&node.span, style_of(node));
    let entries = [("source", source), ("target", target), ("permissions", permissions)];
    let entries = entries.into_iter().map(|(key, text)| scalar(span, key, text, style)).collect();
    Ok(Node { span: span.clone(), value: Value::Map(entries) })
}

fn expand_dependencies(node: &mut Node, problems: &mut Vec<Problem>) {
    replace(node, |node| named(node, dependency));
    let Value::Map(entries) = &mut node.value else { return };
    for Entry { key, value } in entries {
        if !matches!(value.value, Value::Map(_)) {
            let message = format!("the dependency on {} must be a map", quoted(&key.text));
            problems.push(Problem::new(&value.span, message).hint("write `condition: service_started`"));
            continue;
        }
        for (field, default, style) in
            [("condition", "service_started", Style::Text), ("required", "true", Style::Plain)]
        {
            if value.get(field).is_none() {
                let default = Node::scalar(key.span.clone(), default, style);
                set(value, field, default);
            }
        }
    }
}

fn expand_ports(service: &mut Node, problems: &mut Vec<Problem>) {
    let Some(Node { value: Value::Seq(items), .. }) = service.get_mut("ports") else { return };
    let mut expanded = Vec::with_capacity(items.len());
    for item in items.drain(..) {
        let short = match kind(&item) {
            Kind::Text(text) => text.to_owned(),
            Kind::Int(number) => number.to_string(),
            Kind::Float(_) => {
                problems.push(Problem::new(&item.span, "expected a port, found a number with a fraction"));
                continue;
            }
            _ => {
                expanded.push(item);
                continue;
            }
        };
        match port::expand(&item, &short) {
            Ok(ports) => expanded.extend(ports),
            Err(message) => problems.push(invalid(&item, &short, &message)),
        }
    }
    *items = expanded;
}

fn check_ulimits(parent: &mut Node, problems: &mut Vec<Problem>) {
    for limit in children_mut(parent, "ulimits") {
        if !matches!(kind(&limit.value), Kind::Int(_) | Kind::Map) {
            problems.push(Problem::new(&limit.value.span, "expected a whole number, or `soft` and `hard`"));
        }
    }
}

/// `external: {name: x}` becomes `external: true` with `name: x`.
fn expand_external(resource: &mut Node, problems: &mut Vec<Problem>, notes: &mut Vec<Problem>) {
    let Some(external) = resource.get("external").filter(|external| matches!(external.value, Value::Map(_))) else {
        return;
    };
    let (span, name) = (external.span.clone(), external.get("name").cloned());
    set(resource, "external", Node::scalar(span.clone(), "true", Style::Plain));
    let Some(name) = name else { return };
    notes.push(Problem::new(&span, "`external.name` is deprecated").hint("write `name:` beside `external: true`"));
    match resource.get("name").map(|known| (printed(known) == printed(&name), known.span.clone())) {
        None => set(resource, "name", name),
        Some((true, _)) => {}
        Some((false, known)) => {
            let problem = Problem::new(&name.span, "`external.name` and `name` differ").related(&known, "the other");
            problems.push(problem.hint("keep `name` only"));
        }
    }
}

/// Sets what compose writes out if it is left out.
pub(super) fn set_defaults(root: &mut Node) {
    for service in children_mut(root, "services") {
        let service = &mut service.value;
        if let Some(build) = service.get_mut("build") {
            default(build, "context", ".", Style::Text);
        }
        for secret in items_mut(service, "secrets") {
            if let Some(source) = secret.get("source").and_then(printed) {
                default(secret, "target", &format!("/run/secrets/{source}"), Style::Text);
            }
        }
        for port in items_mut(service, "ports") {
            default(port, "protocol", "tcp", Style::Text);
            default(port, "mode", "ingress", Style::Text);
        }
        for volume in items_mut(service, "volumes") {
            if volume.get("type").and_then(text) == Some("bind") {
                if volume.get("bind").is_none_or(Node::is_null) {
                    let span = volume.span.clone();
                    set(volume, "bind", Node { span, value: Value::Map(Vec::new()) });
                }
                if let Some(bind) = volume.get_mut("bind") {
                    default(bind, "create_host_path", "true", Style::Plain);
                }
            }
        }
        items_mut(service, "gpus").iter_mut().for_each(default_count);
        let resources = service.get_mut("deploy").and_then(|deploy| deploy.get_mut("resources"));
        if let Some(reservations) = resources.and_then(|resources| resources.get_mut("reservations")) {
            items_mut(reservations, "devices").iter_mut().for_each(default_count);
        }
    }
}

fn default_count(request: &mut Node) {
    if request.get("device_ids").is_none() {
        default(request, "count", "all", Style::Text);
    }
}

fn default(map: &mut Node, key: &str, text: &str, style: Style) {
    if matches!(map.value, Value::Map(_)) && map.get(key).is_none() {
        let value = Node::scalar(map.span.clone(), text, style);
        set(map, key, value);
    }
}
