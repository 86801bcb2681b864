//! What a container needs of its surroundings: its network, free host ports, volumes that nobody else writes to. Part of
//! the planner.

use std::net::IpAddr;

use super::cause::Cause;
use super::effect::{image_of, own_healthcheck};
use super::step::{Action, ContainerRef, Query, Reason, Subject, Verb};
use super::{DRAIN_PERIOD, Planner, instance_of};
use crate::desired::{HookPoint, Inherited, Mode, Service, VolumeSource};
use crate::observed::{Container, Network, State};
use crate::spec::model::Protocol;

impl<'a> Planner<'a> {
    /// Whether it is known what the image of a container brings, which decides how to tell that it is ready; looks it
    /// up where it is not.
    pub(super) fn knows_image(&mut self, container: &Container) -> bool {
        let unknown = image_of(container, self.observed)
            .filter(|id| own_healthcheck(container).is_none() && !self.observed.image_facts.contains_key(*id));
        self.plan.queries.extend(unknown.map(|id| Query::Image(id.clone())));
        unknown.is_none()
    }

    /// Attaches a container to the group's network, with its names there, where it is not; true while that is being done.
    pub(super) fn ensure_network(&mut self, service: &'a Service, container: &'a Container) -> bool {
        self.attach(service, container, true)
    }

    /// Attaches a container to the group's network where it is not; true while that is being done. `named`: it is to be
    /// found there, also where it gets its names late. An endpoint keeps the names that it was made with, so one that
    /// has none is made anew; its address is free meanwhile, and almost always it gets the same again.
    pub(super) fn attach(&mut self, service: &'a Service, container: &'a Container, named: bool) -> bool {
        if self.is_drift_ignored(&service.name, "network") {
            return false;
        }
        let Some(network) = self.network else {
            let subject = Subject::Network(self.desired.network.clone());
            if self.plan.steps.iter().all(|step| step.subject != subject) {
                self.step(subject, Verb::CreateNetwork, "missing");
            }
            self.network_change(service, container, None);
            self.wait_quietly(service, format!("waiting for the network {}", self.desired.network));
            return true;
        };
        if container.networks.iter().any(|attachment| attachment.network_id == network.id) {
            if named && aliases_deferred(container) {
                match self.is_found(service, container, network) {
                    None => return true,
                    Some(true) => {}
                    Some(false) => {
                        self.network_change(service, container, Some(&network.id));
                        let verb =
                            Verb::Disconnect { container: ContainerRef::of(container), network: network.id.clone() };
                        self.step(Subject::of(service), verb, format!("network alias {} not set", service.service));
                        return true;
                    }
                }
            }
            return self.leave_surplus_network(service, container, network);
        }
        let stale = container.networks.iter().find(|attachment| attachment.network == network.name);
        self.network_change(service, container, stale.map(|attachment| attachment.network_id.as_str()));
        let verb = match stale {
            // An id that is gone cannot be named; its name can, and of a stopped container that suffices.
            Some(stale) => {
                let known = self.observed.networks.contains_key(&stale.network_id);
                let network = if known { &stale.network_id } else { &stale.network };
                Verb::Disconnect { container: ContainerRef::of(container), network: network.clone() }
            }
            None => {
                let names = if named || !aliases_deferred(container) { service.network_names() } else { Vec::new() };
                Verb::Connect { container: ContainerRef::of(container), network: network.id.clone(), names }
            }
        };
        self.step(Subject::of(service), verb, format!("not attached to network {}", network.name));
        true
    }

    /// Whether a container is found on the network by its service's name; `None`: it is being looked up.
    fn is_found(&mut self, service: &Service, container: &Container, network: &Network) -> Option<bool> {
        let Some(details) = &container.details else {
            self.plan.queries.insert(Query::Container(container.id.clone()));
            return None;
        };
        Some(details.names.get(&network.id).is_some_and(|names| names.contains(&service.service)))
    }

    /// Whether a container that has served is no longer found by its names; takes them from it, after its `pre_stop`. It
    /// stays on the network without them, for whoever has found it before.
    pub(super) fn is_drained(&mut self, service: &Service, container: &'a Container, cause: &str) -> bool {
        if container.state != State::Running {
            return true;
        }
        if !self.hooks_are_done(service, HookPoint::PreStop, Some(container), cause) {
            return false;
        }
        let Some(network) = self.network else { return true };
        let attached = container.networks.iter().any(|attachment| attachment.network_id == network.id);
        let (target, network_id) = (ContainerRef::of(container), network.id.clone());
        let verb = match (attached, aliases_deferred(container)) {
            (true, true) => match self.is_found(service, container, network) {
                None => return false,
                Some(false) => return self.has_lasted(service, container, DRAIN_PERIOD, "is being drained"),
                Some(true) => Verb::Disconnect { container: target, network: network_id },
            },
            (true, false) => Verb::Disconnect { container: target, network: network_id },
            (false, true) => Verb::Connect { container: target, network: network_id, names: Vec::new() },
            // Its host name would make it found again.
            (false, false) => return true,
        };
        self.step(Subject::of(service), verb, cause);
        false
    }

    /// Detaches a container from a network of ours that is not the group's any longer, so that it can go; true while
    /// that is being done.
    fn leave_surplus_network(&mut self, service: &Service, container: &Container, chosen: &Network) -> bool {
        let surplus = container
            .networks
            .iter()
            .filter(|attachment| attachment.network_id != chosen.id)
            .find_map(|a| self.observed.networks.get(&a.network_id).filter(|network| self.is_ours(network)));
        let Some(surplus) = surplus else { return false };
        self.network_change(service, container, Some(&surplus.id));
        let verb = Verb::Disconnect { container: ContainerRef::of(container), network: surplus.id.clone() };
        self.step(Subject::of(service), verb, format!("attached to surplus network {}", surplus.name));
        true
    }

    /// Told once, and only of a container that serves: what is being created is told as that.
    fn network_change(&mut self, service: &Service, container: &Container, old: Option<&str>) {
        let told = self.plan.changes.iter().any(|change| change.subject == Subject::of(service));
        if !told && container.state == State::Running {
            let cause = Cause::Network { found: old.map(str::to_owned), wanted: self.desired.network.clone() };
            self.change(Subject::of(service), Action::Update, vec![cause]);
        }
    }

    /// Whether a container that is not of this group holds a host port of the service; then it has failed, for now.
    pub(super) fn has_port_conflict(&mut self, service: &'a Service) -> bool {
        let foreign = |holder: &Container| holder.service_of(&self.desired.group).is_none();
        let Some((port, holder)) = self.holder(service, foreign) else { return false };
        let message = format!("host port {port} is in use by container {}, which is not in this group", holder.name);
        self.fail(&service.name, Reason::Conflict, message, None);
        true
    }

    /// A container that runs and holds a host port of the service, among those that are meant.
    fn holder(&self, service: &'a Service, meant: impl Fn(&Container) -> bool) -> Option<(u16, &'a Container)> {
        service.config.ports.iter().find_map(|port| {
            let host = port.host?;
            let holders = self.ports.get(&(port.protocol, host))?;
            let holds = |holder: &&&Container| {
                meant(holder) && holder.is_up() && holds(holder, port.protocol, host, port.address)
            };
            Some((host, *holders.iter().find(holds)?))
        })
    }

    /// Whether the host ports of a service are free for this container of it. A container of the group that is about
    /// to go anyway makes room; anybody else's is a failure.
    pub(super) fn ports_are_free(&mut self, service: &'a Service, container: &Container) -> bool {
        if self.has_port_conflict(service) {
            return false;
        }
        let holder = self.holder(service, |holder| holder.id != container.id);
        let Some((port, holder)) = holder else { return true };
        // A foreign one would have shut it out.
        let Some(owner) = instance_of(self.desired, holder) else { return true };
        let owner = &*owner;
        let named = holder.service_of(&self.desired.group).unwrap_or(owner);
        // It may be another container than the one that serves: a candidate that an earlier run left behind.
        let comparison = self.desired.services.get(owner).map(|owner| self.compare(owner, holder));
        let goes = matches!(self.desired.mode, Mode::Reconcile { .. })
            && self.desired.scope.contains(named)
            && !self.memory.has_failed(owner)
            && comparison.as_ref().is_none_or(|found| found.unclear || !found.replace.is_empty());
        if !goes {
            // Let the engine say no: it knows best.
            return true;
        }
        if comparison.is_some_and(|found| !found.replace.is_empty()) {
            let cause = format!("{} needs its port {port}", service.name);
            self.stop(owner, holder, &cause);
        }
        self.wait(service, format!("waiting for {owner} to release port {port}"), None);
        false
    }
}

/// Whether a container gets its names on the network only once it is ready.
pub(super) fn aliases_deferred(container: &Container) -> bool {
    container.identity.as_ref().is_some_and(|identity| identity.named_when_ready)
}

/// Whether a container holds a host port on an address that overlaps this one.
fn holds(container: &Container, protocol: Protocol, host: u16, address: IpAddr) -> bool {
    container.ports.iter().any(|port| {
        port.protocol == protocol
            && port.host == host
            && port.address.is_ipv4() == address.is_ipv4()
            && (port.address == address || port.address.is_unspecified() || address.is_unspecified())
    })
}

/// Whether the old container has to stop before the new one starts: both want a host port, or both would write to the
/// same place.
pub(super) fn clashes(service: &Service, old: &Container) -> bool {
    let ports = service
        .config
        .ports
        .iter()
        .any(|port| port.host.is_some_and(|host| holds(old, port.protocol, host, port.address)));
    let places = old.mounts.iter().filter(|mount| mount.writable).any(|mount| {
        service.config.volumes.iter().any(|volume| match &volume.source {
            VolumeSource::Named(name) => mount.volume.as_ref() == Some(name),
            VolumeSource::Bind(path) => mount.bind.as_ref() == Some(path),
            VolumeSource::Anonymous => false,
        })
    });
    ports || places || !inherited(service, old).is_empty()
}

/// The anonymous volumes of the old container that the new one takes over: those whose path the spec does not fill
/// otherwise.
pub(super) fn inherited(service: &Service, old: &Container) -> Vec<Inherited> {
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

/// The engine names a volume that nobody named with 64 hexadecimal digits.
fn is_anonymous(volume: &str) -> bool {
    volume.len() == 64 && volume.bytes().all(|byte| byte.is_ascii_hexdigit())
}
