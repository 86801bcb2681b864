//! Export of specs to a compose file that works on the same volumes, for people who use docker compose.
//!
//! `fields` has a rule for every field of a service. What a compose file cannot say is a comment at its place, and a note.
//! Variables stay as they are written; their values are not part of the file.

mod fields;
mod group;
mod mounts;
mod networks;
mod output;
mod paths;
mod readiness;
mod service;
mod written;

use std::collections::BTreeSet;

use crate::desired::order;
use crate::desired::resolve::{ResolveContext, resolve};
use crate::spec::paths::{clean, join};
use crate::spec::{Diagnostic, Specs};
use group::Sections;
pub use output::{Compose, Item, Line};
use paths::Directories;
use service::{Project, Used, Writer};
use written::Written;

/// What to export, and for which place.
#[derive(Clone, Copy)]
pub struct Request<'a> {
    /// Specs of a spec directory. Services that are not active are written as well, with their profiles.
    pub specs: &'a Specs,
    /// Names of services; they are written with their dependencies. Empty: all.
    pub services: &'a [String],
    /// The spec directory and what else names are resolved with.
    pub context: ResolveContext<'a>,
    /// Directory of the compose file, absolute; paths in it are relative to this directory.
    pub into: &'a str,
    /// `.env` files that the specs were read with, relative to the spec directory; later ones override earlier ones.
    pub env_files: &'a [String],
}

/// Converts specs to a compose file.
pub fn export(request: &Request<'_>) -> Compose {
    let mut all = request.specs.clone();
    all.services.append(&mut all.inactive);
    let desired = resolve(&all, request.context);
    let names: BTreeSet<String> = request.services.iter().cloned().collect();
    let selected = order::with_dependencies(&names, &desired.needs());
    let is_selected = |name: &str| names.is_empty() || selected.contains(name);
    let (specs, into) = (clean(request.context.directory), clean(request.into));
    let named = all.services.iter().map(|loaded| (loaded.spec.container.name.as_str(), loaded));
    let hostnames = desired.services.values().map(|service| (service.name.as_str(), service.hostname()));
    let project = Project {
        group: &desired.group,
        directories: Directories { specs: &specs, file: &into },
        functions: &all.functions,
        services: named.filter(|(name, _)| is_selected(name)).collect(),
        hostnames: hostnames.filter(|(_, hostname)| !hostname.is_empty()).collect(),
    };
    let mut compose = Compose::default();
    compose.lines.extend(header(&project, request.env_files).into_iter().map(Line::Comment));
    compose.lines.push(output::entry("name", desired.group.as_str()));
    let (mut services, mut used) = (Vec::new(), Used::new());
    for (name, loaded) in &project.services {
        let mut written = Writer::new(&project, loaded).service();
        services.push(Line::Entry((*name).to_owned(), Item::Map(written.lines)));
        compose.notes.append(&mut written.notes);
        used.append(&mut written.used);
    }
    compose.lines.push(Line::Entry("services".to_owned(), Item::Map(services)));
    let written = all.group.as_ref().map(|loaded| Written::new(loaded, "the group", &all.functions));
    let network = desired.network.as_str();
    let (lines, mut notes) = Sections { project: &project, used: &used, network, written, notes: Vec::new() }.write();
    compose.lines.extend(lines);
    compose.notes.append(&mut notes);
    let place = |note: &Diagnostic| note.location.as_ref().map(|at| (at.file.path().to_owned(), at.span.start));
    compose.notes.sort_by_cached_key(place);
    compose
}

/// What the reader of the file has to know: where its variables come from, unless docker compose finds them.
fn header(project: &Project<'_>, env_files: &[String]) -> Vec<String> {
    let mut lines = vec!["Written by `drillmaster export compose`; the specs are the original.".to_owned()];
    let env_files: Vec<String> = env_files.iter().map(|file| join(project.directories.specs, file)).collect();
    let found = |file: &String| *file == join(project.directories.file, ".env");
    let has_variables = project.services.values().any(|loaded| !loaded.templates.is_empty());
    if has_variables && !(env_files.is_empty() || matches!(env_files.as_slice(), [file] if found(file))) {
        let files = env_files.iter().map(|file| format!("--env-file {}", project.directories.relative(file)));
        let files = files.collect::<Vec<_>>().join(" ");
        lines.push(format!("Its variables are those of other files: docker compose {files} up"));
    }
    lines
}
