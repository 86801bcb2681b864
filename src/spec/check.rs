//! Cross-field and cross-document validation.
//!
//! Checks decoded documents only; referenced files are checked when they are read. Invalid values have already been
//! reported and removed.

mod files;
mod group;
mod limits;
mod network;
mod outputs;

use std::collections::{BTreeMap, HashMap};
use std::ops::Range;

use super::build::OWN_LABELS;
use super::document::{Document, Documents};
use super::locate::{Diagnostic, Location, closest};
use super::model::{Condition, Dependency, FileField, Kind, Mount, MountSource, OnChange, Order, Port, Pull, Service};
use super::node::{Entry, Node, Value};
use super::value::quoted;
use super::{Profiles, RESERVED_NETWORKS};

/// Maximum number of replicas of a service.
const MAX_REPLICAS: u32 = 1000;

/// Maximum number of cycles reported, and of unknown dependencies with hints. Bounds the time for invalid specs.
const MAX_ERRORS: usize = 100;

/// Runs all checks. `lenient`: the services are not to run, and profiles that exclude each other may be active together.
pub fn check(documents: &Documents, profiles: &Profiles, lenient: bool, diagnostics: &mut Vec<Diagnostic>) {
    let named: Vec<_> = documents.services.iter().filter(|service| service.named).collect();
    let is_active = |service: &&&Document<Service>| profiles.activate(&service.spec);
    let active: Vec<_> = named.iter().filter(is_active).copied().collect();
    unique_names(&named, diagnostics);
    one_group(documents, diagnostics);
    reserved_networks(documents, diagnostics);
    group::networks(documents, diagnostics);
    group::volumes(documents, diagnostics);
    network::networks(documents, diagnostics);
    let services = by_name(&named);
    let mut edges = dependencies(documents, &named, &services, profiles, diagnostics);
    network::shared(documents, &services, profiles, &mut edges, diagnostics);
    outputs::check(documents, &named, &mut edges, diagnostics);
    cycles(&edges, diagnostics);
    files::check(documents, diagnostics);
    if !lenient {
        ports(&active, diagnostics);
    }
    replica_names(&named, &services, diagnostics);
    platforms(&named, diagnostics);
    for service in &documents.services {
        concurrent_containers(service, diagnostics);
        mount_targets(service, diagnostics);
        mounted_files(service, diagnostics);
        limits::check(service, diagnostics);
        image(service, diagnostics);
    }
}

type Services<'d> = BTreeMap<&'d str, &'d Document<Service>>;

fn name(service: &Document<Service>) -> &str {
    service.spec.container.name.as_str()
}

/// Maps names to services; the first one wins.
fn by_name<'d>(services: &[&'d Document<Service>]) -> Services<'d> {
    services.iter().rev().map(|service| (name(service), *service)).collect()
}

/// Pairs the items of a list field with their nodes. Skips items with missing fields, which have been reported.
fn with_nodes<'d, T>(service: &'d Document<Service>, field: &str, values: &'d [T]) -> Vec<(&'d T, &'d Node)> {
    let nodes = service.root.get(field).into_iter().flat_map(Node::items);
    values
        .iter()
        .zip(nodes)
        .filter(|(_, node)| node.entries().all(|entry| entry.value.value != Value::Placeholder))
        .collect()
}

fn unique_names(services: &[&Document<Service>], diagnostics: &mut Vec<Diagnostic>) {
    let mut first: HashMap<&str, &Document<Service>> = HashMap::new();
    for service in services {
        if let Some(earlier) = first.get(name(service)) {
            diagnostics.push(
                Diagnostic::at(service.location_of("name"), duplicate_message(service, earlier))
                    .label("again here")
                    .related(earlier.location_of("name"), "first here"),
            );
        } else {
            first.insert(name(service), service);
        }
    }
}

fn duplicate_message(one: &Document<Service>, other: &Document<Service>) -> String {
    match (one.spec.kind, other.spec.kind) {
        (Kind::Service, Kind::Service) => format!("there are two services `{}`", name(one)),
        (Kind::Job(_), Kind::Job(_)) => format!("there are two jobs `{}`", name(one)),
        _ => format!("there are a service and a job `{}`", name(one)),
    }
}

fn one_group(documents: &Documents, diagnostics: &mut Vec<Diagnostic>) {
    let Some((first, more)) = documents.groups.split_first() else {
        return;
    };
    for group in more {
        diagnostics.push(
            Diagnostic::at(group.location_of("name"), "there are two `kind: Group` documents")
                .label("again here")
                .related(first.location_of("name"), "first here"),
        );
    }
}

fn reserved_networks(documents: &Documents, diagnostics: &mut Vec<Diagnostic>) {
    for group in &documents.groups {
        if let Some(network) = group.spec.network.as_ref().filter(|name| RESERVED_NETWORKS.contains(&name.as_str())) {
            diagnostics.push(
                Diagnostic::at(
                    group.location_of("network"),
                    format!("the network name `{network}` is reserved by the engine"),
                )
                .label("cannot be the group's network"),
            );
        }
    }
}

/// A dependency on an existing service, declared or through an output.
struct Edge<'d> {
    to: &'d str,
    location: Location,
    output: Option<&'d str>,
}

type Edges<'d> = BTreeMap<&'d str, Vec<Edge<'d>>>;

/// Checks each dependency on its own and returns the valid ones.
fn dependencies<'d>(
    documents: &Documents,
    named: &[&'d Document<Service>],
    services: &Services<'d>,
    profiles: &Profiles,
    diagnostics: &mut Vec<Diagnostic>,
) -> Edges<'d> {
    let mut edges = Edges::new();
    let mut unknown = 0;
    for service in named {
        let mut seen: HashMap<&str, &Range<usize>> = HashMap::new();
        for (dependency, node) in with_nodes(service, "dependencies", &service.spec.container.dependencies) {
            let to = dependency.name.as_str();
            let location = service.location(dependency_span(node));
            if let Some(earlier) = seen.insert(to, &node.span) {
                diagnostics.push(
                    Diagnostic::at(location, format!("`{}` depends on `{to}` twice", name(service)))
                        .label("again here")
                        .related(service.location(earlier), "first here"),
                );
            } else if to == name(service) {
                diagnostics.push(Diagnostic::at(location, format!("`{to}` depends on itself")));
            } else if let Some(needed) = services.get(to) {
                if dependency.required && profiles.activate(&service.spec) && !profiles.activate(&needed.spec) {
                    diagnostics.push(inactive_dependency(service, needed, location.clone()));
                }
                edges.entry(name(service)).or_default().push(Edge { to, location, output: None });
                diagnostics.extend(never_succeeds(service, dependency, node, needed));
            } else if dependency.required && !documents.incomplete && !documents.other_names.contains(to) {
                unknown += 1;
                let hint = if unknown <= MAX_ERRORS { dependency_hint(service, to, services) } else { None };
                let message = format!("`{}` depends on `{to}`, but there is no such service", name(service));
                diagnostics.push(Diagnostic::at(location, message).label("no such service").hint(hint));
            }
        }
    }
    edges
}

/// The error for a dependency whose profiles are not active.
fn inactive_dependency(service: &Document<Service>, needed: &Document<Service>, location: Location) -> Diagnostic {
    let profiles: Vec<String> = needed.spec.container.profiles.iter().map(|profile| quoted(profile.as_str())).collect();
    let (noun, verb) = if profiles.len() == 1 { ("profile", "is") } else { ("profiles", "are") };
    let (from, to, profiles) = (name(service), name(needed), profiles.join(", "));
    let first = needed.spec.container.profiles.first().map(ToString::to_string).unwrap_or_default();
    Diagnostic::at(location, format!("`{from}` depends on `{to}`, whose {noun} {profiles} {verb} not active"))
        .label("not active")
        .related(needed.location_of("profiles"), "set here")
        .hint(format!(
            "add `--profile {first}`, give `{from}` the profile too, or write `{{name: {to}, required: false}}`"
        ))
}

/// Rejects `condition: succeeded` for services: only jobs succeed.
fn never_succeeds(
    service: &Document<Service>,
    dependency: &Dependency,
    node: &Node,
    needed: &Document<Service>,
) -> Option<Diagnostic> {
    if dependency.condition != Some(Condition::Succeeded) || needed.spec.kind != Kind::Service {
        return None;
    }
    let location = service.location(node.get("condition").map_or(&node.span, |condition| &condition.span));
    let message = format!("`{}` waits for `{}` to succeed, but only jobs succeed", name(service), name(needed));
    let diagnostic = Diagnostic::at(location, message).related(needed.location_of("name"), "not a job");
    Some(diagnostic.hint(format!("write `condition: ready`, or make `{}` a `kind: Job`", name(needed))))
}

/// Returns the node of the name in the long form, otherwise the whole node.
fn dependency_span(node: &Node) -> &Range<usize> {
    node.get("name").map_or(&node.span, |name| &name.span)
}

fn dependency_hint(service: &Document<Service>, to: &str, services: &Services<'_>) -> Option<String> {
    const MAX_LISTED: usize = 8;
    let others = || services.keys().copied().filter(|other| *other != name(service));
    if let Some(close) = closest(to, others()) {
        return Some(format!("did you mean `{close}`?"));
    }
    let known: Vec<String> = others().take(MAX_LISTED + 1).map(|other| format!("`{other}`")).collect();
    match known.len() {
        0 => Some("there are no other services".into()),
        1 => Some(format!("the only other service is {}", known.join(""))),
        2..=MAX_LISTED => Some(format!("the other services are {}", known.join(", "))),
        _ => None,
    }
}

/// Finds cycles by depth-first search: an edge back to the current path closes a cycle.
fn cycles(edges: &Edges<'_>, diagnostics: &mut Vec<Diagnostic>) {
    #[derive(Clone, Copy, PartialEq)]
    enum Visit {
        OnPath,
        Done,
    }
    let mut visits: HashMap<&str, Visit> = HashMap::new();
    let none: &[Edge<'_>] = &[];
    let of = |service: &str| edges.get(service).map_or(none, Vec::as_slice);
    let mut reported = 0;
    for start in edges.keys().copied() {
        if visits.contains_key(start) {
            continue;
        }
        // Use an explicit stack: a chain can be thousands of services long.
        let mut path: Vec<(&str, usize)> = vec![(start, 0)];
        visits.insert(start, Visit::OnPath);
        while let Some((service, next)) = path.last_mut() {
            let Some(edge) = of(service).get(*next) else {
                visits.insert(service, Visit::Done);
                path.pop();
                continue;
            };
            *next += 1;
            match visits.get(edge.to) {
                Some(Visit::Done) => {}
                Some(Visit::OnPath) => {
                    let from = path.iter().position(|(on_path, _)| *on_path == edge.to).unwrap_or(0);
                    let members: Vec<(&str, &Edge<'_>)> = path[from..]
                        .iter()
                        .filter_map(|(service, next)| Some((*service, of(service).get(next.checked_sub(1)?)?)))
                        .collect();
                    diagnostics.extend(cycle(&members));
                    reported += 1;
                    if reported >= MAX_ERRORS {
                        return;
                    }
                }
                None => {
                    visits.insert(edge.to, Visit::OnPath);
                    path.push((edge.to, 0));
                }
            }
        }
    }
}

fn cycle(members: &[(&str, &Edge<'_>)]) -> Option<Diagnostic> {
    const MAX_LOCATIONS: usize = 10;
    let ((first, edge), rest) = members.split_first()?;
    let names: Vec<&str> = members.iter().map(|(name, _)| *name).chain([*first]).collect();
    let message = match names.len() {
        3.. if names.len() > 50 => {
            format!("dependency cycle of {} services: {} -> … -> {first}", names.len() - 1, names[..10].join(" -> "))
        }
        _ => format!("dependency cycle: {}", names.join(" -> ")),
    };
    let label = |name: &str, edge: &Edge<'_>| match edge.output {
        Some(key) => format!("`{name}` needs the output `{key}` of `{}`", edge.to),
        None => format!("`{name}` depends on `{}`", edge.to),
    };
    let mut diagnostic = Diagnostic::at(edge.location.clone(), message).label(label(first, edge));
    for (name, edge) in rest.iter().take(MAX_LOCATIONS) {
        diagnostic = diagnostic.related(edge.location.clone(), label(name, edge));
    }
    Some(diagnostic)
}

/// A published host port with its service and location.
struct Published<'d> {
    service: &'d str,
    port: Port,
    location: Location,
}

/// Rejects ports that bind the same host address and port.
fn ports(services: &[&Document<Service>], diagnostics: &mut Vec<Diagnostic>) {
    let mut taken: HashMap<u16, Vec<Published<'_>>> = HashMap::new();
    for service in services {
        for (port, node) in with_nodes(service, "ports", &service.spec.container.ports) {
            let mut conflict = None;
            for port in port.each() {
                let Some(host) = port.host.fixed() else { break };
                let this = Published { service: name(service), port, location: service.location(&node.span) };
                let known = taken.entry(host).or_default();
                if let Some(other) = known.iter().find(|other| this.port.clashes_with(&other.port)) {
                    conflict.get_or_insert_with(|| port_conflict(&this, other));
                }
                known.push(this);
            }
            diagnostics.extend(conflict);
        }
    }
}

fn port_conflict(this: &Published<'_>, other: &Published<'_>) -> Diagnostic {
    let port = format!("host port {}/{}", this.port.host.fixed().unwrap_or_default(), this.port.protocol);
    let message = match this.service == other.service {
        true => format!("`{}` publishes {port} twice", this.service),
        false => format!("`{}` and `{}` both publish {port}", other.service, this.service),
    };
    Diagnostic::at(this.location.clone(), message)
        .label(format!("published by `{}`", this.service))
        .related(other.location.clone(), format!("published by `{}`", other.service))
}

/// Returns the replica numbers in a service's container names; empty without `replicas`.
fn replica_numbers(service: &Document<Service>) -> std::ops::RangeInclusive<u32> {
    1..=service.spec.replicas.unwrap_or_default()
}

/// Rejects services named like a replica of another service, e.g. `api-1`.
fn replica_names(named: &[&Document<Service>], services: &Services<'_>, diagnostics: &mut Vec<Diagnostic>) {
    for service in named {
        let Some((of, number)) = name(service).rsplit_once('-') else { continue };
        let Some(other) = services.get(of) else { continue };
        if number.parse().is_ok_and(|n| replica_numbers(other).contains(&n) && n.to_string() == number) {
            let message = format!("`{}` is also the name of a replica of `{of}`", name(service));
            diagnostics.push(
                Diagnostic::at(service.location_of("name"), message)
                    .related(other.location_of("replicas"), format!("there is a `{}`", name(service)))
                    .hint(Some("rename one of the services".to_owned())),
            );
        }
    }
}

/// Rejects one image for several platforms: an engine keeps one image of a name.
fn platforms(named: &[&Document<Service>], diagnostics: &mut Vec<Diagnostic>) {
    let mut first: HashMap<String, &Document<Service>> = HashMap::new();
    for service in named {
        let fields = &service.spec.container;
        let Some(image) = fields.image.as_ref().filter(|_| fields.build.is_none()) else { continue };
        let Some(platform) = &fields.platform else { continue };
        let other = first.entry(image.familiar()).or_insert(service);
        if other.spec.container.platform.as_ref() != Some(platform) {
            let message = format!("`{}` and `{}` use one image for different platforms", name(other), name(service));
            diagnostics.push(
                Diagnostic::at(service.location_of("platform"), message)
                    .related(other.location_of("platform"), "another platform")
                    .hint("an engine keeps one image of a name: use names of their own, or digests".to_owned()),
            );
        }
    }
}

/// Rejects ports, mounts and host names that concurrently running containers of a service cannot share.
fn concurrent_containers(service: &Document<Service>, diagnostics: &mut Vec<Diagnostic>) {
    let spec = &service.spec;
    let replicas = spec.replicas.unwrap_or(1);
    if replicas > MAX_REPLICAS {
        let message = format!("{replicas} replicas are more than the maximum of {MAX_REPLICAS}");
        diagnostics.push(Diagnostic::at(service.location_of("replicas"), message));
        return;
    }
    let start_first = spec.update.order == Order::StartFirst;
    let why = match (replicas, start_first) {
        (2.., _) => format!("{replicas} replicas run"),
        (_, true) => "with `order: start-first` the old and the new container run".to_owned(),
        _ => return,
    };
    let cause = || service.location_of(if replicas > 1 { "replicas" } else { "update" });
    for (port, node) in with_nodes(service, "ports", &spec.container.ports) {
        if let Some(host) = port.first.host.fixed() {
            let message = format!("{why} at the same time, and only one can have the host port {host}");
            let container = match port.count {
                1 => port.first.container.to_string(),
                count => format!("{0}-{1}", port.first.container, port.first.container + (count - 1)),
            };
            let hint = format!("write `\"{container}\"` for a free host port each; `status` shows it");
            diagnostics.push(
                Diagnostic::at(service.location(&node.span), message).related(cause(), "set here").hint(Some(hint)),
            );
        }
    }
    if let Some(address) = &spec.container.mac_address {
        let message = format!("{why} at the same time, and only one can have the MAC address {address}");
        diagnostics.push(Diagnostic::at(service.location_of("mac_address"), message).related(cause(), "set here"));
    }
    if !start_first {
        return;
    }
    let writable = |(mount, _): &(&Mount, &Node)| !mount.read_only && mount.source.is_shared();
    for (mount, node) in with_nodes(service, "volumes", &spec.container.volumes).into_iter().filter(writable) {
        let both =
            "with `order: start-first` the old and the new container run at the same time, and both would write to";
        diagnostics.push(
            Diagnostic::at(service.location(&node.span), format!("{both} {}", quoted(&mount.target)))
                .related(service.location_of("update"), "set here")
                .hint(Some(match mount.source {
                    MountSource::Anonymous => "write `tmpfs`, or `order: auto`".to_owned(),
                    _ => "mount it read-only (`:ro`), or write `order: auto`".to_owned(),
                })),
        );
    }
    let names = || std::iter::once(name(service)).chain(spec.container.aliases.iter().map(String::as_str));
    if let Some(hostname) = spec.container.hostname.as_deref().filter(|hostname| names().any(|name| name == *hostname))
    {
        let message = format!(
            "with `order: start-first`, the host name {} would resolve to the new container before it is ready",
            quoted(hostname)
        );
        diagnostics.push(
            Diagnostic::at(service.location_of("hostname"), message)
                .related(service.location_of("update"), "set here")
                .hint(Some(
                    "remove `hostname`, or set a name that is neither the service name nor an alias".to_owned(),
                )),
        );
    }
}

/// Rejects two mounts at the same container path.
fn mount_targets(service: &Document<Service>, diagnostics: &mut Vec<Diagnostic>) {
    let volumes = with_nodes(service, "volumes", &service.spec.container.volumes);
    let volumes = volumes.into_iter().map(|(mount, node)| (mount.target.as_str(), node));
    let tmpfs = with_nodes(service, "tmpfs", &service.spec.container.tmpfs);
    let tmpfs = tmpfs.into_iter().map(|(tmpfs, node)| (tmpfs.target.as_str(), node));
    let files = FileField::ALL.into_iter().flat_map(|field| {
        let uses = with_nodes(service, field.name(), field.uses(&service.spec.container));
        uses.into_iter().map(move |(used, node)| (used.path(field), node))
    });
    let mounts = volumes.chain(tmpfs).map(|(target, node)| (target.to_owned(), node)).chain(files);
    let mut taken: HashMap<String, &Node> = HashMap::new();
    for (target, node) in mounts {
        if let Some(earlier) = taken.insert(target.trim_end_matches('/').to_owned(), node) {
            diagnostics.push(
                Diagnostic::at(service.location(&node.span), format!("two mounts at {}", quoted(&target)))
                    .label("again here")
                    .related(service.location(&earlier.span), "first here"),
            );
        }
    }
}

/// A job runs once: a changed file can only run it again, in a new container.
fn mounted_files(service: &Document<Service>, diagnostics: &mut Vec<Diagnostic>) {
    if service.spec.kind == Kind::Service {
        return;
    }
    for (mount, node) in with_nodes(service, "volumes", &service.spec.container.volumes) {
        if matches!(mount.on_change, Some(OnChange::Restart | OnChange::Signal(_))) {
            let span = node.get("on_change").map_or(&node.span, |node| &node.span);
            diagnostics.push(
                Diagnostic::at(service.location(span), "a job is neither restarted nor signalled")
                    .hint("write `replace` to run it again when the file changes".to_owned()),
            );
        }
    }
}

/// Requires `image` or `build`. A built image gets a generated tag and is not pulled.
fn image(service: &Document<Service>, diagnostics: &mut Vec<Diagnostic>) {
    let spec = &service.spec;
    // An invalid or misspelt field was already reported.
    let reported =
        |entry: &Entry| entry.value.value == Value::Pruned && closest(&entry.key.text, ["image", "build"]).is_some();
    let reported = matches!(&service.root.value, Value::Map(entries) if entries.iter().any(reported));
    let noun = if spec.kind == Kind::Service { "service" } else { "job" };
    match (&spec.container.image, &spec.container.build) {
        (None, None) if !reported => diagnostics.push(
            Diagnostic::at(service.location_of("image"), "missing field `image`")
                .label(format!("this {noun} has neither `image` nor `build`")),
        ),
        (Some(image), Some(_)) if image.repository().is_none() => diagnostics.push(
            Diagnostic::at(service.location_of("image"), "built images are tagged with a hash of their sources")
                .label("only the repository can be set")
                .hint("remove the tag and digest, as in `image: shop/api`".to_owned()),
        ),
        _ => {}
    }
    if spec.container.build.is_some() && spec.container.pull != Pull::default() {
        diagnostics.push(
            Diagnostic::at(
                service.location_of("pull"),
                format!("the image of `{}` is built, not pulled", name(service)),
            )
            .hint("remove `pull`".to_owned()),
        );
    }
    let labels = service.root.get("build").and_then(|build| build.get("labels"));
    for label in labels.into_iter().flat_map(Node::entries) {
        if OWN_LABELS.iter().any(|own| label.key.text.starts_with(own)) {
            let message = format!("the label {} is reserved for drillmaster", quoted(&label.key.text));
            let hint = "containers inherit the labels of their image, and these labels record ownership".to_owned();
            diagnostics.push(Diagnostic::at(service.location(&label.key.span), message).hint(hint));
        }
    }
}
