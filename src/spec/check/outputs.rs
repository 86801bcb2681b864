//! Validation of outputs: producers, consumers and dependency edges between them.

use std::collections::BTreeMap;

use super::{Edge, Edges, name};
use crate::spec::document::{Document, Documents};
use crate::spec::interpolate::{MISSING, OutputUse};
use crate::spec::locate::{Diagnostic, Location, closest};
use crate::spec::model::{self, Service};
use crate::spec::node::{Node, Value};

/// Checks outputs, and adds a dependency edge for each output that is needed to create a container.
pub(super) fn check<'d>(
    documents: &'d Documents,
    named: &[&'d Document<Service>],
    edges: &mut Edges<'d>,
    diagnostics: &mut Vec<Diagnostic>,
) {
    let producers = producers(documents, named, diagnostics);
    // A hook or job with an output file can write any key.
    let any_key = documents.incomplete
        || !documents.other_names.is_empty()
        || documents.services.iter().any(|service| service.spec.may_write_outputs())
        || documents.groups.iter().any(|group| group.spec.on.hooks().any(|hook| hook.may_write_outputs()));
    let known = |output: &OutputUse| {
        output.known || any_key || output.key.starts_with(MISSING) || producers.contains_key(output.key.as_str())
    };
    let undefined = |location: Location, output: &OutputUse| {
        let message = format!("undefined output `{}`", output.key);
        let hint = match closest(&output.key, producers.keys().copied()) {
            Some(close) => format!("did you mean `{close}`?"),
            None => format!("set it with `capture: {}` in a hook or a Job", output.key),
        };
        Diagnostic::at(location, message).hint(hint)
    };
    for group in &documents.groups {
        let missing = group.uses.iter().filter(|output| !known(output));
        diagnostics.extend(missing.map(|output| undefined(group.location(&output.span), output)));
    }
    for service in named {
        let missing = service.uses.iter().filter(|output| !known(output));
        diagnostics.extend(missing.map(|output| undefined(service.location(&output.span), output)));
        for output in service.uses.iter().filter(|output| model::is_needed_at_creation(&output.field)) {
            let Some(Producer { service: Some(producer), .. }) = producers.get(output.key.as_str()) else { continue };
            let location = service.location(&output.span);
            let from_pre_start = producer.spec.pre_start_captures().any(|key| key.as_str() == output.key);
            // A service can use outputs of its own `pre_start` hooks, but not for its image, which they run after.
            let image = output.field == "image" || output.field.starts_with("build.") || output.field == "build";
            if name(producer) == name(service) && from_pre_start && !image {
                continue;
            } else if name(producer) == name(service) {
                let message = format!(
                    "`{}` needs the output `{}` to be created, but sets it only afterwards",
                    producer.spec.container.name, output.key
                );
                diagnostics.push(Diagnostic::at(location, message));
            } else {
                let edge = Edge { to: name(producer), location, output: Some(&output.key) };
                edges.entry(name(service)).or_default().push(edge);
            }
        }
    }
}

/// Producer of a captured output.
struct Producer<'d> {
    /// `None` for the group.
    service: Option<&'d Document<Service>>,
    location: Location,
}

fn producers<'d>(
    documents: &'d Documents,
    named: &[&'d Document<Service>],
    diagnostics: &mut Vec<Diagnostic>,
) -> BTreeMap<&'d str, Producer<'d>> {
    let mut producers: BTreeMap<&str, Producer<'_>> = BTreeMap::new();
    let of_groups = documents.groups.iter().flat_map(|group| {
        captures(&group.root).map(|node| (node, Producer { service: None, location: group.location(&node.span) }))
    });
    let of_services = named.iter().flat_map(|service| {
        captures(&service.root)
            .map(|node| (node, Producer { service: Some(service), location: service.location(&node.span) }))
    });
    for (node, producer) in of_groups.chain(of_services) {
        let Some(key) = node.text() else { continue };
        let owner = producer.service.map(name);
        match producers.get(key) {
            // Several hooks of one service may update the same output.
            Some(first) if first.service.map(name) != owner => diagnostics.push(
                Diagnostic::at(producer.location, format!("output `{key}` is defined twice"))
                    .label("again here")
                    .related(first.location.clone(), "first here"),
            ),
            Some(_) => {}
            None => {
                producers.insert(key, producer);
            }
        }
    }
    producers
}

/// Returns the `capture` keys of a document.
fn captures(root: &Node) -> impl Iterator<Item = &Node> {
    const HOOK_POINTS: [&str; 4] = ["pre_start", "post_start", "pre_stop", "post_stop"];
    let hook_points = HOOK_POINTS.into_iter().filter_map(|field| root.get(field));
    let events = root.get("on").into_iter().flat_map(Node::entries).map(|entry| &entry.value);
    let hooks = hook_points.chain(events).flat_map(Node::items);
    hooks.chain([root]).filter_map(|node| node.get("capture")).filter(|node| node.value != Value::Placeholder)
}
