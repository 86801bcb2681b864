//! Effects of steps on a snapshot: the controller applies them instead of listing after every step, a forecast to look
//! ahead. Pure.

use std::collections::BTreeMap;
use std::net::{IpAddr, Ipv4Addr};
use std::time::Duration;

use serde_json::Value;

use super::images::wanted_image;
use super::memory::{HookProgress, MountedVersions};
use super::step::{Query, Step, Verb};
use super::{MIN_UPTIME, Memory, instance_of};
use crate::capabilities::HealthChecks;
use crate::desired::files::{FileVersion, MountedFile};
use crate::desired::{Desired, HookPoint, Inherited, Join, Service, VolumeSource, defers_names, set_variables};
use crate::identity::{CANDIDATE_SUFFIX, Identity, container_name};
use crate::observed::{
    Attachment, BuiltImage, Container, Details, Health, ImageFacts, MountPoint, Network, NetworkSettings, Observed,
    PublishedPort, State, Volume,
};
use crate::spec::model::OnChange;
use crate::spec::value::Signal;
use crate::types::ContainerId;

/// Prefix of the ids of objects that a forecast creates.
const FORECAST: &str = "new:";

/// Applies a step that succeeded. `id`: the id of the created object; in a forecast `new:<name>` stands for it. `now`:
/// when the step ended, in time since the start of the run.
pub fn apply(
    step: &Step,
    id: Option<&str>,
    now: Duration,
    desired: &Desired,
    observed: &mut Observed,
    memory: &mut Memory,
) {
    let name = step.subject.name();
    match &step.verb {
        Verb::Pull | Verb::Build => {
            if step.verb == Verb::Pull {
                memory.images.pulled.insert(name.to_owned(), now);
            }
            let is_other =
                |service: &Service| service.config.image == name && wanted_image(service, observed).is_none();
            if desired.services.values().any(is_other) {
                observed.images.remove(name);
            }
            observed.images.entry(name.to_owned()).or_insert_with(|| format!("{FORECAST}{name}"));
            if step.verb == Verb::Build {
                built(name, desired, observed);
            }
        }
        Verb::RemoveImage => {
            observed.images.remove(name);
            observed.built.remove(name);
        }
        Verb::RemoveVolume => {
            observed.volumes.remove(name);
        }
        Verb::CreateNetwork | Verb::RemoveNetwork { .. } | Verb::Connect { .. } | Verb::Disconnect { .. } => {
            apply_to_network(step, id, desired, observed);
        }
        Verb::Hook { point, index, container, .. } => {
            let container = container.as_ref().map(|container| container.id.clone());
            memory.service_mut(name).hooks.insert(*point, HookProgress { container, done: index + 1 });
        }
        Verb::Collect(target) => memory.container_mut(&target.id).outputs_collected = true,
        Verb::Create { .. } => create(step, id, desired, observed, memory),
        Verb::Start(target) => start(name, &target.id, now, desired, observed, memory),
        Verb::Stop(target) => stop(name, &target.id, desired, observed, memory),
        Verb::Signal { container, signal } => signalled(name, &container.id, signal, desired, observed, memory),
        Verb::Unpause(target) => with(observed, &target.id, |container| container.state = State::Running),
        Verb::Rename { container, to } => {
            if desired.services.get(name).is_some_and(Service::is_job) {
                memory.service_mut(name).job_succeeded = true;
            }
            with(observed, &container.id, |container| container.name.clone_from(to));
        }
        Verb::Update { container, resources, restart } => {
            memory.container_mut(&container.id).updated_in_place = true;
            with(observed, &container.id, |container| {
                let details = container.details.get_or_insert_with(Details::default);
                details.resources = resources.clone();
                details.restart = *restart;
            });
        }
        Verb::Remove { container, .. } => {
            observed.containers.remove(&container.id);
            memory.containers.remove(&container.id);
            memory.service_mut(name).hooks.retain(|_, progress| progress.container.as_ref() != Some(&container.id));
        }
    }
}

fn built(name: &str, desired: &Desired, observed: &mut Observed) {
    // The real time is in the next list; until then it is the youngest.
    let youngest = observed.built.values().map(|built| built.created).max().unwrap_or_default();
    let id = observed.images.get(name).cloned().unwrap_or_default();
    let (group, source) = (desired.group.clone(), Some(desired.source.clone()));
    observed.built.entry(name.to_owned()).or_insert(BuiltImage { id, group, source, created: youngest + 1 });
}

fn apply_to_network(step: &Step, id: Option<&str>, desired: &Desired, observed: &mut Observed) {
    let name = step.subject.name();
    match &step.verb {
        Verb::CreateNetwork => {
            let wanted = desired.networks.get(name).cloned().unwrap_or_default();
            let network = Network {
                id: id.map_or_else(|| format!("{FORECAST}{name}"), str::to_owned),
                name: name.to_owned(),
                group: Some(desired.group.clone()),
                source: Some(desired.source.clone()),
                compose_project: None,
                subnets: wanted.subnets().map(str::to_owned).collect(),
                settings: NetworkSettings {
                    driver: wanted.driver().to_owned(),
                    internal: wanted.internal,
                    attachable: wanted.attachable,
                    enable_ipv4: wanted.enable_ipv4.unwrap_or(true),
                    enable_ipv6: wanted.ipv6().unwrap_or_default(),
                    options: wanted.driver_opts.clone(),
                    gateways: wanted.ranges.iter().filter_map(|it| Some(it.gateway?.to_string())).collect(),
                    ip_ranges: wanted.ranges.iter().filter_map(|it| it.ip_range.clone()).collect(),
                    aux_addresses: wanted.aux_addresses(),
                    ipam_driver: wanted.ipam_driver.clone().unwrap_or_else(|| "default".to_owned()),
                    ipam_options: wanted.ipam_options.clone(),
                    labels: wanted.labels.clone(),
                },
            };
            observed.networks.insert(network.id.clone(), network);
        }
        Verb::RemoveNetwork { id } => {
            observed.networks.remove(id);
        }
        Verb::Connect { container, join } => with(observed, &container.id, |container| {
            container.networks.push(attachment(join));
            if let Some(details) = &mut container.details {
                details.names.insert(join.network.clone(), join.names.clone());
            }
        }),
        Verb::Disconnect { container, network, .. } => with(observed, &container.id, |container| {
            container.networks.retain(|a| a.network_id != *network && a.network != *network);
            if let Some(details) = &mut container.details {
                details.names.remove(network);
            }
        }),
        _ => {}
    }
}

fn attachment(join: &Join) -> Attachment {
    let (network_id, network) = (join.network.clone(), join.name.clone());
    Attachment { network_id, network, address: None, prefix: None }
}

fn create(step: &Step, id: Option<&str>, desired: &Desired, observed: &mut Observed, memory: &mut Memory) {
    let name = step.subject.name();
    let Verb::Create { name: container, joins, targets, image_id, inherited } = &step.verb else { return };
    let Some(service) = desired.services.get(name) else { return };
    let id = ContainerId::from(id.map_or_else(|| format!("{FORECAST}{container}"), str::to_owned));
    // The real time is in the next list; until then it is the youngest.
    let youngest = observed.containers.values().map(|container| container.created).max().unwrap_or_default();
    let created = Container {
        id: id.clone(),
        name: container.clone(),
        identity: Some(with_targets(identity(desired, service, image_id, defers_names(joins)), targets)),
        inherited: None,
        compose: None,
        image: service.config.image.clone(),
        image_id: image_id.clone(),
        state: State::Created,
        health: Health::None,
        network_mode: String::new(),
        networks: joins.iter().map(attachment).collect(),
        ports: Vec::new(),
        mounts: mounts(service, inherited),
        created: youngest + 1,
        details: None,
    };
    observed.containers.insert(id, created);
    for (name, declared) in &desired.volumes {
        let is_mounted = |volume: &crate::desired::Volume| volume.source == VolumeSource::Named(name.clone());
        if service.config.volumes.iter().any(is_mounted) {
            observed.volumes.entry(name.clone()).or_insert_with(|| Volume {
                name: name.clone(),
                group: Some(desired.group.clone()),
                source: Some(desired.source.clone()),
                driver: declared.driver.clone().unwrap_or_else(|| "local".to_owned()),
                options: declared.driver_opts.clone(),
            });
        }
    }
    // The hooks run again for the next container.
    memory.service_mut(name).hooks.remove(&HookPoint::PreStart);
}

fn start(name: &str, id: &ContainerId, now: Duration, desired: &Desired, observed: &mut Observed, memory: &mut Memory) {
    memory.forget(id);
    let container = memory.container_mut(id);
    container.started_at = Some(now);
    // The stop hooks run again at its next stop.
    container.stopped_after_serving = false;
    let is_stop_hook = |point: &HookPoint| matches!(point, HookPoint::PreStop | HookPoint::PostStop);
    let is_over =
        |point: &HookPoint, progress: &HookProgress| progress.container.as_ref() == Some(id) && is_stop_hook(point);
    memory.service_mut(name).hooks.retain(|point, progress| !is_over(point, progress));
    let service = desired.services.get(name);
    let mounted = service.filter(|service| !service.files.is_empty());
    memory.container_mut(id).mounted =
        mounted.map(|service| MountedVersions { started_at: String::new(), files: mounted_versions(service) });
    let expects_health = observed.containers.get(id).is_some_and(|it| expects_health(it, observed));
    with(observed, id, |container| {
        container.state = State::Running;
        // The engine resets its restart count at a start; the start time is known after the next inspection.
        if let Some(details) = &mut container.details {
            details.restarts = 0;
            details.started_at.clear();
        }
        container.health = if expects_health { Health::Starting } else { Health::None };
        container.ports = service.map(published).unwrap_or_default();
    });
}

/// It knows the files now whose change it was told.
fn signalled(
    name: &str,
    id: &ContainerId,
    signal: &Signal,
    desired: &Desired,
    observed: &Observed,
    memory: &mut Memory,
) {
    let Some(service) = desired.services.get(name) else { return };
    let details = observed.containers.get(id).and_then(|container| container.details.as_ref());
    let started_at = details.map(|details| details.started_at.clone()).unwrap_or_default();
    let told = service.files.iter().filter(|file| file.on_change == OnChange::Signal(signal.clone()));
    let mounted = &mut memory.container_mut(id).mounted;
    let known = mounted.take().filter(|known| known.started_at == started_at).map(|known| known.files);
    let mut files = known.unwrap_or_else(|| mounted_versions(service));
    files.extend(told.filter_map(|file| Some((file.target.clone(), file.state.as_ref()?.version.clone()))));
    *mounted = Some(MountedVersions { started_at, files });
}

fn mounted_versions(service: &Service) -> BTreeMap<String, FileVersion> {
    let known = |file: &MountedFile| Some((file.target.clone(), file.state.as_ref()?.version.clone()));
    service.files.iter().filter_map(known).collect()
}

fn stop(name: &str, id: &ContainerId, desired: &Desired, observed: &mut Observed, memory: &mut Memory) {
    memory.forget(id);
    let current = container_name(&desired.group, name);
    if observed.containers.get(id).is_some_and(|container| container.name == current) {
        memory.container_mut(id).stopped_after_serving = true;
    }
    with(observed, id, |container| {
        container.state = State::Exited { code: None };
        container.health = Health::None;
        container.ports.clear();
    });
}

/// In a forecast, an inspection is assumed to find no difference, and a container to have been up long enough.
pub(super) fn assume(look: &Query, desired: &Desired, observed: &mut Observed, memory: &mut Memory) {
    match look {
        Query::Container(id) => {
            memory.container_mut(id).life.inspected_at = Some(MIN_UPTIME);
            with(observed, id, |container| {
                let service = instance_of(desired, container).and_then(|name| desired.services.get(&*name));
                // A container that the forecast creates has the variables of its spec; of others they are asked first.
                let is_created = id.as_str().starts_with(FORECAST);
                let as_specified = service.map(|service| Details {
                    env: if is_created { set_variables(&service.env) } else { BTreeMap::new() },
                    resources: service.config.resources.clone(),
                    restart: service.config.restart,
                    ..Details::default()
                });
                let known = container.details.take().or(as_specified).unwrap_or_default();
                let is_new = container.name.ends_with(CANDIDATE_SUFFIX);
                let service = container.identity.iter().map(|identity| identity.service.clone()).filter(|_| !is_new);
                let names: Vec<String> = service.collect();
                let names = container.networks.iter().map(|a| (a.network_id.clone(), names.clone())).collect();
                container.details = Some(Details { names, ..known });
            })
        }
        Query::Image(id) => {
            observed.image_facts.insert(id.clone(), ImageFacts::default());
        }
    }
}

/// In a forecast, health checks and jobs succeed.
pub(super) fn settle(desired: &Desired, observed: &mut Observed) {
    for container in observed.containers.values_mut().filter(|container| container.health != Health::None) {
        container.health = Health::Healthy;
    }
    let is_job = |container: &Container| {
        let service = instance_of(desired, container).and_then(|name| desired.services.get(&*name));
        service.is_some_and(Service::is_job)
    };
    for container in observed.containers.values_mut().filter(|container| is_job(container)) {
        if container.state == State::Running {
            container.state = State::Exited { code: Some(0) };
        }
    }
}

/// The identity of a service's new container. `named_when_ready`: its aliases are deferred.
pub fn identity(desired: &Desired, service: &Service, image_id: &str, named_when_ready: bool) -> Identity {
    Identity {
        group: desired.group.clone(),
        service: service.service.clone(),
        replica: service.replica,
        named_when_ready,
        kind: service.kind.word().to_owned(),
        source: desired.source.clone(),
        env_hash: service.fingerprint.env_hash.clone(),
        spec_hash: service.fingerprint.spec_hash.clone(),
        spec: service.fingerprint.applied.clone(),
        secret: service.secret.clone(),
        targets: BTreeMap::new(),
        image_id: image_id.to_owned(),
    }
}

/// The identity of a container that shares the namespaces of these containers.
pub fn with_targets(identity: Identity, targets: &BTreeMap<String, ContainerId>) -> Identity {
    let targets = targets.iter().map(|(name, id)| (name.clone(), id.to_string())).collect();
    Identity { targets, ..identity }
}

/// Returns true if the container has a health check, from its own spec or its image.
fn expects_health(container: &Container, observed: &Observed) -> bool {
    if observed.capabilities.health_checks == HealthChecks::Never {
        return false;
    }
    match own_healthcheck(container) {
        Some(expected) => expected,
        None => {
            let facts = image_of(container, observed).and_then(|id| observed.image_facts.get(id));
            facts.is_some_and(|facts| facts.healthcheck)
        }
    }
}

/// Whether the container's own spec enables a health check; `None` leaves it to the image.
pub(super) fn own_healthcheck(container: &Container) -> Option<bool> {
    let spec = container.identity.as_ref()?.applied()?;
    let check = spec.get("healthcheck")?;
    match check.get("disable").and_then(Value::as_bool) {
        Some(true) => Some(false),
        // Without a test, it only tunes the check of the image.
        _ => check.get("test").filter(|test| !test.is_null()).map(|_| true),
    }
}

/// Id of the container's image, if known.
pub(super) fn image_of<'a>(container: &'a Container, observed: &'a Observed) -> Option<&'a String> {
    let noted = container.identity.as_ref().map(|identity| &identity.image_id).filter(|id| !id.is_empty());
    noted.or_else(|| observed.images.get(&container.image))
}

fn published(service: &Service) -> Vec<PublishedPort> {
    let port = |port: &crate::spec::model::Port| {
        let address = port.address.unwrap_or(IpAddr::V4(Ipv4Addr::UNSPECIFIED));
        Some(PublishedPort { address, host: port.host.fixed()?, container: port.container, protocol: port.protocol })
    };
    service.config.ports.iter().filter_map(port).collect()
}

fn mounts(service: &Service, inherited: &[Inherited]) -> Vec<MountPoint> {
    let mut mounts: BTreeMap<&str, MountPoint> = BTreeMap::new();
    for volume in &service.config.volumes {
        let (name, bind) = match &volume.source {
            VolumeSource::Anonymous | VolumeSource::Image(_) => (None, None),
            VolumeSource::Named(name) => (Some(name.clone()), None),
            VolumeSource::Bind(path) => (None, Some(path.clone())),
        };
        let mount = MountPoint { volume: name, bind, target: volume.target.clone(), writable: !volume.read_only };
        mounts.insert(&volume.target, mount);
    }
    for volume in inherited {
        let mount = MountPoint {
            volume: Some(volume.volume.clone()),
            bind: None,
            target: volume.target.clone(),
            writable: true,
        };
        mounts.insert(&volume.target, mount);
    }
    mounts.into_values().collect()
}

fn with(observed: &mut Observed, id: &ContainerId, change: impl FnOnce(&mut Container)) {
    if let Some(container) = observed.containers.get_mut(id) {
        change(container);
    }
}
