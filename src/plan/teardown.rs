//! Removal of orphans, surplus networks and purged volumes; dependents before their dependencies.

use std::borrow::Cow;
use std::collections::{BTreeMap, BTreeSet};

use super::cause::{Cause, WantedState};
use super::step::{Action, Awaited, ContainerRef, Subject, Verb, Wait};
use super::{DEFAULT_READY_TIMEOUT, Planner, Slots};
use crate::desired::order::{Needs, dependencies_first};
use crate::desired::{Desired, Mode, Scope};
use crate::identity::Identity;
use crate::observed::{Container, Network, Observed, State};

impl<'a> Planner<'a> {
    /// Stops and removes the containers of services that are not desired.
    pub(super) fn remove_orphans(&mut self) {
        if self.desired.mode == Mode::StartOnly || self.desired.mode.is_about_images() {
            return;
        }
        let orphans: Vec<(Cow<'a, str>, Slots<'a>)> = self
            .slots
            .iter()
            .filter(|(name, _)| !self.desired.services.contains_key(&***name))
            .filter(|(_, slots)| slots.service().is_some_and(|service| self.desired.scope.contains(service)))
            .map(|(name, slots)| (name.clone(), slots.clone()))
            .collect();
        // Labels name services, so every replica of a dependency is needed.
        let mut replicas: BTreeMap<&str, Vec<String>> = BTreeMap::new();
        for (name, slots) in &orphans {
            replicas.entry(slots.service().unwrap_or_default()).or_default().push(name.to_string());
        }
        let named = |needed: String| replicas.get(&needed[..]).cloned().unwrap_or_default();
        let needs: Needs = orphans
            .iter()
            .map(|(name, slots)| (name.to_string(), slots.all().flat_map(remembered_needs).flat_map(named).collect()))
            .collect();
        let order = dependencies_first(&needs);
        // Dependents come last in this order, so walk from the end.
        let mut alive: BTreeSet<String> = BTreeSet::new();
        for name in order.iter().rev() {
            let Some((name, slots)) = orphans.iter().find(|(orphan, _)| orphan == name) else {
                continue;
            };
            let dependent = alive.iter().find(|other| needs.get(*other).is_some_and(|needed| needed.contains(&**name)));
            let still_there = self.plan_removal(name, slots, dependent.map(String::as_str));
            if still_there {
                alive.insert(name.to_string());
            }
        }
    }

    /// Removes the group's networks after its last container, and surplus networks as soon as they are empty.
    pub(super) fn surplus_networks(&mut self) {
        if !matches!(self.desired.mode, Mode::Reconcile { .. }) {
            return;
        }
        // Services out of scope may still need the network.
        let ends = self.desired.is_empty();
        let occupied = ends && self.observed.of_group(&self.desired.group).next().is_some();
        let surplus: Vec<&Network> = self
            .observed
            .networks
            .values()
            .filter(|network| self.is_ours(network) || (ends && is_left_over(network, self.desired, self.observed)))
            // What is external now may have been created by an earlier spec.
            .filter(|network| self.desired.networks.get(&network.name).is_none_or(|wanted| !wanted.external))
            .filter(|network| ends || self.networks.values().all(|chosen| chosen.id != network.id))
            .collect();
        for network in surplus {
            let subject = Subject::Network(network.name.clone());
            let stays = occupied && self.desired.scope != Scope::All;
            if stays || self.memory.removal_failed.contains(&subject) {
                continue;
            }
            if let Some(note) = self.guests(network) {
                self.plan.notes.insert(note);
                continue;
            }
            self.change(subject.clone(), Action::Remove, Vec::new());
            let attached = self
                .observed
                .of_group(&self.desired.group)
                .any(|container| container.networks.iter().any(|a| a.network_id == network.id));
            if !attached && !occupied {
                let verb = Verb::RemoveNetwork { id: network.id.clone() };
                self.step(subject, verb, "unused");
            }
        }
    }

    /// Names the containers outside of the group that are attached to a network, which therefore stays.
    fn guests(&self, network: &Network) -> Option<String> {
        let is_guest = |container: &&Container| {
            container.service_of(&self.desired.group).is_none()
                && container.networks.iter().any(|attachment| attachment.network_id == network.id)
        };
        let mut guests: Vec<&str> =
            self.observed.containers.values().filter(is_guest).map(|container| container.name.as_str()).collect();
        guests.sort_unstable();
        let name = &network.name;
        match guests[..] {
            [] => None,
            [guest] => {
                Some(format!("network {name} stays: container {guest}, which is not in this group, is attached"))
            }
            _ => {
                let guests = guests.join(", ");
                Some(format!("network {name} stays: containers {guests}, which are not in this group, are attached"))
            }
        }
    }

    /// Plans the removal of one service. Returns true while its dependencies have to wait.
    fn plan_removal(&mut self, name: &str, slots: &Slots<'a>, dependent: Option<&str>) -> bool {
        let subject = Subject::Service(name.into());
        let fewer = slots.service().filter(|service| self.desired.names().contains(service)).map(|service| {
            let left = self.replicas.get(service).map_or(0, Vec::len);
            Cause::Field { path: "replicas".into(), old: None, new: Some(left.into()), secret: false }
        });
        // `down` removes every service, active or not.
        let inactive = slots.service().filter(|_| !self.desired.is_empty());
        let inactive = inactive.and_then(|service| self.desired.inactive.get(service)).cloned().map(Cause::Profiles);
        let fewer = fewer.or(inactive);
        let removes = matches!(self.desired.mode, Mode::Reconcile { .. });
        let purge = self.desired.mode.purges_volumes();
        let up = slots.all().filter(|container| container.is_up());
        let open: Vec<&Container> = if removes { slots.all().collect() } else { up.collect() };
        let parted = self.post_stop_done(name, slots.all());
        if open.is_empty() || !parted {
            return !parted;
        }
        if removes {
            self.change(subject.clone(), Action::Remove, fewer.iter().cloned().collect());
        } else {
            let cause = Cause::State { found: Some(open[0].state), wanted: WantedState::Stopped };
            self.change(subject.clone(), Action::Stop, vec![cause]);
        }
        if self.memory.has_failed(name) || self.is_backing_off(name) {
            return true;
        }
        if let Some(dependent) = dependent {
            let reason =
                format!("waiting for dependent {dependent} to {}", if removes { "be removed" } else { "stop" });
            self.plan.waits.push(Wait::new(name.into(), reason, None));
            return true;
        }
        let cause = match removes && !self.desired.is_empty() {
            true if matches!(fewer, Some(Cause::Profiles(_))) => "its profiles are not active",
            true if fewer.is_some() => "scaled down",
            true => "orphan: not in the specs",
            false => "requested",
        };
        for container in open {
            if container.is_up() {
                self.stop(name, container, cause);
            } else if container.state == State::Removing {
                let reason = "is being removed by the engine".to_owned();
                let awaited = Awaited { container: container.id.clone(), limit: DEFAULT_READY_TIMEOUT };
                self.plan.waits.push(Wait::new(name.into(), reason, Some(awaited)));
            } else {
                let verb = Verb::Remove { container: ContainerRef::of(container), volumes: purge };
                self.step(subject.clone(), verb, cause);
            }
        }
        true
    }
}

/// Returns true if another group that no longer exists has created a network of the group, which both have shared.
pub(super) fn is_left_over(network: &Network, desired: &Desired, observed: &Observed) -> bool {
    let exists = |group: &str| observed.of_group(group).next().is_some();
    desired.networks.get(&network.name).is_some_and(|wanted| !wanted.external)
        && network.group.as_deref().is_some_and(|group| group != desired.group && !exists(group))
}

/// Dependencies of a container, from the applied spec in its labels.
fn remembered_needs(container: &Container) -> Vec<String> {
    container
        .identity
        .as_ref()
        .and_then(Identity::applied)
        .and_then(|spec| {
            let names = spec.get("dependencies")?.as_array()?;
            Some(names.iter().filter_map(|d| Some(d.get("name")?.as_str()?.to_owned())).collect())
        })
        .unwrap_or_default()
}
