//! Outputs: who gives which, who refers to which, and whether that can ever come together.

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
    let givers = givers(documents, named, diagnostics);
    // A hook or job with an output file may write any key to it.
    let anybody = documents.incomplete
        || !documents.other_names.is_empty()
        || documents.services.iter().any(|service| service.spec.may_write_outputs())
        || documents.groups.iter().any(|group| group.spec.on.hooks().any(|hook| hook.may_write_outputs()));
    let known = |found: &OutputUse| found.known || anybody || givers.contains_key(found.key.as_str());
    let undefined = |place: Location, found: &OutputUse| {
        let message = format!("undefined output `{}`", found.key);
        let hint = match closest(&found.key, givers.keys().copied()) {
            Some(close) => format!("did you mean `{close}`?"),
            None => format!("a hook gives it with `capture: {}`, or a Job", found.key),
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
            let Some(Giver { service: Some(giver), .. }) = givers.get(found.key.as_str()) else { continue };
            let place = service.place(&found.span);
            let first = giver.spec.first_captures().any(|key| key.as_str() == found.key);
            // It is created when its own `pre_start` has given it; the image is there before.
            let image = found.field == "image" || found.field.starts_with("build.") || found.field == "build";
            if name(giver) == name(service) && first && !image {
                continue;
            } else if name(giver) == name(service) {
                let message = format!(
                    "`{}` needs the output `{}` to be created, and gives it only then",
                    giver.spec.container.name, found.key
                );
                diagnostics.push(Diagnostic::at(place, message));
            } else {
                let edge = Edge { to: name(giver), place, output: Some(&found.key) };
                edges.entry(name(service)).or_default().push(edge);
            }
        }
    }
}

/// Who gives an output for certain.
struct Giver<'d> {
    /// `None`: the group.
    service: Option<&'d Document<Service>>,
    place: Location,
}

fn givers<'d>(
    documents: &'d Documents,
    named: &[&'d Document<Service>],
    diagnostics: &mut Vec<Diagnostic>,
) -> BTreeMap<&'d str, Giver<'d>> {
    let mut givers: BTreeMap<&str, Giver<'_>> = BTreeMap::new();
    let of_groups = documents.groups.iter().flat_map(|group| {
        captures(&group.root).map(|node| (node, Giver { service: None, place: group.place(&node.span) }))
    });
    let of_services = named.iter().flat_map(|service| {
        captures(&service.root).map(|node| (node, Giver { service: Some(service), place: service.place(&node.span) }))
    });
    for (node, giver) in of_groups.chain(of_services) {
        let Some(key) = node.text() else { continue };
        let owner = giver.service.map(name);
        match givers.get(key) {
            // Two hooks of one service may keep one output up to date.
            Some(first) if first.service.map(name) != owner => diagnostics.push(
                Diagnostic::at(giver.place, format!("output `{key}` is defined twice"))
                    .label("again here")
                    .related(first.place.clone(), "first here"),
            ),
            Some(_) => {}
            None => {
                givers.insert(key, giver);
            }
        }
    }
    givers
}

/// The keys of `capture` in a document.
fn captures(root: &Node) -> impl Iterator<Item = &Node> {
    const MOMENTS: [&str; 4] = ["pre_start", "post_start", "pre_stop", "post_stop"];
    let moments = MOMENTS.into_iter().filter_map(|field| root.get(field));
    let occasions = root.get("on").into_iter().flat_map(Node::entries).map(|entry| &entry.value);
    let hooks = moments.chain(occasions).flat_map(Node::items);
    hooks.chain([root]).filter_map(|node| node.get("capture")).filter(|node| node.value != Value::Poison)
}
