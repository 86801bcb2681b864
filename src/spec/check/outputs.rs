//! Validation of outputs: producers, consumers and dependency edges between them.

use std::collections::BTreeMap;

use super::{Edge, Edges, name};
use crate::spec::document::{Document, Documents};
use crate::spec::interpolate::OutputUse;
use crate::spec::locate::{Diagnostic, Location, closest};
use crate::spec::model::{self, Service};
use crate::spec::node::{Node, Value};

/// Checks outputs. Using an output in a container's fields is a dependency on its producer.
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
    let known = |found: &OutputUse| found.known || any_key || producers.contains_key(found.key.as_str());
    let undefined = |place: Location, found: &OutputUse| {
        let message = format!("undefined output `{}`", found.key);
        let hint = match closest(&found.key, producers.keys().copied()) {
            Some(close) => format!("did you mean `{close}`?"),
            None => format!("set it with `capture: {}` in a hook or a Job", found.key),
        };
        Diagnostic::at(place, message).hint(hint)
    };
    for group in &documents.groups {
        let missing = group.uses.iter().filter(|found| !known(found));
        diagnostics.extend(missing.map(|found| undefined(group.place(&found.span), found)));
    }
    for service in named {
        let missing = service.uses.iter().filter(|found| !known(found));
        diagnostics.extend(missing.map(|found| undefined(service.place(&found.span), found)));
        for found in service.uses.iter().filter(|found| model::is_made_from(&found.field)) {
            let Some(Producer { service: Some(producer), .. }) = producers.get(found.key.as_str()) else { continue };
            let place = service.place(&found.span);
            let first = producer.spec.first_captures().any(|key| key.as_str() == found.key);
            // Its own `pre_start` hook runs before the container is created, but after the image is available.
            let image = found.field == "image" || found.field.starts_with("build.") || found.field == "build";
            if name(producer) == name(service) && first && !image {
                continue;
            } else if name(producer) == name(service) {
                let message = format!(
                    "`{}` needs the output `{}` to be created, and gives it only then",
                    producer.spec.container.name, found.key
                );
                diagnostics.push(Diagnostic::at(place, message));
            } else {
                let edge = Edge { to: name(producer), place, output: Some(&found.key) };
                edges.entry(name(service)).or_default().push(edge);
            }
        }
    }
}

/// Producer of a captured output.
struct Producer<'d> {
    /// `None`: the group.
    service: Option<&'d Document<Service>>,
    place: Location,
}

fn producers<'d>(
    documents: &'d Documents,
    named: &[&'d Document<Service>],
    diagnostics: &mut Vec<Diagnostic>,
) -> BTreeMap<&'d str, Producer<'d>> {
    let mut producers: BTreeMap<&str, Producer<'_>> = BTreeMap::new();
    let of_groups = documents.groups.iter().flat_map(|group| {
        captures(&group.root).map(|node| (node, Producer { service: None, place: group.place(&node.span) }))
    });
    let of_services = named.iter().flat_map(|service| {
        captures(&service.root)
            .map(|node| (node, Producer { service: Some(service), place: service.place(&node.span) }))
    });
    for (node, producer) in of_groups.chain(of_services) {
        let Some(key) = node.text() else { continue };
        let owner = producer.service.map(name);
        match producers.get(key) {
            // Several hooks of one service may update the same output.
            Some(first) if first.service.map(name) != owner => diagnostics.push(
                Diagnostic::at(producer.place, format!("output `{key}` is defined twice"))
                    .label("again here")
                    .related(first.place.clone(), "first here"),
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
    hooks.chain([root]).filter_map(|node| node.get("capture")).filter(|node| node.value != Value::Poison)
}
