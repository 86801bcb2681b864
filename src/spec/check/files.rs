//! Validation of configs and secrets.

use super::{name, with_nodes};
use crate::spec::document::{Document, Documents};
use crate::spec::locate::{Diagnostic, closest};
use crate::spec::model::{FileField, FileSource, FileUse, Group, Service};
use crate::spec::node::Node;
use crate::spec::value::{FileName, quoted};

/// Checks the definitions of the group and their uses.
pub(super) fn check(documents: &Documents, diagnostics: &mut Vec<Diagnostic>) {
    let group = documents.groups.first();
    if let Some(group) = group {
        definitions(group, diagnostics);
    }
    for service in &documents.services {
        for field in FileField::ALL {
            for (used, node) in with_nodes(service, field.name(), field.uses(&service.spec.container)) {
                let found = group.and_then(|group| field.defined(&group.spec).get(&used.source));
                match found {
                    Some(source) => usage(service, used, node, source, field, diagnostics),
                    None if documents.incomplete => {}
                    None => diagnostics.push(undefined(service, used, node, field, group)),
                }
            }
        }
    }
}

fn definitions(group: &Document<Group>, diagnostics: &mut Vec<Diagnostic>) {
    for output in group
        .uses
        .iter()
        .filter(|output| FileField::ALL.iter().any(|field| output.field.starts_with(&format!("{}.", field.name()))))
    {
        let message = "outputs cannot be used in configs and secrets";
        let hint = "set an environment variable of the service to the output".to_owned();
        diagnostics.push(Diagnostic::at(group.location(&output.span), message).hint(hint));
    }
    for (secret, _) in group.spec.secrets.iter().filter(|(_, source)| matches!(source, FileSource::Content(_))) {
        let node = group.root.get("secrets").and_then(|secrets| secrets.get(secret.as_str()));
        let span = node.map_or(&group.root.span, |node| &node.span);
        diagnostics.push(
            Diagnostic::at(group.location(span), format!("the secret `{secret}` is written down"))
                .hint("write `file` or `environment`, or make it a config".to_owned()),
        );
    }
}

/// Checks a use against its definition: a file is mounted, anything else is copied into the container.
fn usage(
    service: &Document<Service>,
    used: &FileUse,
    node: &Node,
    source: &FileSource,
    field: FileField,
    diagnostics: &mut Vec<Diagnostic>,
) {
    let at = |message: String| Diagnostic::at(service.location(&node.span), message);
    let container = &service.spec.container;
    if matches!(source, FileSource::File(_)) {
        if used.has_permissions() {
            let message = format!("`{}` is a file, which is mounted with its own owner and permissions", used.source);
            diagnostics.push(at(message).hint("remove `uid`, `gid` and `mode`".to_owned()));
        }
        return;
    }
    if container.read_only {
        let message = format!("`{}` is copied into the container, whose root file system is read-only", used.source);
        diagnostics.push(
            at(message)
                .related(service.location_of("read_only"), "set here")
                .hint("define it with `file`, which is mounted, or remove `read_only`".to_owned()),
        );
    }
    let target = used.path(field);
    let tmpfs = container.tmpfs.iter().map(|tmpfs| tmpfs.target.as_str());
    let mounts = container.volumes.iter().map(|mount| mount.target.as_str()).chain(tmpfs);
    let is_below =
        |mount: &&str| target.strip_prefix(mount.trim_end_matches('/')).is_some_and(|rest| rest.starts_with('/'));
    if let Some(mount) = mounts.into_iter().find(is_below) {
        let message =
            format!("`{}` is copied to {}, below the mount at {}", used.source, quoted(&target), quoted(mount));
        diagnostics.push(at(message).hint("set another `target`".to_owned()));
    }
}

fn undefined(
    service: &Document<Service>,
    used: &FileUse,
    node: &Node,
    field: FileField,
    group: Option<&Document<Group>>,
) -> Diagnostic {
    let location = service.location(node.get("source").map_or(&node.span, |source| &source.span));
    let known = group.into_iter().flat_map(|group| field.defined(&group.spec).keys()).map(FileName::as_str);
    let field = field.name();
    let hint = match closest(used.source.as_str(), known) {
        Some(close) => format!("did you mean `{close}`?"),
        None => format!("define it in the `kind: Group` document: `{field}: {{{}: {{file: ./path}}}}`", used.source),
    };
    let noun = field.trim_end_matches('s');
    let message = format!("`{}` uses the {noun} `{}`, which is not defined", name(service), used.source);
    Diagnostic::at(location, message).label("not defined").hint(hint)
}
