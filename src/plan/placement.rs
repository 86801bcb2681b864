//! Placement of a container: host ports, volumes, and what else two containers cannot share.

use std::net::IpAddr;

use super::cause::Cause;
use super::effect::{image_of, own_healthcheck};
use super::memory::ForceReason;
use super::step::{Query, Reason};
use super::{Planner, instance_of};
use crate::desired::{Inherited, Mode, Service, VolumeSource};
use crate::identity::{Identity, candidate_name};
use crate::observed::{Container, MountPoint};
use crate::spec::model::{NetworkMode, Protocol, overlaps};

impl<'a> Planner<'a> {
    /// Returns true if the container's image has been inspected, which tells how it becomes ready; otherwise asks for it.
    pub(super) fn knows_image(&mut self, container: &Container) -> bool {
        let unknown = image_of(container, self.observed)
            .filter(|id| own_healthcheck(container).is_none() && !self.observed.image_facts.contains_key(*id));
        self.plan.queries.extend(unknown.map(|id| Query::Image(id.clone())));
        unknown.is_none()
    }

    /// Returns true if a container that stays holds a host port of the service, and fails the service.
    pub(super) fn has_port_conflict(&mut self, service: &'a Service) -> bool {
        let Some((port, holder)) = self.holder(service, |holder| self.keeps_its_ports(service, holder)) else {
            return false;
        };
        let why = match instance_of(self.desired, holder) {
            Some(owner) => format!("whose service {owner} is not replaced now"),
            None => "which is not in this group".to_owned(),
        };
        let message = format!("host port {port} is in use by container {}, {why}", holder.name);
        self.fail(&service.name, Reason::Conflict, message, None);
        true
    }

    /// A running container outside the group that holds a host port of the service.
    fn foreign_holder(&self, service: &'a Service) -> Option<(u16, &'a Container)> {
        self.holder(service, |holder| holder.service_of(&self.desired.group).is_none())
    }

    /// Returns true if containers outside the group prevent the replacement of the service's container.
    fn replacement_is_blocked(&self, service: &'a Service) -> bool {
        let name = candidate_name(&self.desired.group, &service.name);
        let has_name =
            self.holder_of_name(service, &name).is_some_and(|holder| instance_of(self.desired, holder).is_none());
        has_name || self.foreign_holder(service).is_some()
    }

    /// A running container that holds a host port of the service, among those accepted by `meant`.
    fn holder(&self, service: &'a Service, meant: impl Fn(&Container) -> bool) -> Option<(u16, &'a Container)> {
        service.config.ports.iter().find_map(|port| {
            let host = port.host.fixed()?;
            let holders = self.ports.get(&(port.protocol, host))?;
            let holds = |holder: &&&Container| {
                meant(holder) && holder.is_up() && holds(holder, port.protocol, host, port.address)
            };
            Some((host, *holders.iter().find(holds)?))
        })
    }

    /// Returns true if this container is not going to release its ports for the service.
    fn keeps_its_ports(&self, service: &Service, holder: &Container) -> bool {
        match instance_of(self.desired, holder) {
            Some(owner) => *owner != *service.name && !self.is_leaving(&owner, holder),
            None => holder.service_of(&self.desired.group).is_none(),
        }
    }

    /// Returns true if a container of the group is going to be removed or replaced.
    fn is_leaving(&self, owner: &str, container: &Container) -> bool {
        let named = container.service_of(&self.desired.group).unwrap_or(owner);
        // It may be a candidate that an earlier run left.
        let differs = |spec: &Service| {
            let comparison = self.compare(spec, container);
            comparison.unclear || !comparison.replace.is_empty()
        };
        matches!(self.desired.mode, Mode::Reconcile { .. })
            && self.desired.scope.contains(named)
            && !self.memory.has_failed(owner)
            && self.desired.services.get(owner).is_none_or(|spec| differs(spec) && !self.replacement_is_blocked(spec))
    }

    /// Returns true if the service's host ports are free for this container. A container of the group that is going to be
    /// removed is stopped first.
    pub(super) fn ports_are_free(&mut self, service: &'a Service, container: &Container) -> bool {
        let found = self.compare(service, container);
        if found.replace.iter().any(|cause| cause.path() == "ports") {
            // It publishes others than the spec; the engine decides.
            return true;
        }
        if self.has_port_conflict(service) {
            return false;
        }
        let holder = self.holder(service, |holder| holder.id != container.id);
        let Some((port, holder)) = holder else { return true };
        let Some(owner) = instance_of(self.desired, holder) else { return true };
        if *owner == *service.name && !self.is_leaving(&owner, holder) {
            return true;
        }
        let comparison = self.desired.services.get(&*owner).map(|spec| self.compare(spec, holder));
        if comparison.is_some_and(|found| !found.replace.is_empty()) {
            let cause = format!("{} needs its port {port}", service.name);
            self.stop(&owner, holder, &cause);
        }
        self.wait(service, format!("waiting for {owner} to release port {port}"), None);
        false
    }

    /// Why the old container must stop before the new one starts: both need the same host port, or would write to the same
    /// volume or directory. `None`: both may run.
    pub(super) fn clash(&self, service: &Service, old: &Container) -> Option<String> {
        let ports = service.config.ports.iter().filter_map(|port| {
            let host = port.host.fixed()?;
            holds(old, port.protocol, host, port.address).then(|| format!("both containers need host port {host}"))
        });
        let writable: Vec<_> = old.mounts.iter().filter(|mount| mount.writable).collect();
        let places = service.config.volumes.iter().filter_map(|volume| {
            let shared = |mount: &&&MountPoint| match &volume.source {
                VolumeSource::Named(name) => mount.volume.as_ref() == Some(name),
                VolumeSource::Bind(path) => mount.bind.as_ref() == Some(path),
                VolumeSource::Anonymous | VolumeSource::Image(_) => false,
            };
            let mount = writable.iter().find(shared)?;
            Some(format!("both containers would write to {}", mount.target))
        });
        let shared = shared_network(service, old).into_iter();
        let moved = self.inherited(service, old).into_iter();
        let moved = moved.map(|inherited| format!("the anonymous volume at {} moves", inherited.target));
        let address = service.config.mac_address.as_deref().filter(|address| has_mac_address(old, address));
        let address = address.map(|address| format!("both containers need the MAC address {address}"));
        ports.chain(places).chain(shared).chain(moved).chain(address).next()
    }

    /// Anonymous volumes that move to the replacement of a container.
    pub(super) fn inherited(&self, service: &Service, old: &Container) -> Vec<Inherited> {
        match self.memory.containers.get(&old.id).and_then(|memory| memory.force_replace) {
            Some(ForceReason::Reload { renew_volumes: true }) => Vec::new(),
            _ => inherited(service, old),
        }
    }

    /// Notes that anonymous volumes hide what the new image has at their paths.
    pub(super) fn note_kept_volumes(&mut self, service: &Service, old: &Container, causes: &[Cause]) {
        let is_image = |cause: &Cause| matches!(&*cause.path(), "image" | "build");
        let paths: Vec<String> = self.inherited(service, old).into_iter().map(|inherited| inherited.target).collect();
        if !paths.is_empty() && causes.iter().any(is_image) {
            let (name, paths) = (&service.name, paths.join(", "));
            self.plan.notes.insert(format!(
                "{name}: the anonymous volume at {paths} moves to the new container and hides what the new image has there; \
                 `drillmaster reload --renew-volumes {name}` starts with an empty one"
            ));
        }
    }
}

/// Returns true if the spec of the container gave it this hardware address.
fn has_mac_address(container: &Container, address: &str) -> bool {
    let spec = container.identity.as_ref().and_then(Identity::applied);
    spec.is_some_and(|spec| spec["mac_address"] == address)
}

/// Returns true if the container holds a host port on an overlapping address.
fn holds(container: &Container, protocol: Protocol, host: u16, address: Option<IpAddr>) -> bool {
    container.ports.iter().any(|port| port.protocol == protocol && port.host == host && overlaps(port.address, address))
}

/// What two containers on a network cannot both have: the ports of a network that is not their own, and a fixed address.
fn shared_network(service: &Service, old: &Container) -> Option<String> {
    match service.config.network.mode() {
        Some(NetworkMode::Host) if old.has_network_of_host() => {
            return Some("both containers would have the network of the host".to_owned());
        }
        Some(NetworkMode::Shared(target)) if old.network_owner().is_some() => {
            return Some(format!("both containers would have the network of {target}"));
        }
        _ => {}
    }
    service.config.network.endpoints().into_iter().find_map(|(name, endpoint)| {
        let is_there = old.networks.iter().any(|attachment| attachment.network == name);
        let address = endpoint.ipv4_address.map(IpAddr::from).or(endpoint.ipv6_address.map(IpAddr::from));
        let what = address.map(|address| address.to_string()).or(endpoint.mac_address.clone());
        what.filter(|_| is_there).map(|what| format!("both containers need the address {what}"))
    })
}

/// Anonymous volumes of the old container that move to the new one: those whose path the spec does not mount otherwise.
fn inherited(service: &Service, old: &Container) -> Vec<Inherited> {
    let filled = |target: &str| {
        service.config.tmpfs.contains_key(target)
            || service
                .config
                .volumes
                .iter()
                .any(|volume| volume.target == target && volume.source != VolumeSource::Anonymous)
    };
    let mut volumes: Vec<Inherited> = old
        .mounts
        .iter()
        .filter_map(|mount| Some((mount.volume.as_ref()?, &mount.target)))
        .filter(|(volume, target)| is_anonymous(volume) && !filled(target))
        .map(|(volume, target)| Inherited { volume: volume.clone(), target: target.clone() })
        .collect();
    volumes.sort();
    volumes
}

/// Anonymous volumes have names of 64 hexadecimal digits.
fn is_anonymous(volume: &str) -> bool {
    volume.len() == 64 && volume.bytes().all(|byte| byte.is_ascii_hexdigit())
}
